#include "hyp/cpu/tlb.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace weir {
namespace {

using ::testing::ElementsAre;
using Steps = std::vector<std::string>;

constexpr std::uint64_t kOwn = 0x0001'0000'4000'0000, kOther = 0x0002'0000'5000'0000;
constexpr std::uint64_t kTcr = 0x12'3500'3510, kSctlr = 0x30d0'0800;
constexpr std::uint64_t kEpd = 1U << 7 | 1U << 23;

const char* name(TlbRegister reg) {
  switch (reg) {
    case TlbRegister::vttbr_el2: return "vttbr";
    case TlbRegister::tcr_el1: return "tcr";
    case TlbRegister::sctlr_el1: return "sctlr";
  }
  return "?";
}

// Writes down what it is asked to do.
class Recorder final : public TlbPort {
 public:
  Steps steps;
  std::array<std::uint64_t, 3> registers{kOwn, kTcr, kSctlr};

  void invalidate(Tlbi what, std::uint64_t operand) override {
    constexpr const char* kNames[] = {"vmalls12e1is", "ipas2e1is", "vmalle1is", "vmalls12e1", "ipas2e1", "vmalle1"};
    std::string step = kNames[static_cast<unsigned>(what)];
    if (what == Tlbi::ipas2e1is || what == Tlbi::ipas2e1) step += " " + std::to_string(operand);
    steps.push_back(step + (registers[0] == kOwn ? "" : " other"));
  }
  void complete(Reach reach) override { steps.emplace_back(reach == Reach::all_pcpus ? "dsb ish" : "dsb nsh"); }
  void synchronize() override { steps.emplace_back("isb"); }
  std::uint64_t read(TlbRegister reg) override { return registers[static_cast<unsigned>(reg)]; }
  void write(TlbRegister reg, std::uint64_t value) override {
    registers[static_cast<unsigned>(reg)] = value;
    steps.emplace_back(name(reg));
    walks_possible_ = (registers[1] & kEpd) != kEpd || (registers[2] & 1) == 0;
    if (reg == TlbRegister::vttbr_el2 && walks_possible_) walked = true;
  }
  bool walked = false;  // VTTBR_EL2 changed while a walk of EL1's stage 1 could begin

 private:
  bool walks_possible_ = true;
};

constexpr Errata kNone{};
const Errata kRepeat = Errata{}.add(Erratum::repeat_tlbi);
const Errata kSpeculative = Errata{}.add(Erratum::speculative_at);

TEST(Tlb, APageGoesFromStage2First) {
  Recorder port;
  Tlb{port, kNone}.invalidate(kOwn, IPA{0x5000}, kPage4K, true);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "ipas2e1is 5", "dsb ish", "vmalle1is", "dsb ish", "isb"));
}

TEST(Tlb, EachPageOfARangeIsNamed) {
  Recorder port;
  Tlb{port, kNone}.invalidate(kOwn, IPA{0x5000}, 3 * kPage4K, true);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "ipas2e1is 5", "ipas2e1is 6", "ipas2e1is 7", "dsb ish", "vmalle1is",
                                      "dsb ish", "isb"));
}

TEST(Tlb, OfALongRangeEverythingGoes) {
  Recorder port;
  Tlb{port, kNone}.invalidate(kOwn, IPA{0}, Tlb::kMaxSinglePages * kPage4K, true);
  EXPECT_EQ(port.steps.size(), Tlb::kMaxSinglePages + 5);
  port.steps.clear();
  Tlb{port, kNone}.invalidate(kOwn, IPA{0}, (Tlb::kMaxSinglePages + 1) * kPage4K, true);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "vmalls12e1is", "dsb ish", "isb"));
}

TEST(Tlb, EverythingGoesIfATablePageWent) {
  Recorder port;
  Tlb{port, kNone}.invalidate(kOwn, IPA{0x5000}, kPage4K, false);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "vmalls12e1is", "dsb ish", "isb"));
}

TEST(Tlb, ABroadcastIsRepeatedWithItsBarrier) {
  Recorder port;
  Tlb{port, kRepeat}.invalidate(kOwn, IPA{0x5000}, 2 * kPage4K, true);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "ipas2e1is 5", "ipas2e1is 6", "dsb ish", "ipas2e1is 5", "ipas2e1is 6",
                                      "dsb ish", "vmalle1is", "dsb ish", "vmalle1is", "dsb ish", "isb"));
  port.steps.clear();
  Tlb{port, kRepeat}.invalidate_vm(kOwn);
  EXPECT_THAT(port.steps, ElementsAre("dsb ish", "vmalls12e1is", "dsb ish", "vmalls12e1is", "dsb ish", "isb"));
}

TEST(Tlb, WhatStaysHereIsNotRepeated) {
  for (const Errata errata : {kNone, kRepeat}) {
    Recorder port;
    Tlb{port, errata}.invalidate_here(IPA{0x7000});
    EXPECT_THAT(port.steps, ElementsAre("dsb ish", "ipas2e1 7", "dsb nsh", "vmalle1", "dsb nsh", "isb"));
    port.steps.clear();
    Tlb{port, errata}.invalidate_vm_here();
    EXPECT_THAT(port.steps, ElementsAre("vmalls12e1", "dsb nsh", "isb"));
    port.steps.clear();
    Tlb{port, errata}.invalidate_stage1_here();
    EXPECT_THAT(port.steps, ElementsAre("vmalle1", "dsb nsh", "isb"));
  }
}

TEST(Tlb, AnotherVmIsLoadedForItsInvalidationAndLeftAgain) {
  Recorder port;
  Tlb{port, kNone}.invalidate_vm(kOther);
  EXPECT_THAT(port.steps,
              ElementsAre("vttbr", "isb", "dsb ish", "vmalls12e1is other", "dsb ish", "isb", "vttbr", "isb"));
  EXPECT_EQ(port.registers[0], kOwn);
  port.steps.clear();
  Tlb{port, kNone}.invalidate(kOther, IPA{0x1000}, kPage4K, true);
  EXPECT_THAT(port.steps, ElementsAre("vttbr", "isb", "dsb ish", "ipas2e1is 1 other", "dsb ish", "vmalle1is other",
                                      "dsb ish", "isb", "vttbr", "isb"));
  EXPECT_EQ(port.registers[0], kOwn);
}

TEST(Tlb, NoWalkBeginsWhileTheVmChangesWhereOneMayBeSpeculated) {
  for (const std::uint64_t sctlr : {kSctlr, kSctlr | 1}) {  // the guest's MMU off and on
    Recorder port;
    port.registers[2] = sctlr;
    Tlb{port, kSpeculative}.invalidate_vm(kOther);
    EXPECT_FALSE(port.walked);
    EXPECT_EQ(port.registers, (std::array<std::uint64_t, 3>{kOwn, kTcr, sctlr}));
  }
  Recorder port;
  Tlb{port, kNone}.invalidate_vm(kOther);
  EXPECT_TRUE(port.walked);  // the test can tell
}

// EPD0 and EPD1 are in force before M is: otherwise a guest whose MMU is off would walk from what its TTBRs hold.
TEST(Tlb, TheOrderKeepsEachStepInForceBeforeTheNext) {
  Recorder port;
  Tlb{port, kSpeculative}.load_vm(kOther);
  EXPECT_THAT(port.steps, ElementsAre("tcr", "isb", "sctlr", "isb", "vttbr", "isb", "sctlr", "isb", "tcr", "isb",
                                      "vmalls12e1 other", "dsb nsh", "isb"));
  EXPECT_FALSE(port.walked);
  EXPECT_EQ(port.registers, (std::array<std::uint64_t, 3>{kOther, kTcr, kSctlr}));
}

TEST(Tlb, TheVmThatIsLoadedIsNotLoadedAgain) {
  for (const Errata errata : {kNone, kSpeculative}) {
    Recorder port;
    Tlb{port, errata}.invalidate_vm(kOwn);
    EXPECT_THAT(port.steps, ElementsAre("dsb ish", "vmalls12e1is", "dsb ish", "isb"));
  }
}

TEST(Tlb, LoadingAVmRemovesWhatItsVmidHadHere) {
  Recorder port;
  Tlb{port, kNone}.load_vm(kOther);
  EXPECT_THAT(port.steps, ElementsAre("vttbr", "isb", "vmalls12e1 other", "dsb nsh", "isb"));
}

}  // namespace
}  // namespace weir
