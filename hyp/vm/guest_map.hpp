// The memory map and interrupts of every VM. Portable.
#pragma once

#include <cstdint>

#include "guest-abi/types.hpp"

namespace weir {

// Where things are in every VM.
namespace guest_map {
inline constexpr IPA kGicd{0x0800'0000};
inline constexpr std::uint64_t kGicdBytes = 0x1'0000;
inline constexpr IPA kGicr{0x080a'0000};
inline constexpr std::uint64_t kGicrBytes = 0x2'0000;  // of each vCPU
inline constexpr IPA kUart{0x0900'0000};
inline constexpr std::uint64_t kUartBytes = 0x1000;
inline constexpr std::uint32_t kUartIntid = 33;
inline constexpr IPA kRtc{0x0901'0000};
inline constexpr std::uint64_t kRtcBytes = 0x1000;
inline constexpr std::uint32_t kRtcIntid = 34;
inline constexpr std::uint32_t kFirstIntxIntid = 35;
inline constexpr IPA kHiddenCds{0x0a00'0000};              // in the DMA view only: context descriptors that Weir holds
inline constexpr std::uint64_t kHiddenCdBytes = 0x1'0000;  // of each vSMMU
inline constexpr IPA kVsmmu{0x0c00'0000};
inline constexpr std::uint64_t kVsmmuBytes = 0x2'0000;
inline constexpr std::uint32_t kVsmmuIntid = 144;  // + 4n: eventq, priq, cmdq-sync, gerror
inline constexpr IPA kPci32{0x1000'0000};
inline constexpr std::uint64_t kPci32Bytes = 0x2eff'0000;
inline constexpr IPA kPciIo{0x3eff'0000};  // I/O addresses from 0 on
inline constexpr std::uint64_t kPciIoBytes = 0x1'0000;
inline constexpr IPA kEcam{0x3f00'0000};
inline constexpr std::uint64_t kEcamBytes = 0x100'0000;
inline constexpr IPA kRam{0x4000'0000};
inline constexpr IPA kLoans{0x40'0000'0000};  // where a VM has other VMs' memory; RAM ends before it
inline constexpr std::uint64_t kLoansBytes = 0x40'0000'0000;
inline constexpr IPA kPci64{0x80'0000'0000};
inline constexpr std::uint64_t kPci64Bytes = 0x80'0000'0000;

constexpr IPA hidden_cds(unsigned n) { return kHiddenCds + n * kHiddenCdBytes; }
constexpr IPA vsmmu(unsigned n) { return kVsmmu + n * kVsmmuBytes; }
constexpr std::uint32_t vsmmu_intid(unsigned n) { return kVsmmuIntid + 4 * n; }
}  // namespace guest_map

}  // namespace weir
