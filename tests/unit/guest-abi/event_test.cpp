// Event records and PRI queue entries against IHI 0070G.b, 7.3 and chapter 8.
#include "guest-abi/smmu/event.hpp"

#include <gtest/gtest.h>

#include <set>

#include "guest-abi/smmu/pri.hpp"

namespace weir::smmu {
namespace {

using Words = std::array<std::uint64_t, 4>;

TEST(Event, Numbers) {
  std::set<int> ids;
  AllEvents::for_each([&]<typename T>(const T& typed) {
    static_assert(T::Layout::covered == Words{~0ull, ~0ull, ~0ull, ~0ull});
    EXPECT_TRUE(ids.insert(static_cast<int>(T::kId)).second) << T::name;
    EXPECT_EQ(typed.words[0], static_cast<std::uint64_t>(T::kId));
    EXPECT_EQ(name_of(T::kId), T::name);
  });
  EXPECT_EQ(ids, (std::set<int>{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12,
                                0x13, 0x20, 0x21, 0x24, 0x25}));
  EXPECT_FALSE(guest_visible(static_cast<EventId>(0xe0)));
}

TEST(Event, Translation) {
  FTranslation e;
  e.set<FTranslation::StreamID>(0x1234)
      .set<FTranslation::SSV>(true)
      .set<FTranslation::SubstreamID>(SubstreamID{0xabcde})
      .set<FTranslation::STAG>(0xbeef)
      .set<FTranslation::Stall>(true)
      .set<FTranslation::PnU>(true)
      .set<FTranslation::InD>(true)
      .set<FTranslation::RnW>(true)
      .set<FTranslation::S2>(true)
      .set<FTranslation::CLASS>(EventClass::IN)
      .set<FTranslation::InputAddr>(IOVA{0xffff'0000'1234'5678})
      .set<FTranslation::IPA>(weir::IPA{0x4000'2abc});
  // STAG [79:64], Stall [95], PnU [97], InD [98], RnW [99], S2 [103], CLASS [105:104]
  EXPECT_EQ(e.words, (Words{0x0000'1234'abcd'e810, 0x0000'028e'8000'beef, 0xffff'0000'1234'5678, 0x4000'2000}));
  const Event any = e;
  EXPECT_EQ(any.id(), EventId::F_TRANSLATION);
  EXPECT_TRUE(any.as<FTranslation>());
  EXPECT_FALSE(any.as<FPermission>());
}

// What a guest sees unchanged: never StreamID, S2, IPA, FetchAddr or IMPLEMENTATION DEFINED bits.
TEST(Event, GuestVisible) {
  const Words fault = *guest_visible(EventId::F_TRANSLATION);
  EXPECT_EQ(fault, (Words{0x0000'0000'ffff'f8ff, 0x0000'030e'8000'ffff, ~0ull, 0}));
  EXPECT_EQ(*guest_visible(EventId::F_CD_FETCH), (Words{0xffff'f8ff, 0, 0, 0}));
  EXPECT_EQ(*guest_visible(EventId::C_BAD_STE), (Words{0xffff'f8ff, 0, 0, 0}));
  EXPECT_EQ(*guest_visible(EventId::C_BAD_SUBSTREAMID), (Words{0xffff'f0ff, 0, 0, 0}));
  EXPECT_EQ(*guest_visible(EventId::F_STREAM_DISABLED), (Words{0xff, 0, 0, 0}));
  EXPECT_EQ(*guest_visible(EventId::F_WALK_EABT), (Words{0xffff'f8ff, 0x0000'030e'0000'0000, ~0ull, 0}));
  AllEvents::for_each([]<typename T>(const T&) {
    EXPECT_EQ(T::Layout::guest[0] >> 32, 0u) << T::name;  // StreamID
    EXPECT_EQ(T::Layout::guest[3], 0u) << T::name;        // IPA and FetchAddr
  });
}

TEST(Event, Fetch) {
  FSteFetch e;
  e.set<FSteFetch::StreamID>(7).set<FSteFetch::Reason>(0x12).set<FSteFetch::GPCF>(true).set<FSteFetch::FetchAddr>(
      0x8'0000'0048);
  EXPECT_EQ(e.words, (Words{0x0000'0007'0000'0003, 0x1'0012, 0, 0x8'0000'0048}));
}

TEST(Event, PageRequest) {
  EPageRequest e;
  e.set<EPageRequest::pR>(true).set<EPageRequest::uX>(true).set<EPageRequest::Span>(0x80).set<EPageRequest::InputAddr>(
      IOVA{0x7000});
  EXPECT_EQ(e.words, (Words{0x24, 0x0008'0084'0000'0000, 0x7000, 0}));
}

TEST(Pri, Encoding) {
  PriEntry p;
  p.set<PriEntry::StreamID>(0x42)
      .set<PriEntry::SubstreamID>(SubstreamID{0x12345})
      .set<PriEntry::SSV>(true)
      .set<PriEntry::Last>(true)
      .set<PriEntry::R>(true)
      .set<PriEntry::PRGIndex>(0x1ff)
      .set<PriEntry::Address>(IOVA{0xdead'b000});
  EXPECT_EQ(p.words, (std::array<std::uint64_t, 2>{0xd001'2345'0000'0042, 0xdead'b1ff}));
  EXPECT_FALSE(p.is_stop_marker());
  EXPECT_TRUE(p.set<PriEntry::R>(false).is_stop_marker());
  EXPECT_FALSE(p.set<PriEntry::SSV>(false).is_stop_marker());
}

}  // namespace
}  // namespace weir::smmu
