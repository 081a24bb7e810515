/* Typed operations over keys and values in pages: every check, then the device. */
#include "base/error.h"
#include "op/op.h"
#include "op/op_check.h"
#include "op/op_profile.h"

#include <inttypes.h>

enum { MAX_HEADS = 1 << 20, MAX_DIM = 1 << 20, PAGE_ALIGNMENT = 64 };

static int64_t rows_of(const hs_jagged *users, int64_t user)
{
    return users->offset[user + 1] - users->offset[user];
}

static hstu_status check_shape(const char *op, const hs_kv_shape *s, hstu_error *err)
{
    if (s->type != HS_F32 && s->type != HS_BF16)
        return hs_fail(
            err, HSTU_EINVAL, 0, "op %s: the pages' type must be fp32 or bf16, but is number %d", op, (int)s->type);
    HS_TRY(
        hs_op_check_range(op, "the number of tokens in a page", s->page_tokens, HS_KV_PAGE_STEP, HS_KV_PAGE_MOST, err));
    if (s->page_tokens % HS_KV_PAGE_STEP != 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "op %s: the number of tokens in a page must be a multiple of %d, but is %" PRId64, op, (int)HS_KV_PAGE_STEP,
            s->page_tokens);
    HS_TRY(hs_op_check_range(op, "the number of heads", s->n_heads, 1, MAX_HEADS, err));
    HS_TRY(hs_op_check_range(op, "dqk", s->dqk, 1, MAX_DIM, err));
    return hs_op_check_range(op, "dv", s->dv, 1, MAX_DIM, err);
}

/* The pages of a user's tokens first .. end - 1 are there. */
static hstu_status check_pages(
    const char *op, const hs_kv_view *kv, int64_t user, int64_t first, int64_t end, hstu_error *err)
{
    if (end <= first)
        return HSTU_OK;
    HS_TRY(hs_op_check_pointer(op, "the list of pages", kv->page, 1, err));
    HS_TRY(hs_op_check_pointer(op, "first_page", kv->first_page, 1, err));
    HS_TRY(hs_op_check_range(op, "a user's first page", kv->first_page[user], 0, HS_OP_MAX_ELEMENTS, err));
    const int64_t last = (end - 1) / kv->shape.page_tokens;
    for (int64_t p = first / kv->shape.page_tokens; p <= last; p++) {
        const char *page = kv->page[kv->first_page[user] + p];
        if (!page)
            return hs_fail(err, HSTU_EINVAL, 0, "op %s: page %" PRId64 " of user %" PRId64 " is missing", op, p, user);
        if ((uintptr_t)page % PAGE_ALIGNMENT != 0)
            return hs_fail(err, HSTU_EINVAL, 0,
                "op %s: page %" PRId64 " of user %" PRId64 " must be aligned to %d bytes, but is at %p", op, p, user,
                (int)PAGE_ALIGNMENT, (const void *)page);
    }
    return HSTU_OK;
}

hstu_status hs_op_check_kv_write(const char *op, const hs_kv_write_args *a, hstu_error *err)
{
    const hs_kv_shape *s = &a->kv.shape;
    HS_TRY(check_shape(op, s, err));
    HS_TRY(hs_op_check_mat(op, "k", &a->k, -1, s->n_heads * s->dqk, err));
    HS_TRY(hs_op_check_mat(op, "v", &a->v, a->k.rows, s->n_heads * s->dv, err));
    HS_TRY(hs_op_check_users(op, &a->users, a->k.rows, err));
    for (int64_t b = 0; b < a->users.n_users; b++) {
        const int64_t rows = a->n_rows ? a->n_rows[b] : rows_of(&a->users, b);
        const int64_t position = a->position ? a->position[b] : 0;
        HS_TRY(hs_op_check_range(op, "a user's rows to write", rows, 0, rows_of(&a->users, b), err));
        HS_TRY(hs_op_check_range(op, "a user's position", position, 0, HS_OP_MAX_ELEMENTS, err));
        HS_TRY(check_pages(op, &a->kv, b, position, position + rows, err));
    }
    return HSTU_OK;
}

hstu_status hs_op_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err)
{
    HS_TRY(hs_op_check_kv_write("kv_write", a, err));
    HS_OP_CALL(dev, kv_write, a);
}

/* Pages, matrices, users and histories of either attention; candidates NULL: none. */
static hstu_status check_attn(const char *op, const hs_mat *out, const hs_mat *q, const hs_kv_view *kv,
    const hs_jagged *users, const int64_t *candidates, const int64_t *history, hstu_error *err)
{
    const hs_kv_shape *s = &kv->shape;
    HS_TRY(check_shape(op, s, err));
    HS_TRY(hs_op_check_mat(op, "q", q, -1, s->n_heads * s->dqk, err));
    HS_TRY(hs_op_check_mat(op, "out", out, q->rows, s->n_heads * s->dv, err));
    HS_TRY(hs_op_check_apart(op, "out", out, "q", q, err));
    HS_TRY(hs_op_check_users(op, users, q->rows - (candidates ? candidates[users->n_users] : 0), err));
    HS_TRY(hs_op_check_pointer(op, "history", history, users->n_users, err));
    for (int64_t b = 0; b < users->n_users; b++) {
        HS_TRY(hs_op_check_range(op, "a user's history", history[b], rows_of(users, b), HS_OP_MAX_ELEMENTS, err));
        if (rows_of(users, b) > 0 || (candidates && candidates[b + 1] > candidates[b]))
            HS_TRY(check_pages(op, kv, b, 0, history[b], err));
    }
    return HSTU_OK;
}

/* Buckets wide enough for every user: `padded_n` columns, or the user's history where it is 0. */
static hstu_status check_bias(const char *op, const hs_rel_bias *bias, const hs_jagged *users, const int64_t *history,
    int64_t padded_n, hstu_error *err)
{
    HS_TRY(hs_op_check_range(op, "the bias's n", bias->n, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_range(op, "the padded length", padded_n, 0, bias->n, err));
    HS_TRY(hs_op_check_pointer(op, "position_w", bias->position_w, 1, err));
    HS_TRY(hs_op_check_pointer(op, "time_w", bias->time_w, 1, err));
    HS_TRY(hs_op_check_pointer(op, "bucket", bias->bucket, users->offset[users->n_users], err));
    HS_TRY(hs_op_check_pointer(op, "bucket_offset", bias->bucket_offset, users->n_users, err));
    HS_TRY(hs_op_check_pointer(op, "bucket_cols", bias->bucket_cols, users->n_users, err));
    for (int64_t b = 0; b < users->n_users; b++) {
        if (rows_of(users, b) == 0)
            continue;
        HS_TRY(hs_op_check_range(op, "a user's history under a bias", history[b], 0, bias->n, err));
        HS_TRY(hs_op_check_range(op, "a user's bucket offset", bias->bucket_offset[b], 0, HS_OP_MAX_ELEMENTS, err));
        HS_TRY(hs_op_check_range(
            op, "a user's bucket columns", bias->bucket_cols[b], padded_n ? padded_n : history[b], INT32_MAX, err));
    }
    return HSTU_OK;
}

/* Candidates bring both matrices, and no bias. */
static hstu_status check_candidates(const char *op, const hs_silu_attn_args *a, hstu_error *err)
{
    const hs_kv_shape *s = &a->kv.shape;
    const hs_jagged candidates = {.n_users = a->users.n_users, .offset = a->candidates};
    if (!a->candidates)
        return HSTU_OK;
    HS_TRY(hs_op_check_range(op, "the number of users", a->users.n_users, 0, HS_OP_MAX_ELEMENTS, err));
    HS_TRY(hs_op_check_users(op, &candidates, a->own_k.rows, err));
    if (a->bias)
        return hs_fail(err, HSTU_EINVAL, 0, "op %s: candidates must come without a bias, but one is given", op);
    HS_TRY(hs_op_check_mat(op, "own_k", &a->own_k, -1, s->n_heads * s->dqk, err));
    HS_TRY(hs_op_check_mat(op, "own_v", &a->own_v, a->own_k.rows, s->n_heads * s->dv, err));
    HS_TRY(hs_op_check_apart(op, "out", &a->out, "own_k", &a->own_k, err));
    return hs_op_check_apart(op, "out", &a->out, "own_v", &a->own_v, err);
}

hstu_status hs_op_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err)
{
    const char *op = "silu_attn";
    HS_TRY(check_candidates(op, a, err));
    HS_TRY(check_attn(op, &a->out, &a->q, &a->kv, &a->users, a->candidates, a->history, err));
    for (int64_t b = 0; a->n_context && b < a->users.n_users; b++)
        HS_TRY(hs_op_check_range(op, "a user's contextual tokens", a->n_context[b], 0, a->history[b], err));
    HS_TRY(hs_op_check_finite(op, "alpha", (double)a->alpha, err));
    HS_TRY(hs_op_check_finite(op, "inv_n", (double)a->inv_n, err));
    if (a->bias)
        HS_TRY(check_bias(op, a->bias, &a->users, a->history, 0, err));
    HS_OP_CALL_COUNTED(dev, silu_attn, hs_op_silu_flop(a), a);
}

hstu_status hs_op_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    const char *op = "softmax_attn";
    HS_TRY(check_attn(op, &a->out, &a->q, &a->kv, &a->users, NULL, a->history, err));
    HS_TRY(hs_op_check_finite(op, "the scale", (double)a->scale, err));
    HS_TRY(hs_op_check_range(op, "the padded length", a->padded_n, 0, INT32_MAX, err));
    for (int64_t b = 0; a->padded_n && b < a->users.n_users; b++)
        HS_TRY(hs_op_check_range(op, "a user's history", a->history[b], 0, a->padded_n, err));
    if (a->bias)
        HS_TRY(check_bias(op, a->bias, &a->users, a->history, a->padded_n, err));
    HS_OP_CALL_COUNTED(dev, softmax_attn, hs_op_softmax_flop(a), a);
}
