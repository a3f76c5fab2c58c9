// Puts a VM's kernel, initrd and devicetree into its memory.
#pragma once

#include <cstdint>
#include <expected>

#include "guest-abi/types.hpp"
#include "hyp/manifest/files.hpp"

namespace weir {

class SeedPool;
class Vm;

struct LoadedGuest {
  IPA entry;
  IPA devicetree;  // for x0, as Linux's boot protocol and Weir's raw payloads want it
};

// What the manifest names is read from `files`. The VM's devices are attached: its devicetree lists them. Caches are
// cleaned: a guest starts with its MMU off. The error is one line for the operator.
[[nodiscard]] std::expected<LoadedGuest, const char*> load_guest(Vm& vm, const FileSource& files,
                                                                 const SeedPool& seeds);

}  // namespace weir
