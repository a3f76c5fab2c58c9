/* A page is unmapped while tags come and go on two SMMUs (stage2/domain.cpp: attach, install, uninstall, detach, unmap).
 * Holds: once unmap() has returned, no TLB holds the page, and none will. Nobody reads an array that is gone.
 *
 * holds:
 * fails: CHANGE_WITHOUT_FENCE    the descriptor is written after the array was read, as others see it
 * fails: LOAD_FIRST              the array is loaded before the descriptor is written
 * fails: INVALIDATE_FIRST        the invalidation goes out before the descriptor is written
 * fails: PUBLISH_WITHOUT_FENCE   the STE is visible before the array is
 * fails: STE_FIRST               the STE is installed, then the array published
 * fails: UNPUBLISH_FIRST         the array without the tag is published while its STE is in use
 * fails: NO_FLUSH                the tag leaves without S12_VMALL
 * fails: STE_NOT_SYNCED          the tag leaves without CFGI_STE + SYNC
 * fails: ONE_PHASE               S2_IPA and NH_ALL with one SYNC: no order among them (IHI 0070, 4.7.3)
 * fails: FREE_AT_ONCE            an old array is freed without grace
 * fails: NO_LOCK                 an array is merged from one that was replaced meanwhile (no lock)
 */
#define SMMUS 2
#define CPUS (SMMUS + 1)
#define CHANGER SMMUS
#define PLACES 4
#define PTE 0
#define ARRAY 1
#define STE(i) (2 + (i))
#include "weak.h"

/* Arrays, by number; never changed once published, but for users that go. */
#define ARRAYS 6
byte users[ARRAYS * SMMUS];
bool retired[ARRAYS];
bool freed[ARRAYS];
byte next_array = 1;
bool lock;
bool reading;
bool unmapped; /* unmap() has returned */

/* What each SMMU has cached: an STE with the tag, and the page, as a stage-2 and as a combined entry. */
bool ste[SMMUS];
bool stage2[SMMUS];
bool combined[SMMUS];

proctype hardware(byte i) {
end:
  do
  :: d_step { visible[STE(i)] == 1 && !ste[i] -> ste[i] = true }
  :: d_step { ste[i] && visible[PTE] == 1 && !stage2[i] -> stage2[i] = true }
  :: d_step { ste[i] && stage2[i] && !combined[i] -> combined[i] = true }
  od
}

inline free_array(a) { freed[a] = true }
inline retire(a) {
#ifdef FREE_AT_ONCE
  free_array(a)
#else
  retired[a] = true
#endif
}
/* What grace means is epoch.pml's business: here, nobody reads. */
proctype grace() {
  byte a;
end:
  do
  :: atomic {
       !reading && (retired[0] || retired[1] || retired[2] || retired[3] || retired[4] || retired[5]) ->
       a = 0;
       do
       :: a < ARRAYS -> if :: retired[a] -> retired[a] = false; free_array(a) :: else fi; a++
       :: else -> break
       od;
       a = 0
     }
  od
}

inline take_lock() {
#ifdef NO_LOCK
  skip
#else
  atomic { !lock -> lock = true }
#endif
}
inline give_lock() {
#ifdef NO_LOCK
  skip
#else
  fence(cpu);
  lock = false
#endif
}

/* With the lock: an array with the tag of i, or without what has no users. */
inline publish(i, more) {
  load(cpu, ARRAY, old);
  d_step {
    new = next_array;
    next_array++;
    users[new * SMMUS] = users[old * SMMUS];
    users[new * SMMUS + 1] = users[old * SMMUS + 1];
    users[new * SMMUS + i] = users[new * SMMUS + i] + more
  }
  store(cpu, ARRAY, new);
#ifndef PUBLISH_WITHOUT_FENCE
  fence(cpu);
#endif
  retire(old)
}

inline install(i, on) {
  store(cpu, STE(i), on);
#ifdef PUBLISH_WITHOUT_FENCE
  /* the store alone must not order what came before */
#else
  fence(cpu); /* publish(): before the command */
#endif
#ifdef STE_NOT_SYNCED
  if
  :: on == 1 -> ste[i] = false
  :: else
  fi
#else
  !QUEUED(cpu, STE(i));
  ste[i] = false /* CFGI_STE + SYNC */
#endif
}

/* One pCPU for each SMMU: its tag comes, and goes. */
proctype administration(byte i) {
  byte old, new;
  byte cpu = i;
#ifdef STE_FIRST
  install(i, 1);
#endif
  take_lock();
  publish(i, 1);
  give_lock();
#ifndef STE_FIRST
  install(i, 1);
#endif
  /* ... */
#ifdef UNPUBLISH_FIRST
  take_lock();
  load(cpu, ARRAY, old);
  users[old * SMMUS + i] = 0;
  publish(i, 0);
  give_lock();
#endif
  install(i, 0);
#ifndef NO_FLUSH
  d_step { stage2[i] = false; combined[i] = false } /* S12_VMALL + SYNC */
#endif
#ifndef UNPUBLISH_FIRST
  take_lock();
  load(cpu, ARRAY, old);
  assert(users[old * SMMUS + i] == 1);
  users[old * SMMUS + i] = 0; /* in place */
  publish(i, 0);
  give_lock()
#endif
}

inline invalidate(i) {
  assert(!freed[array]);
  if
  :: users[array * SMMUS + i] != 0 ->
#ifdef ONE_PHASE
     if
     :: stage2[i] = false; combined[i] = false
     :: combined[i] = false; stage2[i] = false
     fi
#else
     stage2[i] = false;  /* S2_IPA + SYNC */
     combined[i] = false /* NH_ALL + SYNC */
#endif
  :: else
  fi
}

proctype unmap() {
  byte array;
  reading = true;
#ifdef LOAD_FIRST
  load(CHANGER, ARRAY, array);
#endif
#ifdef INVALIDATE_FIRST
  load(CHANGER, ARRAY, array);
  invalidate(0);
  invalidate(1);
#endif
  store(CHANGER, PTE, 0);
#ifndef CHANGE_WITHOUT_FENCE
  fence(CHANGER);
#endif
#ifndef LOAD_FIRST
  load(CHANGER, ARRAY, array);
#endif
#ifndef INVALIDATE_FIRST
  invalidate(0);
  invalidate(1);
#endif
  reading = false;
  fence(CHANGER); /* the caller's: nothing of this is under way any more */
  unmapped = true
}

/* Once unmapped, for ever: looked at in every state, because this may run in any. */
proctype watch() {
  byte i;
  unmapped ->
  assert(!stage2[0] && !combined[0] && !stage2[1] && !combined[1])
}

init {
  atomic {
    visible[PTE] = 1;
    run hardware(0);
    run hardware(1);
    run buffer(0);
    run buffer(1);
    run buffer(CHANGER);
    run grace();
    run administration(0);
    run administration(1);
    run unmap();
    run watch()
  }
}
