/* Each operation on rows that the NPU's device records, on ONNX Runtime's own provider, against the CPU's, over random shapes. */
#include "npu_test.h"

/* A pass that answers with `out`, which lives in play's memory; `kind` of a case, and its number. */
typedef hs_mat (*work)(play *p, int kind);

/* The same work on both devices; seeds alone decide over values. */
static void compare(const pair *devices, const world *w, work fn, int kind, uint64_t seed, const char *what)
{
    play ours, theirs;
    play_begin(&ours, devices->npu, w, seed);
    ours.stock = devices->of_npu;
    const hs_mat got = fn(&ours, kind);
    play_begin(&theirs, devices->cpu, w, seed);
    theirs.stock = devices->of_cpu;
    const hs_mat want = fn(&theirs, kind);
    const double distance = mat_distance(&got, &want);
    if (!(distance <= tolerance_of(devices->npu)))
        fail_msg("%s %d, seed %" PRIu64 ": %d users, %d history rows, %d candidates: off by %.3g", what, kind, seed,
            (int)w->n_users, (int)w->n_history, (int)w->n_candidates, distance);
    play_free(&ours);
    play_free(&theirs);
}

/* ---- operations on rows ------------------------------------------------------------------------------------------------ */

/* All rows, or the history's, or the candidates', as chance will have it. */
static hs_mat some_rows(play *p, hs_mat m)
{
    const int64_t choice = random_below(&p->random, 3), first = choice == 2 ? p->w->n_history : 0;
    const int64_t rows = choice == 0 ? p->w->n : choice == 1 ? p->w->n_history : p->w->n_candidates;
    return rows > 0 ? hs_mat_rows(m, first, rows) : m;
}

static hs_mat run_layer_norm(play *p, int kind)
{
    const hs_mat x = hs_mat_cols(play_bring(p, 21, 3.0f, false), 4, 13), y = play_bring(p, 13, 1.0f, false);
    const uint64_t random = p->random; /* the same rows of both */
    hs_layer_norm_args a = {.x = some_rows(p, x), .eps = kind % 2 ? 1e-6f : 1e-3f};
    p->random = random;
    a.add = kind & 2 ? some_rows(p, y) : a.add;
    a.weight = kind & 4 ? play_vector(p, 13, 1.0f) : NULL;
    a.bias = kind & 8 ? play_vector(p, 13, 1.0f) : NULL;
    a.out = kind % 3 ? a.x : play_mat(p, a.x.rows, 13, 3);
    assert_ok(p->dev->table->layer_norm(p->dev, &a, &p->err), &p->err);
    play_end(p, a.out);
    return a.out;
}

static hs_mat run_norm_gate(play *p, int kind)
{
    const hs_mat wide = some_rows(p, play_bring(p, 30, 2.0f, false));
    hs_norm_gate_args a = {.u = hs_mat_cols(wide, 0, 11), .o = hs_mat_cols(wide, 17, 11), .eps = 1e-5f};
    a.weight = kind & 1 ? play_vector(p, 11, 1.0f) : NULL;
    a.bias = kind & 2 ? play_vector(p, 11, 1.0f) : NULL;
    a.concat = (kind & 4) != 0;
    a.out = play_mat(p, wide.rows, a.concat ? 33 : 11, 0);
    assert_ok(p->dev->table->norm_gate(p->dev, &a, &p->err), &p->err);
    play_end(p, a.out);
    return a.out;
}

/* Several layers at once, and one behind them that reads what they wrote and writes where its residual is. */
static hs_mat run_linear(play *p, int kind)
{
    const int64_t n = 1 + kind % HS_LINEAR_MOST;
    const hs_mat x = some_rows(p, play_bring(p, 19, 1.0f, false));
    hs_linear_args a[HS_LINEAR_MOST] = {{.act = HS_ACT_NONE}};
    for (int64_t i = 0; i < n; i++) {
        a[i] = (hs_linear_args){.x = hs_mat_cols(x, i, 12), .w = play_weight(p, 12, 9)};
        a[i].out = play_mat(p, x.rows, 9, i);
        a[i].bias = (kind + i) % 2 ? play_vector(p, 9, 1.0f) : NULL;
        a[i].act = (hs_activation)((kind / 2 + i) % 4);
    }
    assert_ok(p->dev->table->linear(p->dev, a, n, &p->err), &p->err);
    const hs_linear_args last = {.x = a[n - 1].out,
        .w = play_weight(p, 9, 9),
        .out = a[0].out,
        .residual = n > 1 ? a[0].out : (hs_mat){.data = NULL},
        .act = HS_ACT_SILU};
    hs_linear_args other = last;
    other.out = n > 1 ? last.out : play_mat(p, x.rows, 9, 0);
    assert_ok(p->dev->table->linear(p->dev, &other, 1, &p->err), &p->err);
    play_end(p, other.out);
    return other.out;
}

/* Rows of very different sizes, and one of zeros. */
static hs_mat run_l2_norm(play *p, int kind)
{
    static const float scale[] = {1.0f, 1e-3f, 500.0f, 0.0f};
    const hs_mat x = some_rows(p, play_bring(p, 40, scale[kind % 4], false));
    const hs_l2_norm_args a = {
        .x = x, .out = kind & 1 ? x : play_mat(p, x.rows, 40, 1), .eps = kind & 2 ? 1e-3f : 1e-6f};
    assert_ok(p->dev->table->l2_norm(p->dev, &a, &p->err), &p->err);
    play_end(p, a.out);
    return a.out;
}

static hs_mat run_gather(play *p, int kind)
{
    const hs_mat x = play_bring(p, 14, 1.0f, false), newest = play_newest(p, hs_mat_cols(x, kind % 5, 9));
    const hs_linear_args a = {
        .x = newest, .w = play_weight(p, 9, 9), .out = newest, .residual = newest, .act = HS_ACT_RELU};
    assert_ok(p->dev->table->linear(p->dev, &a, 1, &p->err), &p->err);
    play_end(p, newest);
    return newest;
}

static const struct {
    work fn;
    const char *name;
    bool everyone;
} operations[] = {{run_layer_norm, "layer_norm", false}, {run_norm_gate, "norm_gate", false},
    {run_linear, "linear", false}, {run_l2_norm, "l2_norm", false}, {run_gather, "gather", true}};

static void check_rows(hs_dtype compute)
{
    const pair devices = open_pair(compute);
    uint64_t random = 7;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        for (int kind = 0; kind < (TEST_SANITIZED ? 8 : 24); kind++) {
            const world w = world_new(&random, 40, 40, kind % 3 ? 20 : 0, operations[i].everyone);
            compare(&devices, &w, operations[i].fn, kind, 1000 * i + (uint64_t)kind, operations[i].name);
        }
    }
    assert_true(npu_stats(devices.npu).n_runs > 0);
    close_pair(&devices);
}

static void test_rows_f32(void **state)
{
    (void)state;
    check_rows(HS_F32);
}

static void test_rows_f16(void **state)
{
    (void)state;
    check_rows(HS_F16);
}

/* ---- matrices that are shown ------------------------------------------------------------------------------------------------- */

typedef struct shown {
    int n;
    float first[2];
} shown;

static void take_stage(void *ctx, const char *name, hs_mat m)
{
    shown *s = ctx;
    assert_string_equal(name, s->n == 0 ? "before" : "after");
    s->first[s->n++] = m.data[0];
}

/* Each stage shows what the matrix held then, although both lie in the same place. */
static void test_show(void **state)
{
    (void)state;
    const pair devices = open_pair(HS_F32);
    const world w = world_of(2, NULL, (const int64_t[]){3, 4}, NULL);
    hs_device *const dev[] = {devices.cpu, devices.npu};
    shown seen[2] = {{.n = 0}};
    for (int i = 0; i < 2; i++) {
        play p;
        char name[16] = "before";
        play_begin(&p, dev[i], &w, 3);
        const hs_mat x = play_bring(&p, 8, 1.0f, false);
        const hs_show_args before = {.m = x, .name = name, .stage = take_stage, .ctx = &seen[i]};
        const hs_show_args after = {.m = x, .name = "after", .stage = take_stage, .ctx = &seen[i]};
        const hs_l2_norm_args norm = {.x = x, .out = x, .eps = 1e-6f};
        assert_ok(dev[i]->table->show(dev[i], &before, &p.err), &p.err);
        memset(name, 0, sizeof name); /* it was copied */
        assert_ok(dev[i]->table->l2_norm(dev[i], &norm, &p.err), &p.err);
        assert_ok(dev[i]->table->show(dev[i], &after, &p.err), &p.err);
        play_end(&p, (hs_mat){.data = NULL});
        assert_int_equal(seen[i].n, 2);
        play_free(&p);
    }
    assert_true(seen[0].first[0] == seen[1].first[0]);
    check_near((double)seen[1].first[1], (double)seen[0].first[1], 1e-6, "ort-cpu", "after", 0, 0);
    close_pair(&devices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_f32),
        cmocka_unit_test(test_rows_f16),
        cmocka_unit_test(test_show),
    };
    return npu_main(tests);
}
