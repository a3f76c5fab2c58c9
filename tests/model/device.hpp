// A device behind the software SMMUv3: what becomes of its transactions, its address translation cache (ATC) and its
// page requests (Arm IHI 0070, 3.9, 3.12, chapter 8; PCIe 10 "ATS").
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/types.hpp"
#include "tests/model/translation.hpp"

namespace weir::model {

class Smmu;

// A transaction, as its device sees it.
struct Transaction {
  enum class State : std::uint8_t {
    passed,   // into the system, to `address`
    aborted,  // with a bus error
    raz_wi,   // reads gave 0, stores were ignored
    stalled   // it still waits
  };
  std::uint64_t id{};  // for Smmu::transaction()
  State state = State::aborted;
  PA address;  // of the first byte, if passed
  MemoryType type;
};

// The status of a Translation Completion (3.9.1.2).
enum class AtsStatus : std::uint8_t { success, unsupported_request, completer_abort };
struct AtsResponse {
  AtsStatus status{};
  // If success; R == W == 0: access denied, and nothing is cached.
  std::uint64_t address{};
  std::uint64_t bytes{};
  bool read = false;
  bool write = false;
  bool execute = false;
  bool untranslated = false;  // U
};

// ResponseCode of a PRG Response (8.3).
enum class PrgCode : std::uint8_t { success = 0b0000, invalid_request = 0b0001, failure = 0b1111 };
struct PrgResponse {
  PrgCode code{};
  std::uint16_t prg_index{};
  std::optional<SubstreamID> ssid;
  bool automatic = false;  // the SMMU's own
};

struct PageRequest {
  std::uint64_t address{};
  bool read = true;
  bool write = false;
  bool execute = false;
  bool privileged = false;
  bool last = true;
  std::uint16_t prg_index{};
  std::optional<SubstreamID> ssid;
};

// A PCIe function with ATS and PRI. It keeps what it was granted until it is told to drop it.
class Endpoint {
 public:
  Endpoint(Smmu& smmu, StreamID sid) : smmu_{smmu}, sid_{sid} {}
  [[nodiscard]] StreamID sid() const { return sid_; }

  // A Translation Request; a granted translation is cached.
  AtsResponse request(std::uint64_t address, bool write, std::optional<SubstreamID> ssid = std::nullopt);
  // DMA as a device with ATS enabled does it: through its cache, asking for a translation if it has none.
  [[nodiscard]] Transaction access(std::uint64_t address, bool write, std::optional<SubstreamID> ssid = std::nullopt);
  // By what it holds and no new request.
  [[nodiscard]] std::optional<Transaction> access_cached(std::uint64_t address, bool write,
                                                         std::optional<SubstreamID> ssid = std::nullopt);
  [[nodiscard]] std::size_t cached() const { return cache_.size(); }
  [[nodiscard]] bool holds(std::uint64_t address, std::optional<SubstreamID> ssid = std::nullopt) const;
  void forget() { cache_.clear(); }  // ATS was disabled in its configuration space

  // The Page Request messages; a stop marker is a request with ssid, last, and neither read nor write.
  void page_request(const PageRequest& request);
  void stop_marker(SubstreamID ssid);
  // All PRG Responses that have come, in order.
  [[nodiscard]] const std::vector<PrgResponse>& responses() const { return responses_; }
  void clear_responses() { responses_.clear(); }

  // It answers no invalidation from now on.
  bool hung = false;
  unsigned invalidations = 0;  // answered

  // For the SMMU.
  void invalidate(const smmu::AtcInv& command);
  void respond(const PrgResponse& response) { responses_.push_back(response); }

 private:
  struct Entry {
    std::optional<SubstreamID> ssid;
    std::uint64_t from{};
    std::uint64_t bytes{};
    std::uint64_t to{};
    bool read = false;
    bool write = false;
  };
  [[nodiscard]] const Entry* find(std::uint64_t address, bool write, std::optional<SubstreamID> ssid) const;
  Smmu& smmu_;
  StreamID sid_;
  std::vector<Entry> cache_;
  std::vector<PrgResponse> responses_;
};

}  // namespace weir::model
