/* Layers whose results are keys and values, stored by the call that computes them: the pages are those that kv_write fills from
 * their results, byte by byte, and what is not stored stands in out. */
#include "kv_test.h"

enum { USERS = 5, IN = 96, MOST_ROWS = 600 };

typedef struct store_case {
    hs_kv_shape shape;
    int64_t rows[USERS], n_rows[USERS], position[USERS]; /* of n_rows those are stored */
    int64_t behind;                                      /* rows behind the users' */
    bool half, mixed;                                    /* matrices hold bfloat16 values; but for out of v */
    /* made of these: */
    int64_t offset[USERS + 1], tokens[USERS], all;
    hs_mat x;
    hs_packed *wk, *wv, *wq;
} store_case;

static hs_packed *weight_new(hs_device *dev, const store_case *c, int64_t n, uint64_t seed)
{
    hs_packed *w = NULL;
    hs_mat values = bf16_mat_new(IN, n, n, FILL_SIGNED, seed);
    assert_int_equal(dev->table->pack(dev, &w, values.data, c->half ? HS_BF16 : HS_F32, IN, n, n, 1, NULL), HSTU_OK);
    hs_free(values.data);
    return w;
}

static hs_mat out_new(int isa, const store_case *c, int64_t cols, bool half)
{
    hs_mat values = mat_out(c->all, cols, cols + 3);
    const hs_mat out = stored_new(isa, &values, half);
    if (out.bf16)
        hs_free(values.data);
    return out;
}

static const void *row_of(const hs_mat *m, int64_t row)
{
    return m->bf16 ? (const void *)(m->half + row * m->ld) : (const void *)(m->data + row * m->ld);
}

static bool is_stored(const store_case *c, int64_t row)
{
    for (int b = 0; b < USERS; b++) {
        if (row >= c->offset[b] && row < c->offset[b + 1])
            return row - c->offset[b] < c->n_rows[b];
    }
    return false;
}

static void check_out(const store_case *c, const hs_mat *got, const hs_mat *want, bool all, const char *what)
{
    const size_t bytes = (size_t)want->cols * (want->bf16 ? sizeof *want->half : sizeof *want->data);
    for (int64_t r = 0; r < c->all; r++) {
        if ((all || !is_stored(c, r)) && memcmp(row_of(got, r), row_of(want, r), bytes) != 0)
            fail_msg("%s: row %d differs", what, (int)r);
    }
}

typedef enum way { BEHIND, STORED, STORED_ONLY, N_WAYS } way;

static kv_pages run(hs_device *dev, const store_case *c, hs_mat k, hs_mat v, hs_mat q, way how)
{
    const kv_pages pages = kv_new(c->shape, c->tokens, USERS);
    const int64_t n = c->offset[USERS];
    const hs_kv_write_args stored = {.kv = pages.view,
        .k = hs_mat_rows(k, 0, n),
        .v = hs_mat_rows(v, 0, n),
        .users = {.n_users = USERS, .offset = c->offset},
        .n_rows = c->n_rows,
        .position = c->position};
    hs_linear_args a[] = {{.out = v, .x = c->x, .w = c->wv}, {.out = k, .x = c->x, .w = c->wk, .act = HS_ACT_SILU},
        {.out = q, .x = c->x, .w = c->wq}};
    for (int i = 0; i < 3; i++) {
        a[i].bf16 = c->half;
        a[i].stored = how != BEHIND && i < 2 ? &stored : NULL;
        a[i].stored_only = how == STORED_ONLY;
    }
    assert_int_equal(dev->table->linear(dev, a, 3, NULL), HSTU_OK);
    if (how == BEHIND)
        assert_int_equal(dev->table->kv_write(dev, &stored, NULL), HSTU_OK);
    return pages;
}

static void out_free(hs_mat *m)
{
    hs_free(m->bf16 ? (void *)m->half : (void *)m->data);
}

static void check_ways(hs_device *dev, int isa, const store_case *c)
{
    const int64_t qk = c->shape.n_heads * c->shape.dqk, dv = c->shape.n_heads * c->shape.dv;
    hs_mat k[N_WAYS], v[N_WAYS], q[N_WAYS];
    kv_pages pages[N_WAYS];
    for (int how = 0; how < N_WAYS; how++) {
        k[how] = out_new(isa, c, qk, c->half);
        v[how] = out_new(isa, c, dv, c->half && !c->mixed);
        q[how] = out_new(isa, c, qk, c->half);
        pages[how] = run(dev, c, k[how], v[how], q[how], (way)how);
        check_out(c, &k[how], &k[BEHIND], how == STORED, "keys");
        check_out(c, &v[how], &v[BEHIND], how == STORED, "values");
        check_out(c, &q[how], &q[BEHIND], true, "queries");
        for (int64_t i = 0; i < pages[how].n_pages; i++) {
            const char *got = pages[how].page[i], *want = pages[BEHIND].page[i];
            if (got && memcmp(got, want, hs_kv_layer_bytes(&c->shape)) != 0)
                fail_msg("%s, heads of %d and %d, way %d: page %d differs", dev->isa, (int)c->shape.dqk,
                    (int)c->shape.dv, how, (int)i);
        }
    }
    for (int how = 0; how < N_WAYS; how++) {
        out_free(&k[how]);
        out_free(&v[how]);
        out_free(&q[how]);
        kv_free(&pages[how]);
    }
}

static void check_case(int isa, store_case *c)
{
    c->offset[0] = 0;
    for (int b = 0; b < USERS; b++) {
        c->offset[b + 1] = c->offset[b] + c->rows[b];
        c->tokens[b] = c->position[b] + c->n_rows[b];
    }
    c->all = c->offset[USERS] + c->behind;
    hs_mat x = bf16_mat_new(c->all, IN, IN, FILL_SIGNED, 7);
    c->x = stored_new(isa, &x, c->half);
    for (int threads = 1; threads <= 3; threads += 2) {
        hs_device *dev = device_new(isa, threads);
        c->wk = weight_new(dev, c, c->shape.n_heads * c->shape.dqk, 1);
        c->wv = weight_new(dev, c, c->shape.n_heads * c->shape.dv, 2);
        c->wq = weight_new(dev, c, c->shape.n_heads * c->shape.dqk, 3);
        check_ways(dev, isa, c);
        dev->table->pack_free(c->wk);
        dev->table->pack_free(c->wv);
        dev->table->pack_free(c->wq);
        hs_device_close(dev);
    }
    stored_free(&c->x);
    hs_free(x.data);
}

/* Users of any length, anywhere in their pages, of whom any number of rows is stored. */
static store_case random_case(uint64_t *state)
{
    static const int64_t widths[] = {16, 32, 48, 64, 80, 128};
    static const int64_t pages[] = {32, 64, 96, 256};
    store_case c = {.shape = {.n_heads = 1 + random_below(state, 4)}, .half = random_below(state, 8) != 0};
    c.shape.type = random_below(state, 8) == 0 ? HS_F32 : HS_BF16;
    c.shape.page_tokens = pages[random_below(state, 4)];
    c.shape.dqk = widths[random_below(state, 6)];
    c.shape.dv = widths[random_below(state, 6)];
    c.mixed = random_below(state, 8) == 0;
    c.behind = random_below(state, 3) * random_below(state, 90);
    for (int b = 0; b < USERS; b++) {
        c.rows[b] = random_below(state, 4) == 0 ? random_below(state, MOST_ROWS / USERS) : random_below(state, 70);
        c.n_rows[b] = random_below(state, 3) == 0 ? random_below(state, c.rows[b] + 1) : c.rows[b];
        c.position[b] = random_below(state, 3) * random_below(state, 130);
    }
    return c;
}

static void test_random(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        uint64_t random = 11;
        for (int i = 0; i < (!hs_cpu_kernels_at(isa)->pairs ? 3 : TEST_SANITIZED ? 8 : 16); i++) {
            store_case c = random_case(&random);
            check_case(isa, &c);
        }
    }
}

/* Pages of float32 values, which tasks do not fill with bfloat16 ones. */
static void test_float_pages(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        store_case c = {.shape = {.type = HS_F32, .page_tokens = 64, .n_heads = 2, .dqk = 32, .dv = 16},
            .rows = {100, 0, 31},
            .n_rows = {100, 0, 30},
            .position = {3},
            .behind = 5,
            .half = true};
        if (hs_cpu_kernels_at(isa)->pairs)
            check_case(isa, &c);
    }
}

/* Heads whose words and panels cuts between columns would split. */
static void test_odd_widths(void **state)
{
    (void)state;
    static const int64_t widths[][2] = {{5, 16}, {16, 5}, {24, 24}, {75, 25}};
    FOR_EACH_ISA(isa)
    {
        for (size_t i = 0; hs_cpu_kernels_at(isa)->pairs && i < sizeof widths / sizeof widths[0]; i++) {
            store_case c = {.rows = {100, 0, 31}, .n_rows = {100, 0, 30}, .position = {3}, .behind = 5, .half = true};
            c.shape = (hs_kv_shape){
                .type = HS_BF16, .page_tokens = 64, .n_heads = 30, .dqk = widths[i][0], .dv = widths[i][1]};
            check_case(isa, &c);
        }
    }
}

/* Cuts between tasks of 64 rows split pairs of values and panels of keys. */
static void test_cut_pairs(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int64_t first = 0; hs_cpu_kernels_at(isa)->pairs && first < 34; first += 5) {
            store_case c = {.shape = {.type = HS_BF16, .page_tokens = 96, .n_heads = 2, .dqk = 128, .dv = 64},
                .rows = {first, 200, 131},
                .n_rows = {first, 200, 131},
                .position = {1, first / 2, 40 - first},
                .behind = first % 2 * 20,
                .half = true};
            check_case(isa, &c);
        }
    }
}

/* One after the other: what an earlier call stored stays. */
static void test_appending(void **state)
{
    (void)state;
    enum { TOKENS = 150, DIMS = 32 };
    FOR_EACH_ISA(isa)
    {
        hs_device *dev = device_new(isa, 3);
        const hs_kv_shape shape = {.type = HS_BF16, .page_tokens = 64, .n_heads = 1, .dqk = DIMS, .dv = DIMS};
        store_case c = {.shape = shape, .half = true};
        const int64_t tokens[1] = {TOKENS};
        hs_mat x = bf16_mat_new(TOKENS, IN, IN, FILL_SIGNED, 7), stored = stored_new(isa, &x, true);
        c.wk = weight_new(dev, &c, DIMS, 1);
        c.wv = weight_new(dev, &c, DIMS, 2);
        c.all = TOKENS;
        hs_mat k = out_new(isa, &c, DIMS, true), v = out_new(isa, &c, DIMS, true);
        kv_pages whole = kv_new(shape, tokens, 1);
        for (int64_t step = TOKENS; step > 0; step = step / 3 - step / 100) {
            kv_pages pages = kv_new(shape, tokens, 1);
            for (int64_t at = 0, n; at < TOKENS; at += n) {
                n = TOKENS - at < step ? TOKENS - at : step;
                const int64_t offset[2] = {0, n};
                const hs_kv_write_args s = {.kv = step == TOKENS ? whole.view : pages.view,
                    .k = hs_mat_rows(k, 0, n),
                    .v = hs_mat_rows(v, 0, n),
                    .users = {.n_users = 1, .offset = offset},
                    .position = &at};
                const hs_mat some = hs_mat_rows(stored, at, n);
                const hs_linear_args a[] = {
                    {.out = s.k, .x = some, .w = c.wk, .bf16 = true, .stored = &s, .stored_only = true},
                    {.out = s.v, .x = some, .w = c.wv, .bf16 = true, .stored = &s, .stored_only = true}};
                assert_int_equal(dev->table->linear(dev, a, 2, NULL), HSTU_OK);
            }
            for (int64_t i = 0; step < TOKENS && i < hs_kv_pages(&shape, TOKENS); i++)
                assert_memory_equal(pages.page[i], whole.page[i], hs_kv_layer_bytes(&shape));
            kv_free(&pages);
        }
        kv_free(&whole);
        out_free(&k);
        out_free(&v);
        dev->table->pack_free(c.wk);
        dev->table->pack_free(c.wv);
        stored_free(&stored);
        hs_free(x.data);
        hs_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_float_pages),
        cmocka_unit_test(test_odd_widths), cmocka_unit_test(test_cut_pairs), cmocka_unit_test(test_appending)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
