/* GELU over the whole range of floats, against double: every instruction set within the contract's bound, and those in vectors
 * with the same bits. */
#include "device/kernel_test.h"

enum { N = 4096, STEP = TEST_SANITIZED ? 40961 : 1021 };

static double gelu_exact(double z)
{
    return 0.5 * z * erfc(-z * 0.70710678118654752440);
}

static void check_values(const float *z)
{
    float got[2][N];
    const float *vectors = NULL;
    FOR_EACH_ISA(isa)
    {
        const hs_cpu_kernels *k = hs_cpu_kernels_at(isa);
        const bool is_ref = strcmp(k->isa, "ref") == 0;
        float *y = got[!is_ref && !vectors];
        k->finish(y, z, NULL, NULL, HS_ACT_GELU, false, N);
        for (int i = 0; i < N; i++) {
            if (isnan(z[i]))
                assert_true(isnan(y[i]));
            else if (isfinite(z[i]))
                check_near((double)y[i], gelu_exact((double)z[i]), 2 * ROUNDING * fabs((double)z[i]) + 0x1p-149, k->isa,
                    "gelu", 0, i);
        }
        if (vectors)
            check_same_bits(y, vectors, N, k->isa);
        else if (!is_ref)
            vectors = y;
    }
}

static void test_range(void **state)
{
    (void)state;
    static float z[N];
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        for (int i = 0; i < N; i++, bits += STEP) {
            const uint32_t word = bits <= UINT32_MAX ? (uint32_t)bits : 0;
            memcpy(&z[i], &word, sizeof z[i]);
        }
        check_values(z);
    }
}

/* Where models compute. */
static void test_around_zero(void **state)
{
    (void)state;
    static float z[N];
    for (int part = -16; part < 16; part++) {
        for (int i = 0; i < N; i++)
            z[i] = (float)part + (float)i / (float)N;
        check_values(z);
    }
}

static void test_infinity(void **state)
{
    (void)state;
    const float z[2] = {INFINITY, -INFINITY};
    float y[2];
    FOR_EACH_ISA(isa)
    {
        hs_cpu_kernels_at(isa)->finish(y, z, NULL, NULL, HS_ACT_GELU, false, 2);
        assert_true(isinf(y[0]) && y[0] > 0);
        assert_true(isnan(y[1]) || fabsf(y[1]) < 1e-30f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range), cmocka_unit_test(test_around_zero), cmocka_unit_test(test_infinity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
