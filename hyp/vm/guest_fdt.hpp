// The devicetree that a guest boots with: what the VM has, and nothing else. Portable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

#include "guest-abi/types.hpp"
#include "hyp/vm/guest_seed.hpp"

namespace weir {

struct GuestVsmmu {
  IPA base;
  std::uint32_t first_intid{};  // eventq; priq, cmdq-sync and gerror follow, whether there is a priq or not
  bool coherent{};
  bool pri{};  // it has a PRI queue, and so its interrupt
};

struct GuestFunction {
  unsigned slot{};        // device on virtual bus 0, function 0
  unsigned vsmmu{};       // index into GuestHardware::vsmmus
  std::uint32_t intid{};  // INTA; 0: none
  VStreamID vsid;
};

struct GuestHardware {
  IPA ram;
  std::uint64_t ram_bytes{};
  unsigned vcpus{};
  bool rtc{};  // a PL031
  std::span<const GuestVsmmu> vsmmus;
  bool pci{};
  bool ats{};                // some function has ATS
  bool dma_coherent = true;  // the functions' DMA
  std::span<const GuestFunction> functions;
  std::string_view bootargs;
  IPA initrd;  // used if initrd_bytes is not 0
  std::uint64_t initrd_bytes{};
  std::optional<GuestSeeds> seeds;
};

// Writes a flattened devicetree to `out` and returns its size; the error is libfdt's, in words.
[[nodiscard]] std::expected<std::size_t, const char*> make_guest_fdt(const GuestHardware& hardware,
                                                                     std::span<std::byte> out);

}  // namespace weir
