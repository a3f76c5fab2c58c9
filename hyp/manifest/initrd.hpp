// A reader for cpio archives of the "newc" kind, as Linux takes them for an initrd. The archive is not trusted: it is
// checked from end to end when it is opened. Contents are used in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "hyp/manifest/files.hpp"

namespace weir {

struct InitrdError {
  enum class Code : std::uint8_t {
    empty,       // nothing but zeros
    compressed,  // begins as gzip, xz, zstd, lz4, bzip2 or lzma do
    not_newc,    // no "070701" or "070702" where an entry's header is due
    bad_number,  // a header field is not a hexadecimal number
    bad_name,    // a name is empty or not terminated where its size says
    truncated,   // a header, name or file reaches beyond the archive's end
    no_trailer,  // the end comes before the entry "TRAILER!!!"
    duplicate,   // two files of one name
  };
  Code code{};
  std::uint64_t offset{};  // of the entry in the archive
};
[[nodiscard]] const char* to_string(InitrdError::Code code);  // "not a cpio archive of the newc kind" and so on

class Initrd final : public FileSource {
 public:
  Initrd() = default;  // holds no file

  [[nodiscard]] static std::expected<Initrd, InitrdError> open(FileContent archive);

  // Regular files only. Content is as long as the archive stays in place; it is 4-byte aligned within the archive.
  [[nodiscard]] std::optional<FileContent> find(std::string_view name) const override;

 private:
  explicit Initrd(FileContent archive) : archive_{archive} {}
  FileContent archive_;
};

}  // namespace weir
