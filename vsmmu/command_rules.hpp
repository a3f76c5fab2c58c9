// Which commands a guest may put into its queue (IHI 0070, chapter 4, for what the vSMMU announces). Everything that is
// not legal here is CERROR_ILL; nothing that is not legal here reaches a physical queue.
#pragma once

#include "guest-abi/smmu/command.hpp"
#include "vsmmu/announced.hpp"

namespace weir::vsmmu {

namespace rules {

inline constexpr std::size_t kOpcodes = 0x80;

// guest_mask() by opcode; a mask without the opcode's own bits (all zero) stands for an illegal opcode.
inline constexpr auto kMasks = [] {
  std::array<smmu::GuestMask, kOpcodes> masks{};
  smmu::GuestCommands::for_each(
      [&]<typename T>(const T&) { masks[static_cast<std::size_t>(T::kOpcode)] = *smmu::guest_mask(T::kOpcode); });
  return masks;
}();

// `c` as format T; its opcode is known.
template <typename T>
constexpr T typed(const smmu::Command& c) {
  T t;
  t.words = c.words;
  return t;
}

// The bits of an NH_VA without range and level hint, for guests with 16-bit ASIDs or not: one within this mask is legal
// whatever is announced.
constexpr smmu::GuestMask plain_va(bool asid16) {
  using Va = smmu::TlbiNhVa;
  smmu::GuestMask mask = kMasks[static_cast<std::size_t>(Va::kOpcode)];
  mask[0] &= ~(Va::NUM::mask | Va::SCALE::mask);
  mask[1] &= ~(Va::TTL::mask | Va::TG::mask);
  if (!asid16) mask[0] &= ~Va::ASID::mask | Va::ASID::encode(ASID{0xff});
  return mask;
}

}  // namespace rules

// Both rule sets: bits that may be set, and values that features forbid.
[[nodiscard]] inline bool command_legal(const smmu::Command& c, const Announced& a) {
  using smmu::IDR0;
  using smmu::Opcode;
  const auto opcode = static_cast<std::size_t>(c.opcode());
  if (opcode >= rules::kOpcodes) return false;
  const smmu::GuestMask& mask = rules::kMasks[opcode];
  if (mask[0] == 0 || !c.within(mask)) return false;
  const auto range_legal = [&]<typename T>(const T& t) {
    return smmu::tlbi_range_legal(t, a.idr3.get<smmu::IDR3::RIL>(), a.idr5.get<smmu::IDR5::DS>());
  };
  switch (c.opcode()) {
    case Opcode::TLBI_NH_VA: return range_legal(rules::typed<smmu::TlbiNhVa>(c));
    case Opcode::TLBI_NH_VAA: return range_legal(rules::typed<smmu::TlbiNhVaa>(c));
    case Opcode::SYNC: return rules::typed<smmu::Sync>(c).get<smmu::Sync::CS>() != smmu::SyncSignal::illegal;
    case Opcode::ATC_INV:
      // More than everything is permitted to be CERROR_ILL (4.5.1); what else it might do is not known.
      return a.idr0.get<IDR0::ATS>() &&
             rules::typed<smmu::AtcInv>(c).get<smmu::AtcInv::Size>() <= smmu::AtcInv::kSizeAll;
    case Opcode::PRI_RESP:
      return a.idr0.get<IDR0::PRI>() &&
             rules::typed<smmu::PriResp>(c).get<smmu::PriResp::Resp>() != smmu::PriResponse::illegal;
    case Opcode::RESUME:
    case Opcode::STALL_TERM: return a.idr0.get<IDR0::STALL_MODEL>() != smmu::StallModel::terminate_only;
    default: return true;
  }
}

}  // namespace weir::vsmmu
