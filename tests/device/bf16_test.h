/* What the tests of bfloat16 arithmetic share: the rounding as base/half.h defines it, and matrices of such values. */
#ifndef HS_TESTS_DEVICE_BF16_TEST_H
#define HS_TESTS_DEVICE_BF16_TEST_H

#include "kernel_test.h"

#include "base/half.h"

#include <float.h>

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

/* ---- models of the instruction sets that multiply bfloat16 pairs themselves; sums begin at `sum`, b's rows are ldb apart ---- */

static inline float flushed(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x;
}

static inline float flushed_fma(float a, float b, float sum)
{
    return flushed(fmaf(flushed(a), flushed(b), flushed(sum)));
}

/* vdpbf16ps: of each pair the odd element first. */
static inline float dot_chain(const float *a, const float *b, int64_t ldb, int64_t n, float sum)
{
    for (int64_t t = 0; t < n; t += 2) {
        if (t + 1 < n)
            sum = flushed_fma(a[t + 1], b[(t + 1) * ldb], sum);
        sum = flushed_fma(a[t], b[t * ldb], sum);
    }
    return sum;
}

/* tdpbf16ps: of each 32 elements the even and the odd ones by themselves. */
static inline float tile_chain(const float *a, const float *b, int64_t ldb, int64_t n, float sum)
{
    for (int64_t first = 0; first < n; first += 32) {
        float half[2] = {0.0f, 0.0f};
        for (int64_t t = first; t < n && t < first + 32; t++)
            half[t % 2] = flushed_fma(a[t], b[t * ldb], half[t % 2]);
        sum = flushed(flushed(sum) + flushed(half[0] + half[1]));
    }
    return sum;
}

/* The sum of products of bfloat16 values as the instruction set computes it from matrices that hold such, a zero being +0. */
static inline float paired_chain(int isa, const float *a, const float *b, int64_t ldb, int64_t n)
{
    const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
    if (!k->pairs)
        return chain(a, b, ldb, n) + 0.0f;
    return (strcmp(k->isa, "amx") == 0 ? tile_chain(a, b, ldb, n, 0.0f) : dot_chain(a, b, ldb, n, 0.0f)) + 0.0f;
}

/* What tests of operations hand to a device: m itself, or, where the device stores bfloat16 and `half` is wanted, its values so, to be
 * freed with stored_free. Behind the columns of a row stand zeros up to a multiple of HS_MAT_BLOCK and then NaN, and NaN in the
 * rows behind, as tensor/mat.h allows. */
static inline hs_mat stored_new(int isa, const hs_mat *m, bool half)
{
    const int64_t ld = hs_mat_half_ld(m->cols), rows = m->rows + HS_MAT_BLOCK;
    if (!half || !hs_cpu_kernels_at(isa)->pairs || !m->data)
        return *m;
    hs_mat s = {.rows = m->rows, .cols = m->cols, .ld = ld, .bf16 = true};
    s.half = hs_alloc_aligned((size_t)(rows * ld), sizeof *s.half);
    assert_non_null(s.half);
    memset(s.half, 0xff, (size_t)(rows * ld) * sizeof *s.half);
    for (int64_t r = 0; r < m->rows; r++) {
        for (int64_t c = 0; c < (m->cols + HS_MAT_BLOCK - 1) / HS_MAT_BLOCK * HS_MAT_BLOCK; c++)
            s.half[r * ld + c] = c < m->cols ? hs_f32_to_bf16(m->data[r * m->ld + c]) : 0;
    }
    return s;
}

/* Copies what a device wrote into m; nothing if it wrote there. */
static inline void stored_read(const hs_mat *stored, const hs_mat *m)
{
    for (int64_t r = 0; stored->bf16 && r < m->rows; r++) {
        for (int64_t c = 0; c < m->cols; c++)
            m->data[r * m->ld + c] = hs_bf16_to_f32(stored->half[r * stored->ld + c]);
        for (int64_t c = (m->cols + HS_MAT_BLOCK - 1) / HS_MAT_BLOCK * HS_MAT_BLOCK; c < stored->ld; c++)
            assert_int_equal(stored->half[r * stored->ld + c], 0xffff);
    }
}

static inline void stored_free(const hs_mat *stored)
{
    if (stored->bf16)
        hs_free(stored->half);
}

#endif
