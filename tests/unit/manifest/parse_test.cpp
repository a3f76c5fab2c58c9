#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/manifest/builder.hpp"

namespace weir {
namespace {

using Code = ManifestErrorCode;
using test::Bytes;
using test::cells;
using test::default_manifest;
using test::parse_blob;
using test::parse_tree;
using test::strings;
using test::Tree;

TEST(Manifest, Default) {
  const auto parsed = parse_tree(default_manifest());
  ASSERT_EQ(parsed.error, "");
  const Manifest& m = *parsed.manifest;
  EXPECT_EQ(m.exit, ExitMethod::semihosting);
  ASSERT_EQ(m.vms.size(), 1U);
  const VmConfig& vm = m.vms[0];
  EXPECT_EQ(vm.name, "linux");
  EXPECT_EQ(vm.kernel, "Image");
  EXPECT_EQ(vm.initrd, "initramfs.cpio");
  EXPECT_EQ(vm.bootargs, "console=ttyAMA0");
  EXPECT_EQ(vm.memory, 1_GiB);
  EXPECT_EQ(vm.vcpus, 2U);
  EXPECT_TRUE(vm.pcpus.empty());
  EXPECT_FALSE(vm.entry_offset);
  ASSERT_EQ(vm.vsmmus.size(), 1U);
  EXPECT_EQ(vm.vsmmus[0].name, "vsmmu0");
  ASSERT_EQ(vm.vsmmus[0].backing.size(), 2U);
  EXPECT_EQ(vm.vsmmus[0].backing[1], "smmuv3@c040000");
  const VsmmuNarrowing& narrowing = vm.vsmmus[0].narrowing;
  EXPECT_FALSE(narrowing.no_range_invalidation || narrowing.linear_stream_table || narrowing.no_stall);
  EXPECT_FALSE(narrowing.no_msi || narrowing.no_sev || narrowing.no_httu);
  EXPECT_EQ(narrowing.asid_bits, 16);
  EXPECT_EQ(narrowing.substream_bits, 20);
  EXPECT_EQ(vm.vsmmus[0].invalidation, Invalidation::strict);
  EXPECT_FALSE(vm.vsmmus[0].no_global_pages || vm.vsmmus[0].late_events);
  EXPECT_FALSE(vm.memory_calls || vm.may_share_with(0));
  ASSERT_EQ(vm.devices.size(), 2U);
  EXPECT_EQ(vm.devices[0].name, "disk1");
  EXPECT_EQ(vm.devices[1].pci, TopologyPath::parse("10:02.0/00.0"));
  EXPECT_EQ(vm.devices[1].vsmmu, 0U);
  EXPECT_EQ(vm.devices[0].slot, 1);
  EXPECT_EQ(vm.devices[1].slot, 2);
  EXPECT_EQ(vm.devices[0].on_violation, ViolationPolicy::log);
}

TEST(Manifest, SmmusOfUnknownKindsAreAcceptedByName) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  test::add_vm(root, "a").set("kernel", "raw.bin").set("entry-offset", cells(0, 0x40));
  EXPECT_TRUE(parse_tree(root).manifest->accepted_smmus.empty());
  root.set("accept-smmus", strings({"vendor,one", "vendor,two"}));
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.manifest->accepted_smmus.size(), 2u);
  EXPECT_EQ(parsed.manifest->accepted_smmus[1], "vendor,two");
  root.set("accept-smmus", strings({"1", "2", "3", "4", "5", "6", "7", "8", "9"}));
  EXPECT_EQ(parse_tree(root).code, Code::too_many);
  root.set("accept-smmus", strings({""}));
  EXPECT_EQ(parse_tree(root).code, Code::bad_value);
  root.set("accept-smmus", cells(0x01020304));
  EXPECT_EQ(parse_tree(root).code, Code::bad_type);
}

TEST(Manifest, EverythingElse) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  root["__symbols__"].set("vsmmu0", "/vms/a/vsmmus/vsmmu0");  // dtc -@
  Tree& a = test::add_vm(root, "a").set("kernel", "raw.bin").set("entry-offset", cells(0, 0x40));
  a.remove("cpus").set("pcpus", cells(3, 1));
  Tree& vsmmu = test::add_vsmmu(a, "smmu");
  for (const char* flag : {"no-range-invalidation", "linear-stream-table", "no-stall", "no-msi", "no-sev", "no-httu"})
    vsmmu.set(flag);
  vsmmu.set("asid-bits", cells(8)).set("substream-bits", cells(5)).set("oas-bits", cells(40));
  vsmmu.set("command-queue-log2", cells(7)).set("event-queue-log2", cells(6)).set("pri-queue-log2", cells(3));
  test::add_device(a, "x", "0001:08:1f.7").set("slot", cells(1)).set("on-violation", "stop").set("ats", "full");
  test::add_device(a, "y", "08:1f.7")
      .set("on-violation", "quarantine")
      .set("ats", "split-stage")
      .set("pri")
      .set("pasid");
  test::add_device(a, "z", "08:1f.6").set("slot", cells(3)).set("accept-non-coherent");
  test::add_device(a, "w", "08:1f.5");
  test::add_vm(root, "b");
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.error, "");
  const Manifest& m = *parsed.manifest;
  EXPECT_EQ(m.exit, ExitMethod::psci);
  ASSERT_EQ(m.vms.size(), 2U);
  const VmConfig& vm = m.vms[0];
  EXPECT_EQ(vm.entry_offset, 0x40U);
  EXPECT_EQ(vm.vcpus, 2U);
  EXPECT_EQ(vm.pcpus[0], 3);
  const VsmmuNarrowing& narrowing = vm.vsmmus[0].narrowing;
  EXPECT_TRUE(narrowing.no_range_invalidation);
  EXPECT_TRUE(narrowing.linear_stream_table);
  EXPECT_TRUE(narrowing.no_stall && narrowing.no_msi && narrowing.no_sev && narrowing.no_httu);
  EXPECT_EQ(narrowing.asid_bits, 8);
  EXPECT_EQ(narrowing.substream_bits, 5);
  EXPECT_EQ(narrowing.oas_bits, 40);
  EXPECT_EQ(narrowing.command_queue_log2, 7);
  EXPECT_EQ(narrowing.event_queue_log2, 6);
  EXPECT_EQ(narrowing.pri_queue_log2, 3);
  EXPECT_EQ(vm.devices[0].pci.segment, 1);
  EXPECT_EQ(vm.devices[0].on_violation, ViolationPolicy::stop);
  EXPECT_EQ(vm.devices[1].on_violation, ViolationPolicy::quarantine);
  EXPECT_EQ(vm.devices[0].slot, 1);
  EXPECT_EQ(vm.devices[1].slot, 2);
  EXPECT_EQ(vm.devices[2].slot, 3);
  EXPECT_EQ(vm.devices[3].slot, 4);
  EXPECT_EQ(vm.devices[0].ats, AtsChoice::full);
  EXPECT_FALSE(vm.devices[0].pri || vm.devices[0].pasid);
  EXPECT_EQ(vm.devices[1].ats, AtsChoice::split_stage);
  EXPECT_TRUE(vm.devices[1].pri && vm.devices[1].pasid);
  EXPECT_EQ(vm.devices[2].ats, AtsChoice::none);
  EXPECT_TRUE(vm.devices[2].not_coherent);
  EXPECT_FALSE(vm.devices[3].not_coherent);
}

TEST(Manifest, Invalidation) {
  Tree tree = default_manifest();
  Tree& vm = tree["vms"]["linux"];
  vm["vsmmus"]["vsmmu0"].set("invalidation", "precise").set("no-global-pages");
  vm["vsmmus"]["second"].set("backing", "smmuv3@c040000").set("invalidation", "strict").set("late-events");
  vm["vsmmus"]["third"].set("backing", "smmuv3@c040000").set("invalidation", "precise");
  const auto parsed = parse_tree(tree);
  ASSERT_EQ(parsed.error, "");
  const auto& vsmmus = parsed.manifest->vms[0].vsmmus;
  EXPECT_EQ(vsmmus[0].invalidation, Invalidation::precise);
  EXPECT_TRUE(vsmmus[0].no_global_pages && !vsmmus[0].late_events);
  EXPECT_EQ(vsmmus[1].invalidation, Invalidation::strict);
  EXPECT_TRUE(!vsmmus[1].no_global_pages && vsmmus[1].late_events);
  EXPECT_EQ(vsmmus[2].invalidation, Invalidation::precise);
  EXPECT_FALSE(vsmmus[2].no_global_pages || vsmmus[2].late_events);
}

TEST(Manifest, SharingIsAllowedInOneDirection) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  test::add_vm(root, "a").set("memory-calls").set("share-with", strings({"c", "b"}));
  test::add_vm(root, "b").set("memory-calls");
  test::add_vm(root, "c").set("memory-calls").set("share-with", "a");
  test::add_vm(root, "d");
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.error, "");
  const auto& vms = parsed.manifest->vms;
  EXPECT_TRUE(vms[0].memory_calls && vms[1].memory_calls && vms[2].memory_calls && !vms[3].memory_calls);
  const std::string_view allowed[] = {"bc", "", "a", ""};
  for (std::size_t from = 0; from < 4; ++from)
    for (std::size_t to = 0; to < 4; ++to)
      EXPECT_EQ(vms[from].may_share_with(to), allowed[from].contains(vms[to].name)) << from << " to " << to;
  EXPECT_FALSE(vms[0].may_share_with(kMaxVms));
}

TEST(Manifest, OneVmMayHaveTheTerminalForItself) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  test::add_vm(root, "a");
  test::add_vm(root, "b").set("raw-console");
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.error, "");
  EXPECT_FALSE(parsed.manifest->vms[0].raw_console);
  EXPECT_TRUE(parsed.manifest->vms[1].raw_console);
}

TEST(Manifest, PcpusAreAssignedAroundThePinnedOnes) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  test::add_vm(root, "a").set("cpus", cells(2));
  test::add_vm(root, "b").remove("cpus").set("pcpus", cells(1));
  test::add_vm(root, "c");
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.error, "");
  assign_pcpus(4, 0, *parsed.manifest);
  const auto& vms = parsed.manifest->vms;
  EXPECT_TRUE(std::ranges::equal(vms[0].pcpus, std::array{0, 2}));
  EXPECT_TRUE(std::ranges::equal(vms[1].pcpus, std::array{1}));
  EXPECT_TRUE(std::ranges::equal(vms[2].pcpus, std::array{3}));
}

TEST(Manifest, PcpusThatDidNotStartAreLeftOut) {
  Tree root;
  root.set("compatible", "weir,manifest-v1");
  test::add_vm(root, "a").set("cpus", cells(2));
  const auto parsed = parse_tree(root);
  ASSERT_EQ(parsed.error, "");
  assign_pcpus(4, 1U << 1, *parsed.manifest);
  EXPECT_TRUE(std::ranges::equal(parsed.manifest->vms[0].pcpus, std::array{0, 2}));
}

TEST(Manifest, OutlivesTheBlob) {
  auto blob = std::make_unique<Bytes>(default_manifest().blob());
  const auto parsed = parse_blob(*blob);
  blob.reset();
  EXPECT_EQ(parsed.manifest->vms[0].name, "linux");
}

TEST(ManifestError, NoManifest) {
  Manifest manifest;
  const auto result = load(test::default_files(), manifest);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::no_manifest);
  EXPECT_STREQ(result.error().c_str(), "manifest.dtb: no such file in the initrd; expected the compiled manifest");
}

// What operators put in the place of what is wanted is named.
TEST(ManifestError, OtherKindsOfFiles) {
  const auto marked = [](std::size_t at, std::string_view mark) {
    Bytes file(0x300);
    for (std::size_t i = 0; i < mark.size(); ++i) file[at + i] = static_cast<std::byte>(mark[i]);
    return file;
  };
  const auto said = [](const Bytes& kernel) {
    test::MemoryFiles files = test::default_files();
    files.add("Image", kernel);
    return parse_blob(default_manifest().blob(), files).error;
  };
  const auto is = [](std::string kind, std::string expected = "a file with an Image header, or entry-offset") {
    return "/vms/linux: kernel = \"Image\": " + kind + "not an arm64 kernel; expected " + expected;
  };
  EXPECT_EQ(said(marked(0, "\x1f\x8b")), is("gzip data, ", "the uncompressed file, with an Image header"));
  EXPECT_EQ(said(marked(4, "zimg")), is("an EFI image with a compressed kernel in it (zboot), "));
  EXPECT_EQ(said(marked(0x202, "HdrS")), is("an x86 kernel, "));
  EXPECT_EQ(said(marked(0, "\x7f\x45LF")), is("an ELF file, "));
  EXPECT_EQ(said({}),
            "/vms/linux: kernel = \"Image\": an empty file; expected a file with an Image header, or "
            "entry-offset");

  test::MemoryFiles files = test::default_files();
  files.add("initramfs.cpio", {});
  EXPECT_EQ(parse_blob(default_manifest().blob(), files).error,
            "/vms/linux: initrd = \"initramfs.cpio\": an empty file; expected an initrd, or none: no such property");
  EXPECT_EQ(parse_blob(marked(0, "\x1f\x8b")).error,
            "manifest.dtb: gzip data; expected a blob made by dtc, not compressed");
}

TEST(ManifestError, OtherKindsOfBlobs) {
  Tree overlay;
  overlay["fragment@0"]["__overlay__"]["vms"];
  EXPECT_EQ(parse_tree(overlay).error, "manifest.dtb: an overlay; expected a devicetree of its own, without /plugin/");
  Bytes old = default_manifest().blob();
  old[23] = old[27] = std::byte{3};  // version, and the last one that it is compatible with
  EXPECT_EQ(parse_blob(old).error,
            "manifest.dtb: it is a devicetree blob of a version before 16; expected a blob made "
            "by dtc");
  old[23] = old[27] = std::byte{18};
  EXPECT_EQ(parse_blob(old).error,
            "manifest.dtb: it is a devicetree blob of a version after 17; expected a blob made "
            "by dtc");
  Bytes cut = default_manifest().blob();
  cut.resize(cut.size() - 1);
  EXPECT_EQ(parse_blob(cut).error,
            "manifest.dtb: it is a devicetree blob that is cut off; expected a blob made by dtc");
  EXPECT_EQ(parse_blob({}).error, "manifest.dtb: it is empty; expected a blob made by dtc");
}

// The least memory that a message names is accepted.
TEST(ManifestError, LimitsThatAreNamedAreAccepted) {
  for (const std::size_t kernel : {0x1000U, 0x1ff000U, 0x200000U, 0x201000U}) {
    test::MemoryFiles files = test::default_files();
    files.add("Image", test::kernel_image(0x1000, kernel));
    const auto with = [&](std::uint32_t mib) {
      Tree tree = default_manifest();
      tree["vms"]["linux"].set("memory", cells({0, mib << 20}));
      return parse_blob(tree.blob(), files).error;
    };
    const std::string error = with(2);
    const std::size_t at = error.find("at least ");
    ASSERT_NE(at, std::string::npos) << error;
    const auto least = static_cast<std::uint32_t>(std::stoul(error.substr(at + 9)));
    EXPECT_EQ(with(least), "");
    EXPECT_NE(with(least - 2), "");
  }
}

TEST(ManifestError, BadBlob) {
  const auto parsed = parse_blob(Bytes(100, std::byte{1}));
  EXPECT_EQ(parsed.code, Code::bad_blob);
  EXPECT_EQ(parsed.error, "manifest.dtb: it does not begin as a devicetree blob does; expected a blob made by dtc");
  EXPECT_EQ(parse_blob(Bytes(kMaxManifestBytes + 1)).error, "manifest.dtb: too large; expected at most 64 KiB");
}

TEST(ManifestError, OneLineWhateverIsInTheBlob) {
  Tree tree = default_manifest();
  tree["vms"]["linux"].set("ker\nnel", "Im\x1b[31m\nage").set("x", std::string(3000, 'x'));
  const auto parsed = parse_tree(tree);
  EXPECT_EQ(parsed.error.substr(0, 20), "/vms/linux: ker?nel ");
  EXPECT_EQ(parsed.error.find('\n'), std::string::npos);
  EXPECT_EQ(parsed.error.find('\x1b'), std::string::npos);
}

struct Case {
  const char* name;
  Code code;
  void (*change)(Tree& root, Tree& vm);
  const char* line;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class ManifestErrors : public testing::TestWithParam<Case> {};
TEST_P(ManifestErrors, Line) {
  Tree tree = default_manifest();
  GetParam().change(tree, tree["vms"]["linux"]);
  const auto parsed = parse_tree(tree);
  EXPECT_EQ(parsed.error, GetParam().line);
  EXPECT_EQ(parsed.code, GetParam().code);
}

constexpr Case kCases[] = {
    {"NotAManifest", Code::not_a_manifest, [](Tree& root, Tree&) { root.set("compatible", "linux,dummy-virt"); },
     "/: compatible = \"linux,dummy-virt\": not a manifest that this Weir can read; expected \"weir,manifest-v1\""},
    {"NoCompatible", Code::missing, [](Tree& root, Tree&) { root.remove("compatible"); },
     "/: compatible: missing; expected \"weir,manifest-v1\""},
    {"UnknownNode", Code::unknown_node, [](Tree&, Tree& vm) { vm["device"]; },
     "/vms/linux/device: unknown node; expected vsmmus, devices"},
    {"UnknownNodeInDevice", Code::unknown_node, [](Tree&, Tree& vm) { vm["devices"]["disk1"]["x"]; },
     "/vms/linux/devices/disk1/x: unknown node; expected no node here"},
    {"UnknownProperty", Code::unknown_property, [](Tree&, Tree& vm) { vm.set("kernal", "Image"); },
     "/vms/linux: kernal = \"Image\": unknown property; expected one of kernel, initrd, bootargs, cpus, pcpus, memory, "
     "entry-offset, memory-calls, share-with, raw-console"},
    {"UnknownPropertyInList", Code::unknown_property, [](Tree& root, Tree&) { root["vms"].set("x", cells(1)); },
     "/vms: x = <0x1>: unknown property; expected none here"},
    {"NoVms", Code::missing, [](Tree& root, Tree&) { root.remove("vms"); },
     "/: vms: missing; expected a node for each VM in it"},
    {"NoVm", Code::missing, [](Tree& root, Tree&) { root["vms"].remove("linux"); },
     "/vms: VM: missing; expected at least one node"},
    {"NoKernel", Code::missing, [](Tree&, Tree& vm) { vm.remove("kernel"); },
     "/vms/linux: kernel: missing; expected the name of a file in the initrd"},
    {"NoCpus", Code::missing, [](Tree&, Tree& vm) { vm.remove("cpus"); },
     "/vms/linux: cpus: missing; expected a number of CPUs, or pcpus with a list of physical CPUs"},
    {"NoMemory", Code::missing, [](Tree&, Tree& vm) { vm.remove("memory"); },
     "/vms/linux: memory: missing; expected a number of bytes in two cells, as in <0x0 0x40000000>"},
    {"NoBacking", Code::missing, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].remove("backing"); },
     "/vms/linux/vsmmus/vsmmu0: backing: missing; expected names of physical SMMUs, as in \"smmuv3@c000000\""},
    {"NoPci", Code::missing, [](Tree&, Tree& vm) { vm["devices"]["disk2"].remove("pci"); },
     "/vms/linux/devices/disk2: pci: missing; expected a topology path, as in \"08:01.0/00.0\""},
    {"NoVsmmu", Code::missing, [](Tree&, Tree& vm) { vm["devices"]["disk2"].remove("vsmmu"); },
     "/vms/linux/devices/disk2: vsmmu: missing; expected a vSMMU of this VM, as in <&vsmmu0> or \"vsmmu0\""},
    {"KernelIsNoString", Code::bad_type, [](Tree&, Tree& vm) { vm.set("kernel", cells(1)); },
     "/vms/linux: kernel = <0x1>: not a string; expected a string, as in \"Image\""},
    {"KernelIsTwoStrings", Code::bad_type, [](Tree&, Tree& vm) { vm.set("kernel", strings({"Image", "Image"})); },
     "/vms/linux: kernel = \"Image\", \"Image\": not a string; expected a string, as in \"Image\""},
    {"CpusIsAString", Code::bad_type, [](Tree&, Tree& vm) { vm.set("cpus", "2 of them"); },
     "/vms/linux: cpus = \"2 of them\": not one number; expected one cell, as in <2>"},
    {"MemoryIsOneCell", Code::bad_type, [](Tree&, Tree& vm) { vm.set("memory", cells(0x40000000)); },
     "/vms/linux: memory = <0x40000000>: not a size; expected a number of bytes in two cells, as in <0x0 0x40000000>"},
    {"PcpusIsEmpty", Code::bad_type, [](Tree&, Tree& vm) { vm.remove("cpus").set("pcpus"); },
     "/vms/linux: pcpus = (empty): not a list of CPUs; expected one cell for each, as in <2 3>"},
    {"FlagHasAValue", Code::bad_type,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("no-range-invalidation", cells(0)); },
     "/vms/linux/vsmmus/vsmmu0: no-range-invalidation = <0x0>: not a flag; expected no value"},
    {"BackingIsCells", Code::bad_type, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("backing", cells(1)); },
     "/vms/linux/vsmmus/vsmmu0: backing = <0x1>: not a list of strings; expected names of physical SMMUs, as in "
     "\"smmuv3@c000000\""},
    {"VsmmuIsTwoCells", Code::bad_type, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("vsmmu", cells(1, 2)); },
     "/vms/linux/devices/disk1: vsmmu = <0x1 0x2>: neither a name nor a phandle; expected <&vsmmu0> or \"vsmmu0\""},
    {"Exit", Code::bad_value, [](Tree& root, Tree&) { root.set("exit", "halt"); },
     "/: exit = \"halt\": not one of the choices; expected \"semihosting\" or \"psci\""},
    {"NoCpuAtAll", Code::bad_value, [](Tree&, Tree& vm) { vm.set("cpus", cells(0)); },
     "/vms/linux: cpus = <0x0>: out of range; expected 1 to 64"},
    {"CpusAndPcpus", Code::bad_value, [](Tree&, Tree& vm) { vm.set("pcpus", cells(0, 1)); },
     "/vms/linux: pcpus = <0x0 0x1>: cpus is given, too; expected one of the two"},
    {"OddMemory", Code::bad_value, [](Tree&, Tree& vm) { vm.set("memory", cells(0, 0x40001000)); },
     "/vms/linux: memory = <0x0 0x40001000>: out of range or not a multiple of 2 MiB; expected 2 MiB to 511 GiB in "
     "steps "
     "of 2 MiB"},
    {"HugeMemory", Code::bad_value, [](Tree&, Tree& vm) { vm.set("memory", cells(0x80, 0)); },
     "/vms/linux: memory = <0x80 0x0>: out of range or not a multiple of 2 MiB; expected 2 MiB to 511 GiB in steps of "
     "2 "
     "MiB"},
    {"OddEntry", Code::bad_value,
     [](Tree&, Tree& vm) { vm.set("kernel", "raw.bin").set("entry-offset", cells(0, 0x102)); },
     "/vms/linux: entry-offset = <0x0 0x102>: not where an instruction can be; expected a multiple of 4 within the "
     "memory"},
    {"EntryAtTheEnd", Code::no_fit,
     [](Tree&, Tree& vm) { vm.set("kernel", "raw.bin").set("entry-offset", cells(0, 0x3fe00000)); },
     "/vms/linux: memory = <0x0 0x40000000>: too small for kernel, initrd and devicetree; expected at least 1026 MiB"},
    {"AsidBits", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("asid-bits", cells(12)); },
     "/vms/linux/vsmmus/vsmmu0: asid-bits = <0xc>: no width of an ASID; expected 8 or 16"},
    {"HugeAsidBits", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("asid-bits", cells(0x108)); },
     "/vms/linux/vsmmus/vsmmu0: asid-bits = <0x108>: no width of an ASID; expected 8 or 16"},
    {"SubstreamBits", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("substream-bits", cells(21)); },
     "/vms/linux/vsmmus/vsmmu0: substream-bits = <0x15>: out of range; expected 0 to 20"},
    {"OasBits", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("oas-bits", cells(39)); },
     "/vms/linux/vsmmus/vsmmu0: oas-bits = <0x27>: no output address size; expected 32, 36, 40, 42, 44, 48 or 52"},
    {"CommandQueue", Code::bad_value,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("command-queue-log2", cells(15)); },
     "/vms/linux/vsmmus/vsmmu0: command-queue-log2 = <0xf>: out of range; expected 1 to 14"},
    {"EventQueue", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("event-queue-log2", cells(13)); },
     "/vms/linux/vsmmus/vsmmu0: event-queue-log2 = <0xd>: out of range; expected 0 to 12"},
    {"PriQueue", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("pri-queue-log2", cells(13)); },
     "/vms/linux/vsmmus/vsmmu0: pri-queue-log2 = <0xd>: out of range; expected 0 to 12"},
    {"NumberIsAFlag", Code::bad_type, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("substream-bits"); },
     "/vms/linux/vsmmus/vsmmu0: substream-bits = (empty): not one number; expected one cell, as in <2>"},
    {"NoStallHasAValue", Code::bad_type, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("no-stall", cells(1)); },
     "/vms/linux/vsmmus/vsmmu0: no-stall = <0x1>: not a flag; expected no value"},
    {"Ats", Code::bad_value, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("ats", "yes"); },
     "/vms/linux/devices/disk1: ats = \"yes\": not one of the choices; expected \"split-stage\" or \"full\""},
    {"AtsIsAFlag", Code::bad_type, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("ats", cells(1)); },
     "/vms/linux/devices/disk1: ats = <0x1>: not a string; expected \"split-stage\" or \"full\""},
    {"PriWithoutAts", Code::missing, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("pri"); },
     "/vms/linux/devices/disk1: pri = (empty): page requests are part of ATS; expected ats = \"split-stage\" or "
     "\"full\" with it"},
    {"PriHasAValue", Code::bad_type,
     [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("ats", "full").set("pri", cells(1)); },
     "/vms/linux/devices/disk1: pri = <0x1>: not a flag; expected no value"},
    {"PasidWithoutSubstreams", Code::bad_value,
     [](Tree&, Tree& vm) {
       vm["vsmmus"]["vsmmu0"].set("substream-bits", cells(0));
       vm["devices"]["disk1"].set("pasid");
     },
     "/vms/linux/devices/disk1: pasid = (empty): substream-bits of vsmmu0 is 0; expected 1 to 20, or no pasid"},
    {"Invalidation", Code::bad_value, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("invalidation", "exact"); },
     "/vms/linux/vsmmus/vsmmu0: invalidation = \"exact\": not one of the choices; expected \"strict\" or \"precise\""},
    {"InvalidationIsAFlag", Code::bad_type,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("invalidation", cells(1)); },
     "/vms/linux/vsmmus/vsmmu0: invalidation = <0x1>: not a string; expected \"strict\" or \"precise\""},
    {"NoGlobalPagesWithoutPrecise", Code::missing,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("no-global-pages"); },
     "/vms/linux/vsmmus/vsmmu0: no-global-pages = (empty): nothing is filtered in strict mode; expected invalidation = "
     "\"precise\" with it"},
    {"NoGlobalPagesHasAValue", Code::bad_type,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("invalidation", "precise").set("no-global-pages", cells(1)); },
     "/vms/linux/vsmmus/vsmmu0: no-global-pages = <0x1>: not a flag; expected no value"},
    {"LateEventsHasAValue", Code::bad_type, [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("late-events", "on"); },
     "/vms/linux/vsmmus/vsmmu0: late-events = \"on\": not a flag; expected no value"},
    {"MemoryCallsHasAValue", Code::bad_type, [](Tree&, Tree& vm) { vm.set("memory-calls", cells(1)); },
     "/vms/linux: memory-calls = <0x1>: not a flag; expected no value"},
    {"ShareWithoutCalls", Code::missing, [](Tree&, Tree& vm) { vm.set("share-with", "b"); },
     "/vms/linux: share-with = \"b\": memory is offered by calls; expected memory-calls with it"},
    {"ShareWithIsCells", Code::bad_type, [](Tree&, Tree& vm) { vm.set("memory-calls").set("share-with", cells(1)); },
     "/vms/linux: share-with = <0x1>: not a list of strings; expected names of other VMs, as in \"vm1\""},
    {"ShareWithNobody", Code::no_such_vm, [](Tree&, Tree& vm) { vm.set("memory-calls").set("share-with", "b"); },
     "/vms/linux: share-with = \"b\": \"b\" is no VM of this manifest; expected names of other VMs, as in \"vm1\""},
    {"ShareWithItself", Code::bad_value, [](Tree&, Tree& vm) { vm.set("memory-calls").set("share-with", "linux"); },
     "/vms/linux: share-with = \"linux\": \"linux\" is this VM itself; expected names of other VMs, as in \"vm1\""},
    {"ShareWithAVmWithoutCalls", Code::bad_value,
     [](Tree& root, Tree& vm) {
       vm.set("memory-calls").set("share-with", "b");
       test::add_vm(root, "b");
     },
     "/vms/linux: share-with = \"b\": \"b\" lacks memory-calls and could not accept; expected names of VMs with "
     "memory-calls"},
    {"ShareWithTwice", Code::duplicate,
     [](Tree& root, Tree& vm) {
       vm.set("memory-calls").set("share-with", strings({"b", "b"}));
       test::add_vm(root, "b").set("memory-calls");
     },
     "/vms/linux: share-with = \"b\", \"b\": \"b\" is given twice; expected each VM once"},
    {"RawConsoleTwice", Code::duplicate,
     [](Tree& root, Tree& vm) {
       vm.set("raw-console");
       test::add_vm(root, "b").set("raw-console");
     },
     "/vms/b: raw-console = (empty): another VM has it; expected it in one VM at most"},
    {"PciPath", Code::bad_value, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("pci", "08:01.0/20.0"); },
     "/vms/linux/devices/disk1: pci = \"08:01.0/20.0\": not a topology path; expected hexadecimal "
     "BUS:DEVICE.FUNCTION/DEVICE.FUNCTION..., as in \"08:01.0/00.0\""},
    {"Slot", Code::bad_value, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("slot", cells(32)); },
     "/vms/linux/devices/disk1: slot = <0x20>: out of range; expected 1 to 31"},
    {"OnViolation", Code::bad_value, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("on-violation", "panic"); },
     "/vms/linux/devices/disk1: on-violation = \"panic\": not one of the choices; expected \"log\", \"quarantine\" "
     "or \"stop\""},
    {"AtsBare", Code::bad_type, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("ats"); },
     "/vms/linux/devices/disk1: ats = (empty): not a string; expected \"split-stage\" or \"full\""},
    {"BadName", Code::bad_name, [](Tree& root, Tree&) { root["vms"]["vm@1"]; },
     "/vms/vm@1: not a name; expected 1 to 31 letters, digits, '-' and '_'"},
    {"VmTwice", Code::duplicate, [](Tree& root, Tree&) { root["vms"].add("linux"); },
     "/vms/linux: there are two nodes of this name; expected different names"},
    {"SlotTwice", Code::duplicate,
     [](Tree&, Tree& vm) {
       vm["devices"]["disk1"].set("slot", cells(7));
       vm["devices"]["disk2"].set("slot", cells(7));
     },
     "/vms/linux/devices/disk2: slot = <0x7>: the slot of disk1; expected different slots"},
    {"BackingTwice", Code::duplicate,
     [](Tree&, Tree& vm) { vm["vsmmus"]["vsmmu0"].set("backing", strings({"smmuv3@1", "smmuv3@1"})); },
     "/vms/linux/vsmmus/vsmmu0: backing = \"smmuv3@1\", \"smmuv3@1\": \"smmuv3@1\" is given twice; expected each SMMU "
     "once"},
    {"PcpuTwice", Code::duplicate,
     [](Tree& root, Tree& vm) {
       vm.remove("cpus").set("pcpus", cells(1, 2));
       test::add_vm(root, "b").remove("cpus").set("pcpus", cells(2));
     },
     "/vms/b: pcpus = <0x2>: CPU 2 is given to /vms/linux already; expected each CPU once"},
    {"TooManyVms", Code::too_many,
     [](Tree& root, Tree&) {
       for (int i = 0; i < 8; ++i) test::add_vm(root, "vm" + std::to_string(i));
     },
     "/vms: too many VMs; expected at most 8"},
    {"TooManyVsmmus", Code::too_many,
     [](Tree&, Tree& vm) {
       for (int i = 1; i < 9; ++i) vm["vsmmus"]["v" + std::to_string(i)].set("backing", "x");
     },
     "/vms/linux/vsmmus: too many vSMMUs; expected at most 8"},
    {"TooManyDevices", Code::too_many,
     [](Tree&, Tree& vm) {
       for (int i = 2; i < 32; ++i)
         test::add_device(vm, "d" + std::to_string(i),
                          "00:01." + std::to_string(i % 8) + std::string("/00.0/") + (i < 10 ? "0" : "1") +
                              std::to_string(i % 10) + ".0");
     },
     "/vms/linux/devices: too many devices; expected at most 31"},
    {"NoSuchKernel", Code::no_such_file, [](Tree&, Tree& vm) { vm.set("kernel", "Imag"); },
     "/vms/linux: kernel = \"Imag\": no such file; expected the name of a file in the initrd"},
    {"NoSuchInitrd", Code::no_such_file, [](Tree&, Tree& vm) { vm.set("initrd", "x"); },
     "/vms/linux: initrd = \"x\": no such file; expected the name of a file in the initrd"},
    {"BadKernel", Code::bad_kernel, [](Tree&, Tree& vm) { vm.set("kernel", "raw.bin"); },
     "/vms/linux: kernel = \"raw.bin\": not an arm64 kernel; expected a file with an Image header, or entry-offset"},
    {"NoFit", Code::no_fit, [](Tree&, Tree& vm) { vm.set("memory", cells(0, 0x400000)); },
     "/vms/linux: memory = <0x0 0x400000>: too small for kernel, initrd and devicetree; expected at least 6 MiB"},
    {"NoSuchVsmmu", Code::no_such_vsmmu, [](Tree&, Tree& vm) { vm["devices"]["disk1"].set("vsmmu", "vsmmu1"); },
     "/vms/linux/devices/disk1: vsmmu = \"vsmmu1\": no such vSMMU in this VM; expected one of vsmmu0"},
    {"VsmmuOfAnotherVm", Code::no_such_vsmmu,
     [](Tree& root, Tree&) {
       test::add_device(test::add_vm(root, "b"), "x", "00:01.0").set("vsmmu", cells({test::kVsmmuPhandle}));
     },
     "/vms/b/devices/x: vsmmu = <0x1>: no such vSMMU in this VM; expected a node in /vms/b/vsmmus"},
    {"DeviceTwice", Code::device_given_twice,
     [](Tree& root, Tree&) {
       Tree& b = test::add_vm(root, "b");
       test::add_vsmmu(b, "smmuv3@c020000");
       test::add_device(b, "x", "08:01.0/00.0");
     },
     "/vms/b/devices/x: pci = \"08:01.0/00.0\": given to /vms/linux/devices/disk1 already; expected each device once"},
};
INSTANTIATE_TEST_SUITE_P(All, ManifestErrors, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// ---- Damaged blobs. There is nothing to assert: the sanitizers do.

TEST(ManifestFuzz, EveryTruncation) {
  const Bytes blob = default_manifest().blob();
  const auto files = test::default_files();
  Manifest manifest;
  for (std::size_t size = 0; size < blob.size(); ++size) {
    const Bytes cut{blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size)};
    EXPECT_FALSE(parse(cut, files, manifest)) << size;
  }
}

TEST(ManifestFuzz, EveryByteFlipped) {
  Bytes blob = default_manifest().blob();
  const auto files = test::default_files();
  const std::string_view smmus[] = {"smmuv3@c020000", "smmuv3@c040000"};
  const PlatformFacts facts{.memory = 2_GiB, .pcpus = 4, .smmus = smmus, .enumerated = true, .functions = {}};
  Manifest manifest;
  for (std::byte& byte : blob)
    for (unsigned bit = 0; bit < 8; ++bit) {
      byte ^= std::byte{1} << bit;
      if (parse(blob, files, manifest)) {
        (void)check_against(facts, manifest);
        assign_pcpus(4, 0, manifest);
      }
      byte ^= std::byte{1} << bit;
    }
}

}  // namespace
}  // namespace weir
