/* What both attentions share: a job of many heads, done in chunks of queries by PyTorch's own threads. */

#ifndef ATTENTION_H
#define ATTENTION_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"
#include "vectors.h"

#define PANEL (3 * LANES) /* keys that are scored at a time */
#define BLOCK 192         /* keys between two corrections of the running softmax: the scores of a block stay in the first cache */
#define GROUPS 128        /* groups of ROWS queries in a chunk, at most: of 40 to 80 channels they stay in the second cache */
#define SIZE 256          /* channels of a head, at most */

struct strides {
    int64_t row, head, position; /* of channels it is 1 */
};

struct job {
    const float *q, *k, *v;
    float *out;
    struct strides of_q, of_k, of_v, of_out;
    int64_t rows, heads, queries, keys, size;
    int64_t chunk, items, next;
    size_t room; /* bytes that a thread needs */
    /* of a head, and of a chunk of `count` queries, from the first on */
    void (*attend)(const struct job *, const float *q, const float *k, const float *v, float *out, int64_t count, void *room);
};

static void work(void *argument) {
    struct job *job = argument;
    void *room = malloc(job->room);
    if (room == NULL) return; /* the other threads do it; and if none can, `run` says so */
    const int64_t chunks = (job->queries + job->chunk - 1) / job->chunk;
    for (;;) {
        const int64_t item = take(&job->next);
        if (item >= job->items) break;
        const int64_t first = item % chunks * job->chunk, left = job->queries - first;
        const int64_t row = item / chunks / job->heads, head = item / chunks % job->heads;
        const float *q = job->q + row * job->of_q.row + head * job->of_q.head + first * job->of_q.position;
        const float *k = job->k + row * job->of_k.row + head * job->of_k.head;
        const float *v = job->v + row * job->of_v.row + head * job->of_v.head;
        float *out = job->out + row * job->of_out.row + head * job->of_out.head + first * job->of_out.position;
        job->attend(job, q, k, v, out, left < job->chunk ? left : job->chunk, room);
    }
    free(room);
}

/* A query's answers, each divided by the sum of its weights, to where they belong. */
INLINE void put(const float *answers, const float sum, const int64_t size, float *out) {
    const __m256 by = _mm256_set1_ps(sum);
    for (int64_t c = 0; c < size; c += 8) _mm256_storeu_ps(out + c, _mm256_div_ps(_mm256_loadu_ps(answers + c), by));
}

/* Returns 0, or -1 where there was no memory. How queries are chunked and who computes them changes no bit. */
static int run(struct job *job, int64_t threads) {
    const int64_t groups = (job->queries + ROWS - 1) / ROWS, heads = job->rows * job->heads;
    const int64_t balanced = (heads * groups + 4 * threads - 1) / (4 * threads); /* so that all threads have some */
    job->chunk = ROWS * (balanced < GROUPS ? balanced : GROUPS);
    job->items = heads * ((job->queries + job->chunk - 1) / job->chunk);
    job->next = 0;
    GOMP_parallel(work, job, (unsigned)threads, 0);
    return job->next < job->items ? -1 : 0;
}

#define JOB(q, k, v, out, strides, rows, heads, queries, keys, size)                                                                      \
    {                                                                                                                                     \
        .q = q, .k = k, .v = v, .out = out, .of_q = strides[0], .of_k = strides[1], .of_v = strides[2], .of_out = strides[3],             \
        .rows = rows, .heads = heads, .queries = queries, .keys = keys, .size = size                                                      \
    }

#endif
