// The physical GICv3, driven from EL2. All interrupts are group 1, and come to EL2. An interrupt's priority drops as soon
// as it is taken; it stays active until it is deactivated: by Weir after its handler, or, if it is forwarded to a guest,
// when the guest deactivates its virtual counterpart.
//
// INTIDs come from the platform or from Weir itself. One that the GIC does not have is ignored.
#pragma once

#include <cstdint>
#include <expected>

#include "hyp/gic/registers.hpp"
#include "hyp/platform/platform.hpp"

namespace weir {

enum class GicError : std::uint8_t {
  cannot_map,
  not_v3,               // GICD_PIDR2 names another architecture
  no_answer,            // RWP or ChildrenAsleep stays set
  no_redistributor,     // none has this pCPU's affinity
  no_system_registers,  // ICC_SRE_EL2.SRE cannot be set
};
[[nodiscard]] const char* to_string(GicError error);

// Maps the registers and resets the distributor from whatever state it is in: nothing enabled, pending or active; SPIs
// level-triggered and routed to this pCPU. Boot pCPU, once, after memory_init. Does not include gic_init_pcpu.
[[nodiscard]] std::expected<void, GicError> gic_init(const GicV3& gic);

// On each pCPU, the boot pCPU too: its redistributor and CPU interface from any state; IPIs are on afterwards. this_pcpu()
// must work.
[[nodiscard]] std::expected<void, GicError> gic_init_pcpu();

// Takes what is pending on this pCPU, up to a bound: more leaves the interrupt line asserted. Interrupts masked.
void gic_dispatch();

// ---- Interrupts handled at EL2. A handler runs in gic_dispatch, with interrupts masked and no lock held.

using GicHandler = void (*)(void* context);

// handler = nullptr removes it. SPIs come disabled. A level-triggered source must be quiet when its handler returns.
void gic_on_spi(std::uint32_t intid, GicHandler handler, void* context);
void gic_configure_spi(std::uint32_t intid, bool edge);  // works while it is enabled, too
void gic_enable_spi(std::uint32_t intid);
void gic_disable_spi(std::uint32_t intid);  // has taken effect when it returns
void gic_route_spi(std::uint32_t intid, unsigned pcpu);

// One handler for all pCPUs; enabled or disabled on this one.
void gic_on_ppi(std::uint32_t intid, GicHandler handler, void* context);
void gic_enable_ppi(std::uint32_t intid);
void gic_disable_ppi(std::uint32_t intid);

// ---- Interrupts between pCPUs. Stores made before are visible to the handler.

enum class Ipi : std::uint8_t {
  kick,  // the pCPU leaves its guest, or WFI, and looks at what its vCPU is to do
  call,  // for whoever registers it
  stop,
};
inline constexpr unsigned kIpis = 8;  // SGI 0..7; firmware may keep 8..15 to itself

void gic_on_ipi(Ipi ipi, GicHandler handler, void* context);
void gic_send_ipi(unsigned pcpu, Ipi ipi);

// ---- Forwarding to guests: what the virtual GIC uses.

// True: taken, somebody will deactivate it. False: nobody wants it, deactivate it now.
using GicForward = bool (*)(void* context, std::uint32_t intid);
// An SPI or PPI; nullptr ends it. False: there is no such interrupt, or it has a handler already.
bool gic_forward(std::uint32_t intid, GicForward forward, void* context);

// State of an SPI, or of a PPI of pCPU `pcpu`, from any pCPU.
void gic_set_enabled(std::uint32_t intid, unsigned pcpu, bool enabled);
void gic_set_pending(std::uint32_t intid, unsigned pcpu, bool pending);
void gic_set_active(std::uint32_t intid, unsigned pcpu, bool active);
[[nodiscard]] bool gic_is_pending(std::uint32_t intid, unsigned pcpu);

}  // namespace weir
