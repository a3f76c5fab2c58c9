#include "tests/unit/conformance/bare_machine.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "guest-abi/smmu/registers.hpp"
#include "tests/model/smmu.hpp"

namespace weir::conformance::host {
namespace {

using smmu::Reg;

class BareMachine final : public Machine, public Rig {
 public:
  explicit BareMachine(const model::Parameters& parameters) : smmu_{memory_, parameters} {
    for (const smmu::RegInfo& info : smmu::kRegs)
      for (std::uint32_t half = 0; half < info.bits / 32u; ++half) {
        const std::uint32_t offset = static_cast<std::uint32_t>(info.reg) + 4 * half;
        reset_[offset] = static_cast<std::uint32_t>(BareMachine::read(offset, 4));
      }
  }
  [[nodiscard]] Rig& rig() override { return *this; }

  std::uint64_t read(std::uint32_t offset, unsigned size) override {
    std::uint64_t value = smmu_.read(static_cast<Reg>(offset));
    if (size == 8) value |= std::uint64_t{smmu_.read(static_cast<Reg>(offset + 4))} << 32;
    return value;
  }
  void write(std::uint32_t offset, unsigned size, std::uint64_t value) override {
    if (size == 8) {
      smmu_.write64(static_cast<Reg>(offset), value);
    } else {
      smmu_.write(static_cast<Reg>(offset), static_cast<std::uint32_t>(value));
    }
  }
  std::uint32_t at_reset(std::uint32_t offset) override { return reset_[offset]; }

  std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment) override {
    return memory_.allocate(static_cast<std::size_t>(std::max(bytes, alignment))).value;
  }
  std::uint64_t data_page() override { return memory_.allocate(kPage4K).value; }
  std::uint64_t load(std::uint64_t at) override { return memory_.load<std::uint64_t>(PA{at}).value(); }
  void store(std::uint64_t at, std::uint64_t value) override {
    if (!memory_.store(PA{at}, value)) throw std::logic_error{"a store to nowhere"};
  }
  std::uint64_t nowhere() override { return 0x1000'0000; }

  std::uint32_t stream(unsigned device) override { return 8 * (device + 1); }
  Reply dma(unsigned device, const Transaction& t) override {
    const auto at = smmu_.access(StreamID{stream(device)}, IOVA{t.iova}, t.write, 4);
    if (!at) return {.outcome = Outcome::aborted};
    return {.outcome = Outcome::ok, .at = at->value};
  }
  unsigned interrupts(Wire) override { return 0; }
  void pass() override { smmu_.step(); }
  void settle() override { smmu_.settle(); }
  [[nodiscard]] bool can(Ability ability) const override {
    switch (ability) {
      case Ability::fresh:
      case Ability::reads: return true;
      default: return false;
    }
  }

 private:
  model::PhysicalMemory memory_;
  model::Smmu smmu_;
  std::map<std::uint32_t, std::uint32_t> reset_;
};

}  // namespace

std::unique_ptr<Machine> make_bare(const model::Parameters& parameters) {
  return std::make_unique<BareMachine>(parameters);
}

}  // namespace weir::conformance::host
