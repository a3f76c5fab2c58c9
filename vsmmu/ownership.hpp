// The command side of a vSMMU, owned for an administrative call. For the sources of VSmmu only.
#pragma once

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

// Stores are executed again until it lets go.
class VSmmu::Ownership {
 public:
  explicit Ownership(VSmmu& vsmmu) : vsmmu_{vsmmu} {
    while (vsmmu_.try_own(Owner::administration) != Owner::nobody) {
    }
    vsmmu_.finish_all();
  }
  ~Ownership() { vsmmu_.disown(); }
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;

 private:
  VSmmu& vsmmu_;
};

}  // namespace weir::vsmmu
