#include "tests/conformance/driver.hpp"

#include <algorithm>

namespace weir::conformance {

using namespace smmu;

// --- Bringing it up

bool Driver::set_cr0(std::uint32_t value) {
  cr0_ = value;
  write(Reg::CR0, value);
  return run.expect(soon([&] { return read(Reg::CR0ACK) == value; }), "CR0ACK does not follow CR0");
}

bool Driver::set_irqs(std::uint32_t value) {
  write(Reg::IRQ_CTRL, value);
  return run.expect(soon([&] { return read(Reg::IRQ_CTRLACK) == value; }), "IRQ_CTRLACK does not follow IRQ_CTRL");
}

bool Driver::set_gbpa(bool abort) {
  auto gbpa = get<GBPA>(Reg::GBPA);
  write(Reg::GBPA, gbpa.set<GBPA::ABORT>(abort).set<GBPA::Update>(true).words[0]);
  return run.expect(soon([&] { return !get<GBPA>(Reg::GBPA).get<GBPA::Update>(); }), "GBPA.Update stays 1") &&
         run.equal(get<GBPA>(Reg::GBPA).get<GBPA::ABORT>(), abort, "GBPA.ABORT");
}

bool Driver::start(const Setup& setup) {
  setup_ = setup;
  const std::uint64_t entries = std::uint64_t{1} << (setup.two_level ? setup.sid_bits - setup.split : setup.sid_bits);
  const std::uint64_t bytes = std::max<std::uint64_t>(entries * (setup.two_level ? sizeof(L1Std) : sizeof(Ste)), 64);
  strtab_ = rig.allocate(bytes, bytes);
  const auto queue_of = [this](std::uint64_t size) { return rig.allocate(size, std::max<std::uint64_t>(size, 64)); };
  cmdq_ = queue_of(sizeof(Command) << setup.cmdq_log2);
  eventq_ = queue_of(sizeof(Event) << setup.eventq_log2);
  if (setup.priq) priq_ = queue_of(sizeof(PriEntry) << setup.priq_log2);

  constexpr auto kWb = QueueCacheability::write_back;
  CR1 cr1;
  cr1.set<CR1::TABLE_SH>(Shareability::inner).set<CR1::TABLE_OC>(kWb).set<CR1::TABLE_IC>(kWb);
  cr1.set<CR1::QUEUE_SH>(Shareability::inner).set<CR1::QUEUE_OC>(kWb).set<CR1::QUEUE_IC>(kWb);
  write(Reg::CR1, cr1.words[0]);
  write(Reg::CR2, CR2{}.set<CR2::RECINVSID>(setup.recinvsid).set<CR2::PTM>(true).words[0]);
  write64(Reg::STRTAB_BASE, STRTAB_BASE{}.set<STRTAB_BASE::ADDR>(strtab_).words[0]);
  STRTAB_BASE_CFG config;
  config.set<STRTAB_BASE_CFG::LOG2SIZE>(setup.sid_bits);
  if (setup.two_level) config.set<STRTAB_BASE_CFG::FMT>(StrtabFmt::two_level).set<STRTAB_BASE_CFG::SPLIT>(setup.split);
  write(Reg::STRTAB_BASE_CFG, config.words[0]);
  write64(Reg::CMDQ_BASE, CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(cmdq_).set<CMDQ_BASE::LOG2SIZE>(setup.cmdq_log2).words[0]);
  write(Reg::CMDQ_PROD, 0);
  write(Reg::CMDQ_CONS, 0);
  write64(Reg::EVENTQ_BASE,
          EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(eventq_).set<EVENTQ_BASE::LOG2SIZE>(setup.eventq_log2).words[0]);
  write(Reg::EVENTQ_PROD, 0);
  write(Reg::EVENTQ_CONS, 0);
  if (setup.priq) {
    write64(Reg::PRIQ_BASE, PRIQ_BASE{}.set<PRIQ_BASE::ADDR>(priq_).set<PRIQ_BASE::LOG2SIZE>(setup.priq_log2).words[0]);
    write(Reg::PRIQ_PROD, 0);
    write(Reg::PRIQ_CONS, 0);
  }
  prod_ = 0;
  event_ = 0;

  std::uint32_t value = CR0::CMDQEN::mask | setup.cr0;
  if (!set_cr0(value)) return false;
  if (!invalidate(cfgi_all(), tlbi_nsnh_all())) return false;
  if (setup.eventq) value |= CR0::EVENTQEN::mask;
  if (setup.priq) value |= CR0::PRIQEN::mask;
  if (!set_cr0(value)) return false;
  return !setup.enable || set_cr0(value | CR0::SMMUEN::mask);
}

// --- Streams

std::uint64_t Driver::l1std_at(std::uint32_t sid) { return strtab_ + (sid >> setup_.split) * sizeof(L1Std); }

std::uint64_t Driver::ste_at(std::uint32_t sid) {
  if (!setup_.two_level) return strtab_ + sid * sizeof(Ste);
  const std::uint64_t at = l1std_at(sid);
  auto l1 = take<L1Std>(at);
  if (l1.get<L1Std::Span>() == 0) {
    const std::uint64_t bytes = sizeof(Ste) << setup_.split;
    l1.set<L1Std::L2Ptr>(rig.allocate(bytes, bytes)).set<L1Std::Span>(setup_.split + 1);
    put(at, l1);
  }
  return l1.get<L1Std::L2Ptr>() + (sid & ((1u << setup_.split) - 1)) * sizeof(Ste);
}

void Driver::put_ste(unsigned device, const Ste& ste) {
  const std::uint64_t at = ste_at(rig.stream(device));
  for (std::size_t i = ste.words.size(); i-- != 0;) rig.store(at + 8 * i, ste.words[i]);
}

bool Driver::install(unsigned device, const Ste& ste) {
  put_ste(device, ste);
  return issue({cfgi_ste(sid(device), setup_.two_level ? false : true)});
}

Ste ste_of(SteConfig config) {
  return Ste{}.set<Ste::V>(true).set<Ste::Config>(config).set<Ste::SHCFG>(ShareabilityConfig::use_incoming);
}

// --- Commands

void Driver::queue(const Command& c) {
  put(slot(prod_), c);
  prod_ = (prod_ + 1) & ring_mask();
}

void Driver::kick() { write(Reg::CMDQ_PROD, prod_); }

bool Driver::command_error() { return ((read(Reg::GERROR) ^ read(Reg::GERRORN)) & GERROR::CMDQ_ERR::mask) != 0; }

bool Driver::consumed() { return field<CMDQ_CONS::RD>(Reg::CMDQ_CONS) == prod_; }

bool Driver::wait_consumed() {
  bool error = false;
  const bool done = soon([&] { return consumed() || (error = command_error()); });
  return done && !error;
}

bool Driver::sync() {
  queue(sync_none());
  kick();
  return run.expect(wait_consumed(), "CMD_SYNC is not consumed");
}

bool Driver::issue(std::initializer_list<Command> commands) {
  for (const Command& c : commands) queue(c);
  return sync();
}

bool Driver::invalidate(const Command& configuration, const Command& tlb) {
  return issue({configuration}) && issue({tlb});
}

std::optional<bool> Driver::refused(const Command& c) {
  const std::uint32_t before = read(Reg::GERROR);
  const std::uint32_t at = prod_;
  queue(c);
  const std::uint32_t after = prod_;
  kick();
  bool error = false;
  if (!soon([&] { return consumed() || (error = command_error()); })) return std::nullopt;
  if (!error) return false;
  const auto cons = get<CMDQ_CONS>(Reg::CMDQ_CONS);
  if (cons.get<CMDQ_CONS::ERR>() != CmdqError::CERROR_ILL || cons.get<CMDQ_CONS::RD>() != at ||
      (read(Reg::GERROR) ^ before) != GERROR::CMDQ_ERR::mask) {
    run.equal(static_cast<unsigned>(cons.get<CMDQ_CONS::ERR>()), 1, "CMDQ_CONS.ERR");
    run.equal(cons.get<CMDQ_CONS::RD>(), at, "CMDQ_CONS.RD");
    run.equal(read(Reg::GERROR) ^ before, GERROR::CMDQ_ERR::mask, "change of GERROR");
    return std::nullopt;
  }
  // Replaced by something that is legal, and acknowledged.
  put(slot(at), Command{sync_none()});
  acknowledge_errors();
  if (!soon([&] { return field<CMDQ_CONS::RD>(Reg::CMDQ_CONS) == after; })) {
    run.expect(false, "the queue does not go on after GERRORN");
    return std::nullopt;
  }
  return true;
}

bool Driver::expect_illegal(const Command& c, std::string_view what) {
  const auto r = refused(c);
  return run.expect(r.has_value(), what) && run.expect(*r, what);
}

bool Driver::expect_legal(const Command& c, std::string_view what) {
  const auto r = refused(c);
  return run.expect(r.has_value(), what) && run.expect(!*r, what);
}

// --- Events

std::optional<Event> Driver::next_event() {
  const std::uint32_t mask = (2u << setup_.eventq_log2) - 1;
  const auto prod = get<EVENTQ_PROD>(Reg::EVENTQ_PROD);
  if ((prod.get<EVENTQ_PROD::WR>() & mask) == event_) return std::nullopt;
  const auto e = take<Event>(eventq_ + (event_ & (mask >> 1)) * sizeof(Event));
  event_ = (event_ + 1) & mask;
  write(Reg::EVENTQ_CONS,
        EVENTQ_CONS{}.set<EVENTQ_CONS::RD>(event_).set<EVENTQ_CONS::OVACKFLG>(prod.get<EVENTQ_PROD::OVFLG>()).words[0]);
  return e;
}

unsigned Driver::drop_events() {
  unsigned n = 0;
  while (next_event()) ++n;
  return n;
}

std::optional<Event> Driver::expect_event(EventId id, unsigned device) {
  if (!sync()) return std::nullopt;
  const auto e = next_event();
  if (!run.expect(e.has_value(), "no event after a CMD_SYNC")) return std::nullopt;
  if (!run.equal(static_cast<unsigned>(e->id()), static_cast<unsigned>(id), "event")) return std::nullopt;
  if (!run.equal(e->get<Event::StreamID>(), rig.stream(device), "StreamID of the event")) return std::nullopt;
  if (const auto more = next_event()) {
    run.equal(static_cast<unsigned>(more->id()), 0, "a second event");
    return std::nullopt;
  }
  return e;
}

bool Driver::expect_no_event() {
  if (!sync()) return false;
  const auto e = next_event();
  return !e || run.equal(static_cast<unsigned>(e->id()), 0, "unexpected event");
}

// --- DMA

bool Driver::expect_lands(unsigned device, std::uint64_t iova, std::uint64_t at, std::string_view what) {
  return expect_lands(device, Transaction{.iova = iova}, at, what);
}
bool Driver::expect_lands(unsigned device, const Transaction& t, std::uint64_t at, std::string_view what) {
  const Reply r = rig.dma(device, t);
  return run.expect(r.outcome == Outcome::ok, what) && run.equal(r.at, at, what);
}
bool Driver::expect_aborts(unsigned device, std::uint64_t iova, std::string_view what) {
  return expect_aborts(device, Transaction{.iova = iova}, what);
}
bool Driver::expect_aborts(unsigned device, const Transaction& t, std::string_view what) {
  return run.expect(rig.dma(device, t).outcome == Outcome::aborted, what);
}
std::optional<Event> Driver::expect_fault(unsigned device, std::uint64_t iova, EventId id) {
  return expect_fault(device, Transaction{.iova = iova}, id);
}
std::optional<Event> Driver::expect_fault(unsigned device, const Transaction& t, EventId id) {
  if (!expect_aborts(device, t, "DMA that must fail goes through")) return std::nullopt;
  return expect_event(id, device);
}

// --- Address spaces

namespace {
constexpr unsigned kLeafLevel = 3;
constexpr std::uint64_t kAddress = bit_mask(47, 12);
}  // namespace

Space::Space(Driver& d, ASID asid, unsigned granule_log2, unsigned bits, bool upper)
    : d_{d}, granule_{granule_log2}, bits_{bits}, start_{kLeafLevel + 1 - (bits - 4) / (granule_log2 - 3)} {
  const std::uint64_t size = std::uint64_t{1} << granule_;
  root_ = d_.rig.allocate(size, size);
  cd_at_ = d_.rig.allocate(sizeof(Cd), sizeof(Cd));
  const auto oas = std::min(d_.get<IDR5>(Reg::IDR5).get<IDR5::OAS>(), AddressSize::bits48);
  cd_.set<Cd::V>(true)
      .set<Cd::AA64>(true)
      .set<Cd::IPS>(oas)
      .set<Cd::R>(true)
      .set<Cd::A>(true)
      .set<Cd::ASET>(true)
      .set<Cd::ASID>(asid)
      .set<Cd::MAIR0>(static_cast<std::uint32_t>(vmsa::MairAttr::normal_wb));
  constexpr auto kWb = WalkCacheability::write_back_ra_wa;
  if (upper) {
    cd_.set<Cd::EPD0>(true)
        .set<Cd::T1SZ>(64 - bits)
        .set<Cd::TG1>(granule_ == 12   ? Granule1::size4k
                      : granule_ == 14 ? Granule1::size16k
                                       : Granule1::size64k)
        .set<Cd::IR1>(kWb)
        .set<Cd::OR1>(kWb)
        .set<Cd::SH1>(Shareability::inner)
        .set<Cd::TTB1>(IPA{root_});
  } else {
    cd_.set<Cd::EPD1>(true)
        .set<Cd::T0SZ>(64 - bits)
        .set<Cd::TG0>(granule_ == 12   ? Granule0::size4k
                      : granule_ == 14 ? Granule0::size16k
                                       : Granule0::size64k)
        .set<Cd::IR0>(kWb)
        .set<Cd::OR0>(kWb)
        .set<Cd::SH0>(Shareability::inner)
        .set<Cd::TTB0>(IPA{root_});
  }
  put_cd(cd_);
}

std::uint64_t Space::index(std::uint64_t iova, unsigned level) const {
  const unsigned per_level = granule_ - 3;
  const unsigned shift = granule_ + (kLeafLevel - level) * per_level;
  const unsigned top = level == start_ ? bits_ : shift + per_level;
  return (iova & bit_mask(top - 1, 0)) >> shift;
}

std::uint64_t Space::entry(std::uint64_t iova, unsigned level) {
  std::uint64_t table = root_;
  for (unsigned l = start_; l < level; ++l) {
    const std::uint64_t at = table + 8 * index(iova, l);
    std::uint64_t next = d_.rig.load(at);
    if (next == 0) {
      const std::uint64_t size = std::uint64_t{1} << granule_;
      next = d_.rig.allocate(size, size) | vmsa::Descriptor::Valid::mask | vmsa::Descriptor::Table::mask;
      d_.rig.store(at, next);
    }
    table = next & kAddress;
  }
  return table + 8 * index(iova, level);
}

void Space::map(std::uint64_t iova, std::uint64_t to, std::uint64_t flags, unsigned level) {
  const std::uint64_t kind =
      vmsa::Descriptor::Valid::mask | (level == kLeafLevel ? vmsa::Descriptor::Table::mask : std::uint64_t{0});
  d_.rig.store(entry(iova, level), to | flags | kind);
}

void Space::unmap(std::uint64_t iova, unsigned level) { d_.rig.store(entry(iova, level), 0); }

void Space::put_cd(const Cd& cd) {
  cd_ = cd;
  for (std::size_t i = cd.words.size(); i-- != 0;) d_.rig.store(cd_at_ + 8 * i, cd.words[i]);
}

Ste Space::ste() const {
  return ste_of(SteConfig::s1)
      .set<Ste::S1ContextPtr>(IPA{cd_at_})
      .set<Ste::S1CIR>(CdCacheability::write_back_ra)
      .set<Ste::S1COR>(CdCacheability::write_back_ra)
      .set<Ste::S1CSH>(Shareability::inner);
}

}  // namespace weir::conformance
