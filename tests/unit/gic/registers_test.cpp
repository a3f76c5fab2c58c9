// GICD and GICR as a guest sees them.
#include <gtest/gtest.h>

#include <random>

#include "fake_machine.hpp"

namespace weir {
namespace {

TEST(VGicRegisters, Identification) {
  FakeMachine m{3};
  gic::GicdTyper typer;
  typer.words[0] = static_cast<std::uint32_t>(m.read_gicd(0, 4));
  EXPECT_EQ((typer.get<gic::GicdTyper::ITLinesNumber>() + 1) * 32, kVgicIntids);
  EXPECT_FALSE(typer.get<gic::GicdTyper::LPIS>());
  EXPECT_TRUE(typer.get<gic::GicdTyper::MBIS>());
  EXPECT_TRUE(typer.get<gic::GicdTyper::No1N>());
  EXPECT_FALSE(typer.get<gic::GicdTyper::SecurityExtn>());
  EXPECT_EQ(m.read_gicd(0, 0xffe8) >> 4 & 0xf, 3U);
  for (unsigned v = 0; v < 3; ++v) {
    EXPECT_EQ(m.read_gicr(0, v * gic::kGicrBytes + 0xffe8) >> 4 & 0xf, 3U);
    gic::GicrTyper r;
    r.words[0] = m.read_gicr(0, v * gic::kGicrBytes + 8, 8);
    EXPECT_EQ(r.get<gic::GicrTyper::Aff0>(), v);
    EXPECT_EQ(r.get<gic::GicrTyper::ProcessorNumber>(), v);
    EXPECT_EQ(r.get<gic::GicrTyper::Last>(), v == 2);
    EXPECT_FALSE(r.get<gic::GicrTyper::PLPIS>());
    EXPECT_EQ(m.read_gicr(0, v * gic::kGicrBytes + 8), r.words[0] & 0xffff'ffff);
    EXPECT_EQ(m.read_gicr(0, v * gic::kGicrBytes + 12), r.words[0] >> 32);
  }
  EXPECT_EQ(m.read_gicr(0, 3 * gic::kGicrBytes + 8, 8), 0U);
}

TEST(VGicRegisters, ControlHasFixedBits) {
  FakeMachine m;
  m.write_gicd(0, 0, 0);
  EXPECT_EQ(m.read_gicd(0, 0), 0x50U);  // ARE and DS
  m.write_gicd(0, 0, 0xffff'ffff);
  EXPECT_EQ(m.read_gicd(0, 0), 0x53U);
}

TEST(VGicRegisters, MessagesMakeSpisPending) {
  FakeMachine m;
  m.set_edge(200);
  m.enable(200);
  m.write_gicd(0, 0x40, 200);
  EXPECT_EQ(m.take(0), 200U);
  EXPECT_EQ(m.ack(0), kSpurious);
  m.write_gicd(0, 0x40, 200, 2);  // a halfword will do
  EXPECT_EQ(m.take(0), 200U);
  m.write_gicd(0, 0x40, 200);
  m.write_gicd(0, 0x48, 200);  // CLRSPI_NSR
  EXPECT_EQ(m.ack(0), kSpurious);
  m.write_gicd(0, 0x40, 200, 1);
  m.write_gicd(0, 0x44, 200);
  m.write_gicd(0, 0x50, 200);  // SETSPI_SR: there is no Secure state
  for (const unsigned none : {0U, 5U, 16U, 31U, 288U, 1019U, 1023U, 5000U, 8191U}) m.write_gicd(0, 0x40, none);
  EXPECT_EQ(m.ack(0), kSpurious);
  EXPECT_EQ(m.read_gicd(0, 0x40), 0U);
}

TEST(VGicRegisters, ALevelSetByAMessageStaysUntilItIsCleared) {
  FakeMachine m;
  m.enable(200);
  m.write_gicd(0, 0x40, 200);
  EXPECT_EQ(m.take(0), 200U);
  EXPECT_EQ(m.take(0), 200U);
  m.write_gicd(0, 0x48, 200);
  EXPECT_EQ(m.ack(0), kSpurious);
}

TEST(VGicRegisters, Waker) {
  FakeMachine m;
  EXPECT_EQ(m.read_gicr(0, 0x14), 6U);
  m.write_gicr(0, 0x14, 0);
  EXPECT_EQ(m.read_gicr(0, 0x14), 0U);
  m.write_gicr(0, 0x14, 2);
  EXPECT_EQ(m.read_gicr(0, 0x14), 6U);
}

TEST(VGicRegisters, EnableBitsSetAndClear) {
  FakeMachine m;
  m.write_gicd(0, 0x108, 0x0f0f'0000);
  EXPECT_EQ(m.read_gicd(0, 0x108), 0x0f0f'0000U);
  EXPECT_EQ(m.read_gicd(0, 0x188), 0x0f0f'0000U);
  m.write_gicd(0, 0x188, 0x0f00'0000);
  EXPECT_EQ(m.read_gicd(0, 0x108), 0x000f'0000U);
  // INTIDs 0..31 are in the redistributors.
  m.write_gicd(0, 0x100, 0xffff'ffff);
  EXPECT_EQ(m.read_gicd(0, 0x100), 0U);
  m.write_sgi_frame(0, 0x100, 0xffff'ffff);
  EXPECT_EQ(m.read_sgi_frame(0, 0x180), 0xffff'ffffU);
  EXPECT_EQ(m.read_sgi_frame(1, 0x100), 0U);
  EXPECT_EQ(m.read_gicd(0, 0x100), 0U);
}

TEST(VGicRegisters, PrioritiesByByteAndWordButNotByHalfword) {
  FakeMachine m;
  m.write_gicd(0, 0x420, 0xa7'97'87'77);
  EXPECT_EQ(m.read_gicd(0, 0x420), 0xa0'90'80'70U) << "five bits are implemented";
  m.write_gicd(0, 0x421, 0x48, 1);
  EXPECT_EQ(m.read_gicd(0, 0x420), 0xa0'90'48'70U);
  EXPECT_EQ(m.read_gicd(0, 0x421, 1), 0x48U);
  m.write_gicd(0, 0x420, 0, 2);
  EXPECT_EQ(m.read_gicd(0, 0x420), 0xa0'90'48'70U);
  EXPECT_EQ(m.read_gicd(0, 0x420, 2), 0U);
  m.write_sgi_frame(1, 0x41f, 0x88, 1);
  EXPECT_EQ(m.read_sgi_frame(1, 0x41c), 0x8800'0000U);
  EXPECT_EQ(m.read_sgi_frame(0, 0x41c), 0U);
}

TEST(VGicRegisters, Triggers) {
  FakeMachine m;
  m.write_gicd(0, 0xc08, 0xffff'ffff);
  EXPECT_EQ(m.read_gicd(0, 0xc08), 0xaaaa'aaaaU);
  m.write_gicd(0, 0xc08, 0x8);
  EXPECT_EQ(m.read_gicd(0, 0xc08), 0x8U);
  m.write_sgi_frame(0, 0xc00, 0);
  m.write_sgi_frame(0, 0xc04, 0xffff'ffff);
  EXPECT_EQ(m.read_sgi_frame(0, 0xc00), 0xaaaa'aaaaU);
  EXPECT_EQ(m.read_sgi_frame(0, 0xc04), 0U);
}

TEST(VGicRegisters, RoutersWholeAndByHalves) {
  FakeMachine m;
  m.write_gicd(0, 0x6000 + 8 * 40, ~std::uint64_t{0}, 8);
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * 40, 8), 0xff'00ff'ffffU) << "no 1-of-N routing";
  m.write_gicd(0, 0x6000 + 8 * 40, 1);
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * 40, 8), 0xff'0000'0001U);
  m.write_gicd(0, 0x6004 + 8 * 40, 0);
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * 40, 8), 1U);
  EXPECT_EQ(m.read_gicd(0, 0x6004 + 8 * 40), 0U);
  m.write_gicd(0, 0x6000 + 8 * 31, 1, 8);  // private INTIDs have none
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * 31, 8), 0U);
  m.write_gicd(0, 0x6000 + 8 * kVgicIntids, 1, 8);
  EXPECT_EQ(m.read_gicd(0, 0x6000 + 8 * kVgicIntids, 8), 0U);
}

TEST(VGicRegisters, PendingBits) {
  FakeMachine m;
  m.write_gicd(0, 0x204, 1U << 8);
  EXPECT_EQ(m.read_gicd(0, 0x204), 1U << 8);
  EXPECT_EQ(m.read_gicd(0, 0x284), 1U << 8);
  m.write_gicd(0, 0x284, 1U << 8);
  EXPECT_EQ(m.read_gicd(0, 0x204), 0U);
  m.level(40, true);
  m.write_gicd(0, 0x284, 1U << 8);
  EXPECT_EQ(m.read_gicd(0, 0x204), 1U << 8) << "the line is still high";
  m.write_sgi_frame(1, 0x200, 1U << 4);
  EXPECT_EQ(m.read_sgi_frame(1, 0x200), 1U << 4);
  EXPECT_EQ(m.read_sgi_frame(0, 0x200), 0U);
}

TEST(VGicRegisters, BeyondTheEndReadsAsZero) {
  FakeMachine m;
  for (const std::uint64_t offset : {0x80U + 36, 0x100U + 36, 0x200U + 36, 0x300U + 36, 0x400U + 288, 0xc00U + 72}) {
    m.write_gicd(0, offset, 0xffff'ffff);
    EXPECT_EQ(m.read_gicd(0, offset), 0U) << offset;
  }
}

// Garbage at every offset in every size: what is not defined reads as zero and nothing breaks.
TEST(VGicRegisters, GarbageEverywhere) {
  FakeMachine m{2, 4};
  ASSERT_TRUE(m.vgic->bind_spi(35, 37));
  for (const unsigned size : {1U, 2U, 4U, 8U, 3U, 0U, 16U}) {
    for (std::uint64_t at = 0; at < gic::kGicdBytes + 64; at += size == 0 || size > 8 ? 0x100 : (size | 1) & 0xf) {
      m.vgic->write_gicd(0, at, size, ~std::uint64_t{0} / (at + 1) * 0x9e37'79b9);
      static_cast<void>(m.vgic->read_gicd(1, at, size));
      m.enter_all();
    }
  }
  for (const std::uint64_t at :
       {~std::uint64_t{0}, ~std::uint64_t{7}, std::uint64_t{1} << 32, std::uint64_t{0x6100} << 32})
    for (const unsigned size : {1U, 4U, 8U}) {
      m.vgic->write_gicd(0, at, size, ~std::uint64_t{0});
      m.vgic->write_gicr(0, at, size, ~std::uint64_t{0});
      EXPECT_EQ(m.vgic->read_gicd(0, at, size), 0U);
      EXPECT_EQ(m.vgic->read_gicr(0, at, size), 0U);
    }
}

// A hostile guest on two vCPUs: random accesses, interrupts, acknowledges and wrong EOIs. The fake checks what Weir writes
// into list registers; in the end everything can be put in order again, and an interrupt arrives.
TEST(VGicRegisters, RandomOperations) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    FakeMachine m{2, seed % 5 + 1, seed % 2 == 0};
    ASSERT_TRUE(m.vgic->bind_spi(35, 37));
    ASSERT_TRUE(m.vgic->bind_spi(36, 38));
    std::mt19937_64 random{seed};
    const auto pick = [&](std::uint64_t n) { return random() % n; };
    for (unsigned n = 0; n < 12000 && !HasFailure(); ++n) {
      const auto v = static_cast<unsigned>(pick(2));
      const unsigned size = 1U << pick(4);
      const auto intid = static_cast<std::uint32_t>(pick(4) == 0 ? pick(kVgicIntids) : 32 + pick(16));
      switch (pick(12)) {
        case 0: m.write_gicd(v, pick(0x1000) & ~std::uint64_t{size - 1}, random(), size); break;
        case 1: m.write_gicr(v, pick(2 * gic::kGicrBytes) & ~std::uint64_t{size - 1}, random(), size); break;
        case 2:
          m.write_gicr(v, pick(2) * gic::kGicrBytes + gic::kGicrFrame + 0x80 + pick(0x390) / 4 * 4, random());
          break;
        case 3: m.write_gicd(v, 0x80 + pick(0x390) / 4 * 4, random() & random()); break;
        case 4: m.route(intid, pick(3)); break;
        case 5: m.pulse(intid); break;
        case 6: m.level(intid, pick(2) != 0); break;
        case 7: m.fire(static_cast<std::uint32_t>(pick(3) == 0 ? 27 : 37 + pick(2)), v); break;
        case 8: static_cast<void>(m.ack(v)); break;
        case 9:
          if (pick(2) != 0)
            m.eoi(v, intid);
          else
            m.dir(v, intid);
          break;
        case 10:
          static_cast<void>(m.read_gicd(v, pick(0x1000) / 4 * 4));
          static_cast<void>(m.take(v));
          break;
        case 11: {
          gic::IccSgir sgi;
          sgi.words[0] = random() & random() & random();
          m.sgi(v, sgi);
          m.cpu(v).vmcr.words[0] = pick(3) == 0 ? random() & 0xff1c'0213 : 0xf000'0003;
          if (pick(50) == 0) {
            m.on(v, [&] { m.vgic->offline(v); });
            m.bring_up(v);
          }
          break;
        }
      }
    }
    for (unsigned v = 0; v < 2; ++v) {
      m.on(v, [&] { m.vgic->offline(v); });
      m.bring_up(v);
      m.write_sgi_frame(v, 0x180, 0xffff'ffff);
      m.write_sgi_frame(v, 0x380, 0xffff'ffff);
    }
    for (unsigned n = 1; n < kVgicIntids / 32; ++n) {
      m.write_gicd(0, 0x180 + 4 * n, 0xffff'ffff);
      m.write_gicd(0, 0x280 + 4 * n, 0xffff'ffff);
      m.write_gicd(0, 0x380 + 4 * n, 0xffff'ffff);
    }
    EXPECT_EQ(m.ack(0), kSpurious);
    EXPECT_EQ(m.ack(1), kSpurious);
    EXPECT_FALSE(m.physical_at(37).active) << seed;
    EXPECT_FALSE(m.physical_at(38).active) << seed;
    m.set_edge(60);
    m.set_priority(60, 0x20);
    m.route(60, 1);
    m.enable(60);
    m.pulse(60);
    EXPECT_EQ(m.take(1), 60U) << seed;
    m.route(35, 0);
    m.enable(35);
    m.set_priority(35, 0x20);
    EXPECT_TRUE(m.fire(37)) << seed;
    EXPECT_EQ(m.take(0), 35U) << seed;
    EXPECT_FALSE(m.physical_at(37).active) << seed;
  }
}

}  // namespace
}  // namespace weir
