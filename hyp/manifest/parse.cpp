// Stage one: the structure of the manifest and the files it names.
#include <algorithm>
#include <array>
#include <memory>

#include "hyp/manifest/file_kind.hpp"
#include "hyp/manifest/kernel_image.hpp"
#include "hyp/manifest/message.hpp"

namespace weir {
namespace {

using dt::Node;
using dt::Property;
using manifest::Checked;
using manifest::fail;
using manifest::missing;
using manifest::wrong;
using Code = ManifestErrorCode;

template <typename T>
using Expected = std::expected<T, ManifestError>;

constexpr std::size_t kMaxName = 31;
constexpr std::uint64_t kTreeBytes = 0x20'0000;  // for the guest's devicetree, at the end of its memory
constexpr std::uint64_t kInitrdAlignment = 0x1000;

// What may stand in a node of each kind.
struct Vocabulary {
  std::span<const std::string_view> properties;
  std::span<const std::string_view> nodes;  // any, if `free_names`
  bool free_names{};
};
constexpr std::array<std::string_view, 3> kRootProperties{"compatible", "exit", "accept-smmus"};
constexpr std::array<std::string_view, 1> kRootNodes{"vms"};
constexpr std::array<std::string_view, 10> kVmProperties{"kernel",     "initrd",     "bootargs",     "cpus",
                                                         "pcpus",      "memory",     "entry-offset", "memory-calls",
                                                         "share-with", "raw-console"};
constexpr std::array<std::string_view, 2> kVmNodes{"vsmmus", "devices"};

// Properties of a vSMMU that take something away, and where they are kept.
struct NarrowingFlag {
  const char* name;
  bool VsmmuNarrowing::* to;
};
constexpr std::array<NarrowingFlag, 6> kFlags{{{"no-range-invalidation", &VsmmuNarrowing::no_range_invalidation},
                                               {"linear-stream-table", &VsmmuNarrowing::linear_stream_table},
                                               {"no-stall", &VsmmuNarrowing::no_stall},
                                               {"no-msi", &VsmmuNarrowing::no_msi},
                                               {"no-sev", &VsmmuNarrowing::no_sev},
                                               {"no-httu", &VsmmuNarrowing::no_httu}}};
constexpr std::array<std::uint8_t, 2> kAsidBits{8, 16};
constexpr std::array<std::uint8_t, 7> kOasBits{32, 36, 40, 42, 44, 48, 52};
struct NarrowingNumber {
  const char* name;
  std::uint8_t VsmmuNarrowing::* to;   // its default is the most there can be
  std::uint8_t least;                  // used if there is no list
  std::span<const std::uint8_t> only;  // what it can be, if not everything up to the most
  std::string_view problem, expected;  // for `only`
};
constexpr std::array<NarrowingNumber, 6> kNumbers{
    {{"asid-bits", &VsmmuNarrowing::asid_bits, 8, kAsidBits, "no width of an ASID", "8 or 16"},
     {"substream-bits", &VsmmuNarrowing::substream_bits, 0, {}, {}, {}},
     {"oas-bits", &VsmmuNarrowing::oas_bits, 32, kOasBits, "no output address size", "32, 36, 40, 42, 44, 48 or 52"},
     {"command-queue-log2", &VsmmuNarrowing::command_queue_log2, 1, {}, {}, {}},
     {"event-queue-log2", &VsmmuNarrowing::event_queue_log2, 0, {}, {}, {}},
     {"pri-queue-log2", &VsmmuNarrowing::pri_queue_log2, 0, {}, {}, {}}}};
constexpr auto kVsmmuProperties = [] {
  constexpr std::array<std::string_view, 4> kOthers{"backing", "invalidation", "no-global-pages", "late-events"};
  std::array<std::string_view, kOthers.size() + kFlags.size() + kNumbers.size()> names{};
  std::size_t n = 0;
  for (const std::string_view name : kOthers) names[n++] = name;
  for (const NarrowingFlag& f : kFlags) names[n++] = f.name;
  for (const NarrowingNumber& f : kNumbers) names[n++] = f.name;
  return names;
}();
constexpr std::array<std::string_view, 8> kDeviceProperties{"pci", "vsmmu", "slot",  "on-violation",
                                                            "ats", "pri",   "pasid", "accept-non-coherent"};
constexpr Vocabulary kRoot{.properties = kRootProperties, .nodes = kRootNodes};
constexpr Vocabulary kList{.properties = {}, .nodes = {}, .free_names = true};  // vms, vsmmus, devices
constexpr Vocabulary kVm{.properties = kVmProperties, .nodes = kVmNodes};
constexpr Vocabulary kVsmmu{.properties = kVsmmuProperties, .nodes = {}};
constexpr Vocabulary kDevice{.properties = kDeviceProperties, .nodes = {}};

bool among(std::span<const std::string_view> list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

void print_list(dt::Line& line, std::string_view intro, std::span<const std::string_view> list,
                std::string_view if_empty) {
  if (list.empty()) {
    line << if_empty;
    return;
  }
  for (std::size_t i = 0; i < list.size(); ++i) line << (i == 0 ? intro : ", ") << list[i];
}

// dtc's own: phandles, and with -@ the tables for overlays.
bool by_compiler(const Property& p) { return p.name() == "phandle" || p.name() == "linux,phandle"; }
bool by_compiler(Node n) { return n.name().starts_with("__"); }

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

// Nothing unknown, nothing twice. In lists, names that can be printed and typed.
Checked check_vocabulary(Node node, const Vocabulary& known) {
  for (std::size_t i = 0;; ++i) {
    const Property p = node.property_at(i);
    if (!p) break;
    if (by_compiler(p)) continue;
    if (!among(known.properties, p.name())) {
      dt::Line line = manifest::at(node, p);
      line << "unknown property; expected ";
      print_list(line, "one of ", known.properties, "none here");
      return fail(Code::unknown_property, line);
    }
    for (std::size_t other = 0; other < i; ++other)
      if (node.property_at(other).name() == p.name())
        return wrong(Code::duplicate, node, p, "given twice", "each property once");
  }
  for (Node n = node.first_child(); n; n = n.next_sibling()) {
    if (node.offset() == 0 && by_compiler(n)) continue;
    if (!known.free_names && !among(known.nodes, n.name())) {
      dt::Line line = manifest::at(n);
      line << "unknown node; expected ";
      print_list(line, "", known.nodes, "no node here");
      return fail(Code::unknown_node, line);
    }
    if (known.free_names && !good_name(n.name())) {
      dt::Line line = manifest::at(n);
      line << "not a name; expected 1 to " << kMaxName << " letters, digits, '-' and '_'";
      return fail(Code::bad_name, line);
    }
    for (Node other = node.first_child(); other != n; other = other.next_sibling())
      if (other.name() == n.name()) {
        dt::Line line = manifest::at(n);
        line << "there are two nodes of this name; expected different names";
        return fail(Code::duplicate, line);
      }
  }
  return {};
}

// ---- Values

constexpr std::string_view kString = "a string, as in \"Image\"";
constexpr std::string_view kNumber = "one cell, as in <2>";
constexpr std::string_view kSize = "a number of bytes in two cells, as in <0x0 0x40000000>";
constexpr std::string_view kFile = "the name of a file in the initrd";

Expected<std::string_view> text(Node node, const Property& p) {
  const auto value = p.single_string();
  if (!value) return wrong(Code::bad_type, node, p, "not a string", kString);
  return *value;
}

Expected<std::uint64_t> number(Node node, const Property& p, std::uint64_t least, std::uint64_t most) {
  if (p.bytes() != 4) return wrong(Code::bad_type, node, p, "not one number", kNumber);
  if (p.cell(0) < least || p.cell(0) > most) {
    dt::Line line = manifest::at(node, p);
    line << "out of range; expected " << least << " to " << most;
    return fail(Code::bad_value, line);
  }
  return p.cell(0);
}

Expected<std::uint64_t> size(Node node, const Property& p) {
  if (p.bytes() != 8) return wrong(Code::bad_type, node, p, "not a size", kSize);
  return p.number(0, 2);
}

Expected<bool> flag(Node node, const char* name) {
  const Property p = node.property(name);
  if (p && p.bytes() != 0) return wrong(Code::bad_type, node, p, "not a flag", "no value");
  return static_cast<bool>(p);
}

template <typename T>
struct Choice {
  std::string_view word;
  T value;
};
template <typename T, std::size_t N>
Expected<T> choice(Node node, const char* name, const std::array<Choice<T>, N>& choices, T otherwise) {
  const Property p = node.property(name);
  if (!p) return otherwise;
  const auto word = p.single_string();
  for (const auto& [known, value] : choices)
    if (word == known) return value;
  dt::Line line = manifest::at(node, p);
  line << (word ? "not one of the choices" : "not a string") << "; expected ";
  for (std::size_t i = 0; i < N; ++i)
    line << (i == 0 ? "\"" : i + 1 == N ? " or \"" : ", \"") << choices[i].word << "\"";
  return fail(word ? Code::bad_value : Code::bad_type, line);
}

Expected<FileContent> file(Node node, const Property& p, const FileSource& files) {
  const auto name = text(node, p);
  if (!name) return std::unexpected{name.error()};
  const auto content = files.find(*name);
  if (!content) return wrong(Code::no_such_file, node, p, "no such file", kFile);
  return *content;
}

// ---- VMs

Checked read_cpus(Node node, const Manifest& manifest, VmConfig& vm) {
  const Property cpus = node.property("cpus");
  const Property pinned = node.property("pcpus");
  if (cpus && pinned) return wrong(Code::bad_value, node, pinned, "cpus is given, too", "one of the two");
  if (!cpus && !pinned) return missing(node, "cpus", "a number of CPUs, or pcpus with a list of physical CPUs");
  if (cpus) {
    const auto n = number(node, cpus, 1, kMaxVcpus);
    if (!n) return std::unexpected{n.error()};
    vm.vcpus = static_cast<unsigned>(*n);
    return {};
  }
  if (!pinned.is_cells() || pinned.cells() == 0)
    return wrong(Code::bad_type, node, pinned, "not a list of CPUs", "one cell for each, as in <2 3>");
  for (std::size_t i = 0; i < pinned.cells(); ++i) {
    const std::uint32_t pcpu = pinned.cell(i);
    if (pcpu > 0xffff) return wrong(Code::bad_value, node, pinned, "out of range", "numbers of physical CPUs");
    for (const VmConfig& other : manifest.vms)  // this one is among them
      if (std::find(other.pcpus.begin(), other.pcpus.end(), pcpu) != other.pcpus.end()) {
        dt::Line line = manifest::at(node, pinned);
        line << "CPU " << pcpu << " is given to /vms/" << other.name << " already; expected each CPU once";
        return fail(Code::duplicate, line);
      }
    if (!vm.pcpus.push_back(static_cast<std::uint16_t>(pcpu)))
      return wrong(Code::too_many, node, pinned, "too many CPUs", "at most 64");
  }
  vm.vcpus = static_cast<unsigned>(vm.pcpus.size());
  return {};
}

Checked read_memory(Node node, VmConfig& vm) {
  const Property memory = node.property("memory");
  if (!memory) return missing(node, "memory", kSize);
  const auto bytes = size(node, memory);
  if (!bytes) return std::unexpected{bytes.error()};
  if (*bytes == 0 || *bytes % kMemoryUnit != 0 || *bytes > kMaxVmMemory)
    return wrong(Code::bad_value, node, memory, "out of range or not a multiple of 2 MiB",
                 "2 MiB to 511 GiB in steps of 2 MiB");
  vm.memory = *bytes;
  return {};
}

manifest::Unexpected not_a_kernel(Node node, const Property& kernel, FileContent content) {
  dt::Line problem;
  const std::string_view kind = kind_of(content);
  if (content.empty())
    problem << "an empty file";
  else
    problem << kind << (kind.empty() ? "" : ", ") << "not an arm64 kernel";
  return wrong(Code::bad_kernel, node, kernel, problem.view(),
               is_compressed(content) ? "the uncompressed file, with an Image header"
                                      : "a file with an Image header, or entry-offset");
}

Checked read_payload(Node node, const FileSource& files, VmConfig& vm) {
  const Property kernel = node.property("kernel");
  const Property initrd = node.property("initrd");
  const Property entry = node.property("entry-offset");
  if (!kernel) return missing(node, "kernel", kFile);
  const auto content = file(node, kernel, files);
  if (!content) return std::unexpected{content.error()};
  vm.kernel = kernel.string(0);

  const auto image = KernelImage::parse(*content);
  std::uint64_t needed = content->size();
  if (entry) {
    const auto offset = size(node, entry);
    if (!offset) return std::unexpected{offset.error()};
    if (*offset % 4 != 0 || *offset > kMaxVmMemory)
      return wrong(Code::bad_value, node, entry, "not where an instruction can be",
                   "a multiple of 4 within the memory");
    needed += *offset;
    vm.entry_offset = *offset;
  } else {
    if (!image) return not_a_kernel(node, kernel, *content);
    needed = image->text_offset > kMaxVmMemory || image->bytes > kMaxVmMemory ? kMaxVmMemory
                                                                              : image->text_offset + image->bytes;
  }
  needed += kTreeBytes + kInitrdAlignment;

  if (initrd) {
    const auto archive = file(node, initrd, files);
    if (!archive) return std::unexpected{archive.error()};
    if (archive->empty())
      return wrong(Code::bad_value, node, initrd, "an empty file", "an initrd, or none: no such property");
    vm.initrd = initrd.string(0);
    needed += archive->size();
  }
  if (needed > vm.memory) {
    dt::Line line = manifest::at(node, node.property("memory"));
    // In the steps that are allowed, so that what is named here is accepted.
    line << "too small for kernel, initrd and devicetree; expected at least "
         << (needed + (kMemoryUnit - 1)) / kMemoryUnit * (kMemoryUnit / 0x10'0000) << " MiB";
    return fail(Code::no_fit, line);
  }

  const Property bootargs = node.property("bootargs");
  if (bootargs) {
    const auto line = text(node, bootargs);
    if (!line) return std::unexpected{line.error()};
    vm.bootargs = *line;
  }
  return {};
}

Checked read_invalidation(Node node, VsmmuConfig& vsmmu) {
  static constexpr std::array<Choice<Invalidation>, 2> kChoices{
      {{"strict", Invalidation::strict}, {"precise", Invalidation::precise}}};
  const auto invalidation = choice(node, "invalidation", kChoices, Invalidation::strict);
  if (!invalidation) return std::unexpected{invalidation.error()};
  const auto no_global_pages = flag(node, "no-global-pages");
  if (!no_global_pages) return std::unexpected{no_global_pages.error()};
  const auto late_events = flag(node, "late-events");
  if (!late_events) return std::unexpected{late_events.error()};
  if (*no_global_pages && *invalidation != Invalidation::precise)
    return wrong(Code::missing, node, node.property("no-global-pages"), "nothing is filtered in strict mode",
                 "invalidation = \"precise\" with it");
  vsmmu.invalidation = *invalidation;
  vsmmu.no_global_pages = *no_global_pages;
  vsmmu.late_events = *late_events;
  return {};
}

Checked read_vsmmu(Node node, VsmmuConfig& vsmmu) {
  vsmmu.name = node.name();
  vsmmu.node = node.offset();
  if (const auto ok = check_vocabulary(node, kVsmmu); !ok) return ok;

  const Property backing = node.property("backing");
  if (!backing) return missing(node, "backing", "names of physical SMMUs, as in \"smmuv3@c000000\"");
  const std::size_t count = backing.strings();
  if (count == 0)
    return wrong(Code::bad_type, node, backing, "not a list of strings",
                 "names of physical SMMUs, as in \"smmuv3@c000000\"");
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view name = backing.string(i);
    if (among({vsmmu.backing.data(), vsmmu.backing.size()}, name)) {
      dt::Line line = manifest::at(node, backing);
      line << "\"" << name << "\" is given twice; expected each SMMU once";
      return fail(Code::duplicate, line);
    }
    if (!vsmmu.backing.push_back(name)) return wrong(Code::too_many, node, backing, "too many SMMUs", "at most 16");
  }

  for (const NarrowingFlag& f : kFlags) {
    const auto set = flag(node, f.name);
    if (!set) return std::unexpected{set.error()};
    vsmmu.narrowing.*f.to = *set;
  }
  for (const NarrowingNumber& n : kNumbers) {
    const Property p = node.property(n.name);
    if (!p) continue;
    const auto value = number(node, p, n.only.empty() ? n.least : 0, n.only.empty() ? vsmmu.narrowing.*n.to : ~0U);
    if (!value) return std::unexpected{value.error()};
    if (!n.only.empty() && std::ranges::find(n.only, *value) == n.only.end())
      return wrong(Code::bad_value, node, p, n.problem, n.expected);
    vsmmu.narrowing.*n.to = static_cast<std::uint8_t>(*value);
  }
  return read_invalidation(node, vsmmu);
}

// By phandle or by name: <&vsmmu0> or "vsmmu0".
Expected<unsigned> find_vsmmu(Node node, const VmConfig& vm) {
  const Property p = node.property("vsmmu");
  if (!p) return missing(node, "vsmmu", "a vSMMU of this VM, as in <&vsmmu0> or \"vsmmu0\"");
  const auto name = p.single_string();
  const bool by_name = name && !name->empty();
  if (!by_name && p.bytes() != 4)
    return wrong(Code::bad_type, node, p, "neither a name nor a phandle", "<&vsmmu0> or \"vsmmu0\"");
  const Node target = by_name ? Node{} : node.by_phandle(p.cell(0));
  for (unsigned i = 0; i < vm.vsmmus.size(); ++i)
    if (by_name ? vm.vsmmus[i].name == *name : vm.vsmmus[i].node == target.offset()) return i;

  dt::Line line = manifest::at(node, p);
  line << "no such vSMMU in this VM; expected ";
  for (std::size_t i = 0; i < vm.vsmmus.size(); ++i) line << (i == 0 ? "one of " : ", ") << vm.vsmmus[i].name;
  if (vm.vsmmus.empty()) line << "a node in /vms/" << vm.name << "/vsmmus";
  return fail(Code::no_such_vsmmu, line);
}

Checked read_device(Node node, const Manifest& manifest, const VmConfig& vm, DeviceConfig& device) {
  device.name = node.name();
  device.node = node.offset();
  if (const auto ok = check_vocabulary(node, kDevice); !ok) return ok;

  const Property pci = node.property("pci");
  if (!pci) return missing(node, "pci", "a topology path, as in \"08:01.0/00.0\"");
  const auto written = text(node, pci);
  if (!written) return std::unexpected{written.error()};
  const auto path = TopologyPath::parse(*written);
  if (!path)
    return wrong(Code::bad_value, node, pci, "not a topology path",
                 "hexadecimal BUS:DEVICE.FUNCTION/DEVICE.FUNCTION..., as in \"08:01.0/00.0\"");
  for (const VmConfig& other_vm : manifest.vms)
    for (const DeviceConfig& other : other_vm.devices)
      if (&other != &device && other.pci == *path) {
        dt::Line line = manifest::at(node, pci);
        line << "given to /vms/" << other_vm.name << "/devices/" << other.name << " already; expected each device once";
        return fail(Code::device_given_twice, line);
      }
  device.pci = *path;

  const auto vsmmu = find_vsmmu(node, vm);
  if (!vsmmu) return std::unexpected{vsmmu.error()};
  device.vsmmu = *vsmmu;

  if (const Property slot = node.property("slot")) {
    const auto value = number(node, slot, 1, kMaxVmDevices);
    if (!value) return std::unexpected{value.error()};
    for (const DeviceConfig& other : vm.devices)
      if (other.slot == *value) {
        dt::Line line = manifest::at(node, slot);
        line << "the slot of " << other.name << "; expected different slots";
        return fail(Code::duplicate, line);
      }
    device.slot = static_cast<std::uint8_t>(*value);
  }

  static constexpr std::array<Choice<ViolationPolicy>, 3> kPolicies{
      {{"log", ViolationPolicy::log}, {"quarantine", ViolationPolicy::quarantine}, {"stop", ViolationPolicy::stop}}};
  const auto policy = choice(node, "on-violation", kPolicies, ViolationPolicy::log);
  if (!policy) return std::unexpected{policy.error()};
  device.on_violation = *policy;

  static constexpr std::array<Choice<AtsChoice>, 2> kAts{
      {{"split-stage", AtsChoice::split_stage}, {"full", AtsChoice::full}}};
  const auto ats = choice(node, "ats", kAts, AtsChoice::none);
  if (!ats) return std::unexpected{ats.error()};
  const auto pri = flag(node, "pri");
  if (!pri) return std::unexpected{pri.error()};
  const auto pasid = flag(node, "pasid");
  if (!pasid) return std::unexpected{pasid.error()};
  // IHI 0070, 3.9: a page request asks for what an ATS request was refused.
  if (*pri && *ats == AtsChoice::none)
    return wrong(Code::missing, node, node.property("pri"), "page requests are part of ATS",
                 "ats = \"split-stage\" or \"full\" with it");
  if (*pasid && vm.vsmmus[device.vsmmu].narrowing.substream_bits == 0) {
    dt::Line line = manifest::at(node, node.property("pasid"));
    line << "substream-bits of " << vm.vsmmus[device.vsmmu].name << " is 0; expected 1 to 20, or no pasid";
    return fail(Code::bad_value, line);
  }
  const auto not_coherent = flag(node, "accept-non-coherent");
  if (!not_coherent) return std::unexpected{not_coherent.error()};
  device.not_coherent = *not_coherent;
  device.ats = *ats;
  device.pri = *pri;
  device.pasid = *pasid;
  return {};
}

// Which VMs may be offered this one's memory. When all VMs are known.
Checked read_share_with(Node node, const Manifest& manifest, VmConfig& vm) {
  const Property list = node.property("share-with");
  if (!list) return {};
  if (!vm.memory_calls) return wrong(Code::missing, node, list, "memory is offered by calls", "memory-calls with it");
  constexpr std::string_view kNames = "names of other VMs, as in \"vm1\"";
  if (list.strings() == 0) return wrong(Code::bad_type, node, list, "not a list of strings", kNames);
  for (std::size_t i = 0; i < list.strings(); ++i) {
    const std::string_view name = list.string(i);
    const auto said = [&](Code code, std::string_view problem, std::string_view expected) {
      dt::Line line = manifest::at(node, list);
      line << "\"" << name << "\" " << problem << "; expected " << expected;
      return fail(code, line);
    };
    const auto other = std::ranges::find(manifest.vms, name, &VmConfig::name);
    if (other == manifest.vms.end()) return said(Code::no_such_vm, "is no VM of this manifest", kNames);
    if (&*other == &vm) return said(Code::bad_value, "is this VM itself", kNames);
    if (!other->memory_calls)
      return said(Code::bad_value, "lacks memory-calls and could not accept", "names of VMs with memory-calls");
    const auto bit = static_cast<std::uint8_t>(1U << (other - manifest.vms.begin()));
    if ((vm.share_with & bit) != 0) return said(Code::duplicate, "is given twice", "each VM once");
    vm.share_with |= bit;
  }
  return {};
}

// Devices without a slot get the lowest ones free, in the order of the manifest.
void give_slots(VmConfig& vm) {
  std::uint64_t taken = 1;  // slot 0 is the host bridge's
  for (const DeviceConfig& device : vm.devices) taken |= std::uint64_t{1} << device.slot;
  for (DeviceConfig& device : vm.devices) {
    if (device.slot != 0) continue;
    while ((taken >> device.slot & 1) != 0) ++device.slot;
    taken |= std::uint64_t{1} << device.slot;
  }
}

manifest::Unexpected too_many(Node list, std::string_view what, std::size_t most) {
  dt::Line line = manifest::at(list);
  line << "too many " << what << "; expected at most " << most;
  return fail(Code::too_many, line);
}

Checked read_raw_console(Node node, const Manifest& manifest, VmConfig& vm) {
  const auto raw = flag(node, "raw-console");
  if (!raw) return std::unexpected{raw.error()};
  if (*raw && std::ranges::find(manifest.vms, true, &VmConfig::raw_console) != manifest.vms.end())
    return wrong(Code::duplicate, node, node.property("raw-console"), "another VM has it", "it in one VM at most");
  vm.raw_console = *raw;
  return {};
}

Checked read_vm(Node node, const FileSource& files, Manifest& manifest, VmConfig& vm) {
  vm.name = node.name();
  vm.node = node.offset();
  Checked ok = check_vocabulary(node, kVm);
  if (ok) ok = read_cpus(node, manifest, vm);
  if (ok) ok = read_memory(node, vm);
  if (ok) ok = read_payload(node, files, vm);
  if (!ok) return ok;
  const auto memory_calls = flag(node, "memory-calls");
  if (!memory_calls) return std::unexpected{memory_calls.error()};
  vm.memory_calls = *memory_calls;
  ok = read_raw_console(node, manifest, vm);
  if (!ok) return ok;

  if (const Node list = node.child("vsmmus")) {
    ok = check_vocabulary(list, kList);
    for (Node n = list.first_child(); ok && n; n = n.next_sibling()) {
      VsmmuConfig* vsmmu = vm.vsmmus.add();
      if (vsmmu == nullptr) return too_many(list, "vSMMUs", kMaxVsmmus);
      ok = read_vsmmu(n, *vsmmu);
    }
    if (!ok) return ok;
  }
  if (const Node list = node.child("devices")) {
    ok = check_vocabulary(list, kList);
    for (Node n = list.first_child(); ok && n; n = n.next_sibling()) {
      DeviceConfig* device = vm.devices.add();
      if (device == nullptr) return too_many(list, "devices", kMaxVmDevices);
      ok = read_device(n, manifest, vm, *device);
    }
    if (!ok) return ok;
    give_slots(vm);
  }
  return {};
}

Checked read_accepted_smmus(Node root, Manifest& manifest) {
  manifest.accepted_smmus.clear();
  const Property list = root.property("accept-smmus");
  if (!list) return {};
  constexpr std::string_view kExpected = "compatibles, as in \"vendor,soc-smmu\"";
  if (list.strings() == 0) return wrong(Code::bad_type, root, list, "not a list of strings", kExpected);
  for (std::size_t i = 0; i < list.strings(); ++i) {
    if (list.string(i).empty()) return wrong(Code::bad_value, root, list, "an empty name", kExpected);
    if (!manifest.accepted_smmus.push_back(list.string(i)))
      return wrong(Code::too_many, root, list, "too many names", "at most 8");
  }
  return {};
}

manifest::Unexpected bad_file(Code code, std::string_view problem) {
  dt::Line line;
  line << kManifestFile << ": " << problem;
  return fail(code, line);
}

}  // namespace

std::expected<void, ManifestError> parse(std::span<const std::byte> blob, const FileSource& files, Manifest& manifest) {
  manifest.exit = ExitMethod::psci;
  manifest.vms.clear();
  if (blob.size() > manifest.blob.size()) return bad_file(Code::bad_blob, "too large; expected at most 64 KiB");
  if (const std::string_view kind = kind_of(blob); is_compressed(blob)) {
    dt::Line problem;
    problem << kind << "; expected a blob made by dtc, not compressed";
    return bad_file(Code::bad_blob, problem.view());
  }
  std::copy(blob.begin(), blob.end(), manifest.blob.begin());
  const auto [root, error] = dt::open(manifest.blob.data(), blob.size());
  if (!root) {
    dt::Line line;
    line << kManifestFile << ": " << error << "; expected a blob made by dtc";
    return fail(Code::bad_blob, line);
  }

  for (Node n = root.first_child(); n; n = n.next_sibling())
    if (n.child("__overlay__"))
      return bad_file(Code::not_a_manifest, "an overlay; expected a devicetree of its own, without /plugin/");
  constexpr std::string_view kCompatible = "weir,manifest-v1";
  const Property compatible = root.property("compatible");
  if (!compatible) return missing(root, "compatible", "\"weir,manifest-v1\"");
  if (compatible.single_string() != kCompatible)
    return wrong(Code::not_a_manifest, root, compatible, "not a manifest that this Weir can read",
                 "\"weir,manifest-v1\"");
  if (const auto ok = check_vocabulary(root, kRoot); !ok) return ok;
  static constexpr std::array<Choice<ExitMethod>, 2> kExits{
      {{"semihosting", ExitMethod::semihosting}, {"psci", ExitMethod::psci}}};
  const auto exit = choice(root, "exit", kExits, ExitMethod::psci);
  if (!exit) return std::unexpected{exit.error()};
  manifest.exit = *exit;
  if (const auto accepted = read_accepted_smmus(root, manifest); !accepted) return accepted;

  const Node vms = root.child("vms");
  if (!vms) return missing(root, "vms", "a node for each VM in it");
  if (!vms.first_child()) return missing(vms, "VM", "at least one node");
  Checked ok = check_vocabulary(vms, kList);
  for (Node n = vms.first_child(); ok && n; n = n.next_sibling()) {
    VmConfig* vm = manifest.vms.add();
    if (vm == nullptr) return too_many(vms, "VMs", kMaxVms);
    ok = read_vm(n, files, manifest, *vm);
  }
  for (VmConfig& vm : manifest.vms)
    if (ok) ok = read_share_with(Node{manifest.blob.data(), vm.node}, manifest, vm);
  return ok;
}

std::expected<void, ManifestError> load(const FileSource& files, Manifest& manifest) {
  const auto blob = files.find(kManifestFile);
  if (!blob) return bad_file(Code::no_manifest, "no such file in the initrd; expected the compiled manifest");
  return parse(*blob, files, manifest);
}

}  // namespace weir
