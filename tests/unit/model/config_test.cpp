// Which STEs and CDs are legal, and where the stream table says that they lie: Arm IHI 0070G.b, 5.1 to 5.5, 6.3.25.
#include "tests/model/config.hpp"

#include "tests/unit/model/translator_rig.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

class Configuration : public TranslatorRig {
 protected:
  void SetUp() override { start(); }
  GranuleTables any{memory, 12, 39, 1};
  Ste s1 = s1_of(PA{0x1000});
  Ste s2 = with_s2(Ste{}, SteConfig::s2, any);
  Ste both = with_s2(s1, SteConfig::s1_s2, any);
  // Each must be legal: a case that fails for another reason would prove nothing.
  template <typename F>
  [[nodiscard]] bool ste(Ste base, typename F::type value, const Parameters& p) {
    EXPECT_TRUE(ste_legal(p, base)) << F::name;
    return ste_legal(p, base.set<F>(value));
  }
  template <typename F>
  [[nodiscard]] bool cd(Cd base, typename F::type value, const Parameters& p, const Ste& through = {}) {
    EXPECT_TRUE(cd_legal(p, through, base, World::el1)) << F::name;
    return cd_legal(p, through, base.set<F>(value), World::el1);
  }
  template <typename Fn>
  [[nodiscard]] static Parameters with(Fn&& fn) {
    Parameters p = Parameters::everything();
    fn(p);
    return p;
  }
  const Parameters all = Parameters::everything();
};

TEST_F(Configuration, SteGeneral_5_2_2) {
  EXPECT_FALSE(ste<Ste::V>(s1, false, all));
  const auto no_s1 = with([](Parameters& p) { p.s1p = false; });
  const auto no_s2 = with([](Parameters& p) { p.s2p = false; });
  for (const auto config : {SteConfig::abort, SteConfig::bypass, SteConfig::s2})
    EXPECT_TRUE(ste_legal(no_s1, s2.set<Ste::Config>(config)));
  EXPECT_FALSE(ste_legal(no_s1, s1));
  EXPECT_FALSE(ste_legal(no_s1, both));
  EXPECT_TRUE(ste_legal(no_s2, s1));
  EXPECT_FALSE(ste_legal(no_s2, s2.set<Ste::Config>(SteConfig::s2)));
  EXPECT_FALSE(ste_legal(no_s2, both));
  // 0b0xx is abort, and nothing else counts then.
  Ste abort;
  abort.words.fill(~std::uint64_t{0});
  for (const unsigned config : {0u, 1u, 2u, 3u})
    EXPECT_TRUE(ste_legal(all, abort.set<Ste::Config>(static_cast<SteConfig>(config))));
  EXPECT_TRUE(ste_legal(all, abort.set<Ste::Config>(SteConfig::bypass))) << "S1* and S2* are IGNORED";
  EXPECT_FALSE(ste_legal(all, abort.set<Ste::Config>(SteConfig::s1)));
}

TEST_F(Configuration, SteEats_5_2) {
  for (const Ste& base : {s1, s2, both}) {
    EXPECT_TRUE(ste<Ste::EATS>(base, Eats::full, all));
    EXPECT_TRUE(ste<Ste::EATS>(base, Eats::full_dpt, all)) << "Reserved, behaves as 0b00";
    EXPECT_EQ(ste<Ste::EATS>(base, Eats::split_stage, all), base.get<Ste::Config>() == SteConfig::s1_s2);
    EXPECT_TRUE(ste<Ste::EATS>(base, Eats::split_stage, with([](Parameters& p) { p.ats = false; })));
  }
  EXPECT_FALSE(ste<Ste::EATS>(both, Eats::split_stage, with([](Parameters& p) { p.ns1ats = true; })));
  EXPECT_FALSE(ste<Ste::EATS>(Ste{both}.set<Ste::S2S>(true), Eats::split_stage, all));
  EXPECT_FALSE(ste<Ste::EATS>(Ste{both}.set<Ste::S2S>(true), Eats::full, all));
  EXPECT_TRUE(ste<Ste::EATS>(Ste{s1}.set<Ste::S2S>(true), Eats::full, all)) << "S2S is IGNORED";
  EXPECT_EQ(eats_of(all, Ste{both}.set<Ste::EATS>(Eats::split_stage), true), Eats::split_stage);
  EXPECT_EQ(eats_of(all, Ste{both}.set<Ste::EATS>(Eats::split_stage), false), Eats::none) << "ATSCHK == 0";
  EXPECT_EQ(eats_of(all, Ste{s1}.set<Ste::EATS>(Eats::full_dpt), true), Eats::none);
  EXPECT_EQ(eats_of(all, Ste{s1}.set<Ste::Config>(SteConfig::bypass).set<Ste::EATS>(Eats::full), true), Eats::none);
}

TEST_F(Configuration, SteStrw_5_2) {
  EXPECT_TRUE(ste<Ste::STRW>(s1, static_cast<Strw>(1), all)) << "RES0 without Hyp";
  const auto hyp = with([](Parameters& p) { p.hyp = true; });
  EXPECT_TRUE(ste<Ste::STRW>(s1, Strw::el2, hyp));
  EXPECT_FALSE(ste<Ste::STRW>(s1, static_cast<Strw>(1), hyp));
  EXPECT_FALSE(ste<Ste::STRW>(s1, static_cast<Strw>(3), hyp));
  EXPECT_TRUE(ste<Ste::STRW>(both, static_cast<Strw>(3), hyp)) << "IGNORED with stage 2";
  EXPECT_EQ(world_of(hyp, Ste{s1}.set<Ste::STRW>(Strw::el2), CR2{}), World::el2);
  EXPECT_EQ(world_of(hyp, Ste{s1}.set<Ste::STRW>(Strw::el2), CR2{}.set<CR2::E2H>(true)), World::el2_e2h);
  EXPECT_EQ(world_of(hyp, Ste{both}.set<Ste::STRW>(Strw::el2), CR2{}), World::el1);
}

TEST_F(Configuration, SteStage1_5_2_2) {
  const auto terminate = with([](Parameters& p) { p.stall = StallModel::terminate_only; });
  const auto forced = with([](Parameters& p) { p.stall = StallModel::stall_forced; });
  EXPECT_TRUE(ste<Ste::S1STALLD>(s1, true, all));
  EXPECT_FALSE(ste<Ste::S1STALLD>(s1, true, terminate));
  EXPECT_FALSE(ste<Ste::S1STALLD>(s1, true, forced));
  EXPECT_TRUE(ste<Ste::S1STALLD>(s2, true, terminate)) << "IGNORED";
  EXPECT_TRUE(ste<Ste::S1CDMax>(s1, 12, all));
  EXPECT_FALSE(ste<Ste::S1CDMax>(s1, 13, all));
  const auto no_ssid = with([](Parameters& p) { p.ssid_bits = 0; });
  EXPECT_TRUE(ste<Ste::S1CDMax>(s1, 31, no_ssid)) << "IGNORED";
  const auto linear = with([](Parameters& p) { p.cd2l = false; });
  const Ste substreams = Ste{s1}.set<Ste::S1CDMax>(4);
  for (const auto format : {S1Fmt::linear, S1Fmt::reserved, S1Fmt::two_level_4k, S1Fmt::two_level_64k}) {
    const bool two_level = format == S1Fmt::two_level_4k || format == S1Fmt::two_level_64k;
    EXPECT_TRUE(ste<Ste::S1Fmt>(substreams, format, all));
    EXPECT_EQ(ste<Ste::S1Fmt>(substreams, format, linear), !two_level);
    EXPECT_TRUE(ste<Ste::S1Fmt>(s1, format, linear)) << "IGNORED without substreams";
  }
  EXPECT_TRUE(ste<Ste::S1ContextPtr>(s1, IPA{(std::uint64_t{1} << 44) - 64}, all));
  EXPECT_FALSE(ste<Ste::S1ContextPtr>(s1, IPA{std::uint64_t{1} << 44}, all));
}

TEST_F(Configuration, SteStage2_5_2_2) {
  const auto terminate = with([](Parameters& p) { p.stall = StallModel::terminate_only; });
  const auto forced = with([](Parameters& p) { p.stall = StallModel::stall_forced; });
  EXPECT_TRUE(ste<Ste::S2S>(s2, true, all));
  EXPECT_FALSE(ste<Ste::S2S>(s2, true, terminate));
  EXPECT_FALSE(ste<Ste::S2S>(Ste{s2}.set<Ste::S2S>(true), false, forced));
  EXPECT_TRUE(ste<Ste::S2S>(s1, true, terminate)) << "IGNORED";
  EXPECT_FALSE(ste<Ste::S2AA64>(s2, false, all));
  const auto no_httu = with([](Parameters& p) { p.httu = Htt::none; });
  const auto access = with([](Parameters& p) { p.httu = Htt::access; });
  EXPECT_TRUE(ste<Ste::S2HA>(s2, true, all));
  EXPECT_TRUE(ste<Ste::S2HD>(s2, true, all));
  EXPECT_TRUE(ste<Ste::S2HA>(s2, true, access));
  EXPECT_FALSE(ste<Ste::S2HD>(s2, true, access));
  EXPECT_FALSE(ste<Ste::S2HA>(s2, true, no_httu));
  EXPECT_FALSE(ste<Ste::S2HD>(s2, true, no_httu));
  EXPECT_FALSE(ste<Ste::S2ENDI>(s2, true, all));
  EXPECT_TRUE(ste<Ste::S2ENDI>(s2, true, with([](Parameters& p) { p.endian = TtEndian::mixed; })));
  EXPECT_FALSE(ste<Ste::S2TG>(s2, static_cast<Granule0>(3), all));
  EXPECT_FALSE(ste<Ste::S2TG>(s2, Granule0::size64k, with([](Parameters& p) { p.gran64k = false; })));
  EXPECT_FALSE(ste<Ste::S2TTB>(s2, PA{std::uint64_t{1} << 44}, all));
  EXPECT_FALSE(ste<Ste::S2TTB>(Ste{s2}.set<Ste::S2PS>(AddressSize::bits40), PA{std::uint64_t{1} << 40}, all));
  const auto small = with([](Parameters& p) { p.vmid16 = false; });
  for (const Ste& base : {s1, s2, both}) {
    EXPECT_TRUE(ste<Ste::S2VMID>(base, VMID{0xff}, small));
    EXPECT_FALSE(ste<Ste::S2VMID>(base, VMID{0x100}, small));
    EXPECT_TRUE(ste<Ste::S2VMID>(base, VMID{0x100}, all));
  }
  EXPECT_TRUE(ste<Ste::S2VMID>(Ste{s1}.set<Ste::Config>(SteConfig::bypass), VMID{0x100}, small)) << "IGNORED";
}

TEST_F(Configuration, S2WalkGeometry_5_2) {
  // Arm ARM tables D8-21 to D8-41: {granule, SL0, least T0SZ, most, with STT}. PA size 48.
  struct Row {
    Granule0 tg;
    unsigned sl0;
    unsigned least;
    unsigned most;
    unsigned most_stt;
  };
  using enum Granule0;
  constexpr Row kRows[] = {{size4k, 2, 16, 24, 24},  {size4k, 1, 21, 33, 33},  {size4k, 0, 30, 39, 42},
                           {size4k, 3, 64, 0, 48},   {size16k, 3, 64, 0, 0},   {size16k, 2, 16, 27, 27},
                           {size16k, 1, 24, 38, 38}, {size16k, 0, 35, 39, 48}, {size64k, 2, 16, 21, 21},
                           {size64k, 1, 18, 34, 34}, {size64k, 0, 31, 39, 47}, {size64k, 3, 64, 0, 0}};
  for (const bool stt : {false, true}) {
    const auto p = with([&](Parameters& q) { q.oas = AddressSize::bits48, q.stt = stt; });
    for (const Row& row : kRows) {
      for (unsigned t0sz = 0; t0sz < 64; ++t0sz) {
        const Ste entry = Ste{s2}.set<Ste::S2TG>(row.tg).set<Ste::S2SL0>(row.sl0).set<Ste::S2T0SZ>(t0sz);
        const unsigned least = row.tg == size4k && row.sl0 == 3 ? 39 : row.least;
        const bool want = t0sz >= least && t0sz <= (stt ? row.most_stt : row.most);
        EXPECT_EQ(ste_legal(p, entry), want) << static_cast<int>(row.tg) << ' ' << row.sl0 << ' ' << t0sz << ' ' << stt;
      }
    }
  }
  // 64 - IAS, and the start levels that a small PA size forbids.
  const auto p40 = with([](Parameters& q) { q.oas = AddressSize::bits40; });
  const Ste at40 = Ste{s2}.set<Ste::S2SL0>(1).set<Ste::S2T0SZ>(24);
  EXPECT_TRUE(ste_legal(p40, at40));
  EXPECT_FALSE(ste_legal(p40, Ste{at40}.set<Ste::S2T0SZ>(23)));
  EXPECT_FALSE(ste_legal(p40, Ste{at40}.set<Ste::S2SL0>(2))) << "level 0 needs 44 bits";
  EXPECT_TRUE(ste_legal(all, Ste{at40}.set<Ste::S2SL0>(2)));
}

TEST_F(Configuration, CdGeneral_5_4_2) {
  const Cd base = cd_of(0x1000);
  EXPECT_FALSE(cd<Cd::V>(base, false, all));
  EXPECT_FALSE(cd<Cd::AA64>(base, false, all));
  EXPECT_TRUE(cd<Cd::A>(base, false, all));
  EXPECT_FALSE(cd<Cd::A>(base, false, with([](Parameters& p) { p.term_model = true; })));
  const auto terminate = with([](Parameters& p) { p.stall = StallModel::terminate_only; });
  const auto forced = with([](Parameters& p) { p.stall = StallModel::stall_forced; });
  EXPECT_TRUE(cd<Cd::S>(base, true, all));
  EXPECT_FALSE(cd<Cd::S>(base, true, all, Ste{}.set<Ste::S1STALLD>(true)));
  EXPECT_FALSE(cd<Cd::S>(base, true, terminate));
  EXPECT_FALSE(cd<Cd::S>(Cd{base}.set<Cd::S>(true), false, forced));
  const auto no_httu = with([](Parameters& p) { p.httu = Htt::none; });
  const auto access = with([](Parameters& p) { p.httu = Htt::access; });
  EXPECT_TRUE(cd<Cd::HA>(base, true, access));
  EXPECT_TRUE(cd<Cd::HD>(base, true, all));
  EXPECT_FALSE(cd<Cd::HD>(base, true, access));
  EXPECT_FALSE(cd<Cd::HA>(base, true, no_httu));
  EXPECT_FALSE(cd<Cd::HD>(base, true, no_httu));
  EXPECT_FALSE(cd<Cd::ASID>(base, ASID{0x100}, with([](Parameters& p) { p.asid16 = false; })));
  EXPECT_TRUE(cd<Cd::ASID>(base, ASID{0x100}, all));
  EXPECT_FALSE(cd<Cd::ENDI>(base, true, all));
  EXPECT_TRUE(cd<Cd::ENDI>(base, true, with([](Parameters& p) { p.endian = TtEndian::mixed; })));
  EXPECT_TRUE(cd<Cd::ENDI>(Cd{base}.set<Cd::EPD0>(true), true, all)) << "no table: IGNORED";
}

TEST_F(Configuration, CdTables_5_4_2) {
  const Cd base = cd_of(0x1000);
  for (const bool stt : {false, true}) {
    const auto p = with([&](Parameters& q) { q.stt = stt; });
    for (const unsigned granule : {12u, 14u, 16u})
      for (unsigned t0sz = 0; t0sz < 64; ++t0sz) {
        const unsigned most = !stt ? 39 : granule == 16 ? 47 : 48;
        const Cd lower = cd_of(0x1'0000, granule).set<Cd::T0SZ>(t0sz);
        EXPECT_EQ(cd_legal(p, Ste{}, lower, World::el1), t0sz >= 16 && t0sz <= most) << granule << ' ' << t0sz;
      }
  }
  const auto vax = with([](Parameters& q) { q.vax = 1; });
  EXPECT_FALSE(cd<Cd::T0SZ>(base, 12, vax)) << "only 64 KiB, or DS";
  EXPECT_TRUE(cd<Cd::T0SZ>(cd_of(0x1'0000, 16), 12, vax));
  EXPECT_FALSE(cd<Cd::T0SZ>(cd_of(0x1'0000, 16), 11, vax));
  EXPECT_FALSE(cd<Cd::TG0>(base, static_cast<Granule0>(3), all));
  EXPECT_FALSE(cd<Cd::TG0>(base, Granule0::size16k, with([](Parameters& p) { p.gran16k = false; })));
  EXPECT_FALSE(cd<Cd::TTB0>(base, IPA{std::uint64_t{1} << 44}, all));
  EXPECT_TRUE(cd<Cd::IPS>(base, AddressSize::bits32, all));
  EXPECT_FALSE(cd<Cd::TTB0>(Cd{base}.set<Cd::IPS>(AddressSize::bits32), IPA{std::uint64_t{1} << 32}, all));
  // EPDx: what belongs to a disabled table is IGNORED; what belongs to an enabled one is not (5.4.1.1).
  const Cd off = Cd{base}.set<Cd::EPD0>(true);
  EXPECT_TRUE(cd<Cd::T0SZ>(off, 0, all));
  EXPECT_TRUE(cd<Cd::TG0>(off, static_cast<Granule0>(3), all));
  EXPECT_FALSE(cd<Cd::EPD1>(base, false, all)) << "T1SZ is 0, TG1 reserved";
  const Cd upper =
      Cd{base}.set<Cd::EPD1>(false).set<Cd::T1SZ>(25).set<Cd::TG1>(Granule1::size4k).set<Cd::TTB1>(IPA{0x2000});
  EXPECT_FALSE(cd<Cd::T1SZ>(upper, 15, all));
  EXPECT_FALSE(cd<Cd::TG1>(upper, Granule1::reserved, all));
  EXPECT_FALSE(cd<Cd::TTB1>(upper, IPA{std::uint64_t{1} << 44}, all));
  EXPECT_TRUE(cd_legal(with([](Parameters& p) { p.hyp = true; }), Ste{}, base, World::el2));
  EXPECT_FALSE(cd_legal(all, Ste{}, Cd{off}.set<Cd::T0SZ>(0), World::el2)) << "EPD0 is IGNORED there";
}

TEST_F(Configuration, LinearStreamTable_6_3_25) {
  controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(3);
  put_ste(7, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass));
  put_ste(8, Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass));
  EXPECT_EQ(read(kVa, 7), kVa);
  Fault f = failure(kVa, 8);
  EXPECT_EQ(f.id, EventId::C_BAD_STREAMID);
  EXPECT_FALSE(f.silent);
  controls.cr2.set<CR2::RECINVSID>(false);
  EXPECT_TRUE(failure(kVa, 8).silent);
  EXPECT_EQ(failure(kVa, 0xffff'ffff).id, EventId::C_BAD_STREAMID);
  // No more than SIDSIZE, whatever LOG2SIZE says.
  controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(32);
  EXPECT_EQ(failure(kVa, std::uint32_t{1} << parameters.sid_bits).id, EventId::C_BAD_STREAMID);
  // An abort (7.3.4); a failed fetch is not cached.
  controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(0);
  controls.strtab_base.set<STRTAB_BASE::ADDR>(0x4'0000);
  f = failure(kVa, 0);
  EXPECT_EQ(f.id, EventId::F_STE_FETCH);
  EXPECT_EQ(f.fetch, 0x4'0000u);
  EXPECT_FALSE(translator->ste_cached(StreamID{0}));
}

TEST_F(Configuration, TwoLevelStreamTable_5_1) {
  const PA level1 = memory.allocate(kPage4K);
  controls.strtab_base.set<STRTAB_BASE::ADDR>(level1.value);
  const Ste pass = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass);
  struct Split {
    unsigned field;
    unsigned bits;
  };
  for (const Split split : {Split{6, 6}, Split{8, 8}, Split{10, 10}, Split{7, 6}, Split{0, 6}}) {
    controls.strtab_base_cfg = STRTAB_BASE_CFG{};
    controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(10)
        .set<STRTAB_BASE_CFG::SPLIT>(split.field)
        .set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level);
    const PA level2 = memory.allocate(std::size_t{64} << split.bits);
    for (std::uint64_t i = 0; i < (std::uint64_t{1} << split.bits); ++i)
      ASSERT_TRUE(memory.store(level2 + i * sizeof(Ste), pass));
    for (unsigned span = 0; span < 32; ++span) {
      const L1Std l1 = L1Std{}.set<L1Std::Span>(span).set<L1Std::L2Ptr>(level2.value);
      ASSERT_TRUE(memory.store(level1, l1));
      run(cfgi_all());
      const bool valid = span >= 1 && span <= split.bits + 1 && span <= 11;
      const std::uint32_t reach = valid ? std::uint32_t{1} << (span - 1) : 0;
      for (const std::uint32_t sid : {0u, reach - 1, reach, (1u << split.bits) - 1}) {
        if (sid >= (1u << split.bits)) continue;
        if (sid < reach) {
          EXPECT_EQ(read(kVa, sid), kVa) << span << ' ' << sid;
        } else {
          EXPECT_EQ(failure(kVa, sid).id, EventId::C_BAD_STREAMID) << span << ' ' << sid;
        }
      }
    }
  }
}

TEST_F(Configuration, Level1DescriptorsNeedTheNonLeafForm_4_3_1) {
  const PA level1 = memory.allocate(kPage4K);
  controls.strtab_base.set<STRTAB_BASE::ADDR>(level1.value);
  controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(8).set<STRTAB_BASE_CFG::SPLIT>(6).set<STRTAB_BASE_CFG::FMT>(
      StrtabFmt::two_level);
  EXPECT_EQ(failure(kVa, 70).id, EventId::C_BAD_STREAMID);
  const PA level2 = memory.allocate(64 * sizeof(Ste));
  ASSERT_TRUE(memory.store(level2 + 6 * sizeof(Ste), Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::bypass)));
  ASSERT_TRUE(memory.store(level1 + 8, L1Std{}.set<L1Std::Span>(7).set<L1Std::L2Ptr>(level2.value)));
  EXPECT_EQ(failure(kVa, 70).id, EventId::C_BAD_STREAMID) << "invalid ones are cached, too";
  run(cfgi_ste(StreamID{70}, true));
  EXPECT_EQ(failure(kVa, 70).id, EventId::C_BAD_STREAMID) << "Leaf == 1";
  run(cfgi_ste(StreamID{3}, false));
  EXPECT_EQ(failure(kVa, 70).id, EventId::C_BAD_STREAMID) << "another descriptor";
  run(cfgi_ste(StreamID{100}, false));
  EXPECT_EQ(read(kVa, 70), kVa);
  // Decommissioned: the STEs stay until they are invalidated, too.
  ASSERT_TRUE(memory.store(level1 + 8, L1Std{}));
  run(cfgi_ste(StreamID{100}, false));
  EXPECT_EQ(read(kVa, 70), kVa);
  run(cfgi_ste_range(StreamID{64}, 5));
  EXPECT_EQ(failure(kVa, 70).id, EventId::C_BAD_STREAMID);
}

}  // namespace
}  // namespace weir::model::test
