// The command queue of one SMMU, from many pCPUs: each SYNC completes after all that its pCPU has sent before it, and not
// before it has taken effect.
#include <array>
#include <map>

#include "hyp/smmu/command_queue.hpp"
#include "tests/race/machine.hpp"

namespace weir::race {
namespace {

using namespace smmu;

TEST_F(RaceTest, EachSyncCoversWhatItsPcpuSentBefore) {
  Bench bench;
  Hardware hardware{bench, {.seed = seed()}};
  CommandQueue queue{hardware, "smmu"};
  // A command says whose it is and the how many-th: VMID, address.
  constexpr unsigned kPcpus = 5;
  std::array<std::map<std::uint64_t, bool>, kPcpus> effective;  // with the bench's lock held
  ASSERT_TRUE(queue.init(6));
  {
    const UnseenLock lock{bench.mutex};
    hardware.model().on_execute = [&](const Command& c) {
      if (const auto t = c.as<TlbiS2Ipa>())
        effective[t->get<TlbiS2Ipa::VMID>().value % kPcpus][t->get<TlbiS2Ipa::Address>().value >> 12] = true;
    };
  }
  hardware.write(Reg::CR0, CR0::CMDQEN::mask);
  while (hardware.read(Reg::CR0ACK) != CR0::CMDQEN::mask) hardware.relax();
  std::array<std::uint64_t, kPcpus> sent{};
  std::atomic<std::uint64_t> syncs{0};
  Threads threads;
  for (unsigned i = 0; i < kPcpus; ++i)
    threads.add([&, i](std::mt19937_64& random) {
      std::array<Command, 40> commands;
      // One floods, the others send a few.
      const unsigned n = i == 0 ? 40 : 1 + pick(random, 4);
      const std::uint64_t first = sent[i] + 1;
      for (unsigned k = 0; k < n; ++k)
        commands[k] = tlbi_s2_ipa(VMID{static_cast<std::uint16_t>(i + kPcpus)}, IPA{++sent[i] << 12}, true, {});
      if (pick(random, 4) == 0) {
        (void)queue.push(std::span{commands}.first(n), false);
        return;
      }
      const auto ticket = queue.push(std::span{commands}.first(n), true);
      while (!queue.completed(ticket)) hardware.relax();
      syncs.fetch_add(1, std::memory_order_relaxed);
      const UnseenLock lock{bench.mutex};
      for (std::uint64_t k = first; k <= sent[i]; ++k)
        if (!effective[i].contains(k)) bench.fail("a SYNC completed before a command ahead of it took effect");
      effective[i].clear();
    });
  threads.run(scaled(3000), seed());
  EXPECT_EQ(bench.wrong, "");
  EXPECT_GT(syncs.load(), 50u);
}

}  // namespace
}  // namespace weir::race
