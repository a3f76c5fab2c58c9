// Writing page requests into a guest's PRI queue, and the answers that an SMMU gives by itself (IHI 0070, chapter 8).
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "vsmmu/ports.hpp"

namespace weir::vsmmu {

// A guest's PRI queue, as its registers describe it.
struct PriQueue {
  bool enabled{};  // the effective CR0.PRIQEN: SMMUEN == 0 implies 0
  bool error{};    // GERROR.PRIQ_ABT_ERR is active
  smmu::PRIQ_BASE base;
  smmu::PRIQ_PROD prod;
  smmu::PRIQ_CONS cons;
  bool irq_per_group{};  // PRIQ_IRQ_CFG2.LO: an interrupt for each Last, not for a queue that is no longer empty
  unsigned max_log2{};
};

// What decides whether an automatic answer carries the PASID of its request.
struct PasidRules {
  bool substreams{};  // IDR1.SSIDSIZE != 0
  bool always{};      // IDR3.PPS
  bool ste_valid{};   // the guest's STE can be read and is legal
  bool ste_ppar{};    // its PPAR
};

struct PriDelivered {
  smmu::PRIQ_PROD prod;  // the new value of PRIQ_PROD
  bool written{};
  bool interrupt{};  // the queue's is due, if it is enabled
  bool abort{};      // the queue is not in RAM: PRIQ_ABT_ERR
  struct Answer {
    smmu::PriResponse response{};
    std::optional<SubstreamID> ssid;
    friend bool operator==(const Answer&, const Answer&) = default;
  };
  std::optional<Answer> answer;  // to be sent to the device at once
};

// The record of `physical` for a guest who knows the stream as `vsid`.
[[nodiscard]] smmu::PriEntry rebuild_page_request(const smmu::PriEntry& physical, VStreamID vsid);

// Appends `request`, which is the guest's already, or says what the device is answered instead.
[[nodiscard]] PriDelivered deliver_page_request(const PriQueue& queue, GuestMemory& memory, const PasidRules& rules,
                                                const smmu::PriEntry& request);

}  // namespace weir::vsmmu
