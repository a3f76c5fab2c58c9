// Instances that do not suit a domain's first table, and the tables that they get (design: "Sharing").
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "stage2/domain.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"

namespace weir::stage2 {
namespace {

using smmu::Ste;
using test::FailingNew;
using test::FakeLog;
using test::FakeSmmu;
using test::FakeTablePages;

constexpr IPA kRamBase{0x4000'0000};

Capabilities with(const std::function<void(Capabilities&)>& change) {
  auto c = test::qemu_like_capabilities();
  c.idr3.set<smmu::IDR3::FWB>(true);
  c.idr0.set<smmu::IDR0::HTTU>(smmu::Htt::access_dirty);
  change(c);
  return c;
}
Capabilities everything() {
  return with([](auto&) {});
}

class ClassesTest : public ::testing::Test {
 protected:
  explicit ClassesTest(const Table::Options& table = {.bbml = 2, .fwb = true, .dirty_state = true})
      : domain{*S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, grace,
                                 {.table = table, .cleaned = &cleaned})} {}
  FakeSmmu& add(const Capabilities& c) {
    smmus.push_back(std::make_unique<FakeSmmu>(static_cast<unsigned>(smmus.size()), c, &log));
    return *smmus.back();
  }
  HostTag& tag(FakeSmmu& smmu) {
    tags.push_back(*HostTag::create(smmu));
    EXPECT_TRUE(domain->attach(*tags.back()));
    return *tags.back();
  }
  Ste ste(const HostTag& t) const {
    Ste made;
    made.set<Ste::V>(true).set<Ste::Config>(smmu::SteConfig::s1_s2);
    domain->fill_stage2(t, made);
    return made;
  }
  void leave() {
    for (auto& t : tags)
      if (t) domain->detach(std::move(t));
    tags.clear();
  }
  // The reason for the class that an instance with `c` is in.
  std::optional<Incompatibility> reason(const Capabilities& c) {
    return domain->class_info(domain->class_of(tag(add(c))))->reason;
  }

  FakeTablePages pages, cleaned;
  ImmediateGrace grace;
  FakeLog log;
  std::vector<std::unique_ptr<FakeSmmu>> smmus;
  std::vector<std::unique_ptr<HostTag>> tags;
  std::unique_ptr<S2Domain> domain;
};

TEST_F(ClassesTest, EachClassSaysWhyItIs) {
  using namespace smmu;
  EXPECT_EQ(reason(everything()), std::nullopt);
  EXPECT_EQ(reason(with([](auto& c) { c.idr3.template set<IDR3::FWB>(false); })), Incompatibility::no_fwb);
  EXPECT_EQ(reason(with([](auto& c) { c.idr3.template set<IDR3::BBML>(1); })), Incompatibility::bbml_too_low);
  EXPECT_EQ(reason(with([](auto& c) { c.idr0.template set<IDR0::HTTU>(Htt::access); })),
            Incompatibility::no_dirty_state);
  EXPECT_EQ(reason(with([](auto& c) { c.idr0.template set<IDR0::COHACC>(false); })), Incompatibility::not_coherent);
  EXPECT_EQ(reason(with([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits42); })),
            Incompatibility::output_too_small);
  EXPECT_EQ(reason(with([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits36); })),
            Incompatibility::input_too_small);
  EXPECT_TRUE(domain->check_invariants());
  // A second one of a kind shares.
  unsigned classes = 0;
  while (domain->class_info(classes)) ++classes;
  static_cast<void>(reason(with([](auto& c) { c.idr3.template set<IDR3::FWB>(false); })));
  EXPECT_FALSE(domain->class_info(classes));
  leave();
  EXPECT_TRUE(domain->class_info(0));
  EXPECT_FALSE(domain->class_info(1)) << "a class goes with its last tag";
  EXPECT_EQ(cleaned.in_use, 0u);
}

// Walks past the caches do not update flags, which CPUs update in theirs (5.2, S2HD).
TEST_F(ClassesTest, DirtyStateIsKeptByCoherentWalksOnly) {
  using namespace smmu;
  const auto outside = with([](auto& c) { c.idr0.template set<IDR0::COHACC>(false); });
  EXPECT_FALSE(keeps_dirty_state(outside));
  EXPECT_TRUE(keeps_dirty_state(everything()));
  domain = *S2Domain::create(*Geometry::make(40, AddressSize::bits44), cleaned, grace,
                             {.table = {.bbml = 2, .dirty_state = true}, .clean_to_memory = true});
  HostTag& t = tag(add(outside));
  EXPECT_FALSE(ste(t).get<Ste::S2HA>() || ste(t).get<Ste::S2HD>());
  EXPECT_EQ(ste(t).get<Ste::S2IR0>(), WalkCacheability::non_cacheable);
  leave();
  domain.reset();
}

// IDs' widths and what has nothing to do with tables make no class.
TEST_F(ClassesTest, OtherDifferencesShareATable) {
  using namespace smmu;
  EXPECT_EQ(reason(with([](auto& c) { c.idr0.template set<IDR0::VMID16>(false).template set<IDR0::ASID16>(false); })),
            std::nullopt);
  EXPECT_EQ(reason(with([](auto& c) { c.idr3.template set<IDR3::RIL>(false); })), std::nullopt);
  EXPECT_EQ(reason(with([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits48); })), std::nullopt);
  leave();
}

struct PlainClassesTest : ClassesTest {
  PlainClassesTest() : ClassesTest{{.pages_only = true, .bbml = 2}} {}
};
TEST_F(PlainClassesTest, FeaturesThatTheFirstTableDoesNotUseMakeNoClass) {
  using namespace smmu;
  for (const bool has : {false, true}) {
    HostTag& t = tag(add(with([&](auto& c) {
      c.idr3.template set<IDR3::FWB>(has);
      c.idr0.template set<IDR0::HTTU>(has ? Htt::access_dirty : Htt::none);
      c.idr3.template set<IDR3::BBML>(has ? 2 : 0);  // there are no blocks
    })));
    EXPECT_EQ(domain->class_of(t), 0u);
    EXPECT_FALSE(ste(t).get<Ste::S2FWB>());
    EXPECT_FALSE(ste(t).get<Ste::S2HD>());
  }
  leave();
}

TEST_F(ClassesTest, StesPointAtTheTableOfTheirClass) {
  using namespace smmu;
  HostTag& first = tag(add(everything()));
  HostTag& no_fwb = tag(add(with([](auto& c) { c.idr3.template set<IDR3::FWB>(false); })));
  HostTag& no_htt = tag(add(with([](auto& c) { c.idr0.template set<IDR0::HTTU>(Htt::none); })));
  HostTag& outside = tag(add(with([](auto& c) { c.idr0.template set<IDR0::COHACC>(false); })));
  HostTag& small = tag(add(with([](auto& c) { c.idr5.template set<IDR5::OAS>(AddressSize::bits36); })));
  std::set<const Table*> tables;
  for (const auto& t : tags) {
    const Ste s = ste(*t);
    EXPECT_EQ(s.get<Ste::S2TTB>(), domain->table_of(*t).root());
    EXPECT_EQ(s.get<Ste::S2VMID>(), t->vmid());
    EXPECT_TRUE(consistent(static_cast<unsigned>(s.get<Ste::S2T0SZ>()), static_cast<unsigned>(s.get<Ste::S2SL0>()),
                           bits(s.get<Ste::S2PS>())));
    EXPECT_EQ(s.get<Ste::S2HA>(), s.get<Ste::S2HD>());
    tables.insert(&domain->table_of(*t));
  }
  EXPECT_EQ(tables.size(), 5u);
  EXPECT_EQ(domain->table_of(first).root(), domain->table().root());
  EXPECT_TRUE(ste(first).get<Ste::S2FWB>());
  EXPECT_FALSE(ste(no_fwb).get<Ste::S2FWB>());
  EXPECT_EQ(ste(first).get<Ste::S2IR0>(), WalkCacheability::write_back_ra_wa);
  EXPECT_EQ(ste(outside).get<Ste::S2IR0>(), WalkCacheability::non_cacheable);
  EXPECT_EQ(ste(outside).get<Ste::S2OR0>(), WalkCacheability::non_cacheable);
  EXPECT_EQ(ste(small).get<Ste::S2T0SZ>(), 28u);
  EXPECT_EQ(ste(small).get<Ste::S2PS>(), AddressSize::bits36);
  EXPECT_TRUE(ste(first).get<Ste::S2HD>());
  EXPECT_FALSE(ste(no_htt).get<Ste::S2HD>());
  leave();
}

// What each class's table says, wherever something was ever mapped.
class MixedTest : public ClassesTest {
 protected:
  MixedTest() {
    using namespace smmu;
    tag(add(everything()));
    tag(add(with([](auto& c) { c.idr3.template set<IDR3::FWB>(false).template set<IDR3::BBML>(1); })));
    tag(add(with([](auto& c) { c.idr0.template set<IDR0::COHACC>(false).template set<IDR0::VMID16>(false); })));
    tag(add(with([](auto& c) {
      c.idr5.template set<IDR5::OAS>(AddressSize::bits36);
      c.idr3.template set<IDR3::BBML>(0);
    })));
  }
  void expect_same(IPA at, const std::optional<Mapping>& mapping) {
    for (const auto& t : tags) {
      const auto found = domain->table_of(*t).lookup(at);
      ASSERT_EQ(found.has_value(), mapping.has_value()) << at.value << " class " << domain->class_of(*t);
      if (!found) continue;
      EXPECT_EQ(found->at, mapping->at);
      EXPECT_EQ(found->attributes, mapping->attributes);
    }
  }
};

TEST_F(MixedTest, EveryChangeReachesEveryClass) {
  std::mt19937 random{7};
  const auto pick = [&](unsigned n) { return std::uniform_int_distribution<unsigned>{0, n - 1}(random); };
  constexpr unsigned kPages = 1300;  // more than two tables of the last level
  std::vector<std::optional<Mapping>> expected(kPages);
  for (unsigned round = 0; round < 120; ++round) {
    const unsigned first = pick(4) == 0 ? 512 * pick(2) : pick(kPages);
    const unsigned count = pick(3) == 0 ? 512 : 1 + pick(kPages - first);
    if (first + count > kPages) continue;
    const IPA at = kRamBase + first * kPage4K;
    const PA pa{0x8000'0000 + std::uint64_t{first} * kPage4K};
    const auto part = std::span{expected}.subspan(first, count);
    const bool any = std::ranges::any_of(part, [](const auto& m) { return m.has_value(); });
    const bool all = std::ranges::all_of(part, [](const auto& m) { return m.has_value(); });
    switch (pick(3)) {
      case 0: {
        const auto done = domain->map(at, pa, count * kPage4K, {});
        EXPECT_EQ(done.has_value(), !any);
        if (done)
          for (unsigned i = 0; i < count; ++i) part[i] = Mapping{.at = pa + i * kPage4K, .attributes = {}, .level = 3};
        break;
      }
      case 1:
        ASSERT_TRUE(domain->unmap(at, count * kPage4K));
        for (auto& m : part) m.reset();
        break;
      default: {
        const Attributes attributes{.write = pick(2) == 0};
        const auto done = domain->protect(at, count * kPage4K, attributes);
        EXPECT_EQ(done.has_value(), all);
        if (done)
          for (auto& m : part) m->attributes = attributes;
      }
    }
    for (unsigned i = 0; i < kPages; i += 1 + pick(40)) expect_same(kRamBase + i * kPage4K, expected[i]);
    ASSERT_TRUE(domain->check_invariants()) << round;
  }
  leave();
}

TEST_F(MixedTest, EveryInstanceIsInvalidatedInOneGo) {
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  for (std::size_t i = 0; i < tags.size(); ++i)
    ASSERT_TRUE(domain->install(*tags[i], StreamID{8}, std::nullopt, ste(*tags[i])));
  log.clear();
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  // The first SYNC is awaited when the last instance has its commands.
  std::set<unsigned> issued;
  for (const auto& e : log) {
    if (e.kind == test::FakeEvent::Kind::sync_issued) issued.insert(e.smmu);
    if (e.kind == test::FakeEvent::Kind::sync_awaited) break;
  }
  EXPECT_EQ(issued.size(), tags.size());
  for (const auto& s : smmus) {
    ASSERT_EQ(s->all<smmu::TlbiS2Ipa>().size(), 1u);
    EXPECT_FALSE(s->all<smmu::TlbiS2Ipa>()[0].get<smmu::TlbiS2Ipa::Leaf>())
        << "table pages went, in one class at least";
    EXPECT_EQ(s->all<smmu::CfgiCdAll>().size(), 1u);
  }
  for (auto& t : tags) ASSERT_TRUE(domain->uninstall(*t, StreamID{8}, {.stage1 = true}, Ste{}.set<Ste::V>(true)));
  leave();
}

TEST_F(MixedTest, AClassThatComesLaterHasEverything) {
  leave();
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 1_GiB, {.execute = true}));
  ASSERT_TRUE(domain->protect(kRamBase + 4_MiB, kPage4K, {.write = false}));
  ASSERT_TRUE(domain->map(IPA{0x0a00'0000}, PA{0x7000'0000}, 2 * kPage4K, {.write = false}));
  tag(add(with([](auto& c) { c.idr3.template set<smmu::IDR3::FWB>(false); })));
  EXPECT_EQ(domain->class_of(*tags.back()), 1u);
  for (const IPA at : {kRamBase, kRamBase + 4_MiB, kRamBase + 4_MiB + kPage4K, kRamBase + 1_GiB, IPA{0x0a00'1000}})
    expect_same(at, domain->lookup(at));
  EXPECT_TRUE(domain->check_invariants());
  leave();
}

// Nothing is left half done, whichever allocation fails.
TEST_F(MixedTest, WithoutMemoryEverythingIsAsItWas) {
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 4_MiB, {}));
  const auto state = [&] {
    std::vector<std::uint64_t> s;
    for (const auto& t : tags)
      for (std::uint64_t at = 0; at < 8_MiB; at += 64 * kPage4K)
        s.push_back(domain->table_of(*t).lookup(kRamBase + at) ? 1 : 0);
    s.push_back(domain->tag_count());
    for (unsigned c = 0; domain->class_info(c); ++c) s.push_back(domain->class_info(c)->tags);
    return s;
  };
  // Fails until it has memory enough; says how often it failed.
  const auto until_it_works = [&](const char* what, auto&& act, bool splits = false) {
    SCOPED_TRACE(what);
    unsigned failures = 0;
    for (const auto source : {0, 1, 2}) {
      const auto before = state();
      const std::size_t used = pages.in_use, used_cleaned = cleaned.in_use;
      for (int n = 0; n < 60; ++n) {
        std::expected<void, Error> done;
        {
          std::optional<FailingNew> failing;
          if (source == 0) failing.emplace(n);
          pages.fail_after = source == 1 ? n : -1;
          cleaned.fail_after = source == 2 ? n : -1;
          done = act();
        }
        pages.fail_after = cleaned.fail_after = -1;
        if (done) return failures;  // with the other sources it worked at once, or never needed them
        ++failures;
        EXPECT_EQ(done.error(), Error::out_of_memory);
        EXPECT_EQ(state(), before);
        EXPECT_TRUE(domain->check_invariants());
        if (splits) continue;  // some of the classes may have smaller blocks now
        EXPECT_EQ(pages.in_use, used);
        EXPECT_EQ(cleaned.in_use, used_cleaned);
      }
    }
    ADD_FAILURE() << "never";
    return failures;
  };
  EXPECT_GT(until_it_works("map", [&] { return domain->map(kRamBase + 4_MiB, PA{0x9000'0000}, 3 * kPage4K, {}); }), 3u);
  ASSERT_TRUE(domain->unmap(kRamBase + 4_MiB, 3 * kPage4K));
  pages.fail_after = 0;
  EXPECT_EQ(domain->map(kRamBase + 4_MiB, PA{0x9000'0000}, 3 * kPage4K, {}).error(), Error::out_of_memory);
  pages.fail_after = -1;
  cleaned.fail_after = 0;
  EXPECT_EQ(domain->map(kRamBase + 4_MiB, PA{0x9000'0000}, 3 * kPage4K, {}).error(), Error::out_of_memory);
  EXPECT_FALSE(domain->lookup(kRamBase + 4_MiB)) << "mapped nowhere, because it could not be mapped everywhere";
  cleaned.fail_after = -1;
  EXPECT_TRUE(domain->check_invariants());
  // Blocks are split in three of the four; what one of them has split when another fails stays so.
  const IPA inside = kRamBase + 64 * kPage4K;
  EXPECT_GT(until_it_works("unmap", [&] { return domain->unmap(inside, kPage4K); }, true), 1u);
  const IPA second = inside + 2_MiB;
  EXPECT_GT(until_it_works("protect", [&] { return domain->protect(second, kPage4K, {.write = false}); }, true), 1u);
  leave();

  // A class of its own, a tag, an STE with everything.
  FakeSmmu& late = add(with([](auto& c) { c.idr3.template set<smmu::IDR3::FWB>(false); }));
  auto made = *HostTag::create(late);
  EXPECT_GT(until_it_works("attach", [&] { return domain->attach(*made); }), 5u);
  tags.push_back(std::move(made));
  HostTag& t = *tags.back();
  Ste full = ste(t);
  full.set<Ste::EATS>(smmu::Eats::full);
  EXPECT_GT(until_it_works("install", [&] { return domain->install(t, StreamID{8}, std::nullopt, full); }), 2u);
  EXPECT_EQ(t.users(), 1u);
  {
    const FailingNew failing{0};
    EXPECT_TRUE(domain->uninstall(t, StreamID{8}, {.stage1 = true, .ats = true}, Ste{}.set<Ste::V>(true)));
    leave();
  }
  EXPECT_EQ(late.vmids().in_use(), 0u);
}

// A range that is mapped in the first classes when the last one has no memory was visible there for a while.
TEST_F(MixedTest, AMapThatIsUndoneIsInvalidated) {
  log.clear();
  cleaned.fail_after = 0;
  EXPECT_EQ(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}).error(), Error::out_of_memory);
  cleaned.fail_after = -1;
  for (const auto& s : smmus) EXPECT_EQ(s->all<smmu::TlbiS2Ipa>().size(), 1u);
  EXPECT_FALSE(domain->lookup(kRamBase));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, kPage4K, {}));
  leave();
}

TEST_F(MixedTest, TwoTagsOfOneInstanceNeverShareAVmid) {
  FakeSmmu& narrow = *smmus[2];
  std::set<std::uint16_t> seen;
  for (const auto& t : tags)
    if (&t->smmu() == &narrow) seen.insert(t->vmid().value);
  while (true) {
    auto made = HostTag::create(narrow);
    if (!made) {
      EXPECT_EQ(made.error(), Error::no_free_vmid);
      break;
    }
    EXPECT_TRUE(seen.insert((*made)->vmid().value).second);
    ASSERT_TRUE(domain->attach(**made));
    tags.push_back(std::move(*made));
  }
  EXPECT_EQ(seen.size(), 255u);
  EXPECT_FALSE(seen.contains(0));
  EXPECT_TRUE(HostTag::create(*smmus[0])) << "16 bits there";
  leave();
  EXPECT_EQ(narrow.vmids().in_use(), 0u);
}

// --- Dirty log -------------------------------------------------------------------------------------------------------

TEST_F(ClassesTest, ALogOfAllTablesSeesWhatIsWrittenThroughAny) {
  const HostTag& first = tag(add(everything()));
  const HostTag& low = tag(add(with([](auto& c) { c.idr3.template set<smmu::IDR3::BBML>(1); })));
  ASSERT_NE(domain->class_of(low), domain->class_of(first));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 2_MiB, {}));
  ASSERT_TRUE(domain->begin_log());
  EXPECT_TRUE(domain->log_sees_devices());
  EXPECT_EQ(&domain->logged(), &domain->table());
  log.clear();
  ASSERT_TRUE(domain->start_log(kRamBase, 2_MiB));
  for (const auto& s : smmus) EXPECT_GE(s->all<smmu::TlbiS2Ipa>().size(), 1u);
  std::array<std::uint64_t, 8> dirty{};
  ASSERT_TRUE(domain->collect_dirty(kRamBase, 512, dirty));
  EXPECT_TRUE(std::ranges::all_of(dirty, [](auto w) { return w == 0; }));
  EXPECT_TRUE(domain->table_of(first).mark_dirty(kRamBase + 3 * kPage4K));
  EXPECT_TRUE(domain->table_of(low).mark_dirty(kRamBase + 64 * kPage4K));
  for (auto& s : smmus) s->forget();
  ASSERT_TRUE(domain->collect_dirty(kRamBase, 512, dirty));
  EXPECT_EQ(dirty[0], 8u);
  EXPECT_EQ(dirty[1], 1u);
  for (const auto& s : smmus) EXPECT_EQ(s->all<smmu::TlbiS2Ipa>().size(), 1u) << "they may still take it for dirty";
  dirty = {};
  ASSERT_TRUE(domain->collect_dirty(kRamBase, 512, dirty));
  EXPECT_EQ(dirty[0] | dirty[1], 0u);
  ASSERT_TRUE(domain->stop_log(kRamBase, 2_MiB));
  domain->end_log();
  EXPECT_TRUE(domain->check_invariants());
  leave();
}

TEST_F(PlainClassesTest, ALogOfItsOwnFollowsEveryChange) {
  const HostTag& t = tag(add(everything()));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x8000'0000}, 4_MiB, {.execute = true}));
  EXPECT_EQ(domain->start_log(kRamBase, 2_MiB).error(), Error::incompatible);
  const std::size_t before = pages.in_use;
  {
    const FailingNew failing{2};
    EXPECT_EQ(domain->begin_log().error(), Error::out_of_memory);
  }
  EXPECT_EQ(pages.in_use, before);
  ASSERT_TRUE(domain->begin_log());
  EXPECT_FALSE(domain->log_sees_devices());
  const Table& log_table = domain->logged();
  EXPECT_NE(&log_table, &domain->table());
  EXPECT_FALSE(domain->class_info(1)) << "no class of instances";
  EXPECT_EQ(domain->class_of(t), 0u);
  // Half of it is there when things change.
  ASSERT_TRUE(domain->copy_to_log(kRamBase, 2_MiB));
  ASSERT_TRUE(domain->unmap(kRamBase, kPage4K));
  ASSERT_TRUE(domain->protect(kRamBase + 2_MiB - kPage4K, 2 * kPage4K, {.write = false}));
  ASSERT_TRUE(domain->map(kRamBase, PA{0x9000'0000}, kPage4K, {}));
  ASSERT_TRUE(domain->copy_to_log(kRamBase, 4_MiB));
  for (std::uint64_t at = 0; at < 4_MiB; at += kPage4K) {
    const auto mine = log_table.lookup(kRamBase + at), theirs = domain->lookup(kRamBase + at);
    ASSERT_TRUE(mine && theirs);
    EXPECT_EQ(mine->at, theirs->at);
    EXPECT_EQ(mine->attributes, theirs->attributes);
  }
  const auto cpus =
      *Table::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, {.pages_only = true, .bbml = 2});
  ASSERT_TRUE(domain->share_root(*cpus, kRamBase, 1_GiB));
  ASSERT_TRUE(domain->start_log(kRamBase, 4_MiB));
  domain->unshare_root(*cpus);
  const auto shared = domain->share_log(*cpus, kRamBase, 1_GiB);
  std::array<std::uint64_t, 16> dirty{};
  EXPECT_TRUE(log_table.mark_dirty(kRamBase + 5 * kPage4K));
  ASSERT_TRUE(domain->collect_dirty(kRamBase, 1024, dirty));
  EXPECT_EQ(dirty[0], 32u);
  if (shared) {
    EXPECT_EQ(cpus->walk(kRamBase)->at, PA{0x9000'0000});
    domain->unshare_root(*cpus);
    EXPECT_FALSE(cpus->walk(kRamBase));
  }
  ASSERT_TRUE(domain->stop_log(kRamBase, 4_MiB));
  domain->end_log();
  EXPECT_EQ(&domain->logged(), &domain->table());
  EXPECT_TRUE(domain->check_invariants());
  leave();
}

}  // namespace
}  // namespace weir::stage2
