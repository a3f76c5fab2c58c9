// What the devicetree says. Under Weir and on bare QEMU (for developing payloads) devices are at different addresses.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::guest {

struct SmmuNode {
  std::uint64_t base = 0;
  std::uint32_t phandle = 0;
  std::uint32_t intid = 0;  // of the event queue; priq, cmdq-sync, gerror follow
  bool coherent = false;
};
struct IommuMapEntry {
  std::uint32_t rid = 0, phandle = 0, sid = 0, count = 0;
};

struct Machine {
  std::uint64_t ram = 0, ram_bytes = 0;
  std::uint64_t uart = 0, gicd = 0, gicr = 0, ecam = 0, ecam_bytes = 0, rtc = 0;
  std::uint32_t rtc_intid = 0;
  unsigned cpus = 0;
  std::array<SmmuNode, 8> smmus{};
  unsigned smmu_count = 0;
  std::array<IommuMapEntry, 32> iommu_map{};
  unsigned iommu_map_count = 0;
  std::array<char, 256> bootargs{};

  // Index of the SMMU that translates for `rid`, and its StreamID there.
  [[nodiscard]] bool find_stream(std::uint32_t rid, unsigned& smmu, std::uint32_t& sid) const;
  // "key" or "key=number" in bootargs.
  [[nodiscard]] bool has_option(std::string_view key) const;
  [[nodiscard]] std::uint64_t option(std::string_view key, std::uint64_t otherwise) const;
};
[[nodiscard]] const Machine& machine();

// Zeroed pages of RAM, outside of the image and of what the boot loader put into it. They are never given back.
[[nodiscard]] std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment = 0x1000);

// Virtual counter, in microseconds.
[[nodiscard]] std::uint64_t now_us();

// Deterministic numbers (xorshift64*).
struct Random {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  std::uint64_t next();
  std::uint64_t below(std::uint64_t n) { return next() % n; }
};

}  // namespace weir::guest

// Each payload defines these.
extern const std::string_view kGuestName;
void guest_main();
