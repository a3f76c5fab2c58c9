// The first translation tables, made with the MMU off at the address the image was loaded to. Nothing here may use an
// address that is stored in memory (a vtable, a table of pointers), or TLS.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hyp/arch/memory_tags.hpp"
#include "hyp/arch/physical_size.hpp"
#include "hyp/arch/sysreg.hpp"
#include "hyp/boot/early_patch.hpp"
#include "hyp/boot/early_tables.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/early/words.hpp"
#include "hyp/mem/translation.hpp"

extern "C" {
constinit weir::el2::MmuRegisters mmu_registers{};
}

namespace weir::el2 {

constinit EarlyTables early_tables{};

namespace {

struct PhysicalSource {  // VA = PA
  Table* allocate() { return early_tables.used < kEarlyTables ? &early_tables.table[early_tables.used++] : nullptr; }
  Table* pointer(PA pa) { return reinterpret_cast<Table*>(pa.value); }  // NOLINT
  PA address(const Table* table) { return PA{reinterpret_cast<std::uint64_t>(table)}; }
};

// So that there are words from the first instruction with the MMU on. A UART that cannot be reached is none.
void map_uart(Table* root, PhysicalSource& source, PA end) {
  if (early::early_uart.kind == early::UartKind::none) return;
  const PA page = PA{early::early_uart.base}.align_down(kPage4K);
  if (page >= end ||
      map(root, source, page.value, page, kPage4K, Access::read_write, Memory::device_nGnRE) != MapResult::done)
    early::early_uart.kind = early::UartKind::none;
}

}  // namespace

// `base` is where the image lies. Returns the registers to load; parks (in the exception vectors) never: the pool is sized
// for what is mapped here, as the linker script asserts.
extern "C" const MmuRegisters* early_build_tables(const std::byte* base) {
  PhysicalSource source;
  Table* root = source.allocate();
  const auto part = [&](const std::byte* start, const std::byte* end, Access access) {
    const auto offset = static_cast<std::uint64_t>(start - base);
    (void)map(root, source, kLinkBase + offset, PA{reinterpret_cast<std::uint64_t>(start)},
              static_cast<std::uint64_t>(end - start), access, Memory::normal);
  };
  part(__text_start, __text_end, Access::read_execute);
  part(__rodata_start, __rodata_end, Access::read_only);
  part(__data_start, __bss_end, Access::read_write);
  part(__boot_stack_bottom, __boot_stack_top, Access::read_write);
  if (image_patches.needs.any()) part(__patch_stubs_start, __patch_stubs_end, Access::read_execute);
  part(__boot_emergency_bottom, __boot_emergency_top, Access::read_write);
  // head.S's page, for the switch itself.
  const auto head = reinterpret_cast<std::uint64_t>(base);
  (void)map(root, source, head, PA{head}, kPage4K, Access::read_execute, Memory::normal);

  const smmu::AddressSize addresses = physical_size(READ_SYSREG_AS(IdAa64Mmfr0, id_aa64mmfr0_el1));
  map_uart(root, source, std::min(end_of_addresses(addresses), PA{kLinkBase}));

  MmuRegisters& r = mmu_registers;
  const bool tags = has_allocation_tags();
  r.mair = tags ? kMairTagged : kMair;
  r.tcr = TcrEl2{}
              .set<TcrEl2::T0SZ>(64 - 48)
              .set<TcrEl2::IRGN0>(WalkCacheability::write_back_write_allocate)
              .set<TcrEl2::ORGN0>(WalkCacheability::write_back_write_allocate)
              .set<TcrEl2::SH0>(vmsa::Shareability::inner)
              .set<TcrEl2::TG0>(Granule0::k4)
              .set<TcrEl2::PS>(addresses)
              .set<TcrEl2::Res1_23>(true)
              .set<TcrEl2::Res1_31>(true);
  r.ttbr0 = source.address(root).value;
  r.sctlr = SctlrEl2::reset()
                .set<SctlrEl2::M>(true)
                .set<SctlrEl2::C>(true)
                .set<SctlrEl2::I>(true)
                .set<SctlrEl2::SA>(true)
                .set<SctlrEl2::WXN>(true)
                .set<SctlrEl2::ATA>(tags);
  return &r;
}

}  // namespace weir::el2
