#include "hyp/cpu/mmio_decode.hpp"

#include <capstone/capstone.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <string_view>

#include "stage2/support/make.hpp"

namespace weir {
namespace {

enum class Size : std::uint8_t { of_register = 0, byte = 1, half = 2, word = 4 };

struct Form {
  unsigned id;
  bool store;
  unsigned registers;
  Size size;
  bool sign_extend;
};

using enum Size;
constexpr bool kLoad = false, kStore = true, kSigned = true;
constexpr Form kForms[] = {
    {ARM64_INS_LDR, kLoad, 1, of_register, !kSigned},    {ARM64_INS_LDUR, kLoad, 1, of_register, !kSigned},
    {ARM64_INS_LDTR, kLoad, 1, of_register, !kSigned},   {ARM64_INS_LDAR, kLoad, 1, of_register, !kSigned},
    {ARM64_INS_LDLAR, kLoad, 1, of_register, !kSigned},  {ARM64_INS_LDAPR, kLoad, 1, of_register, !kSigned},
    {ARM64_INS_LDAPUR, kLoad, 1, of_register, !kSigned},

    {ARM64_INS_LDRB, kLoad, 1, byte, !kSigned},          {ARM64_INS_LDURB, kLoad, 1, byte, !kSigned},
    {ARM64_INS_LDTRB, kLoad, 1, byte, !kSigned},         {ARM64_INS_LDARB, kLoad, 1, byte, !kSigned},
    {ARM64_INS_LDLARB, kLoad, 1, byte, !kSigned},        {ARM64_INS_LDAPRB, kLoad, 1, byte, !kSigned},
    {ARM64_INS_LDAPURB, kLoad, 1, byte, !kSigned},       {ARM64_INS_LDRSB, kLoad, 1, byte, kSigned},
    {ARM64_INS_LDURSB, kLoad, 1, byte, kSigned},         {ARM64_INS_LDTRSB, kLoad, 1, byte, kSigned},
    {ARM64_INS_LDAPURSB, kLoad, 1, byte, kSigned},

    {ARM64_INS_LDRH, kLoad, 1, half, !kSigned},          {ARM64_INS_LDURH, kLoad, 1, half, !kSigned},
    {ARM64_INS_LDTRH, kLoad, 1, half, !kSigned},         {ARM64_INS_LDARH, kLoad, 1, half, !kSigned},
    {ARM64_INS_LDLARH, kLoad, 1, half, !kSigned},        {ARM64_INS_LDAPRH, kLoad, 1, half, !kSigned},
    {ARM64_INS_LDAPURH, kLoad, 1, half, !kSigned},       {ARM64_INS_LDRSH, kLoad, 1, half, kSigned},
    {ARM64_INS_LDURSH, kLoad, 1, half, kSigned},         {ARM64_INS_LDTRSH, kLoad, 1, half, kSigned},
    {ARM64_INS_LDAPURSH, kLoad, 1, half, kSigned},

    {ARM64_INS_LDRSW, kLoad, 1, word, kSigned},          {ARM64_INS_LDURSW, kLoad, 1, word, kSigned},
    {ARM64_INS_LDTRSW, kLoad, 1, word, kSigned},         {ARM64_INS_LDAPURSW, kLoad, 1, word, kSigned},

    {ARM64_INS_STR, kStore, 1, of_register, !kSigned},   {ARM64_INS_STUR, kStore, 1, of_register, !kSigned},
    {ARM64_INS_STTR, kStore, 1, of_register, !kSigned},  {ARM64_INS_STLR, kStore, 1, of_register, !kSigned},
    {ARM64_INS_STLLR, kStore, 1, of_register, !kSigned}, {ARM64_INS_STLUR, kStore, 1, of_register, !kSigned},

    {ARM64_INS_STRB, kStore, 1, byte, !kSigned},         {ARM64_INS_STURB, kStore, 1, byte, !kSigned},
    {ARM64_INS_STTRB, kStore, 1, byte, !kSigned},        {ARM64_INS_STLRB, kStore, 1, byte, !kSigned},
    {ARM64_INS_STLLRB, kStore, 1, byte, !kSigned},       {ARM64_INS_STLURB, kStore, 1, byte, !kSigned},

    {ARM64_INS_STRH, kStore, 1, half, !kSigned},         {ARM64_INS_STURH, kStore, 1, half, !kSigned},
    {ARM64_INS_STTRH, kStore, 1, half, !kSigned},        {ARM64_INS_STLRH, kStore, 1, half, !kSigned},
    {ARM64_INS_STLLRH, kStore, 1, half, !kSigned},       {ARM64_INS_STLURH, kStore, 1, half, !kSigned},

    {ARM64_INS_LDP, kLoad, 2, of_register, !kSigned},    {ARM64_INS_LDNP, kLoad, 2, of_register, !kSigned},
    {ARM64_INS_LDPSW, kLoad, 2, word, kSigned},          {ARM64_INS_STP, kStore, 2, of_register, !kSigned},
    {ARM64_INS_STNP, kStore, 2, of_register, !kSigned},
};

// How the names of exclusives, compare-and-swap, swap and atomic arithmetic begin.
constexpr std::string_view kAtomics[] = {"ldx",   "ldax", "stx",  "stlx",  "cas",   "swp",   "ldadd", "ldclr", "ldeor",
                                         "ldset", "ldsm", "ldum", "stadd", "stclr", "steor", "stset", "stsm",  "stum"};

[[nodiscard]] bool is_atomic(std::string_view mnemonic) {
  return std::ranges::any_of(kAtomics, [&](std::string_view prefix) { return mnemonic.starts_with(prefix); });
}

struct Register {
  unsigned number{};
  RegisterClass register_class{};
  unsigned bytes{};
};

// Not SP, which is a base only.
[[nodiscard]] std::optional<Register> named_register(arm64_reg reg) {
  constexpr auto kGeneral = RegisterClass::general, kVector = RegisterClass::vector;
  struct Bank {
    arm64_reg first, last;
    RegisterClass register_class;
    unsigned bytes;
  };
  constexpr Bank kBanks[] = {
      {ARM64_REG_W0, ARM64_REG_W30, kGeneral, 4}, {ARM64_REG_X0, ARM64_REG_X28, kGeneral, 8},
      {ARM64_REG_B0, ARM64_REG_B31, kVector, 1},  {ARM64_REG_H0, ARM64_REG_H31, kVector, 2},
      {ARM64_REG_S0, ARM64_REG_S31, kVector, 4},  {ARM64_REG_D0, ARM64_REG_D31, kVector, 8},
      {ARM64_REG_Q0, ARM64_REG_Q31, kVector, 16},
  };
  // Not in sequence with their banks.
  if (reg == ARM64_REG_X29) return Register{29, kGeneral, 8};
  if (reg == ARM64_REG_X30) return Register{30, kGeneral, 8};
  if (reg == ARM64_REG_XZR) return Register{31, kGeneral, 8};
  if (reg == ARM64_REG_WZR) return Register{31, kGeneral, 4};
  for (const Bank& bank : kBanks)
    if (reg >= bank.first && reg <= bank.last)
      return Register{static_cast<unsigned>(reg) - static_cast<unsigned>(bank.first), bank.register_class, bank.bytes};
  return std::nullopt;
}

[[nodiscard]] std::optional<unsigned> base_register(arm64_reg reg) {
  if (reg == ARM64_REG_SP) return 31;
  const auto named = named_register(reg);
  if (!named || named->register_class != RegisterClass::general || named->bytes != 8 || named->number == 31)
    return std::nullopt;
  return named->number;
}

[[nodiscard]] std::optional<IndexRegister> index_register(const cs_arm64_op& operand) {
  const auto named = named_register(operand.mem.index);
  if (!named || named->register_class != RegisterClass::general) return std::nullopt;
  IndexRegister index;
  index.reg = named->number;
  switch (operand.ext) {
    case ARM64_EXT_UXTW: index.extension = IndexExtension::zero_32; break;
    case ARM64_EXT_SXTW: index.extension = IndexExtension::sign_32; break;
    case ARM64_EXT_INVALID:  // LSL
    case ARM64_EXT_UXTX:
    case ARM64_EXT_SXTX: break;
    default: return std::nullopt;
  }
  if (operand.shift.type != ARM64_SFT_INVALID && operand.shift.type != ARM64_SFT_LSL) return std::nullopt;
  index.shift = operand.shift.type == ARM64_SFT_LSL ? operand.shift.value : 0;
  if (index.shift > 4) return std::nullopt;
  return index;
}

using Decoded = std::expected<DecodedAccess, DecodeError>;

// The registers that are transferred: the first operands.
[[nodiscard]] Decoded decode_registers(const Form& form, std::span<const cs_arm64_op> operands) {
  DecodedAccess access;
  access.store = form.store;
  access.sign_extend = form.sign_extend;
  access.count = form.registers;
  unsigned bytes = 0;
  for (unsigned i = 0; i < form.registers; ++i) {
    if (operands[i].type != ARM64_OP_REG) return std::unexpected{DecodeError::not_supported};
    const auto named = named_register(operands[i].reg);
    if (!named || (i != 0 && (named->register_class != access.register_class || named->bytes != bytes)))
      return std::unexpected{DecodeError::not_supported};  // SVE, SME
    access.register_class = named->register_class;
    access.regs[i] = named->number;
    bytes = named->bytes;
  }
  const bool general = access.register_class == RegisterClass::general;
  if (!general && form.size != of_register) return std::unexpected{DecodeError::not_supported};
  if (general) access.register_bits = bytes * 8;
  access.size = form.size == of_register ? bytes : static_cast<unsigned>(form.size);
  return access;
}

[[nodiscard]] bool is_unpredictable(const DecodedAccess& access) {
  const bool pair = access.count == 2;
  if (pair && !access.store && access.regs[0] == access.regs[1]) return true;
  if (!access.writeback || access.register_class != RegisterClass::general || access.base == 31) return false;
  return access.regs[0] == access.base || (pair && access.regs[1] == access.base);
}

[[nodiscard]] Decoded decode_operands(const Form& form, const cs_arm64& detail) {
  const std::span operands{detail.operands, std::min<std::size_t>(detail.op_count, std::size(detail.operands))};
  const bool post_index = detail.writeback && detail.post_index;
  if (operands.size() != form.registers + (post_index ? 2U : 1U)) return std::unexpected{DecodeError::not_supported};
  Decoded access = decode_registers(form, operands);
  if (!access) return access;

  const cs_arm64_op& memory = operands[form.registers];
  if (memory.type != ARM64_OP_MEM) return std::unexpected{DecodeError::not_supported};  // PC-relative
  const auto base = base_register(memory.mem.base);
  if (!base) return std::unexpected{DecodeError::not_supported};
  access->base = *base;
  access->offset = memory.mem.disp;
  if (memory.mem.index != ARM64_REG_INVALID) {
    access->index = index_register(memory);
    if (!access->index || memory.mem.disp != 0 || detail.writeback) return std::unexpected{DecodeError::not_supported};
  }
  if (post_index) {
    const cs_arm64_op& step = operands[form.registers + 1];
    if (step.type != ARM64_OP_IMM || memory.mem.disp != 0) return std::unexpected{DecodeError::not_supported};
    access->writeback = step.imm;
  } else if (detail.writeback) {
    access->writeback = memory.mem.disp;
  }
  if (is_unpredictable(*access)) return std::unexpected{DecodeError::unpredictable};
  return access;
}

[[nodiscard]] bool disassemble_into(cs_insn& to, csh handle, std::uint32_t instruction) {
  const auto* code = reinterpret_cast<const std::uint8_t*>(&instruction);
  std::size_t size = sizeof instruction;
  std::uint64_t pc = 0;
  to.id = ARM64_INS_INVALID;  // Capstone leaves it alone where it has no name for what it decodes
  return cs_disasm_iter(handle, &code, &size, &pc, &to);
}

}  // namespace

const char* to_string(DecodeError error) {
  switch (error) {
    case DecodeError::no_decoder: return "no instruction decoder";
    case DecodeError::undecodable: return "no A64 instruction";
    case DecodeError::not_supported: return "not supported on device registers";
    case DecodeError::exclusive_or_atomic: return "exclusive or atomic access to device registers";
    case DecodeError::unpredictable: return "unpredictable form";
    case DecodeError::mismatch: return "not the access that faulted";
  }
  return "?";
}

bool MmioDecoder::open() {
  const SpinLock::Guard guard{lock_};
  if (handle_ != 0) return true;
  csh handle = 0;
  if (cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &handle) != CS_ERR_OK) return false;
  // Capstone allocates an index at its first instruction, and does not look whether it got the memory: that happens
  // here, and only if there is more than it needs.
  constexpr std::size_t kIndexEntries = 0x1'0000;
  constexpr std::uint32_t kNop = 0xd503'201f;
  const bool room = make_array<std::uint16_t>(kIndexEntries) != nullptr;
  cs_insn* insn = nullptr;
  if (room && cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK) insn = cs_malloc(handle);
  if (insn == nullptr || !disassemble_into(*insn, handle, kNop)) {
    if (insn != nullptr) cs_free(insn, 1);
    cs_close(&handle);
    return false;
  }
  handle_ = handle;
  instruction_ = insn;
  return true;
}

void MmioDecoder::close() {
  const SpinLock::Guard guard{lock_};
  if (handle_ == 0) return;
  cs_free(static_cast<cs_insn*>(instruction_), 1);
  csh handle = handle_;
  cs_close(&handle);
  handle_ = 0;
  instruction_ = nullptr;
}

std::expected<DecodedAccess, DecodeError> MmioDecoder::decode(std::uint32_t instruction) {
  const SpinLock::Guard guard{lock_};
  if (handle_ == 0) return std::unexpected{DecodeError::no_decoder};
  auto& insn = *static_cast<cs_insn*>(instruction_);
  if (!disassemble_into(insn, handle_, instruction)) return std::unexpected{DecodeError::undecodable};
  const Form* const form = std::ranges::find(kForms, insn.id, &Form::id);
  if (form != std::end(kForms)) return decode_operands(*form, insn.detail->arm64);
  return std::unexpected{is_atomic(insn.mnemonic) ? DecodeError::exclusive_or_atomic : DecodeError::not_supported};
}

}  // namespace weir
