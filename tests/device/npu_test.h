/* What the tests of the NPU's device share: passes of random shapes, put together call by call, and the same on another device. */
#ifndef HS_TESTS_DEVICE_NPU_TEST_H
#define HS_TESTS_DEVICE_NPU_TEST_H

#include "kv_test.h"

#include "base/arena.h"
#include "device/npu/npu_device.h"

#include <inttypes.h>

#define assert_ok(call, err)                                                                                           \
    do {                                                                                                               \
        if ((call) != HSTU_OK)                                                                                         \
            fail_msg("%s: %s", #call, (err)->msg);                                                                     \
    } while (0)

enum { NPU_TEST_SKIPPED = 77 }; /* what ctest calls skipped */

static inline hs_device *npu_open(const char *name, hs_dtype compute, int64_t max_graphs)
{
    hs_device *dev = NULL;
    hstu_error err = {.msg = ""};
    const hs_device_options options = {.name = name, .threads = 1, .compute = compute, .max_graphs = max_graphs};
    assert_ok(hs_device_open(&dev, &options, &err), &err);
    return dev;
}

/* Prints why nothing can run here, when no runtime is found. */
static inline bool npu_is_missing(void)
{
    hs_device *dev = NULL;
    hstu_error err = {.msg = ""};
    const hs_device_options options = {.name = "ort-cpu", .threads = 1, .compute = HS_F32};
    if (hs_device_open(&dev, &options, &err) == HSTU_ENOENT) {
        printf("SKIPPED: device ort-cpu: %s\n", err.msg);
        return true;
    }
    hs_device_close(dev);
    return false;
}

#define npu_main(tests) (npu_is_missing() ? NPU_TEST_SKIPPED : cmocka_run_group_tests(tests, NULL, NULL))

static inline hs_npu_stats npu_stats(const hs_device *dev)
{
    hs_npu_stats stats;
    hs_npu_get_stats(dev, &stats);
    return stats;
}

/* ---- the rows of a pass --------------------------------------------------------------------------------------------- */

enum { WORLD_USERS = 5 };

typedef struct world {
    int64_t n_users, n_history, n_candidates, n;
    int64_t offset[WORLD_USERS + 1], past[WORLD_USERS], candidates[WORLD_USERS + 1], tokens[WORLD_USERS];
    int64_t one[WORLD_USERS + 1], nothing[WORLD_USERS + 1], n_context[WORLD_USERS];
} world;

/* Users with these many tokens before the pass, in it, and candidates; NULL: none. */
static inline world world_of(int64_t n_users, const int64_t *past, const int64_t *own, const int64_t *candidates)
{
    world w = {.n_users = n_users};
    for (int64_t b = 0; b < n_users; b++) {
        w.past[b] = past ? past[b] : 0;
        w.offset[b + 1] = w.offset[b] + (own ? own[b] : 0);
        w.candidates[b + 1] = w.candidates[b] + (candidates ? candidates[b] : 0);
        w.tokens[b] = w.past[b] + (own ? own[b] : 0);
        w.one[b + 1] = b + 1;
    }
    w.n_history = w.offset[n_users];
    w.n_candidates = w.candidates[n_users];
    w.n = w.n_history + w.n_candidates;
    return w;
}

/* Up to so many of each; `everyone` has a history row in the pass. Never a pass without rows. */
static inline world world_new(uint64_t *random, int64_t past, int64_t own, int64_t candidates, bool everyone)
{
    int64_t before[WORLD_USERS], here[WORLD_USERS], asked[WORLD_USERS];
    for (;;) {
        const int64_t n_users = 1 + random_below(random, WORLD_USERS);
        for (int64_t b = 0; b < n_users; b++) {
            before[b] = random_below(random, 4) ? random_below(random, past + 1) : 0;
            here[b] = random_below(random, own + 1);
            here[b] += everyone && here[b] == 0;
            asked[b] = random_below(random, 3) ? random_below(random, candidates + 1) : 0;
        }
        world w = world_of(n_users, before, here, asked);
        for (int64_t b = 0; b < n_users; b++)
            w.n_context[b] = random_below(random, 6);
        if (w.n > 0)
            return w;
    }
}

static inline hs_pass_rows world_rows(const world *w)
{
    return (hs_pass_rows){.users = {.n_users = w->n_users, .offset = w->offset},
        .past = w->past,
        .candidates = w->n_candidates > 0 ? w->candidates : NULL};
}

/* ---- a pass ------------------------------------------------------------------------------------------------------------ */

/* Weights, which a device's graphs use for as long as it lives. */
typedef struct stock {
    hs_device *dev; /* whose all of them are */
    hs_arena vectors;
    hs_packed *packed[1024];
    int n_packed;
} stock;

static inline stock *stock_open(hs_device *dev)
{
    stock *s = hs_calloc(1, sizeof *s);
    assert_non_null(s);
    s->dev = dev;
    hs_arena_init(&s->vectors, SIZE_MAX / 4);
    return s;
}

/* Closes the device too. */
static inline void stock_close(stock *s)
{
    for (int i = 0; i < s->n_packed; i++)
        s->dev->table->pack_free(s->packed[i]);
    hs_device_close(s->dev);
    hs_arena_free(&s->vectors);
    hs_free(s);
}

/* A pass on one device. Equal seeds give equal values. */
typedef struct play {
    hs_device *dev;
    stock *stock; /* or NULL: the pass has no weights */
    const world *w;
    uint64_t random;
    hs_arena memory;
    hstu_error err;
} play;

static inline void *play_alloc(play *p, int64_t n, size_t size)
{
    void *data = hs_arena_alloc(&p->memory, (size_t)n, size);
    assert_non_null(data);
    return data;
}

static inline void play_begin(play *p, hs_device *dev, const world *w, uint64_t seed)
{
    *p = (play){.dev = dev, .w = w, .random = seed};
    hs_arena_init(&p->memory, SIZE_MAX / 4);
    const hs_pass_rows rows = world_rows(w);
    hs_pass_rows *kept = play_alloc(p, 1, sizeof *kept);
    *kept = rows;
    assert_ok(dev->table->begin(dev, kept, &p->err), &p->err);
}

static inline void play_end(play *p, hs_mat result)
{
    assert_ok(p->dev->table->end(p->dev, result, &p->err), &p->err);
}

static inline void play_free(play *p)
{
    hs_arena_free(&p->memory);
}

/* Not a number anywhere. */
static inline hs_mat play_mat(play *p, int64_t rows, int64_t cols, int64_t gap)
{
    hs_mat m = {
        .data = play_alloc(p, rows * (cols + gap), sizeof(float)), .rows = rows, .cols = cols, .ld = cols + gap};
    for (int64_t i = 0; i < rows * m.ld; i++)
        m.data[i] = NAN;
    return m;
}

static inline void randomise(play *p, float *v, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = scale * random_f32(&p->random, FILL_SIGNED);
}

static inline float *play_values(play *p, int64_t n, float scale)
{
    float *v = play_alloc(p, n, sizeof *v);
    randomise(p, v, n, scale);
    return v;
}

/* Of the model: it stays. */
static inline float *play_vector(play *p, int64_t n, float scale)
{
    float *v = hs_arena_alloc(&p->stock->vectors, (size_t)n, sizeof *v);
    assert_non_null(v);
    randomise(p, v, n, scale);
    return v;
}

/* Random values as a matrix of all rows of the pass, which an embedding brings in; `short_ones` are bfloat16 values. */
static inline hs_mat play_bring(play *p, int64_t cols, float scale, bool short_ones)
{
    const hs_mat m = play_mat(p, p->w->n, cols, 2);
    float *values = play_values(p, m.rows * cols, scale);
    const void **row = play_alloc(p, m.rows, sizeof *row);
    for (int64_t i = 0; short_ones && i < m.rows * cols; i++)
        values[i] = to_bf16(values[i]);
    for (int64_t r = 0; r < m.rows; r++)
        row[r] = values + r * cols;
    const hs_embed_args a = {.out = m, .row = row, .row_type = HS_F32, .scale = 1.0f};
    assert_ok(p->dev->table->embed(p->dev, &a, &p->err), &p->err);
    return m;
}

static inline const hs_packed *play_weight(play *p, int64_t in, int64_t n)
{
    stock *s = p->stock;
    const float *w = play_values(p, in * n, 1.0f / sqrtf((float)in));
    assert_true(s->n_packed < (int)(sizeof s->packed / sizeof *s->packed));
    hs_packed **packed = &s->packed[s->n_packed++];
    assert_ok(p->dev->table->pack(p->dev, packed, w, HS_F32, in, n, n, 1, &p->err), &p->err);
    return *packed;
}

/* Each user's newest history row. */
static inline hs_mat play_newest(play *p, hs_mat x)
{
    const hs_mat out = play_mat(p, p->w->n_users, x.cols, 1);
    int64_t *row = play_alloc(p, p->w->n_users, sizeof *row);
    for (int64_t b = 0; b < p->w->n_users; b++)
        row[b] = p->w->offset[b + 1] - 1;
    const hs_gather_args a = {.out = out, .x = hs_mat_rows(x, 0, p->w->n_history), .row = row};
    assert_ok(p->dev->table->gather(p->dev, &a, &p->err), &p->err);
    return out;
}

/* ---- two devices ------------------------------------------------------------------------------------------------------- */

typedef struct pair {
    hs_device *cpu, *npu;
    stock *of_cpu, *of_npu;
} pair;

static inline pair open_pair(hs_dtype compute)
{
    pair p = {.npu = npu_open("ort-cpu", compute, 0)};
    hstu_error err;
    assert_ok(hs_device_open(&p.cpu, &(hs_device_options){.name = "cpu", .threads = 1}, &err), &err);
    p.of_cpu = stock_open(p.cpu);
    p.of_npu = stock_open(p.npu);
    return p;
}

static inline void close_pair(const pair *p)
{
    stock_close(p->of_npu);
    stock_close(p->of_cpu);
}

/* ---- comparing --------------------------------------------------------------------------------------------------------- */

/* The largest difference, relative to the largest value. */
static inline double mat_distance(const hs_mat *got, const hs_mat *want)
{
    double most = 0, largest = 0;
    assert_int_equal(got->rows, want->rows);
    assert_int_equal(got->cols, want->cols);
    for (int64_t r = 0; r < want->rows; r++) {
        for (int64_t c = 0; c < want->cols; c++) {
            const double a = (double)got->data[r * got->ld + c], b = (double)want->data[r * want->ld + c];
            if (!isfinite(a) || !isfinite(b))
                return INFINITY;
            most = fmax(most, fabs(b));
            largest = fmax(largest, fabs(a - b));
        }
    }
    return most > 0 ? largest / most : largest;
}

static inline double tolerance_of(const hs_device *dev)
{
    return hs_npu_compute(dev) == HS_F16 ? 2e-2 : 1e-5;
}

#endif
