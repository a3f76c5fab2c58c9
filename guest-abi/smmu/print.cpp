#include "guest-abi/smmu/print.hpp"

#include <cstddef>
#include <string_view>

#include "guest-abi/print.hpp"

namespace weir::smmu {
namespace {

// Commands and events: the opcode or number is the line's name, bits [63:32] say whom it is about.
template <typename T>
void print_entry(TextBuffer& out, const T& entry) {
  print_fields(out.put(T::name), entry, {.skip = {0xff}, .always = {0xffffffff00000000}});
}

template <typename T>
void print_unknown(TextBuffer& out, std::string_view prefix, const T& entry) {
  out.put(prefix).hex(entry.words[0] & 0xff, 2);
  for (std::size_t i = 0; i < entry.words.size(); ++i) out.put(" [").dec(i).put("]=").hex(entry.words[i]);
}

template <typename R>
void print_reg(TextBuffer& out, std::string_view name, std::uint64_t value) {
  R r;
  r.words[0] = static_cast<typename R::Word>(value);
  print_fields(out.put(name).put('=').hex(value), r);
}

}  // namespace

void print(TextBuffer& out, const Command& command) {
  if (!AllCommands::visit(command, [&](const auto& typed) { print_entry(out, typed); })) {
    print_unknown(out, "CMD_", command);
  }
}

void print(TextBuffer& out, const Event& event) {
  if (!AllEvents::visit(event, [&](const auto& typed) { print_entry(out, typed); })) {
    print_unknown(out, "EVENT_", event);
  }
}

void print(TextBuffer& out, const Ste& ste) { print_fields(out.put("STE"), ste); }
void print(TextBuffer& out, const L1Std& descriptor) { print_fields(out.put("L1STD"), descriptor); }
void print(TextBuffer& out, const Cd& cd) { print_fields(out.put("CD"), cd); }
void print(TextBuffer& out, const L1Cd& descriptor) { print_fields(out.put("L1CD"), descriptor); }
void print(TextBuffer& out, const PriEntry& entry) { print_fields(out.put("PRI"), entry); }

void print(TextBuffer& out, Reg reg, std::uint64_t value) {
  const RegInfo* info = find_reg(static_cast<std::uint32_t>(reg));
  if (info == nullptr) {
    out.put("REG[").hex(static_cast<std::uint32_t>(reg)).put("]=").hex(value);
    return;
  }
  switch (reg) {
    case Reg::IDR0: return print_reg<IDR0>(out, info->name, value);
    case Reg::IDR1: return print_reg<IDR1>(out, info->name, value);
    case Reg::IDR2: return print_reg<IDR2>(out, info->name, value);
    case Reg::IDR3: return print_reg<IDR3>(out, info->name, value);
    case Reg::IDR5: return print_reg<IDR5>(out, info->name, value);
    case Reg::IDR6: return print_reg<IDR6>(out, info->name, value);
    case Reg::IIDR: return print_reg<IIDR>(out, info->name, value);
    case Reg::AIDR: return print_reg<AIDR>(out, info->name, value);
    case Reg::CR0:
    case Reg::CR0ACK: return print_reg<CR0>(out, info->name, value);
    case Reg::CR1: return print_reg<CR1>(out, info->name, value);
    case Reg::CR2: return print_reg<CR2>(out, info->name, value);
    case Reg::STATUSR: return print_reg<STATUSR>(out, info->name, value);
    case Reg::GBPA: return print_reg<GBPA>(out, info->name, value);
    case Reg::IRQ_CTRL:
    case Reg::IRQ_CTRLACK: return print_reg<IRQ_CTRL>(out, info->name, value);
    case Reg::GERROR:
    case Reg::GERRORN: return print_reg<GERROR>(out, info->name, value);
    case Reg::GERROR_IRQ_CFG0:
    case Reg::EVENTQ_IRQ_CFG0:
    case Reg::PRIQ_IRQ_CFG0: return print_reg<IRQ_CFG0>(out, info->name, value);
    case Reg::GERROR_IRQ_CFG2:
    case Reg::EVENTQ_IRQ_CFG2: return print_reg<IRQ_CFG2>(out, info->name, value);
    case Reg::PRIQ_IRQ_CFG2: return print_reg<PRIQ_IRQ_CFG2>(out, info->name, value);
    case Reg::STRTAB_BASE: return print_reg<STRTAB_BASE>(out, info->name, value);
    case Reg::STRTAB_BASE_CFG: return print_reg<STRTAB_BASE_CFG>(out, info->name, value);
    case Reg::CMDQ_BASE: return print_reg<CMDQ_BASE>(out, info->name, value);
    case Reg::CMDQ_PROD: return print_reg<CMDQ_PROD>(out, info->name, value);
    case Reg::CMDQ_CONS: return print_reg<CMDQ_CONS>(out, info->name, value);
    case Reg::EVENTQ_BASE:
    case Reg::PRIQ_BASE: return print_reg<EVENTQ_BASE>(out, info->name, value);
    case Reg::EVENTQ_PROD:
    case Reg::PRIQ_PROD: return print_reg<EVENTQ_PROD>(out, info->name, value);
    case Reg::EVENTQ_CONS:
    case Reg::PRIQ_CONS: return print_reg<EVENTQ_CONS>(out, info->name, value);
    default: out.put(info->name).put('=').hex(value); return;
  }
}

}  // namespace weir::smmu
