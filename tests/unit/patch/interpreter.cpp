#include "tests/unit/patch/interpreter.hpp"

#include <cstdlib>
#include <cstring>

namespace weir::patch {
namespace {

constexpr std::uint64_t kN = 1U << 31, kZ = 1U << 30, kC = 1U << 29, kV = 1U << 28;

unsigned bytes_of(const std::string& mnemonic, bool wide) {
  if (mnemonic.ends_with('b')) return 1;
  if (mnemonic.ends_with('h')) return 2;
  return wide ? 8 : 4;
}

}  // namespace

Disassembler::Disassembler() {
  if (cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &handle_) != CS_ERR_OK) std::abort();
  cs_option(handle_, CS_OPT_DETAIL, CS_OPT_ON);
}
Disassembler::~Disassembler() { cs_close(&handle_); }

Disassembler::Instruction Disassembler::at(std::uint32_t word) const {
  std::uint8_t bytes[4];
  std::memcpy(bytes, &word, sizeof bytes);
  cs_insn* found = nullptr;
  if (cs_disasm(handle_, bytes, sizeof bytes, 0, 1, &found) != 1) return {};
  Instruction result{.mnemonic = found->mnemonic, .operands = found->op_str, .list = {}};
  const cs_arm64& detail = found->detail->arm64;
  result.list.assign(detail.operands, detail.operands + detail.op_count);
  cs_free(found, 1);
  return result;
}

std::string Disassembler::register_name(unsigned reg) const { return cs_reg_name(handle_, reg); }

Interpreter::Reg Interpreter::reg_of(unsigned id) const {
  const std::string name = disassembler_.register_name(id);
  if (name == "sp") return {.number = kSp, .wide = true, .sp = true};
  if (name == "xzr" || name == "wzr") return {.wide = name[0] == 'x', .zero = true};
  if (name == "fp" || name == "lr") return {.number = name == "fp" ? 29U : 30U, .wide = true};
  return {.number = static_cast<unsigned>(std::stoul(name.substr(1))), .wide = name[0] == 'x'};
}
Interpreter::Reg Interpreter::reg(const cs_arm64_op& op) const { return reg_of(op.reg); }

std::uint64_t Interpreter::get(Reg r) const {
  if (r.zero) return 0;
  return r.wide ? x[r.number] : x[r.number] & 0xffff'ffff;
}
void Interpreter::set(Reg r, std::uint64_t value) {
  if (!r.zero) x[r.number] = r.wide ? value : value & 0xffff'ffff;
}

std::uint64_t Interpreter::read(std::uint64_t address, unsigned bytes) const {
  std::uint64_t value = 0;
  std::memcpy(&value, &memory.at(address - kMemory), bytes);
  return value;
}
void Interpreter::write(std::uint64_t address, unsigned bytes, std::uint64_t value) {
  std::memcpy(&memory.at(address - kMemory), &value, bytes);
}

void Interpreter::compare(std::uint64_t a, std::uint64_t b, bool wide) {
  const unsigned top = wide ? 63 : 31;
  const std::uint64_t difference = wide ? a - b : (a - b) & 0xffff'ffff;
  const bool sign_a = a >> top & 1, sign_b = b >> top & 1, sign = difference >> top & 1;
  flags =
      (sign ? kN : 0) | (difference == 0 ? kZ : 0) | (a >= b ? kC : 0) | (sign_a != sign_b && sign != sign_a ? kV : 0);
}

bool Interpreter::condition(const std::string& name) const {
  const bool n = flags & kN, z = flags & kZ, c = flags & kC, v = flags & kV;
  if (name == "gt") return !z && n == v;
  if (name == "lt") return n != v;
  if (name == "hi") return c && !z;
  if (name == "lo") return !c;
  std::abort();
}

std::string Interpreter::arithmetic(const Disassembler::Instruction& i) {
  const std::string& m = i.mnemonic;
  const auto second = [&](std::size_t at) {
    const cs_arm64_op& op = i.list[at];
    return op.type == ARM64_OP_IMM ? static_cast<std::uint64_t>(op.imm) : get(reg(op));
  };
  const Reg rd = reg(i.list[0]);
  if (m == "add") {
    set(rd, get(reg(i.list[1])) + second(2));
  } else if (m == "bic") {
    set(rd, get(reg(i.list[1])) & ~second(2));
  } else if (m == "orr") {
    set(rd, get(reg(i.list[1])) | second(2));
  } else if (m == "eor") {
    set(rd, get(reg(i.list[1])) ^ second(2));
  } else if (m == "mov") {
    set(rd, second(1));
  } else if (m == "mvn") {
    set(rd, ~second(1));
  } else if (m == "uxtb" || m == "uxth") {
    set(rd, get(reg(i.list[1])) & (m == "uxtb" ? 0xff : 0xffff));
  } else if (m == "sxtb") {
    set(rd, static_cast<std::uint64_t>(static_cast<std::int8_t>(get(reg(i.list[1])))));
  } else if (m == "sxth") {
    set(rd, static_cast<std::uint64_t>(static_cast<std::int16_t>(get(reg(i.list[1])))));
  } else if (m == "cmp") {
    compare(get(rd), second(1), rd.wide);
  } else if (m == "csel") {
    const std::string name = i.operands.substr(i.operands.size() - 2);
    set(rd, condition(name) ? get(reg(i.list[1])) : get(reg(i.list[2])));
  } else if (m == "mrs" && i.operands.ends_with("nzcv")) {
    set(rd, flags);
  } else {
    return "unknown instruction " + m + " " + i.operands;
  }
  return {};
}

// ld[a]xr, st[l]xr, ld[a]xp, st[l]xp.
std::string Interpreter::exclusive(const Disassembler::Instruction& i) {
  const std::string& m = i.mnemonic;
  const bool store = m[0] == 's';
  const bool pair = m.ends_with('p');
  const std::size_t first = store ? 1 : 0;
  const Reg rt = reg(i.list[first]);
  const unsigned bytes = bytes_of(m, rt.wide);
  const std::uint64_t address = get(reg_of(i.list.back().mem.base));
  if (address % (bytes * (pair ? 2 : 1)) != 0) return "not aligned: " + m;
  if (!store) {
    exclusive_ = true;
    loaded = {read(address, bytes), pair ? read(address + bytes, bytes) : 0};
    set(rt, loaded[0]);
    if (pair) set(reg(i.list[first + 1]), loaded[1]);
    return {};
  }
  const Reg status = reg(i.list[0]);
  const Reg rt2 = pair ? reg(i.list[first + 1]) : Reg{.zero = true};
  const auto same = [&](Reg r) { return !r.zero && !r.sp && r.number == status.number; };
  if (same(rt) || (pair && same(rt2)) || same(reg_of(i.list.back().mem.base))) return "unpredictable: " + i.operands;
  if (!exclusive_) return "a store exclusive without a load";
  exclusive_ = false;
  if (lose(*this)) {
    set(status, 1);
    return {};
  }
  write(address, bytes, get(rt));
  if (pair) write(address + bytes, bytes, get(rt2));
  set(status, 0);
  return {};
}

std::string Interpreter::stack(const Disassembler::Instruction& i) {
  if (exclusive_) return "the stack is used between the exclusives";
  const Reg a = reg(i.list[0]), b = reg(i.list[1]);
  if (i.mnemonic == "stp") {
    if (i.operands.find("[sp, #-0x10]!") == std::string::npos) return "not a push: " + i.operands;
    x[kSp] -= 16;
    write(x[kSp], 8, get(a));
    write(x[kSp] + 8, 8, get(b));
  } else {
    if (i.operands.find("[sp], #0x10") == std::string::npos) return "not a pop: " + i.operands;
    set(a, read(x[kSp], 8));
    set(b, read(x[kSp] + 8, 8));
    x[kSp] += 16;
  }
  return {};
}

std::string Interpreter::step(const Disassembler::Instruction& i, std::size_t& pc) {
  const std::string& m = i.mnemonic;
  const auto jump = [&](std::int64_t bytes) { pc = pc + static_cast<std::size_t>(bytes / 4) - 1; };
  if (m == "b") {
    jump(i.list[0].imm);
  } else if (m == "cbnz") {
    exclusive_ = exclusive_ && get(reg(i.list[0])) == 0;  // a comparison that failed leaves the loop
    if (get(reg(i.list[0])) != 0) jump(i.list[1].imm);
  } else if (m.starts_with("ldx") || m.starts_with("ldax") || m.starts_with("stx") || m.starts_with("stlx")) {
    if (m == "stxp" || m == "stlxp") exclusive_ = true;  // what differs is written back, from behind the comparison
    return exclusive(i);
  } else if (m == "stp" || m == "ldp") {
    return stack(i);
  } else if (m == "msr") {
    flags = get(reg(i.list[1]));
  } else if (m != "dmb" && m != "nop") {
    return arithmetic(i);
  }
  return {};
}

std::string Interpreter::run(std::span<const std::uint32_t> program, std::size_t pc, std::size_t end) {
  for (unsigned steps = 0; pc != end; ++steps) {
    if (steps > 1000) return "does not end";
    if (pc >= program.size()) return "left the program";
    const auto instruction = disassembler_.at(program[pc]);
    if (instruction.mnemonic.empty()) return "no instruction at word " + std::to_string(pc);
    trace.push_back(instruction.mnemonic == "dmb" ? "dmb " + instruction.operands : instruction.mnemonic);
    ++pc;
    if (auto wrong = step(instruction, pc); !wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace weir::patch
