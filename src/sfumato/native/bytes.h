/* Numbers rounded to bytes for a layer in int8: x ≈ scale · (byte - zero). */

#ifndef BYTES_H
#define BYTES_H

#include "vectors.h"

struct to_bytes {
    float per_unit, zero; /* 1 / scale, and the byte that stands for 0 */
    int odd;              /* whether one of them was no finite number; any thread sets it */
};

/* Sixteen of them; what is beyond a byte's reach becomes the nearest that is not. Returns the lanes that are no finite numbers. */
INLINE __mmask16 put_bytes(uint8_t *out, floats x, const struct to_bytes *how) {
    const __m512i whole = _mm512_cvtps_epi32(greater(splat(0), fused(x, splat(how->per_unit), splat(how->zero))));
    _mm_storeu_si128((__m128i *)out, _mm512_cvtusepi32_epi8(whole));
    const floats none = subtract(x, x);
    return _mm512_cmp_ps_mask(none, none, _CMP_UNORD_Q);
}

INLINE void note_odd(struct to_bytes *how, __mmask16 odd) {
    if (odd) __atomic_store_n(&how->odd, 1, __ATOMIC_RELAXED);
}

#endif
