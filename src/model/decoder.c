/* The original's plain decoder (docs/formats.md). For each layer, D wide, one head, no norm in front:
 *   x' = x + softmax(q k^T / sqrt(D)) v W_o + b_o, causal;  x'' = x' + gelu(x' W_1 + b_1) W_2 + b_2 */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

typedef struct space {
    hs_mat q, k, v, attn, hidden;
} space;

static hstu_status linear(const hs_pass *pass, hs_mat out, hs_mat x, const hs_packed *w, const float *bias,
    hs_activation act, hs_mat residual, hstu_error *err)
{
    return hs_op_linear(pass->dev,
        &(hs_linear_args){
            .out = out, .x = x, .w = w, .bias = bias, .act = act, .residual = residual, .bf16 = pass->model->bf16},
        err);
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hstu_error *err)
{
    const hs_decoder_layer *w = &pass->model->weight.decoder[l];
    const int64_t d = pass->model->config.item_embedding_dim;
    const hs_mat none = {.data = NULL};

    HS_TRY(linear(pass, s->q, x, w->q, w->q_bias, HS_ACT_NONE, none, err));
    HS_TRY(linear(pass, s->k, x, w->k, w->k_bias, HS_ACT_NONE, none, err));
    HS_TRY(linear(pass, s->v, x, w->v, w->v_bias, HS_ACT_NONE, none, err));
    hs_pass_trace(pass, l, "q", s->q);
    hs_pass_trace(pass, l, "k", s->k);
    hs_pass_trace(pass, l, "v", s->v);
    HS_TRY(hs_op_softmax_attn(pass->dev,
        &(hs_softmax_attn_args){
            .out = s->attn,
            .q = s->q,
            .k = s->k,
            .v = s->v,
            .users = pass->input->users,
            .n_heads = 1,
            .dqk = d,
            .dv = d,
            .scale = 1.0f / sqrtf((float)d),
            .bf16 = pass->model->bf16,
        },
        err));
    hs_pass_trace(pass, l, "attn", s->attn);
    HS_TRY(linear(pass, x, s->attn, w->out, w->out_bias, HS_ACT_NONE, x, err));
    hs_pass_trace(pass, l, "ffn_in", x);
    HS_TRY(linear(pass, s->hidden, x, w->ffn1, w->ffn1_bias, HS_ACT_GELU, none, err));
    HS_TRY(linear(pass, x, s->hidden, w->ffn2, w->ffn2_bias, HS_ACT_NONE, x, err));
    hs_pass_trace(pass, l, "out", x);
    return HSTU_OK;
}

hstu_status hs_decoder_layers(const hs_pass *pass, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t d = c->item_embedding_dim;
    space s;
    HS_TRY(hs_pass_mat(pass, &s.q, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.k, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.v, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.hidden, pass->rows, c->ffn_hidden_dim, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &s, x, err));
    return HSTU_OK;
}
