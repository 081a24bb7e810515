/* Compiled passes of the NPU's device: when one is used again, which goes first, and lanes that share them. */
#include "npu_test.h"

#include <pthread.h>

enum { COLS = 12, HEADS = 2, DQK = 3, DV = 3, LANES = 4 };

/* What all lanes use. */
typedef struct shared {
    hs_packed *weight;
    float norm[COLS];
} shared;

/* A history of one user: `own` tokens of zeros and ones behind `past` of them in pages, if any; what comes out is known. */
static hstu_status run_pass(
    hs_device *dev, const shared *s, const kv_pages *pages, int64_t past, int64_t own, float out[], hstu_error *err)
{
    const hs_device_table *t = dev->table;
    const world w = world_of(1, &past, &own, NULL);
    const hs_pass_rows rows = world_rows(&w);
    float value[COLS], x[64 * COLS], y[64 * COLS];
    const void *row[64];
    for (int i = 0; i < COLS; i++)
        value[i] = (float)(i % 2);
    for (int64_t r = 0; r < own; r++)
        row[r] = value;
    const hs_mat in = hs_mat_of(x, own, COLS), made = hs_mat_of(y, own, COLS), result = hs_mat_of(out, own, COLS);
    const hs_embed_args embed = {.out = in, .row = row, .row_type = HS_F32, .scale = 1.0f};
    const hs_layer_norm_args norm = {.out = made, .x = in, .weight = s->norm, .eps = 1e-6f};
    hs_mat attended = hs_mat_cols(made, 0, HEADS * DV);
    const hs_jagged users = {.n_users = 1, .offset = w.offset};
    const hs_silu_attn_args attn = {.out = attended,
        .q = hs_mat_cols(in, 0, HEADS * DQK),
        .kv = pages->view,
        .users = users,
        .history = w.tokens,
        .alpha = 1.0f,
        .inv_n = 1.0f};
    const hs_kv_write_args write = {.kv = pages->view,
        .k = hs_mat_cols(in, 0, HEADS * DQK),
        .v = hs_mat_cols(in, HEADS * DQK, HEADS * DV),
        .users = users,
        .position = w.past};
    const hs_linear_args last = {.out = result, .x = attended, .w = s->weight};
    hstu_status status = t->begin(dev, &rows, err);
    status = status == HSTU_OK ? t->embed(dev, &embed, err) : status;
    status = status == HSTU_OK ? t->kv_write(dev, &write, err) : status;
    status = status == HSTU_OK ? t->layer_norm(dev, &norm, err) : status;
    status = status == HSTU_OK ? t->silu_attn(dev, &attn, err) : status;
    status = status == HSTU_OK ? t->linear(dev, &last, 1, err) : status;
    return status == HSTU_OK ? t->end(dev, result, err) : status;
}

/* All tokens are alike: row r sums past + r + 1 times silu(n_ones) * value. */
static bool is_right(const float out[], int64_t past, int64_t own)
{
    for (int64_t r = 0; r < own; r++) {
        for (int c = 0; c < COLS; c++) {
            double want = 0;
            for (int h = 0; h < HEADS; h++) {
                double same = 0;
                for (int i = 0; i < DQK; i++)
                    same += (h * DQK + i) % 2;
                for (int o = 0; o < DV; o++)
                    want += (double)(past + r + 1) * silu_exact(same) * ((HEADS * DQK + h * DV + o) % 2) *
                            (double)(h * DV + o == c % (HEADS * DV));
            }
            if (!(fabs((double)out[r * COLS + c] - want) <= 1e-4 * (1 + fabs(want))))
                return false;
        }
    }
    return true;
}

static void fill_pages(kv_pages *pages)
{
    static const int64_t room = 256;
    float k[HEADS * DQK], v[HEADS * DV];
    const hs_kv_shape shape = {.type = HS_F32, .page_tokens = 64, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    *pages = kv_new(shape, &room, 1);
    for (int i = 0; i < HEADS * DQK; i++)
        k[i] = (float)(i % 2);
    for (int i = 0; i < HEADS * DV; i++)
        v[i] = (float)((HEADS * DQK + i) % 2);
    for (int64_t j = 0; j < room; j++)
        kv_put(pages, 0, j, k, v);
}

static void open_shared(shared *s, hs_device *dev)
{
    float w[HEADS * DV * COLS];
    hstu_error err;
    for (int i = 0; i < HEADS * DV; i++) {
        for (int c = 0; c < COLS; c++)
            w[i * COLS + c] = (float)(i == c % (HEADS * DV));
    }
    for (int c = 0; c < COLS; c++)
        s->norm[c] = 1.0f;
    assert_ok(dev->table->pack(dev, &s->weight, w, HS_F32, HEADS * DV, COLS, COLS, 1, &err), &err);
}

static void expect_pass(hs_device *dev, const shared *s, const kv_pages *pages, int64_t past, int64_t own)
{
    float out[64 * COLS];
    hstu_error err;
    assert_ok(run_pass(dev, s, pages, past, own, out, &err), &err);
    if (!is_right(out, past, own))
        fail_msg("%d tokens behind %d: wrong", (int)own, (int)past);
}

static void expect_counts(const hs_device *dev, int64_t graphs, int64_t compiled, int64_t evicted)
{
    const hs_npu_stats stats = npu_stats(dev);
    assert_int_equal(stats.n_graphs, graphs);
    assert_int_equal(stats.n_compiled, compiled);
    assert_int_equal(stats.n_evicted, evicted);
    assert_true(graphs > 0 ? stats.n_nodes >= 10 * graphs : stats.n_nodes == 0);
}

/* ---- one lane ------------------------------------------------------------------------------------------------------------ */

static void test_buckets(void **state)
{
    (void)state;
    hs_device *dev = npu_open("ort-cpu", HS_F32, 0);
    shared s;
    kv_pages pages;
    open_shared(&s, dev);
    fill_pages(&pages);
    expect_counts(dev, 0, 0, 0);
    expect_pass(dev, &s, &pages, 0, 2);
    expect_pass(dev, &s, &pages, 0, 16);
    expect_counts(dev, 1, 1, 0);
    expect_pass(dev, &s, &pages, 0, 17);
    expect_pass(dev, &s, &pages, 0, 1);
    expect_counts(dev, 3, 3, 0);
    expect_pass(dev, &s, &pages, 2, 16);
    expect_pass(dev, &s, &pages, 16, 3);
    expect_counts(dev, 4, 4, 0);
    hs_npu_stats stats = npu_stats(dev);
    assert_int_equal(stats.n_runs, 6);
    assert_true(stats.compile_s > 0 && stats.run_s > 0 && stats.bytes_in > 0 && stats.bytes_out > 0);
    hs_npu_reset_stats(dev);
    stats = npu_stats(dev);
    assert_true(stats.n_runs == 0 && stats.bytes_in == 0 && stats.bytes_out == 0 && stats.n_copies == 0);
    expect_counts(dev, 4, 4, 0);
    dev->table->pack_free(s.weight);
    hs_device_close(dev);
    kv_free(&pages);
}

/* The one that was not used for the longest time goes. */
static void check_eviction(int64_t max_graphs)
{
    hs_device *dev = npu_open("ort-cpu", HS_F32, max_graphs);
    shared s;
    kv_pages pages;
    open_shared(&s, dev);
    fill_pages(&pages);
    expect_pass(dev, &s, &pages, 0, 16);
    expect_pass(dev, &s, &pages, 20, 32);
    expect_counts(dev, max_graphs == 1 ? 1 : 2, 2, max_graphs == 1 ? 1 : 0);
    expect_pass(dev, &s, &pages, 0, 16);
    const int64_t compiled = npu_stats(dev).n_compiled;
    assert_int_equal(compiled, max_graphs == 1 ? 3 : 2);
    expect_pass(dev, &s, &pages, 20, 48); /* instead of the second */
    expect_counts(dev, max_graphs, compiled + 1, compiled + 1 - max_graphs);
    expect_pass(dev, &s, &pages, 0, 16);
    assert_int_equal(npu_stats(dev).n_compiled, max_graphs == 1 ? compiled + 2 : compiled + 1);
    expect_pass(dev, &s, &pages, 20, 32);
    expect_counts(dev, max_graphs, npu_stats(dev).n_compiled, npu_stats(dev).n_compiled - max_graphs);
    dev->table->pack_free(s.weight);
    hs_device_close(dev);
    kv_free(&pages);
}

static void test_eviction(void **state)
{
    (void)state;
    check_eviction(1);
    check_eviction(2);
}

static void test_max_graphs(void **state)
{
    (void)state;
    hs_device *dev = NULL;
    hstu_error err;
    const hs_device_options options = {.name = "onnx", .compute = HS_F32, .max_graphs = -1};
    assert_int_equal(hs_device_open(&dev, &options, &err), HSTU_EINVAL);
    assert_null(dev);
    assert_non_null(strstr(err.msg, "must be 0 (64) or more, but is -1"));
}

/* Graphs are made and kept, results are zeros, and nothing runs. */
static void test_compile_only(void **state)
{
    (void)state;
    hs_device *dev = npu_open("ort-cpu", HS_F32, 0);
    shared s;
    kv_pages pages;
    float out[16 * COLS];
    hstu_error err;
    open_shared(&s, dev);
    fill_pages(&pages);
    hs_npu_compile_only(dev, true);
    assert_ok(run_pass(dev, &s, &pages, 0, 16, out, &err), &err);
    for (int i = 0; i < 16 * COLS; i++)
        assert_true(out[i] == 0.0f);
    expect_counts(dev, 1, 1, 0);
    assert_int_equal(npu_stats(dev).n_runs, 0);
    hs_npu_compile_only(dev, false);
    expect_pass(dev, &s, &pages, 0, 16);
    expect_counts(dev, 1, 1, 0);
    assert_int_equal(npu_stats(dev).n_runs, 1);
    dev->table->pack_free(s.weight);
    hs_device_close(dev);
    kv_free(&pages);
}

/* ---- many lanes ------------------------------------------------------------------------------------------------------------ */

typedef struct lane {
    hs_device *dev;
    const shared *s;
    kv_pages pages;
    uint64_t random;
    int passes, wrong;
    hstu_error err;
} lane;

static void *run_lane(void *ctx)
{
    static const int64_t past[] = {0, 40, 90}, own[] = {1, 16, 40};
    lane *l = ctx;
    float out[64 * COLS];
    for (int i = 0; i < l->passes && !l->wrong; i++) {
        const int64_t before = past[random_below(&l->random, 3)], n = own[random_below(&l->random, 3)];
        l->wrong = run_pass(l->dev, l->s, &l->pages, before, n, out, &l->err) != HSTU_OK ? 1
                   : !is_right(out, before, n)                                           ? 2
                                                                                         : 0;
    }
    return NULL;
}

/* Lanes come and go while others run. */
static void check_lanes(int64_t max_graphs)
{
    hs_device *dev = npu_open("ort-cpu", HS_F32, max_graphs);
    shared s;
    lane l[LANES];
    pthread_t thread[LANES];
    kv_pages pages;
    open_shared(&s, dev);
    fill_pages(&pages);
    for (int i = 0; i < LANES; i++) {
        l[i] = (lane){.s = &s, .random = (uint64_t)i, .passes = TEST_SANITIZED ? 20 : 60, .err = {.msg = ""}};
        fill_pages(&l[i].pages);
        assert_ok(hs_device_join(&l[i].dev, dev, 1, &l[i].err), &l[i].err);
        assert_string_equal(l[i].dev->isa, dev->isa);
        assert_int_equal(pthread_create(&thread[i], NULL, run_lane, &l[i]), 0);
    }
    for (int i = 0; i < 20; i++)
        expect_pass(dev, &s, &pages, 0, 1 + i);
    for (int i = 0; i < LANES; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (l[i].wrong)
            fail_msg("lane %d: %s", i, l[i].wrong == 1 ? l[i].err.msg : "wrong");
        assert_int_equal(npu_stats(l[i].dev).n_runs, l[i].passes);
        hs_device_close(l[i].dev);
        kv_free(&l[i].pages);
    }
    const hs_npu_stats stats = npu_stats(dev);
    assert_true(stats.n_graphs <= max_graphs);
    assert_int_equal(stats.n_compiled - stats.n_evicted, stats.n_graphs);
    if (max_graphs == 64)
        assert_in_range(stats.n_compiled, 9, 10);
    assert_int_equal(stats.n_runs, 20);
    dev->table->pack_free(s.weight);
    hs_device_close(dev);
    kv_free(&pages);
}

static void test_lanes(void **state)
{
    (void)state;
    check_lanes(64);
    check_lanes(2);
    check_lanes(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_max_graphs),
        cmocka_unit_test(test_compile_only),
        cmocka_unit_test(test_lanes),
    };
    return npu_main(tests);
}
