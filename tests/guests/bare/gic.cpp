#include "tests/guests/bare/gic.hpp"

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/mmio.hpp"

namespace weir::guest::gic {
namespace {
// GICD_*; the same offsets in the redistributor's SGI frame.
enum Register : std::uint64_t {
  kCtlr = 0x0000,
  kWaker = 0x0014,
  kIgroupr = 0x0080,
  kIsenabler = 0x0100,
  kIcenabler = 0x0180,
  kIpriorityr = 0x0400,
  kIcfgr = 0x0c00,
  kIrouter = 0x6000,
};
constexpr std::uint64_t kSgiFrame = 0x1'0000;
constexpr unsigned kFirstSpi = 32;

std::uint64_t frame(unsigned intid) { return intid < kFirstSpi ? machine().gicr + kSgiFrame : machine().gicd; }
std::uint32_t bit(unsigned intid) { return std::uint32_t{1} << intid % 32; }
}  // namespace

void init() {
  const Machine& m = machine();
  store32(m.gicd + kCtlr, 0x12);  // ARE_NS, EnableGrp1
  constexpr std::uint32_t kProcessorSleep = 1 << 1, kChildrenAsleep = 1 << 2;
  store32(m.gicr + kWaker, load32(m.gicr + kWaker) & ~kProcessorSleep);
  while ((load32(m.gicr + kWaker) & kChildrenAsleep) != 0) {
  }
  WEIR_WRITE_SYSREG("S3_0_C12_C12_5", 7);  // ICC_SRE_EL1
  isb();
  WEIR_WRITE_SYSREG("S3_0_C4_C6_0", 0xff);  // ICC_PMR_EL1
  WEIR_WRITE_SYSREG("S3_0_C12_C12_4", 0);   // ICC_CTLR_EL1: EOI deactivates
  WEIR_WRITE_SYSREG("S3_0_C12_C12_7", 1);   // ICC_IGRPEN1_EL1
  isb();
}

void enable(unsigned intid) {
  const std::uint64_t f = frame(intid);
  const std::uint64_t group = f + kIgroupr + intid / 32 * 4;
  store32(group, load32(group) | bit(intid));
  store8(f + kIpriorityr + intid, 0x80);
  if (intid >= kFirstSpi)
    store64(f + kIrouter + std::uint64_t{8} * intid, WEIR_READ_SYSREG("mpidr_el1") & 0xff'00ff'ffff);
  store32(f + kIsenabler + intid / 32 * 4, bit(intid));
  barrier();
}

void disable(unsigned intid) {
  store32(frame(intid) + kIcenabler + intid / 32 * 4, bit(intid));
  barrier();
}

void set_edge(unsigned intid) {
  const std::uint64_t at = machine().gicd + kIcfgr + intid / 16 * 4;
  store32(at, load32(at) | std::uint32_t{2} << intid % 16 * 2);
}

void send_sgi(unsigned intid) {
  const std::uint64_t mpidr = WEIR_READ_SYSREG("mpidr_el1");
  const std::uint64_t target =
      std::uint64_t{1} << (mpidr & 0xf) | (mpidr >> 8 & 0xff) << 16 | (mpidr >> 16 & 0xff) << 32;
  WEIR_WRITE_SYSREG("S3_0_C12_C11_5", target | std::uint64_t{intid} << 24);  // ICC_SGI1R_EL1
  isb();
}

}  // namespace weir::guest::gic
