/* A guest gives a page back while EL2 copies to it and a device writes to it (design, "One change of stage 2";
 * stage2/vm_memory.*, hyp/vm/guest_memory.hpp). Holds: nobody but its new owner writes to it once it has one, and the new owner
 * finds zeroes.
 *
 * holds:
 * fails: NO_GRACE            the page is reused while EL2 is in the middle of a copy
 * fails: WALK_OUTSIDE        EL2 looks the page up before its read section
 * fails: NO_INVALIDATION     a device's TLB still leads there
 * fails: NO_SYNC             the invalidation is sent, not awaited
 * fails: ONE_SMMU_ONLY       another SMMU has the page, too
 * fails: ZERO_FIRST          the page is zeroed while it is still reachable
 * fails: GRACE_FIRST         grace, then the unmapping
 * fails: UNMAP_LATE          the descriptor's store waits in the CPU while grace is looked at
 * fails: ENTER_LATE          the reader's mark waits in its CPU while it walks
 */
#define CPUS 2
#define COPIER 0
#define GIVER 1
#define PLACES 2
#define PTE 0
#define INSIDE 1
#include "weak.h"

bool tlb[2];
bool sent[2];
bool dirty = true; /* the old owner's bytes are in the page */
bool given;        /* it has a new owner */

proctype smmu(byte i) {
end:
  do
  :: d_step { visible[PTE] == 1 && !tlb[i] -> tlb[i] = true }
  :: d_step { sent[i] -> sent[i] = false; tlb[i] = false }
  :: atomic { tlb[i] -> assert(!given); dirty = true }
  od
}

proctype copier() { /* GuestMemory::write() */
  byte valid;
  byte n;
  do
  :: n < 2 ->
     n++;
#ifdef WALK_OUTSIDE
     load(COPIER, PTE, valid);
#endif
     store(COPIER, INSIDE, 1);
#ifndef ENTER_LATE
     fence(COPIER);
#endif
#ifndef WALK_OUTSIDE
     load(COPIER, PTE, valid);
#endif
     if
     :: valid == 1 -> atomic { assert(!given); dirty = true }
     :: else
     fi;
     release(COPIER, INSIDE, 0)
  :: else -> break
  od
}

inline zero() { dirty = false }
inline synchronize() {
#ifndef UNMAP_LATE
  fence(GIVER);
#endif
  visible[INSIDE] == 0
}

proctype relinquish() {
#ifdef ZERO_FIRST
  zero();
#endif
#ifdef GRACE_FIRST
  synchronize();
#endif
  store(GIVER, PTE, 0);
#ifndef UNMAP_LATE
  fence(GIVER);
#endif
#ifndef NO_INVALIDATION
  sent[0] = true;
#ifndef ONE_SMMU_ONLY
  sent[1] = true;
#endif
#ifndef NO_SYNC
  !sent[0] && !sent[1];
#endif
#endif
#ifndef NO_GRACE
#ifndef GRACE_FIRST
  synchronize();
#endif
#endif
#ifndef ZERO_FIRST
  zero();
#endif
  atomic { given = true; assert(!dirty) }
}

init {
  atomic {
    visible[PTE] = 1;
    run buffer(COPIER);
    run buffer(GIVER);
    run smmu(0);
    run smmu(1);
    run copier();
    run relinquish()
  }
}
