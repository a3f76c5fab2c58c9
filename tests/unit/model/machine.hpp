// Two modelled SMMUs behind the real driver, domain and vSMMU, put together as hyp/vm/devices.cpp does, with a VM whose
// memory lies, page by page anywhere, in the model's physical memory.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "hyp/smmu/instance.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/model/tables.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::model::test {

// What a port does wrong, to show that it is noticed.
enum class Break : std::uint8_t {
  nothing,
  drop_tlbi,        // no TLB invalidation reaches the SMMU
  drop_on_second,   // none reaches the second instance
  drop_stage2,      // TLBI_S2_IPA and S12_VMALL do not
  drop_nh_all,      // TLBI_NH_ALL does not
  drop_cd,          // CFGI_CD_ALL does not
  no_wait,          // every ticket counts as complete
  wrong_vmid,       // TLBI commands carry another VMID
  ste_not_awaited,  // STEs are stored without CFGI_STE
  one_phase,        // TLBI_S2_IPA has no SYNC of its own, but goes with what follows
  drop_atc          // ATC_INV does not reach the SMMU
};

// A physical SMMU as the code under test sees it: the real driver, or a broken one.
class Port final : public stage2::SmmuPort {
 public:
  Port(SmmuInstance& instance, Break how) : instance_{instance}, how_{how} {}
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  [[nodiscard]] unsigned index() const override { return instance_.index(); }
  [[nodiscard]] std::string_view name() const override { return instance_.name(); }
  [[nodiscard]] const stage2::Capabilities& capabilities() const override { return instance_.capabilities(); }
  [[nodiscard]] stage2::VmidAllocator& vmids() override { return instance_.vmids(); }
  stage2::Ticket issue_and_sync(std::span<const smmu::Command> commands) override {
    filter(commands);
    if (how_ == Break::one_phase && !commands.empty() && commands[0].opcode() == smmu::Opcode::TLBI_S2_IPA) {
      deferred_.insert(deferred_.end(), kept_.begin(), kept_.end());
      kept_.clear();
    } else {
      kept_.insert(kept_.begin(), deferred_.begin(), deferred_.end());
      deferred_.clear();
    }
    return instance_.issue_and_sync(kept_);
  }
  void issue(std::span<const smmu::Command> commands) override {
    filter(commands);
    instance_.issue(kept_);
  }
  [[nodiscard]] bool completed(stage2::Ticket ticket) override {
    return how_ == Break::no_wait || instance_.completed(ticket);
  }
  [[nodiscard]] std::expected<void, stage2::Error> install_ste(StreamID sid, const smmu::Ste& ste) override {
    ++installs;
    if (installing) installing(sid);
    if (how_ == Break::ste_not_awaited && installs > 8 && behind) {
      behind(sid, ste);
      return {};
    }
    return instance_.install_ste(sid, ste);
  }
  [[nodiscard]] bool atc_answers(StreamID sid) override { return instance_.atc_answers(sid); }
  [[nodiscard]] SmmuInstance& instance() { return instance_; }

  unsigned installs = 0;
  std::function<bool(const smmu::Command&)> drops;  // another way to lose commands
  std::function<void(StreamID)> installing;
  std::function<void(StreamID, const smmu::Ste&)> behind;  // stores an STE behind the driver's back

 private:
  [[nodiscard]] bool dropped(smmu::Opcode op) const {
    using enum smmu::Opcode;
    const bool stage2 = op == TLBI_S2_IPA || op == TLBI_S12_VMALL;
    const bool tlbi = stage2 || (op >= TLBI_NH_ALL && op <= TLBI_NSNH_ALL);
    switch (how_) {
      case Break::drop_tlbi: return tlbi;
      case Break::drop_on_second: return tlbi && index() == 1;
      case Break::drop_stage2: return stage2;
      case Break::drop_nh_all: return op == TLBI_NH_ALL;
      case Break::drop_cd: return op == CFGI_CD_ALL;
      case Break::drop_atc: return op == ATC_INV;
      default: return false;
    }
  }
  // Into kept_.
  void filter(std::span<const smmu::Command> commands) {
    kept_.clear();
    for (smmu::Command c : commands) {
      if (dropped(c.opcode()) || (drops && drops(c))) continue;
      // The VMID has the same place in every TLBI that has one.
      if (how_ == Break::wrong_vmid && c.opcode() >= smmu::Opcode::TLBI_NH_ALL &&
          c.opcode() <= smmu::Opcode::TLBI_S2_IPA)
        c.words[0] ^= std::uint64_t{2} << 32;
      kept_.push_back(c);
    }
  }
  SmmuInstance& instance_;
  Break how_;
  std::vector<smmu::Command> kept_;
  std::vector<smmu::Command> deferred_;
};

class ModelTablePages final : public stage2::TablePages {
 public:
  explicit ModelTablePages(PhysicalMemory& memory) : memory_{memory} {}
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  void free(PA at, std::size_t bytes) override { memory_.free(at, bytes); }
  [[nodiscard]] void* pointer(PA at) override { return memory_.pointer(at); }
  void publish(const void*, std::size_t) override {}

 private:
  PhysicalMemory& memory_;
};

// The VM's RAM: a map from IPA pages to PA pages, and which of them DMA may reach.
class Ram final : public vsmmu::GuestMemory {
 public:
  static constexpr std::uint64_t kBase = 0x4000'0000;
  explicit Ram(PhysicalMemory& memory) : memory_{memory} {}
  [[nodiscard]] IPA add_page() {
    const IPA at{kBase + pages_.size() * kPage4K};
    pages_.push_back(memory_.allocate(kPage4K));
    return at;
  }
  [[nodiscard]] std::size_t pages() const { return pages_.size(); }
  [[nodiscard]] PA& page(std::uint64_t ipa) { return pages_.at((ipa - kBase) / kPage4K); }
  [[nodiscard]] std::byte* pointer(std::uint64_t ipa) { return memory_.pointer(page(ipa)) + ipa % kPage4K; }
  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override {
    return copy(from, to.data(), to.size(), false);
  }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override {
    return copy(to, const_cast<std::byte*>(from.data()), from.size(), true);  // NOLINT: read only
  }

 private:
  bool copy(IPA at, std::byte* host, std::size_t bytes, bool to_guest) {
    if (at.value < kBase || at.value + bytes > kBase + pages_.size() * kPage4K) return false;
    for (std::size_t done = 0; done < bytes;) {
      const std::uint64_t ipa = at.value + done;
      const std::size_t n = std::min<std::size_t>(bytes - done, kPage4K - ipa % kPage4K);
      if (to_guest) {
        std::memcpy(pointer(ipa), host + done, n);
      } else {
        std::memcpy(host + done, pointer(ipa), n);
      }
      done += n;
    }
    return true;
  }
  PhysicalMemory& memory_;
  std::vector<PA> pages_;
};

struct Device {
  unsigned smmu;
  StreamID sid;
  VStreamID vsid;
};
inline constexpr std::array<Device, 3> kDevices{
    {{0, StreamID{0x11}, VStreamID{8}}, {1, StreamID{0x122}, VStreamID{16}}, {0, StreamID{0x211}, VStreamID{24}}}};

class Machine final : public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  // A precise vSMMU is over one instance whose ASIDs have 8 bits, and one with 16.
  explicit Machine(std::uint64_t seed, Break how = Break::nothing, const vsmmu::Bounds& bounds = {},
                   vsmmu::Config config = {}) {
    for (unsigned i = 0; i < 2; ++i) {
      smmus[i] = std::make_unique<model::Smmu>(memory, Parameters{.seed = seed * 2 + i,
                                                                  .two_level = i == 0 || seed % 2 == 0,
                                                                  .ril = seed % 3 != 0,
                                                                  .vmid16 = (seed & 4) == 0,
                                                                  .asid16 = !config.precise || i != 1});
      instances[i] = std::make_unique<SmmuInstance>(i, i == 0 ? "smmu-a" : "smmu-b", *smmus[i], true);
      EXPECT_TRUE(instances[i]->quiesce());
      const auto ready = instances[i]->init();
      EXPECT_TRUE(ready) << ready.error();
      ports[i] = std::make_unique<Port>(*instances[i], how);
      ports[i]->behind = [this, i](StreamID sid, const smmu::Ste& ste) { store_ste(i, sid, ste); };
    }
    // The instances' VMIDs differ.
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(instances[1]->vmids().allocate());
    for (unsigned i = 0; i < kPages; ++i) static_cast<void>(ram.add_page());
    const auto geometry = stage2::Geometry::make(40, smmu::AddressSize::bits44);
    stage2::S2Domain::Options options;
    options.table.pages_only = true;
    options.max_range_commands = seed % 2 == 0 ? 64 : 1;
    domain = *stage2::S2Domain::create(*geometry, table_pages, grace, options);
    for (unsigned i = 0; i < kPages; ++i) map(Ram::kBase + i * kPage4K);
    const vsmmu::Surroundings surroundings{.memory = ram,
                                           .interrupts = *this,
                                           .drain = *this,
                                           .domain = *domain,
                                           .pages = {page0, page1},
                                           .hidden = {.pages = &table_pages, .base = kHidden, .bytes = 2 * kPage4K}};
    const std::array<stage2::SmmuPort*, 2> both{ports[0].get(), ports[1].get()};
    config.oas_bits = 40;
    auto made = vsmmu::VSmmu::create(config, both, surroundings, bounds);
    EXPECT_TRUE(made);
    vsmmu = std::move(*made);
    for (std::size_t i = 0; i < kDevices.size(); ++i) {
      const Device& d = kDevices[i];
      owners[i] = std::make_unique<Owner>(*this, d);
      EXPECT_TRUE(instances[d.smmu]->claim(*owners[i]));
      EXPECT_TRUE(vsmmu->attach(d.vsid, *ports[d.smmu], d.sid));
    }
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() { stop(); }
  // As detach_devices().
  void stop() {
    if (vsmmu) vsmmu->shutdown();
    for (std::size_t i = 0; i < kDevices.size(); ++i)
      if (owners[i]) {
        instances[kDevices[i].smmu]->release(*owners[i]);
        owners[i].reset();
      }
    vsmmu.reset();
    domain.reset();
  }

  void raise(vsmmu::Irq irq) override { ++interrupts[irq]; }
  void send_event() override { ++sev; }
  bool message(IPA to, std::uint32_t data) override { return ram.write(to, std::as_bytes(std::span{&data, 1})); }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<Port&>(smmu).instance().drain_events(most);
  }
  void map(std::uint64_t ipa) {
    const stage2::Attributes rw{.memory = stage2::Memory::normal_wb, .read = true, .write = true, .execute = false};
    EXPECT_TRUE(domain->map(IPA{ipa}, ram.page(ipa), kPage4K, rw));
  }
  [[nodiscard]] std::optional<PA> dma(const Device& d, std::uint64_t address, bool write) {
    return smmus[d.smmu]->access(d.sid, IOVA{address}, write, 4);
  }

  static constexpr unsigned kPages = 40;
  static constexpr IPA kHidden{0x0a00'0000};
  PhysicalMemory memory;
  std::array<std::unique_ptr<model::Smmu>, 2> smmus;
  std::array<std::unique_ptr<SmmuInstance>, 2> instances;
  std::array<std::unique_ptr<Port>, 2> ports;
  Ram ram{memory};
  ModelTablePages table_pages{memory};
  stage2::ImmediateGrace grace;
  std::unique_ptr<stage2::S2Domain> domain;
  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu;
  std::map<vsmmu::Irq, unsigned> interrupts;
  unsigned sev = 0;
  std::uint64_t stage2_faults = 0;
  std::uint64_t host_events = 0;

 private:
  class Owner final : public StreamOwner {
   public:
    Owner(Machine& m, const Device& d) : StreamOwner{d.sid}, machine_{m}, device_{d} {}
    void on_event(SmmuInstance&, const smmu::Event& event) override {
      const auto report = machine_.vsmmu->handle_event(*machine_.ports[device_.smmu], event);
      ASSERT_TRUE(report);
      machine_.stage2_faults += report->owner == vsmmu::EventOwner::stage2 ? 1 : 0;
      machine_.host_events += report->owner == vsmmu::EventOwner::host ? 1 : 0;
    }

   private:
    Machine& machine_;
    const Device& device_;
  };
  void store_ste(unsigned i, StreamID sid, const smmu::Ste& ste) {
    using namespace smmu;
    STRTAB_BASE_CFG config;
    config.words[0] = smmus[i]->read(Reg::STRTAB_BASE_CFG);
    const PA base{smmus[i]->strtab_base()};
    PA at = base + std::uint64_t{sid.value} * sizeof(Ste);
    if (config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::two_level) {
      const auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
      const auto level1 = memory.load<L1Std>(base + (sid.value >> split) * sizeof(L1Std));
      at = PA{level1->get<L1Std::L2Ptr>()} + (sid.value & ((1u << split) - 1)) * sizeof(Ste);
    }
    EXPECT_TRUE(memory.store(at, ste));
  }
  std::array<std::unique_ptr<Owner>, kDevices.size()> owners;
};

// A guest's driver. Pages of its RAM, by number:
class Driver {
 public:
  static constexpr unsigned kLog2 = 6;  // of both queues
  static constexpr std::uint64_t ipa(std::uint64_t page) { return Ram::kBase + page * kPage4K; }
  static constexpr std::uint64_t kCmdq = Ram::kBase;
  static constexpr std::uint64_t kEvtq = Ram::kBase + 1 * kPage4K;
  static constexpr std::uint64_t kStrtab = Ram::kBase + 2 * kPage4K;
  static constexpr std::uint64_t kCds = Ram::kBase + 3 * kPage4K;
  static constexpr unsigned kFirstTable = 4;
  static constexpr unsigned kDecoy = 23;      // nothing of the guest's points to it
  static constexpr unsigned kFirstData = 24;  // to kPages

  explicit Driver(Machine& m) : machine{m} {
    for (std::uint16_t c = 0; c < 2; ++c) {
      contexts.emplace_back([this](std::uint64_t at) { return machine.ram.pointer(at); },
                            [this] { return ipa(next_table_++); });
      put(kCds + c * sizeof(smmu::Cd), context(contexts[c].root(), asid(c)));
    }
  }
  [[nodiscard]] static std::uint16_t asid(unsigned context) { return static_cast<std::uint16_t>(context + 1); }

  template <typename R>
  void put(std::uint64_t at, const R& r) {
    std::memcpy(machine.ram.pointer(at), r.words.data(), sizeof(R));
  }
  void write(smmu::Reg reg, std::uint64_t value, unsigned size = 4) {
    unsigned rounds = 0;
    while (machine.vsmmu->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again)
      ASSERT_LT(++rounds, 100000u);
  }
  [[nodiscard]] std::uint32_t read(smmu::Reg reg) const {
    const auto offset = static_cast<std::uint32_t>(reg);
    return offset >= smmu::kPage1 ? machine.page1[(offset - smmu::kPage1) / 4] : machine.page0[offset / 4];
  }
  // What a driver does first. All streams abort.
  void probe() {
    using namespace smmu;
    const IDR0 idr0{{{read(Reg::IDR0)}}};
    ASSERT_TRUE(idr0.get<IDR0::S1P>());
    ASSERT_FALSE(idr0.get<IDR0::S2P>());
    ASSERT_TRUE(IDR5{{{read(Reg::IDR5)}}}.get<IDR5::GRAN4K>());
    for (const Device& d : kDevices) put_ste(d.vsid, Ste{}.set<Ste::V>(true));
    write(Reg::STRTAB_BASE, kStrtab, 8);
    write(Reg::STRTAB_BASE_CFG, 6);
    write(Reg::CMDQ_BASE, kCmdq | kLog2, 8);
    write(Reg::EVENTQ_BASE, kEvtq | kLog2, 8);
    write(Reg::CR0, CR0::CMDQEN::mask);
    queue(cfgi_all());
    queue(tlbi_nsnh_all());
    sync();
    constexpr auto kOn = CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask;
    write(Reg::CR0, kOn);
    ASSERT_EQ(read(Reg::CR0ACK), kOn);
  }
  void put_ste(VStreamID vsid, const smmu::Ste& ste) { put(kStrtab + vsid.value * sizeof(smmu::Ste), ste); }
  [[nodiscard]] static smmu::Ste stage1_ste(unsigned context) {
    using smmu::Ste;
    return Ste{}
        .set<Ste::V>(true)
        .set<Ste::Config>(smmu::SteConfig::s1)
        .set<Ste::S1ContextPtr>(IPA{kCds + context * sizeof(smmu::Cd)});
  }
  void queue(const smmu::Command& c) {
    put(kCmdq + (prod_ & (kEntries - 1)) * sizeof(smmu::Command), c);
    prod_ = (prod_ + 1) & (2 * kEntries - 1);
  }
  void kick() { write(smmu::Reg::CMDQ_PROD, prod_); }
  void sync() {
    queue(smmu::sync_none());
    kick();
    ASSERT_EQ(read(smmu::Reg::CMDQ_CONS), prod_) << "not consumed, or an error";
  }
  // The events in the queue, which is empty then.
  [[nodiscard]] std::vector<smmu::Event> take_events() {
    std::vector<smmu::Event> taken;
    const std::uint32_t to = read(smmu::Reg::EVENTQ_PROD) & (2 * kEntries - 1);
    for (; cons_ != to; cons_ = (cons_ + 1) & (2 * kEntries - 1)) {
      smmu::Event e;
      std::memcpy(e.words.data(), machine.ram.pointer(kEvtq + (cons_ & (kEntries - 1)) * sizeof e), sizeof e);
      taken.push_back(e);
    }
    // OVACKFLG follows OVFLG.
    write(smmu::Reg::EVENTQ_CONS, (read(smmu::Reg::EVENTQ_PROD) & 0x8000'0000) | cons_);
    return taken;
  }

  Machine& machine;
  std::vector<Tables> contexts;

 private:
  static constexpr std::uint32_t kEntries = 1u << kLog2;
  unsigned next_table_ = kFirstTable;
  std::uint32_t prod_ = 0;
  std::uint32_t cons_ = 0;
};

}  // namespace weir::model::test
