#include "hyp/manifest/initrd.hpp"

#include <algorithm>
#include <array>

namespace weir {
namespace {

// A newc entry: this header in ASCII, the name with its NUL, padding to 4 bytes, the content, padding to 4 bytes.
constexpr std::size_t kHeaderBytes = 110;
constexpr std::size_t kMagicBytes = 6;
constexpr std::size_t kDigits = 8;
enum class HeaderField : std::uint8_t { mode = 1, file_size = 6, name_size = 11 };  // positions among its 13 numbers
constexpr std::string_view kTrailer = "TRAILER!!!";
constexpr std::uint32_t kTypeMask = 0170000;
constexpr std::uint32_t kRegularFile = 0100000;

using Code = InitrdError::Code;

std::string_view as_text(FileContent bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};  // NOLINT: the format is text
}

std::optional<std::uint32_t> number(std::string_view header, HeaderField field) {
  std::uint32_t value = 0;
  for (const char c : header.substr(kMagicBytes + static_cast<std::size_t>(field) * kDigits, kDigits)) {
    std::uint32_t digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<std::uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<std::uint32_t>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<std::uint32_t>(c - 'A' + 10);
    else
      return std::nullopt;
    value = value << 4 | digit;
  }
  return value;
}

bool looks_compressed(std::string_view text) {
  using namespace std::string_view_literals;
  constexpr std::array magics{"\x1f\x8b"sv,
                              "\xfd"
                              "7zXZ"sv,
                              "\x28\xb5\x2f\xfd"sv,
                              "\x02\x21\x4c\x18"sv,
                              "\x04\x22\x4d\x18"sv,
                              "BZh"sv,
                              "\x5d\0\0"sv};
  return std::any_of(magics.begin(), magics.end(), [&](std::string_view magic) { return text.starts_with(magic); });
}

std::string_view without_prefix(std::string_view name) {
  while (name.starts_with("./")) name.remove_prefix(2);
  while (name.starts_with("/")) name.remove_prefix(1);
  return name;
}

struct Entry {
  std::string_view name;
  bool regular{};
  FileContent content;
  std::size_t next{};  // offset of what follows, padding skipped; may be just beyond the end
};

constexpr std::size_t align4(std::size_t n) { return (n + 3) & ~std::size_t{3}; }

std::expected<Entry, Code> entry_at(FileContent archive, std::size_t offset) {
  const std::string_view text = as_text(archive).substr(offset);
  if (!text.starts_with("070701") && !text.starts_with("070702"))
    return std::unexpected{text.size() < kMagicBytes ? Code::truncated : Code::not_newc};
  if (text.size() < kHeaderBytes) return std::unexpected{Code::truncated};
  const auto mode = number(text, HeaderField::mode);
  const auto file_size = number(text, HeaderField::file_size);
  const auto name_size = number(text, HeaderField::name_size);
  if (!mode || !file_size || !name_size) return std::unexpected{Code::bad_number};

  // 32-bit sizes on a 64-bit machine: the sums below cannot overflow.
  if (*name_size > text.size() - kHeaderBytes) return std::unexpected{Code::truncated};
  const std::string_view name = text.substr(kHeaderBytes, *name_size);
  if (name.size() < 2 || name.find('\0') != name.size() - 1) return std::unexpected{Code::bad_name};
  const std::size_t content = align4(offset + kHeaderBytes + *name_size);
  if (content > archive.size() || *file_size > archive.size() - content) return std::unexpected{Code::truncated};
  return Entry{.name = name.substr(0, name.size() - 1),
               .regular = (*mode & kTypeMask) == kRegularFile,
               .content = archive.subspan(content, *file_size),
               .next = align4(content + *file_size)};
}

// Calls fn(entry, offset) for each entry of each archive (Linux lets several follow each other, with zeros between)
// until fn returns false.
template <typename Fn>
std::expected<void, InitrdError> for_each(FileContent archive, Fn&& fn) {
  bool any = false;
  bool open = false;  // within an archive: no trailer yet
  std::size_t offset = 0;
  while (offset < archive.size()) {
    if (!open && archive[offset] == std::byte{0}) {
      ++offset;
      continue;
    }
    const auto entry = entry_at(archive, offset);
    if (!entry) return std::unexpected{InitrdError{.code = entry.error(), .offset = offset}};
    any = true;
    open = entry->name != kTrailer;
    if (open && !fn(*entry, offset)) return {};
    offset = entry->next;
  }
  if (!any) return std::unexpected{InitrdError{.code = Code::empty, .offset = 0}};
  if (open) return std::unexpected{InitrdError{.code = Code::no_trailer, .offset = archive.size()}};
  return {};
}

}  // namespace

const char* to_string(InitrdError::Code code) {
  switch (code) {
    case Code::empty: return "it is empty; expected a cpio archive of the newc kind";
    case Code::compressed: return "it is compressed; expected a plain cpio archive of the newc kind";
    case Code::not_newc: return "no entry begins here; expected 070701, as in a cpio archive of the newc kind";
    case Code::bad_number: return "an entry's header holds a bad number; expected hexadecimal digits";
    case Code::bad_name: return "an entry's name does not end where its header says; expected a NUL there";
    case Code::truncated: return "an entry reaches beyond the end of the archive; expected all of it";
    case Code::no_trailer: return "the archive ends without TRAILER!!!; expected all of it";
    case Code::duplicate: return "an entry's name was there before; expected each file once";
  }
  return "damaged";
}

std::expected<Initrd, InitrdError> Initrd::open(FileContent archive) {
  if (looks_compressed(as_text(archive))) return std::unexpected{InitrdError{.code = Code::compressed, .offset = 0}};
  Initrd initrd{archive};
  bool duplicate = false;
  std::size_t at = 0;
  const auto checked = for_each(archive, [&](const Entry& entry, std::size_t offset) {
    // find() gives the first file of a name: is this the one?
    const auto first = entry.regular ? initrd.find(without_prefix(entry.name)) : std::nullopt;
    duplicate = first && first->data() != entry.content.data();
    at = offset;
    return !duplicate;
  });
  if (!checked) return std::unexpected{checked.error()};
  if (duplicate) return std::unexpected{InitrdError{.code = Code::duplicate, .offset = at}};
  return initrd;
}

std::optional<FileContent> Initrd::find(std::string_view name) const {
  std::optional<FileContent> found;
  const auto walked = for_each(archive_, [&](const Entry& entry, std::size_t) {
    if (entry.regular && without_prefix(entry.name) == name) found = entry.content;
    return !found;
  });
  return walked ? found : std::nullopt;
}

}  // namespace weir
