// Which commands a guest may put into its queue (IHI 0070, chapter 4, for what the vSMMU announces). Everything that is
// not legal here is CERROR_ILL; nothing that is not legal here reaches a physical queue.
#pragma once

#include <span>

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

// The NH_VAs that guests usually send, told from all others by few comparisons: legal, and with an ASID that the guest has.
class UsualVa {
 public:
  // `ranges`: every instance understands ranges and level hints.
  constexpr UsualVa(const Announced& a, bool ranges) : mask_{kMasks[static_cast<std::size_t>(Va::kOpcode)]} {
    using smmu::IDR5;
    mask_[0] &= ~(Va::Op::mask | Va::NUM::mask | Va::SCALE::mask);
    mask_[1] &= ~(Va::TTL::mask | Va::TG::mask);
    if (!a.idr0.get<smmu::IDR0::ASID16>()) mask_[0] &= ~Va::ASID::mask | Va::ASID::encode(ASID{0xff});
    if (!ranges || !a.idr3.get<smmu::IDR3::RIL>()) return;
    const auto offer = [this](bool offered, smmu::TlbiGranule tg) {
      if (offered) granules_ |= 1U << static_cast<unsigned>(tg);
    };
    offer(a.idr5.get<IDR5::GRAN4K>(), smmu::TlbiGranule::size4k);
    offer(a.idr5.get<IDR5::GRAN64K>(), smmu::TlbiGranule::size64k);  // 16 KiB has rules of its own
  }
  // Without range and level hint: legal whatever else is announced.
  [[nodiscard]] bool plain(const smmu::Command& c) const {
    return (((c.words[0] ^ Va::Op::encode(Va::kOpcode)) & ~mask_[0]) | (c.words[1] & ~mask_[1])) == 0;
  }
  // With one of them, as every instance understands it.
  [[nodiscard]] bool ranged(const smmu::Command& c) const {
    constexpr std::uint64_t kScale = Va::SCALE::encode(31);  // without DS the upper half is reserved
    const std::uint64_t hint = (c.words[0] & (Va::NUM::mask | kScale)) | (c.words[1] & Va::TTL::mask);
    const smmu::Command rest{{c.words[0] & ~(Va::NUM::mask | kScale), c.words[1] & ~(Va::TTL::mask | Va::TG::mask)}};
    return hint != 0 && (granules_ >> static_cast<unsigned>(c.get<Va::TG>()) & 1) != 0 && plain(rest);
  }
  // How many of `c`, the first of which is one, are just like it, but for Address and Leaf (and VMID, which does not count).
  [[nodiscard]] std::size_t run(std::span<const smmu::Command> c) const {
    std::size_t n = 1;
    while (n < c.size() && (((c[n].words[0] ^ c[0].words[0]) & ~Va::VMID::mask) | (c[n].words[1] & ~mask_[1])) == 0)
      ++n;
    return n;
  }

 private:
  using Va = smmu::TlbiNhVa;
  smmu::GuestMask mask_;
  std::uint32_t granules_ = 0;  // by TG; none: no ranges
};

// A SYNC that is legal whatever is announced.
[[nodiscard]] inline bool is_sync(const smmu::Command& c) {
  using smmu::Sync;
  return c.opcode() == Sync::kOpcode && c.within(kMasks[static_cast<std::size_t>(Sync::kOpcode)]) &&
         c.get<Sync::CS>() != smmu::SyncSignal::illegal;
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
    case Opcode::SYNC: return rules::is_sync(c);
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
