#include "hyp/vm/guest_memory.hpp"

#include <algorithm>
#include <cstring>

namespace weir {

// Calls fn(pointer, offset, bytes) for the part of [at, at + bytes) in each page. False from the first page on that is not
// there, or may not be read (written).
template <typename Fn>
[[gnu::always_inline]] inline bool GuestMemory::for_pages(IPA at, std::size_t bytes, bool writes, Fn&& fn) {
  if (at < where_.ram || at >= where_.end || bytes > where_.end - at) return false;
  const stage2::EpochGrace::Section section{*grace_};
  for (std::size_t offset = 0; offset < bytes;) {
    const auto page = table_->reach(at + offset, writes);
    if (!page) return false;
    const auto part =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes - offset, kPage4K - page->value % kPage4K));
    fn(where_.physical + page->value, offset, part);
    if (writes && log_ != nullptr) log_->written(at + offset);
    offset += part;
  }
  return true;
}

// What lies in one page, and needs no maintenance: nearly all that is read.
bool GuestMemory::read(IPA from, std::span<std::byte> to, ToPoc to_poc) {
  if (to_poc != nullptr || !in_one_page(from, to.size())) [[unlikely]]
    return read_pages(from, to, to_poc);
  const stage2::EpochGrace::Section section{*grace_};
  const auto at = table_->reach(from, false);
  if (!at) return false;
  std::memcpy(to.data(), where_.physical + at->value, to.size());
  return true;
}

[[gnu::noinline]] bool GuestMemory::read_pages(IPA from, std::span<std::byte> to, ToPoc to_poc) {
  return for_pages(from, to.size(), false, [&](std::byte* at, std::size_t offset, std::size_t bytes) {
    if (to_poc != nullptr) to_poc(at, bytes);
    std::memcpy(to.data() + offset, at, bytes);
  });
}

bool GuestMemory::write(IPA to, std::span<const std::byte> from, ToPoc to_poc) {
  return for_pages(to, from.size(), true, [&](std::byte* at, std::size_t offset, std::size_t bytes) {
    if (to_poc != nullptr) to_poc(at, bytes);  // the neighbours in these lines are as old as the guest's memory
    std::memcpy(at, from.data() + offset, bytes);
    if (to_poc != nullptr) to_poc(at, bytes);
  });
}

bool GuestMemory::store(IPA to, std::uint32_t value) {
  if (to.value % sizeof value != 0 || !in_one_page(to, sizeof value)) return false;
  const stage2::EpochGrace::Section section{*grace_};
  const auto at = table_->reach(to, true);
  if (!at) return false;
  auto& word = *reinterpret_cast<std::uint32_t*>(where_.physical + at->value);
  std::atomic_ref{word}.store(value, std::memory_order_release);
  if (log_ != nullptr) log_->written(to);
  return true;
}

bool VsmmuMemory::read(IPA from, std::span<std::byte> to) { return memory_.read(from, to, maintenance()); }

bool VsmmuMemory::write(IPA to, std::span<const std::byte> from) { return memory_.write(to, from, maintenance()); }

}  // namespace weir
