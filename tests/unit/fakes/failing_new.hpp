// Makes new (std::nothrow), which make<T>() uses, fail on request. Link failing_new.cpp.
#pragma once

namespace weir::test {

// The next `successes` allocations succeed, all later ones fail, until the object goes.
class FailingNew {
 public:
  explicit FailingNew(int successes);
  ~FailingNew();
  // Allocations that were made to fail, since the last object was made.
  [[nodiscard]] static unsigned refused();
  FailingNew(const FailingNew&) = delete;
  FailingNew& operator=(const FailingNew&) = delete;
};

}  // namespace weir::test
