// Grace periods: memory that a lock-free reader may still look at is destroyed later.
//
// A writer takes something out of what readers can find, and either retires it (the memory goes when nobody can be
// looking at it any more, and nobody waits), or synchronizes (waits until nobody can be). Read sections are short: no
// reader waits in one for hardware or for a lock.
#pragma once

#include <cstdint>
#include <memory>

namespace weir::stage2 {

// Something whose destruction must wait for a grace period.
class Retired {
 public:
  Retired() = default;
  Retired(const Retired&) = delete;
  Retired& operator=(const Retired&) = delete;
  virtual ~Retired() = default;
  // The grace period is over: deletes the object, or leaves that to whoever has taken hold of it in a read section.
  virtual void expire() { delete this; }

 private:
  friend class EpochGrace;
  Retired* next_ = nullptr;
  std::uint64_t epoch_ = 0;
};

// The port to whoever knows when all pCPUs have left their read sections.
class Grace {
 public:
  // A reader is between enter() and leave(); sections do not nest.
  virtual void enter() = 0;
  virtual void leave() = 0;
  // Has `object` expire once every read section that was open at this moment has ended; perhaps at once. Never waits;
  // locks may be held that expire() does not need.
  virtual void retire(std::unique_ptr<Retired> object) = 0;
  // Returns when every read section that was open at the call has ended. Called outside of read sections and with no
  // lock held.
  virtual void synchronize() = 0;

  class [[nodiscard]] ReadSection {
   public:
    explicit ReadSection(Grace& grace) : grace_{grace} { grace_.enter(); }
    ~ReadSection() { grace_.leave(); }
    ReadSection(const ReadSection&) = delete;
    ReadSection& operator=(const ReadSection&) = delete;

   private:
    Grace& grace_;
  };

 protected:
  ~Grace() = default;
};

// For tests with a single thread, in which no reader is ever interrupted by a writer.
class ImmediateGrace final : public Grace {
 public:
  void enter() override {}
  void leave() override {}
  void retire(std::unique_ptr<Retired> object) override {
    if (object != nullptr) object.release()->expire();
  }
  void synchronize() override {}
};

}  // namespace weir::stage2
