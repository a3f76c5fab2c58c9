// Many devices behind many SMMUs, driven by several CPUs at once. What the files of this payload share.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "stage2/support/spinlock.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"

namespace weir::guest {

inline constexpr unsigned kMostCpus = 4;
inline constexpr unsigned kMostUnits = 4;  // vSMMUs
inline constexpr unsigned kMostDevices = 31;
inline constexpr unsigned kSpaces = 3;  // shared ones, of each vSMMU
inline constexpr unsigned kSlots = 6;   // pages of each CPU in each space
inline constexpr std::uint64_t kPage = 0x1000;

struct Device {
  SpinLock lock;  // whoever lets it do DMA, or changes where its stream points
  TestDevice dma;
  unsigned slot = 0;
  unsigned unit = 0;  // index
  std::uint32_t sid = 0;
  unsigned space = 0;                  // which of its unit's it uses
  std::array<std::uint64_t, 2> cds{};  // context descriptors of its own; one is in use
  unsigned cd = 0;                     // which
  std::atomic<unsigned> faults{0};     // made by DMA,
  std::atomic<unsigned> events{0};     // and told in the event queue
};

// What a CPU maps in a space: nobody else touches these addresses.
struct Mapping {
  std::array<std::uint64_t, 2> pages{};  // the two that it changes between
  unsigned at = 0;                       // which one is mapped
  bool mapped = false;
};

// Two address spaces with one ASID, of which one at a time is in use, by one CPU.
struct Recycled {
  std::array<AddressSpace, 2> spaces{};
  std::array<std::uint64_t, 2> pages{};
  unsigned next = 0;
};

// A vSMMU.
struct Unit {
  SpinLock commands;
  SpinLock events;
  Smmu smmu;
  smmu::AddressSize output{};
  bool ranges = false;
  unsigned intid = 0;
  std::array<AddressSpace, kSpaces> spaces{};
  std::array<std::array<std::array<Mapping, kSlots>, kSpaces>, kMostCpus> mappings{};  // [cpu][space][slot]
  std::array<Recycled, kMostCpus> recycled{};
  std::array<Device*, kMostDevices> devices{};
  unsigned device_count = 0;
};

struct Fleet {
  std::array<Unit, kMostUnits> units{};
  unsigned unit_count = 0;
  std::array<Device, kMostDevices> devices{};
  unsigned device_count = 0;
  unsigned cpus = 1;
  bool late_events = false;       // a SYNC does not promise events of SMMUs that its commands did not go to
  std::uint64_t to_physical = 0;  // physical address of the VM's RAM minus its IPA
};
Fleet& fleet();

// Commands and a SYNC, in one go; returns when the SYNC is complete, false if that does not happen. From any CPU.
class Batch {
 public:
  explicit Batch(Unit& unit) : unit_{unit} {}
  void add(const smmu::Command& c) { commands_[count_++] = c; }
  bool run();
  bool run_with_interrupt();  // boot CPU only: and the SYNC's interrupt has come

 private:
  bool run(const smmu::Command& sync);
  Unit& unit_;
  std::array<smmu::Command, 16> commands_{};
  unsigned count_ = 0;
};

// Takes all events of a unit; each is a translation fault of one of its devices, or a failure.
void take_events(Unit& unit);

// The device uses the table from now on: by a new CD, or by its own CD in place; with CFGI and SYNC. Its lock is held.
void point(Device& device, const AddressSpace& space, bool in_place);

// Where a CPU's pages are in every space; the region has a last-level table of its own.
constexpr std::uint64_t iova_of(unsigned cpu, unsigned slot) {
  return 0x12'0000'0000 + cpu * std::uint64_t{0x20'0000} + slot * kPage;
}

// One CPU's share of the work: `rounds` changes of mappings, checked.
void work(unsigned cpu, unsigned rounds);
// Fills the command queues of the units cpu, cpu + cpus, ... as fast as it goes until the operator types `q`.
void flood(unsigned cpu);
void flood_with_faults();
// How long a TLBI and its SYNC take, `rounds` times: the longest in ns, and how often longer than kLateNs.
inline constexpr std::uint64_t kLateNs = 20'000;
struct Delays {
  std::uint64_t longest = 0;
  unsigned late = 0;
};
Delays measure_syncs(unsigned rounds);

struct Totals {
  std::atomic<unsigned> changes{0}, dma{0}, stale{0}, repointed{0}, recycled{0}, interrupts{0};
  std::atomic<std::uint64_t> flooded{0};
};
Totals& totals();

}  // namespace weir::guest
