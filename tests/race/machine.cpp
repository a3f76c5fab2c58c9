#include "tests/race/machine.hpp"

#include <thread>

namespace weir::race {

using namespace smmu;

namespace {

constexpr stage2::Attributes kAll{.memory = stage2::Memory::normal_wb, .read = true, .write = true, .execute = true};

// For threads that would otherwise keep others from the CPUs.
void pause() { std::this_thread::sleep_for(std::chrono::microseconds{200}); }

}  // namespace

// --- Frames ----------------------------------------------------------------------------------------------------------

Frames::Frames(Bench& bench)
    : bench_{bench}, base_{bench.memory.allocate(kFrames * kPage4K)}, host_{bench.memory.pointer(base_)} {
  owners_.assign(kFrames, kFree);
  for (std::size_t n = kFrames - kWhole; n-- > 0;) free_.push_back(base_ + n * kPage4K);
  whole_ = base_ + (kFrames - kWhole) * kPage4K;
}

std::size_t Frames::left() {
  const SpinLock::Guard guard{lock_};
  return free_.size();
}

std::optional<PA> Frames::take(std::uint32_t owner) {
  PA at{};
  {
    const SpinLock::Guard guard{lock_};
    if (free_.empty()) return std::nullopt;
    at = free_.back();
    free_.pop_back();
  }
  {
    const UnseenLock lock{bench_.mutex};
    if (this->owner(at) != kFree) bench_.fail("a frame with an owner was free");
    this->owner(at) = owner;
  }
  std::memset(this->at(at), 0, kPage4K);  // Weir's: nobody else writes there any more
  return at;
}

void Frames::give(PA at) {
  {
    const UnseenLock lock{bench_.mutex};
    owner(at) = kFree;
  }
  const SpinLock::Guard guard{lock_};
  free_.push_back(at);
}

std::optional<PA> Frames::allocate(std::size_t bytes) {
  if (bytes == kPage4K) return take(kTable);
  const SpinLock::Guard guard{lock_};
  const PA at = whole_.align_up(bytes);
  if (at + bytes > base_ + kFrames * kPage4K) return std::nullopt;
  whole_ = at + bytes;
  return at;
}

void Frames::free(PA at, std::size_t bytes) {
  if (bytes == kPage4K) give(at);
}

// --- A VM ------------------------------------------------------------------------------------------------------------

class Vm::Owner final : public StreamOwner {
 public:
  Owner(Vm& vm, const Device& device) : StreamOwner{device.sid}, vm_{vm} {}
  void on_event(SmmuInstance& smmu, const Event& event) override { (void)vm_.vsmmu->handle_event(smmu, event); }

 private:
  Vm& vm_;
};

Vm::Vm(Machine& m, unsigned number, std::uint64_t seed) : machine{m}, id{number}, frames{m.frames, number} {
  const auto geometry = stage2::Geometry::make(40, AddressSize::bits44);
  stage2::S2Domain::Options options;
  options.table.pages_only = true;
  options.table.dirty_state = m.dirty_state;
  options.max_range_commands = seed % 2 == 0 ? 64 : 1;
  domain = *stage2::S2Domain::create(*geometry, m.frames, m.pcpus.grace, options);
  for (unsigned n = 0; n < kPages; ++n) {
    const PA at = *frames.allocate(kPage4K);
    if (n < kGuest) guest_[n] = m.frames.at(at);
    if (n >= kDirect && n < kDirect + kEach) now[n - kDirect] = at;
    EXPECT_TRUE(domain->map(IPA{ipa(n)}, at, kPage4K, kAll));
  }
  memory = std::make_unique<stage2::VmMemory>(stage2::VmMemory::Config{.id = id,
                                                                       .ram = IPA{kRam},
                                                                       .ram_bytes = kPages * kPage4K,
                                                                       .loans = IPA{kLoans},
                                                                       .loan_bytes = kPages * kPage4K,
                                                                       .calls = true,
                                                                       .share_with = ~std::uint64_t{0},
                                                                       .ram_attributes = kAll},
                                              *domain, frames, m.grants, &cpus_);
  ram = GuestMemory{{.ram = IPA{kRam},
                     .ram_bytes = kPages * kPage4K,
                     .end = IPA{kLoans + kPages * kPage4K},
                     .physical = m.frames.physical()},
                    domain->table(),
                    m.pcpus.grace,
                    &memory->log()};
  std::array<stage2::SmmuPort*, Machine::kSmmus> behind{};
  for (unsigned i = 0; i < Machine::kSmmus; ++i) behind[i] = m.smmus[i].get();
  vsmmu::Config config;
  config.oas_bits = 40;
  config.late_events = seed % 3 == 0;
  config.precise = seed % 2 == 1;
  config.no_global_pages = seed % 4 == 1;
  auto made =
      vsmmu::VSmmu::create(config, behind,
                           {.memory = ram,
                            .interrupts = *this,
                            .drain = *this,
                            .domain = *domain,
                            .pages = {page0, page1},
                            .hidden = {.pages = &m.frames, .base = IPA{0x0a00'0000}, .bytes = 4 * kPage4K}},
                           seed % 4 == 0 ? vsmmu::Bounds{.commands = 2, .polls = 3, .installs = 1} : vsmmu::Bounds{});
  EXPECT_TRUE(made) << made.error().feature;
  vsmmu = std::move(*made);
  for (unsigned d = 0; d < kDevices; ++d) {
    devices[d] = {d % Machine::kSmmus, StreamID{0x11 + 0x100 * d + id * 0x20}, VStreamID{8 * (d + 1)}};
    owners_.push_back(std::make_unique<Owner>(*this, devices[d]));
    EXPECT_TRUE(m.smmus[devices[d].smmu]->claim(*owners_[d]));
    EXPECT_TRUE(vsmmu->attach(devices[d].vsid, *m.smmus[devices[d].smmu], devices[d].sid));
    attached[d] = true;
  }
  devices[kDevices] = {1, StreamID{0x300 + id}, VStreamID{1}};  // where VMIDs are few
  owners_.push_back(std::make_unique<Owner>(*this, devices[kDevices]));
  EXPECT_TRUE(m.smmus[1]->claim(*owners_.back()));
  build();
}

Vm::~Vm() { stop(); }

void Vm::stop() {
  if (!vsmmu) return;
  memory->stop();
  vsmmu->shutdown();
  for (unsigned d = 0; d <= kDevices; ++d) machine.smmus[devices[d].smmu]->release(*owners_[d]);
  vsmmu.reset();
  memory->free_all();
  memory.reset();
  domain.reset();
}

// --- Its guest -------------------------------------------------------------------------------------------------------

template <typename R>
void Vm::put(std::uint64_t at, const R& r) {
  const Unseen unseen;
  std::memcpy(pointer(at), r.words.data(), sizeof(R));
}

void Vm::write(Reg reg, std::uint64_t value, unsigned size) {
  while (vsmmu->write(static_cast<std::uint32_t>(reg), size, value) == vsmmu::Progress::again) yield();
}

void Vm::build() {
  model::test::Tables tables{[this](std::uint64_t at) { return pointer(at); }, [this] { return ipa(next_table_++); }};
  for (unsigned n = kDirect; n < kPlaces; ++n) tables.map(place(n), place(n));
  for (std::uint16_t c = 0; c < 2; ++c)
    put(ipa(3) + c * sizeof(Cd), model::test::context(tables.root(), static_cast<std::uint16_t>(c + 1)));
  for (const Device& d : std::span{devices}.first(kDevices))
    put(ipa(2) + d.vsid.value * sizeof(Ste),
        Ste{}.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1).set<Ste::S1ContextPtr>(IPA{ipa(3)}));
  write(Reg::STRTAB_BASE, ipa(2), 8);
  write(Reg::STRTAB_BASE_CFG, 6);
  write(Reg::CMDQ_BASE, ipa(0) | kLog2, 8);
  write(Reg::EVENTQ_BASE, ipa(1) | kLog2, 8);
  write(Reg::CR0, CR0::CMDQEN::mask);
  send({cfgi_all(), tlbi_nsnh_all(), sync_none()});
  write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
}

// Guests lock among themselves, but what they do is nothing that Weir may rely on: sometimes they store PROD at once.
void Vm::send(std::initializer_list<Command> commands) {
  std::uint32_t mine{};
  {
    const UnseenLock lock{guest_lock_};
    for (const Command& c : commands) {
      std::memcpy(pointer(ipa(0) + (prod_ & (kEntries - 1)) * sizeof c), c.words.data(), sizeof c);
      prod_ = (prod_ + 1) & (2 * kEntries - 1);
    }
    mine = prod_;
  }
  write(Reg::CMDQ_PROD, mine);
}

void Vm::vcpu(std::mt19937_64& random) {
  const Device& d = devices[pick(random, kDevices)];
  const StreamID vsid{d.vsid.value};
  const ASID asid{static_cast<std::uint16_t>(1 + pick(random, 2))};
  const std::uint64_t at = place(kDirect + pick(random, kPlaces - kDirect));
  switch (pick(random, 12)) {
    case 0: {
      // Another context, the same translations; or past stage 1.
      const auto kind = pick(random, 4);
      Ste ste = Ste{}.set<Ste::V>(true).set<Ste::Config>(kind == 3 ? SteConfig::bypass : SteConfig::s1);
      if (kind != 3) ste.set<Ste::S1ContextPtr>(IPA{ipa(3) + pick(random, 2) * sizeof(Cd)});
      put(ipa(2) + d.vsid.value * sizeof(Ste), ste);
      send({cfgi_ste(vsid, true), tlbi_nh_asid(VMID{}, asid), sync_none()});
      break;
    }
    case 1: send({cfgi_all(), sync_none()}); break;
    case 2: send({tlbi_nh_all(VMID{}), sync_none()}); break;
    case 3: send({cfgi_cd_all(vsid), tlbi_nh_va(VMID{}, asid, IOVA{at}, true, {}), sync_none()}); break;
    case 4: {
      std::uint32_t prod{};
      {
        const Unseen unseen;
        prod = page1[(static_cast<std::uint32_t>(Reg::EVENTQ_PROD) - kPage1) / 4];
      }
      write(Reg::EVENTQ_CONS, prod);
      break;
    }
    case 5: {
      std::uint32_t gerror{};
      {
        const Unseen unseen;
        gerror = page0[static_cast<std::uint32_t>(Reg::GERROR) / 4];
      }
      write(Reg::GERRORN, gerror);
      break;
    }
    case 6:
      if (pick(random, 30) == 0) {
        write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask);
        write(Reg::CR0, CR0::CMDQEN::mask | CR0::EVENTQEN::mask | CR0::SMMUEN::mask);
      }
      break;
    default: send({tlbi_nh_va(VMID{}, asid, IOVA{at}, true, {}), tlbi_nh_asid(VMID{}, asid), sync_none()}); break;
  }
  const Unseen unseen;
  ++syncs;
}

// --- Its host --------------------------------------------------------------------------------------------------------

void Vm::administer(std::mt19937_64& random) {
  Bench& bench = machine.bench;
  const unsigned n = pick(random, kDevices);
  const Device& d = devices[n];
  switch (pick(random, 8)) {
    case 0:
    case 1: {
      EXPECT_TRUE(vsmmu->detach(d.vsid));
      {
        const UnseenLock lock{bench.mutex};
        attached[n] = false;
      }
      yield();
      {
        const UnseenLock lock{bench.mutex};
        attached[n] = true;
      }
      EXPECT_TRUE(vsmmu->attach(d.vsid, *machine.smmus[d.smmu], d.sid));
      break;
    }
    case 2:
      // As if the device had not answered: fenced until it is attached anew.
      if (pick(random, 64) == 0) vsmmu->atc_timed_out(d.vsid);
      break;
    case 3: {
      // A second vSMMU comes and goes: VMIDs are used again.
      const Device& of = devices[kDevices];
      std::array<stage2::SmmuPort*, 2> behind{machine.smmus[0].get(), machine.smmus[of.smmu].get()};
      auto pages = std::make_unique<std::array<std::array<std::uint32_t, 1024>, 2>>();
      auto made = vsmmu::VSmmu::create(
          {.oas_bits = 40}, behind,
          {.memory = ram, .interrupts = *this, .drain = *this, .domain = *domain, .pages = {(*pages)[0], (*pages)[1]}});
      EXPECT_TRUE(made);
      if (!made) break;
      const auto expect_attached = [&](bool is) {
        const UnseenLock lock{bench.mutex};
        attached[kDevices] = is;
      };
      expect_attached(true);
      EXPECT_TRUE((*made)->attach(of.vsid, *machine.smmus[of.smmu], of.sid));
      for (unsigned i = pick(random, 20); i != 0; --i) {
        yield();
        const UnseenLock lock{bench.mutex};
        dma(random, kDevices);
      }
      (*made)->shutdown();
      expect_attached(false);
      break;
    }
    default:
      vsmmu->tick();
      pause();
      break;
  }
}

void Vm::change(std::mt19937_64& random, unsigned which, unsigned of) {
  Bench& bench = machine.bench;
  const unsigned n = pick(random, kEach / of) * of + which;
  const IPA at{ipa(kDirect + n)};
  PA frame{};
  {
    const UnseenLock lock{bench.mutex};
    frame = now[n];
  }
  if (frame == PA{}) {
    const auto taken = frames.allocate(kPage4K);
    if (!taken) return;
    {
      const UnseenLock lock{bench.mutex};
      now[n] = *taken;
    }
    EXPECT_TRUE(domain->map(at, *taken, kPage4K, kAll));
    const UnseenLock lock{bench.mutex};
    ++moved[kDirect + n];
    return;
  }
  if (pick(random, 3) == 0) {
    stage2::Attributes attributes = kAll;
    attributes.write = false;
    EXPECT_TRUE(domain->protect(at, kPage4K, attributes));
    {
      const UnseenLock lock{bench.mutex};
      read_only[n] = true;
    }
    yield();
    {
      const UnseenLock lock{bench.mutex};
      read_only[n] = false;
    }
    EXPECT_TRUE(domain->protect(at, kPage4K, kAll));
    return;
  }
  {
    const UnseenLock lock{bench.mutex};
    ++moved[kDirect + n];
  }
  EXPECT_TRUE(domain->unmap(at, kPage4K));
  machine.pcpus.grace.synchronize();
  {
    const UnseenLock lock{bench.mutex};
    now[n] = PA{};
    ++unmaps;
  }
  frames.free(frame, kPage4K);
}

void Vm::relinquish(std::mt19937_64& random) {
  const unsigned first = pick(random, kEach);
  const unsigned pages = 1 + pick(random, kEach - first);
  const IPA at{ipa(kRelinquished + first)};
  using hypercall::Result;
  const auto outcome = pick(random, 2) == 0 ? memory->relinquish(at, pages) : memory->reclaim(at, pages);
  if (outcome.result != Result::success && outcome.result != Result::wrong_state && outcome.result != Result::busy)
    ADD_FAILURE() << "relinquish or reclaim: " << static_cast<int>(outcome.result);
  if (outcome.result != Result::success) return;
  const Unseen unseen;
  ++moves;
}

void Vm::copy(std::mt19937_64& random) {
  std::array<std::byte, 64> bytes{};
  const unsigned n = kDirect + pick(random, kPlaces - kDirect);
  // Across pages; but VMs that share a page each use a part of their own, as they would.
  const IPA at{n < kGranted - 1 ? place(n) + kPage4K - 32 : place(n) + 128 * (id + std::uint64_t{1})};
  const bool writes_there = pick(random, 2) == 0;
  const bool counts = writes_there && n < written.size();
  if (counts) {
    const UnseenLock lock{machine.bench.mutex};
    ++begun[n];
  }
  const bool done = writes_there ? ram.write(at, bytes) : ram.read(at, bytes);
  if (done) {
    const UnseenLock lock{machine.bench.mutex};
    ++copies;
    if (counts) written[n] = std::max(written[n], begun[n]);
  }
  pause();
}

void Vm::log(std::mt19937_64& random) {
  using hypercall::Result;
  Bench& bench = machine.bench;
  pause();
  if (!logging_) {
    const auto started = memory->dirty_start();
    EXPECT_EQ(started.result, Result::success);
    if (started.result != Result::success || started.done != 0) return;
    logging_ = true;
    // Whoever uses a log begins with everything.
    const UnseenLock lock{bench.mutex};
    known_ = begun;
    sees_devices = !hypercall::DirtyLimits{{{started.extra}}}.get<hypercall::DirtyLimits::Devices>();
    return;
  }
  if (pick(random, 30) == 0) {
    {
      const UnseenLock lock{bench.mutex};
      sees_devices = false;
    }
    for (;;) {
      const auto stopped = memory->dirty_stop();
      EXPECT_EQ(stopped.result, Result::success);
      if (stopped.result != Result::success || stopped.done == 0) break;
    }
    logging_ = false;
    return;
  }
  const unsigned first = pick(random, kDirect);
  struct Bits final : stage2::VmMemory::DirtyBits {
    [[nodiscard]] bool take(std::span<const std::uint64_t> dirty) override {
      first = dirty[0];
      return taken;
    }
    std::uint64_t first = 0;
    bool taken = true;
  } dirty;
  dirty.taken = pick(random, 8) != 0;
  std::array<std::uint64_t, 64> before{}, there{};
  {
    const UnseenLock lock{bench.mutex};
    before = written;
    there = moved;
  }
  const auto read = memory->dirty_read(IPA{ipa(first)}, 64 - first, true, dirty);
  EXPECT_EQ(read.result, dirty.taken ? Result::success : Result::invalid);
  if (!dirty.taken) return;  // the next call has it
  EXPECT_EQ(read.done, 64 - first);
  const UnseenLock lock{bench.mutex};
  for (unsigned n = first; n < 64; ++n) {
    if ((dirty.first >> (n - first) & 1) != 0) known_[n] = begun[n], ++logged;
    // What is not there cannot be looked at; it counts as written when it comes.
    const bool relinquishes = n >= kRelinquished && n < kRelinquished + kEach;
    if (relinquishes || there[n] % 2 != 0 || moved[n] != there[n] || known_[n] >= before[n]) continue;
    bench.fail("VM " + std::to_string(id) + ": a write to page " + std::to_string(n) + " is not in the log");
  }
}

void Vm::dma(std::mt19937_64& random, unsigned d) {
  Bench& bench = machine.bench;
  const unsigned n = kDirect + pick(random, kPlaces - kDirect);
  const bool writes = pick(random, 2) == 0;
  const auto at = machine.hardware[devices[d].smmu]->model().access(devices[d].sid, IOVA{place(n)}, writes, 4);
  if (!at) return;
  ++hits;
  const auto fail = [&](const char* what) {
    bench.fail("VM " + std::to_string(id) + ", device " + std::to_string(d) + ", place " + std::to_string(n) + ": " +
               what);
  };
  if (writes && sees_devices && n < written.size()) written[n] = ++begun[n];
  const std::uint32_t owner = machine.frames.owner(*at);
  if (!attached[d]) fail("it is detached, and reaches memory");
  if (owner == Frames::kFree) fail("it reaches a free frame");
  if (owner == Frames::kTable) fail("it reaches a table");
  if (n >= 64) {
    if (owner == id) fail("a loan leads to the VM's own memory");
    if (!foreign[n - 64]) fail("it reaches a page that was taken back");
    return;
  }
  if (owner < Frames::kTable && owner != id) fail("it reaches another VM's memory");
  if (n < kDirect + kEach) {
    if (now[n - kDirect] == PA{})
      fail("it reaches a page that is not mapped");
    else if (now[n - kDirect] != PA{at->value & ~(kPage4K - 1)})
      fail("it reaches another page");
    if (writes && read_only[n - kDirect]) fail("it writes to a read-only page");
  }
  if (n >= kGranted && n < kGranted + kEach && lent[n - kGranted]) fail("it reaches a page that is lent");
}

// --- The machine -----------------------------------------------------------------------------------------------------

Machine::Machine(std::uint64_t seed) : dirty_state{seed % 4 < 2} {
  static constexpr std::array<const char*, kSmmus> kNames{"smmu-a", "smmu-b", "smmu-c"};
  for (unsigned i = 0; i < kSmmus; ++i) {
    model::Parameters parameters{.seed = seed * kSmmus + i,
                                 .two_level = (seed + i) % 2 == 0,
                                 .ril = (seed + i) % 3 != 0,
                                 .vmid16 = i != 1,
                                 .bbml = i,
                                 .asid16 = (seed + i) % 4 != 0,
                                 .fwb = (seed & 1) != 0 && i == 2};
    if (dirty_state) parameters.httu = Htt::access_dirty;
    hardware[i] = std::make_unique<Hardware>(bench, parameters);
    smmus[i] = std::make_unique<SmmuInstance>(i, kNames[i], *hardware[i], true);
    EXPECT_TRUE(smmus[i]->quiesce());
    const auto ready = smmus[i]->init();
    EXPECT_TRUE(ready) << ready.error();
  }
  for (unsigned v = 0; v < kVms; ++v) vms[v] = std::make_unique<Vm>(*this, v, seed + v);
}

void Machine::step(std::mt19937_64& random) {
  {
    const UnseenLock lock{bench.mutex};
    for (auto& h : hardware)
      for (unsigned n = pick(random, 3); n != 0; --n) h->model().step();
    for (unsigned n = pick(random, 4); n != 0; --n)
      vms[pick(random, kVms)]->dma(random, pick(random, Vm::kDevices + 1));
  }
  yield();
}

void Machine::interrupt(std::mt19937_64& random) {
  for (auto& s : smmus) {
    (void)s->drain_events(1 + pick(random, 20));
    if (pick(random, 8) == 0) s->on_global_error();
  }
  pause();
}

void Machine::grant(std::mt19937_64& random) {
  using hypercall::Result;
  const unsigned from = pick(random, kVms);
  Vm& owner = *vms[from];
  Vm& peer = *vms[(from + 1) % kVms];
  const unsigned first = pick(random, Vm::kEach);
  const unsigned pages = 1 + pick(random, std::min(4U, Vm::kEach - first));
  const bool loan = pick(random, 2) == 0;
  const IPA window{Vm::kLoans + first * kPage4K};
  const auto mark = [&](std::array<bool, Vm::kEach>& flags, bool value) {
    const UnseenLock lock{bench.mutex};
    for (unsigned n = first; n < first + pages; ++n) flags[n] = value;
  };
  const auto until_done = [](auto&& call) {
    for (;;) {
      const stage2::MemoryOutcome outcome = call();
      if (outcome.result != Result::busy) return outcome;
      yield();
    }
  };
  stage2::MemoryOutcome offered{};
  do {
    offered = until_done([&] {
      return owner.memory->offer(
          {.ipa = IPA{Vm::ipa(Vm::kGranted + first)}, .pages = pages, .peer = peer.id, .write = true, .loan = loan},
          offered.extra);
    });
    ASSERT_EQ(offered.result, Result::success);
  } while (offered.done < pages);
  if (loan) mark(owner.lent, true);
  mark(peer.foreign, true);
  for (;;) {
    const auto accepted = until_done([&] { return peer.memory->accept(offered.extra, window, pages); });
    ASSERT_EQ(accepted.result, Result::success);
    if (accepted.done == pages || pick(random, 4) == 0) break;
  }
  yield();
  if (pick(random, 2) == 0) {
    while (until_done([&] { return peer.memory->release(offered.extra); }).done != 0) {
    }
    mark(peer.foreign, false);
    yield();
  }
  mark(owner.lent, false);
  for (;;) {
    const auto taken = until_done([&] { return owner.memory->take_back(offered.extra); });
    ASSERT_EQ(taken.result, Result::success);
    if (taken.done == 0) break;
  }
  mark(peer.foreign, false);
  const Unseen unseen;
  ++granted;
}

}  // namespace weir::race
