#include "tests/unit/conformance/guest_machine.hpp"

#include <array>
#include <cstring>
#include <map>
#include <stdexcept>

#include "hyp/smmu/instance.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "tests/unit/conformance/devices.hpp"
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
        .memory = ram_,
        .interrupts = *this,
        .drain = *this,
        .domain = *domain_,
        .pages = {page0_, page1_},
        .hidden = {.pages = &table_pages_, .base = IPA{0x0a00'0000}, .bytes = kPage4K}};
    vsmmu::Config config = options.config;
    config.oas_bits = 40;
    config.ats = config.pri = options.grant.ats != vsmmu::AtsGrant::none;
    auto made = vsmmu::VSmmu::create(config, ports, surroundings);
    if (!made) fail("no vSMMU");
    vsmmu_ = std::move(*made);
    for (unsigned device = 0; device < owners_.size(); ++device) {
      SmmuInstance& instance = *instances_[device % instances_.size()];
      owners_[device] = std::make_unique<Owner>(*this, StreamID{0x11 + 0x20 * device}, instance);
      owners_[device]->vsid = VStreamID{stream(device)};
      if (!instance.claim(*owners_[device])) fail("no stream");
      if (!vsmmu_->attach(VStreamID{stream(device)}, instance, owners_[device]->sid, options.grant)) fail("no attach");
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
    return reply_of(model_of(owner).issue(access_of(owner.sid, t), 4), names_);
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
  [[nodiscard]] bool can(Ability) const override { return true; }

  Reply outcome_of(unsigned device, std::uint32_t handle) override {
    return reply_of(model_of(*owners_.at(device)).transaction(handle), names_);
  }
  AtsReply translate(unsigned device, const Transaction& t) override {
    return ats_reply_of(endpoint(device).request(t.iova, t.write, ssid_of(t.ssid)));
  }
  unsigned ats_invalidations(unsigned device) override { return endpoint(device).invalidations; }
  void hang(unsigned device, bool hung) override { endpoint(device).hung = hung; }
  void page_request(unsigned device, const PageRequest& request) override {
    endpoint(device).page_request(model_request(request));
  }
  PageReply page_reply(unsigned device, std::uint16_t prg) override { return reply_to(endpoint(device), prg); }
  unsigned wake_events() override { return wake_events_; }

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
      if (i.get() == &port) return i->deliver_events_of(nullptr, most);
    return 0;
  }

 private:
  struct Names {  // what the guest calls a physical address
    const Ram& ram;
    std::uint64_t operator()(PA at) const { return ram.ipa_of(at).value_or(Reply::kNowhere); }
  };
  struct Owner final : StreamOwner {
    Owner(GuestMachine& m, StreamID s, SmmuInstance& i) : StreamOwner{s}, machine{m}, instance{i} {}
    void on_event(SmmuInstance&, const smmu::Event& event) override {
      static_cast<void>(machine.vsmmu_->handle_event(instance, event));
    }
    bool on_page_request(SmmuInstance&, const smmu::PriEntry& request) override {
      return machine.vsmmu_->handle_page_request(instance, request);
    }
    void on_events_lost(SmmuInstance&) override { machine.vsmmu_->events_lost(instance); }
    void on_page_requests_lost(SmmuInstance&) override { machine.vsmmu_->page_requests_lost(instance); }
    void on_atc_timeout(SmmuInstance&) override { machine.vsmmu_->atc_timed_out(vsid); }
    VStreamID vsid{};
    GuestMachine& machine;
    SmmuInstance& instance;
  };
  model::Smmu& model_of(const Owner& owner) { return *smmus_.at(owner.instance.index()); }
  model::Endpoint& endpoint(unsigned device) { return model_of(*owners_.at(device)).endpoint(owners_.at(device)->sid); }
  // The physical interrupts, which come soon.
  void poll_events() {
    for (auto& i : instances_) {
      i->drain_events(i->event_capacity());
      i->drain_page_requests(i->event_capacity());
    }
  }

  model::PhysicalMemory memory_;
  std::vector<std::unique_ptr<model::Smmu>> smmus_;
  std::vector<std::unique_ptr<SmmuInstance>> instances_;
  Ram ram_{memory_};
  Names names_{ram_};
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
