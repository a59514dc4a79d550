/* Work that PyTorch's own threads take in turns. */

#ifndef THREADS_H
#define THREADS_H

#include <stdint.h>

/* OpenMP's way to run a function on all threads of a pool. It is PyTorch's: nothing is linked to define it, so that loading finds the one of the
   library that PyTorch has loaded for everyone, or fails. Another pool would wait beside PyTorch's and take its time. */
extern void GOMP_parallel(void (*function)(void *), void *argument, unsigned threads, unsigned flags);

/* The next of the items that nobody has taken; called by any thread. */
static inline int64_t take(int64_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

#endif
