// PCI configuration space as typed fields (PCI Express Base Specification, chapter 7.5), and the port to reach it.
#pragma once

#include <cstdint>

#include "guest-abi/field.hpp"
#include "guest-abi/types.hpp"

namespace weir::pci {

// Requester ID: bus << 8 | device << 3 | function.
struct Rid : Record<Rid, 32> {
  using Function = Field<"Function", 2, 0, unsigned>;
  using Device = Field<"Device", 7, 3, unsigned>;
  using Bus = Field<"Bus", 15, 8, unsigned>;
  using Layout = weir::Layout<32, Function, Device, Bus, Res0<31, 16>>;
  constexpr Rid() = default;
  constexpr explicit Rid(std::uint32_t raw) { words[0] = raw; }
  constexpr Rid(unsigned bus, unsigned device, unsigned function) {
    set<Bus>(bus).set<Device>(device).set<Function>(function);
  }
  [[nodiscard]] constexpr std::uint32_t value() const { return words[0]; }
  [[nodiscard]] constexpr unsigned bus() const { return get<Bus>(); }
  [[nodiscard]] constexpr unsigned device() const { return get<Device>(); }
  [[nodiscard]] constexpr unsigned function() const { return get<Function>(); }
};

// Where a configuration access goes within an ECAM window: Rid << 12 | offset.
struct EcamAddress : Record<EcamAddress, 32> {
  using Offset = Field<"Offset", 11, 0, std::uint16_t>;
  using Requester = Field<"Requester", 27, 12, std::uint32_t>;
  using Layout = weir::Layout<32, Offset, Requester, Res0<31, 28>>;
  constexpr explicit EcamAddress(std::uint32_t raw) { words[0] = raw; }
  constexpr EcamAddress(Rid rid, std::uint16_t offset) { set<Requester>(rid.value()).set<Offset>(offset); }
};

// Offsets of the header registers that Weir uses.
enum Offset : std::uint16_t {
  kVendorId = 0x00,
  kDeviceId = 0x02,
  kCommand = 0x04,
  kStatus = 0x06,
  kRevision = 0x08,  // and class code in [31:8]
  kCacheLine = 0x0c,
  kHeaderType = 0x0e,
  kBar0 = 0x10,
  kBusNumbers = 0x18,         // type 1
  kIoWindow = 0x1c,           // type 1: base [7:4], limit [15:12]; Secondary Status above it
  kMemoryWindow = 0x20,       // type 1: base [15:4], limit [31:20]
  kPrefetchWindow = 0x24,     // type 1
  kPrefetchBaseUpper = 0x28,  // type 1
  kPrefetchLimitUpper = 0x2c,
  kSubsystem = 0x2c,     // type 0
  kExpansionRom = 0x30,  // type 0
  kIoUpper = 0x30,       // type 1: upper halves of the I/O window's base and limit
  kCapabilities = 0x34,
  kBridgeExpansionRom = 0x38,  // type 1
  kInterruptLine = 0x3c,
  kInterruptPin = 0x3d,
  kBridgeControl = 0x3e,  // type 1
  kHeaderEnd = 0x40,
  kExtended = 0x100,
  kConfigEnd = 0x1000,
};

inline constexpr unsigned kBars = 6;
inline constexpr std::uint32_t kAbsent = 0xffffffff;

struct Command : Record<Command, 32> {              // the Command register and, above it, Status
  using Io = Field<"IO Space Enable", 0, 0, bool>;  // a guest's, for a function that has an I/O BAR
  using Memory = Field<"Memory Space Enable", 1, 1, bool>;
  using BusMaster = Field<"Bus Master Enable", 2, 2, bool>;
  using Parity = Field<"Parity Error Response", 6, 6, bool>;
  using Serr = Field<"SERR# Enable", 8, 8, bool>;
  using IntxDisable = Field<"Interrupt Disable", 10, 10, bool>;
  using Status = Field<"Status", 31, 16, std::uint16_t, Guest::must_be_0>;
  using Layout = weir::Layout<32, Io, Memory, BusMaster, Res0<5, 3>, Parity, Res0<7, 7>, Serr, Res0<9, 9>, IntxDisable,
                              Res0<15, 11>, Status>;
};

struct StatusBits : Record<StatusBits, 32> {  // over the same doubleword as Command
  using InterruptStatus = Field<"Interrupt Status", 19, 19, bool, Guest::must_be_0>;
  using CapabilitiesList = Field<"Capabilities List", 20, 20, bool, Guest::must_be_0>;
  using Layout = weir::Layout<32, Ignored<18, 0>, InterruptStatus, CapabilitiesList, Ignored<31, 21>>;
};

struct HeaderType : Record<HeaderType, 32> {  // of the byte at 0x0e
  using Kind = Field<"Layout", 6, 0, unsigned>;
  using MultiFunction = Field<"Multi-Function", 7, 7, bool>;
  using Layout = weir::Layout<32, Kind, MultiFunction, Res0<31, 8>>;
};
inline constexpr unsigned kHeaderEndpoint = 0;
inline constexpr unsigned kHeaderBridge = 1;

struct BusNumbers : Record<BusNumbers, 32> {
  using Primary = Field<"Primary", 7, 0, unsigned>;
  using Secondary = Field<"Secondary", 15, 8, unsigned>;
  using Subordinate = Field<"Subordinate", 23, 16, unsigned>;
  using Layout = weir::Layout<32, Primary, Secondary, Subordinate, Res0<31, 24>>;
};

// A bridge's memory window: address bits [31:20] of the first and the last MiB.
struct Window : Record<Window, 32> {
  using Base = Field<"Base", 15, 4, std::uint32_t>;
  using Limit = Field<"Limit", 31, 20, std::uint32_t>;
  using Layout = weir::Layout<32, Ignored<3, 0>, Base, Ignored<19, 16>, Limit>;
};
inline constexpr std::uint64_t kWindowGranule = 1_MiB;
inline constexpr unsigned kWindowWide = 1;  // in [3:0] of a prefetchable or an I/O window: it has upper halves

// A bridge's I/O window: address bits [15:12] of the first and the last 4 KiB.
struct IoWindow : Record<IoWindow, 32> {
  using Kind = Field<"Base: Addressing", 3, 0, unsigned>;
  using Base = Field<"Base", 7, 4, std::uint32_t>;
  using Limit = Field<"Limit", 15, 12, std::uint32_t>;
  using Layout = weir::Layout<32, Kind, Base, Ignored<11, 8>, Limit, Ignored<31, 16>>;
};

struct BridgeControl : Record<BridgeControl, 32> {
  using SecondaryReset = Field<"Secondary Bus Reset", 6, 6, bool>;
  using Layout = weir::Layout<32, Ignored<5, 0>, SecondaryReset, Ignored<31, 7>>;
};

struct Bar : Record<Bar, 32> {
  enum class Kind : std::uint8_t { bits32 = 0, below_1mib = 1, bits64 = 2, reserved = 3 };
  using Io = Field<"I/O", 0, 0, bool>;
  using Type = Field<"Type", 2, 1, Kind>;
  using Wide = Field<"64-bit", 2, 2, bool>;  // of Type, where that is one of the two that there are
  using Prefetchable = Field<"Prefetchable", 3, 3, bool>;
  using Base = AddressField<"Base", 31, 4, std::uint64_t>;
  using Layout = weir::Layout<32, Io, Type, Prefetchable, Base>;
};
struct IoBar : Record<IoBar, 32> {
  using Io = Field<"I/O", 0, 0, bool>;
  using Base = AddressField<"Base", 31, 2, std::uint64_t>;
  using Layout = weir::Layout<32, Io, Res0<1, 1>, Base>;
};

struct CapabilityHeader : Record<CapabilityHeader, 32> {
  using Id = Field<"ID", 7, 0, std::uint8_t>;
  using Next = Field<"Next", 15, 8, std::uint8_t>;
  using Rest = Field<"Rest", 31, 16, std::uint32_t>;
  using Layout = weir::Layout<32, Id, Next, Rest>;
};
inline constexpr std::uint8_t kCapPower = 0x01;
inline constexpr std::uint8_t kCapMsi = 0x05;
inline constexpr std::uint8_t kCapVendor = 0x09;
inline constexpr std::uint8_t kCapExpress = 0x10;
inline constexpr std::uint8_t kCapMsix = 0x11;

struct MsiControl : Record<MsiControl, 32> {  // first doubleword of MSI
  using Enable = Field<"MSI Enable", 16, 16, bool>;
  using Layout = weir::Layout<32, Ignored<15, 0>, Enable, Ignored<31, 17>>;
};
struct MsixControl : Record<MsixControl, 32> {  // first doubleword of MSI-X
  using Enable = Field<"MSI-X Enable", 31, 31, bool>;
  using Layout = weir::Layout<32, Ignored<30, 0>, Enable>;
};

// Power Management Control/Status (PCI Power Management, 3.2.4), 16 bits.
inline constexpr std::uint16_t kPowerControl = 4;  // from the capability
struct PowerControl : Record<PowerControl, 32> {
  using State = Field<"PowerState", 1, 0, unsigned>;  // 0: D0, 3: D3hot
  using NoSoftReset = Field<"No_Soft_Reset", 3, 3, bool>;
  using PmeEnable = Field<"PME_En", 8, 8, bool>;
  using PmeStatus = Field<"PME_Status (RW1C)", 15, 15, bool>;
  using Layout = weir::Layout<32, State, Res0<2, 2>, NoSoftReset, Ignored<7, 4>, PmeEnable, Ignored<14, 9>, PmeStatus,
                              Res0<31, 16>>;
};

// First doubleword of the PCI Express capability.
enum class PortType : std::uint8_t {
  endpoint = 0,
  legacy_endpoint = 1,
  root_port = 4,
  upstream = 5,
  downstream = 6,
  to_pci = 7,    // a PCI Express to PCI/PCI-X bridge
  from_pci = 8,  // a PCI/PCI-X to PCI Express bridge
  integrated_endpoint = 9,
  event_collector = 10
};
struct ExpressHeader : Record<ExpressHeader, 32> {
  using Version = Field<"Capability Version", 19, 16, unsigned>;
  using Port = Field<"Device/Port Type", 23, 20, PortType>;
  using Layout = weir::Layout<32, Ignored<15, 0>, Version, Port, Ignored<31, 24>>;
};
inline constexpr std::uint16_t kExpressDeviceCaps = 0x04;     // from the capability
inline constexpr std::uint16_t kExpressDeviceControl = 0x08;  // control and status
inline constexpr std::uint16_t kExpressLink = 0x0c;           // link, slot, root: not there in an integrated endpoint
inline constexpr std::uint16_t kExpressRootControl = 0x1c;    // of root ports and event collectors
inline constexpr std::uint16_t kExpressDeviceCaps2 = 0x24;    // from version 2 of the capability on, as the next
inline constexpr std::uint16_t kExpressDeviceControl2 = 0x28;
inline constexpr std::uint16_t kExpressEnd = 0x3c;

struct DeviceCaps : Record<DeviceCaps, 32> {
  using FunctionLevelReset = Field<"Function Level Reset", 28, 28, bool>;
  using Layout = weir::Layout<32, Ignored<27, 0>, FunctionLevelReset, Ignored<31, 29>>;
};
struct DeviceControl : Record<DeviceControl, 32> {
  using ErrorReporting = Field<"Error Reporting Enables", 3, 0, unsigned>;
  using RelaxedOrdering = Field<"Relaxed Ordering", 4, 4, bool>;
  using MaxPayload = Field<"Max_Payload_Size", 7, 5, unsigned, Guest::must_be_0>;  // the path's: Weir's
  using ExtendedTag = Field<"Extended Tag", 8, 8, bool, Guest::must_be_0>;
  using PhantomFunctions = Field<"Phantom Functions", 9, 9, bool, Guest::must_be_0>;
  using AuxPower = Field<"Aux Power", 10, 10, bool, Guest::must_be_0>;
  using NoSnoop = Field<"No Snoop", 11, 11, bool, Guest::must_be_0>;  // coherent DMA is what stage 2 relies on
  using MaxReadRequest = Field<"Max_Read_Request_Size", 14, 12, unsigned>;
  using InitiateReset = Field<"Initiate FLR", 15, 15, bool, Guest::must_be_0>;  // would forget the physical BARs
  using StatusErrors = Field<"Errors Detected (RW1C)", 19, 16, unsigned>;
  using StatusRest = Field<"Status", 31, 20, unsigned, Guest::must_be_0>;
  using Layout = weir::Layout<32, ErrorReporting, RelaxedOrdering, MaxPayload, ExtendedTag, PhantomFunctions, AuxPower,
                              NoSnoop, MaxReadRequest, InitiateReset, StatusErrors, StatusRest>;
};

// Device Control 2 (7.5.3.16). None of it is a guest's.
struct DeviceControl2 : Record<DeviceControl2, 32> {
  using CompletionTimeout = OwnField<"Completion Timeout Value", 3, 0, unsigned>;
  using NoCompletionTimeout = OwnBit<"Completion Timeout Disable", 4>;
  using AriForwarding = OwnBit<"ARI Forwarding Enable", 5>;
  using AtomicRequester = OwnBit<"AtomicOp Requester Enable", 6>;
  using AtomicBlocking = OwnBit<"AtomicOp Egress Blocking", 7>;
  using IdoRequest = OwnBit<"IDO Request Enable", 8>;
  using IdoCompletion = OwnBit<"IDO Completion Enable", 9>;
  using Ltr = OwnBit<"LTR Mechanism Enable", 10>;
  using EmergencyPower = OwnBit<"Emergency Power Reduction Request", 11>;
  using TenBitTags = OwnBit<"10-Bit Tag Requester Enable", 12>;
  using Obff = OwnField<"OBFF Enable", 14, 13, unsigned>;
  using PrefixBlocking = OwnBit<"End-End TLP Prefix Blocking", 15>;
  using Status2 = OwnField<"Device Status 2", 31, 16, unsigned>;
  using Layout =
      weir::Layout<32, CompletionTimeout, NoCompletionTimeout, AriForwarding, AtomicRequester, AtomicBlocking,
                   IdoRequest, IdoCompletion, Ltr, EmergencyPower, TenBitTags, Obff, PrefixBlocking, Status2>;
};

struct ExtendedCapability : Record<ExtendedCapability, 32> {
  using Id = Field<"ID", 15, 0, std::uint16_t>;
  using Version = Field<"Version", 19, 16, unsigned>;
  using Next = Field<"Next", 31, 20, std::uint32_t>;
  using Layout = weir::Layout<32, Id, Version, Next>;
};
inline constexpr std::uint16_t kExtendedAcs = 0x000d;

// Access Control Services (7.7.11), the doubleword behind the header: what there is, and what is on.
struct Acs : Record<Acs, 32> {
  using Offered = Field<"Capability: SV TB RR CR UF", 4, 0, unsigned>;
  using Enabled = Field<"Control: SV TB RR CR UF", 20, 16, unsigned>;
  // Egress Control and Direct Translated P2P: ways from one function to another that do not pass the SMMU.
  using Direct = Field<"Control: EC DT", 22, 21, unsigned>;
  static constexpr unsigned kTranslationBlocking = 1U << 1;  // in both: requests that ATS has translated do not pass
  // What makes a port send on to the SMMU what its functions send: SV, RR, CR, UF.
  static constexpr unsigned kIsolating = 0x1d;
  using Layout = weir::Layout<32, Offered, Ignored<15, 5>, Enabled, Direct, Ignored<31, 23>>;
};
inline constexpr std::uint16_t kAcsControl = 4;  // from the capability

// Address Translation Services (10.5.1), the doubleword behind the header: capability and control. What is guest-
// settable here and below is so for a function that is granted the capability.
inline constexpr std::uint16_t kExtendedAts = 0x000f;
inline constexpr std::uint16_t kAtsControl = 4;  // from the capability, as the others below
inline constexpr std::uint16_t kAtsEnd = 8;
struct Ats : Record<Ats, 32> {
  using Capability = OwnField<"Capability", 15, 0, std::uint16_t>;
  using SmallestUnit = Field<"Smallest Translation Unit", 20, 16, unsigned>;
  using Enable = BitField<"Enable", 31>;
  using Layout = weir::Layout<32, Capability, SmallestUnit, Res0<30, 21>, Enable>;
};

// Page Request Interface (10.5.2), the doubleword behind the header: control and status.
inline constexpr std::uint16_t kExtendedPri = 0x0013;
inline constexpr std::uint16_t kPriControl = 4;
inline constexpr std::uint16_t kPriCapacity = 8;
inline constexpr std::uint16_t kPriAllocation = 12;
inline constexpr std::uint16_t kPriEnd = 16;
struct Pri : Record<Pri, 32> {
  using Enable = BitField<"Enable", 0>;
  using Reset = BitField<"Reset", 1>;
  using ResponseFailure = BitField<"Response Failure (RW1C)", 16>;
  using UnexpectedIndex = BitField<"Unexpected Page Request Group Index (RW1C)", 17>;
  using Stopped = OwnBit<"Stopped", 24>;
  using PasidRequired = OwnBit<"PRG Response PASID Required", 31>;
  using Layout = weir::Layout<32, Enable, Reset, Res0<15, 2>, ResponseFailure, UnexpectedIndex, Res0<23, 18>, Stopped,
                              Res0<30, 25>, PasidRequired>;
};

// Process Address Space ID (7.8.9), the doubleword behind the header: capability and control.
inline constexpr std::uint16_t kExtendedPasid = 0x001b;
inline constexpr std::uint16_t kPasidControl = 4;
inline constexpr std::uint16_t kPasidEnd = 8;
struct Pasid : Record<Pasid, 32> {
  using Execute = OwnBit<"Execute Permission Supported", 1>;
  using Privileged = OwnBit<"Privileged Mode Supported", 2>;
  using Width = OwnField<"Max PASID Width", 12, 8, unsigned>;
  using Enable = BitField<"Enable", 16>;
  using ExecuteEnable = BitField<"Execute Permission Enable", 17>;
  using PrivilegedEnable = BitField<"Privileged Mode Enable", 18>;
  using Layout = weir::Layout<32, Res0<0, 0>, Execute, Privileged, Res0<7, 3>, Width, Res0<15, 13>, Enable,
                              ExecuteEnable, PrivilegedEnable, Res0<31, 19>>;
};

// Extended capabilities of which Weir knows only what is off while nobody asks for it. Offsets are from the capability,
// of 16-bit registers.
inline constexpr std::uint16_t kExtendedSriov = 0x0010;  // SR-IOV (9.3.3): VF Enable, VF MSE, ARI
inline constexpr std::uint16_t kSriovControl = 8;
inline constexpr std::uint16_t kExtendedMulticast = 0x0012;  // Multicast (7.9.11): copies of writes go to other ports
inline constexpr std::uint16_t kMulticastControl = 6;
inline constexpr std::uint16_t kExtendedTph = 0x0017;  // TPH Requester (7.9.13): steering tags
inline constexpr std::uint16_t kTphControl = 8;
inline constexpr std::uint16_t kExtendedPtm = 0x001f;  // Precision Time Measurement (7.9.15)
inline constexpr std::uint16_t kPtmControl = 8;

// Physical configuration space. `size` is 1, 2 or 4 bytes, `offset` aligned to it; an absent function reads as ones.
class ConfigPort {
 public:
  virtual std::uint32_t read(Rid rid, std::uint16_t offset, unsigned size) = 0;
  virtual void write(Rid rid, std::uint16_t offset, unsigned size, std::uint32_t value) = 0;
  // Lets time pass that a function needs after a write.
  virtual void wait(std::uint32_t microseconds) = 0;

 protected:
  ~ConfigPort() = default;
};

}  // namespace weir::pci
