// The bound of docs/threat-model.md on what a flood does to others: VMs that give an SMMU as many commands as they can, each on a
// pCPU, and another one's SYNC. Counted where the hardware would see it: in the ring, when the SYNC is submitted.
#include <algorithm>
#include <array>
#include <thread>

#include "hyp/smmu/command_queue.hpp"
#include "tests/race/machine.hpp"

namespace weir::race {
namespace {

using namespace smmu;

constexpr unsigned kPcpus = 4;
constexpr unsigned kVictim = kPcpus - 1;  // the thread's index
constexpr std::uint64_t kRam = 0x4000'0000;

class Watched final : public Hardware {
 public:
  Watched(Bench& bench, const model::Parameters& parameters) : Hardware{bench, parameters}, bench_{bench} {}
  [[nodiscard]] unsigned pcpus() override { return kPcpus; }
  void write(Reg reg, std::uint32_t value) override {
    if (reg == Reg::CMDQ_PROD && race::pcpu() == kVictim && submitting) {
      const UnseenLock lock{bench_.mutex};
      const std::uint32_t wrap = 2U << CMDQ_BASE{{{model().read(Reg::CMDQ_BASE)}}}.get<CMDQ_BASE::LOG2SIZE>();
      const std::uint32_t ahead = (value - CMDQ_CONS{{{model().read(Reg::CMDQ_CONS)}}}.get<CMDQ_CONS::RD>()) % wrap;
      most = std::max(most, ahead);
      ++submitted;
      submitting = false;
      moving = true;
    }
    Hardware::write(reg, value);
  }
  void relax() override {
    if (race::pcpu() == kVictim && submitting) {
      ++waited;
      moving = true;
    }
    if (moving.load(std::memory_order_relaxed)) return Hardware::relax();
    yield();
  }
  std::atomic<bool> moving{true};  // otherwise the SMMU stands still
  // The victim's thread only:
  bool submitting = false;
  std::uint32_t most = 0;  // commands from the SYNC, inclusive, back to what was consumed
  unsigned submitted = 0;
  unsigned waited = 0;  // for room

 private:
  Bench& bench_;
};

// A VM with one vSMMU, one device, and 64 KiB.
class Guest final : public vsmmu::GuestMemory, public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  static constexpr unsigned kLog2 = 10;
  Guest(Frames& frames, stage2::Grace& grace, SmmuInstance& smmu, StreamID sid) {
    domain_ = *stage2::S2Domain::create(*stage2::Geometry::make(40, AddressSize::bits44), frames, grace, {});
    std::array<stage2::SmmuPort*, 1> behind{&smmu};
    auto made = vsmmu::VSmmu::create(
        {.oas_bits = 40}, behind,
        {.memory = *this, .interrupts = *this, .drain = *this, .domain = *domain_, .pages = {page0_, page1_}});
    EXPECT_TRUE(made);
    vsmmu_ = std::move(*made);
    EXPECT_TRUE(vsmmu_->attach(VStreamID{1}, smmu, sid));
    put(kTable + sizeof(Ste),
        Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1).set<Ste::S1ContextPtr>(IPA{kRam + kTable}));
    store(Reg::STRTAB_BASE, kRam + kTable, 8);
    store(Reg::STRTAB_BASE_CFG, 6);
    store(Reg::CMDQ_BASE, kRam | kLog2, 8);
    store(Reg::CR0, CR0::CMDQEN::mask);
    store(Reg::CR0, CR0::CMDQEN::mask | CR0::SMMUEN::mask);
  }
  ~Guest() { vsmmu_->shutdown(); }
  void add(const Command& c) {
    put((prod_ & ((1U << kLog2) - 1)) * sizeof c, c);
    prod_ = (prod_ + 1) & ((2U << kLog2) - 1);
  }
  void submit() { store(Reg::CMDQ_PROD, prod_); }

  bool read(IPA from, std::span<std::byte> to) override {
    if (from.value < kRam || from.value - kRam > ram_.size() - to.size()) return false;
    std::memcpy(to.data(), &ram_[from.value - kRam], to.size());
    return true;
  }
  bool write(IPA, std::span<const std::byte>) override { return false; }
  void raise(vsmmu::Irq) override {}
  void send_event() override {}
  bool message(IPA, std::uint32_t) override { return false; }
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    return static_cast<SmmuInstance&>(smmu).drain_events(most);
  }

 private:
  static constexpr std::uint64_t kTable = 0x8000;
  template <typename R>
  void put(std::uint64_t at, const R& r) {
    std::memcpy(&ram_[at], r.words.data(), sizeof r);
  }
  void store(Reg reg, std::uint64_t value, unsigned size = 4) {
    while (vsmmu_->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again) {
      const Unseen unseen;
      yield();
    }
  }

  std::array<std::byte, 0x1'0000> ram_{};
  std::array<std::uint32_t, 1024> page0_{}, page1_{};
  std::unique_ptr<stage2::S2Domain> domain_;
  std::unique_ptr<vsmmu::VSmmu> vsmmu_;
  std::uint32_t prod_ = 0;
};

TEST_F(RaceTest, AFloodDelaysAnotherVmsSyncByNoMoreThanTheStatedBound) {
  Bench bench;
  PcpuGrace grace;
  Frames frames{bench};
  Watched hardware{bench, {.seed = seed(), .cmdqs = 16}};
  SmmuInstance smmu{0, "smmu", hardware, true};
  ASSERT_TRUE(smmu.quiesce());
  ASSERT_TRUE(smmu.init());
  std::array<std::unique_ptr<Guest>, kPcpus> guests;
  for (unsigned i = 0; i < kPcpus; ++i)
    guests[i] = std::make_unique<Guest>(frames, grace.grace, smmu, StreamID{0x11 + i});
  Threads threads;
  for (unsigned i = 0; i < kVictim; ++i)
    threads.add([&, i](std::mt19937_64& random) {
      // Commands that cannot be merged, in batches of all sizes.
      for (unsigned n = 0; n < 900; ++n)
        guests[i]->add(pick(random, 2000) == 0 ? Command{sync_none()} : cfgi_cd_all(StreamID{1}));
      guests[i]->submit();
    });
  threads.add([&](std::mt19937_64& random) {
    guests[kVictim]->add(tlbi_nh_va(VMID{}, ASID{1}, IOVA{random() & 0xffff'f000}, true, {}));
    guests[kVictim]->add(sync_none());
    // Everybody else puts in as much as there is room for.
    hardware.moving = false;
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    hardware.submitting = true;
    guests[kVictim]->submit();
  });
  threads.run(scaled(3000), seed());
  std::printf("%u SYNCs, at most %u commands\n", hardware.submitted, hardware.most);
  EXPECT_GT(hardware.submitted, 20u);
  EXPECT_GT(hardware.most, 2 * CommandQueue::kQuota) << "it was no flood";
  EXPECT_LE(hardware.most, kPcpus * CommandQueue::kQuota + 2) << "more than all others' and its own two";
  EXPECT_EQ(hardware.waited, 0u) << "it had to wait for room";
  for (auto& g : guests) g.reset();
}

}  // namespace
}  // namespace weir::race
