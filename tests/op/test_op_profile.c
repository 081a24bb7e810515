/* The profile of operations: what is timed on devices that compute at once and on those that record, and what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "op/op_profile.h"

#include <math.h>
#include <string.h>

/* ---- which operations are timed ---------------------------------------------------------------------------------- */

static int n_done;

static hstu_status do_end(hs_device *dev, hs_mat result, hstu_error *err)
{
    (void)dev, (void)result, (void)err;
    n_done++;
    return HSTU_OK;
}

static hstu_status do_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    (void)dev, (void)a, (void)err;
    n_done++;
    return HSTU_OK;
}

static hstu_status do_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err)
{
    (void)dev, (void)a, (void)err;
    n_done++;
    return HSTU_EDEVICE;
}

static const hs_device_table TABLE = {.end = do_end, .gather = do_gather, .topk = do_topk};

static void ask_each(hs_device *dev)
{
    float x[4] = {0};
    const int64_t row = 0;
    hs_gather_args gather = {.out = hs_mat_of(x, 1, 2), .x = hs_mat_of(x + 2, 1, 2), .row = &row};
    hs_topk_args topk = {
        .query = hs_mat_of(x, 1, 2), .table = x, .table_type = HS_F32, .table_rows = 2, .n_candidates = 2};
    n_done = 0;
    assert_int_equal(hs_op_gather(dev, &gather, NULL), HSTU_OK);
    assert_int_equal(hs_op_topk(dev, &topk, NULL), HSTU_EDEVICE); /* what fails took its time too */
    assert_int_equal(hs_op_end(dev, (hs_mat){.data = NULL}, NULL), HSTU_OK);
    assert_int_equal(n_done, 3);
}

static void check_calls(const hs_profile *p, int64_t gather, int64_t topk, int64_t end)
{
    for (int s = 0; s < HS_N_STAGES; s++) {
        const int64_t expected = s == HS_STAGE_gather ? gather
                                 : s == HS_STAGE_topk ? topk
                                 : s == HS_STAGE_end  ? end
                                                      : 0;
        assert_int_equal(p->stage[s].calls, expected);
        assert_true(p->stage[s].seconds >= 0 && (expected > 0 || p->stage[s].seconds <= 0));
    }
    assert_true(p->stage[HS_STAGE_topk].flop == (double)(topk * 8));
}

static void test_timed(void **state)
{
    (void)state;
    hs_profile p = {0};
    hs_device dev = {.table = &TABLE, .name = "test", .isa = "test", .n_threads = 1};
    ask_each(&dev); /* without a profile */
    dev.profile = &p;
    ask_each(&dev);
    check_calls(&p, 1, 1, 0);
    ask_each(&dev);
    check_calls(&p, 2, 2, 0);
    dev.records = true;
    memset(&p, 0, sizeof p);
    ask_each(&dev);
    check_calls(&p, 0, 1, 1);
}

/* ---- what is counted --------------------------------------------------------------------------------------------- */

/* Pairs one by one, as device.h says which tokens a row sees. */
static double count_pairs(int64_t rows, int64_t history, int64_t n_context, int64_t candidates)
{
    double pairs = (double)(candidates * (history + 1));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t token = history - rows + r;
        for (int64_t j = 0; j < history; j++)
            pairs += j <= token || token < n_context;
    }
    return pairs;
}

static void test_attention(void **state)
{
    (void)state;
    static const int64_t rows[] = {5, 0, 1, 7, 3}, history[] = {5, 4, 9, 7, 11}, context[] = {3, 2, 2, 7, 10},
                         candidates[] = {0, 2, 1, 4, 0};
    enum { USERS = 5, HEADS = 3, DQK = 4, DV = 5 };
    int64_t offset[USERS + 1] = {0}, first[USERS + 1] = {0};
    double with = 0, without = 0;
    for (int u = 0; u < USERS; u++) {
        offset[u + 1] = offset[u] + rows[u];
        first[u + 1] = first[u] + candidates[u];
        with += count_pairs(rows[u], history[u], context[u], candidates[u]);
        without += count_pairs(rows[u], history[u], 0, 0);
    }
    const hs_kv_view kv = {.shape = {.n_heads = HEADS, .dqk = DQK, .dv = DV}};
    const hs_jagged users = {.n_users = USERS, .offset = offset};
    hs_silu_attn_args silu = {.kv = kv, .users = users, .history = history};
    const hs_softmax_attn_args softmax = {.kv = kv, .users = users, .history = history};
    const double pair = 2 * HEADS * (DQK + DV);
    assert_true(hs_op_silu_flop(&silu) == pair * without);
    assert_true(hs_op_softmax_flop(&softmax) == pair * without);
    silu.n_context = context;
    silu.candidates = first;
    assert_true(hs_op_silu_flop(&silu) == pair * with);
}

static void test_linear(void **state)
{
    (void)state;
    const hs_linear_args a[2] = {{.x = {.rows = 3, .cols = 4}, .out = {.rows = 3, .cols = 5}},
        {.x = {.rows = 2, .cols = 7}, .out = {.rows = 2, .cols = 1}}};
    assert_true(hs_op_linear_flop(a, 1) == 2 * 3 * 4 * 5);
    assert_true(hs_op_linear_flop(a, 2) == 2 * 3 * 4 * 5 + 2 * 2 * 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timed), cmocka_unit_test(test_attention), cmocka_unit_test(test_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
