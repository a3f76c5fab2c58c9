#include "tests/unit/conformance/machines.hpp"

#include <array>

#include "tests/unit/conformance/bare_machine.hpp"
#include "tests/unit/conformance/guest_machine.hpp"

namespace weir::conformance::host {
namespace {

using model::Parameters;

Parameters plain(std::uint64_t seed) {
  Parameters p;
  p.seed = seed;
  p.hyp = true;
  p.had = true;
  p.xnx = true;
  return p;
}
Parameters everything(std::uint64_t seed) {
  Parameters p = Parameters::everything(seed);
  p.hyp = true;
  p.stall_max = 32;  // a vSMMU's share are 8
  return p;
}
Parameters without_ranges(std::uint64_t seed) {
  Parameters p = plain(seed);
  p.ril = false;
  p.minor_revision = 1;
  p.asid16 = false;
  p.term_model = true;
  return p;
}

constexpr unsigned kSeeds = 3;
constexpr vsmmu::StreamGrant kAts{.ats = vsmmu::AtsGrant::split_stage, .pri = true};

constexpr std::array<MachineType, 8> kTypes{{
    {"model-qemu", "the model as QEMU's SMMU is", [](std::uint64_t) { return make_bare(Parameters::qemu()); }, 0},
    {"model", "the model, with two stages and no more", [](std::uint64_t seed) { return make_bare(plain(seed)); },
     kSeeds},
    {"model-full", "the model with all that it can do", [](std::uint64_t seed) { return make_bare(everything(seed)); },
     kSeeds},
    {"vsmmu", "a vSMMU over that with two stages and no more",
     [](std::uint64_t seed) { return make_guest({.instances = {plain(seed)}}); }, 4},
    {"vsmmu-full", "a vSMMU over that with all that it can do",
     [](std::uint64_t seed) { return make_guest({.instances = {everything(seed)}, .grant = kAts}); }, kSeeds},
    {"vsmmu-two", "a vSMMU over two: all, and an SMMUv3.1 without range invalidation and with 8-bit ASIDs",
     [](std::uint64_t seed) { return make_guest({.instances = {everything(seed), without_ranges(seed + 1)}}); },
     kSeeds},
    {"vsmmu-precise", "vsmmu-full in precise mode",
     [](std::uint64_t seed) {
       return make_guest({.instances = {everything(seed)}, .config = {.precise = true}, .grant = kAts});
     },
     kSeeds},
    {"vsmmu-two-precise", "vsmmu-two in precise mode",
     [](std::uint64_t seed) {
       return make_guest({.instances = {everything(seed), without_ranges(seed + 1)}, .config = {.precise = true}});
     },
     kSeeds},
}};

}  // namespace

std::span<const MachineType> machine_types() { return kTypes; }

}  // namespace weir::conformance::host
