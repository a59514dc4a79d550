/* value · GELU(gate) as bytes for a layer in int8: what three passes of PyTorch's would write and read again is made in one.

   GELU is the exact one, by a formula for erf that is within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26): bytes are a thousand times coarser. */

#include "bytes.h"
#include "threads.h"

#define TOGETHER 16 /* positions that a thread takes at a time */

struct job {
    const float *x;
    uint8_t *out;
    int64_t positions, width, next;
    struct to_bytes how;
};

/* x · (1 + erf(x / √2)) / 2 */
INLINE floats gelu(floats x) {
    const floats size = _mm512_abs_ps(x);
    const floats t = _mm512_div_ps(splat(1), fused(size, splat(0.3275911f * 0.70710678f), splat(1)));
    floats p = splat(1.061405429f);
    p = fused(p, t, splat(-1.453152027f));
    p = fused(p, t, splat(1.421413741f));
    p = fused(p, t, splat(-0.284496736f));
    p = fused(p, t, splat(0.254829592f));
    /* e^(-x²/2) as a power of 2; half of it times the polynomial is what is above |x| in the normal distribution. */
    const floats tail = multiply(multiply(multiply(p, t), splat(0.5f)), exp2_of(multiply(multiply(x, x), splat(-0.72134752f))));
    const floats below = multiply(x, tail), above = subtract(x, below);
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, splat(0), _CMP_LT_OQ), above, below);
}

static void work(void *argument) {
    struct job *job = argument;
    const int64_t items = (job->positions + TOGETHER - 1) / TOGETHER;
    for (int64_t item; (item = take(&job->next)) < items;) {
        __mmask16 odd = 0;
        const int64_t last = (item + 1) * TOGETHER < job->positions ? (item + 1) * TOGETHER : job->positions;
        for (int64_t position = item * TOGETHER; position < last; position++) {
            const float *values = job->x + position * 2 * job->width, *gates = values + job->width;
            uint8_t *out = job->out + position * job->width;
            for (int64_t c = 0; c < job->width; c += LANES)
                odd |= put_bytes(out + c, multiply(load(values + c), gelu(load(gates + c))), &job->how);
        }
        note_odd(&job->how, odd);
    }
}

/* x: positions × 2 · width, values before gates; out: positions × width, which is a multiple of LANES. Returns 1 where something is no
   finite number, else 0. */
int gated_int8(const float *x, uint8_t *out, int64_t positions, int64_t width, float scale, float zero, int64_t threads) {
    struct job job = {.x = x, .out = out, .positions = positions, .width = width, .how = {.per_unit = 1 / scale, .zero = zero}};
    GOMP_parallel(work, &job, (unsigned)threads, 0);
    return job.how.odd;
}
