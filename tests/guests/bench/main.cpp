// What trapped accesses to a vSMMU cost, in instructions (tests/bench, docs/performance.md). Only under -icount shift=0 do
// the numbers mean that. Each device of the VM has an address space and an ASID of its own on the first vSMMU: the first
// device ASID 1, and so on. Each measurement is a line "value KEY MEDIAN LEAST MOST".
//
// bootargs: `devices=N` that there must be; `fanout`: only what depends on the number of SMMUs; `setup`: nothing after the
// set-up; `idle`: sleep after it; `wait=N`: measure after N milliseconds only.
#include "guest-abi/hypercall.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/bare/smmu.hpp"
#include "tests/guests/bare/testdev.hpp"
#include "tests/guests/bench/measure.hpp"

extern const std::string_view kGuestName;
const std::string_view kGuestName = "bench";

namespace weir::guest {
namespace {

using smmu::Reg;

constexpr unsigned kMaxDevices = 31;
constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kIova = 0x1000'0000;
constexpr ASID kAsid{1};

struct Stream {
  std::uint32_t sid = 0;
  AddressSpace space;
};

constinit Smmu the_smmu{};
constinit std::array<Stream, kMaxDevices> streams{};
constinit unsigned stream_count = 0;
constinit TestDevice device{};  // behind the first stream
constinit bool has_device = false;
constinit std::uint64_t baseline = 0;

std::uint64_t address_of(Reg r) { return machine().smmus[0].base + static_cast<std::uint32_t>(r); }

// The store of PROD that hands over what was pushed. What it costs goes to `samples`.
void submit(Samples& samples) {
  samples.add(ticks_of_store(address_of(Reg::CMDQ_PROD), the_smmu.prod()));
  expect(the_smmu.wait_consumed(), "the commands are not consumed");
}

void measure_baseline() {
  const std::uint64_t page = allocate(kPage);
  std::uint64_t least = ~std::uint64_t{0};
  for (unsigned i = 0; i < kSamples; ++i) {
    const std::uint64_t ticks = ticks_of_store(page, i);
    if (ticks < least) least = ticks;
  }
  // The store that traps is not executed, and Weir's instructions take its place.
  baseline = least - 1;
  report("baseline", baseline);
}

void measure_null() {
  check("null");
  Samples read_only, prod, gerrorn;
  for (unsigned i = 0; i < kSamples; ++i) {
    read_only.add(ticks_of_store(address_of(Reg::IDR0), 0));
    prod.add(ticks_of_store(address_of(Reg::CMDQ_PROD), the_smmu.prod()));
    gerrorn.add(ticks_of_store(address_of(Reg::GERRORN), the_smmu.read(Reg::GERRORN)));
  }
  read_only.report("trap.null.read_only", baseline);
  prod.report("trap.null", baseline);
  gerrorn.report("trap.null.gerrorn", baseline);
}

enum class Addresses { scattered, adjacent, same };
constexpr IOVA address(Addresses addresses, unsigned i) {
  switch (addresses) {
    case Addresses::scattered: return IOVA{kIova + i * 0x31'5000};  // no two in one 2 MiB block
    case Addresses::adjacent: return IOVA{kIova + i * kPage};
    case Addresses::same: return IOVA{kIova};
  }
  return IOVA{};
}

// `size` commands: NH_VA of one page each, and a SYNC.
void measure_batch(std::string_view key, unsigned size, Addresses addresses = Addresses::scattered,
                   smmu::TlbiRange range = {}, const smmu::Command& sync = smmu::sync_none()) {
  Samples samples;
  for (unsigned i = 0; i < kSamples; ++i) {
    for (unsigned c = 1; c < size; ++c) the_smmu.push(smmu::tlbi_nh_va({}, kAsid, address(addresses, c), true, range));
    the_smmu.push(sync);
    submit(samples);
  }
  samples.report(key, baseline);
}

void measure_invalidations() {
  check("invalidations");
  measure_batch("inv.sync", 1);
  measure_batch("inv.single", 2);
  constexpr smmu::TlbiRange kOnePage{.tg = smmu::TlbiGranule::size4k, .ttl = 3, .num = 0, .scale = 0};
  if (the_smmu.ranges()) {
    // What Linux sends: a range of one page, and a SYNC that answers by a message into memory.
    measure_batch("inv.single.range", 2, Addresses::scattered, kOnePage);
    const std::uint64_t message = allocate(kPage);
    measure_batch("inv.single.linux", 2, Addresses::scattered, kOnePage, smmu::sync_irq(PA{message}, 0));
  }
  for (const unsigned size : {2u, 4u, 8u, 16u, 32u, 64u, 96u, 127u}) {
    Text<40> key;
    measure_batch(key.put("batch.").dec(size).view(), size);
    key.clear();
    measure_batch(key.put("batch.adjacent.").dec(size).view(), size, Addresses::adjacent);
  }
  measure_batch("batch.same.64", 64, Addresses::same);
}

// NH_ASID and SYNC, of an ASID that one stream uses.
void measure_fanout() {
  check("fanout");
  Samples asid, all;
  for (unsigned i = 0; i < kSamples; ++i) {
    the_smmu.push(smmu::tlbi_nh_asid({}, kAsid));
    the_smmu.push(smmu::sync_none());
    submit(asid);
  }
  asid.report("fanout", baseline);
  measure_batch("fanout.va", 2);
  for (unsigned i = 0; i < kSamples; ++i) {
    the_smmu.push(smmu::tlbi_nh_all({}));
    the_smmu.push(smmu::sync_none());
    submit(all);
  }
  all.report("fanout.all", baseline);
}

// A stream's table entry or its CD changes to another address space and back, as it does when a driver attaches.
void measure_configuration() {
  check("configuration");
  Stream& s = streams[0];
  AddressSpace other{s.space.asid(), the_smmu.output_size()};
  Samples ste, same_ste, cd, same_cd;
  for (unsigned i = 0; i < kSamples; ++i) {
    the_smmu.set_ste(s.sid, Smmu::stage1(i % 2 == 0 ? other : s.space));
    the_smmu.push(smmu::cfgi_ste(StreamID{s.sid}, true));
    the_smmu.push(smmu::sync_none());
    submit(ste);
    the_smmu.push(smmu::cfgi_ste(StreamID{s.sid}, true));
    the_smmu.push(smmu::sync_none());
    submit(same_ste);
  }
  for (unsigned i = 0; i < kSamples; ++i) {
    s.space.set_root(i % 2 == 0 ? other.root() : s.space.root());
    the_smmu.push(smmu::cfgi_cd(StreamID{s.sid}, {}, true));
    the_smmu.push(smmu::sync_none());
    submit(cd);
    the_smmu.push(smmu::cfgi_cd(StreamID{s.sid}, {}, true));
    the_smmu.push(smmu::sync_none());
    submit(same_cd);
  }
  ste.report("cfgi.ste", baseline);
  same_ste.report("cfgi.ste.same", baseline);
  cd.report("cfgi.cd", baseline);
  same_cd.report("cfgi.cd.same", baseline);
}

// The access that starts a DMA, with a fault and without: the difference is what the event costs, from the physical SMMU's
// interrupt to the guest's event queue and its virtual interrupt.
void measure_event() {
  check("event");
  if (!has_device) return;
  const std::uint64_t page = allocate(kPage);
  streams[0].space.map(kIova, page);
  expect(the_smmu.sync(smmu::tlbi_nh_all({})), "SYNC");
  Samples bad;
  std::uint64_t least = ~std::uint64_t{0};
  for (unsigned i = 0; i < 4; ++i) {
    device.prepare(kIova, page);
    const std::uint64_t ticks = ticks_of_load(device.trigger());
    if (ticks < least) least = ticks;
    device.prepare(0x20'0000'0000, page);
    bad.add(ticks_of_load(device.trigger()));
    smmu::Event e;
    expect(the_smmu.next_event(e), "no event");
    expect_equal(static_cast<std::uint64_t>(e.id()), static_cast<std::uint64_t>(smmu::EventId::F_TRANSLATION), "event");
  }
  bad.report("event.forward", least);
}

// Pages given back one after the other. The first of a block splits it, and takes longer for that.
void measure_unmap() {
  check("unmap");
  const std::uint64_t block = allocate(0x20'0000, 0x20'0000);
  Samples samples;
  for (unsigned i = 0; i < kSamples; ++i) {
    std::int64_t result = 0;
    const auto call = hypercall::id(hypercall::Call::relinquish);
    samples.add(ticks_of_call(call, block + i * kPage, 1, result));
    if (i == 0 && result == hypercall::kNotSupported) return say("no memory calls");
    if (!expect_equal(static_cast<std::uint64_t>(result), 0, "relinquish")) return;
  }
  samples.report("unmap", baseline + 1);  // the HVC is executed
}

bool set_up() {
  check("set-up");
  const Machine& m = machine();
  if (!expect(m.smmu_count != 0, "no SMMU in the devicetree")) return false;
  the_smmu = Smmu{m.smmus[0].base};
  if (!expect(the_smmu.init() && the_smmu.set_enabled(true), "the SMMU does not come up")) return false;
  for (unsigned slot = 1; slot < pci::kSlots && stream_count < kMaxDevices; ++slot) {
    const std::uint32_t identity = pci::identity(slot);
    unsigned index = 0;
    Stream& s = streams[stream_count];
    if (identity == ~std::uint32_t{0} || !m.find_stream(pci::rid(slot), index, s.sid) || index != 0) continue;
    const std::uint64_t bar = pci::enable(slot);
    if (stream_count == 0 && identity == TestDevice::kIdentity) {
      device = TestDevice{bar};
      has_device = true;
    }
    s.space = AddressSpace{ASID{static_cast<std::uint16_t>(kAsid.value + stream_count)}, the_smmu.output_size()};
    the_smmu.set_ste(s.sid, Smmu::stage1(s.space));
    if (!expect(the_smmu.sync(smmu::cfgi_ste(StreamID{s.sid}, true)), "CFGI_STE", slot)) return false;
    ++stream_count;
  }
  return expect_equal(stream_count, m.option("devices", 1), "number of devices");
}

}  // namespace
}  // namespace weir::guest

void guest_main() {
  using namespace weir::guest;
  if (!set_up()) return;
  if (machine().has_option("setup")) return;
  if (machine().has_option("idle")) {
    say("idle");
    for (;;) asm volatile("wfi");
  }
  const std::uint64_t until = now_us() + machine().option("wait", 0) * 1000;
  while (now_us() < until) {
  }
  measure_baseline();
  measure_fanout();
  if (!machine().has_option("fanout")) {
    measure_null();
    measure_invalidations();
    measure_configuration();
    measure_event();
  }
  measure_unmap();
}
