// Several VMs over several modelled SMMUs that they share, with all that lies in between at EL2: the drivers, each VM's
// stage-2 domain, its vSMMUs. What guests do with it is in guest.hpp.
#pragma once

#include "tests/model/device.hpp"
#include "tests/unit/model/machine.hpp"

namespace weir::model::test {

inline constexpr std::uint64_t kSlotBytes = 0x1'0000;  // the largest granule

// A device, and where it is attached.
struct WorldDevice {
  unsigned smmu;
  StreamID sid;
  VStreamID vsid;
};

// The host's side of one VM.
class WorldVm final : public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  WorldVm(PhysicalMemory& memory, const stage2::S2Domain::Options& options)
      : ram{memory}, pages{memory}, memory_{memory} {
    const auto geometry = stage2::Geometry::make(40, smmu::AddressSize::bits44);
    domain = *stage2::S2Domain::create(*geometry, pages, grace, options);
  }
  WorldVm(const WorldVm&) = delete;
  WorldVm& operator=(const WorldVm&) = delete;
  ~WorldVm() { stop(); }
  void stop() {
    for (auto& v : vsmmus)
      if (v) v->shutdown();
    vsmmus.clear();
    domain.reset();
  }

  void raise(vsmmu::Irq) override {}
  void send_event() override {}
  bool message(IPA to, std::uint32_t data) override { return ram.write(to, std::as_bytes(std::span{&data, 1})); }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<Port&>(smmu).instance().deliver_events_of(nullptr, most);
  }

  void map(std::uint64_t ipa) {
    const stage2::Attributes rw{.memory = stage2::Memory::normal_wb, .read = true, .write = true, .execute = false};
    EXPECT_TRUE(domain->map(IPA{ipa}, ram.page(ipa), kPage4K, rw));
    gone.erase(ipa);
  }
  // The page moves, and its old frame gets a new owner. `next`: that one's content. False: unmap() failed.
  [[nodiscard]] bool move(std::uint64_t ipa, std::uint64_t next, bool give_back) {
    if (!domain->unmap(IPA{ipa}, kPage4K)) return false;
    const PA old = ram.page(ipa);
    const PA to = memory_.allocate(kPage4K);
    std::memcpy(memory_.pointer(to), memory_.pointer(old), kPage4K);
    for (unsigned i = 0; i < 512; ++i) EXPECT_TRUE(memory_.store(old + std::uint64_t{i} * 8, next));
    ram.page(ipa) = to;
    if (give_back) {
      gone.insert(ipa);
    } else {
      map(ipa);
    }
    return true;
  }
  // What a device reaches at `ipa`, if anything.
  [[nodiscard]] std::optional<PA> reachable(std::uint64_t ipa) {
    if (ipa < Ram::kBase || ipa >= Ram::kBase + ram.pages() * kPage4K) return std::nullopt;
    const std::uint64_t page = ipa & ~(kPage4K - 1);
    if (gone.contains(page)) return std::nullopt;
    return ram.page(page) + (ipa - page);
  }
  // `bytes` of new RAM at their own alignment, mapped.
  [[nodiscard]] std::uint64_t allocate(std::uint64_t bytes) {
    const std::uint64_t at = (Ram::kBase + ram.pages() * kPage4K + bytes - 1) & ~(bytes - 1);
    while (Ram::kBase + ram.pages() * kPage4K < at + bytes) map(ram.add_page().value);
    return at;
  }

  Ram ram;
  ModelTablePages pages;
  stage2::ImmediateGrace grace;
  std::unique_ptr<stage2::S2Domain> domain;
  struct Page {
    std::array<std::uint32_t, 1024> words[2]{};
  };
  std::vector<std::unique_ptr<Page>> registers;
  std::vector<std::unique_ptr<vsmmu::VSmmu>> vsmmus;
  std::vector<std::vector<unsigned>> backing;  // instances behind each vSMMU
  std::set<std::uint64_t> gone;                // pages that DMA cannot reach

 private:
  PhysicalMemory& memory_;
};

class World {
 public:
  static constexpr unsigned kSmmus = 3;
  static constexpr unsigned kVms = 2;
  static constexpr std::array<WorldDevice, 6> kDevices{{{0, StreamID{0x11}, VStreamID{8}},
                                                        {1, StreamID{0x122}, VStreamID{16}},
                                                        {2, StreamID{0x33}, VStreamID{24}},
                                                        {0, StreamID{0x211}, VStreamID{32}},
                                                        {1, StreamID{0x12}, VStreamID{40}},
                                                        {2, StreamID{0x3f}, VStreamID{48}}}};

  World(std::uint64_t seed, Break how, const vsmmu::Bounds& bounds)
      : globals{seed % 3 != 0}, random_{seed ^ 0x5eed}, ats_{random_() % 2 == 0} {
    for (unsigned i = 0; i < kSmmus; ++i) {
      smmus[i] = std::make_unique<Smmu>(memory, parameters(seed * kSmmus + i));
      instances[i] = std::make_unique<SmmuInstance>(i, kNames[i], *smmus[i], true);
      EXPECT_TRUE(instances[i]->quiesce());
      const auto ready = instances[i]->init();
      EXPECT_TRUE(ready) << ready.error();
      ports[i] = std::make_unique<Port>(*instances[i], how);
    }
    for (unsigned i = 0; i < kDevices.size(); ++i) {
      owners[i] = std::make_unique<Owner>(*this, i);
      EXPECT_TRUE(instances[kDevices[i].smmu]->claim(*owners[i]));
    }
    for (unsigned v = 0; v < kVms; ++v) {
      stage2::S2Domain::Options options;
      options.table.pages_only = true;
      options.max_range_commands = pick(2) == 0 ? 64 : 1;
      vms[v] = std::make_unique<WorldVm>(memory, options);
      // The first VM has a vSMMU over everything, or two of them: over SMMUs of its own, and perhaps both over one.
      if (v == 0 && pick(2) == 0) {
        add_vsmmu(v, {0, 1}, bounds);
        add_vsmmu(v, pick(2) == 0 ? std::vector<unsigned>{2} : std::vector<unsigned>{1, 2}, bounds);
      } else {
        add_vsmmu(v, {0, 1, 2}, bounds);
      }
    }
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { stop(); }
  void stop() {
    for (auto& v : vms)
      if (v) v->stop();
    for (unsigned i = 0; i < kDevices.size(); ++i)
      if (owners[i]) {
        instances[kDevices[i].smmu]->release(*owners[i]);
        owners[i].reset();
      }
  }

  // Attaches device `d` to a vSMMU that is over its SMMU. True: done.
  bool attach(unsigned d, unsigned vm, unsigned vsmmu) {
    vsmmu::VSmmu& v = *vms[vm]->vsmmus[vsmmu];
    owners[d]->at = &v;
    if (v.attach(kDevices[d].vsid, *ports[kDevices[d].smmu], kDevices[d].sid, grant(d))) return true;
    owners[d]->at = nullptr;
    return false;
  }
  void detach(unsigned d) {
    EXPECT_TRUE(owners[d]->at->detach(kDevices[d].vsid));
    owners[d]->at = nullptr;
  }
  [[nodiscard]] static vsmmu::StreamGrant grant(unsigned d) {
    constexpr vsmmu::AtsGrant kGrants[] = {vsmmu::AtsGrant::split_stage, vsmmu::AtsGrant::none, vsmmu::AtsGrant::full};
    return {.ats = kGrants[d % 3], .pri = false};
  }
  [[nodiscard]] std::optional<PA> dma(unsigned d, std::uint64_t address, bool write, std::optional<SubstreamID> ssid) {
    const Access access{.sid = kDevices[d].sid, .ssid = ssid, .address = address, .write = write};
    const Transaction done = smmus[kDevices[d].smmu]->issue(access, 4);
    if (done.state != Transaction::State::passed) return std::nullopt;
    return done.address;
  }
  [[nodiscard]] Endpoint& endpoint(unsigned d) { return smmus[kDevices[d].smmu]->endpoint(kDevices[d].sid); }
  [[nodiscard]] std::uint64_t steps() const {
    std::uint64_t n = 0;
    for (const auto& s : smmus) n += s->steps();
    return n;
  }

  const bool globals;  // guests have global pages
  PhysicalMemory memory;
  std::array<std::unique_ptr<Smmu>, kSmmus> smmus;
  std::array<std::unique_ptr<SmmuInstance>, kSmmus> instances;
  std::array<std::unique_ptr<Port>, kSmmus> ports;
  std::array<std::unique_ptr<WorldVm>, kVms> vms;
  std::map<std::string, unsigned> host_events;  // by name
  std::uint64_t stage2_faults = 0;

 private:
  static constexpr std::array<const char*, kSmmus> kNames{"smmu-a", "smmu-b", "smmu-c"};

  class Owner final : public StreamOwner {
   public:
    Owner(World& world, unsigned device) : StreamOwner{kDevices[device].sid}, world_{world}, device_{device} {}
    void on_event(SmmuInstance&, const smmu::Event& event) override {
      if (at == nullptr) return;  // late
      const auto report = at->handle_event(*world_.ports[kDevices[device_].smmu], event);
      if (!report) return;
      world_.stage2_faults += report->owner == vsmmu::EventOwner::stage2 ? 1 : 0;
      if (report->owner == vsmmu::EventOwner::host) ++world_.host_events[std::string{name_of(event.id())}];
    }
    vsmmu::VSmmu* at = nullptr;

   private:
    World& world_;
    unsigned device_;
  };

  [[nodiscard]] unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  [[nodiscard]] Parameters parameters(std::uint64_t seed) {
    Parameters p;
    p.seed = seed;
    p.two_level = pick(3) != 0;
    p.ril = pick(3) != 0;
    p.vmid16 = pick(2) == 0;
    p.asid16 = pick(3) != 0;
    p.gran16k = pick(4) != 0;
    p.gran64k = pick(4) != 0;
    p.ssid_bits = pick(4) == 0 ? 0 : 2 + pick(4);
    p.cd2l = p.ssid_bits != 0 && pick(2) == 0;
    p.ats = ats_;
    p.bbml = pick(3);
    return p;
  }
  void add_vsmmu(unsigned vm, std::vector<unsigned> over, const vsmmu::Bounds& bounds) {
    WorldVm& v = *vms[vm];
    v.registers.push_back(std::make_unique<WorldVm::Page>());
    WorldVm::Page& page = *v.registers.back();
    std::vector<stage2::SmmuPort*> behind;
    for (const unsigned i : over) behind.push_back(ports[i].get());
    vsmmu::Config config;
    config.oas_bits = 40;
    config.ats = true;
    config.precise = pick(2) == 0;
    config.no_global_pages = !globals;
    config.late_events = pick(2) == 0;
    config.range_invalidation = pick(4) != 0;
    config.two_level_stream_table = pick(3) != 0;
    config.asid16 = pick(3) != 0;
    auto made = vsmmu::VSmmu::create(
        config, behind,
        {.memory = v.ram,
         .interrupts = v,
         .drain = v,
         .domain = *v.domain,
         .pages = {page.words[0], page.words[1]},
         .hidden = {.pages = &v.pages, .base = IPA{0x0a00'0000 + v.vsmmus.size() * kPage4K}, .bytes = kPage4K}},
        bounds);
    EXPECT_TRUE(made);
    v.vsmmus.push_back(std::move(*made));
    v.backing.push_back(std::move(over));
  }

  std::mt19937_64 random_;
  bool ats_;
  std::array<std::unique_ptr<Owner>, kDevices.size()> owners;
};

}  // namespace weir::model::test
