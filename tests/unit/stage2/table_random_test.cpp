// Random changes of a table, a table that shares its roots, and a log, compared page by page with a plain list. Each
// call is also made with an allocation that fails, at each of its allocations in turn: then nothing may have changed.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "stage2/table.hpp"
#include "tests/unit/fakes/failing_new.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "tests/unit/stage2/table_support.hpp"

namespace weir::stage2 {
namespace {

using namespace test;
using weir::test::FailingNew;

struct Mode {
  const char* name;
  unsigned bits;  // 33: blocks of 2 MiB in the root; 40: of 1 GiB
  Table::Options options;
  bool walked;
};

// The window lies across the boundary of two root slots, whatever their size.
constexpr std::uint64_t kFrom = 2_GiB - 4_MiB, kBytes = 8_MiB;
constexpr std::size_t kPages = kBytes / 0x1000;

class World {
 public:
  World(const Mode& mode, unsigned seed) : mode_{mode}, random_{seed} {
    table_ = *Table::create(geometry(mode.bits), pages_, mode.options);
    table_->set_walked(mode.walked);
    sharer_ = *Table::create(geometry(mode.bits), sharer_pages_, mode.options);
    sharer_pages_.beside = &pages_;
    // A page is never given back before it was retired and released; the table frees nothing by itself.
    pages_.on_free = [this](PA) { EXPECT_TRUE(releasing_) << "freed before its invalidation"; };
  }
  ~World() { pages_.on_free = nullptr; }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void step() {
    Span s = span();
    switch (below(12)) {
      case 0:
      case 1:
      case 2: map(s); break;
      case 3: unmap(s); break;
      case 4: protect(s); break;
      case 5: merge(s); break;
      case 6: log(s); break;
      case 7: collect(s); break;
      case 8: share(); break;
      case 9:
      case 10: write(s); break;
      case 11:
        if (below(8) == 0) s = {0, kPages};
        fill(s);
        break;
    }
  }
  void check() {
    ASSERT_TRUE(table_->check_invariants());
    ASSERT_TRUE(sharer_->check_invariants());
    ASSERT_EQ(pages_.in_use, table_->page_count());
    ASSERT_EQ(sharer_pages_.in_use, sharer_->page_count());
    for (std::size_t i = 0; i < kPages; ++i) {
      const Page& page = oracle_[i];
      const auto walked = hardware_walk(pages_, *table_, at(i));
      const auto found = table_->walk(IPA{at(i)});
      ASSERT_EQ(found.has_value(), page.mapped) << i;
      ASSERT_EQ(walked.has_value(), page.mapped) << i;
      if (!page.mapped) continue;
      ASSERT_EQ(found->at.value, page.pa) << i;
      ASSERT_EQ(found->attributes, page.attributes) << i;
      ASSERT_EQ(found->level, walked->level) << i;
      ASSERT_EQ(walked->pa, page.pa) << i;
      ASSERT_EQ(walked->dbm, page.logged && page.attributes.write) << i;
      // S2AP[1]: stores pass without another look.
      ASSERT_EQ((walked->attributes & 0x80) != 0, page.attributes.write && (!page.logged || page.dirty)) << i;
      if (shared_)
        ASSERT_EQ(hardware_walk(sharer_pages_, *sharer_, at(i))->descriptor == walked->descriptor,
                  walked->level != geometry(mode_.bits).start_level());
    }
    for (std::size_t i = 0; i < kPages; i += 37)
      ASSERT_EQ(hardware_walk(sharer_pages_, *sharer_, at(i)).has_value(), shared_ && oracle_[i].mapped) << i;
    ASSERT_FALSE(table_->walk(IPA{kFrom - 0x1000}) || table_->walk(IPA{kFrom + kBytes}));
  }
  unsigned done = 0, merges = 0, collected = 0, failures = 0, blocked = 0;

 private:
  struct Page {
    bool mapped = false, logged = false, dirty = false;
    std::uint64_t pa = 0;
    Attributes attributes{};
  };
  struct Span {
    std::size_t first, past;
    [[nodiscard]] std::uint64_t bytes() const { return (past - first) * 0x1000; }
  };

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  static std::uint64_t at(std::size_t page) { return kFrom + page * 0x1000; }
  Span span() {
    const std::size_t unit = below(2) == 0 ? 512 : 1;
    const std::size_t first = below(kPages / unit) * unit;
    return {first, std::min<std::size_t>(kPages, first + unit * (1 + below(3)))};
  }
  Attributes attributes() {
    const Attributes kinds[] = {kRam, kRam, kReadOnly, kCode, {.execute = true}, {.read = false, .write = false}};
    return kinds[below(std::size(kinds))];
  }

  // Every descriptor that can be reached; nT is only a hint.
  void descriptors(FakeTablePages& pages, PA at, unsigned level, std::size_t entries, std::vector<std::uint64_t>& all) {
    const auto* table = static_cast<const std::uint64_t*>(pages.pointer(at));
    for (std::size_t i = 0; i < entries; ++i) {
      const std::uint64_t d = table[i];
      const bool points = level < 3 && (d & 3) == 3;
      all.push_back((d & 3) == 1 ? d & ~(std::uint64_t{1} << 16) : d);
      if (points) descriptors(pages, PA{d & 0x0000'ffff'ffff'f000}, level + 1, 512, all);
    }
  }
  std::vector<std::uint64_t> snapshot() {
    std::vector<std::uint64_t> all;
    const Geometry& g = table_->geometry();
    descriptors(pages_, table_->root(), g.start_level(), g.root_bytes() / 8, all);
    descriptors(sharer_pages_, sharer_->root(), g.start_level(), g.root_bytes() / 8, all);
    return all;
  }
  // Makes a call that fails at its first allocation, its second, and so on, until it has enough.
  template <typename Call>
  auto attempt(Call&& call) {
    const bool heap = below(2) == 0;
    for (int fail = 0;; ++fail) {
      const auto before = snapshot();
      const bool logging = table_->logging();
      pages_.fail_after = heap ? -1 : fail;
      std::optional<FailingNew> failing;
      if (heap) failing.emplace(fail);
      releasing_ = true;  // what was set aside goes back
      auto result = call();
      releasing_ = false;
      failing.reset();
      pages_.fail_after = -1;
      if (result || result.error() != Error::out_of_memory) {
        if (!result) EXPECT_EQ(snapshot(), before);
        ++(result ? done : blocked);
        return result;
      }
      ++failures;
      EXPECT_EQ(snapshot(), before) << "something was half done";
      EXPECT_EQ(table_->logging(), logging);
      EXPECT_EQ(pages_.in_use, table_->page_count());
      EXPECT_TRUE(table_->check_invariants());
    }
  }
  void release(RetiredPages& retired) {
    EXPECT_EQ(pages_.in_use, table_->page_count() + retired.count());
    releasing_ = true;
    table_->release(retired);
    releasing_ = false;
  }
  [[nodiscard]] bool live() const { return mode_.walked && mode_.options.bbml < 2; }

  void put(std::size_t i, std::uint64_t pa, Attributes attributes) {
    oracle_[i] = {
        .mapped = true, .logged = table_->logging(), .dirty = table_->logging(), .pa = pa, .attributes = attributes};
  }
  void map(Span s) {
    bool any = false;
    for (std::size_t i = s.first; i < s.past; ++i) any |= oracle_[i].mapped;
    const std::uint64_t pa = 16_GiB + s.first * 0x1000 + (below(4) == 0 ? 0x1000 : 0);
    const Attributes a = attributes();
    const auto result = attempt([&] { return table_->map(IPA{at(s.first)}, PA{pa}, s.bytes(), a); });
    EXPECT_EQ(result.has_value(), !any);
    for (std::size_t i = s.first; result && i < s.past; ++i) put(i, pa + (i - s.first) * 0x1000, a);
  }
  // So that merges have something to merge.
  void fill(Span s) {
    for (std::size_t i = s.first; i < s.past; ++i) {
      if (oracle_[i].mapped) continue;
      ASSERT_TRUE(table_->map(IPA{at(i)}, PA{16_GiB + i * 0x1000}, 0x1000, kRam));
      put(i, 16_GiB + i * 0x1000, kRam);
    }
  }
  void unmap(Span s) {
    if (below(2) == 0) table_->prepare_split(IPA{at(s.first)}, s.bytes());
    RetiredPages retired;
    const auto result = attempt([&] { return table_->unmap(IPA{at(s.first)}, s.bytes(), retired); });
    if (!result) {
      EXPECT_EQ(result.error(), Error::live_block);
      EXPECT_TRUE(live() && retired.empty());
      return;
    }
    for (std::size_t i = s.first; i < s.past; ++i) oracle_[i] = {};
    release(retired);
  }
  void protect(Span s) {
    bool all = true;
    for (std::size_t i = s.first; i < s.past; ++i) all &= oracle_[i].mapped;
    if (below(2) == 0) table_->prepare_split(IPA{at(s.first)}, s.bytes());
    const Attributes a = attributes();
    const auto result = attempt([&] { return table_->protect(IPA{at(s.first)}, s.bytes(), a); });
    if (!result) {
      EXPECT_EQ(result.error(), all ? Error::live_block : Error::not_mapped);
      EXPECT_TRUE(!all || live());
      return;
    }
    EXPECT_TRUE(all);
    for (std::size_t i = s.first; i < s.past; ++i) {
      Page& page = oracle_[i];
      // A block that was protected in whole is still one, and not logged.
      if (table_->logging() && table_->walk(IPA{at(i)})->level == 3) {
        page.dirty |= !page.logged && page.attributes.write;  // what was not logged counts as dirty
        page.logged = true;
      }
      page.attributes = a;
    }
  }
  void merge(Span s) {
    RetiredPages retired;
    const auto result = table_->merge(IPA{at(s.first)}, s.bytes(), retired);
    const bool refused = mode_.walked && mode_.options.bbml == 0 && !mode_.options.pages_only && !table_->logging();
    ASSERT_EQ(result.has_value(), !refused);
    if (!result) return;
    merges += retired.count();
    EXPECT_EQ(result->bytes != 0, !retired.empty());
    table_->finish_merge(*result);
    release(retired);
  }
  void log(Span s) {
    if (table_->logging() && below(2) == 0) {
      ASSERT_TRUE(table_->stop_log(IPA{kFrom}, kBytes));
      table_->end_log();
      for (Page& page : oracle_) page.logged = page.dirty = false;
      return;
    }
    if (below(2) == 0) table_->prepare_log(IPA{at(s.first)}, s.bytes());
    const auto result = attempt([&] { return table_->start_log(IPA{at(s.first)}, s.bytes()); });
    if (!result) {
      EXPECT_EQ(result.error(), Error::live_block);
      EXPECT_TRUE(live());
      return;
    }
    for (std::size_t i = s.first; i < s.past; ++i) {
      oracle_[i].logged = oracle_[i].mapped;
      oracle_[i].dirty = false;
    }
  }
  void collect(Span s) {
    std::vector<std::uint64_t> bits((s.past - s.first + 63) / 64);
    const auto result = table_->collect_dirty(IPA{at(s.first)}, s.past - s.first, bits);
    ASSERT_TRUE(result);
    std::size_t cleaned = 0;
    for (std::size_t i = s.first; i < s.past; ++i) {
      Page& page = oracle_[i];
      const bool expected = page.mapped && (page.logged ? page.dirty : page.attributes.write);
      const std::size_t bit = i - s.first;
      ASSERT_EQ((bits[bit / 64] >> (bit % 64) & 1) != 0, expected) << i;
      if (!page.logged || !page.dirty) continue;
      cleaned += page.attributes.write;
      ++collected;
      page.dirty = false;
    }
    EXPECT_EQ(*result, cleaned);
  }
  void write(Span s) {
    for (std::size_t i = s.first; i < s.past; i += 1 + below(64)) {
      Page& page = oracle_[i];
      const bool writes = page.mapped && page.attributes.write;
      if (below(2) == 0) {
        // By way of the sharer, if there is one.
        const bool other = shared_ && below(2) == 0;
        ASSERT_EQ(hardware_write(other ? sharer_pages_ : pages_, other ? *sharer_ : *table_, at(i)), writes);
      } else if (writes) {
        ASSERT_TRUE((shared_ ? *sharer_ : *table_).mark_dirty(IPA{at(i) + 8}));
      }
      page.dirty |= writes && page.logged;
    }
  }
  void share() {
    if (shared_) {
      table_->unshare_root(*sharer_);
    } else {
      const std::uint64_t slot = table_->root_slot_bytes();
      const std::uint64_t from = kFrom & ~(slot - 1), to = (kFrom + kBytes + slot - 1) & ~(slot - 1);
      ASSERT_TRUE(table_->share_root(*sharer_, IPA{from}, to - from));
    }
    shared_ = !shared_;
    const IPA own{mode_.bits == 48 ? 513_GiB : 0x900'0000};  // not in a slot that is shared
    RetiredPages retired;
    EXPECT_TRUE(shared_ ? sharer_->map(own, PA{0x900'0000}, 0x1000, kDevice) : sharer_->unmap(own, 0x1000, retired));
    sharer_->release(retired);
  }

  Mode mode_;
  std::mt19937_64 random_;
  FakeTablePages pages_, sharer_pages_{PA{0x7000'0000}};
  std::unique_ptr<Table> table_, sharer_;
  std::vector<Page> oracle_{kPages};
  bool shared_ = false, releasing_ = false;
};

class RandomLog : public ::testing::TestWithParam<Mode> {};

TEST_P(RandomLog, AgreesWithAPlainList) {
  unsigned done = 0, merges = 0, collected = 0, failures = 0, blocked = 0;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    World world{GetParam(), seed};
    for (unsigned step = 0; step < 400; ++step) {
      SCOPED_TRACE(step);
      world.step();
      world.check();
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    done += world.done;
    merges += world.merges;
    collected += world.collected;
    failures += world.failures;
    blocked += world.blocked;
  }
  const Table::Options& options = GetParam().options;
  EXPECT_GT(done, 200u);
  EXPECT_GT(failures, 25u);
  EXPECT_GT(collected, 500u);
  EXPECT_GT(blocked, 50u);
  if (options.pages_only || (GetParam().walked && options.bbml == 0)) {
    EXPECT_EQ(merges, 0u);
  } else {
    EXPECT_GT(merges, 5u);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, RandomLog,
                         ::testing::Values(Mode{"PagesOnly", 40, {.pages_only = true, .dirty_state = true}, true},
                                           Mode{"Bbml0", 40, {.dirty_state = true}, true},
                                           Mode{"Bbml1", 39, {.bbml = 1, .dirty_state = true}, true},
                                           Mode{"Bbml2", 40, {.bbml = 2, .fwb = true, .dirty_state = true}, true},
                                           Mode{"Unwalked", 48, {.dirty_state = true}, false},
                                           Mode{"BlocksInTheRoot", 33, {.bbml = 1, .dirty_state = true}, true}),
                         [](const auto& info) { return std::string{info.param.name}; });

}  // namespace
}  // namespace weir::stage2
