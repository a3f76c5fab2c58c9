#include "tests/unit/conformance/bare_machine.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

#include "guest-abi/smmu/registers.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/conformance/devices.hpp"

namespace weir::conformance::host {
namespace {

using smmu::Reg;

class BareMachine final : public Machine, public Rig {
 public:
  explicit BareMachine(const model::Parameters& parameters) : smmu_{memory_, parameters} {
    smmu_.on_irq = [this](unsigned source) { ++raised_.at(static_cast<unsigned>(wire_of(source))); };
    smmu_.on_sev = [this] { ++wake_events_; };
    for (const smmu::RegInfo& info : smmu::kRegs)
      for (std::uint32_t half = 0; half < info.bits / 32u; ++half) {
        const std::uint32_t offset = static_cast<std::uint32_t>(info.reg) + 4 * half;
        reset_[offset] = static_cast<std::uint32_t>(BareMachine::read(offset, 4));
      }
  }
  [[nodiscard]] Rig& rig() override { return *this; }

  std::uint64_t read(std::uint32_t offset, unsigned size) override { return smmu_.mmio_read(offset, size); }
  void write(std::uint32_t offset, unsigned size, std::uint64_t value) override {
    smmu_.mmio_write(offset, size, value);
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
    return reply_of(smmu_.issue(access_of(StreamID{stream(device)}, t), 4), [](PA at) { return at.value; });
  }
  unsigned interrupts(Wire wire) override { return raised_.at(static_cast<unsigned>(wire)); }
  void pass() override { smmu_.step(); }
  void settle() override { smmu_.settle(); }
  [[nodiscard]] bool can(Ability) const override { return true; }

  Reply outcome_of(unsigned, std::uint32_t handle) override {
    return reply_of(smmu_.transaction(handle), [](PA at) { return at.value; });
  }
  AtsReply translate(unsigned device, const Transaction& t) override {
    return ats_reply_of(endpoint(device).request(t.iova, t.write, ssid_of(t.ssid)));
  }
  unsigned ats_invalidations(unsigned device) override { return endpoint(device).invalidations; }
  void hang(unsigned device, bool hung) override { endpoint(device).hung = hung; }
  void page_request(unsigned device, const PageRequest& request) override {
    endpoint(device).page_request(model_request(request));
  }
  PageReply page_reply(unsigned device, std::uint16_t prg) override { return reply_to(endpoint(device), prg); }
  unsigned wake_events() override { return wake_events_; }

 private:
  model::Endpoint& endpoint(unsigned device) { return smmu_.endpoint(StreamID{stream(device)}); }

  model::PhysicalMemory memory_;
  model::Smmu smmu_;
  std::map<std::uint32_t, std::uint32_t> reset_;
  std::array<unsigned, 4> raised_{};
  unsigned wake_events_ = 0;
};

}  // namespace

std::unique_ptr<Machine> make_bare(const model::Parameters& parameters) {
  return std::make_unique<BareMachine>(parameters);
}

}  // namespace weir::conformance::host
