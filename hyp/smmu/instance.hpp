// The driver of one physical SMMUv3.
#pragma once

#include <array>
#include <atomic>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <expected>
#include <string_view>

#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "hyp/smmu/command_queue.hpp"
#include "hyp/smmu/hardware.hpp"
#include "hyp/smmu/stream_table.hpp"
#include "stage2/port.hpp"
#include "stage2/support/spinlock.hpp"
#include "stage2/tag.hpp"

namespace weir {

class SmmuInstance;

// Whoever a stream belongs to; hears of its events.
class StreamOwner : public boost::intrusive::set_base_hook<> {
 public:
  explicit StreamOwner(StreamID id, const void* of = nullptr) : sid{id}, client{of} {}
  const StreamID sid;
  const void* const client;  // what streams of one client have in common; see deliver_events_of()
  // Called with the instance's event queue locked; must not drain it.
  virtual void on_event(SmmuInstance& smmu, const smmu::Event& event) = 0;
  // Called with the instance's page request queue locked; must not drain it. False: the owner has not dealt with it, and
  // the request is refused.
  virtual bool on_page_request(SmmuInstance&, const smmu::PriEntry&) { return false; }
  // Events were discarded, perhaps this stream's: the instance's queue was full or could not be written (IHI 0070, 7.2, 7.4).
  // Called likewise.
  virtual void on_events_lost(SmmuInstance&) {}
  // Page requests were discarded, perhaps this stream's: the instance's queue was full (IHI 0070, 8.1). Called likewise.
  virtual void on_page_requests_lost(SmmuInstance&) {}
  // The device did not answer an ATC invalidation in time (IHI 0070, 3.9.1.4): what it has cached may be stale for ever,
  // and no further ATC_INV is sent to it until allow_atc(). Called before the CMD_SYNC behind it completes, with locks of the
  // instance held, on any pCPU: set a flag, issue no command, do not wait.
  virtual void on_atc_timeout(SmmuInstance&) {}
  // The SMMU has failed for good, and all DMA through it is being ended: the device is to be kept from any. Called likewise,
  // perhaps more than once.
  virtual void on_smmu_failed(SmmuInstance&) {}

 protected:
  ~StreamOwner() = default;
};

// What the machine says of an SMMU, beside its registers.
struct SmmuSetup {
  StreamID last_stream{0xffff};      // the largest that a device has
  std::string_view compatible = {};  // Smmu::compatible
  bool accept_unknown = false;       // use it even if Weir does not know `compatible`
};

class SmmuInstance final : public stage2::SmmuPort, private CommandQueueListener {
 public:
  // `name` outlives the instance. `coherent`: the devicetree's dma-coherent, which wins over IDR0.COHACC.
  SmmuInstance(unsigned index, std::string_view name, SmmuHardware& hardware, bool coherent);

  // Makes all DMA abort and turns translation off, whatever state the SMMU is in; issues no command. The first thing to
  // do with it. False: it does not answer.
  [[nodiscard, gnu::cold]] bool quiesce();
  // Discovers, checks, sets up queues and tables and turns translation on, every stream aborting. The error names what
  // is missing; the instance keeps aborting all DMA then.
  [[nodiscard, gnu::cold]] std::expected<void, const char*> init(const SmmuSetup& setup = {});

  // Delivers what the event queue holds, at most `most` records, each to the owner of its StreamID. Returns how many.
  unsigned drain_events(unsigned most);
  // Delivers what the event queue holds of the streams of `client`, in order and at most `most`, and leaves the rest to
  // drain_events(): a SYNC pays for others' records by a look only, some 20 instructions for each one of the stream before it,
  // 100 for another (by reading the code), and at most as many as the queue holds. Returns how many it has delivered.
  unsigned deliver_events_of(const void* client, unsigned most);
  // False: all that the event queue has shown up to now is delivered, on whichever pCPU. One load of PROD; takes no lock,
  // and never waits.
  [[nodiscard]] bool events_pending();
  // As drain_events(), for the page request queue, if there is one.
  unsigned drain_page_requests(unsigned most);
  // The global error interrupt (7.5): recovers the command queue, reports the rest.
  [[gnu::cold]] void on_global_error();

  // Events of `owner`'s StreamID go to it from now on, or no longer. False: the StreamID has an owner.
  [[nodiscard, gnu::cold]] bool claim(StreamOwner& owner);
  [[gnu::cold]] void release(StreamOwner& owner);

  // ATC_INVs are sent to `sid` again: its device has been reset, or fenced.
  void allow_atc(StreamID sid) { commands_.allow_atc(sid); }
  [[nodiscard]] bool atc_answers(StreamID sid) override { return !commands_.atc_refused(sid); }

  [[nodiscard]] unsigned event_capacity() const { return (events_mask_ + 1) / 2; }
  [[nodiscard]] std::uint64_t events() const { return event_count_; }
  [[nodiscard]] std::uint64_t event_overflows() const { return event_overflows_; }
  // 0: no page request queue.
  [[nodiscard]] unsigned page_request_capacity() const { return page_requests_size_; }
  [[nodiscard]] std::uint64_t page_requests() const { return page_request_count_; }
  [[nodiscard]] std::uint64_t page_request_overflows() const { return page_request_overflows_; }
  [[nodiscard]] CommandQueue::Counters command_counters() const { return commands_.counters(); }
  // See StreamOwner::on_smmu_failed().
  [[nodiscard]] bool failed() const { return !commands_.alive(); }
  [[nodiscard]] const char* part() const { return part_; }

  // stage2::SmmuPort
  [[nodiscard]] unsigned index() const override { return index_; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] const stage2::Capabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] stage2::VmidAllocator& vmids() override { return vmids_; }
  stage2::Ticket issue_and_sync(std::span<const smmu::Command> commands) override {
    return commands_.push(commands, true);
  }
  void issue(std::span<const smmu::Command> commands) override { commands_.push(commands, false); }
  [[nodiscard]] bool completed(stage2::Ticket ticket) override { return commands_.completed(ticket); }
  [[nodiscard]] std::expected<void, stage2::Error> install_ste(StreamID sid, const smmu::Ste& ste) override {
    return streams_.install(sid, ste);
  }

 private:
  // CommandQueueListener
  void on_atc_timeout(StreamID sid) override;
  bool on_dead_queue() override;

  struct BySid {
    using type = std::uint32_t;
    type operator()(const StreamOwner& owner) const { return owner.sid.value; }
  };
  [[nodiscard]] bool abort_everything();
  [[nodiscard]] bool set_and_ack(smmu::Reg control, smmu::Reg ack, std::uint32_t value);
  void read_capabilities();
  [[nodiscard]] const char* missing_feature(const SmmuSetup& setup) const;
  [[nodiscard]] unsigned stream_bits(const SmmuSetup& setup) const;
  [[nodiscard]] bool disable_control_pages();
  [[nodiscard]] bool init_event_queue();
  [[nodiscard]] bool take_early(std::uint32_t at);  // was it delivered early? No longer noted. As the next two
  void consume_events(smmu::EVENTQ_PROD prod, std::uint32_t at);
  unsigned deliver_events(unsigned most);  // what PROD shows at this moment; with events_lock_ held
  [[nodiscard]] bool init_page_requests();
  unsigned deliver_page_requests(unsigned most);  // likewise, with page_requests_lock_ held
  void deliver(const smmu::PriEntry& request);
  void tell_of_event_overflow();
  void tell_of_page_request_overflow();
  [[nodiscard]] StreamOwner* owner_of(StreamID sid);

  unsigned index_;
  bool coherent_;
  std::string_view name_;
  SmmuHardware& hardware_;
  // Near the start, for the offsets of what is used most.
  std::atomic<std::uint32_t> events_delivered_{0};  // EVENTQ_CONS.RD; written with events_lock_ held
  std::uint32_t events_mask_ = 0;                   // of an index with its wrap flag
  CommandQueue commands_{hardware_, name_, this};
  const char* part_ = "";
  stage2::Capabilities capabilities_{};
  stage2::VmidAllocator vmids_;
  StreamTable streams_{hardware_, commands_};

  SpinLock events_lock_;  // of the event queue; taken before any vSMMU's lock
  smmu::Event* events_ = nullptr;
  static constexpr std::size_t kMostEvents = 512;
  std::array<std::uint64_t, kMostEvents / 64> delivered_early_{};  // by deliver_events_of(): bits of slots
  std::uint64_t event_count_ = 0;
  std::uint64_t event_overflows_ = 0;
  bool overflow_acknowledged_ = false;  // EVENTQ_CONS.OVACKFLG
  std::uint64_t unowned_ = 0;
  std::uint64_t global_errors_ = 0;  // interrupts with an error that was not the command queue's; one pCPU takes them
  SpinLock page_requests_lock_;      // of the page request queue; as events_lock_, and inside it
  smmu::PriEntry* page_requests_ = nullptr;  // nullptr: no such queue
  std::uint32_t page_requests_size_ = 0;
  std::uint64_t page_request_count_ = 0;
  std::uint64_t page_requests_refused_ = 0;
  std::uint64_t page_request_overflows_ = 0;
  SpinLock owners_lock_;  // of owners_, for the short time of a look-up or change, inside the queues' locks
  boost::intrusive::set<StreamOwner, boost::intrusive::key_of_value<BySid>> owners_;
};

}  // namespace weir
