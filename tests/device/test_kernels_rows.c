/* Row kernels of every instruction set, and the device's row operations, against double. */
#include "kernel_test.h"

static double ulp_of(double x)
{
    return fmax(ldexp(1.0, ilogb(fmax(fabs(x), 1e-37)) - 23), 1e-45);
}

/* rows x n scores with row distance ld; n_first as in hs_silu_fn. */
static void run_silu(const hs_cpu_kernels *k, float *x, const float *bias, int64_t ld, float alpha, int64_t rows,
    int64_t n, int64_t first)
{
    const hs_silu_tile t = {
        .x = x, .bias = bias, .ld = ld, .alpha = alpha, .scale = 0.25f, .rows = rows, .n = n, .n_first = first};
    k->silu(&t);
}

/* One row without bias and scales. */
static void run_plain_silu(const hs_cpu_kernels *k, float *x, int64_t n)
{
    const hs_silu_tile t = {.x = x, .ld = n, .alpha = 1.0f, .scale = 1.0f, .rows = 1, .n = n, .n_first = n};
    k->silu(&t);
}

/* All of silu's range in small steps, and what lies outside. */
static void test_silu(void **state)
{
    (void)state;
    enum { N = 1000 };
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        for (int block = 0; block < 200; block++) {
            float x[N], z[N];
            for (int i = 0; i < N; i++)
                x[i] = z[i] = -100.0f + 0.001f * (float)(block * N + i);
            run_plain_silu(k, x, N);
            float y[N];
            k->finish(y, z, NULL, NULL, HS_ACT_SILU, false, N);
            for (int i = 0; i < N; i++) {
                const double want = silu_exact((double)z[i]);
                check_near((double)x[i], want, 3 * ulp_of(want) + ldexp(1.0, -100), k->isa, "silu", block, i);
                assert_true(x[i] == y[i]);
            }
        }
        float edge[4] = {INFINITY, NAN, 1e30f, -0.0f};
        run_plain_silu(k, edge, 4);
        assert_true(isinf(edge[0]) && isnan(edge[1]) && edge[2] == 1e30f && edge[3] == 0.0f);
        float low[3] = {-1e9f, -1e30f, -3e38f};
        run_plain_silu(k, low, 3);
        for (int i = 0; i < 3; i++)
            check_near((double)low[i], 0.0, ldexp(1.0, -100), k->isa, "silu of a low score", 0, i);
    }
}

static void test_silu_tile_masks(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        for (int64_t n = 1; n <= 40; n += 3) {
            const float alpha = n % 2 ? 1.0f : 0.35f;
            for (int64_t n_first = -3; n_first <= n; n_first += 2) {
                hs_mat x = mat_out(5, n, n + 2), z = mat_new(5, n, n + 2, FILL_SIGNED, 2);
                hs_mat bias = mat_new(5, n, n + 2, FILL_SIGNED, 3);
                for (int64_t r = 0; r < 5; r++) {
                    for (int64_t j = 0; j < n; j++)
                        x.data[r * x.ld + j] = j < n_first + r ? z.data[r * x.ld + j] : NAN;
                }
                run_silu(k, x.data, bias.data, x.ld, alpha, 5, n, n_first);
                mat_check_gaps(&x);
                for (int64_t r = 0; r < 5; r++) {
                    for (int64_t j = 0; j < n; j++) {
                        const int64_t at = r * x.ld + j;
                        const float sum = fmaf(alpha, z.data[at], bias.data[at]);
                        const double want = j < n_first + r ? 0.25 * silu_exact((double)sum) : 0.0;
                        check_near((double)x.data[at], want, 5 * ROUNDING * 2 * fabs(want), k->isa, "silu tile", r, j);
                    }
                }
                hs_free(x.data);
                hs_free(z.data);
                hs_free(bias.data);
            }
        }
    }
}

static void test_bias_row(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t n = 1; n < 50; n += 5) {
            hs_mat position = mat_new(1, n, n, FILL_SIGNED, 1), time = mat_new(1, 256, 256, FILL_SIGNED, 2);
            hs_mat out = mat_out(1, n, n);
            uint8_t *bucket = hs_alloc((size_t)n, 1);
            assert_non_null(bucket);
            for (int64_t j = 0; j < n; j++)
                bucket[j] = (uint8_t)(255 - j * 5 % 256);
            hs_cpu_kernels_at(isa)->bias_row(out.data, position.data, time.data, bucket, n);
            for (int64_t j = 0; j < n; j++)
                assert_true(out.data[j] == position.data[j] + time.data[bucket[j]]);
            hs_free(position.data);
            hs_free(time.data);
            hs_free(out.data);
            hs_free(bucket);
        }
    }
}

static void softmax_case(const hs_cpu_kernels *k, int64_t n, float spread, bool with_bias)
{
    hs_mat x = mat_new(1, n, n, FILL_SIGNED, 9), bias = mat_new(1, n, n, FILL_SIGNED, 10);
    double *e = hs_alloc((size_t)n, sizeof *e);
    assert_non_null(e);
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        x.data[j] *= spread;
        const float z = 0.5f * (with_bias ? x.data[j] + bias.data[j] : x.data[j]);
        e[j] = (double)z;
        max = fmax(max, e[j]);
    }
    for (int64_t j = 0; j < n; j++)
        sum += exp(e[j] - max);
    k->softmax(x.data, with_bias ? bias.data : NULL, 0.5f, n);
    for (int64_t j = 0; j < n; j++) {
        const double want = exp(e[j] - max) / sum;
        const double relative = (8 + fabs(e[j] - max)) * 2 * ROUNDING + (double)n * ROUNDING;
        check_near((double)x.data[j], want, relative * want + 2e-38, k->isa, "softmax", n, j);
    }
    hs_free(x.data);
    hs_free(bias.data);
    hs_free(e);
}

static void test_softmax(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        for (int64_t n = 1; n < 300; n += 1 + n / 4) {
            softmax_case(k, n, 1.0f, true);
            softmax_case(k, n, 300.0f, false);
        }
        float nan_row[3] = {1.0f, NAN, 2.0f};
        k->softmax(nan_row, NULL, 1.0f, 3);
        assert_true(isnan(nan_row[0]) && isnan(nan_row[1]) && isnan(nan_row[2]));
        float big[2] = {3e38f, -3e38f};
        k->softmax(big, NULL, 1.0f, 2);
        assert_true(big[0] == 1.0f && big[1] < 1e-37f);
    }
}

/* Mean and 1 / sqrt(variance + eps) of x + add in double, and the largest |x + add - mean|. */
static void moments_exact(
    const float *x, const float *add, int64_t n, double eps, double *mean, double *inv_sd, double *far)
{
    double sum = 0, squares = 0;
    *far = 0;
    for (int64_t c = 0; c < n; c++)
        sum += (double)x[c] + (add ? (double)add[c] : 0.0);
    *mean = sum / (double)n;
    for (int64_t c = 0; c < n; c++) {
        const double centred = (double)x[c] + (add ? (double)add[c] : 0.0) - *mean;
        squares += centred * centred;
        *far = fmax(*far, fabs(centred));
    }
    *inv_sd = 1.0 / sqrt(squares / (double)n + eps);
}

/* One rounding per step of two sums of n terms, and the cancellation of x + add - mean, whose terms are below
 * `largest`. */
static double norm_bound(int64_t n, double largest, double far, double inv_sd)
{
    return ((double)(n + 8) * ROUNDING * (largest + far)) * inv_sd;
}

static double affine_exact(double normed, const float *weight, const float *bias, int64_t c)
{
    return normed * (weight ? (double)weight[c] : 1.0) + (bias ? (double)bias[c] : 0.0);
}

static double weight_size(const float *weight, int64_t c)
{
    return weight ? fabs((double)weight[c]) : 1.0;
}

static void layer_norm_case(int isa, int64_t rows, int64_t n, float shift, bool with_add, int affine)
{
    hs_device *dev = device_new(isa, 2);
    hs_mat x = mat_new(rows, n, n + 2, FILL_SIGNED, 21), add = mat_new(rows, n, n + 1, FILL_SIGNED, 22);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < n; c++)
            x.data[r * x.ld + c] += shift;
    }
    hs_mat out = mat_out(rows, n, n + 3);
    hs_mat weight = mat_new(1, n, n, FILL_SIGNED, 23), bias = mat_new(1, n, n, FILL_SIGNED, 24);
    hs_layer_norm_args a = {.out = out,
        .x = x,
        .weight = affine & 1 ? weight.data : NULL,
        .bias = affine & 2 ? bias.data : NULL,
        .eps = 1e-6f};
    if (with_add)
        a.add = add;
    assert_int_equal(dev->table->layer_norm(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    for (int64_t r = 0; r < rows; r++) {
        const float *xr = x.data + r * x.ld, *ar = with_add ? add.data + r * add.ld : NULL;
        double mean = 0, inv_sd = 0, far = 0;
        moments_exact(xr, ar, n, (double)1e-6f, &mean, &inv_sd, &far);
        for (int64_t c = 0; c < n; c++) {
            const double normed = ((double)xr[c] + (ar ? (double)ar[c] : 0.0) - mean) * inv_sd;
            const double want = affine_exact(normed, a.weight, a.bias, c);
            const double bound = norm_bound(n, fabs((double)shift) + 2.0, far, inv_sd) * weight_size(a.weight, c) +
                                 ROUNDING * fabs(want);
            check_near((double)out.data[r * out.ld + c], want, bound, dev->isa, "layer_norm", r, c);
        }
    }
    a.out = x; /* in place */
    assert_int_equal(dev->table->layer_norm(dev, &a, NULL), HSTU_OK);
    mat_check_same_bits(&out, &x, "layer_norm in place");
    hs_free(weight.data);
    hs_free(bias.data);
    hs_free(x.data);
    hs_free(add.data);
    hs_free(out.data);
    hs_device_close(dev);
}

static void test_layer_norm(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 50, 64, 200, 513};
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int affine = 0; affine < 4; affine++)
                layer_norm_case(isa, 3, sizes[s], 0.0f, true, affine);
            layer_norm_case(isa, 70, sizes[s], 3.0f, false, 0);
        }
        layer_norm_case(isa, 300, 511, 0.0f, true, 3); /* large enough for several threads */
    }
}

static void norm_gate_case(int isa, int64_t n, bool concat, int affine)
{
    hs_device *dev = device_new(isa, 1);
    const int64_t rows = 5, cols = concat ? 3 * n : n;
    hs_mat u = mat_new(rows, n, n + 2, FILL_SIGNED, 31), o = mat_new(rows, n, n + 1, FILL_SIGNED, 32);
    hs_mat out = mat_out(rows, cols, cols + 3);
    hs_mat weight = mat_new(1, n, n, FILL_SIGNED, 33), bias = mat_new(1, n, n, FILL_SIGNED, 34);
    const hs_norm_gate_args a = {.out = out,
        .u = u,
        .o = o,
        .weight = affine & 1 ? weight.data : NULL,
        .bias = affine & 2 ? bias.data : NULL,
        .eps = 1e-6f,
        .concat = concat};
    assert_int_equal(dev->table->norm_gate(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    for (int64_t r = 0; r < rows; r++) {
        const float *got = out.data + r * out.ld;
        double mean = 0, inv_sd = 0, far = 0;
        moments_exact(o.data + r * o.ld, NULL, n, (double)1e-6f, &mean, &inv_sd, &far);
        for (int64_t c = 0; c < n; c++) {
            const float gate = u.data[r * u.ld + c];
            const double plain = ((double)o.data[r * o.ld + c] - mean) * inv_sd;
            const double normed = affine_exact(plain, a.weight, a.bias, c);
            const double bound = norm_bound(n, 1.0, far, inv_sd) * weight_size(a.weight, c) + ROUNDING * fabs(normed);
            const int64_t at = concat ? 2 * n + c : c;
            check_near((double)got[at], (double)gate * normed, bound + ROUNDING * fabs(normed), dev->isa, "gate", r, c);
            if (concat) {
                assert_true(got[c] == gate);
                check_near((double)got[n + c], normed, bound, dev->isa, "normed", r, c);
            }
        }
    }
    hs_free(weight.data);
    hs_free(bias.data);
    hs_free(u.data);
    hs_free(o.data);
    hs_free(out.data);
    hs_device_close(dev);
}

static void test_norm_gate(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t n = 1; n < 80; n += 1 + n / 3) {
            for (int affine = 0; affine < 4; affine++) {
                norm_gate_case(isa, n, false, affine);
                norm_gate_case(isa, n, true, affine);
            }
        }
    }
}

static void test_scale_and_above(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        for (int64_t n = 1; n <= 200; n += 1 + n / 8) {
            hs_mat x = mat_new(1, n, n, FILL_SIGNED, 1), by = mat_new(1, n, n, FILL_SIGNED, 2);
            hs_mat want = mat_new(1, n, n, FILL_SIGNED, 1);
            k->scale(x.data, by.data, NULL, n);
            for (int64_t j = 0; j < n; j++)
                want.data[j] *= by.data[j];
            mat_check_same_bits(&x, &want, "scale");
            k->scale(x.data, NULL, by.data, n);
            for (int64_t j = 0; j < n; j++)
                want.data[j] += by.data[j];
            mat_check_same_bits(&x, &want, "scale by nothing and add");
            k->scale(x.data, by.data, want.data, n);
            for (int64_t j = 0; j < n; j++) {
                const float product = want.data[j] * by.data[j];
                want.data[j] += product;
            }
            mat_check_same_bits(&x, &want, "scale and add");
            k->divide(by.data, x.data, 0.37f, n);
            k->divide(x.data, x.data, -3.1f, n);
            for (int64_t j = 0; j < n; j++) {
                assert_true(by.data[j] == want.data[j] / 0.37f);
                want.data[j] /= -3.1f;
            }
            mat_check_same_bits(&x, &want, "divide in place");
            const float t = x.data[n / 2];
            x.data[n / 3] = n > 2 ? NAN : x.data[n / 3];
            for (int or_equal = 0; or_equal < 2; or_equal++) {
                uint64_t mask[4] = {~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0)};
                k->above(mask, x.data, n, t, or_equal);
                for (int64_t j = 0; j < (n + 63) / 64 * 64; j++) {
                    const bool bit = (mask[j / 64] >> (j % 64)) & 1;
                    assert_true(bit == (j < n && (or_equal ? x.data[j] >= t : x.data[j] > t)));
                }
            }
            hs_free(x.data);
            hs_free(by.data);
            hs_free(want.data);
        }
    }
}

static void kth_case(int isa, int64_t n, int64_t k, const float *norm, const float *bias)
{
    const hs_cpu_kernels *kernels = hs_cpu_kernels_at(isa), *ref = hs_cpu_kernels_at(0);
    const int64_t ld = HS_KTH_LANES + 3;
    hs_mat x = mat_new(n, HS_KTH_LANES, ld, FILL_SIGNED, (unsigned)(n + k));
    float got[HS_KTH_LANES], want[HS_KTH_LANES];
    for (int64_t j = 0; j < n; j += 5) {
        x.data[j * ld + j % HS_KTH_LANES] = NAN;
        x.data[j * ld + (j + 1) % HS_KTH_LANES] = j % 2 ? -INFINITY : 0.5f; /* some are equal */
        x.data[j * ld + 7] = NAN;
    }
    kernels->kth(got, x.data, ld, norm, bias, n, k);
    ref->kth(want, x.data, ld, norm, bias, n, k);
    assert_memory_equal(got, want, sizeof got);
    for (int64_t q = 0; q < HS_KTH_LANES; q++) {
        int64_t reach = 0, numbers = 0;
        for (int64_t j = 0; j < n; j++) {
            const float product = norm ? x.data[j * ld + q] * norm[j] : x.data[j * ld + q];
            const float y = bias ? product + bias[j] : product;
            reach += y >= got[q];
            numbers += y > -INFINITY;
        }
        assert_true(reach >= k || got[q] == -INFINITY);
        assert_true(numbers > 0 || got[q] == -INFINITY);
        assert_true(k > 1 || numbers == 0 || (reach >= 1 && got[q] > -INFINITY));
    }
    hs_free(x.data);
}

static void test_kth(void **state)
{
    (void)state;
    hs_mat norm = mat_new(1, 300, 300, FILL_SIGNED, 1), bias = mat_new(1, 300, 300, FILL_SIGNED, 2);
    for (int64_t j = 0; j < norm.cols; j++)
        norm.data[j] = fabsf(norm.data[j]) + 0.1f;
    FOR_EACH_ISA(isa)
    {
        for (int64_t n = 1; n <= 300; n += 1 + n / 6) {
            for (int64_t k = 1; k <= HS_KTH_GROUPS; k += 1 + k / 2) {
                kth_case(isa, n, k, NULL, NULL);
                kth_case(isa, n, k, norm.data, NULL);
                kth_case(isa, n, k, norm.data, bias.data);
            }
            kth_case(isa, n, HS_KTH_GROUPS, NULL, bias.data);
        }
    }
    hs_free(norm.data);
    hs_free(bias.data);
}

static void test_gather(void **state)
{
    (void)state;
    hs_device *dev = device_new(0, 2);
    hs_mat x = mat_new(9, 13, 15, FILL_SIGNED, 3), out = mat_out(40, 13, 14);
    int64_t row[40];
    for (int64_t r = 0; r < 40; r++)
        row[r] = r * 5 % 9;
    const hs_gather_args a = {.out = out, .x = x, .row = row};
    assert_int_equal(dev->table->gather(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    for (int64_t r = 0; r < 40; r++)
        check_same_bits(out.data + r * out.ld, x.data + row[r] * x.ld, 13, "gather");
    hs_free(x.data);
    hs_free(out.data);
    hs_device_close(dev);
}

static void test_l2_norm(void **state)
{
    (void)state;
    hs_device *dev = device_new(0, 2);
    hs_mat x = mat_new(37, 50, 51, FILL_SIGNED, 3), out = mat_out(37, 50, 53);
    for (int64_t c = 0; c < 50; c++) {
        x.data[c] = 0.0f;              /* norm 0: divided by eps */
        x.data[x.ld + c] *= 1e-9f;     /* below eps */
        x.data[2 * x.ld + c] *= 1e30f; /* the squares leave float's range */
    }
    const hs_l2_norm_args a = {.out = out, .x = x, .eps = 1e-6f};
    assert_int_equal(dev->table->l2_norm(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    for (int64_t r = 0; r < 37; r++) {
        double sum = 0;
        for (int64_t c = 0; c < 50; c++)
            sum += (double)x.data[r * x.ld + c] * (double)x.data[r * x.ld + c];
        for (int64_t c = 0; c < 50; c++) {
            const double want = (double)x.data[r * x.ld + c] / fmax(sqrt(sum), (double)1e-6f);
            check_near((double)out.data[r * out.ld + c], want, 3 * ROUNDING * fabs(want), dev->isa, "l2_norm", r, c);
        }
    }
    const hs_l2_norm_args in_place = {.out = x, .x = x, .eps = 1e-6f};
    assert_int_equal(dev->table->l2_norm(dev, &in_place, NULL), HSTU_OK);
    mat_check_same_bits(&out, &x, "l2_norm in place");
    hs_free(x.data);
    hs_free(out.data);
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silu), cmocka_unit_test(test_silu_tile_masks),
        cmocka_unit_test(test_bias_row), cmocka_unit_test(test_softmax), cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_norm_gate), cmocka_unit_test(test_scale_and_above), cmocka_unit_test(test_kth),
        cmocka_unit_test(test_gather), cmocka_unit_test(test_l2_norm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
