/* SiLU attention of random shapes: the bits of a row depend neither on threads, nor on pages, nor on the other users of a batch. */
#include "kv_test.h"

enum { USERS = 4, TOKENS_MOST = TEST_SANITIZED ? 700 : 1300, ROWS_MOST = 260, CASES = TEST_SANITIZED ? 8 : 24 };

typedef struct shape_case {
    int64_t n_users, n_heads, dqk, dv;
    int64_t history[USERS], rows[USERS], n_candidates[USERS], context[USERS];
    int64_t at[USERS + 1]; /* of users' tokens in k and v */
    bool bf16, stored, with_bias;
    hs_mat q[USERS], own_k[USERS], own_v[USERS]; /* q: rows, then candidates */
    hs_mat k, v, position, time;
    uint8_t *bucket; /* one for all users: [rows, history] of each lies at its beginning */
} shape_case;

/* Few rows, which segments are shared out for, or more; a user without a history, or without rows. */
static void case_user(shape_case *c, int64_t b, bool few, uint64_t *seed)
{
    const int64_t kind = random_below(seed, 6), most = few ? 30 : ROWS_MOST;
    c->history[b] = kind == 0 ? 0 : kind == 1 ? 1 + random_below(seed, 40) : 1 + random_below(seed, TOKENS_MOST);
    c->rows[b] = kind == 2 ? 0 : hs_min_i64(c->history[b], random_below(seed, most));
    c->n_candidates[b] = c->with_bias || random_below(seed, 3) == 0 ? 0 : random_below(seed, few ? 30 : 150);
    c->context[b] = random_below(seed, 2) * random_below(seed, c->history[b] + 1);
    c->at[b + 1] = c->at[b] + c->history[b];
    c->q[b] = bf16_mat_new(
        c->rows[b] + c->n_candidates[b], c->n_heads * c->dqk, c->n_heads * c->dqk, FILL_SIGNED, random_u32(seed));
    c->own_k[b] = bf16_mat_new(c->n_candidates[b], c->q[b].cols, c->q[b].cols, FILL_SIGNED, random_u32(seed));
    c->own_v[b] = bf16_mat_new(c->n_candidates[b], c->n_heads * c->dv, c->n_heads * c->dv, FILL_SIGNED, 8);
}

/* k and v of all users, and what a bias is made of. */
static void case_fill(shape_case *c, uint64_t seed)
{
    c->k = bf16_mat_new(c->at[c->n_users], c->n_heads * c->dqk, c->n_heads * c->dqk, FILL_SIGNED, 3);
    c->v = bf16_mat_new(c->at[c->n_users], c->n_heads * c->dv, c->n_heads * c->dv, FILL_SIGNED, 4);
    c->position = mat_new(1, 2 * TOKENS_MOST - 1, 2 * TOKENS_MOST - 1, FILL_SIGNED, 5);
    c->time = mat_new(1, 129, 129, FILL_SIGNED, 6);
    c->bucket = hs_alloc((size_t)ROWS_MOST * TOKENS_MOST, 1);
    assert_non_null(c->bucket);
    for (int64_t i = 0; i < ROWS_MOST * TOKENS_MOST; i++)
        c->bucket[i] = (uint8_t)random_below(&seed, 129);
}

static void case_new(shape_case *c, uint64_t seed)
{
    const int64_t kind = random_below(&seed, 3);
    const bool few = random_below(&seed, 2) == 0;
    *c = (shape_case){.n_users = 1 + random_below(&seed, USERS),
        .n_heads = 1 + random_below(&seed, 4),
        .dqk = 1 + random_below(&seed, 70),
        .dv = 1 + random_below(&seed, 70),
        .bf16 = kind > 0,
        .stored = kind == 2,
        .with_bias = random_below(&seed, 3) == 0};
    if (random_below(&seed, 3) == 0)
        c->dqk = c->dv = 32 * (1 + random_below(&seed, 4));
    for (int64_t b = 0; b < c->n_users; b++)
        case_user(c, b, few, &seed);
    case_fill(c, seed);
}

/* Users of the longest histories, each with a few of their rows: two threads get two heads each. */
static void few_rows_new(shape_case *c, int64_t n_users, bool with_bias)
{
    *c = (shape_case){
        .n_users = n_users, .n_heads = 4, .dqk = 64, .dv = 128, .bf16 = true, .stored = true, .with_bias = with_bias};
    for (int64_t b = 0; b < n_users; b++) {
        c->history[b] = TOKENS_MOST - 37 * b;
        c->rows[b] = 14 + b;
        c->n_candidates[b] = with_bias ? 0 : 5;
        c->at[b + 1] = c->at[b] + c->history[b];
        c->q[b] = bf16_mat_new(c->rows[b] + c->n_candidates[b], 4 * c->dqk, 4 * c->dqk, FILL_SIGNED, 21 + (uint64_t)b);
        c->own_k[b] = bf16_mat_new(c->n_candidates[b], 4 * c->dqk, 4 * c->dqk, FILL_SIGNED, 31 + (uint64_t)b);
        c->own_v[b] = bf16_mat_new(c->n_candidates[b], 4 * c->dv, 4 * c->dv, FILL_SIGNED, 41 + (uint64_t)b);
    }
    case_fill(c, 51);
}

static void case_free(shape_case *c)
{
    for (int64_t b = 0; b < c->n_users; b++) {
        hs_free(c->q[b].data);
        hs_free(c->own_k[b].data);
        hs_free(c->own_v[b].data);
    }
    hs_free(c->k.data);
    hs_free(c->v.data);
    hs_free(c->position.data);
    hs_free(c->time.data);
    hs_free(c->bucket);
}

static void append(hs_mat *to, const hs_mat *m, int64_t first, int64_t rows)
{
    for (int64_t r = first; r < first + rows; r++)
        memcpy(to->data + to->rows++ * to->ld, m->data + r * m->ld, (size_t)m->cols * sizeof(float));
}

/* Users first .. end - 1 in a batch of their own: all of their rows, then all of their candidates. */
static hs_mat attend(const shape_case *c, int isa, int threads, int64_t page_tokens, int64_t first, int64_t end)
{
    static const int64_t zeros[USERS];
    const int64_t qk = c->n_heads * c->dqk, v = c->n_heads * c->dv, n_users = end - first;
    int64_t offset[USERS + 1] = {0}, candidates[USERS + 1] = {0};
    for (int64_t b = 0; b < n_users; b++) {
        offset[b + 1] = offset[b] + c->rows[first + b];
        candidates[b + 1] = candidates[b] + c->n_candidates[first + b];
    }
    const int64_t rows = offset[n_users], own = candidates[n_users];
    hs_mat plain_q = mat_out(rows + own, qk, qk), plain_k = mat_out(own, qk, qk), plain_v = mat_out(own, v, v);
    hs_mat out = mat_out(rows + own, v, v + 3);
    plain_q.rows = plain_k.rows = plain_v.rows = 0;
    for (int64_t b = first; b < end; b++)
        append(&plain_q, &c->q[b], 0, c->rows[b]);
    for (int64_t b = first; b < end; b++) {
        append(&plain_q, &c->q[b], c->rows[b], c->n_candidates[b]);
        append(&plain_k, &c->own_k[b], 0, c->n_candidates[b]);
        append(&plain_v, &c->own_v[b], 0, c->n_candidates[b]);
    }
    const hs_kv_shape shape = {.type = c->bf16 ? HS_BF16 : HS_F32,
        .page_tokens = page_tokens,
        .n_heads = c->n_heads,
        .dqk = c->dqk,
        .dv = c->dv};
    kv_pages pages = kv_of(shape, &c->k, &c->v, c->at + first, c->history + first, n_users);
    const hs_rel_bias bias = {.position_w = c->position.data,
        .n = TOKENS_MOST,
        .time_w = c->time.data,
        .bucket = c->bucket,
        .bucket_offset = zeros,
        .bucket_cols = c->history + first};
    const hs_mat q = stored_new(isa, &plain_q, c->stored), own_k = stored_new(isa, &plain_k, c->stored);
    const hs_mat own_v = stored_new(isa, &plain_v, c->stored), to = stored_new(isa, &out, c->stored);
    const hs_silu_attn_args a = {.out = to,
        .q = q,
        .own_k = own_k,
        .own_v = own_v,
        .kv = pages.view,
        .users = {.n_users = n_users, .offset = offset},
        .candidates = c->with_bias ? NULL : candidates,
        .history = c->history + first,
        .n_context = c->context + first,
        .alpha = 0.21f,
        .inv_n = 1.0f / TOKENS_MOST,
        .bias = c->with_bias ? &bias : NULL,
        .bf16 = c->bf16};
    hs_device *dev = device_new(isa, threads);
    assert_int_equal(dev->table->silu_attn(dev, &a, NULL), HSTU_OK);
    hs_device_close(dev);
    stored_read(&to, &out);
    mat_check_gaps(&out);
    const hs_mat *const stored[] = {&q, &own_k, &own_v, &to};
    for (int i = 0; i < 4; i++)
        stored_free(stored[i]);
    hs_free(plain_q.data);
    hs_free(plain_k.data);
    hs_free(plain_v.data);
    kv_free(&pages);
    return out;
}

/* A user's rows and candidates alone have the bits that they have in `all`. */
static void check_alone(const shape_case *c, int isa, int64_t b, int64_t row, int64_t candidate, const hs_mat *all)
{
    hs_mat alone = attend(c, isa, 1, 64, b, b + 1);
    for (int64_t r = 0; r < alone.rows; r++) {
        const int64_t at = r < c->rows[b] ? row + r : candidate + r - c->rows[b];
        check_same_bits(alone.data + r * alone.ld, all->data + at * all->ld, all->cols, "a user alone");
    }
    hs_free(alone.data);
}

static void check_case(const shape_case *c, int isa)
{
    static const int threads[] = {2, 3, 5, 16};
    static const int64_t page_tokens[] = {96, 160, 32, 1312};
    hs_mat all = attend(c, isa, 1, 32, 0, c->n_users);
    for (int i = 0; i < 4; i++) {
        hs_mat other = attend(c, isa, threads[i], page_tokens[i], 0, c->n_users);
        mat_check_same_bits(&other, &all, "other threads and pages");
        hs_free(other.data);
    }
    int64_t candidate = 0, row = 0;
    for (int64_t b = 0; b < c->n_users; b++)
        candidate += c->rows[b];
    for (int64_t b = 0; b < c->n_users; b++) {
        check_alone(c, isa, b, row, candidate, &all);
        row += c->rows[b];
        candidate += c->n_candidates[b];
    }
    hs_free(all.data);
}

static void test_shapes(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (uint64_t i = 0; isa > 0 && i < CASES; i++) { /* the reference kernels are slow */
            shape_case c;
            case_new(&c, 100 * (uint64_t)isa + i);
            check_case(&c, isa);
            case_free(&c);
        }
    }
}

static void test_few_rows(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int kind = 0; isa > 0 && kind < 4; kind++) {
            shape_case c;
            few_rows_new(&c, kind & 1 ? 3 : 1, kind & 2);
            check_case(&c, isa);
            case_free(&c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_few_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
