/* Candidates under SiLU attention: none of them changes what others, or the history, get; nor does a head. */
#include "attn_test.h"

/* A candidate's result is the same alone as among others, and so is the history's without candidates. */
static void test_candidates_apart(void **state)
{
    (void)state;
    enum { HISTORY = 37, CANDIDATES = 11 };
    for (int kind = 0; kind < 3; kind++) { /* float32, bfloat16, such values stored */
        attn_case c = {.users = {.n = 1, .length = {HISTORY + CANDIDATES}, .context = {4}, .candidates = {CANDIDATES}},
            .n_heads = 2,
            .dqk = 8,
            .dv = 8,
            .alpha = 0.35f,
            .inv_n = 0.01f,
            .bf16 = kind > 0,
            .stored = kind == 2,
            .page_tokens = 32,
            .page_type = kind > 0 ? HS_BF16 : HS_F32};
        case_new(&c, FILL_SIGNED);
        FOR_EACH_ISA(isa)
        {
            hs_device *dev = device_new(isa, 2);
            hs_mat all = run(dev, isa, &c);
            for (int64_t keep = -1; keep < CANDIDATES; keep++) {
                attn_case few = c;
                few.offset[1] = few.users.length[0] = few.q.rows = few.k.rows = few.v.rows = HISTORY + (keep >= 0);
                few.users.candidates[0] = keep >= 0;
                hs_mat *m[] = {&few.q, &few.k, &few.v};
                for (int i = 0; i < 3; i++) {
                    float *copy = hs_alloc((size_t)((HISTORY + 1) * m[i]->ld), sizeof *copy);
                    assert_non_null(copy);
                    memcpy(copy, m[i]->data, (size_t)(HISTORY * m[i]->ld) * sizeof *copy);
                    memcpy(copy + HISTORY * m[i]->ld, m[i]->data + (HISTORY + (keep > 0 ? keep : 0)) * m[i]->ld,
                        (size_t)m[i]->cols * sizeof *copy);
                    m[i]->data = copy;
                }
                hs_mat out = run(dev, isa, &few);
                for (int64_t i = 0; i < HISTORY; i++)
                    check_same_bits(out.data + i * out.ld, all.data + i * all.ld, out.cols, "history");
                if (keep >= 0)
                    check_same_bits(out.data + HISTORY * out.ld, all.data + (HISTORY + keep) * all.ld, out.cols,
                        "a candidate alone");
                hs_free(out.data);
                for (int i = 0; i < 3; i++)
                    hs_free(m[i]->data);
            }
            hs_free(all.data);
            hs_device_close(dev);
        }
        case_free(&c);
    }
}

static attn_case poison_case(bool stored, int64_t dqk)
{
    attn_case c = {.users = {.n = 1, .length = {30}, .context = {3}, .candidates = {10}},
        .n_heads = 2,
        .dqk = dqk,
        .dv = 8,
        .alpha = 0.35f,
        .inv_n = 0.01f,
        .bf16 = stored,
        .stored = stored,
        .page_tokens = 32,
        .page_type = stored ? HS_BF16 : HS_F32};
    case_new(&c, FILL_SIGNED);
    return c;
}

/* A candidate that is not finite spoils itself alone. */
static void candidate_poisons(int isa, bool stored)
{
    attn_case c = poison_case(stored, 8);
    hs_device *dev = device_new(isa, 1);
    hs_mat before = run(dev, isa, &c);
    for (int64_t o = 0; o < 16; o++)
        c.q.data[24 * c.q.ld + o] = c.k.data[24 * c.k.ld + o] = c.v.data[24 * c.v.ld + o] = NAN;
    hs_mat after = run(dev, isa, &c);
    for (int64_t i = 0; i < 30; i++) {
        if (i != 24)
            check_same_bits(before.data + i * before.ld, after.data + i * after.ld, before.cols, "another row");
    }
    assert_true(isnan(after.data[24 * after.ld]));
    hs_free(before.data);
    hs_free(after.data);
    hs_device_close(dev);
    case_free(&c);
}

/* And a head that is not finite spoils no other, though its columns are neighbours. */
static void head_poisons(int isa, bool stored, int64_t dqk)
{
    attn_case c = poison_case(stored, dqk);
    hs_device *dev = device_new(isa, 1);
    hs_mat before = run(dev, isa, &c);
    for (int64_t i = 0; i < 30; i++) {
        for (int64_t t = dqk; t < 2 * dqk; t++)
            c.q.data[i * c.q.ld + t] = c.k.data[i * c.k.ld + t] = i % 2 ? INFINITY : NAN;
    }
    hs_mat after = run(dev, isa, &c);
    for (int64_t i = 0; i < 30; i++) {
        check_same_bits(before.data + i * before.ld, after.data + i * after.ld, c.dv, "another head");
        assert_true(isnan(after.data[i * after.ld + c.dv]));
    }
    hs_free(before.data);
    hs_free(after.data);
    hs_device_close(dev);
    case_free(&c);
}

static void test_poison(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int stored = 0; stored < (hs_cpu_kernels_at(isa)->pairs ? 2 : 1); stored++) {
            candidate_poisons(isa, stored);
            head_poisons(isa, stored, 5);
            head_poisons(isa, stored, 8);
            head_poisons(isa, stored, 32);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_candidates_apart), cmocka_unit_test(test_poison)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
