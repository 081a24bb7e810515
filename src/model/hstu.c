/* Research HSTU layers, arXiv:2402.17152; reference: research/modeling/sequential/hstu.py. For each layer, per user:
 *   u, v, q, k = split(act(LN(x) W_uvqk))
 *   attn = A v, with A[i, j] = silu(q[i] . k[j] + bias[i, j]) / N for j <= i
 *   x' = y W_o + b_o + x, with y = u * LN(attn), or [u, LN(attn), u * LN(attn)] */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

/* The relative bias of one pass: every layer has its own weights and the same buckets. */
typedef struct bias {
    bool used;
    uint8_t *bucket;
    int64_t *offset, *newest, *cols; /* [n_users]: of a user's first row, of its newest, of every row */
} bias;

static bool is_softmax(const hs_pass *pass)
{
    return pass->model->config.normalization == HS_NORM_SOFTMAX;
}

/* Row i is bucketed by the time of event i + 1, the newest row by the time of the request. */
static hstu_status make_buckets(const hs_pass *pass, bias *out, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_jagged users = pass->users;
    const bool all_columns = is_softmax(pass);
    *out = (bias){.used = c->enable_relative_attention_bias && pass->input->timestamp};
    if (!out->used)
        return HSTU_OK;
    HS_TRY(hs_pass_ids(pass, &out->offset, users.n_users, err));
    HS_TRY(hs_pass_ids(pass, &out->newest, users.n_users, err));
    HS_TRY(hs_pass_ids(pass, &out->cols, users.n_users, err));
    int64_t n = 0;
    for (int64_t b = 0; b < users.n_users; b++) {
        out->offset[b] = n;
        out->cols[b] = all_columns ? c->attention_n : pass->length[b];
        n += (users.offset[b + 1] - users.offset[b]) * out->cols[b];
        out->newest[b] = n - out->cols[b];
    }
    out->bucket = hs_arena_alloc(pass->scratch, (size_t)n, sizeof *out->bucket);
    if (!out->bucket)
        return hs_fail_nomem(err, (size_t)n, "the time buckets");
    return hs_op_time_bucket(pass->dev,
        &(hs_time_bucket_args){
            .out = out->bucket,
            .out_offset = out->offset,
            .users = pass->input->users,
            .first = pass->reused,
            .timestamp = pass->input->timestamp,
            .query_time = pass->input->query_time,
            .n = c->attention_n,
            .n_buckets = c->num_time_buckets,
            .all_columns = all_columns,
        },
        err);
}

/* Rows that a layer goes on with behind its keys and values: all, or the users' newest. */
typedef struct queries {
    const hs_jagged *users;
    const int64_t *bucket_offset;
    hs_mat x, normed;
} queries;

/* softmax_rel_bias: heads are not split, softmax over all N columns, the causal mask afterwards. */
static hstu_status attention(
    const hs_pass *pass, int64_t l, const bias *b, const queries *rows, hs_mat out, hs_mat q, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_hstu_layer *layer = &pass->model->weight.hstu[l];
    const hs_kv_view kv = hs_pages_view(&pass->pages, l);
    const hs_rel_bias rel = {
        .position_w = layer->position_w,
        .n = c->attention_n,
        .time_w = layer->time_w,
        .n_buckets = c->num_time_buckets,
        .bucket = b->bucket,
        .bucket_offset = rows->bucket_offset,
        .bucket_cols = b->cols,
    };
    if (is_softmax(pass))
        return hs_op_softmax_attn(pass->dev,
            &(hs_softmax_attn_args){
                .out = out,
                .q = q,
                .kv = kv,
                .users = *rows->users,
                .history = pass->length,
                .scale = 1.0f / sqrtf((float)c->dqk),
                .padded_n = c->attention_n,
                .bias = b->used ? &rel : NULL,
                .bf16 = pass->model->bf16,
            },
            err);
    return hs_op_silu_attn(pass->dev,
        &(hs_silu_attn_args){
            .out = out,
            .q = q,
            .kv = kv,
            .users = *rows->users,
            .history = pass->length,
            .alpha = 1.0f,
            .inv_n = 1.0f / (float)c->attention_n,
            .bias = b->used ? &rel : NULL,
            .bf16 = pass->model->bf16,
        },
        err);
}

/* Workspace of one layer; all layers use the same. */
typedef struct space {
    hs_mat normed, u, v, q, k, attn, y; /* of every row */
    hs_mat newest, newest_normed;       /* of the users' newest rows: the last layer's input and output, and its norm */
} space;

/* Keys and values of every row, which are stored, queries and gates of `rows`. */
static hstu_status project(const hs_pass *pass, int64_t l, const space *s, const queries *rows, hstu_error *err)
{
    const hs_hstu_layer *w = &pass->model->weight.hstu[l];
    const hs_mat u = hs_mat_rows(s->u, 0, rows->x.rows), q = hs_mat_rows(s->q, 0, rows->x.rows);
    const hs_activation act = pass->model->config.linear_activation == HS_LINEAR_SILU ? HS_ACT_SILU : HS_ACT_NONE;
    hs_linear_args four[] = {{.out = s->v, .x = s->normed, .w = w->v}, {.out = s->k, .x = s->normed, .w = w->k},
        {.out = u, .x = rows->normed, .w = w->u}, {.out = q, .x = rows->normed, .w = w->q}};
    const hs_kv_write_args stored = hs_pass_stored(pass, l, s->k, s->v);
    for (int i = 0; i < 4; i++) {
        four[i].stored = i < 2 ? &stored : NULL;
        four[i].stored_only = !pass->trace;
        four[i].act = act;
        four[i].bf16 = pass->model->bf16;
    }
    if (s->y.cols == u.cols)
        four[2].next = hs_mat_rows(s->y, 0, u.rows);
    HS_TRY(hs_op_linears(pass->dev, four, 4, err));
    HS_TRY(hs_pass_trace(pass, l, "u", u, err));
    HS_TRY(hs_pass_trace(pass, l, "v", s->v, err));
    HS_TRY(hs_pass_trace(pass, l, "q", q, err));
    HS_TRY(hs_pass_trace(pass, l, "k", s->k, err));
    return HSTU_OK;
}

/* Attention and all that follows; rows->x becomes the layer's output. */
static hstu_status finish_layer(
    const hs_pass *pass, int64_t l, const bias *b, const space *whole, const queries *rows, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_hstu_layer *layer = &pass->model->weight.hstu[l];
    space s = *whole;
    s.u.rows = s.q.rows = s.attn.rows = s.y.rows = rows->x.rows;

    HS_TRY(attention(pass, l, b, rows, s.attn, s.q, err));
    HS_TRY(hs_pass_trace(pass, l, "attn", s.attn, err));
    HS_TRY(hs_op_norm_gate(pass->dev,
        &(hs_norm_gate_args){.out = s.y,
            .u = s.u,
            .o = s.attn,
            .eps = (float)c->layer_norm_eps,
            .concat = c->concat_ua,
            .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_pass_trace(pass, l, "o_in", s.y, err));
    HS_TRY(hs_op_linear(pass->dev,
        &(hs_linear_args){.out = rows->x,
            .x = s.y,
            .w = layer->o,
            .bias = layer->o_bias,
            .residual = rows->x,
            .bf16 = pass->model->bf16,
            .next = rows->normed},
        err));
    HS_TRY(hs_pass_trace(pass, l, "out", rows->x, err));
    return HSTU_OK;
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const bias *b, const space *s, hs_mat x, hstu_error *err)
{
    const float eps = (float)pass->model->config.layer_norm_eps;
    queries rows = {.users = &pass->users, .bucket_offset = b->offset, .x = x, .normed = s->normed};

    HS_TRY(hs_op_layer_norm(
        pass->dev, &(hs_layer_norm_args){.out = s->normed, .x = x, .eps = eps, .bf16 = pass->model->bf16}, err));
    HS_TRY(hs_pass_trace(pass, l, "normed", s->normed, err));
    if (hs_pass_narrows(pass, l)) {
        HS_TRY(hs_pass_newest(pass, s->newest, x, err));
        HS_TRY(hs_pass_newest(pass, s->newest_normed, s->normed, err));
        rows =
            (queries){.users = &pass->newest, .bucket_offset = b->newest, .x = s->newest, .normed = s->newest_normed};
    }
    HS_TRY(project(pass, l, s, &rows, err));
    return finish_layer(pass, l, b, s, &rows, err);
}

hstu_status hs_hstu_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t hv = c->num_heads * c->dv, hqk = c->num_heads * c->dqk, n = pass->rows;
    bias b;
    space s = {.newest = newest};
    HS_TRY(make_buckets(pass, &b, err));
    HS_TRY(hs_pass_mat(pass, &s.normed, n, c->item_embedding_dim, err));
    HS_TRY(hs_pass_mat(pass, &s.u, n, hv, err));
    HS_TRY(hs_pass_mat(pass, &s.v, n, hv, err));
    HS_TRY(hs_pass_mat(pass, &s.q, n, hqk, err));
    HS_TRY(hs_pass_mat(pass, &s.k, n, hqk, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, n, hv, err));
    HS_TRY(hs_pass_mat(pass, &s.y, n, c->concat_ua ? 3 * hv : hv, err));
    HS_TRY(hs_pass_mat(pass, &s.newest_normed, newest.rows, c->item_embedding_dim, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &b, &s, x, err));
    return pass->trace ? hs_pass_newest(pass, newest, x, err) : HSTU_OK;
}
