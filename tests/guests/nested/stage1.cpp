// Stage 1 over stage 2: where data lands, and when a change of stage 1 takes effect.
#include <array>

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/nested/fixture.hpp"

namespace weir::guest {
namespace {

constexpr std::uint64_t kIova = 0x1234'5000;  // its last-level table is its own
constexpr ASID kAsid{7};

// One table for all devices, as a driver makes it for one domain; every instance behind a vSMMU then holds its entries.
AddressSpace& common() {
  static constinit AddressSpace space{};
  static constinit bool made = false;
  if (!made) {
    space = AddressSpace{kAsid, fixture().smmus[0].output_size()};
    made = true;
  }
  return space;
}
void use_common() {
  Fixture& f = fixture();
  for (unsigned i = 0; i < f.device_count; ++i) install(f.devices[i], Smmu::stage1(common()));
}

// `c` to every vSMMU, with SYNC.
void invalidate(const smmu::Command& c) {
  Fixture& f = fixture();
  for (unsigned s = 0; s < f.smmu_count; ++s) expect(f.smmus[s].sync(c), "TLBI and SYNC", s);
}

struct Kind {
  std::string_view unmap, remap;  // names of the checks
  smmu::Command (*command)();
  bool range = false;
};
constexpr std::array<Kind, 6> kKinds{{
    {"unmap-nh-va", "remap-nh-va", [] -> smmu::Command { return smmu::tlbi_nh_va({}, kAsid, IOVA{kIova}, true); }},
    {"unmap-nh-vaa", "remap-nh-vaa", [] -> smmu::Command { return smmu::tlbi_nh_vaa({}, IOVA{kIova}, true); }},
    {"unmap-nh-asid", "remap-nh-asid", [] -> smmu::Command { return smmu::tlbi_nh_asid({}, kAsid); }},
    {"unmap-nh-all", "remap-nh-all", [] -> smmu::Command { return smmu::tlbi_nh_all({}); }},
    {"unmap-nsnh-all", "remap-nsnh-all", [] -> smmu::Command { return smmu::tlbi_nsnh_all(); }},
    // 4 pages from the one before.
    {"unmap-nh-va-range", "remap-nh-va-range",
     [] -> smmu::Command {
       const smmu::TlbiRange range{.tg = smmu::TlbiGranule::size4k, .ttl = 3, .num = 3, .scale = 0};
       return smmu::tlbi_nh_va({}, kAsid, IOVA{kIova - kPage}, true, range);
     },
     true},
}};

// That an entry is still there is the architecture's permission and QEMU's habit. If it were gone, what follows would show
// nothing. Unless somebody else uses this SMMU, too: then it may be gone.
void expect_stale(const Device& d, std::uint64_t iova, std::uint64_t page, std::uint64_t other) {
  if (!machine().has_option("busy")) {
    expect_lands(d, iova, page, "no stale entry to invalidate: DMA after the change alone");
    return;
  }
  (void)d.dma.dma(iova, fixture().physical(page));
  expect(fixture().smmu(d).sync(), "SYNC", d.slot);
  (void)fixture().smmu(d).drop_events();
  refill(page);
  refill(other);
}

void check_kind(const Kind& kind, std::uint64_t a, std::uint64_t b) {
  Fixture& f = fixture();
  AddressSpace& space = common();
  const auto each = [&](auto&& fn) {
    for (unsigned i = 0; i < f.device_count; ++i) fn(f.devices[i]);
  };
  check(kind.unmap);
  space.map(kIova, a);
  invalidate(smmu::tlbi_nh_all({}));
  each([&](const Device& d) { expect_lands(d, kIova + 4, a, "DMA to a mapped page"); });
  space.unmap(kIova);
  each([&](const Device& d) { expect_stale(d, kIova + 8, a, b); });
  invalidate(kind.command());
  each([&](const Device& d) {
    expect_refused(d, kIova + 12, a, "DMA after unmap and invalidation");
    expect_fault(d, smmu::EventId::F_TRANSLATION, kIova + 12, "event after unmap and invalidation");
  });

  check(kind.remap);
  space.map(kIova, a);
  invalidate(kind.command());
  each([&](const Device& d) { expect_lands(d, kIova + 16, a, "DMA to a mapped page"); });
  space.map(kIova, b);
  each([&](const Device& d) { expect_stale(d, kIova + 20, a, b); });
  invalidate(kind.command());
  each([&](const Device& d) {
    expect_lands(d, kIova + 24, b, "DMA after remap and invalidation");
    expect(untouched(a), "the old page was written", d.slot);
  });
}

}  // namespace

void check_stage1() {
  check("stage1");
  Fixture& f = fixture();
  const std::uint64_t a = make_page(), b = make_page(), c = make_page();
  use_common();
  AddressSpace& space = common();
  space.map(0x1000'0000, a);
  space.map(0x40'0000'1000, b);
  space.map(c, a);  // an IOVA that is another page's IPA
  for (unsigned i = 0; i < f.device_count; ++i) {
    const Device& d = f.devices[i];
    expect_lands(d, 0x1000'0040, a, "DMA to a mapped page");
    expect_lands(d, 0x40'0000'1ffc, b, "DMA to a page mapped high up");
    expect_lands(d, c + 0x10, a, "DMA to an IOVA that is another page's IPA");
    expect(untouched(b) && untouched(c), "another page was written", d.slot);
    expect_equal(d.dma.dma(0x1000'0000, f.physical(b)), TestDevice::mismatch, "comparison with another page");
    refill(a);
    if (f.to_physical != 0) {
      // An IPA is not a physical address: what stage 1 puts out goes through stage 2.
      expect_equal(d.dma.dma(0x1000'0000, a), TestDevice::mismatch, "at the IPA as a physical address");
      refill(a);
    }
    expect(d.dma.dma(0x1000'0100, f.physical(a) + 0x100, 0x80) == TestDevice::ok && written(a, 0x100, 0x80),
           "DMA of 128 bytes", d.slot);
    expect_no_event(d, "nothing went wrong");
  }
  check("stage1-block");
  const std::uint64_t block = allocate(0x20'0000, 0x20'0000);
  space.map_block(0x8000'0000, block);
  refill(block + 0x12'3000);
  for (unsigned i = 0; i < f.device_count; ++i)
    expect_lands(f.devices[i], 0x8012'3040, block + 0x12'3000, "DMA into a 2 MiB block");
  *space.entry(0x8000'0000, 2) = 0;
  barrier();
  invalidate(smmu::tlbi_nh_asid({}, kAsid));
  for (unsigned i = 0; i < f.device_count; ++i) {
    expect_refused(f.devices[i], 0x8012'3040, block + 0x12'3000, "DMA into a block that was unmapped");
    expect_fault(f.devices[i], smmu::EventId::F_TRANSLATION, 0x8012'3040, "event of a block that was unmapped");
  }
}

void check_invalidation() {
  static constinit std::uint64_t a = 0, b = 0;
  if (a == 0) {
    a = make_page();
    b = make_page();
  }
  check("invalidation");
  use_common();
  bool all_ranges = true;
  for (unsigned s = 0; s < fixture().smmu_count; ++s) all_ranges = all_ranges && fixture().smmus[s].ranges();
  for (const Kind& kind : kKinds)
    if (!kind.range || all_ranges) check_kind(kind, a, b);
}

// The same ASID and IOVA mean different things to different vSMMUs, and different ASIDs to one.
void check_separation() {
  Fixture& f = fixture();
  std::array<std::uint64_t, kMaxDevices> pages{};
  std::array<AddressSpace, kMaxDevices> spaces{};
  for (unsigned i = 0; i < f.device_count; ++i) {
    // Devices of one vSMMU get different ASIDs, counted anew for each vSMMU.
    std::uint16_t asid = 1;
    for (unsigned j = 0; j < i; ++j)
      asid = static_cast<std::uint16_t>(asid + (f.devices[j].smmu == f.devices[i].smmu ? 1 : 0));
    check("separation");
    pages[i] = make_page();
    spaces[i] = AddressSpace{ASID{asid}, f.smmus[0].output_size()};
    spaces[i].map(kIova, pages[i]);
    install(f.devices[i], Smmu::stage1(spaces[i]));
  }
  for (unsigned round = 0; round < 2; ++round)
    for (unsigned i = 0; i < f.device_count; ++i) {
      expect_lands(f.devices[i], kIova, pages[i], "one IOVA, different address spaces");
      for (unsigned j = 0; j < f.device_count; ++j)
        expect(untouched(pages[j]), "another space's page was written", i, j);
    }
  // ... and an invalidation of each is effective for itself.
  for (unsigned i = 0; i < f.device_count; ++i) {
    spaces[i].unmap(kIova);
    const auto tlbi = smmu::tlbi_nh_va({}, spaces[i].asid(), IOVA{kIova}, true);
    expect(f.smmu(f.devices[i]).sync(tlbi), "TLBI and SYNC", i);
    expect_refused(f.devices[i], kIova, pages[i], "DMA after unmap and invalidation");
    expect_fault(f.devices[i], smmu::EventId::F_TRANSLATION, kIova, "event after unmap and invalidation");
    for (unsigned j = i + 1; j < f.device_count; ++j)
      expect_lands(f.devices[j], kIova, pages[j], "the others still map it");
  }
  use_common();
}

void check_faults() {
  check("permission");
  Fixture& f = fixture();
  AddressSpace& space = common();
  const std::uint64_t page = make_page();
  use_common();
  space.map(kIova, page, false);
  invalidate(smmu::tlbi_nh_all({}));
  for (unsigned i = 0; i < f.device_count; ++i) {
    expect_refused(f.devices[i], kIova + 0x20, page, "DMA to a read-only page");
    expect_fault(f.devices[i], smmu::EventId::F_PERMISSION, kIova + 0x20, "event of a read-only page");
  }
  check("bad-cd");
  for (unsigned i = 0; i < f.device_count; ++i) {
    const Device& d = f.devices[i];
    smmu::Ste ste = Smmu::stage1(common());
    ste.set<smmu::Ste::S1ContextPtr>(IPA{page});  // no CD there
    install(d, ste);
    expect_refused(d, kIova, page, "DMA of a stream with an invalid CD");
    expect_fault(d, smmu::EventId::C_BAD_CD, 0, "event of an invalid CD");
    install(d, Smmu::stage1(common()));
  }
  space.unmap(kIova);
  invalidate(smmu::tlbi_nh_all({}));
}

// Far more faults at once than any queue holds. Some are lost, which the queue says; all else goes on.
void check_flood() {
  check("flood");
  Fixture& f = fixture();
  AddressSpace& space = common();
  constexpr std::uint32_t kBytes = 0x4'0000;
  const std::uint64_t page = make_page();
  use_common();
  for (unsigned i = 0; i < f.device_count; ++i) {
    const Device& d = f.devices[i];
    Smmu& smmu = f.smmu(d);
    expect_equal(d.dma.dma(0x20'0000'0000, f.physical(page), kBytes), TestDevice::write_fault, "DMA of unmapped pages");
    expect(smmu.sync(), "SYNC", d.slot);
    const unsigned events = smmu.drop_events();
    expect(events != 0 && events <= 1u << Smmu::kQueueLog2, "number of events", events);
    // QEMU's own SMMU says that its queue was full.
    smmu.write(smmu::Reg::GERRORN, smmu.read(smmu::Reg::GERROR));
    expect(smmu.sync(), "SYNC", d.slot);
    (void)smmu.drop_events();

    expect_refused(d, 0x20'0000'0000, page, "DMA of an unmapped page");
    expect_fault(d, smmu::EventId::F_TRANSLATION, 0x20'0000'0000, "event after a flood");
    space.map(kIova, page);
    expect(smmu.sync(smmu::tlbi_nh_asid({}, kAsid)), "TLBI and SYNC", d.slot);
    expect_lands(d, kIova, page, "DMA after a flood");
    space.unmap(kIova);
    invalidate(smmu::tlbi_nh_asid({}, kAsid));
  }
}

}  // namespace weir::guest
