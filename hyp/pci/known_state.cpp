#include "hyp/pci/known_state.hpp"

#include "hyp/pci/capabilities.hpp"

namespace weir::pci {
namespace {

// PCI Power Management, 5.9, and PCI Express, 5.3.1.4 and 6.6.1: after D3hot a function may be accessed again after
// 10 ms; what lies behind a bridge has been reset with it, and gets the time of a reset. D1 and D2 need 200 us.
constexpr std::uint32_t kFromD3 = 10'000;
constexpr std::uint32_t kBridgeFromD3 = 100'000;
constexpr std::uint32_t kFromD2 = 200;
constexpr std::uint32_t kAfterSecondaryReset = 100'000;
constexpr unsigned kD3 = 3;

std::uint16_t plus(std::uint16_t capability, std::uint16_t offset) {
  return static_cast<std::uint16_t>(capability + offset);
}

void silence(ConfigPort& config, Rid rid) {
  config.write(rid, kCommand, 2, Command{}.set<Command::IntxDisable>(true).words[0]);
}

struct Found {
  std::uint16_t power = 0, msi = 0, msix = 0, express = 0;  // offsets; 0: none
};
Found find(ConfigPort& config, Rid rid) {
  Found found;
  for_each_capability(config, rid, [&](std::uint16_t at, CapabilityHeader header) {
    switch (header.get<CapabilityHeader::Id>()) {
      case kCapPower: found.power = at; break;
      case kCapMsi: found.msi = at; break;
      case kCapMsix: found.msix = at; break;
      case kCapExpress: found.express = at + kExpressLink <= kExtended ? at : std::uint16_t{0}; break;
      default: break;
    }
  });
  return found;
}

DeviceControl device_control(ConfigPort& config, Rid rid, std::uint16_t express) {
  return DeviceControl{{{config.read(rid, plus(express, kExpressDeviceControl), 2)}}};
}

// To D0, without PMEs. A function that resets itself on the way keeps the packet sizes that its path was set up with.
void wake(ConfigPort& config, Rid rid, const Found& found) {
  if (found.power == 0) return;
  const std::uint16_t at = plus(found.power, kPowerControl);
  const PowerControl was{{{config.read(rid, at, 2)}}};
  const unsigned state = was.get<PowerControl::State>();
  DeviceControl sizes{};
  if (found.express != 0) sizes = device_control(config, rid, found.express);
  config.write(rid, at, 2, PowerControl{}.set<PowerControl::PmeStatus>(true).words[0]);
  if (state == 0) return;
  const std::uint32_t from_d3 = is_bridge(config, rid) ? kBridgeFromD3 : kFromD3;
  config.wait(state == kD3 ? from_d3 : kFromD2);
  if (found.express != 0) config.write(rid, plus(found.express, kExpressDeviceControl), 2, sizes.words[0] & 0x7fff);
  silence(config, rid);
}

void reset_msi(ConfigPort& config, Rid rid, const Found& found) {
  if (found.msi != 0) {
    const MsiControl msi{{{config.read(rid, found.msi, 4)}}};
    config.write(rid, found.msi, 4, MsiControl{msi}.set<MsiControl::Enable>(false).words[0]);
  }
  if (found.msix != 0) {
    const MsixControl msix{{{config.read(rid, found.msix, 4)}}};
    config.write(rid, found.msix, 4, MsixControl{msix}.set<MsixControl::Enable>(false).words[0]);
  }
}

void reset_express(ConfigPort& config, Rid rid, std::uint16_t express) {
  const ExpressHeader header{{{config.read(rid, express, 4)}}};
  DeviceControl control = device_control(config, rid, express);
  control.set<DeviceControl::ErrorReporting>(0)
      .set<DeviceControl::PhantomFunctions>(false)
      .set<DeviceControl::NoSnoop>(false)
      .set<DeviceControl::InitiateReset>(false);
  config.write(rid, plus(express, kExpressDeviceControl), 2, control.words[0]);
  if (const std::uint16_t at = plus(express, kExpressDeviceControl2);
      header.get<ExpressHeader::Version>() >= 2 && at + 2 <= kExtended) {
    const DeviceControl2 was{{{config.read(rid, at, 2)}}};
    const DeviceControl2 kept =
        DeviceControl2{}
            .set<DeviceControl2::CompletionTimeout>(was.get<DeviceControl2::CompletionTimeout>())
            .set<DeviceControl2::TenBitTags>(was.get<DeviceControl2::TenBitTags>());
    config.write(rid, at, 2, kept.words[0]);
  }
  // Errors below a root port, which a guest can cause, are no errors of the system.
  const PortType port = header.get<ExpressHeader::Port>();
  if (port == PortType::root_port || port == PortType::event_collector)
    config.write(rid, plus(express, kExpressRootControl), 2, 0);
}

void reset_extended(ConfigPort& config, Rid rid) {
  struct Register {
    std::uint16_t id;
    std::uint16_t control;  // 16 bits, from the capability
  };
  constexpr Register kControls[] = {{kExtendedSriov, kSriovControl},
                                    {kExtendedMulticast, kMulticastControl},
                                    {kExtendedTph, kTphControl},
                                    {kExtendedPtm, kPtmControl}};
  for_each_extended_capability(config, rid, [&](std::uint16_t at, ExtendedCapability header) {
    for (const Register& r : kControls)
      if (header.get<ExtendedCapability::Id>() == r.id && at + r.control + 2 <= kConfigEnd)
        config.write(rid, plus(at, r.control), 2, 0);
  });
}

// Also VGA, ISA and SERR# forwarding, all in Bridge Control. An empty window has its limit below its base.
void close_bridge(ConfigPort& config, Rid rid) {
  config.write(rid, kBusNumbers, 4, 0);
  config.write(rid, kIoWindow, 2, static_cast<std::uint32_t>(IoWindow::Base::mask));
  config.write(rid, kMemoryWindow, 4, static_cast<std::uint32_t>(Window::Base::mask));
  config.write(rid, kPrefetchWindow, 4, static_cast<std::uint32_t>(Window::Base::mask));
  config.write(rid, kPrefetchBaseUpper, 4, kAbsent);
  config.write(rid, kPrefetchLimitUpper, 4, 0);
  config.write(rid, kIoUpper, 4, 0);
  const BridgeControl was{{{config.read(rid, kBridgeControl, 2)}}};
  config.write(rid, kBridgeControl, 2, 0);
  if (was.get<BridgeControl::SecondaryReset>()) config.wait(kAfterSecondaryReset);
}

}  // namespace

bool is_bridge(ConfigPort& config, Rid rid) {
  return HeaderType{{{config.read(rid, kHeaderType, 1)}}}.get<HeaderType::Kind>() == kHeaderBridge;
}

void disable_translation_services(ConfigPort& config, Rid rid) {
  struct Service {
    std::uint16_t id;
    std::uint16_t control;  // 16 bits, from the capability
  };
  for (const Service& service : {Service{kExtendedPri, kPriControl}, Service{kExtendedAts, kAtsControl + 2},
                                 Service{kExtendedPasid, kPasidControl + 2}})
    for_each_extended_capability(config, rid, [&](std::uint16_t at, ExtendedCapability header) {
      const std::uint16_t control = plus(at, service.control);
      if (header.get<ExtendedCapability::Id>() == service.id && control + 2 <= kConfigEnd)
        config.write(rid, control, 2, 0);
    });
}

void bring_to_known_state(ConfigPort& config, Rid rid) {
  silence(config, rid);
  const Found found = find(config, rid);
  wake(config, rid, found);
  reset_msi(config, rid, found);
  disable_translation_services(config, rid);
  if (found.express != 0) reset_express(config, rid, found.express);
  reset_extended(config, rid);
  const HeaderType header{{{config.read(rid, kHeaderType, 1)}}};
  if (header.get<HeaderType::Kind>() == kHeaderEndpoint) config.write(rid, kExpansionRom, 4, 0);
  if (header.get<HeaderType::Kind>() == kHeaderBridge) {
    config.write(rid, kBridgeExpansionRom, 4, 0);
    close_bridge(config, rid);
  }
}

}  // namespace weir::pci
