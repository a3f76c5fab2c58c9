#include "hyp/pci/virtual_host.hpp"

#include <algorithm>
#include <optional>

#include "hyp/pci/capabilities.hpp"
#include "hyp/pci/known_state.hpp"

namespace weir::pci {
namespace {

constexpr std::uint32_t kAllBytes = 0xffffffff;

// The bytes of a doubleword that an access of `size` at `offset` touches.
constexpr unsigned shift_of(std::uint64_t offset) { return static_cast<unsigned>(offset & 3) * 8; }
constexpr std::uint32_t lanes(std::uint64_t offset, unsigned size) {
  return static_cast<std::uint32_t>(bit_mask(size * 8 - 1, 0)) << shift_of(offset);
}

constexpr bool inside(std::uint16_t at, std::uint16_t start, unsigned length) {
  return start != 0 && at >= start && at < start + length;
}

// The granted capabilities in the order of the guest's list, which is that of their addresses.
std::array<std::uint16_t, 3> granted(const VirtualFunction& f) {
  std::array<std::uint16_t, 3> list{f.ats, f.pri, f.pasid};
  std::ranges::sort(list, [](std::uint16_t a, std::uint16_t b) { return a != 0 && (b == 0 || a < b); });
  return list;
}

// What lies behind the granted capability at `at` in the guest's list; 0: nothing.
std::uint16_t behind(const VirtualFunction& f, std::uint16_t at) {
  const auto list = granted(f);
  const auto* found = std::ranges::find(list, at);
  return found == list.end() || found + 1 == list.end() ? std::uint16_t{0} : found[1];
}

void find_granted(VirtualFunction& f, const CapabilityGrant& grant) {
  // A capability ends where the function says another begins, or it is not one.
  const auto take = [&](std::uint16_t& to, std::uint16_t id, unsigned length) {
    std::uint16_t found = 0;
    bool fits = true;
    for_each_extended_capability(*f.config, f.physical->rid, [&](std::uint16_t at, ExtendedCapability header) {
      if (found == 0 && header.get<ExtendedCapability::Id>() == id) found = at;
    });
    for_each_extended_capability(*f.config, f.physical->rid, [&](std::uint16_t at, ExtendedCapability) {
      fits = fits && (at == found || !inside(at, found, length));
    });
    if (fits && found + length <= kConfigEnd) to = found;
  };
  if (grant.ats) take(f.ats, kExtendedAts, kAtsEnd);
  if (grant.pri) take(f.pri, kExtendedPri, kPriEnd);
  if (grant.pasid_bits != 0) take(f.pasid, kExtendedPasid, kPasidEnd);
  f.pasid_bits = grant.pasid_bits;
  f.page_requests = grant.page_requests;
}

// The most page requests that the guest may let the function have outstanding.
std::uint32_t page_request_capacity(const VirtualFunction& f) {
  const std::uint32_t own = f.config->read(f.physical->rid, static_cast<std::uint16_t>(f.pri + kPriCapacity), 4);
  return std::min(own, f.page_requests);
}

void allocate_page_requests(const VirtualFunction& f, std::uint32_t asked) {
  f.config->write(f.physical->rid, static_cast<std::uint16_t>(f.pri + kPriAllocation), 4,
                  std::min(asked, page_request_capacity(f)));
}

// A BAR of the guest's, with these address bits.
std::uint32_t bar_word(const BarInfo& bar, std::uint32_t address) {
  if (bar.io) return IoBar{{{address}}}.set<IoBar::Io>(true).words[0];
  return Bar{{{address}}}.set<Bar::Wide>(bar.wide).set<Bar::Prefetchable>(bar.prefetchable).words[0];
}

// What of Command a guest may set: decoding of I/O only where there is something to decode.
std::uint32_t settable_command(const Function& function) {
  Command settable{{{static_cast<std::uint32_t>(Command::Layout::guest[0])}}};
  const bool io = std::ranges::any_of(function.bars, [](const BarInfo& b) { return b.io && b.bytes != 0; });
  return settable.set<Command::Io>(io).words[0];
}

}  // namespace

std::expected<void, AddError> VirtualHost::add(ConfigPort& config, const Function& function, unsigned slot, bool intx,
                                               const CapabilityGrant& grant) {
  if (slot == 0 || slot >= kMaxSlots || slots_[slot].physical != nullptr)
    return std::unexpected{AddError{AddError::What::slot_taken}};
  VirtualFunction f{};
  f.physical = &function;
  f.config = &config;
  f.intx = intx;
  f.command.set<Command::IntxDisable>(false);
  for_each_capability(config, function.rid, [&](std::uint16_t at, CapabilityHeader header) {
    if (header.get<CapabilityHeader::Id>() == kCapExpress && f.express_capability == 0) f.express_capability = at;
    if (header.get<CapabilityHeader::Id>() == kCapVendor && f.vendor_capability == 0) {
      f.vendor_capability = at;
      f.vendor_length = static_cast<std::uint16_t>(header.get<CapabilityHeader::Rest>() & 0xff);
    }
  });
  // The length is the device's word for it; it must not open what lies behind, MSI for one.
  const auto cut_at = [&f](std::uint16_t end) {
    if (inside(end, f.vendor_capability, f.vendor_length))
      f.vendor_length = static_cast<std::uint16_t>(end - f.vendor_capability);
  };
  for_each_capability(config, function.rid, [&](std::uint16_t at, CapabilityHeader) {
    if (at != f.vendor_capability) cut_at(at);
  });
  cut_at(kExtended);
  find_granted(f, grant);
  if (const auto assigned = assign(f); !assigned) return assigned;
  if (f.pri != 0) allocate_page_requests(f, 0);  // whatever whoever had it before has left there
  slots_[slot] = f;
  return {};
}

std::expected<void, AddError> VirtualHost::assign(VirtualFunction& f) {
  for (unsigned i = 0; i < kBars; ++i) {
    const BarInfo& bar = f.physical->bars[i];
    if (bar.bytes == 0) continue;
    if (!bars_.reaches(bar.base, bar.bytes)) return std::unexpected{AddError{AddError::What::unreachable, i}};
    const bool high = bar.wide && bar.prefetchable;
    const IpaWindow& window = bar.io ? io_ : high ? memory64_ : memory32_;
    std::uint64_t& next = bar.io ? next_io_ : high ? next64_ : next32_;
    const IPA base = (window.base + next).align_up(bar.bytes);
    if (!window.contains(base, bar.bytes)) return std::unexpected{AddError{AddError::What::no_room, i}};
    next = base - window.base + bar.bytes;
    const std::uint64_t address = bar.io ? base - io_.base : base.value;
    f.bars[i] = bar_word(bar, static_cast<std::uint32_t>(address));
    if (bar.wide) f.bars[i + 1] = static_cast<std::uint32_t>(address >> 32);
  }
  return {};
}

const VirtualFunction* VirtualHost::at(unsigned slot) const {
  return slot < kMaxSlots && slots_[slot].physical != nullptr ? &slots_[slot] : nullptr;
}

void VirtualHost::release() {
  const SpinLock::Guard guard{lock_};
  for (VirtualFunction& f : slots_) {
    if (f.physical == nullptr) continue;
    f.command = {};
    f.fenced = true;  // a fence that comes late finds nothing to do
    bring_to_known_state(*f.config, f.physical->rid);
    update_mappings(f, {});
  }
}

void VirtualHost::fence(unsigned slot) {
  const SpinLock::Guard guard{lock_};
  if (slot >= kMaxSlots || slots_[slot].physical == nullptr || slots_[slot].fenced) return;
  VirtualFunction& f = slots_[slot];
  f.fenced = true;
  write_command(f, 0, 0);
  disable_translation_services(*f.config, f.physical->rid);
}

VirtualFunction* VirtualHost::decode(std::uint64_t offset, std::uint16_t& reg) {
  const EcamAddress address{static_cast<std::uint32_t>(offset)};
  const Rid rid{address.get<EcamAddress::Requester>()};
  reg = address.get<EcamAddress::Offset>();
  if (offset >> 28 != 0 || rid.bus() != 0 || rid.function() != 0 || slots_[rid.device()].physical == nullptr)
    return nullptr;
  return &slots_[rid.device()];
}

MmioResult VirtualHost::read(Vcpu&, MmioAccess access, std::uint64_t& value) {
  std::uint16_t reg = 0;
  const SpinLock::Guard guard{lock_};
  VirtualFunction* f = decode(access.offset, reg);
  if (f == nullptr) {
    value = bit_mask(access.size * 8 - 1, 0);
    return MmioResult::done;
  }
  const auto at = static_cast<std::uint16_t>(reg & ~3u);
  if (access.size == 8) {
    value = read_word(*f, at) | std::uint64_t{read_word(*f, static_cast<std::uint16_t>(at + 4))} << 32;
  } else {
    value = (read_word(*f, at) & lanes(reg, access.size)) >> shift_of(reg);
  }
  return MmioResult::done;
}

MmioResult VirtualHost::write(Vcpu&, MmioAccess access, std::uint64_t value) {
  std::uint16_t reg = 0;
  const SpinLock::Guard guard{lock_};
  VirtualFunction* f = decode(access.offset, reg);
  if (f == nullptr) return MmioResult::done;
  const auto at = static_cast<std::uint16_t>(reg & ~3u);
  if (access.size == 8) {
    write_word(*f, at, static_cast<std::uint32_t>(value), kAllBytes);
    write_word(*f, static_cast<std::uint16_t>(at + 4), static_cast<std::uint32_t>(value >> 32), kAllBytes);
  } else {
    write_word(*f, at, static_cast<std::uint32_t>(value) << shift_of(reg), lanes(reg, access.size));
  }
  return MmioResult::done;
}

std::uint32_t VirtualHost::read_word(VirtualFunction& f, std::uint16_t at) {
  const auto physical = [&] { return f.config->read(f.physical->rid, at, 4); };
  if (at >= kExtended) return read_extended(f, at);
  if (at >= kBar0 && at < kBar0 + 4 * kBars) return f.bars[(at - kBar0) / 4u];
  switch (at) {
    case kCommand: {
      StatusBits status{{{physical()}}};
      status.set<StatusBits::CapabilitiesList>(f.vendor_capability != 0 || f.express_capability != 0);
      if (!f.intx) status.set<StatusBits::InterruptStatus>(false);
      return (status.words[0] & static_cast<std::uint32_t>(Command::Status::mask)) | f.command.words[0];
    }
    case kCacheLine: {  // latency timer and BIST as they are; a single function with an endpoint's header
      constexpr std::uint32_t header_type = lanes(kHeaderType, 1);
      return physical() & ~header_type;
    }
    case kVendorId:
    case kRevision:
    case kSubsystem: return physical();
    case kCapabilities: return f.vendor_capability != 0 ? f.vendor_capability : f.express_capability;
    case kInterruptLine: return (f.intx ? 1u << shift_of(kInterruptPin) : 0) | f.interrupt_line;
    default: break;
  }
  if (at == f.vendor_capability)
    return CapabilityHeader{{{physical()}}}
        .set<CapabilityHeader::Next>(static_cast<std::uint8_t>(f.express_capability))
        .words[0];
  if (inside(at, f.vendor_capability, f.vendor_length)) return physical();
  if (at == f.express_capability) {
    CapabilityHeader header{{{physical()}}};
    header.set<CapabilityHeader::Next>(0);
    return ExpressHeader{{{header.words[0]}}}.set<ExpressHeader::Port>(PortType::integrated_endpoint).words[0];
  }
  if (inside(at, f.express_capability, kExpressEnd)) {
    const auto within = static_cast<std::uint16_t>(at - f.express_capability);
    if (within == kExpressDeviceCaps)
      return DeviceCaps{{{physical()}}}.set<DeviceCaps::FunctionLevelReset>(false).words[0];
    if (within == kExpressDeviceControl || within == kExpressDeviceCaps2 || within == kExpressDeviceControl2)
      return physical();
  }
  return 0;
}

// The list begins at kExtended, with a null capability if nothing that is granted lies there; a zero is an empty list.
std::uint32_t VirtualHost::read_extended(VirtualFunction& f, std::uint16_t at) {
  const auto physical = [&] { return f.config->read(f.physical->rid, at, 4); };
  for (const std::uint16_t capability : granted(f))
    if (at == capability && at != 0)
      return ExtendedCapability{{{physical()}}}.set<ExtendedCapability::Next>(behind(f, at)).words[0];
  if (at == kExtended) return ExtendedCapability{}.set<ExtendedCapability::Next>(granted(f)[0]).words[0];
  if (f.pri != 0 && at == f.pri + kPriCapacity) return page_request_capacity(f);
  if (inside(at, f.ats, kAtsEnd) || inside(at, f.pri, kPriEnd)) return physical();
  if (inside(at, f.pasid, kPasidEnd)) {
    Pasid pasid{{{physical()}}};
    return pasid.set<Pasid::Width>(std::min(pasid.get<Pasid::Width>(), f.pasid_bits)).words[0];
  }
  return 0;
}

void VirtualHost::write_extended(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes) {
  if (f.fenced) return;
  const auto now = [&] { return f.config->read(f.physical->rid, at, 4); };
  // `cleared` are bits that a one clears: only those that the guest writes are written as ones.
  const auto write = [&](std::uint64_t settable, std::uint64_t cleared) {
    const auto mask = static_cast<std::uint32_t>(settable) & bytes;
    f.config->write(f.physical->rid, at, 4, (now() & ~(mask | static_cast<std::uint32_t>(cleared))) | (value & mask));
  };
  if (f.ats != 0 && at == f.ats + kAtsControl) return write(Ats::Layout::guest[0], 0);
  if (f.pri != 0 && at == f.pri + kPriControl)
    return write(Pri::Layout::guest[0], Pri::ResponseFailure::mask | Pri::UnexpectedIndex::mask);
  if (f.pri != 0 && at == f.pri + kPriAllocation) return allocate_page_requests(f, (now() & ~bytes) | (value & bytes));
  if (f.pasid != 0 && at == f.pasid + kPasidControl) return write(Pasid::Layout::guest[0], 0);
}

void VirtualHost::write_word(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes) {
  if (at >= kExtended) return write_extended(f, at, value, bytes);
  if (at >= kBar0 && at < kBar0 + 4 * kBars) {
    const unsigned i = (at - kBar0) / 4u;
    return write_bar(f, i, (f.bars[i] & ~bytes) | (value & bytes));
  }
  if (at == kCommand) return write_command(f, value, bytes);
  if (at == kInterruptLine && (bytes & lanes(kInterruptLine, 1)) != 0) {
    f.interrupt_line = static_cast<std::uint8_t>(value);
    return;
  }
  if (at != f.vendor_capability && inside(at, f.vendor_capability, f.vendor_length)) {
    // Whole bytes, as the guest wrote them: what a vendor's register does with the others is not known.
    for (unsigned i = 0; i < 4; ++i)
      if ((bytes & lanes(i, 1)) != 0)
        f.config->write(f.physical->rid, static_cast<std::uint16_t>(at + i), 1, value >> shift_of(i) & 0xff);
    return;
  }
  if (inside(at, f.express_capability, kExpressEnd)) write_express(f, at, value, bytes);
}

void VirtualHost::write_command(VirtualFunction& f, std::uint32_t value, std::uint32_t bytes) {
  const std::uint32_t settable = settable_command(*f.physical);
  const Command was = f.command;
  f.command.words[0] = (f.command.words[0] & ~(bytes & settable)) | (value & bytes & settable);
  Command physical = f.command;
  if (!f.intx) physical.set<Command::IntxDisable>(true);  // the line belongs to another VM, or leads nowhere
  if (f.fenced) physical.set<Command::BusMaster>(false);
  // What is decoded no more disappears first, what is from now on appears last.
  update_mappings(f, Command{{{f.command.words[0] & was.words[0]}}});
  f.config->write(f.physical->rid, kCommand, 2, physical.words[0]);
  update_mappings(f, physical);
  if (const std::uint32_t clear = value & bytes & static_cast<std::uint32_t>(Command::Status::mask); clear != 0)
    f.config->write(f.physical->rid, kStatus, 2, clear >> Command::Status::shift);
}

void VirtualHost::write_bar(VirtualFunction& f, unsigned i, std::uint32_t value) {
  const bool upper = i > 0 && f.physical->bars[i - 1].wide;
  const BarInfo& bar = f.physical->bars[upper ? i - 1 : i];
  if (bar.bytes == 0) return;  // not implemented: reads as zero
  const std::uint64_t settable = ~(bar.bytes - 1);
  f.bars[i] = upper ? value & static_cast<std::uint32_t>(settable >> 32)
                    : bar_word(bar, value & static_cast<std::uint32_t>(settable));
  update_mappings(f, f.command);
}

void VirtualHost::write_express(VirtualFunction& f, std::uint16_t at, std::uint32_t value, std::uint32_t bytes) {
  if (at - f.express_capability != kExpressDeviceControl) return;
  constexpr std::uint32_t settable = DeviceControl::Layout::guest[0];
  constexpr std::uint32_t errors = static_cast<std::uint32_t>(DeviceControl::StatusErrors::mask);
  const std::uint32_t now = f.config->read(f.physical->rid, at, 4);
  // Status bits are cleared by writing 1: only those that the guest writes.
  const std::uint32_t kept = now & ~(bytes & settable) & ~errors;
  f.config->write(f.physical->rid, at, 4, kept | (value & bytes & settable));
}

IPA VirtualHost::bar_base(const VirtualFunction& f, unsigned i) const {
  if (f.physical->bars[i].io) return io_.base + IoBar{{{f.bars[i]}}}.get<IoBar::Base>();
  std::uint64_t base = Bar{{{f.bars[i]}}}.get<Bar::Base>();
  if (f.physical->bars[i].wide) base |= std::uint64_t{f.bars[i + 1]} << 32;
  return IPA{base};
}

// Addresses outside of the host's windows do not get to the bus.
bool VirtualHost::routed(const BarInfo& bar, IPA at) const {
  if (bar.io) return io_.contains(at, bar.bytes);
  return memory32_.contains(at, bar.bytes) || memory64_.contains(at, bar.bytes);
}

void VirtualHost::update_mappings(VirtualFunction& f, pci::Command command) {
  for (unsigned i = 0; i < kBars; ++i) {
    const BarInfo& bar = f.physical->bars[i];
    if (bar.bytes == 0) continue;
    const IPA at = bar_base(f, i);
    const bool decode = bar.io ? command.get<Command::Io>() : command.get<Command::Memory>();
    const bool wanted = decode && at.aligned(bar.bytes) && routed(bar, at);
    if (f.mapped[i] && (!wanted || f.mapped_at[i] != at)) {
      bars_.unmap_bar(f.mapped_at[i], bar.bytes);
      f.mapped[i] = false;
    }
    if (wanted && !f.mapped[i]) {
      f.mapped[i] = bars_.map_bar(at, bar.base, bar.bytes);
      f.mapped_at[i] = at;
    }
  }
}

}  // namespace weir::pci
