// The software SMMUv3's own rules, each against the section of Arm IHI 0070G.b that it follows: translation and its
// caches as seen from outside. For its parts see registers_test.cpp, commands_test.cpp, ...
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

TEST_F(Model, GbpaDecidesWhileDisabled) {  // 6.3.14
  smmu = std::make_unique<model::Smmu>(memory, Parameters{});
  EXPECT_EQ(read(0, 0x1234), 0x1234u);
  smmu->write(Reg::GBPA, GBPA{}.set<GBPA::ABORT>(true).set<GBPA::Update>(true).words[0]);
  EXPECT_EQ(read(0, 0x1234), 0x1234u);  // not yet
  smmu->settle();
  EXPECT_EQ(GBPA{{{smmu->read(Reg::GBPA)}}}.get<GBPA::Update>(), false);
  EXPECT_EQ(read(0, 0x1234), 0u);
}

TEST_F(Model, GuardedRegistersIgnoreStores) {  // 6.3.24 to 6.3.29
  start();
  const auto before = smmu->misuses();
  smmu->write64(Reg::STRTAB_BASE, 0x5000);
  smmu->write64(Reg::CMDQ_BASE, 0x5000);
  smmu->write(Reg::CMDQ_CONS, 3);
  EXPECT_EQ(smmu->misuses(), before + 3);
  EXPECT_EQ(cons(), 0u);
}

TEST_F(Model, StreamTableErrors) {  // 7.3.3, 7.3.5
  start();
  EXPECT_EQ(read(16, kVa), 0u);
  EXPECT_EQ(last_event().id(), EventId::C_BAD_STREAMID);
  EXPECT_EQ(read(3, kVa), 0u);
  const Event bad = last_event();
  EXPECT_EQ(bad.id(), EventId::C_BAD_STE);
  EXPECT_EQ(bad.get<Event::StreamID>(), 3u);
  put_ste(4, Ste{}.set<Ste::V>(true));
  EXPECT_EQ(read(4, kVa), 0u);
  EXPECT_TRUE(no_event());  // Config == abort is silent
  put_ste(5, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass));
  EXPECT_EQ(read(5, kVa), kVa);
}

TEST_F(Model, TwoLevelStreamTable) {  // 3.3.1
  start();
  smmu->write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  smmu->settle();
  const PA level1 = memory.allocate(kPage4K);
  const PA level2 = memory.allocate(kPage4K);
  smmu->write64(Reg::STRTAB_BASE, level1.value);
  smmu->write(Reg::STRTAB_BASE_CFG, STRTAB_BASE_CFG{}
                                        .set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level)
                                        .set<STRTAB_BASE_CFG::SPLIT>(6)
                                        .set<STRTAB_BASE_CFG::LOG2SIZE>(10)
                                        .words[0]);
  smmu->write(Reg::CR0, CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  smmu->settle();
  EXPECT_EQ(read(65, kVa), 0u);  // caches the invalid descriptor, too (3.21.3)
  EXPECT_EQ(last_event().id(), EventId::C_BAD_STREAMID);
  ASSERT_TRUE(memory.store(level1 + 8, L1Std{}.set<L1Std::Span>(2).set<L1Std::L2Ptr>(level2.value)));
  ASSERT_TRUE(memory.store(level2 + 64, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass)));
  sync({cfgi_ste(StreamID{65}, true)});
  EXPECT_EQ(read(65, kVa), 0u) << "Leaf == 1 leaves the level-1 descriptor";
  sync({cfgi_ste(StreamID{65}, false)});
  EXPECT_EQ(read(65, kVa), kVa);
  EXPECT_EQ(read(66, kVa), 0u) << "beyond Span";
  EXPECT_EQ(last_event().id(), EventId::C_BAD_STREAMID);
}

TEST_F(Model, ContextDescriptorErrors) {  // 7.3.10, 7.3.11
  start();
  put_ste(1, s1(PA{0x10'0000}, 1));  // no memory there
  EXPECT_EQ(read(1, kVa), 0u);
  const auto fetch = last_event().as<FCdFetch>();
  ASSERT_TRUE(fetch);
  EXPECT_EQ(fetch->get<FCdFetch::FetchAddr>(), 0x10'0000u);
  put_ste(2, s1(put_cd(Cd{}), 1));
  EXPECT_EQ(read(2, kVa), 0u);
  EXPECT_EQ(last_event().id(), EventId::C_BAD_CD);
}

TEST_F(Model, Stage1Faults) {  // 7.3.13 to 7.3.16
  start();
  Tables t = tables();
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  EXPECT_EQ(read(1, kVa), 0u);
  auto translation = last_event().as<FTranslation>();
  ASSERT_TRUE(translation);
  EXPECT_FALSE(translation->get<FTranslation::S2>());
  EXPECT_EQ(translation->get<FTranslation::CLASS>(), EventClass::IN);
  EXPECT_EQ(translation->get<FTranslation::InputAddr>().value, kVa);
  EXPECT_EQ(read(1, std::uint64_t{1} << 39), 0u) << "beyond T0SZ";
  EXPECT_EQ(last_event().id(), EventId::F_TRANSLATION);

  const std::uint64_t p = page();
  t.map(kVa, p, kPageRo);
  EXPECT_EQ(read(1, kVa + 8), p + 8);
  EXPECT_EQ(written(1, kVa), 0u);
  const auto permission = last_event().as<FPermission>();
  ASSERT_TRUE(permission);
  EXPECT_FALSE(permission->get<FPermission::RnW>());
  t.map(kVa + 0x1000, p, kPageRw & ~kUser);
  EXPECT_EQ(read(1, kVa + 0x1000), 0u);
  EXPECT_EQ(last_event().id(), EventId::F_PERMISSION);
  t.map(kVa + 0x2000, p, kPageRw & ~kAccessed);
  EXPECT_EQ(read(1, kVa + 0x2000), 0u);
  EXPECT_EQ(last_event().id(), EventId::F_ACCESS);
  t.map(kVa + 0x3000, std::uint64_t{1} << 41);
  EXPECT_EQ(read(1, kVa + 0x3000), 0u);
  EXPECT_EQ(last_event().id(), EventId::F_ADDR_SIZE);
  t.store(t.root() + 8 * 8, 0x10'0000 | kValid | kTable);
  EXPECT_EQ(read(1, std::uint64_t{8} << 30), 0u);
  EXPECT_EQ(last_event().id(), EventId::F_WALK_EABT);
}

TEST_F(Model, AnUnmappedPageStaysUntilItsInvalidationHasCompleted) {  // 4.3.8, 4.7.3
  unsigned stale = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    prod = 0;
    start({.seed = seed, .prefetches = false, .evicts = false});
    Tables t = tables();
    const std::uint64_t p = page();
    t.map(kVa, p);
    put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
    ASSERT_EQ(read(1, kVa), p);
    t.unmap(kVa);
    EXPECT_EQ(read(1, kVa), p) << "no command";
    submit({nh_va(1, 7, kVa), sync_none()});
    EXPECT_EQ(read(1, kVa), p) << "submitted is not executed";
    for (int i = 0; i < 3; ++i) smmu->step();
    if (cons() != 0 && cons() != prod) stale += read(1, kVa) == p ? 1 : 0;
    while (cons() != prod) smmu->step();
    EXPECT_EQ(read(1, kVa), 0u);
    EXPECT_EQ(last_event().id(), EventId::F_TRANSLATION);
  }
  EXPECT_GT(stale, 5u) << "CONS past a command does not mean that it has taken effect";
}

TEST_F(Model, OnlyTheRightTagInvalidates) {  // 3.17, 4.4.2
  start();
  Tables t = tables();
  const std::uint64_t p = page();
  t.map(kVa, p);
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  ASSERT_EQ(read(1, kVa), p);
  t.unmap(kVa);
  sync({nh_va(2, 7, kVa)});
  EXPECT_EQ(read(1, kVa), p) << "another VMID";
  sync({nh_va(1, 8, kVa)});
  EXPECT_EQ(read(1, kVa), p) << "another ASID";
  sync({nh_va(1, 7, kVa + 0x1000)});
  EXPECT_EQ(read(1, kVa), p) << "another address";
  sync({tlbi_nh_asid(VMID{1}, ASID{8}), tlbi_nh_all(VMID{2}), tlbi_s2_ipa(VMID{1}, IPA{kVa}, true)});
  EXPECT_EQ(read(1, kVa), p);
  sync({nh_va(1, 7, kVa)});
  EXPECT_EQ(read(1, kVa), 0u);
}

TEST_F(Model, AnotherInstanceDoesNotInvalidate) {
  start();
  Tables t = tables();
  const std::uint64_t p = page();
  t.map(kVa, p);
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  ASSERT_EQ(read(1, kVa), p);
  t.unmap(kVa);
  const auto first = std::move(smmu);
  start();
  prod = 0;
  sync({tlbi_nsnh_all(), cfgi_all()});
  EXPECT_EQ(first->access(StreamID{1}, IOVA{kVa}, false), PA{p});
}

TEST_F(Model, DevicesWithEqualTagsShareEntries) {  // 3.17
  start();
  Tables t1 = tables();
  Tables t2 = tables();
  const std::uint64_t p = page();
  t1.map(kVa, p);
  put_ste(1, s1(put_cd(context(t1.root(), 7)), 1));
  put_ste(2, s1(put_cd(context(t2.root(), 7)), 1));
  put_ste(3, s1(put_cd(context(t2.root(), 7)), 2));
  ASSERT_EQ(read(1, kVa), p);
  EXPECT_EQ(read(2, kVa), p) << "through the other's tables";
  EXPECT_EQ(read(3, kVa), 0u) << "another VMID";
}

TEST_F(Model, GlobalEntries) {  // 3.17.1, 4.4.2
  start();
  Tables t = tables();
  const std::uint64_t p = page();
  t.map(kVa, p, kPageRw & ~kNotGlobal);
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  Tables empty = tables();
  put_ste(2, s1(put_cd(context(empty.root(), 8)), 1));
  ASSERT_EQ(read(1, kVa), p);
  EXPECT_EQ(read(2, kVa), p) << "any ASID";
  t.unmap(kVa);
  sync({tlbi_nh_asid(VMID{1}, ASID{7})});
  EXPECT_EQ(read(1, kVa), p) << "NH_ASID leaves global entries";
  sync({nh_va(1, 9, kVa)});
  EXPECT_EQ(read(1, kVa), 0u) << "NH_VA of any ASID takes them";
}

TEST_F(Model, LeafOnlyLeavesTableDescriptors) {  // 4.4.2
  unsigned kept = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    prod = 0;
    start({.seed = seed, .prefetches = false, .evicts = false});
    Tables t = tables();
    const std::uint64_t p = page();
    const std::uint64_t q = page();
    t.map(kVa, p);
    t.map(kVa + 0x1000, p);
    put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
    ASSERT_EQ(read(1, kVa), p);
    // A new level-3 table in place of the old one.
    const std::uint64_t level2 = t.load(t.root() + (kVa >> 30) * 8) & ~std::uint64_t{0xfff};
    t.store(level2 + ((kVa >> 21) & 511) * 8, 0);
    t.map(kVa, q);
    sync({nh_va(1, 7, kVa)});
    kept += read(1, kVa) == p ? 1 : 0;
    sync({tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa}, false)});
    EXPECT_EQ(read(1, kVa), q);
  }
  EXPECT_GT(kept, 3u);
}

TEST_F(Model, RangeInvalidation) {  // 4.4.1.1
  start();
  Tables t = tables();
  const std::uint64_t p = page();
  for (unsigned i = 0; i < 8; ++i) t.map(kVa + i * kPage4K, p);
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  for (unsigned i = 0; i < 8; ++i) ASSERT_EQ(read(1, kVa + i * kPage4K), p);
  for (unsigned i = 0; i < 8; ++i) t.unmap(kVa + i * kPage4K);
  const auto range = [](unsigned ttl) {
    return TlbiRange{.tg = TlbiGranule::size4k, .ttl = ttl, .num = 1, .scale = 1};  // 4 pages
  };
  sync({tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa}, true, range(2))});
  EXPECT_EQ(read(1, kVa), p) << "the hint says level 2";
  sync({tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa}, true, range(3))});
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(read(1, kVa + i * kPage4K), i < 4 ? 0 : p) << i;
}

TEST_F(Model, ConfigurationStaysUntilItIsInvalidated) {  // 3.21.3, 4.3
  start();
  Tables t = tables();
  const std::uint64_t p = page();
  const std::uint64_t q = page();
  t.map(kVa, p);
  const PA cd = put_cd(context(t.root(), 7));
  put_ste(1, s1(cd, 1));
  ASSERT_EQ(read(1, kVa), p);
  put_ste(1, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass));
  EXPECT_EQ(read(1, kVa), p) << "STE without CFGI";
  sync({cfgi_cd(StreamID{1}, SubstreamID{}, true), cfgi_ste(StreamID{2}, true), tlbi_nsnh_all()});
  EXPECT_EQ(read(1, kVa), p) << "CFGI of something else";
  sync({cfgi_ste(StreamID{1}, true)});
  EXPECT_EQ(read(1, kVa), kVa);
  put_ste(1, s1(cd, 1));
  sync({cfgi_all()});
  ASSERT_EQ(read(1, kVa), p);
  // The CD: other tables under another ASID.
  Tables u = tables();
  u.map(kVa, q);
  ASSERT_TRUE(memory.store(cd, context(u.root(), 8)));
  EXPECT_EQ(read(1, kVa), p);
  sync({cfgi_cd_all(StreamID{1})});
  EXPECT_EQ(read(1, kVa), q);
}

TEST_F(Model, StageTwoOnlyWithConcatenatedRoot) {  // 5.2 STE.S2SL0
  start();
  // 40 bits from level 1: two tables side by side.
  const std::uint64_t root = memory.allocate(2 * kPage4K).value;
  const std::uint64_t p = memory.allocate(kPage4K).value;
  ASSERT_TRUE(memory.store(PA{root + 513 * 8}, std::uint64_t{0x40'4000'0000} | (kS2Rw & ~kTable)));
  ASSERT_TRUE(memory.store(PA{root + 8}, (p & ~std::uint64_t{0x3fff'ffff}) | (kS2Rw & ~kTable & ~std::uint64_t{0x80})));
  put_ste(1, with_s2(Ste{}, SteConfig::s2, root, 3).set<Ste::S2T0SZ>(24));
  EXPECT_EQ(written(1, 0x80'4000'1234), 0x40'4000'1234u);
  EXPECT_EQ(read(1, 0x4000'0000), p & ~std::uint64_t{0x3fff'ffff});
  EXPECT_EQ(written(1, 0x4000'0010), 0u);
  const auto permission = last_event().as<FPermission>();
  ASSERT_TRUE(permission);
  EXPECT_TRUE(permission->get<FPermission::S2>());
  EXPECT_EQ(permission->get<FPermission::IPA>().value, 0x4000'0000u);
  EXPECT_EQ(read(1, std::uint64_t{1} << 40), 0u);
  EXPECT_EQ(last_event().id(), EventId::F_TRANSLATION);
}

// Stage 1 over stage 2; both tables are made of the same pages, so stage 2 maps identically but for the data.
class Nested : public Model {
 protected:
  void SetUp() override {
    start();
    stage2.emplace(tables());
    const auto identity = [&](std::uint64_t at) { stage2->map(at, at, kS2Rw); };
    stage1.emplace([&](std::uint64_t at) { return memory.pointer(PA{at}); },
                   [&, identity] {
                     const std::uint64_t at = page();
                     identity(at);
                     return at;
                   });
    data = page();
    stage2->map(kIpa, data, kS2Rw);
    stage1->map(kVa, kIpa);
    cd = put_cd(context(stage1->root(), 7));
    identity(cd.value);
    put_ste(1, with_s2(s1(cd, 5), SteConfig::s1_s2, stage2->root(), 5));
  }
  static constexpr std::uint64_t kIpa = 0x7000'0000;
  std::optional<Tables> stage1;
  std::optional<Tables> stage2;
  std::uint64_t data = 0;
  PA cd;
};

TEST_F(Nested, CombinedEntriesNeedBothInvalidations) {  // 4.4.3.1
  ASSERT_EQ(read(1, kVa), data);
  stage2->unmap(kIpa);
  sync({tlbi_s2_ipa(VMID{5}, IPA{kIpa}, true)});
  EXPECT_EQ(read(1, kVa), data) << "S2_IPA leaves combined entries";
  sync({tlbi_nh_all(VMID{5})});
  EXPECT_EQ(read(1, kVa), 0u);
  const auto fault = last_event().as<FTranslation>();
  ASSERT_TRUE(fault);
  EXPECT_TRUE(fault->get<FTranslation::S2>());
  EXPECT_EQ(fault->get<FTranslation::CLASS>(), EventClass::IN);
  EXPECT_EQ(fault->get<FTranslation::IPA>().value, kIpa);
}

TEST_F(Nested, AStaleStage2EntryRefillsACombinedOne) {  // 16.2, 4.7.3: the wrong order
  ASSERT_EQ(read(1, kVa), data);
  stage2->unmap(kIpa);
  sync({tlbi_nh_all(VMID{5})});
  EXPECT_EQ(read(1, kVa), data);
  sync({tlbi_s2_ipa(VMID{5}, IPA{kIpa}, true)});
  EXPECT_EQ(read(1, kVa), data);
  sync({tlbi_s12_vmall(VMID{5})});
  EXPECT_EQ(read(1, kVa), 0u);
}

TEST_F(Nested, TheTranslationOfTheTtbIsConfiguration) {  // 3.21.3
  ASSERT_EQ(read(1, kVa), data);
  // The stage-1 root moves in physical memory; what is left behind leads elsewhere.
  const std::uint64_t moved = page();
  std::memcpy(memory.pointer(PA{moved}), memory.pointer(PA{stage1->root()}), kPage4K);
  stage2->map(stage1->root(), moved, kS2Rw);
  std::memset(memory.pointer(PA{stage1->root()}), 0, kPage4K);
  sync({tlbi_s12_vmall(VMID{5})});
  EXPECT_EQ(read(1, kVa), 0u) << "the cached CD still points to the old root";
  sync({cfgi_cd_all(StreamID{1}), tlbi_s12_vmall(VMID{5})});
  EXPECT_EQ(read(1, kVa), data);
}

TEST_F(Nested, Stage2FaultsOfTheWalkAndTheCd) {  // 7.3.13: CLASS
  stage2->unmap(cd.value);
  EXPECT_EQ(read(1, kVa), 0u);
  auto fault = last_event().as<FTranslation>();
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->get<FTranslation::CLASS>(), EventClass::CD);
  EXPECT_TRUE(fault->get<FTranslation::S2>());
  stage2->map(cd.value, cd.value, kS2Rw);
  stage2->unmap(stage1->root());
  EXPECT_EQ(read(1, kVa), 0u);
  fault = last_event().as<FTranslation>();
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->get<FTranslation::CLASS>(), EventClass::TT);
  EXPECT_EQ(fault->get<FTranslation::IPA>().value, stage1->root());
}

TEST_F(Model, CommandErrors) {  // 7.1
  start();
  Command unknown;
  unknown.words[0] = 0xff;
  submit({cfgi_all(), unknown, cfgi_all(), sync_none()});
  smmu->settle();
  EXPECT_EQ(cons(), 1u);
  EXPECT_EQ(error(), CmdqError::CERROR_ILL);
  EXPECT_NE(smmu->read(Reg::GERROR), smmu->read(Reg::GERRORN));
  ASSERT_TRUE(memory.store(cmdq + sizeof(Command), Command{sync_none()}));
  smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  smmu->settle();
  EXPECT_EQ(cons(), 4u);
  // Reserved bits, commands of absent features.
  Command reserved = tlbi_nh_all(VMID{1});
  reserved.words[0] |= 1u << 9;
  for (const Command& c : {reserved, Command{tlbi_el2_all()}, Command{atc_inv_all(StreamID{})}}) {
    submit({c});
    smmu->settle();
    EXPECT_EQ(error(), CmdqError::CERROR_ILL);
    prod = cons();
    smmu->write(Reg::CMDQ_PROD, prod);
    smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  }
  memory.free(cmdq, kPage4K);
  prod = (prod + 1) & 63;
  smmu->write(Reg::CMDQ_PROD, prod);
  smmu->settle();
  EXPECT_EQ(error(), CmdqError::CERROR_ABT);
}

TEST_F(Model, EventQueueOverflow) {  // 7.4
  start();
  for (unsigned i = 0; i < 12; ++i) EXPECT_EQ(read(16 + i, kVa), 0u);
  smmu->settle();
  const EVENTQ_PROD full{{{smmu->read(Reg::EVENTQ_PROD)}}};
  EXPECT_EQ(full.get<EVENTQ_PROD::WR>(), 8u);
  EXPECT_TRUE(full.get<EVENTQ_PROD::OVFLG>());
  EXPECT_EQ(smmu->events_lost(), 4u);
}

TEST_F(Model, EventsBeforeASyncAreVisibleAfterIt) {  // 4.7.3
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    prod = 0;
    start({.seed = seed});
    for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(read(16 + i, kVa), 0u);
    sync({});
    EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 4u);
  }
}

TEST_F(Model, PrefetchFillsCachesAtAnyTime) {  // 16.2
  start({.seed = 3, .evicts = false});
  Tables t = tables();
  const std::uint64_t p = page();
  t.map(kVa, p);
  smmu->hint(StreamID{1}, IOVA{kVa});
  for (unsigned i = 0; i < 50; ++i) smmu->step();
  ASSERT_TRUE(smmu->ste_cached(StreamID{1})) << "an STE with V == 0 may be cached, too";
  put_ste(1, s1(put_cd(context(t.root(), 7)), 1));
  EXPECT_EQ(read(1, kVa), 0u);
  EXPECT_EQ(last_event().id(), EventId::C_BAD_STE);
  sync({cfgi_ste(StreamID{1}, true)});
  for (unsigned i = 0; i < 200 && smmu->tlb().leaves().empty(); ++i) smmu->step();
  EXPECT_FALSE(smmu->tlb().leaves().empty()) << "no device has asked";
  EXPECT_EQ(read(1, kVa), p);
}

}  // namespace
}  // namespace weir::model::test
