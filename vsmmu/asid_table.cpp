#include "vsmmu/asid_table.hpp"

#include <bit>

#include "stage2/support/make.hpp"

namespace weir::vsmmu {

namespace {

constexpr std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }

}  // namespace

std::unique_ptr<AsidTable> AsidTable::create(std::size_t instances, std::uint64_t narrow) {
  auto table = make<AsidTable>();
  if (!table) return nullptr;
  table->rows_ = make_array<Row>(kRows);
  table->cells_ = make_array<Cell>(kRows * instances);
  table->spaces_ = make_array<Space>(instances);
  if (!table->rows_ || !table->cells_ || !table->spaces_) return nullptr;
  table->instances_ = instances;
  table->heads_.fill(kNone);
  for (std::size_t i = kRows; i-- != 0;) {
    table->rows_[i].next = table->free_;
    table->free_ = static_cast<std::uint16_t>(i);
  }
  for (unsigned i = 0; i < instances; ++i) {
    // Numbers of different instances differ where there are enough of them: a mix-up has consequences, in every test. 0
    // is left out.
    Space& s = table->spaces_[i];
    const bool small = (narrow & bit(i)) != 0;
    s.first = static_cast<std::uint16_t>(small || i == 0 ? 1 : i * kRows);
    s.count = small ? 0xff : kRows - 1;
    s.cursor = static_cast<std::uint16_t>(small ? i * 16 % s.count : 0);
  }
  return table;
}

std::optional<ASID> AsidTable::Space::allocate() {
  if (in_use == count) return std::nullopt;
  for (;;) {
    const std::uint16_t n = cursor;
    cursor = static_cast<std::uint16_t>(n + 1 == count ? 0 : n + 1);
    std::uint64_t& word = taken[n / 64U];
    if ((word & bit(n % 64U)) != 0) continue;
    word |= bit(n % 64U);
    ++in_use;
    return ASID{static_cast<std::uint16_t>(first + n)};
  }
}

void AsidTable::Space::free(ASID host) {
  const unsigned n = static_cast<unsigned>(host.value) - first;
  taken[n / 64] &= ~bit(n % 64);
  --in_use;
}

AsidTable::Row* AsidTable::add_row(ASID guest) {
  if (free_ == kNone) return nullptr;
  Row& row = rows_[free_];
  std::uint16_t& head = heads_[slot(guest)];
  const std::uint16_t mine = free_;
  free_ = row.next;
  row = {.guest = guest, .next = head};
  head = mine;
  return &row;
}

std::optional<ASID> AsidTable::acquire(ASID guest, unsigned instance) {
  Row* row = row_of(guest);
  if (row == nullptr || (row->lives & bit(instance)) == 0) {
    if (row == nullptr && free_ == kNone) return std::nullopt;
    const auto host = spaces_[instance].allocate();
    if (!host) return std::nullopt;
    if (row == nullptr) row = add_row(guest);
    row->lives |= bit(instance);
    cell(*row, instance) = {.host = *host};
  }
  Cell& c = cell(*row, instance);
  ++c.users;
  row->used |= bit(instance);
  row->cleaning &= ~bit(instance);
  return c.host;
}

void AsidTable::release(ASID guest, unsigned instance) {
  Row& row = *row_of(guest);
  if (--cell(row, instance).users != 0) return;
  row.used &= ~bit(instance);
  idle_ |= bit(instance);
}

void AsidTable::clean(ASID guest) {
  Row* const row = row_of(guest);
  if (row == nullptr) return;
  row->cleaning |= row->lives & ~row->used;
  cleaning_ |= row->cleaning;
}

void AsidTable::clean_all(std::uint64_t instances) {
  if ((idle_ & instances) == 0) return;
  idle_ &= ~instances;
  for (std::size_t i = 0; i < kRows; ++i) {
    Row& row = rows_[i];
    row.cleaning |= row.lives & ~row.used & instances;
    cleaning_ |= row.cleaning;
  }
}

void AsidTable::drop(Row& row, unsigned instance) {
  spaces_[instance].free(cell(row, instance).host);
  row.lives &= ~bit(instance);
  row.cleaning &= ~bit(instance);
  if (row.lives != 0) return;
  const auto mine = static_cast<std::uint16_t>(at(row));
  std::uint16_t* link = &heads_[slot(row.guest)];
  while (*link != mine) link = &rows_[*link].next;
  *link = row.next;
  row.next = free_;
  free_ = mine;
}

void AsidTable::cleaned(unsigned instance) {
  for (std::size_t i = 0; i < kRows; ++i)
    if ((rows_[i].cleaning & bit(instance)) != 0) drop(rows_[i], instance);
  cleaning_ &= ~bit(instance);
}

std::size_t AsidTable::reclaimable(unsigned instance, std::span<ASID> found) const {
  const bool here = spaces_[instance].in_use == spaces_[instance].count;
  std::size_t n = 0;
  for (std::size_t i = 0; i < kRows && n < found.size(); ++i) {
    const Row& row = rows_[i];
    const bool idle = here ? (row.lives & ~row.used & bit(instance)) != 0 : row.lives != 0 && row.used == 0;
    if (idle) found[n++] = row.guest;
  }
  return n;
}

}  // namespace weir::vsmmu
