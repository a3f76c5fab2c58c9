// A stage-2 table that is walked while its owner changes it, and a dirty log that everybody writes to.
#include "stage2/table.hpp"

#include <array>
#include <atomic>
#include <memory>

#include "stage2/dirty_log.hpp"
#include "stage2/domain.hpp"
#include "stage2/retire.hpp"
#include "tests/race/threads.hpp"
#include "tests/unit/fakes/arena_table_pages.hpp"

namespace weir::race {
namespace {

using stage2::Attributes;
using stage2::Geometry;
using stage2::RetiredPages;
using stage2::Table;

constexpr std::uint64_t kBase = 0x4000'0000, kPhysical = 0x8000'0000;
constexpr std::size_t kPages = 1024;  // two blocks of 2 MiB

// Table pages that wait for the walkers.
struct Unlinked final : stage2::Retired {
  explicit Unlinked(test::ArenaTablePages& p) : pages{p} {}
  ~Unlinked() override { list.release(pages); }
  test::ArenaTablePages& pages;
  RetiredPages list;
};

class World {
 public:
  explicit World(const Table::Options& options)
      : table{*Table::create(*Geometry::make(40, smmu::AddressSize::bits48), pages, options)} {
    EXPECT_TRUE(table->map(IPA{kBase}, PA{kPhysical}, kPages * kPage4K, {}));
    table->set_walked(true);
  }
  // What one walk finds is the VM's until the section ends.
  void look(std::mt19937_64& random) {
    const stage2::Grace::ReadSection section{grace.grace};
    const unsigned page = pick(random, kPages);
    const auto found = table->walk(IPA{kBase + page * kPage4K + 8});
    if (!found) return;
    if (found->at != PA{kPhysical + page * kPage4K + 8}) wrong.fetch_add(1);
    if (lost[page].load(std::memory_order_acquire)) wrong.fetch_add(1);
    if (!found->attributes.write) return;
    memory[page].fetch_add(1, std::memory_order_relaxed);
    table->mark_dirty(IPA{kBase + page * kPage4K});
    if (lost[page].load(std::memory_order_acquire)) wrong.fetch_add(1);
    looks.fetch_add(1, std::memory_order_relaxed);
  }
  void retire(RetiredPages& retired) {
    if (retired.empty()) return;
    auto later = std::make_unique<Unlinked>(pages);
    later->list.take(retired);
    grace.grace.retire(std::move(later));
  }
  void take_away(unsigned page, unsigned count) {
    RetiredPages retired;
    ASSERT_TRUE(table->unmap(IPA{kBase + page * kPage4K}, count * kPage4K, retired));
    retire(retired);
    grace.grace.synchronize();
    for (unsigned i = page; i < page + count; ++i) lost[i].store(true, std::memory_order_release);
  }
  void give_back(unsigned page, unsigned count) {
    for (unsigned i = page; i < page + count; ++i) lost[i].store(false, std::memory_order_release);
    ASSERT_TRUE(table->map(IPA{kBase + page * kPage4K}, PA{kPhysical + page * kPage4K}, count * kPage4K, {}));
  }

  test::ArenaTablePages pages;
  PcpuGrace grace;
  std::unique_ptr<Table> table;
  std::array<std::atomic<bool>, kPages> lost{};
  std::array<std::atomic<std::uint64_t>, kPages> memory{};
  std::atomic<unsigned> wrong{0}, looks{0};
};

TEST_F(RaceTest, WalksWhileBlocksComeAndGo) {
  World world{{.bbml = 2, .dirty_state = true}};
  unsigned merges = 0;
  Threads threads;
  for (unsigned i = 0; i < 3; ++i) threads.add([&](std::mt19937_64& random) { world.look(random); });
  threads.add([&](std::mt19937_64& random) {
    const unsigned count = pick(random, 4) == 0 ? 512 : 1 + pick(random, 16);
    const unsigned page = count == 512 ? 512 * pick(random, 2) : pick(random, kPages - count);
    world.take_away(page, count);
    world.give_back(page, count);
    RetiredPages retired;
    const auto merged = world.table->merge(IPA{kBase}, kPages * kPage4K, retired);
    ASSERT_TRUE(merged);
    merges += retired.count() != 0;
    world.retire(retired);
  });
  threads.run(scaled(1500), seed());
  EXPECT_EQ(world.wrong, 0u);
  EXPECT_GT(world.looks, 1000u);
  EXPECT_GT(merges, 10u);
  EXPECT_TRUE(world.table->check_invariants());
}

// The sharer's root changes over between two tables, and back, while it is walked.
TEST_F(RaceTest, WalksWhileTheRootChangesOver) {
  World world{{.pages_only = true, .dirty_state = true}};
  const auto log = *Table::create(world.table->geometry(), world.pages, {.pages_only = true, .dirty_state = true});
  const auto cpu = *Table::create(world.table->geometry(), world.pages, {.bbml = 2, .dirty_state = true});
  ASSERT_TRUE(log->copy(*world.table, IPA{kBase}, kPages * kPage4K));
  ASSERT_TRUE(world.table->share_root(*cpu, IPA{kBase}, 1_GiB));
  cpu->set_walked(true);
  std::atomic<unsigned> wrong{0}, looks{0};
  Threads threads;
  for (unsigned i = 0; i < 3; ++i)
    threads.add([&](std::mt19937_64& random) {
      const std::uint64_t offset = pick(random, kPages) * kPage4K;
      const auto found = cpu->walk(IPA{kBase + offset});
      if (!found || found->at != PA{kPhysical + offset}) wrong.fetch_add(1);
      looks.fetch_add(1, std::memory_order_relaxed);
    });
  unsigned turn = 0;
  threads.add([&](std::mt19937_64&) {
    Table& next = turn++ % 2 == 0 ? *log : *world.table;
    ASSERT_TRUE(next.share_root(*cpu, IPA{kBase}, 1_GiB));
  });
  threads.run(scaled(500), seed());
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(looks, 1000u);
  EXPECT_TRUE(world.table->check_invariants() && log->check_invariants() && cpu->check_invariants());
}

TEST_F(RaceTest, TheDirtyLogLosesNoWrite) {
  World world{{.pages_only = true, .dirty_state = true}};
  ASSERT_TRUE(world.table->start_log(IPA{kBase}, kPages * kPage4K));
  std::array<std::uint64_t, kPages> copied{};
  const auto collect = [&] {
    std::array<std::uint64_t, kPages / 64> bits{};
    ASSERT_TRUE(world.table->collect_dirty(IPA{kBase}, kPages, bits));
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (std::size_t i = 0; i < kPages; ++i)
      if ((bits[i / 64] >> (i % 64) & 1) != 0) copied[i] = world.memory[i].load(std::memory_order_relaxed);
  };
  Threads threads;
  for (unsigned i = 0; i < 3; ++i) threads.add([&](std::mt19937_64& random) { world.look(random); });
  threads.add([&](std::mt19937_64& random) {
    collect();
    const IPA page{kBase + pick(random, kPages) * kPage4K};
    ASSERT_TRUE(world.table->protect(page, kPage4K, {.write = false}));
    if (pick(random, 2) == 0) collect();
    ASSERT_TRUE(world.table->protect(page, kPage4K, {}));
  });
  threads.run(scaled(1000), seed());
  collect();
  for (std::size_t i = 0; i < kPages; ++i) EXPECT_EQ(copied[i], world.memory[i].load()) << i;
  EXPECT_GT(world.looks, 1000u);
  EXPECT_TRUE(world.table->check_invariants());
}

// EL2 writes on while logs begin and end, whose tables come and go.
TEST_F(RaceTest, LogsComeAndGoUnderEl2sWrites) {
  struct Cpus final : stage2::CpuTables {
    [[nodiscard]] std::expected<void, stage2::Error> use_log(stage2::S2Domain&, bool) override { return {}; }
  } cpus;
  test::ArenaTablePages pages;
  PcpuGrace grace;
  const auto domain = *stage2::S2Domain::create(*Geometry::make(40, smmu::AddressSize::bits48), pages, grace.grace, {});
  ASSERT_TRUE(domain->map(IPA{kBase}, PA{kPhysical}, kPages * kPage4K, {}));
  stage2::DirtyLog log{*domain, &cpus, {IPA{kBase}, kPages * kPage4K}, {}};
  std::atomic<unsigned> writes{0};
  unsigned logs = 0;
  Threads threads;
  for (unsigned i = 0; i < 3; ++i)
    threads.add([&](std::mt19937_64& random) {
      const stage2::Grace::ReadSection section{grace.grace};
      log.written(IPA{kBase + pick(random, kPages) * kPage4K});
      writes.fetch_add(1, std::memory_order_relaxed);
    });
  threads.add([&](std::mt19937_64& random) {
    for (std::uint64_t left = 1; left != 0;) {
      const auto started = log.start();
      ASSERT_TRUE(started);
      left = *started;
    }
    for (unsigned n = pick(random, 4); n != 0; --n) yield();
    while (log.stop() != 0) {
    }
    ++logs;
  });
  threads.run(scaled(1000), seed());
  EXPECT_GT(writes, 1000u);
  EXPECT_GT(logs, 10u);
  EXPECT_TRUE(domain->check_invariants());
}

}  // namespace
}  // namespace weir::race
