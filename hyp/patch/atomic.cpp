#include "hyp/patch/atomic.hpp"

namespace weir::patch {
namespace {

using Op = AtomicMemoryOperation;
using Cas = CompareAndSwap;

constexpr std::uint8_t kOpFixed29 = 0b111000, kCasFixed29 = 0b001000, kCasRt2 = 0b11111;
constexpr std::uint8_t kPairSizes = 2;  // CASP has word and dword only, encoded as 0 and 1

std::optional<Atomic> decode_operation(std::uint32_t instruction) {
  Op op;
  op.words[0] = instruction;
  if (op.get<Op::Fixed29>() != kOpFixed29 || !op.get<Op::Fixed21>() || op.get<Op::Fixed11>() != 0) return std::nullopt;
  // o3 = 1 has SWP, and others (LDAPR, LD64B...) that do not belong to FEAT_LSE.
  if (op.get<Op::O3>() && op.get<Op::Opc>() != 0) return std::nullopt;
  return Atomic{.kind = op.get<Op::O3>() ? AtomicKind::swap : static_cast<AtomicKind>(op.get<Op::Opc>()),
                .size = op.get<Op::Size>(),
                .acquire = op.get<Op::A>(),
                .release = op.get<Op::R>(),
                .rs = op.get<Op::Rs>(),
                .rt = op.get<Op::Rt>(),
                .rn = op.get<Op::Rn>()};
}

std::optional<Atomic> decode_compare(std::uint32_t instruction) {
  Cas cas;
  cas.words[0] = instruction;
  if (cas.get<Cas::Fixed29>() != kCasFixed29 || !cas.get<Cas::Fixed21>() || cas.get<Cas::Rt2>() != kCasRt2)
    return std::nullopt;
  Atomic found{.kind = AtomicKind::compare,
               .size = cas.get<Cas::Size>(),
               .acquire = cas.get<Cas::L>(),
               .release = cas.get<Cas::O0>(),
               .rs = cas.get<Cas::Rs>(),
               .rt = cas.get<Cas::Rt>(),
               .rn = cas.get<Cas::Rn>()};
  if (cas.get<Cas::Single>()) return found;
  const auto size = static_cast<std::uint8_t>(cas.get<Cas::Size>());
  if (size >= kPairSizes) return std::nullopt;              // LDXP, STXP
  if ((found.rs | found.rt) % 2 != 0) return std::nullopt;  // pairs begin with an even register
  found.kind = AtomicKind::compare_pair;
  found.size = static_cast<AtomicSize>(size + kPairSizes);
  return found;
}

}  // namespace

std::optional<Atomic> decode_atomic(std::uint32_t instruction) {
  const auto found = decode_operation(instruction);
  return found ? found : decode_compare(instruction);
}

std::uint32_t encode_atomic(const Atomic& a) {
  if (a.kind == AtomicKind::compare || a.kind == AtomicKind::compare_pair) {
    const bool pair = a.kind == AtomicKind::compare_pair;
    const auto size = pair ? static_cast<AtomicSize>(static_cast<std::uint8_t>(a.size) - kPairSizes) : a.size;
    return static_cast<std::uint32_t>(Cas{}
                                          .set<Cas::Fixed29>(kCasFixed29)
                                          .set<Cas::Size>(size)
                                          .set<Cas::Single>(!pair)
                                          .set<Cas::L>(a.acquire)
                                          .set<Cas::Fixed21>(true)
                                          .set<Cas::Rs>(a.rs)
                                          .set<Cas::O0>(a.release)
                                          .set<Cas::Rt2>(kCasRt2)
                                          .set<Cas::Rn>(a.rn)
                                          .set<Cas::Rt>(a.rt)
                                          .words[0]);
  }
  const bool swap = a.kind == AtomicKind::swap;
  return static_cast<std::uint32_t>(Op{}.set<Op::Fixed29>(kOpFixed29)
                                        .set<Op::Size>(a.size)
                                        .set<Op::A>(a.acquire)
                                        .set<Op::R>(a.release)
                                        .set<Op::Fixed21>(true)
                                        .set<Op::Rs>(a.rs)
                                        .set<Op::O3>(swap)
                                        .set<Op::Opc>(swap ? std::uint8_t{0} : static_cast<std::uint8_t>(a.kind))
                                        .set<Op::Rn>(a.rn)
                                        .set<Op::Rt>(a.rt)
                                        .words[0]);
}

}  // namespace weir::patch
