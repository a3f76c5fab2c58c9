#include "tests/guests/bare/smmu.hpp"

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"

namespace weir::guest {
namespace {

using smmu::Reg;

constexpr unsigned kInputBits = 39;
constexpr unsigned kPolls = 2'000'000;
constexpr std::uint64_t kPatience = 20'000'000;  // in microseconds, for a SYNC that waits for another CPU's commands
constexpr std::uint32_t kEventRingMask = (2u << Smmu::kQueueLog2) - 1;  // index and wrap flag
constexpr std::uint32_t kEventIndexMask = (1u << Smmu::kQueueLog2) - 1;

// A record into memory that the SMMU reads, the first word (with V) last.
template <typename R>
void publish(std::uint64_t at, const R& r) {
  auto* to = reinterpret_cast<volatile std::uint64_t*>(at);
  for (std::size_t i = r.words.size(); i-- > 0;) {
    to[i] = r.words[i];
    if (i == 1) barrier();
  }
  barrier();
}

}  // namespace

smmu::Cd make_cd(ASID asid, std::uint64_t root, smmu::AddressSize output) {
  using smmu::Cd;
  constexpr auto kWalk = smmu::WalkCacheability::write_back_ra_wa;
  Cd cd;
  cd.set<Cd::T0SZ>(64 - kInputBits).set<Cd::TG0>(smmu::Granule0::size4k).set<Cd::IR0>(kWalk).set<Cd::OR0>(kWalk);
  cd.set<Cd::SH0>(smmu::Shareability::inner).set<Cd::EPD1>(true).set<Cd::V>(true).set<Cd::IPS>(output);
  cd.set<Cd::AFFD>(true).set<Cd::AA64>(true).set<Cd::R>(true).set<Cd::A>(true).set<Cd::ASET>(true).set<Cd::ASID>(asid);
  cd.set<Cd::TTB0>(IPA{root}).set<Cd::MAIR0>(0xff);
  return cd;
}
void publish_cd(std::uint64_t at, const smmu::Cd& cd) { publish(at, cd); }

// --- Tables

AddressSpace::AddressSpace(ASID asid, smmu::AddressSize output)
    : asid_{asid}, root_{allocate(kPage4K)}, cd_{allocate(kPage4K)} {
  publish(cd_, make_cd(asid, root_, output));
}

volatile std::uint64_t* AddressSpace::entry(std::uint64_t iova, unsigned level) {
  std::uint64_t table = root_;
  for (unsigned l = 1;; ++l) {
    auto* e = reinterpret_cast<volatile std::uint64_t*>(table) + vmsa::level_index(iova, l);
    if (l == level) return e;
    vmsa::S1Table t;
    t.words[0] = *e;
    if (!t.get<vmsa::S1Table::Valid>()) {
      t = {};
      t.set<vmsa::S1Table::Valid>(true).set<vmsa::S1Table::Table>(true).set<vmsa::S1Table::NLTA>(allocate(kPage4K));
      barrier();
      *e = t.words[0];
    }
    table = t.get<vmsa::S1Table::NLTA>();
  }
}

void AddressSpace::map(std::uint64_t iova, std::uint64_t ipa, bool writable) {
  using P = vmsa::S1Page;
  P p;
  p.set<P::Valid>(true).set<P::Table>(true).set<P::AF>(true).set<P::SH>(vmsa::Shareability::inner).set<P::nG>(true);
  p.set<P::AP>(writable ? vmsa::S1Ap::any_rw : vmsa::S1Ap::any_ro).set<P::OA>(ipa);
  *entry(iova, 3) = p.words[0];
  barrier();
}

void AddressSpace::map_block(std::uint64_t iova, std::uint64_t ipa) {
  using B = vmsa::S1Block;
  B b;
  b.set<B::Valid>(true).set<B::AF>(true).set<B::SH>(vmsa::Shareability::inner).set<B::nG>(true);
  b.set<B::AP>(vmsa::S1Ap::any_rw).set<B::OA>(ipa);
  *entry(iova, 2) = b.words[0];
  barrier();
}

void AddressSpace::unmap(std::uint64_t iova) {
  *entry(iova, 3) = 0;
  barrier();
}

void AddressSpace::set_root(std::uint64_t ipa) {
  auto* words = reinterpret_cast<volatile std::uint64_t*>(cd_);
  smmu::Cd cd;
  for (std::size_t i = 0; i < cd.words.size(); ++i) cd.words[i] = words[i];
  cd.set<smmu::Cd::TTB0>(IPA{ipa});
  publish(cd_, cd);
}

// --- Registers

std::uint32_t Smmu::read(Reg r) const { return load32(base_ + static_cast<std::uint32_t>(r)); }
void Smmu::write(Reg r, std::uint32_t v) const { store32(base_ + static_cast<std::uint32_t>(r), v); }
void Smmu::write64(Reg r, std::uint64_t v) const { store64(base_ + static_cast<std::uint32_t>(r), v); }

smmu::AddressSize Smmu::output_size() const {
  smmu::IDR5 idr5;
  idr5.words[0] = read(Reg::IDR5);
  return idr5.get<smmu::IDR5::OAS>();
}
bool Smmu::ranges() const {
  smmu::IDR3 idr3;
  idr3.words[0] = read(Reg::IDR3);
  return idr3.get<smmu::IDR3::RIL>();
}

bool Smmu::acknowledged() const {
  for (unsigned i = 0; i < kPolls; ++i)
    if (read(Reg::CR0ACK) == cr0_.words[0]) return true;
  return false;
}

bool Smmu::init() {
  cr0_ = {};
  write(Reg::CR0, 0);
  if (!acknowledged()) return false;
  if (strtab_ == 0) {
    strtab_ = allocate(sizeof(smmu::Ste) << kStreamBits, sizeof(smmu::Ste) << kStreamBits);
    cmdq_ = allocate(sizeof(smmu::Command) << command_log2_, sizeof(smmu::Command) << command_log2_);
    eventq_ = allocate(sizeof(smmu::Event) << kQueueLog2);
  }
  using smmu::CR1;
  constexpr auto kWb = smmu::QueueCacheability::write_back;
  CR1 cr1;
  cr1.set<CR1::TABLE_SH>(smmu::Shareability::inner).set<CR1::TABLE_OC>(kWb).set<CR1::TABLE_IC>(kWb);
  cr1.set<CR1::QUEUE_SH>(smmu::Shareability::inner).set<CR1::QUEUE_OC>(kWb).set<CR1::QUEUE_IC>(kWb);
  write(Reg::CR1, cr1.words[0]);
  write(Reg::CR2, smmu::CR2{}.set<smmu::CR2::RECINVSID>(true).words[0]);
  write64(Reg::STRTAB_BASE, smmu::STRTAB_BASE{}.set<smmu::STRTAB_BASE::ADDR>(strtab_).words[0]);
  write(Reg::STRTAB_BASE_CFG, smmu::STRTAB_BASE_CFG{}.set<smmu::STRTAB_BASE_CFG::LOG2SIZE>(kStreamBits).words[0]);
  using smmu::CMDQ_BASE;
  using smmu::EVENTQ_BASE;
  write64(Reg::CMDQ_BASE, CMDQ_BASE{}.set<CMDQ_BASE::ADDR>(cmdq_).set<CMDQ_BASE::LOG2SIZE>(command_log2_).words[0]);
  write(Reg::CMDQ_PROD, 0);
  write(Reg::CMDQ_CONS, 0);
  write64(Reg::EVENTQ_BASE,
          EVENTQ_BASE{}.set<EVENTQ_BASE::ADDR>(eventq_).set<EVENTQ_BASE::LOG2SIZE>(kQueueLog2).words[0]);
  write(Reg::EVENTQ_PROD, 0);
  write(Reg::EVENTQ_CONS, 0);
  write(Reg::GERRORN, read(Reg::GERROR));
  prod_ = 0;
  event_ = 0;
  cr0_.set<smmu::CR0::CMDQEN>(true);
  write(Reg::CR0, cr0_.words[0]);
  if (!acknowledged()) return false;
  if (!sync(smmu::cfgi_all()) || !sync(smmu::tlbi_nsnh_all())) return false;
  cr0_.set<smmu::CR0::EVENTQEN>(true);
  write(Reg::CR0, cr0_.words[0]);
  return acknowledged();
}

bool Smmu::set_enabled(bool on) {
  cr0_.set<smmu::CR0::SMMUEN>(on);
  write(Reg::CR0, cr0_.words[0]);
  return acknowledged();
}

bool Smmu::set_gbpa_abort(bool abort) {
  smmu::GBPA gbpa;
  gbpa.words[0] = read(Reg::GBPA);
  gbpa.set<smmu::GBPA::ABORT>(abort).set<smmu::GBPA::Update>(true);
  write(Reg::GBPA, gbpa.words[0]);
  for (unsigned i = 0; i < kPolls; ++i) {
    gbpa.words[0] = read(Reg::GBPA);
    if (!gbpa.get<smmu::GBPA::Update>()) return gbpa.get<smmu::GBPA::ABORT>() == abort;
  }
  return false;
}

// --- Streams

void Smmu::set_ste(std::uint32_t sid, const smmu::Ste& ste) { publish(strtab_ + sid * sizeof(smmu::Ste), ste); }

smmu::Ste Smmu::of(smmu::SteConfig config) {
  using smmu::Ste;
  return Ste{}.set<Ste::V>(true).set<Ste::Config>(config).set<Ste::SHCFG>(smmu::ShareabilityConfig::use_incoming);
}

smmu::Ste Smmu::stage1(std::uint64_t cd) {
  using smmu::Ste;
  return of(smmu::SteConfig::s1)
      .set<Ste::S1ContextPtr>(IPA{cd})
      .set<Ste::S1CIR>(smmu::CdCacheability::write_back_ra)
      .set<Ste::S1COR>(smmu::CdCacheability::write_back_ra)
      .set<Ste::S1CSH>(smmu::Shareability::inner);
}

// --- Queues

volatile smmu::Command* Smmu::slot(std::uint32_t index) const {
  return reinterpret_cast<volatile smmu::Command*>(cmdq_) + (index & index_mask());
}

void Smmu::push(const smmu::Command& c) {
  auto* to = reinterpret_cast<volatile std::uint64_t*>(slot(prod_));
  to[0] = c.words[0];
  to[1] = c.words[1];
  prod_ = (prod_ + 1) & ring_mask();
}

void Smmu::submit() {
  barrier();
  write(Reg::CMDQ_PROD, prod_);
}

bool Smmu::wait_consumed(std::uint32_t prod) {
  const std::uint64_t until = now_us() + kPatience;
  for (unsigned i = 1; i % 1024 != 0 || now_us() < until; ++i) {
    smmu::CMDQ_CONS cons;
    cons.words[0] = read(Reg::CMDQ_CONS);
    const std::uint32_t beyond = (cons.get<smmu::CMDQ_CONS::RD>() - prod) & ring_mask();
    if (beyond <= index_mask()) return true;
    if (read(Reg::GERROR) != read(Reg::GERRORN)) return false;
  }
  return false;
}

unsigned Smmu::free_slots() const {
  smmu::CMDQ_CONS cons;
  cons.words[0] = read(Reg::CMDQ_CONS);
  return index_mask() + 1 - ((prod_ - cons.get<smmu::CMDQ_CONS::RD>()) & ring_mask());
}

bool Smmu::sync() {
  push(smmu::sync_none());
  submit();
  return wait_consumed();
}

bool Smmu::next_event(smmu::Event& e) {
  smmu::EVENTQ_PROD prod;
  prod.words[0] = read(Reg::EVENTQ_PROD);
  if ((prod.get<smmu::EVENTQ_PROD::WR>() & kEventRingMask) == event_) return false;
  barrier();
  const auto* from =
      reinterpret_cast<volatile std::uint64_t*>(eventq_ + (event_ & kEventIndexMask) * sizeof(smmu::Event));
  for (std::size_t i = 0; i < e.words.size(); ++i) e.words[i] = from[i];
  event_ = (event_ + 1) & kEventRingMask;
  // An overflow is acknowledged on the way: what it took is lost anyhow.
  using smmu::EVENTQ_CONS;
  const bool overflow = prod.get<smmu::EVENTQ_PROD::OVFLG>();
  write(Reg::EVENTQ_CONS, EVENTQ_CONS{}.set<EVENTQ_CONS::RD>(event_).set<EVENTQ_CONS::OVACKFLG>(overflow).words[0]);
  return true;
}

unsigned Smmu::drop_events() {
  smmu::Event e;
  unsigned n = 0;
  while (next_event(e)) ++n;
  return n;
}

}  // namespace weir::guest
