// A machine of modelled SMMUs for many threads: the real driver on each, memory that is used again at once, and VMs whose guests
// and devices do what they like. All of the models, and what guests do, is hidden from ThreadSanitizer; what is left
// is Weir's own.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hyp/smmu/instance.hpp"
#include "hyp/vm/guest_memory.hpp"
#include "stage2/domain.hpp"
#include "stage2/vm_memory.hpp"
#include "tests/model/smmu.hpp"
#include "tests/race/threads.hpp"
#include "tests/race/unseen.hpp"
#include "tests/unit/model/tables.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::race {

// Everything that is hardware or the tests' own: one lock, which orders nothing for ThreadSanitizer.
struct Bench {
  std::mutex mutex;
  model::PhysicalMemory memory;
  std::string wrong;  // the first thing that was
  void fail(std::string what) {
    if (wrong.empty()) wrong = std::move(what);
  }
};

class Hardware : public SmmuHardware {
 public:
  Hardware(Bench& bench, const model::Parameters& parameters) : bench_{bench}, model_{bench.memory, parameters} {}
  virtual ~Hardware() = default;
  std::uint32_t read(smmu::Reg reg) override {
    const UnseenLock lock{bench_.mutex};
    return model_.read(reg);
  }
  void write(smmu::Reg reg, std::uint32_t value) override {
    const UnseenLock lock{bench_.mutex};
    model_.write(reg, value);
  }
  void write64(smmu::Reg reg, std::uint64_t value) override {
    const UnseenLock lock{bench_.mutex};
    model_.write64(reg, value);
  }
  std::optional<PA> allocate(std::size_t bytes) override {
    const UnseenLock lock{bench_.mutex};
    return model_.allocate(bytes);
  }
  [[nodiscard]] bool coherent() const override { return true; }
  void* pointer(PA at) override {
    const UnseenLock lock{bench_.mutex};
    return model_.pointer(at);
  }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  std::uint64_t microseconds() override {
    const UnseenLock lock{bench_.mutex};
    return model_.microseconds();
  }
  [[nodiscard]] unsigned pcpus() override { return kMaxPcpus; }
  [[nodiscard]] unsigned pcpu() override { return race::pcpu(); }
  void relax() override {
    {
      // Many steps, because many threads take turns.
      const UnseenLock lock{bench_.mutex};
      model_.relax();
      for (unsigned n = 0; n < 12; ++n) model_.step();
    }
    yield();
  }
  // With the bench's lock held.
  [[nodiscard]] model::Smmu& model() { return model_; }

 private:
  Bench& bench_;
  model::Smmu model_;
};

// Page frames, last in first out. Its lock is Weir's, as the page allocator's is. Who has a frame is kept beside it.
class Frames final : public stage2::TablePages {
 public:
  static constexpr std::size_t kFrames = 4096;
  static constexpr std::size_t kWhole = 256;  // at the end: for what is more than a page, and never comes back
  static constexpr std::uint32_t kFree = ~0U;
  static constexpr std::uint32_t kTable = ~1U;
  explicit Frames(Bench& bench);

  // Where physical address 0 would be.
  [[nodiscard]] std::byte* physical() const { return host_ - base_.value; }
  [[nodiscard]] std::byte* at(PA pa) const { return physical() + pa.value; }
  [[nodiscard]] std::size_t left();

  // A VM's number, kFree or kTable; with the bench's lock held.
  [[nodiscard]] std::uint32_t& owner(PA pa) { return owners_[(pa - base_) / kPage4K]; }
  // A zeroed frame, for a VM or a table.
  [[nodiscard]] std::optional<PA> take(std::uint32_t owner);
  void give(PA at);

  // stage2::TablePages
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override;
  void free(PA at, std::size_t bytes) override;
  [[nodiscard]] void* pointer(PA pa) override { return at(pa); }
  void publish(const void*, std::size_t) override {}

 private:
  Bench& bench_;
  PA base_;
  std::byte* host_;
  PA whole_;
  SpinLock lock_;
  std::vector<PA> free_;
  std::vector<std::uint32_t> owners_;
};

class VmFrames final : public stage2::PagePool {
 public:
  VmFrames(Frames& frames, std::uint32_t vm) : frames_{frames}, vm_{vm} {}
  [[nodiscard]] std::optional<PA> allocate(std::uint64_t bytes) override {
    if (bytes != kPage4K) return std::nullopt;
    return frames_.take(vm_);
  }
  void scrub(PA at, std::uint64_t bytes) override { std::memset(frames_.at(at), 0, bytes); }
  void free(PA at, std::uint64_t bytes) override {
    for (std::uint64_t n = 0; n < bytes; n += kPage4K) frames_.give(at + n);
  }

 private:
  Frames& frames_;
  std::uint32_t vm_;
};

class Machine;

struct Device {
  unsigned smmu;
  StreamID sid;
  VStreamID vsid;
};

// No vCPU runs here.
class NoCpus final : public stage2::CpuTables {
 public:
  [[nodiscard]] std::expected<void, stage2::Error> use_log(stage2::S2Domain&, bool) override { return {}; }
};

// A VM with one vSMMU over all instances, and a guest that maps what its devices may reach one to one, by its stage 1 and
// by bypassing it. Another vSMMU comes and goes, with a device that always bypasses.
class Vm final : public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr unsigned kPages = 512;
  static constexpr unsigned kGuest = 16;   // pages that the guest itself uses: tables and queues
  static constexpr unsigned kDirect = 16;  // pages that changers map and unmap: from here, so many
  static constexpr unsigned kRelinquished = 32;
  static constexpr unsigned kGranted = 48;
  static constexpr unsigned kEach = 16;
  static constexpr std::uint64_t kLoans = kRam + kPages * kPage4K;
  static constexpr unsigned kPlaces = 64 + kEach;  // pages that DMA may try: the first ones of RAM, and of loans
  static constexpr unsigned kDevices = 3;

  Vm(Machine& machine, unsigned id, std::uint64_t seed);
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;
  void stop();

  void raise(vsmmu::Irq) override {}
  void send_event() override {}
  bool message(IPA to, std::uint32_t data) override { return ram.store(to, data); }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<SmmuInstance&>(smmu).drain_events(most);
  }
  [[nodiscard]] static std::uint64_t ipa(unsigned page) { return kRam + page * kPage4K; }
  [[nodiscard]] static std::uint64_t place(unsigned n) { return n < 64 ? ipa(n) : kLoans + (n - 64) * kPage4K; }

  // What a pCPU of this VM does next.
  void vcpu(std::mt19937_64& random);
  // Attaches and detaches devices, ticks, takes part in what is rare.
  void administer(std::mt19937_64& random);
  // Maps, unmaps and protects pages, of which it has those with this remainder.
  void change(std::mt19937_64& random, unsigned which, unsigned of);
  void relinquish(std::mt19937_64& random);
  // EL2 copies to and from pages that come and go.
  void copy(std::mt19937_64& random);
  // Starts, reads and stops the dirty log, which loses no write.
  void log(std::mt19937_64& random);
  // A transaction of one of the devices; with the bench's lock held.
  void dma(std::mt19937_64& random, unsigned device);

  Machine& machine;
  const unsigned id;
  VmFrames frames;
  std::unique_ptr<stage2::S2Domain> domain;
  GuestMemory ram;
  std::unique_ptr<stage2::VmMemory> memory;
  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu;
  std::array<Device, kDevices + 1> devices;  // and the other vSMMU's

  // The tests' own, with the bench's lock held.
  std::array<bool, kDevices + 1> attached{};  // perhaps
  std::array<PA, kEach> now{};                // frames of the direct pages; 0: none, for certain
  std::array<bool, kEach> read_only{};        // for certain
  std::array<bool, kEach> foreign{};          // a loan's place may lead to a frame of another VM
  std::array<bool, kEach> lent{};             // for certain: the pages are not the VM's to use
  std::uint64_t hits = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t syncs = 0;
  std::uint64_t copies = 0;
  std::uint64_t moves = 0;
  std::uint64_t logged = 0;                 // pages that were reported
  bool sees_devices = false;                // the log does
  std::array<std::uint64_t, 64> begun{};    // writes to each of the first pages,
  std::array<std::uint64_t, 64> written{};  // up to which all are done
  std::array<std::uint64_t, 64> moved{};    // odd while they may not be there

 private:
  class Owner;
  void build();
  void send(std::initializer_list<smmu::Command> commands);
  void write(smmu::Reg reg, std::uint64_t value, unsigned size = 4);
  template <typename R>
  void put(std::uint64_t at, const R& r);
  [[nodiscard]] std::byte* pointer(std::uint64_t ipa) { return guest_[(ipa - kRam) / kPage4K] + ipa % kPage4K; }

  static constexpr unsigned kLog2 = 6;
  static constexpr std::uint32_t kEntries = 1U << kLog2;
  std::array<std::byte*, kGuest> guest_{};
  unsigned next_table_ = 4;
  std::mutex guest_lock_;
  std::uint32_t prod_ = 0;
  std::vector<std::unique_ptr<Owner>> owners_;
  NoCpus cpus_;
  bool logging_ = false;                   // of log() alone
  std::array<std::uint64_t, 64> known_{};  // writes that the log's reader knows of
};

class Machine {
 public:
  static constexpr unsigned kSmmus = 3;
  static constexpr unsigned kVms = 2;
  explicit Machine(std::uint64_t seed);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  void stop() {
    for (auto& vm : vms) vm->stop();
  }
  // The SMMUs go on by themselves, and devices use them.
  void step(std::mt19937_64& random);
  // Interrupts.
  void interrupt(std::mt19937_64& random);
  // Pages of one VM come to another and back.
  void grant(std::mt19937_64& random);

  Bench bench;
  PcpuGrace pcpus;
  Frames frames{bench};
  stage2::GrantTable grants;
  std::array<std::unique_ptr<Hardware>, kSmmus> hardware;
  std::array<std::unique_ptr<SmmuInstance>, kSmmus> smmus;
  std::array<std::unique_ptr<Vm>, kVms> vms;
  std::uint64_t granted = 0;
  const bool dirty_state;  // of all instances; every other machine
};

}  // namespace weir::race
