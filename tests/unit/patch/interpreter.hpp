// Executes the few A64 instructions of stubs, as Capstone decodes them: independent of the encoder under test.
#pragma once

#include <capstone/capstone.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace weir::patch {

class Disassembler {
 public:
  Disassembler();
  ~Disassembler();
  Disassembler(const Disassembler&) = delete;
  Disassembler& operator=(const Disassembler&) = delete;

  struct Instruction {
    std::string mnemonic;  // empty: none that Capstone knows
    std::string operands;
    std::vector<cs_arm64_op> list;
  };
  [[nodiscard]] Instruction at(std::uint32_t word) const;
  [[nodiscard]] std::string register_name(unsigned reg) const;

 private:
  csh handle_{};
};

class Interpreter {
 public:
  static constexpr std::uint64_t kMemory = 0x4000'0000, kMemoryBytes = 4096;
  static constexpr unsigned kSp = 31;

  std::array<std::uint64_t, 32> x{};  // [31]: SP
  std::uint64_t flags = 0;            // NZCV, in bits [31:28]
  std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(kMemoryBytes);
  std::vector<std::string> trace;  // mnemonics, in order
  // Called before each store exclusive; true: it fails, and another CPU has had its way.
  std::function<bool(Interpreter&)> lose = [](Interpreter&) { return false; };
  std::array<std::uint64_t, 2> loaded{};  // by the last load exclusive

  // Runs from word `pc` of `program` until `end` is reached. Returns what went wrong, or nothing.
  [[nodiscard]] std::string run(std::span<const std::uint32_t> program, std::size_t pc, std::size_t end);

  [[nodiscard]] std::uint64_t read(std::uint64_t address, unsigned bytes) const;
  void write(std::uint64_t address, unsigned bytes, std::uint64_t value);

 private:
  struct Reg {
    unsigned number{};  // 0 to 30
    bool wide{};
    bool zero{};
    bool sp{};
  };
  [[nodiscard]] Reg reg(const cs_arm64_op& op) const;
  [[nodiscard]] Reg reg_of(unsigned id) const;
  [[nodiscard]] std::uint64_t get(Reg r) const;
  void set(Reg r, std::uint64_t value);
  [[nodiscard]] std::string step(const Disassembler::Instruction& i, std::size_t& pc);
  [[nodiscard]] std::string arithmetic(const Disassembler::Instruction& i);
  [[nodiscard]] std::string exclusive(const Disassembler::Instruction& i);
  [[nodiscard]] std::string stack(const Disassembler::Instruction& i);
  [[nodiscard]] bool condition(const std::string& name) const;
  void compare(std::uint64_t a, std::uint64_t b, bool wide);

  Disassembler disassembler_;
  bool exclusive_ = false;  // between a load and a store exclusive
};

}  // namespace weir::patch
