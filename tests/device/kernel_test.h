/* What the kernel tests share: fills, matrices with guarded gaps, a device for every instruction set of this processor.
 *  */
#ifndef HS_TESTS_DEVICE_KERNEL_TEST_H
#define HS_TESTS_DEVICE_KERNEL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "device/cpu/cpu_ops.h"
#include "device/device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Half the distance of neighbouring floats near 1: the relative error of one rounding. */
#define ROUNDING (1.0 / 16777216.0)
/* Stands in every place that must not be written. */
#define GUARD (-7777.25f)

typedef enum fill { FILL_SIGNED, FILL_POSITIVE } fill; /* same-sign data lets errors grow that cancel otherwise */

static inline uint32_t random_u32(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) ^ (uint32_t)(*state >> 50);
}

static inline float random_f32(uint64_t *state, fill kind)
{
    const float x = (float)(random_u32(state) & 0xffffff) / 16777216.0f;
    return kind == FILL_SIGNED ? 2.0f * x - 1.0f : 0.1f + x;
}

static inline int64_t random_below(uint64_t *state, int64_t n)
{
    return (int64_t)(random_u32(state) % (uint32_t)n);
}

/* Exactly the elements that a matrix owns, so that a sanitizer sees any access outside; gaps between rows are NaN. */
static inline hs_mat mat_new(int64_t rows, int64_t cols, int64_t ld, fill kind, uint64_t seed)
{
    const size_t n = rows > 0 ? (size_t)((rows - 1) * ld + cols) : 0;
    hs_mat m = {.data = hs_alloc(n, sizeof(float)), .rows = rows, .cols = cols, .ld = ld};
    assert_non_null(m.data);
    for (size_t i = 0; i < n; i++)
        m.data[i] = NAN;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++)
            m.data[r * ld + c] = random_f32(&seed, kind);
    }
    return m;
}

static inline hs_mat mat_out(int64_t rows, int64_t cols, int64_t ld)
{
    hs_mat m = mat_new(rows, cols, ld, FILL_SIGNED, 1);
    const int64_t n = rows > 0 ? (rows - 1) * ld + cols : 0;
    for (int64_t i = 0; i < n; i++)
        m.data[i] = GUARD;
    return m;
}

static inline void mat_check_gaps(const hs_mat *m)
{
    for (int64_t r = 0; r + 1 < m->rows; r++) {
        for (int64_t c = m->cols; c < m->ld; c++)
            assert_true(m->data[r * m->ld + c] == GUARD);
    }
}

static inline void check_same_bits(const float *a, const float *b, int64_t n, const char *what)
{
    if (n > 0 && memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s: bits differ", what);
}

static inline void mat_check_same_bits(const hs_mat *a, const hs_mat *b, const char *what)
{
    for (int64_t r = 0; r < a->rows; r++)
        check_same_bits(a->data + r * a->ld, b->data + r * b->ld, a->cols, what);
}

static inline void check_near(
    double got, double want, double bound, const char *isa, const char *what, int64_t row, int64_t col)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s %s [%lld, %lld]: got %.9g, expected %.9g, difference %.3g, bound %.3g", isa, what, (long long)row,
            (long long)col, got, want, fabs(got - want), bound);
}

/* A CPU device with the kernels of table i. */
static inline hs_device *device_new(int i, int threads)
{
    hs_device *dev = NULL;
    hstu_error err = {0};
    assert_int_equal(setenv("HSTU_ISA", hs_cpu_kernels_at(i)->isa, 1), 0);
    if (hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = threads}, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(dev->isa, hs_cpu_kernels_at(i)->isa);
    return dev;
}

static inline double silu_exact(double z)
{
    return z / (1.0 + exp(-z));
}

/* for (int isa = ...) over the instruction sets that this processor can run */
#define FOR_EACH_ISA(isa)                                                                                              \
    for (int isa = 0; hs_cpu_kernels_at(isa); isa++)                                                                   \
        if (hs_cpu_can_run(isa))

#endif
