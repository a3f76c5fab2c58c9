// Everything at once: guests, devices, hosts, interrupts; and that no device, and no copy of EL2's, reaches what has been
// taken away, on any SMMU.
#include <cstdio>

#include "tests/race/machine.hpp"

namespace weir::race {
namespace {

class MachineRace : public RaceTest, public testing::WithParamInterface<unsigned> {};

TEST_P(MachineRace, NobodyReachesWhatIsGone) {
  const std::uint64_t number = seed() * 4 + GetParam();
  auto machine = std::make_unique<Machine>(number);
  Machine& m = *machine;
  Threads threads;
  for (auto& vm : m.vms) {
    Vm& v = *vm;
    threads.add([&](std::mt19937_64& random) { v.vcpu(random); });
    threads.add([&](std::mt19937_64& random) { v.vcpu(random); });
    threads.add([&](std::mt19937_64& random) { v.administer(random); });
    threads.add([&](std::mt19937_64& random) { v.change(random, 0, 2); });
    threads.add([&](std::mt19937_64& random) { v.change(random, 1, 2); });
    threads.add([&](std::mt19937_64& random) { v.relinquish(random); });
    threads.add([&](std::mt19937_64& random) { v.copy(random); });
    threads.add([&](std::mt19937_64& random) { v.log(random); });
  }
  threads.add([&](std::mt19937_64& random) { m.step(random); });
  threads.add([&](std::mt19937_64& random) { m.interrupt(random); });
  threads.add([&](std::mt19937_64& random) { m.grant(random); });
  threads.run(scaled(8000), number);

  EXPECT_EQ(m.bench.wrong, "") << "seed " << number;
  for (auto& vm : m.vms) {
    std::printf("VM %u: %llu transactions, %llu unmapped, %llu SYNCs, %llu copies, %llu moves, %llu logged\n", vm->id,
                static_cast<unsigned long long>(vm->hits), static_cast<unsigned long long>(vm->unmaps),
                static_cast<unsigned long long>(vm->syncs), static_cast<unsigned long long>(vm->copies),
                static_cast<unsigned long long>(vm->moves), static_cast<unsigned long long>(vm->logged));
    EXPECT_GT(vm->hits, 20u);
    EXPECT_GT(vm->unmaps, 5u);
    EXPECT_GT(vm->syncs, 5u);
    EXPECT_GT(vm->copies, 20u);
    EXPECT_GT(vm->moves, 5u);
    EXPECT_GT(vm->logged, 100u);
  }
  std::printf("%llu grants\n", static_cast<unsigned long long>(m.granted));
  EXPECT_GT(m.granted, 2u);
  m.stop();
  for (const auto& s : m.smmus) EXPECT_EQ(s->vmids().in_use(), 0u) << s->name();
  for (const auto& h : m.hardware) EXPECT_EQ(h->model().misuses(), 0u);
  EXPECT_EQ(m.pcpus.grace.waiting(), 0u);
}
INSTANTIATE_TEST_SUITE_P(Seed, MachineRace, testing::Range(0U, 4U));

}  // namespace
}  // namespace weir::race
