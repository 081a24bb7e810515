/* What the NPU's device declines to record, each with a sentence; and a pass as an ONNX file. No runtime is needed for either. */
#include "npu_test.h"

#include "base/mapfile.h"
#include "base/outfile.h"

#include <stdio.h>
#include <unistd.h>

enum { HEADS = 2, DQK = 4, DV = 3 };

static void expect_failure(play *p, hstu_status status, const char *part)
{
    assert_int_equal(status, HSTU_EDEVICE);
    assert_int_equal(p->err.code, HSTU_EDEVICE);
    if (!strstr(p->err.msg, part))
        fail_msg("expected '%s' in: %s", part, p->err.msg);
}

static hstu_status norm(play *p, hs_mat x, hs_mat out)
{
    return p->dev->table->l2_norm(p->dev, &(hs_l2_norm_args){.x = x, .out = out, .eps = 1e-6f}, &p->err);
}

/* ---- matrices ---------------------------------------------------------------------------------------------------------- */

static void test_reading(void **state)
{
    (void)state;
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const world w = world_of(2, NULL, (const int64_t[]){3, 2}, (const int64_t[]){2, 2});
    play p;
    play_begin(&p, dev, &w, 1);
    const hs_mat x = play_bring(&p, 6, 1.0f, false), y = play_mat(&p, w.n, 6, 0);
    expect_failure(&p, norm(&p, y, y), "nothing of the pass has been written there");
    expect_failure(&p, dev->table->end(dev, y, &p.err), "nothing of the pass has been written there");
    expect_failure(&p, norm(&p, hs_mat_rows(x, 1, 3), y), "neither a pass's history nor its candidates");
    expect_failure(&p, norm(&p, hs_mat_rows(x, 0, 4), y), "neither a pass's history nor its candidates");
    assert_ok(norm(&p, hs_mat_rows(x, 0, 5), hs_mat_rows(x, 0, 5)), &p.err);
    expect_failure(&p, norm(&p, x, y), "only a part of it has been written");
    assert_ok(norm(&p, hs_mat_rows(x, 5, 4), hs_mat_rows(x, 5, 4)), &p.err);
    expect_failure(&p, norm(&p, x, y), "only a part of it has been written");
    assert_ok(norm(&p, hs_mat_rows(x, 5, 4), hs_mat_rows(y, 5, 4)), &p.err);
    hs_mat odd = hs_mat_rows(x, 0, 5);
    odd.ld--;
    expect_failure(&p, norm(&p, odd, y), "only a part of it has been written");
    hs_mat wide = hs_mat_rows(x, 0, 5);
    wide.cols++;
    expect_failure(&p, norm(&p, wide, y), "only a part of it has been written");
    play_free(&p);
    hs_device_close(dev);
}

/* Rows that are written are as many as those that are read. */
static void test_writing(void **state)
{
    (void)state;
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const world w = world_of(2, NULL, (const int64_t[]){3, 2}, NULL);
    play p;
    play_begin(&p, dev, &w, 1);
    const hs_mat x = play_bring(&p, 6, 1.0f, false), y = play_mat(&p, w.n + 1, 6, 0);
    expect_failure(&p, norm(&p, x, y), "expected a matrix of 5 rows, found 6");
    const float zero[6] = {0};
    const void *const row[] = {zero, zero, zero, zero, zero};
    const hs_embed_args again = {.out = hs_mat_cols(x, 1, 4), .row = row, .row_type = HS_F32, .scale = 1.0f};
    expect_failure(&p, dev->table->embed(dev, &again, &p.err), "where they are until the end");
    play_free(&p);
    hs_device_close(dev);
}

/* ---- passes ------------------------------------------------------------------------------------------------------------------ */

static void test_outside(void **state)
{
    (void)state;
    static const char outside[] = "outside a pass";
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const world w = world_of(1, NULL, (const int64_t[]){3}, NULL);
    play p = {.dev = dev};
    const hs_mat none = {.data = NULL};
    expect_failure(&p, dev->table->end(dev, none, &p.err), outside);
    play_begin(&p, dev, &w, 1);
    const hs_mat x = play_bring(&p, 6, 1.0f, false);
    play_end(&p, x);
    expect_failure(&p, norm(&p, x, x), outside);
    expect_failure(&p, dev->table->end(dev, none, &p.err), outside); /* and not once more what was there */
    expect_failure(&p, dev->table->end(dev, x, &p.err), outside);
    play_free(&p);
    play_begin(&p, dev, &w, 1); /* one that is not ended is forgotten */
    (void)play_bring(&p, 6, 1.0f, false);
    play_free(&p);
    play_begin(&p, dev, &w, 1);
    play_end(&p, none);
    assert_int_equal(npu_stats(dev).n_graphs, 1);
    play_free(&p);
    hs_device_close(dev);
}

static void expect_too_large(hs_device *dev, int64_t past, int64_t own, int64_t candidates, int64_t n_users)
{
    play p = {.dev = dev};
    int64_t *offset = hs_calloc((size_t)n_users + 1, sizeof *offset),
            *asked = hs_calloc((size_t)n_users + 1, sizeof *asked);
    int64_t *before = hs_calloc((size_t)n_users, sizeof *before);
    assert_true(offset && asked && before);
    for (int64_t b = 0; b < n_users; b++) {
        offset[b + 1] = offset[b] + own;
        asked[b + 1] = asked[b] + candidates;
        before[b] = past;
    }
    const hs_pass_rows rows = {
        .users = {.n_users = n_users, .offset = offset}, .past = before, .candidates = candidates ? asked : NULL};
    expect_failure(&p, dev->table->begin(dev, &rows, &p.err), "too large for a graph");
    expect_failure(&p, dev->table->end(dev, (hs_mat){.data = NULL}, &p.err), "outside a pass");
    hs_free(offset);
    hs_free(asked);
    hs_free(before);
}

/* Places are 32-bit numbers. */
static void test_sizes(void **state)
{
    (void)state;
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    expect_too_large(dev, INT64_C(1) << 24, 1, 0, 1);
    expect_too_large(dev, 0, INT64_C(1) << 24, 0, 1);
    expect_too_large(dev, INT64_C(1) << 23, INT64_C(1) << 23, 0, 1);
    expect_too_large(dev, 0, 1 << 20, 0, 4096);
    expect_too_large(dev, 0, 1, INT64_C(1) << 31, 1);
    hs_device_close(dev);
}

static void test_gather(void **state)
{
    (void)state;
    static const char part[] = "each user's newest row";
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const world w = world_of(2, NULL, (const int64_t[]){3, 2}, NULL),
                empty = world_of(2, NULL, (const int64_t[]){3, 0}, NULL);
    play p;
    play_begin(&p, dev, &w, 1);
    const hs_mat x = play_bring(&p, 6, 1.0f, false), out = play_mat(&p, 2, 6, 0);
    const int64_t oldest[] = {0, 3}, newest[] = {2, 4};
    const hs_gather_args wrong = {.out = out, .x = x, .row = oldest};
    const hs_gather_args one = {.out = hs_mat_rows(out, 0, 1), .x = x, .row = newest};
    const hs_gather_args right = {.out = out, .x = x, .row = newest};
    expect_failure(&p, dev->table->gather(dev, &wrong, &p.err), part);
    expect_failure(&p, dev->table->gather(dev, &one, &p.err), part);
    assert_ok(dev->table->gather(dev, &right, &p.err), &p.err);
    play_free(&p);
    play_begin(&p, dev, &empty, 1); /* a user without rows has no newest one */
    const hs_mat y = play_bring(&p, 6, 1.0f, false);
    const int64_t others[] = {2, 2};
    const hs_gather_args stolen = {.out = play_mat(&p, 2, 6, 0), .x = y, .row = others};
    expect_failure(&p, dev->table->gather(dev, &stolen, &p.err), part);
    play_free(&p);
    hs_device_close(dev);
}

/* ---- attention ---------------------------------------------------------------------------------------------------------------- */

typedef struct scene {
    world w;
    kv_pages pages, other;
    hs_mat q, k, v, out;
    hs_kv_write_args write;
    hs_silu_attn_args silu;
} scene;

static void set_scene(scene *s, play *p, hs_device *dev)
{
    const hs_kv_shape shape = {.type = HS_F32, .page_tokens = 32, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    s->w = world_of(2, (const int64_t[]){5, 0}, (const int64_t[]){3, 2}, NULL);
    s->pages = kv_new(shape, s->w.tokens, 2);
    s->other = kv_new(shape, s->w.tokens, 2);
    play_begin(p, dev, &s->w, 1);
    s->q = play_bring(p, HEADS * DQK, 1.0f, false);
    s->k = play_bring(p, HEADS * DQK, 1.0f, false);
    s->v = play_bring(p, HEADS * DV, 1.0f, false);
    s->out = play_mat(p, s->w.n, HEADS * DV, 0);
    const hs_jagged users = {.n_users = 2, .offset = s->w.offset};
    s->write = (hs_kv_write_args){.kv = s->pages.view, .k = s->k, .v = s->v, .users = users, .position = s->w.past};
    s->silu = (hs_silu_attn_args){.out = s->out,
        .q = s->q,
        .kv = s->pages.view,
        .users = users,
        .history = s->w.tokens,
        .alpha = 1.0f,
        .inv_n = 0.1f};
}

static void clear_scene(scene *s, play *p)
{
    play_free(p);
    kv_free(&s->pages);
    kv_free(&s->other);
}

/* Keys and values are those of the pass's history, stored where attention looks. */
static void test_storing(void **state)
{
    (void)state;
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const hs_device_table *t = dev->table;
    scene s;
    play p;
    set_scene(&s, &p, dev);
    const int64_t some[] = {2, 2};
    hs_kv_write_args write = s.write;
    expect_failure(&p, t->silu_attn(dev, &s.silu, &p.err), "found no keys and values of its pass");
    write.position = NULL;
    expect_failure(&p, t->kv_write(dev, &write, &p.err), "stores the history rows of its pass");
    write.position = s.w.past;
    write.n_rows = some;
    expect_failure(&p, t->kv_write(dev, &write, &p.err), "stores the history rows of its pass");
    assert_ok(t->kv_write(dev, &s.write, &p.err), &p.err);
    hs_silu_attn_args elsewhere = s.silu;
    elsewhere.kv = s.other.view;
    expect_failure(&p, t->silu_attn(dev, &elsewhere, &p.err), "must read what was stored last");
    assert_ok(t->silu_attn(dev, &s.silu, &p.err), &p.err);
    play_end(&p, s.out);
    clear_scene(&s, &p);
    hs_device_close(dev);
}

/* What is one input of a graph cannot differ between layers. */
static void test_layers(void **state)
{
    (void)state;
    static const char part[] = "layers of one shape";
    hs_device *dev = npu_open("onnx", HS_F32, 0);
    const hs_device_table *t = dev->table;
    scene s;
    play p;
    set_scene(&s, &p, dev);
    const uint8_t bucket[64] = {0};
    const int64_t offset[] = {0, 24}, cols[] = {8, 2}, n_context[] = {1, 1};
    hs_rel_bias bias = {.position_w = play_values(&p, 19, 1.0f),
        .n = 10,
        .time_w = play_values(&p, 5, 1.0f),
        .n_buckets = 4,
        .bucket = bucket,
        .bucket_offset = offset,
        .bucket_cols = cols};
    assert_ok(t->kv_write(dev, &s.write, &p.err), &p.err);
    s.silu.bias = &bias;
    assert_ok(t->silu_attn(dev, &s.silu, &p.err), &p.err);
    s.silu.n_context = n_context;
    expect_failure(&p, t->silu_attn(dev, &s.silu, &p.err), part);
    s.silu.n_context = NULL;
    s.silu.kv.shape.n_heads = 1;
    expect_failure(&p, t->silu_attn(dev, &s.silu, &p.err), part);
    s.silu.kv.shape.n_heads = HEADS;
    bias.n = 9;
    expect_failure(&p, t->silu_attn(dev, &s.silu, &p.err), part);
    const hs_softmax_attn_args padded = {.out = s.out,
        .q = s.q,
        .kv = s.pages.view,
        .users = s.silu.users,
        .history = s.w.tokens,
        .scale = 1.0f,
        .padded_n = 10};
    expect_failure(&p, t->softmax_attn(dev, &padded, &p.err), "nothing from before");
    clear_scene(&s, &p);
    hs_device_close(dev);
}

/* ---- files -------------------------------------------------------------------------------------------------------------------- */

static bool holds(const hs_mapfile *file, const char *text)
{
    const char *data = (const char *)file->data;
    const size_t n = strlen(text);
    for (size_t i = 0; i + n <= file->size; i++) {
        if (memcmp(data + i, text, n) == 0)
            return true;
    }
    return false;
}

static void test_export(void **state)
{
    (void)state;
    hs_device *dev = npu_open("onnx", HS_F16, 0);
    const char *const names[] = {"embedding", "embedding_1", "limit_history", "past_place", "own_place", "past_key_0",
        "past_value_0", "key_0", "value_0", "result", "hstu_layout", "users 2, history 16, candidates 0, past 16"};
    char path[64];
    hs_outfile *file = NULL;
    hs_mapfile map;
    scene s;
    play p;
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_npu_%ld.onnx", (long)getpid());
    set_scene(&s, &p, dev);
    assert_ok(hs_outfile_open(&file, path, &p.err), &p.err);
    hs_npu_export(dev, file);
    assert_ok(dev->table->kv_write(dev, &s.write, &p.err), &p.err);
    assert_ok(dev->table->silu_attn(dev, &s.silu, &p.err), &p.err);
    play_end(&p, s.out);
    hs_npu_export(dev, NULL);
    assert_ok(hs_outfile_commit(file, &p.err), &p.err);
    for (int64_t i = 0; i < s.out.rows * s.out.cols; i++)
        assert_true(s.out.data[i] == 0.0f);
    assert_ok(hs_mapfile_open(&map, path, &p.err), &p.err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!holds(&map, names[i]))
            fail_msg("the file holds no '%s'", names[i]);
    }
    hs_mapfile_close(&map);
    assert_int_equal(remove(path), 0);
    const hs_npu_stats stats = npu_stats(dev);
    assert_int_equal(stats.n_graphs, 1);
    assert_int_equal(stats.n_runs, 0);
    assert_true(stats.n_nodes > 0);
    clear_scene(&s, &p);
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_storing),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_export),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
