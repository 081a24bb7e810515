/* Calls of attention for tests: users with contextual rows, causal rows and candidates, of any types of matrices and pages. */
#ifndef HS_TESTS_DEVICE_ATTN_TEST_H
#define HS_TESTS_DEVICE_ATTN_TEST_H

#include "kv_test.h"

enum { MAX_USERS = 8, MAX_ROWS = 1200, BIAS_N = 1200, SEGMENT = 512 };

/* Of a user's `length` rows the last `candidates` are candidates, the others history. */
typedef struct users {
    int64_t n, length[MAX_USERS], context[MAX_USERS], candidates[MAX_USERS];
} users;

typedef struct attn_case {
    users users;
    int64_t offset[MAX_USERS + 1];
    int64_t n_heads, dqk, dv;
    float alpha, inv_n;
    bool with_bias, bf16, softmax;
    bool stored;  /* matrices hold bfloat16 values, where the device stores such */
    int64_t step; /* of the rows that are held against the chains; 0: all of them */
    int64_t page_tokens;
    hs_dtype page_type;
    hs_mat q, k, v, position, time;
    uint8_t *bucket;
    int64_t bucket_offset[MAX_USERS], bucket_cols[MAX_USERS];
} attn_case;

static inline void case_new(attn_case *c, fill kind)
{
    int64_t n_buckets = 0;
    for (int64_t b = 0; b < c->users.n; b++) {
        c->offset[b + 1] = c->offset[b] + c->users.length[b];
        c->bucket_offset[b] = n_buckets;
        c->bucket_cols[b] = c->users.length[b];
        n_buckets += c->users.length[b] * c->users.length[b];
    }
    const int64_t rows = c->offset[c->users.n], qk = c->n_heads * c->dqk, v = c->n_heads * c->dv;
    c->q = bf16_mat_new(rows, qk, qk + 1, kind, 70);
    c->k = c->stored ? bf16_mat_new(rows, qk, qk + 3, kind, 71) : mat_new(rows, qk, qk + 3, kind, 71);
    c->v = c->stored ? bf16_mat_new(rows, v, v + 2, kind, 72) : mat_new(rows, v, v + 2, kind, 72);
    c->position = mat_new(1, 2 * BIAS_N - 1, 2 * BIAS_N - 1, kind, 73);
    c->time = mat_new(1, 129, 129, kind, 74);
    c->bucket = hs_alloc((size_t)n_buckets, 1);
    assert_non_null(c->bucket);
    uint64_t seed = 5;
    for (int64_t i = 0; i < n_buckets; i++)
        c->bucket[i] = (uint8_t)random_below(&seed, 129);
}

static inline void case_free(attn_case *c)
{
    hs_free(c->q.data);
    hs_free(c->k.data);
    hs_free(c->v.data);
    hs_free(c->position.data);
    hs_free(c->time.data);
    hs_free(c->bucket);
}

/* The rows of m that are history, or candidates, of all users one behind the other; offset [n + 1]. */
static inline hs_mat part_of(const attn_case *c, const hs_mat *m, bool candidates, int64_t *offset)
{
    hs_mat part = mat_out(m->rows, m->cols, m->ld);
    part.rows = offset[0] = 0;
    for (int64_t b = 0; b < c->users.n; b++) {
        const int64_t history = c->users.length[b] - c->users.candidates[b];
        for (int64_t i = candidates ? history : 0; i < (candidates ? c->users.length[b] : history); i++)
            memcpy(part.data + part.rows++ * part.ld, m->data + (c->offset[b] + i) * m->ld,
                (size_t)m->cols * sizeof(float));
        offset[b + 1] = part.rows;
    }
    return part;
}

/* Which rows a call has. */
typedef enum call_rows { OF_HISTORIES, OF_CANDIDATES, OF_BOTH } call_rows;

/* Both parts in one matrix, histories first. */
static inline hs_mat joined(const hs_mat *first, const hs_mat *second)
{
    hs_mat both = mat_out(first->rows + second->rows, first->cols, first->ld);
    for (int64_t r = 0; r < both.rows; r++) {
        const hs_mat *from = r < first->rows ? first : second;
        const int64_t row = r < first->rows ? r : r - first->rows;
        memcpy(both.data + r * both.ld, from->data + row * from->ld, (size_t)both.cols * sizeof(float));
    }
    return both;
}

static inline void run_part(hs_device *dev, int isa, const attn_case *c, const kv_pages *pages, const int64_t *history,
    call_rows of, const hs_mat *out)
{
    static const int64_t none[MAX_USERS + 1];
    int64_t offset[MAX_USERS + 1], others[MAX_USERS + 1];
    const bool rows = of != OF_CANDIDATES, candidates = of != OF_HISTORIES;
    hs_mat history_q = part_of(c, &c->q, false, offset), candidate_q = part_of(c, &c->q, true, others);
    hs_mat k = part_of(c, &c->k, true, others), v = part_of(c, &c->v, true, others);
    hs_mat both_q = joined(&history_q, &candidate_q);
    const hs_mat plain_q = of == OF_BOTH ? both_q : rows ? history_q : candidate_q;
    hs_mat got = mat_out(plain_q.rows, out->cols, out->ld);
    const hs_mat q = stored_new(isa, &plain_q, c->stored), own_k = stored_new(isa, &k, c->stored);
    const hs_mat own_v = stored_new(isa, &v, c->stored), to = stored_new(isa, &got, c->stored);
    const hs_rel_bias bias = {.position_w = c->position.data,
        .n = BIAS_N,
        .time_w = c->time.data,
        .bucket = c->bucket,
        .bucket_offset = c->bucket_offset,
        .bucket_cols = c->bucket_cols};
    const hs_jagged jagged = {.n_users = c->users.n, .offset = rows ? offset : none};
    const hs_silu_attn_args silu = {.out = to,
        .q = q,
        .own_k = own_k,
        .own_v = own_v,
        .kv = pages->view,
        .users = jagged,
        .candidates = candidates ? others : NULL,
        .history = history,
        .n_context = c->users.context,
        .alpha = c->alpha,
        .inv_n = c->inv_n,
        .bias = c->with_bias && !candidates ? &bias : NULL,
        .bf16 = c->bf16};
    const hs_softmax_attn_args softmax = {.out = to,
        .q = q,
        .kv = pages->view,
        .users = jagged,
        .history = history,
        .scale = c->alpha,
        .bias = c->with_bias ? &bias : NULL,
        .bf16 = c->bf16};
    assert_int_equal(
        c->softmax ? dev->table->softmax_attn(dev, &softmax, NULL) : dev->table->silu_attn(dev, &silu, NULL), HSTU_OK);
    stored_read(&to, &got);
    mat_check_gaps(&got);
    const size_t bytes = (size_t)out->cols * sizeof(float);
    const float *from = got.data;
    for (int64_t b = 0; rows && b < c->users.n; b++) {
        for (int64_t i = 0; i < history[b]; i++, from += got.ld)
            memcpy(out->data + (c->offset[b] + i) * out->ld, from, bytes);
    }
    for (int64_t b = 0; candidates && b < c->users.n; b++) {
        for (int64_t i = history[b]; i < c->users.length[b]; i++, from += got.ld)
            memcpy(out->data + (c->offset[b] + i) * out->ld, from, bytes);
    }
    const hs_mat all[] = {q, own_k, own_v, to};
    for (int i = 0; i < 4; i++)
        stored_free(&all[i]);
    hs_free(history_q.data);
    hs_free(candidate_q.data);
    hs_free(both_q.data);
    hs_free(k.data);
    hs_free(v.data);
    hs_free(got.data);
}

static inline hs_mat run(hs_device *dev, int isa, const attn_case *c)
{
    hs_mat out = mat_out(c->q.rows, c->n_heads * c->dv, c->n_heads * c->dv + 2);
    int64_t history[MAX_USERS];
    for (int64_t b = 0; b < c->users.n; b++)
        history[b] = c->users.length[b] - c->users.candidates[b];
    const hs_kv_shape shape = {
        .type = c->page_type, .page_tokens = c->page_tokens, .n_heads = c->n_heads, .dqk = c->dqk, .dv = c->dv};
    kv_pages pages = kv_of(shape, &c->k, &c->v, c->offset, history, c->users.n);
    run_part(dev, isa, c, &pages, history, OF_HISTORIES, &out);
    if (!c->softmax)
        run_part(dev, isa, c, &pages, history, OF_CANDIDATES, &out);
    if (!c->softmax && !c->with_bias) {
        hs_mat both = mat_out(out.rows, out.cols, out.ld);
        run_part(dev, isa, c, &pages, history, OF_BOTH, &both);
        for (int64_t r = 0; r < out.rows; r++)
            check_same_bits(
                both.data + r * out.ld, out.data + r * out.ld, out.cols, "histories and candidates at once");
        hs_free(both.data);
    }
    kv_free(&pages);
    return out;
}

#endif
