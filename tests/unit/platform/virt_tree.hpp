// The devicetree of QEMU's virt machine (11.1, three SMMUs), completed as tools/ does it: what Weir looks at, no more.
#pragma once

#include "tests/unit/platform/tree.hpp"

namespace weir::test {

inline constexpr std::uint32_t kGic = 0x8005;
inline constexpr std::uint32_t kSmmu = 0x8008;  // and the next two

inline void add_smmu(Tree& root, const char* name, std::uint32_t index) {
  const std::uint32_t spi = 0x70 + 4 * index;
  root[name]
      .set("compatible", "arm,smmu-v3")
      .set("reg", cells({0, 0xc000000 + index * 0x20000, 0, 0x20000}))
      .set("interrupts", cells({0, spi, 1, 0, spi + 1, 1, 0, spi + 2, 1, 0, spi + 3, 1}))
      .set("interrupt-names", strings({"eventq", "priq", "cmdq-sync", "gerror"}))
      .set("dma-coherent")
      .set("#iommu-cells", cells(1))
      .set("phandle", cells({kSmmu + index}));
}

inline Bytes virt_interrupt_map() {
  Bytes map;
  for (std::uint32_t slot = 0; slot < 4; ++slot)
    for (std::uint32_t pin = 0; pin < 4; ++pin) {
      const Bytes line = cells({slot << 11, 0, 0, pin + 1, kGic, 0, 0, 0, 3 + (slot + pin) % 4, 4});
      map.insert(map.end(), line.begin(), line.end());
    }
  return map;
}

inline Tree virt_tree() {
  Tree root;
  root.set("interrupt-parent", cells({kGic}))
      .set("dma-coherent")
      .set("model", "linux,dummy-virt")
      .set("#size-cells", cells(2))
      .set("#address-cells", cells(2))
      .set("compatible", "linux,dummy-virt");
  root["psci"].set("method", "smc").set("compatible", strings({"arm,psci-1.0", "arm,psci-0.2", "arm,psci"}));
  root["memory@40000000"].set("reg", cells({0, 0x40000000, 0, 0x80000000})).set("device_type", "memory");
  add_smmu(root, "smmuv3@c000000", 0);
  add_smmu(root, "smmuv3@c020000", 1);
  add_smmu(root, "smmuv3@c040000", 2);
  root["pcie@10000000"]
      .set("compatible", "pci-host-ecam-generic")
      .set("device_type", "pci")
      .set("#address-cells", cells(3))
      .set("#size-cells", cells(2))
      .set("#interrupt-cells", cells(1))
      .set("linux,pci-domain", cells(0))
      .set("bus-range", cells(0, 255))
      .set("reg", cells({0x40, 0x10000000, 0, 0x10000000}))
      .set("ranges", cells({0x1000000, 0,    0,          0,    0x3eff0000, 0,    0x10000,     //
                            0x2000000, 0,    0x10000000, 0,    0x10000000, 0,    0x2eff0000,  //
                            0x3000000, 0x80, 0,          0x80, 0,          0x80, 0}))
      .set("interrupt-map-mask", cells({0x1800, 0, 0, 7}))
      .set("interrupt-map", virt_interrupt_map())
      .set("iommu-map", cells({0, kSmmu, 0, 0x800,              //
                               0x800, kSmmu + 1, 0x800, 0x800,  //
                               0x1000, kSmmu + 2, 0x1000, 0xf000}));
  root["pl011@9000000"]
      .set("compatible", strings({"arm,pl011", "arm,primecell"}))
      .set("reg", cells({0, 0x9000000, 0, 0x1000}))
      .set("interrupts", cells(0, 1, 4));
  Tree& gic = root["intc@8000000"];
  gic.set("phandle", cells({kGic}))
      .set("compatible", "arm,gic-v3")
      .set("interrupt-controller")
      .set("#interrupt-cells", cells(3))
      .set("#address-cells", cells(2))
      .set("#size-cells", cells(2))
      .set("ranges")
      .set("#redistributor-regions", cells(1))
      .set("interrupts", cells(1, 9, 4))
      .set("reg", cells({0, 0x8000000, 0, 0x10000, 0, 0x80a0000, 0, 0xf60000}));
  gic["its@8080000"].set("compatible", "arm,gic-v3-its").set("reg", cells({0, 0x8080000, 0, 0x20000}));
  Tree& cpus = root["cpus"];
  cpus.set("#address-cells", cells(1)).set("#size-cells", cells(0));
  for (int i = 0; i < 4; ++i)
    cpus["cpu@" + std::to_string(i)].set("device_type", "cpu").set("reg", cells(i)).set("enable-method", "psci");
  root["timer"]
      .set("compatible", strings({"arm,armv8-timer", "arm,armv7-timer"}))
      .set("interrupts", cells(1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4, 1, 12, 4));
  root["aliases"].set("serial0", "/pl011@9000000");
  root["chosen"]
      .set("stdout-path", "/pl011@9000000")
      .set("linux,initrd-start", cells(0x49000000))
      .set("linux,initrd-end", cells(0x4a000123));
  return root;
}

}  // namespace weir::test
