/* Every allocation that the NPU's device makes fails once: told as such, nothing leaks, and the next pass is right. */
#include "npu_test.h"

#include "base/error.h"
#include "base/stamp.h"

#include "torture.h"

enum { HEADS = 2, DQK = 4, DV = 4, COLS = 8, PAST = 40, OWN = 5, ITEMS = 20 };

/* What a pass needs, all of it from before. */
typedef struct rig {
    const char *device;
    hs_device *dev; /* NULL: each time a new one */
    hs_dtype compute;
    kv_pages pages;
    uint64_t stamp[4];
    float vector[COLS], w[COLS * COLS], bias[63], row[OWN][COLS], x[OWN * COLS], y[OWN * COLS], out[COLS];
    float table[ITEMS * COLS];
    uint8_t bucket[OWN * (PAST + OWN)];
    hs_packed *weight;
} rig;

static void open_rig(rig *r, const char *device, hs_dtype compute)
{
    static const int64_t room = PAST + OWN;
    const hs_kv_shape shape = {.type = HS_F32, .page_tokens = 32, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    uint64_t random = 5;
    *r = (rig){.device = device, .compute = compute};
    r->pages = kv_new(shape, &room, 1);
    for (int i = 0; i < COLS; i++)
        r->vector[i] = random_f32(&random, FILL_SIGNED);
    for (int i = 0; i < COLS * COLS; i++)
        r->w[i] = random_f32(&random, FILL_SIGNED);
    for (int i = 0; i < 63; i++)
        r->bias[i] = random_f32(&random, FILL_SIGNED);
    for (int i = 0; i < OWN * COLS; i++)
        r->row[i / COLS][i % COLS] = random_f32(&random, FILL_SIGNED);
    for (int i = 0; i < ITEMS * COLS; i++)
        r->table[i] = random_f32(&random, FILL_SIGNED);
    for (int64_t j = 0; j < PAST; j++)
        kv_put(&r->pages, 0, j, r->w, r->w + COLS);
    for (int i = 0; i < 4; i++)
        r->stamp[i] = hs_stamp_next();
    r->pages.view.stamp = r->stamp;
}

static void ignore_stage(void *ctx, const char *name, hs_mat m)
{
    *(float *)ctx = name[0] == 's' ? m.data[0] : 0;
}

/* Attention with a bias of one user's rows, and the newest of them. */
static hstu_status attend(rig *r, hs_device *dev, const world *w, hs_mat x, hs_mat y, hstu_error *err)
{
    static const int64_t zero, cols = PAST + OWN;
    const hs_jagged users = {.n_users = 1, .offset = w->offset};
    const hs_rel_bias bias = {.position_w = r->bias,
        .n = 32,
        .time_w = r->vector,
        .n_buckets = COLS - 1,
        .bucket = r->bucket,
        .bucket_offset = &zero,
        .bucket_cols = &cols};
    const hs_kv_write_args write = {.kv = r->pages.view, .k = x, .v = x, .users = users, .position = w->past};
    const hs_silu_attn_args attn = {.out = y,
        .q = x,
        .kv = r->pages.view,
        .users = users,
        .history = w->tokens,
        .alpha = 1.0f,
        .inv_n = 0.1f,
        .bias = &bias};
    HS_TRY(dev->table->kv_write(dev, &write, err));
    return dev->table->silu_attn(dev, &attn, err);
}

static hstu_status run_pass(rig *r, hs_device *dev, hstu_error *err)
{
    static const int64_t past = PAST, own = OWN, newest = OWN - 1;
    const hs_device_table *t = dev->table;
    const world w = world_of(1, &past, &own, NULL);
    const hs_pass_rows rows = world_rows(&w);
    const void *row[OWN];
    float seen = 0;
    for (int i = 0; i < OWN; i++)
        row[i] = r->row[i];
    const hs_mat x = hs_mat_of(r->x, OWN, COLS), y = hs_mat_of(r->y, OWN, COLS), out = hs_mat_of(r->out, 1, COLS);
    const hs_embed_args embed = {.out = x, .row = row, .row_type = HS_F32, .scale = 1.0f};
    const hs_layer_norm_args norm = {.out = y, .x = y, .weight = r->vector, .bias = r->vector, .eps = 1e-6f};
    const hs_linear_args linear = {.out = y, .x = y, .w = r->weight, .bias = r->vector};
    const hs_show_args show = {.m = y, .name = "stage", .stage = ignore_stage, .ctx = &seen};
    const hs_gather_args gather = {.out = out, .x = y, .row = &newest};
    HS_TRY(t->begin(dev, &rows, err));
    HS_TRY(t->embed(dev, &embed, err));
    HS_TRY(attend(r, dev, &w, x, y, err));
    HS_TRY(t->layer_norm(dev, &norm, err));
    HS_TRY(t->linear(dev, &linear, 1, err));
    HS_TRY(t->show(dev, &show, err));
    HS_TRY(t->gather(dev, &gather, err));
    HS_TRY(t->end(dev, out, err));
    return HSTU_OK;
}

static hstu_status search(rig *r, hs_device *dev, hstu_error *err)
{
    int64_t item[3];
    float score[3];
    const hs_topk_args a = {.query = hs_mat_of(r->out, 1, COLS),
        .table = r->table,
        .table_rows = ITEMS,
        .n_candidates = ITEMS,
        .k = 3,
        .item = item,
        .score = score};
    return dev->table->topk(dev, &a, err);
}

/* Opens a device and a lane beside it, and runs passes on both. */
static hstu_status whole_life(void *ctx, hstu_error *err)
{
    rig *r = ctx;
    hs_device *dev = NULL, *lane = NULL;
    const hs_device_options options = {.name = r->device, .threads = 1, .compute = r->compute, .max_graphs = 1};
    HS_TRY(hs_device_open(&dev, &options, err));
    hstu_status status = HSTU_OK;
    r->weight = NULL;
    HS_TRY_GOTO(dev->table->pack(dev, &r->weight, r->w, HS_F32, COLS, COLS, COLS, 1, err));
    HS_TRY_GOTO(hs_device_join(&lane, dev, 1, err));
    HS_TRY_GOTO(run_pass(r, dev, err));
    HS_TRY_GOTO(run_pass(r, lane, err));
    HS_TRY_GOTO(search(r, lane, err));
fail:
    hs_device_close(lane);
    if (r->weight)
        dev->table->pack_free(r->weight);
    hs_device_close(dev);
    return status;
}

static void check_whole_life(const char *device, hs_dtype compute, long at_least)
{
    static rig r;
    open_rig(&r, device, compute);
    torture(whole_life, &r, at_least);
    kv_free(&r.pages);
}

static void test_recording(void **state)
{
    (void)state;
    check_whole_life("onnx", HS_F32, 60);
    check_whole_life("onnx", HS_F16, 60);
}

static void test_running(void **state)
{
    (void)state;
    if (!npu_is_missing())
        check_whole_life("ort-cpu", HS_F32, 100);
}

/* One device lives through all failures: each time other rows, so that something is made anew. */
static void test_living_on(void **state)
{
    (void)state;
    static rig r;
    hstu_error err;
    float expected[COLS];
    const char *const device = npu_is_missing() ? "onnx" : "ort-cpu";
    open_rig(&r, device, HS_F32);
    r.dev = npu_open(device, HS_F32, 1);
    assert_ok(r.dev->table->pack(r.dev, &r.weight, r.w, HS_F32, COLS, COLS, COLS, 1, &err), &err);
    assert_ok(run_pass(&r, r.dev, &err), &err);
    memcpy(expected, r.out, sizeof expected);
    for (long n = 1, failed = 1; failed; n++) {
        hs_device *dev = NULL;
        assert_ok(hs_device_join(&dev, r.dev, 1, &err), &err);
        torture_left = n;
        const hstu_status status = run_pass(&r, dev, &err);
        failed = torture_left == 0;
        torture_left = 0;
        assert_int_equal(status, failed ? HSTU_ENOMEM : HSTU_OK);
        for (int i = 0; i < 2; i++) {
            memset(r.out, 0xff, sizeof r.out);
            assert_ok(run_pass(&r, dev, &err), &err);
            assert_memory_equal(r.out, expected, sizeof expected);
        }
        hs_device_close(dev);
    }
    r.dev->table->pack_free(r.weight);
    hs_device_close(r.dev);
    kv_free(&r.pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recording),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_living_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
