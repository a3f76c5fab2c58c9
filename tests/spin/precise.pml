/* Precise invalidation (design, section 4; vsmmu/): one stream whose context descriptor Weir holds, two guest address spaces, host
 * ASIDs of one instance. The guest points its CD to one space or the other, unmaps and maps its page in each, and invalidates as it
 * should; its CD may change at any time before its CFGI. Hardware fetches and fills at any time, and executes commands in any
 * order until a SYNC. Holds: no device uses what a completed invalidation has removed, or an entry of another space.
 *
 * holds:
 * fails: RECORD_LATE       the CD is in place before the space is on record, and recording fails
 * fails: DROP_AT_CFGI      the space is struck off when its last CD has gone
 * fails: DROP_BEFORE_SYNC  by an NH_ASID that was sent before the SYNC behind the CFGI completed
 * fails: DROP_NOT_AWAITED  by an NH_ASID that has not completed
 * fails: CD_OF_THE_GUEST   hardware reads the guest's own CD, and residency is what was learned at CFGI
 * fails: ONE_SLOT          the CD is changed in place
 * fails: SLOT_TOO_EARLY    the other slot is written before the SYNC behind the last flip
 */
#define NONE 9
#define SPACES 2
#define HOSTS 2 /* ASIDs of the instance: as many as spaces, so that they are reused */
#ifndef ACTIONS
#define ACTIONS 4
#endif

/* The guest's */
byte guest_cd = 0;
bool mapped[SPACES] = true;
bool gone[SPACES]; /* unmapped, invalidated, and the SYNC has completed */

/* Weir's */
byte host_of[SPACES] = NONE; /* the table: which spaces may be in the TLB, and under which ASID */
bool taken[HOSTS];
bool used[SPACES];     /* by the CD that was last put in place */
bool absent[SPACES];    /* not used, and the SYNC behind the CFGI that said so has completed */
bool leaving[SPACES];  /* no longer used, not known to have gone */
bool dropping[SPACES]; /* left, and an NH_ASID was sent after that */
byte slot_asid[2] = NONE;
byte slot_space[2] = NONE;
byte pointer = 0; /* S1ContextPtr; a slot without a space aborts */

/* The SMMU's */
byte cached_pointer = NONE;
bool fetching;
byte cached_asid = NONE;
byte cached_space = NONE;
byte tlb[HOSTS] = NONE; /* whose page */
bool cfgi;              /* commands on their way */
bool nh_asid[HOSTS];

proctype hardware() {
  byte asid, space;
end:
  do
  :: d_step { cached_pointer == NONE -> cached_pointer = pointer }
  :: atomic { cached_pointer != NONE && cached_asid == NONE && !fetching -> fetching = true };
     /* two words of a CD are two loads */
#ifdef CD_OF_THE_GUEST
     d_step { asid = guest_cd; space = guest_cd };
#else
     asid = slot_asid[cached_pointer];
     space = slot_space[cached_pointer];
#endif
     d_step {
       if
       :: asid != NONE && space != NONE -> cached_asid = asid; cached_space = space
       :: else
       fi;
       fetching = false;
       asid = 0;
       space = 0
     }
  :: d_step { cached_asid != NONE && tlb[cached_asid] == NONE && mapped[cached_space] -> tlb[cached_asid] = cached_space }
  :: atomic { cached_asid != NONE && tlb[cached_asid] != NONE -> /* a transaction that hits */
       assert(tlb[cached_asid] == cached_space);
       assert(!gone[tlb[cached_asid]]) }
  od
}
proctype commands() {
end:
  do
  :: d_step { cfgi && !fetching -> cfgi = false; cached_pointer = NONE; cached_asid = NONE; cached_space = NONE }
  :: d_step { nh_asid[0] -> nh_asid[0] = false; tlb[0] = NONE }
  :: d_step { nh_asid[1] -> nh_asid[1] = false; tlb[1] = NONE }
  od
}

/* --- Weir: one guest command after the other --- */

inline strike(s) {
  d_step {
    if
    :: host_of[s] != NONE -> taken[host_of[s]] = false; host_of[s] = NONE
    :: else
    fi;
    absent[s] = false;
    dropping[s] = false
  }
}
inline record(s) { /* may fail: no memory, no ASID */
  d_step {
    ok = host_of[s] != NONE;
    if
    :: ok || fail
    :: else ->
       if
       :: !taken[0] -> taken[0] = true; host_of[s] = 0; ok = true
       :: taken[0] && !taken[1] -> taken[1] = true; host_of[s] = 1; ok = true
       :: else
       fi
    fi
  }
}
inline sync() {
  !cfgi && !nh_asid[0] && !nh_asid[1];
  d_step {
    s = 0;
    do
    :: s < SPACES ->
       if
       :: leaving[s] -> leaving[s] = false; absent[s] = !used[s]
       :: else
       fi;
       s++
    :: else -> break
    od;
    s = 0
  };
#ifndef DROP_NOT_AWAITED
  if
  :: dropping[0] -> strike(0)
  :: else
  fi;
  if
  :: dropping[1] -> strike(1)
  :: else
  fi;
#endif
  skip
}
/* Copies the guest's CD, as it is at this moment. */
inline cfgi_cd() {
  space = guest_cd;
  if
  :: fail = true
  :: fail = false
  fi;
#ifdef CD_OF_THE_GUEST
  record(space);
  asid = space;
  host_of[space] = space;
#else
#ifdef RECORD_LATE
  d_step {
    asid = host_of[space];
    if
    :: asid == NONE && !taken[0] -> asid = 0
    :: asid == NONE && taken[0] -> asid = 1
    :: else
    fi
  };
#else
  record(space);
  if
  :: ok -> asid = host_of[space]
  :: else -> space = NONE; asid = NONE
  fi;
#endif
#endif
#ifndef SLOT_TOO_EARLY
#ifndef CD_OF_THE_GUEST
  if
  :: cfgi -> sync()
  :: else
  fi;
#endif
#endif
  /* No longer struck off by what was sent before. */
  if
  :: space != NONE -> d_step { absent[space] = false; dropping[space] = false; leaving[space] = false }
  :: else
  fi;
#ifdef ONE_SLOT
  to = pointer;
#else
  to = 1 - pointer;
#endif
  slot_asid[to] = asid;
  slot_space[to] = space;
  pointer = to;
  cfgi = true;
  d_step {
    s = 0;
    do
    :: s < SPACES ->
       leaving[s] = leaving[s] || (used[s] && s != space);
       used[s] = (s == space);
       s++
    :: else -> break
    od;
    s = 0
  };
#ifdef DROP_AT_CFGI
  sync();
  if
  :: space != NONE && absent[1 - space] -> strike(1 - space)
  :: else
  fi;
#endif
#ifdef DROP_NOT_AWAITED
  sync();
#endif
#ifdef RECORD_LATE
  record(space);
#endif
  skip
}
inline tlbi_asid(g) {
  if
  :: host_of[g] == NONE /* not there */
  :: else ->
     nh_asid[host_of[g]] = true;
#ifdef DROP_BEFORE_SYNC
     dropping[g] = dropping[g] || absent[g] || leaving[g];
#else
     dropping[g] = dropping[g] || absent[g];
#endif
#ifdef DROP_NOT_AWAITED
     if
     :: absent[g] -> strike(g)
     :: else
     fi;
#endif
     skip
  fi
}

proctype guest() {
  byte n, g, s, space, asid, to;
  bool ok, fail;
  cfgi_cd();
  sync();
  do
  :: n < ACTIONS ->
     n++;
     if
     :: g = 0
     :: g = 1
     fi;
     if
     :: guest_cd = g /* seen, perhaps, before the CFGI */
     :: guest_cd = g;
        cfgi_cd();
        if
        :: sync()
        :: skip
        fi
     :: mapped[g] ->
        mapped[g] = false;
        tlbi_asid(g);
        sync();
        gone[g] = true
     :: true -> tlbi_asid(g); /* for nothing */
        if
        :: sync()
        :: skip
        fi
     :: !mapped[g] ->
        gone[g] = false;
        mapped[g] = true
     fi;
     g = 0
  :: else -> break
  od
}

init {
  atomic {
    run hardware();
    run commands();
    run guest()
  }
}
