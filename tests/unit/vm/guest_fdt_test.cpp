// The guest's devicetree, read back with libfdt.
#include "hyp/vm/guest_fdt.hpp"

#include <gtest/gtest.h>
#include <libfdt.h>

#include <array>
#include <string>
#include <vector>

#include "hyp/vm/guest_map.hpp"

namespace weir {
namespace {

using Cells = std::vector<std::uint32_t>;
using Strings = std::vector<std::string>;

constexpr std::uint32_t kSpi = 0, kEdge = 1, kLevel = 4;

class GuestFdtTest : public ::testing::Test {
 protected:
  std::array<GuestVsmmu, 2> vsmmus{{{guest_map::vsmmu(0), guest_map::vsmmu_intid(0), true, false},
                                    {guest_map::vsmmu(1), guest_map::vsmmu_intid(1), false, true}}};
  std::array<GuestFunction, 3> functions{{{.slot = 1, .vsmmu = 0, .intid = 35, .vsid = VStreamID{1 << 3}},
                                          {.slot = 2, .vsmmu = 1, .intid = 0, .vsid = VStreamID{2 << 3}},
                                          {.slot = 31, .vsmmu = 1, .intid = 36, .vsid = VStreamID{2 << 3}}}};
  GuestHardware hardware{.ram = guest_map::kRam,
                         .ram_bytes = 0x1'8000'0000,
                         .vcpus = 18,
                         .vsmmus = vsmmus,
                         .pci = true,
                         .functions = functions,
                         .bootargs = "console=ttyAMA0 iommu.passthrough=0",
                         .initrd = IPA{0x1'4567'8000},
                         .initrd_bytes = 0x12'3456};
  std::vector<std::byte> blob;

  void make() {
    blob.assign(0x1'0000, std::byte{0xee});
    const auto size = make_guest_fdt(hardware, blob);
    ASSERT_TRUE(size.has_value()) << size.error();
    blob.resize(*size);
    ASSERT_EQ(fdt_check_full(blob.data(), blob.size()), 0);
  }
  [[nodiscard]] int node(const char* path) const {
    const int offset = fdt_path_offset(blob.data(), path);
    EXPECT_GE(offset, 0) << path << ": " << fdt_strerror(offset);
    return offset;
  }
  [[nodiscard]] bool has(const char* path) const { return fdt_path_offset(blob.data(), path) >= 0; }
  [[nodiscard]] bool has(const char* path, const char* property) const {
    return fdt_getprop(blob.data(), node(path), property, nullptr) != nullptr;
  }
  [[nodiscard]] Cells cells(const char* path, const char* property) const {
    int length = 0;
    const auto* at = static_cast<const fdt32_t*>(fdt_getprop(blob.data(), node(path), property, &length));
    EXPECT_NE(at, nullptr) << path << " " << property;
    if (at == nullptr) return {};
    EXPECT_EQ(length % 4, 0);
    Cells out;
    for (int i = 0; i < length / 4; ++i) out.push_back(fdt32_ld(at + i));
    return out;
  }
  [[nodiscard]] Strings strings(const char* path, const char* property) const {
    const int at = node(path);
    Strings out;
    for (int i = 0; i < fdt_stringlist_count(blob.data(), at, property); ++i)
      out.emplace_back(fdt_stringlist_get(blob.data(), at, property, i, nullptr));
    return out;
  }
  [[nodiscard]] std::uint32_t phandle(const char* path) const { return fdt_get_phandle(blob.data(), node(path)); }
};

TEST_F(GuestFdtTest, SeedsAreThereWhereThereAreAny) {
  make();
  EXPECT_FALSE(has("/chosen", "kaslr-seed"));
  EXPECT_FALSE(has("/chosen", "rng-seed"));
  hardware.seeds = GuestSeeds{.kaslr = 0x1122334455667788, .rng = {std::byte{1}, std::byte{2}, std::byte{3}}};
  make();
  EXPECT_EQ(cells("/chosen", "kaslr-seed"), (Cells{0x11223344, 0x55667788}));
  const Cells rng = cells("/chosen", "rng-seed");
  ASSERT_EQ(rng.size(), 16U);
  EXPECT_EQ(rng[0], 0x01020300U);
}

TEST_F(GuestFdtTest, Memory) {
  make();
  EXPECT_EQ(cells("/memory@40000000", "reg"), (Cells{0, 0x4000'0000, 1, 0x8000'0000}));
  EXPECT_EQ(strings("/memory@40000000", "device_type"), Strings{"memory"});
  EXPECT_EQ(cells("/", "#address-cells"), Cells{2});
  EXPECT_EQ(cells("/", "#size-cells"), Cells{2});
}

TEST_F(GuestFdtTest, Chosen) {
  make();
  EXPECT_EQ(strings("/chosen", "bootargs"), Strings{"console=ttyAMA0 iommu.passthrough=0"});
  EXPECT_EQ(cells("/chosen", "linux,initrd-start"), (Cells{1, 0x4567'8000}));
  EXPECT_EQ(cells("/chosen", "linux,initrd-end"), (Cells{1, 0x4579'b456}));
  EXPECT_EQ(node("serial0"), node("/pl011@9000000"));
}

TEST_F(GuestFdtTest, WithoutInitrdAndArguments) {
  hardware.initrd_bytes = 0;
  hardware.bootargs = {};
  make();
  EXPECT_FALSE(has("/chosen", "linux,initrd-start"));
  EXPECT_FALSE(has("/chosen", "linux,initrd-end"));
  EXPECT_FALSE(has("/chosen", "bootargs"));
}

TEST_F(GuestFdtTest, CpusHaveTheirAffinities) {
  make();
  int count = 0, child = 0;
  fdt_for_each_subnode(child, blob.data(), node("/cpus"))++ count;
  EXPECT_EQ(count, 18);
  EXPECT_EQ(cells("/cpus/cpu@0", "reg"), Cells{0});
  EXPECT_EQ(cells("/cpus/cpu@f", "reg"), Cells{15});
  EXPECT_EQ(cells("/cpus/cpu@100", "reg"), Cells{0x100}) << "the 17th: Aff1 = 1";
  EXPECT_EQ(strings("/cpus/cpu@101", "enable-method"), Strings{"psci"});
  EXPECT_EQ(strings("/psci", "method"), Strings{"hvc"});
}

TEST_F(GuestFdtTest, GicCoversAllRedistributors) {
  make();
  EXPECT_EQ(strings("/intc@8000000", "compatible"), Strings{"arm,gic-v3"});
  EXPECT_EQ(cells("/intc@8000000", "reg"), (Cells{0, 0x0800'0000, 0, 0x1'0000, 0, 0x080a'0000, 0, 18 * 0x2'0000}));
  EXPECT_EQ(cells("/", "interrupt-parent"), Cells{phandle("/intc@8000000")});
}

TEST_F(GuestFdtTest, Uart) {
  make();
  EXPECT_EQ(cells("/pl011@9000000", "interrupts"), (Cells{kSpi, 1, kLevel}));
  EXPECT_FALSE(has("/pl031@9010000"));
  hardware.rtc = true;
  make();
  EXPECT_EQ(strings("/pl031@9010000", "compatible"), (Strings{"arm,pl031", "arm,primecell"}));
  EXPECT_EQ(cells("/pl031@9010000", "interrupts"), (Cells{kSpi, 2, kLevel}));
  EXPECT_EQ(cells("/pl031@9010000", "reg"), (Cells{0, 0x901'0000, 0, 0x1000}));
  EXPECT_EQ(strings("/pl011@9000000", "compatible"), (Strings{"arm,pl011", "arm,primecell"}));
}

TEST_F(GuestFdtTest, Vsmmus) {
  make();
  EXPECT_EQ(strings("/smmuv3@c000000", "compatible"), Strings{"arm,smmu-v3"});
  EXPECT_EQ(cells("/smmuv3@c000000", "reg"), (Cells{0, 0x0c00'0000, 0, 0x2'0000}));
  EXPECT_EQ(cells("/smmuv3@c020000", "reg"), (Cells{0, 0x0c02'0000, 0, 0x2'0000}));
  EXPECT_EQ(strings("/smmuv3@c000000", "interrupt-names"), (Strings{"eventq", "cmdq-sync", "gerror"}));
  EXPECT_EQ(cells("/smmuv3@c000000", "interrupts"), (Cells{kSpi, 112, kEdge, kSpi, 114, kEdge, kSpi, 115, kEdge}));
  EXPECT_EQ(strings("/smmuv3@c020000", "interrupt-names"), (Strings{"eventq", "priq", "cmdq-sync", "gerror"}));
  EXPECT_EQ(cells("/smmuv3@c020000", "interrupts"),
            (Cells{kSpi, 116, kEdge, kSpi, 117, kEdge, kSpi, 118, kEdge, kSpi, 119, kEdge}));
  EXPECT_EQ(cells("/smmuv3@c000000", "#iommu-cells"), Cells{1});
  EXPECT_TRUE(has("/smmuv3@c000000", "dma-coherent"));
  EXPECT_FALSE(has("/smmuv3@c020000", "dma-coherent"));
}

TEST_F(GuestFdtTest, PciNamesTheSmmuOfEachFunction) {
  make();
  const std::uint32_t first = phandle("/smmuv3@c000000"), second = phandle("/smmuv3@c020000");
  EXPECT_NE(first, second);
  EXPECT_EQ(cells("/pcie@3f000000", "iommu-map"),
            (Cells{1 << 3, first, 1 << 3, 1, 2 << 3, second, 2 << 3, 1, 31 << 3, second, 2 << 3, 1}));
}

TEST_F(GuestFdtTest, AtsIsSupportedIfAFunctionHasIt) {
  make();
  EXPECT_FALSE(has("/pcie@3f000000", "ats-supported"));
  EXPECT_TRUE(has("/pcie@3f000000", "dma-coherent"));
  hardware.ats = true;
  make();
  EXPECT_TRUE(has("/pcie@3f000000", "ats-supported"));
}

TEST_F(GuestFdtTest, PciInterruptsOfThoseThatHaveOne) {
  make();
  const std::uint32_t gic = phandle("/intc@8000000");
  // The GIC has #address-cells = 0: its specifier follows the phandle at once.
  EXPECT_EQ(cells("/intc@8000000", "#address-cells"), Cells{0});
  EXPECT_EQ(cells("/pcie@3f000000", "interrupt-map"),
            (Cells{1 << 11, 0, 0, 1, gic, kSpi, 3, kLevel, 31 << 11, 0, 0, 1, gic, kSpi, 4, kLevel}));
  EXPECT_EQ(cells("/pcie@3f000000", "interrupt-map-mask"), (Cells{0xf800, 0, 0, 7}));
}

TEST_F(GuestFdtTest, PciWindows) {
  make();
  EXPECT_EQ(cells("/pcie@3f000000", "reg"), (Cells{0, 0x3f00'0000, 0, 0x100'0000}));
  EXPECT_EQ(cells("/pcie@3f000000", "bus-range"), (Cells{0, 15}));
  EXPECT_EQ(cells("/pcie@3f000000", "ranges"),
            (Cells{0x0100'0000, 0,    0,           0,    0x3eff'0000, 0,    0x1'0000,     //
                   0x0200'0000, 0,    0x1000'0000, 0,    0x1000'0000, 0,    0x2eff'0000,  //
                   0x4300'0000, 0x80, 0,           0x80, 0,           0x80, 0}));
}

TEST_F(GuestFdtTest, WithoutDevices) {
  hardware.vsmmus = {};
  hardware.functions = {};
  make();
  EXPECT_FALSE(has("/smmuv3@c000000"));
  EXPECT_FALSE(has("/pcie@3f000000", "iommu-map"));
  EXPECT_FALSE(has("/pcie@3f000000", "interrupt-map"));
  hardware.pci = false;
  make();
  EXPECT_FALSE(has("/pcie@3f000000"));
}

TEST_F(GuestFdtTest, EveryBufferThatIsTooSmallIsAnError) {
  make();
  const std::size_t enough = blob.size();
  std::size_t smallest = 0;
  for (std::size_t size = 0; size < enough + 256; ++size) {
    std::vector<std::byte> small(size);  // exactly as long: the sanitizer sees a byte too much
    const auto written = make_guest_fdt(hardware, small);
    if (written) {
      EXPECT_LE(*written, size);
      if (smallest == 0) smallest = size;
    } else {
      EXPECT_EQ(smallest, 0U) << "more room, and it fails: " << size;
      EXPECT_NE(written.error(), nullptr);
    }
  }
  EXPECT_GE(smallest, enough);
}

}  // namespace
}  // namespace weir
