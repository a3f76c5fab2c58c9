// Three VMs with memory that moves: real domains over fake SMMUs, CPUs that cache what they read, and physical pages with
// content.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "stage2/vm_memory.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"

namespace weir::stage2::test {

using weir::test::FakeSmmu;
using weir::test::FakeTablePages;

inline constexpr IPA kRam{0x4000'0000};
inline constexpr std::uint64_t kRamBytes = 8_MiB;
inline constexpr IPA kLoans{0x40'0000'0000};
inline constexpr PA kPhysical{0x8000'0000};

// 64 MiB of physical memory. What it hands out must have been scrubbed: it does not do so itself.
class FakePool final : public PagePool {
 public:
  static constexpr std::uint64_t kBytes = 64_MiB;
  FakePool() : memory_(kBytes), used_(kBytes / kPage4K) {}

  std::optional<PA> allocate(std::uint64_t bytes) override {
    if (fail_after == 0) return std::nullopt;
    if (fail_after > 0) --fail_after;
    const std::size_t pages = bytes / kPage4K;
    for (std::size_t i = 0; i + pages <= used_.size(); i += pages) {
      bool free = true;
      for (std::size_t p = 0; p < pages; ++p) free = free && !used_[i + p];
      if (!free) continue;
      for (std::size_t p = 0; p < pages; ++p) used_[i + p] = true;
      in_use += pages;
      const PA at = kPhysical + i * kPage4K;
      for (std::uint64_t b = 0; b < bytes; b += 8) EXPECT_EQ(word(at + b), 0u) << "what somebody left";
      return at;
    }
    return std::nullopt;
  }
  void scrub(PA at, std::uint64_t bytes) override {
    if (on_scrub) on_scrub(at, bytes);
    std::memset(&memory_[at - kPhysical], 0, bytes);
  }
  void free(PA at, std::uint64_t bytes) override {
    for (std::uint64_t b = 0; b < bytes; b += kPage4K) {
      const std::size_t page = (at + b - kPhysical) / kPage4K;
      EXPECT_TRUE(used_[page]) << "freed twice";
      used_[page] = false;
      --in_use;
    }
  }
  [[nodiscard]] std::uint64_t& word(PA at) { return *reinterpret_cast<std::uint64_t*>(&memory_[at - kPhysical]); }
  [[nodiscard]] bool used(PA at) const { return used_[(at - kPhysical) / kPage4K]; }
  // The machine's owner uses it for a VM's first memory.
  PA take(std::uint64_t bytes) { return *allocate(bytes); }

  int fail_after = -1;
  std::size_t in_use = 0;
  std::function<void(PA, std::uint64_t)> on_scrub;

 private:
  std::vector<std::byte> memory_;
  std::vector<bool> used_;
};

// A grace period in which a copy of EL2's that had begun before it comes to its end.
class LateGrace final : public Grace {
 public:
  void enter() override {}
  void leave() override {}
  void retire(std::unique_ptr<Retired> object) override {
    if (object != nullptr) object.release()->expire();
  }
  void synchronize() override {
    ++periods;
    if (auto copy = std::exchange(late_copy, nullptr)) copy();
  }
  std::function<void()> late_copy;
  unsigned periods = 0;
};

// The CPUs of a VM: they hold on to translations until they are told to drop them. Their table has the domain's RAM, or its
// log's.
class FakeCpus final : public CpuTlb, public CpuTables {
 public:
  [[nodiscard]] std::expected<void, Error> use_log(S2Domain& domain, bool log) override {
    domain.unshare_root(*table);
    held_.clear();
    if (log && refuse_log) return std::unexpected{Error::incompatible};
    return log ? domain.share_log(*table, kRam, kShared) : domain.share_root(*table, kRam, kShared);
  }
  // A store, as far as the log is concerned; false: it faults.
  bool store(IPA at, const DirtyLog& log) {
    const IPA page = at.align_down(kPage4K);
    if (dirty_.contains(page)) return true;
    const auto mapping = table->walk(page);
    if (!mapping || !mapping->attributes.write) return false;
    if (keeps_dirty_state) {
      EXPECT_TRUE(table->mark_dirty(page));
    } else {
      log.written(page);
    }
    dirty_.insert(page);
    return true;
  }
  void invalidate(IPA ipa, std::uint64_t bytes, bool leaf_only) override {
    std::erase_if(held_, [&](const auto& e) { return !leaf_only || (e.first >= ipa && e.first < ipa + bytes); });
    std::erase_if(dirty_, [&](IPA page) { return !leaf_only || (page >= ipa && page < ipa + bytes); });
  }
  // Where an access goes; no value: it faults.
  std::optional<PA> access(const S2Domain& domain, IPA at, bool write = true) {
    const IPA page = at.align_down(kPage4K);
    auto found = held_.find(page);
    if (found == held_.end()) {
      const auto mapping = domain.lookup(page);
      if (!mapping || !(write ? mapping->attributes.write : mapping->attributes.read)) return std::nullopt;
      found = held_.emplace(page, mapping->at).first;
    }
    return found->second + (at - page);
  }
  [[nodiscard]] bool holds(PA page) const {
    for (const auto& [ipa, pa] : held_)
      if (pa == page) return true;
    return false;
  }

  std::unique_ptr<Table> table;
  bool keeps_dirty_state = true;
  bool refuse_log = false;

  static constexpr std::uint64_t kShared = 512_GiB - kRam.value;

 private:
  std::map<IPA, PA> held_;
  std::set<IPA> dirty_;  // pages that the TLB knows to be so
};

// The TLB of an SMMU for one VMID: entries of stage 2 and combined ones.
class DeviceTlb {
 public:
  explicit DeviceTlb(VMID vmid) : vmid_{vmid} {}
  void execute(const smmu::Command& command) {
    if (const auto all = command.as<smmu::TlbiS12Vmall>(); all && all->get<smmu::TlbiS12Vmall::VMID>() == vmid_)
      held_.clear();
    if (const auto ipa = command.as<smmu::TlbiS2Ipa>(); ipa && ipa->get<smmu::TlbiS2Ipa::VMID>() == vmid_) {
      const IPA from = ipa->get<smmu::TlbiS2Ipa::Address>();
      const std::uint64_t bytes =
          ((ipa->get<smmu::TlbiS2Ipa::NUM>() + 1) << ipa->get<smmu::TlbiS2Ipa::SCALE>()) * kPage4K;
      std::erase_if(held_, [&](const auto& e) { return e.first >= from && e.first < from + bytes; });
    }
  }
  std::optional<PA> access(const S2Domain& domain, IPA at, bool write = true) {
    const IPA page = at.align_down(kPage4K);
    auto found = held_.find(page);
    if (found == held_.end()) {
      const auto mapping = domain.lookup(page);
      if (!mapping || !(write ? mapping->attributes.write : mapping->attributes.read)) return std::nullopt;
      found = held_.emplace(page, mapping->at).first;
    }
    return found->second + (at - page);
  }
  [[nodiscard]] bool holds(PA page) const {
    for (const auto& [ipa, pa] : held_)
      if (pa == page) return true;
    return false;
  }

 private:
  VMID vmid_;
  std::map<IPA, PA> held_;
};

// A machine with VMs 0, 1 and 2, each on two SMMUs. VM 0 may share with 1, VM 1 with 0; VM 2 makes no memory calls.
class Machine {
 public:
  struct Vm {
    PA first;
    FakeCpus cpus;
    std::unique_ptr<S2Domain> domain;
    std::array<std::unique_ptr<HostTag>, 2> tags;
    std::array<std::unique_ptr<DeviceTlb>, 2> devices;
    std::unique_ptr<VmMemory> memory;
  };

  explicit Machine(Table::Options options = {.bbml = 2})
      : smmus{FakeSmmu{0, with_httu(options.dirty_state)}, FakeSmmu{1, with_httu(options.dirty_state)}} {
    for (unsigned i = 0; i < vms.size(); ++i) make(i, options);
    pool.on_scrub = [this](PA at, std::uint64_t bytes) { unreachable(at, bytes); };
    for (unsigned s = 0; s < 2; ++s)
      smmus[s].on_command = [this, s](const smmu::Command& command) {
        for (Vm& vm : vms)
          if (vm.devices[s]) vm.devices[s]->execute(command);
      };
  }
  ~Machine() {
    for (Vm& vm : vms) {
      detach(vm);
      if (vm.memory) vm.memory->stop();
    }
    for (Vm& vm : vms)
      if (vm.memory) vm.memory->free_all();
    EXPECT_EQ(pool.in_use, 0u) << "every page is back";
    for (Vm& vm : vms) vm.memory.reset();
  }

  static void detach(Vm& vm) {
    for (auto& tag : vm.tags)
      if (tag) vm.domain->detach(std::move(tag));
    for (auto& device : vm.devices) device.reset();
  }
  // The VM is over.
  void stop(unsigned i) {
    detach(vms[i]);
    vms[i].memory->stop();
  }

  [[nodiscard]] VmMemory& memory(unsigned i) { return *vms[i].memory; }
  [[nodiscard]] std::optional<PA> where(unsigned i, IPA at, bool write = true) {
    const auto mapping = vms[i].domain->lookup(at);
    if (!mapping || !(write ? mapping->attributes.write : mapping->attributes.read)) return std::nullopt;
    return mapping->at;
  }
  // All CPUs and devices of a VM use a page, and keep its translation.
  void touch(unsigned i, IPA at, bool write = true) {
    static_cast<void>(vms[i].cpus.access(*vms[i].domain, at, write));
    for (auto& device : vms[i].devices)
      if (device) static_cast<void>(device->access(*vms[i].domain, at, write));
  }
  // Nobody holds a translation to any of these pages, and no table has one.
  void unreachable(PA at, std::uint64_t bytes) {
    for (std::uint64_t b = 0; b < bytes; b += kPage4K)
      for (unsigned i = 0; i < vms.size(); ++i) {
        EXPECT_FALSE(vms[i].cpus.holds(at + b)) << "CPUs of VM " << i;
        for (const auto& device : vms[i].devices)
          if (device) EXPECT_FALSE(device->holds(at + b)) << "devices of VM " << i;
      }
    EXPECT_EQ(mapped(at, bytes), 0u);
  }
  // Mappings of any VM, with any right, that lead there.
  [[nodiscard]] unsigned mapped(PA at, std::uint64_t bytes) const {
    unsigned n = 0;
    for (const Vm& vm : vms)
      for (const auto& [from, size] : {std::pair{kRam, kRamBytes}, std::pair{kLoans, 8_MiB}})
        for (std::uint64_t b = 0; b < size; b += kPage4K)
          if (const auto m = vm.domain->lookup(from + b); m && m->at >= at && m->at < at + bytes) ++n;
    return n;
  }
  [[nodiscard]] bool sound() const {
    for (const Vm& vm : vms)
      if (!vm.domain->table().check_invariants()) return false;
    return true;
  }

  FakeTablePages pages;
  FakePool pool;
  LateGrace grace;
  GrantTable grants;
  std::array<FakeSmmu, 2> smmus;
  std::array<Vm, 3> vms;

 private:
  static Capabilities with_httu(bool httu) {
    Capabilities c = weir::test::qemu_like_capabilities();
    if (httu) c.idr0.set<smmu::IDR0::HTTU>(smmu::Htt::access_dirty);
    return c;
  }
  void make(unsigned i, Table::Options options) {
    Vm& vm = vms[i];
    vm.first = pool.take(kRamBytes);
    vm.domain = *S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits44), pages, grace,
                                  {.table = options, .cpu = &vm.cpus});
    EXPECT_TRUE(vm.domain->map(kRam, vm.first, kRamBytes, {.execute = true}));
    vm.cpus.table = *Table::create(vm.domain->table().geometry(), pages, {.bbml = options.bbml, .dirty_state = true});
    vm.cpus.table->set_walked(true);
    EXPECT_TRUE(vm.domain->share_root(*vm.cpus.table, kRam, FakeCpus::kShared));
    for (unsigned s = 0; s < 2; ++s) {
      vm.tags[s] = *HostTag::create(smmus[s]);
      EXPECT_TRUE(vm.domain->attach(*vm.tags[s]));
      vm.devices[s] = std::make_unique<DeviceTlb>(vm.tags[s]->vmid());
    }
    const VmMemory::Config config{.id = i,
                                  .ram = kRam,
                                  .ram_bytes = kRamBytes,
                                  .loans = kLoans,
                                  .loan_bytes = 1_GiB,
                                  .calls = i != 2,
                                  .share_with = i == 0 ? 0b110u : 0b001u};
    vm.memory = std::make_unique<VmMemory>(config, *vm.domain, pool, grants, &vm.cpus);
  }
};

}  // namespace weir::stage2::test
