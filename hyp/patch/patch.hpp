// The image is built for Armv8.1 atomics (FEAT_LSE). Where the boot pCPU cannot execute them, or needs an erratum's
// workaround in an instruction, each such instruction is replaced by a branch to a stub of its own, before the MMU is on
// and the text becomes read-only. On other CPUs nothing is replaced, and nothing costs anything.
//
// tools/patch-sites finds the instructions in the linked image and fills the table of sites. Portable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace weir::patch {

// What a pCPU needs replaced.
struct Needs {
  bool atomics{};   // no FEAT_LSE
  bool par_read{};  // erratum: reads of PAR_EL1 stand between barriers

  [[nodiscard]] constexpr bool any() const { return atomics || par_read; }
  // Whether what was done for `done` suits a pCPU with these needs.
  [[nodiscard]] constexpr bool met_by(const Needs& done) const {
    return (!atomics || done.atomics) && (!par_read || done.par_read);
  }
};

// For the image, of the boot pCPU's ID_AA64ISAR0_EL1 and MIDR_EL1. A CPU that may stand beside one with the erratum,
// and boot first, asks for the workaround, too.
[[nodiscard]] Needs needs_of_image(std::uint64_t isar0, std::uint64_t midr);
// Of a pCPU itself.
[[nodiscard]] Needs needs_of_pcpu(std::uint64_t isar0, std::uint64_t midr);

// Offsets in bytes from the start of the image, as tools/patch-sites writes them: in front the number of them.
inline constexpr std::size_t kMaxSites = 1023;
struct SiteTable {
  std::uint32_t count;
  std::uint32_t offset[kMaxSites];
};
static_assert(sizeof(SiteTable) == 4096);

enum class Error : std::uint8_t {
  bad_site,      // not an instruction that needs a stub, or outside of the text
  no_room,       // for its stub
  out_of_reach,  // of a branch
};

struct Done {
  std::uint32_t atomics{};
  std::uint32_t par_reads{};
  std::uint32_t stub_words{};
};

// Where the instructions lie. Word by word: with the MMU off, every access must be aligned, so none may be combined.
struct Image {
  volatile std::uint32_t* start{};  // of the image, and of its text
  std::size_t text_words{};
  volatile std::uint32_t* stubs{};
  std::size_t stub_words{};
};

// Replaces what `needs` asks for. After an error the image is of no use.
[[nodiscard]] std::expected<Done, Error> apply(const Image& image, std::span<const std::uint32_t> sites,
                                               const Needs& needs);

}  // namespace weir::patch
