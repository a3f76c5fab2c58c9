// A physical SMMU for unit tests: records every command and STE, completes SYNCs when told (at once by default).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "guest-abi/types.hpp"
#include "stage2/port.hpp"
#include "stage2/tag.hpp"

namespace weir::test {

// An instance like the reference platform's: nesting, 4K, 44 bits, RIL, BBML 2, 16-bit VMIDs and ASIDs, coherent.
inline stage2::Capabilities qemu_like_capabilities() {
  using namespace smmu;
  stage2::Capabilities c;
  c.idr0.set<IDR0::S1P>(true).set<IDR0::S2P>(true).set<IDR0::TTF>(TtFormat::aarch64).set<IDR0::COHACC>(true);
  c.idr0.set<IDR0::ASID16>(true).set<IDR0::VMID16>(true).set<IDR0::TTENDIAN>(TtEndian::little);
  c.idr0.set<IDR0::STALL_MODEL>(StallModel::terminate_only).set<IDR0::TERM_MODEL>(true);
  c.idr0.set<IDR0::ST_LEVEL>(StLevel::two_level);
  c.idr1.set<IDR1::SIDSIZE>(16).set<IDR1::CMDQS>(19).set<IDR1::EVENTQS>(19);
  c.idr3.set<IDR3::RIL>(true).set<IDR3::BBML>(2).set<IDR3::HAD>(true).set<IDR3::XNX>(true);
  c.idr5.set<IDR5::OAS>(AddressSize::bits44);
  c.idr5.set<IDR5::GRAN4K>(true).set<IDR5::GRAN16K>(true).set<IDR5::GRAN64K>(true);
  return c;
}

// What several FakeSmmus did, in the order in which it happened.
struct FakeEvent {
  enum class Kind : std::uint8_t { command, sync_issued, sync_awaited, ste };
  unsigned smmu = 0;
  Kind kind = Kind::command;
  smmu::Command command{};  // of `command`
  stage2::Ticket ticket = 0;
  StreamID sid{};  // of `ste`
  smmu::Ste ste{};
};
using FakeLog = std::vector<FakeEvent>;

class FakeSmmu final : public stage2::SmmuPort {
 public:
  explicit FakeSmmu(unsigned index, const stage2::Capabilities& capabilities = qemu_like_capabilities(),
                    FakeLog* log = nullptr)
      : index_{index},
        name_{"smmu" + std::to_string(index)},
        capabilities_{capabilities},
        vmids_{capabilities.idr0.get<smmu::IDR0::VMID16>()},
        log_{log} {}

  [[nodiscard]] unsigned index() const override { return index_; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] const stage2::Capabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] stage2::VmidAllocator& vmids() override { return vmids_; }

  stage2::Ticket issue_and_sync(std::span<const smmu::Command> batch) override {
    issue(batch);
    ++syncs;
    ++issued_;
    if (!hold_syncs) completed_ = issued_;
    if (log_ != nullptr) log_->push_back({.smmu = index_, .kind = FakeEvent::Kind::sync_issued, .ticket = issued_});
    return issued_;
  }
  void issue(std::span<const smmu::Command> batch) override {
    for (const smmu::Command& c : batch) {
      commands.push_back(c);
      if (log_ != nullptr) log_->push_back({.smmu = index_, .kind = FakeEvent::Kind::command, .command = c});
      if (on_command) on_command(c);
    }
  }
  // Logs the first successful poll of a ticket as `sync_awaited`.
  [[nodiscard]] bool completed(stage2::Ticket ticket) override {
    ++polls;
    if (on_poll) on_poll();
    if (hold_syncs && complete_after_polls != 0 && polls >= complete_after_polls) completed_ = issued_;
    if (ticket > completed_) return false;
    if (log_ != nullptr && ticket > awaited_) {
      awaited_ = ticket;
      log_->push_back({.smmu = index_, .kind = FakeEvent::Kind::sync_awaited, .ticket = ticket});
    }
    return true;
  }
  [[nodiscard]] std::expected<void, stage2::Error> install_ste(StreamID sid, const smmu::Ste& ste) override {
    if (fail_install) return std::unexpected{*fail_install};
    if (!fits(sid, static_cast<unsigned>(capabilities_.idr1.get<smmu::IDR1::SIDSIZE>())))
      return std::unexpected{stage2::Error::no_such_stream};
    stes[sid] = ste;
    if (log_ != nullptr) log_->push_back({.smmu = index_, .kind = FakeEvent::Kind::ste, .sid = sid, .ste = ste});
    if (on_ste) on_ste(sid, ste);
    return {};
  }

  [[nodiscard]] bool atc_answers(StreamID sid) override { return !hung.contains(sid); }

  // Completes every SYNC issued so far; for tests that set hold_syncs.
  void complete_syncs() { completed_ = issued_; }
  [[nodiscard]] stage2::Ticket issued() const { return issued_; }
  // All recorded commands as format T, in order.
  template <typename T>
  [[nodiscard]] std::vector<T> all() const {
    std::vector<T> found;
    for (const smmu::Command& c : commands)
      if (const auto typed = c.as<T>()) found.push_back(*typed);
    return found;
  }
  void forget() {
    commands.clear();
    syncs = 0;
    polls = 0;
  }

  std::vector<smmu::Command> commands;  // without the SYNCs
  unsigned syncs = 0;
  unsigned polls = 0;
  std::map<StreamID, smmu::Ste> stes;
  std::set<StreamID> hung;                    // streams whose ATC does not answer
  bool hold_syncs = false;                    // SYNCs complete only by complete_syncs(), or
  unsigned complete_after_polls = 0;          // if not 0: once completed() was asked that often
  std::optional<stage2::Error> fail_install;  // install_ste fails with it, changing nothing
  std::function<void(const smmu::Command&)> on_command;
  std::function<void(StreamID, const smmu::Ste&)> on_ste;
  std::function<void()> on_poll;  // while somebody waits

 private:
  unsigned index_;
  std::string name_;
  stage2::Capabilities capabilities_;
  stage2::VmidAllocator vmids_;
  FakeLog* log_;
  stage2::Ticket issued_ = 0;
  stage2::Ticket completed_ = 0;
  stage2::Ticket awaited_ = 0;
};

}  // namespace weir::test
