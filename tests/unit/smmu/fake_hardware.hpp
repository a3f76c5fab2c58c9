// The least of an SMMUv3 that its driver can be tested on: control registers that acknowledge, a command queue that is
// executed late (one command for each time somebody waits), an event queue to write to. Host pointers serve as PAs.
#pragma once

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "hyp/smmu/hardware.hpp"

namespace weir::test {

struct FakeHardware final : SmmuHardware {
  std::map<smmu::Reg, std::uint64_t> registers;
  std::vector<smmu::Command> executed;
  std::vector<std::string> log;  // order of what matters: "GBPA", "CR0=..", "PROD"
  std::vector<std::unique_ptr<std::byte, decltype(&std::free)>> memory;
  unsigned allocations_left = ~0u;
  bool acknowledges = true;
  bool eager = false;  // commands execute at once
  bool hung = false;   // or never
  bool snoops = true;
  unsigned prod_stores = 0;
  std::uint64_t now = 0;
  std::uint64_t tick = 1000;  // microseconds from one look at the clock to the next
  bool cuts_off = true;       // bus mastering can be taken from what is behind the SMMU
  unsigned cut_offs = 0;
  std::function<void(smmu::Reg, std::uint32_t)> on_write;

  FakeHardware() {  // as QEMU's, but for a smaller queue
    using namespace smmu;
    registers[Reg::IDR0] = IDR0{}
                               .set<IDR0::S1P>(true)
                               .set<IDR0::S2P>(true)
                               .set<IDR0::TTF>(TtFormat::aarch64)
                               .set<IDR0::TTENDIAN>(TtEndian::little)
                               .set<IDR0::VMID16>(true)
                               .set<IDR0::ST_LEVEL>(StLevel::two_level)
                               .words[0];
    set_queues(4, 3);
    registers[Reg::IDR5] = IDR5{}.set<IDR5::GRAN4K>(true).set<IDR5::OAS>(AddressSize::bits44).words[0];
  }
  void set_queues(unsigned commands, unsigned events) {
    using smmu::IDR1;
    registers[smmu::Reg::IDR1] =
        IDR1{}.set<IDR1::CMDQS>(commands).set<IDR1::EVENTQS>(events).set<IDR1::SIDSIZE>(16).words[0];
  }
  template <typename R>
  void change(smmu::Reg reg, auto&& fn) {
    R r{{{static_cast<std::uint32_t>(registers[reg])}}};
    fn(r);
    registers[reg] = r.words[0];
  }

  std::uint32_t read(smmu::Reg reg) override {
    if (reg == smmu::Reg::CMDQ_CONS && eager)
      while (step()) {
      }
    return static_cast<std::uint32_t>(registers[reg]);
  }
  void write(smmu::Reg reg, std::uint32_t value) override {
    using smmu::Reg;
    if (on_write) on_write(reg, value);
    registers[reg] = value;
    if (reg == Reg::CR0 && acknowledges) registers[Reg::CR0ACK] = value;
    if (reg == Reg::IRQ_CTRL && acknowledges) registers[Reg::IRQ_CTRLACK] = value;
    for (unsigned page = 0; page < smmu::kMaxControlPages; ++page)
      if (reg == smmu::control_page_cfg(page) && acknowledges) registers[smmu::control_page_status(page)] = value;
    if (reg == Reg::GBPA && acknowledges)
      change<smmu::GBPA>(reg, [](auto& r) { r.template set<smmu::GBPA::Update>(false); });
    if (reg == Reg::CR0) log.push_back("CR0=" + std::to_string(value));
    if (reg == Reg::GBPA) log.push_back("GBPA");
    if (reg == Reg::CMDQ_PROD && value != 0) ++prod_stores;
    if (reg == Reg::GERRORN)
      change<smmu::CMDQ_CONS>(Reg::CMDQ_CONS,
                              [](auto& r) { r.template set<smmu::CMDQ_CONS::ERR>(smmu::CmdqError::CERROR_NONE); });
  }
  void write64(smmu::Reg reg, std::uint64_t value) override { registers[reg] = value; }
  std::optional<PA> allocate(std::size_t bytes) override {
    if (allocations_left == 0) return std::nullopt;
    --allocations_left;
    memory.emplace_back(static_cast<std::byte*>(std::aligned_alloc(bytes, bytes)), &std::free);
    std::fill_n(memory.back().get(), bytes, std::byte{});
    return PA{reinterpret_cast<std::uint64_t>(memory.back().get())};
  }
  void* pointer(PA at) override { return reinterpret_cast<void*>(at.value); }
  bool coherent() const override { return snoops; }
  void publish(const void*, std::size_t) override {}
  void collect(const void*, std::size_t) override {}
  bool cut_off_masters() override {
    ++cut_offs;
    return cuts_off;
  }
  std::uint64_t microseconds() override { return now += tick; }
  void relax() override {
    if (!hung) step();
  }

  // Executes one command; false if there is none, or the queue stands on an error.
  bool step() {
    using namespace smmu;
    const CMDQ_BASE base{{{registers[Reg::CMDQ_BASE]}}};
    CMDQ_CONS cons{{{static_cast<std::uint32_t>(registers[Reg::CMDQ_CONS])}}};
    const auto prod = static_cast<std::uint32_t>(registers[Reg::CMDQ_PROD]);
    const std::uint32_t size = 1u << base.get<CMDQ_BASE::LOG2SIZE>();
    const std::uint32_t at = cons.get<CMDQ_CONS::RD>();
    if (at == prod || cons.get<CMDQ_CONS::ERR>() != CmdqError::CERROR_NONE) return false;
    const Command c = reinterpret_cast<const Command*>(base.get<CMDQ_BASE::ADDR>())[at & (size - 1)];
    if (name_of(c.opcode()).empty()) {
      cons.set<CMDQ_CONS::ERR>(CmdqError::CERROR_ILL);
      change<GERROR>(Reg::GERROR,
                     [](auto& r) { r.template set<GERROR::CMDQ_ERR>(!r.template get<GERROR::CMDQ_ERR>()); });
    } else {
      executed.push_back(c);
      cons.set<CMDQ_CONS::RD>((at + 1) & (2 * size - 1));
    }
    registers[Reg::CMDQ_CONS] = cons.words[0];
    return true;
  }

  // What the SMMU would use for `sid` now; V=0 if a level-1 descriptor is invalid.
  smmu::Ste ste(StreamID sid) {
    using namespace smmu;
    const STRTAB_BASE base{{{registers[Reg::STRTAB_BASE]}}};
    const STRTAB_BASE_CFG config{{{static_cast<std::uint32_t>(registers[Reg::STRTAB_BASE_CFG])}}};
    const auto table = base.get<STRTAB_BASE::ADDR>();
    if (config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::linear) return reinterpret_cast<const Ste*>(table)[sid.value];
    const auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
    const L1Std l1 = reinterpret_cast<const L1Std*>(table)[sid.value >> split];
    if (l1.get<L1Std::Span>() == 0) return {};
    return reinterpret_cast<const Ste*>(l1.get<L1Std::L2Ptr>())[sid.value & ((1u << split) - 1)];
  }

  void record(const smmu::Event& event) {
    using namespace smmu;
    const EVENTQ_BASE base{{{registers[Reg::EVENTQ_BASE]}}};
    const std::uint32_t size = 1u << base.get<EVENTQ_BASE::LOG2SIZE>();
    EVENTQ_PROD prod{{{static_cast<std::uint32_t>(registers[Reg::EVENTQ_PROD])}}};
    reinterpret_cast<Event*>(base.get<EVENTQ_BASE::ADDR>())[prod.get<EVENTQ_PROD::WR>() & (size - 1)] = event;
    prod.set<EVENTQ_PROD::WR>((prod.get<EVENTQ_PROD::WR>() + 1) & (2 * size - 1));
    registers[Reg::EVENTQ_PROD] = prod.words[0];
  }
  void request(const smmu::PriEntry& entry) {
    using namespace smmu;
    const PRIQ_BASE base{{{registers[Reg::PRIQ_BASE]}}};
    const std::uint32_t size = 1u << base.get<PRIQ_BASE::LOG2SIZE>();
    PRIQ_PROD prod{{{static_cast<std::uint32_t>(registers[Reg::PRIQ_PROD])}}};
    reinterpret_cast<PriEntry*>(base.get<PRIQ_BASE::ADDR>())[prod.get<PRIQ_PROD::WR>() & (size - 1)] = entry;
    prod.set<PRIQ_PROD::WR>((prod.get<PRIQ_PROD::WR>() + 1) & (2 * size - 1));
    registers[Reg::PRIQ_PROD] = prod.words[0];
  }
};

}  // namespace weir::test
