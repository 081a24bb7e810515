/* SiLU attention of matrices that hold bfloat16 values, over several segments of tokens: everything at once on one thread, and
 * in steps on three, whatever the pages, gives the same bits; so do candidates in groups. */
#include "kv_test.h"

enum { LENGTH = 1100, CANDIDATES = 41, N_BUCKETS = 129, N_CONTEXT = 37 };

typedef struct steps_case {
    hs_kv_shape shape;
    const int64_t *n_context; /* [1] or NULL */
    const hs_rel_bias *bias;  /* buckets [LENGTH, LENGTH], or NULL */
    hs_mat q, k, v;           /* stored; rows of the history, then candidates */
} steps_case;

static hs_mat stored_random(int isa, int64_t cols, uint64_t seed)
{
    hs_mat values = bf16_mat_new(LENGTH + CANDIDATES, cols, cols, FILL_SIGNED, seed);
    const hs_mat stored = stored_new(isa, &values, true);
    hs_free(values.data);
    return stored;
}

static hs_mat out_new(int isa, const steps_case *c)
{
    hs_mat values = mat_out(LENGTH + CANDIDATES, c->v.cols, c->v.cols);
    const hs_mat stored = stored_new(isa, &values, true);
    hs_free(values.data);
    return stored;
}

static void check_rows(
    const hs_mat *got, const hs_mat *want, int64_t from, int64_t to, const char *isa, const char *what)
{
    for (int64_t r = from; r < to; r++) {
        for (int64_t o = 0; o < want->cols; o++) {
            if (got->half[r * got->ld + o] != want->half[r * want->ld + o])
                fail_msg("%s, %s: [%d, %d] is %04x, not %04x", isa, what, (int)r, (int)o,
                    (unsigned)got->half[r * got->ld + o], (unsigned)want->half[r * want->ld + o]);
        }
    }
}

static void attend(hs_device *dev, const hs_silu_attn_args *a)
{
    assert_int_equal(dev->table->silu_attn(dev, a, NULL), HSTU_OK);
}

/* Rows first .. history - 1 of out. */
static void attend_rows(
    hs_device *dev, const steps_case *c, const hs_kv_view *kv, const hs_mat *out, int64_t first, int64_t history)
{
    const int64_t offset[2] = {0, history - first}, bucket_offset = first * LENGTH;
    hs_rel_bias bias = {0};
    if (c->bias) {
        bias = *c->bias;
        bias.bucket_offset = &bucket_offset;
    }
    attend(dev, &(hs_silu_attn_args){.out = hs_mat_rows(*out, first, history - first),
                    .q = hs_mat_rows(c->q, first, history - first),
                    .kv = *kv,
                    .users = {.n_users = 1, .offset = offset},
                    .history = &history,
                    .n_context = c->n_context,
                    .alpha = 0.2f,
                    .inv_n = 1.0f / 64,
                    .bias = c->bias ? &bias : NULL,
                    .bf16 = true});
}

/* Candidates behind the whole history, `group` in a call. */
static void attend_candidates(
    hs_device *dev, const steps_case *c, const hs_kv_view *kv, const hs_mat *out, int64_t group)
{
    static const int64_t none[2] = {0, 0}, history = LENGTH;
    for (int64_t first = 0, n; first < CANDIDATES; first += n) {
        n = CANDIDATES - first < group ? CANDIDATES - first : group;
        const int64_t offset[2] = {0, n};
        attend(dev, &(hs_silu_attn_args){.out = hs_mat_rows(*out, LENGTH + first, n),
                        .q = hs_mat_rows(c->q, LENGTH + first, n),
                        .own_k = hs_mat_rows(c->k, LENGTH + first, n),
                        .own_v = hs_mat_rows(c->v, LENGTH + first, n),
                        .kv = *kv,
                        .users = {.n_users = 1, .offset = none},
                        .candidates = offset,
                        .history = &history,
                        .alpha = 0.2f,
                        .inv_n = 1.0f / 64,
                        .bf16 = true});
    }
}

static void append(hs_device *dev, const steps_case *c, const hs_kv_view *kv, int64_t from, int64_t to)
{
    const int64_t offset[2] = {0, to - from};
    const hs_kv_write_args a = {.kv = *kv,
        .k = hs_mat_rows(c->k, from, to - from),
        .v = hs_mat_rows(c->v, from, to - from),
        .users = {.n_users = 1, .offset = offset},
        .position = &from};
    assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
}

/* `step` tokens are written, then their rows attend, before the next are there; contextual rows see what comes later, so all
 * rows wait for the whole history. */
static void in_steps(hs_device *dev, const steps_case *c, const hs_kv_view *kv, const hs_mat *out, int64_t step)
{
    for (int64_t from = 0, to; from < LENGTH; from = to) {
        to = from + step < LENGTH ? from + step : LENGTH;
        append(dev, c, kv, from, to);
        if (!c->n_context)
            attend_rows(dev, c, kv, out, from, to);
    }
    for (int64_t from = 0; c->n_context && from < LENGTH; from += step < 100 ? 100 : step)
        attend_rows(dev, c, kv, out, from, LENGTH);
}

static void check_steps(int isa, steps_case *c)
{
    static const struct {
        int64_t page_tokens, step, group;
    } ways[] = {{32, 33, 7}, {64, 500, 1}, {96, 7, 16}, {96, 513, 40}, {160, 64, 33}, {1024, 257, CANDIDATES}};
    const int64_t tokens[1] = {LENGTH};
    hs_device *one = device_new(isa, 1), *three = device_new(isa, 3);
    hs_mat want = out_new(isa, c), got = out_new(isa, c);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        c->shape.page_tokens = ways[w].page_tokens;
        kv_pages pages = kv_new(c->shape, tokens, 1);
        if (w == 0) {
            append(one, c, &pages.view, 0, LENGTH);
            attend_rows(one, c, &pages.view, &want, 0, LENGTH);
            attend_candidates(one, c, &pages.view, &want, CANDIDATES);
        }
        in_steps(three, c, &pages.view, &got, ways[w].step);
        check_rows(&got, &want, 0, LENGTH, one->isa, "in steps");
        attend_rows(three, c, &pages.view, &got, 0, LENGTH);
        check_rows(&got, &want, 0, LENGTH, one->isa, "on three threads");
        attend_candidates(three, c, &pages.view, &got, ways[w].group);
        check_rows(&got, &want, LENGTH, LENGTH + CANDIDATES, one->isa, "candidates");
        kv_free(&pages);
    }
    stored_free(&want);
    stored_free(&got);
    hs_device_close(one);
    hs_device_close(three);
}

static void test_steps(void **state)
{
    (void)state;
    static const int64_t dims[][2] = {{5, 9}, {32, 35}, {40, 64}}, n_context = N_CONTEXT, cols = LENGTH;
    static uint8_t bucket[LENGTH * LENGTH];
    hs_mat position = mat_new(1, 2 * LENGTH - 1, 2 * LENGTH - 1, FILL_SIGNED, 1);
    hs_mat time = mat_new(1, N_BUCKETS, N_BUCKETS, FILL_SIGNED, 2);
    uint64_t seed = 5;
    for (int i = 0; i < LENGTH * LENGTH; i++)
        bucket[i] = (uint8_t)random_below(&seed, N_BUCKETS);
    const hs_rel_bias bias = {
        .position_w = position.data, .n = LENGTH, .time_w = time.data, .bucket = bucket, .bucket_cols = &cols};
    FOR_EACH_ISA(isa)
    {
        for (int kind = 0; hs_cpu_kernels_at(isa)->pairs && kind < 6; kind++) {
            const int64_t *d = dims[kind % 3];
            steps_case c = {.shape = {.type = HS_BF16, .n_heads = 2, .dqk = d[0], .dv = d[1]}};
            c.q = stored_random(isa, 2 * d[0], 31);
            c.k = stored_random(isa, 2 * d[0], 32);
            c.v = stored_random(isa, 2 * d[1], 33);
            c.bias = kind == 1 || kind == 3 ? &bias : NULL;
            c.n_context = kind > 3 ? &n_context : NULL;
            check_steps(isa, &c);
            stored_free(&c.q);
            stored_free(&c.k);
            stored_free(&c.v);
        }
    }
    hs_free(position.data);
    hs_free(time.data);
}

enum { PAIR = 2, NEW_ROWS = 3 };

/* The newest rows of two users with histories of `length` tokens; out [PAIR * NEW_ROWS, ]. */
static void attend_pair(hs_device *dev, const steps_case *c, const int64_t length[PAIR], hs_mat *out)
{
    static const int64_t offset[PAIR + 1] = {0, NEW_ROWS, PAIR * NEW_ROWS}, position[PAIR] = {0, 0};
    kv_pages pages = kv_new(c->shape, length, PAIR);
    for (int b = 0; b < PAIR; b++) {
        const int64_t of_one[PAIR + 1] = {0, b == 0 ? length[b] : 0, length[b]};
        const hs_kv_write_args a = {.kv = pages.view,
            .k = hs_mat_rows(c->k, 0, length[b]),
            .v = hs_mat_rows(c->v, 0, length[b]),
            .users = {.n_users = PAIR, .offset = of_one},
            .position = position};
        assert_int_equal(dev->table->kv_write(dev, &a, NULL), HSTU_OK);
    }
    attend(dev, &(hs_silu_attn_args){.out = hs_mat_rows(*out, 0, PAIR * NEW_ROWS),
                    .q = hs_mat_rows(c->q, 0, PAIR * NEW_ROWS),
                    .kv = pages.view,
                    .users = {.n_users = PAIR, .offset = offset},
                    .history = length,
                    .alpha = 0.2f,
                    .inv_n = 1.0f / 64,
                    .bf16 = true});
    kv_free(&pages);
}

/* A history that ends with a segment, beside a longer one: what many threads add up is what one does. (Memory for sums has held
 * those of the users in the other order.) */
static void test_segment_ends(void **state)
{
    (void)state;
    static const int64_t length[PAIR] = {1024, LENGTH}, swapped[PAIR] = {LENGTH, 1024};
    FOR_EACH_ISA(isa)
    {
        if (!hs_cpu_kernels_at(isa)->pairs)
            continue;
        steps_case c = {.shape = {.type = HS_BF16, .page_tokens = 64, .n_heads = 2, .dqk = 32, .dv = 64}};
        hs_device *one = device_new(isa, 1), *many = device_new(isa, 16);
        c.q = stored_random(isa, 64, 31);
        c.k = stored_random(isa, 64, 32);
        c.v = stored_random(isa, 128, 33);
        hs_mat want = out_new(isa, &c), got = out_new(isa, &c);
        attend_pair(one, &c, length, &want);
        attend_pair(many, &c, swapped, &got);
        attend_pair(many, &c, length, &got);
        check_rows(&got, &want, 0, PAIR * NEW_ROWS, one->isa, "two users");
        hs_mat *const all[] = {&c.q, &c.k, &c.v, &want, &got};
        for (int i = 0; i < 5; i++)
            stored_free(all[i]);
        hs_device_close(one);
        hs_device_close(many);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_segment_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
