// SMMUv3 registers: offsets and fields of the Non-secure programming interface (Arm IHI 0070G.b, 6.2 and 6.3).
//
// Guest::must_be_0 means here: a read-only ID field that a vSMMU never advertises, or a control bit of a feature that
// it never advertises. So Layout::guest of an IDR is the mask for the intersection over physical instances, and
// Layout::guest of a control register is the mask of what a guest's store may change.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "guest-abi/field.hpp"
#include "guest-abi/smmu/types.hpp"

namespace weir::smmu {

// Offsets in bytes from the base of page 0; page 1 is at 0x10000 (6.2.1, 6.2.2, 6.3.170).
enum class Reg : std::uint32_t {
  IDR0 = 0x0000,
  IDR1 = 0x0004,
  IDR2 = 0x0008,
  IDR3 = 0x000c,
  IDR4 = 0x0010,
  IDR5 = 0x0014,
  IIDR = 0x0018,
  AIDR = 0x001c,
  CR0 = 0x0020,
  CR0ACK = 0x0024,
  CR1 = 0x0028,
  CR2 = 0x002c,
  S2PII = 0x0030,  // 64-bit
  STATUSR = 0x0040,
  GBPA = 0x0044,
  AGBPA = 0x0048,
  IRQ_CTRL = 0x0050,
  IRQ_CTRLACK = 0x0054,
  GERROR = 0x0060,
  GERRORN = 0x0064,
  GERROR_IRQ_CFG0 = 0x0068,  // 64-bit
  GERROR_IRQ_CFG1 = 0x0070,
  GERROR_IRQ_CFG2 = 0x0074,
  STRTAB_BASE = 0x0080,  // 64-bit
  STRTAB_BASE_CFG = 0x0088,
  CMDQ_BASE = 0x0090,  // 64-bit
  CMDQ_PROD = 0x0098,
  CMDQ_CONS = 0x009c,
  EVENTQ_BASE = 0x00a0,      // 64-bit
  EVENTQ_IRQ_CFG0 = 0x00b0,  // 64-bit
  EVENTQ_IRQ_CFG1 = 0x00b8,
  EVENTQ_IRQ_CFG2 = 0x00bc,
  PRIQ_BASE = 0x00c0,      // 64-bit
  PRIQ_IRQ_CFG0 = 0x00d0,  // 64-bit
  PRIQ_IRQ_CFG1 = 0x00d8,
  PRIQ_IRQ_CFG2 = 0x00dc,
  GATOS_CTRL = 0x0100,
  GATOS_SID = 0x0108,   // 64-bit
  GATOS_ADDR = 0x0110,  // 64-bit
  GATOS_PAR = 0x0118,   // 64-bit
  MPAMIDR = 0x0130,
  GMPAM = 0x0138,
  GBPMPAM = 0x013c,
  VATOS_SEL = 0x0180,
  IDR6 = 0x0190,
  DPT_BASE = 0x0200,  // 64-bit
  DPT_BASE_CFG = 0x0208,
  DPT_CFG_FAR = 0x0210,  // 64-bit
  PIDR4 = 0x0fd0,
  PIDR5 = 0x0fd4,
  PIDR6 = 0x0fd8,
  PIDR7 = 0x0fdc,
  PIDR0 = 0x0fe0,
  PIDR1 = 0x0fe4,
  PIDR2 = 0x0fe8,
  PIDR3 = 0x0fec,
  CIDR0 = 0x0ff0,
  CIDR1 = 0x0ff4,
  CIDR2 = 0x0ff8,
  CIDR3 = 0x0ffc,
  EVENTQ_PROD = 0x100a8,
  EVENTQ_CONS = 0x100ac,
  PRIQ_PROD = 0x100c8,
  PRIQ_CONS = 0x100cc
};

inline constexpr std::uint32_t kPage1 = 0x10000;       // offset of page 1
inline constexpr std::uint32_t kWindowSize = 0x20000;  // pages 0 and 1

struct RegInfo {
  Reg reg{};
  std::uint8_t bits{};  // 32 or 64; a 64-bit register also takes 32-bit accesses to either half (6.2)
  std::string_view name;
};

// Every Reg, by offset.
inline constexpr auto kRegs = std::to_array<RegInfo>({
    {Reg::IDR0, 32, "IDR0"},
    {Reg::IDR1, 32, "IDR1"},
    {Reg::IDR2, 32, "IDR2"},
    {Reg::IDR3, 32, "IDR3"},
    {Reg::IDR4, 32, "IDR4"},
    {Reg::IDR5, 32, "IDR5"},
    {Reg::IIDR, 32, "IIDR"},
    {Reg::AIDR, 32, "AIDR"},
    {Reg::CR0, 32, "CR0"},
    {Reg::CR0ACK, 32, "CR0ACK"},
    {Reg::CR1, 32, "CR1"},
    {Reg::CR2, 32, "CR2"},
    {Reg::S2PII, 64, "S2PII"},
    {Reg::STATUSR, 32, "STATUSR"},
    {Reg::GBPA, 32, "GBPA"},
    {Reg::AGBPA, 32, "AGBPA"},
    {Reg::IRQ_CTRL, 32, "IRQ_CTRL"},
    {Reg::IRQ_CTRLACK, 32, "IRQ_CTRLACK"},
    {Reg::GERROR, 32, "GERROR"},
    {Reg::GERRORN, 32, "GERRORN"},
    {Reg::GERROR_IRQ_CFG0, 64, "GERROR_IRQ_CFG0"},
    {Reg::GERROR_IRQ_CFG1, 32, "GERROR_IRQ_CFG1"},
    {Reg::GERROR_IRQ_CFG2, 32, "GERROR_IRQ_CFG2"},
    {Reg::STRTAB_BASE, 64, "STRTAB_BASE"},
    {Reg::STRTAB_BASE_CFG, 32, "STRTAB_BASE_CFG"},
    {Reg::CMDQ_BASE, 64, "CMDQ_BASE"},
    {Reg::CMDQ_PROD, 32, "CMDQ_PROD"},
    {Reg::CMDQ_CONS, 32, "CMDQ_CONS"},
    {Reg::EVENTQ_BASE, 64, "EVENTQ_BASE"},
    {Reg::EVENTQ_IRQ_CFG0, 64, "EVENTQ_IRQ_CFG0"},
    {Reg::EVENTQ_IRQ_CFG1, 32, "EVENTQ_IRQ_CFG1"},
    {Reg::EVENTQ_IRQ_CFG2, 32, "EVENTQ_IRQ_CFG2"},
    {Reg::PRIQ_BASE, 64, "PRIQ_BASE"},
    {Reg::PRIQ_IRQ_CFG0, 64, "PRIQ_IRQ_CFG0"},
    {Reg::PRIQ_IRQ_CFG1, 32, "PRIQ_IRQ_CFG1"},
    {Reg::PRIQ_IRQ_CFG2, 32, "PRIQ_IRQ_CFG2"},
    {Reg::GATOS_CTRL, 32, "GATOS_CTRL"},
    {Reg::GATOS_SID, 64, "GATOS_SID"},
    {Reg::GATOS_ADDR, 64, "GATOS_ADDR"},
    {Reg::GATOS_PAR, 64, "GATOS_PAR"},
    {Reg::MPAMIDR, 32, "MPAMIDR"},
    {Reg::GMPAM, 32, "GMPAM"},
    {Reg::GBPMPAM, 32, "GBPMPAM"},
    {Reg::VATOS_SEL, 32, "VATOS_SEL"},
    {Reg::IDR6, 32, "IDR6"},
    {Reg::DPT_BASE, 64, "DPT_BASE"},
    {Reg::DPT_BASE_CFG, 32, "DPT_BASE_CFG"},
    {Reg::DPT_CFG_FAR, 64, "DPT_CFG_FAR"},
    {Reg::PIDR4, 32, "PIDR4"},
    {Reg::PIDR5, 32, "PIDR5"},
    {Reg::PIDR6, 32, "PIDR6"},
    {Reg::PIDR7, 32, "PIDR7"},
    {Reg::PIDR0, 32, "PIDR0"},
    {Reg::PIDR1, 32, "PIDR1"},
    {Reg::PIDR2, 32, "PIDR2"},
    {Reg::PIDR3, 32, "PIDR3"},
    {Reg::CIDR0, 32, "CIDR0"},
    {Reg::CIDR1, 32, "CIDR1"},
    {Reg::CIDR2, 32, "CIDR2"},
    {Reg::CIDR3, 32, "CIDR3"},
    {Reg::EVENTQ_PROD, 32, "EVENTQ_PROD"},
    {Reg::EVENTQ_CONS, 32, "EVENTQ_CONS"},
    {Reg::PRIQ_PROD, 32, "PRIQ_PROD"},
    {Reg::PRIQ_CONS, 32, "PRIQ_CONS"},
});

// The register that contains byte `offset`, or nullptr.
constexpr const RegInfo* find_reg(std::uint32_t offset) {
  for (const RegInfo& r : kRegs) {
    const auto first = static_cast<std::uint32_t>(r.reg);
    if (offset >= first && offset < first + r.bits / 8u) return &r;
  }
  return nullptr;
}

// SMMU_CMDQ_CONTROL_PAGE_CFGn and STATUSn (6.3.50, 6.3.51): bit 0 of the one enables the enhanced command queues of page n, of
// the other acknowledges it. IDR6 says how many pages there are; no vSMMU has any.
inline constexpr unsigned kMaxControlPages = 256;
constexpr Reg control_page_cfg(unsigned n) { return static_cast<Reg>(0x4008 + 32 * n); }
constexpr Reg control_page_status(unsigned n) { return static_cast<Reg>(0x400c + 32 * n); }

constexpr std::string_view name_of(Reg reg) {
  const RegInfo* info = find_reg(static_cast<std::uint32_t>(reg));
  return info != nullptr ? info->name : std::string_view{};
}

// --- Identification ---

enum class StLevel : std::uint8_t { linear = 0b00, two_level = 0b01 };
enum class StallModel : std::uint8_t { stall_and_terminate = 0b00, terminate_only = 0b01, stall_forced = 0b10 };
enum class TtEndian : std::uint8_t { mixed = 0b00, little = 0b10, big = 0b11 };
enum class Htt : std::uint8_t { none = 0b00, access = 0b01, access_dirty = 0b10, access_dirty_table = 0b11 };
enum class TtFormat : std::uint8_t { none = 0b00, aarch32 = 0b01, aarch64 = 0b10, both = 0b11 };

struct IDR0 : Record<IDR0, 32> {  // 6.3.1
  using RME_IMPL = OwnBit<"RME_IMPL", 30>;
  using ST_LEVEL = Field<"ST_LEVEL", 28, 27, StLevel>;
  using TERM_MODEL = BitField<"TERM_MODEL", 26>;
  using STALL_MODEL = Field<"STALL_MODEL", 25, 24, StallModel>;
  using ATSRECERR = BitField<"ATSRECERR", 23>;
  using TTENDIAN = Field<"TTENDIAN", 22, 21, TtEndian>;
  using VATOS = OwnBit<"VATOS", 20>;
  using CD2L = BitField<"CD2L", 19>;
  using VMID16 = OwnBit<"VMID16", 18>;
  using VMW = OwnBit<"VMW", 17>;
  using PRI = BitField<"PRI", 16>;
  using ATOS = OwnBit<"ATOS", 15>;
  using SEV = BitField<"SEV", 14>;
  using MSI = BitField<"MSI", 13>;
  using ASID16 = BitField<"ASID16", 12>;
  using NS1ATS = OwnBit<"NS1ATS", 11>;
  using ATS = BitField<"ATS", 10>;
  using Hyp = OwnBit<"Hyp", 9>;
  using DORMHINT = OwnBit<"DORMHINT", 8>;
  using HTTU = Field<"HTTU", 7, 6, Htt>;
  using BTM = OwnBit<"BTM", 5>;
  using COHACC = BitField<"COHACC", 4>;
  using TTF = Field<"TTF", 3, 2, TtFormat>;
  using S1P = BitField<"S1P", 1>;
  using S2P = OwnBit<"S2P", 0>;
  using Layout = weir::Layout<32, S2P, S1P, TTF, COHACC, BTM, HTTU, DORMHINT, Hyp, ATS, NS1ATS, ASID16, MSI, SEV, ATOS,
                              PRI, VMW, VMID16, CD2L, VATOS, TTENDIAN, ATSRECERR, STALL_MODEL, TERM_MODEL, ST_LEVEL,
                              Res0<29, 29>, RME_IMPL, Res0<31, 31>>;
};

struct IDR1 : Record<IDR1, 32> {  // 6.3.2; queue sizes, SSIDSIZE and SIDSIZE are log2
  using ECMDQ = OwnBit<"ECMDQ", 31>;
  using TABLES_PRESET = OwnBit<"TABLES_PRESET", 30>;
  using QUEUES_PRESET = OwnBit<"QUEUES_PRESET", 29>;
  using REL = OwnBit<"REL", 28>;
  using ATTR_TYPES_OVR = OwnBit<"ATTR_TYPES_OVR", 27>;
  using ATTR_PERMS_OVR = OwnBit<"ATTR_PERMS_OVR", 26>;
  using CMDQS = Field<"CMDQS", 25, 21>;
  using EVENTQS = Field<"EVENTQS", 20, 16>;
  using PRIQS = Field<"PRIQS", 15, 11>;
  using SSIDSIZE = Field<"SSIDSIZE", 10, 6>;
  using SIDSIZE = Field<"SIDSIZE", 5, 0>;
  using Layout = weir::Layout<32, SIDSIZE, SSIDSIZE, PRIQS, EVENTQS, CMDQS, ATTR_PERMS_OVR, ATTR_TYPES_OVR, REL,
                              QUEUES_PRESET, TABLES_PRESET, ECMDQ>;
};

struct IDR2 : Record<IDR2, 32> {  // 6.3.3
  using BA_VATOS = OwnField<"BA_VATOS", 9, 0>;
  using Layout = weir::Layout<32, BA_VATOS, Res0<31, 10>>;
};

struct IDR3 : Record<IDR3, 32> {  // 6.3.4
  using AIE = OwnBit<"AIE", 23>;
  using MTEPERM = OwnBit<"MTEPERM", 22>;
  using THE = OwnBit<"THE", 21>;
  using S2PO = OwnBit<"S2PO", 20>;
  using S2PI = OwnBit<"S2PI", 19>;
  using S1PI = OwnBit<"S1PI", 18>;  // needs STE.S1PIE, which is Weir's
  using EPAN = BitField<"EPAN", 17>;
  using PASIDTT = BitField<"PASIDTT", 16>;
  using DPT = OwnBit<"DPT", 15>;
  using PTWNNC = OwnBit<"PTWNNC", 14>;
  using E0PD = BitField<"E0PD", 13>;
  using BBML = Field<"BBML", 12, 11>;  // 0, 1 or 2
  using RIL = BitField<"RIL", 10>;
  using STT = BitField<"STT", 9>;
  using FWB = OwnBit<"FWB", 8>;
  using MPAM = OwnBit<"MPAM", 7>;
  using PPS = BitField<"PPS", 5>;
  using XNX = OwnBit<"XNX", 4>;
  using PBHA = OwnBit<"PBHA", 3>;
  using HAD = BitField<"HAD", 2>;
  using Layout = weir::Layout<32, Res0<1, 0>, HAD, PBHA, XNX, PPS, Res0<6, 6>, MPAM, FWB, STT, RIL, BBML, E0PD, PTWNNC,
                              DPT, PASIDTT, EPAN, S1PI, S2PI, S2PO, THE, MTEPERM, AIE, Res0<31, 24>>;
};

struct IDR5 : Record<IDR5, 32> {  // 6.3.6
  using STALL_MAX = Field<"STALL_MAX", 31, 16>;
  using VAX = Field<"VAX", 11, 10>;  // 48, 52 or 56 bits per CD.TTBx
  using D128 = OwnBit<"D128", 8>;
  using DS = BitField<"DS", 7>;
  using GRAN64K = BitField<"GRAN64K", 6>;
  using GRAN16K = BitField<"GRAN16K", 5>;
  using GRAN4K = BitField<"GRAN4K", 4>;
  using OAS = Field<"OAS", 2, 0, AddressSize>;
  using Layout =
      weir::Layout<32, OAS, Res0<3, 3>, GRAN4K, GRAN16K, GRAN64K, DS, D128, Res0<9, 9>, VAX, Res0<15, 12>, STALL_MAX>;
};

struct IDR6 : Record<IDR6, 32> {  // 6.3.45
  using CMDQ_CONTROL_PAGE_LOG2NUMP = OwnField<"CMDQ_CONTROL_PAGE_LOG2NUMP", 27, 24>;
  using CMDQ_CONTROL_PAGE_LOG2NUMQ = OwnField<"CMDQ_CONTROL_PAGE_LOG2NUMQ", 19, 16>;
  using Layout =
      weir::Layout<32, Res0<15, 0>, CMDQ_CONTROL_PAGE_LOG2NUMQ, Res0<23, 20>, CMDQ_CONTROL_PAGE_LOG2NUMP, Res0<31, 28>>;
};

struct IIDR : Record<IIDR, 32> {  // 6.3.7
  using ProductID = Field<"ProductID", 31, 20>;
  using Variant = Field<"Variant", 19, 16>;
  using Revision = Field<"Revision", 15, 12>;
  using Implementer = Field<"Implementer", 11, 0>;
  using Layout = weir::Layout<32, Implementer, Revision, Variant, ProductID>;
};

struct AIDR : Record<AIDR, 32> {  // 6.3.8; SMMUv3.x is 0.x
  using ArchMajorRev = Field<"ArchMajorRev", 7, 4>;
  using ArchMinorRev = Field<"ArchMinorRev", 3, 0>;
  using Layout = weir::Layout<32, ArchMinorRev, ArchMajorRev, Res0<31, 8>>;
};

// --- Control ---

struct CR0 : Record<CR0, 32> {  // 6.3.9
  using DPT_WALK_EN = OwnBit<"DPT_WALK_EN", 10>;
  using VMW = OwnField<"VMW", 8, 6>;
  using ATSCHK = BitField<"ATSCHK", 4>;
  using CMDQEN = BitField<"CMDQEN", 3>;
  using EVENTQEN = BitField<"EVENTQEN", 2>;
  using PRIQEN = BitField<"PRIQEN", 1>;
  using SMMUEN = BitField<"SMMUEN", 0>;
  using Layout = weir::Layout<32, SMMUEN, PRIQEN, EVENTQEN, CMDQEN, ATSCHK, Res0<5, 5>, VMW, Res0<9, 9>, DPT_WALK_EN,
                              Res0<31, 11>>;
};
using CR0ACK = CR0;  // 6.3.10: the same layout

struct CR1 : Record<CR1, 32> {  // 6.3.11
  using TABLE_SH = Field<"TABLE_SH", 11, 10, Shareability>;
  using TABLE_OC = Field<"TABLE_OC", 9, 8, QueueCacheability>;
  using TABLE_IC = Field<"TABLE_IC", 7, 6, QueueCacheability>;
  using QUEUE_SH = Field<"QUEUE_SH", 5, 4, Shareability>;
  using QUEUE_OC = Field<"QUEUE_OC", 3, 2, QueueCacheability>;
  using QUEUE_IC = Field<"QUEUE_IC", 1, 0, QueueCacheability>;
  using Layout = weir::Layout<32, QUEUE_IC, QUEUE_OC, QUEUE_SH, TABLE_IC, TABLE_OC, TABLE_SH, Res0<31, 12>>;
};

struct CR2 : Record<CR2, 32> {  // 6.3.12
  using REC_CFG_ATS = BitField<"REC_CFG_ATS", 3>;
  using PTM = BitField<"PTM", 2>;
  using RECINVSID = BitField<"RECINVSID", 1>;
  using E2H = OwnBit<"E2H", 0>;
  using Layout = weir::Layout<32, E2H, RECINVSID, PTM, REC_CFG_ATS, Res0<31, 4>>;
};

struct STATUSR : Record<STATUSR, 32> {  // 6.3.13
  using DORMANT = OwnBit<"DORMANT", 0>;
  using Layout = weir::Layout<32, DORMANT, Res0<31, 1>>;
};

// 6.3.14. What a bypassing stream's attributes become is Weir's; a guest chooses abort or bypass. Attribute fields may
// be stored and read back (ATTR_*_OVR == 0 makes them RES0).
struct GBPA : Record<GBPA, 32> {
  using Update = BitField<"Update", 31>;
  using ABORT = BitField<"ABORT", 20>;
  using INSTCFG = OwnField<"INSTCFG", 19, 18, InstConfig>;
  using PRIVCFG = OwnField<"PRIVCFG", 17, 16, PrivConfig>;
  using SHCFG = OwnField<"SHCFG", 13, 12, ShareabilityConfig>;
  using ALLOCCFG = OwnField<"ALLOCCFG", 11, 8>;
  using MTCFG = OwnBit<"MTCFG", 4>;
  using MemAttr = OwnField<"MemAttr", 3, 0, weir::smmu::MemAttr>;
  using Layout = weir::Layout<32, MemAttr, MTCFG, Res0<7, 5>, ALLOCCFG, SHCFG, Res0<15, 14>, PRIVCFG, INSTCFG, ABORT,
                              Res0<30, 21>, Update>;
};

struct IRQ_CTRL : Record<IRQ_CTRL, 32> {  // 6.3.16
  using EVENTQ_IRQEN = BitField<"EVENTQ_IRQEN", 2>;
  using PRIQ_IRQEN = BitField<"PRIQ_IRQEN", 1>;
  using GERROR_IRQEN = BitField<"GERROR_IRQEN", 0>;
  using Layout = weir::Layout<32, GERROR_IRQEN, PRIQ_IRQEN, EVENTQ_IRQEN, Res0<31, 3>>;
};
using IRQ_CTRLACK = IRQ_CTRL;  // 6.3.18: the same layout

// --- Global errors ---

// 6.3.19: an error is active while its bit differs from GERRORN's (7.5).
struct GERROR : Record<GERROR, 32> {
  using DPT_ERR = OwnBit<"DPT_ERR", 10>;
  using CMDQP_ERR = OwnBit<"CMDQP_ERR", 9>;
  using SFM_ERR = BitField<"SFM_ERR", 8>;
  using MSI_GERROR_ABT_ERR = BitField<"MSI_GERROR_ABT_ERR", 7>;
  using MSI_PRIQ_ABT_ERR = BitField<"MSI_PRIQ_ABT_ERR", 6>;
  using MSI_EVENTQ_ABT_ERR = BitField<"MSI_EVENTQ_ABT_ERR", 5>;
  using MSI_CMDQ_ABT_ERR = BitField<"MSI_CMDQ_ABT_ERR", 4>;
  using PRIQ_ABT_ERR = BitField<"PRIQ_ABT_ERR", 3>;
  using EVENTQ_ABT_ERR = BitField<"EVENTQ_ABT_ERR", 2>;
  using CMDQ_ERR = BitField<"CMDQ_ERR", 0>;
  using Layout =
      weir::Layout<32, CMDQ_ERR, Res0<1, 1>, EVENTQ_ABT_ERR, PRIQ_ABT_ERR, MSI_CMDQ_ABT_ERR, MSI_EVENTQ_ABT_ERR,
                   MSI_PRIQ_ABT_ERR, MSI_GERROR_ABT_ERR, SFM_ERR, CMDQP_ERR, DPT_ERR, Res0<31, 11>>;
};
using GERRORN = GERROR;  // 6.3.20: the same layout but for CMDQP_ERR, which is RES0 there

// --- Tables and queues ---
// ADDR is whoever's address owns the register: a PA for a physical SMMU, an IPA in a vSMMU.

struct STRTAB_BASE : Record<STRTAB_BASE, 64> {  // 6.3.24
  using RA = BitField<"RA", 62>;
  using ADDR = AddressField<"ADDR", 55, 6>;
  using Layout = weir::Layout<64, Res0<5, 0>, ADDR, Res0<61, 56>, RA, Res0<63, 63>>;
};

enum class StrtabFmt : std::uint8_t { linear = 0b00, two_level = 0b01 };

struct STRTAB_BASE_CFG : Record<STRTAB_BASE_CFG, 32> {  // 6.3.25
  using FMT = Field<"FMT", 17, 16, StrtabFmt>;
  using SPLIT = Field<"SPLIT", 10, 6>;  // 6, 8 or 10; other values behave as 6
  using LOG2SIZE = Field<"LOG2SIZE", 5, 0>;
  using Layout = weir::Layout<32, LOG2SIZE, SPLIT, Res0<15, 11>, FMT, Res0<31, 18>>;
};

struct CMDQ_BASE : Record<CMDQ_BASE, 64> {  // 6.3.26
  using RA = BitField<"RA", 62>;
  using ADDR = AddressField<"ADDR", 55, 5>;
  using LOG2SIZE = Field<"LOG2SIZE", 4, 0>;
  using Layout = weir::Layout<64, LOG2SIZE, ADDR, Res0<61, 56>, RA, Res0<63, 63>>;
};

struct EVENTQ_BASE : Record<EVENTQ_BASE, 64> {  // 6.3.29
  using WA = BitField<"WA", 62>;
  using ADDR = AddressField<"ADDR", 55, 5>;
  using LOG2SIZE = Field<"LOG2SIZE", 4, 0>;
  using Layout = weir::Layout<64, LOG2SIZE, ADDR, Res0<61, 56>, WA, Res0<63, 63>>;
};
using PRIQ_BASE = EVENTQ_BASE;  // 6.3.33: the same layout

// An index is bits [QS-1:0], its wrap flag bit [QS], QS == BASE.LOG2SIZE <= 19 (6.3.27, 6.3.28).
struct CMDQ_PROD : Record<CMDQ_PROD, 32> {
  using WR = Field<"WR", 19, 0, std::uint32_t>;
  using Layout = weir::Layout<32, WR, Res0<31, 20>>;
};

enum class CmdqError : std::uint8_t {  // 7.1
  CERROR_NONE = 0x00,
  CERROR_ILL = 0x01,
  CERROR_ABT = 0x02,
  CERROR_ATC_INV_SYNC = 0x03
};

struct CMDQ_CONS : Record<CMDQ_CONS, 32> {
  using ERR = Field<"ERR", 30, 24, CmdqError>;
  using RD = Field<"RD", 19, 0, std::uint32_t>;
  using Layout = weir::Layout<32, RD, Res0<23, 20>, ERR, Res0<31, 31>>;
};

struct EVENTQ_PROD : Record<EVENTQ_PROD, 32> {  // 6.3.95
  using OVFLG = BitField<"OVFLG", 31>;
  using WR = Field<"WR", 19, 0, std::uint32_t>;
  using Layout = weir::Layout<32, WR, Res0<30, 20>, OVFLG>;
};
struct EVENTQ_CONS : Record<EVENTQ_CONS, 32> {  // 6.3.96
  using OVACKFLG = BitField<"OVACKFLG", 31>;
  using RD = Field<"RD", 19, 0, std::uint32_t>;
  using Layout = weir::Layout<32, RD, Res0<30, 20>, OVACKFLG>;
};
using PRIQ_PROD = EVENTQ_PROD;  // 6.3.97: the same layout
using PRIQ_CONS = EVENTQ_CONS;  // 6.3.98: the same layout

// --- Interrupts ---

// GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0, PRIQ_IRQ_CFG0 (6.3.21, 6.3.30, 6.3.34): ADDR == 0 sends no MSI.
struct IRQ_CFG0 : Record<IRQ_CFG0, 64> {
  using ADDR = AddressField<"ADDR", 55, 2>;
  using Layout = weir::Layout<64, Res0<1, 0>, ADDR, Res0<63, 56>>;
};
struct IRQ_CFG1 : Record<IRQ_CFG1, 32> {
  using DATA = Field<"DATA", 31, 0, std::uint32_t>;
  using Layout = weir::Layout<32, DATA>;
};
struct IRQ_CFG2 : Record<IRQ_CFG2, 32> {
  using SH = Field<"SH", 5, 4, Shareability>;
  using MemAttr = Field<"MemAttr", 3, 0, weir::smmu::MemAttr>;
  using Layout = weir::Layout<32, MemAttr, SH, Res0<31, 6>>;
};
struct PRIQ_IRQ_CFG2 : Record<PRIQ_IRQ_CFG2, 32> {  // 6.3.36
  using LO = BitField<"LO", 31>;
  using SH = Field<"SH", 5, 4, Shareability>;
  using MemAttr = Field<"MemAttr", 3, 0, weir::smmu::MemAttr>;
  using Layout = weir::Layout<32, MemAttr, SH, Res0<30, 6>, LO>;
};

constexpr std::string_view name_of(CmdqError e) {
  switch (e) {
    case CmdqError::CERROR_NONE: return "CERROR_NONE";
    case CmdqError::CERROR_ILL: return "CERROR_ILL";
    case CmdqError::CERROR_ABT: return "CERROR_ABT";
    case CmdqError::CERROR_ATC_INV_SYNC: return "CERROR_ATC_INV_SYNC";
  }
  return {};
}

}  // namespace weir::smmu
