// Descriptors and attributes against the Arm ARM, D8.3 to D8.6, and the hypercall numbers of DEN 0028.
#include "guest-abi/vmsa.hpp"

#include <gtest/gtest.h>

#include "guest-abi/hypercall.hpp"

namespace weir::vmsa {
namespace {

TEST(Vmsa, Stage2Page) {
  S2Page p;
  p.set<S2Page::Valid>(true)
      .set<S2Page::Table>(true)
      .set<S2Page::MemAttr>(static_cast<std::uint64_t>(S2MemAttr::normal_wb))
      .set<S2Page::S2AP>(S2Ap::rw)
      .set<S2Page::SH>(Shareability::inner)
      .set<S2Page::AF>(true)
      .set<S2Page::OA>(PA{0x8000'1000});
  EXPECT_EQ(p.words[0], 0x8000'17ffu);  // 0b11 | 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10
  p.set<S2Page::XN>(S2Xn::never).set<S2Page::Contiguous>(true).set<S2Page::DBM>(true);
  EXPECT_EQ(p.words[0], 0x0058'0000'8000'17ffu);
}

TEST(Vmsa, Stage2BlockAndTable) {
  S2Block b;
  b.set<S2Block::Valid>(true).set<S2Block::nT>(true).set<S2Block::OA>(PA{0x4020'0000});
  EXPECT_EQ(b.words[0], 0x4021'0001u);
  EXPECT_EQ((S2Table{}.set<S2Table::Valid>(true).set<S2Table::Table>(true).set<S2Table::NLTA>(PA{0x9000}).words[0]),
            0x9003u);
}

TEST(Vmsa, Stage1Page) {
  S1Page p;
  p.set<S1Page::Valid>(true)
      .set<S1Page::Table>(true)
      .set<S1Page::AttrIndx>(5)
      .set<S1Page::AP>(S1Ap::any_ro)
      .set<S1Page::SH>(Shareability::inner)
      .set<S1Page::AF>(true)
      .set<S1Page::nG>(true)
      .set<S1Page::OA>(0x1'2345'6000)
      .set<S1Page::UXN>(true)
      .set<S1Page::PXN>(true);
  EXPECT_EQ(p.words[0], 0x0060'0001'2345'6fd7u);
}

TEST(Vmsa, Kinds) {
  const auto kind = [](std::uint64_t raw, unsigned level) {
    Descriptor d;
    d.words[0] = raw;
    return d.kind(level);
  };
  EXPECT_EQ(kind(0, 1), Kind::invalid);
  EXPECT_EQ(kind(2, 1), Kind::invalid);
  EXPECT_EQ(kind(1, 0), Kind::invalid);  // no block at level 0
  EXPECT_EQ(kind(1, 1), Kind::block);
  EXPECT_EQ(kind(1, 2), Kind::block);
  EXPECT_EQ(kind(1, 3), Kind::invalid);  // reserved
  EXPECT_EQ(kind(3, 0), Kind::table);
  EXPECT_EQ(kind(3, 2), Kind::table);
  EXPECT_EQ(kind(3, 3), Kind::page);
}

TEST(Vmsa, Levels) {
  EXPECT_EQ(level_size(0), 512_GiB);
  EXPECT_EQ(level_size(1), 1_GiB);
  EXPECT_EQ(level_size(2), 2_MiB);
  EXPECT_EQ(level_size(3), 4_KiB);
  EXPECT_EQ(level_index(0x4030'2000, 1), 1u);
  EXPECT_EQ(level_index(0x4030'2000, 2), 1u);
  EXPECT_EQ(level_index(0x4030'2000, 3), 0x102u);
}

TEST(Vmsa, Mair) {
  EXPECT_EQ(mair({MairAttr::device_nGnRnE, MairAttr::device_nGnRE, MairAttr::normal_nc, MairAttr::normal_wb}),
            0xff44'0400u);
}

// D8.6.5 and D8.6.6: the two encodings differ where it matters.
TEST(Vmsa, MemAttrs) {
  EXPECT_EQ(static_cast<int>(S2MemAttr::normal_wb), 15);
  EXPECT_EQ(static_cast<int>(S2MemAttrFwb::force_wb), 6);
  EXPECT_EQ(static_cast<int>(S2MemAttr::device_nGnRE), static_cast<int>(S2MemAttrFwb::device_nGnRE));
  EXPECT_EQ(static_cast<int>(S2MemAttr::normal_nc), static_cast<int>(S2MemAttrFwb::normal_nc));
}

TEST(Hypercall, Numbers) {
  EXPECT_EQ(hypercall::kCallUid, 0x8600'ff01u);
  EXPECT_EQ(hypercall::kRevision, 0x8600'ff03u);
  EXPECT_EQ(hypercall::function(7, true), 0xc600'0007u);
}

}  // namespace
}  // namespace weir::vmsa
