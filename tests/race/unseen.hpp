// What is not Weir, hidden from ThreadSanitizer: the modelled hardware, guests, and what the tests themselves keep. Inside
// nothing is reported, and no lock orders anything: the tests' own locks would otherwise hide races of Weir's.
#pragma once

#include <mutex>

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
}

namespace weir::race {

class [[nodiscard]] Unseen {
 public:
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};

// A lock that orders nothing for ThreadSanitizer, and what it guards.
class [[nodiscard]] UnseenLock {
 public:
  explicit UnseenLock(std::mutex& mutex) : lock_{mutex} {}

 private:
  Unseen unseen_;
  std::lock_guard<std::mutex> lock_;
};

}  // namespace weir::race
