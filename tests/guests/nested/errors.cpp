// Illegal commands and the way out of them; interrupts.
#include <array>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/nested/fixture.hpp"

namespace weir::guest {
namespace {

using smmu::Reg;

smmu::Command raw(std::uint64_t w0, std::uint64_t w1) {
  smmu::Command c;
  c.words = {w0, w1};
  return c;
}

// Waits up to a second.
template <typename Fn>
bool soon(Fn&& done) {
  const std::uint64_t until = now_us() + 1'000'000;
  while (!done())
    if (now_us() > until) return false;
  return true;
}

void check_illegal(Smmu& smmu, const smmu::Command& bad, std::uint64_t opcode) {
  const std::uint32_t before = smmu.read(Reg::GERROR);
  expect_equal(before, smmu.read(Reg::GERRORN), "an error was active already");
  const std::uint32_t at = smmu.prod();
  smmu.push(bad);
  smmu.push(smmu::tlbi_nsnh_all());
  smmu.push(smmu::sync_none());
  smmu.submit();
  expect(!smmu.wait_consumed(), "an illegal command was consumed", opcode);
  smmu::CMDQ_CONS cons;
  cons.words[0] = smmu.read(Reg::CMDQ_CONS);
  expect_equal(static_cast<std::uint64_t>(cons.get<smmu::CMDQ_CONS::ERR>()),
               static_cast<std::uint64_t>(smmu::CmdqError::CERROR_ILL), "CMDQ_CONS.ERR");
  expect_equal(cons.get<smmu::CMDQ_CONS::RD>(), at, "CMDQ_CONS.RD");
  expect_equal(smmu.read(Reg::GERROR) ^ before, smmu::GERROR::CMDQ_ERR::mask, "GERROR");
  expect_equal(smmu.drop_events(), 0, "events of an illegal command");
  // Nothing is consumed until the error is acknowledged, not even what is legal.
  auto* slot = reinterpret_cast<volatile std::uint64_t*>(smmu.slot(at));
  slot[0] = smmu::sync_none().words[0];
  slot[1] = 0;
  smmu.submit();
  cons.words[0] = smmu.read(Reg::CMDQ_CONS);
  expect_equal(cons.get<smmu::CMDQ_CONS::RD>(), at, "CMDQ_CONS.RD before the acknowledge");
  smmu.write(Reg::GERRORN, smmu.read(Reg::GERROR));
  if (!smmu.wait_consumed()) {
    smmu.submit();  // an SMMU may wait for a store to PROD
    expect(smmu.wait_consumed(), "the queue does not go on", opcode);
  }
}

}  // namespace

// What a vSMMU never offers, and what this one may offer less of.
void check_identity() {
  check("identity");
  Fixture& f = fixture();
  if (!f.nested) return;
  for (unsigned s = 0; s < f.smmu_count; ++s) {
    using smmu::IDR0;
    IDR0 idr0;
    idr0.words[0] = f.smmus[s].read(Reg::IDR0);
    expect(idr0.get<IDR0::S1P>() && idr0.get<IDR0::COHACC>() && idr0.get<IDR0::TTF>() == smmu::TtFormat::aarch64,
           "IDR0: not what this machine has", idr0.words[0]);
    expect(!idr0.get<IDR0::S2P>() && !idr0.get<IDR0::Hyp>() && !idr0.get<IDR0::VMID16>() && !idr0.get<IDR0::BTM>() &&
               !idr0.get<IDR0::VATOS>() && !idr0.get<IDR0::ATS>() && !idr0.get<IDR0::PRI>(),
           "IDR0: more than a vSMMU offers", idr0.words[0]);
    smmu::IDR1 idr1;
    idr1.words[0] = f.smmus[s].read(Reg::IDR1);
    expect(!idr1.get<smmu::IDR1::ECMDQ>() && idr1.get<smmu::IDR1::SIDSIZE>() >= 8 && idr1.get<smmu::IDR1::CMDQS>() >= 8,
           "IDR1", idr1.words[0]);
    const bool narrowed = s == 0 && machine().has_option("narrowed");
    expect_equal(idr0.get<IDR0::ASID16>(), !narrowed, "IDR0.ASID16");
    expect_equal(idr0.get<IDR0::ST_LEVEL>() == smmu::StLevel::two_level, !narrowed, "IDR0.ST_LEVEL");
    expect_equal(f.smmus[s].ranges(), !narrowed, "IDR3.RIL");
    expect_equal(idr0.get<IDR0::MSI>(), !narrowed, "IDR0.MSI");
    expect_equal(idr0.get<IDR0::SEV>(), !narrowed, "IDR0.SEV");
    if (narrowed) {
      expect_equal(idr1.get<smmu::IDR1::CMDQS>(), 8, "IDR1.CMDQS");
      expect_equal(idr1.get<smmu::IDR1::EVENTQS>(), 7, "IDR1.EVENTQS");
      expect_equal(smmu::bits(f.smmus[s].output_size()), 40, "IDR5.OAS");
    }
    // Read-only.
    f.smmus[s].write(Reg::IDR0, ~idr0.words[0]);
    expect_equal(f.smmus[s].read(Reg::IDR0), idr0.words[0], "IDR0 after a store");
  }
}

void check_errors() {
  check("cerror-ill");
  Fixture& f = fixture();
  const std::uint64_t page = make_page();
  for (unsigned s = 0; s < f.smmu_count; ++s) {
    check_illegal(f.smmus[s], raw(0x00, 0), 0x00);
    check_illegal(f.smmus[s], raw(0xff, ~std::uint64_t{0}), 0xff);
    if (!f.nested) continue;  // QEMU's SMMU has stage 2, too
    // Not for who has no stage 2, and not for who could name another's VMID.
    check_illegal(f.smmus[s], smmu::tlbi_s12_vmall(VMID{1}), 0x28);
    check_illegal(f.smmus[s], smmu::tlbi_s2_ipa(VMID{1}, IPA{0x4000'0000}, true), 0x2a);
    check_illegal(f.smmus[s], smmu::tlbi_el2_all(), 0x20);
    const smmu::TlbiRange range{.tg = smmu::TlbiGranule::size4k, .ttl = 3, .num = 3, .scale = 0};
    if (!f.smmus[s].ranges()) check_illegal(f.smmus[s], smmu::tlbi_nh_va({}, {}, IOVA{0x1000}, true, range), 0x12);
  }
  for (unsigned i = 0; i < f.device_count; ++i) {
    install(f.devices[i], Smmu::of(smmu::SteConfig::bypass));
    expect_lands(f.devices[i], page, page, "DMA after illegal commands");
    install(f.devices[i], {});
  }
}

void check_interrupts() {
  check("interrupts");
  Fixture& f = fixture();
  const Machine& m = machine();
  gic::init();
  const std::uint64_t page = make_page();
  unmask_interrupts();
  for (unsigned s = 0; s < f.smmu_count; ++s) {
    const unsigned eventq = m.smmus[s].intid, sync = eventq + 2, gerror = eventq + 3;
    Smmu& smmu = f.smmus[s];
    for (const unsigned intid : {eventq, sync, gerror}) {
      gic::set_edge(intid);
      gic::enable(intid);
    }
    const std::uint32_t on =
        smmu::IRQ_CTRL{}.set<smmu::IRQ_CTRL::EVENTQ_IRQEN>(true).set<smmu::IRQ_CTRL::GERROR_IRQEN>(true).words[0];
    smmu.write(Reg::IRQ_CTRL, on);
    expect(soon([&] { return smmu.read(Reg::IRQ_CTRLACK) == on; }), "IRQ_CTRLACK", s);

    const unsigned syncs = interrupts(sync);
    smmu.push(smmu::sync_irq(PA{}, 0));
    smmu.submit();
    expect(smmu.wait_consumed(), "SYNC with an interrupt", s);
    expect(soon([&] { return interrupts(sync) > syncs; }), "no interrupt of SYNC", s);

    const unsigned errors = interrupts(gerror);
    check_illegal(smmu, raw(0x00, 0), 0x00);
    expect(soon([&] { return interrupts(gerror) > errors; }), "no interrupt of GERROR", s);

    for (unsigned i = 0; i < f.device_count; ++i) {
      const Device& d = f.devices[i];
      if (d.smmu != s) continue;
      install(d, {});
      (void)smmu.drop_events();
      const unsigned events = interrupts(eventq);
      expect_refused(d, page, page, "DMA of a stream with V = 0");
      // Without any command of ours: the event comes by itself.
      expect(soon([&] { return interrupts(eventq) > events; }), "no interrupt of the event queue", d.slot);
      expect_fault(d, smmu::EventId::C_BAD_STE, 0, "event of a stream with V = 0");
    }
    smmu.write(Reg::IRQ_CTRL, 0);
    for (const unsigned intid : {eventq, sync, gerror}) gic::disable(intid);
  }
  mask_interrupts();
}

}  // namespace weir::guest
