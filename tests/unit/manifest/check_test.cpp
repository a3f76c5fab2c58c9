#include <gtest/gtest.h>

#include "tests/unit/manifest/builder.hpp"

namespace weir {
namespace {

using Code = ManifestErrorCode;
using test::cells;
using test::default_manifest;
using test::Tree;

TopologyPath path(std::string_view text) { return TopologyPath::parse(text).value(); }

// Three SMMUs; the default manifest's disks and their root ports; two more functions.
struct Machine {
  std::vector<std::string_view> smmus{"smmuv3@c000000", "smmuv3@c020000", "smmuv3@c040000"};
  std::vector<PciFunctionFact> functions{
      {.path = path("00:01.0"), .bridge = false, .smmu = "smmuv3@c000000", .line = 36, .group = 1},
      {.path = path("00:05.0"), .bridge = false, .smmu = "", .line = std::nullopt},
      {.path = path("08:01.0"), .bridge = true, .smmu = "smmuv3@c020000", .line = std::nullopt},
      {.path = path("08:01.0/00.0"), .bridge = false, .smmu = "smmuv3@c020000", .line = 36, .group = 3},
      {.path = path("10:02.0/00.0"), .bridge = false, .smmu = "smmuv3@c040000", .line = 37, .group = 4},
  };
  PlatformFacts facts{
      .memory = 1_GiB + 512_MiB, .pcpus = 4, .smmus = smmus, .enumerated = true, .functions = functions};
};

test::Parsed check(const Tree& tree, const PlatformFacts& facts) {
  test::Parsed parsed = test::parse_tree(tree);
  EXPECT_EQ(parsed.error, "");
  parsed.take(check_against(facts, *parsed.manifest));
  return parsed;
}

TEST(ManifestCheck, Default) { EXPECT_EQ(check(default_manifest(), Machine{}.facts).error, ""); }

TEST(ManifestCheck, DevicesAreNotCheckedWithoutEnumeration) {
  Machine machine;
  machine.facts.enumerated = false;
  machine.facts.functions = {};
  EXPECT_EQ(check(default_manifest(), machine.facts).error, "");
}

TEST(ManifestCheck, OneVmMaySpreadOverALine) {
  Machine machine;
  machine.functions[4].line = 36;
  EXPECT_EQ(check(default_manifest(), machine.facts).error, "");
}

// The most memory that a message says is left is accepted.
TEST(ManifestCheck, TheMemoryThatIsNamedIsAccepted) {
  for (const std::uint64_t memory : {std::uint64_t{512_MiB}, std::uint64_t{1_GiB + 10_MiB}}) {
    Machine machine;
    machine.facts.memory = memory;
    const auto with = [&](std::uint32_t mib) {
      Tree tree = default_manifest();
      tree["vms"]["linux"].set("memory", cells({0, mib << 20}));
      return check(tree, machine.facts).error;
    };
    const std::string error = with(2048);
    const std::size_t at = error.find("asked for, ");
    ASSERT_NE(at, std::string::npos) << error;
    const auto most = static_cast<std::uint32_t>(std::stoul(error.substr(at + 11)));
    EXPECT_EQ(with(most), "");
    EXPECT_NE(with(most + 2), "");
  }
}

struct Case {
  const char* name;
  Code code;
  void (*change)(Tree& root, Tree& vm, Machine& machine);
  const char* line;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class ManifestCheckErrors : public testing::TestWithParam<Case> {};
TEST(ManifestCheck, AcceptsNonCoherentDevicesByName) {
  Machine machine;
  machine.functions[3].coherent = machine.functions[4].coherent = false;
  Tree tree = default_manifest();
  for (const char* disk : {"disk1", "disk2"}) tree["vms"]["linux"]["devices"][disk].set("accept-non-coherent");
  EXPECT_EQ(check(tree, machine.facts).error, "");
  // It says what may be, not what is.
  EXPECT_EQ(check(tree, Machine{}.facts).error, "");
}

TEST_P(ManifestCheckErrors, Line) {
  Tree tree = default_manifest();
  Machine machine;
  GetParam().change(tree, tree["vms"]["linux"], machine);
  const auto parsed = check(tree, machine.facts);
  EXPECT_EQ(parsed.error, GetParam().line);
  EXPECT_EQ(parsed.code, GetParam().code);
}

constexpr Case kCases[] = {
    {"TooMuchMemory", Code::too_much_memory,
     [](Tree& root, Tree&, Machine&) { test::add_vm(root, "b").set("memory", cells(0, 0x20200000)); },
     "/vms/b: memory = <0x0 0x20200000>: 514 MiB are asked for, 502 of 1536 MiB are left; expected at most that"},
    {"TooManyCpus", Code::too_many_cpus,
     [](Tree& root, Tree&, Machine&) { test::add_vm(root, "b").set("cpus", cells(3)); },
     "/vms/b: cpus = <0x3>: 3 CPUs are asked for, 2 of 4 are left; expected at most that"},
    {"NoSuchCpu", Code::no_such_cpu, [](Tree&, Tree& vm, Machine&) { vm.remove("cpus").set("pcpus", cells(3, 4)); },
     "/vms/linux: pcpus = <0x3 0x4>: there is no CPU 4; expected 0 to 3"},
    {"CpuDidNotStart", Code::no_such_cpu,
     [](Tree&, Tree& vm, Machine& m) { m.facts.offline = 1U << 3, vm.remove("cpus").set("pcpus", cells(2, 3)); },
     "/vms/linux: pcpus = <0x2 0x3>: CPU 3 did not start; expected one that did"},
    {"TooFewCpusStarted", Code::too_many_cpus,
     [](Tree& root, Tree&, Machine& m) { m.facts.offline = 1U << 3, test::add_vm(root, "b").set("cpus", cells(2)); },
     "/vms/b: cpus = <0x2>: 2 CPUs are asked for, 1 of 3 are left; expected at most that"},
    {"NoSuchSmmu", Code::no_such_smmu,
     [](Tree&, Tree& vm, Machine&) { vm["vsmmus"]["vsmmu0"].set("backing", "smmuv3@c060000"); },
     "/vms/linux/vsmmus/vsmmu0: backing = \"smmuv3@c060000\": no such SMMU: \"smmuv3@c060000\"; expected one of "
     "smmuv3@c000000, smmuv3@c020000, smmuv3@c040000"},
    {"NoSuchDevice", Code::no_such_device,
     [](Tree&, Tree& vm, Machine&) { vm["devices"]["disk1"].set("pci", "08:02.0/00.0"); },
     "/vms/linux/devices/disk1: pci = \"08:02.0/00.0\": no such device; expected one of 00:01.0, "
     "08:01.0/00.0, "
     "10:02.0/00.0"},
    {"NotAFunction", Code::not_a_function,
     [](Tree&, Tree& vm, Machine&) { vm["devices"]["disk1"].set("pci", "08:01.0"); },
     "/vms/linux/devices/disk1: pci = \"08:01.0\": a bridge; expected one of 00:01.0, 08:01.0/00.0, "
     "10:02.0/00.0"},
    {"WrongSmmu", Code::wrong_smmu, [](Tree&, Tree& vm, Machine&) { vm["devices"]["disk1"].set("pci", "00:01.0"); },
     "/vms/linux/devices/disk1: pci = \"00:01.0\": this device is behind smmuv3@c000000; expected the backing of "
     "vsmmu0 to "
     "contain it"},
    {"NoSmmu", Code::wrong_smmu, [](Tree&, Tree& vm, Machine&) { vm["devices"]["disk1"].set("pci", "00:05.0"); },
     "/vms/linux/devices/disk1: pci = \"00:05.0\": this device is behind no SMMU; expected the backing of vsmmu0 to "
     "contain "
     "it"},
    {"NotCoherent", Code::not_coherent, [](Tree&, Tree&, Machine& m) { m.functions[3].coherent = false; },
     "/vms/linux/devices/disk1: pci = \"08:01.0/00.0\": the DMA of this device does not snoop caches (its PCI host is "
     "not "
     "dma-coherent); expected accept-non-coherent with it"},
    {"BothKinds", Code::not_coherent,
     [](Tree&, Tree& vm, Machine& m) {
       m.functions[4].coherent = false;
       vm["devices"]["disk2"].set("accept-non-coherent");
     },
     "/vms/linux/devices/disk1: pci = \"08:01.0/00.0\": DMA of this device snoops caches, that of disk2 does not; "
     "expected one kind in a VM"},
    {"Unusable", Code::unusable,
     [](Tree&, Tree& vm, Machine& m) {
       m.functions[0].problem = "a host bridge, or another that belongs to the machine";
       vm["devices"]["disk1"].set("pci", "00:01.0");
     },
     "/vms/linux/devices/disk1: pci = \"00:01.0\": this is a host bridge, or another that belongs to the machine; "
     "expected one of 08:01.0/00.0, 10:02.0/00.0"},
    {"SharedBridge", Code::shared_id,
     [](Tree& root, Tree&, Machine& m) {
       m.functions[0].group = 3;
       m.functions[0].requester = m.functions[3].requester = path("08:01.0");
       Tree& b = test::add_vm(root, "b");
       test::add_vsmmu(b, "smmuv3@c000000");
       test::add_device(b, "x", "00:01.0");
     },
     "/vms/linux/devices/disk1: pci = \"08:01.0/00.0\": its DMA may arrive under a Requester ID of the bridge 08:01.0, "
     "as "
     "does that of /vms/b/devices/x; expected one VM for all that is behind the bridge"},
    {"SharedId", Code::shared_id,
     [](Tree& root, Tree&, Machine& m) {
       m.functions[0].group = 3;
       Tree& b = test::add_vm(root, "b");
       test::add_vsmmu(b, "smmuv3@c000000");
       test::add_device(b, "x", "00:01.0");
     },
     "/vms/linux/devices/disk1: pci = \"08:01.0/00.0\": its DMA may arrive under a Requester ID that it shares with "
     "/vms/b/devices/x; expected one VM for both"},
    {"SharedLine", Code::shared_line,
     [](Tree& root, Tree&, Machine&) {
       Tree& b = test::add_vm(root, "b");
       test::add_vsmmu(b, "smmuv3@c000000");
       test::add_device(b, "x", "00:01.0");
     },
     "/vms/linux/devices/disk1: pci = \"08:01.0/00.0\": its interrupt line, INTID 36, is also that of "
     "/vms/b/devices/x; "
     "expected one VM for all devices on a line"},
};
INSTANTIATE_TEST_SUITE_P(All, ManifestCheckErrors, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace weir
