// What holds for the model as a whole.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

// A bit of everything, and a digest of all that can be seen of it.
class Bustle {
 public:
  explicit Bustle(const Parameters& p) : smmu{memory, p} {
    strtab = memory.allocate(kPage4K);
    cmdq = memory.allocate(kPage4K);
    evtq = memory.allocate(kPage4K);
    priq = memory.allocate(kPage4K);
    cds = memory.allocate(kPage4K);
    tables.emplace([&](std::uint64_t at) { return memory.pointer(PA{at}); },
                   [&] { return memory.allocate(kPage4K).value; });
    for (std::uint64_t i = 0; i < 8; i += 2) tables->map(kVa + i * kPage4K, memory.allocate(kPage4K).value);
    for (unsigned i = 0; i < 4; ++i) {
      static_cast<void>(
          memory.store(cds + i * sizeof(Cd),
                       context(tables->root(), static_cast<std::uint16_t>(i)).set<Cd::S>(i == 1 && p.stalls())));
      static_cast<void>(
          memory.store(strtab + i * sizeof(Ste), Ste{}
                                                     .set<Ste::V>(true)
                                                     .set<Ste::Config>(SteConfig::s1)
                                                     .set<Ste::EATS>(p.ats ? Eats::full : Eats::none)
                                                     .set<Ste::MEV>(i == 2)
                                                     .set<Ste::S1ContextPtr>(IPA{cds.value + i * sizeof(Cd)})));
    }
    smmu.on_irq = [&](unsigned which) { note(which + 1000); };
    smmu.on_execute = [&](const Command& c) { note(c.words[0]); };
    smmu.write64(Reg::STRTAB_BASE, strtab.value);
    smmu.write(Reg::STRTAB_BASE_CFG, 3);
    smmu.write64(Reg::CMDQ_BASE, cmdq.value | 5);
    smmu.write64(Reg::EVENTQ_BASE, evtq.value | 5);
    smmu.write64(Reg::PRIQ_BASE, priq.value | 3);
    smmu.write(Reg::IRQ_CTRL, 7);
    smmu.write(Reg::CR0, 0x1f);
    smmu.settle();
  }
  std::uint64_t run(std::uint64_t operations) {
    std::mt19937_64 random{99};
    for (std::uint64_t i = 0; i < operations; ++i) {
      const std::uint64_t r = random();
      const StreamID sid{static_cast<std::uint32_t>(r >> 8 & 3)};
      const std::uint64_t va = kVa + (r >> 16 & 7) * kPage4K;
      switch (r % 16) {
        case 0: submit(nh_va(0, static_cast<std::uint16_t>(sid.value), va)); break;
        case 1: submit(cfgi_ste(sid, true)); break;
        case 2: submit(sync_irq(PA{}, 0)); break;
        case 3: submit(smmu.parameters().ats ? Command{atc_inv_all(sid)} : Command{cfgi_all()}); break;
        case 4: answer(); break;
        case 5: note(smmu.endpoint(sid).access(va, (r >> 20 & 1) != 0).address.value); break;
        case 6:
          smmu.endpoint(sid).page_request({.address = va, .prg_index = static_cast<std::uint16_t>(r >> 24 & 255)});
          break;
        case 7:
        case 8:
        case 9: {
          const Transaction t = smmu.issue(Access{.sid = sid, .address = va, .write = (r >> 20 & 1) != 0});
          note(t.address.value + static_cast<unsigned>(t.state));
          break;
        }
        default: smmu.step();
      }
    }
    smmu.settle();
    return digest;
  }
  void note(std::uint64_t what) { digest = (digest ^ what) * 0x9e37'79b9'7f4a'7c15 + 1; }
  void submit(const Command& c) {
    const auto cons = smmu.read(Reg::CMDQ_CONS) & 63;
    if (((prod - cons) & 63) == 32) return;
    static_cast<void>(memory.store(cmdq + (prod & 31) * sizeof c, c));
    prod = (prod + 1) & 63;
    smmu.write(Reg::CMDQ_PROD, prod);
  }
  // As a driver reads its queues; stalls are terminated.
  void answer() {
    const auto wr = smmu.read(Reg::EVENTQ_PROD);
    for (; rd != (wr & 63); rd = (rd + 1) & 63) {
      const auto e = memory.load<Event>(evtq + (rd & 31) * sizeof(Event));
      note(e->words[0] ^ e->words[1] ^ e->words[2]);
      if (const auto f = e->as<FTranslation>(); f && f->get<FTranslation::Stall>())
        submit(resume(StreamID{f->get<FTranslation::StreamID>()}, f->get<FTranslation::STAG>(),
                      ResumeAction::terminate_abort));
    }
    smmu.write(Reg::EVENTQ_CONS, (wr & 0x8000'0000) | rd);
    smmu.write(Reg::PRIQ_CONS, smmu.read(Reg::PRIQ_PROD));
    note(wr);
  }
  PhysicalMemory memory;
  model::Smmu smmu;
  PA strtab, cmdq, evtq, priq, cds;
  std::optional<Tables> tables;
  std::uint32_t prod = 0;
  std::uint32_t rd = 0;
  std::uint64_t digest = 0;
};

TEST(ModelBehaviour, TheSameSeedTheSameBehaviour) {
  for (const std::uint64_t seed : {1u, 2u}) {
    Bustle a{Parameters::everything(seed)};
    Bustle b{Parameters::everything(seed)};
    Bustle other{Parameters::everything(seed + 10)};
    const std::uint64_t digest = a.run(5000);
    EXPECT_EQ(b.run(5000), digest);
    EXPECT_NE(other.run(5000), digest);
    EXPECT_EQ(a.smmu.misuses(), 0u);
    EXPECT_GT(a.smmu.syncs(), 50u);
    EXPECT_GT(a.smmu.events_recorded(), 50u);
  }
}

TEST(ModelBehaviour, ManySteps) {
  Bustle b{Parameters::everything(5)};
  static_cast<void>(b.run(200'000));
  EXPECT_EQ(b.smmu.misuses(), 0u);
  EXPECT_EQ(b.smmu.read(Reg::GERROR), 0u);
}

// Nothing is ever late there.
TEST(ModelBehaviour, QemuDoesEverythingAtOnce) {
  Bustle b{Parameters::qemu()};
  EXPECT_TRUE(b.smmu.idle());
  for (int i = 0; i < 200; ++i) {
    static_cast<void>(b.run(10));
    ASSERT_TRUE(b.smmu.idle());
    ASSERT_EQ(b.smmu.read(Reg::CMDQ_CONS), b.prod);
  }
}

}  // namespace
}  // namespace weir::model::test
