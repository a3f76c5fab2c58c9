#include "hyp/vm/vcpu_health.hpp"

namespace weir {
namespace {

constexpr std::uint64_t kVectorBytes = 0x800;  // of a table of exception vectors
constexpr std::uint64_t kSamePlace = 256;      // a loop that waits is short
constexpr std::uint64_t kManyExceptions = 64;  // in the moment between two samples

constexpr bool waits(std::uint32_t instruction) {
  constexpr std::uint32_t kWfe = 0xd503'205f, kWfi = 0xd503'207f;
  constexpr std::uint32_t kWithTimeout = 0xd503'1000, kRegister = 0x1f, kOf2 = 0x20;  // WFET, WFIT
  return instruction == kWfe || instruction == kWfi || (instruction & ~(kRegister | kOf2)) == kWithTimeout;
}

bool in_vectors(const VcpuSample& sample) { return sample.pc >= sample.vbar && sample.pc - sample.vbar < kVectorBytes; }

}  // namespace

const char* to_string(Health health) {
  switch (health) {
    case Health::off: return "off";
    case Health::idle: return "idle";
    case Health::running: return "running";
    case Health::hung: return "hung: it stays at one place with interrupts masked";
    case Health::crashed: return "crashed: it takes one exception after the other at its own vectors";
    case Health::no_answer: return "its pCPU does not answer";
  }
  return "?";
}

Health health(const std::optional<VcpuSample>& first, const std::optional<VcpuSample>& second) {
  if (!first || !second) return Health::no_answer;
  if (!second->on) return Health::off;
  if (second->unhandled - first->unhandled >= kManyExceptions && in_vectors(*second)) return Health::crashed;
  // An interrupt is taken behind the instruction that waited for it, or before it waits again.
  if (waits(second->before_pc) || waits(second->at_pc)) return Health::idle;
  if (!first->on || first->exits != second->exits) return Health::running;
  if (in_vectors(*first) && in_vectors(*second)) return Health::crashed;
  const std::uint64_t moved = first->pc < second->pc ? second->pc - first->pc : first->pc - second->pc;
  return first->irqs_masked && second->irqs_masked && moved < kSamePlace ? Health::hung : Health::running;
}

}  // namespace weir
