#include "hyp/patch/stub.hpp"

#include "hyp/patch/a64.hpp"

namespace weir::patch {
namespace {

using a64::Register;

// Registers that an instruction does not name, the lowest first.
class Scratch {
 public:
  constexpr explicit Scratch(std::uint32_t named) : taken_{named} {}
  constexpr Register take() {
    Register r = 0;
    while ((taken_ >> r & 1) != 0) ++r;
    taken_ |= 1U << r;
    return r;
  }

 private:
  std::uint32_t taken_;
};

constexpr std::uint32_t kPushedBytes = 16;  // a pair of registers

std::uint32_t named_by(const Atomic& a) {
  std::uint32_t named = 1U << a.rs | 1U << a.rt | 1U << a.rn;
  if (a.kind == AtomicKind::compare_pair) named |= 2U << a.rs | 2U << a.rt;
  return named;
}

// The registers of a stub. They are saved in pairs, so each form says how many pairs it needs.
struct Registers {
  Register address{}, old{}, fresh{}, status{}, flags{}, old2{};
};

bool is_minmax(AtomicKind kind) { return kind >= AtomicKind::smax && kind <= AtomicKind::umin; }
bool is_small(AtomicSize size) { return size == AtomicSize::byte || size == AtomicSize::half; }

// fresh = the smaller or larger of old and rs. Uses status and the flags.
void put_minmax(Code& code, const Atomic& a, const Registers& r) {
  const bool is_signed = a.kind == AtomicKind::smax || a.kind == AtomicKind::smin;
  Register left = r.old, right = a.rs;
  if (is_small(a.size)) {
    if (is_signed) {
      code.put(a64::extend(a.size, true, r.fresh, r.old));
      left = r.fresh;
    }
    code.put(a64::extend(a.size, is_signed, r.status, a.rs));
    right = r.status;
  }
  const auto condition = a.kind == AtomicKind::smax   ? a64::Condition::greater
                         : a.kind == AtomicKind::smin ? a64::Condition::less
                         : a.kind == AtomicKind::umax ? a64::Condition::higher
                                                      : a64::Condition::lower;
  code.put(a64::compare(a.size, left, right));
  code.put(a64::select(a.size, r.fresh, left, right, condition));
}

// What is stored: a register.
Register put_new_value(Code& code, const Atomic& a, const Registers& r) {
  const auto operation = [&](a64::Op op) { code.put(a64::operation(op, a.size, r.fresh, r.old, a.rs)); };
  switch (a.kind) {
    case AtomicKind::add: operation(a64::Op::add); break;
    case AtomicKind::clr: operation(a64::Op::bic); break;
    case AtomicKind::eor: operation(a64::Op::eor); break;
    case AtomicKind::set: operation(a64::Op::orr); break;
    case AtomicKind::swap: return a.rs;
    default: put_minmax(code, a, r);
  }
  return r.fresh;
}

std::int32_t back_to(const Code& code, std::size_t loop) {
  return static_cast<std::int32_t>(loop) - static_cast<std::int32_t>(code.size());
}
// A branch that is taken if `rt` is not zero, to where resolve() says.
std::size_t put_forward(Code& code) {
  code.put(0);
  return code.size() - 1;
}
void resolve(Code& code, std::size_t branch, AtomicSize size, Register rt) {
  code.set(branch, a64::branch_if_not_zero(size, rt, static_cast<std::int32_t>(code.size() - branch)));
}

void put_operation(Code& code, const Atomic& a, const Registers& r) {
  const std::size_t loop = code.size();
  code.put(a64::load_exclusive(a.size, a.acquire, r.old, r.address));
  const Register value = put_new_value(code, a, r);
  code.put(a64::store_exclusive(a.size, a.release, r.status, value, r.address));
  code.put(a64::branch_if_not_zero(AtomicSize::word, r.status, back_to(code, loop)));
  if (a.acquire && a.release) code.put(a64::kDmbIsh);
  code.put(a64::move(a.size, a.rt, r.old));
}

void put_compare(Code& code, const Atomic& a, const Registers& r) {
  const std::size_t loop = code.size();
  code.put(a64::load_exclusive(a.size, a.acquire, r.old, r.address));
  code.put(a64::operation(a64::Op::eor, a.size, r.status, r.old, a.rs));
  if (is_small(a.size)) code.put(a64::extend(a.size, false, r.status, r.status));
  const std::size_t differs = put_forward(code);
  code.put(a64::store_exclusive(a.size, a.release, r.status, a.rt, r.address));
  code.put(a64::branch_if_not_zero(AtomicSize::word, r.status, back_to(code, loop)));
  if (a.acquire && a.release) code.put(a64::kDmbIsh);
  resolve(code, differs, a.size, r.status);
  code.put(a64::move(a.size, a.rs, r.old));
}

// What LDXP read is one value only if the STXP behind it succeeds, so what differs is written back.
void put_compare_pair(Code& code, const Atomic& a, const Registers& r) {
  const auto second = [](Register first) { return static_cast<Register>(first + 1); };
  // Rs and Rt are even: the second of X30's pair is XZR, as in CASP.
  const std::size_t loop = code.size();
  code.put(a64::load_exclusive_pair(a.size, a.acquire, r.old, r.old2, r.address));
  code.put(a64::operation(a64::Op::eor, a.size, r.status, r.old, a.rs));
  code.put(a64::operation(a64::Op::eor, a.size, r.fresh, r.old2, second(a.rs)));
  code.put(a64::operation(a64::Op::orr, a.size, r.status, r.status, r.fresh));
  const std::size_t differs = put_forward(code);
  code.put(a64::store_exclusive_pair(a.size, a.release, r.status, a.rt, second(a.rt), r.address));
  code.put(a64::branch_if_not_zero(AtomicSize::word, r.status, back_to(code, loop)));
  code.put(a64::branch(3));  // past what writes back
  resolve(code, differs, a.size, r.status);
  code.put(a64::store_exclusive_pair(a.size, a.release, r.status, r.old, r.old2, r.address));
  code.put(a64::branch_if_not_zero(AtomicSize::word, r.status, back_to(code, loop)));
  if (a.acquire && a.release) code.put(a64::kDmbIsh);
  code.put(a64::move(a.size, a.rs, r.old));
  code.put(a64::move(a.size, second(a.rs), r.old2));
}

}  // namespace

void put_exclusive_loop(Code& code, const Atomic& a) {
  const bool pair = a.kind == AtomicKind::compare_pair;
  const bool at_sp = a.rn == a64::kSp;
  Scratch scratch{named_by(a)};
  const unsigned pairs = (pair || is_minmax(a.kind) ? 2U : a.kind >= AtomicKind::swap ? 1U : 2U) + (at_sp ? 1U : 0U);
  Register saved[6] = {};
  for (unsigned i = 0; i < 2 * pairs; ++i) saved[i] = scratch.take();
  Registers r{
      .address = a.rn, .old = saved[0], .fresh = saved[2], .status = saved[1], .flags = saved[3], .old2 = saved[3]};
  for (unsigned i = 0; i < pairs; ++i) code.put(a64::push(saved[2 * i], saved[2 * i + 1]));
  if (at_sp) {
    r.address = saved[2 * pairs - 1];
    code.put(a64::add_to_sp(r.address, pairs * kPushedBytes));
  }
  if (is_minmax(a.kind)) code.put(a64::read_flags(r.flags));
  if (pair) {
    put_compare_pair(code, a, r);
  } else if (a.kind == AtomicKind::compare) {
    put_compare(code, a, r);
  } else {
    put_operation(code, a, r);
  }
  if (is_minmax(a.kind)) code.put(a64::write_flags(r.flags));
  for (unsigned i = pairs; i-- > 0;) code.put(a64::pop(saved[2 * i], saved[2 * i + 1]));
}

void put_fenced_read(Code& code, std::uint32_t read_par) {
  code.put(a64::kDmbSy);
  code.put(read_par);
  code.put(a64::kDmbSy);
}

}  // namespace weir::patch
