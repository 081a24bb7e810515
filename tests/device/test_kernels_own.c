/* A candidate's own term by the kernels that multiply bfloat16 values: against double, and that it reads nothing behind its
 * operands. */
#include "bf16_test.h"

enum { MOST = 200, BEHIND = 64 };

/* n values with `behind` in the BEHIND places after them. */
static uint16_t *halves_new(const float *x, int64_t n, uint16_t behind)
{
    uint16_t *half = hs_alloc((size_t)(n + BEHIND), sizeof *half);
    assert_non_null(half);
    for (int64_t i = 0; i < n + BEHIND; i++)
        half[i] = i < n ? hs_f32_to_bf16(x[i]) : behind;
    return half;
}

/* Exactly n, so that a sanitizer sees any access behind them. */
static uint16_t *exact_new(const float *x, int64_t n)
{
    uint16_t *half = hs_alloc((size_t)n, sizeof *half);
    assert_non_null(half);
    for (int64_t i = 0; i < n; i++)
        half[i] = hs_f32_to_bf16(x[i]);
    return half;
}

static void own_run(int isa, const uint16_t *q, const uint16_t *k, const uint16_t *v, const hs_mat *sum, int64_t dqk)
{
    const hs_pair_own o = {.sum = sum->data, .q = q, .k = k, .v = v, .dqk = dqk, .dv = sum->cols, .alpha = 0.6f};
    hs_cpu_kernels_at(isa)->pairs->own(&o);
}

/* silu's slope is below 1.1 everywhere. */
static void check_own(
    int isa, const hs_mat *q, const hs_mat *k, const hs_mat *v, const hs_mat *start, const hs_mat *got)
{
    double dot = 0, terms = 0;
    for (int64_t t = 0; t < q->cols; t++) {
        dot += (double)q->data[t] * (double)k->data[t];
        terms += fabs((double)q->data[t] * (double)k->data[t]);
    }
    const double want = silu_exact((double)0.6f * dot);
    const double error = 1.1 * 0.6 * (double)(q->cols + 8) * ROUNDING * terms + ldexp(fabs(want), -16) + ldexp(1, -100);
    const float low = to_bf16((float)(want - error)), high = to_bf16((float)(want + error)); /* mostly equal */
    for (int64_t o = 0; o < got->cols; o++) {
        const float a = fmaf(low, v->data[o], start->data[o]), b = fmaf(high, v->data[o], start->data[o]);
        if (!(got->data[o] >= fminf(a, b) && got->data[o] <= fmaxf(a, b)))
            fail_msg("%s own, dqk %d, dv %d: [%d] is %a, not %a .. %a", hs_cpu_kernels_at(isa)->isa, (int)q->cols,
                (int)got->cols, (int)o, (double)got->data[o], (double)a, (double)b);
    }
}

static void own_case(int isa, int64_t dqk, int64_t dv, fill kind)
{
    const uint64_t seed = (uint64_t)(dqk * 1000 + dv);
    hs_mat q = bf16_mat_new(1, dqk, dqk, kind, seed + 1), k = bf16_mat_new(1, dqk, dqk, kind, seed + 2);
    hs_mat v = bf16_mat_new(1, dv, dv, kind, seed + 3), start = mat_new(1, dv, dv, FILL_SIGNED, seed + 4);
    hs_mat got = mat_new(1, dv, dv, FILL_SIGNED, seed + 4);
    uint16_t *exact_q = exact_new(q.data, dqk), *exact_k = exact_new(k.data, dqk), *exact_v = exact_new(v.data, dv);
    own_run(isa, exact_q, exact_k, exact_v, &got, dqk);
    check_own(isa, &q, &k, &v, &start, &got);
    static const uint16_t behind[] = {0, 0xffff, 0x7f80, 0x4000}; /* zeros, NaN, infinity, 2 */
    for (int i = 0; i < 4; i++) {
        hs_mat again = mat_new(1, dv, dv, FILL_SIGNED, seed + 4);
        uint16_t *half[] = {halves_new(q.data, dqk, behind[i]), halves_new(k.data, dqk, behind[3 - i]),
            halves_new(v.data, dv, behind[i])};
        own_run(isa, half[0], half[1], half[2], &again, dqk);
        mat_check_same_bits(&again, &got, "a candidate's own term with something behind its operands");
        for (int h = 0; h < 3; h++)
            hs_free(half[h]);
        hs_free(again.data);
    }
    hs_free(exact_q);
    hs_free(exact_k);
    hs_free(exact_v);
    hs_mat *all[] = {&q, &k, &v, &start, &got};
    for (int i = 0; i < 5; i++)
        hs_free(all[i]->data);
}

static void test_own(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t d = 1; hs_cpu_kernels_at(isa)->pairs && d <= MOST; d++) {
            own_case(isa, d, d, FILL_SIGNED);
            own_case(isa, d, (d * 37 + 11) % MOST + 1, FILL_POSITIVE); /* large weights */
        }
    }
}

/* Queries and keys of opposite signs: negative weights, down to those that are nearly 0. */
static void test_own_negative(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t d = 1; hs_cpu_kernels_at(isa)->pairs && d <= MOST; d += 13) {
            hs_mat q = bf16_mat_new(1, d, d, FILL_POSITIVE, 1), k = bf16_mat_new(1, d, d, FILL_POSITIVE, 2);
            hs_mat v = bf16_mat_new(1, 40, 40, FILL_SIGNED, 3), start = mat_new(1, 40, 40, FILL_SIGNED, 4);
            hs_mat got = mat_new(1, 40, 40, FILL_SIGNED, 4);
            for (int64_t t = 0; t < d; t++)
                k.data[t] = -k.data[t];
            uint16_t *half[] = {exact_new(q.data, d), exact_new(k.data, d), exact_new(v.data, 40)};
            own_run(isa, half[0], half[1], half[2], &got, d);
            check_own(isa, &q, &k, &v, &start, &got);
            for (int h = 0; h < 3; h++)
                hs_free(half[h]);
            hs_mat *all[] = {&q, &k, &v, &start, &got};
            for (int i = 0; i < 5; i++)
                hs_free(all[i]->data);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own), cmocka_unit_test(test_own_negative)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
