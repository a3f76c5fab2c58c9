#include "hyp/gic/gic.hpp"

#include <array>
#include <atomic>

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/counter.hpp"
#include "hyp/arch/mmio.hpp"
#include "hyp/arch/pcpu.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/gic/group0.hpp"
#include "hyp/log/log.hpp"
#include "hyp/mem/pages.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

using gic::Gicd;
using gic::GicdCtlr;
using gic::Gicr;
using gic::GicrSgi;
using gic::kFirstSpi;
using gic::kSgis;

namespace {

constexpr std::uint64_t kPatienceUs = 1'000'000;
constexpr std::uint32_t kAll = 0xffff'ffff;
constexpr std::uint32_t kPriorities = 0xa0a0'a0a0;  // all the same; more urgent than the mask below, Secure or not
constexpr std::uint64_t kPriorityMask = 0xf0;
constexpr unsigned kMaxPerDispatch = 64;

// A bank of registers, accessed by that bank's offsets only.
template <typename Reg>
class Bank {
 public:
  constexpr Bank() = default;
  explicit Bank(void* base) : base_{static_cast<std::byte*>(base)} {}
  explicit operator bool() const { return base_ != nullptr; }
  // Word `n` of the array at `reg`.
  [[nodiscard]] std::uint32_t read(Reg reg, std::uint32_t n = 0) const { return read32(at(reg) + 4 * n); }
  void write(Reg reg, std::uint32_t value, std::uint32_t n = 0) const { write32(at(reg) + 4 * n, value); }
  [[nodiscard]] std::uint64_t read_long(Reg reg) const { return read64(at(reg)); }
  void write_long(Reg reg, std::uint64_t value, std::uint32_t n) const { write64(at(reg) + 8 * n, value); }

 private:
  [[nodiscard]] std::byte* at(Reg reg) const { return base_ + static_cast<std::uint32_t>(reg); }
  std::byte* base_{};
};

struct Redistributor {
  Bank<Gicr> rd;
  Bank<GicrSgi> sgi;
};

struct Region {
  std::byte* base{};
  std::uint64_t bytes{};
};

struct Handler {
  std::atomic<GicHandler> handler{};
  std::atomic<GicForward> forward{};  // instead of `handler`
  std::atomic<void*> context{};
};

constinit Bank<Gicd> gicd;
constinit StaticVector<Region, 32> regions;
constinit std::uint64_t stride = 0;  // 0: as GICR_TYPER.VLPIS says
constinit std::uint32_t intid_end = kFirstSpi;
constinit std::array<Redistributor, kMaxPcpus> redistributors{};
constinit std::array<Handler, gic::kSpiEnd> handlers{};  // SGIs and PPIs: for all pCPUs
constinit SpinLock config_lock;                          // GICD_ICFGR, and who has which interrupt

constexpr std::uint32_t bit_of(std::uint32_t intid) { return std::uint32_t{1} << (intid % 32); }
bool is_spi(std::uint32_t intid) { return intid >= kFirstSpi && intid < intid_end; }
bool is_handled(std::uint32_t intid) { return intid < intid_end; }

template <typename Done>
bool wait_until(Done done) {
  const std::uint64_t start = counter();
  const std::uint64_t patience = microseconds_to_ticks(kPatienceUs);
  while (!done())
    if (counter() - start > patience) return false;
  return true;
}
bool distributor_settled() {
  return wait_until([] { return !GicdCtlr::RWP::decode(gicd.read(Gicd::CTLR)); });
}
bool redistributor_settled(const Redistributor& r) {
  return wait_until([&] { return !gic::GicrCtlr::RWP::decode(r.rd.read(Gicr::CTLR)); });
}

gic::Affinity affinity_of(std::uint64_t mpidr) {
  gic::Affinity affinity;
  affinity.words[0] = mpidr;
  return affinity;
}

bool is_of(gic::GicrTyper typer, gic::Affinity cpu) {
  using gic::Affinity;
  using gic::GicrTyper;
  return typer.get<GicrTyper::Aff0>() == cpu.get<Affinity::Aff0>() &&
         typer.get<GicrTyper::Aff1>() == cpu.get<Affinity::Aff1>() &&
         typer.get<GicrTyper::Aff2>() == cpu.get<Affinity::Aff2>() &&
         typer.get<GicrTyper::Aff3>() == cpu.get<Affinity::Aff3>();
}

std::uint64_t router(std::uint64_t mpidr) {
  using gic::Affinity;
  using gic::GicdIrouter;
  const Affinity cpu = affinity_of(mpidr);
  return GicdIrouter{}
      .set<GicdIrouter::Aff0>(cpu.get<Affinity::Aff0>())
      .set<GicdIrouter::Aff1>(cpu.get<Affinity::Aff1>())
      .set<GicdIrouter::Aff2>(cpu.get<Affinity::Aff2>())
      .set<GicdIrouter::Aff3>(cpu.get<Affinity::Aff3>())
      .words[0];
}

bool find_redistributor(std::uint64_t mpidr, Redistributor& found) {
  for (const Region& region : regions) {
    std::uint64_t at = 0;
    while (at + gic::kGicrBytes <= region.bytes) {
      const Bank<Gicr> rd{region.base + at};
      gic::GicrTyper typer;
      typer.words[0] = rd.read_long(Gicr::TYPER);
      if (is_of(typer, affinity_of(mpidr))) {
        found = {rd, Bank<GicrSgi>{region.base + at + gic::kGicrFrame}};
        return true;
      }
      if (typer.get<gic::GicrTyper::Last>()) break;
      if (stride != 0)
        at += stride;
      else
        at += typer.get<gic::GicrTyper::VLPIS>() ? gic::kGicrBytesWithVlpis : gic::kGicrBytes;
    }
  }
  return false;
}

void reset_private(const Redistributor& r) {
  r.sgi.write(GicrSgi::ICENABLER0, kAll);
  r.sgi.write(GicrSgi::ICPENDR0, kAll);
  r.sgi.write(GicrSgi::ICACTIVER0, kAll);
  r.sgi.write(GicrSgi::IGROUPR0, kAll);
  r.sgi.write(GicrSgi::IGRPMODR0, 0);
  for (std::uint32_t n = 0; n < kFirstSpi / 4; ++n) r.sgi.write(GicrSgi::IPRIORITYR, kPriorities, n);
  r.sgi.write(GicrSgi::ICFGR1, 0);
}

// Priorities that earlier software left active, and Group 0, where it is not EL3's. How many registers there are follows
// from the number of priority bits.
void reset_active_priorities() {
  const unsigned bits = gic::IccCtlr::PRIbits::decode(READ_SYSREG(ICC_CTLR_EL1)) + 1;
  WRITE_SYSREG(ICC_AP1R0_EL1, 0);
  if (bits >= 6) WRITE_SYSREG(ICC_AP1R1_EL1, 0);
  if (bits >= 7) {
    WRITE_SYSREG(ICC_AP1R2_EL1, 0);
    WRITE_SYSREG(ICC_AP1R3_EL1, 0);
  }
  WRITE_SYSREG(ICC_PMR_EL1, gic::group0_probe(bits));
  isb();
  if (!gic::group0_is_ours(READ_SYSREG(ICC_PMR_EL1))) return;
  WRITE_SYSREG(ICC_IGRPEN0_EL1, 0);
  WRITE_SYSREG(ICC_AP0R0_EL1, 0);
  if (bits >= 6) WRITE_SYSREG(ICC_AP0R1_EL1, 0);
  if (bits >= 7) {
    WRITE_SYSREG(ICC_AP0R2_EL1, 0);
    WRITE_SYSREG(ICC_AP0R3_EL1, 0);
  }
}

[[nodiscard]] bool init_cpu_interface() {
  using gic::IccSre;
  // Enable = 0: a guest's access to ICC_SRE_EL1 is trapped, it cannot leave the system registers.
  WRITE_SYSREG_RECORD(ICC_SRE_EL2, IccSre{}.set<IccSre::SRE>(true).set<IccSre::DFB>(true).set<IccSre::DIB>(true));
  isb();
  if (!IccSre::SRE::decode(READ_SYSREG(ICC_SRE_EL2))) return false;
  WRITE_SYSREG_RECORD(ICC_SRE_EL1, IccSre{}.set<IccSre::SRE>(true).set<IccSre::DFB>(true).set<IccSre::DIB>(true));
  WRITE_SYSREG(ICC_IGRPEN1_EL1, 0);
  isb();
  reset_active_priorities();
  WRITE_SYSREG_RECORD(ICC_CTLR_EL1, gic::IccCtlr{}.set<gic::IccCtlr::EOImode>(true));
  WRITE_SYSREG(ICC_BPR1_EL1, 0);
  WRITE_SYSREG(ICC_PMR_EL1, kPriorityMask);
  WRITE_SYSREG(ICC_IGRPEN1_EL1, 1);
  isb();
  return true;
}

void deactivate(std::uint32_t intid) {
  WRITE_SYSREG(ICC_DIR_EL1, intid);
  isb();
}

// A level that nobody handles would come again and again.
[[gnu::cold, gnu::noinline]] void refuse(std::uint32_t intid) {
  if (intid < kSgis) return;
  if (is_spi(intid))
    gic_disable_spi(intid);
  else
    gic_disable_ppi(intid);
  log("gic: interrupt %u has no handler: disabled", static_cast<unsigned>(intid));
}

void handle(std::uint32_t intid) {
  if (is_handled(intid)) [[likely]] {
    const Handler& h = handlers[intid];
    if (const GicForward forward = h.forward.load(std::memory_order_acquire); forward != nullptr) {
      if (forward(h.context.load(std::memory_order_relaxed), intid)) return;
    } else if (const GicHandler handler = h.handler.load(std::memory_order_acquire); handler != nullptr) {
      handler(h.context.load(std::memory_order_relaxed));
    } else {
      refuse(intid);
    }
  }
  deactivate(intid);
}

void set_handler(std::uint32_t intid, GicHandler handler, void* context) {
  if (!is_handled(intid)) return;
  const SpinLock::Guard guard{config_lock};
  Handler& h = handlers[intid];
  h.handler.store(nullptr, std::memory_order_release);
  h.context.store(context, std::memory_order_relaxed);
  h.handler.store(handler, std::memory_order_release);
}

// Private interrupts belong to a redistributor; that of a pCPU which is not up is not known.
const Redistributor* redistributor(unsigned pcpu_index) {
  if (pcpu_index >= kMaxPcpus || !redistributors[pcpu_index].rd) return nullptr;
  return &redistributors[pcpu_index];
}

// Writes an interrupt's bit to an array of set or clear registers.
void write_bit(std::uint32_t intid, unsigned pcpu_index, Gicd spi, GicrSgi priv) {
  if (is_spi(intid)) {
    gicd.write(spi, bit_of(intid), intid / 32);
  } else if (intid < kFirstSpi) {
    if (const Redistributor* r = redistributor(pcpu_index)) r->sgi.write(priv, bit_of(intid));
  }
}

}  // namespace

const char* to_string(GicError error) {
  switch (error) {
    case GicError::cannot_map: return "its registers cannot be mapped";
    case GicError::not_v3: return "it is no GICv3 or v4";
    case GicError::no_answer: return "a register write does not complete";
    case GicError::no_redistributor: return "no redistributor has this CPU's affinity";
    case GicError::no_system_registers: return "the CPU interface has no system registers";
  }
  return "?";
}

std::expected<void, GicError> gic_init(const GicV3& description) {
  if (description.distributor.bytes < gic::kGicdBytes) return std::unexpected{GicError::cannot_map};
  const auto mapped = map_device(description.distributor.base, description.distributor.bytes);
  if (!mapped) return std::unexpected{GicError::cannot_map};
  gicd = Bank<Gicd>{*mapped};
  for (const MemoryRange& range : description.redistributors) {
    const auto region = map_device(range.base, range.bytes);
    if (!region || !regions.push_back({static_cast<std::byte*>(*region), range.bytes}))
      return std::unexpected{GicError::cannot_map};
  }
  stride = description.redistributor_stride;
  const auto revision = gic::Pidr2::ArchRev::decode(gicd.read(Gicd::PIDR2));
  if (revision < 3) return std::unexpected{GicError::not_v3};

  gicd.write(Gicd::CTLR, 0);
  if (!distributor_settled()) return std::unexpected{GicError::no_answer};
  const std::uint32_t words = gic::GicdTyper::ITLinesNumber::decode(gicd.read(Gicd::TYPER)) + 1;
  intid_end = words * 32 < gic::kSpiEnd ? words * 32 : gic::kSpiEnd;
  for (std::uint32_t n = 1; n < words; ++n) {
    gicd.write(Gicd::ICENABLER, kAll, n);
    gicd.write(Gicd::ICPENDR, kAll, n);
    gicd.write(Gicd::ICACTIVER, kAll, n);
    gicd.write(Gicd::IGROUPR, kAll, n);
    gicd.write(Gicd::IGRPMODR, 0, n);
    for (std::uint32_t i = 0; i < 8; ++i) gicd.write(Gicd::IPRIORITYR, kPriorities, 8 * n + i);
    for (std::uint32_t i = 0; i < 2; ++i) gicd.write(Gicd::ICFGR, 0, 2 * n + i);
  }
  if (!distributor_settled()) return std::unexpected{GicError::no_answer};
  // Affinity routing first, with the groups disabled. EnableGrp1 is the same bit in both views of the register.
  gicd.write(Gicd::CTLR, GicdCtlr{}.set<GicdCtlr::ARE>(true).words[0]);
  if (!distributor_settled()) return std::unexpected{GicError::no_answer};
  for (std::uint32_t intid = kFirstSpi; intid < intid_end; ++intid)
    gicd.write_long(Gicd::IROUTER, router(this_pcpu().mpidr), intid);
  gicd.write(Gicd::CTLR, GicdCtlr{}.set<GicdCtlr::ARE>(true).set<GicdCtlr::EnableGrp1>(true).words[0]);
  if (!distributor_settled()) return std::unexpected{GicError::no_answer};
  return {};
}

std::expected<void, GicError> gic_init_pcpu() {
  const Pcpu& self = this_pcpu();
  Redistributor r;
  if (!find_redistributor(self.mpidr, r)) return std::unexpected{GicError::no_redistributor};
  using gic::GicrWaker;
  r.rd.write(Gicr::WAKER, 0);
  if (!wait_until([&] { return !GicrWaker::ChildrenAsleep::decode(r.rd.read(Gicr::WAKER)); }))
    return std::unexpected{GicError::no_answer};
  r.rd.write(Gicr::CTLR, 0);  // no LPIs
  reset_private(r);
  if (!redistributor_settled(r)) return std::unexpected{GicError::no_answer};
  if (!init_cpu_interface()) return std::unexpected{GicError::no_system_registers};
  redistributors[self.index] = r;
  r.sgi.write(GicrSgi::ISENABLER0, (std::uint32_t{1} << kIpis) - 1);
  return {};
}

void gic_dispatch() {
  for (unsigned n = 0; n < kMaxPerDispatch; ++n) {
    const auto intid = gic::IccIntid::INTID::decode(READ_SYSREG(ICC_IAR1_EL1));
    if (intid >= gic::kSpiEnd && intid < gic::kSpecialEnd) return;  // 1023: nothing pending
    dsb_sy();  // the acknowledge happens before the handler's accesses
    WRITE_SYSREG(ICC_EOIR1_EL1, intid);
    isb();
    handle(intid);
  }
}

void gic_on_spi(std::uint32_t intid, GicHandler handler, void* context) {
  if (is_spi(intid)) set_handler(intid, handler, context);
}

void gic_on_ppi(std::uint32_t intid, GicHandler handler, void* context) {
  if (intid >= kSgis && intid < kFirstSpi) set_handler(intid, handler, context);
}

void gic_on_ipi(Ipi ipi, GicHandler handler, void* context) {
  set_handler(static_cast<std::uint32_t>(ipi), handler, context);
}

bool gic_forward(std::uint32_t intid, GicForward forward, void* context) {
  if (!is_handled(intid) || intid < kSgis) return false;
  const SpinLock::Guard guard{config_lock};
  Handler& h = handlers[intid];
  if (forward == nullptr) {
    h.forward.store(nullptr, std::memory_order_release);
    return true;
  }
  if (h.forward.load(std::memory_order_relaxed) != nullptr || h.handler.load(std::memory_order_relaxed) != nullptr)
    return false;
  h.context.store(context, std::memory_order_relaxed);
  h.forward.store(forward, std::memory_order_release);
  return true;
}

void gic_configure_spi(std::uint32_t intid, bool edge) {
  if (!is_spi(intid)) return;
  const SpinLock::Guard guard{config_lock};
  // The trigger of an enabled interrupt must not be changed.
  const bool enabled = (gicd.read(Gicd::ISENABLER, intid / 32) & bit_of(intid)) != 0;
  if (enabled) gic_disable_spi(intid);
  const std::uint32_t edge_bit = std::uint32_t{2} << (2 * (intid % 16));
  const std::uint32_t word = gicd.read(Gicd::ICFGR, intid / 16);
  gicd.write(Gicd::ICFGR, edge ? word | edge_bit : word & ~edge_bit, intid / 16);
  if (enabled) gic_enable_spi(intid);
}

void gic_enable_spi(std::uint32_t intid) {
  if (is_spi(intid)) gic_set_enabled(intid, 0, true);
}
void gic_disable_spi(std::uint32_t intid) {
  if (is_spi(intid)) gic_set_enabled(intid, 0, false);
}

void gic_route_spi(std::uint32_t intid, unsigned pcpu_index) {
  if (is_spi(intid) && pcpu_index < pcpu_count()) gicd.write_long(Gicd::IROUTER, router(pcpu(pcpu_index).mpidr), intid);
}

void gic_enable_ppi(std::uint32_t intid) {
  if (intid < kFirstSpi) gic_set_enabled(intid, this_pcpu().index, true);
}
void gic_disable_ppi(std::uint32_t intid) {
  if (intid < kFirstSpi) gic_set_enabled(intid, this_pcpu().index, false);
}

void gic_send_ipi(unsigned pcpu_index, Ipi ipi) {
  using gic::Affinity;
  using gic::IccSgir;
  const Affinity to = affinity_of(pcpu(pcpu_index).mpidr);
  const auto aff0 = to.get<Affinity::Aff0>();
  const IccSgir value = IccSgir{}
                            .set<IccSgir::TargetList>(std::uint32_t{1} << (aff0 % 16))
                            .set<IccSgir::RS>(aff0 / 16)
                            .set<IccSgir::Aff1>(to.get<Affinity::Aff1>())
                            .set<IccSgir::Aff2>(to.get<Affinity::Aff2>())
                            .set<IccSgir::Aff3>(to.get<Affinity::Aff3>())
                            .set<IccSgir::INTID>(static_cast<std::uint32_t>(ipi));
  dsb_ishst();  // what the handler is to see
  WRITE_SYSREG_RECORD(ICC_SGI1R_EL1, value);
  isb();
}

[[gnu::noinline]] void gic_set_enabled(std::uint32_t intid, unsigned pcpu_index, bool enabled) {
  if (enabled) {
    write_bit(intid, pcpu_index, Gicd::ISENABLER, GicrSgi::ISENABLER0);
    return;
  }
  write_bit(intid, pcpu_index, Gicd::ICENABLER, GicrSgi::ICENABLER0);
  if (is_spi(intid)) {
    static_cast<void>(distributor_settled());
  } else if (const Redistributor* r = redistributor(pcpu_index)) {
    static_cast<void>(redistributor_settled(*r));
  }
}

[[gnu::noinline]] void gic_set_pending(std::uint32_t intid, unsigned pcpu_index, bool pending) {
  if (pending)
    write_bit(intid, pcpu_index, Gicd::ISPENDR, GicrSgi::ISPENDR0);
  else
    write_bit(intid, pcpu_index, Gicd::ICPENDR, GicrSgi::ICPENDR0);
}

[[gnu::noinline]] void gic_set_active(std::uint32_t intid, unsigned pcpu_index, bool active) {
  if (active)
    write_bit(intid, pcpu_index, Gicd::ISACTIVER, GicrSgi::ISACTIVER0);
  else
    write_bit(intid, pcpu_index, Gicd::ICACTIVER, GicrSgi::ICACTIVER0);
}

bool gic_is_pending(std::uint32_t intid, unsigned pcpu_index) {
  if (is_spi(intid)) return (gicd.read(Gicd::ISPENDR, intid / 32) & bit_of(intid)) != 0;
  const Redistributor* r = intid < kFirstSpi ? redistributor(pcpu_index) : nullptr;
  return r != nullptr && (r->sgi.read(GicrSgi::ISPENDR0) & bit_of(intid)) != 0;
}

}  // namespace weir
