#include "hyp/panic/disassemble.hpp"

#include <capstone/capstone.h>

#include <cstdio>

#include "hyp/libc/malloc.hpp"
#include "hyp/log/log.hpp"
#include "stage2/support/make.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir {

namespace {

constinit SpinLock lock;
constinit csh handle = 0;
constinit cs_insn* instruction = nullptr;

bool decode(std::uint32_t insn, std::uint64_t pc) {
  const auto* code = reinterpret_cast<const std::uint8_t*>(&insn);
  std::size_t size = sizeof insn;
  return cs_disasm_iter(handle, &code, &size, &pc, instruction);
}

// Capstone allocates an index at its first instruction, and does not look whether it got the memory: that happens here,
// and only if there is more than it needs, so that a panic never allocates.
bool prepare() {
  constexpr std::size_t kIndexEntries = 0x1'0000;
  constexpr std::uint32_t kNop = 0xd503'201f;
  if (make_array<std::uint16_t>(kIndexEntries) == nullptr) return false;
  instruction = cs_malloc(handle);
  return instruction != nullptr && decode(kNop, 0);
}

bool disassemble_locked(std::uint32_t insn, std::uint64_t pc, std::span<char> text) {
  if (handle == 0 || !decode(insn, pc)) return false;
  std::snprintf(text.data(), text.size(), "%s %s", instruction->mnemonic, instruction->op_str);
  return true;
}

}  // namespace

void disassembler_init() {
  cs_opt_mem memory{::malloc, ::calloc, ::realloc, ::free, ::vsnprintf};
  cs_option(0, CS_OPT_MEM, reinterpret_cast<std::size_t>(&memory));
  if (cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &handle) != CS_ERR_OK) {
    handle = 0;
  } else if (!prepare()) {
    if (instruction != nullptr) cs_free(instruction, 1);
    instruction = nullptr;
    cs_close(&handle);
    handle = 0;
  }
  if (handle == 0) log("no memory for the disassembler: instructions will be shown as numbers");
}

void disassemble(std::uint32_t insn, std::uint64_t pc, std::span<char> text) {
  bool done = false;
  if (lock.try_lock()) {  // a panic may find it held, by its own pCPU even
    done = disassemble_locked(insn, pc, text);
    lock.unlock();
  }
  if (!done) std::snprintf(text.data(), text.size(), ".inst 0x%08x", insn);
}

}  // namespace weir
