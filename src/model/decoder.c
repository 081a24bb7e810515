/* The original's plain decoder (docs/formats.md). For each layer, D wide, one head, no norm in front:
 *   x' = x + softmax(q k^T / sqrt(D)) v W_o + b_o, causal;  x'' = x' + gelu(x' W_1 + b_1) W_2 + b_2 */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

typedef struct space {
    hs_mat q, k, v, attn, hidden; /* of every row */
    hs_mat newest;                /* the layer's input, of the users' newest rows */
} space;

static hs_linear_args plain(const hs_pass *pass, hs_mat out, hs_mat x, const hs_packed *w, const float *bias)
{
    return (hs_linear_args){.out = out, .x = x, .w = w, .bias = bias, .bf16 = pass->model->bf16};
}

static hstu_status linear(const hs_pass *pass, hs_mat out, hs_mat x, const hs_packed *w, const float *bias,
    hs_activation act, hs_mat residual, hstu_error *err)
{
    return hs_op_linear(pass->dev,
        &(hs_linear_args){
            .out = out, .x = x, .w = w, .bias = bias, .act = act, .residual = residual, .bf16 = pass->model->bf16},
        err);
}

/* Keys and values of every row of x, queries of `rows`. */
static hstu_status project(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hs_mat rows, hstu_error *err)
{
    const hs_decoder_layer *w = &pass->model->weight.decoder[l];
    const hs_mat q = hs_mat_rows(s->q, 0, rows.rows);
    const hs_kv_write_args stored = hs_pass_stored(pass, l, s->k, s->v);
    hs_linear_args three[] = {plain(pass, s->k, x, w->k, w->k_bias), plain(pass, s->v, x, w->v, w->v_bias),
        plain(pass, q, rows, w->q, w->q_bias)};
    three[0].stored = three[1].stored = &stored;
    HS_TRY(hs_op_linears(pass->dev, three, 3, err));
    HS_TRY(hs_pass_trace(pass, l, "q", q, err));
    HS_TRY(hs_pass_trace(pass, l, "k", s->k, err));
    HS_TRY(hs_pass_trace(pass, l, "v", s->v, err));
    return HSTU_OK;
}

/* Attention and all that follows for the rows x of `users`, whose keys and values are stored. */
static hstu_status finish_layer(
    const hs_pass *pass, int64_t l, const hs_jagged *users, const space *s, hs_mat x, hstu_error *err)
{
    const hs_decoder_layer *w = &pass->model->weight.decoder[l];
    const hs_mat none = {.data = NULL}, q = hs_mat_rows(s->q, 0, x.rows), attn = hs_mat_rows(s->attn, 0, x.rows);
    const hs_mat hidden = hs_mat_rows(s->hidden, 0, x.rows);

    HS_TRY(hs_op_softmax_attn(pass->dev,
        &(hs_softmax_attn_args){
            .out = attn,
            .q = q,
            .kv = hs_pages_view(&pass->pages, l),
            .users = *users,
            .history = pass->length,
            .scale = 1.0f / sqrtf((float)pass->model->config.item_embedding_dim),
            .bf16 = pass->model->bf16,
        },
        err));
    HS_TRY(hs_pass_trace(pass, l, "attn", attn, err));
    HS_TRY(linear(pass, x, attn, w->out, w->out_bias, HS_ACT_NONE, x, err));
    HS_TRY(hs_pass_trace(pass, l, "ffn_in", x, err));
    HS_TRY(linear(pass, hidden, x, w->ffn1, w->ffn1_bias, HS_ACT_GELU, none, err));
    HS_TRY(linear(pass, x, hidden, w->ffn2, w->ffn2_bias, HS_ACT_NONE, x, err));
    HS_TRY(hs_pass_trace(pass, l, "out", x, err));
    return HSTU_OK;
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hstu_error *err)
{
    const bool narrow = hs_pass_narrows(pass, l);
    const hs_mat rows = narrow ? s->newest : x;
    if (narrow)
        HS_TRY(hs_pass_newest(pass, rows, x, err));
    HS_TRY(project(pass, l, s, x, rows, err));
    HS_TRY(hs_pass_keep(pass, l, s->k, s->v, err));
    return finish_layer(pass, l, narrow ? &pass->newest : &pass->users, s, rows, err);
}

hstu_status hs_decoder_layers(const hs_pass *pass, hs_mat x, hs_mat newest, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t d = c->item_embedding_dim;
    space s = {.newest = newest};
    HS_TRY(hs_pass_mat(pass, &s.q, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.k, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.v, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, pass->rows, d, err));
    HS_TRY(hs_pass_mat(pass, &s.hidden, pass->rows, c->ffn_hidden_dim, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &s, x, err));
    return pass->trace ? hs_pass_newest(pass, newest, x, err) : HSTU_OK;
}
