// Grace periods: memory that a lock-free reader may still look at is destroyed later.
#pragma once

#include <memory>

namespace weir::stage2 {

// Something whose destruction must wait for a grace period.
class Retired {
 public:
  Retired() = default;
  Retired(const Retired&) = delete;
  Retired& operator=(const Retired&) = delete;
  virtual ~Retired() = default;
};

// The port to whoever knows when all pCPUs have left their read sections. Nobody waits in it.
class Grace {
 public:
  // A reader is between enter() and leave(); sections do not nest.
  virtual void enter() = 0;
  virtual void leave() = 0;
  // Destroys `object` once every read section that was open at this moment has ended; perhaps at once.
  virtual void retire(std::unique_ptr<Retired> object) = 0;

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

// Right only while readers and writers hold the same lock, as those of an S2Domain do.
class ImmediateGrace final : public Grace {
 public:
  void enter() override {}
  void leave() override {}
  void retire(std::unique_ptr<Retired> object) override { object.reset(); }
};

}  // namespace weir::stage2
