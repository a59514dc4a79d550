/* Vectors of floats, in as many lanes as the processor has: sixteen (AVX-512) or eight (AVX2 and FMA). */

#ifndef VECTORS_H
#define VECTORS_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define LANES 16
#define ROWS 8 /* queries at a time: their sums over three vectors of keys fill the 32 registers */
typedef __m512 floats;
#define load _mm512_loadu_ps
#define store _mm512_storeu_ps
#define splat _mm512_set1_ps
#define add _mm512_add_ps
#define subtract _mm512_sub_ps
#define multiply _mm512_mul_ps
#define fused _mm512_fmadd_ps
#define greater _mm512_max_ps /* the second where either is NaN */
#define nearest(x) _mm512_roundscale_ps(x, 0)
#define times_two_to _mm512_scalef_ps
#define greatest _mm512_reduce_max_ps
/* The sum of the lanes: of both halves, of both halves of these, and so on; the compiler's own sum has no order that it must keep. */
INLINE float total(floats x) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
#elif defined(__AVX2__) && defined(__FMA__)
#define LANES 8
#define ROWS 4
typedef __m256 floats;
#define load _mm256_loadu_ps
#define store _mm256_storeu_ps
#define splat _mm256_set1_ps
#define add _mm256_add_ps
#define subtract _mm256_sub_ps
#define multiply _mm256_mul_ps
#define fused _mm256_fmadd_ps
#define greater _mm256_max_ps
#define nearest(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
INLINE floats times_two_to(floats x, floats n) {
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return multiply(x, _mm256_castsi256_ps(exponent));
}
INLINE float total(floats x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
INLINE float greatest(floats x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
#else
#error "needs AVX2 and FMA, or AVX-512"
#endif

/* 2 to the power of x <= 0, to 2e-9 of it and float32's rounding; NaN stays NaN, and what is less than 2^-126 becomes that.
   The polynomial was fitted to 2^f, f from -1/2 to 1/2, at Chebyshev's nodes. */
INLINE floats exp2_of(floats x) {
    x = greater(splat(-126.0f), x);
    const floats n = nearest(x), f = subtract(x, n);
    floats p = splat(1.537070482e-4f);
    p = fused(p, f, splat(1.339984829e-3f));
    p = fused(p, f, splat(9.618373251e-3f));
    p = fused(p, f, splat(5.550329035e-2f));
    p = fused(p, f, splat(2.402264846e-1f));
    p = fused(p, f, splat(6.931472056e-1f));
    p = fused(p, f, splat(1.0f));
    return times_two_to(p, n);
}

#endif
