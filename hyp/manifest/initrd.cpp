#include "hyp/manifest/initrd.hpp"

#include <algorithm>

#include "hyp/manifest/file_kind.hpp"
#include "stage2/support/make.hpp"

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

dt::Line InitrdError::line() const {
  dt::Line line;
  line << "initrd: ";
  if (offset != 0) line << "byte " << offset << ": ";
  switch (code) {
    case Code::empty: return line << "it is empty; expected a cpio archive of the newc kind";
    case Code::other_kind: return line << "it is " << kind << "; expected a plain cpio archive of the newc kind";
    case Code::not_newc: return line << "no entry begins here; expected 070701, as in a cpio archive of the newc kind";
    case Code::bad_number: return line << "an entry's header holds a bad number; expected hexadecimal digits";
    case Code::bad_name: return line << "an entry's name does not end where its header says; expected a NUL there";
    case Code::truncated: return line << "an entry reaches beyond the end of the archive; expected all of it";
    case Code::no_trailer: return line << "the archive ends without TRAILER!!!; expected all of it";
    case Code::duplicate: return line << "an entry's name was there before; expected each file once";
    case Code::no_memory: return line << "no memory for the list of its files; expected fewer files";
  }
  return line;
}

std::string_view Initrd::name_at(std::uint64_t offset) const {
  ++headers_read_;
  return without_prefix(entry_at(archive_, offset)->name);  // open() has checked it
}

std::expected<void, InitrdError> Initrd::build_index() {
  std::size_t files = 0;
  const auto checked = for_each(archive_, [&](const Entry& entry, std::size_t) {
    ++headers_read_;
    files += entry.regular ? 1 : 0;
    return true;
  });
  if (!checked || files == 0) return checked;
  files_ = make_array<std::uint64_t>(files);
  if (!files_) return std::unexpected{InitrdError{.code = Code::no_memory}};
  const auto filled = for_each(archive_, [&](const Entry& entry, std::size_t offset) {
    ++headers_read_;
    if (entry.regular) files_[count_++] = offset;
    return true;
  });
  if (!filled) return filled;
  const auto before = [&](std::uint64_t a, std::uint64_t b) {
    const int order = name_at(a).compare(name_at(b));
    return order != 0 ? order < 0 : a < b;
  };
  std::sort(files_.get(), files_.get() + count_, before);
  std::optional<std::uint64_t> duplicate;  // the first in the archive
  for (std::size_t i = 1; i < count_; ++i)
    if (name_at(files_[i - 1]) == name_at(files_[i])) duplicate = std::min(duplicate.value_or(files_[i]), files_[i]);
  if (duplicate) return std::unexpected{InitrdError{.code = Code::duplicate, .offset = *duplicate}};
  return {};
}

std::expected<Initrd, InitrdError> Initrd::open(FileContent archive) {
  Initrd initrd{archive};
  if (const auto built = initrd.build_index(); !built) {
    InitrdError error = built.error();
    // At its beginning, it is of another kind; further on, damaged.
    error.kind = error.offset == 0 && error.code != Code::empty ? kind_of(archive) : std::string_view{};
    const bool newc = as_text(archive).starts_with("070701") || as_text(archive).starts_with("070702");
    if (!newc && !error.kind.empty()) error.code = Code::other_kind;
    return std::unexpected{error};
  }
  return initrd;
}

std::optional<FileContent> Initrd::find(std::string_view name) const {
  const std::uint64_t* const begin = files_.get();
  const std::uint64_t* const end = begin + count_;
  const auto* const found = std::lower_bound(
      begin, end, name, [&](std::uint64_t file, std::string_view wanted) { return name_at(file) < wanted; });
  if (found == end || name_at(*found) != name) return std::nullopt;
  return entry_at(archive_, *found)->content;
}

}  // namespace weir
