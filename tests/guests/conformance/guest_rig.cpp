#include "tests/guests/conformance/guest_rig.hpp"

#include "tests/guests/bare/exceptions.hpp"
#include "tests/guests/bare/gic.hpp"
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"
#include "tests/guests/bare/pci.hpp"
#include "tests/guests/bare/report.hpp"

namespace weir::guest {

using namespace conformance;
using smmu::Reg;

namespace {
constexpr std::uint64_t kPage = 0x1000;
// Physical RAM of the machine whatever runs on it: what a device compares with matters to nobody.
constexpr std::uint64_t kPhysicalRam = 0x4000'0000;
constexpr std::uint64_t kSettleUs = 300;
constexpr std::uint64_t kPassUs = 10;  // times kPatience: a fifth of a second
constexpr unsigned kWires = 4;

constexpr std::uint64_t canary(std::uint64_t at) { return at * 0x9e37'79b9'7f4a'7c15 | 1; }
volatile std::uint64_t& word(std::uint64_t at) { return *reinterpret_cast<volatile std::uint64_t*>(at); }
}  // namespace

bool GuestRig::init() {
  const Machine& m = machine();
  unsigned wanted = 0;
  for (unsigned slot = 1; slot < pci::kSlots && device_count_ < kMaxDevices; ++slot) {
    if (pci::identity(slot) != TestDevice::kIdentity) continue;
    unsigned smmu = 0;
    std::uint32_t sid = 0;
    if (!expect(m.find_stream(pci::rid(slot), smmu, sid), "no iommu-map for slot", slot)) return false;
    if (device_count_ == 0) wanted = smmu;
    if (smmu != wanted) continue;
    devices_[device_count_++] = {sid, TestDevice{pci::enable(slot)}};
  }
  if (!expect(device_count_ >= 2, "two iommu-testdevs behind one SMMU", device_count_)) return false;
  base_ = m.smmus[wanted].base;
  first_intid_ = m.smmus[wanted].intid;
  reset_ = allocate_copy();
  arena_ = guest::allocate(kArena, kArena);
  gic::init();
  for (unsigned wire = 0; wire < kWires; ++wire) {
    gic::set_edge(first_intid_ + wire);
    gic::enable(first_intid_ + wire);
  }
  unmask_interrupts();
  return true;
}

std::uint64_t GuestRig::allocate_copy() {
  const std::uint64_t copy = guest::allocate(smmu::kWindowSize);
  for (const smmu::RegInfo& info : smmu::kRegs)
    for (std::uint32_t half = 0; half < info.bits / 32u; ++half) {
      const std::uint32_t offset = static_cast<std::uint32_t>(info.reg) + 4 * half;
      store32(copy + offset, load32(base_ + offset));
    }
  return copy;
}

std::uint32_t GuestRig::at_reset(std::uint32_t offset) { return load32(reset_ + offset); }

void GuestRig::restart() {
  const auto wait = [this](Reg reg, std::uint32_t value) {
    const std::uint64_t until = now_us() + 1'000'000;
    while (get(reg) != value && now_us() < until) {
    }
  };
  set(Reg::CR0, 0);
  wait(Reg::CR0ACK, 0);
  set(Reg::IRQ_CTRL, 0);
  wait(Reg::IRQ_CTRLACK, 0);
  smmu::GBPA gbpa;
  gbpa.words[0] = at_reset(static_cast<std::uint32_t>(Reg::GBPA));
  set(Reg::GBPA, gbpa.set<smmu::GBPA::Update>(true).words[0]);
  wait(Reg::GBPA, gbpa.set<smmu::GBPA::Update>(false).words[0]);
  set(Reg::GERRORN, get(Reg::GERROR));
  for (const Reg reg :
       {Reg::CR1, Reg::CR2, Reg::STRTAB_BASE_CFG, Reg::CMDQ_PROD, Reg::CMDQ_CONS, Reg::EVENTQ_PROD, Reg::EVENTQ_CONS})
    set(reg, 0);
  next_ = arena_;
  page_count_ = 0;
  settle();
  for (unsigned wire = 0; wire < kWires; ++wire) interrupts_before_[wire] = guest::interrupts(first_intid_ + wire);
}

std::uint64_t GuestRig::read(std::uint32_t offset, unsigned size) {
  return size == 8 ? load64(base_ + offset) : load32(base_ + offset);
}
void GuestRig::write(std::uint32_t offset, unsigned size, std::uint64_t value) {
  barrier();
  if (size == 8) {
    store64(base_ + offset, value);
  } else {
    store32(base_ + offset, static_cast<std::uint32_t>(value));
  }
  barrier();
}

std::uint64_t GuestRig::allocate(std::uint64_t bytes, std::uint64_t alignment) {
  next_ = (next_ + alignment - 1) & ~(alignment - 1);
  const std::uint64_t at = next_;
  next_ += (bytes + 7) & ~std::uint64_t{7};
  if (!expect(next_ <= arena_ + kArena, "the arena is too small", bytes)) finish();
  for (std::uint64_t p = at; p < next_; p += 8) word(p) = 0;
  return at;
}

std::uint64_t GuestRig::data_page() {
  const std::uint64_t page = allocate(kPage, kPage);
  for (std::uint64_t at = page; at < page + kPage; at += 8) word(at) = canary(at);
  if (!expect(page_count_ < kDataPages, "too many data pages")) finish();
  pages_[page_count_++] = page;
  barrier();
  return page;
}

std::uint64_t GuestRig::load(std::uint64_t at) {
  barrier();
  return word(at);
}
void GuestRig::store(std::uint64_t at, std::uint64_t value) {
  word(at) = value;
  barrier();
}

Reply GuestRig::dma(unsigned device, const Transaction& t) {
  const auto result = devices_[device].dma.dma(t.iova, kPhysicalRam + t.iova % kPage);
  if (result != TestDevice::ok && result != TestDevice::mismatch) return {.outcome = Outcome::aborted};
  Reply reply{.outcome = Outcome::ok};
  for (unsigned i = 0; i < page_count_; ++i) {
    for (std::uint64_t at = pages_[i]; at < pages_[i] + kPage; at += 8) {
      if (word(at) == canary(at)) continue;
      const bool low = static_cast<std::uint32_t>(word(at)) != static_cast<std::uint32_t>(canary(at));
      reply.at = at + (low ? 0 : 4);
      word(at) = canary(at);
    }
  }
  barrier();
  return reply;
}

unsigned GuestRig::interrupts(Wire wire) {
  const auto w = static_cast<unsigned>(wire);
  return guest::interrupts(first_intid_ + w) - interrupts_before_[w];
}

// What the guest waits for may be the work of another pCPU, which the host may let wait.
void GuestRig::pass() {
  const std::uint64_t until = now_us() + kPassUs;
  while (now_us() < until) {
  }
}

void GuestRig::settle() {
  const std::uint64_t until = now_us() + kSettleUs;
  while (now_us() < until) {
  }
}

}  // namespace weir::guest
