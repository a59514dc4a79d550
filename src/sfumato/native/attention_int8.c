/* softmax(q kᵀ / √size) v with both products in bytes, blocked as in float32.

   A byte stands for a number by a scale: each query and each key has its own, and each channel of the values one for a block of keys. Keys
   are taken less their mean, which shifts all scores of a query alike and leaves the softmax as it was. Weights are bytes relative to the
   greatest of their block, not of all blocks, so that small ones are not lost beside a great one elsewhere. Sums of products are exact.
   Sources: Zhang et al. 2024, arXiv:2410.02367, section 4.2 (keys less their mean; scales by token); blocks as in attention_float32.c. */

#include "attention.h"

#define OFFSET 128              /* queries' bytes are from 1 to 255: the instruction multiplies unsigned with signed bytes */
#define LEAST 1e-30f            /* what has no greater number is nothing: its unit could not be divided by */
#define LOG2_PARTS 7.988684687f /* log2 254: weights of a block are from 0 to 254, and what is carried over fits in beside that */

/* sums += four unsigned bytes · four signed bytes, in each lane. In assembler: GCC copies sums around its own intrinsic, at a third of the
   speed. */
#define DOT(sums, weights, values) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(values))

/* What a thread keeps of its chunk. Four channels of a key or query, or one channel of four values, make an int32. */
struct room {
    float most[GROUPS][LANES], sums[GROUPS][LANES]; /* of each query: its greatest score so far (m), and the sum of its weights (l) */
    float units[GROUPS][LANES];                     /* what 1 stands for in a query's bytes */
    float answers[GROUPS * ROWS * SIZE];
    int32_t queries[GROUPS * ROWS * SIZE / 4];
    int32_t keys[BLOCK * SIZE / 4], offsets[BLOCK]; /* in panels; what OFFSET adds to a key's scores, negative */
    int32_t values[BLOCK / 4 * SIZE];
    float key_units[BLOCK], value_units[SIZE], mean[SIZE];
    float scores[ROWS * BLOCK];
    uint8_t weights[ROWS * BLOCK];
};

/* Scores of ROWS queries and n vectors of keys, in units of the query, into lines of BLOCK. */
INLINE void score(const int n, const int32_t *q, const int32_t *k, const int32_t *offsets, const float *units, const int64_t fours,
                  float *scores) {
    __m512i sums[ROWS][3];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) sums[i][j] = _mm512_loadu_si512(offsets + j * LANES);
    for (int64_t c = 0; c < fours; c++) {
        __m512i keys[3];
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) keys[j] = _mm512_loadu_si512(k + c * PANEL + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const __m512i query = _mm512_set1_epi32(q[c * ROWS + i]);
#pragma GCC unroll 3
            for (int j = 0; j < n; j++) DOT(sums[i][j], query, keys[j]);
        }
    }
#pragma GCC unroll 3
    for (int j = 0; j < n; j++) {
        const floats unit = load(units + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) store(scores + i * BLOCK + j * LANES, multiply(_mm512_cvtepi32_ps(sums[i][j]), unit));
    }
}

/* out = correction · out + share · units · (weights · v), for n vectors of channels and, where `half`, eight channels more. */
INLINE void gather(const int n, const int half, const uint8_t *weights, const int32_t *v, const float *units, const int64_t size,
                   const int64_t fours, const float *correction, const float *share, float *out) {
    __m512i sums[ROWS][3];
    __m256i rest[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) sums[i][j] = _mm512_setzero_si512();
        rest[i] = _mm256_setzero_si256();
    }
    for (int64_t four = 0; four < fours; four++) {
        __m512i values[3];
        __m256i last;
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) values[j] = _mm512_loadu_si512(v + four * size + j * LANES);
        if (half) last = _mm256_loadu_si256((const __m256i *)(v + four * size + n * LANES));
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            int32_t four_weights;
            memcpy(&four_weights, weights + i * BLOCK + four * 4, 4);
            const __m512i weight = _mm512_set1_epi32(four_weights);
#pragma GCC unroll 3
            for (int j = 0; j < n; j++) DOT(sums[i][j], weight, values[j]);
            if (half) DOT(rest[i], _mm512_castsi512_si256(weight), last);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        float *to = out + i * size;
#pragma GCC unroll 3
        for (int j = 0; j < n; j++) {
            const floats sum = multiply(_mm512_cvtepi32_ps(sums[i][j]), load(units + j * LANES));
            store(to + j * LANES, fused(sum, splat(share[i]), multiply(load(to + j * LANES), splat(correction[i]))));
        }
        if (half) {
            const __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps(rest[i]), _mm256_loadu_ps(units + n * LANES));
            const __m256 before = _mm256_mul_ps(_mm256_loadu_ps(to + n * LANES), _mm256_set1_ps(correction[i]));
            _mm256_storeu_ps(to + n * LANES, _mm256_fmadd_ps(sum, _mm256_set1_ps(share[i]), before));
        }
    }
}

INLINE __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

/* The numbers less the mean, rounded to whole ones from -127 to 127; returns the unit, NaN where one of them is no number. */
INLINE float to_whole(const float *from, const float *mean, const int64_t size, int32_t *to) {
    __m256 most = _mm256_setzero_ps(), sum = _mm256_setzero_ps();
    for (int64_t c = 0; c < size; c += 8) {
        const __m256 size_of = magnitude(_mm256_sub_ps(_mm256_loadu_ps(from + c), _mm256_loadu_ps(mean + c)));
        most = _mm256_max_ps(most, size_of);
        sum = _mm256_add_ps(sum, _mm256_mul_ps(size_of, _mm256_setzero_ps())); /* NaN, once one of them is NaN or infinite */
    }
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    const float top = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    const int odd = _mm256_movemask_ps(_mm256_cmp_ps(sum, sum, _CMP_UNORD_Q));
    const float unit = odd ? NAN : top > LEAST ? top / 127 : 1;
    const __m256 per_unit = _mm256_set1_ps(odd ? 0 : 1 / unit);
    for (int64_t c = 0; c < size; c += 8) {
        const __m256 number = _mm256_sub_ps(_mm256_loadu_ps(from + c), _mm256_loadu_ps(mean + c));
        _mm256_storeu_si256((__m256i *)(to + c), _mm256_cvtps_epi32(_mm256_mul_ps(number, per_unit)));
    }
    return unit;
}

INLINE int32_t sum_of(const int32_t *from, const int64_t size) {
    __m256i sum = _mm256_setzero_si256();
    for (int64_t c = 0; c < size; c += 8) sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)(from + c)));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/* Whole numbers as bytes, four in an int32, these `step` apart. */
INLINE void pack(const int32_t *from, const int64_t size, int32_t *to, const int64_t step) {
    for (int64_t c = 0; c < size; c += 8) {
        const __m128i bytes = _mm256_cvtepi32_epi8(_mm256_loadu_si256((const __m256i *)(from + c)));
        to[c / 4 * step] = _mm_cvtsi128_si32(bytes);
        to[(c / 4 + 1) * step] = _mm_extract_epi32(bytes, 1);
    }
}

/* Returns 0, or NaN where one of the keys is no number: then no answer is. */
INLINE float take_keys(struct room *room, const float *k, const int64_t stride, const int64_t here, const int64_t size) {
    int32_t whole[SIZE];
    float odd = 0;
    for (int64_t key = 0; key < (here + LANES - 1) / LANES * LANES; key++) {
        int32_t *to = room->keys + key / PANEL * PANEL * (size / 4) + key % PANEL;
        if (key < here)
            room->key_units[key] = to_whole(k + key * stride, room->mean, size, whole);
        else
            memset(whole, 0, sizeof(int32_t) * size), room->key_units[key] = 0;
        odd += 0 * room->key_units[key];
        room->offsets[key] = -OFFSET * sum_of(whole, size);
        pack(whole, size, to, PANEL);
    }
    return odd;
}

INLINE void take_values(struct room *room, const float *v, const int64_t stride, const int64_t here, const int64_t size) {
    for (int64_t c = 0; c < size; c += 8) {
        __m256 most = _mm256_setzero_ps(), sum = _mm256_setzero_ps();
        for (int64_t key = 0; key < here; key++) {
            const __m256 size_of = magnitude(_mm256_loadu_ps(v + key * stride + c));
            most = _mm256_max_ps(most, size_of);
            sum = _mm256_add_ps(sum, _mm256_mul_ps(size_of, _mm256_setzero_ps()));
        }
        const __m256 nothing = _mm256_cmp_ps(most, _mm256_set1_ps(LEAST), _CMP_LE_OQ);
        const __m256 per_unit = _mm256_andnot_ps(nothing, _mm256_div_ps(_mm256_set1_ps(127), most));
        _mm256_storeu_ps(room->value_units + c, _mm256_add_ps(_mm256_div_ps(most, _mm256_set1_ps(127)), sum)); /* NaN stays */
        for (int64_t four = 0; four < (here + 3) / 4; four++) {
            __m256i bytes = _mm256_setzero_si256();
            for (int at = 0; at < 4 && four * 4 + at < here; at++) {
                const __m256 number = _mm256_mul_ps(_mm256_loadu_ps(v + (four * 4 + at) * stride + c), per_unit);
                const __m256i byte = _mm256_and_si256(_mm256_cvtps_epi32(number), _mm256_set1_epi32(255));
                bytes = _mm256_or_si256(bytes, _mm256_slli_epi32(byte, 8 * at));
            }
            _mm256_storeu_si256((__m256i *)(room->values + four * size + c), bytes);
        }
    }
}

/* Scores become bytes relative to the greatest of the block; `share` is what the block counts beside those before, `correction` what these do. */
INLINE void soften(struct room *room, const int64_t group, const int64_t here, const float odd, float *correction, float *share) {
    const int64_t vectors = (here + LANES - 1) / LANES;
    float tops[LANES] = {0}, block_sums[LANES] = {0};
    for (int i = 0; i < ROWS; i++) {
        float *line = room->scores + i * BLOCK;
        for (int64_t key = here; key < vectors * LANES; key++) line[key] = -INFINITY;
        floats top = load(line);
        for (int64_t j = 1; j < vectors; j++) top = greater(top, load(line + j * LANES));
        const float unit = room->units[group][i];
        const float highest = greatest(top);
        tops[i] = highest * unit;
        __m512i sum = _mm512_setzero_si512();
        /* What a byte lacks or has too much goes over to the next but one: many weights of less than half a byte count together. */
        floats carry[2] = {splat(0), splat(0)};
        for (int64_t j = 0; j < vectors; j++) {
            /* A polynomial of third degree is near enough for bytes: to 1.2e-4. The instruction times_two_to makes NaN · 2^-inf zero. */
            const floats below = subtract(load(line + j * LANES), splat(highest));
            const floats x = fused(below, splat(unit), splat(LOG2_PARTS)), n = nearest(x), f = subtract(x, n);
            floats p = fused(splat(5.459282474e-2f), f, splat(2.422178381e-1f));
            p = fused(p, f, splat(6.933686013e-1f));
            p = fused(p, f, splat(1.0f));
            const floats wanted = add(times_two_to(p, n), carry[j & 1]);
            const __m512i whole = _mm512_cvtps_epi32(wanted);
            carry[j & 1] = subtract(wanted, _mm512_cvtepi32_ps(whole));
            sum = _mm512_add_epi32(sum, whole);
            _mm_storeu_si128((__m128i *)(room->weights + i * BLOCK + j * LANES), _mm512_cvtusepi32_epi8(whole));
        }
        block_sums[i] = (float)_mm512_reduce_add_epi32(sum) + odd;
    }
    const floats before = load(room->most[group]), now = greater(before, load(tops)); /* NaN in a score stays */
    const floats shrunk = exp2_of(subtract(before, now)), counted = exp2_of(subtract(load(tops), now));
    store(correction, shrunk);
    store(share, counted);
    store(room->sums[group], fused(load(room->sums[group]), shrunk, multiply(load(block_sums), counted)));
    store(room->most[group], now);
}

static void attend(const struct job *job, const float *q, const float *k, const float *v, float *out, int64_t count, void *scratch) {
    struct room *room = scratch;
    const int64_t size = job->size, fours = size / 4, groups = (count + ROWS - 1) / ROWS;
    const float scale = (float)(1.4426950408889634 / sqrt((double)size));
    int32_t whole[SIZE];

    for (int64_t group = 0; group < groups; group++) {
        store(room->most[group], splat(-INFINITY));
        store(room->sums[group], splat(0));
        store(room->units[group], splat(0));
    }
    memset(room->answers, 0, sizeof(float) * groups * ROWS * size);
    memset(room->queries, 0, sizeof(int32_t) * groups * ROWS * fours);
    memset(room->mean, 0, sizeof(float) * size);
    for (int64_t i = 0; i < count; i++) {
        room->units[i / ROWS][i % ROWS] = scale * to_whole(q + i * job->of_q.position, room->mean, size, whole);
        for (int64_t c = 0; c < size; c++) whole[c] += OFFSET;
        pack(whole, size, room->queries + i / ROWS * fours * ROWS + i % ROWS, ROWS);
    }
    for (int64_t key = 0; key < job->keys; key++)
        for (int64_t c = 0; c < size; c++) room->mean[c] += k[key * job->of_k.position + c];
    for (int64_t c = 0; c < size; c++) room->mean[c] /= (float)job->keys;

    for (int64_t begin = 0; begin < job->keys; begin += BLOCK) {
        const int64_t here = job->keys - begin < BLOCK ? job->keys - begin : BLOCK, vectors = (here + LANES - 1) / LANES;
        const float odd = take_keys(room, k + begin * job->of_k.position, job->of_k.position, here, size);
        take_values(room, v + begin * job->of_v.position, job->of_v.position, here, size);
        for (int64_t group = 0; group < groups; group++) {
            const int32_t *asked = room->queries + group * ROWS * fours;
#define SCORE(n) score(n, asked, room->keys + at * LANES * fours, room->offsets + at * LANES, room->key_units + at * LANES, fours, room->scores + at * LANES)
            int64_t at = 0;
            for (; at + 3 <= vectors; at += 3) SCORE(3);
            if (vectors - at == 2) SCORE(2);
            if (vectors - at == 1) SCORE(1);
            float correction[LANES], share[LANES], *answers = room->answers + group * ROWS * size;
            soften(room, group, here, odd, correction, share);
#define GATHER(n, half) gather(n, half, room->weights, room->values + c, room->value_units + c, size, (here + 3) / 4, correction, share, answers + c)
            int64_t c = 0;
            for (; c + 3 * LANES <= size; c += 3 * LANES) GATHER(3, 0);
            switch (size - c) {
            case 40: GATHER(2, 1); break;
            case 32: GATHER(2, 0); break;
            case 24: GATHER(1, 1); break;
            case 16: GATHER(1, 0); break;
            case 8: GATHER(0, 1); break;
            }
        }
    }
    for (int64_t i = 0; i < count; i++)
        put(room->answers + i * size, room->sums[i / ROWS][i % ROWS], size, out + i * job->of_out.position);
}

/* As attention_float32. */
int attention_int8(const float *q, const float *k, const float *v, float *out, const struct strides *strides, int64_t rows, int64_t heads,
                   int64_t queries, int64_t keys, int64_t size, int64_t threads) {
    struct job job = JOB(q, k, v, out, strides, rows, heads, queries, keys, size);
    job.attend = attend;
    job.room = sizeof(struct room);
    return run(&job, threads);
}
