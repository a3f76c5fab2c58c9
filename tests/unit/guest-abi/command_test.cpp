// Command encodings written by hand from IHI 0070G.b, chapter 4, and what a guest may set in each.
#include "guest-abi/smmu/command.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <set>

namespace weir::smmu {
namespace {

using Words = std::array<std::uint64_t, 2>;

Words words(const Command& c) { return c.words; }

TEST(Command, Encodings) {
  EXPECT_EQ(words(cfgi_ste(StreamID{0x1234}, true)), (Words{0x0000'1234'0000'0003, 0x1}));
  EXPECT_EQ(words(cfgi_ste(StreamID{0xffff'ffff}, false)), (Words{0xffff'ffff'0000'0003, 0x0}));
  EXPECT_EQ(words(cfgi_ste_range(StreamID{0x100}, 7)), (Words{0x0000'0100'0000'0004, 0x7}));
  EXPECT_EQ(words(cfgi_all()), (Words{0x4, 0x1f}));
  EXPECT_EQ(words(cfgi_cd(StreamID{8}, SubstreamID{0xf'ffff}, true)), (Words{0x0000'0008'ffff'f005, 0x1}));
  EXPECT_EQ(words(cfgi_cd_all(StreamID{8})), (Words{0x0000'0008'0000'0006, 0x0}));
  EXPECT_EQ(words(tlbi_nh_all(VMID{0xabcd})), (Words{0x0000'abcd'0000'0010, 0x0}));
  EXPECT_EQ(words(tlbi_nh_asid(VMID{1}, ASID{0xbeef})), (Words{0xbeef'0001'0000'0011, 0x0}));
  EXPECT_EQ(words(tlbi_nh_va(VMID{1}, ASID{2}, IOVA{0xffff'8000'1234'5678}, true)),
            (Words{0x0002'0001'0000'0012, 0xffff'8000'1234'5001}));
  EXPECT_EQ(words(tlbi_nh_vaa(VMID{1}, IOVA{0x1000}, false)), (Words{0x0000'0001'0000'0013, 0x1000}));
  EXPECT_EQ(words(tlbi_el2_all()), (Words{0x20, 0}));
  EXPECT_EQ(words(tlbi_s12_vmall(VMID{9})), (Words{0x0000'0009'0000'0028, 0x0}));
  EXPECT_EQ(words(tlbi_s2_ipa(VMID{9}, IPA{0x4000'1000}, true)), (Words{0x0000'0009'0000'002a, 0x4000'1001}));
  EXPECT_EQ(words(tlbi_nsnh_all()), (Words{0x30, 0}));
  EXPECT_EQ(words(atc_inv_all(StreamID{0x77})), (Words{0x0000'0077'0000'0040, 0x34}));
  EXPECT_EQ(words(atc_inv(StreamID{0x77}, SubstreamID{5}, IOVA{0x20'0000}, 9, true)),
            (Words{0x0000'0077'0000'5a40, 0x20'0009}));
  EXPECT_EQ(words(pri_resp(StreamID{3}, SubstreamID{1}, 0x1ff, PriResponse::success)),
            (Words{0x0000'0003'0000'1841, 0x21ff}));
  EXPECT_EQ(words(resume(StreamID{3}, 0xcafe, ResumeAction::retry)), (Words{0x0000'0003'0000'1044, 0xcafe}));
  EXPECT_EQ(words(resume(StreamID{3}, 1, ResumeAction::terminate_abort)), (Words{0x0000'0003'0000'2044, 1}));
  EXPECT_EQ(words(resume(StreamID{3}, 1, ResumeAction::terminate_raz_wi)), (Words{0x0000'0003'0000'0044, 1}));
  EXPECT_EQ(words(stall_term(StreamID{3})), (Words{0x0000'0003'0000'0045, 0}));
  EXPECT_EQ(words(sync_none()), (Words{0x46, 0}));
  EXPECT_EQ(words(sync_sev()), (Words{0x2046, 0}));
  EXPECT_EQ(words(sync_irq(PA{0x8'0000'0040}, 0x1234'5678)), (Words{0x1234'5678'0fc0'1046, 0x8'0000'0040}));
}

TEST(Command, RangesAndHints) {
  // 4.4.1.1: NUM [16:12], SCALE [25:20], TTL [73:72], TG [75:74]
  const TlbiRange r{.tg = TlbiGranule::size4k, .ttl = 3, .num = 31, .scale = 4};
  EXPECT_EQ(words(tlbi_nh_va(VMID{0}, ASID{0}, IOVA{0x1000}, true, r)), (Words{0x0000'0000'0041'f012, 0x1701}));
  EXPECT_EQ(words(tlbi_s2_ipa(VMID{0}, IPA{0x1000}, false, {.tg = TlbiGranule::size64k})), (Words{0x2a, 0x1c00}));
}

TEST(Command, ConvertsBackOnlyToItsOwnFormat) {
  const Command c = tlbi_nh_asid(VMID{1}, ASID{2});
  ASSERT_TRUE(c.as<TlbiNhAsid>());
  EXPECT_EQ(c.as<TlbiNhAsid>()->get<TlbiNhAsid::ASID>(), ASID{2});
  EXPECT_FALSE(c.as<TlbiNhAll>());
  EXPECT_EQ(c.opcode(), Opcode::TLBI_NH_ASID);
}

TEST(Command, EveryFormatHasItsOwnOpcodeAndName) {
  std::set<int> opcodes;
  AllCommands::for_each([&]<typename T>(const T& typed) {
    static_assert(T::Layout::covered == Words{~0ull, ~0ull});
    EXPECT_TRUE(opcodes.insert(static_cast<int>(T::kOpcode)).second) << T::name;
    EXPECT_EQ(typed.words, (Words{static_cast<std::uint64_t>(T::kOpcode), 0})) << T::name;
    EXPECT_EQ(name_of(T::kOpcode), T::name);
    EXPECT_TRUE(T::name.starts_with("CMD_"));
    EXPECT_NE(T::Layout::guest[0] & 0xff, 0u);
  });
  EXPECT_EQ(opcodes.size(), 24u);
  EXPECT_EQ(name_of(Opcode::DPTI_PA), "CMD_DPTI_PA");
  EXPECT_EQ(name_of(static_cast<Opcode>(0x99)), "");
}

// Bits that a guest may set, by hand: opcode | fields of 4.2 to 4.7, without SSec [10], NS [75] and TTL128 [71].
TEST(Command, GuestMasks) {
  struct Row {
    std::uint8_t opcode;
    Words mask;
  };
  constexpr std::uint64_t kSid = 0xffff'ffff'0000'0000;
  constexpr std::uint64_t kSsv = 0x800;
  constexpr std::uint64_t kSsid = 0xffff'f000;
  constexpr std::uint64_t kRange0 = 0x03f1'f000;
  constexpr std::uint64_t kRange1 = 0x0f01;
  constexpr std::uint64_t kVa = 0xffff'ffff'ffff'f000;
  constexpr Row kRows[] = {
      {0x01, {0xff | kSid | kSsid | kSsv, 0}},
      {0x02, {0xff | kSid | kSsid | kSsv, kVa | 0x3ff}},
      {0x03, {0xff | kSid, 0x1}},
      {0x04, {0xff | kSid, 0x1f}},
      {0x05, {0xff | kSid | kSsid, 0x1}},
      {0x06, {0xff | kSid, 0}},
      {0x10, {0x0000'ffff'0000'00ff, 0}},
      {0x11, {0xffff'ffff'0000'00ff, 0}},
      {0x12, {0xffff'ffff'0000'00ff | kRange0, kVa | kRange1}},
      {0x13, {0x0000'ffff'0000'00ff | kRange0, kVa | kRange1}},
      {0x30, {0xff, 0}},
      {0x40, {0xff | kSid | kSsid | kSsv | 0x200, kVa | 0x3f}},
      {0x41, {0xff | kSid | kSsid | kSsv, 0x31ff}},
      {0x44, {0xff | kSid | 0x3000, 0xffff}},
      {0x45, {0xff | kSid, 0}},
      {0x46, {0xff | kSid | 0x0fc0'3000, 0x00ff'ffff'ffff'fffc}},
  };
  std::set<int> offered;
  for (const Row& row : kRows) {
    offered.insert(row.opcode);
    const auto mask = guest_mask(static_cast<Opcode>(row.opcode));
    ASSERT_TRUE(mask) << int{row.opcode};
    EXPECT_EQ(*mask, row.mask) << std::hex << int{row.opcode} << ": " << (*mask)[0] << ' ' << (*mask)[1];
  }
  // All others are CERROR_ILL: reserved, Secure, EL2, stage-2 and DPT commands.
  for (int op = 0; op < 256; ++op)
    EXPECT_EQ(guest_mask(static_cast<Opcode>(op)).has_value(), offered.contains(op)) << op;
}

TEST(Command, MaskRefusesReservedBits) {
  Command c = cfgi_ste(StreamID{1}, true);
  EXPECT_TRUE(c.within(*guest_mask(c.opcode())));
  Command ssec = c;
  ssec.words[0] |= 1u << 10;
  EXPECT_FALSE(ssec.within(*guest_mask(ssec.opcode())));
  Command high = c;
  high.words[1] |= 1ull << 63;
  EXPECT_FALSE(high.within(*guest_mask(high.opcode())));
}

TEST(Command, RangeLegality) {
  const auto va = [](TlbiRange r) { return tlbi_nh_va(VMID{}, ASID{}, IOVA{}, true, r); };
  using enum TlbiGranule;
  EXPECT_TRUE(tlbi_range_legal(va({}), false, false));
  EXPECT_TRUE(tlbi_range_legal(va({}), true, false));
  // Without RIL all of it is RES0; with TG == 0 the rest is.
  EXPECT_FALSE(tlbi_range_legal(va({.tg = size4k, .ttl = 3}), false, false));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size4k, .ttl = 3}), true, false));
  EXPECT_FALSE(tlbi_range_legal(va({.num = 1}), true, false));
  EXPECT_FALSE(tlbi_range_legal(va({.scale = 1}), true, false));
  EXPECT_FALSE(tlbi_range_legal(va({.ttl = 1}), true, false));
  // Granule, but neither range nor hint: reserved.
  EXPECT_FALSE(tlbi_range_legal(va({.tg = size4k}), true, false));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size4k, .num = 1}), true, false));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size4k, .scale = 1}), true, false));
  // 16 KiB level 1 exists only with DS.
  EXPECT_FALSE(tlbi_range_legal(va({.tg = size16k, .ttl = 1}), true, false));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size16k, .ttl = 1}), true, true));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size16k, .ttl = 1, .num = 1}), true, false));
  // SCALE has 5 bits without DS.
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size4k, .scale = 31}), true, false));
  EXPECT_FALSE(tlbi_range_legal(va({.tg = size4k, .scale = 32}), true, false));
  EXPECT_TRUE(tlbi_range_legal(va({.tg = size4k, .scale = 32}), true, true));
  EXPECT_FALSE(tlbi_range_legal(va({.tg = size4k, .ttl = 3}).set<TlbiNhVa::TTL128>(true), true, true));
}

static_assert(Command{}.within(GuestMask{}));
static_assert(guest_mask(Opcode::SYNC).has_value() && !guest_mask(Opcode::TLBI_S2_IPA).has_value());

}  // namespace
}  // namespace weir::smmu
