#include "hyp/arch/cache.hpp"

#include <cstdint>

#include "guest-abi/field.hpp"
#include "hyp/arch/barriers.hpp"
#include "hyp/arch/memory_tags.hpp"
#include "hyp/arch/sysreg.hpp"

namespace weir {

namespace {

struct CtrEl0 : Record<CtrEl0, 64> {
  using IminLine = Field<"IminLine", 3, 0, std::uint8_t>;  // log2 of words
  using DminLine = Field<"DminLine", 19, 16, std::uint8_t>;
  using Layout = weir::Layout<64, IminLine, Ignored<15, 4>, DminLine, Ignored<63, 20>>;
};

struct DczidEl0 : Record<DczidEl0, 64> {
  using BS = Field<"BS", 3, 0, std::uint8_t>;  // log2 of words
  using DZP = Field<"DZP", 4, 4, bool>;        // DC ZVA prohibited
  using Layout = weir::Layout<64, BS, DZP, Ignored<63, 5>>;
};

constexpr std::size_t words_to_bytes(std::uint8_t log2_words) { return std::size_t{4} << log2_words; }

// Calls op(address) for each line of `line` bytes that [at, at + bytes) touches. Whole VMs go through here: eight at a time.
template <typename Op>
void for_lines(const void* at, std::size_t bytes, std::size_t line, Op op) {
  const auto start = reinterpret_cast<std::uint64_t>(at);
  const std::uint64_t end = start + bytes;
  std::uint64_t p = start & ~(line - 1);
  while (end - p >= 8 * line) {  // p is not above end
#pragma clang loop unroll(full)
    for (unsigned i = 0; i < 8; ++i) {
      op(p);
      p += line;
      asm("" : "+r"(p));  // one addition for each
    }
  }
  for (; p < end; p += line) op(p);
}

std::size_t data_line() { return words_to_bytes(READ_SYSREG_AS(CtrEl0, ctr_el0).get<CtrEl0::DminLine>()); }

}  // namespace

[[gnu::noinline]] void clean_to_poc(const void* at, std::size_t bytes) {
  for_lines(at, bytes, data_line(), [](std::uint64_t p) { asm volatile("dc cvac, %0" : : "r"(p) : "memory"); });
  dsb_sy();
}

[[gnu::noinline]] void clean_and_invalidate_to_poc(const void* at, std::size_t bytes) {
  dmb_sy();
  for_lines(at, bytes, data_line(), [](std::uint64_t p) { asm volatile("dc civac, %0" : : "r"(p) : "memory"); });
  dsb_sy();
}

void synchronize_instructions(const void* at, std::size_t bytes) {
  for_lines(at, bytes, data_line(), [](std::uint64_t p) { asm volatile("dc cvau, %0" : : "r"(p) : "memory"); });
  dsb_ish();
  invalidate_instructions();
}

void invalidate_instructions() {
  asm volatile("ic ialluis" ::: "memory");
  dsb_ish();
  isb();
}

void zero_pages(void* at, std::size_t bytes) {
  const auto dczid = READ_SYSREG_AS(DczidEl0, dczid_el0);
  if (dczid.get<DczidEl0::DZP>()) {
    auto* words = static_cast<std::uint64_t*>(at);
    for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); ++i) words[i] = 0;
    return;
  }
  const std::size_t block = words_to_bytes(dczid.get<DczidEl0::BS>());  // at most 2 KiB
  if (has_allocation_tags()) {
    // DC GZVA: the tags, too. Its name needs +memtag.
    for_lines(at, bytes, block, [](std::uint64_t p) { asm volatile("sys #3, c7, c4, #4, %0" : : "r"(p) : "memory"); });
    return;
  }
  for_lines(at, bytes, block, [](std::uint64_t p) { asm volatile("dc zva, %0" : : "r"(p) : "memory"); });
}

}  // namespace weir
