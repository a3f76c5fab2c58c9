// Offsets and fields against IHI 0070G.b, 6.2 and 6.3.
#include "guest-abi/smmu/registers.hpp"

#include <gtest/gtest.h>

namespace weir::smmu {
namespace {

TEST(Registers, EveryRegisterIsListedOnceInOrderAndAligned) {
  std::uint32_t end = 0;
  for (const RegInfo& r : kRegs) {
    const auto offset = static_cast<std::uint32_t>(r.reg);
    EXPECT_GE(offset, end) << r.name;
    EXPECT_TRUE(r.bits == 32 || r.bits == 64);
    EXPECT_EQ(offset % (r.bits / 8u), 0u) << r.name;
    EXPECT_EQ(find_reg(offset), &r);
    EXPECT_EQ(name_of(r.reg), r.name);
    end = offset + r.bits / 8u;
  }
  EXPECT_LE(end, kWindowSize);
}

TEST(Registers, Offsets) {
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::IDR5), 0x14u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CR0), 0x20u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CR0ACK), 0x24u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::GBPA), 0x44u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::IRQ_CTRL), 0x50u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::GERROR), 0x60u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::GERROR_IRQ_CFG0), 0x68u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::STRTAB_BASE), 0x80u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CMDQ_BASE), 0x90u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CMDQ_PROD), 0x98u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CMDQ_CONS), 0x9cu);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::EVENTQ_BASE), 0xa0u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::EVENTQ_IRQ_CFG0), 0xb0u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::PRIQ_IRQ_CFG2), 0xdcu);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::IDR6), 0x190u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::EVENTQ_PROD), 0x100a8u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::EVENTQ_CONS), 0x100acu);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::PRIQ_PROD), 0x100c8u);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::PRIQ_CONS), 0x100ccu);
  EXPECT_EQ(static_cast<std::uint32_t>(Reg::CIDR3), 0xffcu);
}

TEST(Registers, FindGivesTheRegisterOfEitherHalf) {
  EXPECT_EQ(find_reg(0x94)->reg, Reg::CMDQ_BASE);
  EXPECT_EQ(find_reg(0x94)->bits, 64);
  EXPECT_EQ(find_reg(0x9c)->reg, Reg::CMDQ_CONS);
  EXPECT_EQ(find_reg(0x4c), nullptr);  // a hole
  EXPECT_EQ(find_reg(0xa8), nullptr);  // EVENTQ_PROD is on page 1 only
  EXPECT_EQ(find_reg(0x20000), nullptr);
}

// A stage-1 SMMU as Linux's driver reads one: S1P, AArch64, coherent, 16-bit ASIDs, MSI, little-endian, terminate,
// 2-level.
TEST(Registers, Idr0) {
  IDR0 r;
  r.set<IDR0::S1P>(true)
      .set<IDR0::TTF>(TtFormat::aarch64)
      .set<IDR0::COHACC>(true)
      .set<IDR0::ASID16>(true)
      .set<IDR0::MSI>(true)
      .set<IDR0::TTENDIAN>(TtEndian::little)
      .set<IDR0::STALL_MODEL>(StallModel::terminate_only)
      .set<IDR0::ST_LEVEL>(StLevel::two_level);
  //                     ST_LEVEL    STALL      TTENDIAN   MSI       ASID16    COHACC   TTF      S1P
  EXPECT_EQ(r.words[0], (1u << 27) | 1u << 24 | 2u << 21 | 1u << 13 | 1u << 12 | 1u << 4 | 2u << 2 | 1u << 1);
}

// Never advertised (docs: S2P, VMID16, HYP, BTM, VATOS, ECMDQ, and what depends on them).
TEST(Registers, WhatAGuestIsNeverOffered) {
  constexpr std::uint64_t idr0 = IDR0::Layout::guest[0];
  for (const unsigned bit :
       {0u /*S2P*/, 5u /*BTM*/, 9u /*Hyp*/, 11u, 15u /*ATOS*/, 17u, 18u /*VMID16*/, 20u /*VATOS*/, 30u})
    EXPECT_EQ(idr0 >> bit & 1, 0u) << bit;
  for (const unsigned bit :
       {1u /*S1P*/, 4u /*COHACC*/, 10u /*ATS*/, 12u /*ASID16*/, 13u /*MSI*/, 16u /*PRI*/, 19u /*CD2L*/})
    EXPECT_EQ(idr0 >> bit & 1, 1u) << bit;
  EXPECT_EQ(IDR1::Layout::guest[0], 0x03ff'ffffu);  // no ECMDQ, presets, REL, attribute overrides
  EXPECT_EQ(IDR3::Layout::guest[0] >> 10 & 1, 1u);  // RIL
  EXPECT_EQ(IDR3::Layout::guest[0] >> 8 & 1, 0u);   // FWB
  EXPECT_EQ(CR0::Layout::guest[0], 0x1fu);
  EXPECT_EQ(CR2::Layout::guest[0], 0xeu);  // no E2H
}

TEST(Registers, Fields) {
  EXPECT_EQ((CR0{}.set<CR0::SMMUEN>(true).set<CR0::EVENTQEN>(true).set<CR0::CMDQEN>(true).words[0]), 0xdu);
  EXPECT_EQ((CR1{}
                 .set<CR1::TABLE_SH>(Shareability::inner)
                 .set<CR1::TABLE_OC>(QueueCacheability::write_back)
                 .set<CR1::TABLE_IC>(QueueCacheability::write_back)
                 .set<CR1::QUEUE_SH>(Shareability::inner)
                 .set<CR1::QUEUE_OC>(QueueCacheability::write_back)
                 .set<CR1::QUEUE_IC>(QueueCacheability::write_back)
                 .words[0]),
            0xd75u);
  EXPECT_EQ((CR2{}.set<CR2::PTM>(true).set<CR2::RECINVSID>(true).words[0]), 6u);
  EXPECT_EQ((GBPA{}.set<GBPA::Update>(true).set<GBPA::ABORT>(true).words[0]), 0x8010'0000u);
  EXPECT_EQ((GERROR{}.set<GERROR::CMDQ_ERR>(true).set<GERROR::SFM_ERR>(true).words[0]), 0x101u);
  EXPECT_EQ((STRTAB_BASE{}.set<STRTAB_BASE::RA>(true).set<STRTAB_BASE::ADDR>(0x8'1234'5640).words[0]),
            0x4000'0008'1234'5640u);
  EXPECT_EQ((STRTAB_BASE_CFG{}
                 .set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level)
                 .set<STRTAB_BASE_CFG::SPLIT>(8)
                 .set<STRTAB_BASE_CFG::LOG2SIZE>(16)
                 .words[0]),
            0x1'0210u);
  EXPECT_EQ((CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(0x4'0000'0000).set<CMDQ_BASE::LOG2SIZE>(18).words[0]), 0x4'0000'0012u);
  EXPECT_EQ((CMDQ_CONS{}.set<CMDQ_CONS::ERR>(CmdqError::CERROR_ATC_INV_SYNC).set<CMDQ_CONS::RD>(0xf'ffff).words[0]),
            0x030f'ffffu);
  EXPECT_EQ((EVENTQ_PROD{}.set<EVENTQ_PROD::OVFLG>(true).set<EVENTQ_PROD::WR>(5).words[0]), 0x8000'0005u);
  EXPECT_EQ((PRIQ_IRQ_CFG2{}.set<PRIQ_IRQ_CFG2::LO>(true).set<PRIQ_IRQ_CFG2::SH>(Shareability::outer).words[0]),
            0x8000'0020u);
  EXPECT_EQ((IIDR{}.set<IIDR::ProductID>(0x483).set<IIDR::Implementer>(0x43b).words[0]), 0x4830'043bu);
  EXPECT_EQ(bits(IDR5{}.set<IDR5::OAS>(AddressSize::bits44).get<IDR5::OAS>()), 44u);
}

}  // namespace
}  // namespace weir::smmu
