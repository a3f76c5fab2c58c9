// Text and the printers that walk a Layout.
#include "guest-abi/smmu/print.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

#include "guest-abi/text.hpp"

namespace weir {
namespace {

TEST(Text, Numbers) {
  Text<128> t;
  t.dec(0).put(' ').dec(std::numeric_limits<std::uint64_t>::max()).put(' ').hex(0).put(' ').hex(0xabc, 8);
  EXPECT_EQ(t.view(), "0 18446744073709551615 0x0 0x00000abc");
  t.clear();
  t.dec_signed(-1).put(' ').dec_signed(std::numeric_limits<std::int64_t>::min()).put(' ').hex_digits(0x1f, 4);
  EXPECT_EQ(t.view(), "-1 -9223372036854775808 001f");
  EXPECT_FALSE(t.truncated());
}

TEST(Text, CutsOffAndSaysSo) {
  std::array<char, 8> space{};
  TextBuffer t{space};
  t.put("12345678");
  EXPECT_FALSE(t.truncated());
  t.put('9').put("abc");
  EXPECT_EQ(t.view(), "12345678");
  EXPECT_TRUE(t.truncated());
  t.clear();
  EXPECT_FALSE(t.truncated());
  t.put("ab").pad_to(5).put('|').pad_to(100);
  EXPECT_EQ(t.view(), "ab   |  ");
  TextBuffer none{std::span<char>{}};
  EXPECT_TRUE(none.put("x").truncated());
  EXPECT_EQ(none.view(), "");
}

template <typename... Args>
std::string printed(const Args&... args) {
  Text<512> t;
  smmu::print(t, args...);
  EXPECT_FALSE(t.truncated());
  return std::string{t.view()};
}

using namespace smmu;

TEST(Print, Commands) {
  const Command va = tlbi_nh_va(VMID{3}, ASID{1}, IOVA{0x1000}, true);
  EXPECT_EQ(printed(va), "CMD_TLBI_NH_VA VMID=3 ASID=1 Leaf=1 Address=0x1000");
  EXPECT_EQ(printed(Command{cfgi_ste(StreamID{0}, true)}), "CMD_CFGI_STE StreamID=0 Leaf=1");
  EXPECT_EQ(printed(Command{tlbi_nsnh_all()}), "CMD_TLBI_NSNH_ALL");
  Command bad = cfgi_cd_all(StreamID{0x20});
  bad.words[1] = 1ull << 63;
  EXPECT_EQ(printed(bad), "CMD_CFGI_CD_ALL StreamID=0x20 RES0[1]=0x8000000000000000");
  Command unknown;
  unknown.words = {0x1'0000'0099, 0x2};
  EXPECT_EQ(printed(unknown), "CMD_0x99 [0]=0x100000099 [1]=0x2");
}

TEST(Print, Events) {
  const Event e = FTranslation{}
                      .set<FTranslation::StreamID>(0x18)
                      .set<FTranslation::RnW>(true)
                      .set<FTranslation::CLASS>(EventClass::TT)
                      .set<FTranslation::InputAddr>(IOVA{0x1234});
  EXPECT_EQ(printed(e), "F_TRANSLATION StreamID=0x18 RnW=1 CLASS=TT InputAddr=0x1234");
  Event impdef;
  impdef.words[0] = 0xe1;
  EXPECT_EQ(printed(impdef), "EVENT_0xe1 [0]=0xe1 [1]=0x0 [2]=0x0 [3]=0x0");
}

TEST(Print, Tables) {
  const Ste ste =
      Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1_s2).set<Ste::S2VMID>(VMID{17}).set<Ste::S2TTB>(PA{0x8000});
  EXPECT_EQ(printed(ste), "STE V=1 Config=s1+s2 S2VMID=0x11 S2TTB=0x8000");
  EXPECT_EQ(printed(Ste{}), "STE");
  EXPECT_EQ(printed(Cd{}.set<Cd::T0SZ>(16).set<Cd::ASID>(ASID{5})), "CD T0SZ=0x10 ASID=5");
  EXPECT_EQ(printed(L1Std{}.set<L1Std::Span>(7)), "L1STD Span=7");
  EXPECT_EQ(printed(L1Cd{}.set<L1Cd::V>(true)), "L1CD V=1");
  EXPECT_EQ(printed(PriEntry{}.set<PriEntry::Last>(true)), "PRI Last=1");
}

TEST(Print, Registers) {
  EXPECT_EQ(printed(Reg::CMDQ_CONS, 0x0100'0005ull), "CMDQ_CONS=0x1000005 RD=5 ERR=CERROR_ILL");
  EXPECT_EQ(printed(Reg::CR0, 0xdull), "CR0=0xd SMMUEN=1 EVENTQEN=1 CMDQEN=1");
  EXPECT_EQ(printed(Reg::AGBPA, 0ull), "AGBPA=0x0");
  EXPECT_EQ(printed(static_cast<Reg>(0x4c), 1ull), "REG[0x4c]=0x1");
  EXPECT_EQ(printed(Reg::EVENTQ_BASE, 0x4000'0000'8000'0013ull),
            "EVENTQ_BASE=0x4000000080000013 LOG2SIZE=0x13 ADDR=0x80000000 WA=1");
}

TEST(Print, FullRecordsFit) {  // every field non-zero must not overrun
  Ste ste;
  ste.words.fill(~0ull);
  Text<4096> t;
  print(t, ste);
  EXPECT_FALSE(t.truncated());
  Text<64> small;
  print(small, ste);
  EXPECT_TRUE(small.truncated());
  EXPECT_EQ(small.size(), 64u);
}

}  // namespace
}  // namespace weir
