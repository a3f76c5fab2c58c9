#include "vsmmu/stream_table.hpp"

#include <algorithm>
#include <bit>

namespace weir::vsmmu {
namespace {

static_assert(std::endian::native == std::endian::little, "structures in guest memory are little-endian");

// Clears the low `bits` bits.
constexpr IPA aligned(std::uint64_t address, unsigned bits) {
  return bits >= 64 ? IPA{} : IPA{address & ~bit_mask(bits - 1, 0)};
}

constexpr unsigned kLog2Ste = 6;
constexpr unsigned kLog2L1Std = 3;
constexpr std::uint64_t kMaxSpan = 11;

}  // namespace

std::expected<IPA, SteFault> StreamTable::locate(GuestMemory& memory, VStreamID vsid) const {
  using smmu::STRTAB_BASE_CFG;
  const std::unexpected bad_streamid{SteFault{smmu::EventId::C_BAD_STREAMID, {}}};
  const auto log2size = static_cast<unsigned>(config.get<STRTAB_BASE_CFG::LOG2SIZE>());
  const std::uint64_t sid = vsid.value;
  if (!fits(vsid, std::min(log2size, sid_bits))) return bad_streamid;

  const std::uint64_t address = base.get<smmu::STRTAB_BASE::ADDR>();
  // Alignment goes by the literal LOG2SIZE (6.3.24).
  if (config.get<STRTAB_BASE_CFG::FMT>() != smmu::StrtabFmt::two_level)
    return aligned(address, log2size + kLog2Ste) + (sid << kLog2Ste);

  const std::uint64_t asked = config.get<STRTAB_BASE_CFG::SPLIT>();
  const unsigned split = asked == 8 || asked == 10 ? static_cast<unsigned>(asked) : 6;
  const unsigned l1_log2 = log2size > split ? log2size - split : 0;
  const IPA at = aligned(address, std::max(kLog2Ste, l1_log2 + kLog2L1Std)) + ((sid >> split) << kLog2L1Std);
  smmu::L1Std l1;
  if (!memory.read(at, std::as_writable_bytes(std::span{l1.words})))
    return std::unexpected{SteFault{smmu::EventId::F_STE_FETCH, at}};

  const std::uint64_t span = l1.get<smmu::L1Std::Span>();
  if (span == 0 || span > kMaxSpan || span > split + 1) return bad_streamid;
  const std::uint64_t index = sid & bit_mask(split - 1, 0);
  const auto l2_log2 = static_cast<unsigned>(span - 1);
  if (index >> l2_log2 != 0) return bad_streamid;
  return aligned(l1.get<smmu::L1Std::L2Ptr>(), l2_log2 + kLog2Ste) + (index << kLog2Ste);
}

std::expected<smmu::Ste, SteFault> StreamTable::fetch(GuestMemory& memory, VStreamID vsid) const {
  const auto at = locate(memory, vsid);
  if (!at) return std::unexpected{at.error()};
  smmu::Ste ste;
  if (!memory.read(*at, std::as_writable_bytes(std::span{ste.words})))
    return std::unexpected{SteFault{smmu::EventId::F_STE_FETCH, *at}};
  return ste;
}

}  // namespace weir::vsmmu
