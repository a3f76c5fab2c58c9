// One SMMUv3 as whoever drives it sees it, with devices that its tests move: what conformance cases run on. The same
// cases run at EL1 (tests/guests/conformance) and on the host (tests/unit/conformance), so all of this is freestanding:
// no heap, no exceptions, no dynamic initialization.
#pragma once

#include <cstdint>
#include <optional>

#include "guest-abi/smmu/registers.hpp"

namespace weir::conformance {

enum class Wire : std::uint8_t { evtq, priq, cmdq_sync, gerror };  // 3.18.2

// What a rig may or may not be able to do beyond registers, memory and writes by devices.
enum class Ability : std::uint8_t {
  fresh,          // the SMMU comes out of reset before each case
  reads,          // devices read, too
  attributes,     // devices choose privileged or not, instruction or data
  substreams,     // devices send SubstreamIDs
  wires,          // interrupts are counted
  stalls,         // a transaction that stalls is followed up
  ats,            // devices make ATS Translation Requests, use what they got, and answer invalidations
  page_requests,  // devices make PRI page requests
  messages,       // MSIs to ordinary memory are seen there
  wake_events,    // the SEV of a CMD_SYNC is counted
};

enum class Outcome : std::uint8_t {
  ok,
  aborted,
  stalled,
  raz_wi  // terminated: a read gave 0, a write was ignored
};

struct Transaction {
  std::uint64_t iova = 0;
  bool write = true;
  std::optional<std::uint32_t> ssid{};
  bool privileged = false;
  bool instruction = false;
  bool translated = false;  // ATS Translated
};
struct Reply {
  static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};
  Outcome outcome{};
  std::uint64_t at = kNowhere;  // ok: the address that the first byte went to or came from, as the driver names it
  std::uint32_t handle = 0;     // stalled: for Rig::outcome_of()
};

struct AtsReply {
  enum class Status : std::uint8_t { success, unsupported_request, completer_abort } status{};
  std::uint64_t at = 0;    // success: translated address, as the driver names it
  std::uint64_t size = 0;  // of what was translated
  bool read = false;
  bool write = false;
};

struct PageRequest {
  std::uint64_t iova = 0;
  bool read = false;
  bool write = true;
  bool last = true;
  std::uint16_t prg = 0;
  std::optional<std::uint32_t> ssid{};
};
enum class PageReply : std::uint8_t { none, success, invalid, failure };

class Rig {
 public:
  // Registers: an access of 4 or 8 bytes, aligned.
  virtual std::uint64_t read(std::uint32_t offset, unsigned size) = 0;
  virtual void write(std::uint32_t offset, unsigned size, std::uint64_t value) = 0;
  // The value of a 32-bit register, or of half a 64-bit one, when the SMMU came out of reset.
  virtual std::uint32_t at_reset(std::uint32_t offset) = 0;

  // Memory that the SMMU reaches: zeroed, gone when the case ends; `alignment` is a power of two.
  virtual std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment) = 0;
  // A page where the rig sees a device's write land.
  virtual std::uint64_t data_page() = 0;
  virtual std::uint64_t load(std::uint64_t at) = 0;  // 64 bits, aligned
  virtual void store(std::uint64_t at, std::uint64_t value) = 0;
  // An address of the SMMU's output space where nothing is, aligned to 16 MiB.
  virtual std::uint64_t nowhere() = 0;

  // Devices behind this SMMU: two at least.
  virtual std::uint32_t stream(unsigned device) = 0;
  virtual Reply dma(unsigned device, const Transaction& transaction) = 0;

  // Interrupts seen since the case began.
  virtual unsigned interrupts(Wire wire) = 0;
  // A little time passes; all that has to happen within a reasonable time has happened.
  virtual void pass() = 0;
  virtual void settle() = 0;

  [[nodiscard]] virtual bool can(Ability ability) const = 0;
  // For rigs with that ability only.
  virtual Reply outcome_of(unsigned, std::uint32_t) { return {}; }  // of a device's transaction that stalled
  virtual AtsReply translate(unsigned, const Transaction&) { return {}; }
  virtual unsigned ats_invalidations(unsigned) { return 0; }  // that reached this device
  virtual void hang(unsigned, bool) {}                        // the device no longer completes invalidations
  virtual void page_request(unsigned, const PageRequest&) {}
  virtual PageReply page_reply(unsigned, std::uint16_t) { return PageReply::none; }  // to a group
  virtual unsigned wake_events() { return 0; }

 protected:
  ~Rig() = default;
};

}  // namespace weir::conformance
