#include "stage2/domain.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

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
  EXPECT_EQ(without([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits36); }),
            Incompatibility::input_too_small);
  EXPECT_EQ(without([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits42); }),
            Incompatibility::output_too_small);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::TTENDIAN>(TtEndian::big); }), Incompatibility::big_endian);
  EXPECT_EQ(without([](auto& c) { c.idr0.template set<IDR0::COHACC>(false); }), Incompatibility::not_coherent);
  EXPECT_EQ(without([](auto& c) { c.idr3.template set<IDR3::BBML>(1); }), Incompatibility::bbml_too_low);
  for (unsigned i = 0; i <= static_cast<unsigned>(Incompatibility::bbml_too_low); ++i)
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
  HostTag numbered{a, VMID{0x1234}};
  numbered.dirty();  // not allocated: not to be freed
  domain->fill_stage2(numbered, ste);
  EXPECT_EQ(ste.get<Ste::S2VMID>(), VMID{0x1234});
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
  EXPECT_EQ(in_use_at_end, 200u) << "a table page was freed before both instances had completed";
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
  for (int fail = 0; fail < 2; ++fail) {
    const FailingNew failing{fail};
    EXPECT_EQ(domain->attach(*made).error(), Error::out_of_memory);
  }
  EXPECT_EQ(domain->tag_count(), 0u);
  ASSERT_TRUE(domain->attach(*made));
  for (int fail = 0; fail < 2; ++fail) {
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
