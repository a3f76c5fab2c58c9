// One software SMMUv3 with a linear stream table, a queue of each kind, and nobody between it and the test.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <vector>

#include "tests/model/smmu.hpp"
#include "tests/unit/model/tables.hpp"

namespace weir::model::test {

inline constexpr std::uint64_t kVa = 0x4000'1000;

// The stream table has 16 entries.
class Model : public testing::Test {
 protected:
  using Ste = smmu::Ste;
  using Cd = smmu::Cd;
  using Reg = smmu::Reg;

  void start(const Parameters& parameters = {.prefetches = false, .evicts = false}) {
    using namespace smmu;
    prod = 0;
    smmu = std::make_unique<model::Smmu>(memory, parameters);
    strtab = memory.allocate(16 * sizeof(Ste));
    cmdq = memory.allocate(kPage4K);
    evtq = memory.allocate(kPage4K);
    smmu->write64(Reg::STRTAB_BASE, strtab.value);
    smmu->write(Reg::STRTAB_BASE_CFG, 4);
    smmu->write(Reg::CR2, CR2::RECINVSID::mask);
    smmu->write64(Reg::CMDQ_BASE, cmdq.value | 5);
    smmu->write64(Reg::EVENTQ_BASE, evtq.value | 3);
    if (parameters.ats && parameters.pri) {
      priq = memory.allocate(kPage4K);
      smmu->write64(Reg::PRIQ_BASE, priq.value | 2);
    }
    enable(CR0::SMMUEN::mask | CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  }
  // CR0, acknowledged.
  void enable(std::uint64_t bits) {
    smmu->write(Reg::CR0, static_cast<std::uint32_t>(bits));
    settle();
    ASSERT_EQ(smmu->read(Reg::CR0ACK), smmu->read(Reg::CR0));
  }
  void put_ste(std::uint32_t sid, const Ste& ste) { ASSERT_TRUE(memory.store(strtab + sid * sizeof(Ste), ste)); }
  void settle() { smmu->settle(); }
  // Into the queue; nothing happens until somebody steps.
  void submit(std::initializer_list<smmu::Command> commands) {
    for (const smmu::Command& c : commands) {
      ASSERT_TRUE(memory.store(cmdq + (prod & 31) * sizeof(smmu::Command), c));
      prod = (prod + 1) & 63;
    }
    smmu->write(Reg::CMDQ_PROD, prod);
  }
  [[nodiscard]] std::uint32_t cons() {
    return smmu::CMDQ_CONS{{{smmu->read(Reg::CMDQ_CONS)}}}.get<smmu::CMDQ_CONS::RD>();
  }
  [[nodiscard]] smmu::CmdqError error() {
    return smmu::CMDQ_CONS{{{smmu->read(Reg::CMDQ_CONS)}}}.get<smmu::CMDQ_CONS::ERR>();
  }
  void sync(std::initializer_list<smmu::Command> commands) {
    submit(commands);
    submit({smmu::sync_none()});
    for (unsigned rounds = 0; cons() != prod; ++rounds) {
      ASSERT_LT(rounds, 10000u);
      smmu->step();
    }
  }
  [[nodiscard]] Tables tables() {
    return Tables{[&](std::uint64_t at) { return memory.pointer(PA{at}); },
                  [&] { return memory.allocate(kPage4K).value; }};
  }
  [[nodiscard]] std::uint64_t page() { return memory.allocate(kPage4K).value; }
  [[nodiscard]] PA put_cd(const Cd& cd) {
    const PA at = memory.allocate(kPage4K);
    EXPECT_TRUE(memory.store(at, cd));
    return at;
  }
  [[nodiscard]] static Ste s1(PA cd, std::uint16_t vmid) {
    return Ste{}
        .set<Ste::V>(true)
        .set<Ste::Config>(smmu::SteConfig::s1)
        .set<Ste::S1ContextPtr>(IPA{cd.value})
        .set<Ste::S2VMID>(VMID{vmid});
  }
  // Stage 2 of 39 bits whose root is `ttb`.
  [[nodiscard]] static Ste with_s2(Ste ste, smmu::SteConfig config, std::uint64_t ttb, std::uint16_t vmid) {
    return ste.set<Ste::V>(true)
        .set<Ste::Config>(config)
        .set<Ste::S2VMID>(VMID{vmid})
        .set<Ste::S2T0SZ>(25)
        .set<Ste::S2SL0>(1)
        .set<Ste::S2PS>(smmu::AddressSize::bits44)
        .set<Ste::S2AA64>(true)
        .set<Ste::S2R>(true)
        .set<Ste::S2TTB>(PA{ttb});
  }
  [[nodiscard]] std::uint64_t read(std::uint32_t sid, std::uint64_t va) {
    const auto pa = smmu->access(StreamID{sid}, IOVA{va}, false, 4);
    return pa ? pa->value : 0;
  }
  [[nodiscard]] std::uint64_t written(std::uint32_t sid, std::uint64_t va) {
    const auto pa = smmu->access(StreamID{sid}, IOVA{va}, true, 4);
    return pa ? pa->value : 0;
  }
  // The newest event.
  [[nodiscard]] smmu::Event last_event() {
    smmu->settle();
    const auto wr = smmu::EVENTQ_PROD{{{smmu->read(Reg::EVENTQ_PROD)}}}.get<smmu::EVENTQ_PROD::WR>();
    EXPECT_NE(wr, smmu::EVENTQ_CONS{{{smmu->read(Reg::EVENTQ_CONS)}}}.get<smmu::EVENTQ_CONS::RD>());
    smmu->write(Reg::EVENTQ_CONS, wr);
    return memory.load<smmu::Event>(evtq + ((wr - 1) & 7) * sizeof(smmu::Event)).value_or(smmu::Event{});
  }
  [[nodiscard]] bool no_event() {
    smmu->settle();
    return smmu->read(Reg::EVENTQ_PROD) == smmu->read(Reg::EVENTQ_CONS);
  }

  PhysicalMemory memory;
  std::unique_ptr<model::Smmu> smmu;
  PA strtab;
  PA cmdq;
  PA evtq;
  PA priq;
  std::uint32_t prod = 0;
};

inline smmu::Command nh_va(std::uint16_t vmid, std::uint16_t asid, std::uint64_t va) {
  return smmu::tlbi_nh_va(VMID{vmid}, ASID{asid}, IOVA{va}, true);
}

}  // namespace weir::model::test
