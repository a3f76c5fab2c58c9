// Chapter 6: registers.
#include <array>

#include "tests/conformance/cases/cases.hpp"
#include "tests/conformance/driver.hpp"

namespace weir::conformance {
namespace {

using namespace smmu;

constexpr std::uint32_t kAllOnes = ~std::uint32_t{0};

std::uint32_t reset_value(Run& r, Reg reg) { return r.rig.at_reset(static_cast<std::uint32_t>(reg)); }

// A store of ones and then of zeros changes nothing.
void expect_read_only(Driver& d, Reg reg, std::string_view what) {
  const std::uint32_t before = d.read(reg);
  d.write(reg, kAllOnes);
  d.run.equal(d.read(reg), before, what);
  d.write(reg, 0);
  d.run.equal(d.read(reg), before, what);
}

// The writable fields of a 32-bit register keep what is stored; `mask` names them.
void expect_holds(Driver& d, Reg reg, std::uint32_t mask, std::string_view what) {
  d.write(reg, mask);
  d.run.equal(d.read(reg) & mask, mask, what);
  d.write(reg, 0);
  d.run.equal(d.read(reg) & mask, 0, what);
}
void expect_holds64(Driver& d, Reg reg, std::uint64_t value, std::string_view what) {
  d.write64(reg, value);
  d.run.equal(d.read64(reg), value, what);
  d.write64(reg, 0);
  d.run.equal(d.read64(reg), 0, what);
}
// Each half by itself.
void expect_halves(Driver& d, Reg reg, std::uint64_t value, std::string_view what) {
  const std::uint32_t low = Driver::offset(reg);
  const auto half = [](std::uint64_t v) { return v & kAllOnes; };
  d.write64(reg, 0);
  d.rig.write(low, 4, half(value));
  d.run.equal(d.read64(reg), half(value), what);
  d.rig.write(low + 4, 4, value >> 32);
  d.run.equal(d.read64(reg), value, what);
  d.run.equal(d.rig.read(low, 4), half(value), what);
  d.run.equal(d.rig.read(low + 4, 4), value >> 32, what);
  d.rig.write(low, 4, 0);
  d.run.equal(d.read64(reg), value >> 32 << 32, what);
  d.write64(reg, 0);
}
// A store while the guarding bit is 1 is ignored (SMMUv3.2 and later).
void expect_guarded(Driver& d, Reg reg, std::uint32_t value, std::string_view what) {
  const std::uint32_t before = d.read(reg);
  d.write(reg, before ^ value);
  d.run.equal(d.read(reg), before, what);
  d.write(reg, before);
}
void expect_guarded64(Driver& d, Reg reg, std::uint64_t value, std::string_view what) {
  const std::uint64_t before = d.read64(reg);
  d.write64(reg, before ^ value);
  d.run.equal(d.read64(reg), before, what);
  d.write64(reg, before);
}

// Bits of CR0 that this SMMU has.
std::uint32_t cr0_bits(Driver& d) {
  const auto idr0 = d.get<IDR0>(Reg::IDR0);
  std::uint32_t bits = CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask;
  if (idr0.get<IDR0::PRI>()) bits |= CR0::PRIQEN::mask;
  if (idr0.get<IDR0::ATS>()) bits |= CR0::ATSCHK::mask;
  if (idr0.get<IDR0::VMW>()) bits |= CR0::VMW::mask;
  return bits;
}
std::uint32_t irq_bits(Driver& d) {
  std::uint32_t bits = IRQ_CTRL::GERROR_IRQEN::mask | IRQ_CTRL::EVENTQ_IRQEN::mask;
  if (d.get<IDR0>(Reg::IDR0).get<IDR0::PRI>()) bits |= IRQ_CTRL::PRIQ_IRQEN::mask;
  return bits;
}

// An address of a table that fits into any OAS.
constexpr std::uint64_t kSomewhere = 0x2345'6000;

constexpr auto kCases = std::to_array<Case>({
    // --- Identification
    {"6.2", "id-read-only", "ID registers are read-only", {},
     [](Run& r) {
       Driver d{r};
       for (const Reg reg : {Reg::IDR0, Reg::IDR1, Reg::IDR2, Reg::IDR3, Reg::IDR4, Reg::IDR5, Reg::IIDR, Reg::AIDR})
         expect_read_only(d, reg, name_of(reg));
     }},
    {"6.3.1", "idr0-consistent", "IDR0's fields do not contradict each other", {},
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<IDR0>(Reg::IDR0);
       r.equal(v.words[0] & static_cast<std::uint32_t>(IDR0::Layout::res0[0]), 0, "RES0 of IDR0");
       r.expect(v.get<IDR0::S1P>() || v.get<IDR0::S2P>(), "neither S1P nor S2P");
       r.expect(v.get<IDR0::TTF>() != TtFormat::none, "IDR0.TTF is reserved");
       r.expect(static_cast<unsigned>(v.get<IDR0::TTENDIAN>()) != 0b01, "IDR0.TTENDIAN is reserved");
       r.expect(static_cast<unsigned>(v.get<IDR0::STALL_MODEL>()) != 0b11, "IDR0.STALL_MODEL is reserved");
       r.expect(static_cast<unsigned>(v.get<IDR0::ST_LEVEL>()) <= 0b01, "IDR0.ST_LEVEL is reserved");
       r.expect(!v.get<IDR0::Hyp>() || v.get<IDR0::S1P>(), "Hyp without stage 1");
       r.expect(!v.get<IDR0::VATOS>() || v.get<IDR0::ATOS>(), "VATOS without ATOS");
       r.expect(!v.get<IDR0::PRI>() || v.get<IDR0::ATS>(), "PRI without ATS");
       r.expect(!v.get<IDR0::NS1ATS>() || (v.get<IDR0::ATS>() && v.get<IDR0::S1P>() && v.get<IDR0::S2P>()),
                "NS1ATS without ATS or two stages");
       r.expect(!v.get<IDR0::ATSRECERR>() || v.get<IDR0::ATS>(), "ATSRECERR without ATS");
     }},
    {"6.3.1", "cd2l-needs-substreams", "IDR0.CD2L is 0 where there are no substreams", Need::no_substreams,
     [](Run& r) {
       Driver d{r};
       r.expect(!d.get<IDR0>(Reg::IDR0).get<IDR0::CD2L>(), "IDR0.CD2L with IDR1.SSIDSIZE == 0");
     }},
    {"3.3.1", "two-level-for-large", "More than 64 StreamIDs: two-level stream tables are supported", Need::sid6,
     [](Run& r) {
       Driver d{r};
       r.expect(d.get<IDR0>(Reg::IDR0).get<IDR0::ST_LEVEL>() == StLevel::two_level, "IDR0.ST_LEVEL is 0");
     }},
    {"6.3.1", "hyp-of-3-2", "SMMUv3.2 with two stages has Hyp", Need::version2 | Need::s2p,
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<IDR0>(Reg::IDR0);
       r.expect(!v.get<IDR0::S1P>() || v.get<IDR0::Hyp>(), "IDR0.Hyp is 0");
     }},
    {"6.3.2", "idr1-ranges", "IDR1's sizes are within the architecture's limits", {},
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<IDR1>(Reg::IDR1);
       r.expect(v.get<IDR1::SIDSIZE>() <= 32, "IDR1.SIDSIZE > 32");
       r.expect(v.get<IDR1::SSIDSIZE>() <= 20, "IDR1.SSIDSIZE > 20");
       r.expect(v.get<IDR1::CMDQS>() <= 19, "IDR1.CMDQS > 19");
       r.expect(v.get<IDR1::EVENTQS>() <= 19, "IDR1.EVENTQS > 19");
       r.expect(v.get<IDR1::PRIQS>() <= 19, "IDR1.PRIQS > 19");
     }},
    {"6.3.2", "priqs-without-pri", "IDR1.PRIQS is 0 without PRI", Need::no_pri,
     [](Run& r) {
       Driver d{r};
       r.equal(d.get<IDR1>(Reg::IDR1).get<IDR1::PRIQS>(), 0, "IDR1.PRIQS");
     }},
    {"6.3.4", "idr3-consistent", "RIL from SMMUv3.2 on, HAD and XNX from SMMUv3.1 on", {},
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<IDR3>(Reg::IDR3);
       const auto idr0 = d.get<IDR0>(Reg::IDR0);
       const auto minor = d.get<AIDR>(Reg::AIDR).get<AIDR::ArchMinorRev>();
       r.equal(v.words[0] & static_cast<std::uint32_t>(IDR3::Layout::res0[0]), 0, "RES0 of IDR3");
       r.expect(v.get<IDR3::BBML>() != 3, "IDR3.BBML is reserved");
       r.expect(!v.get<IDR3::PBHA>() || v.get<IDR3::HAD>(), "PBHA without HAD");
       r.expect(minor < 1 || !idr0.get<IDR0::S1P>() || v.get<IDR3::HAD>(), "SMMUv3.1 without HAD");
       r.expect(minor < 1 || !idr0.get<IDR0::S2P>() || v.get<IDR3::XNX>(), "SMMUv3.1 without XNX");
       r.expect(minor < 2 || v.get<IDR3::RIL>(), "SMMUv3.2 without RIL");
     }},
    {"6.3.6", "idr5-consistent", "IDR5 has a granule, a defined OAS, and STALL_MAX as the stall model says", {},
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<IDR5>(Reg::IDR5);
       const auto stall = d.get<IDR0>(Reg::IDR0).get<IDR0::STALL_MODEL>();
       r.equal(v.words[0] & static_cast<std::uint32_t>(IDR5::Layout::res0[0]), 0, "RES0 of IDR5");
       r.expect(v.get<IDR5::GRAN4K>() || v.get<IDR5::GRAN16K>() || v.get<IDR5::GRAN64K>(), "no granule");
       r.expect(v.get<IDR5::OAS>() != AddressSize::bits56, "IDR5.OAS is reserved");
       r.equal(v.get<IDR5::STALL_MAX>() != 0, stall != StallModel::terminate_only, "IDR5.STALL_MAX > 0");
     }},
    {"6.3.8", "aidr", "AIDR names an SMMUv3", {},
     [](Run& r) {
       Driver d{r};
       const auto v = d.get<AIDR>(Reg::AIDR);
       r.equal(v.get<AIDR::ArchMajorRev>(), 0, "AIDR.ArchMajorRev");
       r.expect(v.get<AIDR::ArchMinorRev>() <= 4, "AIDR.ArchMinorRev");
     }},
    // --- Reset values
    {"6.3.9", "cr0-reset", "CR0 and CR0ACK are 0 out of reset", {},
     [](Run& r) {
       r.equal(reset_value(r, Reg::CR0), 0, "CR0");
       r.equal(reset_value(r, Reg::CR0ACK), 0, "CR0ACK");
     }},
    {"6.3.14", "gbpa-reset", "GBPA.Update is 0 out of reset, reserved bits too", {},
     [](Run& r) {
       const std::uint32_t v = reset_value(r, Reg::GBPA);
       r.equal(v & (GBPA::Update::mask | GBPA::Layout::res0[0]), 0, "GBPA.Update and RES0");
     }},
    {"6.3.16", "irq-ctrl-reset", "IRQ_CTRL and IRQ_CTRLACK are 0 out of reset", {},
     [](Run& r) {
       r.equal(reset_value(r, Reg::IRQ_CTRL), 0, "IRQ_CTRL");
       r.equal(reset_value(r, Reg::IRQ_CTRLACK), 0, "IRQ_CTRLACK");
     }},
    {"6.3.19", "gerror-reset", "No error is active out of reset: GERROR and GERRORN are 0", {},
     [](Run& r) {
       r.equal(reset_value(r, Reg::GERROR), 0, "GERROR");
       r.equal(reset_value(r, Reg::GERRORN), 0, "GERRORN");
     }},
    // --- CR0
    {"6.3.9", "cr0-ack", "Each bit of CR0 by itself is acknowledged, set and cleared", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false}) || !d.set_cr0(0)) return;
       const std::uint32_t bits = cr0_bits(d);
       for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
         if ((bits & bit & ~CR0::VMW::mask) == 0) continue;
         if (!d.set_cr0(bit) || !d.set_cr0(0)) return;
       }
       for (std::uint32_t bit = 1, all = 0; bit != 0; bit <<= 1) {
         if ((bits & bit & ~CR0::VMW::mask) == 0) continue;
         if (!d.set_cr0(all |= bit)) return;
       }
       d.set_cr0(0);
     }},
    {"6.3.9", "cr0-reads-back", "A stored value of CR0 is read at once", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t on = CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask;
       d.write(Reg::CR0, on);
       r.equal(d.read(Reg::CR0), on, "CR0");
       r.expect(d.soon([&] { return d.read(Reg::CR0ACK) == on; }), "CR0ACK");
     }},
    {"6.3.10", "cr0ack-read-only", "CR0ACK is read-only", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       expect_read_only(d, Reg::CR0ACK, "CR0ACK");
     }},
    {"6.3.9", "cr0ack-reserved", "Reserved bits of CR0 do not show in CR0ACK", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR0, static_cast<std::uint32_t>(CR0::Layout::res0[0]));
       d.rig.settle();
       r.equal(d.read(Reg::CR0ACK), 0, "CR0ACK");
       d.write(Reg::CR0, 0);
     }},
    {"6.2", "cr0-res0", "Reserved bits of CR0 read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR0, static_cast<std::uint32_t>(CR0::Layout::res0[0]));
       r.equal(d.read(Reg::CR0), 0, "CR0");
       d.write(Reg::CR0, 0);
     }},
    {"6.3.9", "atschk-without-ats", "CR0.ATSCHK is RES0 without ATS", Need::no_ats,
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR0, CR0::ATSCHK::mask);
       d.rig.settle();
       r.equal(d.read(Reg::CR0), 0, "CR0");
       r.equal(d.read(Reg::CR0ACK), 0, "CR0ACK");
       d.write(Reg::CR0, 0);
     }},
    {"6.3.9", "priqen-without-pri", "CR0.PRIQEN is RES0 without PRI", Need::no_pri,
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR0, CR0::PRIQEN::mask);
       d.rig.settle();
       r.equal(d.read(Reg::CR0), 0, "CR0");
       r.equal(d.read(Reg::CR0ACK), 0, "CR0ACK");
       d.write(Reg::CR0, 0);
     }},
    {"6.3.9", "priqen-ack-without-smmuen", "CR0ACK.PRIQEN follows CR0.PRIQEN whatever SMMUEN is", Need::pri,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.priq = true, .enable = false})) return;
       r.expect(d.field<CR0::PRIQEN>(Reg::CR0ACK), "CR0ACK.PRIQEN");
     }},
    {"6.3.9", "cr0-independent", "A change of one bit of CR0 leaves the others as they are", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       const std::uint32_t on = d.cr0();
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::EVENTQEN::mask)) || !d.set_cr0(on)) return;
       d.sync();
     }},
    {"6.3.9.3", "cmdqen-off", "No command is consumed while CMDQEN is 0; they are once it is 1", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t on = d.cr0();
       if (!d.set_cr0(on & ~static_cast<std::uint32_t>(CR0::CMDQEN::mask))) return;
       const std::uint32_t before = d.read(Reg::CMDQ_CONS);
       d.queue(cfgi_all());
       d.queue(sync_none());
       d.kick();
       d.rig.settle();
       r.equal(d.read(Reg::CMDQ_CONS), before, "CMDQ_CONS with CMDQEN == 0");
       if (!d.set_cr0(on)) return;
       r.expect(d.soon([&] { return d.consumed(); }), "commands are not consumed with CMDQEN == 1");
     }},
    {"6.3.9.4", "eventqen-off", "No event is recorded while EVENTQEN is 0, and no overflow", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.eventq = false})) return;
       if (!d.install(0, Ste{})) return;
       d.expect_aborts(0, kIova, "DMA of a stream with V == 0");
       d.sync();
       r.equal(d.read(Reg::EVENTQ_PROD), 0, "EVENTQ_PROD");
     }},
    // --- CR1, CR2
    {"6.3.11", "cr1-holds", "CR1 keeps what is stored", {},
     [](Run& r) {
       Driver d{r};
       CR1 v;
       v.set<CR1::TABLE_SH>(Shareability::inner).set<CR1::TABLE_OC>(QueueCacheability::write_back);
       v.set<CR1::TABLE_IC>(QueueCacheability::write_through).set<CR1::QUEUE_SH>(Shareability::outer);
       v.set<CR1::QUEUE_OC>(QueueCacheability::write_through).set<CR1::QUEUE_IC>(QueueCacheability::write_back);
       d.write(Reg::CR1, v.words[0]);
       r.equal(d.read(Reg::CR1), v.words[0], "CR1");
       d.write(Reg::CR1, 0);
       r.equal(d.read(Reg::CR1), 0, "CR1");
     }},
    {"6.2", "cr1-res0", "Reserved bits of CR1 read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR1, static_cast<std::uint32_t>(CR1::Layout::res0[0]));
       r.equal(d.read(Reg::CR1), 0, "CR1");
       d.write(Reg::CR1, 0);
     }},
    {"6.3.11.1", "cr1-table-guarded", "CR1.TABLE_* are read-only while SMMUEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       expect_guarded(d, Reg::CR1, CR1::TABLE_IC::mask | CR1::TABLE_OC::mask, "CR1.TABLE_*");
     }},
    {"6.3.11.2", "cr1-queue-guarded", "CR1.QUEUE_* are read-only while a queue is enabled", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       expect_guarded(d, Reg::CR1, CR1::QUEUE_IC::mask | CR1::QUEUE_OC::mask, "CR1.QUEUE_*");
     }},
    {"6.3.12", "cr2-holds", "CR2.RECINVSID and PTM keep what is stored", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR2, CR2::RECINVSID::mask);
       r.equal(d.read(Reg::CR2) & CR2::RECINVSID::mask, CR2::RECINVSID::mask, "CR2.RECINVSID");
       d.write(Reg::CR2, 0);
       r.equal(d.read(Reg::CR2) & CR2::RECINVSID::mask, 0, "CR2.RECINVSID");
     }},
    {"6.2", "cr2-res0", "Reserved bits of CR2 read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR2, static_cast<std::uint32_t>(CR2::Layout::res0[0]));
       r.equal(d.read(Reg::CR2) & CR2::Layout::res0[0], 0, "CR2");
       d.write(Reg::CR2, 0);
     }},
    {"6.3.12", "e2h-without-hyp", "CR2.E2H is RES0 without Hyp", Need::no_hyp,
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CR2, CR2::E2H::mask);
       r.equal(d.read(Reg::CR2) & CR2::E2H::mask, 0, "CR2.E2H");
       d.write(Reg::CR2, 0);
     }},
    {"6.3.12", "cr2-guarded", "CR2 is read-only while SMMUEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       expect_guarded(d, Reg::CR2, CR2::RECINVSID::mask, "CR2");
     }},
    {"6.3.13", "statusr", "STATUSR is read-only, its reserved bits zero", {},
     [](Run& r) {
       Driver d{r};
       r.equal(d.read(Reg::STATUSR) & STATUSR::Layout::res0[0], 0, "RES0 of STATUSR");
       if (!d.get<IDR0>(Reg::IDR0).get<IDR0::DORMHINT>()) {
         r.equal(d.read(Reg::STATUSR), 0, "STATUSR without DORMHINT");
         expect_read_only(d, Reg::STATUSR, "STATUSR");
       }
     }},
    // --- GBPA
    {"6.3.14.1", "gbpa-update", "A store to GBPA with Update takes effect, and Update clears", {},
     [](Run& r) {
       Driver d{r};
       if (d.set_gbpa(true)) d.set_gbpa(false);
     }},
    {"6.3.14", "gbpa-value-at-once", "The value stored to GBPA is read even before the update completes", {},
     [](Run& r) {
       Driver d{r};
       const std::uint32_t v = d.read(Reg::GBPA) | static_cast<std::uint32_t>(GBPA::ABORT::mask);
       d.write(Reg::GBPA, v | static_cast<std::uint32_t>(GBPA::Update::mask));
       r.expect(d.field<GBPA::ABORT>(Reg::GBPA), "GBPA.ABORT");
       r.expect(d.soon([&] { return !d.field<GBPA::Update>(Reg::GBPA); }), "GBPA.Update stays 1");
       d.set_gbpa(false);
     }},
    {"6.3.14.1", "gbpa-without-update", "A store to GBPA without Update is ignored", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.set_gbpa(false)) return;
       d.write(Reg::GBPA, d.read(Reg::GBPA) | static_cast<std::uint32_t>(GBPA::ABORT::mask));
       d.rig.settle();
       r.expect(!d.field<GBPA::ABORT>(Reg::GBPA), "GBPA.ABORT");
     }},
    {"6.2", "gbpa-res0", "Reserved bits of GBPA read as zero", {},
     [](Run& r) {
       Driver d{r};
       const std::uint32_t v = d.read(Reg::GBPA);
       d.write(Reg::GBPA, v | static_cast<std::uint32_t>(GBPA::Layout::res0[0] | GBPA::Update::mask));
       r.expect(d.soon([&] { return !d.field<GBPA::Update>(Reg::GBPA); }), "GBPA.Update stays 1");
       r.equal(d.read(Reg::GBPA) & GBPA::Layout::res0[0], 0, "RES0 of GBPA");
       d.write(Reg::GBPA, v | static_cast<std::uint32_t>(GBPA::Update::mask));
       r.expect(d.soon([&] { return !d.field<GBPA::Update>(Reg::GBPA); }), "GBPA.Update stays 1");
     }},
    // --- Interrupt control
    {"6.3.16", "irq-ctrl-ack", "Each bit of IRQ_CTRL by itself is acknowledged", {},
     [](Run& r) {
       Driver d{r};
       const std::uint32_t bits = irq_bits(d);
       for (std::uint32_t bit = 1; bit <= bits; bit <<= 1) {
         if ((bits & bit) == 0) continue;
         if (!d.set_irqs(bit) || !d.set_irqs(0)) return;
       }
       if (d.set_irqs(bits)) d.set_irqs(0);
     }},
    {"6.3.18", "irq-ctrlack-read-only", "IRQ_CTRLACK is read-only", {},
     [](Run& r) {
       Driver d{r};
       expect_read_only(d, Reg::IRQ_CTRLACK, "IRQ_CTRLACK");
     }},
    {"6.3.18", "irq-ctrlack-reserved", "Reserved bits of IRQ_CTRL do not show in IRQ_CTRLACK", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::IRQ_CTRL, static_cast<std::uint32_t>(IRQ_CTRL::Layout::res0[0]));
       d.rig.settle();
       r.equal(d.read(Reg::IRQ_CTRLACK), 0, "IRQ_CTRLACK");
       d.write(Reg::IRQ_CTRL, 0);
     }},
    {"6.2", "irq-ctrl-res0", "Reserved bits of IRQ_CTRL read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::IRQ_CTRL, static_cast<std::uint32_t>(IRQ_CTRL::Layout::res0[0]));
       r.equal(d.read(Reg::IRQ_CTRL), 0, "IRQ_CTRL");
       d.write(Reg::IRQ_CTRL, 0);
     }},
    {"6.3.16", "priq-irqen-without-pri", "IRQ_CTRL.PRIQ_IRQEN is RES0 without PRI", Need::no_pri,
     [](Run& r) {
       Driver d{r};
       d.write(Reg::IRQ_CTRL, IRQ_CTRL::PRIQ_IRQEN::mask);
       d.rig.settle();
       r.equal(d.read(Reg::IRQ_CTRL), 0, "IRQ_CTRL");
       r.equal(d.read(Reg::IRQ_CTRLACK), 0, "IRQ_CTRLACK");
       d.write(Reg::IRQ_CTRL, 0);
     }},
    {"6.3.19", "gerror-read-only", "GERROR is read-only", {},
     [](Run& r) {
       Driver d{r};
       expect_read_only(d, Reg::GERROR, "GERROR");
     }},
    {"6.3.20", "gerrorn-kept", "The SMMU does not change GERRORN", {},
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       const std::uint32_t before = d.read(Reg::GERRORN);
       d.queue(Command{});
       d.kick();
       r.expect(d.soon([&] { return d.command_error(); }), "no error of a reserved opcode");
       r.equal(d.read(Reg::GERRORN), before, "GERRORN");
       const std::uint32_t error = d.read(Reg::GERROR);
       d.acknowledge_errors();
       r.equal(d.read(Reg::GERRORN), error, "GERRORN after the acknowledge");
     }},
    // --- MSI configuration
    {"6.3.21", "irq-cfg-without-msi", "GERROR_ and EVENTQ_IRQ_CFG0..2 are RES0 without MSI", Need::no_msi,
     [](Run& r) {
       Driver d{r};
       for (const Reg reg : {Reg::GERROR_IRQ_CFG0, Reg::EVENTQ_IRQ_CFG0}) {
         d.write64(reg, kSomewhere);
         r.equal(d.read64(reg), 0, name_of(reg));
         d.write64(reg, 0);
       }
       for (const Reg reg : {Reg::GERROR_IRQ_CFG1, Reg::GERROR_IRQ_CFG2, Reg::EVENTQ_IRQ_CFG1, Reg::EVENTQ_IRQ_CFG2}) {
         d.write(reg, 0x35);
         r.equal(d.read(reg), 0, name_of(reg));
         d.write(reg, 0);
       }
     }},
    {"6.3.21", "gerror-irq-cfg", "GERROR_IRQ_CFG0..2 keep what is stored", Need::msi,
     [](Run& r) {
       Driver d{r};
       expect_holds64(d, Reg::GERROR_IRQ_CFG0, kSomewhere, "GERROR_IRQ_CFG0");
       expect_halves(d, Reg::GERROR_IRQ_CFG0, kSomewhere, "half of GERROR_IRQ_CFG0");
       expect_holds(d, Reg::GERROR_IRQ_CFG1, kAllOnes, "GERROR_IRQ_CFG1");
       expect_holds(d, Reg::GERROR_IRQ_CFG2, IRQ_CFG2::SH::mask | IRQ_CFG2::MemAttr::mask, "GERROR_IRQ_CFG2");
     }},
    {"6.3.30", "eventq-irq-cfg", "EVENTQ_IRQ_CFG0..2 keep what is stored", Need::msi,
     [](Run& r) {
       Driver d{r};
       expect_holds64(d, Reg::EVENTQ_IRQ_CFG0, kSomewhere, "EVENTQ_IRQ_CFG0");
       expect_halves(d, Reg::EVENTQ_IRQ_CFG0, kSomewhere, "half of EVENTQ_IRQ_CFG0");
       expect_holds(d, Reg::EVENTQ_IRQ_CFG1, kAllOnes, "EVENTQ_IRQ_CFG1");
       expect_holds(d, Reg::EVENTQ_IRQ_CFG2, IRQ_CFG2::SH::mask | IRQ_CFG2::MemAttr::mask, "EVENTQ_IRQ_CFG2");
     }},
    {"6.3.34", "priq-irq-cfg", "PRIQ_IRQ_CFG0..2 keep what is stored", Need::msi | Need::pri,
     [](Run& r) {
       Driver d{r};
       expect_holds64(d, Reg::PRIQ_IRQ_CFG0, kSomewhere, "PRIQ_IRQ_CFG0");
       expect_holds(d, Reg::PRIQ_IRQ_CFG1, kAllOnes, "PRIQ_IRQ_CFG1");
       expect_holds(d, Reg::PRIQ_IRQ_CFG2,
                    static_cast<std::uint32_t>(PRIQ_IRQ_CFG2::LO::mask | PRIQ_IRQ_CFG2::SH::mask |
                                               PRIQ_IRQ_CFG2::MemAttr::mask),
                    "PRIQ_IRQ_CFG2");
     }},
    {"6.3.36", "priq-lo-without-msi", "PRIQ_IRQ_CFG2.LO is kept without MSIs, too", Need::pri | Need::no_msi,
     [](Run& r) {
       Driver d{r};
       expect_holds(d, Reg::PRIQ_IRQ_CFG2, PRIQ_IRQ_CFG2::LO::mask, "PRIQ_IRQ_CFG2.LO");
     }},
    {"6.3.21", "irq-cfg-res0", "Reserved bits of IRQ_CFG0 and IRQ_CFG2 read as zero", Need::msi,
     [](Run& r) {
       Driver d{r};
       for (const Reg reg : {Reg::GERROR_IRQ_CFG0, Reg::EVENTQ_IRQ_CFG0}) {
         d.write64(reg, IRQ_CFG0::Layout::res0[0]);
         r.equal(d.read64(reg), 0, name_of(reg));
         d.write64(reg, 0);
       }
       for (const Reg reg : {Reg::GERROR_IRQ_CFG2, Reg::EVENTQ_IRQ_CFG2}) {
         d.write(reg, static_cast<std::uint32_t>(IRQ_CFG2::Layout::res0[0]));
         r.equal(d.read(reg), 0, name_of(reg));
         d.write(reg, 0);
       }
     }},
    {"6.3.21", "gerror-irq-cfg-guarded", "GERROR_IRQ_CFG0..2 are read-only while GERROR_IRQEN is 1",
     Need::msi | Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.set_irqs(IRQ_CTRL::GERROR_IRQEN::mask)) return;
       expect_guarded64(d, Reg::GERROR_IRQ_CFG0, kSomewhere, "GERROR_IRQ_CFG0");
       expect_guarded(d, Reg::GERROR_IRQ_CFG1, 0x55, "GERROR_IRQ_CFG1");
       expect_guarded(d, Reg::GERROR_IRQ_CFG2, IRQ_CFG2::SH::mask, "GERROR_IRQ_CFG2");
       d.set_irqs(0);
     }},
    {"6.3.30", "eventq-irq-cfg-guarded", "EVENTQ_IRQ_CFG0..2 are read-only while EVENTQ_IRQEN is 1",
     Need::msi | Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.set_irqs(IRQ_CTRL::EVENTQ_IRQEN::mask)) return;
       expect_guarded64(d, Reg::EVENTQ_IRQ_CFG0, kSomewhere, "EVENTQ_IRQ_CFG0");
       expect_guarded(d, Reg::EVENTQ_IRQ_CFG1, 0x55, "EVENTQ_IRQ_CFG1");
       expect_guarded(d, Reg::EVENTQ_IRQ_CFG2, IRQ_CFG2::SH::mask, "EVENTQ_IRQ_CFG2");
       d.set_irqs(0);
     }},
    // --- Stream table
    {"6.3.24", "strtab-base", "STRTAB_BASE keeps address and hint; both halves by themselves, too", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t v = STRTAB_BASE{}.set<STRTAB_BASE::ADDR>(0x3'4567'8000).set<STRTAB_BASE::RA>(true).words[0];
       expect_holds64(d, Reg::STRTAB_BASE, v, "STRTAB_BASE");
       expect_halves(d, Reg::STRTAB_BASE, v, "half of STRTAB_BASE");
     }},
    {"6.2", "strtab-base-res0", "Reserved bits of STRTAB_BASE read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::STRTAB_BASE, STRTAB_BASE::Layout::res0[0]);
       r.equal(d.read64(Reg::STRTAB_BASE), 0, "STRTAB_BASE");
       d.write64(Reg::STRTAB_BASE, 0);
     }},
    {"6.3.24", "strtab-base-guarded", "STRTAB_BASE is read-only while SMMUEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       expect_guarded64(d, Reg::STRTAB_BASE, 0x10'0000, "STRTAB_BASE");
     }},
    {"6.3.25", "strtab-base-cfg", "STRTAB_BASE_CFG.LOG2SIZE keeps what is stored", {},
     [](Run& r) {
       Driver d{r};
       expect_holds(d, Reg::STRTAB_BASE_CFG, STRTAB_BASE_CFG::LOG2SIZE::mask, "STRTAB_BASE_CFG");
     }},
    {"6.2", "strtab-base-cfg-res0", "Reserved bits of STRTAB_BASE_CFG read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::STRTAB_BASE_CFG, static_cast<std::uint32_t>(STRTAB_BASE_CFG::Layout::res0[0]));
       r.equal(d.read(Reg::STRTAB_BASE_CFG), 0, "STRTAB_BASE_CFG");
       d.write(Reg::STRTAB_BASE_CFG, 0);
     }},
    {"6.3.25", "fmt-without-two-level", "STRTAB_BASE_CFG.FMT and SPLIT are RES0 without two-level tables",
     Need::no_two_level,
     [](Run& r) {
       Driver d{r};
       d.write(Reg::STRTAB_BASE_CFG,
               static_cast<std::uint32_t>(STRTAB_BASE_CFG::FMT::mask | STRTAB_BASE_CFG::SPLIT::mask));
       r.equal(d.read(Reg::STRTAB_BASE_CFG), 0, "STRTAB_BASE_CFG");
       d.write(Reg::STRTAB_BASE_CFG, 0);
     }},
    {"6.3.25", "strtab-base-cfg-guarded", "STRTAB_BASE_CFG is read-only while SMMUEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start()) return;
       expect_guarded(d, Reg::STRTAB_BASE_CFG, 3, "STRTAB_BASE_CFG");
     }},
    // --- Command queue
    {"6.3.26", "cmdq-base", "CMDQ_BASE keeps address, hint and size; both halves by themselves, too", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t v = CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(0x3'4567'8000).set<CMDQ_BASE::RA>(true)
                                   .set<CMDQ_BASE::LOG2SIZE>(4).words[0];
       expect_holds64(d, Reg::CMDQ_BASE, v, "CMDQ_BASE");
       expect_halves(d, Reg::CMDQ_BASE, v, "half of CMDQ_BASE");
     }},
    {"6.2", "cmdq-base-res0", "Reserved bits of CMDQ_BASE read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::CMDQ_BASE, CMDQ_BASE::Layout::res0[0]);
       r.equal(d.read64(Reg::CMDQ_BASE), 0, "CMDQ_BASE");
       d.write64(Reg::CMDQ_BASE, 0);
     }},
    {"6.3.26", "cmdq-base-guarded", "CMDQ_BASE is read-only while CMDQEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       expect_guarded64(d, Reg::CMDQ_BASE, 0x10'0000, "CMDQ_BASE");
       d.sync();
     }},
    {"6.3.26", "cmdq-size-capped", "CMDQ_BASE.LOG2SIZE reads back as stored and is capped at IDR1.CMDQS", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t v = CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(kSomewhere).set<CMDQ_BASE::LOG2SIZE>(31).words[0];
       d.write64(Reg::CMDQ_BASE, v);
       r.equal(d.read64(Reg::CMDQ_BASE), v, "CMDQ_BASE");
       d.write64(Reg::CMDQ_BASE, 0);
     }},
    {"6.3.27", "cmdq-prod", "CMDQ_PROD keeps what is stored", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::CMDQ_BASE, CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(kSomewhere).set<CMDQ_BASE::LOG2SIZE>(5).words[0]);
       expect_holds(d, Reg::CMDQ_PROD, 0x3f, "CMDQ_PROD");
     }},
    {"6.3.28", "cmdq-cons-writable", "CMDQ_CONS.RD can be stored while CMDQEN is 0", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::CMDQ_BASE, CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(kSomewhere).set<CMDQ_BASE::LOG2SIZE>(5).words[0]);
       expect_holds(d, Reg::CMDQ_CONS, 0x3f, "CMDQ_CONS");
     }},
    {"6.3.28", "cmdq-cons-guarded", "CMDQ_CONS is read-only while CMDQEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       expect_guarded(d, Reg::CMDQ_CONS, 1, "CMDQ_CONS");
       d.sync();
     }},
    {"6.2", "cmdq-index-res0", "Bits above the index of CMDQ_PROD and CMDQ_CONS read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::CMDQ_PROD, static_cast<std::uint32_t>(CMDQ_PROD::Layout::res0[0]));
       r.equal(d.read(Reg::CMDQ_PROD) & CMDQ_PROD::Layout::res0[0], 0, "CMDQ_PROD");
       d.write(Reg::CMDQ_CONS, static_cast<std::uint32_t>(CMDQ_CONS::Layout::res0[0]));
       r.equal(d.read(Reg::CMDQ_CONS) & CMDQ_CONS::Layout::res0[0], 0, "CMDQ_CONS");
       d.write(Reg::CMDQ_PROD, 0);
       d.write(Reg::CMDQ_CONS, 0);
     }},
    // --- Event queue
    {"6.3.29", "eventq-base", "EVENTQ_BASE keeps address, hint and size; both halves by themselves, too", {},
     [](Run& r) {
       Driver d{r};
       const std::uint64_t v = EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(0x3'4567'8000).set<EVENTQ_BASE::WA>(true)
                                   .set<EVENTQ_BASE::LOG2SIZE>(4).words[0];
       expect_holds64(d, Reg::EVENTQ_BASE, v, "EVENTQ_BASE");
       expect_halves(d, Reg::EVENTQ_BASE, v, "half of EVENTQ_BASE");
     }},
    {"6.2", "eventq-base-res0", "Reserved bits of EVENTQ_BASE read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::EVENTQ_BASE, EVENTQ_BASE::Layout::res0[0]);
       r.equal(d.read64(Reg::EVENTQ_BASE), 0, "EVENTQ_BASE");
       d.write64(Reg::EVENTQ_BASE, 0);
     }},
    {"6.3.29", "eventq-base-guarded", "EVENTQ_BASE is read-only while EVENTQEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       expect_guarded64(d, Reg::EVENTQ_BASE, 0x10'0000, "EVENTQ_BASE");
     }},
    {"6.3.95", "eventq-prod-writable", "EVENTQ_PROD can be stored while EVENTQEN is 0", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::EVENTQ_BASE,
                 EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(kSomewhere).set<EVENTQ_BASE::LOG2SIZE>(5).words[0]);
       expect_holds(d, Reg::EVENTQ_PROD, 0x3f, "EVENTQ_PROD");
     }},
    {"6.3.95", "eventq-prod-guarded", "EVENTQ_PROD is read-only while EVENTQEN is 1", Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.enable = false})) return;
       expect_guarded(d, Reg::EVENTQ_PROD, 1, "EVENTQ_PROD");
     }},
    {"6.3.96", "eventq-cons", "EVENTQ_CONS keeps index and OVACKFLG", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::EVENTQ_BASE,
                 EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(kSomewhere).set<EVENTQ_BASE::LOG2SIZE>(5).words[0]);
       expect_holds(d, Reg::EVENTQ_CONS, 0x8000'003f, "EVENTQ_CONS");
     }},
    {"6.2", "eventq-index-res0", "Bits above the index of EVENTQ_PROD and EVENTQ_CONS read as zero", {},
     [](Run& r) {
       Driver d{r};
       d.write(Reg::EVENTQ_PROD, static_cast<std::uint32_t>(EVENTQ_PROD::Layout::res0[0]));
       r.equal(d.read(Reg::EVENTQ_PROD) & EVENTQ_PROD::Layout::res0[0], 0, "EVENTQ_PROD");
       d.write(Reg::EVENTQ_CONS, static_cast<std::uint32_t>(EVENTQ_CONS::Layout::res0[0]));
       r.equal(d.read(Reg::EVENTQ_CONS) & EVENTQ_CONS::Layout::res0[0], 0, "EVENTQ_CONS");
       d.write(Reg::EVENTQ_PROD, 0);
       d.write(Reg::EVENTQ_CONS, 0);
     }},
    // --- PRI queue
    {"6.3.33", "priq-base", "PRIQ_BASE keeps address, hint and size; both halves by themselves, too", Need::pri,
     [](Run& r) {
       Driver d{r};
       const std::uint64_t v = PRIQ_BASE{}.set<PRIQ_BASE::ADDR>(0x3'4567'8000).set<PRIQ_BASE::WA>(true)
                                   .set<PRIQ_BASE::LOG2SIZE>(4).words[0];
       expect_holds64(d, Reg::PRIQ_BASE, v, "PRIQ_BASE");
       expect_halves(d, Reg::PRIQ_BASE, v, "half of PRIQ_BASE");
     }},
    {"6.3.33", "priq-base-guarded", "PRIQ_BASE is read-only while PRIQEN is 1", Need::pri | Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.priq = true, .enable = false})) return;
       expect_guarded64(d, Reg::PRIQ_BASE, 0x10'0000, "PRIQ_BASE");
     }},
    {"6.3.97", "priq-prod-guarded", "PRIQ_PROD is read-only while PRIQEN is 1", Need::pri | Need::version2,
     [](Run& r) {
       Driver d{r};
       if (!d.start({.priq = true, .enable = false})) return;
       expect_guarded(d, Reg::PRIQ_PROD, 1, "PRIQ_PROD");
     }},
    {"6.3.98", "priq-cons", "PRIQ_CONS keeps index and OVACKFLG", Need::pri,
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::PRIQ_BASE, PRIQ_BASE{}.set<PRIQ_BASE::ADDR>(kSomewhere).set<PRIQ_BASE::LOG2SIZE>(4).words[0]);
       expect_holds(d, Reg::PRIQ_CONS, 0x8000'001f, "PRIQ_CONS");
     }},
    {"6.3.33", "priq-without-pri", "PRIQ registers are RES0 without PRI", Need::no_pri,
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::PRIQ_BASE, kSomewhere);
       r.equal(d.read64(Reg::PRIQ_BASE), 0, "PRIQ_BASE");
       d.write64(Reg::PRIQ_IRQ_CFG0, kSomewhere);
       r.equal(d.read64(Reg::PRIQ_IRQ_CFG0), 0, "PRIQ_IRQ_CFG0");
       for (const Reg reg : {Reg::PRIQ_IRQ_CFG1, Reg::PRIQ_IRQ_CFG2, Reg::PRIQ_PROD, Reg::PRIQ_CONS}) {
         d.write(reg, 1);
         r.equal(d.read(reg), 0, name_of(reg));
       }
     }},
    // --- What is not there
    {"6.2", "atos-without-atos", "GATOS_* are RES0 without ATOS", {},
     [](Run& r) {
       Driver d{r};
       if (d.get<IDR0>(Reg::IDR0).get<IDR0::ATOS>()) return r.skip("IDR0.ATOS == 0");
       d.write(Reg::GATOS_CTRL, 1);
       r.equal(d.read(Reg::GATOS_CTRL), 0, "GATOS_CTRL");
       for (const Reg reg : {Reg::GATOS_SID, Reg::GATOS_ADDR, Reg::GATOS_PAR}) {
         d.write64(reg, 0x1000);
         r.equal(d.read64(reg), 0, name_of(reg));
       }
     }},
    {"6.2", "undefined-page0", "Undefined locations of page 0 are RAZ/WI", {},
     [](Run& r) {
       Driver d{r};
       for (const std::uint32_t offset : {0x38u, 0x3cu, 0x4cu, 0x58u, 0x5cu, 0x78u, 0x7cu, 0x8cu, 0xe0u, 0x3f0u,
                                          0x500u, 0x7fcu, 0xc00u, 0xdf8u}) {
         r.equal(d.rig.read(offset, 4), 0, "an undefined location");
         d.rig.write(offset, 4, kAllOnes);
         r.equal(d.rig.read(offset, 4), 0, "an undefined location after a store");
       }
     }},
    {"6.2", "s-registers", "SMMU_S_* are RES0 for Non-secure accesses", {},
     [](Run& r) {
       Driver d{r};
       for (std::uint32_t offset = 0x8000; offset < 0x8100; offset += 4) {
         r.equal(d.rig.read(offset, 4), 0, "SMMU_S_*");
         d.rig.write(offset, 4, kAllOnes);
         r.equal(d.rig.read(offset, 4), 0, "SMMU_S_* after a store");
       }
     }},
    {"6.2", "page1-beyond", "A location of page 1 without a register is RES0 or that of page 0", {},
     [](Run& r) {
       Driver d{r};
       const std::uint32_t idr1 = d.read(Reg::IDR1);
       const auto seen = d.rig.read(kPage1 + Driver::offset(Reg::IDR1), 4);
       r.expect(seen == 0 || seen == idr1, "page 1 at IDR1's offset");
     }},
    {"6.2", "queue-indices-of-page0", "Page 0 at the event queue's indices is RAZ/WI or page 1", {},
     [](Run& r) {
       Driver d{r};
       d.write64(Reg::EVENTQ_BASE,
                 EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(kSomewhere).set<EVENTQ_BASE::LOG2SIZE>(5).words[0]);
       d.write(Reg::EVENTQ_CONS, 3);
       const auto seen = d.rig.read(Driver::offset(Reg::EVENTQ_CONS) - kPage1, 4);
       r.expect(seen == 0 || seen == 3, "page 0 at EVENTQ_CONS's offset");
       d.write(Reg::EVENTQ_CONS, 0);
     }},
});

}  // namespace

std::span<const Case> register_cases() { return kCases; }

}  // namespace weir::conformance
