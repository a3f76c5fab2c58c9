// A conformance case, and how it judges.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "guest-abi/text.hpp"
#include "tests/conformance/rig.hpp"

namespace weir::conformance {

// What a case needs, of the SMMU (its IDRs say) or of the rig. A case that lacks one is skipped.
enum class Need : std::uint8_t {
  s2p,
  no_s2p,
  hyp,
  no_hyp,
  two_level,
  no_two_level,
  ril,
  no_ril,
  asid16,
  no_asid16,
  ats,
  no_ats,
  pri,
  no_pri,
  msi,
  no_msi,
  sev,
  no_sev,
  stall,  // Stall model available (0b00)
  no_stall,
  term_abort,  // TERM_MODEL: a terminated transaction aborts
  substreams,
  no_substreams,
  cd2l,
  no_cd2l,
  httu_access,
  httu_dirty,
  no_httu,
  gran4k,
  gran16k,
  gran64k,
  no_gran16k,
  no_gran64k,
  little_endian,  // only
  sid6,           // SIDSIZE > 6: a two-level table is of use
  version2,       // SMMUv3.2 or later
  // Of the rig
  fresh,
  reads,
  attributes,
  dma_ssid,
  wires,
  stalls,
  dma_ats,
  page_requests,
  messages,
  wake_events,
  count
};
[[nodiscard]] std::string_view name_of(Need need);

class Needs {
 public:
  constexpr Needs() = default;
  constexpr Needs(Need n) : bits_{std::uint64_t{1} << static_cast<unsigned>(n)} {}  // NOLINT: one need is a set
  friend constexpr Needs operator|(Needs a, Needs b) {
    a.bits_ |= b.bits_;
    return a;
  }
  [[nodiscard]] constexpr bool has(Need n) const { return (bits_ & Needs{n}.bits_) != 0; }

 private:
  std::uint64_t bits_ = 0;
};
constexpr Needs operator|(Need a, Need b) { return Needs{a} | Needs{b}; }

class Run;

struct Case {
  std::string_view section;  // of Arm IHI 0070G.b
  std::string_view name;     // unique
  std::string_view rule;     // in a few words
  Needs needs;
  void (*run)(Run&);
};

enum class Verdict : std::uint8_t { pass, fail, skip };

class Run {
 public:
  explicit Run(Rig& r) : rig{r} {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // The first failure is kept. Each returns whether all is well.
  bool expect(bool ok, std::string_view what);
  bool equal(std::uint64_t got, std::uint64_t expected, std::string_view what);
  // Further cases that the implementation may choose: the case ends without a failure.
  void skip(std::string_view why);

  [[nodiscard]] Verdict verdict() const { return verdict_; }
  [[nodiscard]] std::string_view text() const { return text_.view(); }  // of a failure or skip

  Rig& rig;

 private:
  Verdict verdict_ = Verdict::pass;
  Text<120> text_;
};

// All cases, in lists, by chapter.
[[nodiscard]] std::span<const std::span<const Case>> all_cases();
// The need that is not met, or Need::count.
[[nodiscard]] Need missing(Rig& rig, Needs needs);
// Runs one case on an SMMU in its reset state, or quiescent (6.3.9: all of CR0 clear).
void run(const Case& c, Run& r);
// "case 6.3.9 cr0-ack: pass", "...: fail: what", "...: skip: why".
void print(const Case& c, const Run& r, TextBuffer& out);

}  // namespace weir::conformance
