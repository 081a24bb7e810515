/* Attention of matrices of which some hold bfloat16 values and some float32 ones: the bits of float32 ones only. */
#include "kv_test.h"

enum { HISTORY = 75, OLD = 20, CANDIDATES = 9, ROWS = HISTORY - OLD + CANDIDATES, HEADS = 2, DV = 12 };

typedef struct mixed_case {
    hs_mat q, k, v; /* the history's, then the candidates' */
    kv_pages pages;
    bool softmax, bf16;
} mixed_case;

/* Bits of mix: q, own_k, own_v and out are stored. */
static void run(hs_device *dev, int isa, const mixed_case *c, int mix, hs_mat *out)
{
    static const int64_t offset[2] = {0, HISTORY - OLD}, candidates[2] = {0, CANDIDATES}, history = HISTORY;
    const int64_t rows = c->softmax ? HISTORY - OLD : ROWS;
    const hs_mat plain_k = hs_mat_rows(c->k, HISTORY, CANDIDATES), plain_v = hs_mat_rows(c->v, HISTORY, CANDIDATES);
    const hs_mat plain_q = hs_mat_rows(c->q, OLD, rows), plain_out = hs_mat_rows(*out, 0, rows);
    const hs_mat q = stored_new(isa, &plain_q, mix & 1), k = stored_new(isa, &plain_k, mix & 2);
    const hs_mat v = stored_new(isa, &plain_v, mix & 4), to = stored_new(isa, &plain_out, mix & 8);
    const hs_silu_attn_args silu = {.out = to,
        .q = q,
        .own_k = k,
        .own_v = v,
        .kv = c->pages.view,
        .users = {.n_users = 1, .offset = offset},
        .candidates = candidates,
        .history = &history,
        .alpha = 0.4f,
        .inv_n = 0.125f,
        .bf16 = c->bf16};
    const hs_softmax_attn_args softmax = {.out = to,
        .q = q,
        .kv = c->pages.view,
        .users = silu.users,
        .history = &history,
        .scale = 0.4f,
        .bf16 = c->bf16};
    assert_int_equal(
        c->softmax ? dev->table->softmax_attn(dev, &softmax, NULL) : dev->table->silu_attn(dev, &silu, NULL), HSTU_OK);
    stored_read(&to, &plain_out);
    const hs_mat *all[] = {&q, &k, &v, &to};
    for (int i = 0; i < 4; i++)
        stored_free(all[i]);
}

/* Softmax attention has no own_k and own_v; silu attention where all is stored has kernels of its own. */
static bool is_left_out(const mixed_case *c, int mix)
{
    return c->softmax ? mix & 6 : mix == 15 && c->bf16 && c->pages.view.shape.type == HS_BF16;
}

static void check_mixtures(int isa, const mixed_case *c)
{
    hs_device *dev[] = {device_new(isa, 1), device_new(isa, 3)};
    hs_mat want = mat_out(ROWS, HEADS * DV, HEADS * DV), got = mat_out(ROWS, HEADS * DV, HEADS * DV + 2);
    run(dev[0], isa, c, 0, &want);
    for (int mix = 1; mix < 16; mix++) {
        if (is_left_out(c, mix))
            continue;
        for (int d = 0; d < 2; d++) {
            run(dev[d], isa, c, mix, &got);
            mat_check_gaps(&got);
            for (int64_t r = 0; r < (c->softmax ? HISTORY - OLD : ROWS); r++) {
                for (int64_t o = 0; o < got.cols; o++) {
                    const float exact = want.data[r * want.ld + o], x = got.data[r * got.ld + o];
                    if (x != (mix & 8 ? to_bf16(exact) : exact))
                        fail_msg("%s, mixture %d, softmax %d, bf16 %d: [%d, %d] is %a, not %a", dev[d]->isa, mix,
                            c->softmax, c->bf16, (int)r, (int)o, (double)x, (double)exact);
                }
            }
        }
    }
    hs_free(want.data);
    hs_free(got.data);
    hs_device_close(dev[0]);
    hs_device_close(dev[1]);
}

static void mixtures(int isa, int64_t dqk)
{
    static const int64_t tokens[1] = {HISTORY}, start[1] = {0};
    for (int kind = 0; kind < 8; kind++) {
        const hs_kv_shape shape = {
            .type = kind & 1 ? HS_BF16 : HS_F32, .page_tokens = 32, .n_heads = HEADS, .dqk = dqk, .dv = DV};
        mixed_case c = {.softmax = kind & 2, .bf16 = kind & 4};
        c.q = bf16_mat_new(HISTORY + CANDIDATES, HEADS * dqk, HEADS * dqk + 1, FILL_SIGNED, 1);
        c.k = bf16_mat_new(HISTORY + CANDIDATES, HEADS * dqk, HEADS * dqk, FILL_SIGNED, 2);
        c.v = bf16_mat_new(HISTORY + CANDIDATES, HEADS * DV, HEADS * DV, FILL_SIGNED, 3);
        c.pages = kv_of(shape, &c.k, &c.v, start, tokens, 1);
        check_mixtures(isa, &c);
        kv_free(&c.pages);
        hs_free(c.q.data);
        hs_free(c.k.data);
        hs_free(c.v.data);
    }
}

/* Queries that are whole blocks of columns stay in place, others are copied. */
static void test_mixtures(void **state)
{
    (void)state;
    static const int64_t dqk[] = {7, 16, 48, 64};
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < sizeof dqk / sizeof *dqk; i++)
            mixtures(isa, dqk[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mixtures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
