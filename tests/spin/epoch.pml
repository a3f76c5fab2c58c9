/* Grace periods (stage2/epoch.cpp), statement by statement. One writer replaces an object and retires it, another replaces and
 * synchronizes; readers come and go, twice, and help to reclaim. Holds: nobody uses an object that is gone; no list of
 * retired ones is looked at by two.
 *
 * holds:
 * holds: READERS=2
 * fails: ENTER_WITHOUT_FENCE        the slot's store waits in the reader's CPU while it loads the pointer
 * fails: RECLAIM_WITHOUT_FENCE      the pointer's store waits in the writer's CPU while it loads the slots
 * fails: SYNCHRONIZE_WITHOUT_FENCE  the same
 * fails: RETIRE_FIRST               retired before it is out of the readers' reach
 * fails: EXPIRES_WITH_EQUALS        an object expires with a section of its own epoch open
 * fails: SYNCHRONIZE_SKIPS_EQUALS   the same for who waits
 * fails: SCAN_BEFORE_LOCK READERS=2 the slots are looked at, then the lock is taken: objects may be younger than the look
 * fails: USED_LATE                  a first reader counts itself only when it is inside
 * fails: LEAVE_FIRST                the reader goes on after leave()
 * fails: NO_LOCK                    two reclaim at once
 */
#ifndef READERS
#define READERS 1
#endif
#if READERS == 1
#define SECTIONS 2
#else
#define SECTIONS 1
#endif
#define CPUS (READERS + 2)
#define RETIRER READERS
#define WAITER (READERS + 1)
#define POINTER 0
#define EPOCH 1
#define USED 2
#define LOCK 3
#define SLOT(r) (4 + (r))
#define PLACES (4 + READERS)
#define DEPTH 3
#if READERS == 1
#undef CPUS
#define CPUS 3
#else
#undef CPUS
#define CPUS 4
#endif
#include "weak.h"

#define NEVER 200
bool freed[3];
/* The list, under the lock: at most one object. Its content is seen by who takes the lock, as is all that came before. */
bool listed;
byte listed_epoch;
byte listed_object;
bool in_list; /* somebody is at it */

/* SpinLock::try_lock(), lock(); a CPU that has just unlocked may lock again before anybody saw that. */
inline locked(cpu, ok) {
  d_step {
    if
    :: QUEUED(cpu, LOCK) ->
       if
       :: WAITS(cpu, 0, LOCK) -> leave(cpu, 0)
       :: WAITS(cpu, 1, LOCK) -> leave(cpu, 1)
       :: WAITS(cpu, 2, LOCK) -> leave(cpu, 2)
       fi;
       ok = true
    :: else ->
       ok = visible[LOCK] == 0;
       visible[LOCK] = 1
    fi
  }
}
inline lock(cpu) { atomic { visible[LOCK] == 0 -> visible[LOCK] = 1 } }
inline unlock(cpu) {
  in_list = false;
  release(cpu, LOCK, 0)
}

inline oldest_section(cpu) {
#ifndef RECLAIM_WITHOUT_FENCE
  fence(cpu);
#endif
  oldest = NEVER;
  load(cpu, USED, used);
  slot = 0;
  do
  :: slot < used ->
     load(cpu, SLOT(slot), seen);
     oldest = (seen != 0 && seen < oldest -> seen : oldest);
     slot++
  :: else -> break
  od
}
inline reclaim(cpu) {
#ifdef SCAN_BEFORE_LOCK
  oldest_section(cpu);
#endif
#ifdef NO_LOCK
  ok = true;
#else
  locked(cpu, ok);
#endif
  if
  :: !ok
  :: else ->
     assert(!in_list);
     in_list = true;
#ifndef SCAN_BEFORE_LOCK
     oldest_section(cpu);
#endif
     if
#ifdef EXPIRES_WITH_EQUALS
     :: listed && listed_epoch <= oldest ->
#else
     :: listed && listed_epoch < oldest ->
#endif
        listed = false;
        freed[listed_object] = true
     :: else
     fi;
     unlock(cpu)
  fi;
  oldest = 0;
  used = 0;
  slot = 0;
  seen = 0
}

inline count_itself(r) {
  load(r, USED, used);
  if
  :: used <= r ->
     /* the loop of compare_exchange_weak, until it succeeds or is not needed */
     d_step {
       queued[r] < DEPTH && EXCLUSIVE(r, USED) -> look(r, USED, used);
       if
       :: used <= r -> put(r, USED, r + 1, false)
       :: else
       fi
     }
  :: else
  fi;
  used = 0
}
inline leave_section(r) { release(r, SLOT(r), 0) }

proctype reader(byte r) {
  byte n, k, epoch, object, oldest, used, slot, seen;
  bool ok;
  do
  :: n < SECTIONS ->
     n++;
     /* enter() */
#ifndef USED_LATE
     count_itself(r);
#endif
     load(r, EPOCH, epoch);
     store(r, SLOT(r), epoch);
#ifndef ENTER_WITHOUT_FENCE
     fence(r);
#endif
     /* the section */
     load(r, POINTER, object);
#ifdef LEAVE_FIRST
     leave_section(r);
#endif
     assert(!freed[object]);
     object = 0;
     epoch = 0;
     /* leave() */
#ifndef LEAVE_FIRST
     leave_section(r);
#endif
#ifdef USED_LATE
     count_itself(r);
#endif
     if
     :: true -> reclaim(r)
     :: skip /* nothing seems to be waiting */
     fi
  :: else -> break
  od
}

/* publish(): exchange(acq_rel), of one who is alone at it. */
inline replace(cpu, old, new) { release(cpu, POINTER, new) }

bool replaced; /* the domain's lock: one after the other */

proctype retirer() {
  byte k, epoch, oldest, used, slot, seen;
  bool ok;
#ifndef RETIRE_FIRST
  replace(RETIRER, 0, 1);
#endif
  /* retire() */
  lock(RETIRER);
  in_list = true;
  add(RETIRER, EPOCH, 1, epoch);
  d_step {
    listed = true;
    listed_object = 0;
    listed_epoch = epoch
  };
  unlock(RETIRER);
  reclaim(RETIRER);
#ifdef RETIRE_FIRST
  replace(RETIRER, 0, 1);
#endif
  fence(RETIRER);
  replaced = true
}

proctype waiter() {
  byte now, used, slot, seen;
  replaced;
  replace(WAITER, 1, 2);
  /* synchronize() */
  add(WAITER, EPOCH, 1, now);
#ifndef SYNCHRONIZE_WITHOUT_FENCE
  fence(WAITER);
#endif
  load(WAITER, USED, used);
  do
  :: slot < used ->
     do
     :: load(WAITER, SLOT(slot), seen);
        if
#ifdef SYNCHRONIZE_SKIPS_EQUALS
        :: seen == 0 || seen >= now -> break
#else
        :: seen == 0 || seen > now -> break
#endif
        :: else
        fi
     od;
     slot++
  :: else -> break
  od;
  freed[1] = true
}

init {
  byte r;
  atomic {
    visible[EPOCH] = 1;
    do
    :: r < READERS -> run reader(r); r++
    :: else -> break
    od;
    r = 0;
    do
    :: r < CPUS -> run buffer(r); r++
    :: else -> break
    od;
    run retirer();
    run waiter()
  }
}
