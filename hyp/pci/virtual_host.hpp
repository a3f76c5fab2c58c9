// The PCI host that a VM sees: one root bus with the VM's functions on it, as integrated endpoints, and nothing else.
//
// Configuration accesses trap and are filtered: a guest reaches the fields listed in config.hpp as settable, its own
// virtual BARs, and the capabilities named in virtual_host.cpp. Expansion ROMs, MSI, function-level reset, power
// states and the extended capabilities (SR-IOV among them) are not offered; ATS, PRI and PASID are to a function that
// is granted them.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "hyp/pci/topology.hpp"
#include "hyp/vm/mmio_device.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir::pci {

inline constexpr unsigned kMaxSlots = 32;

// The VM's CPU view, in which BARs appear.
class BarPort {
 public:
  // Maps device registers, whole pages; false if the range is not free or memory is short (nothing is mapped then).
  [[nodiscard]] virtual bool map_bar(IPA at, PA registers, std::uint64_t bytes) = 0;
  virtual void unmap_bar(IPA at, std::uint64_t bytes) = 0;
  // Can map_bar() reach these registers at all?
  [[nodiscard]] virtual bool reaches(PA registers, std::uint64_t bytes) const = 0;

 protected:
  ~BarPort() = default;
};

struct IpaWindow {
  IPA base;
  std::uint64_t bytes = 0;
  [[nodiscard]] constexpr bool contains(IPA at, std::uint64_t size) const {
    return at >= base && size <= bytes && at - base <= bytes - size;
  }
};

// The extended capabilities that a guest gets to see.
struct CapabilityGrant {
  bool ats = false;
  bool pri = false;
  unsigned pasid_bits = 0;          // the widest PASID; 0: no PASID capability
  std::uint32_t page_requests = 0;  // with pri: the most that may be outstanding; what the guest sees as its capacity
};

// One of the VM's functions: device `slot`, function 0 on the virtual root bus.
struct VirtualFunction {
  const Function* physical = nullptr;
  ConfigPort* config = nullptr;
  bool intx = false;                        // Interrupt Pin reads 1 (INTA), else 0
  std::array<std::uint32_t, kBars> bars{};  // as the guest wrote them
  std::array<IPA, kBars> mapped_at{};       // where a BAR is in the CPU's view; meaningful if mapped
  std::array<bool, kBars> mapped{};
  pci::Command command{};               // what the guest set
  std::uint8_t interrupt_line = 0;      // scratch, no effect
  std::uint16_t vendor_capability = 0;  // offsets; 0: none
  std::uint16_t vendor_length = 0;
  std::uint16_t express_capability = 0;
  std::uint16_t ats = 0;  // offsets of the granted ones that the function has; 0: none
  std::uint16_t pri = 0;
  std::uint16_t pasid = 0;
  unsigned pasid_bits = 0;
  std::uint32_t page_requests = 0;
  bool fenced = false;  // no DMA and no ATS, whatever the guest sets
};

// Why a function cannot be shown to the guest.
struct AddError {
  enum class What : std::uint8_t {
    slot_taken,
    no_room,     // the guest's window for this BAR is full
    unreachable  // stage 2 cannot map the physical BAR: its address is too high
  };
  What what{};
  unsigned bar = 0;
};

class VirtualHost final : public MmioDevice {
 public:
  // BARs live in these windows of the guest. The addresses of memory on its bus are IPAs; those of I/O count from the
  // beginning of `io`, at most 64 KiB.
  VirtualHost(BarPort& bars, IpaWindow memory32, IpaWindow memory64, IpaWindow io = {})
      : bars_{bars}, memory32_{memory32}, memory64_{memory64}, io_{io} {}

  // Puts `function` (which outlives the host, as does `config`, through which it is reached) at `slot`, 1 to 31, with
  // BARs assigned as firmware would, decoding off.
  [[nodiscard]] std::expected<void, AddError> add(ConfigPort& config, const Function& function, unsigned slot,
                                                  bool intx, const CapabilityGrant& grant = {});

  // The function at `slot` does no DMA any more and uses no ATS, for good. Its registers stay the guest's.
  void fence(unsigned slot);

  // Takes every function back, into its known state. For a VM that has stopped.
  void release();

  // Null if the slot is empty.
  [[nodiscard]] const VirtualFunction* at(unsigned slot) const;

  [[nodiscard]] std::string_view name() const override { return "pci"; }
  MmioResult read(Vcpu& vcpu, MmioAccess access, std::uint64_t& value) override;
  MmioResult write(Vcpu& vcpu, MmioAccess access, std::uint64_t value) override;

 private:
  [[nodiscard]] VirtualFunction* decode(std::uint64_t offset, std::uint16_t& reg);
  [[nodiscard]] std::uint32_t read_word(VirtualFunction& f, std::uint16_t at);
  // `bytes` masks the bytes of the doubleword at `at` that are written.
  void write_word(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes);
  void write_command(VirtualFunction& f, std::uint32_t value, std::uint32_t bytes);
  void write_bar(VirtualFunction& f, unsigned i, std::uint32_t value);
  void write_express(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes);
  [[nodiscard]] std::uint32_t read_extended(VirtualFunction& f, std::uint16_t at);
  void write_extended(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes);
  [[nodiscard]] std::expected<void, AddError> assign(VirtualFunction& f);
  [[nodiscard]] IPA bar_base(const VirtualFunction& f, unsigned i) const;
  [[nodiscard]] bool routed(const BarInfo& bar, IPA at) const;
  void update_mappings(VirtualFunction& f, pci::Command command);

  BarPort& bars_;
  IpaWindow memory32_;
  IpaWindow memory64_;
  IpaWindow io_;
  std::uint64_t next32_ = 0;  // bytes of the windows given out at add()
  std::uint64_t next64_ = 0;
  std::uint64_t next_io_ = kPage4K;  // 0 in a BAR is no address
  SpinLock lock_;
  std::array<VirtualFunction, kMaxSlots> slots_{};
};

}  // namespace weir::pci
