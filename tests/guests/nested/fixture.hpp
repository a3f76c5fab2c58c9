// What the checks of this payload share: the iommu-testdevs of the VM, their SMMUs, and pages to write to.
#pragma once

#include <array>
#include <cstdint>

#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"

namespace weir::guest {

inline constexpr std::uint64_t kPage = 0x1000;
inline constexpr unsigned kMaxDevices = 4;

struct Device {
  unsigned slot = 0;
  unsigned smmu = 0;  // index
  std::uint32_t sid = 0;
  TestDevice dma;
};

struct Fixture {
  std::array<Smmu, 8> smmus{};
  unsigned smmu_count = 0;
  std::array<Device, kMaxDevices> devices{};
  unsigned device_count = 0;
  bool nested = false;             // false: on bare QEMU, without a second stage
  std::uint64_t to_physical = 0;   // physical address of the VM's RAM minus its IPA
  std::uint64_t physical_end = 0;  // of the machine's RAM, as far as it was looked for

  [[nodiscard]] Smmu& smmu(const Device& d) { return smmus[d.smmu]; }
  [[nodiscard]] std::uint64_t physical(std::uint64_t ipa) const { return ipa + to_physical; }
};
Fixture& fixture();

// A page with a pattern that no device writes.
[[nodiscard]] std::uint64_t make_page();
void refill(std::uint64_t page);
[[nodiscard]] bool untouched(std::uint64_t page);
// Exactly `bytes` bytes of the device's pattern at `offset`, else untouched; refills it.
[[nodiscard]] bool written(std::uint64_t page, std::uint64_t offset = 0, std::uint64_t bytes = 4);

// DMA to `iova` must land at `page` + the offset in the page, seen by the device at its physical address and by the CPU.
bool expect_lands(const Device& d, std::uint64_t iova, std::uint64_t page, std::string_view what);
// DMA to `iova` must be refused, and `page` stays as it is.
bool expect_refused(const Device& d, std::uint64_t iova, std::uint64_t page, std::string_view what);
// The next event, after a SYNC, is this fault of `d` at `iova`, and it is the only one.
bool expect_fault(const Device& d, smmu::EventId id, std::uint64_t iova, std::string_view what);
bool expect_no_event(const Device& d, std::string_view what);

// Puts the STE in place with CFGI_STE and SYNC.
bool install(const Device& d, const smmu::Ste& ste);

void check_identity();
void check_bypass();
void check_gbpa();
void check_streams();
void check_stage1();
void check_invalidation();
void check_separation();
void check_faults();
void check_refusal();
void check_errors();
void check_interrupts();
void check_flood();
void check_policy();
void check_disable();

}  // namespace weir::guest
