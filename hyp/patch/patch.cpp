#include "hyp/patch/patch.hpp"

#include "guest-abi/field.hpp"
#include "hyp/cpu/errata.hpp"
#include "hyp/patch/a64.hpp"
#include "hyp/patch/atomic.hpp"
#include "hyp/patch/stub.hpp"

namespace weir::patch {
namespace {

struct IdAa64Isar0 : Record<IdAa64Isar0, 64> {
  using Atomic = Field<"Atomic", 23, 20, std::uint8_t>;
  using Layout = weir::Layout<64, Ignored<19, 0>, Atomic, Ignored<63, 24>>;
};
constexpr std::uint8_t kLse = 2;

bool lacks_atomics(std::uint64_t isar0) { return IdAa64Isar0::Atomic::decode(isar0) < kLse; }

// Writes a stub and the branch to it. Returns the words that the stub takes.
std::expected<std::size_t, Error> redirect(volatile std::uint32_t* site, volatile std::uint32_t* stub, std::size_t room,
                                           const Code& code) {
  const std::size_t length = code.words().size() + 1;
  if (code.overflown() || length > room) return std::unexpected{Error::no_room};
  const std::int64_t there = stub - site;
  const std::int64_t back = -(there + static_cast<std::int64_t>(length - 1)) + 1;
  if (there >= a64::kBranchWords || there < -a64::kBranchWords || back >= a64::kBranchWords ||
      back < -a64::kBranchWords)
    return std::unexpected{Error::out_of_reach};
  for (const std::uint32_t word : code.words()) *stub++ = word;
  *stub = a64::branch(back);
  *site = a64::branch(there);
  return length;
}

}  // namespace

Needs needs_of_pcpu(std::uint64_t isar0, std::uint64_t midr) {
  return {.atomics = lacks_atomics(isar0), .par_read = errata_of(Midr::of(midr)).has(Erratum::par_read)};
}

Needs needs_of_image(std::uint64_t isar0, std::uint64_t midr) {
  Needs needs = needs_of_pcpu(isar0, midr);
  needs.par_read = needs.par_read || may_stand_beside_par_read(Midr::of(midr));
  return needs;
}

std::expected<Done, Error> apply(const Image& image, std::span<const std::uint32_t> sites, const Needs& needs) {
  Done done;
  if (!needs.any()) return done;
  for (const std::uint32_t offset : sites) {
    if (offset % sizeof(std::uint32_t) != 0 || offset / sizeof(std::uint32_t) >= image.text_words)
      return std::unexpected{Error::bad_site};
    volatile std::uint32_t* const site = image.start + offset / sizeof(std::uint32_t);
    const std::uint32_t instruction = *site;
    Code code;
    if (const auto atomic = decode_atomic(instruction)) {
      if (!needs.atomics) continue;
      put_exclusive_loop(code, *atomic);
      ++done.atomics;
    } else if (a64::is_read_par(instruction)) {
      if (!needs.par_read) continue;
      put_fenced_read(code, instruction);
      ++done.par_reads;
    } else {
      return std::unexpected{Error::bad_site};
    }
    const auto length = redirect(site, image.stubs + done.stub_words, image.stub_words - done.stub_words, code);
    if (!length) return std::unexpected{length.error()};
    done.stub_words += static_cast<std::uint32_t>(*length);
  }
  return done;
}

}  // namespace weir::patch
