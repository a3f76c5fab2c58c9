// A software SMMUv3, written from the architecture (Arm IHI 0070G.b) and not from the code under test. A first part:
// Non-secure, coherent, AArch64 tables of 4 KiB granule; stage 1 with a single CD, stage 2 and both; no substreams,
// ATS, PRI, stalls, HTTU, MSIs.
//
// It makes progress in step() only, and there it is as late, as much out of order and as eager to cache as it may be:
// - Between CMD_SYNCs commands take effect in any order, long after CONS has passed them (4.3.8, 4.4).
// - STEs, level-1 descriptors, CDs (with the translation of their TTB), TLB entries and table descriptors are fetched
//   at any moment for every stream that it has heard of (3.21.3, 16.2), and kept until invalidated.
// - Events, acknowledges and GBPA updates arrive late.
// Same seed, same stores: same behaviour.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "hyp/smmu/hardware.hpp"
#include "tests/model/memory.hpp"
#include "tests/model/parameters.hpp"
#include "tests/model/queues.hpp"
#include "tests/model/tlb.hpp"

namespace weir::model {

class Smmu final : public SmmuHardware {
 public:
  Smmu(PhysicalMemory& memory, const Parameters& parameters);

  // SmmuHardware
  std::uint32_t read(smmu::Reg reg) override;
  void write(smmu::Reg reg, std::uint32_t value) override;
  void write64(smmu::Reg reg, std::uint64_t value) override;
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  [[nodiscard]] void* pointer(PA at) override { return memory_.pointer(at); }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  [[nodiscard]] std::uint64_t microseconds() override { return ++now_; }
  void relax() override { step(); }

  // One round of whatever may happen.
  void step();
  // Rounds until everything that can has happened.
  void settle();
  // Picks one of the streams and addresses heard of (hint(), access()) and caches what it can.
  void prefetch();
  void hint(StreamID sid, IOVA address) { streams_[sid.value].insert(address.value & ~(kPage4K - 1)); }

  // A device's transaction, unprivileged data of `bytes` > 0 bytes. Where its first byte lies; no value: it was
  // terminated. Every page that it touches is translated.
  [[nodiscard]] std::optional<PA> access(StreamID sid, IOVA address, bool write, std::uint64_t bytes = 1);

  [[nodiscard]] const Tlb& tlb() const { return tlb_; }
  [[nodiscard]] bool ste_cached(StreamID sid) const { return stes_.contains(sid.value); }
  [[nodiscard]] bool cd_cached(StreamID sid) const { return cds_.contains(sid.value); }
  [[nodiscard]] std::size_t pending_commands() const { return pending_.size(); }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  // Stores that the architecture forbids or calls CONSTRAINED UNPREDICTABLE; they were ignored.
  [[nodiscard]] std::uint64_t misuses() const { return misuses_; }
  [[nodiscard]] std::uint64_t syncs() const { return syncs_; }
  [[nodiscard]] std::uint64_t strtab_base() const {
    const auto found = plain_.find(smmu::Reg::STRTAB_BASE);
    if (found == plain_.end()) return 0;
    return smmu::STRTAB_BASE{{{found->second}}}.get<smmu::STRTAB_BASE::ADDR>();
  }
  [[nodiscard]] std::uint64_t events_lost() const { return events_lost_; }

  std::function<void(const smmu::Command&)> on_execute;  // a command takes effect

 private:
  struct Fault {
    smmu::EventId id{};
    smmu::EventClass what = smmu::EventClass::IN;
    bool s2 = false;
    std::uint64_t ipa = 0;
    std::uint64_t fetch = 0;
    bool silent = false;  // no record
  };
  template <typename T>
  using Result = std::expected<T, Fault>;
  struct CachedCd {
    smmu::Cd cd;
    std::optional<std::uint64_t> ttb[2];  // PA of the tables, once known
  };
  struct Output {
    std::uint64_t pa{};
    std::uint64_t base{};  // of the stage-2 leaf
    std::uint64_t size{};
    bool read = false;
    bool write = false;
  };

  [[nodiscard]] bool chance(unsigned numerator, unsigned denominator) { return random_() % denominator < numerator; }
  [[nodiscard]] bool enabled() const { return cr0ack_.get<smmu::CR0::SMMUEN>(); }
  [[nodiscard]] unsigned oas() const { return smmu::bits(parameters_.oas); }

  // Commands
  void fetch();
  void command_error(smmu::CmdqError error);
  [[nodiscard]] bool legal(const smmu::Command& c) const;
  void execute(const smmu::Command& c);
  void drop_configuration(std::uint64_t first, std::uint64_t last, bool level1);

  // Configuration
  [[nodiscard]] Result<smmu::Ste> ste(std::uint32_t sid);
  [[nodiscard]] bool ste_legal(const smmu::Ste& ste) const;
  [[nodiscard]] Result<CachedCd*> cd(std::uint32_t sid, const smmu::Ste& ste);
  [[nodiscard]] bool cd_legal(const smmu::Ste& ste, const smmu::Cd& cd) const;

  // Translation
  [[nodiscard]] Result<Output> stage2(const smmu::Ste& ste, std::uint64_t ipa, smmu::EventClass what);
  // As stage2(), of an access that the SMMU itself makes.
  [[nodiscard]] Result<std::uint64_t> readable(const smmu::Ste& ste, std::uint64_t ipa, smmu::EventClass what);
  [[nodiscard]] Result<Leaf> stage1(const smmu::Ste& ste, CachedCd& cd, std::uint64_t va);
  [[nodiscard]] Result<std::uint64_t> translate(std::uint32_t sid, std::uint64_t address, bool write,
                                                const smmu::Ste*& used_ste, const smmu::Cd*& used_cd);
  void record(std::uint32_t sid, std::uint64_t address, bool write, const Fault& fault);

  PhysicalMemory& memory_;
  Parameters parameters_;
  std::mt19937_64 random_;
  std::uint64_t now_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t misuses_ = 0;
  std::uint64_t syncs_ = 0;
  std::uint64_t events_lost_ = 0;

  std::map<smmu::Reg, std::uint64_t> plain_;  // registers that just hold a value
  smmu::CR0 cr0_;
  smmu::CR0 cr0ack_;
  smmu::GBPA gbpa_;       // in effect; Update clear
  smmu::GBPA gbpa_next_;  // as stored
  smmu::IRQ_CTRL irq_ctrl_;
  smmu::IRQ_CTRL irq_ctrlack_;
  smmu::GERROR gerror_;
  smmu::GERRORN gerrorn_;
  CommandRing commands_;
  EventRing events_;

  std::vector<smmu::Command> pending_;           // consumed, without effect yet
  std::vector<smmu::Event> in_flight_;           // events that are not in the queue yet
  std::map<std::uint32_t, smmu::Ste> stes_;      // by StreamID
  std::map<std::uint32_t, smmu::L1Std> level1_;  // by index in the level-1 table
  std::map<std::uint32_t, CachedCd> cds_;        // by StreamID
  Tlb tlb_;
  std::map<std::uint32_t, std::set<std::uint64_t>> streams_;  // heard of, with addresses
};

}  // namespace weir::model
