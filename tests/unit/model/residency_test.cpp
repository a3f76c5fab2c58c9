// Where entries of an ASID can be: the precise mode's answer, and the obvious shortcut that is wrong.
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/model/machine.hpp"

namespace weir::model::test {
namespace {

using namespace smmu;

constexpr std::uint64_t kVa = 0x12'3450'0000;
constexpr std::uint64_t data_page(unsigned n) { return Driver::ipa(Driver::kFirstData + n); }

// The shortcut: descriptors stay in the guest's memory, Weir looks at one whenever the guest invalidates it, and an
// invalidation is sent only to instances on which its ASID has ever been found so. What it has found it never forgets.
class Shortcut {
 public:
  explicit Shortcut(Machine& m) : machine_{m} {
    for (unsigned i = 0; i < 2; ++i) {
      m.ports[i]->installing = [this, i](StreamID sid) { learn(i, sid); };
      m.ports[i]->drops = [this, i](const Command& c) {
        if (const auto cd = c.as<CfgiCd>()) learn(i, StreamID{cd->get<CfgiCd::StreamID>()});
        const auto va = c.as<TlbiNhVa>();
        const auto all = c.as<TlbiNhAsid>();
        if (!va && !all) return false;
        return !known_[i].contains((va ? va->get<TlbiNhVa::ASID>() : all->get<TlbiNhAsid::ASID>()).value);
      };
    }
  }
  ~Shortcut() {
    for (const auto& port : machine_.ports) {
      port->installing = nullptr;
      port->drops = nullptr;
    }
  }
  Shortcut(const Shortcut&) = delete;
  Shortcut& operator=(const Shortcut&) = delete;

 private:
  void learn(unsigned instance, StreamID sid) {
    for (const Device& d : kDevices) {
      if (d.smmu != instance || d.sid != sid) continue;
      Ste ste;
      std::memcpy(ste.words.data(), machine_.ram.pointer(Driver::kStrtab + d.vsid.value * sizeof(Ste)), sizeof ste);
      if (!ste.get<Ste::V>() || ste.get<Ste::Config>() != SteConfig::s1) continue;
      Cd cd;
      std::memcpy(cd.words.data(), machine_.ram.pointer(ste.get<Ste::S1ContextPtr>().value), sizeof cd);
      if (cd.get<Cd::V>()) known_[instance].insert(cd.get<Cd::ASID>().value);
    }
  }
  Machine& machine_;
  std::array<std::set<std::uint16_t>, 2> known_;
};

struct Outcome {
  bool fetched_early = false;  // the device used the new descriptor before its CFGI
  bool stale = false;          // it reached what the guest had taken back
};

// A guest moves a device from one address space to another, by the book: it makes the descriptor invalid, says so, and
// writes the new one. Before it says that, too, it takes a page out of the other address space, which is in use
// elsewhere, and invalidates it.
Outcome move_a_device(std::uint64_t seed, bool shortcut, const vsmmu::Config& config) {
  Machine m{seed, Break::nothing, {}, config};
  Driver guest{m};
  std::optional<Shortcut> filter;
  if (shortcut) filter.emplace(m);
  guest.probe();
  const Device& mover = kDevices[0];
  const Device& other = kDevices[1];
  constexpr unsigned kOwnCd = 2;  // the mover's
  constexpr std::uint64_t kCd = Driver::kCds + kOwnCd * sizeof(Cd);
  guest.put(kCd, context(guest.contexts[0].root(), Driver::asid(0)));
  guest.contexts[0].map(kVa, data_page(1));
  guest.contexts[1].map(kVa, data_page(2));
  guest.put_ste(mover.vsid, Driver::stage1_ste(kOwnCd));
  guest.put_ste(other.vsid, Driver::stage1_ste(1));
  for (const Device* d : {&mover, &other}) guest.queue(cfgi_ste(StreamID{d->vsid.value}, true));
  guest.sync();
  EXPECT_EQ(m.dma(mover, kVa, false), m.ram.page(data_page(1)));
  EXPECT_EQ(m.dma(other, kVa, false), m.ram.page(data_page(2)));

  const auto cfgi = [&] { guest.queue(cfgi_cd(StreamID{mover.vsid.value}, SubstreamID{}, true)); };
  guest.put(kCd, Cd{});
  cfgi();
  guest.sync();
  guest.put(kCd, context(guest.contexts[1].root(), Driver::asid(1)));
  Outcome outcome;
  // The device goes on trying.
  for (unsigned i = 0; i < 4; ++i) outcome.fetched_early |= m.dma(mover, kVa, false) == m.ram.page(data_page(2));
  guest.contexts[1].unmap(kVa);
  guest.queue(tlbi_nh_va(VMID{}, ASID{Driver::asid(1)}, IOVA{kVa}, true));
  guest.queue(tlbi_nh_asid(VMID{}, ASID{Driver::asid(1)}));
  guest.sync();
  cfgi();
  guest.sync();
  for (unsigned i = 0; i < 4; ++i) outcome.stale |= m.dma(mover, kVa, false).has_value();
  EXPECT_FALSE(m.dma(other, kVa, false));
  static_cast<void>(guest.take_events());
  return outcome;
}

// The architecture lets an SMMU fetch a structure at any time, so also between the store that changes it and the CFGI
// that says so: then it holds entries of an ASID that nobody has found there yet.
TEST(Residency, LearningAtCfgiIsUnsound) {
  unsigned early = 0;
  unsigned stale = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Outcome o = move_a_device(seed, true, {});
    early += o.fetched_early ? 1 : 0;
    stale += o.stale ? 1 : 0;
  }
  EXPECT_GT(early, 0u);
  EXPECT_GT(stale, 0u) << "the model does not break what is broken";
}

TEST(Residency, StrictModeIsSoundWhereTheShortcutIsNot) {
  unsigned early = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Outcome o = move_a_device(seed, false, {});
    early += o.fetched_early ? 1 : 0;
    EXPECT_FALSE(o.stale) << seed;
  }
  EXPECT_GT(early, 0u);
}

TEST(Residency, PreciseModeIsSoundAndShowsNoDescriptorEarly) {
  for (const bool no_global_pages : {false, true})
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const Outcome o = move_a_device(seed, false, {.precise = true, .no_global_pages = no_global_pages});
      EXPECT_FALSE(o.fetched_early) << seed;
      EXPECT_FALSE(o.stale) << seed;
    }
}

// A guest with ASIDs of 16 bits over an instance that has 8.
TEST(Residency, WideAsidsAreBridged) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine m{seed, Break::nothing, {}, {.precise = true, .no_global_pages = true}};
    Driver guest{m};
    guest.probe();
    ASSERT_TRUE(IDR0{{{guest.read(Reg::IDR0)}}}.get<IDR0::ASID16>());
    constexpr std::uint16_t kAsids[] = {0x105, 0x205};
    for (unsigned c = 0; c < 2; ++c) {
      guest.put(Driver::kCds + c * sizeof(Cd), context(guest.contexts[c].root(), kAsids[c]));
      guest.contexts[c].map(kVa, data_page(c));
    }
    for (unsigned d = 0; d < 2; ++d) {
      guest.put_ste(kDevices[d].vsid, Driver::stage1_ste(d));
      guest.queue(cfgi_ste(StreamID{kDevices[d].vsid.value}, true));
    }
    guest.sync();
    for (unsigned d = 0; d < 2; ++d) ASSERT_EQ(m.dma(kDevices[d], kVa, false), m.ram.page(data_page(d))) << seed;
    guest.contexts[1].unmap(kVa);
    guest.queue(tlbi_nh_asid(VMID{}, ASID{kAsids[1]}));
    guest.sync();
    EXPECT_FALSE(m.dma(kDevices[1], kVa, false)) << seed;
    EXPECT_EQ(m.dma(kDevices[0], kVa, false), m.ram.page(data_page(0)));
  }
}

}  // namespace
}  // namespace weir::model::test
