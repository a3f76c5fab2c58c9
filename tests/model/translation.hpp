// What becomes of a transaction in the software SMMUv3: configuration lookup, stage 1, stage 2, and the caches of both
// (Arm IHI 0070G.b, 3.3, 3.4, 3.9, 3.13, 3.17, 3.21, 4.3, 4.4, 5, 7.3, 16.2). Non-secure streams, NS-EL1 stream world.
//
// The caches keep whatever they have fetched until a command (or evict()) takes it away, and fetch whatever prefetch() or
// speculate() ask for: which command removes what is exactly chapter 4's.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <random>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/types.hpp"

namespace weir::model {

class PhysicalMemory;
struct Parameters;
class TranslationCache;
class ConfigCache;

// A transaction as it reaches the SMMU.
struct Access {
  enum class Kind : std::uint8_t {
    untranslated,
    ats_request,  // a PCIe Translation Request: `write` is "not NW", `instruction` "Execute Requested"
    translated    // a PCIe Translated transaction: `address` is what an ATS response returned
  };
  StreamID sid;
  std::optional<SubstreamID> ssid;
  std::uint64_t address{};
  bool write = false;
  bool privileged = false;
  bool instruction = false;
  Kind kind = Kind::untranslated;
};

// The registers that translation depends on, with the values in effect (CR0: CR0ACK's, GBPA: without Update).
struct Controls {
  smmu::CR0 cr0;
  smmu::CR1 cr1;
  smmu::CR2 cr2;
  smmu::GBPA gbpa;
  smmu::STRTAB_BASE strtab_base;
  smmu::STRTAB_BASE_CFG strtab_base_cfg;
};

// The type of an access in memory (13.1).
struct MemoryType {
  enum class Device : std::uint8_t { none, GRE, nGRE, nGnRE, nGnRnE };  // none: Normal; the later the stronger
  enum class Cache : std::uint8_t { non_cacheable, write_through, write_back };
  Device device = Device::none;
  Cache inner = Cache::write_back;
  Cache outer = Cache::write_back;
  smmu::Shareability shareability = smmu::Shareability::inner;

  // A cacheable access sees dirty lines of the CPUs' caches; another one sees what lies in memory.
  [[nodiscard]] bool cacheable() const {
    return device == Device::none && (inner != Cache::non_cacheable || outer != Cache::non_cacheable);
  }
  friend bool operator==(const MemoryType&, const MemoryType&) = default;
};

// Success. For an ATS request: what its Translation Completion says (3.9.1.2, 13.6, 13.7).
struct Translation {
  std::uint64_t address{};     // of the first byte: a PA, or an IPA where `ipa`
  std::uint64_t bytes = 4096;  // the naturally aligned piece around it that translates alike
  bool read = false;           // for an ATS request, all of R == W == 0 is "access denied", still a Success
  bool write = false;
  bool execute = false;
  bool privileged = false;  // the access after STE.PRIVCFG, INSTCFG
  bool instruction = false;
  bool ipa = false;           // ATS, split-stage: `address` is an IPA
  bool untranslated = false;  // ATS completion's U bit: untranslated accesses only
  bool global = false;
  bool identity = false;  // no stage translated: bypass, S1DSS, SMMUEN == 0
  MemoryType type;
  std::optional<smmu::Ste> ste;  // as used, possibly from a cache; none when SMMUEN == 0 or ATSCHK == 0
  std::optional<smmu::Cd> cd;
};

// No translation. The access was terminated, or stalls, or got a negative ATS response.
struct Fault {
  smmu::EventId id{};
  bool silent = false;  // nothing is recorded
  // 3.12: a translation fault (F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION) whose stage has stalls enabled: CD.S
  // of stage 1 (less S1STALLD), STE.S2S. Then it is recorded even if .R/.S2R is clear. The core decides what the client can do.
  bool stalls = false;
  bool abort = true;  // terminated with an abort, otherwise RAZ/WI (CD.A == 0)
  // For the record (7.3).
  smmu::EventClass what = smmu::EventClass::IN;
  bool s2 = false;
  std::uint64_t input = 0;          // InputAddr
  std::uint64_t ipa = 0;            // if s2
  std::uint64_t fetch = 0;          // FetchAddr
  bool read = true;                 // RnW
  bool privileged = false;          // PnU, after STE.PRIVCFG
  bool instruction = false;         // InD, after STE.INSTCFG
  bool ttrnw = true;                // TTRnW: F_PERMISSION, CLASS == TT: the walk's access was a read
  std::optional<SubstreamID> ssid;  // SSV, SubstreamID
  bool merge = false;               // STE.MEV: similar records may be merged
  // The response to an ATS request: UR, CA, or Success with R == W == 0.
  enum class Ats : std::uint8_t { none, unsupported_request, completer_abort, denied };
  Ats ats = Ats::none;
};

class Translator {
 public:
  // `random` decides whatever the architecture leaves open; same sequence, same behaviour.
  Translator(PhysicalMemory& memory, const Parameters& parameters, std::mt19937_64& random);
  Translator(const Translator&) = delete;
  Translator& operator=(const Translator&) = delete;
  ~Translator();

  // One access that does not cross a 4 KiB boundary (the core splits). With SMMUEN == 0 GBPA decides.
  [[nodiscard]] std::expected<Translation, Fault> translate(const Access& access, const Controls& controls);

  // CMD_CFGI_* and CMD_TLBI_* take effect now (CMD_PREFETCH_*: prefetches). Others are ignored.
  void execute(const smmu::Command& command, const Controls& controls);

  // Fetches without an access: the configuration, and a translation if there is an address. Records nothing.
  void prefetch(const Controls& controls, StreamID sid, std::optional<SubstreamID> ssid,
                std::optional<std::uint64_t> address);
  // From now on speculate() may pick this stream, substream and page. translate() hints by itself.
  void hint(StreamID sid, std::optional<SubstreamID> ssid, std::uint64_t address);
  // Fetches for something that it has heard of, as deeply as it likes, or an STE or CD beside it.
  void speculate(const Controls& controls);
  // Drops something.
  void evict();
  // Everything is forgotten, as by a reset.
  void reset();

  // For tests.
  [[nodiscard]] const TranslationCache& tlb() const { return *tlb_; }
  [[nodiscard]] bool ste_cached(StreamID sid) const;
  [[nodiscard]] bool cd_cached(StreamID sid, SubstreamID ssid = SubstreamID{}) const;

 private:
  class Walk;
  struct Heard;
  PhysicalMemory& memory_;
  const Parameters& parameters_;
  std::mt19937_64& random_;
  std::unique_ptr<TranslationCache> tlb_;
  std::unique_ptr<ConfigCache> configurations_;
  std::unique_ptr<Heard> heard_;
};

}  // namespace weir::model
