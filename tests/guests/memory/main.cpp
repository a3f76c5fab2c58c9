// Memory that moves between VMs while a device and CPUs use it. Two VMs run this: the first ("giver") has an iommu-testdev
// and drives the second, which carries out what it finds in a page that both share.
//
// bootargs: `giver`, or `peer`.
#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/psci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"
#include "tests/guests/memory/calls.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "memory";

namespace weir::guest {
namespace {

constexpr std::uint64_t kPage = 0x1000, kBlock = 0x20'0000;
constexpr std::uint64_t kLoans = 0x40'0000'0000;
constexpr std::uint64_t kMailbox = kLoans;  // of the peer
constexpr std::uint64_t kSecret = 0x5ec4'e75e'c4e7'5ec4;
constexpr std::uint64_t kFirstHandle = 1;

// --- What the giver has the peer do ----------------------------------------------------------------------------------

enum class Order : std::uint64_t { none, call, load, store, churn, leave };
struct Mailbox {
  std::uint64_t sequence, answered;
  std::uint64_t order;
  std::uint64_t x[6];
  std::uint64_t aborted;  // of a load or store; of churn: foreign words that were found
};

volatile std::uint64_t& field(std::uint64_t mailbox, std::size_t offset) {
  return *reinterpret_cast<volatile std::uint64_t*>(mailbox + offset);
}
#define FIELD(at, name) field(at, __builtin_offsetof(Mailbox, name))

// Words of a page that are not zero.
unsigned foreign(std::uint64_t page) {
  unsigned n = 0;
  for (std::uint64_t at = page; at < page + kPage; at += 8)
    if (load64(at) != 0) ++n;
  return n;
}
void fill(std::uint64_t page, std::uint64_t value) {
  for (std::uint64_t at = page; at < page + kPage; at += 8) store64(at, value);
  barrier();
}

// Gives pages away and asks for others, again and again. How many words of what came was somebody's.
std::uint64_t churn(std::uint64_t rounds) {
  static constinit std::uint64_t page = 0;
  if (page == 0) page = allocate(8 * kPage);
  std::uint64_t found = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    expect(relinquish(page, 8) == Result::success, "the peer relinquishes");
    expect(reclaim(page, 8) == Result::success, "the peer reclaims");
    for (unsigned p = 0; p < 8; ++p) found += foreign(page + p * kPage);
  }
  return found;
}

void serve() {
  check("peer");
  std::uint64_t until = now_us() + 50'000'000;
  while (memory_call(hypercall::Call::accept, kFirstHandle, kMailbox, 1).result != Result::success)
    if (!expect(now_us() < until, "nobody shares a mailbox")) return;
  for (std::uint64_t last = 0;;) {
    if (now_us() > until) return (void)expect(false, "no order");
    if (FIELD(kMailbox, sequence) == last) continue;
    last = FIELD(kMailbox, sequence);
    barrier();
    const auto order = static_cast<Order>(FIELD(kMailbox, order));
    Call c;
    for (unsigned i = 0; i < 6; ++i) c.x[i] = field(kMailbox, __builtin_offsetof(Mailbox, x) + i * 8);
    std::uint64_t aborted = 0;
    if (order == Order::call) c = raw(c);
    if (order == Order::load) aborted = provoke([&] { c.x[0] = load64(c.x[0]); }).external_abort() ? 1 : 0;
    if (order == Order::store) aborted = provoke([&] { store64(c.x[0], c.x[1]); }).external_abort() ? 1 : 0;
    if (order == Order::churn) aborted = churn(c.x[0]);
    for (unsigned i = 0; i < 6; ++i) field(kMailbox, __builtin_offsetof(Mailbox, x) + i * 8) = c.x[i];
    FIELD(kMailbox, aborted) = aborted;
    barrier();
    FIELD(kMailbox, answered) = last;
    if (order == Order::leave) return;
    until = now_us() + 50'000'000;
  }
}

constinit std::uint64_t mailbox = 0;
void order(Order what, Call c) {
  FIELD(mailbox, order) = static_cast<std::uint64_t>(what);
  for (unsigned i = 0; i < 6; ++i) field(mailbox, __builtin_offsetof(Mailbox, x) + i * 8) = c.x[i];
  barrier();
  FIELD(mailbox, sequence) = FIELD(mailbox, sequence) + 1;
  barrier();
}
bool answered() { return FIELD(mailbox, answered) == FIELD(mailbox, sequence); }
struct Reply {
  Call c;
  std::uint64_t aborted;
};
Reply reply() {
  const std::uint64_t until = now_us() + 30'000'000;
  while (!answered())
    if (now_us() > until) {
      expect(false, "the peer does not answer");
      finish();
    }
  barrier();
  Reply r{};
  for (unsigned i = 0; i < 6; ++i) r.c.x[i] = field(mailbox, __builtin_offsetof(Mailbox, x) + i * 8);
  r.aborted = FIELD(mailbox, aborted);
  return r;
}
Result peer_call(hypercall::Call f, std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0) {
  order(Order::call, {{hypercall::id(f), a, b, c, 0, 0}});
  return static_cast<Result>(reply().c.x[0]);
}
Reply peer_load(std::uint64_t at) {
  order(Order::load, {{at}});
  return reply();
}
bool peer_store_aborts(std::uint64_t at, std::uint64_t value) {
  order(Order::store, {{at, value}});
  return reply().aborted != 0;
}

// --- The giver -------------------------------------------------------------------------------------------------------

constinit TestDevice device{};
constinit std::uint64_t peer_id = ~std::uint64_t{0};
constinit std::uint32_t sid = 0;
constinit Smmu smmu{};

void expect_result(Result got, Result expected, std::string_view what) {
  expect_equal(static_cast<std::uint64_t>(got), static_cast<std::uint64_t>(expected), what);
}
bool load_aborts(std::uint64_t at) {
  return provoke([&] { (void)load64(at); }).external_abort();
}
// The device's writes land where the CPU looks.
void expect_lands(std::uint64_t page, std::string_view what) {
  store64(page, 0);
  barrier();
  (void)device.dma(page, page);  // which physical page it is does not matter here
  barrier();
  expect(load32(page) == TestDevice::kPattern, what);
}

void check_discovery() {
  check("discovery");
  Call got = raw({{hypercall::kCallUid}});
  for (unsigned i = 0; i < 4; ++i) expect_equal(got.x[i], hypercall::kUid[i], "the service's UID");
  got = raw({{hypercall::kRevision}});
  expect(got.x[0] == hypercall::kMajor && got.x[1] >= 3, "revision", got.x[0], got.x[1]);
  got = raw({{hypercall::id(hypercall::Call::features)}});
  expect(got.x[0] == 0 && (got.x[1] & 3) == 3, "features", got.x[0], got.x[1]);
  got = raw({{hypercall::id(hypercall::Call::loan_window)}});
  expect(got.x[0] == 0 && got.x[1] == kLoans && got.x[2] >= kBlock, "the window for loans", got.x[1], got.x[2]);
  const Outcome self = memory_call(hypercall::Call::vm_id, 0), other = memory_call(hypercall::Call::vm_id, 1);
  expect(self.result == Result::success && other.result == Result::success && self.done != other.done, "ids");
  expect_result(memory_call(hypercall::Call::vm_id, 2).result, Result::invalid, "no third VM");
  peer_id = other.done;
  expect_result(memory_call(static_cast<hypercall::Call>(0xc600'0077)).result, Result::not_supported, "no such call");
}

void check_relinquish() {
  check("relinquish");
  const std::uint64_t page = allocate(4 * kPage) + kPage;
  fill(page, kSecret);
  expect_lands(page, "DMA before");
  fill(page, kSecret);
  expect_result(relinquish(page), Result::success, "relinquish");
  expect(device.dma(page, page) == TestDevice::write_fault, "DMA into what was given back");
  expect(load_aborts(page), "a load from what was given back");
  expect_result(relinquish(page), Result::wrong_state, "twice");
  expect_lands(page + kPage, "DMA beside it");
  // The peer's next pages are what others gave back: none of it is to be seen.
  order(Order::churn, {{4}});
  expect_equal(reply().aborted, 0, "words of ours that the peer found");
  expect_result(reclaim(page), Result::success, "reclaim");
  expect_equal(foreign(page), 0, "words in what came back");
  expect_result(reclaim(page), Result::wrong_state, "reclaim of what is there");
  expect_lands(page, "DMA into what came back");

  check("blocks");
  const std::uint64_t block = allocate(2 * kBlock, kBlock);
  fill(block, kSecret);
  fill(block + kBlock - kPage, kSecret);
  expect_lands(block + 7 * kPage, "DMA into a block");
  expect_result(relinquish(block + 7 * kPage, 3), Result::success, "three pages of a block");
  expect(load_aborts(block + 8 * kPage) && !load_aborts(block + 6 * kPage), "exactly these");
  expect(load64(block) == kSecret, "the rest of the block is as it was");
  expect_result(reclaim(block + 7 * kPage, 3), Result::success, "and back");
  expect_result(relinquish(block, 1024), Result::success, "two blocks");
  expect(load_aborts(block) && load_aborts(block + 2 * kBlock - 8), "none of them is there");
  expect_result(reclaim(block, 1024), Result::success, "and back");
  expect(foreign(block) == 0 && foreign(block + kBlock - kPage) == 0, "zeroed");
  expect_lands(block + kBlock + kPage, "DMA into a new block");

  check("refusals");
  const Machine& m = machine();
  expect_result(memory_call(hypercall::Call::relinquish, m.ram + 8, 1).result, Result::invalid, "misaligned");
  expect_result(memory_call(hypercall::Call::relinquish, m.ram - kPage, 1).result, Result::invalid, "below RAM");
  expect_result(memory_call(hypercall::Call::relinquish, m.uart, 1).result, Result::invalid, "a device");
  expect_result(memory_call(hypercall::Call::relinquish, page, ~0ull).result, Result::invalid, "too many");
  expect_result(memory_call(hypercall::Call::share, page, 1, 7, 0).result, Result::denied, "a stranger");
  expect_result(memory_call(hypercall::Call::share, page, 1, peer_id, 2).result, Result::invalid, "unknown options");
  expect_result(memory_call(hypercall::Call::take_back, 0x1234'0001).result, Result::denied, "a forged handle");
}

void check_share() {
  constexpr std::uint64_t kAt = kLoans + 0x10'0000;
  check("share");
  const std::uint64_t pages = allocate(2 * kPage);
  fill(pages, 0x77);
  const std::uint64_t handle = offer(false, pages, 2, peer_id, false);
  expect(handle != 0, "share");
  expect(peer_load(kAt).aborted != 0, "not before it is accepted");
  expect_result(peer_call(hypercall::Call::accept, handle, kAt, 2), Result::success, "accept");
  expect_equal(peer_load(kAt).c.x[0], 0x77, "the peer reads");
  store64(pages + 8, 0x88);
  barrier();
  expect_equal(peer_load(kAt + 8).c.x[0], 0x88, "the same page");
  expect(peer_store_aborts(kAt, 1), "the peer may not write");
  expect_equal(load64(pages), 0x77, "and has not written");
  expect_result(relinquish(pages), Result::wrong_state, "relinquish of a shared page");
  expect_result(peer_call(hypercall::Call::take_back, handle), Result::denied, "the peer takes it");
  expect_result(take_back(handle), Result::success, "take back");
  expect(peer_load(kAt).aborted != 0, "the peer reads on");

  check("lend");
  const std::uint64_t loan = offer(true, pages, 2, peer_id, true);
  expect(loan != 0, "lend");
  expect(load_aborts(pages), "the lender's load");
  expect(device.dma(pages, pages) == TestDevice::write_fault, "the lender's DMA");
  expect_result(peer_call(hypercall::Call::accept, loan, kAt, 2), Result::success, "accept");
  expect_equal(peer_load(kAt).c.x[0], 0x77, "its content comes with it");
  expect(!peer_store_aborts(kAt, 0x99), "the peer may write");
  expect_result(take_back(loan), Result::success, "take back, from a peer that does not release");
  expect_equal(load64(pages), 0x99, "with what the peer wrote");
  expect(peer_load(kAt).aborted != 0, "the peer's mapping is gone");
  expect_lands(pages, "the lender's DMA again");
}

// What is dirty in the 64 pages from `at` on; the result goes to `bitmap`.
std::uint64_t dirty(std::uint64_t at, std::uint64_t bitmap, bool seen_only = true) {
  const Outcome got = memory_call(hypercall::Call::dirty_read, at, 64, bitmap, seen_only ? 1 : 0);
  expect(got.result == Result::success && got.done == 64, "dirty_read", static_cast<std::uint64_t>(got.result));
  expect_equal(got.extra & 1, 1, "devices without dirty state are named");
  barrier();
  return load64(bitmap);
}

bool until_done(hypercall::Call call, const char* what) {
  Outcome got{};
  do got = memory_call(call);
  while (got.result == Result::success && got.done != 0);
  return expect(got.result == Result::success, what, static_cast<std::uint64_t>(got.result));
}

void check_dirty() {
  check("dirty-log");
  const std::uint64_t pages = allocate(64 * kPage);
  const std::uint64_t bitmap = allocate(kPage);
  expect_result(memory_call(hypercall::Call::dirty_read, pages, 64, bitmap, 1).result, Result::wrong_state, "before");
  if (!until_done(hypercall::Call::dirty_start, "dirty_start")) return;
  expect_equal(dirty(pages, bitmap), 0, "nothing yet");
  store64(pages + 3 * kPage, 1);
  store64(pages + 10 * kPage + 8, 1);
  (void)load64(pages + 11 * kPage);
  expect_equal(dirty(pages, bitmap), 1u << 3 | 1u << 10, "two stores");
  expect_equal(dirty(pages, bitmap), 0, "none since");
  store64(pages + 3 * kPage, 2);
  expect_equal(dirty(pages, bitmap), 1u << 3, "a store to a page that was dirty before");
  (void)dirty(pages, pages + 5 * kPage);
  expect_equal(dirty(pages, bitmap), 1u << 5, "what Weir itself writes");
  expect_equal(dirty(pages, bitmap, false), ~std::uint64_t{0}, "all that a device may write");
  expect_result(relinquish(pages + 7 * kPage), Result::success, "relinquish");
  expect(load_aborts(pages + 7 * kPage), "it is gone for CPUs with the log on, too");
  expect_result(reclaim(pages + 7 * kPage), Result::success, "reclaim");
  expect_equal(dirty(pages, bitmap) & 1u << 7, 1u << 7, "a new page counts as written");
  store64(pages + 7 * kPage, 1);
  expect_equal(dirty(pages, bitmap), 1u << 7, "and is seen");
  expect_lands(pages + 20 * kPage, "DMA while the log is on");
  expect_result(memory_call(hypercall::Call::dirty_read, pages, 64, kLoans, 1).result, Result::invalid, "no bitmap");
  expect_equal(dirty(pages, bitmap), 1u << 20, "is not lost by that");
  until_done(hypercall::Call::dirty_stop, "dirty_stop");
  store64(pages + 3 * kPage, 3);
  expect_equal(load64(pages + 3 * kPage), 3, "after it");
  expect_result(memory_call(hypercall::Call::dirty_read, pages, 64, bitmap, 1).result, Result::wrong_state, "after");
  if (!until_done(hypercall::Call::dirty_start, "dirty_start")) return;
  expect_equal(dirty(pages, bitmap), 0, "once more");
  until_done(hypercall::Call::dirty_stop, "dirty_stop");
}

// --- EL2's own copies ------------------------------------------------------------------------------------------------

constinit volatile std::uint64_t toggled = 0;  // the page that comes and goes
constinit volatile bool stop_toggling = false;
constinit volatile std::uint64_t toggles = 0;

void toggle(std::uint64_t) {
  while (!stop_toggling) {
    (void)relinquish(toggled);
    (void)reclaim(toggled);
    toggles = toggles + 1;
  }
  toggled = 0;
  hvc(psci::kCpuOff);
  for (;;) {
  }
}

// One vCPU gives the event queue away and asks for it again, while another makes the device fault and Weir write events,
// and the peer looks at what becomes of the pages.
void check_race() {
  check("race");
  const std::uint64_t first = allocate(kPage);
  if (!expect(smmu.init() && smmu.set_enabled(true), "the SMMU does not come up")) return;
  const std::uint64_t past = allocate(kPage);
  // A stream table entry with V = 0: each access makes an event for the guest.
  smmu.set_ste(sid, {});
  expect(smmu.sync(smmu::cfgi_ste(StreamID{sid}, true)), "SYNC");
  const std::uint64_t base = machine().smmus[0].base;
  constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
  const std::uint64_t queue = load64(base + static_cast<std::uint64_t>(smmu::Reg::EVENTQ_BASE)) & kAddress;
  if (!expect(queue > first && queue < past, "the event queue", queue)) return;
  toggled = queue;
  expect_equal(static_cast<std::uint64_t>(start_cpu(1, toggle, 0)), 0, "CPU_ON");
  // Nothing races before vCPU 1 runs, which takes its time on a host with much else to do.
  for (const std::uint64_t until = now_us() + 20'000'000; toggles == 0;)
    if (!expect(now_us() < until, "vCPU 1 does not run")) return;
  const std::uint64_t toggles_before = toggles;
  order(Order::churn, {{60}});
  unsigned faults = 0, events = 0;
  // Until both sides have done enough beside each other, however slowly one of them runs.
  const auto raced = [&] { return answered() && events != 0 && toggles - toggles_before >= 100; };
  const std::uint64_t until = now_us() + 20'000'000;
  for (unsigned round = 0; round < 400 || (!raced() && now_us() < until); ++round) {
    if (device.dma(first, first) == TestDevice::write_fault) ++faults;
    (void)smmu.sync();
    const std::uint32_t prod = smmu.read(smmu::Reg::EVENTQ_PROD);
    if (prod != smmu.read(smmu::Reg::EVENTQ_CONS)) ++events;
    smmu.write(smmu::Reg::EVENTQ_CONS, prod);  // not read: the page may not be there
    smmu.write(smmu::Reg::GERRORN, smmu.read(smmu::Reg::GERROR));
  }
  expect_equal(reply().aborted, 0, "words of events that the peer found in its pages");
  stop_toggling = true;
  while (toggled != 0) {
  }
  expect(faults >= 400 && toggles - toggles_before >= 100 && events != 0, "the race took place", toggles, events);

  check("queues");
  // Queues that are not there: what hardware would do, and Weir goes on.
  const auto cmdq =
      load64(machine().smmus[0].base + static_cast<std::uint64_t>(smmu::Reg::CMDQ_BASE)) & 0x000f'ffff'ffff'f000;
  expect_result(relinquish(cmdq), Result::success, "relinquish of the command queue");
  store32(machine().smmus[0].base + static_cast<std::uint64_t>(smmu::Reg::CMDQ_PROD), (smmu.prod() + 1) & 0xff);
  barrier();
  smmu::CMDQ_CONS cons;
  cons.words[0] = smmu.read(smmu::Reg::CMDQ_CONS);
  expect_equal(static_cast<std::uint64_t>(cons.get<smmu::CMDQ_CONS::ERR>()), 2, "CERROR_ABT");
  expect_result(reclaim(cmdq), Result::success, "reclaim");
}

void give() {
  check("devices");
  for (unsigned slot = 1; slot < pci::kSlots; ++slot) {
    if (pci::identity(slot) != TestDevice::kIdentity) continue;
    unsigned number = 0;
    expect(machine().find_stream(pci::rid(slot), number, sid), "no iommu-map", slot);
    device = TestDevice{pci::enable(slot)};
    smmu = Smmu{machine().smmus[number].base};
  }
  mailbox = allocate(kPage);
  check_discovery();
  expect_equal(offer(false, mailbox, 1, peer_id, true), kFirstHandle, "the handle of the first grant");
  check_relinquish();
  check_share();
  check_dirty();
  check_race();
  order(Order::leave, {});
  (void)reply();
  for (const std::uint64_t until = now_us() + 500'000;
       now_us() < until;) {  // what Weir says of its end cuts no line of ours
  }
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  machine().has_option("giver") ? give() : serve();
}
