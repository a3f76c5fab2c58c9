// Instances that differ in everything that a stage-2 table depends on, behind one domain: the real driver and the domain
// over modelled SMMUs of six kinds. A VM's memory is mapped, unmapped and protected while their devices use it; every
// one of them reaches what it should and nothing else, by whichever table it walks.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "hyp/smmu/instance.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/model/tables.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;
using stage2::Incompatibility;

// What the domain may do wrong, to show that the model notices.
enum class Wrong : std::uint8_t { nothing, table_of_class_0, no_fwb, caches };

struct Kind {
  const char* name;
  Parameters parameters;
  std::optional<Incompatibility> reason;
};
std::vector<Kind> kinds(std::uint64_t seed) {
  const auto like = [&](unsigned n, auto&& change) {
    Parameters p{.seed = seed * 16 + n, .two_level = n % 2 == 0, .bbml = 2};
    p.httu = Htt::access_dirty;
    p.fwb = true;
    p.memory_types = true;
    p.tlb_conflicts = true;
    change(p);
    return p;
  };
  return {{"all", like(0, [](auto&) {}), {}},
          {"no-fwb", like(1, [](auto& p) { p.fwb = false, p.vmid16 = false, p.ril = false; }), Incompatibility::no_fwb},
          // Before "apart", whose table has no dirty state either: walks that do not snoop cannot have it.
          {"no-httu", like(5, [](auto& p) { p.httu = Htt::none; }), Incompatibility::no_dirty_state},
          {"apart", like(2, [](auto& p) { p.coherent = false, p.asid16 = false; }), Incompatibility::not_coherent},
          {"bbml-1", like(3, [](auto& p) { p.bbml = 1; }), Incompatibility::bbml_too_low},
          {"bbml-0", like(4, [](auto& p) { p.bbml = 0, p.vmid16 = false; }), Incompatibility::bbml_too_low},
          {"small", like(6, [](auto& p) { p.oas = AddressSize::bits36; }), Incompatibility::input_too_small},
          {"all-again", like(7, [](auto& p) { p.asid16 = false, p.ril = false; }), {}}};
}

class Pages final : public stage2::TablePages {
 public:
  Pages(PhysicalMemory& memory, bool cleans) : memory_{memory}, cleans_{cleans} {}
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override {
    const PA at = memory_.allocate(bytes);
    publish(memory_.pointer(at), bytes);
    return at;
  }
  void free(PA at, std::size_t bytes) override { memory_.free(at, bytes); }
  [[nodiscard]] void* pointer(PA at) override { return memory_.pointer(at); }
  void publish(const void* at, std::size_t bytes) override {
    if (cleans_) memory_.clean(*memory_.address_of(at), bytes);
  }

 private:
  PhysicalMemory& memory_;
  bool cleans_;
};

class MixedMachine {
 public:
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr unsigned kPages = 1024 + 20;  // two blocks of 2 MiB and a bit
  static constexpr std::uint64_t kTables = 0x1000'0000;
  static constexpr unsigned kTablePages = 16;
  static constexpr std::uint64_t kVa = 0x10'0000'0000;  // nested streams: VA kVa + x is IPA kRam + x
  static constexpr StreamID kPlain{0x11}, kNested{0x12};

  explicit MixedMachine(std::uint64_t seed, Wrong wrong = Wrong::nothing) : kinds_{kinds(seed)}, random_{seed} {
    memory.types();
    domain = *stage2::S2Domain::create(*stage2::Geometry::make(40, AddressSize::bits44), plain, grace,
                                       {.table = {.bbml = 2, .fwb = true, .dirty_state = true}, .cleaned = &cleaned});
    ram_ = memory.allocate(0x80'0000);
    tables_ = memory.allocate(kTablePages * kPage4K);
    expected.resize(kPages);
    EXPECT_TRUE(domain->map(IPA{kTables}, tables_, kTablePages * kPage4K, {}));
    make_stage1();
    for (const Kind& kind : kinds_) add(kind, wrong);
  }
  MixedMachine(const MixedMachine&) = delete;
  MixedMachine& operator=(const MixedMachine&) = delete;
  ~MixedMachine() {
    for (auto& i : instances) {
      const Ste abort = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::abort);
      EXPECT_TRUE(domain->uninstall(*i->tag, kPlain, {}, abort));
      EXPECT_TRUE(domain->uninstall(*i->tag, kNested, {.stage1 = true}, abort));
      domain->detach(std::move(i->tag));
    }
    for (auto& i : instances) {
      while (i->driver->drain_events(64) != 0) {
      }
      EXPECT_EQ(i->driver->vmids().in_use(), 0u);
      i->driver->release(i->owner);
      i->driver->release(i->nested_owner);
    }
    domain.reset();
  }

  void change() {
    const unsigned first = pick(3) == 0 ? 512 * pick(2) : pick(kPages);
    const unsigned count = pick(3) == 0 ? 512 : 1 + pick(pick(4) == 0 ? 600 : 4);
    if (first + count > kPages) return;
    const IPA at = IPA{kRam} + first * kPage4K;
    const PA pa = ram_ + first * kPage4K;
    bool any = false, all = true;
    for (unsigned i = first; i < first + count; ++i) {
      any = any || expected[i];
      all = all && expected[i];
    }
    const auto set = [&](std::optional<bool> to) {
      for (unsigned i = first; i < first + count; ++i) expected[i] = to;
    };
    warm();
    if (!any) {
      ASSERT_TRUE(domain->map(at, pa, count * kPage4K, {}));
      set(true);
    } else if (all && pick(2) == 0) {
      const bool write = pick(2) == 0;
      ASSERT_TRUE(domain->protect(at, count * kPage4K, {.write = write}));
      set(write);
    } else {
      ASSERT_TRUE(domain->unmap(at, count * kPage4K));
      set(std::nullopt);
    }
  }
  // All devices try one page, those behind stage 1 too. What is wrong goes to `problems`.
  void check() {
    const unsigned page = pick(kPages);
    const bool write = pick(2) == 0;
    const bool reaches = expected[page] && (!write || *expected[page]);
    for (auto& i : instances)
      for (const bool nested : {false, true}) {
        const std::uint64_t base = nested ? kVa : kRam;
        const auto got =
            i->smmu->issue({.sid = nested ? kNested : kPlain, .address = base + page * kPage4K, .write = write});
        const bool passed = got.state == Transaction::State::passed;
        const std::string who = std::string{i->kind.name} + (nested ? " nested" : "");
        if (passed != reaches)
          problems.insert(who + (passed ? " reaches what it must not" : " does not reach its page"));
        if (passed && got.address != ram_ + page * kPage4K) problems.insert(who + " reaches another page");
        if (passed && !nested && got.type != MemoryType{}) problems.insert(who + " has another memory type");
        (passed ? passed_ : faulted_)++;
      }
  }
  void run(unsigned rounds) {
    for (unsigned n = 0; n < rounds && problems.empty(); ++n) {
      change();
      for (unsigned i = 0; i < 6; ++i) check();
      if (testing::Test::HasFatalFailure()) return;
    }
    for (auto& i : instances) {
      i->smmu->settle();
      while (i->driver->drain_events(64) != 0) {
      }
      if (i->smmu->misuses() != 0) problems.insert(std::string{i->kind.name} + " was misused");
      if (i->owner.conflicts != 0) problems.insert(std::string{i->kind.name} + " has TLB conflicts");
      if (i->owner.others != 0) problems.insert(std::string{i->kind.name} + " has odd events");
    }
    if (memory.stale_accesses() != 0) problems.insert("something was not cleaned");
    if (memory.touched_freed() != 0) problems.insert("a table page was walked after it had gone");
  }

  PhysicalMemory memory;
  Pages plain{memory, false}, cleaned{memory, true};
  stage2::ImmediateGrace grace;
  std::unique_ptr<stage2::S2Domain> domain;
  std::vector<std::optional<bool>> expected;  // of each page: mapped; writable
  std::set<std::string> problems;
  unsigned passed_ = 0, faulted_ = 0;

  struct Owner final : StreamOwner {
    explicit Owner(StreamID sid) : StreamOwner{sid} {}
    void on_event(SmmuInstance&, const Event& event) override {
      const auto type = event.id();
      if (type == EventId::F_TLB_CONFLICT) {
        ++conflicts;
      } else if (type != EventId::F_TRANSLATION && type != EventId::F_PERMISSION) {
        ++others;
      }
    }
    unsigned conflicts = 0;
    unsigned others = 0;
  };
  struct Instance {
    Kind kind;
    std::unique_ptr<model::Smmu> smmu;
    std::unique_ptr<SmmuInstance> driver;
    std::unique_ptr<stage2::HostTag> tag;
    Owner owner{kPlain}, nested_owner{kNested};
  };
  std::vector<std::unique_ptr<Instance>> instances;

 private:
  [[nodiscard]] unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  // One CD and one stage-1 table for all, as a guest would build them, cleaned for who does not snoop.
  void make_stage1() {
    unsigned next = 1;
    Tables s1{[this](std::uint64_t ipa) { return memory.pointer(tables_ + (ipa - kTables)); },
              [&next] { return kTables + next++ * kPage4K; }};
    for (unsigned p = 0; p < kPages; ++p) s1.map(kVa + p * kPage4K, kRam + p * kPage4K);
    Cd cd = context(s1.root(), 1);
    std::memcpy(memory.pointer(tables_), cd.words.data(), sizeof cd);
    memory.clean(tables_, kTablePages * kPage4K);
  }
  void add(const Kind& kind, Wrong wrong) {
    auto i = std::make_unique<Instance>();
    i->kind = kind;
    const auto number = static_cast<unsigned>(instances.size());
    i->smmu = std::make_unique<model::Smmu>(memory, kind.parameters);
    i->driver = std::make_unique<SmmuInstance>(number, kind.name, *i->smmu, kind.parameters.coherent);
    EXPECT_TRUE(i->driver->quiesce());
    const auto ready = i->driver->init();
    EXPECT_TRUE(ready) << kind.name << ": " << ready.error();
    EXPECT_TRUE(i->driver->claim(i->owner));
    EXPECT_TRUE(i->driver->claim(i->nested_owner));
    for (unsigned skew = 0; skew < number; ++skew) skew_.push_back(*stage2::HostTag::create(*i->driver));
    i->tag = *stage2::HostTag::create(*i->driver);
    EXPECT_TRUE(domain->attach(*i->tag)) << kind.name;
    skew_.clear();
    const auto info = domain->class_info(domain->class_of(*i->tag));
    EXPECT_EQ(info->reason, kind.reason) << kind.name;
    Ste ste = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s2);
    domain->fill_stage2(*i->tag, ste);
    if (wrong == Wrong::table_of_class_0 && domain->class_of(*i->tag) != 0)
      ste.set<Ste::S2TTB>(domain->table().root()).set<Ste::S2T0SZ>(24).set<Ste::S2SL0>(1);
    if (wrong == Wrong::no_fwb) ste.set<Ste::S2FWB>(false);
    if (wrong == Wrong::caches && !kind.parameters.coherent) ste.set<Ste::S2TTB>(domain->table().root());
    EXPECT_TRUE(domain->install(*i->tag, kPlain, std::nullopt, ste));
    ste.set<Ste::Config>(SteConfig::s1_s2).set<Ste::S1ContextPtr>(IPA{kTables});
    EXPECT_TRUE(domain->install(*i->tag, kNested, std::nullopt, ste));
    for (unsigned p = 0; p < kPages; p += 64) {
      i->smmu->hint(kPlain, IOVA{kRam + p * kPage4K});
      i->smmu->hint(kNested, IOVA{kVa + p * kPage4K});
    }
    instances.push_back(std::move(i));
  }
  void warm() {
    for (auto& i : instances) {
      for (unsigned n = 0; n < 20; ++n) i->smmu->prefetch();
      while (i->driver->drain_events(64) != 0) {
      }
    }
  }

  std::vector<Kind> kinds_;
  std::mt19937_64 random_;
  PA ram_, tables_;
  std::vector<std::unique_ptr<stage2::HostTag>> skew_;
};

TEST(MixedMachine, EveryInstanceReachesWhatItShouldAndNothingElse) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    MixedMachine machine{seed};
    machine.run(40);
    for (const std::string& problem : machine.problems) ADD_FAILURE() << problem;
    EXPECT_GT(machine.passed_, 100u);
    EXPECT_GT(machine.faulted_, 100u);
    EXPECT_TRUE(machine.domain->check_invariants());
    unsigned classes = 0;
    while (machine.domain->class_info(classes)) ++classes;
    EXPECT_EQ(classes, 7u);
  }
}

// An instance that walks a table of another class is found out.
TEST(MixedMachine, TheModelNoticesAWrongTable) {
  for (const Wrong wrong : {Wrong::table_of_class_0, Wrong::no_fwb, Wrong::caches}) {
    SCOPED_TRACE(static_cast<unsigned>(wrong));
    bool noticed = false;
    for (std::uint64_t seed = 1; seed <= 4 && !noticed; ++seed) {
      MixedMachine machine{seed, wrong};
      machine.run(40);
      noticed = !machine.problems.empty();
    }
    EXPECT_TRUE(noticed);
  }
}

}  // namespace
}  // namespace weir::model::test
