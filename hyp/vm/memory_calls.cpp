#include "hyp/vm/memory_calls.hpp"

#include <bit>
#include <span>

#include "guest-abi/hypercall.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/mem/pages.hpp"
#include "hyp/vm/vm.hpp"

namespace weir {
namespace {

using hypercall::Call;
using hypercall::Result;
using stage2::MemoryOutcome;
using stage2::VmMemory;

class Pool final : public stage2::PagePool {
 public:
  std::optional<PA> allocate(std::uint64_t bytes) override {
    const auto at = allocate_pages(bytes, bytes);  // zeroed, and so on
    if (!at) return std::nullopt;
    return *at;
  }
  void scrub(PA at, std::uint64_t bytes) override {
    zero_pages(direct(at), bytes);
    clean_and_invalidate_to_poc(direct(at), bytes);
    invalidate_instructions();
  }
  void free(PA at, std::uint64_t bytes) override { free_pages(at, bytes); }
};
constinit Pool pool;
constinit stage2::GrantTable grants;

template <typename Record>
Record record(std::uint64_t value) {
  Record r;
  r.words[0] = static_cast<typename Record::Word>(value);
  return r;
}
template <typename Record>
bool reserved_bits(const Record& r) {
  return (r.words[0] & Record::Layout::res0[0]) != 0;
}

// X0..X2 after a call.
struct Answer {
  Result result = Result::success;
  std::array<std::uint64_t, 2> x{};
};
Answer answer(const MemoryOutcome& outcome) { return {outcome.result, {outcome.done, outcome.extra}}; }

Answer features(const VmMemory& memory) {
  using hypercall::Features;
  using hypercall::PageLimits;
  const VmMemory::Config& config = memory.config();
  if (!config.calls) return {};
  const auto has = Features{}.set<Features::Memory>(true).set<Features::Grants>(true).set<Features::DirtyLog>(
      memory.log().possible());
  const auto limits = PageLimits{}
                          .set<PageLimits::PerCall>(VmMemory::kPagesPerCall)
                          .set<PageLimits::Grants>(stage2::GrantTable::kPerVm)
                          .set<PageLimits::Accepted>(stage2::GrantTable::kAccepted);
  return {Result::success, {has.words[0], limits.words[0]}};
}

Answer loan_window(const VmMemory& memory) {
  const VmMemory::Config& config = memory.config();
  if (!config.calls) return {};
  return {Result::success, {config.loans.value, config.loan_bytes}};
}

Answer vm_id(const VmMemory& memory, std::uint64_t n) {
  if (n == 0) return {Result::success, {memory.config().id}};
  std::uint64_t peers = memory.config().share_with;
  for (; n > 1 && peers != 0; --n) peers &= peers - 1;
  if (peers == 0) return {Result::invalid, {}};
  return {Result::success, {static_cast<std::uint64_t>(std::countr_zero(peers))}};
}

Answer offer(VmMemory& memory, const std::uint64_t* x, bool loan) {
  using hypercall::GrantOptions;
  const auto options = record<GrantOptions>(x[4]);
  if (reserved_bits(options)) return {Result::invalid, {}};
  return answer(memory.offer(
      {.ipa = IPA{x[1]}, .pages = x[2], .peer = x[3], .write = options.get<GrantOptions::Write>(), .loan = loan},
      x[5]));
}

Answer dirty_read(Vm& vm, const std::uint64_t* x) {
  using hypercall::DirtyOptions;
  const auto options = record<DirtyOptions>(x[4]);
  if (reserved_bits(options) || x[3] % sizeof(std::uint64_t) != 0) return {Result::invalid, {}};
  struct Bitmap final : VmMemory::DirtyBits {
    Bitmap(GuestMemory& in, IPA where) : memory{in}, at{where} {}
    bool take(std::span<const std::uint64_t> dirty) override { return memory.write(at, std::as_bytes(dirty)); }
    GuestMemory& memory;
    IPA at;
  } bitmap{vm.memory(), IPA{x[3]}};
  return answer(vm.memory_moves().dirty_read(IPA{x[1]}, x[2], options.get<DirtyOptions::SeenOnly>(), bitmap));
}

Answer call(Vm& vm, Call function, const std::uint64_t* x) {
  VmMemory& memory = vm.memory_moves();
  switch (function) {
    case Call::features: return features(memory);
    case Call::vm_id: return vm_id(memory, x[1]);
    case Call::loan_window: return loan_window(memory);
    case Call::relinquish: return answer(memory.relinquish(IPA{x[1]}, x[2]));
    case Call::reclaim: return answer(memory.reclaim(IPA{x[1]}, x[2]));
    case Call::share: return offer(memory, x, false);
    case Call::lend: return offer(memory, x, true);
    case Call::accept: return answer(memory.accept(x[1], IPA{x[2]}, x[3]));
    case Call::release: return answer(memory.release(x[1]));
    case Call::take_back: return answer(memory.take_back(x[1]));
    case Call::dirty_start: return answer(memory.dirty_start());
    case Call::dirty_read: return dirty_read(vm, x);
    case Call::dirty_stop: return answer(memory.dirty_stop());
    default: return {Result::not_supported, {}};
  }
}

}  // namespace

bool handle_hypercall(Vcpu& vcpu) {
  auto& x = vcpu.registers.x;
  auto id = record<hypercall::FunctionId>(static_cast<std::uint32_t>(x[0]));
  id.set<hypercall::FunctionId::SveHint>(false);
  if (id.get<hypercall::FunctionId::Owner>() != hypercall::Owner::vendor_hypervisor) return false;
  if (id.words[0] == hypercall::kCallUid) {
    for (std::size_t i = 0; i < hypercall::kUid.size(); ++i) x[i] = hypercall::kUid[i];
    return true;
  }
  if (id.words[0] == hypercall::kRevision) {
    x[0] = hypercall::kMajor;
    x[1] = hypercall::kMinor;
    return true;
  }
  const Answer got = call(vcpu.vm(), static_cast<Call>(id.words[0]), x);
  x[0] = static_cast<std::uint64_t>(got.result);
  if (got.result == Result::not_supported) return true;
  const unsigned used = hypercall::results(static_cast<Call>(id.words[0]));
  for (std::size_t i = 0; i < used && i < got.x.size(); ++i) x[i + 1] = got.x[i];
  return true;
}

stage2::PagePool& guest_pages() { return pool; }
stage2::GrantTable& grant_table() { return grants; }

}  // namespace weir
