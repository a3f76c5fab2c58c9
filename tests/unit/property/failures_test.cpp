// Each allocation of a VM's life fails, one after the other: whatever does not succeed has left everything as it was, tables
// are what Weir believes, and the same thing done again with memory succeeds.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "hyp/smmu/instance.hpp"
#include "hyp/vm/guest_memory.hpp"
#include "stage2/domain.hpp"
#include "stage2/vm_memory.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/one_reader.hpp"
#include "tests/unit/model/tables.hpp"
#include "tests/unit/property/checker.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;
using weir::test::FailingNew;

// Pages out of one piece of the modelled memory, that fail on request.
class Pages final : public stage2::TablePages, public SmmuHardware {
 public:
  static constexpr std::size_t kBytes = 8 << 20;
  explicit Pages(PhysicalMemory& memory) : base_{memory.allocate(kBytes)}, host_{memory.pointer(base_)} {}
  [[nodiscard]] std::byte* physical() const { return host_ - base_.value; }
  std::optional<PA> allocate(std::size_t bytes) override {
    if (fail_after == 0) {
      ++refused;
      return std::nullopt;
    }
    if (fail_after > 0) --fail_after;
    const PA at = next_.align_up(std::max<std::size_t>(bytes, kPage4K));
    next_ = at + bytes;
    if (next_.value > kBytes) return std::nullopt;
    ++in_use;
    return base_ + at.value;
  }
  void free(PA at, std::size_t bytes) override {
    std::memset(physical() + at.value, 0x5a, bytes);
    --in_use;
  }
  void* pointer(PA at) override { return physical() + at.value; }
  bool coherent() const override { return true; }
  void publish(const void*, std::size_t) override {}

  // As an SMMU's driver sees it: its tables and queues come from here, too.
  SmmuHardware* behind = nullptr;
  std::uint32_t read(Reg reg) override { return behind->read(reg); }
  void write(Reg reg, std::uint32_t value) override { behind->write(reg, value); }
  void write64(Reg reg, std::uint64_t value) override { behind->write64(reg, value); }
  void collect(const void*, std::size_t) override {}
  std::uint64_t microseconds() override { return behind->microseconds(); }
  void relax() override { behind->relax(); }

  int fail_after = -1;  // allocations that still succeed; negative: all
  unsigned refused = 0;
  long in_use = 0;

 private:
  PA base_;
  std::byte* host_;
  PA next_{};
};

class Pool final : public stage2::PagePool {
 public:
  explicit Pool(Pages& pages) : pages_{pages} {}
  std::optional<PA> allocate(std::uint64_t bytes) override { return pages_.allocate(bytes); }
  void scrub(PA at, std::uint64_t bytes) override { std::memset(pages_.pointer(at), 0, bytes); }
  void free(PA at, std::uint64_t bytes) override {
    std::memset(pages_.pointer(at), 0x5a, bytes);
    if (bytes == kPage4K) --pages_.in_use;
  }

 private:
  Pages& pages_;
};

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::uint64_t kRamBytes = 2 << 20;
constexpr std::uint64_t kLoans = 0x80'0000'0000;

struct Rig final : vsmmu::Interrupts, vsmmu::EventDrain {
  explicit Rig(bool is_precise) : precise{is_precise} {
    for (unsigned i = 0; i < 2; ++i) {
      models[i] = std::make_unique<Smmu>(memory, Parameters{.seed = i, .ril = i == 0, .bbml = 2});
      pages[i] = std::make_unique<Pages>(memory);
      pages[i]->behind = models[i].get();
      instances[i] = std::make_unique<SmmuInstance>(i, i == 0 ? "smmu-a" : "smmu-b", *pages[i], true);
      EXPECT_TRUE(instances[i]->quiesce());
      EXPECT_TRUE(instances[i]->init());
    }
    checker = std::make_unique<Checker>(memory, std::vector<Checker::Place>{{models[0].get(), instances[0].get()},
                                                                            {models[1].get(), instances[1].get()}});
  }
  ~Rig() {
    if (vsmmu) vsmmu->shutdown();
    vsmmu.reset();
    for (auto& m : moves) m.reset();
    for (auto& d : domains) d.reset();
  }
  void raise(vsmmu::Irq) override {}
  void send_event() override {}
  bool message(IPA, std::uint32_t) override { return true; }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<SmmuInstance&>(smmu).drain_events(most);
  }
  // All that may be refused.
  void fail_after(int n) {
    for (auto& p : pages) p->fail_after = n;
  }
  [[nodiscard]] std::string check() {
    std::vector<Checker::Vm> vms;
    for (unsigned v = 0; v < 2; ++v) {
      if (!domains[v]) continue;
      auto& vm =
          vms.emplace_back(Checker::Vm{.domain = domains[v].get(), .from = IPA{kRam}, .to = IPA{kRam + kRamBytes}});
      if (v == 0 && vsmmu) vm.vsmmus.push_back(vsmmu.get());
      vm.pages = meant[v];
    }
    return checker->check(vms);
  }
  [[nodiscard]] bool make_vm(unsigned v) {
    stage2::S2Domain::Options options;
    options.table.bbml = 2;
    if (!domains[v]) {
      auto made = stage2::S2Domain::create(*stage2::Geometry::make(40, AddressSize::bits44), *pages[0], grace, options);
      if (!made) return false;
      domains[v] = std::move(*made);
    }
    if (meant[v].empty()) {
      if (ram[v] == PA{}) {
        const int was = std::exchange(pages[1]->fail_after, -1);
        ram[v] = *pages[1]->allocate(kRamBytes);
        pages[1]->fail_after = was;
      }
      if (!domains[v]->map(IPA{kRam}, ram[v], kRamBytes, {.execute = true})) return false;
      for (std::uint64_t n = 0; n < kRamBytes; n += kPage4K) meant[v][kRam + n] = ram[v] + n;
    }
    memories[v] = GuestMemory{
        {.ram = IPA{kRam}, .ram_bytes = kRamBytes, .end = IPA{kRam + kRamBytes}, .physical = pages[1]->physical()},
        domains[v]->table(),
        reader.grace};
    moves[v] = std::make_unique<stage2::VmMemory>(stage2::VmMemory::Config{.id = v,
                                                                           .ram = IPA{kRam},
                                                                           .ram_bytes = kRamBytes,
                                                                           .loans = IPA{kLoans},
                                                                           .loan_bytes = kRamBytes,
                                                                           .calls = true,
                                                                           .share_with = 3},
                                                  *domains[v], pool, grants);
    return true;
  }
  [[nodiscard]] bool make_vsmmu() {
    std::array<stage2::SmmuPort*, 2> behind{instances[0].get(), instances[1].get()};
    vsmmu::Config config;
    config.oas_bits = 40;
    config.precise = precise;
    auto made = vsmmu::VSmmu::create(config, behind,
                                     {.memory = memories[0],
                                      .interrupts = *this,
                                      .drain = *this,
                                      .domain = *domains[0],
                                      .pages = {page0, page1},
                                      .hidden = {.pages = pages[1].get(), .base = IPA{0x0a00'0000}, .bytes = kPage4K}});
    if (!made) return false;
    vsmmu = std::move(*made);
    return true;
  }
  [[nodiscard]] bool attach(unsigned d) {
    return vsmmu->attach(VStreamID{8 * (d + 1)}, *instances[d % 2], StreamID{0x11 + 0x100 * d}).has_value();
  }
  template <typename R>
  void put(std::uint64_t at, const R& r) {
    EXPECT_TRUE(memories[0].write(IPA{at}, std::as_bytes(std::span{r.words})));
  }
  void write(Reg reg, std::uint64_t value, unsigned size = 4) {
    while (vsmmu->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again) {
    }
  }
  void send(std::initializer_list<Command> commands) {
    for (const Command& c : commands) {
      put(kRam + (prod & 63) * sizeof c, c);
      prod = (prod + 1) & 127;
    }
    write(Reg::CMDQ_PROD, prod);
  }
  // Guests: the queues in the first two pages, then STEs, CDs, tables.
  void start_guest() {
    std::uint64_t next = kRam + 4 * kPage4K;
    Tables tables{[this](std::uint64_t at) { return pages[1]->physical() + domains[0]->lookup(IPA{at})->at.value; },
                  [&next] { return std::exchange(next, next + kPage4K); }};
    tables.map(kRam + 0x10'0000, kRam + 0x10'0000);
    for (std::uint16_t c = 0; c < 4; ++c)
      put(kRam + 3 * kPage4K + c * sizeof(Cd), context(tables.root(), static_cast<std::uint16_t>(c + 1)));
    write(Reg::STRTAB_BASE, kRam + 2 * kPage4K, 8);
    write(Reg::STRTAB_BASE_CFG, 6);
    write(Reg::CMDQ_BASE, kRam | 6, 8);
    write(Reg::EVENTQ_BASE, (kRam + kPage4K) | 6, 8);
    write(Reg::CR0, CR0::CMDQEN::mask);
    write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
  }
  [[nodiscard]] bool point_to(unsigned first_context) {
    for (unsigned d = 0; d < 3; ++d)
      put(kRam + 2 * kPage4K + 8 * (d + 1) * sizeof(Ste),
          Ste{}
              .set<Ste::V>(true)
              .set<Ste::Config>(SteConfig::s1)
              .set<Ste::S1ContextPtr>(IPA{kRam + 3 * kPage4K + (first_context + d % 2) * sizeof(Cd)}));
    send({cfgi_all(), tlbi_nsnh_all(), sync_none()});
    for (const vsmmu::Stream& s : vsmmu->streams())
      if (!s.installed.get<Ste::V>() || !translates_s1(s.installed.get<Ste::Config>())) return false;
    return true;
  }
  // A transaction of each device goes where it should.
  [[nodiscard]] bool dma() {
    for (unsigned d = 0; d < 3; ++d) {
      const auto at = models[d % 2]->access(StreamID{0x11 + 0x100 * d}, IOVA{kRam + 0x10'0000}, true, 4);
      if (!at || *at != meant[0].at(kRam + 0x10'0000)) return false;
    }
    return true;
  }
  [[nodiscard]] bool relinquish(std::uint64_t ipa) {
    const auto outcome = moves[0]->relinquish(IPA{ipa}, 1);
    if (outcome.result != hypercall::Result::success) return false;
    meant[0].erase(ipa);
    return true;
  }
  [[nodiscard]] bool reclaim(std::uint64_t ipa) {
    const auto outcome = moves[0]->reclaim(IPA{ipa}, 1);
    if (outcome.result != hypercall::Result::success) return false;
    meant[0][ipa] = domains[0]->lookup(IPA{ipa})->at;
    return true;
  }
  [[nodiscard]] bool offer(std::uint64_t ipa, bool loan) {
    const auto outcome = moves[0]->offer({.ipa = IPA{ipa}, .pages = 2, .peer = 1, .write = true, .loan = loan}, handle);
    if (outcome.extra != 0) handle = outcome.extra;
    if (outcome.result != hypercall::Result::success || outcome.done != 2) return false;
    if (loan) {
      meant[0].erase(ipa);
      meant[0].erase(ipa + kPage4K);
    }
    return true;
  }
  [[nodiscard]] bool accept() {
    const auto outcome = moves[1]->accept(handle, IPA{kLoans}, 2);
    return outcome.result == hypercall::Result::success && outcome.done == 2;
  }
  [[nodiscard]] bool take_back(std::uint64_t ipa) {
    for (;;) {
      const auto outcome = moves[0]->take_back(handle);
      if (outcome.result != hypercall::Result::success) return false;
      if (outcome.done == 0) break;
    }
    handle = 0;
    for (const std::uint64_t at : {ipa, ipa + kPage4K}) meant[0][at] = ram[0] + (at - kRam);
    return true;
  }
  [[nodiscard]] bool protect(bool write_too) {
    return domains[0]->protect(IPA{kRam + 0x18'0000}, 3 * kPage4K, {.write = write_too, .execute = true}).has_value();
  }

  bool precise;
  PhysicalMemory memory;
  std::array<std::unique_ptr<Smmu>, 2> models;
  std::array<std::unique_ptr<Pages>, 2> pages;  // of an instance each; tables come from the first, RAM from the second
  std::array<std::unique_ptr<SmmuInstance>, 2> instances;
  stage2::ImmediateGrace grace;
  weir::test::OneReader reader;
  stage2::GrantTable grants;
  std::array<std::unique_ptr<stage2::S2Domain>, 2> domains;
  std::array<GuestMemory, 2> memories;
  struct LatePool final : stage2::PagePool {
    explicit LatePool(Rig& r) : rig{r} {}
    std::optional<PA> allocate(std::uint64_t bytes) override { return Pool{*rig.pages[1]}.allocate(bytes); }
    void scrub(PA at, std::uint64_t bytes) override { Pool{*rig.pages[1]}.scrub(at, bytes); }
    void free(PA at, std::uint64_t bytes) override { Pool{*rig.pages[1]}.free(at, bytes); }
    Rig& rig;
  } pool{*this};
  std::array<std::unique_ptr<stage2::VmMemory>, 2> moves;
  std::array<PA, 2> ram{};
  std::array<std::map<std::uint64_t, PA>, 2> meant;
  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu;
  std::unique_ptr<Checker> checker;
  std::uint64_t handle = 0;
  std::uint32_t prod = 0;
};

struct Step {
  const char* name;
  std::function<bool(Rig&)> run;
};

std::vector<Step> life() {
  constexpr std::uint64_t kInBlock = kRam + 0x18'0000;
  return {
      {"make the VM", [](Rig& r) { return r.make_vm(0); }},
      {"make another VM", [](Rig& r) { return r.make_vm(1); }},
      {"make a vSMMU", [](Rig& r) { return r.make_vsmmu(); }},
      {"attach the first device", [](Rig& r) { return r.attach(0); }},
      {"attach the second device", [](Rig& r) { return r.attach(1); }},
      {"attach the third device", [](Rig& r) { return r.attach(2); }},
      {"let the guest translate", [](Rig& r) { return (r.start_guest(), r.point_to(0)); }},
      {"other contexts", [](Rig& r) { return r.point_to(2); }},
      {"give a page of a block back", [](Rig& r) { return r.relinquish(kInBlock + 0x8000); }},
      {"ask for it again", [](Rig& r) { return r.reclaim(kInBlock + 0x8000); }},
      {"give back a page that devices use", [](Rig& r) { return r.relinquish(kRam + 0x10'0000); }},
      {"ask for that again", [](Rig& r) { return r.reclaim(kRam + 0x10'0000); }},
      {"take a right away", [](Rig& r) { return r.protect(false); }},
      {"give it back", [](Rig& r) { return r.protect(true); }},
      {"offer pages", [](Rig& r) { return r.offer(kInBlock + 0x2'0000, false); }},
      {"accept them", [](Rig& r) { return r.accept(); }},
      {"take them back", [](Rig& r) { return r.take_back(kInBlock + 0x2'0000); }},
      {"lend pages", [](Rig& r) { return r.offer(kInBlock + 0x3'0000, true); }},
      {"accept the loan", [](Rig& r) { return r.accept(); }},
      {"take the loan back", [](Rig& r) { return r.take_back(kInBlock + 0x3'0000); }},
      {"begin a dirty log", [](Rig& r) { return r.domains[0]->begin_log().has_value(); }},
      {"fill it", [](Rig& r) { return r.domains[0]->copy_to_log(IPA{kRam}, kRamBytes).has_value(); }},
      {"start it", [](Rig& r) { return r.domains[0]->start_log(IPA{kRam}, kRamBytes).has_value(); }},
      {"give back a page that is logged", [](Rig& r) { return r.relinquish(kInBlock + 0x5'0000); }},
      {"ask for it again while the log is on", [](Rig& r) { return r.reclaim(kInBlock + 0x5'0000); }},
      {"stop it", [](Rig& r) { return r.domains[0]->stop_log(IPA{kRam}, kRamBytes).has_value(); }},
      {"end it", [](Rig& r) { return (r.domains[0]->end_log(), true); }},
      {"detach a device", [](Rig& r) { return r.vsmmu->detach(VStreamID{16}).has_value(); }},
      {"attach it again", [](Rig& r) { return r.attach(1); }},
      {"let it translate again", [](Rig& r) { return r.point_to(0); }},
      {"reset", [](Rig& r) { return (r.vsmmu->reset(), true); }},
  };
}

enum class What : std::uint8_t { heap, pages };

// Step `at` with the nth allocation and all later ones refused. True: none was.
bool life_with_failure(bool precise, What what, std::size_t at, int n) {
  const auto steps = life();
  Rig rig{precise};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    SCOPED_TRACE(testing::Message() << steps[i].name << " after step " << at << " (" << steps[at].name << ") with " << n
                                    << " allocations" << (precise ? ", precise" : ""));
    bool refused = false;
    bool done = false;
    if (i == at) {
      for (auto& p : rig.pages) p->refused = 0;
      if (what == What::heap) {
        const FailingNew failing{n};
        done = steps[i].run(rig);
        refused = FailingNew::refused() != 0;
      } else {
        rig.fail_after(n);
        done = steps[i].run(rig);
        rig.fail_after(-1);
        refused = rig.pages[0]->refused + rig.pages[1]->refused != 0;
      }
      if (!refused) {
        EXPECT_TRUE(done);
        return true;
      }
      EXPECT_EQ(rig.check(), "") << "after the failure";
    }
    if (!done) {
      EXPECT_TRUE(steps[i].run(rig));
    }
    if (i >= at) {
      EXPECT_EQ(rig.check(), "");
    }
    if (testing::Test::HasFailure()) return true;
    if (i >= 7 && i + 4 < steps.size() && rig.meant[0].contains(kRam + 0x10'0000)) {
      EXPECT_TRUE(rig.dma());
    }
  }
  rig.vsmmu->shutdown();
  EXPECT_EQ(rig.check(), "");
  for (auto& i : rig.instances) EXPECT_EQ(i->vmids().in_use(), 0u);
  return false;
}

class Failures : public testing::TestWithParam<std::tuple<bool, What>> {};

TEST_P(Failures, LeaveEverythingAsItWas) {
  const auto [precise, what] = GetParam();
  unsigned failures = 0;
  for (std::size_t at = 0; at < life().size(); ++at)
    for (int n = 0; n < 200; ++n) {
      if (life_with_failure(precise, what, at, n)) break;
      ++failures;
      ASSERT_FALSE(HasFailure());
    }
  std::printf("%u failures\n", failures);
  EXPECT_GT(failures, what == What::heap ? 15u : 8u);
}
INSTANTIATE_TEST_SUITE_P(Each, Failures, testing::Combine(testing::Bool(), testing::Values(What::heap, What::pages)));

}  // namespace
}  // namespace weir::model::test
