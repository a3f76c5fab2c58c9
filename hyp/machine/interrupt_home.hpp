// Which pCPU takes a physical SMMU's interrupts. Portable.
#pragma once

#include <cstddef>
#include <span>

namespace weir {

struct PcpuUse {
  bool online{};
  bool idle{};  // it runs no vCPU
  bool owns{};  // its VM has a stream behind the SMMU
};

// An idle one if there is any, else one whose VM has devices there: no VM pays for faults of an SMMU that it has nothing to
// do with. Several SMMUs are spread over those that are equally good. Without either the boot pCPU.
[[nodiscard]] constexpr unsigned interrupt_home(std::span<const PcpuUse> pcpus, unsigned smmu) {
  const auto pick = [&](auto suits) -> unsigned {
    unsigned count = 0;
    for (const PcpuUse& p : pcpus) count += p.online && suits(p);
    if (count == 0) return static_cast<unsigned>(pcpus.size());
    unsigned left = smmu % count;
    for (std::size_t i = 0; i < pcpus.size(); ++i)
      if (pcpus[i].online && suits(pcpus[i]) && left-- == 0) return static_cast<unsigned>(i);
    return static_cast<unsigned>(pcpus.size());
  };
  if (const unsigned idle = pick([](const PcpuUse& p) { return p.idle; }); idle < pcpus.size()) return idle;
  if (const unsigned owner = pick([](const PcpuUse& p) { return p.owns; }); owner < pcpus.size()) return owner;
  return 0;
}

}  // namespace weir
