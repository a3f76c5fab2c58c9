#include "tests/unit/conformance/guest_machine.hpp"

#include <array>
#include <cstring>
#include <map>
#include <stdexcept>

#include "hyp/smmu/instance.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::conformance::host {
namespace {

using smmu::Reg;

class TablePages final : public stage2::TablePages {
 public:
  explicit TablePages(model::PhysicalMemory& memory) : memory_{memory} {}
  [[nodiscard]] std::optional<PA> allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  void free(PA at, std::size_t bytes) override { memory_.free(at, bytes); }
  [[nodiscard]] void* pointer(PA at) override { return memory_.pointer(at); }
  void publish(const void*, std::size_t) override {}

 private:
  model::PhysicalMemory& memory_;
};

// The VM's RAM: IPA pages in physical pages, which are anywhere.
class Ram final : public vsmmu::GuestMemory {
 public:
  static constexpr std::uint64_t kBase = 0x4000'0000;
  static constexpr std::size_t kPages = 512;
  explicit Ram(model::PhysicalMemory& memory) : memory_{memory} {
    // Odd pages of one block, then the even ones of another: neighbours are none.
    const PA a = memory_.allocate(kPages * kPage4K), b = memory_.allocate(kPages * kPage4K);
    for (std::size_t i = 0; i < kPages; ++i) pages_[i] = (i % 2 == 0 ? a : b) + i * kPage4K;
  }
  [[nodiscard]] PA page(std::size_t i) const { return pages_[i]; }
  [[nodiscard]] std::byte* pointer(std::uint64_t ipa) {
    return memory_.pointer(pages_.at((ipa - kBase) / kPage4K)) + ipa % kPage4K;
  }
  [[nodiscard]] std::optional<std::uint64_t> ipa_of(PA at) const {
    for (std::size_t i = 0; i < kPages; ++i)
      if (pages_[i] == at.align_down(kPage4K)) return kBase + i * kPage4K + at.value % kPage4K;
    return std::nullopt;
  }
  [[nodiscard]] bool holds(std::uint64_t at, std::size_t bytes) const {
    return at >= kBase && at + bytes <= kBase + kPages * kPage4K;
  }
  [[nodiscard]] bool read(IPA from, std::span<std::byte> to) override {
    if (!holds(from.value, to.size())) return false;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = *pointer(from.value + i);
    return true;
  }
  [[nodiscard]] bool write(IPA to, std::span<const std::byte> from) override {
    if (!holds(to.value, from.size())) return false;
    for (std::size_t i = 0; i < from.size(); ++i) *pointer(to.value + i) = from[i];
    return true;
  }

 private:
  model::PhysicalMemory& memory_;
  std::array<PA, kPages> pages_{};
};

[[noreturn]] void fail(const char* what) { throw std::runtime_error{what}; }

class GuestMachine final : public Machine, public Rig, public vsmmu::Interrupts, public vsmmu::EventDrain {
 public:
  explicit GuestMachine(const GuestOptions& options) {
    for (std::size_t i = 0; i < options.instances.size(); ++i) {
      auto smmu = std::make_unique<model::Smmu>(memory_, options.instances[i]);
      auto instance =
          std::make_unique<SmmuInstance>(static_cast<unsigned>(i), i == 0 ? "smmu-a" : "smmu-b", *smmu, true);
      if (!instance->quiesce() || !instance->init()) fail("the physical SMMU does not come up");
      smmus_.push_back(std::move(smmu));
      instances_.push_back(std::move(instance));
    }
    const auto geometry = stage2::Geometry::make(40, smmu::AddressSize::bits44);
    stage2::S2Domain::Options domain_options;
    domain_options.table.pages_only = true;
    domain_ = *stage2::S2Domain::create(*geometry, table_pages_, grace_, domain_options);
    const stage2::Attributes rw{.memory = stage2::Memory::normal_wb, .read = true, .write = true, .execute = false};
    for (std::size_t i = 0; i < Ram::kPages; ++i)
      if (!domain_->map(IPA{Ram::kBase + i * kPage4K}, ram_.page(i), kPage4K, rw)) fail("no stage 2");
    std::vector<stage2::SmmuPort*> ports;
    for (const auto& i : instances_) ports.push_back(i.get());
    const vsmmu::Surroundings surroundings{
        .memory = ram_, .interrupts = *this, .drain = *this, .domain = *domain_, .pages = {page0_, page1_}};
    vsmmu::Config config = options.config;
    config.oas_bits = 40;
    auto made = vsmmu::VSmmu::create(config, ports, surroundings);
    if (!made) fail("no vSMMU");
    vsmmu_ = std::move(*made);
    for (unsigned device = 0; device < owners_.size(); ++device) {
      SmmuInstance& instance = *instances_[device % instances_.size()];
      owners_[device] = std::make_unique<Owner>(*this, StreamID{0x11 + 0x20 * device}, instance);
      if (!instance.claim(*owners_[device])) fail("no stream");
      if (!vsmmu_->attach(VStreamID{stream(device)}, instance, owners_[device]->sid)) fail("no attach");
    }
    for (std::uint32_t offset = 0; offset < 0x1000; offset += 4) {
      reset_[offset] = page0_[offset / 4];
      reset_[smmu::kPage1 + offset] = page1_[offset / 4];
    }
  }
  ~GuestMachine() override {
    vsmmu_->shutdown();
    for (auto& owner : owners_) owner->instance.release(*owner);
    vsmmu_.reset();
    domain_.reset();
  }
  GuestMachine(const GuestMachine&) = delete;
  GuestMachine& operator=(const GuestMachine&) = delete;
  [[nodiscard]] Rig& rig() override { return *this; }

  // What the guest reads without an exit, and what it cannot.
  std::uint64_t read(std::uint32_t offset, unsigned size) override {
    poll_events();
    const auto word = [this](std::uint32_t at) -> std::uint64_t {
      if (at < 0x1000) return page0_[at / 4];
      if (at >= smmu::kPage1 && at < smmu::kPage1 + 0x1000) return page1_[(at - smmu::kPage1) / 4];
      return vsmmu_->read(at, 4);
    };
    return size == 8 ? word(offset) | word(offset + 4) << 32 : word(offset);
  }
  void write(std::uint32_t offset, unsigned size, std::uint64_t value) override {
    unsigned rounds = 0;
    while (vsmmu_->write(offset, size, value) == vsmmu::Progress::again)
      if (++rounds > 1'000'000) fail("a store never ends");
  }
  std::uint32_t at_reset(std::uint32_t offset) override { return reset_[offset]; }

  std::uint64_t allocate(std::uint64_t bytes, std::uint64_t alignment) override {
    next_ = (next_ + alignment - 1) & ~(alignment - 1);
    const std::uint64_t at = next_;
    next_ += (bytes + 7) & ~std::uint64_t{7};
    if (!ram_.holds(at, bytes)) fail("out of guest memory");
    return at;
  }
  std::uint64_t data_page() override { return allocate(kPage4K, kPage4K); }
  std::uint64_t load(std::uint64_t at) override {
    std::uint64_t v{};
    std::memcpy(&v, ram_.pointer(at), sizeof v);
    return v;
  }
  void store(std::uint64_t at, std::uint64_t value) override { std::memcpy(ram_.pointer(at), &value, sizeof value); }
  std::uint64_t nowhere() override { return 0x9000'0000; }

  std::uint32_t stream(unsigned device) override { return 8 * (device + 1); }
  Reply dma(unsigned device, const Transaction& t) override {
    Owner& owner = *owners_.at(device);
    const auto at = model_of(owner).access(owner.sid, IOVA{t.iova}, t.write, 4);
    if (!at) return {.outcome = Outcome::aborted};
    return {.outcome = Outcome::ok, .at = ram_.ipa_of(*at).value_or(Reply::kNowhere)};
  }
  unsigned interrupts(Wire wire) override {
    poll_events();
    return raised_[static_cast<vsmmu::Irq>(wire)];
  }
  void pass() override {
    for (auto& s : smmus_) s->step();
    poll_events();
  }
  void settle() override {
    for (auto& s : smmus_) s->settle();
    poll_events();
  }
  [[nodiscard]] bool can(Ability ability) const override {
    switch (ability) {
      case Ability::fresh:
      case Ability::wires:
      case Ability::reads: return true;
      default: return false;
    }
  }

  // vsmmu::Interrupts, vsmmu::EventDrain
  void raise(vsmmu::Irq irq) override { ++raised_[irq]; }
  void send_event() override { ++wake_events_; }
  [[nodiscard]] bool message(IPA to, std::uint32_t data) override {
    if (!ram_.holds(to.value, sizeof data)) return false;
    std::memcpy(ram_.pointer(to.value), &data, sizeof data);
    return true;
  }
  unsigned drain_events(stage2::SmmuPort& port, unsigned most) override {
    for (auto& i : instances_)
      if (i.get() == &port) return i->drain_events(most);
    return 0;
  }

 private:
  struct Owner final : StreamOwner {
    Owner(GuestMachine& m, StreamID s, SmmuInstance& i) : StreamOwner{s}, machine{m}, instance{i} {}
    void on_event(SmmuInstance&, const smmu::Event& event) override {
      static_cast<void>(machine.vsmmu_->handle_event(instance, event));
    }
    GuestMachine& machine;
    SmmuInstance& instance;
  };
  model::Smmu& model_of(const Owner& owner) { return *smmus_.at(owner.instance.index()); }
  // The physical event interrupt, which comes soon.
  void poll_events() {
    for (auto& i : instances_) i->drain_events(i->event_capacity());
  }

  model::PhysicalMemory memory_;
  std::vector<std::unique_ptr<model::Smmu>> smmus_;
  std::vector<std::unique_ptr<SmmuInstance>> instances_;
  Ram ram_{memory_};
  TablePages table_pages_{memory_};
  stage2::ImmediateGrace grace_;
  std::unique_ptr<stage2::S2Domain> domain_;
  std::array<std::uint32_t, 1024> page0_{};
  std::array<std::uint32_t, 1024> page1_{};
  std::unique_ptr<vsmmu::VSmmu> vsmmu_;
  std::array<std::unique_ptr<Owner>, 2> owners_;
  std::map<vsmmu::Irq, unsigned> raised_;
  unsigned wake_events_ = 0;
  std::map<std::uint32_t, std::uint32_t> reset_;
  std::uint64_t next_ = Ram::kBase;
};

}  // namespace

std::unique_ptr<Machine> make_guest(const GuestOptions& options) { return std::make_unique<GuestMachine>(options); }

}  // namespace weir::conformance::host
