// Registers, transactions and the passing of time.
#include "tests/model/smmu.hpp"

#include <cstdio>
#include <cstdlib>

namespace weir::model {

using namespace smmu;

namespace {

// A wait that never ends is a bug of whoever waits, or of this model: better a dead test than a hung one.
constexpr std::uint64_t kTooLong = 20'000'000;

constexpr bool cacheable(QueueCacheability c) {
  return c == QueueCacheability::write_back || c == QueueCacheability::write_through;
}

}  // namespace

Smmu::Smmu(PhysicalMemory& memory, const Parameters& parameters)
    : memory_{memory},
      parameters_{parameters},
      random_{parameters.seed},
      registers_{parameters_},
      translator_{memory, parameters_, random_} {
  if (parameters.memory_types) memory.types();
}

// --- Registers (6.3) ---

void Smmu::mmio_write(std::uint32_t offset, unsigned size, std::uint64_t value) {
  waits_ = 0;
  registers_.write(offset, size, value);
  if (!parameters_.synchronous) return;
  while (!idle()) step();
}

void Smmu::relax() {
  if (++waits_ > kTooLong) {
    std::fprintf(stderr, "somebody waits for the SMMU model, and nothing comes\n");
    std::abort();
  }
  step();
}

std::uint32_t Smmu::read(Reg reg) { return static_cast<std::uint32_t>(mmio_read(static_cast<std::uint32_t>(reg), 4)); }
void Smmu::write(Reg reg, std::uint32_t value) { mmio_write(static_cast<std::uint32_t>(reg), 4, value); }
void Smmu::write64(Reg reg, std::uint64_t value) { mmio_write(static_cast<std::uint32_t>(reg), 8, value); }

void Smmu::publish(const void* at, std::size_t bytes) {
  if (coherent()) return;
  if (const auto pa = memory_.address_of(at)) memory_.clean(*pa, bytes);
}

void Smmu::collect(const void* at, std::size_t bytes) {
  if (coherent()) return;
  if (const auto pa = memory_.address_of(at)) memory_.invalidate(*pa, bytes);
}

bool Smmu::queues_snoop() const {
  const CR1& cr1 = registers_.controls.cr1;
  return !memory_.typed() ||
         (parameters_.coherent && (cacheable(cr1.get<CR1::QUEUE_IC>()) || cacheable(cr1.get<CR1::QUEUE_OC>())));
}

// 6.3.9: the side effects come first, then the value, then the acknowledge.
template <typename Bit>
void Smmu::take_effect(bool on) {
  if constexpr (std::is_same_v<Bit, CR0::SMMUEN>) {
    if (!on) {
      terminate_all();
      while (!page_requests_.empty()) deliver_request(0);
    }
  }
  if constexpr (std::is_same_v<Bit, CR0::EVENTQEN>) {
    if (!on && event_queue_writable()) {
      const std::size_t count = in_flight_.size();
      for (std::size_t i = 0; i < count && !in_flight_.empty(); ++i) deliver_event();
    }
  }
  if constexpr (std::is_same_v<Bit, CR0::PRIQEN>) {
    while (!on && !page_requests_.empty()) deliver_request(0);
  }
  registers_.controls.cr0.set<Bit>(on);
  if constexpr (std::is_same_v<Bit, CR0::CMDQEN>) registers_.commands.shown = registers_.commands.cons;
  if constexpr (std::is_same_v<Bit, CR0::EVENTQEN>) {
    if (!on) std::erase_if(in_flight_, [&](const InFlight& e) { return e.stall == 0 && ++events_lost_ > 0; });
  }
}

template <typename Bit>
void Smmu::acknowledge_bit() {
  const bool wanted = registers_.cr0.get<Bit>();
  if (in_effect<Bit>() != wanted) {
    if (chance(1, 2)) take_effect<Bit>(wanted);
  } else if (registers_.cr0ack.get<Bit>() != wanted && chance(1, 2)) {
    registers_.cr0ack.set<Bit>(wanted);
  }
}

void Smmu::acknowledge() {
  if (registers_.cr0 != registers_.cr0ack) {
    acknowledge_bit<CR0::CMDQEN>();
    acknowledge_bit<CR0::EVENTQEN>();
    acknowledge_bit<CR0::PRIQEN>();
    acknowledge_bit<CR0::ATSCHK>();
    acknowledge_bit<CR0::SMMUEN>();
  }
  if (registers_.irq_ctrl != registers_.irq_ctrlack && chance(1, 2)) {
    // 6.3.16: whatever was on its way has arrived when a disable is acknowledged.
    const auto off = [&]<typename Bit>(Bit, Source source) {
      if (!registers_.irq_ctrl.get<Bit>() && registers_.irq_ctrlack.get<Bit>()) flush_interrupts(source);
    };
    off(IRQ_CTRL::GERROR_IRQEN{}, Source::gerror);
    off(IRQ_CTRL::EVENTQ_IRQEN{}, Source::eventq);
    off(IRQ_CTRL::PRIQ_IRQEN{}, Source::priq);
    registers_.irq_ctrlack = registers_.irq_ctrl;
  }
  if (registers_.gbpa.get<GBPA::Update>() && chance(1, 2)) {
    registers_.gbpa.set<GBPA::Update>(false);
    registers_.controls.gbpa = registers_.gbpa;
  }
}

// --- Time ---

void Smmu::step() {
  ++steps_;
  acknowledge();
  const bool enabled = in_effect<CR0::SMMUEN>();
  if (parameters_.prefetches && enabled && maybe(3, 4)) prefetch();
  if (parameters_.evicts && maybe(1, 24)) translator_.evict();
  if (!in_flight_.empty() && chance(1, 3)) deliver_event();
  if (chance(2, 3)) fetch();
  // Anything that is pending, late: the more there is, the likelier.
  if (!pending_.empty() && chance(1, 3)) execute_pending();
  if (!responses_.empty() && chance(1, 2)) {
    const PriResp c = responses_.front();
    responses_.erase(responses_.begin());
    respond(c);
  }
  if (!interrupts_.empty() && chance(1, 2)) deliver_interrupt(pick(interrupts_.size()));
  if (!page_requests_.empty() && chance(1, 2)) deliver_request(pick(page_requests_.size()));
  if (!stalls_.empty() && chance(1, 2)) progress_stalls();
  if (registers_.commands.shown != registers_.commands.cons && chance(1, 2))
    registers_.commands.shown = registers_.commands.cons;
  if (memory_.typed() && maybe(1, 8)) memory_.drift(random_);
  if (parameters_.prefetches && enabled && maybe(1, 2)) prefetch();
}

bool Smmu::idle() const {
  const Registers& r = registers_;
  if (r.cr0 != r.cr0ack || r.irq_ctrl != r.irq_ctrlack || r.gbpa.get<GBPA::Update>()) return false;
  if (!pending_.empty() || !responses_.empty() || !interrupts_.empty() || !page_requests_.empty()) return false;
  if (r.commands.shown != r.commands.cons) return false;
  if (in_effect<CR0::CMDQEN>() && !r.active<GERROR::CMDQ_ERR>() && !r.commands.empty()) return false;
  for (const InFlight& e : in_flight_)
    if (e.stall == 0 || event_queue_writable()) return false;
  for (const Stall& s : stalls_)
    if (s.then != Stall::Then::nothing || (!s.tag && s.duplicate_of == 0 && free_tag())) return false;
  return true;
}

void Smmu::settle() {
  for (std::uint64_t rounds = 0; !idle(); ++rounds) {
    if (rounds > kTooLong) {
      std::fprintf(stderr, "the SMMU model does not come to rest\n");
      std::abort();
    }
    step();
  }
}

void Smmu::prefetch() {
  if (in_effect<CR0::SMMUEN>()) translator_.speculate(registers_.controls);
}

// --- Transactions ---

std::optional<Transaction> Smmu::attempt(const Access& access, std::uint64_t bytes, std::uint64_t id, bool early) {
  Transaction result{.id = id, .state = Transaction::State::passed};
  const std::uint64_t last = access.address + (bytes - 1);
  Access part = access;
  for (;; part.address = (part.address | (kPage4K - 1)) + 1) {
    const auto translated = translator_.translate(part, registers_.controls);
    if (!translated) {
      const Fault& fault = translated.error();
      if (fault.stalls) {
        if (early) return std::nullopt;
        stall(access, bytes, part.address, fault, id);
        result.state = Transaction::State::stalled;
        return result;
      }
      if (!fault.silent && !early) record(part, fault, 0, 0);
      result.state = fault.abort ? Transaction::State::aborted : Transaction::State::raz_wi;
      return result;
    }
    if (part.address == access.address) {
      result.address = PA{translated->address};
      result.type = translated->type;
    }
    if ((part.address | (kPage4K - 1)) >= last) return result;
  }
}

Transaction Smmu::issue(const Access& access, std::uint64_t bytes) {
  const Transaction result = *attempt(access, bytes, next_id_++, false);
  if (parameters_.synchronous)
    while (!idle()) step();
  return result;
}

Transaction Smmu::transaction(std::uint64_t id) const {
  for (const Stall& s : stalls_)
    if (s.id == id) return {.id = id, .state = Transaction::State::stalled};
  const auto found = outcomes_.find(id);
  return found == outcomes_.end() ? Transaction{.id = id} : found->second;
}

std::optional<PA> Smmu::access(StreamID sid, IOVA address, bool write, std::uint64_t bytes) {
  const Transaction t =
      issue(Access{.sid = sid, .ssid = std::nullopt, .address = address.value, .write = write}, bytes);
  if (t.state != Transaction::State::passed) return std::nullopt;
  return t.address;
}

Endpoint& Smmu::endpoint(StreamID sid) { return endpoints_.try_emplace(sid.value, *this, sid).first->second; }

}  // namespace weir::model
