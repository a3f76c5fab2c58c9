// Ending a function's DMA without its help.
#pragma once

#include "hyp/pci/capabilities.hpp"

namespace weir::pci {

// Takes bus mastering from a function. True: it does no DMA any more, and what it had begun is over. To be called again
// until it is: requests may be on their way. A function that does not answer counts as gone.
[[nodiscard]] inline bool stop_dma(ConfigPort& config, Rid rid) {
  constexpr std::uint32_t kTransactionsPending = std::uint32_t{1}
                                                 << 21;  // Device Status, above Device Control (7.5.3.5)
  const Command before{{{config.read(rid, kCommand, 4)}}};
  if (before.words[0] == kAbsent) return true;
  // Status is written as zeros, which clear nothing.
  config.write(rid, kCommand, 4, Command{before}.set<Command::BusMaster>(false).set<Command::Status>({}).words[0]);
  // The answer does not overtake what the function has posted before (2.4.1).
  if (Command{{{config.read(rid, kCommand, 4)}}}.get<Command::BusMaster>()) return false;
  bool pending = false;
  for_each_capability(config, rid, [&](std::uint16_t at, CapabilityHeader header) {
    if (header.get<CapabilityHeader::Id>() == kCapExpress)
      pending |=
          (config.read(rid, static_cast<std::uint16_t>(at + kExpressDeviceControl), 4) & kTransactionsPending) != 0;
  });
  return !pending;
}

}  // namespace weir::pci
