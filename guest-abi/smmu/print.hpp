// One line of text for each SMMUv3 format, for logs and the monitor: "CMD_TLBI_NH_VA VMID=3 ASID=1 Leaf=1
// Address=0x1000".
//
// Fields that are 0 are left out, but for bits [63:32] of commands and events (whom they are about). Numbers below 10
// are decimal, others hexadecimal. Reserved bits that are set are shown as RES0[word]=mask.
#pragma once

#include <cstdint>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/text.hpp"

namespace weir::smmu {

void print(TextBuffer& out, const Command& command);  // an opcode without a format: "CMD_0x99 [0]=... [1]=..."
void print(TextBuffer& out, const Event& event);
void print(TextBuffer& out, const Ste& ste);
void print(TextBuffer& out, const L1Std& descriptor);
void print(TextBuffer& out, const Cd& cd);
void print(TextBuffer& out, const L1Cd& descriptor);
void print(TextBuffer& out, const PriEntry& entry);
void print(TextBuffer& out, Reg reg, std::uint64_t value);  // a register without fields: "AGBPA=0x0"

}  // namespace weir::smmu
