// Permissions, flags, sizes and faults of the modelled walks: Arm IHI 0070G.b, 3.4, 3.13, 5.2, 5.4, 7.3; Arm ARM D8.
#include "tests/model/walk.hpp"

#include <cstring>
#include <string>

#include "tests/unit/model/translator_rig.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

class Stage1 : public TranslatorRig {
 protected:
  void SetUp() override { fresh(Parameters::everything()); }
  void fresh(const Parameters& p) {
    start(p);
    tables.emplace(memory, 12, 39, 1);
    data = page();
    context = cd_of(tables->root());
    cd_at = put_cd(context);
    put_ste(1, s1_of(cd_at));
  }
  void set_cd(const Cd& cd) {
    ASSERT_TRUE(memory.store(cd_at, cd));
    flush();
  }
  void map(std::uint64_t flags) {
    tables->map(kVa, data, flags);
    flush();
  }
  // May they read, write, execute?
  [[nodiscard]] std::string rights(bool privileged) {
    std::string text;
    for (const char kind : {'r', 'w', 'x'}) {
      const auto t = go({.sid = StreamID{1},
                         .address = kVa,
                         .write = kind == 'w',
                         .privileged = privileged,
                         .instruction = kind == 'x'});
      text += t ? kind : '-';
      if (!t) {
        EXPECT_EQ(t.error().id, EventId::F_PERMISSION);
        EXPECT_EQ(t.error().what, EventClass::IN);
        EXPECT_FALSE(t.error().s2);
        EXPECT_EQ(t.error().privileged, privileged);
        EXPECT_EQ(t.error().instruction, kind == 'x');
        EXPECT_EQ(t.error().read, kind != 'w');
      }
    }
    return text;
  }
  std::optional<GranuleTables> tables;
  std::uint64_t data = 0;
  Cd context;
  PA cd_at;
};

TEST_F(Stage1, DirectPermissions_D8_4) {
  // Arm ARM table D8-64 and WXN: {UXN, PXN, AP[2:1], WXN} and what the unprivileged and the privileged may do.
  struct Row {
    bool uxn, pxn;
    unsigned ap;
    bool wxn;
    const char* user;
    const char* kernel;
  };
  constexpr Row kRows[] = {{false, false, 0, false, "--x", "rwx"}, {false, false, 0, true, "--x", "rw-"},
                           {false, false, 1, false, "rwx", "rw-"}, {false, false, 1, true, "rw-", "rw-"},
                           {false, false, 2, false, "--x", "r-x"}, {false, false, 3, false, "r-x", "r-x"},
                           {false, true, 0, false, "--x", "rw-"},  {false, true, 1, false, "rwx", "rw-"},
                           {false, true, 2, false, "--x", "r--"},  {false, true, 3, true, "r-x", "r--"},
                           {true, false, 0, false, "---", "rwx"},  {true, false, 0, true, "---", "rw-"},
                           {true, false, 1, false, "rw-", "rw-"},  {true, false, 2, true, "---", "r-x"},
                           {true, false, 3, false, "r--", "r-x"},  {true, true, 0, false, "---", "rw-"},
                           {true, true, 1, false, "rw-", "rw-"},   {true, true, 3, false, "r--", "r--"}};
  for (const Row& row : kRows) {
    set_cd(Cd{context}.set<Cd::WXN>(row.wxn));
    map((row.uxn ? kLeafUxn : 0) | (row.pxn ? kLeafPxn : 0) | (row.ap << 6) | kLeafAf | kLeafNg);
    EXPECT_EQ(rights(false), row.user) << row.uxn << row.pxn << row.ap << row.wxn;
    EXPECT_EQ(rights(true), row.kernel) << row.uxn << row.pxn << row.ap << row.wxn;
  }
}

TEST_F(Stage1, HierarchicalPermissions_5_4_HAD) {
  constexpr std::uint64_t kFlags = kUserRw;
  struct Row {
    std::uint64_t table;
    const char* user;
    const char* kernel;
  };
  for (const Row& row : {Row{kTableNoUser, "--x", "rwx"}, Row{kTableReadOnly, "r-x", "r-x"},
                         Row{kTableUxn, "rw-", "rw-"}, Row{kTablePxn | kTableReadOnly, "r-x", "r--"}}) {
    tables.emplace(memory, 12, 39, 1);
    tables->table_flags = row.table;
    context.set<Cd::TTB0>(IPA{tables->root()});
    set_cd(context);
    map(kFlags);
    EXPECT_EQ(rights(false), row.user);
    EXPECT_EQ(rights(true), row.kernel);
    set_cd(Cd{context}.set<Cd::HAD0>(true));
    EXPECT_EQ(rights(false), "rwx");
    EXPECT_EQ(rights(true), "rw-");
  }
}

TEST_F(Stage1, PanEpanE0pd_5_4) {
  set_cd(Cd{context}.set<Cd::PAN>(true));
  map(kUserRw | kLeafReadOnly);
  EXPECT_EQ(rights(true), "--x") << "data only";
  map(kLeafAf | kLeafNg);
  EXPECT_EQ(rights(true), "rwx") << "EPAN == 0: unprivileged execution does not count";
  set_cd(Cd{context}.set<Cd::PAN>(true).set<Cd::EPAN>(true));
  EXPECT_EQ(rights(true), "--x");
  map(kLeafAf | kLeafNg | kLeafUxn);
  EXPECT_EQ(rights(true), "rwx");
  set_cd(Cd{context}.set<Cd::E0PD0>(true));
  map(kUserRw);
  EXPECT_EQ(failure(kVa).id, EventId::F_TRANSLATION);
  EXPECT_EQ(rights(true), "rw-");
}

TEST_F(Stage1, PrivcfgAndInstcfg_5_2) {
  auto p = Parameters::everything();
  p.attr_perms_ovr = true;
  fresh(p);
  map(kLeafAf | kLeafNg | kLeafUxn);
  EXPECT_EQ(read(kVa), 0u);
  put_ste(1, s1_of(cd_at).set<Ste::PRIVCFG>(PrivConfig::privileged));
  flush();
  EXPECT_EQ(read(kVa), data);
  put_ste(1, s1_of(cd_at).set<Ste::PRIVCFG>(PrivConfig::privileged).set<Ste::INSTCFG>(InstConfig::instruction));
  map(kLeafAf | kLeafNg | kLeafPxn);
  const Fault f = failure(kVa);
  EXPECT_TRUE(f.privileged && f.instruction);
  EXPECT_EQ(written(kVa), data) << "writes are data";
  parameters.attr_perms_ovr = false;
  fresh(parameters);
  map(kLeafAf | kLeafNg);
  put_ste(1, s1_of(cd_at).set<Ste::PRIVCFG>(PrivConfig::privileged));
  EXPECT_EQ(read(kVa), 0u) << "RES0 without ATTR_PERMS_OVR";
}

TEST_F(Stage1, RangesTbiEpd_3_4_1) {
  map(kUserRw);
  tables->map(0, data);
  EXPECT_EQ(read(std::uint64_t{1} << 39), 0u);
  for (const std::uint64_t bit : {39u, 47u, 54u, 55u, 56u, 63u}) {
    const Fault f = failure(kVa | (std::uint64_t{1} << bit));
    EXPECT_EQ(f.id, EventId::F_TRANSLATION) << bit;
    EXPECT_EQ(f.input, kVa | (std::uint64_t{1} << bit));
  }
  set_cd(Cd{context}.set<Cd::TBI0>(true));
  EXPECT_EQ(read(kVa | (std::uint64_t{0x5a} << 56)), data);
  EXPECT_EQ(failure(kVa | (std::uint64_t{1} << 54)).id, EventId::F_TRANSLATION);
  EXPECT_EQ(failure(kVa | (std::uint64_t{1} << 55)).id, EventId::F_TRANSLATION) << "TTB1, which is off";
  // The upper half.
  GranuleTables upper{memory, 16, 42, 2};
  set_cd(Cd{context}
             .set<Cd::EPD1>(false)
             .set<Cd::T1SZ>(22)
             .set<Cd::TG1>(Granule1::size64k)
             .set<Cd::TTB1>(IPA{upper.root()}));
  const std::uint64_t other = memory.allocate(0x1'0000).value;
  const std::uint64_t high = ~std::uint64_t{0} << 42;
  upper.map(high + 0x30'0000, other);
  EXPECT_EQ(read(high + 0x30'1234), other + 0x1234);
  EXPECT_EQ(read(kVa), data);
  EXPECT_EQ(failure((~std::uint64_t{0} << 43) | 0x30'0000).id, EventId::F_TRANSLATION);
  // EPD0: a hit is good, a miss is a fault (5.4.1.1).
  ASSERT_TRUE(memory.store(cd_at, Cd{context}.set<Cd::EPD0>(true)));
  run(cfgi_cd_all(StreamID{1}));
  EXPECT_EQ(read(kVa), data);
  run(tlbi_nsnh_all());
  EXPECT_EQ(failure(kVa).id, EventId::F_TRANSLATION);
}

TEST_F(Stage1, FaultsInOrder_7_3_22) {
  // Invalid, then the output size, then the access flag, then permissions.
  constexpr std::uint64_t kFar = std::uint64_t{1} << 46;  // beyond IPS
  tables->store(tables->descriptor(kVa), kFar | 2);
  EXPECT_EQ(failure(kVa).id, EventId::F_TRANSLATION);
  tables->store(tables->descriptor(kVa), kFar | 1);
  EXPECT_EQ(failure(kVa).id, EventId::F_TRANSLATION) << "reserved at level 3";
  tables->store(tables->descriptor(kVa), kFar | 3);
  EXPECT_EQ(failure(kVa).id, EventId::F_ADDR_SIZE);
  tables->store(tables->descriptor(kVa), data | 3);
  EXPECT_EQ(failure(kVa).id, EventId::F_ACCESS);
  tables->store(tables->descriptor(kVa), data | 3 | kLeafAf);
  EXPECT_EQ(failure(kVa).id, EventId::F_PERMISSION);
  run(tlbi_nsnh_all());
  // A table's address counts as output, and lies where there is no memory.
  tables->store(tables->descriptor(kVa, 2), kFar | 3);
  EXPECT_EQ(failure(kVa).id, EventId::F_ADDR_SIZE);
  tables->store(tables->descriptor(kVa, 2), 0x10'0000 | 3);
  const Fault f = failure(kVa);
  EXPECT_EQ(f.id, EventId::F_WALK_EABT);
  EXPECT_EQ(f.what, EventClass::TT);
  EXPECT_FALSE(f.s2);
  EXPECT_EQ(f.fetch, 0x10'0000u);
  EXPECT_FALSE(f.stalls);
}

TEST_F(Stage1, FaultConfiguration_5_5) {
  struct Row {
    bool a, r, s;
  };
  for (const Row& row : {Row{false, false, false}, Row{true, false, false}, Row{true, true, false},
                         Row{false, true, false}, Row{true, false, true}, Row{true, true, true}}) {
    set_cd(Cd{context}.set<Cd::A>(row.a).set<Cd::R>(row.r).set<Cd::S>(row.s));
    tables->unmap(kVa);
    Fault f = failure(kVa);
    EXPECT_EQ(f.id, EventId::F_TRANSLATION);
    EXPECT_EQ(f.abort, row.a);
    EXPECT_EQ(f.stalls, row.s);
    EXPECT_EQ(f.silent, !row.r && !row.s) << "a stall is always recorded";
    // External aborts are recorded and abort, whatever A, R and S say.
    tables->store(tables->descriptor(kVa, 2), 0x10'0000 | 3);
    run(tlbi_nsnh_all());
    f = failure(kVa);
    EXPECT_EQ(f.id, EventId::F_WALK_EABT);
    EXPECT_TRUE(f.abort && !f.silent && !f.stalls);
    tables->store(tables->descriptor(kVa, 2), 0);
    flush();
  }
}

TEST_F(Stage1, AccessFlag_3_13_2) {
  const std::uint64_t at = tables->descriptor(kVa);
  map(kUserRw & ~kLeafAf);
  EXPECT_EQ(failure(kVa).id, EventId::F_ACCESS);
  set_cd(Cd{context}.set<Cd::AFFD>(true));
  EXPECT_EQ(read(kVa), data);
  EXPECT_EQ(tables->load(at) & kLeafAf, 0u);
  set_cd(Cd{context}.set<Cd::HA>(true));
  EXPECT_EQ(read(kVa), data);
  EXPECT_NE(tables->load(at) & kLeafAf, 0u);
  // AFFD is IGNORED with HA.
  set_cd(Cd{context}.set<Cd::HA>(true).set<Cd::AFFD>(true));
  map(kUserRw & ~kLeafAf);
  EXPECT_EQ(read(kVa), data);
  EXPECT_NE(tables->load(at) & kLeafAf, 0u);
}

TEST_F(Stage1, DirtyState_3_13_3) {
  const std::uint64_t at = tables->descriptor(kVa);
  constexpr std::uint64_t kClean = kUserRw | kLeafReadOnly | kLeafDbm;
  map(kClean);
  EXPECT_EQ(written(kVa), 0u) << "HD == 0";
  set_cd(Cd{context}.set<Cd::HA>(true));
  EXPECT_EQ(written(kVa), 0u);
  set_cd(Cd{context}.set<Cd::HA>(true).set<Cd::HD>(true));
  EXPECT_EQ(read(kVa), data);
  EXPECT_NE(tables->load(at) & kLeafReadOnly, 0u) << "a read leaves it clean";
  EXPECT_EQ(written(kVa), data) << "through the cached entry, too";
  EXPECT_EQ(tables->load(at) & kLeafReadOnly, 0u);
  EXPECT_NE(tables->load(at) & kLeafDbm, 0u);
  map(kUserRw | kLeafReadOnly);
  EXPECT_EQ(written(kVa), 0u) << "DBM == 0";
  map(kClean & ~kLeafUser);
  EXPECT_EQ(written(kVa), 0u) << "not for the unprivileged";
  EXPECT_NE(tables->load(at) & kLeafReadOnly, 0u);
  // Never by prefetching.
  map(kClean);
  for (int i = 0; i < 100; ++i) translator->speculate(controls);
  EXPECT_NE(tables->load(at) & kLeafReadOnly, 0u);
  // Where the hierarchy removed the right, it stays removed.
  tables.emplace(memory, 12, 39, 1);
  tables->table_flags = kTableReadOnly;
  set_cd(Cd{context}.set<Cd::HA>(true).set<Cd::HD>(true).set<Cd::TTB0>(IPA{tables->root()}));
  map(kClean);
  EXPECT_EQ(written(kVa), 0u);
  EXPECT_NE(tables->load(tables->descriptor(kVa)) & kLeafReadOnly, 0u);
}

TEST_F(Stage1, WritableCleanCountsAsWritable_3_13_8) {
  set_cd(Cd{context}.set<Cd::HA>(true).set<Cd::HD>(true).set<Cd::WXN>(true));
  map(kUserRw | kLeafReadOnly | kLeafDbm);
  const auto fetch = go({.sid = StreamID{1}, .address = kVa, .instruction = true});
  ASSERT_FALSE(fetch);
  EXPECT_EQ(fetch.error().id, EventId::F_PERMISSION);
}

TEST_F(Stage1, BlocksAndContiguousRanges_D8_7) {
  struct Row {
    unsigned granule;
    unsigned input;
    int start;
    int level;
    std::uint64_t entries;  // that are contiguous
  };
  for (const Row& row : {Row{12, 39, 1, 3, 16}, Row{12, 39, 1, 2, 16}, Row{12, 39, 1, 1, 16}, Row{14, 47, 1, 3, 128},
                         Row{14, 47, 1, 2, 32}, Row{16, 42, 2, 3, 32}, Row{16, 42, 2, 2, 32}}) {
    bool grouped = false;
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      Parameters p = Parameters::everything(seed);
      fresh(p);
      tables.emplace(memory, row.granule, row.input, row.start);
      set_cd(cd_of(tables->root(), row.granule, row.input));
      const std::uint64_t size = tables->bytes(row.level);
      const std::uint64_t group = size * row.entries;
      const std::uint64_t base = group;  // aligned to the group
      const std::uint64_t to = 8 * group;
      for (std::uint64_t i = 0; i < row.entries; ++i)
        tables->map(base + i * size, to + i * size, kUserRw | kLeafContiguous, row.level);
      EXPECT_EQ(read(base + 3 * size + 0x123), to + 3 * size + 0x123);
      // Only that one was used, and the others go: an entry for all of the group still serves them.
      for (std::uint64_t i = 0; i < row.entries; ++i) tables->unmap(base + i * size, row.level);
      const std::uint64_t neighbour = read(base + 5 * size);
      grouped = grouped || neighbour != 0;
      if (neighbour != 0) EXPECT_EQ(neighbour, to + 5 * size);
      run(tlbi_nh_va(VMID{1}, ASID{7}, IOVA{base + 3 * size}, true));
      EXPECT_EQ(read(base + 3 * size), 0u) << "the address that it was used for";
    }
    EXPECT_TRUE(grouped) << row.granule << ' ' << row.level;
  }
  // Blocks where there are none.
  fresh(Parameters::everything());
  tables.emplace(memory, 14, 47, 1);
  set_cd(cd_of(tables->root(), 14, 47));
  tables->map(0, 0, kUserRw, 1);
  EXPECT_EQ(failure(0x1000).id, EventId::F_TRANSLATION);
}

TEST_F(Stage1, MemoryTypes_5_4_MAIR_13_1_7) {
  using Device = MemoryType::Device;
  using Cache = MemoryType::Cache;
  EXPECT_EQ(mair_type(0x00, Shareability::inner).device, Device::nGnRnE);
  EXPECT_EQ(mair_type(0x04, Shareability::inner).device, Device::nGnRE);
  EXPECT_EQ(mair_type(0x0c, Shareability::inner).device, Device::GRE);
  EXPECT_EQ(mair_type(0x05, Shareability::inner).device, Device::nGnRE) << "reserved";
  EXPECT_EQ(mair_type(0x44, Shareability::inner),
            (MemoryType{Device::none, Cache::non_cacheable, Cache::non_cacheable, Shareability::outer}));
  EXPECT_EQ(mair_type(0xff, Shareability::inner), MemoryType{});
  EXPECT_EQ(mair_type(0xbb, Shareability::inner).outer, Cache::write_through);
  EXPECT_EQ(mair_type(0xf0, Shareability::inner).inner, Cache::write_through) << "reserved";
  set_cd(Cd{context}.set<Cd::MAIR0>(0x0044'00ff));
  map(kUserRw | (2 << 2) | (3 << 8));
  auto t = go({.sid = StreamID{1}, .address = kVa});
  ASSERT_TRUE(t);
  EXPECT_FALSE(t->type.cacheable());
  EXPECT_EQ(t->type.shareability, Shareability::outer);
  map(kUserRw | (3 << 8));
  t = go({.sid = StreamID{1}, .address = kVa});
  EXPECT_EQ(t->type, MemoryType{});
}

TEST_F(Stage1, WalksThroughCachesOrPastThem_5_4_IR) {
  map(kUserRw);
  memory.types();
  const std::uint64_t other = page();
  const std::uint64_t leaf = other | 3 | kUserRw;
  std::memcpy(memory.pointer(PA{tables->descriptor(kVa)}), &leaf, sizeof leaf);  // dirty in the CPU's cache
  EXPECT_EQ(read(kVa), data) << "non-cacheable walks see memory";
  set_cd(Cd{context}.set<Cd::IR0>(WalkCacheability::write_back_ra_wa).set<Cd::OR0>(WalkCacheability::write_back_ra_wa));
  EXPECT_EQ(read(kVa), other);
}

TEST_F(Stage1, ElTwoHasOneTableAndNoAsids_3_3_3) {
  auto p = Parameters::everything();
  p.hyp = true;
  fresh(p);
  put_ste(1, s1_of(cd_at).set<Ste::STRW>(Strw::el2));
  put_ste(2, s1_of(put_cd(cd_of(put_cd(Cd{}).value, 12, 39, 99)), 5).set<Ste::STRW>(Strw::el2));
  put_ste(3, s1_of(cd_at));
  map(kLeafAf);  // AP[1] does not count
  EXPECT_EQ(read(kVa), data);
  EXPECT_EQ(read(kVa, 2), data) << "any CD of the regime";
  EXPECT_EQ(read(kVa, 3), 0u);
  tables->unmap(kVa);
  run(tlbi_nh_all(VMID{1}));
  EXPECT_EQ(read(kVa), data);
  run(tlbi_el2_all());
  EXPECT_EQ(read(kVa), 0u);
}

// --- Stage 2 and both ---

class BothStages : public TranslatorRig {
 protected:
  static constexpr std::uint64_t kIpa = 0x70'0000'0000;
  void SetUp() override { fresh(Parameters::everything()); }
  void fresh(const Parameters& p) {
    start(p);
    second.emplace(memory, 12, 39, 1);
    first.emplace(memory, 12, 39, 1);
    first->on_table = [this](std::uint64_t at) { identity(at); };
    identity(first->root());
    data = page();
    cd = cd_of(first->root());
    cd_at = put_cd(cd);
    identity(cd_at.value);
    first->map(kVa, kIpa);
    second->map(kIpa, data, kS2All);
    ste = with_s2(s1_of(cd_at), SteConfig::s1_s2, *second);
    put_ste(1, ste);
  }
  void identity(std::uint64_t at) { second->map(at, at, kS2All); }
  void expect(const Fault& f, EventId id, EventClass what, std::uint64_t ipa) {
    EXPECT_EQ(f.id, id);
    EXPECT_TRUE(f.s2);
    EXPECT_EQ(f.what, what);
    EXPECT_EQ(f.ipa, ipa);
    EXPECT_EQ(f.input, kVa);
    EXPECT_TRUE(f.abort);
    EXPECT_FALSE(f.silent);
  }
  std::optional<GranuleTables> first;
  std::optional<GranuleTables> second;
  std::uint64_t data = 0;
  Cd cd;
  PA cd_at;
  Ste ste;
};

TEST_F(BothStages, ClassesOfStage2Faults_7_3_13) {
  EXPECT_EQ(read(kVa), data);
  // The CD, each table of stage 1, the data; each time all four kinds of fault.
  const std::uint64_t level2 = first->load(first->descriptor(kVa, 1)) & bit_mask(47, 12);
  struct Row {
    std::uint64_t page;
    std::uint64_t ipa;  // that is reported
    EventClass what;
  };
  for (const Row& row :
       {Row{cd_at.value, cd_at.value, EventClass::CD}, Row{first->root(), first->descriptor(kVa, 1), EventClass::TT},
        Row{level2, first->descriptor(kVa, 2), EventClass::TT}, Row{kIpa, kIpa, EventClass::IN}}) {
    const std::uint64_t before = second->load(second->descriptor(row.page));
    const auto with = [&](std::uint64_t descriptor) {
      second->store(second->descriptor(row.page), descriptor);
      flush();
      return failure(kVa);
    };
    expect(with(0), EventId::F_TRANSLATION, row.what, row.ipa);
    expect(with(before | (std::uint64_t{1} << 46)), EventId::F_ADDR_SIZE, row.what, row.ipa);
    expect(with(before & ~kLeafAf), EventId::F_ACCESS, row.what, row.ipa);
    expect(with(before & ~kS2Read), EventId::F_PERMISSION, row.what, row.ipa);
    EXPECT_TRUE(failure(kVa).ttrnw);
    second->store(second->descriptor(row.page), before);
    // A stage-2 descriptor that cannot be fetched (7.3.12).
    const std::uint64_t above = second->load(second->descriptor(row.page, 2));
    second->store(second->descriptor(row.page, 2), 0x10'0000 | 3);
    flush();
    const Fault f = failure(kVa);
    EXPECT_EQ(f.id, EventId::F_WALK_EABT);
    EXPECT_TRUE(f.s2);
    EXPECT_EQ(f.fetch & ~std::uint64_t{0xfff}, 0x10'0000u);
    second->store(second->descriptor(row.page, 2), above);
    flush();
  }
  EXPECT_EQ(read(kVa), data);
  // Mapped, but to nothing.
  second->map(first->root(), 0x20'0000, kS2All);
  flush();
  Fault f = failure(kVa);
  EXPECT_EQ(f.id, EventId::F_WALK_EABT);
  EXPECT_FALSE(f.s2) << "its own descriptor could not be fetched";
  EXPECT_EQ(f.what, EventClass::TT);
  identity(first->root());
  second->map(cd_at.value, 0x20'0000, kS2All);
  flush();
  f = failure(kVa);
  EXPECT_EQ(f.id, EventId::F_CD_FETCH);
  EXPECT_EQ(f.fetch, 0x20'0000u);
}

TEST_F(BothStages, PermissionsOfBothCount) {
  for (const bool s1_writes : {false, true})
    for (const bool s2_reads : {false, true})
      for (const bool s2_writes : {false, true}) {
        first->map(kVa, kIpa, s1_writes ? kUserRw : kUserRw | kLeafReadOnly);
        second->map(kIpa, data,
                    (kS2All & ~kS2Read & ~kS2Write) | (s2_reads ? kS2Read : 0) | (s2_writes ? kS2Write : 0));
        flush();
        EXPECT_EQ(read(kVa) != 0, s2_reads);
        EXPECT_EQ(read(kVa) != 0, s2_reads) << "from the cache";
        EXPECT_EQ(written(kVa) != 0, s1_writes && s2_writes);
        const auto t = go({.sid = StreamID{1}, .address = kVa, .write = true});
        if (t) continue;
        EXPECT_EQ(t.error().s2, s1_writes) << "stage 1 first";
        if (s1_writes) EXPECT_EQ(t.error().ipa, kIpa);
      }
}

TEST_F(BothStages, SilentAndStalling_5_5) {
  second->unmap(kIpa);
  struct Row {
    bool r, s;
  };
  for (const Row& row : {Row{false, false}, Row{true, false}, Row{false, true}, Row{true, true}}) {
    put_ste(1, Ste{ste}.set<Ste::S2R>(row.r).set<Ste::S2S>(row.s));
    flush();
    const Fault f = failure(kVa);
    EXPECT_EQ(f.silent, !row.r && !row.s);
    EXPECT_EQ(f.stalls, row.s);
    EXPECT_TRUE(f.abort);
  }
}

TEST_F(BothStages, ProtectedTableWalk_5_2_S2PTW) {
  put_ste(1, Ste{ste}.set<Ste::S2PTW>(true));
  flush();
  EXPECT_EQ(read(kVa), data);
  constexpr std::uint64_t kDevice = kS2All & ~(std::uint64_t{0xf} << 2);
  second->map(first->root(), first->root(), kDevice | (1 << 2));
  flush();
  expect(failure(kVa), EventId::F_PERMISSION, EventClass::TT, first->descriptor(kVa, 1));
  identity(first->root());
  second->map(cd_at.value, cd_at.value, kDevice);
  flush();
  expect(failure(kVa), EventId::F_PERMISSION, EventClass::CD, cd_at.value);
  put_ste(1, ste);
  flush();
  EXPECT_EQ(read(kVa), data);
}

TEST_F(BothStages, FlagsOfBothStages_3_13_5) {
  first->map(kVa, kIpa, (kUserRw | kLeafReadOnly | kLeafDbm) & ~kLeafAf);
  put_ste(1, Ste{ste}.set<Ste::S2HA>(true).set<Ste::S2HD>(true));
  ASSERT_TRUE(memory.store(cd_at, Cd{cd}.set<Cd::HA>(true).set<Cd::HD>(true)));
  const std::uint64_t table = first->descriptor(kVa) & ~std::uint64_t{0xfff};
  constexpr std::uint64_t kClean = (kS2All & ~kS2Write & ~kLeafAf) | kLeafDbm;
  second->map(kIpa, data, kClean);
  second->map(table, table, kClean);
  second->map(cd_at.value, cd_at.value, kClean);
  flush();
  EXPECT_EQ(read(kVa), data);
  const auto flags = [&](std::uint64_t at) { return second->load(second->descriptor(at)) & (kLeafAf | kS2Write); };
  EXPECT_EQ(flags(kIpa), kLeafAf);
  EXPECT_EQ(flags(cd_at.value), kLeafAf) << "never dirty by a CD fetch";
  EXPECT_EQ(flags(table), kLeafAf | kS2Write) << "its AF was written";
  EXPECT_NE(first->load(first->descriptor(kVa)) & kLeafAf, 0u);
  EXPECT_EQ(written(kVa), data);
  EXPECT_EQ(flags(kIpa), kLeafAf | kS2Write);
  EXPECT_EQ(first->load(first->descriptor(kVa)) & kLeafReadOnly, 0u);
  // The update itself is refused.
  first->map(kVa, kIpa, kUserRw & ~kLeafAf);
  second->map(table, table, kS2All & ~kS2Write);
  flush();
  const Fault f = failure(kVa);
  expect(f, EventId::F_PERMISSION, EventClass::TT, first->descriptor(kVa));
  EXPECT_FALSE(f.ttrnw);
}

TEST_F(BothStages, ExecuteNever_D8_4_2) {
  const auto fetch = [&](bool privileged) {
    return go({.sid = StreamID{1}, .address = kIpa, .privileged = privileged, .instruction = true}).has_value();
  };
  for (const bool xnx : {false, true}) {
    auto p = Parameters::everything();
    p.xnx = xnx;
    fresh(p);
    put_ste(1, Ste{ste}.set<Ste::Config>(SteConfig::s2));
    for (std::uint64_t xn = 0; xn < 4; ++xn) {
      second->map(kIpa, data, kS2All | (xn << 53));
      flush();
      EXPECT_EQ(fetch(true), xnx ? xn == 0 || xn == 3 : xn < 2) << xn;
      EXPECT_EQ(fetch(false), xn < 2) << xn;
    }
    second->map(kIpa, data, kS2All & ~kS2Read);
    flush();
    EXPECT_TRUE(fetch(false)) << "execute-only";
  }
}

TEST_F(BothStages, Sizes_3_4) {
  // The IPA is checked by stage 1's output size, by the IAS, by S2T0SZ, in this order.
  first->map(kVa, std::uint64_t{1} << 40);
  expect(failure(kVa), EventId::F_TRANSLATION, EventClass::IN, std::uint64_t{1} << 40);
  ASSERT_TRUE(memory.store(cd_at, Cd{cd}.set<Cd::IPS>(AddressSize::bits40)));
  flush();
  Fault f = failure(kVa);
  EXPECT_EQ(f.id, EventId::F_ADDR_SIZE);
  EXPECT_FALSE(f.s2);
  put_ste(1, Ste{ste}.set<Ste::Config>(SteConfig::s2));
  flush();
  f = failure(std::uint64_t{1} << 44);
  EXPECT_EQ(f.id, EventId::F_ADDR_SIZE) << "beyond the IAS: of stage 1";
  EXPECT_FALSE(f.s2);
  EXPECT_FALSE(f.silent);
  f = failure(std::uint64_t{1} << 40);
  EXPECT_EQ(f.id, EventId::F_TRANSLATION);
  EXPECT_TRUE(f.s2);
}

TEST_F(BothStages, TypesCombine_D8_6) {
  using Device = MemoryType::Device;
  using Cache = MemoryType::Cache;
  const MemoryType wb;
  EXPECT_EQ(combine(wb, 0xf, Shareability::non_shareable, false), wb);
  EXPECT_EQ(combine(wb, 0x5, Shareability::inner, false).inner, Cache::non_cacheable);
  EXPECT_EQ(combine(wb, 0x5, Shareability::inner, false).shareability, Shareability::outer);
  EXPECT_EQ(combine(wb, 0xa, Shareability::inner, false).outer, Cache::write_through);
  EXPECT_EQ(combine(wb, 0x1, Shareability::inner, false).device, Device::nGnRE);
  EXPECT_EQ(combine(mair_type(0x0c, Shareability::inner), 0x0, Shareability::inner, false).device, Device::nGnRnE);
  EXPECT_EQ(combine(mair_type(0x00, Shareability::inner), 0xf, Shareability::inner, false).device, Device::nGnRnE);
  // FWB
  EXPECT_EQ(combine(mair_type(0x44, Shareability::inner), 0x6, Shareability::inner, true).inner, Cache::write_back);
  EXPECT_EQ(combine(mair_type(0x44, Shareability::inner), 0x7, Shareability::inner, true).inner, Cache::non_cacheable);
  EXPECT_EQ(combine(wb, 0x5, Shareability::inner, true).inner, Cache::non_cacheable);
  EXPECT_EQ(combine(wb, 0x2, Shareability::inner, true).device, Device::nGRE);
}

}  // namespace
}  // namespace weir::model::test
