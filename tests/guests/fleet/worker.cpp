// Changes of mappings that several SMMUs may have cached, from several CPUs at once.
#include <algorithm>

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/fleet/fleet.hpp"

namespace weir::guest {
namespace {

constexpr std::uint64_t kArea = 0x100;  // the part of a page that is looked at: DMA goes there
constexpr std::uint32_t kEmpty = 0xa5a5'5a5a;

void clear(std::uint64_t page) {
  for (std::uint64_t at = page; at < page + kArea; at += 4) store32(at, kEmpty);
  barrier();
}
// Exactly the word at `offset` holds what a device writes, or none does. Clears it.
bool holds(std::uint64_t page, bool written, std::uint64_t offset) {
  barrier();
  bool ok = true;
  for (std::uint64_t at = 0; at < kArea; at += 4)
    ok = ok && load32(page + at) == (written && at == offset ? TestDevice::kPattern : kEmpty);
  if (written || !ok) clear(page);
  return ok;
}

std::uint64_t physical(std::uint64_t ipa) { return ipa + fleet().to_physical; }

class Worker {
 public:
  explicit Worker(unsigned cpu) : cpu_{cpu} { random_.state += (cpu + 1) * 0x1234'5678'9abc'def1; }

  void round(unsigned n) {
    Unit& unit = fleet().units[random_.below(fleet().unit_count)];
    if (n % 16 == 5) repoint(unit);
    if (n % 16 == 11) recycle(unit);
    change(unit, n % 8 == 0);
  }

 private:
  bool chance(unsigned one_in) { return random_.below(one_in) == 0; }

  // A device that uses the space, locked; nullptr: none was found.
  Device* take_device(Unit& unit, unsigned space) {
    const auto start = static_cast<unsigned>(random_.below(unit.device_count));
    for (unsigned i = 0; i < unit.device_count; ++i) {
      Device& d = *unit.devices[(start + i) % unit.device_count];
      if (!d.lock.try_lock()) continue;
      if (d.space == space) return &d;
      d.lock.unlock();
    }
    return nullptr;
  }
  std::uint64_t offset() { return 4 * random_.below(kArea / 4); }

  // What the device's DMA to this CPU's slot must do now: land in the mapped page, or fault.
  void expect_current(Device& d, const Mapping& m, unsigned slot, std::string_view what) {
    const std::uint64_t at = offset();
    const std::uint64_t page = m.pages[m.at], other = m.pages[1 - m.at];
    const auto result = d.dma.dma(iova_of(cpu_, slot) + at, physical(page) + at);
    ++totals().dma;
    if (!m.mapped) ++d.faults;
    expect(result == (m.mapped ? TestDevice::ok : TestDevice::write_fault), what, d.slot << 8 | slot, result);
    expect(holds(page, m.mapped, at), "the mapped page", d.slot << 8 | slot);
    expect(holds(other, false, 0), "the page that is not mapped was written", d.slot << 8 | slot);
    if (!m.mapped) expect_event(d);
  }

  // A SYNC promises the events of what was before it (IHI 0070, 4.7.3).
  void expect_event(Device& d) {
    Unit& unit = fleet().units[d.unit];
    const unsigned faults = d.faults;
    Batch none{unit};
    expect(none.run(), "SYNC for an event", d.slot);
    take_events(unit);
    if (fleet().late_events)
      for (const std::uint64_t until = now_us() + 20'000'000; d.events < faults && now_us() < until;) take_events(unit);
    expect_equal(d.events, faults, "events after SYNC");
  }

  // Between the change and its invalidation either of the two is right; a fault, where one of them is one.
  void look_early(Unit& unit, unsigned space, unsigned slot, const Mapping& before, const Mapping& after) {
    Device* const d = take_device(unit, space);
    if (d == nullptr) return;
    const std::uint64_t at = offset();
    const auto result = d->dma.dma(iova_of(cpu_, slot) + at, physical(after.pages[after.at]) + at);
    ++totals().dma;
    const bool fault = result == TestDevice::write_fault;
    if (fault) ++d->faults;
    expect(!fault || !before.mapped || !after.mapped, "a fault between two mappings", d->slot, slot);
    expect(fault || result == TestDevice::ok || result == TestDevice::mismatch, "DMA before the invalidation", d->slot,
           result);
    const bool in_new = load32(after.pages[after.at] + at) == TestDevice::kPattern;
    const bool in_old = load32(before.pages[before.at] + at) == TestDevice::kPattern;
    expect(fault ? !in_new && !in_old : in_new || in_old, "DMA before the invalidation went elsewhere", d->slot, slot);
    if (in_old && (!after.mapped || after.at != before.at)) ++totals().stale;
    for (const std::uint64_t page : before.pages) clear(page);
    if (fault) expect_event(*d);
    d->lock.unlock();
  }

  // How the change of these slots is told.
  void invalidate(Batch& batch, const Unit& unit, ASID asid, unsigned first, unsigned count) {
    const IOVA start{iova_of(cpu_, first)};
    switch (random_.below(8)) {
      case 0: return batch.add(smmu::tlbi_nh_asid({}, asid));
      case 1: return batch.add(chance(4) ? smmu::Command{smmu::tlbi_nsnh_all()} : smmu::tlbi_nh_all({}));
      case 2:
        for (unsigned i = 0; i < count; ++i) batch.add(smmu::tlbi_nh_vaa({}, IOVA{iova_of(cpu_, first + i)}, true));
        return;
      case 3:
      case 4:
        if (unit.ranges) {
          const smmu::TlbiRange range{
              .tg = smmu::TlbiGranule::size4k, .ttl = 3, .num = static_cast<std::uint8_t>(count - 1), .scale = 0};
          return batch.add(smmu::tlbi_nh_va({}, asid, start, true, range));
        }
        [[fallthrough]];
      default:
        for (unsigned i = 0; i < count; ++i)
          batch.add(smmu::tlbi_nh_va({}, asid, IOVA{iova_of(cpu_, first + i)}, !chance(4)));
    }
  }

  void change(Unit& unit, bool by_interrupt) {
    const auto s = static_cast<unsigned>(random_.below(kSpaces));
    AddressSpace& space = unit.spaces[s];
    auto& mappings = unit.mappings[cpu_][s];
    const auto count = static_cast<unsigned>(1 + random_.below(3));
    const auto first = static_cast<unsigned>(random_.below(kSlots - count + 1));
    // Whatever is mapped gets into many TLBs.
    for (unsigned i = 0; i < 3; ++i)
      if (Device* const d = take_device(unit, s)) {
        expect_current(*d, mappings[first], first, "DMA before a change");
        d->lock.unlock();
      }
    Batch batch{unit};
    for (unsigned i = first; i < first + count; ++i) {
      Mapping& m = mappings[i];
      const Mapping before = m;
      m.mapped = !m.mapped || !chance(6);
      if (m.mapped) {
        m.at = 1 - m.at;
        space.map(iova_of(cpu_, i), m.pages[m.at]);
      } else {
        space.unmap(iova_of(cpu_, i));
      }
      ++totals().changes;
      if (i == first) look_early(unit, s, i, before, m);
    }
    invalidate(batch, unit, space.asid(), first, count);
    expect(by_interrupt && cpu_ == 0 ? batch.run_with_interrupt() : batch.run(), "TLBI and SYNC", cpu_);
    for (unsigned i = 0; i < 3; ++i)
      if (Device* const d = take_device(unit, s)) {
        const auto slot = first + static_cast<unsigned>(random_.below(count));
        expect_current(*d, mappings[slot], slot, "DMA after a change, TLBI and SYNC");
        d->lock.unlock();
      }
  }

  // A device leaves one of the shared spaces for another.
  void repoint(Unit& unit) {
    const auto from = static_cast<unsigned>(random_.below(kSpaces));
    Device* const d = take_device(unit, from);
    if (d == nullptr) return;
    const auto to = static_cast<unsigned>((from + 1 + random_.below(kSpaces - 1)) % kSpaces);
    const auto slot = static_cast<unsigned>(random_.below(kSlots));
    expect_current(*d, unit.mappings[cpu_][from][slot], slot, "DMA in the old space");
    point(*d, unit.spaces[to], chance(2));
    d->space = to;
    ++totals().repointed;
    expect_current(*d, unit.mappings[cpu_][to][slot], slot, "DMA in the new space");
    d->lock.unlock();
  }

  // A device uses a space of this CPU's alone for a while; then its ASID is another space's, for whichever device.
  void recycle(Unit& unit) {
    Recycled& mine = unit.recycled[cpu_];
    Device* d = nullptr;
    for (unsigned i = 0; i < kSpaces && d == nullptr; ++i) d = take_device(unit, i);
    if (d == nullptr) return;
    const unsigned now = mine.next;
    mine.next = 1 - now;
    const AddressSpace& space = mine.spaces[now];
    point(*d, space, chance(2));
    for (unsigned i = 0; i < 2; ++i) {
      const std::uint64_t at = offset();
      const auto result = d->dma.dma(iova_of(cpu_, 0) + at, physical(mine.pages[now]) + at);
      ++totals().dma;
      expect(result == TestDevice::ok && holds(mine.pages[now], true, at), "DMA in a space whose ASID was another's",
             d->slot, result);
      expect(holds(mine.pages[1 - now], false, 0), "DMA went to the ASID's earlier space", d->slot);
    }
    point(*d, unit.spaces[d->space], chance(2));
    d->lock.unlock();
    Batch batch{unit};
    batch.add(smmu::tlbi_nh_asid({}, space.asid()));
    expect(batch.run(), "TLBI of the ASID and SYNC", cpu_);
    ++totals().recycled;
  }

  unsigned cpu_;
  Random random_;
};

}  // namespace

void work(unsigned cpu, unsigned rounds) {
  for (Unit* unit = fleet().units.data(); unit != fleet().units.data() + fleet().unit_count; ++unit) {
    for (auto& space : unit->mappings[cpu])
      for (Mapping& m : space)
        for (const std::uint64_t page : m.pages) clear(page);
    for (const std::uint64_t page : unit->recycled[cpu].pages) clear(page);
  }
  Worker worker{cpu};
  for (unsigned n = 0; n < rounds && failures() == 0; ++n) worker.round(n);
}

}  // namespace weir::guest
