// A VM's memory as it moves: given back to Weir and asked for again, shared with or lent to another VM and taken back,
// and the log of pages that changed. What the hypercalls (guest-abi/hypercalls.md) do, without registers and caches.
//
// What a VM has is what its stage-2 domain says: a page that it owns is mapped with all rights, one that it lent is mapped
// with none (so that its physical address is kept), one that it relinquished is not mapped. Only grants need records.
//
// Every call is bounded (kPagesPerCall), may be made from any pCPU at any time, and holds no lock while it waits for
// hardware or for a grace period: what it works on is registered, and others that want the same get Result::busy.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "guest-abi/hypercall.hpp"
#include "guest-abi/types.hpp"
#include "stage2/dirty_log.hpp"
#include "stage2/domain.hpp"
#include "stage2/support/spinlock.hpp"

namespace weir::stage2 {

using hypercall::Result;

// Where the pages of guests come from and go to. Callable from any pCPU.
class PagePool {
 public:
  // Contiguous, aligned to `bytes` (a power of two, at least 4 KiB); zeroed, allocation tags cleared, cleaned and
  // invalidated to the point of coherency. No value: out of memory.
  [[nodiscard]] virtual std::optional<PA> allocate(std::uint64_t bytes) = 0;
  // Zeroes pages that nobody reaches any more, and as allocate() promises.
  virtual void scrub(PA at, std::uint64_t bytes) = 0;
  // Any page-aligned part of what allocate() gave, or of a VM's first memory.
  virtual void free(PA at, std::uint64_t bytes) = 0;

 protected:
  ~PagePool() = default;
};

class VmMemory;

// What a call came to. `done`: pages dealt with: by this call, of the grant so far (offer, accept), or still left of it
// (release, take_back).
struct MemoryOutcome {
  Result result = Result::success;
  std::uint64_t done = 0;
  std::uint64_t extra = 0;  // a handle, or hypercall::DirtyLimits
};

// All grants of the machine, and who may be named as a peer. Handles are not secret: each call checks whose they are.
class GrantTable {
 public:
  static constexpr unsigned kMaxVms = 64;
  static constexpr unsigned kPerVm = 32;       // that a VM has given
  static constexpr unsigned kAccepted = 32;    // that it has accepted
  static constexpr unsigned kMaxGrants = 256;  // of all VMs

  constexpr GrantTable() = default;
  GrantTable(const GrantTable&) = delete;
  GrantTable& operator=(const GrantTable&) = delete;

 private:
  friend class VmMemory;
  enum class State : std::uint8_t {
    free,
    offering,    // the owner has not offered all of its pages yet
    offered,     // to be accepted
    accepting,   // some of its pages are mapped for the peer
    accepted,    // all of them
    releasing,   // some of them are again not mapped
    taking_back  // nothing is mapped for the peer; a loan is being given back its rights
  };
  struct Grant {
    State state = State::free;
    bool busy = false;  // a call works on it
    bool loan = false;  // the owner has no access meanwhile
    bool write = false;
    std::uint16_t generation = 0;
    VmMemory* owner = nullptr;
    VmMemory* peer = nullptr;
    IPA at;  // in the owner's space
    std::uint64_t pages = 0;
    std::uint64_t offered = 0;       // the first so many are offered
    IPA mapped_at;                   // in the peer's space
    std::uint64_t mapped_bytes = 0;  // that are set aside there; 0: it is not accepted
    std::uint64_t mapped = 0;        // the first so many pages are mapped there
  };

  SpinLock lock_;
  std::array<Grant, kMaxGrants> grants_{};
  std::array<VmMemory*, kMaxVms> vms_{};
};

class VmMemory {
 public:
  // Most pages of one call: an aligned 2 MiB as a whole, else kSinglePages.
  static constexpr std::uint64_t kPagesPerCall = 512;
  static constexpr std::uint64_t kSinglePages = 64;
  static constexpr std::uint64_t kDirtyPages = 2048;  // most of one dirty_read()
  static constexpr unsigned kCallers = 16;            // calls of one VM at a time; one more gets `busy`

  struct Config {
    unsigned id = 0;  // below GrantTable::kMaxVms; of VMs that exist at the same time no two have the same
    IPA ram;          // 2 MiB aligned
    std::uint64_t ram_bytes = 0;
    IPA loans;  // the window for other VMs' memory; 2 MiB aligned, not overlapping `ram`
    std::uint64_t loan_bytes = 0;
    bool calls = false;                          // it may make calls, and be offered memory
    std::uint64_t share_with = 0;                // bit n: it may offer memory to VM n
    Attributes ram_attributes{.execute = true};  // of pages that it owns
  };
  // All of them outlive this. The domain maps the VM's first memory.
  VmMemory(const Config& config, S2Domain& domain, PagePool& pool, GrantTable& grants, CpuTables* cpu = nullptr);
  // stop() was called, or no grant ever concerned it.
  ~VmMemory();
  VmMemory(const VmMemory&) = delete;
  VmMemory& operator=(const VmMemory&) = delete;

  [[nodiscard]] const Config& config() const { return config_; }

  // Gives pages back: no CPU, device or copy of EL2's reaches them when they go, scrubbed, to the pool.
  [[nodiscard]] MemoryOutcome relinquish(IPA ipa, std::uint64_t pages);
  // Asks for zeroed pages where there are none.
  [[nodiscard]] MemoryOutcome reclaim(IPA ipa, std::uint64_t pages);

  // Offers pages to VM `peer`; `extra` is the handle, 0 to begin, as returned to go on. A loan: with their content, which
  // the owner does not reach until it takes them back.
  struct Offer {
    IPA ipa;
    std::uint64_t pages = 0;
    std::uint64_t peer = 0;
    bool write = false;
    bool loan = false;
  };
  [[nodiscard]] MemoryOutcome offer(const Offer& offer, std::uint64_t handle);
  // The peer's half: maps all of a grant's pages at `ipa` in the window for loans, and the reverse.
  [[nodiscard]] MemoryOutcome accept(std::uint64_t handle, IPA ipa, std::uint64_t pages);
  [[nodiscard]] MemoryOutcome release(std::uint64_t handle);
  // The owner's, always possible: the peer's mapping goes first, from all its CPUs and devices. The grant is gone when
  // nothing is left of it.
  [[nodiscard]] MemoryOutcome take_back(std::uint64_t handle);

  // The dirty log of the VM's RAM. start: `done` is how many pages are left until it is on; `extra` is what it does not
  // see (hypercall::DirtyLimits). read: bit i of `dirty` says whether page i has been written since the last time; without
  // `seen_only` also that somebody may have written it whose writes are not seen. What `to` does not take (invalid) the next
  // call has again. stop: `done` is how many pages are left until nothing remains of the log.
  class DirtyBits {
   public:
    [[nodiscard]] virtual bool take(std::span<const std::uint64_t> dirty) = 0;

   protected:
    ~DirtyBits() = default;
  };
  [[nodiscard]] MemoryOutcome dirty_start();
  [[nodiscard]] MemoryOutcome dirty_read(IPA ipa, std::uint64_t pages, bool seen_only, DirtyBits& to);
  [[nodiscard]] MemoryOutcome dirty_stop();
  [[nodiscard]] const DirtyLog& log() const { return log_; }

  // The VM has stopped, its devices are detached: everything that it was given goes back, and everything that it gave
  // comes back. Calls of other VMs that are under way are waited for; not bounded.
  void stop();
  // Its RAM goes to the pool. After stop().
  void free_all();

 private:
  using Grant = GrantTable::Grant;
  using State = GrantTable::State;
  struct Range {
    IPA ipa;
    std::uint64_t bytes = 0;
  };
  class Claim;  // of a range of RAM, for a call
  class Work;   // on a grant, for a call

  [[nodiscard]] std::uint64_t unseen() const;
  void add_unseen(std::uint64_t limits, IPA ipa, std::uint64_t pages, std::span<std::uint64_t> dirty) const;
  [[nodiscard]] std::optional<Mapping> own(IPA ipa) const;  // no value: not the VM's to use
  [[nodiscard]] bool absent(IPA ipa, std::uint64_t pages) const;
  [[nodiscard]] Result conflict(IPA ipa, std::uint64_t bytes) const;
  [[nodiscard]] std::uint64_t handle_of(const Grant& grant) const;
  [[nodiscard]] Grant* grant_of(std::uint64_t handle) const;
  [[nodiscard]] Result begin(const Offer& offer, std::uint64_t handle, Work& work);
  [[nodiscard]] Result begin_accept(std::uint64_t handle, IPA ipa, std::uint64_t pages, Work& work);
  [[nodiscard]] Result withdraw(Work& work);
  [[nodiscard]] Result take_back_step(Work& work, std::uint64_t& left);

  Config config_;
  S2Domain& domain_;
  PagePool& pool_;
  GrantTable& grants_;
  DirtyLog log_;
  std::atomic_flag log_busy_;  // a call works on it
  // Guarded by the lock of grants_:
  std::array<Range, kCallers> busy_{};
  std::uint32_t claims_ = 0;  // bit n: busy_[n] is in use
  unsigned given_ = 0;        // grants that it has given
  bool stopping_ = false;
};

}  // namespace weir::stage2
