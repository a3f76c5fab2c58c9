#include "hyp/mem/translation.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/boot/early_tables.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/mem/pages.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir::el2 {

namespace {

constinit SpinLock lock;
constinit bool from_allocator = false;

struct LiveSource {
  Table* allocate() {
    if (from_allocator) {
      const auto page = allocate_pages(kPage4K);
      return page ? static_cast<Table*>(direct(*page)) : nullptr;
    }
    return early_tables.used < kEarlyTables ? &early_tables.table[early_tables.used++] : nullptr;
  }
  Table* pointer(PA pa) {
    const PA base = image_base();
    if (pa >= base && pa - base < image_bytes()) return reinterpret_cast<Table*>(kLinkBase + (pa - base));  // NOLINT
    return static_cast<Table*>(direct(pa));
  }
  PA address(const Table* table) { return physical(table); }
};

}  // namespace

MapResult map(std::uint64_t va, PA pa, std::uint64_t bytes, Access access, Memory memory) {
  const SpinLock::Guard guard{lock};
  LiveSource source;
  dsb_ishst();  // a new table's zeroes before the entry that points to it: walks are coherent, stores are in order anyway
  const MapResult result = map(&early_tables.table[0], source, va, pa, bytes, access, memory);
  dsb_ishst();
  isb();
  return result;
}

void use_page_allocator() {
  const SpinLock::Guard guard{lock};
  from_allocator = true;
}

}  // namespace weir::el2
