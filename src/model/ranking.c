/* NVIDIA's ranking model (recsys-examples, examples/hstu; docs/formats.md): per user
 *   tokens  contextual features | item, action of each history event | candidates
 *   x0 = sqrt(D) * E[token] + P[min(t, first candidate's t, P - 1)]
 * for each layer
 *   u, v, q, k = split(silu(LN(x) W_uvqk + b));  A = silu(q k^T / sqrt(d)) v / N, masked;  x' = (LN(A) * u) W_proj + x
 * and for each candidate
 *   logits = MLP(x / max(|x|, eps)) */
#include "model/forward.h"

#include "base/error.h"

#include <math.h>

/* The tokens of the pass's users, one behind the other. */
typedef struct tokens {
    int64_t n_users, n, n_candidates;
    int64_t *offset;               /* [n_users + 1] */
    int64_t *context, *candidates; /* [n_users]: how many of a user's tokens are contextual, and candidates */
    const void **row;              /* [n]: the token's table row, NULL where the table lacks it */
    int64_t *position;             /* [n] */
} tokens;

static int64_t n_history(const hs_ranking_input *in, int64_t user)
{
    return in->batch->offset[user + 1] - in->item_first[user];
}

static int64_t n_candidates(const hs_ranking_input *in, int64_t user)
{
    return in->batch->cand_offset[user + 1] - in->batch->cand_offset[user];
}

/* How many ids feature f of a user has. */
static int64_t n_ids(const hs_model *m, const hs_ranking_input *in, int64_t user, int f)
{
    return in->batch->context_length ? in->batch->context_length[user * m->config.n_context + f] : 1;
}

static int64_t n_contextual(const hs_model *m, const hs_ranking_input *in, int64_t user)
{
    int64_t n = 0;
    for (int f = 0; f < m->config.n_context; f++)
        n += n_ids(m, in, user, f);
    return n;
}

int64_t hs_ranking_tokens(const hs_model *model, const hs_ranking_input *input, int64_t user)
{
    return n_contextual(model, input, user) + 2 * n_history(input, user) + n_candidates(input, user);
}

static hstu_status alloc_tokens(const hs_pass *pass, const hs_ranking_input *in, tokens *t, hstu_error *err)
{
    const size_t users = (size_t)(in->end - in->first);
    *t = (tokens){.n_users = (int64_t)users};
    t->offset = hs_arena_alloc(pass->scratch, users + 1, sizeof *t->offset);
    t->context = hs_arena_alloc(pass->scratch, users, sizeof *t->context);
    t->candidates = hs_arena_alloc(pass->scratch, users, sizeof *t->candidates);
    if (!t->offset || !t->context || !t->candidates)
        return hs_fail_nomem(err, 3 * users * sizeof *t->offset, "the forward pass");
    t->offset[0] = 0;
    for (int64_t b = 0; b < t->n_users; b++) {
        t->context[b] = n_contextual(pass->model, in, in->first + b);
        t->candidates[b] = n_candidates(in, in->first + b);
        t->n_candidates += t->candidates[b];
        t->offset[b + 1] = t->offset[b] + hs_ranking_tokens(pass->model, in, in->first + b);
    }
    t->n = t->offset[t->n_users];
    t->row = hs_arena_alloc(pass->scratch, (size_t)t->n, sizeof *t->row);
    t->position = hs_arena_alloc(pass->scratch, (size_t)t->n, sizeof *t->position);
    if (!t->row || !t->position)
        return hs_fail_nomem(err, 2 * (size_t)t->n * sizeof *t->position, "the forward pass");
    return HSTU_OK;
}

static void look_up(const hs_model *m, const hs_ranking_input *in, int64_t user, const void **row)
{
    const hstu_batch *batch = in->batch;
    const int64_t *id = batch->context ? batch->context + in->context_first[user] : NULL;
    for (int f = 0; f < m->config.n_context; f++) {
        for (int64_t i = n_ids(m, in, user, f); i > 0; i--)
            *row++ = hs_table_row(m->context_table[f], *id++);
    }
    for (int64_t i = 0; i < n_history(in, user); i++) {
        *row++ = hs_table_row(m->item_table, batch->item_id[in->item_first[user] + i]);
        *row++ = hs_table_row(m->action_table, batch->action[in->action_first[user] + i]);
    }
    for (int64_t i = batch->cand_offset[user]; i < batch->cand_offset[user + 1]; i++)
        *row++ = hs_table_row(m->item_table, batch->cand_id[i]);
}

/* All candidates share the position behind the history; long histories share the table's last row. */
static hstu_status make_tokens(const hs_pass *pass, const hs_ranking_input *in, tokens *t, hstu_error *err)
{
    const int64_t last = pass->model->config.num_position_buckets - 1;
    HS_TRY(alloc_tokens(pass, in, t, err));
    for (int64_t b = 0; b < t->n_users; b++) {
        const int64_t first = t->offset[b], length = t->offset[b + 1] - first;
        const int64_t shared = length - t->candidates[b] < last ? length - t->candidates[b] : last;
        look_up(pass->model, in, in->first + b, t->row + first);
        for (int64_t i = 0; i < length; i++)
            t->position[first + i] = i < shared ? i : shared;
    }
    return HSTU_OK;
}

static hstu_status embed(const hs_pass *pass, const tokens *t, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    return hs_op_embed(pass->dev,
        &(hs_embed_args){
            .out = x,
            .row = t->row,
            .row_type = pass->model->table[0].type,
            .scale = sqrtf((float)c->item_embedding_dim),
            .position = pass->model->weight.position,
            .position_rows = c->num_position_buckets,
            .position_id = t->position,
            .bf16 = pass->model->bf16,
        },
        err);
}

/* Workspace of one layer; all layers use the same. */
typedef struct space {
    hs_mat normed, z, attn, gated;
} space;

static hstu_status attention(const hs_pass *pass, const tokens *t, const space *s, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t hd = c->num_heads * c->dv;
    return hs_op_silu_attn(pass->dev,
        &(hs_silu_attn_args){
            .out = s->attn,
            .v = hs_mat_cols(s->z, hd, hd),
            .q = hs_mat_cols(s->z, 2 * hd, hd),
            .k = hs_mat_cols(s->z, 3 * hd, hd),
            .users = {.n_users = t->n_users, .offset = t->offset},
            .n_context = c->contextual_mask ? t->context : NULL,
            .n_candidates = t->candidates,
            .n_heads = c->num_heads,
            .dqk = c->dqk,
            .dv = c->dv,
            .alpha = 1.0f / sqrtf((float)c->dqk),
            .inv_n = 1.0f / (float)c->attention_n,
            .bf16 = pass->model->bf16,
        },
        err);
}

static hstu_status run_layer(const hs_pass *pass, int64_t l, const tokens *t, const space *s, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_ranking_layer *w = &pass->model->weight.ranking[l];
    const float eps = (float)c->layer_norm_eps;
    const bool bf16 = pass->model->bf16;
    const int64_t hd = c->num_heads * c->dv;
    static const char *const blocks[] = {"u", "v", "q", "k"};

    HS_TRY(hs_op_layer_norm(pass->dev,
        &(hs_layer_norm_args){
            .out = s->normed, .x = x, .weight = w->in_norm_weight, .bias = w->in_norm_bias, .eps = eps, .bf16 = bf16},
        err));
    hs_pass_trace(pass, l, "normed", s->normed);
    HS_TRY(hs_op_linear(pass->dev,
        &(hs_linear_args){
            .out = s->z, .x = s->normed, .w = w->uvqk, .bias = w->uvqk_bias, .act = HS_ACT_SILU, .bf16 = bf16},
        err));
    for (int64_t i = 0; i < 4; i++)
        hs_pass_trace(pass, l, blocks[i], hs_mat_cols(s->z, i * hd, hd));
    HS_TRY(attention(pass, t, s, err));
    hs_pass_trace(pass, l, "attn", s->attn);
    HS_TRY(hs_op_norm_gate(pass->dev,
        &(hs_norm_gate_args){.out = s->gated,
            .u = hs_mat_cols(s->z, 0, hd),
            .o = s->attn,
            .weight = w->out_norm_weight,
            .bias = w->out_norm_bias,
            .eps = eps,
            .bf16 = bf16},
        err));
    hs_pass_trace(pass, l, "gated", s->gated);
    hs_linear_args project = {.out = x, .x = s->gated, .w = w->proj, .bf16 = bf16};
    if (c->residual)
        project.residual = x;
    HS_TRY(hs_op_linear(pass->dev, &project, err));
    hs_pass_trace(pass, l, "out", x);
    return HSTU_OK;
}

static hstu_status run_layers(const hs_pass *pass, const tokens *t, hs_mat x, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t hd = c->num_heads * c->dv;
    space s;
    HS_TRY(hs_pass_mat(pass, &s.normed, t->n, c->item_embedding_dim, err));
    HS_TRY(hs_pass_mat(pass, &s.z, t->n, 4 * hd, err));
    HS_TRY(hs_pass_mat(pass, &s.attn, t->n, hd, err));
    HS_TRY(hs_pass_mat(pass, &s.gated, t->n, hd, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, t, &s, x, err));
    return HSTU_OK;
}

/* The candidates' rows of x, normalised. */
static hstu_status normalise_candidates(const hs_pass *pass, const tokens *t, hs_mat x, hs_mat *out, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    int64_t *row = hs_arena_alloc(pass->scratch, (size_t)t->n_candidates, sizeof *row), n = 0;
    if (!row)
        return hs_fail_nomem(err, (size_t)t->n_candidates * sizeof *row, "the forward pass");
    for (int64_t b = 0; b < t->n_users; b++) {
        for (int64_t i = t->offset[b + 1] - t->candidates[b]; i < t->offset[b + 1]; i++)
            row[n++] = i;
    }
    HS_TRY(hs_pass_mat(pass, out, n, c->item_embedding_dim, err));
    HS_TRY(hs_op_gather(pass->dev, &(hs_gather_args){.out = *out, .x = x, .row = row}, err));
    return hs_op_l2_norm(pass->dev,
        &(hs_l2_norm_args){.out = *out, .x = *out, .eps = (float)c->l2_norm_eps, .bf16 = pass->model->bf16}, err);
}

static hstu_status predict(const hs_pass *pass, hs_mat embedding, hs_mat logits, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_activation act = c->head_activation == HS_FFN_GELU ? HS_ACT_GELU : HS_ACT_RELU;
    hs_mat in = embedding;
    for (int i = 0; i < c->n_head; i++) {
        const hs_head_layer *w = &pass->model->weight.head[i];
        const bool last = i + 1 == c->n_head;
        hs_mat out = logits;
        if (!last)
            HS_TRY(hs_pass_mat(pass, &out, in.rows, c->head[i], err));
        HS_TRY(hs_op_linear(pass->dev,
            &(hs_linear_args){.out = out,
                .x = in,
                .w = w->w,
                .bias = w->bias,
                .act = last ? HS_ACT_NONE : act,
                .bf16 = pass->model->bf16},
            err));
        in = out;
    }
    return HSTU_OK;
}

hstu_status hs_ranking_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_ranking_input *input,
    hs_mat logits, const hs_trace *trace, hstu_error *err)
{
    hs_pass pass = {.model = model, .dev = dev, .scratch = scratch, .trace = trace};
    tokens t;
    hs_mat x, embedding;
    HS_TRY(make_tokens(&pass, input, &t, err));
    pass.rows = t.n;
    HS_TRY(hs_pass_mat(&pass, &x, t.n, model->config.item_embedding_dim, err));
    HS_TRY(embed(&pass, &t, x, err));
    hs_pass_trace(&pass, -1, "x0", x);
    HS_TRY(run_layers(&pass, &t, x, err));
    HS_TRY(normalise_candidates(&pass, &t, x, &embedding, err));
    hs_pass_trace(&pass, -1, "final_embedding", embedding);
    HS_TRY(predict(&pass, embedding, logits, err));
    hs_pass_trace(&pass, -1, "logits", logits);
    return HSTU_OK;
}
