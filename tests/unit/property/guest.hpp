// A guest's driver for one vSMMU of a World, that does what it likes with trees, context descriptors and stream table
// entries, tells its Beliefs, and may forget every invalidation but never claims one that it has not sent.
#pragma once

#include <optional>
#include <random>
#include <string>

#include "tests/unit/property/beliefs.hpp"
#include "tests/unit/property/world.hpp"

namespace weir::model::test {

class PropertyGuest {
 public:
  PropertyGuest(World& world, unsigned vm, unsigned vsmmu, std::uint64_t data, std::mt19937_64& random)
      : world_{world}, vm_{*world.vms[vm]}, vsmmu_{vsmmu}, data_{data}, random_{random} {
    discover();
    build();
    start();
  }
  PropertyGuest(const PropertyGuest&) = delete;
  PropertyGuest& operator=(const PropertyGuest&) = delete;

  static constexpr unsigned kData = 6;  // slots that mappings lead to

  // One thing that a guest may do.
  void operate(std::uint64_t now) {
    now_ = now;
    switch (pick(20)) {
      case 0:
      case 1:
      case 2:
      case 3: map(pick(kTrees), pick(kPlaces), pick(4) == 0); break;
      case 4:
      case 5:
      case 6: send_address(); break;
      case 7: send_wide(); break;
      case 8:
      case 9:
      case 10: set_cd(); break;
      case 11:
      case 12:
      case 13: set_ste(); break;
      case 14: send_cfgi(); break;
      case 15: send_atc_inv(); break;
      case 16:
        if (pick(8) == 0) toggle();
        break;
      case 17: kick(); break;
      default: sync(); break;
    }
    if (sent_.size() + atc_sent_.size() > 30) sync();
  }
  void attach(unsigned d, std::uint64_t now) {
    beliefs.attach(d, World::kDevices[d].smmu, now);
    endpoint(d).forget();
    atc_[d].clear();
    EXPECT_TRUE(world_.attach(d, vm_index(), vsmmu_));
  }
  void detach(unsigned d, std::uint64_t now) {
    world_.detach(d);
    beliefs.detach(d, now);
    // What a device holds is its own until it has been reset.
    endpoint(d).forget();
    atc_[d].clear();
  }

  // A device's transaction. Returns what is wrong, or nothing.
  [[nodiscard]] std::string dma(unsigned d);
  // The same through its translation cache.
  [[nodiscard]] std::string ats(unsigned d);
  void sync();
  [[nodiscard]] std::string check_events();
  // Pages that the SMMUs themselves read.
  [[nodiscard]] std::vector<std::uint64_t> tables() const;

  Beliefs beliefs;
  unsigned hits = 0;
  unsigned stale = 0;    // by something that the guest has replaced already
  unsigned certain = 0;  // nothing but one thing was possible
  unsigned ats_hits = 0;

 private:
  static constexpr unsigned kLog2 = 6;  // of both queues
  static constexpr std::uint32_t kEntries = 1u << kLog2;
  static constexpr unsigned kMaxPlace = 3;  // places 0..3 are neighbours, the others far away
  static constexpr std::uint64_t kVa = 0x10'0000'0000;

  struct AtcEntry {
    std::optional<SubstreamID> ssid;
    std::uint64_t page{};  // of 4 KiB
    std::set<std::uint64_t> ipas;
    std::uint64_t taken{};
  };
  struct AtcSent {
    std::uint64_t at{};
    unsigned device{};
    bool any_ssid = true;
    std::optional<SubstreamID> ssid;
    std::uint64_t first = 0;
    std::uint64_t last = ~std::uint64_t{0};
  };

  [[nodiscard]] unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  [[nodiscard]] vsmmu::VSmmu& device() { return *vm_.vsmmus[vsmmu_]; }
  [[nodiscard]] unsigned vm_index() const { return world_.vms[0].get() == &vm_ ? 0 : 1; }
  [[nodiscard]] Endpoint& endpoint(unsigned d) { return world_.endpoint(d); }
  [[nodiscard]] static std::uint64_t va(unsigned place) {
    return place <= kMaxPlace ? kVa + place * kSlotBytes : kVa + place * std::uint64_t{0x400'0000};
  }
  [[nodiscard]] std::uint32_t read(smmu::Reg reg) const {
    const auto offset = static_cast<std::uint32_t>(reg);
    return vm_.registers[vsmmu_]->words[offset / smmu::kPage1][offset % smmu::kPage1 / 4];
  }
  void write(smmu::Reg reg, std::uint64_t value, unsigned size = 4) {
    unsigned rounds = 0;
    while (device().write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again)
      ASSERT_LT(++rounds, 100000u);
  }
  template <typename R>
  void put(std::uint64_t at, const R& r) {
    std::memcpy(vm_.ram.pointer(at), r.words.data(), sizeof(R));
  }
  void store64(std::uint64_t at, std::uint64_t value) { std::memcpy(vm_.ram.pointer(at), &value, sizeof value); }

  [[nodiscard]] std::uint16_t pick_asid();
  void discover();
  void build();
  void start();
  void build_tree(unsigned t);
  void map(unsigned tree, unsigned place, bool none);
  void queue(const smmu::Command& c);
  void kick() { write(smmu::Reg::CMDQ_PROD, prod_); }
  void send_address();
  void send_wide();
  void send_cfgi();
  void send_atc_inv();
  void set_cd();
  void set_ste();
  void toggle();
  [[nodiscard]] smmu::Ste encode(unsigned d, const SteVersion& v) const;
  [[nodiscard]] smmu::Cd encode(const CdVersion& v) const;
  [[nodiscard]] std::vector<unsigned> attached() const {
    std::vector<unsigned> which;
    for (unsigned d = 0; d < kMaxDevices; ++d)
      if (beliefs.devices[d].attached) which.push_back(d);
    return which;
  }
  struct Target {
    std::optional<PA> pa;
    std::uint64_t ipa = 0;
    bool current = true;
  };
  // All that a transaction may lead to; an empty `pa`: it may be refused. `sure`: there is nothing else.
  [[nodiscard]] std::vector<Target> targets(unsigned d, std::optional<SubstreamID> ssid, std::uint64_t address,
                                            int place, std::uint64_t offset, bool write, bool& sure);

  World& world_;
  WorldVm& vm_;
  unsigned vsmmu_;
  std::uint64_t data_;
  std::mt19937_64& random_;
  std::uint64_t now_ = 0;

  bool ril_ = false;
  bool asid16_ = false;
  bool cd2l_ = false;
  bool two_level_ = false;
  unsigned ssid_bits_ = 0;
  std::vector<int> granules_;  // log2
  bool enabled_ = true;
  bool gbpa_abort_ = false;

  std::uint64_t cmdq_ = 0;
  std::uint64_t evtq_ = 0;
  std::uint64_t strtab_ = 0;
  std::uint64_t stes_ = 0;  // the STEs themselves
  std::array<std::uint64_t, kTrees> roots_{};
  std::array<std::array<std::uint64_t, kPlaces>, kTrees> leaves_{};            // addresses of the leaf descriptors
  std::array<std::array<std::uint64_t, kCdTables>, kMaxDevices> cd_tables_{};  // of CDs, whatever points there
  std::array<std::array<std::uint64_t, kCdTables>, kMaxDevices> l1cds_{};
  std::uint32_t prod_ = 0;
  std::uint32_t cons_ = 0;
  std::vector<Sent> sent_;
  std::vector<AtcSent> atc_sent_;
  std::array<std::vector<AtcEntry>, kMaxDevices> atc_;
  std::array<std::vector<std::pair<std::optional<SubstreamID>, std::uint64_t>>, kMaxDevices> asked_;  // and granted
};

}  // namespace weir::model::test
