#include "hyp/cpu/mmio_emulate.hpp"

#include "hyp/arch/sysreg.hpp"
#include "hyp/cpu/pstate.hpp"
#include "hyp/cpu/vector_access.hpp"
#include "hyp/log/log.hpp"
#include "hyp/vm/vcpu.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

constinit MmioDecoder decoder;

constexpr unsigned kStackPointer = 31;

class VcpuPort final : public MmioPort {
 public:
  VcpuPort(Vcpu& vcpu, bool sp_el1) : vcpu_{vcpu}, sp_el1_{sp_el1} {}

  [[nodiscard]] std::uint64_t base(unsigned n) override {
    if (n != kStackPointer) return vcpu_.reg(n);
    return sp_el1_ ? READ_SYSREG(sp_el1) : READ_SYSREG(sp_el0);
  }
  void set_base(unsigned n, std::uint64_t value) override {
    if (n != kStackPointer) {
      vcpu_.set_reg(n, value);
    } else if (sp_el1_) {
      WRITE_SYSREG(sp_el1, value);
    } else {
      WRITE_SYSREG(sp_el0, value);
    }
  }
  [[nodiscard]] std::uint64_t general(unsigned n) override { return vcpu_.reg(n); }
  void set_general(unsigned n, std::uint64_t value) override { vcpu_.set_reg(n, value); }
  [[nodiscard]] VectorValue vector(unsigned n) override { return read_vector_register(n); }
  void set_vector(unsigned n, VectorValue value) override { write_vector_register(n, value); }

  MmioResult read(IPA at, unsigned size, std::uint64_t& value) override {
    const MmioBus::Found found = vcpu_.vm().bus().find(at, vcpu_.recent_device);
    return found.device != nullptr ? found.device->read(vcpu_, {found.offset, size}, value) : MmioResult::abort;
  }
  MmioResult write(IPA at, unsigned size, std::uint64_t value) override {
    const MmioBus::Found found = vcpu_.vm().bus().find(at, vcpu_.recent_device);
    return found.device != nullptr ? found.device->write(vcpu_, {found.offset, size}, value) : MmioResult::abort;
  }

 private:
  Vcpu& vcpu_;
  bool sp_el1_;
};

}  // namespace

void mmio_emulation_init() {
  if (!decoder.open()) log("no memory for the instruction decoder: some accesses to devices will abort");
}

std::expected<MmioResult, DecodeError> emulate_mmio(Vcpu& vcpu, std::uint32_t instruction, const MmioFault& fault) {
  Pstate pstate;
  pstate.words[0] = vcpu.registers.pstate;
  if (pstate.get<Pstate::NRW>()) return std::unexpected{DecodeError::undecodable};  // A32, T32
  const auto access = decoder.decode(instruction);
  if (!access) return std::unexpected{access.error()};
  VcpuPort port{vcpu, pstate.get<Pstate::EL>() == 1 && pstate.get<Pstate::SP>()};
  return execute_mmio(*access, fault, port);
}

}  // namespace weir
