// Every opcode, and every single bit flipped in a valid command of each, under several announcements: consumed or CERROR_ILL,
// as tables say that were written from IHI 0070, chapter 4. Reserved fields that are not 0 are refused (4.1.5 permits it).
#include <gtest/gtest.h>

#include "tests/unit/vsmmu/fixture.hpp"

namespace weir::vsmmu::test {
namespace {

using namespace smmu;

struct Features {
  bool ats, pri, stall, ril, ds, ssid;
};

struct Bits {
  unsigned hi, lo;
};
enum class Needs : std::uint8_t { nothing, ats, pri, stall };

// Opcode, what must be announced, and the bits that are not reserved.
struct Rule {
  std::uint8_t opcode;
  Needs needs;
  std::vector<Bits> bits;
};
const std::vector<Rule> kRules = {
    {0x01, Needs::nothing, {{11, 11}, {31, 12}, {63, 32}}},                                 // 4.2.1
    {0x02, Needs::nothing, {{11, 11}, {31, 12}, {63, 32}, {68, 64}, {73, 69}, {127, 76}}},  // 4.2.2
    {0x03, Needs::nothing, {{63, 32}, {64, 64}}},                                           // 4.3.1
    {0x04, Needs::nothing, {{63, 32}, {68, 64}}},                                           // 4.3.2, 4.3.6
    {0x05, Needs::nothing, {{31, 12}, {63, 32}, {64, 64}}},                                 // 4.3.3
    {0x06, Needs::nothing, {{63, 32}}},                                                     // 4.3.4
    {0x10, Needs::nothing, {{47, 32}}},                                                     // 4.4.2.1
    {0x11, Needs::nothing, {{47, 32}, {63, 48}}},                                           // 4.4.2.2
    {0x12, Needs::nothing, {{16, 12}, {25, 20}, {63, 32}, {64, 64}, {75, 72}, {127, 76}}},  // 4.4.2.4
    {0x13, Needs::nothing, {{16, 12}, {25, 20}, {47, 32}, {64, 64}, {75, 72}, {127, 76}}},  // 4.4.2.3
    {0x30, Needs::nothing, {}},                                                             // 4.4.4.1
    {0x40, Needs::ats, {{9, 9}, {11, 11}, {31, 12}, {63, 32}, {69, 64}, {127, 76}}},        // 4.5.1
    {0x41, Needs::pri, {{11, 11}, {31, 12}, {63, 32}, {72, 64}, {77, 76}}},                 // 4.5.2
    {0x44, Needs::stall, {{13, 12}, {63, 32}, {79, 64}}},                                   // 4.7.1
    {0x45, Needs::stall, {{63, 32}}},                                                       // 4.7.2
    {0x46, Needs::nothing, {{13, 12}, {27, 22}, {63, 32}, {119, 66}}},                      // 4.7.3
};

std::uint64_t bits(const Command& c, unsigned hi, unsigned lo) {
  return c.words[lo / 64] >> (lo % 64) & ((std::uint64_t{2} << (hi - lo)) - 1);
}

bool legal(const Command& c, const Features& f) {
  const auto opcode = bits(c, 7, 0);
  const auto rule = std::ranges::find(kRules, opcode, &Rule::opcode);
  if (rule == kRules.end()) return false;
  if ((rule->needs == Needs::ats && !f.ats) || (rule->needs == Needs::pri && !f.pri) ||
      (rule->needs == Needs::stall && !f.stall))
    return false;
  for (unsigned bit = 8; bit < 128; ++bit) {
    const bool defined = std::ranges::any_of(rule->bits, [&](Bits b) { return b.lo <= bit && bit <= b.hi; });
    if (!defined && bits(c, bit, bit) != 0) return false;
  }
  if (opcode == 0x12 || opcode == 0x13) {  // 4.4.1.1
    const auto num = bits(c, 16, 12);
    const auto scale = bits(c, 25, 20);
    const auto ttl = bits(c, 73, 72);
    const auto tg = bits(c, 75, 74);
    if (tg == 0 || !f.ril) return num == 0 && scale == 0 && ttl == 0 && tg == 0;
    if (!f.ds && bits(c, 25, 25) != 0) return false;
    const bool any_level = ttl == 0 || (tg == 2 && ttl == 1 && !f.ds);
    return num != 0 || scale != 0 || !any_level;
  }
  if (opcode == 0x40) return bits(c, 69, 64) <= 52;
  if (opcode == 0x41) return bits(c, 77, 76) != 3;
  if (opcode == 0x46) return bits(c, 13, 12) != 3;
  return true;
}

stage2::Capabilities capable(const Features& f) {
  stage2::Capabilities c = qemu_like_capabilities();
  c.idr0.set<IDR0::ATS>(true).set<IDR0::PRI>(true);
  if (f.stall) c.idr0.set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate);
  c.idr1.set<IDR1::SSIDSIZE>(f.ssid ? 16 : 0);
  c.idr3.set<IDR3::RIL>(f.ril);
  c.idr5.set<IDR5::VAX>(1).set<IDR5::DS>(f.ds);
  if (f.stall) c.idr5.set<IDR5::STALL_MAX>(64);
  return c;
}

constexpr std::uint32_t kVsid = 8;
constexpr StreamID kSid{0x0808};

struct OneStream {
  explicit OneStream(const Features& f)
      : machine{1, capable(f)}, virt{machine, {.ats = f.ats, .pri = f.pri}}, guest{virt} {
    const StreamGrant grant{.ats = f.ats ? AtsGrant::split_stage : AtsGrant::none, .pri = f.pri};
    EXPECT_TRUE(virt.vsmmu->attach(VStreamID{kVsid}, smmu, kSid, grant));
    guest.put_ste(kVsid, Guest::s1_ste());
    guest.enable();
    machine.forget();
  }
  Machine machine;
  FakeSmmu& smmu = *machine.smmus[0];
  Virtual virt;
  Guest guest;
};

void expect_as_the_text_says(OneStream& one, const Command& c, const Features& f) {
  const std::uint32_t at = one.guest.cons();
  const auto issued = one.smmu.commands.size() + one.smmu.syncs;
  one.guest.submit({c});
  const bool consumed = !one.guest.cmdq_error();
  ASSERT_EQ(consumed, legal(c, f)) << std::hex << c.words[0] << ' ' << c.words[1];
  if (consumed) {
    ASSERT_EQ(one.guest.cons(), (at + 1) & 0x1ff);
  } else {
    ASSERT_EQ(one.guest.error(), CmdqError::CERROR_ILL);
    ASSERT_EQ(one.guest.cons(), at);
    ASSERT_EQ(one.smmu.commands.size() + one.smmu.syncs, issued);
    one.guest.recover();
    ASSERT_FALSE(one.guest.cmdq_error());
  }
}

class CommandRules : public testing::TestWithParam<unsigned> {
 protected:
  static Features features() {
    const unsigned n = GetParam();
    return {(n & 1) != 0, (n & 1) != 0 && (n & 2) != 0, (n & 4) != 0, (n & 8) != 0, (n & 16) != 0, (n & 32) != 0};
  }
};

TEST_P(CommandRules, EveryOpcodeAndEveryBit) {
  const Features f = features();
  OneStream one{f};
  const auto& announced = one.virt.vsmmu->announced();
  ASSERT_EQ(announced.idr0.get<IDR0::ATS>(), f.ats);
  ASSERT_EQ(announced.idr0.get<IDR0::PRI>(), f.pri);
  ASSERT_EQ(announced.idr0.get<IDR0::STALL_MODEL>() != StallModel::terminate_only, f.stall);
  ASSERT_EQ(announced.idr3.get<IDR3::RIL>(), f.ril);
  ASSERT_EQ(announced.idr5.get<IDR5::DS>(), f.ds);
  std::vector<Command> valid = {
      tlbi_nh_va(VMID{}, ASID{1}, IOVA{0x1000}, true, {.tg = TlbiGranule::size4k, .num = 1}),
      tlbi_nh_vaa(VMID{}, IOVA{0x4000}, false, {.tg = TlbiGranule::size16k, .ttl = 1, .scale = 2}),
      tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size64k, .ttl = 3}),
      tlbi_nh_va(VMID{}, ASID{1}, IOVA{}, true, {.tg = TlbiGranule::size16k, .ttl = 1}),
      cfgi_all(),
      atc_inv_all(StreamID{kVsid}),
      atc_inv(StreamID{kVsid}, SubstreamID{3}, IOVA{0x1000}, 0, true),
      pri_resp(StreamID{kVsid}, {}, 5, PriResponse::success),
      smmu::resume(StreamID{kVsid}, 1, ResumeAction::retry),
      sync_irq(PA{0x4030'0000}, 1)};
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    Command c;
    c.words[0] = opcode;
    valid.push_back(c);
  }
  for (const Command& good : valid) {
    ASSERT_NO_FATAL_FAILURE(expect_as_the_text_says(one, good, f));
    for (unsigned bit = 0; bit < 128; ++bit) {
      Command c = good;
      c.words[bit / 64] ^= std::uint64_t{1} << (bit % 64);
      ASSERT_NO_FATAL_FAILURE(expect_as_the_text_says(one, c, f));
    }
    one.machine.forget();
  }
}
INSTANTIATE_TEST_SUITE_P(Announcements, CommandRules, testing::Values(0u, 1u, 3u, 4u, 8u, 24u, 33u, 63u));

// --- ATC_INV (4.5.1, 7.1) ---

constexpr Features kAll{.ats = true, .pri = true, .stall = true, .ril = true, .ds = false, .ssid = true};

struct Atc : testing::Test {
  OneStream one{kAll};
  Guest& guest = one.guest;
  std::vector<Command>& issued = one.smmu.commands;
};

TEST_F(Atc, GoesToTheStreamsOwnId) {
  guest.submit({atc_inv(StreamID{kVsid}, SubstreamID{3}, IOVA{0x5000}, 4, true), sync_none()});
  EXPECT_EQ(issued, (std::vector<Command>{atc_inv(kSid, SubstreamID{3}, IOVA{0x5000}, 4, true)}));
}

TEST_F(Atc, GlobalAndSubstreamIdAreIgnoredWithoutSsv) {
  AtcInv c = atc_inv(StreamID{kVsid}, {}, IOVA{0x5000}, 4);
  guest.submit({c.set<AtcInv::Global>(true).set<AtcInv::SubstreamID>(SubstreamID{9}), sync_none()});
  EXPECT_EQ(issued, (std::vector<Command>{atc_inv(kSid, {}, IOVA{0x5000}, 4)}));
}

TEST_F(Atc, HasNoEffectOnOthers) {
  guest.submit({atc_inv_all(StreamID{kVsid + 1}), atc_inv_all(StreamID{0xffff'ffff}),
                atc_inv(StreamID{kVsid}, SubstreamID{0x1'0000}, IOVA{}, 0), sync_none()});
  EXPECT_TRUE(issued.empty());
  EXPECT_EQ(guest.cons(), 4u);
}

TEST_F(Atc, IsIgnoredWhileTheSmmuIsDisabled) {
  guest.write(Reg::CR0, CR0::CMDQEN::mask);
  one.machine.forget();
  guest.submit({atc_inv_all(StreamID{kVsid}), pri_resp(StreamID{kVsid}, {}, 1, PriResponse::success), sync_none()});
  EXPECT_TRUE(issued.empty());
  EXPECT_EQ(guest.cons(), 3u);
}

TEST_F(Atc, ATimeoutFailsTheSyncAndTheNextTryCompletes) {
  one.smmu.on_command = [&](const Command& c) {
    if (c.opcode() == Opcode::ATC_INV) one.virt.vsmmu->atc_timed_out(VStreamID{kVsid});
  };
  guest.submit({atc_inv_all(StreamID{kVsid}), sync_irq(PA{}, 0), nh_va(1, 0)});
  EXPECT_TRUE(guest.cmdq_error());
  EXPECT_EQ(guest.error(), CmdqError::CERROR_ATC_INV_SYNC);
  EXPECT_EQ(guest.cons(), 1u);
  EXPECT_EQ(one.virt.interrupts.count[Irq::cmdq_sync], 0u);
  guest.acknowledge();
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 3u);
  EXPECT_EQ(one.virt.interrupts.count[Irq::cmdq_sync], 1u);
  EXPECT_EQ(one.virt.vsmmu->counters().atc_timeouts, 1u);
}

TEST_F(Atc, ATimeoutBeforeTheSyncIsSubmittedIsNotForgotten) {
  guest.submit({atc_inv_all(StreamID{kVsid})});
  one.virt.vsmmu->atc_timed_out(VStreamID{kVsid});
  guest.submit({sync_none()});
  EXPECT_EQ(guest.error(), CmdqError::CERROR_ATC_INV_SYNC);
}

TEST_F(Atc, ATimeoutOfSomebodyElsesInvalidationFailsNoSync) {
  one.virt.vsmmu->atc_timed_out(VStreamID{kVsid});
  guest.submit({nh_va(1, 0), sync_none()});
  EXPECT_FALSE(guest.cmdq_error());
  EXPECT_EQ(guest.cons(), 2u);
}

// --- Bounds and signals ---

TEST(SyncBounds, DrainedEventsAreCharged) {
  Machine machine{1};
  Virtual virt{machine, {}, {.events = 4}};
  ASSERT_TRUE(virt.vsmmu->attach(VStreamID{kVsid}, *machine.smmus[0], kSid));
  Guest guest{virt};
  guest.put_ste(kVsid, Guest::s1_ste());
  guest.enable();
  machine.drain.waiting = 10;
  unsigned again = 0;
  guest.on_again = [&] {
    ++again;
    EXPECT_EQ(guest.cons(), 0u);
    EXPECT_EQ(machine.drain.waiting, 10 - 4 * again);
  };
  guest.submit({sync_none()});
  EXPECT_EQ(again, 2u);
  EXPECT_EQ(machine.smmus[0]->syncs, 1u);
  EXPECT_EQ(guest.cons(), 1u);
}

TEST(Sev, AFullQueueThatHasRoomAgainWakesCpus) {
  OneStream one{kAll};
  one.guest.submit({nh_va(1, 0)});
  EXPECT_EQ(one.virt.interrupts.events, 0u);
  for (unsigned i = 0; i < (1u << Guest::kLog2); ++i) one.guest.queue(nh_va(1, 0));
  one.guest.kick();
  EXPECT_EQ(one.virt.interrupts.events, 1u);
}

}  // namespace
}  // namespace weir::vsmmu::test
