/* Layer norms bit for bit: the same whether they divide or multiply; those of rows of bfloat16 values what widening,
 * the float32 kernels and rounding give. */
#include "bf16_test.h"

enum { BEHIND = 7, MOST_ROWS = 9, MOST_COLS = 513, LD = MOST_COLS + BEHIND };

typedef enum content { SIGNED, POSITIVE, BALANCED, ZEROS, TINY, LARGE, SPECIAL, N_CONTENTS } content;

typedef struct norm_case {
    const hs_cpu_kernels *kernels;
    int64_t rows, n;
    uint16_t *x, *other;
    hs_affine affine;
} norm_case;

static float value(content what, int64_t column, uint64_t *seed)
{
    const float x = random_f32(seed, what == POSITIVE ? FILL_POSITIVE : FILL_SIGNED);
    switch (what) {
    case BALANCED: /* mean 0, and differences to it that are no normal quotients */
        return (column % 2 ? -1.0f : 1.0f) * (column < 4 ? 1.0f : 0x1p-120f);
    case ZEROS:
        return x < 0 ? -0.0f : 0.0f;
    case TINY:
        return x * 0x1p-110f;
    case LARGE:
        return (x + 1.5f) * 0x1p40f;
    case SPECIAL:
        return column % 11 == 5 ? NAN : column % 7 == 3 ? INFINITY : x;
    default:
        return x;
    }
}

static uint16_t *halves_new(content what, uint64_t seed)
{
    uint16_t *half = hs_alloc((size_t)(MOST_ROWS * LD), sizeof *half);
    assert_non_null(half);
    for (int64_t i = 0; i < MOST_ROWS * LD; i++)
        half[i] = i % LD < MOST_COLS ? hs_f32_to_bf16(value(what, i % LD, &seed)) : 0x7fc1;
    return half;
}

/* The row as the kernels of the instruction set give it. */
static void expected(const norm_case *c, int64_t row, bool gates, bool with_other, uint16_t *out)
{
    float x[MOST_COLS], other[MOST_COLS], y[MOST_COLS];
    c->kernels->pairs->widen(x, c->x + row * LD, c->n);
    c->kernels->pairs->widen(other, c->other + row * LD, c->n);
    if (gates)
        c->kernels->norm_gate(y, other, x, c->n, &c->affine, false);
    else
        c->kernels->layer_norm(y, x, with_other ? other : NULL, c->n, &c->affine);
    c->kernels->pairs->narrow(out, y, 1.0f, c->n);
}

/* Into `out`, which may be a copy of an operand. */
static void apply(const norm_case *c, const uint16_t *x, const uint16_t *other, bool gates, uint16_t *out)
{
    const int64_t width = (c->n + HS_PANEL - 1) / HS_PANEL * HS_PANEL;
    float *space = hs_alloc_aligned((size_t)(HS_HALF_NORM_ROWS * width), sizeof *space);
    assert_non_null(space);
    c->kernels->half_norm(&(hs_half_norm){.out = out,
        .x = x,
        .add = gates ? NULL : other,
        .gate = gates ? other : NULL,
        .ldo = LD,
        .ldx = LD,
        .lda = LD,
        .ldg = LD,
        .rows = c->rows,
        .n = c->n,
        .affine = &c->affine,
        .space = space});
    hs_free(space);
}

/* Which NaN it is, is nobody's business. */
static bool same_value(uint16_t a, uint16_t b)
{
    return a == b || (isnan(hs_bf16_to_f32(a)) && isnan(hs_bf16_to_f32(b)));
}

static void check(const norm_case *c, const uint16_t *out, const uint16_t *before, bool gates, bool with_other)
{
    uint16_t want[MOST_COLS];
    for (int64_t r = 0; r < MOST_ROWS; r++) {
        const int64_t n = r < c->rows ? c->n : 0;
        if (n > 0)
            expected(c, r, gates, with_other, want);
        for (int64_t i = 0; i < n; i++) {
            if (!same_value(out[r * LD + i], want[i]))
                fail_msg("%s half_norm, n = %d, %d rows: [%d, %d] is %04x, not %04x", c->kernels->isa, (int)n,
                    (int)c->rows, (int)r, (int)i, out[r * LD + i], want[i]);
        }
        if (memcmp(out + r * LD + n, before + r * LD + n, (size_t)(LD - n) * sizeof *out) != 0)
            fail_msg("%s half_norm, row %d, n = %d: wrote behind it", c->kernels->isa, (int)r, (int)n);
    }
}

/* Apart from its operands, over the one and over the other. */
static void check_places(const norm_case *c, bool gates, bool with_other)
{
    const size_t bytes = (size_t)(MOST_ROWS * LD) * sizeof(uint16_t);
    uint16_t *guard = halves_new(SPECIAL, 5), *out = halves_new(SPECIAL, 5);
    apply(c, c->x, with_other ? c->other : NULL, gates, out);
    check(c, out, guard, gates, with_other);
    memcpy(out, c->x, bytes);
    apply(c, out, with_other ? c->other : NULL, gates, out);
    check(c, out, c->x, gates, with_other);
    memcpy(out, c->other, bytes);
    if (with_other) {
        apply(c, c->x, out, gates, out);
        check(c, out, c->other, gates, with_other);
    }
    hs_free(guard);
    hs_free(out);
}

static void check_content(const hs_cpu_kernels *kernels, content what)
{
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 50, 64, 101, 512, 513};
    norm_case c = {.kernels = kernels, .x = halves_new(what, 1), .other = halves_new(what == TINY ? TINY : SIGNED, 2)};
    hs_mat affine = mat_new(2, MOST_COLS, MOST_COLS, FILL_SIGNED, 3);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int kind = 0; kind < 4; kind++) {
            c.n = sizes[s];
            c.rows = 1 + (int64_t)(s + (size_t)kind) % MOST_ROWS;
            c.affine = (hs_affine){.weight = kind & 1 ? affine.data : NULL,
                .bias = kind & 2 ? affine.data + MOST_COLS : NULL,
                .eps = kind == 3 ? 1e-6f : 1e-5f};
            check_places(&c, false, false);
            check_places(&c, false, true);
            check_places(&c, true, true);
        }
    }
    hs_free(affine.data);
    hs_free(c.x);
    hs_free(c.other);
}

static void test_half_norm(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (content what = 0; hs_cpu_kernels_at(isa)->half_norm && what < N_CONTENTS; what++)
            check_content(hs_cpu_kernels_at(isa), what);
    }
}

/* Without an eps a row times a power of two has the same norm. Times 2^30 or 2^-30 its deviation is outside the range
 * in which quotients are computed by multiplication: the divisions give the same bits. */
static void scaled_case(const hs_cpu_kernels *kernels, int64_t n, uint64_t seed, float scale)
{
    float x[MOST_COLS], u[MOST_COLS], scaled[MOST_COLS], want[MOST_COLS], got[MOST_COLS];
    const hs_affine affine = {.eps = 0.0f};
    for (int64_t i = 0; i < n; i++) {
        x[i] = random_f32(&seed, FILL_POSITIVE);
        u[i] = random_f32(&seed, FILL_SIGNED);
        scaled[i] = x[i] * scale;
    }
    kernels->layer_norm(want, x, NULL, n, &affine);
    kernels->layer_norm(got, scaled, NULL, n, &affine);
    check_same_bits(got, want, n, "layer_norm, scaled");
    kernels->norm_gate(want, u, x, n, &affine, false);
    kernels->norm_gate(got, u, scaled, n, &affine, false);
    check_same_bits(got, want, n, "norm_gate, scaled");
}

/* Rows whose deviation is known, and whose quotients multiplications would miss: remainders that are no normal numbers,
 * and a deviation beyond float32. */
static void edge_case(const hs_cpu_kernels *kernels, uint64_t seed)
{
    enum { N = 100 };
    float x[N], got[N];
    const hs_affine affine = {.eps = 0.37f};
    for (int64_t i = 0; i < N; i++)
        x[i] = i < 4 ? (i % 2 ? 1.0f : -1.0f) : 0x1p-118f * random_f32(&seed, FILL_POSITIVE);
    for (int64_t i = 5; i < N; i += 2)
        x[i] = -x[i - 1];
    const float sd = sqrtf(4.0f / (float)N + affine.eps);
    kernels->layer_norm(got, x, NULL, N, &affine);
    for (int64_t i = 0; i < N; i++)
        assert_true(got[i] == x[i] / sd);
    for (int64_t i = 0; i < N; i++)
        x[i] = i % 3 ? 0x1p70f : 0x1p71f;
    kernels->layer_norm(got, x, NULL, N, &affine);
    for (int64_t i = 0; i < N; i++)
        assert_true(got[i] == 0.0f);
}

static void test_quotients(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (uint64_t seed = 1; seed < 200; seed++) {
            const int64_t n = 2 + (int64_t)(seed * 37 % (MOST_COLS - 2));
            scaled_case(hs_cpu_kernels_at(isa), n, seed, 0x1p30f);
            scaled_case(hs_cpu_kernels_at(isa), n, seed, 0x1p-30f);
            if (strcmp(hs_cpu_kernels_at(isa)->isa, "ref") != 0) /* which computes in double */
                edge_case(hs_cpu_kernels_at(isa), seed);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quotients), cmocka_unit_test(test_half_norm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
