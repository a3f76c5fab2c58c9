// A reader for cpio archives of the "newc" kind, as Linux takes them for an initrd. The archive is not trusted: it is
// checked from end to end when it is opened, and its files are sorted by name then, so that each is found quickly. Contents
// are used in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string_view>

#include "hyp/manifest/files.hpp"
#include "hyp/platform/line.hpp"

namespace weir {

struct InitrdError {
  enum class Code : std::uint8_t {
    empty,       // nothing but zeros
    other_kind,  // an archive of another kind, or compressed: `kind` says which
    not_newc,    // no "070701" or "070702" where an entry's header is due
    bad_number,  // a header field is not a hexadecimal number
    bad_name,    // a name is empty or not terminated where its size says
    truncated,   // a header, name or file reaches beyond the archive's end
    no_trailer,  // the end comes before the entry "TRAILER!!!"
    duplicate,   // two files of one name
    no_memory,   // for the list of its files
  };
  Code code{};
  std::uint64_t offset{};  // of the entry in the archive
  std::string_view kind{};

  // "initrd: byte OFFSET: PROBLEM; expected EXPECTED", the same at EL2 and on the host.
  [[nodiscard]] dt::Line line() const;
};

class Initrd final : public FileSource {
 public:
  Initrd() = default;  // holds no file

  [[nodiscard]] static std::expected<Initrd, InitrdError> open(FileContent archive);

  // Headers of entries that have been looked at so far: what the work consists of.
  [[nodiscard]] std::uint64_t headers_read() const { return headers_read_; }

  // Regular files only. Content is as long as the archive stays in place; it is 4-byte aligned within the archive.
  [[nodiscard]] std::optional<FileContent> find(std::string_view name) const override;

 private:
  explicit Initrd(FileContent archive) : archive_{archive} {}

  [[nodiscard]] std::string_view name_at(std::uint64_t offset) const;
  [[nodiscard]] std::expected<void, InitrdError> build_index();

  FileContent archive_;
  std::unique_ptr<std::uint64_t[]> files_;  // offsets of regular files' entries, sorted by name
  std::size_t count_{};
  mutable std::uint64_t headers_read_{};
};

}  // namespace weir
