/* Typed operations but those over pages (op_attn.c): every check, then the device. */
#include "op/op.h"

#include "base/error.h"
#include "op/op_check.h"
#include "op/op_profile.h"

#include <inttypes.h>

enum { MAX_BUCKETS = 255 };

hstu_status hs_op_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err)
{
    if (type != HS_F32 && type != HS_BF16)
        return hs_fail(err, HSTU_EINVAL, 0, "op pack: the type must be fp32 or bf16, but is %s", hs_dtype_name(type));
    HS_TRY(hs_op_check_range("pack", "the number of inputs", in, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_range("pack", "the number of outputs", n, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_range("pack", "the distance of inputs", stride_in, 0, INT32_MAX, err));
    HS_TRY(hs_op_check_range("pack", "the distance of outputs", stride_out, 0, INT32_MAX, err));
    HS_TRY(hs_op_check_pointer("pack", "the weight", w, 1, err));
    return dev->table->pack(dev, out, w, type, in, n, stride_in, stride_out, err);
}

void hs_op_pack_free(hs_device *dev, hs_packed *w)
{
    if (w)
        dev->table->pack_free(w);
}

void hs_op_parallel(hs_device *dev, int64_t n, void (*fn)(void *ctx, int64_t i), void *ctx)
{
    dev->table->parallel(dev, n, fn, ctx);
}

hstu_status hs_op_begin(hs_device *dev, const hs_pass_rows *rows, hstu_error *err)
{
    const char *op = "begin";
    HS_TRY(hs_op_check_range(op, "the number of users", rows->users.n_users, 0, HS_OP_MAX_ELEMENTS, err));
    HS_TRY(hs_op_check_pointer(op, "the users' offsets", rows->users.offset, 1, err));
    HS_TRY(hs_op_check_users(op, &rows->users, rows->users.offset[rows->users.n_users], err));
    for (int64_t b = 0; rows->past && b < rows->users.n_users; b++)
        HS_TRY(hs_op_check_range(op, "a user's tokens before the pass", rows->past[b], 0, HS_OP_MAX_ELEMENTS, err));
    if (rows->candidates) {
        const hs_jagged candidates = {.n_users = rows->users.n_users, .offset = rows->candidates};
        HS_TRY(hs_op_check_users(op, &candidates, rows->candidates[rows->users.n_users], err));
    }
    return dev->table->begin(dev, rows, err);
}

hstu_status hs_op_show(hs_device *dev, const hs_show_args *a, hstu_error *err)
{
    HS_TRY(hs_op_check_mat("show", "the matrix", &a->m, -1, -1, err));
    return dev->table->show(dev, a, err);
}

hstu_status hs_op_end(hs_device *dev, hs_mat result, hstu_error *err)
{
    if (result.data)
        HS_TRY(hs_op_check_mat("end", "the result", &result, -1, -1, err));
    HS_OP_CALL(dev, end, result);
}

hstu_status hs_op_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err)
{
    const char *op = "embed";
    const int64_t rows = a->out.rows, max_rows = HS_OP_MAX_ELEMENTS / (a->out.cols > 0 ? a->out.cols : 1);
    HS_TRY(hs_op_check_mat(op, "out", &a->out, -1, -1, err));
    HS_TRY(hs_op_check_pointer(op, "the list of rows", a->row, rows, err));
    if (a->row_type != HS_F32 && a->row_type != HS_BF16)
        return hs_fail(
            err, HSTU_EINVAL, 0, "op embed: the rows' type must be fp32 or bf16, but is number %d", (int)a->row_type);
    HS_TRY(hs_op_check_finite(op, "the scale", (double)a->scale, err));
    if (a->position) {
        HS_TRY(hs_op_check_range(op, "the position table's rows", a->position_rows, 0, max_rows, err));
        HS_TRY(hs_op_check_ids(op, "a position", a->position_id, rows, a->position_rows, err));
    }
    HS_OP_CALL(dev, embed, a);
}

hstu_status hs_op_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err)
{
    const char *op = "layer_norm";
    HS_TRY(hs_op_check_mat(op, "out", &a->out, -1, -1, err));
    HS_TRY(hs_op_check_range(op, "the number of columns", a->out.cols, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_mat(op, "x", &a->x, a->out.rows, a->out.cols, err));
    if (a->add.data)
        HS_TRY(hs_op_check_mat(op, "add", &a->add, a->out.rows, a->out.cols, err));
    HS_OP_CALL(dev, layer_norm, a);
}

hstu_status hs_op_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err)
{
    const char *op = "norm_gate";
    HS_TRY(hs_op_check_mat(op, "o", &a->o, -1, -1, err));
    HS_TRY(hs_op_check_range(op, "the number of columns", a->o.cols, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_mat(op, "u", &a->u, a->o.rows, a->o.cols, err));
    HS_TRY(hs_op_check_mat(op, "out", &a->out, a->o.rows, a->concat ? 3 * a->o.cols : a->o.cols, err));
    if (a->concat) {
        HS_TRY(hs_op_check_apart(op, "out", &a->out, "u", &a->u, err));
        HS_TRY(hs_op_check_apart(op, "out", &a->out, "o", &a->o, err));
    }
    HS_OP_CALL(dev, norm_gate, a);
}

static hstu_status check_linear(hs_device *dev, const hs_linear_args *a, hstu_error *err)
{
    const char *op = "linear";
    HS_TRY(hs_op_check_pointer(op, "the weight", a->w, 1, err));
    int64_t in = 0, n = 0;
    dev->table->pack_size(a->w, &in, &n);
    HS_TRY(hs_op_check_range(op, "the activation", (int64_t)a->act, HS_ACT_NONE, HS_ACT_GELU, err));
    HS_TRY(hs_op_check_mat(op, "x", &a->x, -1, in, err));
    HS_TRY(hs_op_check_mat(op, "out", &a->out, a->x.rows, n, err));
    HS_TRY(hs_op_check_apart(op, "out", &a->out, "x", &a->x, err));
    if (a->residual.data) {
        HS_TRY(hs_op_check_mat(op, "residual", &a->residual, a->x.rows, n, err));
        if (a->residual.data != a->out.data || a->residual.ld != a->out.ld || a->residual.bf16 != a->out.bf16)
            HS_TRY(hs_op_check_apart(op, "out", &a->out, "residual", &a->residual, err));
    }
    if (!a->stream.data)
        return HSTU_OK;
    HS_TRY(hs_op_check_mat(op, "stream", &a->stream, a->x.rows, n, err));
    HS_TRY(hs_op_check_apart(op, "stream", &a->stream, "out", &a->out, err));
    HS_TRY(hs_op_check_apart(op, "stream", &a->stream, "x", &a->x, err));
    if (a->stream.bf16 || a->act != HS_ACT_NONE || a->residual.data)
        return hs_fail(err, HSTU_EINVAL, 0,
            "op %s: a stream must hold float32 values, with neither an activation nor a residual beside it", op);
    return HSTU_OK;
}

/* What one layer writes, and all that another reads or writes. */
static hstu_status check_beside(const char *name, const hs_mat *written, const hs_linear_args *other, hstu_error *err)
{
    const hs_mat *const all[] = {&other->x, &other->out, &other->residual, &other->stream};
    static const char *const names[] = {"another's x", "another's out", "another's residual", "another's stream"};
    for (int i = 0; i < 4; i++) {
        if (all[i]->data)
            HS_TRY(hs_op_check_apart("linear", name, written, names[i], all[i], err));
    }
    return HSTU_OK;
}

static bool is_out(const hs_linear_args *a, const hs_mat *m)
{
    return a->out.data == m->data && a->out.rows >= m->rows && a->out.cols == m->cols && a->out.ld == m->ld &&
           a->out.bf16 == m->bf16;
}

/* Layer i's out is stored: it is keys or values, and another layer's is the other. */
static hstu_status check_stored(const hs_linear_args *a, int64_t n, int64_t i, hstu_error *err)
{
    const hs_kv_write_args *s = a[i].stored;
    const bool keys = is_out(&a[i], &s->k);
    if (keys)
        HS_TRY(hs_op_check_kv_write("linear", s, err));
    for (int64_t j = 0; j < n && (keys || is_out(&a[i], &s->v)); j++) {
        if (j != i && a[j].stored == s && is_out(&a[j], keys ? &s->v : &s->k))
            return HSTU_OK;
    }
    return hs_fail(err, HSTU_EINVAL, 0,
        "op linear: keys and values that are stored must be results of two layers of one call, but layer %d has no "
        "partner",
        (int)i);
}

hstu_status hs_op_linears(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    HS_TRY(hs_op_check_range("linear", "the number of layers", n, 1, HS_LINEAR_MOST, err));
    for (int64_t i = 0; i < n; i++) {
        HS_TRY(check_linear(dev, &a[i], err));
        if (a[i].stored)
            HS_TRY(check_stored(a, n, i, err));
        if (a[i].next.data)
            HS_TRY(hs_op_check_mat("linear", "next", &a[i].next, a[i].out.rows, a[i].out.cols, err));
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            if (j == i)
                continue;
            HS_TRY(check_beside("a layer's out", &a[i].out, &a[j], err));
            if (a[i].stream.data)
                HS_TRY(check_beside("a layer's stream", &a[i].stream, &a[j], err));
        }
    }
    HS_OP_CALL_COUNTED(dev, linear, hs_op_linear_flop(a, n), a, n);
}

hstu_status hs_op_linear(hs_device *dev, const hs_linear_args *a, hstu_error *err)
{
    return hs_op_linears(dev, a, 1, err);
}

hstu_status hs_op_time_bucket(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err)
{
    const char *op = "time_bucket";
    HS_TRY(hs_op_check_range(op, "the number of users", a->users.n_users, 0, HS_OP_MAX_ELEMENTS, err));
    HS_TRY(hs_op_check_pointer(op, "the users' offsets", a->users.offset, 1, err));
    const int64_t rows = a->users.offset[a->users.n_users];
    HS_TRY(hs_op_check_users(op, &a->users, rows, err));
    HS_TRY(hs_op_check_range(op, "n", a->n, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_range(op, "the number of buckets", a->n_buckets, 0, MAX_BUCKETS, err));
    HS_TRY(hs_op_check_pointer(op, "out", a->out, rows, err));
    HS_TRY(hs_op_check_pointer(op, "out_offset", a->out_offset, rows, err));
    HS_TRY(hs_op_check_pointer(op, "timestamp", a->timestamp, rows, err));
    HS_TRY(hs_op_check_pointer(op, "query_time", a->query_time, rows, err));
    for (int64_t b = 0; b < a->users.n_users; b++) {
        const int64_t user_rows = a->users.offset[b + 1] - a->users.offset[b];
        HS_TRY(hs_op_check_range(op, "a user's rows", user_rows, 0, a->n, err));
        HS_TRY(hs_op_check_range(op, "a user's first row", a->first ? a->first[b] : 0, 0, user_rows, err));
        HS_TRY(hs_op_check_range(op, "an offset in out", a->out_offset[b], 0, HS_OP_MAX_ELEMENTS, err));
    }
    HS_OP_CALL(dev, time_bucket, a);
}

hstu_status hs_op_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    const char *op = "gather";
    HS_TRY(hs_op_check_mat(op, "out", &a->out, -1, -1, err));
    HS_TRY(hs_op_check_mat(op, "x", &a->x, -1, a->out.cols, err));
    HS_TRY(hs_op_check_ids(op, "a row", a->row, a->out.rows, a->x.rows, err));
    HS_TRY(hs_op_check_apart(op, "out", &a->out, "x", &a->x, err));
    HS_OP_CALL(dev, gather, a);
}

hstu_status hs_op_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    HS_TRY(hs_op_check_mat("l2_norm", "out", &a->out, -1, -1, err));
    HS_TRY(hs_op_check_mat("l2_norm", "x", &a->x, a->out.rows, a->out.cols, err));
    HS_OP_CALL(dev, l2_norm, a);
}

/* Candidates ascending and inside the table. */
static hstu_status check_candidates(const char *op, const hs_topk_args *a, hstu_error *err)
{
    HS_TRY(hs_op_check_range(op, "the number of candidates", a->n_candidates, 0, a->table_rows, err));
    HS_TRY(hs_op_check_range(op, "the number of candidates", a->n_candidates, 0, HS_TOPK_MOST, err));
    if (!a->candidate)
        return a->n_candidates == 0
                   ? HSTU_OK
                   : hs_op_check_range(op, "the first candidate", a->first, 0, a->table_rows - a->n_candidates, err);
    HS_TRY(hs_op_check_ids(op, "a candidate", a->candidate, a->n_candidates, a->table_rows, err));
    for (int64_t i = 1; i < a->n_candidates; i++) {
        if (a->candidate[i] <= a->candidate[i - 1])
            return hs_fail(err, HSTU_EINVAL, 0, "op %s: candidates must ascend, but %" PRId64 " follows %" PRId64, op,
                a->candidate[i], a->candidate[i - 1]);
    }
    return HSTU_OK;
}

static hstu_status check_seen(const char *op, const hs_topk_args *a, hstu_error *err)
{
    const int64_t n = a->query.rows;
    if (!a->seen_offset && !a->seen)
        return HSTU_OK;
    HS_TRY(hs_op_check_pointer(op, "seen_offset", a->seen_offset, 1, err));
    const hs_jagged lists = {.n_users = n, .offset = a->seen_offset};
    HS_TRY(hs_op_check_users(op, &lists, a->seen_offset[n], err));
    HS_TRY(hs_op_check_pointer(op, "seen", a->seen, a->seen_offset[n], err));
    for (int64_t q = 0; q < n; q++) {
        for (int64_t i = a->seen_offset[q] + 1; i < a->seen_offset[q + 1]; i++) {
            if (a->seen[i] < a->seen[i - 1])
                return hs_fail(err, HSTU_EINVAL, 0,
                    "op %s: seen ids must ascend, but query %" PRId64 " has %" PRId64 " behind %" PRId64, op, q,
                    a->seen[i], a->seen[i - 1]);
        }
    }
    return HSTU_OK;
}

hstu_status hs_op_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err)
{
    const char *op = "topk";
    HS_TRY(hs_op_check_mat(op, "query", &a->query, -1, -1, err));
    const int64_t n = a->query.rows;
    HS_TRY(hs_op_check_range(op, "the number of columns", a->query.cols, 1, INT32_MAX, err));
    HS_TRY(hs_op_check_range(op, "the table's rows", a->table_rows, 0, HS_OP_MAX_ELEMENTS / a->query.cols, err));
    if (a->table_type != HS_F32 && a->table_type != HS_BF16)
        return hs_fail(err, HSTU_EINVAL, 0, "op topk: the table's type must be fp32 or bf16, but is number %d",
            (int)a->table_type);
    HS_TRY(hs_op_check_pointer(op, "the table", a->table, a->n_candidates, err));
    HS_TRY(check_candidates(op, a, err));
    HS_TRY(check_seen(op, a, err));
    HS_TRY(hs_op_check_range(op, "k", a->k, 0, HS_OP_MAX_ELEMENTS / (n > 0 ? n : 1), err));
    HS_TRY(hs_op_check_pointer(op, "item", a->item, a->k * n, err));
    HS_TRY(hs_op_check_pointer(op, "score", a->score, a->k * n, err));
    if (a->target)
        HS_TRY(hs_op_check_pointer(op, "rank", a->rank, n, err));
    HS_OP_CALL_COUNTED(dev, topk, hs_op_topk_flop(a), a);
}
