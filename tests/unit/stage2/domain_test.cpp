#include "stage2/domain.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "stage2/epoch.hpp"
#include "stage2/invalidate.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"

namespace weir::stage2 {
namespace {

using smmu::Ste;
using test::FailingNew;
using test::FakeEvent;
using test::FakeLog;
using test::FakeSmmu;
using test::FakeTablePages;

constexpr IPA kRamBase{0x4000'0000};

Ste aborting() { return Ste{}.set<Ste::V>(true).set<Ste::Config>(smmu::SteConfig::abort); }

// What an SMMU's TLB holds of stage 2, by VMID and page: entries of stage 2, and combined ones of a nested walk. Only
// what a command must remove is removed (IHI 0070 4.4).
class ModelTlb {
 public:
  void fill(VMID vmid, IPA page) {
    stage2_.insert({vmid.value, page.value});
    combined_.insert({vmid.value, page.value});
  }
  [[nodiscard]] bool holds(VMID vmid, IPA page) const {
    const Key key{vmid.value, page.value};
    return stage2_.contains(key) || combined_.contains(key);
  }
  void execute(const smmu::Command& command) {
    if (const auto all = command.as<smmu::TlbiS12Vmall>()) {
      erase(stage2_, all->get<smmu::TlbiS12Vmall::VMID>(), [](auto) { return true; });
      erase(combined_, all->get<smmu::TlbiS12Vmall::VMID>(), [](auto) { return true; });
    }
    if (const auto nh = command.as<smmu::TlbiNhAll>())
      erase(combined_, nh->get<smmu::TlbiNhAll::VMID>(), [](auto) { return true; });
    if (const auto ipa = command.as<smmu::TlbiS2Ipa>()) {
      using C = smmu::TlbiS2Ipa;
      EXPECT_TRUE(smmu::tlbi_range_legal(*ipa, true, false));
      const std::uint64_t from = ipa->get<C::Address>().value;
      const std::uint64_t bytes = ((ipa->get<C::NUM>() + 1) << ipa->get<C::SCALE>()) * kPage4K;
      erase(stage2_, ipa->get<C::VMID>(), [=](std::uint64_t at) { return at >= from && at - from < bytes; });
    }
  }

 private:
  using Key = std::pair<std::uint16_t, std::uint64_t>;
  template <typename Pred>
  static void erase(std::set<Key>& keys, VMID vmid, Pred pred) {
    std::erase_if(keys, [&](const Key& k) { return k.first == vmid.value && pred(k.second); });
  }
  std::set<Key> stage2_, combined_;
};

class DomainTest : public ::testing::Test {
 protected:
  explicit DomainTest(S2Domain::Options options = {.table = {.bbml = 2}})
      : domain{*S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, grace, options)} {}

  std::unique_ptr<HostTag> tag(FakeSmmu& smmu) {
    auto made = *HostTag::create(smmu);
    EXPECT_TRUE(domain->attach(*made));
    return made;
  }
  Ste ste(const HostTag& tag, bool stage1, smmu::Eats eats = smmu::Eats::none) const {
    Ste made;
    made.set<Ste::V>(true).set<Ste::Config>(stage1 ? smmu::SteConfig::s1_s2 : smmu::SteConfig::s2).set<Ste::EATS>(eats);
    domain->fill_stage2(tag, made);
    return made;
  }
  void clear() {
    log.clear();
    a.forget();
    b.forget();
  }

  FakeTablePages pages;
  ImmediateGrace grace;
  FakeLog log;
  FakeSmmu a{0, test::qemu_like_capabilities(), &log};
  FakeSmmu b{1, test::qemu_like_capabilities(), &log};
  std::unique_ptr<S2Domain> domain;
};

TEST_F(DomainTest, NamesWhatAnInstanceLacks) {
  using namespace smmu;
  const auto without = [&](auto&& change) {
    auto c = test::qemu_like_capabilities();
    change(c);
    return domain->incompatibility(c);
  };
  EXPECT_EQ(without([](auto&) {}), std::nullopt);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::S2P>(false); }), Incompatibility::no_stage2);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::S1P>(false); }), Incompatibility::no_nesting);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::TTF>(TtFormat::aarch32); }),
            Incompatibility::no_aarch64_tables);
  EXPECT_EQ(without([](auto& c) { c.idr5.template set<IDR5::GRAN4K>(false); }), Incompatibility::no_granule_4k);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::TTENDIAN>(TtEndian::big); }), Incompatibility::big_endian);
  // These are a matter of the table; without memory that is cleaned, not every table can be had.
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::COHACC>(false); }), Incompatibility::not_coherent);
  ASSERT_TRUE(domain->map(IPA{0xf'f000'0000}, PA{0x8000'0000}, 2_MiB, {}));
  const auto bits36 = [](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits36); };
  EXPECT_EQ(without(bits36), std::nullopt);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x10'0000'0000}, 2_MiB, {}));
  EXPECT_EQ(without(bits36), Incompatibility::output_too_small);
  ASSERT_TRUE(domain->map(IPA{0xf'ffff'f000}, PA{0}, 2 * kPage4K, {}));
  EXPECT_EQ(without(bits36), Incompatibility::input_too_small);
  EXPECT_EQ(without([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits42); }), std::nullopt);
  EXPECT_EQ(without([](auto& c) { c.idr3.template set<IDR3::BBML>(1); }), std::nullopt);
  for (unsigned i = 0; i <= static_cast<unsigned>(Incompatibility::no_dirty_state); ++i)
    EXPECT_GT(to_string(static_cast<Incompatibility>(i)).size(), 5u);

  auto c = test::qemu_like_capabilities();
  c.idr0.set<IDR0::S2P>(false);
  FakeSmmu stranger{2, c};
  const auto tag = *HostTag::create(stranger);
  EXPECT_EQ(domain->attach(*tag).error(), Error::incompatible);
  EXPECT_EQ(domain->tag_count(), 0u);
}

TEST_F(DomainTest, Stage2FieldsOfAnSte) {
  Ste ste;
  ste.set<Ste::V>(true).set<Ste::Config>(smmu::SteConfig::s1_s2).set<Ste::MEV>(true).set<Ste::S1CDMax>(3);
  const Ste before = ste;
  // Whatever was there: every stage-2 field is set.
  for (const std::size_t word : {2u, 3u, 7u}) ste.words[word] = ~std::uint64_t{0};
  const auto skew = *HostTag::create(a);
  auto on_a = tag(a);
  domain->fill_stage2(*on_a, ste);
  EXPECT_EQ(ste.get<Ste::S2VMID>(), on_a->vmid());
  EXPECT_EQ(ste.get<Ste::S2T0SZ>(), 24u);
  EXPECT_EQ(ste.get<Ste::S2SL0>(), 1u);
  EXPECT_EQ(ste.get<Ste::S2PS>(), smmu::AddressSize::bits44);
  EXPECT_EQ(ste.get<Ste::S2TG>(), smmu::Granule0::size4k);
  EXPECT_EQ(ste.get<Ste::S2IR0>(), smmu::WalkCacheability::write_back_ra_wa);
  EXPECT_EQ(ste.get<Ste::S2SH0>(), smmu::Shareability::inner);
  EXPECT_TRUE(ste.get<Ste::S2AA64>());
  EXPECT_TRUE(ste.get<Ste::S2R>());
  EXPECT_FALSE(ste.get<Ste::S2S>());
  EXPECT_FALSE(ste.get<Ste::S2ENDI>());
  EXPECT_FALSE(ste.get<Ste::S2HA>() || ste.get<Ste::S2HD>() || ste.get<Ste::S2PTW>());
  EXPECT_EQ(ste.get<Ste::S2TTB>(), domain->table().root());
  EXPECT_EQ(ste.words[7], 0u);
  EXPECT_EQ(ste.words[0], before.words[0]);
  EXPECT_EQ(ste.words[1], before.words[1]);
  EXPECT_TRUE(consistent(static_cast<unsigned>(ste.get<Ste::S2T0SZ>()), static_cast<unsigned>(ste.get<Ste::S2SL0>()),
                         bits(ste.get<Ste::S2PS>())));
}

TEST_F(DomainTest, UnmapInPhasesOnAllInstancesAtOnce) {
  // Different VMIDs on the two instances.
  const auto skew = *HostTag::create(b);
  auto on_a = tag(a);
  auto on_b = tag(b);
  ASSERT_NE(on_a->vmid(), on_b->vmid());
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::split_stage)));
  ASSERT_TRUE(domain->install(*on_b, StreamID{16}, std::nullopt, ste(*on_b, true)));
  ASSERT_TRUE(domain->install(*on_b, StreamID{17}, std::nullopt, ste(*on_b, false)));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 3 * kPage4K, {}));
  clear();

  bool freed = false;
  pages.on_free = [&](PA) {
    freed = true;
    log.push_back({.smmu = 99});
  };
  ASSERT_TRUE(domain->unmap(kRamBase, 3 * kPage4K));
  EXPECT_TRUE(freed);

  // Each phase: commands and SYNC to a, the same to b, then both awaited.
  using Kind = FakeEvent::Kind;
  std::vector<std::pair<unsigned, std::string>> seen;
  for (const FakeEvent& e : log) {
    if (e.smmu == 99) {
      if (seen.back().second != "free") seen.emplace_back(99, "free");
    } else if (e.kind == Kind::command) {
      seen.emplace_back(e.smmu, smmu::name_of(e.command.opcode()));
    } else {
      seen.emplace_back(e.smmu, e.kind == Kind::sync_issued ? "issued" : "awaited");
    }
  }
  const std::vector<std::pair<unsigned, std::string>> expected = {
      {0, "CMD_TLBI_S2_IPA"}, {0, "issued"},          {1, "CMD_TLBI_S2_IPA"},
      {1, "issued"},          {0, "awaited"},         {1, "awaited"},
      {0, "CMD_CFGI_CD_ALL"}, {0, "CMD_TLBI_NH_ALL"}, {0, "issued"},
      {1, "CMD_CFGI_CD_ALL"}, {1, "CMD_TLBI_NH_ALL"}, {1, "issued"},
      {0, "awaited"},         {1, "awaited"},         {0, "CMD_ATC_INV"},
      {0, "issued"},          {0, "awaited"},         {99, "free"}};
  EXPECT_EQ(seen, expected);

  const auto s2 = b.all<smmu::TlbiS2Ipa>();
  ASSERT_EQ(s2.size(), 1u);
  EXPECT_EQ(s2[0].get<smmu::TlbiS2Ipa::VMID>(), on_b->vmid());
  EXPECT_EQ(s2[0].get<smmu::TlbiS2Ipa::Address>(), kRamBase);
  EXPECT_EQ(s2[0].get<smmu::TlbiS2Ipa::NUM>(), 2u);
  EXPECT_FALSE(s2[0].get<smmu::TlbiS2Ipa::Leaf>());  // table pages went
  EXPECT_EQ(b.all<smmu::CfgiCdAll>()[0].get<smmu::CfgiCdAll::StreamID>(), 16u);
  EXPECT_EQ(a.all<smmu::AtcInv>()[0].get<smmu::AtcInv::StreamID>(), 8u);
  pages.on_free = nullptr;

  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true, .ats = true}, aborting()));
  ASSERT_TRUE(domain->uninstall(*on_b, StreamID{16}, {.stage1 = true}, aborting()));
  ASSERT_TRUE(domain->uninstall(*on_b, StreamID{17}, {}, aborting()));
  domain->detach(std::move(on_a));
  domain->detach(std::move(on_b));
}

TEST_F(DomainTest, Stage2OnlyStreamsNeedOnePhase) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, false)));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 4_MiB, {}));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase, 2_MiB));
  EXPECT_EQ(a.commands.size(), 1u);
  EXPECT_EQ(a.syncs, 1u);
  EXPECT_TRUE(a.all<smmu::TlbiS2Ipa>()[0].get<smmu::TlbiS2Ipa::Leaf>());
  EXPECT_EQ(b.syncs, 0u);

  // Once it has been nested, combined entries may be there until the tag leaves.
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, StreamUse{}, ste(*on_a, true)));
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, StreamUse{.stage1 = true}, ste(*on_a, false)));
  clear();
  ASSERT_TRUE(domain->protect(kRamBase + 2_MiB, 2_MiB, {.write = false}));
  EXPECT_EQ(a.all<smmu::TlbiNhAll>().size(), 1u);
  EXPECT_EQ(a.all<smmu::CfgiCdAll>().size(), 0u);
  EXPECT_EQ(a.syncs, 2u);
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {}, aborting()));
  domain->detach(std::move(on_a));
}

TEST_F(DomainTest, NothingIsInvalidatedForAMap) {
  auto on_a = tag(a);
  clear();
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 1_GiB, {}));
  EXPECT_TRUE(a.commands.empty());
  EXPECT_EQ(domain->lookup(kRamBase)->level, 1u);
  domain->detach(std::move(on_a));
}

// The whole reason for tags per instance: the same VMID number means another VM there.
TEST_F(DomainTest, EachInstanceIsInvalidatedByItsOwnTag) {
  const auto skew = *HostTag::create(b);
  auto on_a = tag(a);
  auto on_b = tag(b);
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true)));
  ASSERT_TRUE(domain->install(*on_b, StreamID{16}, std::nullopt, ste(*on_b, true)));
  for (const bool wrong_tag : {false, true}) {
    SCOPED_TRACE(wrong_tag);
    ModelTlb tlb_a, tlb_b;
    for (const std::uint64_t page : {0u, 1u, 2u, 511u, 512u}) {
      tlb_a.fill(on_a->vmid(), kRamBase + page * kPage4K);
      tlb_b.fill(on_b->vmid(), kRamBase + page * kPage4K);
      tlb_b.fill(skew->vmid(), kRamBase + page * kPage4K);  // another VM's
    }
    a.on_command = [&](const smmu::Command& c) { tlb_a.execute(c); };
    b.on_command = [&](const smmu::Command& c) {
      auto executed = c;
      if (wrong_tag)
        executed.words[0] = (c.words[0] & ~smmu::TlbiNhAll::VMID::mask) | smmu::TlbiNhAll::VMID::encode(on_a->vmid());
      tlb_b.execute(executed);
    };
    ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 513 * kPage4K, {}));
    ASSERT_TRUE(domain->unmap(kRamBase, 513 * kPage4K));
    bool stale = false, others_lost = false;
    for (const std::uint64_t page : {0u, 1u, 2u, 511u, 512u}) {
      const IPA at = kRamBase + page * kPage4K;
      EXPECT_FALSE(tlb_a.holds(on_a->vmid(), at));
      stale = stale || tlb_b.holds(on_b->vmid(), at);
      others_lost = others_lost || !tlb_b.holds(skew->vmid(), at);
    }
    EXPECT_EQ(stale, wrong_tag) << "the model must notice a wrong tag, and no other";
    EXPECT_EQ(others_lost, wrong_tag);
  }
  a.on_command = b.on_command = nullptr;
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()));
  ASSERT_TRUE(domain->uninstall(*on_b, StreamID{16}, {.stage1 = true}, aborting()));
  domain->detach(std::move(on_a));
  domain->detach(std::move(on_b));
}

TEST_F(DomainTest, SlowInstancesAreAwaitedTogether) {
  auto on_a = tag(a);
  auto on_b = tag(b);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  clear();
  a.hold_syncs = b.hold_syncs = true;
  a.complete_after_polls = b.complete_after_polls = 100;
  std::size_t in_use_at_end = 0;
  pages.on_free = [&](PA) { in_use_at_end = a.polls + b.polls; };
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  EXPECT_GE(in_use_at_end, 200u) << "a table page was freed before both instances had completed";
  pages.on_free = nullptr;
  a.hold_syncs = b.hold_syncs = false;
  domain->detach(std::move(on_a));
  domain->detach(std::move(on_b));
}

TEST_F(DomainTest, PublishedBeforeTheSteAndDroppedAfterIt) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true)));
  clear();
  ASSERT_TRUE(domain->protect(kRamBase, kPage4K, {.write = false}));
  EXPECT_EQ(a.all<smmu::CfgiCdAll>().size(), 1u);

  // Refused by the instance: as before.
  a.fail_install = Error::out_of_memory;
  EXPECT_EQ(domain->install(*on_a, StreamID{9}, std::nullopt, ste(*on_a, true)).error(), Error::out_of_memory);
  EXPECT_EQ(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()).error(), Error::out_of_memory);
  a.fail_install.reset();
  EXPECT_EQ(on_a->users(), 1u);
  clear();
  ASSERT_TRUE(domain->protect(kRamBase, kPage4K, {}));
  ASSERT_EQ(a.all<smmu::CfgiCdAll>().size(), 1u);
  EXPECT_EQ(a.all<smmu::CfgiCdAll>()[0].get<smmu::CfgiCdAll::StreamID>(), 8u);

  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()));
  EXPECT_EQ(on_a->users(), 0u);
  domain->detach(std::move(on_a));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  EXPECT_TRUE(a.commands.empty());
}

TEST_F(DomainTest, DetachFlushesBeforeTheVmidIsFree) {
  auto on_a = tag(a);
  const VMID vmid = on_a->vmid();
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, false)));
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {}, aborting()));
  clear();
  a.on_command = [&](const smmu::Command&) { EXPECT_EQ(a.vmids().in_use(), 1u); };
  domain->detach(std::move(on_a));
  a.on_command = nullptr;
  ASSERT_EQ(a.all<smmu::TlbiS12Vmall>().size(), 1u);
  EXPECT_EQ(a.all<smmu::TlbiS12Vmall>()[0].get<smmu::TlbiS12Vmall::VMID>(), vmid);
  EXPECT_EQ(a.syncs, 1u);
  EXPECT_EQ(a.vmids().in_use(), 0u);
  EXPECT_EQ(domain->tag_count(), 0u);
}

TEST_F(DomainTest, VmidIsNotFreeBeforeTheGracePeriod) {
  struct Lazy final : Grace {
    void enter() override {}
    void leave() override {}
    void retire(std::unique_ptr<Retired> object) override { waiting.push_back(std::move(object)); }
    void synchronize() override {}
    std::vector<std::unique_ptr<Retired>> waiting;
  } lazy;
  auto lazy_domain = *S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, lazy, {});
  auto on_a = *HostTag::create(a);
  ASSERT_TRUE(lazy_domain->attach(*on_a));
  lazy_domain->detach(std::move(on_a));
  EXPECT_EQ(a.vmids().in_use(), 1u);
  lazy.waiting.clear();
  EXPECT_EQ(a.vmids().in_use(), 0u);
}

TEST_F(DomainTest, AttachAndInstallFailWholeWithoutMemory) {
  auto made = *HostTag::create(a);
  for (int fail = 0; fail < 4; ++fail) {
    const FailingNew failing{fail};
    EXPECT_EQ(domain->attach(*made).error(), Error::out_of_memory);
  }
  EXPECT_EQ(domain->tag_count(), 0u);
  ASSERT_TRUE(domain->attach(*made));
  for (int fail = 0; fail < 4; ++fail) {
    const FailingNew failing{fail};
    EXPECT_EQ(domain->install(*made, StreamID{8}, std::nullopt, ste(*made, true)).error(), Error::out_of_memory);
  }
  EXPECT_TRUE(a.stes.empty());
  EXPECT_EQ(made->users(), 0u);
  ASSERT_TRUE(domain->install(*made, StreamID{8}, std::nullopt, ste(*made, true)));
  {
    // Leaving needs no memory.
    const FailingNew failing{0};
    EXPECT_TRUE(domain->uninstall(*made, StreamID{8}, {.stage1 = true}, aborting()));
    domain->detach(std::move(made));
  }
  EXPECT_EQ(a.vmids().in_use(), 0u);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  EXPECT_TRUE(a.commands.empty());  // dead entries invalidate nothing
}

TEST_F(DomainTest, AtsIsFlushedWhenItIsSwitchedOff) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::split_stage)));
  clear();
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, StreamUse{.stage1 = true, .ats = true}, ste(*on_a, true)));
  ASSERT_EQ(a.all<smmu::AtcInv>().size(), 1u);
  EXPECT_EQ(log.front().kind, FakeEvent::Kind::ste);
  EXPECT_EQ(log.back().kind, FakeEvent::Kind::sync_awaited);
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()));
  domain->detach(std::move(on_a));
}

// It may hold the page's address for ever, and the page may have a new owner as soon as unmap() returns.
TEST_F(DomainTest, ADeviceThatDoesNotForgetIsCutOffBeforeAPageIsGivenAway) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  for (const std::uint32_t sid : {8u, 9u})
    ASSERT_TRUE(domain->install(*on_a, StreamID{sid}, std::nullopt, ste(*on_a, true, smmu::Eats::full)));
  a.on_command = [&](const smmu::Command& c) {
    if (const auto inv = c.as<smmu::AtcInv>(); inv && inv->get<smmu::AtcInv::StreamID>() == 8)
      a.hung.insert(StreamID{8});
  };
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  EXPECT_EQ(a.stes[StreamID{8}].get<Ste::Config>(), smmu::SteConfig::abort);
  EXPECT_EQ(a.stes[StreamID{9}].get<Ste::Config>(), smmu::SteConfig::s1_s2);
  for (const std::uint32_t sid : {8u, 9u})
    ASSERT_TRUE(domain->uninstall(*on_a, StreamID{sid}, {.stage1 = true, .ats = true}, aborting(), sid == 9));
  domain->detach(std::move(on_a));
}

// Whoever owns the stream may be about to install another STE when the device is cut off.
TEST_F(DomainTest, ADeviceThatWasCutOffGetsNoAtsByAnotherSte) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  const StreamUse use{.stage1 = true, .ats = true};
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::full)));
  a.hung.insert(StreamID{8});
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  const auto again = domain->install(*on_a, StreamID{8}, use, ste(*on_a, true, smmu::Eats::full));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), Error::no_answer);
  EXPECT_EQ(a.stes[StreamID{8}].get<Ste::Config>(), smmu::SteConfig::abort);
  // Without ATS it can do no harm: what it has translated is refused (ATSCHK).
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, use, ste(*on_a, true)));
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()));
  domain->detach(std::move(on_a));
}

// --- Side by side ----------------------------------------------------------------------------------------------------

// Whatever is waited for, everybody else gets on: the same thread does other things while it waits, for which it would
// wait for ever if a lock were held.
TEST_F(DomainTest, NoLockIsHeldWhileHardwareIsWaitedFor) {
  auto on_a = tag(a);
  auto on_b = tag(b);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 1_GiB, {}));
  unsigned rounds = 0;
  bool inside = false;
  const auto other_things = [&] {
    if (inside) return;
    inside = true;
    const IPA elsewhere = kRamBase + 3_GiB;
    EXPECT_TRUE(domain->map(elsewhere, PA{0x9000'0000}, 4_MiB, {}));
    EXPECT_TRUE(domain->lookup(elsewhere));
    EXPECT_TRUE(domain->protect(elsewhere, kPage4K, {.write = false}));
    EXPECT_TRUE(domain->unmap(elsewhere, 4_MiB));
    EXPECT_TRUE(domain->install(*on_b, StreamID{77}, std::nullopt, ste(*on_b, true)));
    EXPECT_TRUE(domain->uninstall(*on_b, StreamID{77}, {.stage1 = true}, aborting()));
    ++rounds;
    inside = false;
  };
  const auto during = [&](const char* what, auto&& act) {
    SCOPED_TRACE(what);
    rounds = 0;
    a.on_poll = other_things;
    a.on_ste = [&](StreamID, const Ste&) { other_things(); };
    EXPECT_TRUE(act());
    a.on_poll = nullptr;
    a.on_ste = nullptr;
    EXPECT_GT(rounds, 0u);
  };
  const StreamUse all{.stage1 = true, .ats = true};
  during("install",
         [&] { return domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::split_stage)); });
  during("unmap", [&] { return domain->unmap(kRamBase, kPage4K); });
  during("protect", [&] { return domain->protect(kRamBase + 2_MiB, 2_MiB, {.write = false}); });
  during("switch ATS off", [&] { return domain->install(*on_a, StreamID{8}, all, ste(*on_a, true)); });
  during("uninstall", [&] { return domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()); });
  during("detach", [&] {
    domain->detach(std::move(on_a));
    return true;
  });
  domain->detach(std::move(on_b));
  EXPECT_TRUE(domain->check_invariants());
}

// Runs `second` on another thread while `first`'s first SYNC is waited for, and returns whether `second` was done before
// that SYNC was. A test that expects so has much patience.
template <typename First, typename Second>
bool overtakes(FakeSmmu& smmu, First first, Second second, int patience = 2000) {
  std::atomic<bool> started{false}, done{false};
  bool overtaken = false;
  std::thread other;
  smmu.on_poll = [&] {
    if (other.joinable()) return;
    other = std::thread{[&] {
      started.store(true);
      second();
      done.store(true);
    }};
    while (!started.load()) std::this_thread::yield();
    for (int i = 0; i < patience && !done.load(); ++i) std::this_thread::yield();
    overtaken = done.load();
  };
  first();
  other.join();
  smmu.on_poll = nullptr;
  return overtaken;
}

TEST_F(DomainTest, WhatIsBeingInvalidatedIsNotMappedAgain) {
  auto on_a = tag(a);
  const IPA other = kRamBase + 16 * kPage4K;
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  ASSERT_TRUE(domain->map(other, PA{0x9000'0000}, kPage4K, {}));
  const auto unmap = [&](IPA at) { return [this, at] { EXPECT_TRUE(domain->unmap(at, kPage4K)); }; };
  const auto map = [&](IPA at, PA pa) { return [this, at, pa] { EXPECT_TRUE(domain->map(at, pa, kPage4K, {})); }; };
  EXPECT_FALSE(overtakes(a, unmap(kRamBase), map(kRamBase, PA{0xa000'0000})));
  EXPECT_TRUE(overtakes(a, unmap(kRamBase), map(kRamBase + kPage4K, PA{0xb000'0000}), 10'000'000));
  ASSERT_TRUE(domain->unmap(kRamBase + kPage4K, kPage4K));
  // The last page of its table: walk caches may still know the table, for its whole 2 MiB.
  EXPECT_FALSE(overtakes(a, unmap(other), map(kRamBase, PA{0xb000'0000})));
  EXPECT_EQ(domain->lookup(kRamBase)->at, PA{0xb000'0000});
  EXPECT_FALSE(overtakes(a, unmap(kRamBase), unmap(kRamBase)));
  domain->detach(std::move(on_a));
  EXPECT_TRUE(domain->check_invariants());
}

TEST_F(DomainTest, AStreamHasOneSteAtATime) {
  auto on_a = tag(a);
  const auto install = [&](std::uint32_t sid, bool stage1, std::optional<StreamUse> before) {
    return
        [=, this, tag = on_a.get()] { EXPECT_TRUE(domain->install(*tag, StreamID{sid}, before, ste(*tag, stage1))); };
  };
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::full)));
  const auto ats_off = install(8, true, StreamUse{.stage1 = true, .ats = true});
  EXPECT_FALSE(overtakes(a, ats_off, install(8, false, StreamUse{.stage1 = true})));
  EXPECT_EQ(a.stes[StreamID{8}].get<Ste::Config>(), smmu::SteConfig::s2);
  for (const std::uint32_t sid : {8u}) ASSERT_TRUE(domain->uninstall(*on_a, StreamID{sid}, {}, aborting()));
  domain->detach(std::move(on_a));
}

// Between the store of an STE and the end of install() or uninstall(), in both directions.
TEST_F(DomainTest, AnUnmapAtTheMomentOfAnInstallReachesTheStream) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 1_GiB, {}));
  const Ste nested = ste(*on_a, true, smmu::Eats::split_stage);
  const auto expect_reached = [&](const char* when, auto&& act) {
    SCOPED_TRACE(when);
    bool reached = false;
    a.on_ste = [&](StreamID, const Ste&) {
      a.forget();
      EXPECT_TRUE(domain->protect(kRamBase, kPage4K, {.write = false}));
      reached = a.all<smmu::CfgiCdAll>().size() == 1 && a.all<smmu::TlbiNhAll>().size() == 1 &&
                a.all<smmu::AtcInv>().size() == 1;
    };
    EXPECT_TRUE(act());
    a.on_ste = nullptr;
    EXPECT_TRUE(reached);
  };
  const StreamUse all{.stage1 = true, .ats = true};
  expect_reached("installed", [&] { return domain->install(*on_a, StreamID{8}, std::nullopt, nested); });
  expect_reached("replaced by less", [&] { return domain->install(*on_a, StreamID{8}, all, ste(*on_a, false)); });
  expect_reached("replaced by more", [&] { return domain->install(*on_a, StreamID{8}, StreamUse{}, nested); });
  expect_reached("taken out", [&] { return domain->uninstall(*on_a, StreamID{8}, all, aborting()); });
  domain->detach(std::move(on_a));
}

// It does not answer an invalidation that began before it was in the array.
TEST_F(DomainTest, ADeviceThatStopsAnsweringWhileItIsInstalledIsCutOff) {
  auto on_a = tag(a);
  a.on_ste = [&](StreamID sid, const Ste& s) {
    if (s.get<Ste::EATS>() != smmu::Eats::none) a.hung.insert(sid);
  };
  const auto before = domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true, smmu::Eats::full));
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error(), Error::no_answer);
  EXPECT_EQ(a.stes[StreamID{8}].get<Ste::Config>(), smmu::SteConfig::abort);
  EXPECT_EQ(on_a->users(), 0u);
  // Nothing of it is left to invalidate, but what its TLB entries may have become.
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  EXPECT_EQ(a.all<smmu::AtcInv>().size() + a.all<smmu::CfgiCdAll>().size(), 0u);
  EXPECT_EQ(a.all<smmu::TlbiNhAll>().size(), 1u);
  domain->detach(std::move(on_a));
}

TEST_F(DomainTest, AStreamThatHasLeftIsNotCutOff) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, false, smmu::Eats::full)));
  Ste others;  // another VM's
  others.set<Ste::V>(true).set<Ste::Config>(smmu::SteConfig::s2);
  bool once = false;
  a.on_poll = [&] {
    if (a.all<smmu::AtcInv>().empty() || std::exchange(once, true)) return;
    a.hung.insert(StreamID{8});
    EXPECT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.ats = true}, aborting(), false));
    EXPECT_TRUE(a.install_ste(StreamID{8}, others));
  };
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  a.on_poll = nullptr;
  EXPECT_TRUE(once);
  EXPECT_EQ(a.stes[StreamID{8}], others);
  domain->detach(std::move(on_a));
}

// A stage-1 STE that came to nothing leaves nothing to invalidate; one that another stream has installed stays.
TEST_F(DomainTest, CombinedEntriesAreExpectedFromTheFirstStage1SteThatWasInstalled) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 1_GiB, {}));
  const auto nh_all = [&] {
    clear();
    EXPECT_TRUE(domain->protect(kRamBase, kPage4K, {}));
    return a.all<smmu::TlbiNhAll>().size();
  };
  ASSERT_TRUE(domain->install(*on_a, StreamID{7}, std::nullopt, ste(*on_a, false)));
  a.fail_install = Error::out_of_memory;
  EXPECT_FALSE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true)));
  EXPECT_EQ(nh_all(), 0u);
  // The second fails when the first has succeeded.
  a.fail_install.reset();
  ASSERT_TRUE(domain->install(*on_a, StreamID{8}, std::nullopt, ste(*on_a, true)));
  a.fail_install = Error::out_of_memory;
  EXPECT_FALSE(domain->install(*on_a, StreamID{9}, std::nullopt, ste(*on_a, true)));
  a.fail_install.reset();
  EXPECT_EQ(nh_all(), 1u);
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{7}, {}, aborting()));
  ASSERT_TRUE(domain->uninstall(*on_a, StreamID{8}, {.stage1 = true}, aborting()));
  EXPECT_EQ(nh_all(), 1u);
  domain->detach(std::move(on_a));
}

// --- CPUs, and grace -------------------------------------------------------------------------------------------------

TEST_F(DomainTest, TheCpusPartIsDoneWhileTheSyncsAreUnderWay) {
  struct Cpu final : CpuTlb {
    explicit Cpu(FakeLog& log) : log_{log} {}
    void invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) override {
      calls.push_back({ipa.value, bytes, leaf_only ? 1u : 0u});
      log_.push_back({.smmu = 77});
    }
    std::vector<std::array<std::uint64_t, 3>> calls;
    FakeLog& log_;
  } cpu{log};
  domain->set_cpu(&cpu);
  auto on_a = tag(a);
  auto on_b = tag(b);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 2 * kPage4K, {}));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  ASSERT_TRUE(domain->unmap(kRamBase + kPage4K, kPage4K));
  const std::vector<std::array<std::uint64_t, 3>> calls{{kRamBase.value, kPage4K, 1},
                                                        {kRamBase.value + kPage4K, kPage4K, 0}};
  EXPECT_EQ(cpu.calls, calls);
  const auto at = [&](auto&& which) { return std::ranges::find_if(log, which) - log.begin(); };
  const auto of_cpu = at([](const FakeEvent& e) { return e.smmu == 77; });
  EXPECT_GT(of_cpu, at([](const FakeEvent& e) { return e.smmu == 1 && e.kind == FakeEvent::Kind::sync_issued; }));
  EXPECT_LT(of_cpu, at([](const FakeEvent& e) { return e.kind == FakeEvent::Kind::sync_awaited; }));
  domain->set_cpu(nullptr);
  domain->detach(std::move(on_a));
  domain->detach(std::move(on_b));
}

thread_local unsigned reader_index = 0;

// EL2 itself walks the table, on another pCPU, and writes to what it finds.
TEST_F(DomainTest, NothingIsGivenBackBeforeReadersHaveLeft) {
  std::array<EpochGrace::Slot, 2> slots;
  EpochGrace epochs{slots, [] { return reader_index; }};
  auto own = *S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, epochs, {});
  auto on_a = *HostTag::create(a);
  ASSERT_TRUE(own->attach(*on_a));
  ASSERT_TRUE(own->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  std::atomic<bool> entered{false}, leaving{false}, synced{false};
  std::thread reader{[&] {
    reader_index = 1;
    epochs.enter();
    entered.store(true);
    while (!synced.load()) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    leaving.store(true);
    epochs.leave();
  }};
  while (!entered.load()) std::this_thread::yield();
  a.on_poll = [&] { synced.store(true); };
  bool early = false;
  pages.on_free = [&](PA) { early = early || !leaving.load(); };
  ASSERT_TRUE(own->unmap(kRamBase, kPage4K));
  EXPECT_TRUE(leaving.load());
  reader.join();
  EXPECT_FALSE(early);
  EXPECT_EQ(epochs.waiting(), 0u) << "arrays go when the last reader has gone";
  pages.on_free = nullptr;
  a.on_poll = nullptr;
  own->detach(std::move(on_a));
  EXPECT_EQ(a.vmids().in_use(), 0u);
}

struct Bbml1Test : DomainTest {
  Bbml1Test() : DomainTest{{.table = {.bbml = 1}}} {}
};
TEST_F(Bbml1Test, BlocksAreMarkedAndInvalidatedBeforeASplit) {
  auto on_a = tag(a);
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 2_MiB, {}));
  clear();
  ASSERT_TRUE(domain->unmap(kRamBase + kPage4K, kPage4K));
  EXPECT_EQ(a.all<smmu::TlbiS2Ipa>().size(), 2u);
  EXPECT_EQ(a.syncs, 2u);
  EXPECT_FALSE(domain->lookup(kRamBase + kPage4K));
  EXPECT_EQ(domain->lookup(kRamBase)->level, 3u);
  EXPECT_TRUE(domain->table().check_invariants());
  domain->detach(std::move(on_a));
}

struct Bbml0Test : DomainTest {
  Bbml0Test() : DomainTest{{.table = {.bbml = 0}}} {}
};
TEST_F(Bbml0Test, LiveBlocksAreRefused) {
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 4_MiB, {}));
  ASSERT_TRUE(domain->unmap(kRamBase + kPage4K, kPage4K));  // nobody walks it yet
  auto on_a = tag(a);
  EXPECT_EQ(domain->unmap(kRamBase + 2_MiB, kPage4K).error(), Error::live_block);
  EXPECT_TRUE(domain->unmap(kRamBase + 2_MiB, 2_MiB));
  domain->detach(std::move(on_a));
}

// --- S2_IPA ranges ---------------------------------------------------------------------------------------------------

TEST(Invalidate, RangesCoverExactlyWhatIsAsked) {
  for (const bool ril : {false, true}) {
    auto c = test::qemu_like_capabilities();
    c.idr3.set<smmu::IDR3::RIL>(ril);
    FakeSmmu smmu{0, c};
    const Target target = Target::tag(smmu, TargetKind::s2_tag, VMID{3});
    const auto array = InvalidationArray::merge(*InvalidationArray::empty(), {&target, 1});
    for (const std::uint64_t pages :
         {1ull, 2ull, 3ull, 31ull, 32ull, 33ull, 512ull, 513ull, 0x12345ull, 1ull << 35, 1ull << 36}) {
      const InvalidationRange range{.ipa = IPA{0x1000}, .bytes = pages * kPage4K};
      smmu.forget();
      invalidate(*array, range);
      if (s2_command_count(range, ril) > range.max_commands) {
        EXPECT_FALSE(ril) << pages;
        ASSERT_EQ(smmu.commands.size(), 1u);
        EXPECT_TRUE(smmu.commands[0].as<smmu::TlbiS12Vmall>());
        continue;
      }
      std::uint64_t at = 0x1000;
      for (const auto& s2 : smmu.all<smmu::TlbiS2Ipa>()) {
        using C = smmu::TlbiS2Ipa;
        EXPECT_TRUE(smmu::tlbi_range_legal(s2, ril, false));
        EXPECT_EQ(s2.get<C::Address>().value, at);
        EXPECT_EQ(s2.get<C::VMID>(), VMID{3});
        EXPECT_TRUE(s2.get<C::Leaf>());
        at += ((s2.get<C::NUM>() + 1) << s2.get<C::SCALE>()) * kPage4K;
      }
      EXPECT_EQ(at, 0x1000 + pages * kPage4K);
      EXPECT_LE(smmu.commands.size(), ril ? 8u : 64u);
      EXPECT_EQ(smmu.syncs, 1u);
    }
  }
}

TEST(Invalidate, TheWholeVmidNeedsNoSecondTlbi) {
  FakeLog log;
  FakeSmmu smmu{0, test::qemu_like_capabilities(), &log};
  const Target targets[] = {Target::tag(smmu, TargetKind::s2_tag, VMID{3}),
                            Target::tag(smmu, TargetKind::nested_clear, VMID{3}),
                            Target::stream(smmu, TargetKind::stage1_stream, StreamID{4})};
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  invalidate(*array, {.ipa = IPA{0x1000}, .bytes = 7 * kPage4K, .max_commands = 0});
  ASSERT_EQ(smmu.commands.size(), 2u);
  EXPECT_EQ(smmu.commands[0].words, smmu::Command{smmu::tlbi_s12_vmall(VMID{3})}.words);
  EXPECT_EQ(smmu.commands[1].words, smmu::Command{smmu::cfgi_cd_all(StreamID{4})}.words);
  EXPECT_EQ(smmu.syncs, 2u) << "a CD must not be fetched again by means of what S12_VMALL is about to remove";
}

TEST(Invalidate, TwoTagsOnOneInstance) {
  FakeSmmu smmu{0};
  const Target targets[] = {Target::tag(smmu, TargetKind::s2_tag, VMID{3}),
                            Target::tag(smmu, TargetKind::s2_tag, VMID{0x102})};
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  invalidate(*array, {.ipa = IPA{0x1000}, .bytes = kPage4K});
  ASSERT_EQ(smmu.all<smmu::TlbiS2Ipa>().size(), 2u);
  EXPECT_EQ(smmu.all<smmu::TlbiS2Ipa>()[0].get<smmu::TlbiS2Ipa::VMID>(), VMID{3});
  EXPECT_EQ(smmu.all<smmu::TlbiS2Ipa>()[1].get<smmu::TlbiS2Ipa::VMID>(), VMID{0x102});
  EXPECT_EQ(smmu.syncs, 1u);
  // A dead one is left out, first or last.
  for (const Target& dead : targets) {
    const auto one = InvalidationArray::merge(*InvalidationArray::empty(), targets);
    one->unref(dead);
    smmu.forget();
    invalidate(*one, {.ipa = IPA{0x1000}, .bytes = kPage4K});
    ASSERT_EQ(smmu.commands.size(), 1u);
    EXPECT_NE(smmu.all<smmu::TlbiS2Ipa>()[0].get<smmu::TlbiS2Ipa::VMID>(), dead.vmid());
    EXPECT_EQ(smmu.syncs, 1u);
  }
}

TEST(Invalidate, EachInstanceInItsOwnForm) {
  auto plain = test::qemu_like_capabilities();
  plain.idr3.set<smmu::IDR3::RIL>(false);
  auto ranges = plain;
  ranges.idr3.set<smmu::IDR3::RIL>(true);
  FakeSmmu smmus[] = {FakeSmmu{0, plain}, FakeSmmu{1, ranges}, FakeSmmu{2, plain}};
  std::vector<Target> targets;
  for (FakeSmmu& smmu : smmus) {
    targets.push_back(Target::tag(smmu, TargetKind::s2_tag, VMID{7}));
    targets.push_back(Target::tag(smmu, TargetKind::nested_clear, VMID{7}));
  }
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  const auto commands = [&](unsigned n) { return smmus[n].commands.size(); };
  invalidate(*array, {.ipa = IPA{0x1000}, .bytes = 4 * kPage4K});
  EXPECT_EQ(commands(0), 5u);
  EXPECT_EQ(commands(1), 2u);
  EXPECT_EQ(commands(2), 5u);
  for (FakeSmmu& smmu : smmus) smmu.forget();
  // Too many for those that have no ranges: the whole VMID, and no NH_ALL.
  invalidate(*array, {.ipa = IPA{0x1000}, .bytes = 128 * kPage4K});
  EXPECT_EQ(commands(0), 1u);
  EXPECT_EQ(commands(1), 2u);
  EXPECT_EQ(commands(2), 1u);
  EXPECT_TRUE(smmus[1].commands[0].as<smmu::TlbiS2Ipa>());
  EXPECT_TRUE(smmus[2].commands[0].as<smmu::TlbiS12Vmall>());
}

TEST(Invalidate, ManyInstancesAndManyCommands) {
  std::vector<std::unique_ptr<FakeSmmu>> smmus;
  std::vector<Target> targets;
  auto c = test::qemu_like_capabilities();
  c.idr3.set<smmu::IDR3::RIL>(false);
  for (unsigned i = 0; i < 70; ++i) {
    smmus.push_back(std::make_unique<FakeSmmu>(i, c));
    targets.push_back(Target::tag(*smmus.back(), TargetKind::s2_tag, VMID{1}));
  }
  const auto array = InvalidationArray::merge(*InvalidationArray::empty(), targets);
  invalidate(*array, {.ipa = IPA{}, .bytes = 50 * kPage4K});
  for (const auto& smmu : smmus) {
    EXPECT_EQ(smmu->commands.size(), 50u);
    EXPECT_EQ(smmu->syncs, 1u);
    EXPECT_GT(smmu->polls, 0u);
  }
}

}  // namespace
}  // namespace weir::stage2
