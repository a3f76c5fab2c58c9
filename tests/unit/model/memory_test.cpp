// Memory with caches in front of it, and SMMUs that look into them or not.
#include "tests/unit/model/fixture.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

TEST(ModelMemory, HolesAbortAndFreedMemoryIsCounted) {
  PhysicalMemory memory;
  const PA at = memory.allocate(kPage4K);
  EXPECT_TRUE(memory.store(at, 5u));
  EXPECT_EQ(memory.load<unsigned>(at), 5u);
  EXPECT_FALSE(memory.load<unsigned>(at + kPage4K)) << "a hole behind each block";
  EXPECT_EQ(memory.touched_freed(), 0u);
  memory.free(at, kPage4K);
  EXPECT_FALSE(memory.store(at, 5u));
  EXPECT_EQ(memory.touched_freed(), 1u);
}

TEST(ModelMemory, StoresReachMemoryByACleanOnly) {
  PhysicalMemory memory;
  const PA at = memory.allocate(kPage4K);
  memory.types();
  std::memset(memory.pointer(at), 0x11, 4);  // a CPU's store
  EXPECT_EQ(memory.load<std::uint32_t>(at, false), 0u);
  EXPECT_EQ(memory.load<std::uint32_t>(at, true), 0x1111'1111u);
  EXPECT_EQ(memory.stale_accesses(), 1u);
  memory.clean(at, 4);
  EXPECT_EQ(memory.load<std::uint32_t>(at, false), 0x1111'1111u);
  EXPECT_EQ(memory.stale_accesses(), 1u);
  // And the other way.
  EXPECT_TRUE(memory.store(at, 0x2222'2222u, false));
  EXPECT_EQ(std::to_integer<unsigned>(*memory.pointer(at)), 0x11u) << "the CPU's line is still there";
  memory.invalidate(at, 4);
  EXPECT_EQ(std::to_integer<unsigned>(*memory.pointer(at)), 0x22u);
  EXPECT_EQ(memory.mismatched_pages(), 1u) << "both kinds of access";
}

TEST(ModelMemory, CachesWriteBackAndDropOnTheirOwn) {
  PhysicalMemory memory;
  const PA at = memory.allocate(kPage4K);
  memory.types();
  std::mt19937_64 random{1};
  std::memset(memory.pointer(at), 0x11, 4);
  for (int i = 0; i < 1000; ++i) memory.drift(random);
  EXPECT_EQ(memory.load<std::uint32_t>(at, false), 0x1111'1111u);
  EXPECT_TRUE(memory.store(at, 0x2222'2222u, false));
  for (int i = 0; i < 1000; ++i) memory.drift(random);
  EXPECT_EQ(std::to_integer<unsigned>(*memory.pointer(at)), 0x22u);
}

class ModelTypes : public Model {
 protected:
  void begin(bool coherent, bool cacheable) {
    Parameters p;
    p.prefetches = p.evicts = false;
    p.memory_types = true;
    p.coherent = coherent;
    smmu = std::make_unique<model::Smmu>(memory, p);
    cmdq = memory.allocate(kPage4K);
    evtq = memory.allocate(kPage4K);
    if (cacheable)
      smmu->write(Reg::CR1, CR1{}
                                .set<CR1::QUEUE_IC>(QueueCacheability::write_back)
                                .set<CR1::QUEUE_OC>(QueueCacheability::write_back)
                                .set<CR1::QUEUE_SH>(Shareability::inner)
                                .words[0]);
    smmu->write64(Reg::CMDQ_BASE, cmdq.value | 5);
    smmu->write64(Reg::EVENTQ_BASE, evtq.value | 3);
    enable(CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
  }
  // As a driver stores a command, by the CPU.
  void put(const Command& c) {
    std::memcpy(memory.pointer(cmdq + prod * sizeof c), c.words.data(), sizeof c);
    ++prod;
  }
};

TEST_F(ModelTypes, S6_3_11_QueuesAreReadWithTheirOwnType) {
  for (const bool coherent : {false, true})
    for (const bool cacheable : {false, true})
      for (const bool cleaned : {false, true}) {
        prod = 0;
        begin(coherent, cacheable);
        put(cfgi_all());
        if (cleaned) memory.clean(cmdq, sizeof(Command));
        smmu->write(Reg::CMDQ_PROD, 1);
        smmu->step();
        while (!smmu->idle()) smmu->step();
        const bool seen = cleaned || (coherent && cacheable);
        // Zeros are an unknown opcode.
        EXPECT_EQ(smmu->read(Reg::GERROR) == 0, seen || memory.stale_accesses() == 0)
            << coherent << cacheable << cleaned;
      }
}

TEST_F(ModelTypes, PublishAndCollectDoWhatAnIncoherentSmmuNeeds) {
  begin(false, true);
  put(cfgi_all());
  smmu->publish(memory.pointer(cmdq), sizeof(Command));
  smmu->write(Reg::CMDQ_PROD, 1);
  settle();
  EXPECT_EQ(cons(), 1u);
  EXPECT_EQ(smmu->read(Reg::GERROR), 0u);
  FUut event;
  event.set<FUut::StreamID>(0x55);
  smmu->record(event);
  settle();
  EXPECT_EQ(smmu->read(Reg::EVENTQ_PROD), 1u);
  smmu->collect(memory.pointer(evtq), sizeof(Event));
  EXPECT_EQ(std::to_integer<unsigned>(*memory.pointer(evtq)), 0x01u);
  // For a coherent one both do nothing.
  prod = 0;
  begin(true, false);
  put(cfgi_all());
  smmu->publish(memory.pointer(cmdq), sizeof(Command));
  EXPECT_EQ(memory.load<std::uint64_t>(cmdq, false), 0u);
}

}  // namespace
}  // namespace weir::model::test
