/* Matrix kernels and linear layers of every instruction set against sums in double, and bit for bit against each other.
 *  */
#include "kernel_test.h"

/* Sizes on both sides of every register tile (4, 5, 6, 12 rows; 8, 16, 32, 48 and 64 columns). */
static const int64_t SIZES[][3] = {{1, 1, 1}, {1, 64, 33}, {2, 3, 15}, {3, 7, 16}, {4, 16, 17}, {5, 8, 31}, {6, 50, 32},
    {7, 13, 48}, {8, 64, 64}, {9, 5, 47}, {12, 17, 20}, {13, 100, 7}, {17, 31, 65}, {23, 257, 35}, {5, 0, 9}};

static void gemm_case(int isa, const int64_t *size, fill kind, bool packed)
{
    const hs_cpu_kernels *kernels = hs_cpu_kernels_at(isa);
    const int64_t rows = size[0], k = size[1], n = size[2];
    hs_mat a = mat_new(rows, k, k + 3, kind, 11);
    hs_mat b = mat_new(k, n, n + 2, kind, 12);
    hs_mat c = mat_out(rows, n, n + 5), reference = mat_out(rows, n, n);
    const int64_t n_panels = (n + HS_PANEL - 1) / HS_PANEL;
    float *panels = hs_calloc((size_t)(n_panels * HS_PANEL * k), sizeof(float));
    assert_non_null(panels);
    for (int64_t t = 0; t < k; t++) {
        for (int64_t o = 0; o < n; o++)
            panels[o / HS_PANEL * HS_PANEL * k + t * HS_PANEL + o % HS_PANEL] = b.data[t * b.ld + o];
    }
    hs_gemm g = {.c = c.data,
        .ldc = c.ld,
        .a = a.data,
        .lda = a.ld,
        .b = packed ? panels : b.data,
        .ldb = packed ? HS_PANEL : b.ld,
        .panel = packed ? HS_PANEL * k : HS_PANEL,
        .rows = rows,
        .k = k,
        .n = n};
    kernels->gemm(&g);
    mat_check_gaps(&c);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t o = 0; o < n; o++) {
            double sum = 0, size_of_terms = 0;
            float chain = 0;
            for (int64_t t = 0; t < k; t++) {
                const float x = a.data[i * a.ld + t], y = b.data[t * b.ld + o];
                sum += (double)x * (double)y;
                size_of_terms += fabs((double)x * (double)y);
                chain = fmaf(x, y, chain);
            }
            reference.data[i * n + o] = chain;
            check_near(
                (double)c.data[i * c.ld + o], sum, (double)k * ROUNDING * size_of_terms, kernels->isa, "gemm", i, o);
        }
    }
    mat_check_same_bits(&c, &reference, "gemm against one chain of fmaf");

    /* The same sum cut in two is the same chain. */
    hs_gemm half = g;
    half.k = k / 3;
    kernels->gemm(&half);
    half.a += half.k;
    half.b = (const float *)g.b + half.k * half.ldb;
    half.k = k - half.k;
    half.accumulate = true;
    kernels->gemm(&half);
    mat_check_same_bits(&c, &reference, "gemm cut in two");
    mat_check_gaps(&c);
    hs_free(a.data);
    hs_free(b.data);
    hs_free(c.data);
    hs_free(reference.data);
    hs_free(panels);
}

static void test_gemm(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++) {
            gemm_case(isa, SIZES[s], FILL_SIGNED, true);
            gemm_case(isa, SIZES[s], FILL_POSITIVE, true);
            gemm_case(isa, SIZES[s], FILL_SIGNED, false);
        }
    }
}

/* Rows first .. end - 1 of a panel; what stands in its other lanes stays. */
static void pack_case(int isa, int64_t first, int64_t end, int64_t d)
{
    hs_mat x = mat_new(end - first, d, d + 1, FILL_SIGNED, 5);
    const float *row[HS_PANEL] = {NULL};
    for (int64_t r = first; r < end; r++)
        row[r] = x.data + (r - first) * x.ld;
    float *dst = hs_alloc_aligned((size_t)(d * HS_PANEL), sizeof(float));
    assert_non_null(dst);
    for (int64_t i = 0; i < d * HS_PANEL; i++)
        dst[i] = GUARD;
    hs_cpu_kernels_at(isa)->pack_panel(dst, row, first, end, d);
    for (int64_t t = 0; t < d; t++) {
        for (int64_t r = 0; r < HS_PANEL; r++)
            assert_true(dst[t * HS_PANEL + r] == (r >= first && r < end ? row[r][t] : GUARD));
    }
    hs_free(dst);
    hs_free(x.data);
}

static void test_pack_panel(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t first = 0; first < HS_PANEL; first++) {
            for (int64_t end = first + 1; end <= HS_PANEL; end++) {
                for (int64_t d = 1; d <= 35; d += 1 + d / 9)
                    pack_case(isa, first, end, d);
            }
        }
    }
}

static double activate_exact(double z, hs_activation act)
{
    switch (act) {
    case HS_ACT_SILU:
        return silu_exact(z);
    case HS_ACT_RELU:
        return z > 0 ? z : 0;
    case HS_ACT_GELU:
        return 0.5 * z * (1.0 + erf(z * sqrt(0.5)));
    case HS_ACT_NONE:
        break;
    }
    return z;
}

typedef struct linear_case {
    hs_mat x, w, residual;
    float *bias;
    hs_activation act;
} linear_case;

static void check_linear(const linear_case *c, const hs_mat *out, const char *isa)
{
    for (int64_t i = 0; i < out->rows; i++) {
        for (int64_t o = 0; o < out->cols; o++) {
            double z = c->bias ? (double)c->bias[o] : 0.0, terms = fabs(z);
            for (int64_t t = 0; t < c->x.cols; t++) {
                const double term = (double)c->x.data[i * c->x.ld + t] * (double)c->w.data[t * c->w.ld + o];
                z += term;
                terms += fabs(term);
            }
            const double y = activate_exact(z, c->act);
            const double add = c->residual.data ? (double)c->residual.data[i * c->residual.ld + o] : 0.0;
            /* No activation is steeper than 1.13; GELU's 1 + erf cancels for negative z. */
            const double bound = 1.13 * (double)(c->x.cols + 1) * ROUNDING * terms + 8 * ROUNDING * fabs(y) +
                                 4 * ROUNDING * (c->act == HS_ACT_GELU ? fabs(z) : 0.0) + ROUNDING * fabs(y + add);
            check_near((double)out->data[i * out->ld + o], y + add, bound, isa, "linear", i, o);
        }
    }
}

static hs_mat run_linear(hs_device *dev, const linear_case *c, const hs_packed *w, int64_t first, int64_t rows)
{
    hs_mat out = mat_out(rows, c->w.cols, c->w.cols + 3);
    hs_mat x = c->x, residual = c->residual;
    x.data += first * x.ld;
    x.rows = rows;
    if (residual.data) {
        residual.data += first * residual.ld;
        residual.rows = rows;
    }
    const hs_linear_args a = {.out = out, .x = x, .w = w, .bias = c->bias, .act = c->act, .residual = residual};
    assert_int_equal(dev->table->linear(dev, &a, 1, NULL), HSTU_OK);
    mat_check_gaps(&out);
    return out;
}

static void linear_size(int isa, int64_t rows, int64_t in, int64_t n, hs_activation act, bool extras)
{
    hs_device *one = device_new(isa, 1), *three = device_new(isa, 3);
    linear_case c = {
        .x = mat_new(rows, in, in + 1, FILL_SIGNED, 3), .w = mat_new(in, n, n, FILL_SIGNED, 4), .act = act};
    hs_mat transposed = mat_new(n, in, in, FILL_SIGNED, 1);
    for (int64_t t = 0; t < in; t++) {
        for (int64_t o = 0; o < n; o++)
            transposed.data[o * in + t] = c.w.data[t * n + o];
    }
    hs_mat bias = mat_new(1, n, n, FILL_SIGNED, 7);
    if (extras) {
        c.bias = bias.data;
        c.residual = mat_new(rows, n, n + 4, FILL_SIGNED, 8);
    }
    hs_packed *w = NULL, *from_transposed = NULL;
    assert_int_equal(one->table->pack(one, &w, c.w.data, HS_F32, in, n, n, 1, NULL), HSTU_OK);
    assert_int_equal(one->table->pack(one, &from_transposed, transposed.data, HS_F32, in, n, 1, in, NULL), HSTU_OK);
    int64_t got_in = 0, got_n = 0;
    one->table->pack_size(w, &got_in, &got_n);
    assert_int_equal(got_in, in);
    assert_int_equal(got_n, n);

    hs_mat out = run_linear(one, &c, w, 0, rows);
    check_linear(&c, &out, one->isa);
    hs_mat again = run_linear(three, &c, from_transposed, 0, rows);
    mat_check_same_bits(&out, &again, "linear with 1 and 3 threads");
    for (int64_t r = 0; r < rows; r += 1 + rows / 5) {
        hs_mat alone = run_linear(one, &c, w, r, 1);
        check_same_bits(alone.data, out.data + r * out.ld, n, "linear of a row alone");
        hs_free(alone.data);
    }
    if (extras) { /* out may be residual */
        const hs_linear_args in_place = {
            .out = c.residual, .x = c.x, .w = w, .bias = c.bias, .act = act, .residual = c.residual};
        assert_int_equal(three->table->linear(three, &in_place, 1, NULL), HSTU_OK);
        mat_check_same_bits(&out, &c.residual, "linear in place of its residual");
        hs_free(c.residual.data);
    }
    one->table->pack_free(w);
    one->table->pack_free(from_transposed);
    hs_free(transposed.data);
    hs_free(bias.data);
    hs_free(c.x.data);
    hs_free(c.w.data);
    hs_free(out.data);
    hs_free(again.data);
    hs_device_close(one);
    hs_device_close(three);
}

static void test_linear(void **state)
{
    (void)state;
    const hs_activation acts[] = {HS_ACT_NONE, HS_ACT_SILU, HS_ACT_RELU, HS_ACT_GELU};
    FOR_EACH_ISA(isa)
    {
        for (int a = 0; a < 4; a++) {
            linear_size(isa, 1, 5, 3, acts[a], true);
            linear_size(isa, 53, 20, 70, acts[a], true);
            linear_size(isa, 101, 33, 16, acts[a], false);
        }
        linear_size(isa, 3, 40, 530, HS_ACT_SILU, true);
    }
}

static void test_linear_same_bits_everywhere(void **state)
{
    (void)state;
    linear_case c = {.x = mat_new(29, 61, 61, FILL_SIGNED, 1), .w = mat_new(61, 45, 45, FILL_SIGNED, 2)};
    hs_mat first = {0};
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 2);
        hs_packed *w = NULL;
        assert_int_equal(dev->table->pack(dev, &w, c.w.data, HS_F32, 61, 45, 45, 1, NULL), HSTU_OK);
        hs_mat out = run_linear(dev, &c, w, 0, 29);
        if (!first.data) {
            first = out;
        } else {
            mat_check_same_bits(&out, &first, "linear without activation on two instruction sets");
            hs_free(out.data);
        }
        dev->table->pack_free(w);
        hs_device_close(dev);
    }
    hs_free(first.data);
    hs_free(c.x.data);
    hs_free(c.w.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gemm), cmocka_unit_test(test_pack_panel),
        cmocka_unit_test(test_linear), cmocka_unit_test(test_linear_same_bits_everywhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
