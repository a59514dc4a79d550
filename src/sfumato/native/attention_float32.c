/* softmax(q kᵀ / √size) v in float32, blocked for the caches: a few queries at a time go over blocks of keys, and no matrix of all weights
   is ever made.

   A query's answer depends on that query, the keys and the values, and on nothing beside them.
   Sources: Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3 (the running softmax); Dao et al. 2022, arXiv:2205.14135, algorithm 1
   (by blocks). */

#include "attention.h"

/* Scores of ROWS queries (size × ROWS) and n vectors of keys (size × PANEL), into lines of BLOCK. */
INLINE void score(const int n, const float *q, const float *k, const int64_t size, float *scores) {
    floats sums[ROWS][3];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) sums[i][j] = splat(0);
    for (int64_t c = 0; c < size; c++) {
        floats keys[3];
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) keys[j] = load(k + c * PANEL + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const floats query = splat(q[c * ROWS + i]);
#pragma GCC unroll 3
            for (int j = 0; j < n; j++) sums[i][j] = fused(query, keys[j], sums[i][j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) store(scores + i * BLOCK + j * LANES, sums[i][j]);
}

/* out = correction · out + weights · v, for n vectors of channels and, where `half`, eight channels more. */
INLINE void gather(const int n, const int half, const float *weights, const float *v, const int64_t size, const int64_t keys,
                   const float *correction, float *out) {
    floats sums[ROWS][3];
    __m256 rest[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) sums[i][j] = multiply(load(out + i * size + j * LANES), splat(correction[i]));
        if (half) rest[i] = _mm256_mul_ps(_mm256_loadu_ps(out + i * size + n * LANES), _mm256_set1_ps(correction[i]));
    }
    for (int64_t key = 0; key < keys; key++) {
        floats values[3];
        __m256 last;
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) values[j] = load(v + key * size + j * LANES);
        if (half) last = _mm256_loadu_ps(v + key * size + n * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const float weight = weights[i * BLOCK + key];
#pragma GCC unroll 3
            for (int j = 0; j < n; j++) sums[i][j] = fused(splat(weight), values[j], sums[i][j]);
            if (half) rest[i] = _mm256_fmadd_ps(_mm256_set1_ps(weight), last, rest[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) store(out + i * size + j * LANES, sums[i][j]);
        if (half) _mm256_storeu_ps(out + i * size + n * LANES, rest[i]);
    }
}

/* What a thread keeps of its chunk. */
struct room {
    float most[GROUPS][LANES], sums[GROUPS][LANES]; /* of each query: its greatest score so far (m), and the sum of its weights (l) */
    float queries[GROUPS * ROWS * SIZE];            /* in groups, channel by channel */
    float answers[GROUPS * ROWS * SIZE];
    float keys[BLOCK * SIZE]; /* in panels, channel by channel */
    float values[BLOCK * SIZE];
    float scores[ROWS * BLOCK];
};

/* Scores become weights relative to the greatest that was seen, and `correction` what earlier weights shrink by. */
INLINE void soften(struct room *room, const int64_t group, const int64_t here, float *correction) {
    const int64_t vectors = (here + LANES - 1) / LANES;
    float now[LANES] = {0}, block_sums[LANES] = {0};
    for (int i = 0; i < ROWS; i++) {
        float *line = room->scores + i * BLOCK;
        for (int64_t key = here; key < vectors * LANES; key++) line[key] = -INFINITY;
        floats top = splat(room->most[group][i]);
        for (int64_t j = 0; j < vectors; j++) top = greater(top, load(line + j * LANES));
        now[i] = greatest(top);
        floats sum = splat(0);
        for (int64_t j = 0; j < vectors; j++) {
            const floats weight = exp2_of(subtract(load(line + j * LANES), splat(now[i])));
            sum = add(sum, weight);
            store(line + j * LANES, weight);
        }
        block_sums[i] = total(sum);
    }
    const floats shrunk = exp2_of(subtract(load(room->most[group]), load(now)));
    store(correction, shrunk);
    store(room->sums[group], fused(load(room->sums[group]), shrunk, load(block_sums)));
    store(room->most[group], load(now));
}

static void attend(const struct job *job, const float *q, const float *k, const float *v, float *out, int64_t count, void *scratch) {
    struct room *room = scratch;
    const int64_t size = job->size, groups = (count + ROWS - 1) / ROWS;
    const float scale = (float)(1.4426950408889634 / sqrt((double)size)); /* weights are powers of 2, not of e */

    memset(room->queries, 0, sizeof(float) * groups * ROWS * size);
    memset(room->answers, 0, sizeof(float) * groups * ROWS * size);
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < size; c++)
            room->queries[(i / ROWS * size + c) * ROWS + i % ROWS] = q[i * job->of_q.position + c] * scale;
    for (int64_t group = 0; group < groups; group++) {
        store(room->most[group], splat(-INFINITY));
        store(room->sums[group], splat(0));
    }
    for (int64_t begin = 0; begin < job->keys; begin += BLOCK) {
        const int64_t here = job->keys - begin < BLOCK ? job->keys - begin : BLOCK, vectors = (here + LANES - 1) / LANES;
        for (int64_t key = 0; key < vectors * LANES; key++) {
            const float *from = k + (begin + key) * job->of_k.position;
            float *to = room->keys + key / PANEL * PANEL * size + key % PANEL;
            for (int64_t c = 0; c < size; c++) to[c * PANEL] = key < here ? from[c] : 0;
        }
        for (int64_t key = 0; key < here; key++)
            memcpy(room->values + key * size, v + (begin + key) * job->of_v.position, sizeof(float) * size);
        for (int64_t group = 0; group < groups; group++) {
            const float *asked = room->queries + group * ROWS * size;
            int64_t at = 0;
            for (; at + 3 <= vectors; at += 3) score(3, asked, room->keys + at * LANES * size, size, room->scores + at * LANES);
            if (vectors - at == 2) score(2, asked, room->keys + at * LANES * size, size, room->scores + at * LANES);
            if (vectors - at == 1) score(1, asked, room->keys + at * LANES * size, size, room->scores + at * LANES);
            float correction[LANES], *answers = room->answers + group * ROWS * size;
            soften(room, group, here, correction);
            int64_t c = 0;
            for (; c + 3 * LANES <= size; c += 3 * LANES) gather(3, 0, room->scores, room->values + c, size, here, correction, answers + c);
            const int64_t left = size - c, whole = left / LANES;
            const int half = left % LANES != 0;
            if (whole == 2 && half) gather(2, 1, room->scores, room->values + c, size, here, correction, answers + c);
            if (whole == 2 && !half) gather(2, 0, room->scores, room->values + c, size, here, correction, answers + c);
            if (whole == 1 && half) gather(1, 1, room->scores, room->values + c, size, here, correction, answers + c);
            if (whole == 1 && !half) gather(1, 0, room->scores, room->values + c, size, here, correction, answers + c);
            if (whole == 0 && half) gather(0, 1, room->scores, room->values + c, size, here, correction, answers + c);
        }
    }
    for (int64_t i = 0; i < count; i++)
        put(room->answers + i * size, room->sums[i / ROWS][i % ROWS], size, out + i * job->of_out.position);
}

/* q, k, v and out are rows × heads × positions × size, by their strides; size is a multiple of 8, at most SIZE.
   Returns 0, or -1 where there was no memory. */
int attention_float32(const float *q, const float *k, const float *v, float *out, const struct strides *strides, int64_t rows,
                      int64_t heads, int64_t queries, int64_t keys, int64_t size, int64_t threads) {
    struct job job = JOB(q, k, v, out, strides, rows, heads, queries, keys, size);
    job.attend = attend;
    job.room = sizeof(struct room);
    return run(&job, threads);
}
