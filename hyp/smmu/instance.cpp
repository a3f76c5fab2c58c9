#include "hyp/smmu/instance.hpp"

#include <bit>
#include <optional>

#include "guest-abi/smmu/print.hpp"
#include "hyp/log/log.hpp"
#include "hyp/smmu/errata.hpp"

namespace weir {

using smmu::CR0;
using smmu::GBPA;
using smmu::IDR0;
using smmu::IDR1;
using smmu::IDR5;
using smmu::Reg;

namespace {

constexpr std::uint64_t kTimeout = 1'000'000;   // microseconds, for an acknowledge
constexpr std::uint64_t kEventLog2 = 9;         // 16 KiB
constexpr std::uint64_t kPageRequestLog2 = 10;  // 16 KiB; what devices may be granted in credits altogether

template <typename R>
R read(SmmuHardware& hardware, Reg reg) {
  return R{{{hardware.read(reg)}}};
}

}  // namespace

SmmuInstance::SmmuInstance(unsigned index, std::string_view name, SmmuHardware& hardware, bool coherent)
    : index_{index},
      coherent_{coherent},
      name_{name},
      hardware_{hardware},
      vmids_{read<IDR0>(hardware, Reg::IDR0).get<IDR0::VMID16>()} {}

bool SmmuInstance::set_and_ack(Reg control, Reg ack, std::uint32_t value) {
  hardware_.write(control, value);
  const std::uint64_t deadline = hardware_.microseconds() + kTimeout;
  while (hardware_.read(ack) != value) {
    if (hardware_.microseconds() > deadline) return false;
    hardware_.relax();
  }
  return true;
}

// 6.3.14: what bypasses a disabled SMMU is decided by GBPA, so abort there comes before SMMUEN goes to 0. Its acknowledge
// says that what was translated before is over (6.3.9.6).
bool SmmuInstance::abort_everything() {
  const auto updated = [&] {
    const std::uint64_t deadline = hardware_.microseconds() + kTimeout;
    while (read<GBPA>(hardware_, Reg::GBPA).get<GBPA::Update>()) {
      if (hardware_.microseconds() > deadline) return false;
      hardware_.relax();
    }
    return true;
  };
  if (!updated()) return false;  // a store during somebody else's update may be ignored
  hardware_.write(Reg::GBPA, GBPA{}.set<GBPA::ABORT>(true).set<GBPA::Update>(true).words[0]);
  return updated() && set_and_ack(Reg::CR0, Reg::CR0ACK, 0);
}

// CR0 == 0 ends what earlier software may have left on: both queues that the SMMU writes, ATSCHK, VMW, DPT walks. Enhanced
// command queues have enables of their own. What belongs to other Security states (6.2) is out of reach.
bool SmmuInstance::quiesce() {
  return abort_everything() && disable_control_pages() && set_and_ack(Reg::IRQ_CTRL, Reg::IRQ_CTRLACK, 0);
}

// 3.5.6: without its control page an enhanced command queue consumes nothing.
bool SmmuInstance::disable_control_pages() {
  if (!read<IDR1>(hardware_, Reg::IDR1).get<IDR1::ECMDQ>()) return true;
  const auto log2 = read<smmu::IDR6>(hardware_, Reg::IDR6).get<smmu::IDR6::CMDQ_CONTROL_PAGE_LOG2NUMP>();
  const unsigned pages = std::min(1U << log2, smmu::kMaxControlPages);
  for (unsigned page = 0; page < pages; ++page)
    if (!set_and_ack(smmu::control_page_cfg(page), smmu::control_page_status(page), 0)) return false;
  return true;
}

unsigned SmmuInstance::stream_bits(const SmmuSetup& setup) const {
  const auto has = static_cast<unsigned>(capabilities_.idr1.get<IDR1::SIDSIZE>());
  return std::min(has, static_cast<unsigned>(std::bit_width(setup.last_stream.value)));
}

const char* SmmuInstance::missing_feature(const SmmuSetup& setup) const {
  const IDR0& idr0 = capabilities_.idr0;
  const IDR1& idr1 = capabilities_.idr1;
  if (!idr0.get<IDR0::S1P>()) return "IDR0.S1P is 0: no stage 1, so nothing can be nested";
  if (!idr0.get<IDR0::S2P>()) return "IDR0.S2P is 0: no stage 2, so nothing can be nested";
  const auto formats = idr0.get<IDR0::TTF>();
  if (formats != smmu::TtFormat::aarch64 && formats != smmu::TtFormat::both)
    return "IDR0.TTF: no AArch64 translation tables";
  if (idr0.get<IDR0::TTENDIAN>() == smmu::TtEndian::big) return "IDR0.TTENDIAN: no little-endian translation tables";
  if (!capabilities_.idr5.get<IDR5::GRAN4K>()) return "IDR5.GRAN4K is 0: no 4 KiB granule";
  if (idr1.get<IDR1::TABLES_PRESET>()) return "IDR1.TABLES_PRESET is 1: tables at fixed addresses";
  if (idr1.get<IDR1::QUEUES_PRESET>()) return "IDR1.QUEUES_PRESET is 1: queues at fixed addresses";
  if (idr0.get<IDR0::ST_LEVEL>() != smmu::StLevel::two_level && stream_bits(setup) > 16)
    return "IDR0.ST_LEVEL is 0 with StreamIDs of more than 16 bits: a linear stream table of more than 4 MiB";
  return nullptr;
}

bool SmmuInstance::init_event_queue() {
  static_assert(kMostEvents == 1U << kEventLog2);
  const auto log2 = std::min(kEventLog2, capabilities_.idr1.get<IDR1::EVENTQS>());
  events_mask_ = (std::uint32_t{2} << log2) - 1;
  const auto memory = hardware_.allocate(std::max<std::size_t>(event_capacity() * sizeof(smmu::Event), kPage4K));
  if (!memory) return false;
  // Whoever asks how much the queue can hold at a time is told what there is.
  capabilities_.idr1.set<IDR1::EVENTQS>(log2);
  events_ = static_cast<smmu::Event*>(hardware_.pointer(*memory));
  using smmu::EVENTQ_BASE;
  hardware_.write64(Reg::EVENTQ_BASE, EVENTQ_BASE{}
                                          .set<EVENTQ_BASE::WA>(true)
                                          .set<EVENTQ_BASE::ADDR>(memory->value)
                                          .set<EVENTQ_BASE::LOG2SIZE>(log2)
                                          .words[0]);
  hardware_.write(Reg::EVENTQ_PROD, 0);
  hardware_.write(Reg::EVENTQ_CONS, 0);
  return true;
}

// 32-bit reads: not every implementation answers 64-bit ones here.
void SmmuInstance::read_capabilities() {
  capabilities_ = {.idr0 = read<IDR0>(hardware_, Reg::IDR0),
                   .idr1 = read<IDR1>(hardware_, Reg::IDR1),
                   .idr3 = read<smmu::IDR3>(hardware_, Reg::IDR3),
                   .idr5 = read<IDR5>(hardware_, Reg::IDR5)};
  capabilities_.idr0.set<IDR0::COHACC>(coherent_);
  // Flags are updated by atomics, which past the caches the CPUs' own are not atomic with.
  if (!coherent_) capabilities_.idr0.set<IDR0::HTTU>(smmu::Htt::none);
}

std::expected<void, const char*> SmmuInstance::init(const SmmuSetup& setup) {
  constexpr const char* kNoMemory = "out of memory";
  constexpr const char* kNoAck = "a control register is not acknowledged within a second";
  read_capabilities();
  const Errata errata = apply_errata(read<smmu::IIDR>(hardware_, Reg::IIDR), setup.compatible, capabilities_);
  if (errata.part != nullptr) part_ = errata.part;
  if (errata.invalidate_twice) commands_.invalidate_twice();
  if (!setup.accept_unknown && !known_smmu(setup.compatible))
    return std::unexpected{
        "Weir does not know what this part needs beside arm,smmu-v3; accept-smmus in the manifest's root takes it"};
  if (const char* missing = missing_feature(setup); missing != nullptr) return std::unexpected{missing};
  if (errata.no_nesting != nullptr) return std::unexpected{errata.no_nesting};

  using smmu::CR1;
  using smmu::CR2;
  using smmu::QueueCacheability;
  const auto cache = coherent_ ? QueueCacheability::write_back : QueueCacheability::non_cacheable;
  const auto share = coherent_ ? smmu::Shareability::inner : smmu::Shareability::outer;
  hardware_.write(Reg::CR1, CR1{}
                                .set<CR1::TABLE_SH>(share)
                                .set<CR1::TABLE_OC>(cache)
                                .set<CR1::TABLE_IC>(cache)
                                .set<CR1::QUEUE_SH>(share)
                                .set<CR1::QUEUE_OC>(cache)
                                .set<CR1::QUEUE_IC>(cache)
                                .words[0]);
  // No broadcast invalidation from the CPUs' own tables (a hint), and a record for StreamIDs outside of the table.
  hardware_.write(Reg::CR2, CR2{}.set<CR2::PTM>(true).set<CR2::RECINVSID>(true).words[0]);
  const bool two_level = capabilities_.idr0.get<IDR0::ST_LEVEL>() == smmu::StLevel::two_level;
  if (!streams_.init(stream_bits(setup), two_level)) return std::unexpected{kNoMemory};
  if (!commands_.init(static_cast<unsigned>(capabilities_.idr1.get<IDR1::CMDQS>()))) return std::unexpected{kNoMemory};

  // Errors left over from before are acknowledged: no command is consumed while CMDQ_ERR is active (7.1).
  hardware_.write(Reg::GERRORN, hardware_.read(Reg::GERROR));
  CR0 cr0 = CR0{}.set<CR0::CMDQEN>(true);
  if (!set_and_ack(Reg::CR0, Reg::CR0ACK, cr0.words[0])) return std::unexpected{kNoAck};
  // Whatever whoever was here before us has left (3.21.1; TLBI_EL2_ALL needs Hyp).
  smmu::Command clean[3] = {smmu::cfgi_all(), smmu::tlbi_nsnh_all(), smmu::tlbi_el2_all()};
  const std::size_t count = capabilities_.idr0.get<IDR0::Hyp>() ? 3 : 2;
  stage2::wait(*this, issue_and_sync({clean, count}));
  if (!commands_.alive()) return std::unexpected{"its command queue does not work"};

  if (!init_event_queue() || !init_page_requests()) return std::unexpected{kNoMemory};
  // Without ATS, ATSCHK is RES0 and would never be acknowledged (6.3.9).
  cr0.set<CR0::EVENTQEN>(true).set<CR0::ATSCHK>(capabilities_.idr0.get<IDR0::ATS>());
  cr0.set<CR0::PRIQEN>(page_requests_ != nullptr);
  if (!set_and_ack(Reg::CR0, Reg::CR0ACK, cr0.words[0])) return std::unexpected{kNoAck};
  // Interrupts are wires.
  if (capabilities_.idr0.get<IDR0::MSI>()) {
    hardware_.write64(Reg::GERROR_IRQ_CFG0, 0);
    hardware_.write64(Reg::EVENTQ_IRQ_CFG0, 0);
    if (page_requests_ != nullptr) hardware_.write64(Reg::PRIQ_IRQ_CFG0, 0);
  }
  using smmu::IRQ_CTRL;
  const auto interrupts =
      IRQ_CTRL{}.set<IRQ_CTRL::EVENTQ_IRQEN>(true).set<IRQ_CTRL::GERROR_IRQEN>(true).set<IRQ_CTRL::PRIQ_IRQEN>(
          page_requests_ != nullptr);
  if (!set_and_ack(Reg::IRQ_CTRL, Reg::IRQ_CTRLACK, interrupts.words[0])) return std::unexpected{kNoAck};
  cr0.set<CR0::SMMUEN>(true);
  if (!set_and_ack(Reg::CR0, Reg::CR0ACK, cr0.words[0])) return std::unexpected{kNoAck};
  return {};
}

unsigned SmmuInstance::drain_events(unsigned most) {
  const SpinLock::Guard guard{events_lock_};
  unsigned done = 0;
  // PROD is read again after CONS was stored: a record written in between raises no interrupt, because the queue was
  // never empty (3.18.1), and nobody else would look.
  while (done < most) {
    const unsigned n = deliver_events(most - done);
    if (n == 0) break;
    done += n;
  }
  return done;
}

// What is delivered only grows, and is never ahead of PROD: whichever of the two is loaded first, equal means that all records
// up to PROD have been delivered. Records that somebody is delivering at this moment count as pending.
bool SmmuInstance::events_pending() {
  return ((hardware_.read(Reg::EVENTQ_PROD) ^ events_delivered_.load(std::memory_order_acquire)) & events_mask_) != 0;
}

unsigned SmmuInstance::deliver_events_of(const void* client, unsigned most) {
  using smmu::EVENTQ_PROD;
  const SpinLock::Guard guard{events_lock_};
  const auto prod = read<EVENTQ_PROD>(hardware_, Reg::EVENTQ_PROD);
  const std::uint32_t end = prod.get<EVENTQ_PROD::WR>() & events_mask_;
  const std::uint32_t begin = events_delivered_.load(std::memory_order_relaxed);
  std::optional<std::uint32_t> foreign;  // the StreamID of the last record that is another client's
  unsigned done = 0;
  for (std::uint32_t at = begin; at != end && done < most; at = (at + 1) & events_mask_) {
    const std::uint32_t slot = at & (events_mask_ >> 1);
    std::uint64_t& early = delivered_early_[slot / 64];
    const std::uint64_t bit = std::uint64_t{1} << slot % 64;
    if ((early & bit) != 0) continue;
    const smmu::Event* record = &events_[slot];
    hardware_.collect(record, sizeof *record);
    const std::uint32_t sid = record->get<smmu::Event::StreamID>();
    if (sid == foreign) continue;
    StreamOwner* const owner = owner_of(StreamID{sid});
    if (owner == nullptr || owner->client != client) {
      foreign = sid;
      continue;
    }
    early |= bit;
    ++event_count_;
    ++done;
    owner->on_event(*this, smmu::Event{*record});
  }
  // Makes room at once where no other client's record is in the way.
  std::uint32_t head = begin;
  while (head != end && take_early(head)) head = (head + 1) & events_mask_;
  if (head != begin) consume_events(prod, head);
  return done;
}

// Up to `at`, and tells of an overflow.
void SmmuInstance::consume_events(smmu::EVENTQ_PROD prod, std::uint32_t at) {
  using smmu::EVENTQ_CONS;
  const bool overflow = prod.get<smmu::EVENTQ_PROD::OVFLG>();
  if (overflow != overflow_acknowledged_) tell_of_event_overflow();
  overflow_acknowledged_ = overflow;
  const auto cons = EVENTQ_CONS{}.set<EVENTQ_CONS::RD>(at).set<EVENTQ_CONS::OVACKFLG>(overflow);
  hardware_.write_after_loads(Reg::EVENTQ_CONS, cons.words[0]);
  events_delivered_.store(at, std::memory_order_release);
}

bool SmmuInstance::take_early(std::uint32_t at) {
  const std::uint32_t slot = at & (events_mask_ >> 1);
  const std::uint64_t bit = std::uint64_t{1} << slot % 64;
  const bool early = (delivered_early_[slot / 64] & bit) != 0;
  delivered_early_[slot / 64] &= ~bit;
  return early;
}

unsigned SmmuInstance::deliver_events(unsigned most) {
  using smmu::EVENTQ_PROD;
  const auto prod = read<EVENTQ_PROD>(hardware_, Reg::EVENTQ_PROD);
  unsigned done = 0;
  std::uint32_t at = events_delivered_.load(std::memory_order_relaxed);
  for (; at != (prod.get<EVENTQ_PROD::WR>() & events_mask_) && done < most; ++done, at = (at + 1) & events_mask_) {
    if (take_early(at)) continue;
    const smmu::Event* record = &events_[at & (events_mask_ >> 1)];
    hardware_.collect(record, sizeof *record);
    const smmu::Event event = *record;
    ++event_count_;
    StreamOwner* const owner = owner_of(StreamID{event.get<smmu::Event::StreamID>()});
    if (owner != nullptr) {
      owner->on_event(*this, event);
    } else if (std::has_single_bit(++unowned_)) {  // the 1st, 2nd, 4th, ...
      Text<200> text;
      smmu::print(text, event);
      log("%.*s: event %llu of a stream that no VM owns: %.*s", static_cast<int>(name_.size()), name_.data(),
          static_cast<unsigned long long>(unowned_), static_cast<int>(text.size()), text.view().data());
    }
  }
  const bool overflow = prod.get<EVENTQ_PROD::OVFLG>() != overflow_acknowledged_;
  if (done != 0 || overflow) consume_events(prod, at);
  return done;
}

bool SmmuInstance::init_page_requests() {
  if (!capabilities_.idr0.get<IDR0::PRI>()) return true;
  const auto log2 = std::min(kPageRequestLog2, capabilities_.idr1.get<IDR1::PRIQS>());
  const std::uint32_t size = std::uint32_t{1} << log2;
  const auto memory = hardware_.allocate(std::max<std::size_t>(size * sizeof(smmu::PriEntry), kPage4K));
  if (!memory) return false;
  page_requests_ = static_cast<smmu::PriEntry*>(hardware_.pointer(*memory));
  page_requests_size_ = size;
  using smmu::PRIQ_BASE;
  hardware_.write64(
      Reg::PRIQ_BASE,
      PRIQ_BASE{}.set<PRIQ_BASE::WA>(true).set<PRIQ_BASE::ADDR>(memory->value).set<PRIQ_BASE::LOG2SIZE>(log2).words[0]);
  hardware_.write(Reg::PRIQ_PROD, 0);
  hardware_.write(Reg::PRIQ_CONS, 0);
  hardware_.write(Reg::PRIQ_IRQ_CFG2, 0);  // an interrupt whenever the queue is no longer empty; UNKNOWN after reset
  return true;
}

unsigned SmmuInstance::drain_page_requests(unsigned most) {
  if (page_requests_ == nullptr) return 0;
  const SpinLock::Guard guard{page_requests_lock_};
  unsigned done = 0;
  while (done < most) {  // as drain_events()
    const unsigned n = deliver_page_requests(most - done);
    if (n == 0) break;
    done += n;
  }
  return done;
}

unsigned SmmuInstance::deliver_page_requests(unsigned most) {
  using smmu::PRIQ_CONS;
  using smmu::PRIQ_PROD;
  const auto prod = read<PRIQ_PROD>(hardware_, Reg::PRIQ_PROD);
  auto cons = read<PRIQ_CONS>(hardware_, Reg::PRIQ_CONS);
  const std::uint32_t modulus = 2 * page_requests_size_ - 1;  // index and wrap flag
  const std::uint32_t end = prod.get<PRIQ_PROD::WR>() & modulus;
  unsigned done = 0;
  std::uint32_t at = cons.get<PRIQ_CONS::RD>() & modulus;
  for (; at != end && done < most; ++done, at = (at + 1) & modulus) {
    const smmu::PriEntry* record = &page_requests_[at & (page_requests_size_ - 1)];
    hardware_.collect(record, sizeof *record);
    const smmu::PriEntry request = *record;
    ++page_request_count_;
    deliver(request);
  }
  const bool overflow = prod.get<PRIQ_PROD::OVFLG>() != cons.get<PRIQ_CONS::OVACKFLG>();
  if (done == 0 && !(overflow && at == end)) return 0;
  cons.set<PRIQ_CONS::RD>(at);
  if (overflow && at == end) {
    // All that came before the overflow is delivered (8.1.1). Nothing is written to the queue until this is
    // acknowledged, in one store with RD.
    tell_of_page_request_overflow();
    cons.set<PRIQ_CONS::OVACKFLG>(prod.get<PRIQ_PROD::OVFLG>());
  }
  hardware_.write_after_loads(Reg::PRIQ_CONS, cons.words[0]);
  return done;
}

void SmmuInstance::deliver(const smmu::PriEntry& request) {
  using smmu::PriEntry;
  const StreamID sid{request.get<PriEntry::StreamID>()};
  StreamOwner* const owner = owner_of(sid);
  if (owner != nullptr && owner->on_page_request(*this, request)) return;
  // Nobody whom it would concern: as an SMMU whose PRI queue is off (8.2).
  ++page_requests_refused_;
  if (request.is_stop_marker()) return;
  const smmu::Command refuse =
      smmu::pri_resp(sid, std::nullopt, request.get<PriEntry::PRGIndex>(), smmu::PriResponse::failure);
  issue({&refuse, 1});
}

// Told before the acknowledge, and whenever it is seen: unlike the PRI queue, this one has gone on since (7.4), so what was
// lost has no place among the records.
void SmmuInstance::tell_of_event_overflow() {
  if (std::has_single_bit(++event_overflows_))  // the 1st, 2nd, 4th, ...
    log("%.*s: %llu overflows of the event queue: records were lost", static_cast<int>(name_.size()), name_.data(),
        static_cast<unsigned long long>(event_overflows_));
  const SpinLock::Guard owners{owners_lock_};
  for (StreamOwner& owner : owners_) owner.on_events_lost(*this);
}

void SmmuInstance::tell_of_page_request_overflow() {
  if (std::has_single_bit(++page_request_overflows_))  // the 1st, 2nd, 4th, ...
    log("%.*s: %llu overflows of the page request queue: devices send more than they were granted credits for",
        static_cast<int>(name_.size()), name_.data(), static_cast<unsigned long long>(page_request_overflows_));
  const SpinLock::Guard owners{owners_lock_};
  for (StreamOwner& owner : owners_) owner.on_page_requests_lost(*this);
}

StreamOwner* SmmuInstance::owner_of(StreamID sid) {
  const SpinLock::Guard owners{owners_lock_};
  const auto found = owners_.find(sid.value);
  return found == owners_.end() ? nullptr : &*found;
}

void SmmuInstance::on_global_error() {
  commands_.recover();
  const std::uint32_t active = commands_.acknowledge_others();
  if ((active & smmu::GERROR::SFM_ERR::mask) != 0) commands_.fail();  // no command is consumed any more
  if ((active & smmu::GERROR::EVENTQ_ABT_ERR::mask) != 0) {
    const SpinLock::Guard guard{events_lock_};
    tell_of_event_overflow();
  }
  if ((active & smmu::GERROR::PRIQ_ABT_ERR::mask) != 0) {
    const SpinLock::Guard guard{page_requests_lock_};
    tell_of_page_request_overflow();
  }
  // The 1st, 2nd, 4th, ...: on some implementations a guest's faults overflow the event queue into EVENTQ_ABT_ERR.
  if (active == 0 || !std::has_single_bit(++global_errors_)) return;
  smmu::GERROR::Layout::for_each([&]<typename F>(F) {
    if ((active & F::mask) != 0)
      log("%.*s: global error %.*s (%llu)", static_cast<int>(name_.size()), name_.data(),
          static_cast<int>(F::name.size()), F::name.data(), static_cast<unsigned long long>(global_errors_));
  });
}

bool SmmuInstance::claim(StreamOwner& owner) {
  commands_.allow_atc(owner.sid);
  const SpinLock::Guard guard{owners_lock_};
  return owners_.insert(owner).second;
}

void SmmuInstance::release(StreamOwner& owner) {
  // Behind the queues' locks nobody is delivering to it any more.
  const SpinLock::Guard events{events_lock_};
  const SpinLock::Guard requests{page_requests_lock_};
  const SpinLock::Guard guard{owners_lock_};
  owners_.erase(owners_.iterator_to(owner));
}

void SmmuInstance::on_atc_timeout(StreamID sid) {
  log("%.*s: the device with StreamID %#x does not answer ATC invalidations", static_cast<int>(name_.size()),
      name_.data(), sid.value);
  const SpinLock::Guard guard{owners_lock_};
  const auto found = owners_.find(sid.value);
  if (found != owners_.end()) found->on_atc_timeout(*this);
}

// Whoever has it learns first: a function that its owner fences is not switched on again while this goes on.
bool SmmuInstance::on_dead_queue() {
  vmids_.close();
  {
    const SpinLock::Guard guard{owners_lock_};
    for (StreamOwner& owner : owners_) owner.on_smmu_failed(*this);
  }
  if (abort_everything()) {
    log("%.*s: all DMA through it aborts", static_cast<int>(name_.size()), name_.data());
    return true;
  }
  log("%.*s: it does not let itself be turned off", static_cast<int>(name_.size()), name_.data());
  return hardware_.cut_off_masters();
}

}  // namespace weir
