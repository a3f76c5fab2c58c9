// SMMUs that do not look into the CPUs' caches, alone and next to one that does: the real driver, domain and vSMMU over
// memory with types, and a guest that treats its memory as its SMMU tells it to. Nobody may read what a cache still
// holds back, nor what a cache holds too long, nor reach one page both ways (IHI 0070, 3.15, 6.3.1 COHACC, 6.3.11).
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "hyp/smmu/instance.hpp"
#include "hyp/vm/guest_memory.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/fakes/one_reader.hpp"
#include "tests/unit/model/tables.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

// What somebody forgets, to show that it is noticed.
enum class Forget : std::uint8_t { nothing, stage2_cleans, drops_before_reads, cleans_after_writes, guest_cleans };

// How the guest reaches its queues and tables.
enum class Style : std::uint8_t {
  write_back,  // cacheable, no maintenance
  cleaned,     // cacheable, with maintenance
  uncached     // Normal Non-cacheable
};
constexpr std::array<const char*, 3> kStyles{"write-back", "cleaned", "uncached"};

// DC CIVAC for hyp/vm/guest_memory.hpp, which takes a plain function.
PhysicalMemory* caches = nullptr;
void to_poc(const void* at, std::size_t bytes) {
  const auto pa = caches->address_of(at);
  ASSERT_TRUE(pa);
  caches->clean(*pa, bytes);
  caches->invalidate(*pa, bytes);
}
void clean_only(const void* at, std::size_t bytes) { caches->clean(*caches->address_of(at), bytes); }
struct Scene {
  std::array<bool, 2> coherent{};  // the instances
  Style style{};
  std::uint64_t seed = 0;
  Forget forget = Forget::nothing;
};

// Weir and the machine under it: two SMMUs behind one vSMMU, put together as hyp/vm/devices.cpp does.
class World final : public vsmmu::Interrupts, public vsmmu::EventDrain, public stage2::TablePages {
 public:
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr std::uint64_t kFar = 0x8000'0000;  // further IPAs, mapped and unmapped
  static constexpr unsigned kPages = 64;
  static constexpr std::array<VStreamID, 2> kVsids{VStreamID{8}, VStreamID{16}};
  static constexpr std::array<StreamID, 2> kSids{StreamID{0x11}, StreamID{0x122}};

  explicit World(const Scene& s) : scene{s} {
    caches = &memory;
    for (unsigned i = 0; i < 2; ++i) {
      smmus[i] = std::make_unique<model::Smmu>(memory, Parameters{.seed = s.seed * 2 + i,
                                                                  .two_level = (s.seed & 1) == 0,
                                                                  .ril = (s.seed & 2) == 0,
                                                                  .coherent = s.coherent[i],
                                                                  .memory_types = true});
      instances[i] = std::make_unique<SmmuInstance>(i, i == 0 ? "smmu-a" : "smmu-b", *smmus[i], s.coherent[i]);
      EXPECT_TRUE(instances[i]->quiesce());
      const auto ready = instances[i]->init();
      EXPECT_TRUE(ready) << ready.error();
    }
    ram = memory.allocate(kPages * kPage4K);
    const auto geometry = stage2::Geometry::make(40, AddressSize::bits44);
    stage2::S2Domain::Options options;
    options.table.pages_only = true;
    options.clean_to_memory = !s.coherent[0] || !s.coherent[1];
    cleans_tables = options.clean_to_memory && s.forget != Forget::stage2_cleans;
    domain = *stage2::S2Domain::create(*geometry, *this, grace, options);
    for (unsigned p = 0; p < kPages; ++p) map(kRam + p * kPage4K, p);
    constexpr std::uint64_t kBytes = kPages * kPage4K;
    guest_memory = GuestMemory{
        {.ram = IPA{kRam}, .ram_bytes = kBytes, .end = IPA{kRam + kBytes}, .physical = memory.pointer(ram) - ram.value},
        domain->table(),
        reader.grace};
    const std::array<stage2::SmmuPort*, 2> both{instances[0].get(), instances[1].get()};
    const vsmmu::Surroundings surroundings{
        .memory = seen, .interrupts = *this, .drain = *this, .domain = *domain, .pages = {page0, page1}};
    vsmmu::Config config;
    config.oas_bits = 40;
    auto made = vsmmu::VSmmu::create(config, both, surroundings);
    EXPECT_TRUE(made);
    vsmmu = std::move(*made);
    for (unsigned i = 0; i < 2; ++i) {
      owners[i] = std::make_unique<Owner>(*this, i);
      EXPECT_TRUE(instances[i]->claim(*owners[i]));
      EXPECT_TRUE(vsmmu->attach(kVsids[i], *instances[i], kSids[i]));
    }
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() {
    vsmmu->shutdown();
    for (unsigned i = 0; i < 2; ++i) instances[i]->release(*owners[i]);
    vsmmu.reset();
    domain.reset();
  }

  // The guest's registers.
  void write(Reg reg, std::uint64_t value, unsigned size = 4) {
    unsigned rounds = 0;
    while (vsmmu->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again)
      ASSERT_LT(++rounds, 100000u);
    if (reg == Reg::CR1) seen.follow(vsmmu->announced().idr0, CR1{{{read(Reg::CR1)}}});
  }
  [[nodiscard]] std::uint32_t read(Reg reg) const {
    const auto offset = static_cast<std::uint32_t>(reg);
    return offset >= kPage1 ? page1[(offset - kPage1) / 4] : page0[offset / 4];
  }
  void settle() {
    for (unsigned i = 0; i < 2; ++i) {
      smmus[i]->settle();
      while (instances[i]->drain_events(64) != 0) {
      }
    }
  }
  void map(std::uint64_t ipa, unsigned page) {
    const stage2::Attributes rw{.memory = stage2::Memory::normal_wb, .read = true, .write = true, .execute = false};
    EXPECT_TRUE(domain->map(IPA{ipa}, ram + page * kPage4K, kPage4K, rw));
  }
  [[nodiscard]] PA at(std::uint64_t ipa) const { return ram + (ipa - kRam); }
  void problem(const std::string& what) { problems.push_back(what); }
  // What the model has seen of memory types, too.
  [[nodiscard]] unsigned all_problems() const {
    return static_cast<unsigned>(problems.size() + memory.stale_accesses() + memory.mismatched_pages());
  }

  // vsmmu::Interrupts, vsmmu::EventDrain
  void raise(vsmmu::Irq) override {}
  void send_event() override {}
  bool message(IPA, std::uint32_t) override { return false; }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<SmmuInstance&>(smmu).drain_events(most);
  }
  // stage2::TablePages, as hyp/vm/table_pages.cpp
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override { return memory.allocate(bytes); }
  void free(PA pa, std::size_t bytes) override { memory.free(pa, bytes); }
  [[nodiscard]] void* pointer(PA pa) override { return memory.pointer(pa); }
  void publish(const void* from, std::size_t bytes) override {
    if (cleans_tables) clean_only(from, bytes);
  }

  const Scene scene;
  PhysicalMemory memory;
  std::array<std::unique_ptr<model::Smmu>, 2> smmus;
  std::array<std::unique_ptr<SmmuInstance>, 2> instances;
  PA ram;
  GuestMemory guest_memory;
  VsmmuMemory seen{guest_memory, function()};
  bool cleans_tables = false;
  stage2::ImmediateGrace grace;
  weir::test::OneReader reader;
  std::unique_ptr<stage2::S2Domain> domain;
  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu;
  unsigned stage2_faults = 0;
  std::vector<std::string> problems;

 private:
  class Owner final : public StreamOwner {
   public:
    Owner(World& w, unsigned i) : StreamOwner{kSids[i]}, world_{w}, index_{i} {}
    void on_event(SmmuInstance&, const Event& event) override {
      const auto report = world_.vsmmu->handle_event(*world_.instances[index_], event);
      ASSERT_TRUE(report);
      world_.stage2_faults += report->owner == vsmmu::EventOwner::stage2 ? 1 : 0;
      if (report->owner == vsmmu::EventOwner::host) world_.problem("an event that nobody can explain");
    }

   private:
    World& world_;
    unsigned index_;
  };
  [[nodiscard]] VsmmuMemory::ToPoc function() const {
    switch (scene.forget) {
      case Forget::drops_before_reads: return clean_only;
      case Forget::cleans_after_writes: return [](const void*, std::size_t) {};
      default: return to_poc;
    }
  }
  std::array<std::unique_ptr<Owner>, 2> owners;
};

// The guest: its driver, and what it expects of its devices' DMA.
class Guest {
 public:
  static constexpr unsigned kLog2 = 4;  // of both queues: they wrap often
  static constexpr std::uint32_t kEntries = 1u << kLog2;
  static constexpr std::uint64_t page(unsigned n) { return World::kRam + n * kPage4K; }
  static constexpr std::uint64_t kCmdq = World::kRam;
  static constexpr std::uint64_t kEvtq = World::kRam + 1 * kPage4K;
  static constexpr std::uint64_t kStrtab = World::kRam + 2 * kPage4K;
  static constexpr std::uint64_t kCds = World::kRam + 3 * kPage4K;
  static constexpr unsigned kFirstTable = 4;
  static constexpr unsigned kFirstData = 40;
  static constexpr unsigned kVas = 6;
  static constexpr std::uint64_t kVa = 0x10'0000'0000;

  explicit Guest(World& w) : w_{w}, random_{w.scene.seed + 77} {}

  void run(unsigned operations) {
    probe();
    for (unsigned i = 0; i < operations && w_.problems.empty(); ++i) {
      operate();
      check_dma();
      if (testing::Test::HasFatalFailure()) return;
    }
    for (const auto& smmu : w_.smmus)
      if (smmu->misuses() != 0) w_.problem("a misuse");
    if (w_.read(Reg::GERROR) != w_.read(Reg::GERRORN)) w_.problem("a global error of the vSMMU");
  }
  unsigned passed = 0;
  unsigned faulted = 0;

 private:
  struct Device {
    SteConfig config = SteConfig::abort;
    unsigned context = 0;
  };
  struct Mapping {
    std::uint64_t ipa = 0;
    unsigned page = 0;
  };

  [[nodiscard]] unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  [[nodiscard]] static std::uint64_t va(unsigned v) { return kVa + (v < 3 ? v * kPage4K : v * (kPage4K << 9)); }
  [[nodiscard]] Style style() const { return w_.scene.style; }

  // --- Memory, in the guest's way ---
  template <typename T>
  void put(std::uint64_t ipa, const T& value) {
    const PA at = w_.at(ipa);
    if (style() == Style::uncached) {
      ASSERT_TRUE(w_.memory.store(at, value, false));
      return;
    }
    std::memcpy(w_.memory.pointer(at), &value, sizeof value);
    if (style() == Style::cleaned && w_.scene.forget != Forget::guest_cleans) w_.memory.clean(at, sizeof value);
  }
  template <typename T>
  [[nodiscard]] T get(std::uint64_t ipa) {
    const PA at = w_.at(ipa);
    if (style() == Style::uncached) return *w_.memory.load<T>(at, false);
    T value;
    std::memcpy(&value, w_.memory.pointer(at), sizeof value);
    return value;
  }
  // What others have written.
  [[nodiscard]] Event received(std::uint64_t ipa) {
    if (style() == Style::cleaned) w_.memory.invalidate(w_.at(ipa), sizeof(Event));
    return get<Event>(ipa);
  }
  [[nodiscard]] std::uint64_t new_table() {
    EXPECT_LT(next_table_, kFirstData);
    return page(next_table_++);
  }
  [[nodiscard]] std::uint64_t leaf(unsigned c, std::uint64_t address) {
    std::uint64_t table = roots_[c];
    for (unsigned level = 1; level < 3; ++level) {
      const std::uint64_t descriptor = table + ((address >> (39 - 9 * level)) & 511) * 8;
      if (get<std::uint64_t>(descriptor) == 0) put(descriptor, new_table() | kValid | kTable);
      table = get<std::uint64_t>(descriptor) & ~std::uint64_t{0xfff};
    }
    return table + ((address >> 12) & 511) * 8;
  }

  // --- The driver ---
  void probe() {
    const bool offered = IDR0{{{w_.read(Reg::IDR0)}}}.get<IDR0::COHACC>();
    ASSERT_EQ(offered, w_.scene.coherent[0] && w_.scene.coherent[1]);
    ASSERT_TRUE(offered || style() != Style::write_back) << "no guest of ours";
    if (style() == Style::write_back) {
      const auto wb = QueueCacheability::write_back;
      w_.write(Reg::CR1, CR1{}
                             .set<CR1::TABLE_SH>(Shareability::inner)
                             .set<CR1::TABLE_OC>(wb)
                             .set<CR1::TABLE_IC>(wb)
                             .set<CR1::QUEUE_SH>(Shareability::inner)
                             .set<CR1::QUEUE_OC>(wb)
                             .set<CR1::QUEUE_IC>(wb)
                             .words[0]);
    }
    for (unsigned c = 0; c < 2; ++c) {
      roots_[c] = new_table();
      put_cd(c);
    }
    for (unsigned d = 0; d < 2; ++d) put_ste(d);
    w_.write(Reg::STRTAB_BASE, kStrtab, 8);
    w_.write(Reg::STRTAB_BASE_CFG, 6);
    w_.write(Reg::CMDQ_BASE, kCmdq | kLog2, 8);
    w_.write(Reg::EVENTQ_BASE, kEvtq | kLog2, 8);
    w_.write(Reg::CR0, CR0::CMDQEN::mask);
    queue(cfgi_all());
    queue(tlbi_nsnh_all());
    sync();
    constexpr auto kOn = CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask;
    w_.write(Reg::CR0, kOn);
    ASSERT_EQ(w_.read(Reg::CR0ACK), kOn);
  }
  void queue(const Command& c) {
    put(kCmdq + (prod_ & (kEntries - 1)) * sizeof c, c);
    prod_ = (prod_ + 1) & (2 * kEntries - 1);
  }
  void sync() {
    queue(sync_none());
    w_.write(Reg::CMDQ_PROD, prod_);
    if (w_.read(Reg::CMDQ_CONS) != prod_) w_.problem("a command was not what the guest had written");
  }
  void put_cd(unsigned c) {
    Cd cd = context(roots_[c], static_cast<std::uint16_t>(c + 1));
    if (style() == Style::write_back)
      cd.set<Cd::IR0>(WalkCacheability::write_back_ra_wa)
          .set<Cd::OR0>(WalkCacheability::write_back_ra_wa)
          .set<Cd::SH0>(Shareability::inner);
    put(kCds + c * sizeof cd, cd);
  }
  void put_ste(unsigned d) {
    Ste ste = Ste{}.set<Ste::V>(true).set<Ste::Config>(devices_[d].config);
    if (devices_[d].config == SteConfig::s1) {
      ste.set<Ste::S1ContextPtr>(IPA{kCds + devices_[d].context * sizeof(Cd)});
      // Linux says so whatever IDR0.COHACC says. A guest that knows that its SMMU is coherent means it.
      const bool offered = w_.scene.coherent[0] && w_.scene.coherent[1];
      if (style() == Style::write_back || !offered)
        ste.set<Ste::S1CIR>(CdCacheability::write_back_ra)
            .set<Ste::S1COR>(CdCacheability::write_back_ra)
            .set<Ste::S1CSH>(Shareability::inner);
    }
    put(kStrtab + World::kVsids[d].value * sizeof ste, ste);
  }

  // --- What it does; each is complete when operate() returns ---
  void operate() {
    const unsigned c = pick(2);
    const unsigned v = pick(kVas);
    switch (pick(10)) {
      case 0:
      case 1:
      case 2: {  // map, or change
        const unsigned p = kFirstData + pick(8);
        mappings_[c][v] = {.ipa = page(p), .page = p};
        put(leaf(c, va(v)), page(p) | kPageRw);
        queue(tlbi_nh_va(VMID{}, ASID{static_cast<std::uint16_t>(c + 1)}, IOVA{va(v)}, true));
        break;
      }
      case 3: {
        mappings_[c][v] = {};
        put(leaf(c, va(v)), std::uint64_t{0});
        queue(tlbi_nh_va(VMID{}, ASID{static_cast<std::uint16_t>(c + 1)}, IOVA{va(v)}, true));
        break;
      }
      case 4:
      case 5: {
        const unsigned d = pick(2);
        constexpr std::array kConfigs{SteConfig::s1, SteConfig::s1, SteConfig::s1, SteConfig::bypass, SteConfig::abort};
        devices_[d] = {kConfigs[pick(kConfigs.size())], c};
        put_ste(d);
        queue(cfgi_ste(StreamID{World::kVsids[d].value}, true));
        break;
      }
      case 6: {  // the contexts change places
        std::swap(roots_[0], roots_[1]);
        std::swap(mappings_[0], mappings_[1]);
        for (unsigned i = 0; i < 2; ++i) put_cd(i);
        queue(cfgi_all());
        sync();  // else a walk with an old CD might follow the invalidation of the TLB
        queue(tlbi_nh_all(VMID{}));
        break;
      }
      case 7: {  // a page of the VM goes, and comes back at another IPA
        const unsigned p = kFirstData + pick(8);
        static_cast<void>(w_.domain->unmap(IPA{page(p)}, kPage4K));
        check_dma(p);
        w_.map(page(p), p);
        break;
      }
      default: {  // a new piece of stage 2, with tables of its own, and its end
        const std::uint64_t ipa = World::kFar + pick(4) * 0x4000'0000 + pick(512) * kPage4K;
        const unsigned p = kFirstData + pick(8);
        w_.map(ipa, p);
        const Mapping before = mappings_[c][v];
        set(c, v, {.ipa = ipa, .page = p});
        check_dma();
        set(c, v, before);
        EXPECT_TRUE(w_.domain->unmap(IPA{ipa}, kPage4K));
        break;
      }
    }
    sync();
  }
  void set(unsigned c, unsigned v, const Mapping& m) {
    mappings_[c][v] = m;
    put(leaf(c, va(v)), m.ipa == 0 ? std::uint64_t{0} : m.ipa | kPageRw);
    queue(tlbi_nh_va(VMID{}, ASID{static_cast<std::uint16_t>(c + 1)}, IOVA{va(v)}, false));
    sync();
  }

  // Every device touches one of its pages; what it gets is what has been set up last. `gone`: a page that stage 2 lacks.
  void check_dma(unsigned gone = 0) {
    for (unsigned d = 0; d < 2; ++d) {
      const unsigned v = pick(kVas);
      const bool bypass = devices_[d].config == SteConfig::bypass;
      const unsigned direct = kFirstData + pick(8);
      const std::uint64_t address = bypass ? page(direct) : va(v);
      const Mapping& m = mappings_[devices_[d].context][v];
      const unsigned target = bypass ? direct : m.page;
      const bool aborts = devices_[d].config == SteConfig::abort;
      const bool translated = !aborts && target != 0;
      const bool passes = translated && (target != gone || (!bypass && m.ipa >= World::kFar));
      const unsigned stage2_before = w_.stage2_faults;
      const auto got = w_.smmus[d]->access(World::kSids[d], IOVA{address}, pick(2) == 0, 4);
      w_.settle();
      if (got != (passes ? std::optional{w_.ram + target * kPage4K} : std::nullopt))
        w_.problem("device " + std::to_string(d) + (got ? " reaches the wrong page" : " does not reach its page"));
      (got ? passed : faulted)++;
      if (!passes && translated && w_.stage2_faults == stage2_before) w_.problem("a stage-2 fault got lost");
      check_events(!passes && !translated && !aborts, d, address);
    }
  }
  // The events since last time: none, or one F_TRANSLATION for device d.
  void check_events(bool expected, unsigned d, std::uint64_t address) {
    const std::uint32_t to = w_.read(Reg::EVENTQ_PROD) & (2 * kEntries - 1);
    unsigned count = 0;
    for (; cons_ != to; cons_ = (cons_ + 1) & (2 * kEntries - 1), ++count) {
      const auto e = received(kEvtq + (cons_ & (kEntries - 1)) * sizeof(Event));
      const auto fault = e.as<FTranslation>();
      if (!fault || fault->get<FTranslation::StreamID>() != World::kVsids[d].value ||
          fault->get<FTranslation::InputAddr>() != IOVA{address})
        w_.problem("an event record is not the one that was written");
    }
    w_.write(Reg::EVENTQ_CONS, (w_.read(Reg::EVENTQ_PROD) & 0x8000'0000) | cons_);
    if (count != (expected ? 1u : 0u)) w_.problem("events: " + std::to_string(count));
  }

  World& w_;
  std::mt19937_64 random_;
  std::array<std::uint64_t, 2> roots_{};
  std::array<std::array<Mapping, kVas>, 2> mappings_{};
  std::array<Device, 2> devices_{};
  unsigned next_table_ = kFirstTable;
  std::uint32_t prod_ = 0;
  std::uint32_t cons_ = 0;
};

std::vector<Scene> scenes() {
  std::vector<Scene> all;
  for (const std::array<bool, 2> coherent : {std::array{false, false}, {true, false}, {false, true}, {true, true}})
    for (const Style style : {Style::write_back, Style::cleaned, Style::uncached}) {
      const bool offered = coherent[0] && coherent[1];
      if (style != (offered ? Style::cleaned : Style::write_back))
        all.push_back({.coherent = coherent, .style = style});
    }
  return all;
}

std::string name(const Scene& s) {
  return std::string{"a "} + (s.coherent[0] ? "coherent" : "not") + ", b " + (s.coherent[1] ? "coherent" : "not") +
         ", guest " + kStyles[static_cast<unsigned>(s.style)] + ", seed " + std::to_string(s.seed);
}

TEST(Coherency, NobodyReadsWhatACacheHoldsBackOrHoldsTooLong) {
  unsigned passed = 0;
  unsigned faulted = 0;
  for (Scene s : scenes())
    for (s.seed = 0; s.seed < 6; ++s.seed) {
      SCOPED_TRACE(name(s));
      World world{s};
      Guest guest{world};
      guest.run(120);
      ASSERT_FALSE(HasFatalFailure());
      ASSERT_TRUE(world.problems.empty()) << world.problems[0];
      ASSERT_EQ(world.memory.stale_accesses(), 0u);
      ASSERT_EQ(world.memory.mismatched_pages(), 0u);
      passed += guest.passed;
      faulted += guest.faulted;
    }
  EXPECT_GT(passed, 1000u);
  EXPECT_GT(faulted, 1000u);
}

// The same runs notice each of these.
class CoherencyForgotten : public testing::TestWithParam<Forget> {};
TEST_P(CoherencyForgotten, IsNoticed) {
  unsigned noticed = 0;
  for (Scene s : scenes()) {
    if (s.coherent[0] && s.coherent[1]) continue;
    s.forget = GetParam();
    s.seed = 1;
    World world{s};
    Guest guest{world};
    guest.run(120);
    ASSERT_FALSE(HasFatalFailure());
    noticed += world.all_problems() != 0 ? 1 : 0;
  }
  EXPECT_GT(noticed, 0u);
}
INSTANTIATE_TEST_SUITE_P(All, CoherencyForgotten,
                         testing::Values(Forget::stage2_cleans, Forget::drops_before_reads, Forget::cleans_after_writes,
                                         Forget::guest_cleans));

TEST(Coherency, WhatTheGuestSaysInCr1Counts) {
  // Both SMMUs are coherent, and the guest does without all the same: that is the uncached style above. Without
  // looking at CR1 it would not work.
  Scene s{.coherent = {true, true}, .style = Style::uncached, .seed = 3};
  World world{s};
  EXPECT_FALSE(world.seen.coherent());
  const auto wb = QueueCacheability::write_back;
  CR1 cr1 = CR1{}.set<CR1::TABLE_OC>(wb).set<CR1::TABLE_IC>(wb).set<CR1::QUEUE_OC>(wb).set<CR1::QUEUE_IC>(wb);
  world.write(Reg::CR1, cr1.words[0]);
  EXPECT_TRUE(world.seen.coherent());
  world.write(Reg::CR1, cr1.set<CR1::QUEUE_OC>(QueueCacheability::non_cacheable).words[0]);
  EXPECT_FALSE(world.seen.coherent());
  World other{Scene{.coherent = {true, false}, .style = Style::uncached, .seed = 3}};
  other.write(Reg::CR1, cr1.set<CR1::QUEUE_OC>(wb).words[0]);
  EXPECT_FALSE(other.seen.coherent()) << "COHACC is not offered";
}

}  // namespace
}  // namespace weir::model::test
