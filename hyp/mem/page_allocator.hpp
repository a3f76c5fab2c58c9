// Which physical pages are free. Portable; does not touch pages in use. A free range is described by a node in its own
// first page, so the allocator needs no memory of its own: what it manages must be mapped one to one.
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest-abi/types.hpp"

namespace weir {

class PageAllocator {
 public:
  PageAllocator() = default;
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  // Makes [at, at + bytes) free; page-aligned, `bytes` not 0. Joins its neighbours. False, with nothing changed: some of it
  // is free already.
  [[nodiscard]] bool add(PA at, std::uint64_t bytes);

  // Takes `bytes` (page-aligned, not 0) at a multiple of `alignment` (a power of two) from the smallest range that has
  // them, all of it below `end`. The content is whatever it was.
  [[nodiscard]] std::optional<PA> take(std::uint64_t bytes, std::uint64_t alignment, PA end = kAnywhere);
  static constexpr PA kAnywhere{~std::uint64_t{0}};

  // Takes `bytes` (a multiple of `unit`, not 0) at a multiple of `unit` (a power of two, at least 4 KiB) as take() does; if
  // no range has them in one piece, the largest piece of whole units that there is.
  struct Piece {
    PA at;
    std::uint64_t bytes{};
  };
  [[nodiscard]] std::optional<Piece> take_piece(std::uint64_t bytes, std::uint64_t unit);

  // What take_piece() could give in all: whole units, aligned.
  [[nodiscard]] std::uint64_t free_units(std::uint64_t unit) const;

  [[nodiscard]] std::uint64_t free_bytes() const { return free_bytes_; }

 private:
  using ByAddressHook = boost::intrusive::set_member_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>,
                                                          boost::intrusive::optimize_size<true>>;

  struct Range {
    std::uint64_t bytes{};
    ByAddressHook by_address;
    ByAddressHook by_size;

    [[nodiscard]] std::uint64_t base() const { return reinterpret_cast<std::uint64_t>(this); }
    [[nodiscard]] std::uint64_t end() const { return base() + bytes; }
    // Bytes of whole, aligned units in it.
    [[nodiscard]] std::uint64_t units(std::uint64_t unit) const {
      const std::uint64_t from = (base() + unit - 1) & ~(unit - 1);
      const std::uint64_t to = end() & ~(unit - 1);
      return from >= base() && to > from ? to - from : 0;
    }
  };
  struct BaseOf {
    using type = std::uint64_t;
    type operator()(const Range& r) const { return r.base(); }
  };
  struct BytesOf {
    using type = std::uint64_t;
    type operator()(const Range& r) const { return r.bytes; }
  };

  void insert(std::uint64_t base, std::uint64_t bytes);
  void remove(Range& range);
  void grow(Range& range, std::uint64_t bytes);

  boost::intrusive::set<Range, boost::intrusive::member_hook<Range, ByAddressHook, &Range::by_address>,
                        boost::intrusive::key_of_value<BaseOf>>
      by_address_;
  boost::intrusive::multiset<Range, boost::intrusive::member_hook<Range, ByAddressHook, &Range::by_size>,
                             boost::intrusive::key_of_value<BytesOf>>
      by_size_;
  std::uint64_t free_bytes_{};
};

}  // namespace weir
