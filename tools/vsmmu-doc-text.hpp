// The sentences of guest-abi/vsmmu.md. What is not a sentence is worked out from the definitions (vsmmu-doc.cpp). A register, command
// or event without its sentence does not compile: every switch names every enumerator.
#pragma once

#include <string_view>

#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/registers.hpp"

namespace weir::doc {

constexpr std::string_view text_of(smmu::Reg reg) {
  using enum smmu::Reg;
  switch (reg) {
    case IDR0:
    case IDR1:
    case IDR3:
    case IDR5: return "What is offered: see above.";
    case IDR2:
    case IDR4:
    case IDR6: return "Nothing of it is offered.";
    case IIDR: return "Who made the SMMU.";
    case AIDR:
      return "The architecture's version. Features of later versions may be offered all the same: go by the IDRs.";
    case CR0:
      return "Enables. Each may change at any time. SMMUEN: before CR0ACK shows it, every stream has the configuration "
             "that it then has. "
             "CMDQEN: the queue starts at CMDQ_CONS. Work that is under way ends first.";
    case CR0ACK: return "CR0, once it has taken effect. Poll it after each store to CR0.";
    case CR1:
      return "Attributes of the SMMU's own accesses. Without cacheability, or without IDR0.COHACC, queues and tables "
             "are read and written at "
             "the point of coherency; else as Normal, write-back, inner-shareable. Nothing else of it has an effect.";
    case CR2:
      return "RECINVSID: without it, C_BAD_STREAMID is not recorded. PTM reads as 0: there is no broadcast "
             "invalidation.";
    case S2PII: return "Stage 2 is not offered.";
    case STATUSR: return "The vSMMU is never dormant.";
    case GBPA:
      return "What streams do while SMMUEN is 0: with ABORT they abort, silently; without it they bypass stage 1. "
             "Resets to bypass. A store "
             "without Update, or while Update is 1, is ignored; Update reads as 0 once every stream does as asked. "
             "Attribute overrides are not "
             "offered.";
    case AGBPA: return "No attributes are assigned.";
    case IRQ_CTRL: return "Which interrupts are sent, wired or by message. CMD_SYNC's has no enable.";
    case IRQ_CTRLACK: return "IRQ_CTRL, at once.";
    case GERROR: return "A bit that differs from GERRORN's is an active error. SFM_ERR never is.";
    case GERRORN:
      return "A store makes the bits equal to GERROR's to acknowledge them. With CMDQ_ERR, the command queue goes on "
             "at CMDQ_CONS.";
    case GERROR_IRQ_CFG0:
      return "Where the message for GERROR goes; 0: none. The wired interrupt is raised whatever is here.";
    case GERROR_IRQ_CFG1:
    case EVENTQ_IRQ_CFG1:
    case PRIQ_IRQ_CFG1: return "The word that the message stores.";
    case GERROR_IRQ_CFG2:
    case EVENTQ_IRQ_CFG2: return "Kept, without effect.";
    case STRTAB_BASE:
      return "The stream table, which Weir reads when a CFGI command or SMMUEN has it read, and at no other time. RA "
             "has no effect.";
    case STRTAB_BASE_CFG: return "FMT values other than 1 mean linear. SPLIT values other than 8 and 10 mean 6.";
    case CMDQ_BASE: return "LOG2SIZE above IDR1.CMDQS behaves as IDR1.CMDQS. Aligned to its size; RA has no effect.";
    case CMDQ_PROD:
      return "A store hands commands over, and is the one exit that they cost: write PROD once for many. A store that "
             "would move PROD back, or further than the queue "
             "is long, is ignored unless the queue is in error or disabled.";
    case CMDQ_CONS:
      return "How far commands are consumed, and with GERROR.CMDQ_ERR active, why consumption stopped at RD.";
    case EVENTQ_BASE:
      return "LOG2SIZE above IDR1.EVENTQS behaves as IDR1.EVENTQS. Aligned to its size; WA has no effect.";
    case EVENTQ_IRQ_CFG0: return "Where the message goes when the queue stops being empty; 0: none.";
    case PRIQ_BASE: return "LOG2SIZE above IDR1.PRIQS behaves as IDR1.PRIQS. Aligned to its size; WA has no effect.";
    case PRIQ_IRQ_CFG0:
      return "Where the message goes when the queue stops being empty, or with LO at the last request of a group; "
             "0: none.";
    case PRIQ_IRQ_CFG2: return "LO: interrupt at the last request of a group. The rest is kept, without effect.";
    case GATOS_CTRL:
    case GATOS_SID:
    case GATOS_ADDR:
    case GATOS_PAR:
    case VATOS_SEL: return "Address translation operations are not offered.";
    case MPAMIDR:
    case GMPAM:
    case GBPMPAM: return "MPAM is not offered.";
    case DPT_BASE:
    case DPT_BASE_CFG:
    case DPT_CFG_FAR: return "Device permission tables are not offered.";
    case PIDR0:
    case PIDR1:
    case PIDR2:
    case PIDR3:
    case PIDR4:
    case PIDR5:
    case PIDR6:
    case PIDR7:
    case CIDR0:
    case CIDR1:
    case CIDR2:
    case CIDR3: return "No CoreSight identification.";
    case EVENTQ_PROD:
      return "The event queue's write index; OVFLG toggles when an event is lost to a full queue, be it a physical "
             "one.";
    case EVENTQ_CONS: return "The read index; a store of OVACKFLG == OVFLG acknowledges the overflow.";
    case PRIQ_PROD:
      return "The PRI queue's write index; OVFLG toggles when a request is lost to a full queue, and the SMMU answers "
             "requests itself "
             "until the overflow is acknowledged.";
    case PRIQ_CONS: return "The read index; a store of OVACKFLG == OVFLG acknowledges the overflow.";
  }
  return {};
}

constexpr std::string_view text_of(smmu::Opcode opcode) {
  using enum smmu::Opcode;
  switch (opcode) {
    case PREFETCH_CONFIG:
    case PREFETCH_ADDR: return "A hint. Checked, and otherwise ignored.";
    case CFGI_STE:
      return "The stream's STE is read again, and takes effect before the next SYNC completes; what is cached of its "
             "context descriptors goes as "
             "well, whatever Leaf says. A StreamID behind which there is no device has no effect. Ignored while "
             "CR0.SMMUEN is 0.";
    case CFGI_STE_RANGE:
      return "CFGI_STE for the 2^(Range + 1) StreamIDs of the aligned block that contains StreamID; Range == 31 is "
             "CFGI_ALL. A driver may use "
             "CFGI_ALL alone.";
    case CFGI_CD:
      return "The context descriptor is read again, by the instance behind which the device is. Without substreams its "
             "index is 0.";
    case CFGI_CD_ALL: return "All context descriptors of the stream are read again.";
    case CFGI_VMS_PIDM: return "MPAM is not offered.";
    case TLBI_NH_ALL: return "All stage-1 translations of this vSMMU go, on every instance behind it. VMID is ignored.";
    case TLBI_NH_ASID:
      return "Those of one ASID, but not global ones. VMID is ignored. Where IDR0.ASID16 is 0, an ASID above 255 has "
             "no effect.";
    case TLBI_NH_VA:
      return "Those of one address, or range, in one ASID, and global ones. VMID is ignored. On every instance, as a "
             "range or page by page as it "
             "is able to. A granule that IDR5 does not offer has no effect.";
    case TLBI_NH_VAA: return "As TLBI_NH_VA, in every ASID.";
    case TLBI_EL2_ALL:
    case TLBI_EL2_ASID:
    case TLBI_EL2_VA:
    case TLBI_EL2_VAA: return "IDR0.Hyp is 0.";
    case TLBI_S12_VMALL:
    case TLBI_S2_IPA: return "IDR0.S2P is 0.";
    case TLBI_NSNH_ALL: return "As TLBI_NH_ALL: there is no other VM in this vSMMU.";
    case ATC_INV:
      return "Goes to the device if it has been granted ATS; else it has no effect. So while CR0.SMMUEN is 0. A device "
             "that does not answer "
             "is fenced off, and the next SYNC is CERROR_ATC_INV_SYNC.";
    case PRI_RESP:
      return "Answers a page request group of the stream. An answer that nobody waits for has no effect. Ignored while "
             "CR0.SMMUEN is 0.";
    case RESUME:
      return "Answers a stalled transaction. StreamID and STAG are those of its event; others have no effect, nor has "
             "a second answer.";
    case STALL_TERM: return "Terminates all stalled transactions of the stream with an abort.";
    case SYNC:
      return "Completes when all commands before it have, on every instance behind the vSMMU, and the events of "
             "transactions that ended before "
             "are in the event queue. CONS passes it then, and after that comes the signal: CS == 1 stores the message "
             "(IDR0.MSI; MSIAddress "
             "0: none) and raises the wired interrupt, CS == 2 wakes CPUs that wait in WFE (IDR0.SEV). MSH and MSIAttr "
             "have no effect.";
    case DPTI_ALL:
    case DPTI_PA: return "Device permission tables are not offered.";
  }
  return {};
}

constexpr std::string_view text_of(smmu::EventId id) {
  using enum smmu::EventId;
  switch (id) {
    case F_UUT: return "As the instance records it.";
    case C_BAD_STREAMID:
      return "StreamID outside of the guest's stream table, or of a level-2 table's span. Only with CR2.RECINVSID.";
    case F_STE_FETCH:
      return "The stream table, or a level-2 table, is not in the VM's memory. FetchAddr is the guest's own address.";
    case C_BAD_STE: return "V == 0, or an STE that is ILLEGAL; see Stream table entries.";
    case F_BAD_ATS_TREQ: return "A translation request of a device that was granted ATS, whose STE does not enable it.";
    case F_STREAM_DISABLED:
      return "A transaction without a SubstreamID while S1DSS is 0b00, or with SubstreamID 0 while it is 0b10.";
    case F_TRANSL_FORBIDDEN:
      return "A translated transaction of a device that was granted ATS, whose STE does not enable it. Without the "
             "grant, the VM's owner is told, "
             "and not the guest.";
    case C_BAD_SUBSTREAMID:
      return "SubstreamID outside of the stream's table of context descriptors, or with a stream that has none.";
    case F_CD_FETCH:
      return "The context descriptor, or its level-1 table, cannot be read. FetchAddr is the guest's own address where "
             "it is known without doubt, "
             "else 0.";
    case C_BAD_CD: return "The context descriptor is invalid or ILLEGAL.";
    case F_WALK_EABT:
      return "A stage-1 table is outside of the VM's memory, or its memory reports an error. FetchAddr is the guest's "
             "own address where it is "
             "known, else 0.";
    case F_TRANSLATION:
    case F_ADDR_SIZE:
    case F_ACCESS:
    case F_PERMISSION:
      return "A stage-1 fault. Stall and STAG where the stream stalls: answer with CMD_RESUME. A guest does not see S2 "
             "== 1: a device that "
             "reaches outside of the VM's memory is the VM's owner's business.";
    case F_TLB_CONFLICT: return "Of stage 1.";
    case F_CFG_CONFLICT: return "Not recorded for a guest.";
    case E_PAGE_REQUEST: return "As the instance records it.";
    case F_VMS_FETCH: return "Not recorded for a guest.";
  }
  return {};
}

inline constexpr std::string_view kIntroduction =
    "What a guest finds in a virtual SMMUv3 (vSMMU) of Weir: a stage-1 SMMUv3 in its devicetree, behind which stand "
    "one or several "
    "physical ones. Whatever Arm IHI 0070G.b says of such an SMMU holds; this text says which of its choices are made, "
    "and how. Terms are "
    "those of that document; addresses are the VM's \"physical\" ones.";

inline constexpr std::string_view kRegistersText =
    "Two pages of 4 KiB, at offsets 0 and 0x10000 of the vSMMU's window; nothing else is in it. Loads of 1, 2, 4 and 8 "
    "bytes cost no "
    "exit. Stores of 4 bytes, and of 8 bytes to a 64-bit register, count; others, and those to bits that are not "
    "listed, are ignored. A "
    "64-bit register also takes two stores of 4 bytes. A field that depends on a feature which is not announced is "
    "RES0. A store to "
    "a guarded field while its guard does not hold is ignored. An enable counts as set until it and its acknowledge "
    "are 0.";

inline constexpr std::string_view kIdText =
    "Each vSMMU announces something between the two columns. \"Instances\": what those behind it can do, all of them "
    "but for RIL. "
    "\"Manifest\": what its "
    "boot manifest narrows, or grants. Fields that are 0 on every vSMMU are left out.";

inline constexpr std::string_view kCommandsText =
    "16 bytes. A command is legal if its bits outside of the fields below are 0, its values are legal, and the "
    "features that it needs are "
    "announced. Every other command is CERROR_ILL: CMDQ_CONS.ERR says so, CMDQ_CONS.RD stays at the command, "
    "GERROR.CMDQ_ERR becomes "
    "active, and nothing is consumed until it is acknowledged. Commands outside of the VM's memory are CERROR_ABT. "
    "Commands before the error "
    "are consumed. A command is read once. Reserved bits are checked in every command, which the architecture permits "
    "and does not demand.";

inline constexpr std::string_view kRangeText =
    "Address-based invalidation (TLBI_NH_VA, TLBI_NH_VAA). TG 0b00: the one address, at any level and granule. Else a "
    "range of "
    "(NUM + 1) * 2^SCALE granules, TTL the level of the leaf entries or 0. Worked out from the rules:";

inline constexpr std::string_view kSteText =
    "64 bytes. Of a valid STE Weir takes the fields below; the rest is Weir's own and ignored, whatever it holds. All "
    "of it is read at "
    "once. A value that is listed as illegal makes the STE ILLEGAL: the stream's transactions abort, and C_BAD_STE is "
    "recorded. EATS: full ATS "
    "is what a guest asks for; Weir turns it into split-stage ATS, unless the manifest trusts the device.";

inline constexpr std::string_view kCdText =
    "64 bytes, in the guest's memory, read by the hardware when and as often as it likes after V was set. Weir does "
    "not look at it. What is "
    "ILLEGAL in it is what 5.4 says for the features announced (C_BAD_CD). It lies at an address of the VM; a table "
    "outside of the VM's memory "
    "is an external abort (F_CD_FETCH, F_WALK_EABT). Fields that are not listed must be 0.";

inline constexpr std::string_view kEventsText =
    "32 bytes. A record is rebuilt from what the hardware recorded: the fields below, StreamID as the guest knows it, "
    "and all else 0. With the "
    "queue full or disabled an event is lost, as the architecture says. A stream that reports errors without end is "
    "silenced until its "
    "configuration is invalidated, and each time for longer. SubstreamID is 0 without SSV. Faults of one kind may be "
    "merged.";

inline constexpr std::string_view kPriText =
    "16 bytes, from devices that were granted ATS and PRI, while CR0.PRIQEN is 1. StreamID is as the guest knows it. "
    "When the queue is full, or "
    "disabled, or a guest does not answer in time, the request is answered for it.";

inline constexpr std::string_view kHypercallsText =
    "HVC, SMC Calling Convention (Arm DEN 0028), vendor-specific hypervisor service. Every other number of the service "
    "returns -1.";

}  // namespace weir::doc
