// The boot manifest: which VMs there are and what each of them gets. A devicetree blob in the initrd; docs/manifest.md
// describes it. Portable: the host checker and EL2 run this code, and refuse the same things with the same words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

#include "hyp/manifest/files.hpp"
#include "hyp/manifest/topology_path.hpp"
#include "hyp/platform/line.hpp"
#include "hyp/platform/static_vector.hpp"

namespace weir {

inline constexpr std::string_view kManifestFile = "manifest.dtb";
inline constexpr std::size_t kMaxManifestBytes = 0x10000;
inline constexpr std::size_t kMaxVms = 8;
inline constexpr std::size_t kMaxVcpus = 64;                                 // of one VM
inline constexpr std::size_t kMaxVsmmus = 8;                                 // of one VM
inline constexpr std::size_t kMaxVmDevices = 31;                             // slots 1..31 of the virtual root bus
inline constexpr std::uint64_t kMemoryUnit = 0x200000;                       // a VM's memory is a multiple of 2 MiB
inline constexpr std::uint64_t kMaxVmMemory = 0x80'0000'0000 - 0x4000'0000;  // up to the 64-bit PCI window

// What a VM sees is the intersection of what its SMMUs can do, narrowed by these. None of them adds anything: the default
// of a number is the largest that is offered at all.
struct VsmmuNarrowing {
  bool no_range_invalidation{};
  bool linear_stream_table{};
  bool no_stall{};
  bool no_msi{};
  bool no_sev{};
  bool no_httu{};
  std::uint8_t asid_bits{16};           // 8 or 16
  std::uint8_t substream_bits{20};      // 0: no substreams
  std::uint8_t oas_bits{52};            // as the architecture encodes them
  std::uint8_t command_queue_log2{14};  // entries; as the next two
  std::uint8_t event_queue_log2{12};
  std::uint8_t pri_queue_log2{12};
};

// Where a guest's TLB invalidations go.
enum class Invalidation : std::uint8_t {
  strict,  // to every instance that may hold anything of the vSMMU
  precise  // to those that may hold entries of the ASID
};

struct VsmmuConfig {
  std::string_view name;
  int node{};                                  // offset in Manifest::blob, for messages
  StaticVector<std::string_view, 16> backing;  // node names of physical SMMUs
  VsmmuNarrowing narrowing;
  Invalidation invalidation{};
  bool no_global_pages{};  // promised: the guest has no global stage-1 pages; only with `precise`
  bool late_events{};      // accepted: a SYNC waits for events only of instances that its commands went to
};

// What happens when a device touches memory that its VM does not own.
enum class ViolationPolicy : std::uint8_t { log, quarantine, stop };

// How far a device may use Address Translation Services.
enum class AtsChoice : std::uint8_t {
  none,
  split_stage,  // it is given IPAs: what it sends as translated still passes stage 2
  full          // it is given host addresses, and what it sends as translated is believed
};

struct DeviceConfig {
  std::string_view name;
  int node{};  // offset in Manifest::blob, for messages
  TopologyPath pci;
  unsigned vsmmu{};     // index into VmConfig::vsmmus
  std::uint8_t slot{};  // device number on the VM's virtual bus 0, 1..31
  ViolationPolicy on_violation{};
  AtsChoice ats{};
  bool pri{};           // its page requests reach the guest; only with ats
  bool pasid{};         // it may tag its transactions with SubstreamIDs
  bool not_coherent{};  // accepted: its DMA does not snoop the CPUs' caches
};

struct VmConfig {
  std::string_view name;
  int node{};                                 // offset in Manifest::blob, for messages
  std::string_view kernel;                    // file in the initrd
  std::string_view initrd;                    // empty: none
  std::string_view bootargs;                  // may be empty
  std::uint64_t memory{};                     // bytes
  std::optional<std::uint64_t> entry_offset;  // a raw payload is put and entered here; none: an arm64 Image
  bool memory_calls{};                        // may give memory back, ask for it again, and be offered another VM's
  bool raw_console{};                         // it has the terminal for itself at first (hyp/console/mux.hpp)
  std::uint8_t share_with{};                  // bit n: may offer its memory to VM n of the manifest
  unsigned vcpus{};
  StaticVector<std::uint16_t, kMaxVcpus> pcpus;  // pCPU of each vCPU; empty until assign_pcpus() unless pinned
  StaticVector<VsmmuConfig, kMaxVsmmus> vsmmus;
  StaticVector<DeviceConfig, kMaxVmDevices> devices;

  [[nodiscard]] bool may_share_with(std::size_t vm) const { return vm < kMaxVms && (share_with >> vm & 1) != 0; }
};
static_assert(kMaxVms <= 8 * sizeof(VmConfig::share_with));

enum class ExitMethod : std::uint8_t { psci, semihosting };

// About 120 KB, most of it the copy of the blob that all names are views into: not for a stack, and not copyable.
struct Manifest {
  Manifest() = default;
  Manifest(const Manifest&) = delete;
  Manifest& operator=(const Manifest&) = delete;

  ExitMethod exit{};
  StaticVector<std::string_view, 8> accepted_smmus;  // compatibles of SMMUs that Weir does not know
  StaticVector<VmConfig, kMaxVms> vms;
  alignas(8) std::array<std::byte, kMaxManifestBytes> blob{};
};

enum class ManifestErrorCode : std::uint8_t {
  no_manifest,     // the initrd holds no manifest.dtb
  bad_blob,        // not a devicetree blob, or a damaged one
  not_a_manifest,  // root node's compatible
  unknown_node,
  unknown_property,
  missing,    // a property or node that must be there
  bad_type,   // a property's value has the wrong form
  bad_value,  // the right form, but not one of the values or not in the range that is allowed
  bad_name,   // a node's name
  duplicate,  // a name, slot, pCPU or backing given twice
  too_many,
  no_such_file,
  bad_kernel,  // the file is no arm64 Image, and there is no entry-offset
  no_fit,      // kernel and initrd do not fit into the VM's memory
  no_such_vsmmu,
  no_such_vm,
  device_given_twice,
  // against the platform
  too_much_memory,
  too_many_cpus,
  no_such_cpu,
  no_such_smmu,
  no_such_device,
  not_a_function,  // the device is a bridge
  wrong_smmu,      // the device's SMMU does not back its vSMMU
  not_coherent,    // the device's DMA does not snoop, and the manifest does not accept that; or the VM has both kinds
  shared_line,     // two VMs' devices on one INTx line
  unusable,        // the device is one that no VM can have
  shared_id,       // two VMs' devices, one Requester ID
};

// One line: manifest path, property and offending value, what is wrong, what was expected.
class ManifestError {
 public:
  ManifestError(ManifestErrorCode code, const dt::Line& line) : code_{code}, line_{line} {}
  [[nodiscard]] ManifestErrorCode code() const { return code_; }
  [[nodiscard]] const char* c_str() const { return line_.c_str(); }
  [[nodiscard]] std::string_view line() const { return line_.view(); }

 private:
  ManifestErrorCode code_;
  dt::Line line_;
};

// Stage one: what can be said from the blob and the files alone. The blob is copied into `manifest`. On error
// `manifest` is unspecified.
[[nodiscard]] std::expected<void, ManifestError> parse(std::span<const std::byte> blob, const FileSource& files,
                                                       Manifest& manifest);
// The same for the file "manifest.dtb" of `files`.
[[nodiscard]] std::expected<void, ManifestError> load(const FileSource& files, Manifest& manifest);

// One PCI function that enumeration found.
struct PciFunctionFact {
  TopologyPath path;
  bool bridge{};
  std::string_view smmu;              // name of the SMMU that translates for it; empty: none does
  bool coherent = true;               // its host's dma-coherent
  std::optional<std::uint32_t> line;  // INTID of its INTx line, if it has an Interrupt Pin that is routed
  std::string_view problem{};         // why no VM can have it, as in "this is ..."; empty: one can
  unsigned group{};                   // functions of one number may do DMA under one Requester ID
  TopologyPath requester{};           // the bridge whose ID that is; depth 0: no bridge's
};

// What stage two compares with.
struct PlatformFacts {
  // Bytes that VMs may get, with what each of them needs besides its RAM; in whole, aligned 2 MiB.
  std::uint64_t memory{};
  unsigned pcpus{};                         // at most 64
  std::uint64_t offline{};                  // bit n: pCPU n did not start
  std::span<const std::string_view> smmus;  // node names
  // What only enumeration tells. Without it (on the host), neither devices nor lines are checked.
  bool enumerated{};
  std::span<const PciFunctionFact> functions;
};

// Stage two: is what the manifest asks for there?
[[nodiscard]] std::expected<void, ManifestError> check_against(const PlatformFacts& facts, const Manifest& manifest);

// Gives each vCPU that is not pinned by the manifest a pCPU of its own: the lowest ones free. After check_against() with
// the same numbers.
void assign_pcpus(unsigned pcpus, std::uint64_t offline, Manifest& manifest);

}  // namespace weir
