/* Kernels over bfloat16 pairs: bit for bit against one chain of fused multiply-adds over the widened values. */
#include "bf16_test.h"

/* Sizes on both sides of every register tile (4, 6, 8 rows; 16 and 32 columns), odd and even sums. */
static const int64_t SIZES[][3] = {{1, 1, 1}, {1, 64, 33}, {2, 3, 15}, {3, 7, 16}, {4, 16, 17}, {5, 8, 31}, {6, 50, 32},
    {7, 13, 48}, {8, 64, 64}, {9, 5, 47}, {12, 17, 20}, {13, 100, 7}, {17, 31, 65}, {23, 257, 35}, {5, 0, 9}};

/* The word of pair (t, o); the missing odd neighbour of the last t is NaN. */
static uint32_t word_of(const hs_mat *b, int64_t t, int64_t o)
{
    const uint32_t odd = t + 1 < b->rows ? hs_f32_to_bf16(b->data[(t + 1) * b->ld + o]) : 0x7fc1;
    return hs_f32_to_bf16(b->data[t * b->ld + o]) | odd << 16;
}

static void gemm_case(int isa, const int64_t *size, bool packed)
{
    const hs_cpu_kernels *kernels = hs_cpu_kernels_at(isa);
    const int64_t rows = size[0], k = size[1], n = size[2], pairs = (k + 1) / 2;
    hs_mat a = mat_new(rows, k, k + 3, FILL_SIGNED, 11), b = bf16_mat_new(k, n, n + 2, FILL_SIGNED, 12);
    hs_mat c = mat_out(rows, n, n + 5), want = mat_out(rows, n, n);
    const int64_t ldb = packed ? HS_PANEL : n + 1, panel = packed ? HS_PANEL * pairs : HS_PANEL;
    const int64_t last = (n - 1) / HS_PANEL * panel + (pairs - 1) * ldb + (n - 1) % HS_PANEL;
    uint32_t *words = hs_alloc((size_t)(pairs ? last + 1 : 0), sizeof *words); /* exactly what may be read */
    assert_non_null(words);
    for (int64_t t = 0; t < k; t += 2) {
        for (int64_t o = 0; o < n; o++)
            words[o / HS_PANEL * panel + t / 2 * ldb + o % HS_PANEL] = word_of(&b, t, o);
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t o = 0; o < n; o++)
            want.data[i * n + o] = chain(a.data + i * a.ld, b.data + o, b.ld, k);
    }
    hs_gemm g = {.c = c.data,
        .ldc = c.ld,
        .a = a.data,
        .lda = a.ld,
        .b = words,
        .ldb = ldb,
        .panel = panel,
        .rows = rows,
        .k = k,
        .n = n};
    kernels->gemm_bf16(&g);
    mat_check_gaps(&c);
    mat_check_same_bits(&c, &want, "gemm_bf16 against one chain of fmaf");

    /* The same sum cut in two is the same chain. */
    g.k = k / 4 * 2;
    kernels->gemm_bf16(&g);
    g.a += g.k;
    g.b = words + g.k / 2 * ldb;
    g.k = k - g.k;
    g.accumulate = true;
    kernels->gemm_bf16(&g);
    mat_check_same_bits(&c, &want, "gemm_bf16 cut in two");
    mat_check_gaps(&c);
    hs_free(a.data);
    hs_free(b.data);
    hs_free(c.data);
    hs_free(want.data);
    hs_free(words);
}

static void test_gemm(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++) {
            gemm_case(isa, SIZES[s], true);
            gemm_case(isa, SIZES[s], false);
        }
    }
}

/* Every upper half of a float, with lower halves around the tie. */
static void test_pair(void **state)
{
    (void)state;
    const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    enum { N = 6 * 32 + 1 };
    FOR_EACH_ISA(isa)
    {
        for (uint32_t first = 0; first < 0x10000; first += 32) {
            const int64_t n = N - first / 32 % 17; /* every tail */
            float *even = hs_alloc((size_t)n, sizeof *even), *odd = hs_alloc((size_t)n, sizeof *odd);
            uint32_t *got = hs_alloc((size_t)n, sizeof *got), *alone = hs_alloc((size_t)n, sizeof *alone);
            assert_true(even && odd && got && alone);
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t bits = (first + i / 6) << 16 | lower[i % 6];
                memcpy(&even[i], &bits, sizeof bits);
                memcpy(&odd[n - 1 - i], &bits, sizeof bits);
            }
            hs_cpu_kernels_at(isa)->pair_bf16(got, even, odd, n);
            hs_cpu_kernels_at(isa)->pair_bf16(alone, even, NULL, n);
            for (int64_t i = 0; i < n; i++) {
                const uint32_t low = hs_f32_to_bf16(even[i]);
                assert_int_equal(got[i], low | (uint32_t)hs_f32_to_bf16(odd[i]) << 16);
                assert_int_equal(alone[i], low);
            }
            hs_free(even);
            hs_free(odd);
            hs_free(got);
            hs_free(alone);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gemm), cmocka_unit_test(test_pair)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
