/* Embedding, layers, head: the parts that HSTU, SASRec and the decoder share.
 * Source: the reference's embedding module, input preprocessor and output postprocessors (research/modeling/sequential). */
#include "model/forward.h"

#include "base/error.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

hstu_status hs_pass_mat(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err)
{
    const size_t n = (size_t)rows * (size_t)cols;
    float *data = hs_arena_alloc(pass->scratch, n, sizeof *data);
    if (!data)
        return hs_fail_nomem(err, n * sizeof *data, "the forward pass");
    *out = hs_mat_of(data, rows, cols);
    return HSTU_OK;
}

void hs_pass_trace(const hs_pass *pass, int64_t layer, const char *name, hs_mat m)
{
    char full[64];
    if (!pass->trace)
        return;
    if (layer < 0)
        (void)snprintf(full, sizeof full, "%s", name);
    else
        (void)snprintf(full, sizeof full, "l%" PRId64 ".%s", layer, name);
    pass->trace->stage(pass->trace->ctx, full, m);
}

static hstu_status alloc_ids(const hs_pass *pass, int64_t **out, int64_t n, hstu_error *err)
{
    *out = hs_arena_alloc(pass->scratch, (size_t)n, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, (size_t)n * sizeof **out, "the forward pass");
}

/* x0 = sqrt(D) * E[id] + P[position], in the decoder without the factor; positions count from the oldest event that is kept. */
static hstu_status embed(const hs_pass *pass, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_jagged users = pass->input->users;
    const bool decoder = c->family == HS_CONFIG_DECODER;
    const float *table = pass->model->weight.item;
    int64_t *position = NULL;
    const void **row = hs_arena_alloc(pass->scratch, (size_t)pass->rows, sizeof *row);
    if (!row)
        return hs_fail_nomem(err, (size_t)pass->rows * sizeof *row, "the forward pass");
    HS_TRY(alloc_ids(pass, &position, pass->rows, err));
    for (int64_t b = 0; b < users.n_users; b++) {
        for (int64_t r = users.offset[b]; r < users.offset[b + 1]; r++) {
            row[r] = table + pass->input->item_id[r] * c->item_embedding_dim;
            position[r] = r - users.offset[b];
        }
    }
    return hs_op_embed(pass->dev,
        &(hs_embed_args){
            .out = x,
            .row = row,
            .row_type = HS_F32,
            .scale = decoder ? 1.0f : sqrtf((float)c->item_embedding_dim),
            .position = pass->model->weight.position,
            .position_rows = decoder ? c->max_position_embeddings : c->attention_n,
            .position_id = position,
            .bf16 = pass->model->bf16,
        },
        err);
}

static hstu_status normalise_users(const hs_pass *pass, hs_mat user_emb, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_weight_target *w = &pass->model->weight;
    const float eps = (float)c->user_embedding_norm_eps;
    if (c->family == HS_CONFIG_DECODER)
        return hs_op_layer_norm(pass->dev,
            &(hs_layer_norm_args){.out = user_emb,
                .x = user_emb,
                .weight = w->norm_weight,
                .bias = w->norm_bias,
                .eps = (float)c->layer_norm_eps,
                .bf16 = pass->model->bf16},
            err);
    if (c->user_embedding_norm == HS_USER_LAYER_NORM)
        return hs_op_layer_norm(pass->dev, &(hs_layer_norm_args){.out = user_emb, .x = user_emb, .eps = eps}, err);
    return hs_op_l2_norm(pass->dev, &(hs_l2_norm_args){.out = user_emb, .x = user_emb, .eps = eps}, err);
}

/* The reference normalises every row and takes the newest; only the newest is normalised here. */
static hstu_status head(const hs_pass *pass, hs_mat x, hs_mat user_emb, hstu_error *err)
{
    const hs_jagged users = pass->input->users;
    int64_t *newest = NULL;
    HS_TRY(alloc_ids(pass, &newest, users.n_users, err));
    for (int64_t b = 0; b < users.n_users; b++)
        newest[b] = users.offset[b + 1] - 1;
    HS_TRY(hs_op_gather(pass->dev, &(hs_gather_args){.out = user_emb, .x = x, .row = newest}, err));
    return normalise_users(pass, user_emb, err);
}

hstu_status hs_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_input *input, hs_mat user_emb,
    const hs_trace *trace, hstu_error *err)
{
    const hs_pass pass = {
        .model = model,
        .dev = dev,
        .scratch = scratch,
        .input = input,
        .rows = input->users.offset[input->users.n_users],
        .trace = trace,
    };
    hs_mat x;
    HS_TRY(hs_pass_mat(&pass, &x, pass.rows, model->config.item_embedding_dim, err));
    HS_TRY(embed(&pass, x, err));
    hs_pass_trace(&pass, -1, "x0", x);
    if (model->config.family == HS_CONFIG_DECODER)
        HS_TRY(hs_decoder_layers(&pass, x, err));
    else if (model->config.main_module == HS_MODULE_HSTU)
        HS_TRY(hs_hstu_layers(&pass, x, err));
    else
        HS_TRY(hs_sasrec_layers(&pass, x, err));
    HS_TRY(head(&pass, x, user_emb, err));
    hs_pass_trace(&pass, -1, "user_emb", user_emb);
    return HSTU_OK;
}
