// What a guest does not own: no configuration of its stage 1 lets a device reach it, and Weir, not the guest, hears of it.
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/nested/fixture.hpp"

namespace weir::guest {
namespace {

constexpr std::uint64_t kIova = 0x7654'3000, kGood = 0x7655'0000;
constexpr ASID kAsid{9};

// DMA to `ipa` through stage 1 is refused; nothing is at the physical address of the same number afterwards.
void refuse(const Device& d, AddressSpace& space, std::uint64_t ipa, bool look, std::uint64_t good) {
  Fixture& f = fixture();
  const std::uint64_t offset = ipa % kPage;
  space.map(kIova, ipa - offset);
  expect(f.smmu(d).sync(smmu::tlbi_nh_asid({}, kAsid)), "TLBI and SYNC");
  const auto result = d.dma.dma(kIova + offset, f.physical(good));
  expect(result == TestDevice::write_fault, "DMA to an address that is not the VM's", ipa, result);
  if (!look) return;
  // The device reads physical memory: let it write where it may, and compare there.
  const auto there = d.dma.dma(kGood, ipa);
  expect(there == TestDevice::mismatch, "refused DMA has hit physical memory", ipa, there);
  refill(good);
}

}  // namespace

void check_refusal() {
  Fixture& f = fixture();
  const Machine& m = machine();
  const std::uint64_t good = make_page();
  const std::uint64_t ram_end = m.ram + m.ram_bytes;
  for (unsigned i = 0; i < f.device_count; ++i) {
    check("refusal");
    const Device& d = f.devices[i];
    AddressSpace space{kAsid, f.smmus[0].output_size()};
    space.map(kGood, good);
    install(d, Smmu::stage1(space));
    expect_lands(d, kGood, good, "DMA to what is the VM's");
    // All the rest of the machine's RAM: Weir itself, other VMs, what nobody has. The first device looks at all of it.
    const std::uint64_t step = i == 0 ? 0x20'0000 : 0x400'0000;
    for (std::uint64_t ipa = ram_end; ipa < f.physical_end; ipa += step) refuse(d, space, ipa + 0x40, true, good);
    // Just around the VM's RAM, and its own memory by its physical address.
    for (const std::uint64_t ipa : {m.ram - 4, ram_end, ram_end + kPage - 4}) refuse(d, space, ipa, false, good);
    if (f.physical(good) >= ram_end) refuse(d, space, f.physical(good) + 0x80, true, good);
    // Devices: the GIC's and the ITS' doorbell, UART, SMMUs, ECAM, the other function's registers.
    std::uint64_t other_bar = m.ecam;
    if (f.device_count > 1) other_bar = load32(pci::config(f.devices[(i + 1) % f.device_count].slot, 0x10)) & ~0xfu;
    for (const std::uint64_t ipa :
         {std::uint64_t{0}, m.gicd, std::uint64_t{0x0809'0040}, m.gicr, m.uart, m.smmus[0].base, m.smmus[0].base + 0x98,
          std::uint64_t{0x0c02'0098}, m.ecam, other_bar + 4, std::uint64_t{0x80'0000'0000} - kPage,
          std::uint64_t{0xff'ffff'f000}})
      refuse(d, space, ipa, false, good);
    expect(untouched(good), "refused DMA has hit the VM's page");
    expect_no_event(d, "the guest must not hear of it");

    check("refusal-bypass");
    install(d, Smmu::of(smmu::SteConfig::bypass));
    expect_refused(d, ram_end + 0x40, good, "bypassing DMA past the end of RAM");
    expect_refused(d, f.to_physical == 0 ? ram_end : m.gicd, good, "bypassing DMA to a device");
    expect_no_event(d, "the guest must not hear of it");

    // Tables out of the VM's memory are the guest's mistake, and its own SMMU would tell it.
    check("table-outside");
    install(d, Smmu::stage1(space));
    space.set_root(ram_end);
    expect(f.smmu(d).sync(smmu::cfgi_cd_all(StreamID{d.sid})) && f.smmu(d).sync(smmu::tlbi_nh_asid({}, kAsid)), "SYNC");
    expect_refused(d, kGood, good, "DMA with a translation table that is not the VM's");
    expect_fault(d, smmu::EventId::F_WALK_EABT, kGood, "event of a translation table that is not the VM's");
    space.set_root(space.root());
    check("cd-outside");
    smmu::Ste ste = Smmu::stage1(space);
    ste.set<smmu::Ste::S1ContextPtr>(IPA{ram_end});
    install(d, ste);
    expect_refused(d, kGood, good, "DMA with a CD that is not the VM's");
    expect_fault(d, smmu::EventId::F_CD_FETCH, 0, "event of a CD that is not the VM's");
    install(d, Smmu::stage1(space));
    expect_lands(d, kGood, good, "DMA after all that");
    install(d, {});
    expect(f.smmu(d).sync(smmu::tlbi_nh_asid({}, kAsid)), "TLBI and SYNC");
  }
}

// The manifest's answer to a device that reaches out of its VM: no DMA at all from then on, or the end of the VM.
void check_policy() {
  check("policy");
  Fixture& f = fixture();
  const Device& d = f.devices[0];
  const std::uint64_t page = make_page();
  expect_lands(d, page, page, "DMA before the violation");
  expect_refused(d, machine().ram + machine().ram_bytes, page, "DMA past the end of RAM");
  const bool stop = machine().has_option("stop");
  const std::uint64_t until = now_us() + 5'000'000;
  while (now_us() < until) {
    if (!stop && d.dma.dma(page, f.physical(page)) == TestDevice::write_fault) break;
  }
  refill(page);
  if (expect(!stop, "the VM has not been stopped")) expect_refused(d, page, page, "DMA of a quarantined device");
  for (unsigned i = 1; i < f.device_count; ++i) expect_lands(f.devices[i], page, page, "DMA of the others");
  // Nothing that the guest does brings it back.
  Smmu& smmu = f.smmu(d);
  expect(smmu.init() && smmu.set_enabled(true), "SMMU does not come up");
  install(d, Smmu::of(smmu::SteConfig::bypass));
  expect_refused(d, page, page, "DMA of a quarantined device after CFGI_STE");
}

}  // namespace weir::guest
