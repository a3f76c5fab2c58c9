/* Memory as CPUs see it that order little by themselves: the stores of a CPU wait in a queue of its own, and reach memory in any
 * order, but those to one place in theirs, and a releasing one after all that were before it. A CPU sees its own stores at
 * once. Loads are made in program order: in the code they acquire, or a fence is between them. Define CPUS, PLACES and DEPTH
 * (at most 4, of a queue; a CPU whose queue is full waits) before this is included.
 *
 *   store(cpu, place, value)         relaxed
 *   release(cpu, place, value)
 *   load(cpu, place, variable)
 *   add(cpu, place, n, variable)     fetch_add(n, acq_rel): nobody else in between, but seen by others later
 *   fence(cpu)                       full: everything before it has reached memory (DSB; atomic_thread_fence(seq_cst))
 *
 * `visible[place]` is what devices, and other CPUs, read. */
#ifndef DEPTH
#define DEPTH 3
#endif
byte visible[PLACES];
byte queued[CPUS];
byte queue_at[CPUS * DEPTH];
byte queue_value[CPUS * DEPTH];
bool queue_release[CPUS * DEPTH];

#define Q(cpu, n) ((cpu) * DEPTH + (n))
#define WAITS(cpu, n, at) (queued[cpu] > (n) && queue_at[Q(cpu, n)] == (at))
#if DEPTH == 2
#define QUEUED(cpu, at) (WAITS(cpu, 0, at) || WAITS(cpu, 1, at))
#elif DEPTH == 3
#define QUEUED(cpu, at) (WAITS(cpu, 0, at) || WAITS(cpu, 1, at) || WAITS(cpu, 2, at))
#else
#define QUEUED(cpu, at) (WAITS(cpu, 0, at) || WAITS(cpu, 1, at) || WAITS(cpu, 2, at) || WAITS(cpu, 3, at))
#endif

inline put(cpu, at, value, releases) {
  queue_at[Q(cpu, queued[cpu])] = at;
  queue_value[Q(cpu, queued[cpu])] = value;
  queue_release[Q(cpu, queued[cpu])] = releases;
  queued[cpu]++
}
inline store(cpu, at, value) { d_step { queued[cpu] < DEPTH -> put(cpu, at, value, false) } }
inline release(cpu, at, value) { d_step { queued[cpu] < DEPTH -> put(cpu, at, value, true) } }
inline fence(cpu) { queued[cpu] == 0 }
/* The youngest of its own, or else what memory holds. */
inline look(cpu, at, into) {
  if
#if DEPTH > 3
  :: WAITS(cpu, 3, at) -> into = queue_value[Q(cpu, 3)]
  :: !WAITS(cpu, 3, at) && WAITS(cpu, 2, at) -> into = queue_value[Q(cpu, 2)]
  :: !WAITS(cpu, 3, at) && !WAITS(cpu, 2, at) && WAITS(cpu, 1, at) -> into = queue_value[Q(cpu, 1)]
  :: !WAITS(cpu, 3, at) && !WAITS(cpu, 2, at) && !WAITS(cpu, 1, at) && WAITS(cpu, 0, at) ->
     into = queue_value[Q(cpu, 0)]
#elif DEPTH > 2
  :: WAITS(cpu, 2, at) -> into = queue_value[Q(cpu, 2)]
  :: !WAITS(cpu, 2, at) && WAITS(cpu, 1, at) -> into = queue_value[Q(cpu, 1)]
  :: !WAITS(cpu, 2, at) && !WAITS(cpu, 1, at) && WAITS(cpu, 0, at) -> into = queue_value[Q(cpu, 0)]
#else
  :: WAITS(cpu, 1, at) -> into = queue_value[Q(cpu, 1)]
  :: !WAITS(cpu, 1, at) && WAITS(cpu, 0, at) -> into = queue_value[Q(cpu, 0)]
#endif
  :: else -> into = visible[at]
  fi
}
inline load(cpu, at, into) { d_step { look(cpu, at, into) } }

/* Nobody else may be between the load and the store of one that does both. */
#define ELSEWHERE(cpu, other, at) ((cpu) != (other) && QUEUED(other, at))
#if CPUS == 2
#define EXCLUSIVE(cpu, at) !(ELSEWHERE(cpu, 0, at) || ELSEWHERE(cpu, 1, at))
#elif CPUS == 3
#define EXCLUSIVE(cpu, at) !(ELSEWHERE(cpu, 0, at) || ELSEWHERE(cpu, 1, at) || ELSEWHERE(cpu, 2, at))
#else
#define EXCLUSIVE(cpu, at) \
  !(ELSEWHERE(cpu, 0, at) || ELSEWHERE(cpu, 1, at) || ELSEWHERE(cpu, 2, at) || ELSEWHERE(cpu, 3, at))
#endif
inline add(cpu, at, n, into) {
  d_step {
    queued[cpu] < DEPTH && EXCLUSIVE(cpu, at) -> look(cpu, at, into);
    put(cpu, at, into + (n), true)
  }
}

/* The nth in the queue of `cpu` leaves it. */
inline leave(cpu, nth) {
  k = nth;
  do
  :: k + 1 < queued[cpu] ->
     queue_at[Q(cpu, k)] = queue_at[Q(cpu, k + 1)];
     queue_value[Q(cpu, k)] = queue_value[Q(cpu, k + 1)];
     queue_release[Q(cpu, k)] = queue_release[Q(cpu, k + 1)];
     k++
  :: else -> break
  od;
  queued[cpu]--;
  queue_at[Q(cpu, queued[cpu])] = 0;
  queue_value[Q(cpu, queued[cpu])] = 0;
  queue_release[Q(cpu, queued[cpu])] = false;
  k = 0
}
inline arrive(cpu, nth) {
  visible[queue_at[Q(cpu, nth)]] = queue_value[Q(cpu, nth)];
  leave(cpu, nth)
}
#define FREELY(cpu, n) (queued[cpu] > (n) && !queue_release[Q(cpu, n)])
#define SAME(cpu, n, m) (queue_at[Q(cpu, n)] == queue_at[Q(cpu, m)])

proctype buffer(byte cpu) {
  byte k;
end:
  do
  :: d_step { queued[cpu] > 0 -> arrive(cpu, 0) }
  :: d_step { FREELY(cpu, 1) && !SAME(cpu, 0, 1) -> arrive(cpu, 1) }
#if DEPTH > 2
  :: d_step { FREELY(cpu, 2) && !SAME(cpu, 0, 2) && !SAME(cpu, 1, 2) -> arrive(cpu, 2) }
#endif
#if DEPTH > 3
  :: d_step { FREELY(cpu, 3) && !SAME(cpu, 0, 3) && !SAME(cpu, 1, 3) && !SAME(cpu, 2, 3) -> arrive(cpu, 3) }
#endif
  od
}
