// What of the image was replaced before the MMU was on (hyp/patch).
#pragma once

#include "hyp/patch/patch.hpp"

namespace weir {

struct ImagePatches {
  patch::Needs needs;  // of the boot pCPU; met
  patch::Done done;
};
// Written with the MMU off, once. Hidden, see image.hpp.
[[gnu::visibility("hidden")]] extern constinit ImagePatches image_patches;

// Whether this pCPU can run the image as it is. Executes no instruction that may have to be replaced.
[[nodiscard]] bool image_suits_this_pcpu();

// Prints what was replaced, if anything was.
void log_image_patches();

}  // namespace weir
