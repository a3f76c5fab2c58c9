// Just enough of the flattened devicetree (Devicetree Specification, chapter 5) for Machine.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tests/guests/bare/machine.hpp"

namespace weir::guest {
namespace {

constinit Machine the_machine{};

std::uint32_t be32(const std::uint8_t* p) {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}
std::uint64_t be64(const std::uint8_t* p) { return std::uint64_t{be32(p)} << 32 | be32(p + 4); }

constexpr std::uint32_t kFirstSpi = 32;

// A child of the root; all of them use two cells each for address and size.
struct Node {
  std::string_view name;
  std::string_view compatible;  // the first
  const std::uint8_t* reg = nullptr;
  const std::uint8_t* interrupts = nullptr;
  const std::uint8_t* iommu_map = nullptr;
  std::uint32_t iommu_map_bytes = 0;
  std::uint32_t phandle = 0;
  bool coherent = false;
};

void take(const Node& n) {
  Machine& m = the_machine;
  if (n.reg == nullptr) return;
  const std::uint64_t base = be64(n.reg), bytes = be64(n.reg + 8);
  if (n.name.starts_with("memory")) {
    m.ram = base;
    m.ram_bytes = bytes;
  } else if (n.compatible == "arm,pl011") {
    m.uart = base;
  } else if (n.compatible == "arm,pl031") {
    m.rtc = base;
    m.rtc_intid = n.interrupts != nullptr ? be32(n.interrupts + 4) + kFirstSpi : 0;
  } else if (n.compatible == "arm,gic-v3") {
    m.gicd = base;
    m.gicr = be64(n.reg + 16);
  } else if (n.compatible == "pci-host-ecam-generic") {
    m.ecam = base;
    m.ecam_bytes = bytes;
    for (std::uint32_t i = 0; i + 16 <= n.iommu_map_bytes && m.iommu_map_count < m.iommu_map.size(); i += 16) {
      const std::uint8_t* p = n.iommu_map + i;
      m.iommu_map[m.iommu_map_count++] = {be32(p), be32(p + 4), be32(p + 8), be32(p + 12)};
    }
  } else if (n.compatible == "arm,smmu-v3" && m.smmu_count < m.smmus.size()) {
    m.smmus[m.smmu_count++] = {base, n.phandle, n.interrupts != nullptr ? be32(n.interrupts + 4) + kFirstSpi : 0,
                               n.coherent};
  }
}

std::string_view text(const std::uint8_t* p) { return reinterpret_cast<const char*>(p); }

}  // namespace

const Machine& machine() { return the_machine; }

void read_devicetree(const std::uint8_t* blob) {
  constexpr std::uint32_t kMagic = 0xd00dfeed, kBegin = 1, kEnd = 2, kProperty = 3, kNop = 4;
  if (be32(blob) != kMagic) return;
  const std::uint8_t* p = blob + be32(blob + 8);
  const std::uint8_t* strings = blob + be32(blob + 12);
  int depth = 0;
  Node node;
  for (;;) {
    const std::uint32_t token = be32(p);
    p += 4;
    if (token == kNop) continue;
    if (token == kBegin) {
      const std::string_view name = text(p);
      if (++depth == 2) {
        node = {};
        node.name = name;
      }
      if (depth == 3 && node.name == "cpus" && name.starts_with("cpu@")) ++the_machine.cpus;
      p += (name.size() + 4) & ~std::size_t{3};
    } else if (token == kEnd) {
      if (depth-- == 2) take(node);
    } else if (token == kProperty) {
      const std::uint32_t bytes = be32(p);
      const std::string_view name = text(strings + be32(p + 4));
      const std::uint8_t* value = p + 8;
      p = value + ((bytes + 3) & ~3u);
      if (depth != 2) continue;
      if (name == "compatible") node.compatible = text(value);
      if (name == "reg" && bytes >= 16) node.reg = value;
      if (name == "interrupts" && bytes >= 12) node.interrupts = value;
      if (name == "phandle") node.phandle = be32(value);
      if (name == "dma-coherent") node.coherent = true;
      if (name == "iommu-map") {
        node.iommu_map = value;
        node.iommu_map_bytes = bytes;
      }
      if (name == "bootargs" && node.name == "chosen") {
        const std::size_t n = std::min<std::size_t>(bytes, the_machine.bootargs.size() - 1);
        for (std::size_t i = 0; i < n; ++i) the_machine.bootargs[i] = static_cast<char>(value[i]);
      }
    } else {
      return;
    }
  }
}

bool Machine::find_stream(std::uint32_t rid, unsigned& smmu, std::uint32_t& sid) const {
  for (unsigned i = 0; i < iommu_map_count; ++i) {
    const IommuMapEntry& e = iommu_map[i];
    if (rid < e.rid || rid - e.rid >= e.count) continue;
    for (unsigned s = 0; s < smmu_count; ++s) {
      if (smmus[s].phandle != e.phandle) continue;
      smmu = s;
      sid = e.sid + (rid - e.rid);
      return true;
    }
  }
  return false;
}

namespace {
// The text behind `key` in a list of words, or data() == nullptr.
std::string_view find_word(std::string_view words, std::string_view key) {
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    const std::string_view word = words.substr(0, end);
    if (word.starts_with(key) && (word.size() == key.size() || word[key.size()] == '=')) return word.substr(key.size());
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return {};
}
}  // namespace

bool Machine::has_option(std::string_view key) const { return find_word(bootargs.data(), key).data() != nullptr; }

std::uint64_t Machine::option(std::string_view key, std::uint64_t otherwise) const {
  const std::string_view word = find_word(bootargs.data(), key);
  if (word.size() < 2) return otherwise;
  std::uint64_t value = 0;
  for (const char c : word.substr(1)) {
    if (c < '0' || c > '9') break;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  return value;
}

}  // namespace weir::guest
