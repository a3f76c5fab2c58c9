// Cases that nothing but a mutant (tests/mutants) had asked for.
#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

// CMD_CFGI_STE_RANGE (4.3.2): StreamIDs 8 to 15, no more and no fewer.
TEST(MutationGaps, ARangeOfStesEndsWhereItEnds) {
  Machine machine{1};
  Virtual virt{machine};
  Guest guest{virt};
  const std::vector<std::uint32_t> streams = {7, 8, 15, 16};
  for (const std::uint32_t sid : streams) {
    ASSERT_TRUE(virt.vsmmu->attach(VStreamID{sid}, *machine.smmus[0], StreamID{sid}));
    guest.put_ste(sid, Guest::s1_ste());
  }
  guest.enable();
  for (const std::uint32_t sid : streams) guest.put_ste(sid, Guest::s1_ste(kCd + 64));
  guest.submit({cfgi_ste_range(StreamID{0x0c}, 2), sync_none()});
  std::vector<std::uint32_t> changed;
  for (const std::uint32_t sid : streams)
    if (machine.smmus[0]->stes[StreamID{sid}].get<Ste::S1ContextPtr>() == kCd + 64) changed.push_back(sid);
  EXPECT_EQ(changed, (std::vector<std::uint32_t>{8, 15}));
}

// A TG that the vSMMU does not offer has no entries to invalidate, and an instance may know it as reserved (4.4.1.1).
TEST(MutationGaps, NoInstanceGetsAGranuleThatIsNotOffered) {
  auto capabilities = qemu_like_capabilities();
  capabilities.idr5.set<IDR5::GRAN16K>(false).set<IDR5::GRAN64K>(false);
  Machine machine{1, capabilities};
  Virtual virt{machine};
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{1}, *machine.smmus[0], StreamID{1}));
  Guest guest{virt};
  guest.put_ste(1, Guest::s1_ste());
  guest.enable();
  machine.forget();
  for (const TlbiGranule tg : {TlbiGranule::size16k, TlbiGranule::size64k})
    guest.submit({tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = tg, .ttl = 3, .num = 1}),
                  tlbi_nh_vaa(VMID{}, IOVA{}, true, {.tg = tg, .ttl = 3, .num = 1})});
  guest.submit({sync_none()});
  EXPECT_FALSE(guest.cmdq_error());
  for (const Command& c : machine.smmus[0]->commands) {
    if (const auto t = c.as<TlbiNhVa>()) EXPECT_LE(t->get<TlbiNhVa::TG>(), TlbiGranule::size4k);
    if (const auto t = c.as<TlbiNhVaa>()) EXPECT_LE(t->get<TlbiNhVaa::TG>(), TlbiGranule::size4k);
  }
}

}  // namespace
}  // namespace weir::vsmmu::test
