/* Embedding, layers, head: the parts that HSTU, SASRec and the decoder share.
 * Source: the reference's embedding module, input preprocessor and output postprocessors (research/modeling/sequential). */
#include "model/forward.h"

#include "base/error.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static hstu_status make_mat(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, bool bf16, hstu_error *err)
{
    const int64_t ld = bf16 ? hs_mat_half_ld(cols) : cols;
    const size_t n = (size_t)(bf16 ? rows + HS_MAT_BLOCK : rows) * (size_t)ld;
    *out = (hs_mat){.rows = rows, .cols = cols, .ld = ld, .bf16 = bf16};
    if (bf16)
        out->half = hs_arena_alloc(pass->scratch, n, sizeof *out->half);
    else
        out->data = hs_arena_alloc(pass->scratch, n, sizeof *out->data);
    if (!out->data)
        return hs_fail_nomem(err, n * sizeof *out->data, "the forward pass");
    for (int64_t r = 0; bf16 && cols % HS_MAT_BLOCK != 0 && r < rows; r++)
        memset(out->half + r * ld + cols, 0, (size_t)(HS_MAT_BLOCK - cols % HS_MAT_BLOCK) * sizeof *out->half);
    return HSTU_OK;
}

hstu_status hs_pass_mat(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err)
{
    return make_mat(pass, out, rows, cols, pass->model->bf16 && pass->dev->stores_bf16, err);
}

hstu_status hs_pass_floats(const hs_pass *pass, hs_mat *out, int64_t rows, int64_t cols, hstu_error *err)
{
    return make_mat(pass, out, rows, cols, false, err);
}

hstu_status hs_pass_trace(const hs_pass *pass, int64_t layer, const char *name, hs_mat m, hstu_error *err)
{
    char full[64];
    if (!pass->trace)
        return HSTU_OK;
    if (layer < 0)
        (void)snprintf(full, sizeof full, "%s", name);
    else
        (void)snprintf(full, sizeof full, "l%" PRId64 ".%s", layer, name);
    return hs_op_show(
        pass->dev, &(hs_show_args){.m = m, .name = full, .stage = pass->trace->stage, .ctx = pass->trace->ctx}, err);
}

hstu_status hs_pass_ids(const hs_pass *pass, int64_t **out, int64_t n, hstu_error *err)
{
    *out = hs_arena_alloc(pass->scratch, (size_t)n, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, (size_t)n * sizeof **out, "the forward pass");
}

bool hs_pass_narrows(const hs_pass *pass, int64_t l)
{
    return l + 1 == pass->model->config.num_blocks && !pass->trace;
}

hstu_status hs_pass_newest(const hs_pass *pass, hs_mat out, hs_mat x, hstu_error *err)
{
    int64_t *row = NULL;
    HS_TRY(hs_pass_ids(pass, &row, pass->users.n_users, err));
    for (int64_t b = 0; b < pass->users.n_users; b++)
        row[b] = pass->users.offset[b + 1] - 1;
    return hs_op_gather(pass->dev, &(hs_gather_args){.out = out, .x = x, .row = row}, err);
}

hs_kv_write_args hs_pass_stored(const hs_pass *pass, int64_t l, hs_mat k, hs_mat v)
{
    return (hs_kv_write_args){
        .kv = hs_pages_view(&pass->pages, l), .k = k, .v = v, .users = pass->users, .position = pass->reused};
}

hstu_status hs_pass_keep(const hs_pass *pass, int64_t l, hs_mat k, hs_mat v, hstu_error *err)
{
    const hs_kv_write_args stored = hs_pass_stored(pass, l, k, v);
    return hs_op_kv_write(pass->dev, &stored, err);
}

/* Which rows are computed, and where their keys and values go. */
static hstu_status make_rows(hs_pass *pass, hstu_error *err)
{
    const hs_jagged all = pass->input->users;
    const hs_kept *kept = pass->input->kept;
    int64_t *offset = NULL, *one = NULL, *reused = NULL, *length = NULL;
    HS_TRY(hs_pass_ids(pass, &offset, all.n_users + 1, err));
    HS_TRY(hs_pass_ids(pass, &one, all.n_users + 1, err));
    HS_TRY(hs_pass_ids(pass, &reused, all.n_users, err));
    HS_TRY(hs_pass_ids(pass, &length, all.n_users, err));
    offset[0] = one[0] = 0;
    for (int64_t b = 0; b < all.n_users; b++) {
        length[b] = all.offset[b + 1] - all.offset[b];
        reused[b] = kept ? kept->reused[b] : 0;
        offset[b + 1] = offset[b] + length[b] - reused[b];
        one[b + 1] = b + 1;
    }
    pass->users = (hs_jagged){.n_users = all.n_users, .offset = offset};
    pass->newest = (hs_jagged){.n_users = all.n_users, .offset = one};
    pass->rows = offset[all.n_users];
    pass->reused = reused;
    pass->length = length;
    return hs_pages_make(&pass->pages, pass->model, pass->scratch, all.n_users, length, kept, false, err);
}

/* x0 = sqrt(D) * E[id] + P[position], in the decoder without the factor; positions count from the oldest event that is kept. */
static hstu_status embed(const hs_pass *pass, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const bool decoder = c->family == HS_CONFIG_DECODER;
    const hs_item_rows *table = &pass->model->weight.item;
    const int64_t row_bytes = c->item_embedding_dim * (int64_t)hs_dtype_bytes(table->type);
    int64_t *position = NULL, at = 0;
    const void **row = hs_arena_alloc(pass->scratch, (size_t)pass->rows, sizeof *row);
    if (!row)
        return hs_fail_nomem(err, (size_t)pass->rows * sizeof *row, "the forward pass");
    HS_TRY(hs_pass_ids(pass, &position, pass->rows, err));
    for (int64_t b = 0; b < pass->users.n_users; b++) {
        const int64_t *item = pass->input->item_id + pass->input->users.offset[b];
        for (int64_t i = pass->reused[b]; i < pass->length[b]; i++, at++) {
            row[at] = (const char *)table->data + item[i] * row_bytes;
            position[at] = i;
        }
    }
    return hs_op_embed(pass->dev,
        &(hs_embed_args){
            .out = x,
            .row = row,
            .row_type = table->type,
            .scale = decoder ? 1.0f : sqrtf((float)c->item_embedding_dim),
            .position = pass->model->weight.position,
            .position_rows = decoder ? c->max_position_embeddings : c->attention_n,
            .position_id = position,
            .bf16 = pass->model->bf16,
        },
        err);
}

/* The reference normalises every row and takes the newest; only the newest is normalised here. */
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

hstu_status hs_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_input *input, hs_mat user_emb,
    const hs_trace *trace, hstu_error *err)
{
    hs_pass pass = {.model = model, .dev = dev, .scratch = scratch, .input = input, .trace = trace};
    hs_mat x;
    HS_TRY(make_rows(&pass, err));
    HS_TRY(hs_pass_mat(&pass, &x, pass.rows, model->config.item_embedding_dim, err));
    HS_TRY(hs_op_begin(dev, &(hs_pass_rows){.users = pass.users, .past = pass.reused}, err));
    HS_TRY(embed(&pass, x, err));
    HS_TRY(hs_pass_trace(&pass, -1, "x0", x, err));
    if (model->config.family == HS_CONFIG_DECODER)
        HS_TRY(hs_decoder_layers(&pass, x, user_emb, err));
    else if (model->config.main_module == HS_MODULE_HSTU)
        HS_TRY(hs_hstu_layers(&pass, x, user_emb, err));
    else
        HS_TRY(hs_sasrec_layers(&pass, x, user_emb, err));
    HS_TRY(normalise_users(&pass, user_emb, err));
    HS_TRY(hs_pass_trace(&pass, -1, "user_emb", user_emb, err));
    return hs_op_end(dev, user_emb, err);
}
