// Random guests and a random host over modelled SMMUs that are as late and forgetful as they may be. Whatever they do: no
// device uses what an invalidation, known to be complete, has taken away, nor anything of another VM.
//
// WEIR_PROPERTY_SEEDS=FIRST[-LAST] runs these seeds; a failure names its seed.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/unit/property/checker.hpp"
#include "tests/unit/property/guest.hpp"

namespace weir::model::test {
namespace {

class PropertyRun {
 public:
  PropertyRun(std::uint64_t seed, Break how, const vsmmu::Bounds& bounds = {})
      : random_{seed}, world_{std::make_unique<World>(seed, how, bounds)} {
    for (unsigned v = 0; v < World::kVms; ++v) {
      WorldVm& vm = *world_->vms[v];
      data_[v] = vm.allocate(kSlotBytes * 8);
      // It leads to itself, whatever level of table it is taken for.
      decoy_[v] = vm.allocate(kPage4K);
      for (unsigned i = 0; i < 512; ++i)
        EXPECT_TRUE(world_->memory.store(vm.ram.page(decoy_[v]) + std::uint64_t{i} * 8, decoy_[v] | kPageRw));
      for (unsigned n = 0; n < vm.vsmmus.size(); ++n)
        guests_.push_back({v, n, std::make_unique<PropertyGuest>(*world_, v, n, data_[v], random_)});
    }
    for (unsigned d = 0; d < World::kDevices.size(); ++d) give(d);
  }
  void run(unsigned operations) {
    for (unsigned i = 0; i < operations && what_.empty() && !testing::Test::HasFatalFailure(); ++i) {
      operate();
      if (checker != nullptr) wrong(check());
    }
    if (!testing::Test::HasFatalFailure())
      for (Guest& g : guests_) g.guest->sync();
  }
  // Compares all tables with what they should be, between operations.
  [[nodiscard]] std::string check() {
    std::vector<Checker::Vm> vms;
    for (const auto& vm : world_->vms) {
      auto& of = vms.emplace_back(Checker::Vm{
          .domain = vm->domain.get(), .from = IPA{Ram::kBase}, .to = IPA{Ram::kBase + vm->ram.pages() * kPage4K}});
      for (const auto& v : vm->vsmmus) of.vsmmus.push_back(v.get());
      for (std::uint64_t ipa = of.from.value; ipa < of.to.value; ipa += kPage4K)
        if (!vm->gone.contains(ipa)) of.pages[ipa] = vm->ram.page(ipa);
    }
    return checker->check(vms);
  }
  void look_after_each() {
    std::vector<Checker::Place> places;
    for (unsigned i = 0; i < World::kSmmus; ++i) places.push_back({world_->smmus[i].get(), world_->instances[i].get()});
    checker = std::make_unique<Checker>(world_->memory, std::move(places));
  }
  std::unique_ptr<Checker> checker;
  [[nodiscard]] const std::string& what() const { return what_; }
  [[nodiscard]] World& world() { return *world_; }
  template <typename Member>
  [[nodiscard]] std::uint64_t sum(Member member) const {
    std::uint64_t n = 0;
    for (const Guest& g : guests_) n += (*g.guest).*member;
    return n;
  }

 private:
  struct Guest {
    unsigned vm;
    unsigned vsmmu;
    std::unique_ptr<PropertyGuest> guest;
  };
  [[nodiscard]] unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  void wrong(std::string text) {
    if (what_.empty() && !text.empty()) what_ = "operation " + std::to_string(now_) + ": " + std::move(text);
  }
  // To some vSMMU that is over the device's SMMU.
  void give(unsigned d) {
    std::vector<unsigned> able;
    for (unsigned g = 0; g < guests_.size(); ++g)
      if (std::ranges::contains(world_->vms[guests_[g].vm]->backing[guests_[g].vsmmu], World::kDevices[d].smmu))
        able.push_back(g);
    const unsigned g = able[pick(static_cast<unsigned>(able.size()))];
    at_[d] = g;
    guests_[g].guest->attach(d, now_);
  }
  void operate() {
    now_ += 16;  // an operation may take several moments
    const unsigned d = pick(static_cast<unsigned>(World::kDevices.size()));
    PropertyGuest& of_device = *guests_[at_[d]].guest;
    switch (pick(24)) {
      case 0: move_a_page(); break;
      case 1:
        if (pick(10) != 0) break;
        of_device.detach(d, now_);
        now_ += 16;
        give(d);
        break;
      case 2:
      case 3: wrong(of_device.ats(d)); break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
      case 9:
      case 10: wrong(of_device.dma(d)); break;
      default: {
        PropertyGuest& guest = *guests_[pick(static_cast<unsigned>(guests_.size()))].guest;
        guest.operate(now_);
        wrong(guest.check_events());
        break;
      }
    }
    for (const auto& s : world_->smmus)
      if (s->misuses() != 0) wrong("a store that the architecture forbids");
  }
  // The host takes a page back, gives one, or moves one.
  void move_a_page() {
    const unsigned v = pick(World::kVms);
    WorldVm& vm = *world_->vms[v];
    const bool data = pick(3) == 0;
    std::uint64_t ipa = Ram::kBase + pick(static_cast<unsigned>(vm.ram.pages())) * kPage4K;
    if (data) ipa = data_[v] + pick(static_cast<unsigned>(kSlotBytes * 8 / kPage4K)) * kPage4K;
    if (const Guest& g = guests_[pick(static_cast<unsigned>(guests_.size()))]; !data && g.vm == v && pick(4) != 0) {
      const auto tables = g.guest->tables();
      ipa = tables[pick(static_cast<unsigned>(tables.size()))];
    }
    if (vm.gone.contains(ipa)) return vm.map(ipa);
    if (ipa == decoy_[v]) return;
    if (!vm.move(ipa, decoy_[v] | kPageRw, data && pick(2) == 0)) wrong("unmap() fails");
  }

  std::mt19937_64 random_;
  std::unique_ptr<World> world_;
  std::vector<Guest> guests_;
  std::array<std::uint64_t, World::kVms> data_{};
  std::array<std::uint64_t, World::kVms> decoy_{};
  std::array<unsigned, World::kDevices.size()> at_{};
  std::uint64_t now_ = 16;
  std::string what_;
};

constexpr unsigned kOperations = 600;

std::pair<std::uint64_t, std::uint64_t> seeds() {
  const char* const asked = std::getenv("WEIR_PROPERTY_SEEDS");
  if (asked == nullptr) return {1, 1200};
  char* end = nullptr;
  const std::uint64_t first = std::strtoull(asked, &end, 10);
  return {first, *end == '-' ? std::strtoull(end + 1, nullptr, 10) : first};
}

TEST(Property, NoDeviceUsesWhatWasTakenAway) {
  std::uint64_t steps = 0;
  std::uint64_t hits = 0;
  std::uint64_t stale = 0;
  std::uint64_t certain = 0;
  std::uint64_t ats = 0;
  const auto [first, last] = seeds();
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    // Every fourth with bounds so small that most stores are executed many times.
    const vsmmu::Bounds tight{.commands = 1, .pushed = 1, .polls = 3, .installs = 1, .widen = 2};
    PropertyRun run{seed, Break::nothing, seed % 4 == 0 ? tight : vsmmu::Bounds{}};
    run.run(kOperations);
    ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed;
    EXPECT_EQ(run.what(), "") << "seed " << seed;
    for (const auto& [name, count] : run.world().host_events)
      EXPECT_TRUE(name == "C_BAD_STE" || name == "F_BAD_ATS_TREQ")
          << name << " seed " << seed;  // late, of an STE that was replaced
    steps += run.world().steps();
    hits += run.sum(&PropertyGuest::hits);
    stale += run.sum(&PropertyGuest::stale);
    certain += run.sum(&PropertyGuest::certain);
    ats += run.sum(&PropertyGuest::ats_hits);
    run.world().stop();
    EXPECT_EQ(run.world().memory.touched_freed(), 0u) << "seed " << seed;
  }
  std::printf("%llu steps of the models, %llu transactions, %llu by what was replaced, %llu by ATS, %llu certain\n",
              static_cast<unsigned long long>(steps), static_cast<unsigned long long>(hits),
              static_cast<unsigned long long>(stale), static_cast<unsigned long long>(ats),
              static_cast<unsigned long long>(certain));
  if (last - first < 100) return;
  // Otherwise all this would show little.
  EXPECT_GT(steps, (last - first) * 2000);
  EXPECT_GT(hits, (last - first) * 20);
  EXPECT_GT(stale, (last - first));
  EXPECT_GT(ats, (last - first) / 10);
  EXPECT_GT(certain, (last - first) * 20);
}

// After each single operation, every table is what it should be.
TEST(Property, TablesAreWhatWeirBelieves) {
  std::uint64_t stes = 0;
  std::uint64_t pages = 0;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    PropertyRun run{seed, Break::nothing};
    run.look_after_each();
    run.run(150);
    EXPECT_EQ(run.what(), "") << "seed " << seed;
    stes += run.checker->stes;
    pages += run.checker->pages;
  }
  EXPECT_GT(stes, 1500u);
  EXPECT_GT(pages, 50'000u);
}

TEST(Property, WrongTablesAreNoticed) {
  const auto look = [](auto&& spoil) {
    PropertyRun run{3, Break::nothing};
    run.look_after_each();
    run.run(20);
    EXPECT_EQ(run.check(), "");
    spoil(run.world());
    return run.check();
  };
  EXPECT_NE(look([](World& w) { w.vms[1]->ram.page(Ram::kBase) = PA{0x8'1234'5000}; }), "");
  EXPECT_NE(look([](World& w) { w.vms[0]->gone.insert(Ram::kBase); }), "");
  EXPECT_NE(look([](World& w) {
              const auto bypass = smmu::Ste{}.set<smmu::Ste::V>(true).set<smmu::Ste::Config>(smmu::SteConfig::bypass);
              EXPECT_TRUE(w.ports[0]->install_ste(StreamID{0x99}, bypass));
            }),
            "");
  EXPECT_NE(look([](World& w) {
              smmu::Ste ste = w.vms[0]->vsmmus[0]->streams()[0].installed;
              ste.words[0] ^= std::uint64_t{1} << 6;
              for (const auto& d : World::kDevices) EXPECT_TRUE(w.ports[d.smmu]->install_ste(d.sid, ste));
            }),
            "");
}

class PropertyBroken : public testing::TestWithParam<Break> {};

TEST_P(PropertyBroken, IsNoticed) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    PropertyRun run{seed, GetParam()};
    run.run(kOperations);
    if (run.what().contains(": device ") && (GetParam() != Break::drop_atc || run.what().contains("ATS"))) return;
  }
  FAIL() << "60 runs";
}
INSTANTIATE_TEST_SUITE_P(Model, PropertyBroken,
                         testing::Values(Break::drop_tlbi, Break::drop_on_second, Break::drop_stage2,
                                         Break::drop_nh_all, Break::drop_cd, Break::no_wait, Break::wrong_vmid,
                                         Break::drop_atc));

}  // namespace
}  // namespace weir::model::test
