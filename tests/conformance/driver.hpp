// A driver for one SMMUv3, as small as a case needs it. It hides nothing: cases do wrong things on purpose through the
// same calls.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/vmsa.hpp"
#include "tests/conformance/run.hpp"

namespace weir::conformance {

// The least rounds that anything may take before it counts as never happening.
inline constexpr unsigned kPatience = 20'000;
// Names of addresses that devices use.
inline constexpr std::uint64_t kIova = 0x12'3456'7000;
inline constexpr ASID kAsid{5};

struct Setup {
  unsigned cmdq_log2 = 5;
  unsigned eventq_log2 = 5;
  unsigned priq_log2 = 4;
  unsigned sid_bits = 8;
  bool two_level = false;
  unsigned split = 6;
  bool eventq = true;
  bool priq = false;
  bool enable = true;     // SMMUEN
  bool recinvsid = true;  // CR2
  std::uint32_t cr0 = 0;  // further bits of CR0
};

class Driver {
 public:
  explicit Driver(Run& r) : run{r}, rig{r.rig} {}
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // --- Registers
  [[nodiscard]] std::uint32_t read(smmu::Reg r) { return static_cast<std::uint32_t>(rig.read(offset(r), 4)); }
  [[nodiscard]] std::uint64_t read64(smmu::Reg r) { return rig.read(offset(r), 8); }
  void write(smmu::Reg r, std::uint32_t v) { rig.write(offset(r), 4, v); }
  void write64(smmu::Reg r, std::uint64_t v) { rig.write(offset(r), 8, v); }
  [[nodiscard]] static constexpr std::uint32_t offset(smmu::Reg r) { return static_cast<std::uint32_t>(r); }
  template <typename R>
  [[nodiscard]] R get(smmu::Reg r) {
    R v;
    if constexpr (sizeof(v.words[0]) == 8) {
      v.words[0] = read64(r);
    } else {
      v.words[0] = read(r);
    }
    return v;
  }
  template <typename F>
  [[nodiscard]] auto field(smmu::Reg r) {
    return F::decode(read(r));
  }
  // Whether `done` within a reasonable time.
  template <typename Fn>
  [[nodiscard]] bool soon(Fn&& done) {
    for (unsigned i = 0; i < kPatience; ++i) {
      if (done()) return true;
      rig.pass();
    }
    return false;
  }

  // --- Bringing it up
  // Queues and tables in place, everything invalidated, enabled as `setup` says. False: a failure was reported.
  bool start(const Setup& setup = {});
  // As start(), and all streams of devices bypass.
  bool set_cr0(std::uint32_t value);  // and waits for CR0ACK
  [[nodiscard]] std::uint32_t cr0() const { return cr0_; }
  bool set_irqs(std::uint32_t value);  // IRQ_CTRL and IRQ_CTRLACK
  bool set_gbpa(bool abort);

  // --- Streams
  // Where the STE of a StreamID lies. Two levels: makes its level-2 table.
  [[nodiscard]] std::uint64_t ste_at(std::uint32_t sid);
  [[nodiscard]] std::uint64_t l1std_at(std::uint32_t sid);
  [[nodiscard]] std::uint64_t stream_table() const { return strtab_; }
  void put_ste(unsigned device, const smmu::Ste& ste);  // V last
  // put_ste(), CFGI_STE and CMD_SYNC.
  bool install(unsigned device, const smmu::Ste& ste);
  [[nodiscard]] StreamID sid(unsigned device) { return StreamID{rig.stream(device)}; }

  // --- Commands
  void queue(const smmu::Command& c);  // written, PROD not stored
  void kick();                         // stores PROD
  [[nodiscard]] bool consumed();       // CONS has caught up, or an error is active
  // These wait until everything is consumed; false, and a failure reported: it was not, or a command error.
  bool sync();
  bool issue(std::initializer_list<smmu::Command> commands);  // and a CMD_SYNC
  // One, then the other: without a CMD_SYNC between, a walk by an old configuration may fill the TLB again (4.3.6).
  bool invalidate(const smmu::Command& configuration, const smmu::Command& tlb);
  [[nodiscard]] std::uint32_t prod() const { return prod_; }
  void set_prod(std::uint32_t p) { prod_ = p & ring_mask(); }
  [[nodiscard]] std::uint32_t ring_mask() const { return (2u << setup_.cmdq_log2) - 1; }
  [[nodiscard]] std::uint64_t slot(std::uint32_t index) const {
    return cmdq_ + (index & (ring_mask() >> 1)) * sizeof(smmu::Command);
  }
  [[nodiscard]] bool command_error();  // is active
  void acknowledge_errors() { write(smmu::Reg::GERRORN, read(smmu::Reg::GERROR)); }
  // `c` must be refused: CERROR_ILL, CONS at it, no event; the queue then goes on.
  bool expect_illegal(const smmu::Command& c, std::string_view what);
  // `c` must be consumed without an error.
  bool expect_legal(const smmu::Command& c, std::string_view what);
  // One or the other (a choice of the implementation): what happened. No value: neither.
  [[nodiscard]] std::optional<bool> refused(const smmu::Command& c);

  // --- Events
  [[nodiscard]] std::optional<smmu::Event> next_event();
  unsigned drop_events();
  [[nodiscard]] std::uint64_t eventq() const { return eventq_; }
  [[nodiscard]] std::uint64_t cmdq() const { return cmdq_; }
  [[nodiscard]] std::uint64_t priq() const { return priq_; }
  // The next event is this, of that device, and the only one; CMD_SYNC makes it visible (4.7.3).
  std::optional<smmu::Event> expect_event(smmu::EventId id, unsigned device);
  bool expect_no_event();

  // --- DMA
  Reply dma(unsigned device, std::uint64_t iova) { return rig.dma(device, {.iova = iova}); }
  bool expect_lands(unsigned device, std::uint64_t iova, std::uint64_t at, std::string_view what);
  bool expect_lands(unsigned device, const Transaction& t, std::uint64_t at, std::string_view what);
  bool expect_aborts(unsigned device, std::uint64_t iova, std::string_view what);
  bool expect_aborts(unsigned device, const Transaction& t, std::string_view what);
  // DMA must abort with this event.
  std::optional<smmu::Event> expect_fault(unsigned device, std::uint64_t iova, smmu::EventId id);
  std::optional<smmu::Event> expect_fault(unsigned device, const Transaction& t, smmu::EventId id);

  // --- Memory
  template <typename R>
  void put(std::uint64_t at, const R& r) {
    for (std::size_t i = 0; i < r.words.size(); ++i) rig.store(at + 8 * i, r.words[i]);
  }
  template <typename R>
  [[nodiscard]] R take(std::uint64_t at) {
    R r;
    for (std::size_t i = 0; i < r.words.size(); ++i) r.words[i] = rig.load(at + 8 * i);
    return r;
  }

  Run& run;
  Rig& rig;

 private:
  bool wait_consumed();

  Setup setup_;
  std::uint64_t strtab_ = 0, cmdq_ = 0, eventq_ = 0, priq_ = 0;
  std::uint32_t prod_ = 0;
  std::uint32_t event_ = 0;
  std::uint32_t cr0_ = 0;
};

// --- Formats

[[nodiscard]] smmu::Ste ste_of(smmu::SteConfig config);

// A stage-1 address space: its tables, and the CD that points at them. 39-bit (4 KiB) input addresses unless told
// otherwise.
class Space {
 public:
  // `granule_log2`: 12, 14 or 16; `bits`: of input addresses.
  Space(Driver& d, ASID asid, unsigned granule_log2 = 12, unsigned bits = 39, bool upper = false);

  // A leaf at `level`; the tables on the way are made. `flags` besides the address: kPage or more.
  void map(std::uint64_t iova, std::uint64_t to, std::uint64_t flags, unsigned level = 3);
  void map(std::uint64_t iova, std::uint64_t to) { map(iova, to, kReadWrite); }
  void unmap(std::uint64_t iova, unsigned level = 3);
  [[nodiscard]] std::uint64_t entry(std::uint64_t iova, unsigned level = 3);  // where the descriptor is
  [[nodiscard]] unsigned start_level() const { return start_; }
  [[nodiscard]] std::uint64_t root() const { return root_; }

  [[nodiscard]] std::uint64_t cd_at() const { return cd_at_; }
  [[nodiscard]] smmu::Cd cd() const { return cd_; }
  void put_cd(const smmu::Cd& cd);  // the caller invalidates
  [[nodiscard]] smmu::Ste ste() const;

  static constexpr std::uint64_t kAf = vmsa::S1Attributes::AF::mask;
  static constexpr std::uint64_t kUser = vmsa::S1Attributes::AP::encode(vmsa::S1Ap::any_rw);
  static constexpr std::uint64_t kNonGlobal = vmsa::S1Attributes::nG::mask;
  static constexpr std::uint64_t kInner = vmsa::S1Attributes::SH::encode(vmsa::Shareability::inner);
  static constexpr std::uint64_t kReadWrite = kAf | kUser | kNonGlobal | kInner;
  static constexpr std::uint64_t kReadOnly =
      kAf | kNonGlobal | kInner | vmsa::S1Attributes::AP::encode(vmsa::S1Ap::any_ro);
  static constexpr std::uint64_t kPrivileged =
      kAf | kNonGlobal | kInner | vmsa::S1Attributes::AP::encode(vmsa::S1Ap::priv_rw);

 private:
  [[nodiscard]] std::uint64_t index(std::uint64_t iova, unsigned level) const;
  Driver& d_;
  unsigned granule_;
  unsigned bits_;
  unsigned start_;
  std::uint64_t root_ = 0;
  std::uint64_t cd_at_ = 0;
  smmu::Cd cd_;
};

}  // namespace weir::conformance
