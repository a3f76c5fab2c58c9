// EL2's own translation tables: stage 1, 4 KiB granule, 48-bit addresses, one TTBR0_EL2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "guest-abi/types.hpp"
#include "guest-abi/vmsa.hpp"
#include "hyp/arch/el2_registers.hpp"

namespace weir::el2 {

enum class Access : std::uint8_t { read_execute, read_only, read_write };
enum class Memory : std::uint8_t { normal = 0, device_nGnRE = 1 };  // AttrIndx: kMair has them in this order

inline constexpr std::uint64_t kMair = vmsa::mair({vmsa::MairAttr::normal_wb, vmsa::MairAttr::device_nGnRE});
// With FEAT_MTE2, so that memory's tags can be cleared. EL2 checks none: TCR_EL2.TBI is 0.
inline constexpr std::uint64_t kMairTagged =
    vmsa::mair({vmsa::MairAttr::normal_wb_tagged, vmsa::MairAttr::device_nGnRE});

struct alignas(kPage4K) Table {
  vmsa::Descriptor entry[vmsa::kEntries];
};

// Where tables come from. Not virtual: head.S maps the image with this code when no pointer in memory is valid yet.
template <typename T>
concept TableSource = requires(T& source, PA pa, const Table* table) {
  { source.allocate() } -> std::same_as<Table*>;  // zeroed, or nullptr
  { source.pointer(pa) } -> std::same_as<Table*>;
  { source.address(table) } -> std::same_as<PA>;
};

enum class MapResult : std::uint8_t { done, out_of_memory, conflict };

template <typename Leaf>
constexpr vmsa::Descriptor leaf(PA pa, Access access, Memory memory, bool is_page) {
  Leaf d{};
  d.template set<typename Leaf::Valid>(true)
      .template set<typename Leaf::Table>(is_page)
      .template set<typename Leaf::AttrIndx>(static_cast<std::uint64_t>(memory))
      .template set<typename Leaf::AP>(access == Access::read_write ? vmsa::S1Ap::any_rw : vmsa::S1Ap::any_ro)
      .template set<typename Leaf::SH>(memory == Memory::normal ? vmsa::Shareability::inner : vmsa::Shareability::outer)
      .template set<typename Leaf::AF>(true)
      .template set<typename Leaf::UXN>(access != Access::read_execute)
      .template set<typename Leaf::OA>(pa.value);
  vmsa::Descriptor any{};
  any.words = d.words;
  return any;
}

// Maps [va, va + bytes) to [pa, ...) with the largest blocks that fit; all page-aligned. Never changes a valid entry:
// where one stands already, it must say the same, else `conflict`. What was mapped before an error stays. The caller
// follows with DSB and ISB; no TLB maintenance is needed.
template <TableSource Source>
[[nodiscard]] MapResult map(Table* root, Source& source, std::uint64_t va, PA pa, std::uint64_t bytes, Access access,
                            Memory memory) {
  using vmsa::Kind;
  while (bytes != 0) {
    Table* table = root;
    for (unsigned level = 0;; ++level) {
      vmsa::Descriptor& entry = table->entry[vmsa::level_index(va, level)];
      const Kind kind = entry.kind(level);
      const std::uint64_t size = vmsa::level_size(level);
      const bool is_page = level == vmsa::kLastLevel;
      const bool fits = level != 0 && bytes >= size && ((va | pa.value) & (size - 1)) == 0;
      if (is_page || (fits && kind != Kind::table)) {
        const auto wanted =
            is_page ? leaf<vmsa::S1Page>(pa, access, memory, true) : leaf<vmsa::S1Block>(pa, access, memory, false);
        if (kind == Kind::invalid) {
          entry = wanted;
        } else if (entry.words[0] != wanted.words[0]) {
          return MapResult::conflict;
        }
        va += size;
        pa += size;
        bytes -= size;
        break;
      }
      if (kind == Kind::block) {  // right if it is what was wanted, as a whole
        const std::uint64_t offset = va & (size - 1);
        if (pa.value < offset || entry.words[0] != leaf<vmsa::S1Block>(pa - offset, access, memory, false).words[0]) {
          return MapResult::conflict;
        }
        const std::uint64_t step = bytes < size - offset ? bytes : size - offset;
        va += step;
        pa += step;
        bytes -= step;
        break;
      }
      if (kind == Kind::table) {
        vmsa::S1Table next{};
        next.words = entry.words;
        table = source.pointer(PA{next.get<vmsa::S1Table::NLTA>()});
        continue;
      }
      Table* fresh = source.allocate();
      if (fresh == nullptr) return MapResult::out_of_memory;
      vmsa::S1Table next{};
      next.set<vmsa::S1Table::Valid>(true).set<vmsa::S1Table::Table>(true).set<vmsa::S1Table::NLTA>(
          source.address(fresh).value);
      entry.words = next.words;
      table = fresh;
    }
  }
  return MapResult::done;
}

// --- The live tables (hyp/mem/translation.cpp) -----------------------------------------------------------------------

// Maps into the tables in use, on any pCPU.
[[nodiscard]] MapResult map(std::uint64_t va, PA pa, std::uint64_t bytes, Access access, Memory memory);

// Until the page allocator works, tables come from a small pool in the image; afterwards from the allocator.
void use_page_allocator();

// What head.S loads when it switches the MMU on, on every pCPU.
struct MmuRegisters {
  std::uint64_t mair;
  TcrEl2 tcr;
  std::uint64_t ttbr0;
  SctlrEl2 sctlr;
};
static_assert(sizeof(MmuRegisters) == 32);

}  // namespace weir::el2
