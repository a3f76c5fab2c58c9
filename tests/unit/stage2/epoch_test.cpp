#include "stage2/epoch.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace weir::stage2 {
namespace {

thread_local unsigned reader_index = 0;

struct Counted final : Retired {
  explicit Counted(int& gone) : gone_{gone} {}
  ~Counted() override { ++gone_; }
  int& gone_;
};

class EpochTest : public ::testing::Test {
 protected:
  static constexpr unsigned kReaders = 4;
  void retire() { grace.retire(std::make_unique<Counted>(gone)); }
  // As reader `n`, which a test with one thread can be in turn.
  void enter(unsigned n) {
    reader_index = n;
    grace.enter();
  }
  void leave(unsigned n) {
    reader_index = n;
    grace.leave();
  }

  std::array<EpochGrace::Slot, kReaders> slots;
  EpochGrace grace{slots, [] { return reader_index; }};
  int gone = 0;
};

TEST_F(EpochTest, NobodyReads) {
  retire();
  EXPECT_EQ(gone, 1);
  EXPECT_EQ(grace.waiting(), 0u);
  grace.retire(nullptr);
  grace.synchronize();
}

TEST_F(EpochTest, WaitsForSectionsThatWereOpenAndNoOthers) {
  enter(1);
  retire();  // 1 may have found it
  EXPECT_EQ(gone, 0);
  enter(2);
  retire();
  retire();
  leave(1);  // what was retired before 2 entered goes now
  EXPECT_EQ(gone, 1);
  EXPECT_EQ(grace.waiting(), 2u);
  enter(3);
  leave(2);
  EXPECT_EQ(gone, 3) << "3 entered after everything was retired";
  leave(3);
  retire();
  EXPECT_EQ(gone, 4);
}

TEST_F(EpochTest, ExpiresInTheRetirersOwnSection) {
  enter(0);
  retire();
  EXPECT_EQ(gone, 0);
  leave(0);
  EXPECT_EQ(gone, 1);
}

TEST_F(EpochTest, TheEndExpiresEverything) {
  auto own = std::make_unique<EpochGrace>(slots, [] { return reader_index; });
  reader_index = 0;
  own->enter();
  own->retire(std::make_unique<Counted>(gone));
  EXPECT_EQ(gone, 0);
  own.reset();
  EXPECT_EQ(gone, 1);
}

TEST_F(EpochTest, SynchronizeWaitsForOldSectionsOnly) {
  enter(1);
  std::atomic<bool> done{false};
  std::thread waiter{[&] {
    reader_index = 0;
    grace.synchronize();
    done.store(true);
  }};
  for (int i = 0; i < 50; ++i) std::this_thread::yield();
  EXPECT_FALSE(done.load());
  // A young section does not hold it up. (The waiter may not have begun yet, so this one ends before the old one.)
  enter(2);
  leave(2);
  leave(1);
  waiter.join();
  EXPECT_TRUE(done.load());
}

// Readers follow a pointer without a lock; writers replace what it points to. Whatever a reader finds is alive.
TEST_F(EpochTest, NothingIsDestroyedUnderAReader) {
  struct Node final : Retired {
    explicit Node(std::atomic<int>& alive) : alive_{alive} { ++alive_; }
    ~Node() override {
      value.store(0xdead, std::memory_order_relaxed);
      --alive_;
    }
    std::atomic<int> value{7};
    std::atomic<int>& alive_;
  };
  std::atomic<int> alive{0};
  std::atomic<Node*> shared{new Node{alive}};
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < 2; ++n)
    threads.emplace_back([&, n] {
      reader_index = n;
      while (!stop.load(std::memory_order_relaxed)) {
        const Grace::ReadSection section{grace};
        const Node* const node = shared.load(std::memory_order_acquire);
        for (int i = 0; i < 20; ++i) wrong += node->value.load(std::memory_order_relaxed) != 7 ? 1 : 0;
      }
    });
  for (unsigned n = 2; n < 4; ++n)
    threads.emplace_back([&, n] {
      reader_index = n;
      for (int i = 0; i < 1000; ++i) {
        Node* const old = shared.exchange(new Node{alive}, std::memory_order_acq_rel);
        if (i % 3 == 0) {
          grace.synchronize();
          delete old;
        } else {
          grace.retire(std::unique_ptr<Retired>{old});
        }
      }
    });
  threads[2].join();
  threads[3].join();
  stop.store(true);
  threads[0].join();
  threads[1].join();
  EXPECT_EQ(wrong.load(), 0);
  retire();  // with nobody inside, this takes along what was left
  EXPECT_EQ(grace.waiting(), 0u);
  EXPECT_EQ(alive.load(), 1);
  delete shared.load();
}

}  // namespace
}  // namespace weir::stage2
