/* Memory as CPUs see it that order nothing by themselves: the stores of a CPU wait, one for each place, and reach memory
 * in any order; a CPU sees its own before that. Loads are made in program order (in the code they acquire, or a fence is
 * between them). Define CPUS and PLACES (at most 6) before this is included.
 *
 *   store(cpu, place, value)    relaxed
 *   release(cpu, place, value)  after all stores before it
 *   load(cpu, place, variable)
 *   fence(cpu)                  full: everything before it has reached memory (DSB; atomic_thread_fence(seq_cst))
 *
 * `visible[place]` is what devices, and other CPUs, read. */
byte visible[PLACES];
byte waiting[CPUS * PLACES];
byte waits[CPUS]; /* a bit for each place */

#define BIT(at) (1 << (at))

inline store(cpu, at, value) {
  atomic {
    (waits[cpu] & BIT(at)) == 0 -> waiting[(cpu) * PLACES + (at)] = value;
    waits[cpu] = waits[cpu] | BIT(at)
  }
}
inline fence(cpu) { waits[cpu] == 0 }
inline release(cpu, at, value) {
  fence(cpu);
  store(cpu, at, value)
}
inline load(cpu, at, into) {
  d_step {
    if
    :: (waits[cpu] & BIT(at)) != 0 -> into = waiting[(cpu) * PLACES + (at)]
    :: else -> into = visible[at]
    fi
  }
}
/* An atomic exchange or addition acts on memory itself. */
inline reached(cpu, at) { (waits[cpu] & BIT(at)) == 0 }

#define ARRIVES(cpu, at) \
  :: d_step { (waits[cpu] & BIT(at)) != 0 -> visible[at] = waiting[(cpu) * PLACES + (at)]; \
              waiting[(cpu) * PLACES + (at)] = 0; waits[cpu] = waits[cpu] & (255 - BIT(at)) }

proctype buffer(byte cpu) {
end:
  do
  ARRIVES(cpu, 0)
#if PLACES > 1
  ARRIVES(cpu, 1)
#endif
#if PLACES > 2
  ARRIVES(cpu, 2)
#endif
#if PLACES > 3
  ARRIVES(cpu, 3)
#endif
#if PLACES > 4
  ARRIVES(cpu, 4)
#endif
#if PLACES > 5
  ARRIVES(cpu, 5)
#endif
  od
}
