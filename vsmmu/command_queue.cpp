#include "vsmmu/command_queue.hpp"

#include <algorithm>
#include <span>

namespace weir::vsmmu {

static_assert(sizeof(smmu::Command) == 16, "chunks are copied as they lie in guest memory");

void CommandQueue::start(const Ring& ring, std::uint32_t cons) {
  stop();
  ring_ = ring;
  cons_ = ring.normal(cons);
}

bool CommandQueue::take_posted(bool consuming) {
  const std::uint32_t posted = posted_.exchange(0);
  if ((posted & kPosted) == 0) return true;
  const std::uint32_t old_fill = ring_.distance(cons_, prod_);
  const std::uint32_t new_fill = ring_.distance(cons_, posted & kIndex);
  // While the indexes contradict each other, nothing is consumed, and any value may be right.
  if (consuming && old_fill <= ring_.entries() && (new_fill < old_fill || new_fill > ring_.entries())) return false;
  prod_ = posted & kIndex;
  return true;
}

bool CommandQueue::fetch(GuestMemory& memory, std::uint32_t most) {
  const std::uint32_t slot = ring_.slot(cons_);
  std::uint32_t n = std::min({ring_.distance(cons_, prod_), most, kChunk, ring_.entries() - slot});
  const IPA from = ring_.base + (std::uint64_t{slot} << kLog2Command);
  if (!memory.read(from, std::as_writable_bytes(std::span{chunk_}.first(n)))) {
    n = 1;  // commands before the end of RAM are still good
    if (!memory.read(from, std::as_writable_bytes(std::span{chunk_}.first(n)))) return false;
  }
  next_ = chunk_.data();
  end_ = next_ + n;
  return true;
}

}  // namespace weir::vsmmu
