// mimalloc 2 for EL2, its sources as they are. Everything that it takes from an operating system is here:
// the memory below it, a clock, and where its messages go. hyp/libc defines these three.
#include <stddef.h>
#include <stdint.h>

// Like sbrk(): zeroed memory from a region that only grows; (void*)-1 when it is used up. Any pCPU may call it: atomic.
void* weir_sbrk(ptrdiff_t size);
// Milliseconds of a clock that does not go back.
uint64_t weir_clock_ms(void);
// A message of mimalloc's: a warning or an error, possibly without a newline.
void weir_heap_message(const char* text);

// All that mimalloc includes, before it is told that this is no system it knows.
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <sched.h>

// The port with an sbrk and nothing else.
#define __wasi__ 1
#define sbrk(size) weir_sbrk((ptrdiff_t)(size))
#define MI_NO_GETENV 1
// Off the architecture list, because there a spinning pCPU executes WFE, which at EL2 need not ever wake up.
#undef __aarch64__
#define sched_yield() __asm__ volatile("yield" ::: "memory")

#undef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 0
#define clock_gettime(id, time) weir_time(time)
static inline void weir_time(struct timespec* time) {
    uint64_t ms = weir_clock_ms();
    time->tv_sec = (time_t)(ms / 1000);
    time->tv_nsec = (long)(ms % 1000) * 1000000;
}

#undef fputs
#define fputs(text, file) weir_heap_message(text)
#undef stderr
#undef stdout
#define stderr ((FILE*)1)
#define stdout ((FILE*)2)
#define atexit(function) ((void)(function))

#include "src/static.c"
