// Arm IHI 0070, chapter 4 and 7.1: which commands there are, when they take effect, how errors stop the queue.
#include <set>

#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr Parameters quiet(Parameters p) {
  p.prefetches = false;
  p.evicts = false;
  return p;
}

class ModelCommands : public Model {
 protected:
  // Submits one command and says what came of it; the queue goes on afterwards.
  CmdqError result(const Command& c) {
    const std::uint32_t before = prod;
    submit({c});
    settle();
    if (smmu->read(Reg::GERROR) == smmu->read(Reg::GERRORN)) {
      EXPECT_EQ(cons(), prod);
      return CmdqError::CERROR_NONE;
    }
    EXPECT_EQ(cons(), before) << "CONS stays at the command";
    const CmdqError code = error();
    prod = before;
    smmu->write(Reg::CMDQ_PROD, prod);
    smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
    settle();
    return code;
  }
  bool illegal(const Command& c) { return result(c) == CmdqError::CERROR_ILL; }
  static Command opcode(unsigned op) {
    Command c;
    c.words[0] = op;
    return c;
  }
};

// Every opcode, for what is announced.
TEST_F(ModelCommands, S4_1_1_OpcodesFollowTheFeatures) {
  const std::set<unsigned> always{0x01, 0x02, 0x03, 0x04, 0x30, 0x46};
  const std::set<unsigned> stage1{0x05, 0x06, 0x10, 0x11, 0x12, 0x13};
  const std::set<unsigned> stage2{0x28, 0x2a};
  const std::set<unsigned> el2{0x20, 0x21, 0x22, 0x23};
  const std::set<unsigned> stalls{0x44, 0x45};
  for (unsigned features = 0; features < 64; ++features) {
    Parameters p = quiet({});
    p.s1p = (features & 1) != 0;
    p.s2p = (features & 2) != 0;
    p.hyp = (features & 4) != 0;
    p.ats = (features & 8) != 0;
    p.pri = (features & 16) != 0;
    p.stall = (features & 32) != 0 ? StallModel::stall_and_terminate : StallModel::terminate_only;
    p.stall_max = p.stalls() ? 4 : 0;
    start(p);
    for (unsigned op = 0; op < 256; ++op) {
      const bool known = always.contains(op) || (p.s1p && stage1.contains(op)) || (p.s2p && stage2.contains(op)) ||
                         (p.s1p && p.s2p && p.hyp && el2.contains(op)) || (p.ats && op == 0x40) ||
                         (p.ats && p.pri && op == 0x41) || (p.stalls() && stalls.contains(op));
      EXPECT_EQ(illegal(opcode(op)), !known) << std::hex << op << " with features " << features;
    }
  }
}

// Every reserved bit of every command.
TEST_F(ModelCommands, S4_1_5_ReservedBitsAreRefusedWherePermitted) {
  Parameters p = quiet(Parameters::everything());
  p.hyp = true;
  start(p);
  AllCommands::for_each([&]<typename T>(const T& plain) {
    if (T::kOpcode == Opcode::CFGI_VMS_PIDM || T::kOpcode == Opcode::DPTI_ALL) return;
    for (unsigned bit = 8; bit < 128; ++bit) {
      if ((T::Layout::res0[bit / 64] >> (bit % 64) & 1) == 0) continue;
      Command c = plain;
      c.words[bit / 64] |= std::uint64_t{1} << (bit % 64);
      EXPECT_TRUE(illegal(c)) << T::name << " bit " << bit;
    }
    EXPECT_FALSE(illegal(plain)) << T::name;
  });
}

TEST_F(ModelCommands, S4_1_6_ValuesThatAreIllegal) {
  start(quiet(Parameters::everything()));
  EXPECT_TRUE(illegal(CfgiSte{}.set<CfgiSte::SSec>(true)));
  EXPECT_TRUE(illegal(CfgiCd{}.set<CfgiCd::SSec>(true)));
  EXPECT_TRUE(illegal(Resume{}.set<Resume::SSec>(true)));
  EXPECT_TRUE(illegal(Sync{}.set<Sync::CS>(SyncSignal::illegal)));
  EXPECT_TRUE(illegal(PriResp{}.set<PriResp::Resp>(PriResponse::illegal)));
  EXPECT_FALSE(illegal(atc_inv(StreamID{1}, std::nullopt, IOVA{}, 52)));
  EXPECT_TRUE(illegal(atc_inv(StreamID{1}, std::nullopt, IOVA{}, 53)));
  // 4.4.1.1
  const auto va = [](TlbiRange r) { return Command{tlbi_nh_va(VMID{}, ASID{}, IOVA{}, true, r)}; };
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::none, .ttl = 1})));
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::none, .num = 1})));
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::size4k}))) << "reserved combination";
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::size16k, .ttl = 1}))) << "TTL 1 counts as 0 there";
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::size4k, .num = 1, .scale = 32}))) << "bit 25 without DS";
  EXPECT_FALSE(illegal(va({.tg = TlbiGranule::size4k, .ttl = 3})));
  EXPECT_FALSE(illegal(va({.tg = TlbiGranule::size64k, .num = 3, .scale = 31})));
  Parameters p = quiet({});
  p.ril = false;
  p.vmid16 = false;
  p.asid16 = false;
  start(p);
  EXPECT_TRUE(illegal(va({.tg = TlbiGranule::size4k, .ttl = 3})));
  EXPECT_TRUE(illegal(tlbi_nh_asid(VMID{0x100}, ASID{1})));
  EXPECT_TRUE(illegal(tlbi_nh_asid(VMID{1}, ASID{0x100})));
  EXPECT_FALSE(illegal(tlbi_nh_asid(VMID{0xff}, ASID{0xff})));
  p.s2p = false;
  start(p);
  EXPECT_FALSE(illegal(tlbi_nh_all(VMID{0x100}))) << "a VMID need not be checked without stage 2";
}

TEST_F(ModelCommands, S7_1_ErrorsStopTheQueueAndAreRecoverable) {
  start();
  submit({cfgi_all(), opcode(0xff), cfgi_all(), sync_none()});
  settle();
  EXPECT_EQ(cons(), 1u);
  EXPECT_EQ(error(), CmdqError::CERROR_ILL);
  EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::CMDQ_ERR::mask);
  // Neither a new PROD nor CMDQEN acknowledges it.
  submit({sync_none()});
  settle();
  EXPECT_EQ(cons(), 1u);
  enable(CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  enable(CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask);
  EXPECT_EQ(cons(), 1u);
  // What follows is fetched again: repaired in place.
  ASSERT_TRUE(memory.store(cmdq + sizeof(Command), Command{sync_none()}));
  smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  settle();
  EXPECT_EQ(cons(), 5u);
  // Removed instead: PROD moves back, which only an error permits.
  submit({opcode(0xfe), cfgi_all()});
  settle();
  EXPECT_EQ(cons(), 5u);
  const auto before = smmu->misuses();
  prod = 5;
  smmu->write(Reg::CMDQ_PROD, prod);
  EXPECT_EQ(smmu->misuses(), before);
  smmu->write(Reg::GERRORN, smmu->read(Reg::GERROR));
  sync({});
  EXPECT_EQ(cons(), 6u);
}

TEST_F(ModelCommands, S7_1_AnUnreadableQueueIsCerrorAbt) {
  start();
  memory.free(cmdq, kPage4K);
  prod = 1;
  smmu->write(Reg::CMDQ_PROD, prod);
  settle();
  EXPECT_EQ(error(), CmdqError::CERROR_ABT);
  EXPECT_EQ(cons(), 0u);
}

TEST_F(ModelCommands, S4_3_8_EffectsComeInAnyOrderBetweenSyncsAndAllBeforeOne) {
  unsigned reordered = 0;
  unsigned late = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Parameters p = quiet({});
    p.seed = seed;
    start(p);
    std::vector<std::uint32_t> order;
    smmu->on_execute = [&](const Command& c) { order.push_back(c.as<CfgiSte>()->get<CfgiSte::StreamID>()); };
    submit({cfgi_ste(StreamID{0}, true), cfgi_ste(StreamID{1}, true), cfgi_ste(StreamID{2}, true), sync_none(),
            cfgi_ste(StreamID{3}, true), cfgi_ste(StreamID{4}, true), sync_none()});
    while (cons() != prod) {
      smmu->step();
      if (cons() >= 4) {
        ASSERT_GE(order.size(), 3u);
      }
      late += cons() == 3 && order.size() < 3 ? 1 : 0;
    }
    ASSERT_EQ(order.size(), 5u);
    EXPECT_EQ(std::set(order.begin(), order.begin() + 3), (std::set<std::uint32_t>{0, 1, 2}));
    reordered += std::ranges::is_sorted(order) ? 0 : 1;
  }
  EXPECT_GT(reordered, 10u);
  EXPECT_GT(late, 10u) << "consumed, without effect yet";
}

TEST_F(ModelCommands, S6_3_28_ConsMayLagBehindButNotAtASync) {
  unsigned lagged = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Parameters p = quiet({});
    p.seed = seed;
    start(p);
    unsigned executed = 0;
    smmu->on_execute = [&](const Command&) { ++executed; };
    submit({cfgi_all(), cfgi_all(), sync_none()});
    while (cons() != prod) {
      smmu->step();
      lagged += executed > cons() ? 1 : 0;
    }
  }
  EXPECT_GT(lagged, 0u);
}

TEST_F(ModelCommands, S6_3_9_3_NothingIsFetchedWhileCmdqenIsClear) {
  start();
  enable(CR0::SMMUEN::mask | CR0::EVENTQEN::mask);
  submit({cfgi_all(), sync_none()});
  for (int i = 0; i < 200; ++i) smmu->step();
  EXPECT_EQ(cons(), 0u);
  enable(CR0::SMMUEN::mask | CR0::EVENTQEN::mask | CR0::CMDQEN::mask);
  EXPECT_EQ(cons(), 2u);
}

TEST_F(ModelCommands, S3_5_1_WrapsAndIgnoresInconsistentIndices) {
  start();
  for (unsigned i = 0; i < 100; ++i) {
    sync({cfgi_all()});
    EXPECT_EQ(cons(), prod);
  }
  // Full at once.
  for (unsigned i = 0; i < 31; ++i) submit({cfgi_all()});
  submit({sync_none()});
  settle();
  EXPECT_EQ(cons(), prod);
  const auto before = smmu->misuses();
  smmu->write(Reg::CMDQ_PROD, (prod + 33) & 63);
  EXPECT_EQ(smmu->misuses(), before + 1) << "beyond full";
  settle();
  EXPECT_EQ(cons(), prod);
}

TEST_F(ModelCommands, S4_7_3_SyncSignals) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Parameters p = quiet(Parameters::everything(seed));
    start(p);
    unsigned irqs = 0;
    unsigned sevs = 0;
    smmu->on_irq = [&](unsigned which) {
      EXPECT_EQ(which, 2u);
      EXPECT_GT(cons(), 0u) << "consumption is visible before the signal";
      ++irqs;
    };
    smmu->on_sev = [&] { ++sevs; };
    const PA word = memory.allocate(kPage4K);
    submit({sync_none(), sync_sev(), sync_irq(PA{}, 1), sync_irq(word, 0x1234)});
    settle();
    EXPECT_EQ(irqs, 2u);
    EXPECT_EQ(sevs, 1u);
    EXPECT_EQ(memory.load<std::uint32_t>(word), 0x1234u);
    // To a doorbell, and to where nothing is.
    std::vector<std::uint32_t> rung;
    smmu->on_msi = [&](PA to, std::uint32_t data) -> std::optional<bool> {
      if (to.value != 0x809'0040) return std::nullopt;
      rung.push_back(data);
      return true;
    };
    sync({sync_irq(PA{0x809'0040}, 7), sync_irq(PA{0x809'0040}, 8)});
    settle();
    EXPECT_EQ(rung, (std::vector<std::uint32_t>{7, 8})) << "SYNCs complete in order";
    EXPECT_EQ(smmu->read(Reg::GERROR), 0u);
    sync({sync_irq(PA{0x100'0000}, 9)});
    EXPECT_EQ(smmu->read(Reg::GERROR), GERROR::MSI_CMDQ_ABT_ERR::mask) << "visible when the next SYNC completes";
    EXPECT_EQ(cons(), prod) << "stops nothing";
  }
  Parameters none = quiet({});
  start(none);
  const PA word = memory.allocate(kPage4K);
  smmu->on_sev = [] { FAIL(); };
  sync({sync_irq(word, 1), sync_sev()});
  settle();
  EXPECT_EQ(memory.load<std::uint32_t>(word), 0u) << "no MSIs";
}

TEST_F(ModelCommands, S4_1_2_AnEventWhenAFullQueueGetsRoom) {
  Parameters p = quiet(Parameters::everything());
  start(p);
  enable(CR0::SMMUEN::mask);
  unsigned sevs = 0;
  smmu->on_sev = [&] { ++sevs; };
  for (unsigned i = 0; i < 32; ++i) submit({cfgi_all()});
  enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask);
  EXPECT_EQ(sevs, 1u);
}

// As seen with QEMU 11.1.3 by its qtest protocol.
TEST_F(ModelCommands, Qemu) {
  start(Parameters::qemu());
  const std::set<unsigned> accepted{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x18, 0x1a,
                                    0x20, 0x21, 0x22, 0x23, 0x28, 0x2a, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46};
  for (unsigned op = 0; op < 256; ++op) EXPECT_EQ(illegal(opcode(op)), !accepted.contains(op)) << std::hex << op;
  for (const unsigned op : {0x01u, 0x02u, 0x03u, 0x04u, 0x05u, 0x06u, 0x44u, 0x45u})
    EXPECT_EQ(illegal(opcode(op | 1 << 10)), op >= 3 && op <= 6) << "SSec of " << op;
  EXPECT_FALSE(illegal(opcode(0x46 | 3 << 12))) << "CS == 0b11";
  EXPECT_FALSE(illegal(opcode(0x46 | 1 << 8))) << "a reserved bit";
}

}  // namespace
}  // namespace weir::model::test
