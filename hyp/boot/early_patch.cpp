// Runs from head.S with the MMU off, where the image was loaded: nothing here may use an address that is stored in
// memory or an access that is not naturally aligned (the Makefile compiles it, and hyp/patch, with -mstrict-align).

#include "hyp/boot/early_patch.hpp"

#include <cstddef>
#include <cstdint>

#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/log/log.hpp"

namespace weir {

constinit ImagePatches image_patches{};

// Returns false if the image cannot run here: head.S parks.
extern "C" bool early_patch_image(std::uint32_t* base) {
  const patch::Needs needs = patch::needs_of_image(READ_SYSREG(id_aa64isar0_el1), READ_SYSREG(midr_el1));
  if (!needs.any()) return true;
  const auto words = [](const std::byte* from, const std::byte* to) {
    return static_cast<std::size_t>(to - from) / sizeof(std::uint32_t);
  };
  auto* const stubs = base + words(__image_start, __patch_stubs_start);
  const patch::Image image{.start = base,
                           .text_words = words(__text_start, __text_end),
                           .stubs = stubs,
                           .stub_words = words(__patch_stubs_start, __patch_stubs_end)};
  if (__patch_sites.count > patch::kMaxSites) return false;
  const auto done = patch::apply(image, {__patch_sites.offset, __patch_sites.count}, needs);
  if (!done) return false;
  image_patches.needs = needs;
  image_patches.done = *done;
  return true;
}

bool image_suits_this_pcpu() {
  return patch::needs_of_pcpu(READ_SYSREG(id_aa64isar0_el1), READ_SYSREG(midr_el1)).met_by(image_patches.needs);
}

void log_image_patches() {
  const auto& [needs, done] = image_patches;
  if (needs.atomics) log("no FEAT_LSE: %u atomic instructions replaced by loops", done.atomics);
  if (needs.par_read) log("%u reads of PAR_EL1 put between barriers", done.par_reads);
}

}  // namespace weir
