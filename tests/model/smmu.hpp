// A software SMMUv3, written from the architecture (Arm IHI 0070G.b) and not from the code under test: Non-secure, with
// whatever of stage 1, stage 2, substreams, stalls, ATS, PRI, MSIs and HTTU its Parameters announce.
//
// It makes progress in step() only, and there it is as late, as much out of order and as eager to cache as it may be:
// - Between CMD_SYNCs commands take effect in any order, long after CONS has passed them (4.3.8, 4.4).
// - STEs, level-1 descriptors, CDs (with the translation of their TTB), TLB entries and table descriptors are fetched
//   at any moment for every stream that it has heard of (3.21.3, 16.2), and kept until invalidated.
// - Events, page requests, interrupts, acknowledges and GBPA updates arrive late; CONS and stalled transactions move late.
// Same seed, same stores: same behaviour. Parameters::synchronous makes it do everything at once instead.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <unordered_map>
#include <vector>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "hyp/smmu/hardware.hpp"
#include "tests/model/device.hpp"
#include "tests/model/memory.hpp"
#include "tests/model/parameters.hpp"
#include "tests/model/registers.hpp"
#include "tests/model/translation.hpp"
#include "tests/model/translation_cache.hpp"

namespace weir::model {

class Smmu final : public SmmuHardware {
 public:
  Smmu(PhysicalMemory& memory, const Parameters& parameters);
  Smmu(const Smmu&) = delete;
  Smmu& operator=(const Smmu&) = delete;

  [[nodiscard]] const Parameters& parameters() const { return parameters_; }

  // --- Software's side ---
  // Any access to the two register pages; `size` in bytes, `offset` from page 0.
  [[nodiscard]] std::uint64_t mmio_read(std::uint32_t offset, unsigned size) { return registers_.read(offset, size); }
  void mmio_write(std::uint32_t offset, unsigned size, std::uint64_t value);

  // SmmuHardware
  std::uint32_t read(smmu::Reg reg) override;
  void write(smmu::Reg reg, std::uint32_t value) override;
  void write64(smmu::Reg reg, std::uint64_t value) override;
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  [[nodiscard]] void* pointer(PA at) override { return memory_.pointer(at); }
  [[nodiscard]] bool coherent() const override { return !memory_.typed() || parameters_.coherent; }
  void publish(const void* at, std::size_t bytes) override;
  void collect(const void* at, std::size_t bytes) override;
  [[nodiscard]] std::uint64_t microseconds() override { return ++now_; }
  void relax() override;

  // What it signals. Wired interrupts, edges: the number is that of Source.
  std::function<void(unsigned)> on_irq;
  // A message, before it is taken for a store to memory: true or false if this address is a doorbell that took or
  // aborted it.
  std::function<std::optional<bool>(PA, std::uint32_t)> on_msi;
  std::function<void()> on_sev;
  std::function<void(const smmu::Command&)> on_execute;  // a command takes effect

  // --- Time ---
  // One round of whatever may happen.
  void step();
  // Rounds until everything that can has happened.
  void settle();
  [[nodiscard]] bool idle() const;
  // Picks one of the streams and addresses heard of (hint(), access()) and caches what it can.
  void prefetch();
  void hint(StreamID sid, IOVA address) { translator_.hint(sid, std::nullopt, address.value); }
  void hint(StreamID sid, SubstreamID ssid, IOVA address) { translator_.hint(sid, ssid, address.value); }

  // --- The devices' side ---
  // A transaction of `bytes` > 0 bytes; every page that it touches is translated.
  Transaction issue(const Access& access, std::uint64_t bytes = 1);
  // What became of a transaction that stalled.
  [[nodiscard]] Transaction transaction(std::uint64_t id) const;
  // As issue(), unprivileged data without a substream: where the first byte lies; no value: it was terminated or stalls.
  [[nodiscard]] std::optional<PA> access(StreamID sid, IOVA address, bool write, std::uint64_t bytes = 1);
  // The PCIe function with this StreamID, from the first call on.
  [[nodiscard]] Endpoint& endpoint(StreamID sid);
  // E_PAGE_REQUEST, F_UUT (7.3.2, 7.3.19) and whatever else is recorded without a translation.
  void record(const smmu::Event& event);

  // --- For tests ---
  [[nodiscard]] const TranslationCache& tlb() const { return translator_.tlb(); }
  [[nodiscard]] bool ste_cached(StreamID sid) const { return translator_.ste_cached(sid); }
  [[nodiscard]] bool cd_cached(StreamID sid, SubstreamID ssid = SubstreamID{}) const {
    return translator_.cd_cached(sid, ssid);
  }
  [[nodiscard]] std::size_t pending_commands() const { return pending_.size(); }
  [[nodiscard]] std::size_t stalled() const { return stalls_.size(); }        // transactions that wait
  [[nodiscard]] std::size_t stall_tags_used() const { return tags_.size(); }  // 3.12.2: until acknowledged
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  // Stores and commands that the architecture forbids or calls CONSTRAINED UNPREDICTABLE.
  [[nodiscard]] std::uint64_t misuses() const { return registers_.misuses + misuses_; }
  [[nodiscard]] std::uint64_t syncs() const { return syncs_; }
  [[nodiscard]] std::uint64_t events_lost() const { return events_lost_; }
  [[nodiscard]] std::uint64_t events_merged() const { return events_merged_; }
  [[nodiscard]] std::uint64_t events_recorded() const { return events_recorded_; }
  [[nodiscard]] std::uint64_t strtab_base() const {
    return registers_.controls.strtab_base.get<smmu::STRTAB_BASE::ADDR>();
  }

 private:
  friend class Endpoint;

  struct InFlight {
    smmu::Event event;
    bool merge = false;
    std::uint64_t stall = 0;  // its transaction; 0: none
  };
  struct Stall {
    enum class Then : std::uint8_t { nothing, retry, abort, raz_wi };
    std::uint64_t id{};
    Access access;
    std::uint64_t bytes{};
    std::optional<std::uint16_t> tag;  // none: waits until one is free, or is a suppressed duplicate
    std::uint64_t duplicate_of = 0;
    std::uint64_t page{};
    bool recorded = false;  // its event is in the queue
    bool stale = false;     // a CMD_SYNC has completed before its event could be recorded
    Then then = Then::nothing;
  };
  struct Tag {
    std::uint64_t id{};
    std::uint32_t sid{};
    bool visible = false;  // the event is
  };
  struct Interrupt {
    Source source{};
    bool message = false;
    PA address;
    std::uint32_t data{};
    bool snoop = true;
  };
  struct Request {
    StreamID sid;
    smmu::PriEntry entry;
  };

  // Something that may, but need not happen now; always if there is no time to be late.
  [[nodiscard]] bool chance(unsigned numerator, unsigned denominator) {
    return parameters_.synchronous || random_() % denominator < numerator;
  }
  // Something that need not ever happen.
  [[nodiscard]] bool maybe(unsigned numerator, unsigned denominator) {
    return !parameters_.synchronous && random_() % denominator < numerator;
  }
  [[nodiscard]] std::size_t pick(std::size_t count) { return parameters_.synchronous ? 0 : random_() % count; }
  template <typename Bit>
  [[nodiscard]] bool in_effect() const {
    return registers_.controls.cr0.get<Bit>();
  }
  [[nodiscard]] bool queues_snoop() const;

  // Updates of registers
  void acknowledge();
  template <typename Bit>
  void acknowledge_bit();
  template <typename Bit>
  void take_effect(bool on);
  template <typename Bit>
  void raise_error();
  [[nodiscard]] bool event_queue_writable() const;

  // Commands (commands.cpp)
  void fetch();
  void command_error(smmu::CmdqError error);
  [[nodiscard]] bool legal(const smmu::Command& c);
  void take_command(const smmu::Command& c);
  void execute_pending();
  void execute(const smmu::Command& c);
  [[nodiscard]] bool sync_complete();
  void invalidate_atc(const smmu::AtcInv& c);
  void respond(const smmu::PriResp& c);

  // Events and interrupts (interrupts.cpp)
  void record(const Access& access, const Fault& fault, std::uint64_t stall, std::uint16_t tag);
  void queue_event(const InFlight& event);
  void deliver_event();
  void write_event(const InFlight& event);
  void trigger(Source source);
  void signal_sync(const smmu::Sync& sync);
  void deliver_interrupt(std::size_t which);
  void flush_interrupts(Source source);

  // Stalls (stalls.cpp)
  void stall(const Access& access, std::uint64_t bytes, std::uint64_t page, const Fault& fault, std::uint64_t id);
  [[nodiscard]] std::optional<std::uint16_t> free_tag() const;
  void resume(const smmu::Resume& c);
  void terminate_stream(std::uint32_t sid);
  void terminate_all();
  void progress_stalls();
  void finish(std::uint64_t id, const Transaction& result);
  void free_tag_of(std::uint64_t id);
  // Walks all pages; `early`: a retry that is nobody's business but the transaction's.
  [[nodiscard]] std::optional<Transaction> attempt(const Access& access, std::uint64_t bytes, std::uint64_t id,
                                                   bool early);

  // ATS, PRI (ats.cpp, pri.cpp)
  AtsResponse translation_request(const Access& access);
  void page_request(StreamID sid, const smmu::PriEntry& entry);
  void deliver_request(std::size_t which);
  void respond_automatically(const Request& request, PrgCode code, bool with_pasid);
  [[nodiscard]] std::optional<bool> ppar(StreamID sid);

  PhysicalMemory& memory_;
  Parameters parameters_;
  std::mt19937_64 random_;
  Registers registers_;
  Translator translator_;
  std::uint64_t now_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t waits_ = 0;  // relax() since the last store
  std::uint64_t misuses_ = 0;
  std::uint64_t syncs_ = 0;
  std::uint64_t events_lost_ = 0;
  std::uint64_t events_merged_ = 0;
  std::uint64_t events_recorded_ = 0;

  std::vector<smmu::Command> pending_;    // consumed, without effect yet
  std::vector<smmu::PriResp> responses_;  // consumed, not sent yet; no CMD_SYNC waits for them
  unsigned timed_out_ = 0;                // CMD_ATC_INVs without an answer since the last CMD_SYNC
  std::vector<InFlight> in_flight_;       // events that are not in the queue yet
  std::vector<Interrupt> interrupts_;     // not sent yet
  std::vector<Request> page_requests_;    // not in the queue yet
  std::vector<Stall> stalls_;
  std::map<std::uint16_t, Tag> tags_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, Transaction> outcomes_;  // of those that stalled
  std::map<std::uint32_t, Endpoint> endpoints_;
};

}  // namespace weir::model
