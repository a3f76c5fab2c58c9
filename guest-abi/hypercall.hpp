// Hypercalls: HVC with the SMC Calling Convention (Arm DEN 0028), vendor-specific hypervisor service range.
//
// guest-abi/hypercalls.md explains each call to the author of a guest; guest-abi/weir_hypercalls.h has the same numbers for
// drivers in C. What is not defined here returns kNotSupported. Results fit X0 to X3, and a call changes no register but
// those of its results (DEN 0028, 2.6 and 2.7, has X4 to X17 preserved).
#pragma once

#include <array>
#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"

namespace weir::hypercall {

enum class Owner : std::uint8_t {
  arm_architecture = 0,
  standard_secure = 4,
  standard_hypervisor = 5,
  vendor_hypervisor = 6
};

// W0 of a call (DEN 0028, 2.5).
struct FunctionId : Record<FunctionId, 32> {
  using Number = Field<"Number", 15, 0, std::uint16_t>;
  using SveHint = BitField<"SveHint", 16>;  // SMCCC 1.3; not part of the function's identity
  using Owner = Field<"Owner", 29, 24, hypercall::Owner>;
  using Hvc64 = BitField<"Hvc64", 30>;
  using Fast = BitField<"Fast", 31>;
  using Layout = weir::Layout<32, Number, SveHint, Res0<23, 17>, Owner, Hvc64, Fast>;
};

// A fast vendor-hypervisor call.
constexpr std::uint32_t function(std::uint16_t number, bool hvc64 = false) {
  return FunctionId{}
      .set<FunctionId::Number>(number)
      .set<FunctionId::Owner>(Owner::vendor_hypervisor)
      .set<FunctionId::Hvc64>(hvc64)
      .set<FunctionId::Fast>(true)
      .words[0];
}

inline constexpr std::uint32_t kCallUid = function(0xff01);   // returns kUid in W0..W3
inline constexpr std::uint32_t kRevision = function(0xff03);  // returns kMajor in W0, kMinor in W1
static_assert(kCallUid == 0x8600ff01 && kRevision == 0x8600ff03);

inline constexpr std::uint32_t kMajor = 0;
inline constexpr std::uint32_t kMinor = 3;  // 2: memory calls; 3: loan_window, and no result in X4
inline constexpr std::int64_t kNotSupported = -1;

// UUID d4241911-3404-48cf-bb64-feb53eb9e896, four bytes per register, the first in the lowest byte.
inline constexpr std::array<std::uint32_t, 4> kUid = {0x111924d4, 0xcf480434, 0xb5fe64bb, 0x96e8b93e};

// --- Memory calls ----------------------------------------------------------------------------------------------------
//
// All are HVC64. Arguments in X1 upwards, in the order of the comments; a Result in X0 and what else comes back in X1
// and X2. Addresses are IPAs at multiples of 4 KiB, sizes are in pages of 4 KiB and not 0.
//
// A call does a bounded amount of work, says how many pages are done, and is made again for the rest.

enum class Call : std::uint32_t {
  features = function(0x0001, true),     // -> X1 Features, X2 PageLimits
  vm_id = function(0x0002, true),        // n -> X1 id of the caller (n = 0) or of the n-th VM that it may share with
  loan_window = function(0x0003, true),  // -> X1 first IPA of the window for loans, X2 its bytes
  relinquish = function(0x0010, true),   // ipa, pages -> X1 done
  reclaim = function(0x0011, true),      // ipa, pages -> X1 done
  share = function(0x0012, true),        // ipa, pages, peer, GrantOptions, handle or 0 -> X1 done, X2 handle
  lend = function(0x0013, true),         // as share
  accept = function(0x0014, true),       // handle, ipa, pages -> X1 done
  release = function(0x0015, true),      // handle -> X1 pages left
  take_back = function(0x0016, true),    // handle -> X1 pages left
  dirty_start = function(0x0020, true),  // -> X1 pages left until it is on, X2 DirtyLimits
  dirty_read = function(0x0021, true),   // ipa, pages, bitmap, DirtyOptions -> X1 done, X2 DirtyLimits
  dirty_stop = function(0x0022, true),   // -> X1 pages left until nothing remains of it
};
constexpr std::uint32_t id(Call call) { return static_cast<std::uint32_t>(call); }
static_assert(id(Call::features) == 0xc600'0001);

// How many registers from X1 on hold results of a call that Weir has, whatever X0 says. 0: there is no such call.
constexpr unsigned results(Call call) {
  switch (call) {
    case Call::features:
    case Call::loan_window:
    case Call::share:
    case Call::lend:
    case Call::dirty_start:
    case Call::dirty_read: return 2;
    case Call::vm_id:
    case Call::relinquish:
    case Call::reclaim:
    case Call::accept:
    case Call::release:
    case Call::take_back:
    case Call::dirty_stop: return 1;
  }
  return 0;
}

enum class Result : std::int64_t {
  success = 0,         // `done` may still be less than what was asked for: make the call again
  not_supported = -1,  // no such call, or the VM may make none of the memory calls
  invalid = -2,        // an argument makes no sense: alignment, size, a range that is not RAM or not the loan window
  denied = -3,         // the VM may not share with that one, or the handle is nobody's or somebody else's
  no_memory = -4,      // Weir has none left (or none for its tables)
  busy = -5,           // another call works on some of these pages, or on this handle: make the call again
  wrong_state = -6,    // a page, or the handle, is not in the state that the call needs; see hypercalls.md
  limit = -7,          // the VM, or its peer, has as many handles as it may
  cannot_split = -8    // the pages are part of a block, which an SMMU or CPU of this machine does not let be split
};

// X1 of `features`.
struct Features : Record<Features, 64> {
  using Memory = BitField<"Memory", 0>;      // relinquish, reclaim
  using Grants = BitField<"Grants", 1>;      // share, lend, accept, release, take_back
  using DirtyLog = BitField<"DirtyLog", 2>;  // dirty_start, dirty_read, dirty_stop
  using Layout = weir::Layout<64, Memory, Grants, DirtyLog, Res0<63, 3>>;
};
// X2 of `features`.
struct PageLimits : Record<PageLimits, 64> {
  using PerCall = Field<"PerCall", 31, 0, std::uint32_t>;     // most pages that one call deals with
  using Grants = Field<"Grants", 47, 32, std::uint16_t>;      // most handles that the VM may have at a time
  using Accepted = Field<"Accepted", 63, 48, std::uint16_t>;  // most handles of others that it may have accepted
  using Layout = weir::Layout<64, PerCall, Grants, Accepted>;
};

// X4 of `share` and `lend`.
struct GrantOptions : Record<GrantOptions, 64> {
  using Write = BitField<"Write", 0>;  // the peer may write, too
  using Layout = weir::Layout<64, Write, Res0<63, 1>>;
};

// X4 of `dirty_read`.
struct DirtyOptions : Record<DirtyOptions, 64> {
  // Without it a page that somebody may write whose writes are not seen (DirtyLimits) is reported as changed.
  using SeenOnly = BitField<"SeenOnly", 0>;
  using Layout = weir::Layout<64, SeenOnly, Res0<63, 1>>;
};
// X2 of `dirty_start` and `dirty_read`: whose writes are not seen.
struct DirtyLimits : Record<DirtyLimits, 64> {
  using Devices = BitField<"Devices", 0>;  // an SMMU of the VM has no hardware dirty state
  using Peers = BitField<"Peers", 1>;      // some of the VM's memory is shared for writing
  using Layout = weir::Layout<64, Devices, Peers, Res0<63, 2>>;
};

}  // namespace weir::hypercall
