// Substreams, ATS, bypass, and what the modelled caches keep until which command: Arm IHI 0070G.b, 3.4, 3.9, 3.17, 3.21,
// 4.2 to 4.4, 5.2, 5.3, 7.3, 13.6, 13.7, 16.2.
#include "tests/model/translation.hpp"

#include "tests/model/translation_cache.hpp"
#include "tests/unit/model/translator_rig.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

// --- Bypass and GBPA ---

class Passing : public TranslatorRig {
 protected:
  void SetUp() override { start(); }
};

TEST_F(Passing, DisabledSmmu_6_3_14) {
  controls.cr0.set<CR0::SMMUEN>(false);
  auto t = go({.sid = StreamID{1}, .address = 0x1234});
  ASSERT_TRUE(t);
  EXPECT_TRUE(t->identity);
  EXPECT_EQ(t->address, 0x1234u);
  EXPECT_FALSE(t->ste);
  EXPECT_TRUE(failure(std::uint64_t{1} << 44).silent) << "3.4";
  controls.gbpa.set<GBPA::ABORT>(true);
  EXPECT_TRUE(failure(0x1234).silent);
  translator->prefetch(controls, StreamID{1}, std::nullopt, 0x1000);
  EXPECT_FALSE(translator->ste_cached(StreamID{1})) << "3.21.3: nothing is cached";
  Fault f = failure({.sid = StreamID{1}, .address = 0, .kind = Access::Kind::ats_request});
  EXPECT_EQ(f.id, EventId::F_BAD_ATS_TREQ);
  EXPECT_EQ(f.ats, Fault::Ats::unsupported_request);
  EXPECT_FALSE(f.silent);
  f = failure({.sid = StreamID{1}, .address = 0, .kind = Access::Kind::translated});
  EXPECT_EQ(f.id, EventId::F_TRANSL_FORBIDDEN);
}

TEST_F(Passing, BypassAndAbort_5_2_Config) {
  put_ste(1, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass));
  put_ste(2, Ste{}.set<Ste::V>(true));
  EXPECT_EQ(read(0x1234), 0x1234u);
  const Fault f = failure(std::uint64_t{1} << 44);
  EXPECT_EQ(f.id, EventId::F_ADDR_SIZE);
  EXPECT_FALSE(f.s2 || f.silent);
  EXPECT_TRUE(failure(0x1234, 2).silent);
  EXPECT_EQ(failure(0x1234, 3).id, EventId::C_BAD_STE);
  EXPECT_FALSE(failure(0x1234, 3).silent);
  const Fault substream = failure({.sid = StreamID{1}, .ssid = SubstreamID{0}, .address = 0x1000});
  EXPECT_EQ(substream.id, EventId::C_BAD_SUBSTREAMID);
  EXPECT_EQ(substream.ssid, SubstreamID{0});
}

// --- Substreams ---

class Substreams : public TranslatorRig {
 protected:
  static constexpr unsigned kBits = 11;
  void SetUp() override {
    start();
    base = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1).set<Ste::S1CDMax>(kBits);
  }
  // A CD through which kVa leads to its own page.
  [[nodiscard]] Cd context(std::uint64_t& to, std::uint16_t asid) {
    GranuleTables t{memory, 12, 39, 1};
    to = page();
    t.map(kVa, to);
    return cd_of(t.root(), 12, 39, asid);
  }
  [[nodiscard]] Fault of(std::optional<SubstreamID> ssid) {
    return failure({.sid = StreamID{1}, .ssid = ssid, .address = kVa});
  }
  [[nodiscard]] std::uint64_t at(std::uint32_t ssid) { return read(kVa, 1, SubstreamID{ssid}); }
  Ste base;
};

TEST_F(Substreams, LinearTable_5_2_S1Fmt) {
  const PA table = memory.allocate(std::size_t{64} << kBits);
  for (const auto format : {S1Fmt::linear, S1Fmt::reserved}) {
    put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{table.value}).set<Ste::S1Fmt>(format));
    flush();
    std::uint16_t asid = 1;
    for (const std::uint32_t ssid : {1u, 2u, 1000u, (1u << kBits) - 1}) {
      std::uint64_t to = 0;
      ASSERT_TRUE(memory.store(table + std::uint64_t{ssid} * sizeof(Cd), context(to, asid++)));
      flush();
      EXPECT_EQ(at(ssid), to) << ssid;
    }
    EXPECT_EQ(of(SubstreamID{1u << kBits}).id, EventId::C_BAD_SUBSTREAMID);
    EXPECT_EQ(of(SubstreamID{3}).id, EventId::C_BAD_CD);
  }
}

TEST_F(Substreams, TwoLevelTables_5_3) {
  for (const unsigned split : {6u, 10u}) {
    const auto format = split == 6 ? S1Fmt::two_level_4k : S1Fmt::two_level_64k;
    const PA level1 = memory.allocate(kPage4K);
    put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{level1.value}).set<Ste::S1Fmt>(format));
    flush();
    std::uint16_t asid = 1;
    for (const std::uint32_t ssid : {1u, (1u << split) + 5, (1u << kBits) - 1}) {
      const PA level2 = memory.allocate(std::size_t{64} << split);
      ASSERT_TRUE(memory.store(level1 + std::uint64_t{ssid >> split} * 8,
                               L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{level2.value})));
      std::uint64_t to = 0;
      ASSERT_TRUE(memory.store(level2 + std::uint64_t{ssid & ((1u << split) - 1)} * sizeof(Cd), context(to, asid++)));
      flush();
      EXPECT_EQ(at(ssid), to) << ssid;
    }
    ASSERT_TRUE(memory.store(level1, L1Cd{}));
    flush();
    Fault f = of(SubstreamID{1});
    EXPECT_EQ(f.id, EventId::C_BAD_SUBSTREAMID) << "V == 0";
    ASSERT_TRUE(memory.store(level1, L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{std::uint64_t{1} << 44})));
    put_ste(
        1,
        Ste{base}.set<Ste::S1ContextPtr>(IPA{level1.value}).set<Ste::S1Fmt>(format).set<Ste::S1DSS>(S1Dss::substream0));
    flush();
    f = of(std::nullopt);
    EXPECT_EQ(f.id, EventId::C_BAD_SUBSTREAMID) << "3.4.3";
    EXPECT_EQ(f.ssid, SubstreamID{0}) << "7.3.9";
    put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{0x10'0000}).set<Ste::S1Fmt>(format));
    flush();
    f = of(SubstreamID{1});
    EXPECT_EQ(f.id, EventId::F_CD_FETCH);
    EXPECT_EQ(f.fetch, 0x10'0000u);
  }
}

TEST_F(Substreams, DefaultSubstream_5_2_S1DSS) {
  const PA table = memory.allocate(std::size_t{64} << kBits);
  std::uint64_t zero = 0;
  std::uint64_t one = 0;
  ASSERT_TRUE(memory.store(table, context(zero, 1)));
  ASSERT_TRUE(memory.store(table + sizeof(Cd), context(one, 2)));
  for (const auto dss : {S1Dss::terminate, S1Dss::reserved, S1Dss::bypass, S1Dss::substream0}) {
    put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{table.value}).set<Ste::S1DSS>(dss));
    flush();
    EXPECT_EQ(at(1), one);
    if (dss == S1Dss::substream0) {
      EXPECT_EQ(read(kVa), zero);
      EXPECT_EQ(of(SubstreamID{0}).id, EventId::F_STREAM_DISABLED);
    } else {
      EXPECT_EQ(at(0), zero);
    }
    if (dss == S1Dss::bypass) {
      EXPECT_EQ(read(kVa), kVa);
      EXPECT_EQ(failure(std::uint64_t{1} << 44).id, EventId::F_ADDR_SIZE);
    }
    if (dss == S1Dss::terminate || dss == S1Dss::reserved) EXPECT_EQ(of(std::nullopt).id, EventId::F_STREAM_DISABLED);
  }
  put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{table.value}).set<Ste::S1CDMax>(0));
  flush();
  EXPECT_EQ(read(kVa), zero);
  EXPECT_EQ(of(SubstreamID{0}).id, EventId::C_BAD_SUBSTREAMID) << "substreams are disabled";
}

TEST_F(Substreams, CommandsTakeOneCdOrAll_4_3_3) {
  const PA level1 = memory.allocate(kPage4K);
  const PA level2 = memory.allocate(kPage4K);
  ASSERT_TRUE(memory.store(level1, L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{level2.value})));
  put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{level1.value}).set<Ste::S1Fmt>(S1Fmt::two_level_4k));
  std::uint64_t to[4];
  for (std::uint16_t i = 1; i < 4; ++i) {
    ASSERT_TRUE(memory.store(level2 + i * sizeof(Cd), context(to[i], i)));
    EXPECT_EQ(at(i), to[i]);
  }
  for (std::uint16_t i = 1; i < 4; ++i) ASSERT_TRUE(memory.store(level2 + i * sizeof(Cd), Cd{}));
  run(cfgi_cd(StreamID{1}, SubstreamID{1}, true));
  run(cfgi_cd(StreamID{2}, SubstreamID{2}, true));
  EXPECT_EQ(of(SubstreamID{1}).id, EventId::C_BAD_CD);
  EXPECT_EQ(at(2), to[2]);
  EXPECT_EQ(at(3), to[3]);
  // The level-1 descriptor: only without Leaf, by any SubstreamID that it stands for.
  const PA moved = memory.allocate(kPage4K);
  std::uint64_t other = 0;
  ASSERT_TRUE(memory.store(moved + sizeof(Cd), context(other, 9)));
  ASSERT_TRUE(memory.store(level1, L1Cd{}.set<L1Cd::V>(true).set<L1Cd::L2Ptr>(IPA{moved.value})));
  run(cfgi_cd(StreamID{1}, SubstreamID{1}, true));
  EXPECT_EQ(of(SubstreamID{1}).id, EventId::C_BAD_CD) << "through the old table";
  run(cfgi_cd(StreamID{1}, SubstreamID{1}, true));
  run(cfgi_cd(StreamID{1}, SubstreamID{64}, false));
  EXPECT_EQ(of(SubstreamID{1}).id, EventId::C_BAD_CD);
  run(cfgi_cd(StreamID{1}, SubstreamID{1}, true));
  run(cfgi_cd(StreamID{1}, SubstreamID{63}, false));
  EXPECT_EQ(at(1), other);
  EXPECT_EQ(at(2), to[2]) << "the other CDs stay";
  run(cfgi_cd_all(StreamID{1}));
  EXPECT_EQ(of(SubstreamID{2}).id, EventId::C_BAD_CD);
  // CFGI_STE takes the stream's CDs along.
  EXPECT_EQ(at(1), other);
  ASSERT_TRUE(memory.store(moved + sizeof(Cd), Cd{}));
  EXPECT_EQ(at(1), other);
  run(cfgi_ste(StreamID{1}, true));
  EXPECT_EQ(of(SubstreamID{1}).id, EventId::C_BAD_CD);
}

TEST_F(Substreams, ACdMayBeKeptBeforeItIsValid_3_21_3) {
  const PA table = memory.allocate(std::size_t{64} << kBits);
  put_ste(1, Ste{base}.set<Ste::S1ContextPtr>(IPA{table.value}));
  std::uint64_t one = 0;
  std::uint64_t two = 0;
  ASSERT_TRUE(memory.store(table + sizeof(Cd), context(one, 1)));
  EXPECT_EQ(at(1), one);
  for (int i = 0; i < 500; ++i) translator->speculate(controls);
  ASSERT_TRUE(translator->cd_cached(StreamID{1}, SubstreamID{2})) << "nobody has used it";
  EXPECT_TRUE(translator->ste_cached(StreamID{2}));
  ASSERT_TRUE(memory.store(table + 2 * sizeof(Cd), context(two, 2)));
  EXPECT_EQ(of(SubstreamID{2}).id, EventId::C_BAD_CD);
  run(cfgi_cd(StreamID{1}, SubstreamID{2}, true));
  EXPECT_EQ(at(2), two);
}

// --- The TLB ---

class Caching : public TranslatorRig {
 protected:
  void SetUp() override { fresh(Parameters::everything()); }
  void fresh(const Parameters& p) {
    start(p);
    tables.emplace(memory, 12, 39, 1);
    cd_at = put_cd(cd_of(tables->root()));
    put_ste(1, s1_of(cd_at));
    data = page();
  }
  [[nodiscard]] static Command va(std::uint64_t address, bool leaf = true, TlbiRange range = {}) {
    return tlbi_nh_va(VMID{1}, ASID{7}, IOVA{address}, leaf, range);
  }
  // Does the command remove the entry for this block or page?
  [[nodiscard]] bool removes(const Command& c, std::uint64_t address, int level, std::uint64_t touch) {
    const std::uint64_t size = tables->bytes(level);
    tables->map(address, 0x8'0000'0000 & ~(size - 1), kUserRw, level);
    EXPECT_NE(read(touch), 0u);
    tables->unmap(address, level);
    EXPECT_NE(read(touch), 0u);
    run(c);
    const bool gone = read(touch) == 0;
    run(tlbi_nsnh_all());
    return gone;
  }
  std::optional<GranuleTables> tables;
  PA cd_at;
  std::uint64_t data = 0;
};

TEST_F(Caching, AddressesMatchWithinTheEntry_4_4) {
  constexpr std::uint64_t kBlock = 0x4000'0000;
  EXPECT_TRUE(removes(va(kBlock), kBlock, 2, kBlock + 0x1000));
  EXPECT_TRUE(removes(va(kBlock + 0x1f'f000), kBlock, 2, kBlock));
  EXPECT_FALSE(removes(va(kBlock + 0x20'0000), kBlock, 2, kBlock));
  EXPECT_TRUE(removes(tlbi_nh_vaa(VMID{1}, IOVA{kBlock}, true), kBlock, 3, kBlock));
  EXPECT_FALSE(removes(tlbi_nh_vaa(VMID{2}, IOVA{kBlock}, true), kBlock, 3, kBlock));
  EXPECT_TRUE(removes(tlbi_nh_asid(VMID{1}, ASID{7}), kBlock, 3, kBlock));
  EXPECT_FALSE(removes(tlbi_nh_asid(VMID{1}, ASID{8}), kBlock, 3, kBlock));
  EXPECT_FALSE(removes(tlbi_s2_ipa(VMID{1}, IPA{kBlock}, true), kBlock, 3, kBlock)) << "stage 1";
  EXPECT_TRUE(removes(tlbi_s12_vmall(VMID{1}), kBlock, 3, kBlock));
  EXPECT_FALSE(removes(tlbi_s12_vmall(VMID{2}), kBlock, 3, kBlock));
  EXPECT_TRUE(removes(tlbi_nsnh_all(), kBlock, 3, kBlock));
}

TEST_F(Caching, RangesAndHints_4_4_1_1) {
  using enum TlbiGranule;
  constexpr std::uint64_t kAt = 0x4000'0000;
  const auto range = [](TlbiGranule tg, unsigned ttl, unsigned num, unsigned scale) {
    return TlbiRange{.tg = tg, .ttl = ttl, .num = num, .scale = scale};
  };
  EXPECT_TRUE(removes(va(kAt, true, range(size4k, 3, 0, 0)), kAt, 3, kAt));
  EXPECT_FALSE(removes(va(kAt, true, range(size4k, 2, 0, 0)), kAt, 3, kAt)) << "the hint says level 2";
  EXPECT_TRUE(removes(va(kAt, true, range(size4k, 2, 0, 0)), kAt, 2, kAt));
  EXPECT_FALSE(removes(va(kAt, true, range(size4k, 3, 0, 0)), kAt, 2, kAt));
  EXPECT_TRUE(removes(va(kAt, true, range(size4k, 1, 0, 0)), kAt, 1, kAt));
  EXPECT_FALSE(removes(va(kAt, true, range(size16k, 3, 0, 0)), kAt, 3, kAt)) << "another granule";
  EXPECT_FALSE(removes(va(kAt, true, range(size64k, 0, 1, 0)), kAt, 3, kAt));
  // (NUM + 1) * 2^SCALE granules.
  EXPECT_TRUE(removes(va(kAt, true, range(size4k, 0, 2, 1)), kAt + 0x5000, 3, kAt + 0x5000));
  EXPECT_FALSE(removes(va(kAt, true, range(size4k, 0, 2, 1)), kAt + 0x6000, 3, kAt + 0x6000));
  EXPECT_TRUE(removes(va(0, true, range(size4k, 0, 31, 31)), kAt, 3, kAt));
  EXPECT_TRUE(removes(va(kAt - 0x1000, true, range(size4k, 0, 1, 0)), kAt, 2, kAt + 0x1000)) << "any part of a block";
  // Misaligned for the level: the range is UNPREDICTABLE.
  EXPECT_FALSE(removes(va(kAt + 0x1000, true, range(size4k, 2, 0, 0)), kAt, 2, kAt));
}

TEST_F(Caching, TableEntriesGoWithoutLeafOnly_4_4_2) {
  const TlbiRange any{};
  const TlbiRange level3{.tg = TlbiGranule::size4k, .ttl = 3};
  const TlbiRange level2{.tg = TlbiGranule::size4k, .ttl = 2};
  unsigned kept[4] = {};
  for (unsigned kind = 0; kind < 4; ++kind)
    for (std::uint64_t seed = 0; seed < 24; ++seed) {
      fresh(Parameters::everything(seed));
      tables->map(kVa, data);
      EXPECT_EQ(read(kVa), data);
      // Another table of level 3 in the old one's place.
      const std::uint64_t other = page();
      tables->store(tables->descriptor(kVa, 2), 0);
      tables->map(kVa, other);
      run(kind == 0 ? va(kVa, true) : va(kVa, false, kind == 1 ? any : kind == 2 ? level3 : level2));
      if (kind == 3) run(va(kVa, true));  // TTL 2 spares entries of level 3
      kept[kind] += read(kVa) == data ? 1 : 0;
    }
  EXPECT_GT(kept[0], 3u);
  EXPECT_EQ(kept[1], 0u);
  EXPECT_EQ(kept[2], 0u);
  EXPECT_GT(kept[3], 3u) << "a table descriptor of level 2 is not above level 2";
}

TEST_F(Caching, GlobalEntriesAndAsidSets_3_17_1) {
  tables->map(kVa, data, kUserRw & ~kLeafNg);
  GranuleTables none{memory, 12, 39, 1};
  put_ste(2, s1_of(put_cd(cd_of(none.root(), 12, 39, 8))));
  put_ste(3, s1_of(put_cd(cd_of(none.root(), 12, 39, 8).set<Cd::ASET>(false))));
  put_ste(4, s1_of(put_cd(cd_of(none.root(), 12, 39, 8)), 2));
  EXPECT_EQ(read(kVa), data);
  EXPECT_EQ(read(kVa, 2), data);
  EXPECT_EQ(read(kVa, 3), 0u) << "another ASID set";
  EXPECT_EQ(read(kVa, 4), 0u) << "another VMID";
  tables->unmap(kVa);
  run(tlbi_nh_asid(VMID{1}, ASID{7}));
  EXPECT_EQ(read(kVa), data);
  run(tlbi_nh_va(VMID{1}, ASID{1234}, IOVA{kVa}, true));
  EXPECT_EQ(read(kVa), 0u);
}

TEST_F(Caching, OverlappingEntries_3_21_1) {
  for (unsigned bbml = 0; bbml < 3; ++bbml) {
    unsigned conflicts = 0;
    unsigned old = 0;
    unsigned fresh_ones = 0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      auto p = Parameters::everything(seed);
      p.bbml = bbml;
      p.tlb_conflicts = true;
      fresh(p);
      const std::uint64_t block = 0x80'0000'0000 - 0x4000'0000;
      tables->map(kVa + 0x1000, 0x9000);
      EXPECT_EQ(read(kVa + 0x1000), 0x9000u);
      tables->store(tables->descriptor(kVa, 2), 0);  // a block, without a break
      tables->map(kVa, block, kUserRw, 2);
      run(tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa + 0x2000}, false));  // the table, but not the page's entry
      EXPECT_NE(read(kVa), 0u);
      const auto t = go({.sid = StreamID{1}, .address = kVa + 0x1000});
      if (!t) {
        EXPECT_EQ(t.error().id, EventId::F_TLB_CONFLICT);
        ++conflicts;
      } else {
        old += t->address == 0x9000 ? 1 : 0;
        fresh_ones += t->address == block + 0x1000 ? 1 : 0;
      }
    }
    EXPECT_EQ(conflicts, bbml == 2 ? 0u : 20u);
    if (bbml == 2) EXPECT_TRUE(old > 0 && fresh_ones > 0) << "one or the other";
  }
}

TEST_F(Caching, BlocksWithNtAreNotKept_3_21_1_2) {
  for (const unsigned bbml : {1u, 2u}) {
    auto p = Parameters::everything();
    p.bbml = bbml;
    fresh(p);
    tables->map(kVa, 0x4000'0000, kUserRw | (1 << 16), 2);
    EXPECT_EQ(read(kVa + 0x1234), 0x4000'1234u);
    tables->unmap(kVa, 2);
    EXPECT_EQ(read(kVa + 0x1234) != 0, bbml == 2);
  }
}

TEST_F(Caching, EverythingMayBeFetchedEarly_16_2) {
  translator->hint(StreamID{1}, std::nullopt, kVa);
  tables->map(kVa, data);
  for (int i = 0; i < 100; ++i) translator->speculate(controls);
  EXPECT_TRUE(translator->ste_cached(StreamID{1}));
  EXPECT_TRUE(translator->cd_cached(StreamID{1}));
  EXPECT_FALSE(translator->tlb().leaves().empty());
  tables->unmap(kVa);
  ASSERT_TRUE(memory.store(cd_at, Cd{}));
  put_ste(1, Ste{});
  EXPECT_EQ(read(kVa), data);
  // A changed CD before its CFGI: evicted, fetched anew.
  for (int i = 0; i < 1000; ++i) translator->evict();
  EXPECT_EQ(failure(kVa).id, EventId::C_BAD_STE);
}

TEST_F(Caching, PrefetchCommands_4_2) {
  tables->map(kVa, data);
  tables->map(kVa + 0x4000, data);
  run(PrefetchConfig{}.set<PrefetchConfig::StreamID>(1));
  EXPECT_TRUE(translator->cd_cached(StreamID{1}));
  EXPECT_TRUE(translator->tlb().leaves().empty());
  run(PrefetchAddr{}
          .set<PrefetchAddr::StreamID>(1)
          .set<PrefetchAddr::Address>(IOVA{kVa})
          .set<PrefetchAddr::Size>(1)
          .set<PrefetchAddr::Stride>(2));
  EXPECT_EQ(translator->tlb().leaves().size(), 2u);
}

// --- Both stages in the caches ---

class Fractured : public TranslatorRig {
 protected:
  static constexpr std::uint64_t kIpa = 0x70'0000'0000;
  void SetUp() override { fresh(0); }
  void fresh(std::uint64_t seed, const Parameters& p = Parameters::everything()) {
    Parameters q = p;
    q.seed = seed;
    start(q);
    second.emplace(memory, 12, 39, 1);
    first.emplace(memory, 12, 39, 1);
    first->on_table = [this](std::uint64_t at) { identity(at); };
    identity(first->root());
    const PA cd = put_cd(cd_of(first->root()));
    identity(cd.value);
    put_ste(1, with_s2(s1_of(cd), SteConfig::s1_s2, *second));
    // A block over pages.
    first->map(kVa, kIpa, kUserRw, 2);
    for (std::uint64_t i = 0; i < 16; ++i) second->map(kIpa + i * kPage4K, 0x1'0000'0000 + i * 0x10000, kS2All);
  }
  void identity(std::uint64_t at) { second->map(at, at, kS2All); }
  std::optional<GranuleTables> first;
  std::optional<GranuleTables> second;
};

TEST_F(Fractured, APieceGoesWithItsBlock_4_4) {
  for (std::uint64_t i = 0; i < 16; ++i) EXPECT_EQ(read(kVa + i * kPage4K), 0x1'0000'0000 + i * 0x10000);
  first->unmap(kVa, 2);
  for (std::uint64_t i = 0; i < 16; ++i) EXPECT_NE(read(kVa + i * kPage4K), 0u);
  run(tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa + 0x10'0000}, true));
  for (std::uint64_t i = 0; i < 16; ++i) EXPECT_EQ(read(kVa + i * kPage4K), 0u) << i;
}

TEST_F(Fractured, StaleStage2RefillsCombined_4_4_3_1_16_2) {
  EXPECT_NE(read(kVa), 0u);
  second->unmap(kIpa);
  run(tlbi_nh_all(VMID{1}));
  EXPECT_NE(read(kVa), 0u) << "from the stage-2 entry";
  run(tlbi_s2_ipa(VMID{1}, IPA{kIpa}, true));
  EXPECT_NE(read(kVa), 0u) << "from the combined one";
  run(tlbi_s2_ipa(VMID{1}, IPA{kIpa}, true));
  run(tlbi_nh_all(VMID{1}));
  const Fault f = failure(kVa);
  EXPECT_TRUE(f.s2);
  EXPECT_EQ(f.ipa, kIpa);
}

TEST_F(Fractured, StageOneEntriesStandAlone_16_2) {
  unsigned alone = 0;
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    fresh(seed);
    EXPECT_NE(read(kVa), 0u);
    first->unmap(kVa, 2);
    alone += read(kVa + 5 * kPage4K) != 0 ? 1 : 0;  // never used, but of the same block
  }
  EXPECT_GT(alone, 2u);
}

TEST_F(Fractured, WhereATableLiesIsKeptWithItsDescriptor_3_21) {
  unsigned stale = 0;
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    fresh(seed);
    EXPECT_NE(read(kVa), 0u);
    // The level-2 table moves in physical memory; what stays behind is empty.
    const std::uint64_t table = first->load(first->descriptor(kVa, 1)) & bit_mask(47, 12);
    const std::uint64_t moved = page();
    for (std::uint64_t i = 0; i < kPage4K; i += 8) first->store(moved + i, first->load(table + i));
    for (std::uint64_t i = 0; i < kPage4K; i += 8) first->store(table + i, 0);
    second->map(table, moved, kS2All);
    run(tlbi_s2_ipa(VMID{1}, IPA{table}, false));
    run(tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa}, true));
    stale += read(kVa) == 0 ? 1 : 0;
    run(tlbi_nh_all(VMID{1}));
    EXPECT_NE(read(kVa), 0u);
  }
  EXPECT_GT(stale, 2u);
}

TEST_F(Fractured, AsQemuHasIt) {
  fresh(0, Parameters::qemu());
  EXPECT_NE(read(kVa), 0u);
  EXPECT_NE(read(kVa + kPage4K), 0u);
  first->unmap(kVa, 2);
  run(tlbi_nh_va(VMID{1}, ASID{7}, IOVA{kVa}, true));
  EXPECT_EQ(read(kVa), 0u);
  EXPECT_NE(read(kVa + kPage4K), 0u) << "4: NH_VA removes only 4 KiB of a fractured block";
  run(tlbi_nh_asid(VMID{1}, ASID{7}));
  EXPECT_EQ(read(kVa + kPage4K), 0u);
  // 2: no IPA with a permission fault from a hit.
  fresh(0, Parameters::qemu());
  second->map(kIpa, 0x1'0000'0000, kS2All & ~kS2Write);
  Fault f = failure({.sid = StreamID{1}, .address = kVa, .write = true});
  EXPECT_EQ(f.ipa, kIpa);
  f = failure({.sid = StreamID{1}, .address = kVa, .write = true});
  EXPECT_EQ(f.id, EventId::F_PERMISSION);
  EXPECT_EQ(f.ipa, 0u);
  // 1: a stage-2 fault on a table below the root.
  fresh(0, Parameters::qemu());
  const std::uint64_t table = first->load(first->descriptor(kVa, 1)) & bit_mask(47, 12);
  second->unmap(table);
  f = failure(kVa);
  EXPECT_EQ(f.id, EventId::F_TRANSLATION);
  EXPECT_FALSE(f.s2);
  EXPECT_EQ(f.what, EventClass::TT);
  EXPECT_EQ(f.ipa, table);
}

// --- ATS ---

class Ats : public TranslatorRig {
 protected:
  static constexpr std::uint64_t kIpa = 0x70'0000'0000;
  void SetUp() override { fresh(); }
  void fresh() {
    start();
    second.emplace(memory, 12, 39, 1);
    first.emplace(memory, 12, 39, 1);
    first->on_table = [this](std::uint64_t at) { second->map(at, at, kS2All); };
    second->map(first->root(), first->root(), kS2All);
    cd = put_cd(cd_of(first->root()));
    second->map(cd.value, cd.value, kS2All);
    data = page();
    first->map(kVa, kIpa);
    second->map(kIpa, data, kS2All);
    both = with_s2(s1_of(cd), SteConfig::s1_s2, *second);
    controls.cr2.set<CR2::REC_CFG_ATS>(false);
  }
  void set(const Ste& ste) {
    put_ste(1, ste);
    flush();
  }
  [[nodiscard]] std::expected<Translation, Fault> request(std::uint64_t address, bool write = true) {
    return go({.sid = StreamID{1}, .address = address, .write = write, .kind = Access::Kind::ats_request});
  }
  [[nodiscard]] std::expected<Translation, Fault> translated(std::uint64_t address, bool write = true) {
    return go({.sid = StreamID{1}, .address = address, .write = write, .kind = Access::Kind::translated});
  }
  void refused(const std::expected<Translation, Fault>& t, Fault::Ats how, std::optional<EventId> recorded) {
    ASSERT_FALSE(t);
    EXPECT_EQ(t.error().ats, how);
    EXPECT_EQ(t.error().silent, !recorded.has_value());
    if (recorded) EXPECT_EQ(t.error().id, *recorded);
    EXPECT_FALSE(t.error().stalls);
  }
  std::optional<GranuleTables> first;
  std::optional<GranuleTables> second;
  PA cd;
  Ste both;
  std::uint64_t data = 0;
};

TEST_F(Ats, FullAndSplitStage_13_6_3) {
  set(Ste{both}.set<Ste::EATS>(Eats::full));
  auto t = request(kVa + 0x123);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->address, data);
  EXPECT_FALSE(t->ipa);
  EXPECT_TRUE(t->read && t->write && !t->execute);
  auto through = translated(data + 8);
  ASSERT_TRUE(through);
  EXPECT_EQ(through->address, data + 8);
  set(Ste{both}.set<Ste::EATS>(Eats::split_stage));
  t = request(kVa);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->address, kIpa);
  EXPECT_TRUE(t->ipa);
  through = translated(kIpa + 8);
  ASSERT_TRUE(through);
  EXPECT_EQ(through->address, data + 8);
  // Stage 2 stays in force, and its faults are recorded as usual (3.9.1.3).
  second->unmap(kIpa);
  flush();
  through = translated(kIpa);
  ASSERT_FALSE(through);
  EXPECT_EQ(through.error().id, EventId::F_TRANSLATION);
  EXPECT_TRUE(through.error().s2);
  EXPECT_FALSE(through.error().silent);
  refused(request(kVa), Fault::Ats::denied, std::nullopt);
  // The smaller of both permissions.
  second->map(kIpa, data, kS2All & ~kS2Write);
  flush();
  t = request(kVa);
  ASSERT_TRUE(t);
  EXPECT_TRUE(t->read && !t->write);
}

TEST_F(Ats, RefusedRequests_3_9_1_2) {
  using enum Fault::Ats;
  set(both);
  refused(request(kVa), unsupported_request, EventId::F_BAD_ATS_TREQ);
  set(Ste{both}.set<Ste::EATS>(Eats::full).set<Ste::Config>(SteConfig::bypass));
  refused(request(kVa), unsupported_request, EventId::F_BAD_ATS_TREQ);
  set(Ste{both}.set<Ste::EATS>(Eats::full).set<Ste::Config>(SteConfig::abort));
  refused(request(kVa), unsupported_request, std::nullopt);
  controls.cr0.set<CR0::ATSCHK>(false);
  set(Ste{both}.set<Ste::EATS>(Eats::split_stage));
  refused(request(kVa), unsupported_request, EventId::F_BAD_ATS_TREQ);
  controls.cr0.set<CR0::ATSCHK>(true);
  refused(request(kVa), unsupported_request, EventId::F_BAD_ATS_TREQ);  // ATSCHK is cached with the STE
  flush();
  EXPECT_TRUE(request(kVa));
  for (const bool record : {false, true}) {
    controls.cr2.set<CR2::REC_CFG_ATS>(record);
    const auto then = [&](EventId id) { return record ? std::optional{id} : std::nullopt; };
    set(Ste{});
    refused(request(kVa), completer_abort, then(EventId::C_BAD_STE));
    set(Ste{both}.set<Ste::EATS>(Eats::full));
    refused(go({.sid = StreamID{1}, .ssid = SubstreamID{1}, .address = kVa, .kind = Access::Kind::ats_request}),
            completer_abort, then(EventId::C_BAD_SUBSTREAMID));
    refused(go({.sid = StreamID{99}, .address = kVa, .kind = Access::Kind::ats_request}), completer_abort,
            then(EventId::C_BAD_STREAMID));
    first->store(first->descriptor(kVa, 2), 0x10'0000 | 3);
    second->map(0x10'0000, 0x10'0000, kS2All);
    flush();
    refused(request(kVa), completer_abort, then(EventId::F_WALK_EABT));
    fresh();
  }
  // Faults of translation: Success, and R == W == 0. Stalls do not come into it.
  set(Ste{both}.set<Ste::EATS>(Eats::full));
  ASSERT_TRUE(memory.store(cd, cd_of(first->root()).set<Cd::S>(true)));
  first->unmap(kVa);
  flush();
  refused(request(kVa), denied, std::nullopt);
  second->unmap(cd.value);
  flush();
  refused(request(kVa), denied, std::nullopt);
}

TEST_F(Ats, TranslatedTransactions_3_9_1_3) {
  controls.cr0.set<CR0::ATSCHK>(false);
  set(both);
  auto t = translated(0x1234'5678);
  ASSERT_TRUE(t) << "nothing is checked";
  EXPECT_EQ(t->address, 0x1234'5678u);
  EXPECT_TRUE(translated(std::uint64_t{1} << 44).error().silent);
  controls.cr0.set<CR0::ATSCHK>(true);
  t = translated(0x1234'5678);
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().id, EventId::F_TRANSL_FORBIDDEN);
  EXPECT_FALSE(t.error().silent);
  set(Ste{both}.set<Ste::Config>(SteConfig::abort));
  EXPECT_TRUE(translated(0x1000).error().silent);
  set(Ste{both}.set<Ste::Config>(SteConfig::bypass).set<Ste::EATS>(Eats::full));
  EXPECT_EQ(translated(0x1000).error().id, EventId::F_TRANSL_FORBIDDEN);
  set(Ste{});
  EXPECT_TRUE(translated(0x1000).error().silent);
  controls.cr2.set<CR2::REC_CFG_ATS>(true);
  EXPECT_FALSE(translated(0x1000).error().silent);
}

TEST_F(Ats, SkippingStage1_13_6_4_13_6_5) {
  const Ste skipping = Ste{both}.set<Ste::S1CDMax>(2).set<Ste::S1DSS>(S1Dss::bypass);
  set(Ste{skipping}.set<Ste::Config>(SteConfig::s1).set<Ste::EATS>(Eats::full));
  auto t = request(0x5000);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->address, 0x5000u);
  EXPECT_TRUE(t->read && t->write);
  set(Ste{skipping}.set<Ste::EATS>(Eats::full));
  t = request(kIpa);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->address, data);
  second->map(kIpa, data, kS2All & ~kS2Write);
  set(Ste{skipping}.set<Ste::EATS>(Eats::split_stage));
  t = request(kIpa);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->address, kIpa);
  EXPECT_TRUE(t->ipa && t->read && !t->write);
}

TEST_F(Ats, PermissionsGranted_13_7) {
  set(Ste{both}.set<Ste::EATS>(Eats::full).set<Ste::S1CDMax>(1).set<Ste::S1DSS>(S1Dss::substream0));
  const PA pair = memory.allocate(kPage4K);
  second->map(pair.value, pair.value, kS2All);
  ASSERT_TRUE(memory.store(pair + sizeof(Cd), cd_of(first->root())));
  put_ste(1, Ste{both}.set<Ste::EATS>(Eats::full).set<Ste::S1CDMax>(1).set<Ste::S1ContextPtr>(IPA{pair.value}));
  flush();
  // {NW, Exe, Priv}, the page, {R, W, Exe}; the table of 13.7. With NW, W is free where the page is writable.
  struct Row {
    bool nw, exe, priv;
    std::uint64_t page;
    bool r, w, x;
  };
  constexpr std::uint64_t kBase = kLeafAf | kLeafNg;
  constexpr Row kRows[] = {{false, false, false, kBase | kLeafUser, true, true, false},
                           {false, false, false, kBase | kLeafUser | kLeafReadOnly, true, false, false},
                           {false, false, true, kBase, true, true, false},
                           {false, true, false, kBase | kLeafUser, true, true, true},
                           {false, true, false, kBase | kLeafUser | kLeafUxn, true, true, false},
                           {false, true, false, kBase, false, false, false},  // execute-only
                           {true, true, false, kBase | kLeafUser | kLeafReadOnly, true, false, true}};
  for (const Row& row : kRows) {
    first->map(kVa, kIpa, row.page);
    flush();
    const auto t = go({.sid = StreamID{1},
                       .ssid = SubstreamID{1},
                       .address = kVa,
                       .write = !row.nw,
                       .privileged = row.priv,
                       .instruction = row.exe,
                       .kind = Access::Kind::ats_request});
    ASSERT_EQ(t.has_value(), row.r || row.w);
    if (!t) {
      EXPECT_EQ(t.error().ats, Fault::Ats::denied);
      continue;
    }
    EXPECT_EQ(t->read, row.r);
    EXPECT_EQ(t->write, row.w);
    EXPECT_EQ(t->execute, row.x);
  }
}

TEST_F(Ats, FlagsAreUpdatedByTheRequest_3_13_7) {
  set(Ste{both}.set<Ste::EATS>(Eats::full));
  ASSERT_TRUE(memory.store(cd, cd_of(first->root()).set<Cd::HA>(true).set<Cd::HD>(true)));
  const std::uint64_t at = first->descriptor(kVa);
  first->map(kVa, kIpa, (kUserRw | kLeafReadOnly | kLeafDbm) & ~kLeafAf);
  flush();
  auto t = request(kVa, false);
  ASSERT_TRUE(t);
  EXPECT_FALSE(t->write) << "clean stays clean";
  EXPECT_EQ(first->load(at) & (kLeafAf | kLeafReadOnly), kLeafAf | kLeafReadOnly);
  t = request(kVa, true);
  ASSERT_TRUE(t);
  EXPECT_TRUE(t->write);
  EXPECT_EQ(first->load(at) & kLeafReadOnly, 0u);
}

}  // namespace
}  // namespace weir::model::test
