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
    int64_t *offset, *cols; /* [n_users] */
} bias;

static bool is_softmax(const hs_pass *pass)
{
    return pass->model->config.normalization == HS_NORM_SOFTMAX;
}

/* Row i is bucketed by the time of event i + 1, the newest row by the time of the request. */
static hstu_status make_buckets(const hs_pass *pass, bias *out, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_jagged users = pass->input->users;
    const bool all_columns = is_softmax(pass);
    *out = (bias){.used = c->enable_relative_attention_bias && pass->input->timestamp};
    if (!out->used)
        return HSTU_OK;
    out->offset = hs_arena_alloc(pass->scratch, (size_t)users.n_users, sizeof *out->offset);
    out->cols = hs_arena_alloc(pass->scratch, (size_t)users.n_users, sizeof *out->cols);
    if (!out->offset || !out->cols)
        return hs_fail_nomem(err, (size_t)users.n_users * sizeof *out->offset, "the forward pass");
    int64_t n = 0;
    for (int64_t b = 0; b < users.n_users; b++) {
        const int64_t length = users.offset[b + 1] - users.offset[b];
        out->offset[b] = n;
        out->cols[b] = all_columns ? c->attention_n : length;
        n += length * out->cols[b];
    }
    out->bucket = hs_arena_alloc(pass->scratch, (size_t)n, sizeof *out->bucket);
    if (!out->bucket)
        return hs_fail_nomem(err, (size_t)n, "the time buckets");
    return hs_op_time_bucket(pass->dev,
        &(hs_time_bucket_args){
            .out = out->bucket,
            .out_offset = out->offset,
            .users = users,
            .timestamp = pass->input->timestamp,
            .query_time = pass->input->query_time,
            .n = c->attention_n,
            .n_buckets = c->num_time_buckets,
            .all_columns = all_columns,
        },
        err);
}

/* The variant whose heads are not split: softmax over all N columns, the causal mask afterwards. */
static hstu_status softmax_attention(
    const hs_pass *pass, hs_mat out, hs_mat q, hs_mat k, hs_mat v, const hs_rel_bias *rel, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    return hs_op_softmax_attn(pass->dev,
        &(hs_softmax_attn_args){
            .out = out,
            .q = q,
            .k = k,
            .v = v,
            .users = pass->input->users,
            .n_heads = 1,
            .dqk = c->num_heads * c->dqk,
            .dv = c->num_heads * c->dv,
            .scale = 1.0f / sqrtf((float)c->dqk),
            .padded_n = c->attention_n,
            .bias = rel,
        },
        err);
}

static hstu_status attention(const hs_pass *pass, const hs_hstu_layer *layer, const bias *b, hs_mat out, hs_mat q,
    hs_mat k, hs_mat v, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_rel_bias rel = {
        .position_w = layer->position_w,
        .n = c->attention_n,
        .time_w = layer->time_w,
        .bucket = b->bucket,
        .bucket_offset = b->offset,
        .bucket_cols = b->cols,
    };
    if (is_softmax(pass))
        return softmax_attention(pass, out, q, k, v, b->used ? &rel : NULL, err);
    return hs_op_silu_attn(pass->dev,
        &(hs_silu_attn_args){
            .out = out,
            .q = q,
            .k = k,
            .v = v,
            .users = pass->input->users,
            .n_heads = c->num_heads,
            .dqk = c->dqk,
            .dv = c->dv,
            .alpha = 1.0f,
            .inv_n = 1.0f / (float)c->attention_n,
            .bias = b->used ? &rel : NULL,
        },
        err);
}

/* Workspace of one layer; all layers use the same. */
typedef struct space {
    hs_mat normed, z, attn, y;
} space;

static hstu_status run_layer(const hs_pass *pass, int64_t l, const bias *b, const space *s, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_hstu_layer *layer = &pass->model->weight.hstu[l];
    const float eps = (float)c->layer_norm_eps;
    const int64_t hv = c->num_heads * c->dv, hqk = c->num_heads * c->dqk;
    const hs_mat u = hs_mat_cols(s->z, 0, hv), v = hs_mat_cols(s->z, hv, hv);
    const hs_mat q = hs_mat_cols(s->z, 2 * hv, hqk), k = hs_mat_cols(s->z, 2 * hv + hqk, hqk);
    const hs_activation act = c->linear_activation == HS_LINEAR_SILU ? HS_ACT_SILU : HS_ACT_NONE;

    HS_TRY(hs_op_layer_norm(pass->dev, &(hs_layer_norm_args){.out = s->normed, .x = x, .eps = eps}, err));
    hs_pass_trace(pass, l, "normed", s->normed);
    HS_TRY(hs_op_linear(pass->dev, &(hs_linear_args){.out = s->z, .x = s->normed, .w = layer->uvqk, .act = act}, err));
    hs_pass_trace(pass, l, "u", u);
    hs_pass_trace(pass, l, "v", v);
    hs_pass_trace(pass, l, "q", q);
    hs_pass_trace(pass, l, "k", k);
    HS_TRY(attention(pass, layer, b, s->attn, q, k, v, err));
    hs_pass_trace(pass, l, "attn", s->attn);
    HS_TRY(hs_op_norm_gate(
        pass->dev, &(hs_norm_gate_args){.out = s->y, .u = u, .o = s->attn, .eps = eps, .concat = c->concat_ua}, err));
    hs_pass_trace(pass, l, "o_in", s->y);
    HS_TRY(hs_op_linear(
        pass->dev, &(hs_linear_args){.out = x, .x = s->y, .w = layer->o, .bias = layer->o_bias, .residual = x}, err));
    hs_pass_trace(pass, l, "out", x);
    return HSTU_OK;
}

hstu_status hs_hstu_layers(const hs_pass *pass, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t hv = c->num_heads * c->dv, hqk = c->num_heads * c->dqk;
    bias b;
    space s;
    HS_TRY(make_buckets(pass, &b, err));
    HS_TRY(hs_pass_mat(pass, &s.normed, pass->rows, c->item_embedding_dim, err));
    HS_TRY(hs_pass_mat(pass, &s.z, pass->rows, 2 * hv + 2 * hqk, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, pass->rows, hv, err));
    HS_TRY(hs_pass_mat(pass, &s.y, pass->rows, c->concat_ua ? 3 * hv : hv, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &b, &s, x, err));
    return HSTU_OK;
}
