#include "hyp/machine/grace.hpp"

#include <array>

#include "hyp/arch/pcpu.hpp"

namespace weir {
namespace {

unsigned reader() { return this_pcpu().index; }

constinit std::array<stage2::EpochGrace::Slot, kMaxPcpus> slots;

// Lives for ever: no destructor is to be registered for it.
union Everlasting {
  constexpr Everlasting() : grace{slots, reader} {}
  ~Everlasting() {}  // NOLINT(modernize-use-equals-default): that would be deleted
  stage2::EpochGrace grace;
};
constinit Everlasting everlasting;

}  // namespace

stage2::EpochGrace& hyp_grace() { return everlasting.grace; }

}  // namespace weir
