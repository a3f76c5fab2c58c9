// A driver for one SMMUv3, as small as a test needs it: linear stream table, one command and one event queue, stage 1 with
// 4 KiB tables of 39-bit input addresses. Nothing is hidden: tests do wrong things on purpose through the same calls.
#pragma once

#include <cstdint>

#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/vmsa.hpp"

namespace weir::guest {

// The CD of a table for 39 bits of input address.
[[nodiscard]] smmu::Cd make_cd(ASID asid, std::uint64_t root, smmu::AddressSize output);
// Puts it where the SMMU reads it, the word with V last.
void publish_cd(std::uint64_t at, const smmu::Cd& cd);

// A stage-1 translation table (and the CD that points at it).
class AddressSpace {
 public:
  AddressSpace() = default;
  AddressSpace(ASID asid, smmu::AddressSize output);

  void map(std::uint64_t iova, std::uint64_t ipa, bool writable = true);
  void map_block(std::uint64_t iova, std::uint64_t ipa);  // 2 MiB
  void unmap(std::uint64_t iova);
  [[nodiscard]] ASID asid() const { return asid_; }
  [[nodiscard]] std::uint64_t cd() const { return cd_; }  // its address
  [[nodiscard]] std::uint64_t root() const { return root_; }
  // Where the leaf's or, at level 2, the block's descriptor is; tables are made on the way.
  [[nodiscard]] volatile std::uint64_t* entry(std::uint64_t iova, unsigned level);
  void set_root(std::uint64_t ipa);  // into the CD; the caller invalidates

 private:
  ASID asid_;
  std::uint64_t root_ = 0;
  std::uint64_t cd_ = 0;
};

class Smmu {
 public:
  static constexpr unsigned kStreamBits = 8;  // all of bus 0
  static constexpr unsigned kQueueLog2 = 7;

  Smmu() = default;
  explicit Smmu(std::uint64_t base, unsigned command_log2 = kQueueLog2) : base_{base}, command_log2_{command_log2} {}

  [[nodiscard]] std::uint32_t read(smmu::Reg r) const;
  void write(smmu::Reg r, std::uint32_t v) const;
  void write64(smmu::Reg r, std::uint64_t v) const;

  // Queues and an empty stream table; CMDQ and EVENTQ on, translation still off. False: it did not acknowledge.
  bool init();
  // CR0.SMMUEN, and waits for the acknowledge.
  bool set_enabled(bool on);
  bool set_gbpa_abort(bool abort);
  [[nodiscard]] smmu::AddressSize output_size() const;
  [[nodiscard]] bool ranges() const;

  // Stream table. The caller invalidates.
  void set_ste(std::uint32_t sid, const smmu::Ste& ste);
  [[nodiscard]] static smmu::Ste stage1(const AddressSpace& space) { return stage1(space.cd()); }
  [[nodiscard]] static smmu::Ste stage1(std::uint64_t cd);
  [[nodiscard]] static smmu::Ste of(smmu::SteConfig config);

  // Command queue. submit() only stores PROD; sync() appends CMD_SYNC and waits, false: an error or no answer.
  void push(const smmu::Command& c);
  void submit();
  bool sync();
  bool sync(const smmu::Command& c) {
    push(c);
    return sync();
  }
  [[nodiscard]] bool wait_consumed() { return wait_consumed(prod_); }
  // Commands before that value of prod(), of at most a queue's length: several CPUs may wait for theirs.
  [[nodiscard]] bool wait_consumed(std::uint32_t prod);
  [[nodiscard]] unsigned free_slots() const;
  [[nodiscard]] std::uint32_t prod() const { return prod_; }
  [[nodiscard]] volatile smmu::Command* slot(std::uint32_t index) const;

  // Event queue. False: it is empty.
  bool next_event(smmu::Event& e);
  [[nodiscard]] unsigned drop_events();  // how many there were

 private:
  bool acknowledged() const;
  [[nodiscard]] std::uint32_t index_mask() const { return (1u << command_log2_) - 1; }
  [[nodiscard]] std::uint32_t ring_mask() const { return (2u << command_log2_) - 1; }  // index and wrap flag

  std::uint64_t base_ = 0;
  unsigned command_log2_ = kQueueLog2;
  std::uint64_t strtab_ = 0, cmdq_ = 0, eventq_ = 0;
  std::uint32_t prod_ = 0;   // of commands, with the wrap flag
  std::uint32_t event_ = 0;  // CONS of events, with the wrap flag
  smmu::CR0 cr0_;
};

}  // namespace weir::guest
