// Which host ASIDs a guest's ASIDs have, on each physical instance behind a vSMMU in precise mode, and since when nobody
// can hold entries of them any more (design: "Who can hold an ASID").
//
// A guest ASID lives on an instance from before the first context descriptor with it is shown to the hardware, until an
// invalidation that covers it, sent while no such descriptor was left, has completed. Until then its host ASID belongs
// to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "guest-abi/types.hpp"

namespace weir::vsmmu {

class AsidTable {
 public:
  // Guest ASIDs that can live at once. More than there are streams.
  static constexpr std::size_t kRows = 1024;

  struct Row {
    std::uint64_t lives = 0;  // mask of instances
    std::uint64_t used = 0;   // of them: with users
    std::uint64_t cleaning = 0;
    ASID guest;
    std::uint16_t next = 0;  // in its chain, or of the free ones
  };

  // For instances whose ASIDs have 16 bits, or 8 where `narrow` says so. nullptr: out of memory.
  [[nodiscard]] static std::unique_ptr<AsidTable> create(std::size_t instances, std::uint64_t narrow);

  // nullptr: lives nowhere.
  [[nodiscard]] const Row* find(ASID guest) const {
    for (std::uint16_t at = heads_[slot(guest)]; at != kNone; at = rows_[at].next)
      if (rows_[at].guest == guest) return &rows_[at];
    return nullptr;
  }
  // `row` lives on `instance`.
  [[nodiscard]] ASID host(const Row& row, unsigned instance) const { return cell(row, instance).host; }

  // One user more of `guest` on `instance`. No value: there is no host ASID, or no row, left. reclaimable() may help.
  [[nodiscard]] std::optional<ASID> acquire(ASID guest, unsigned instance);
  // One user less: the hardware has forgotten its context descriptor.
  void release(ASID guest, unsigned instance);

  // An NH_ASID for `guest` is on its way to all instances where it lives; an NH_ALL to `instances`.
  void clean(ASID guest);
  void clean_all(std::uint64_t instances);
  [[nodiscard]] bool cleaning(unsigned instance) const { return (cleaning_ >> instance & 1) != 0; }
  // They have completed on `instance`: who had no user then and has none now is dropped there.
  void cleaned(unsigned instance);

  // Guest ASIDs without users that live on `instance`, or, if `instance` has host ASIDs to spare, anywhere (and have no users
  // anywhere). Returns how many.
  [[nodiscard]] std::size_t reclaimable(unsigned instance, std::span<ASID> found) const;

  // Host ASIDs that are not free.
  [[nodiscard]] unsigned in_use(unsigned instance) const { return spaces_[instance].in_use; }
  [[nodiscard]] unsigned capacity(unsigned instance) const { return spaces_[instance].count; }

 private:
  struct Cell {
    ASID host;
    std::uint16_t users = 0;
  };
  // The host ASIDs of one instance: `count` from `first` on.
  struct Space {
    std::uint16_t first = 0;
    std::uint16_t count = 0;
    std::uint16_t cursor = 0;  // a number is not given out again soon after it was given back
    std::uint16_t in_use = 0;
    std::array<std::uint64_t, kRows / 64> taken{};
    [[nodiscard]] std::optional<ASID> allocate();
    void free(ASID host);
  };
  static constexpr std::uint16_t kNone = 0xffff;
  static constexpr std::size_t kSlots = kRows;
  [[nodiscard]] static std::size_t slot(ASID guest) { return guest.value % kSlots; }
  [[nodiscard]] std::size_t at(const Row& row) const { return static_cast<std::size_t>(&row - rows_.get()); }
  [[nodiscard]] const Cell& cell(const Row& row, unsigned i) const { return cells_[at(row) * instances_ + i]; }
  [[nodiscard]] Cell& cell(const Row& row, unsigned i) { return cells_[at(row) * instances_ + i]; }
  [[nodiscard]] Row* row_of(ASID guest) { return const_cast<Row*>(std::as_const(*this).find(guest)); }  // NOLINT
  [[nodiscard]] Row* add_row(ASID guest);
  void drop(Row& row, unsigned instance);

  std::size_t instances_ = 0;
  std::uint64_t cleaning_ = 0;  // instances with rows that are
  std::uint64_t idle_ = 0;      // instances that may have rows without users that are not
  std::uint16_t free_ = kNone;
  std::array<std::uint16_t, kSlots> heads_{};
  std::unique_ptr<Row[]> rows_;
  std::unique_ptr<Cell[]> cells_;
  std::unique_ptr<Space[]> spaces_;
};

}  // namespace weir::vsmmu
