// The command side of a vSMMU, owned for an administrative call. For the sources of VSmmu only.
#pragma once

#include "vsmmu/vsmmu.hpp"

namespace weir::vsmmu {

// Waits for one exit's work at most, then for the hardware; stores are executed again until it lets go.
class VSmmu::Ownership {
 public:
  explicit Ownership(VSmmu& vsmmu) : vsmmu_{vsmmu} {
    vsmmu_.waiting_.fetch_add(1);
    while (vsmmu_.try_own(Owner::administration) != Owner::nobody) {
    }
    vsmmu_.waiting_.fetch_sub(1);
    vsmmu_.finish_all();
  }
  ~Ownership() { vsmmu_.disown(); }
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;

 private:
  VSmmu& vsmmu_;
};

}  // namespace weir::vsmmu
