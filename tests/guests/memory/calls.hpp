// The memory calls (guest-abi/hypercalls.md) as functions.
#pragma once

#include <cstdint>

#include "guest-abi/hypercall.hpp"

namespace weir::guest {

struct Call {
  std::uint64_t x[6];
};
// Any of them; results in x[0..3].
inline Call raw(Call c) {
  register std::uint64_t x0 asm("x0") = c.x[0];
  register std::uint64_t x1 asm("x1") = c.x[1];
  register std::uint64_t x2 asm("x2") = c.x[2];
  register std::uint64_t x3 asm("x3") = c.x[3];
  register std::uint64_t x4 asm("x4") = c.x[4];
  register std::uint64_t x5 asm("x5") = c.x[5];
  asm volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x5)::"memory");
  return {{x0, x1, x2, x3, x4, x5}};
}

using hypercall::Result;
struct Outcome {
  Result result;
  std::uint64_t done;
  std::uint64_t extra;
};
inline Outcome memory_call(hypercall::Call f, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
                           std::uint64_t d = 0, std::uint64_t e = 0) {
  const Call got = raw({{hypercall::id(f), a, b, c, d, e}});
  return {static_cast<Result>(got.x[0]), got.x[1], got.x[2]};
}

// Makes a call on a range until it is over. The first result that is neither success nor busy ends it.
inline Result whole(hypercall::Call f, std::uint64_t ipa, std::uint64_t pages) {
  while (pages != 0) {
    const Outcome got = memory_call(f, ipa, pages);
    if (got.result == Result::busy) continue;
    if (got.result != Result::success) return got.result;
    ipa += got.done * 0x1000;
    pages -= got.done;
  }
  return Result::success;
}
inline Result relinquish(std::uint64_t ipa, std::uint64_t pages = 1) {
  return whole(hypercall::Call::relinquish, ipa, pages);
}
inline Result reclaim(std::uint64_t ipa, std::uint64_t pages = 1) {
  return whole(hypercall::Call::reclaim, ipa, pages);
}
// The handle; 0: refused.
inline std::uint64_t offer(bool loan, std::uint64_t ipa, std::uint64_t pages, std::uint64_t peer, bool write) {
  const auto f = loan ? hypercall::Call::lend : hypercall::Call::share;
  std::uint64_t handle = 0;
  for (;;) {
    const Outcome got = memory_call(f, ipa, pages, peer, write ? 1 : 0, handle);
    if (got.result != Result::success) return 0;
    handle = got.extra;
    if (got.done == pages) return handle;
  }
}
inline Result take_back(std::uint64_t handle) {
  for (;;) {
    const Outcome got = memory_call(hypercall::Call::take_back, handle);
    if (got.result == Result::busy) continue;
    if (got.result != Result::success || got.done == 0) return got.result;
  }
}

}  // namespace weir::guest
