// A VM's side of the world for vSMMU tests: RAM, interrupts, physical event queues, fake instances, and a guest that
// drives the vSMMU as a driver does.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "stage2/domain.hpp"
#include "tests/unit/fakes/fake_smmu.hpp"
#include "tests/unit/fakes/fake_table_pages.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu::test {

using namespace weir::test;
using smmu::Reg;
using vsmmu::Progress;

class FakeMemory final : public vsmmu::GuestMemory {
 public:
  static constexpr IPA kBase{0x4000'0000};
  static constexpr IPA kLastPage{0x4040'0000};  // RAM ends within it
  static constexpr std::size_t kInLastPage = 0x210;
  static constexpr std::size_t kSize = (kLastPage - kBase) + kInLastPage;

  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override {
    ++reads;
    if (!inside(from, to.size())) return false;
    std::memcpy(to.data(), ram_.data() + (from - kBase), to.size());
    return true;
  }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override {
    if (!inside(to, from.size())) return false;
    std::memcpy(ram_.data() + (to - kBase), from.data(), from.size());
    return true;
  }
  template <typename R>
  void put(IPA at, const R& record) {
    EXPECT_TRUE(write(at, std::as_bytes(std::span{record.words})));
  }
  template <typename R>
  [[nodiscard]] R get(IPA at) {
    R record;
    EXPECT_TRUE(read(at, std::as_writable_bytes(std::span{record.words})));
    return record;
  }
  unsigned reads = 0;

 private:
  static bool inside(IPA at, std::size_t n) { return at >= kBase && n <= kSize && at - kBase <= kSize - n; }
  std::vector<std::byte> ram_ = std::vector<std::byte>(kSize);
};

class FakeInterrupts final : public vsmmu::Interrupts {
 public:
  void raise(vsmmu::Irq irq) override {
    ++count[irq];
    if (on_raise) on_raise(irq);
  }
  void send_event() override { ++events; }
  bool message(IPA to, std::uint32_t data) override {
    if (refuse_messages) return false;
    messages.push_back({to, data});
    return true;
  }
  struct Message {
    IPA to;
    std::uint32_t data;
    friend bool operator==(const Message&, const Message&) = default;
  };
  unsigned events = 0;
  bool refuse_messages = false;
  std::vector<Message> messages;
  std::map<vsmmu::Irq, unsigned> count;
  std::function<void(vsmmu::Irq)> on_raise;
};

class FakeDrain final : public vsmmu::EventDrain {
 public:
  unsigned drain_events(stage2::SmmuPort& smmu, unsigned most) override {
    ++drains;
    if (on_drain) on_drain(smmu);
    const unsigned n = std::min(waiting, most);
    waiting -= n;
    return n;
  }
  unsigned drains = 0;
  unsigned waiting = 0;  // events that somebody recorded
  std::function<void(stage2::SmmuPort&)> on_drain;
};

// Instances, the VM's domain and its surroundings; vSMMUs come and go on top.
struct Machine {
  explicit Machine(unsigned instances, const stage2::Capabilities& capabilities = qemu_like_capabilities()) {
    for (unsigned i = 0; i < instances; ++i) {
      smmus.push_back(std::make_unique<FakeSmmu>(i, capabilities, &log));
      ports.push_back(smmus.back().get());
    }
    const auto geometry = stage2::Geometry::make(40, smmu::AddressSize::bits44);
    domain = *stage2::S2Domain::create(*geometry, pages, grace, {});
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  FakeLog log;
  std::vector<std::unique_ptr<FakeSmmu>> smmus;
  std::vector<stage2::SmmuPort*> ports;
  FakeTablePages pages;
  FakeTablePages hidden;  // of held context descriptors
  stage2::ImmediateGrace grace;
  std::unique_ptr<stage2::S2Domain> domain;
  FakeMemory memory;
  FakeDrain drain;

  void forget() {
    log.clear();
    for (const auto& s : smmus) s->forget();
  }
};

// Where the guest keeps its things.
inline constexpr IPA kCmdq{0x4000'0000};
inline constexpr IPA kEvtq{0x4010'0000};
inline constexpr IPA kStrtab{0x4020'0000};
inline constexpr IPA kCd{0x4030'0000};
// In the DMA view only.
inline constexpr IPA kHidden{0x0a00'0000};

// One vSMMU with its interrupts and pages.
struct Virtual {
  explicit Virtual(Machine& m, const vsmmu::Config& config = {}, const vsmmu::Bounds& bounds = {})
      : Virtual{m, m.ports, config, bounds} {}
  Virtual(Machine& m, std::span<stage2::SmmuPort* const> instances, const vsmmu::Config& config = {},
          const vsmmu::Bounds& bounds = {})
      : machine{m} {
    auto made = vsmmu::VSmmu::create(config, instances, surroundings(), bounds);
    if (made) vsmmu = std::move(*made);
  }
  // What a test's callbacks refer to is gone by now.
  ~Virtual() {
    for (const auto& s : machine.smmus) {
      s->on_ste = nullptr;
      s->on_command = nullptr;
      s->hold_syncs = false;
      s->fail_install.reset();
      s->complete_syncs();
    }
    machine.drain.on_drain = nullptr;
    interrupts.on_raise = nullptr;
  }
  Virtual(const Virtual&) = delete;
  Virtual& operator=(const Virtual&) = delete;

  [[nodiscard]] vsmmu::Surroundings surroundings() {
    return {machine.memory,  interrupts,     machine.drain,
            *machine.domain, {page0, page1}, {.pages = &machine.hidden, .base = kHidden, .bytes = 16 * kPage4K}};
  }

  Machine& machine;
  FakeInterrupts interrupts;
  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu;
};

// A guest driver.
struct Guest {
  static constexpr unsigned kLog2 = 8;  // of the command and the event queue

  explicit Guest(Virtual& v) : virt{v}, vsmmu{*v.vsmmu} {}

  void write(Reg reg, std::uint64_t value, unsigned size = 4) {
    unsigned rounds = 0;
    while (vsmmu.write(static_cast<std::uint32_t>(reg), size, value) == Progress::again) {
      ASSERT_LT(++rounds, 10000u);
      if (on_again) on_again();
    }
  }
  void write64(Reg reg, std::uint64_t value) { write(reg, value, 8); }
  // As the guest sees it, without an exit.
  [[nodiscard]] std::uint32_t read(Reg reg) const {
    const auto offset = static_cast<std::uint32_t>(reg);
    return offset >= smmu::kPage1 ? virt.page1[(offset - smmu::kPage1) / 4] : virt.page0[offset / 4];
  }
  template <typename R>
  [[nodiscard]] R get(Reg reg) const {
    R r;
    r.words[0] = read(reg);
    return r;
  }

  // Queues and a linear stream table of 2^10 STEs, everything on.
  void enable(std::uint32_t cr0_extra = smmu::CR0::SMMUEN::mask) {
    write64(Reg::STRTAB_BASE, kStrtab.value);
    write(Reg::STRTAB_BASE_CFG, 10);
    write64(Reg::CMDQ_BASE, kCmdq.value | kLog2);
    write64(Reg::EVENTQ_BASE, kEvtq.value | kLog2);
    write(Reg::CR2, smmu::CR2::RECINVSID::mask);
    write(Reg::IRQ_CTRL, smmu::IRQ_CTRL::EVENTQ_IRQEN::mask | smmu::IRQ_CTRL::GERROR_IRQEN::mask);
    write(Reg::CR0, smmu::CR0::CMDQEN::mask | smmu::CR0::EVENTQEN::mask | cr0_extra);
  }
  void put_ste(std::uint32_t vsid, const smmu::Ste& ste) {
    virt.machine.memory.put(kStrtab + std::uint64_t{vsid} * 64, ste);
  }
  [[nodiscard]] static smmu::Ste s1_ste(IPA cd = kCd) {
    using smmu::Ste;
    return Ste{}
        .set<Ste::V>(true)
        .set<Ste::Config>(smmu::SteConfig::s1)
        .set<Ste::S1ContextPtr>(cd)
        .set<Ste::S1CIR>(smmu::CdCacheability::write_back_ra)
        .set<Ste::S1COR>(smmu::CdCacheability::write_back_ra)
        .set<Ste::S1CSH>(smmu::Shareability::inner);
  }

  // Into the ring at PROD; not announced yet.
  void queue(const smmu::Command& c) {
    virt.machine.memory.put(kCmdq + std::uint64_t{prod & ((1u << kLog2) - 1)} * 16, c);
    prod = (prod + 1) & ((2u << kLog2) - 1);
  }
  void kick() { write(Reg::CMDQ_PROD, prod); }
  void submit(std::initializer_list<smmu::Command> commands) {
    for (const smmu::Command& c : commands) queue(c);
    kick();
  }
  [[nodiscard]] std::uint32_t cons() const { return get<smmu::CMDQ_CONS>(Reg::CMDQ_CONS).get<smmu::CMDQ_CONS::RD>(); }
  [[nodiscard]] smmu::CmdqError error() const {
    return get<smmu::CMDQ_CONS>(Reg::CMDQ_CONS).get<smmu::CMDQ_CONS::ERR>();
  }
  [[nodiscard]] bool cmdq_error() const {
    return ((read(Reg::GERROR) ^ read(Reg::GERRORN)) & smmu::GERROR::CMDQ_ERR::mask) != 0;
  }
  void acknowledge() { write(Reg::GERRORN, read(Reg::GERROR)); }
  // Drops what is left in the queue (allowed while CMDQ_ERR is active) and goes on.
  void recover() {
    prod = cons();
    kick();
    acknowledge();
  }

  [[nodiscard]] std::uint32_t evtq_prod() const { return read(Reg::EVENTQ_PROD); }
  [[nodiscard]] smmu::Event event(std::uint32_t index) {
    return virt.machine.memory.get<smmu::Event>(kEvtq + std::uint64_t{index & ((1u << kLog2) - 1)} * 32);
  }

  Virtual& virt;
  vsmmu::VSmmu& vsmmu;
  std::uint32_t prod = 0;
  std::function<void()> on_again;
};

// A guest's command: vSIDs and no VMID.
inline smmu::Command cfgi_ste(std::uint32_t vsid) { return smmu::cfgi_ste(StreamID{vsid}, true); }
inline smmu::Command nh_va(std::uint16_t asid, std::uint64_t va) {
  return smmu::tlbi_nh_va(VMID{}, ASID{asid}, IOVA{va}, true);
}

}  // namespace weir::vsmmu::test
