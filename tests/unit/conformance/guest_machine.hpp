// A vSMMU over software SMMUv3s, put together as hyp/vm/devices.cpp does.
#pragma once

#include <vector>

#include "tests/model/parameters.hpp"
#include "tests/unit/conformance/machines.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/ste_merge.hpp"

namespace weir::conformance::host {

struct GuestOptions {
  std::vector<model::Parameters> instances;  // one or two; devices are spread over them
  vsmmu::Config config{};
  vsmmu::StreamGrant grant{};  // of all devices
};
[[nodiscard]] std::unique_ptr<Machine> make_guest(const GuestOptions& options);

}  // namespace weir::conformance::host
