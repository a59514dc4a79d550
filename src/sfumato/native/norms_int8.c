/* Norms whose answers are bytes for layers in int8: normed, activated and rounded in one pass over what PyTorch would write and read
   three times.

   Sums are of parts of CHUNK positions, one after the other, whatever thread took them.
   Sources: Ba et al. 2016, arXiv:1607.06450 (layer norm); Wu & He 2018, arXiv:1803.08494 (group norm). */

#include <stdlib.h>

#include "bytes.h"
#include "threads.h"

#define CHUNK 32 /* positions that a thread takes at a time */

struct job {
    const float *x, *shift, *weight, *bias;
    uint8_t *out;
    int64_t rows, positions, channels, groups, next;
    struct to_bytes how;
    double eps;
    int silu;
    float *sums, *factors; /* rows × chunks × 2 × channels, of numbers and of squares; rows × 2 × channels, to multiply by and to add */
};

/* x / (1 + e^-x), by powers of 2 that are not above 1 */
INLINE floats silu(floats x) {
    const floats t = exp2_of(multiply(_mm512_abs_ps(x), splat(-1.44269504f))), share = _mm512_div_ps(splat(1), add(splat(1), t));
    return multiply(x, _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, splat(0), _CMP_LT_OQ), share, multiply(share, t)));
}

INLINE int64_t chunks_of(const struct job *job) { return (job->positions + CHUNK - 1) / CHUNK; }

struct part {
    int64_t item, row, first, last; /* its number, and the row's positions from the first to before the last */
};

/* Whether there was a part that nobody had taken, which is this thread's now. */
INLINE int take_part(struct job *job, struct part *part) {
    const int64_t chunks = chunks_of(job);
    part->item = take(&job->next);
    part->row = part->item / chunks;
    part->first = part->item % chunks * CHUNK;
    part->last = part->first + CHUNK < job->positions ? part->first + CHUNK : job->positions;
    return part->item < job->rows * chunks;
}

static void layer_norm(void *argument) {
    struct job *job = argument;
    const int64_t width = job->channels;
    for (struct part part; take_part(job, &part);) {
        __mmask16 odd = 0;
        for (int64_t position = part.first; position < part.last; position++) {
            const float *x = job->x + position * width;
            floats sum = splat(0), squares = splat(0);
            for (int64_t c = 0; c < width; c += LANES) sum = add(sum, load(x + c));
            const floats mean = splat(total(sum) / (float)width);
            for (int64_t c = 0; c < width; c += LANES) {
                const floats off = subtract(load(x + c), mean);
                squares = fused(off, off, squares);
            }
            const floats by = splat((float)(1 / sqrt((double)total(squares) / (double)width + job->eps)));
            for (int64_t c = 0; c < width; c += LANES) {
                const floats normed = multiply(subtract(load(x + c), mean), by);
                odd |= put_bytes(job->out + position * width + c, fused(normed, load(job->weight + c), load(job->bias + c)), &job->how);
            }
        }
        note_odd(&job->how, odd);
    }
}

/* x, out: positions × channels, these a multiple of LANES. Returns 1 where something is no finite number, else 0. */
int layer_norm_int8(const float *x, const float *weight, const float *bias, uint8_t *out, int64_t positions, int64_t channels, double eps,
                     float scale, float zero, int64_t threads) {
    struct job job = {.x = x, .weight = weight, .bias = bias, .out = out, .rows = 1, .positions = positions, .channels = channels,
                      .eps = eps, .how = {.per_unit = 1 / scale, .zero = zero}};
    GOMP_parallel(layer_norm, &job, (unsigned)threads, 0);
    return job.how.odd;
}

static void sum_up(void *argument) {
    struct job *job = argument;
    const int64_t width = job->channels;
    for (struct part part; take_part(job, &part);) {
        for (int64_t c = 0; c < width; c += LANES) {
            const floats shift = job->shift ? load(job->shift + part.row * width + c) : splat(0);
            floats sum = splat(0), squares = splat(0);
            for (int64_t position = part.first; position < part.last; position++) {
                const floats number = add(load(job->x + (part.row * job->positions + position) * width + c), shift);
                sum = add(sum, number);
                squares = fused(number, number, squares);
            }
            store(job->sums + part.item * 2 * width + c, sum);
            store(job->sums + (part.item * 2 + 1) * width + c, squares);
        }
    }
}

/* What each channel of a row is multiplied by and what is added, of the sums over its group. */
static void settle(struct job *job, int64_t row, int64_t group) {
    const int64_t width = job->channels, chunks = chunks_of(job), of_group = width / job->groups;
    const double count = (double)of_group * (double)job->positions;
    double sum = 0, squares = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t c = group * of_group; c < (group + 1) * of_group; c++) {
            sum += job->sums[(row * chunks + chunk) * 2 * width + c];
            squares += job->sums[((row * chunks + chunk) * 2 + 1) * width + c];
        }
    const double mean = sum / count, spread = squares / count - mean * mean, by = 1 / sqrt((spread > 0 ? spread : spread * 0) + job->eps);
    for (int64_t c = group * of_group; c < (group + 1) * of_group; c++) {
        const double shift = job->shift ? job->shift[row * width + c] : 0;
        job->factors[row * 2 * width + c] = (float)(by * job->weight[c]);
        job->factors[(row * 2 + 1) * width + c] = (float)(job->bias[c] + (shift - mean) * by * job->weight[c]);
    }
}

static void spread_out(void *argument) {
    struct job *job = argument;
    const int64_t width = job->channels;
    for (struct part part; take_part(job, &part);) {
        const float *by = job->factors + part.row * 2 * width, *plus = by + width;
        __mmask16 odd = 0;
        for (int64_t position = part.first; position < part.last; position++) {
            const int64_t place = (part.row * job->positions + position) * width;
            if (job->silu)
                for (int64_t c = 0; c < width; c += LANES)
                    odd |= put_bytes(job->out + place + c, silu(fused(load(job->x + place + c), load(by + c), load(plus + c))), &job->how);
            else
                for (int64_t c = 0; c < width; c += LANES)
                    odd |= put_bytes(job->out + place + c, fused(load(job->x + place + c), load(by + c), load(plus + c)), &job->how);
        }
        note_odd(&job->how, odd);
    }
}

/* The norm of x + shift, and SiLU of it if wanted. x, out: rows × positions × channels, these a multiple of LANES and of the groups;
   shift: rows × channels, or NULL. Returns 1 where something is no finite number, -1 where there was no memory, else 0. */
int group_norm_int8(const float *x, const float *shift, const float *weight, const float *bias, uint8_t *out, int64_t rows,
                    int64_t positions, int64_t channels, int64_t groups, double eps, int64_t activated, float scale, float zero,
                    int64_t threads) {
    struct job job = {.x = x, .shift = shift, .weight = weight, .bias = bias, .out = out, .rows = rows, .positions = positions,
                      .channels = channels, .groups = groups, .eps = eps, .silu = activated != 0, .how = {.per_unit = 1 / scale, .zero = zero}};
    job.sums = malloc(sizeof(float) * rows * (chunks_of(&job) + 1) * 2 * channels);
    if (job.sums == NULL) return -1;
    job.factors = job.sums + rows * chunks_of(&job) * 2 * channels;
    GOMP_parallel(sum_up, &job, (unsigned)threads, 0);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t group = 0; group < groups; group++) settle(&job, row, group);
    job.next = 0;
    GOMP_parallel(spread_out, &job, (unsigned)threads, 0);
    free(job.sums);
    return job.how.odd;
}
