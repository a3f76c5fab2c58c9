// Enumerations shared by several SMMUv3 formats (Arm IHI 0070).
#pragma once

#include <cstdint>

namespace weir::smmu {

// CR1.TABLE_SH/QUEUE_SH, *_IRQ_CFG2.SH, STE.S1CSH, STE.S2SH0, CD.SHx, CMD_SYNC.MSH. 0b01 is reserved and means
// non-shareable.
enum class Shareability : std::uint8_t { non_shareable = 0b00, reserved = 0b01, outer = 0b10, inner = 0b11 };

// STE.SHCFG and GBPA.SHCFG (5.2, 6.3.14).
enum class ShareabilityConfig : std::uint8_t { non_shareable = 0b00, use_incoming = 0b01, outer = 0b10, inner = 0b11 };

// CR1.{TABLE,QUEUE}_{OC,IC} (6.3.11).
enum class QueueCacheability : std::uint8_t { non_cacheable = 0b00, write_back = 0b01, write_through = 0b10 };

// STE.S1CIR and STE.S1COR: how the SMMU reads context descriptors (5.2).
enum class CdCacheability : std::uint8_t {
  non_cacheable = 0b00,
  write_back_ra = 0b01,
  write_through_ra = 0b10,
  write_back_nra = 0b11
};

// STE.S2IR0/S2OR0 and CD.IRx/ORx: how the SMMU walks translation tables (5.2, 5.4).
enum class WalkCacheability : std::uint8_t {
  non_cacheable = 0b00,
  write_back_ra_wa = 0b01,
  write_through_ra = 0b10,
  write_back_ra_nwa = 0b11
};

// IDR5.OAS, STE.S2PS and CD.IPS.
enum class AddressSize : std::uint8_t {
  bits32 = 0b000,
  bits36 = 0b001,
  bits40 = 0b010,
  bits42 = 0b011,
  bits44 = 0b100,
  bits48 = 0b101,
  bits52 = 0b110,
  bits56 = 0b111
};

constexpr unsigned bits(AddressSize size) {
  constexpr unsigned kBits[] = {32, 36, 40, 42, 44, 48, 52, 56};
  return kBits[static_cast<unsigned>(size) & 7];
}

// STE.S2TG, STE.S_S2TG and CD.TG0: as TCR_ELx.TG0.
enum class Granule0 : std::uint8_t { size4k = 0b00, size64k = 0b01, size16k = 0b10 };
// CD.TG1: as TCR_ELx.TG1.
enum class Granule1 : std::uint8_t { reserved = 0b00, size16k = 0b01, size4k = 0b10, size64k = 0b11 };

// STE.PRIVCFG and GBPA.PRIVCFG; 0b01 behaves as use_incoming.
enum class PrivConfig : std::uint8_t { use_incoming = 0b00, unprivileged = 0b10, privileged = 0b11 };
// STE.INSTCFG and GBPA.INSTCFG; 0b01 behaves as use_incoming.
enum class InstConfig : std::uint8_t { use_incoming = 0b00, data = 0b10, instruction = 0b11 };

// The 4-bit MemAttr of STE, GBPA, *_IRQ_CFG2 and CMD_SYNC.MSIAttr (5.2, STE.MemAttr): the encoding of a stage-2
// descriptor with FWB == 0, whatever S2FWB says.
enum class MemAttr : std::uint8_t {
  device_nGnRnE = 0b0000,
  device_nGnRE = 0b0001,
  device_nGRE = 0b0010,
  device_GRE = 0b0011,
  normal_nc = 0b0101,
  normal_wt = 0b1010,
  normal_wb = 0b1111
};

}  // namespace weir::smmu
