/* Work that PyTorch's own threads take in turns. */

#ifndef THREADS_H
#define THREADS_H

#include <stdint.h>

/* OpenMP's way to run a function on all threads of the pool that exists, which is PyTorch's: another pool would wait beside it. */
extern void GOMP_parallel(void (*function)(void *), void *argument, unsigned threads, unsigned flags);

/* The next of the items that nobody has taken; called by any thread. */
static inline int64_t take(int64_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

#endif
