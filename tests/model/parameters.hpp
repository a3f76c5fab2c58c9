// What a software SMMUv3 is: the features that it announces (Arm IHI 0070, 6.3.1 to 6.3.8; its ID registers are made of
// them and of nothing else), and how it behaves where the architecture leaves that open.
#pragma once

#include <cstdint>

#include "guest-abi/smmu/registers.hpp"

namespace weir::model {

struct Parameters {
  std::uint64_t seed = 0;
  // Announced. The defaults are a plain SMMU for two stages.
  unsigned sid_bits = 10;  // IDR1.SIDSIZE
  bool two_level = true;   // IDR0.ST_LEVEL
  bool ril = true;
  bool vmid16 = true;
  unsigned bbml = 0;
  smmu::AddressSize oas = smmu::AddressSize::bits44;
  bool prefetches = true;  // step() fills caches
  bool evicts = true;      // step() drops an entry now and then

  bool s1p = true;
  bool s2p = true;
  bool asid16 = true;
  bool coherent = true;  // IDR0.COHACC
  bool term_model = false;
  bool msi = false;
  bool sev = false;
  bool hyp = false;
  bool cd2l = false;
  unsigned ssid_bits = 0;  // IDR1.SSIDSIZE; 0: no substreams
  smmu::Htt httu = smmu::Htt::none;
  smmu::StallModel stall = smmu::StallModel::terminate_only;
  unsigned stall_max = 0;  // IDR5.STALL_MAX; > 0 exactly if `stall` is another than terminate_only
  bool ats = false;
  bool ns1ats = false;     // split-stage ATS is *not* supported
  bool atsrecerr = false;  // CR2.REC_CFG_ATS works
  bool pri = false;        // needs ats
  bool pps = false;        // a PRI response always carries a PASID if the requests had one
  bool pasidtt = false;    // PASIDs on translated transactions
  bool gran4k = true;
  bool gran16k = false;
  bool gran64k = false;
  unsigned vax = 0;  // IDR5.VAX: 0: 48 bits, 1: 52
  bool ds = false;   // 52-bit addresses with 4 KiB and 16 KiB; needs oas == bits52
  bool had = false;
  bool xnx = false;
  bool fwb = false;
  bool stt = false;
  bool e0pd = false;
  bool epan = false;
  smmu::TtEndian endian = smmu::TtEndian::little;
  unsigned cmdqs = 6;  // log2 of the most entries
  unsigned eventqs = 7;
  unsigned priqs = 6;           // with pri
  unsigned minor_revision = 2;  // AIDR: SMMUv3.n
  bool attr_types_ovr = false;
  bool attr_perms_ovr = false;

  // Behaviour.
  bool synchronous = false;           // commands take effect in order, and acknowledges come, within the store
  bool merges_events = true;          // STE.MEV (7.3.1) is made use of
  bool refuses_reserved = true;       // reserved bits of commands are CERROR_ILL, where that is permitted (4.1.5)
  bool abort_on_full_eventq = false;  // QEMU: EVENTQ_ABT_ERR where the architecture has OVFLG
  unsigned tlb_capacity = 0;          // all entries are dropped when there are so many; 0: none ever
  bool tlb_conflicts = false;         // overlapping entries are F_TLB_CONFLICT, where IDR3.BBML permits it
  bool shares_tags_only = true;       // TLB entries know no StreamID
  bool mimics_qemu = false;           // the oddities of QEMU's model that have no name of their own
  bool memory_types = false;          // accesses go by their memory attributes: see memory.hpp

  // QEMU 11.1, `-device arm-smmuv3,stage=nested`.
  [[nodiscard]] static constexpr Parameters qemu() {
    Parameters p;
    p.sid_bits = 16;
    p.bbml = 2;
    p.prefetches = false;
    p.evicts = false;
    p.term_model = true;
    p.gran16k = true;
    p.gran64k = true;
    p.had = true;
    p.xnx = true;
    p.cmdqs = 19;
    p.eventqs = 19;
    p.priqs = 0;
    p.minor_revision = 1;
    p.synchronous = true;
    p.merges_events = false;
    p.refuses_reserved = false;
    p.abort_on_full_eventq = true;
    p.tlb_capacity = 256;
    p.mimics_qemu = true;
    return p;
  }
  // Everything that this model can do.
  [[nodiscard]] static constexpr Parameters everything(std::uint64_t seed = 0) {
    Parameters p;
    p.seed = seed;
    p.msi = true;
    p.sev = true;
    p.cd2l = true;
    p.ssid_bits = 12;
    p.httu = smmu::Htt::access_dirty;
    p.stall = smmu::StallModel::stall_and_terminate;
    p.stall_max = 8;
    p.ats = true;
    p.atsrecerr = true;
    p.pri = true;
    p.pps = true;
    p.gran16k = true;
    p.gran64k = true;
    p.bbml = 2;
    p.had = true;
    p.xnx = true;
    p.stt = true;
    p.e0pd = true;
    p.epan = true;
    return p;
  }

  [[nodiscard]] constexpr smmu::IDR0 idr0() const {
    using smmu::IDR0;
    return IDR0{}
        .set<IDR0::S1P>(s1p)
        .set<IDR0::S2P>(s2p)
        .set<IDR0::TTF>(smmu::TtFormat::aarch64)
        .set<IDR0::COHACC>(coherent)
        .set<IDR0::HTTU>(httu)
        .set<IDR0::Hyp>(hyp && s1p && s2p)
        .set<IDR0::ATS>(ats)
        .set<IDR0::NS1ATS>(ats && s1p && s2p && ns1ats)
        .set<IDR0::ASID16>(asid16)
        .set<IDR0::MSI>(msi)
        .set<IDR0::SEV>(sev)
        .set<IDR0::PRI>(ats && pri)
        .set<IDR0::VMID16>(vmid16)
        .set<IDR0::CD2L>(cd2l)
        .set<IDR0::TTENDIAN>(endian)
        .set<IDR0::ATSRECERR>(ats && atsrecerr)
        .set<IDR0::STALL_MODEL>(stall)
        .set<IDR0::TERM_MODEL>(term_model)
        .set<IDR0::ST_LEVEL>(two_level ? smmu::StLevel::two_level : smmu::StLevel::linear);
  }
  [[nodiscard]] constexpr smmu::IDR1 idr1() const {
    using smmu::IDR1;
    return IDR1{}
        .set<IDR1::SIDSIZE>(sid_bits)
        .set<IDR1::SSIDSIZE>(ssid_bits)
        .set<IDR1::PRIQS>(ats && pri ? priqs : 0)
        .set<IDR1::EVENTQS>(eventqs)
        .set<IDR1::CMDQS>(cmdqs)
        .set<IDR1::ATTR_PERMS_OVR>(attr_perms_ovr)
        .set<IDR1::ATTR_TYPES_OVR>(attr_types_ovr);
  }
  [[nodiscard]] constexpr smmu::IDR3 idr3() const {
    using smmu::IDR3;
    return IDR3{}
        .set<IDR3::HAD>(had)
        .set<IDR3::XNX>(xnx)
        .set<IDR3::PPS>(ats && pri && pps)
        .set<IDR3::FWB>(fwb)
        .set<IDR3::STT>(stt)
        .set<IDR3::RIL>(ril)
        .set<IDR3::BBML>(bbml)
        .set<IDR3::E0PD>(e0pd)
        .set<IDR3::EPAN>(epan)
        .set<IDR3::PASIDTT>(ats && pasidtt && ssid_bits > 0);
  }
  [[nodiscard]] constexpr smmu::IDR5 idr5() const {
    using smmu::IDR5;
    return IDR5{}
        .set<IDR5::OAS>(oas)
        .set<IDR5::GRAN4K>(gran4k)
        .set<IDR5::GRAN16K>(gran16k)
        .set<IDR5::GRAN64K>(gran64k)
        .set<IDR5::DS>(ds)
        .set<IDR5::VAX>(vax)
        .set<IDR5::STALL_MAX>(stalls() ? stall_max : 0);
  }
  [[nodiscard]] constexpr bool stalls() const { return stall != smmu::StallModel::terminate_only; }
  [[nodiscard]] constexpr unsigned oas_bits() const { return smmu::bits(oas); }
};
static_assert(Parameters::qemu().idr0().words[0] == 0x0d44101b);
static_assert(Parameters::qemu().idr1().words[0] == 0x02730010);
static_assert(Parameters::qemu().idr3().words[0] == 0x1414);
static_assert(Parameters::qemu().idr5().words[0] == 0x74);

}  // namespace weir::model
