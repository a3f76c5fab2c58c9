#include "guest-abi/weir_hypercalls.h"

#include <gtest/gtest.h>

#include "guest-abi/hypercall.hpp"

namespace weir::hypercall {
namespace {

static_assert(WEIR_CALL_UID == kCallUid && WEIR_CALL_REVISION == kRevision);
static_assert(WEIR_UID_0 == kUid[0] && WEIR_UID_1 == kUid[1] && WEIR_UID_2 == kUid[2] && WEIR_UID_3 == kUid[3]);
static_assert(WEIR_REVISION_MAJOR == kMajor && WEIR_REVISION_MINOR == kMinor);

static_assert(WEIR_CALL_FEATURES == id(Call::features) && WEIR_CALL_VM_ID == id(Call::vm_id) &&
              WEIR_CALL_LOAN_WINDOW == id(Call::loan_window) && WEIR_CALL_RELINQUISH == id(Call::relinquish) &&
              WEIR_CALL_RECLAIM == id(Call::reclaim) && WEIR_CALL_SHARE == id(Call::share) &&
              WEIR_CALL_LEND == id(Call::lend) && WEIR_CALL_ACCEPT == id(Call::accept) &&
              WEIR_CALL_RELEASE == id(Call::release) && WEIR_CALL_TAKE_BACK == id(Call::take_back) &&
              WEIR_CALL_DIRTY_START == id(Call::dirty_start) && WEIR_CALL_DIRTY_READ == id(Call::dirty_read) &&
              WEIR_CALL_DIRTY_STOP == id(Call::dirty_stop));

// No default: a result without a number in the header does not compile.
constexpr std::int64_t in_header(Result result) {
  switch (result) {
    case Result::success: return WEIR_SUCCESS;
    case Result::not_supported: return WEIR_NOT_SUPPORTED;
    case Result::invalid: return WEIR_INVALID;
    case Result::denied: return WEIR_DENIED;
    case Result::no_memory: return WEIR_NO_MEMORY;
    case Result::busy: return WEIR_BUSY;
    case Result::wrong_state: return WEIR_WRONG_STATE;
    case Result::limit: return WEIR_LIMIT;
    case Result::cannot_split: return WEIR_CANNOT_SPLIT;
  }
  return 1;
}
constexpr bool all_results() {
  for (std::int64_t n = static_cast<std::int64_t>(Result::cannot_split); n <= 0; ++n)
    if (in_header(static_cast<Result>(n)) != n) return false;
  return true;
}
static_assert(all_results());

static_assert(WEIR_PAGE_BYTES == kPage4K);
static_assert(WEIR_FEATURE_MEMORY == Features::Memory::mask && WEIR_FEATURE_GRANTS == Features::Grants::mask &&
              WEIR_FEATURE_DIRTY_LOG == Features::DirtyLog::mask);
static_assert((WEIR_FEATURE_MEMORY | WEIR_FEATURE_GRANTS | WEIR_FEATURE_DIRTY_LOG) == ~Features::Layout::res0[0]);
constexpr std::uint64_t kLimits = PageLimits{}
                                      .set<PageLimits::PerCall>(0x89abcdef)
                                      .set<PageLimits::Grants>(0x4567)
                                      .set<PageLimits::Accepted>(0x123)
                                      .words[0];
static_assert(WEIR_LIMIT_PER_CALL(kLimits) == 0x89abcdef && WEIR_LIMIT_GRANTS(kLimits) == 0x4567 &&
              WEIR_LIMIT_ACCEPTED(kLimits) == 0x123);
static_assert(WEIR_GRANT_WRITE == ~GrantOptions::Layout::res0[0] &&
              WEIR_DIRTY_SEEN_ONLY == ~DirtyOptions::Layout::res0[0]);
static_assert(WEIR_DIRTY_LIMIT_DEVICES == DirtyLimits::Devices::mask &&
              WEIR_DIRTY_LIMIT_PEERS == DirtyLimits::Peers::mask);
static_assert((WEIR_DIRTY_LIMIT_DEVICES | WEIR_DIRTY_LIMIT_PEERS) == ~DirtyLimits::Layout::res0[0]);

// tests/unit/guest-abi/weir_hypercalls_c.c: the header as C sees it.
extern "C" const long long weir_hypercalls_in_c[];
extern "C" const unsigned weir_hypercalls_in_c_count;

TEST(WeirHypercalls, TheHeaderIsC) {
  const long long expected[] = {
      kCallUid, kRevision, id(Call::features), id(Call::dirty_stop), kUid[3], kMinor, -1, -8, 0x89abcdef, 0x4567,
      0x123,    kPage4K};
  ASSERT_EQ(weir_hypercalls_in_c_count, std::size(expected));
  for (unsigned i = 0; i < std::size(expected); ++i) EXPECT_EQ(weir_hypercalls_in_c[i], expected[i]) << i;
}

TEST(WeirHypercalls, ResultsFitX0ToX3) {
  for (std::uint32_t number = 0; number <= 0xffff; ++number)
    EXPECT_LE(results(static_cast<Call>(function(static_cast<std::uint16_t>(number), true))), 3U);
  EXPECT_EQ(results(static_cast<Call>(function(0x77, true))), 0U);
}

}  // namespace
}  // namespace weir::hypercall
