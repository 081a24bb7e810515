/* SiLU attention of few rows beside long histories, whose segments threads share out: bits depend on neither threads
 * nor pages nor how many rows are asked, with a bias and with candidates, in every instruction set and type. */
#include "device/kv_test.h"

enum {
    HEADS = 2,
    DQK = 24,
    DV = 40,
    TOKENS = TEST_SANITIZED ? 600 : 1100,
    FEW = 37,
    SECOND = 530,
    CANDIDATES = 21,
    ALL = TOKENS + SECOND
};

typedef struct long_case {
    hs_mat q, k, v; /* user 0's tokens, user 1's, their candidates */
    hs_mat position, time;
    uint8_t *bucket; /* [TOKENS, TOKENS], then [SECOND, SECOND] */
    hs_dtype type;
    bool bf16, with_bias;
} long_case;

static long_case case_new(hs_dtype type, bool bf16, bool with_bias)
{
    const int64_t rows = ALL + 2 * CANDIDATES, n_buckets = TOKENS * TOKENS + SECOND * SECOND;
    long_case c = {.q = mat_new(rows, HEADS * DQK, HEADS * DQK, FILL_SIGNED, 3),
        .k = mat_new(rows, HEADS * DQK, HEADS * DQK, FILL_SIGNED, 4),
        .v = mat_new(rows, HEADS * DV, HEADS * DV, FILL_SIGNED, 5),
        .position = mat_new(1, 2 * TOKENS - 1, 2 * TOKENS - 1, FILL_SIGNED, 6),
        .time = mat_new(1, 129, 129, FILL_SIGNED, 7),
        .bucket = hs_alloc((size_t)n_buckets, 1),
        .type = type,
        .bf16 = bf16,
        .with_bias = with_bias};
    uint64_t seed = 9;
    assert_non_null(c.bucket);
    for (int64_t i = 0; i < n_buckets; i++)
        c.bucket[i] = (uint8_t)random_below(&seed, 129);
    return c;
}

static void case_free(long_case *c)
{
    hs_free(c->q.data);
    hs_free(c->k.data);
    hs_free(c->v.data);
    hs_free(c->position.data);
    hs_free(c->time.data);
    hs_free(c->bucket);
}

/* Rows of m from `row` on become those of `to` from `at` on. */
static int64_t copy_rows(const hs_mat *to, int64_t at, const hs_mat *m, int64_t row, int64_t rows)
{
    memcpy(to->data + at * to->ld, m->data + row * m->ld, (size_t)(rows * m->ld) * sizeof(float));
    return at + rows;
}

/* The newest rows[u] rows of both users and, without a bias, their candidates. */
static hs_mat attend(hs_device *dev, const long_case *c, int64_t page_tokens, const int64_t rows[2])
{
    static const int64_t length[2] = {TOKENS, SECOND}, all[3] = {0, TOKENS, ALL};
    static const int64_t candidates[3] = {0, CANDIDATES, 2 * CANDIDATES};
    const hs_kv_shape shape = {.type = c->type, .page_tokens = page_tokens, .n_heads = HEADS, .dqk = DQK, .dv = DV};
    const int64_t offset[3] = {0, rows[0], rows[0] + rows[1]}, n = offset[2] + (c->with_bias ? 0 : 2 * CANDIDATES);
    const int64_t bucket_offset[2] = {(TOKENS - rows[0]) * TOKENS, TOKENS * TOKENS + (SECOND - rows[1]) * SECOND};
    const hs_rel_bias bias = {.position_w = c->position.data,
        .n = TOKENS,
        .time_w = c->time.data,
        .bucket = c->bucket,
        .bucket_offset = bucket_offset,
        .bucket_cols = length};
    hs_mat q = mat_out(n, HEADS * DQK, HEADS * DQK), out = mat_out(n, HEADS * DV, HEADS * DV + 3);
    hs_mat own_k = c->k, own_v = c->v;
    own_k.data += ALL * own_k.ld;
    own_v.data += ALL * own_v.ld;
    own_k.rows = own_v.rows = 2 * CANDIDATES;
    int64_t at = copy_rows(&q, 0, &c->q, TOKENS - rows[0], rows[0]);
    at = copy_rows(&q, at, &c->q, ALL - rows[1], rows[1]);
    copy_rows(&q, at, &c->q, ALL, n - at);
    kv_pages pages = kv_of(shape, &c->k, &c->v, all, length, 2);
    const hs_silu_attn_args a = {.out = out,
        .q = q,
        .own_k = own_k,
        .own_v = own_v,
        .kv = pages.view,
        .users = {.n_users = 2, .offset = offset},
        .candidates = c->with_bias ? NULL : candidates,
        .history = length,
        .alpha = 0.21f,
        .inv_n = 1.0f / TOKENS,
        .bias = c->with_bias ? &bias : NULL,
        .bf16 = c->bf16};
    assert_int_equal(dev->table->silu_attn(dev, &a, NULL), HSTU_OK);
    mat_check_gaps(&out);
    hs_free(q.data);
    kv_free(&pages);
    return out;
}

/* Few rows, which begin at from[u] of all, and the candidates have the bits that they have among all. */
static void check_few(const long_case *c, const hs_mat *few, const hs_mat *all, const int64_t rows[2], const char *isa)
{
    const int64_t from[3] = {TOKENS - rows[0], ALL - rows[1], ALL};
    const int64_t n[3] = {rows[0], rows[1], c->with_bias ? 0 : 2 * CANDIDATES};
    for (int64_t part = 0, at = 0; part < 3; part++) {
        for (int64_t r = 0; r < n[part]; r++, at++)
            check_same_bits(few->data + at * few->ld, all->data + (from[part] + r) * all->ld, few->cols, isa);
    }
}

static void check_case(hs_dtype type, bool bf16, bool with_bias)
{
    static const int64_t both[2] = {TOKENS, SECOND}, rows[][2] = {{FEW, 0}, {1, 5}, {13, 24}};
    static const int64_t page_tokens[] = {32, 96, 1120};
    long_case c = case_new(type, bf16, with_bias);
    FOR_EACH_ISA(isa)
    {
        if (TEST_SANITIZED && isa == 0) /* the reference kernels are slow */
            continue;
        hs_device *one = device_new(isa, 1), *many = device_new(isa, 16);
        hs_mat all = attend(one, &c, 32, both);
        for (int i = 0; i < 3; i++) {
            hs_mat few = attend(many, &c, page_tokens[i], rows[i]);
            check_few(&c, &few, &all, rows[i], many->isa);
            hs_free(few.data);
        }
        hs_free(all.data);
        hs_device_close(one);
        hs_device_close(many);
    }
    case_free(&c);
}

static void test_fp32(void **state)
{
    (void)state;
    check_case(HS_F32, false, false);
    check_case(HS_F32, false, true);
}

static void test_bf16_pages(void **state)
{
    (void)state;
    check_case(HS_BF16, false, false);
    check_case(HS_BF16, true, true);
    check_case(HS_BF16, true, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fp32), cmocka_unit_test(test_bf16_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
