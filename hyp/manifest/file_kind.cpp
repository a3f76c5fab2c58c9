#include "hyp/manifest/file_kind.hpp"

#include <algorithm>
#include <array>

namespace weir {
namespace {

using namespace std::string_view_literals;

struct Mark {
  std::size_t at;
  std::string_view bytes;
  std::string_view kind;
};
constexpr std::array kCompressed{
    Mark{0, "\x1f\x8b"sv, "gzip data"},         Mark{0, "\xfd\x37zXZ\0"sv, "xz data"},
    Mark{0, "\x28\xb5\x2f\xfd"sv, "zstd data"}, Mark{0, "\x02\x21\x4c\x18"sv, "lz4 data"},
    Mark{0, "\x04\x22\x4d\x18"sv, "lz4 data"},  Mark{0, "BZh"sv, "bzip2 data"},
    Mark{0, "\x5d\0\0"sv, "lzma data"},         Mark{0, "\x89LZO\0"sv, "lzop data"},
};
// More telling marks first.
constexpr std::array kOthers{
    Mark{0x101, "ustar"sv, "a tar archive"},
    Mark{0, "070701"sv, "a cpio archive of the newc kind"},
    Mark{0, "070702"sv, "a cpio archive of the newc kind"},
    Mark{0, "070707"sv, "a cpio archive of the old portable kind (odc)"},
    Mark{0, "\xc7\x71"sv, "a cpio archive of the old binary kind"},
    Mark{0, "\x71\xc7"sv, "a cpio archive of the old binary kind"},
    Mark{0, "PK\x03\x04"sv, "a zip archive"},
    Mark{0, "!<arch>\n"sv, "an ar archive"},
    Mark{0, "hsqs"sv, "a squashfs image"},
    Mark{4, "zimg"sv, "an EFI image with a compressed kernel in it (zboot)"},
    Mark{0x38, "ARM\x64"sv, "an arm64 kernel"},
    Mark{0x202, "HdrS"sv, "an x86 kernel"},
    Mark{0x24, "\x18\x28\x6f\x01"sv, "a kernel for 32-bit Arm"},
    Mark{0, "\x7f\x45LF"sv, "an ELF file"},
    Mark{0, "\x27\x05\x19\x56"sv, "an image of U-Boot's old kind"},
    Mark{0, "\xd0\x0d\xfe\xed"sv, "a devicetree blob, or an image of U-Boot's FIT kind"},
    Mark{0, "MZ"sv, "an EFI program"},
};

bool fits(FileContent file, const Mark& mark) {
  if (file.size() < mark.at || file.size() - mark.at < mark.bytes.size()) return false;
  return std::ranges::equal(file.subspan(mark.at, mark.bytes.size()), mark.bytes,
                            [](std::byte b, char c) { return b == static_cast<std::byte>(c); });
}

}  // namespace

bool is_compressed(FileContent file) {
  return std::ranges::any_of(kCompressed, [&](const Mark& mark) { return fits(file, mark); });
}

std::string_view kind_of(FileContent file) {
  for (const Mark& mark : kCompressed)
    if (fits(file, mark)) return mark.kind;
  for (const Mark& mark : kOthers)
    if (fits(file, mark)) return mark.kind;
  return {};
}

}  // namespace weir
