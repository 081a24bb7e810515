/* The original's plain decoder (docs/formats.md). For each layer, D wide, one head, no norm in front:
 *   x' = x + softmax(q k^T / sqrt(D)) v W_o + b_o, causal;  x'' = x' + gelu(x' W_1 + b_1) W_2 + b_2
 * In bfloat16 x is what a stream of float32 values rounds to: no norm keeps it small, and rounded in every layer that of the golden model
 * would be 1.3e-2 of its largest value away from the float32 one. */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

typedef struct space {
    hs_mat q, k, v, attn, hidden; /* of every row */
    hs_mat newest;                /* the layer's input, of the users' newest rows */
    hs_mat stream, newest_stream; /* both before they are rounded, or without data */
} space;

static hs_linear_args plain(const hs_pass *pass, hs_mat out, hs_mat x, const hs_packed *w, const float *bias)
{
    return (hs_linear_args){.out = out, .x = x, .w = w, .bias = bias, .bf16 = pass->model->bf16};
}

/* x = x + in @ w + bias. */
static hstu_status add_linear(
    const hs_pass *pass, hs_mat x, hs_mat stream, hs_mat in, const hs_packed *w, const float *bias, hstu_error *err)
{
    hs_linear_args a = plain(pass, x, in, w, bias);
    if (stream.data)
        a.stream = stream;
    else
        a.residual = x;
    return hs_op_linear(pass->dev, &a, err);
}

/* Keys and values of every row of x, which are stored, queries of `rows`. */
static hstu_status project(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hs_mat rows, hstu_error *err)
{
    const hs_decoder_layer *w = &pass->model->weight.decoder[l];
    const hs_mat q = hs_mat_rows(s->q, 0, rows.rows);
    const hs_kv_write_args stored = hs_pass_stored(pass, l, s->k, s->v);
    hs_linear_args three[] = {plain(pass, s->k, x, w->k, w->k_bias), plain(pass, s->v, x, w->v, w->v_bias),
        plain(pass, q, rows, w->q, w->q_bias)};
    three[0].stored = three[1].stored = &stored;
    three[0].stored_only = three[1].stored_only = !pass->trace;
    HS_TRY(hs_op_linears(pass->dev, three, 3, err));
    HS_TRY(hs_pass_trace(pass, l, "q", q, err));
    HS_TRY(hs_pass_trace(pass, l, "k", s->k, err));
    HS_TRY(hs_pass_trace(pass, l, "v", s->v, err));
    return HSTU_OK;
}

/* Attention and all that follows for the rows x of `users`, whose keys and values are stored. */
static hstu_status finish_layer(
    const hs_pass *pass, int64_t l, const hs_jagged *users, const space *s, hs_mat x, hs_mat stream, hstu_error *err)
{
    const hs_decoder_layer *w = &pass->model->weight.decoder[l];
    const hs_mat q = hs_mat_rows(s->q, 0, x.rows), attn = hs_mat_rows(s->attn, 0, x.rows);
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
    HS_TRY(add_linear(pass, x, stream, attn, w->out, w->out_bias, err));
    HS_TRY(hs_pass_trace(pass, l, "ffn_in", x, err));
    hs_linear_args ffn1 = plain(pass, hidden, x, w->ffn1, w->ffn1_bias);
    ffn1.act = HS_ACT_GELU;
    HS_TRY(hs_op_linear(pass->dev, &ffn1, err));
    HS_TRY(add_linear(pass, x, stream, hidden, w->ffn2, w->ffn2_bias, err));
    HS_TRY(hs_pass_trace(pass, l, "out", x, err));
    return HSTU_OK;
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const space *s, hs_mat x, hstu_error *err)
{
    const bool narrow = hs_pass_narrows(pass, l);
    const hs_mat rows = narrow ? s->newest : x;
    if (narrow)
        HS_TRY(hs_pass_newest(pass, rows, x, err));
    if (narrow && s->stream.data)
        HS_TRY(hs_pass_newest(pass, s->newest_stream, s->stream, err));
    HS_TRY(project(pass, l, s, x, rows, err));
    return finish_layer(
        pass, l, narrow ? &pass->newest : &pass->users, s, rows, narrow ? s->newest_stream : s->stream, err);
}

/* The stream begins with x. */
static hstu_status make_stream(const hs_pass *pass, hs_mat x, space *s, hstu_error *err)
{
    int64_t *row = NULL;
    HS_TRY(hs_pass_floats(pass, &s->stream, x.rows, x.cols, err));
    HS_TRY(hs_pass_floats(pass, &s->newest_stream, s->newest.rows, x.cols, err));
    HS_TRY(hs_pass_ids(pass, &row, x.rows, err));
    for (int64_t r = 0; r < x.rows; r++)
        row[r] = r;
    return hs_op_gather(pass->dev, &(hs_gather_args){.out = s->stream, .x = x, .row = row}, err);
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
    if (pass->model->bf16 && !pass->dev->records) /* recording devices round nothing */
        HS_TRY(make_stream(pass, x, &s, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, &s, x, err));
    return pass->trace ? hs_pass_newest(pass, newest, x, err) : HSTU_OK;
}
