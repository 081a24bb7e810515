/* SASRec layers, arXiv:1808.09781 as the reference builds them; research/modeling/sequential/sasrec.py. For each layer:
 *   qn = LN(x);  m = attention(query qn, keys and values x)
 *   y = LN(qn + m);  x' = act(y W_1 + b_1) W_2 + b_2 + y */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

static const float layer_norm_eps = 1e-8f; /* a constant of the reference */

typedef struct space {
    hs_mat qn, q, kv, attn, m, y, hidden; /* of every row */
    hs_mat newest;                        /* the layer's input, of the users' newest rows */
} space;

/* Attention and the feed-forward part for the rows x of `users`, whose keys and values are stored. */
static hstu_status finish_layer(
    const hs_pass *pass, int64_t l, const hs_jagged *users, const space *whole, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_sasrec_layer *w = &pass->model->weight.sasrec[l];
    hs_device *dev = pass->dev;
    const hs_activation act = c->ffn_activation_fn == HS_FFN_GELU ? HS_ACT_GELU : HS_ACT_RELU;
    space s = *whole;
    s.qn.rows = s.q.rows = s.attn.rows = s.m.rows = s.y.rows = s.hidden.rows = x.rows;

    HS_TRY(hs_op_layer_norm(
        dev, &(hs_layer_norm_args){.out = s.qn, .x = x, .eps = layer_norm_eps, .bf16 = pass->model->bf16}, err));
    HS_TRY(hs_op_linear(
        dev, &(hs_linear_args){.out = s.q, .x = s.qn, .w = w->q, .bias = w->in_bias, .bf16 = pass->model->bf16}, err));
    HS_TRY(hs_op_softmax_attn(dev,
        &(hs_softmax_attn_args){
            .out = s.attn,
            .q = s.q,
            .kv = hs_pages_view(&pass->pages, l),
            .users = *users,
            .history = pass->length,
            .scale = 1.0f / sqrtf((float)(c->item_embedding_dim / c->num_heads)),
            .bf16 = pass->model->bf16,
        },
        err));
    HS_TRY(hs_op_linear(dev,
        &(hs_linear_args){.out = s.m, .x = s.attn, .w = w->out, .bias = w->out_bias, .bf16 = pass->model->bf16}, err));
    HS_TRY(hs_pass_trace(pass, l, "mha_out", s.m, err));
    HS_TRY(hs_op_layer_norm(dev,
        &(hs_layer_norm_args){.out = s.y, .x = s.m, .add = s.qn, .eps = layer_norm_eps, .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_pass_trace(pass, l, "ffn_in", s.y, err));
    HS_TRY(hs_op_linear(dev,
        &(hs_linear_args){
            .out = s.hidden, .x = s.y, .w = w->ffn1, .bias = w->ffn1_bias, .act = act, .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_op_linear(dev,
        &(hs_linear_args){
            .out = x, .x = s.hidden, .w = w->ffn2, .bias = w->ffn2_bias, .residual = s.y, .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_pass_trace(pass, l, "ffn_out", x, err));
    return HSTU_OK;
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hstu_error *err)
{
    const int64_t d = pass->model->config.item_embedding_dim;
    const hs_sasrec_layer *w = &pass->model->weight.sasrec[l];
    HS_TRY(hs_op_linear(pass->dev,
        &(hs_linear_args){.out = s->kv, .x = x, .w = w->kv, .bias = w->in_bias + d, .bf16 = pass->model->bf16}, err));
    HS_TRY(hs_pass_keep(pass, l, hs_mat_cols(s->kv, 0, d), hs_mat_cols(s->kv, d, d), err));
    if (!hs_pass_narrows(pass, l))
        return finish_layer(pass, l, &pass->users, s, x, err);
    HS_TRY(hs_pass_newest(pass, s->newest, x, err));
    return finish_layer(pass, l, &pass->newest, s, s->newest, err);
}

hstu_status hs_sasrec_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t d = c->item_embedding_dim;
    space s = {.newest = newest};
    HS_TRY(hs_pass_mat(pass, &s.qn, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.q, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.kv, pass->rows, 2 * d, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.m, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.y, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.hidden, pass->rows, c->ffn_hidden_dim, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &s, x, err));
    return pass->trace ? hs_pass_newest(pass, newest, x, err) : HSTU_OK;
}
