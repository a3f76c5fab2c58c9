// Two VMs with stalling devices on one modelled SMMU, one of which never answers (Arm IHI 0070, 3.12.2): it takes up stall
// entries that all have in common, and must not hold up the other.
#include <gtest/gtest.h>

#include "tests/unit/property/world.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr unsigned kStallMax = 8;
constexpr std::uint64_t kVa = 0x12'3450'0000;

class Neighbour final : public StreamOwner {
 public:
  static constexpr std::uint32_t kVsid = 8;
  static constexpr unsigned kLog2 = 6;

  Neighbour(PhysicalMemory& memory, Port& port, StreamID on) : StreamOwner{on}, vm{memory, {}}, port_{port} {
    vsmmu::Config config;
    config.oas_bits = 40;
    vm.registers.push_back(std::make_unique<WorldVm::Page>());
    auto& page = *vm.registers.back();
    stage2::SmmuPort* const behind[] = {&port};
    auto made = vsmmu::VSmmu::create(config, behind,
                                     {.memory = vm.ram,
                                      .interrupts = vm,
                                      .drain = vm,
                                      .domain = *vm.domain,
                                      .pages = {page.words[0], page.words[1]}});
    EXPECT_TRUE(made);
    vm.vsmmus.push_back(std::move(*made));
    EXPECT_TRUE(port.instance().claim(*this));
    EXPECT_TRUE(vm.vsmmus[0]->attach(VStreamID{kVsid}, port, on));
    start();
  }
  ~Neighbour() {
    vm.vsmmus[0]->shutdown();
    port_.instance().release(*this);
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  void on_event(SmmuInstance&, const Event& event) override { EXPECT_TRUE(vm.vsmmus[0]->handle_event(port_, event)); }
  void write(Reg reg, std::uint64_t value, unsigned size = 4) {
    while (vm.vsmmus[0]->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again) {
    }
  }
  [[nodiscard]] std::uint32_t read(Reg reg) const {
    const auto offset = static_cast<std::uint32_t>(reg);
    return vm.registers[0]->words[offset / kPage1][offset % kPage1 / 4];
  }
  void issue(const Command& c) {
    for (const Command& each : {c, Command{sync_none()}}) {
      std::memcpy(vm.ram.pointer(cmdq_ + prod_ * sizeof each), each.words.data(), sizeof each);
      ++prod_;
    }
    write(Reg::CMDQ_PROD, prod_);
    EXPECT_EQ(read(Reg::CMDQ_CONS), prod_);
  }
  [[nodiscard]] unsigned events() const { return read(Reg::EVENTQ_PROD); }
  [[nodiscard]] FTranslation event(unsigned n) {
    Event e;
    std::memcpy(e.words.data(), vm.ram.pointer(evtq_ + n * sizeof e), sizeof e);
    return e.as<FTranslation>().value_or(FTranslation{});
  }
  void map() { tables_->map(kVa, vm.allocate(kPage4K)); }

  WorldVm vm;

 private:
  void start() {
    cmdq_ = vm.allocate(kPage4K);
    evtq_ = vm.allocate(kPage4K);
    const std::uint64_t strtab = vm.allocate(kPage4K);
    const std::uint64_t cd = vm.allocate(kPage4K);
    tables_.emplace([this](std::uint64_t at) { return vm.ram.pointer(at); }, [this] { return vm.allocate(kPage4K); });
    const Cd context_ = context(tables_->root(), 1).set<Cd::S>(true);
    std::memcpy(vm.ram.pointer(cd), context_.words.data(), sizeof context_);
    const Ste ste = Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1).set<Ste::S1ContextPtr>(IPA{cd});
    std::memcpy(vm.ram.pointer(strtab + kVsid * sizeof ste), ste.words.data(), sizeof ste);
    write(Reg::STRTAB_BASE, strtab, 8);
    write(Reg::STRTAB_BASE_CFG, 6);
    write(Reg::CMDQ_BASE, cmdq_ | kLog2, 8);
    write(Reg::EVENTQ_BASE, evtq_ | kLog2, 8);
    write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
    issue(cfgi_all());
  }
  Port& port_;
  std::optional<Tables> tables_;
  std::uint64_t cmdq_ = 0;
  std::uint64_t evtq_ = 0;
  std::uint32_t prod_ = 0;
};

TEST(SilentGuest, HoldsUpNobodyElse) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    PhysicalMemory memory;
    Smmu smmu{memory, Parameters{.seed = seed, .stall = StallModel::stall_and_terminate, .stall_max = kStallMax}};
    SmmuInstance instance{0, "smmu", smmu, true};
    ASSERT_TRUE(instance.quiesce());
    ASSERT_TRUE(instance.init());
    Port port{instance, Break::nothing};
    Neighbour silent{memory, port, StreamID{0x11}};
    Neighbour other{memory, port, StreamID{0x21}};
    const auto soon = [&](auto&& done) {
      for (unsigned i = 0; i < 20000; ++i) {
        if (done()) return true;
        smmu.step();
        instance.drain_events(16);
      }
      return false;
    };
    const auto touch = [&](const Neighbour& n, unsigned page) {
      return smmu.issue({.sid = n.sid, .address = kVa + page * kPage4K, .write = true}, 4).id;
    };

    std::vector<std::uint64_t> unanswered;
    for (unsigned i = 0; i < 3 * kStallMax; ++i) unanswered.push_back(touch(silent, i));
    const auto waiting = [&] {
      return std::ranges::count_if(unanswered,
                                   [&](auto id) { return smmu.transaction(id).state == Transaction::State::stalled; });
    };
    // Its share stays, what is beyond that is terminated.
    EXPECT_TRUE(soon([&] { return waiting() == vsmmu::stall_share(kStallMax); })) << "seed " << seed;

    // The other one's device faults, too; its guest maps the page and answers.
    const std::uint64_t id = touch(other, 0);
    ASSERT_TRUE(soon([&] { return other.events() == 1; })) << "seed " << seed;
    const FTranslation fault = other.event(0);
    ASSERT_TRUE(fault.get<FTranslation::Stall>()) << "seed " << seed;
    other.map();
    other.issue(resume(StreamID{Neighbour::kVsid}, fault.get<FTranslation::STAG>(), ResumeAction::retry));
    EXPECT_TRUE(soon([&] { return smmu.transaction(id).state == Transaction::State::passed; })) << "seed " << seed;

    // In the end nobody waits.
    EXPECT_EQ(waiting(), vsmmu::stall_share(kStallMax)) << "seed " << seed;
    for (unsigned i = 0; i <= vsmmu::kStallTicks; ++i) silent.vm.vsmmus[0]->tick();
    EXPECT_TRUE(soon([&] { return waiting() == 0; })) << "seed " << seed;
    EXPECT_EQ(smmu.misuses(), 0u);
  }
}

}  // namespace
}  // namespace weir::model::test
