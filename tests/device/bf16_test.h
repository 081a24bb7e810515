/* What the tests of bfloat16 arithmetic share: the rounding as base/half.h defines it, and matrices of such values. */
#ifndef HS_TESTS_DEVICE_BF16_TEST_H
#define HS_TESTS_DEVICE_BF16_TEST_H

#include "kernel_test.h"

#include "base/half.h"

static inline float to_bf16(float x)
{
    return hs_bf16_to_f32(hs_f32_to_bf16(x));
}

static inline hs_mat bf16_mat_new(int64_t rows, int64_t cols, int64_t ld, fill kind, uint64_t seed)
{
    hs_mat m = mat_new(rows, cols, ld, kind, seed);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++)
            m.data[r * ld + c] = to_bf16(m.data[r * ld + c]);
    }
    return m;
}

/* One fused multiply-add per element, ascending, begun at 0. */
static inline float chain(const float *a, const float *b, int64_t ldb, int64_t n)
{
    float sum = 0.0f;
    for (int64_t t = 0; t < n; t++)
        sum = fmaf(a[t], b[t * ldb], sum);
    return sum;
}

#endif
