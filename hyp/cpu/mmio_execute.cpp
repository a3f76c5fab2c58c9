#include "hyp/cpu/mmio_execute.hpp"

#include <array>
#include <utility>

#include "guest-abi/field.hpp"

namespace weir {
namespace {

constexpr std::uint64_t sign_extended(std::uint64_t value, unsigned bits) {
  const std::uint64_t sign = std::uint64_t{1} << (bits - 1);
  return ((value & bit_mask(bits - 1, 0)) ^ sign) - sign;
}

std::uint64_t first_address(const DecodedAccess& access, MmioPort& port) {
  std::uint64_t offset = static_cast<std::uint64_t>(access.offset);
  if (const auto& index = access.index) {
    const std::uint64_t value = index->reg < 31 ? port.general(index->reg) : 0;
    switch (index->extension) {
      case IndexExtension::none: offset = value; break;
      case IndexExtension::zero_32: offset = value & bit_mask(31, 0); break;
      case IndexExtension::sign_32: offset = sign_extended(value, 32); break;
    }
    offset <<= index->shift;
  }
  return port.base(access.base) + offset;
}

// The IPA of [at, at + bytes), if all of it is in the page of the fault and the fault is in it. Top bytes may be tags.
std::expected<IPA, DecodeError> locate(std::uint64_t at, unsigned bytes, const MmioFault& fault) {
  const std::uint64_t into = (fault.far - at) & bit_mask(55, 0);
  const std::uint64_t page_offset = at % kPage4K;
  if (into >= bytes || page_offset + bytes > kPage4K || fault.far % kPage4K != fault.ipa.value % kPage4K)
    return std::unexpected{DecodeError::mismatch};
  return fault.ipa.align_down(kPage4K) + page_offset;
}

std::uint64_t general_result(const DecodedAccess& access, std::uint64_t value) {
  if (access.sign_extend) value = sign_extended(value, access.size * 8U);
  return value & bit_mask(access.register_bits - 1U, 0);
}

// What is transferred with one register; 16 bytes are two accesses of 8, the lower address first.
MmioResult load(IPA at, unsigned size, MmioPort& port, VectorValue& value) {
  if (size <= 8) return port.read(at, size, value.low);
  const MmioResult first = port.read(at, 8, value.low);
  return first == MmioResult::done ? port.read(at + 8, 8, value.high) : first;
}
MmioResult store(IPA at, unsigned size, MmioPort& port, const VectorValue& value) {
  if (size < 8) return port.write(at, size, value.low & bit_mask(size * 8 - 1, 0));
  const MmioResult first = port.write(at, 8, value.low);
  return first == MmioResult::done && size > 8 ? port.write(at + 8, 8, value.high) : first;
}

VectorValue stored_value(const DecodedAccess& access, unsigned i, MmioPort& port) {
  const unsigned reg = access.regs[i];
  if (access.register_class == RegisterClass::vector) return port.vector(reg);
  return {reg < 31 ? port.general(reg) : 0, 0};
}

void set_loaded(const DecodedAccess& access, unsigned i, VectorValue value, MmioPort& port) {
  const unsigned reg = access.regs[i];
  if (access.register_class == RegisterClass::vector) {
    if (access.size < 8) value.low &= bit_mask(access.size * 8U - 1U, 0);
    port.set_vector(reg, value);
  } else if (reg < 31) {
    port.set_general(reg, general_result(access, value.low));
  }
}

}  // namespace

std::expected<MmioResult, DecodeError> execute_mmio(const DecodedAccess& access, const MmioFault& fault,
                                                    MmioPort& port) {
  const std::uint64_t at = first_address(access, port);
  const unsigned bytes = static_cast<unsigned>(access.size) * access.count;
  const auto ipa = locate(at, bytes, fault);
  if (!ipa) return std::unexpected{ipa.error()};
  const unsigned alignment = access.size < 8 ? access.size : 8;
  if (access.store != fault.write || !ipa->aligned(alignment)) return std::unexpected{DecodeError::mismatch};

  std::array<VectorValue, 2> values{};
  for (unsigned i = 0; i < access.count; ++i) {
    const IPA here = *ipa + std::uint64_t{i} * access.size;
    if (access.store) values[i] = stored_value(access, i, port);
    const MmioResult result =
        access.store ? store(here, access.size, port, values[i]) : load(here, access.size, port, values[i]);
    if (result != MmioResult::done) return result;
  }
  if (!access.store)
    for (unsigned i = 0; i < access.count; ++i) set_loaded(access, i, values[i], port);
  if (access.writeback) {
    const auto step = static_cast<std::uint64_t>(*access.writeback);
    port.set_base(access.base, port.base(access.base) + step);
  }
  return MmioResult::done;
}

}  // namespace weir
