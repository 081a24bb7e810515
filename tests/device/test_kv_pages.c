/* Writing pages, and what attention over them must not depend on: page size, splits of the rows over calls, who wrote a
 * page when, threads, and what lies behind the last token. */
#include "kv_test.h"

enum { MAX_USERS = 3 };

/* Keys and values of users, and the calls that store them. */
typedef struct write_case {
    hs_kv_shape shape;
    int64_t n_users, offset[MAX_USERS + 1], tokens[MAX_USERS];
    hs_mat k, v;
} write_case;

static write_case write_case_new(hs_kv_shape shape, const int64_t *tokens, int64_t n_users)
{
    write_case c = {.shape = shape, .n_users = n_users};
    for (int64_t b = 0; b < n_users; b++) {
        c.tokens[b] = tokens[b];
        c.offset[b + 1] = c.offset[b] + tokens[b];
    }
    const int64_t dk = shape.n_heads * shape.dqk, dv = shape.n_heads * shape.dv;
    c.k = mat_new(c.offset[n_users], dk, dk + 1, FILL_SIGNED, 21);
    c.v = mat_new(c.offset[n_users], dv, dv + 2, FILL_SIGNED, 22);
    return c;
}

static void check_pages(const kv_pages *got, const kv_pages *want, const char *isa, const char *what)
{
    for (int64_t i = 0; i < got->n_pages; i++) {
        if (got->page[i] && memcmp(got->page[i], want->page[i], hs_kv_layer_bytes(&got->view.shape)) != 0)
            fail_msg("%s kv_write, %s: page %d differs", isa, what, (int)i);
    }
}

/* All users, `step` more rows of each in every call; the matrices hold all rows that are left. */
static void write_in_steps(hs_device *dev, const write_case *c, const kv_pages *pages, int64_t step)
{
    hs_mat k = mat_out(c->k.rows, c->k.cols, c->k.ld), v = mat_out(c->v.rows, c->v.cols, c->v.ld);
    for (int64_t done = 0, most = 1; done < most; done += step) {
        int64_t offset[MAX_USERS + 1] = {0}, n_rows[MAX_USERS], position[MAX_USERS];
        for (int64_t b = 0; b < c->n_users; b++) {
            position[b] = done < c->tokens[b] ? done : c->tokens[b];
            const int64_t left = c->tokens[b] - position[b];
            n_rows[b] = left < step ? left : step;
            most = c->tokens[b] > most ? c->tokens[b] : most;
            offset[b + 1] = offset[b] + left;
            for (int64_t r = 0; r < left; r++) {
                const int64_t from = c->offset[b] + position[b] + r, to = offset[b] + r;
                memcpy(k.data + to * k.ld, c->k.data + from * k.ld, (size_t)k.cols * sizeof(float));
                memcpy(v.data + to * v.ld, c->v.data + from * v.ld, (size_t)v.cols * sizeof(float));
            }
        }
        k.rows = v.rows = offset[c->n_users];
        const hs_kv_write_args a = {.kv = pages->view,
            .k = k,
            .v = v,
            .users = {.n_users = c->n_users, .offset = offset},
            .n_rows = n_rows,
            .position = position};
        assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
    }
    hs_free(k.data);
    hs_free(v.data);
}

static void write_sizes(int isa, hs_kv_shape shape, const int64_t *tokens, int64_t n_users)
{
    write_case c = write_case_new(shape, tokens, n_users);
    kv_pages want = kv_of(shape, &c.k, &c.v, c.offset, tokens, n_users);
    hs_device *dev = device_new(isa, 3);
    kv_pages whole = kv_new(shape, tokens, n_users);
    const hs_kv_write_args all = {
        .kv = whole.view, .k = c.k, .v = c.v, .users = {.n_users = n_users, .offset = c.offset}};
    assert_int_equal(dev->table->kv_write(dev, &all, NULL), HSTU_OK);
    check_pages(&whole, &want, dev->isa, "all rows at once");
    kv_free(&whole);
    static const int64_t steps[] = {1, 2, 3, 15, 16, 17, 31, 45, 64};
    for (size_t s = tokens[0] > 100 ? 4 : 0; s < sizeof steps / sizeof steps[0]; s++) {
        kv_pages pages = kv_new(shape, tokens, n_users);
        write_in_steps(dev, &c, &pages, steps[s]);
        check_pages(&pages, &want, dev->isa, "in steps");
        kv_free(&pages);
    }
    kv_free(&want);
    hs_free(c.k.data);
    hs_free(c.v.data);
    hs_device_close(dev);
}

static void test_write(void **state)
{
    (void)state;
    const int64_t tokens[] = {71, 0, 33}, many[] = {700, 5};
    FOR_EACH_ISA(isa)
    {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            hs_kv_shape s = {.type = bf16 ? HS_BF16 : HS_F32, .page_tokens = 32, .n_heads = 2, .dqk = 5, .dv = 3};
            write_sizes(isa, s, tokens, 3);
            s.page_tokens = 96;
            s.dqk = 16;
            s.dv = 33;
            write_sizes(isa, s, tokens, 3);
            s.page_tokens = 64;
            s.dqk = 75;
            s.dv = 25;
            write_sizes(isa, s, many, 2); /* enough for several threads */
        }
    }
}

/* A write leaves the tokens around it as they are, but for the odd one of a pair whose even one it writes last. */
static void test_write_between(void **state)
{
    (void)state;
    enum { TOKENS = 64 };
    const int64_t tokens[1] = {TOKENS};
    FOR_EACH_ISA(isa)
    {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const hs_kv_shape shape = {
                .type = bf16 ? HS_BF16 : HS_F32, .page_tokens = 32, .n_heads = 2, .dqk = 7, .dv = 9};
            hs_device *dev = device_new(isa, 1);
            write_case c = write_case_new(shape, tokens, 1);
            hs_mat k = mat_new(TOKENS, c.k.cols, c.k.ld, FILL_SIGNED, 5);
            hs_mat v = mat_new(TOKENS, c.v.cols, c.v.ld, FILL_SIGNED, 6);
            for (int64_t first = 0; first < TOKENS; first += 5) {
                for (int64_t end = first + 1; end <= TOKENS; end += 7) {
                    kv_pages got = kv_of(shape, &c.k, &c.v, c.offset, tokens, 1);
                    kv_pages want = kv_of(shape, &c.k, &c.v, c.offset, tokens, 1);
                    const int64_t offset[2] = {0, end - first};
                    hs_mat some_k = k, some_v = v;
                    some_k.rows = some_v.rows = end - first;
                    const hs_kv_write_args a = {.kv = got.view,
                        .k = some_k,
                        .v = some_v,
                        .users = {.n_users = 1, .offset = offset},
                        .position = &first};
                    assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
                    for (int64_t r = 0; r < end - first; r++)
                        kv_put(&want, 0, first + r, k.data + r * k.ld, v.data + r * v.ld);
                    check_pages(&got, &want, dev->isa, "between other tokens");
                    kv_free(&got);
                    kv_free(&want);
                }
            }
            hs_free(c.k.data);
            hs_free(c.v.data);
            hs_free(k.data);
            hs_free(v.data);
            hs_device_close(dev);
        }
    }
}

/* One user's rows under either attention. */
enum { LENGTH = 151, N_BUCKETS = 129, BIAS_N = 160, N_CONTEXT = 5 };

typedef struct user_case {
    hs_kv_shape shape;
    bool softmax, bf16;
    float inv_n;
    const int64_t *n_context; /* [1] or NULL */
    hs_mat q, k, v;
    const hs_rel_bias *bias; /* buckets [LENGTH, LENGTH], or NULL */
} user_case;

/* out's rows first .. history - 1, when the history has that many tokens. */
static void attend(
    hs_device *dev, const user_case *c, const kv_pages *pages, hs_mat *out, int64_t first, int64_t history)
{
    const int64_t offset[2] = {0, history - first};
    int64_t bucket_offset = 0;
    hs_rel_bias bias = {0};
    if (c->bias) {
        bias = *c->bias;
        bucket_offset = first * LENGTH;
        bias.bucket_offset = &bucket_offset;
    }
    hs_mat q = c->q, part = *out;
    q.data += first * q.ld;
    part.data += first * part.ld;
    q.rows = part.rows = history - first;
    const hs_silu_attn_args silu = {.out = part,
        .q = q,
        .kv = pages->view,
        .users = {.n_users = 1, .offset = offset},
        .history = &history,
        .n_context = c->n_context,
        .alpha = 0.35f,
        .inv_n = c->inv_n,
        .bias = c->bias ? &bias : NULL,
        .bf16 = c->bf16};
    const hs_softmax_attn_args softmax = {.out = part,
        .q = q,
        .kv = pages->view,
        .users = silu.users,
        .history = &history,
        .scale = 0.35f,
        .bias = silu.bias,
        .bf16 = c->bf16};
    assert_int_equal(
        c->softmax ? dev->table->softmax_attn(dev, &softmax, NULL) : dev->table->silu_attn(dev, &silu, NULL), HSTU_OK);
}

/* The tokens `from` .. `to` - 1 are written. */
static void append(hs_device *dev, const user_case *c, const kv_pages *pages, int64_t from, int64_t to)
{
    const int64_t offset[2] = {0, to - from};
    hs_mat k = c->k, v = c->v;
    k.data += from * k.ld;
    v.data += from * v.ld;
    k.rows = v.rows = to - from;
    const hs_kv_write_args a = {
        .kv = pages->view, .k = k, .v = v, .users = {.n_users = 1, .offset = offset}, .position = &from};
    assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
}

static user_case user_case_new(int64_t n_heads, int64_t dqk, int64_t dv, bool bf16_pages)
{
    user_case c = {.shape = {.type = bf16_pages ? HS_BF16 : HS_F32, .n_heads = n_heads, .dqk = dqk, .dv = dv},
        .inv_n = 1.0f / LENGTH};
    c.q = bf16_mat_new(LENGTH, n_heads * dqk, n_heads * dqk + 1, FILL_SIGNED, 31);
    c.k = mat_new(LENGTH, n_heads * dqk, n_heads * dqk + 2, FILL_SIGNED, 32);
    c.v = mat_new(LENGTH, n_heads * dv, n_heads * dv, FILL_SIGNED, 33);
    return c;
}

static void user_case_free(user_case *c)
{
    hs_free(c->q.data);
    hs_free(c->k.data);
    hs_free(c->v.data);
}

/* Everything at once on one thread, and in steps on three: `step` tokens are written, then their rows attend, before
 * the next are there. */
static void check_steps(int isa, user_case c)
{
    static const struct {
        int64_t page_tokens, step;
    } ways[] = {{32, 1}, {32, 33}, {64, 100}, {96, 7}, {160, 64}, {1024, 50}};
    const int64_t tokens[1] = {LENGTH}, start[1] = {0};
    hs_device *one = device_new(isa, 1), *three = device_new(isa, 3);
    hs_mat want = mat_out(LENGTH, c.v.cols, c.v.cols + 3), got = mat_out(LENGTH, c.v.cols, c.v.cols + 3);
    c.shape.page_tokens = 32;
    kv_pages first = kv_of(c.shape, &c.k, &c.v, start, tokens, 1);
    attend(one, &c, &first, &want, 0, LENGTH);
    for (int64_t r = 0; r < LENGTH; r++) {
        for (int64_t o = 0; o < want.cols; o++)
            assert_true(isfinite(want.data[r * want.ld + o]));
    }
    attend(three, &c, &first, &got, 0, LENGTH);
    mat_check_same_bits(&got, &want, "attention on three threads");
    kv_free(&first);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        c.shape.page_tokens = ways[w].page_tokens;
        kv_pages pages = kv_new(c.shape, tokens, 1);
        for (int64_t from = 0, to; from < LENGTH; from = to) {
            to = from + ways[w].step < LENGTH ? from + ways[w].step : LENGTH;
            append(three, &c, &pages, from, to);
            if (!c.n_context)
                attend(three, &c, &pages, &got, from, to);
        }
        /* Contextual rows see what comes later, so all rows wait for the whole history. */
        for (int64_t from = 0; c.n_context && from < LENGTH; from += ways[w].step < 20 ? 20 : ways[w].step)
            attend(three, &c, &pages, &got, from, LENGTH);
        mat_check_same_bits(&got, &want, "attention in steps");
        mat_check_gaps(&got);
        kv_free(&pages);
    }
    hs_free(want.data);
    hs_free(got.data);
    hs_device_close(one);
    hs_device_close(three);
}

static void test_steps(void **state)
{
    (void)state;
    hs_mat position = mat_new(1, 2 * BIAS_N - 1, 2 * BIAS_N - 1, FILL_SIGNED, 1);
    hs_mat time = mat_new(1, N_BUCKETS, N_BUCKETS, FILL_SIGNED, 2);
    static uint8_t bucket[LENGTH * LENGTH];
    uint64_t seed = 5;
    for (int i = 0; i < LENGTH * LENGTH; i++)
        bucket[i] = (uint8_t)random_below(&seed, N_BUCKETS);
    const int64_t cols = LENGTH, n_context = N_CONTEXT;
    const hs_rel_bias bias = {
        .position_w = position.data, .n = BIAS_N, .time_w = time.data, .bucket = bucket, .bucket_cols = &cols};
    FOR_EACH_ISA(isa)
    {
        for (int kind = 0; kind < 8; kind++) {
            user_case c = user_case_new(2, kind & 1 ? 5 : 8, kind & 2 ? 67 : 48, kind & 1);
            c.softmax = kind & 4;
            c.bf16 = (kind & 3) == 3;
            c.bias = kind & 2 ? &bias : NULL;
            check_steps(isa, c);
            c.n_context = &n_context;
            if (!c.softmax)
                check_steps(isa, c);
            user_case_free(&c);
        }
    }
    hs_free(position.data);
    hs_free(time.data);
}

/* A candidate whose query, key and value are those of the history's next row gets what that row gets. */
static void test_candidate_is_next_row(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int kind = 0; kind < 4; kind++) {
            user_case c = user_case_new(2, 7, 20, kind & 1);
            c.bf16 = kind & 2;
            c.shape.page_tokens = 64;
            const int64_t tokens[1] = {LENGTH}, none[2] = {0, 0}, one[2] = {0, 1}, start[1] = {0};
            hs_device *dev = device_new(isa, 2);
            hs_mat want = mat_out(LENGTH, c.v.cols, c.v.cols), got = mat_out(1, c.v.cols, c.v.cols);
            kv_pages all = kv_of(c.shape, &c.k, &c.v, start, tokens, 1);
            attend(dev, &c, &all, &want, 0, LENGTH);
            kv_free(&all);
            kv_pages pages = kv_new(c.shape, tokens, 1);
            for (int64_t i = 0; i < LENGTH; i++) {
                hs_mat row[3] = {c.q, c.k, c.v};
                for (int m = 0; m < 3; m++) {
                    row[m].data += i * row[m].ld;
                    row[m].rows = 1;
                }
                const hs_silu_attn_args a = {.out = got,
                    .q = row[0],
                    .own_k = row[1],
                    .own_v = row[2],
                    .kv = pages.view,
                    .users = {.n_users = 1, .offset = none},
                    .candidates = one,
                    .history = &i,
                    .alpha = 0.35f,
                    .inv_n = c.inv_n,
                    .bf16 = c.bf16};
                assert_int_equal(dev->table->silu_attn(dev, &a, NULL), HSTU_OK);
                check_same_bits(got.data, want.data + i * want.ld, got.cols, "a candidate in the next row's place");
                append(dev, &c, &pages, i, i + 1);
            }
            kv_free(&pages);
            hs_free(want.data);
            hs_free(got.data);
            user_case_free(&c);
            hs_device_close(dev);
        }
    }
}

/* Sums so small that they round to a negative zero, which a masked term behind them would turn into 0. */
static void test_negative_zero(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        user_case c = user_case_new(1, 1, 1, false);
        for (int64_t r = 0; r < LENGTH; r++) {
            c.q.data[r * c.q.ld] = c.k.data[r * c.k.ld] = 1.0f;
            c.v.data[r * c.v.ld] = r == 0 ? -1e-20f : 1e-20f;
        }
        c.inv_n = 1e-30f;
        check_steps(isa, c);
        user_case_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_write), cmocka_unit_test(test_write_between),
        cmocka_unit_test(test_steps), cmocka_unit_test(test_candidate_is_next_row),
        cmocka_unit_test(test_negative_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
