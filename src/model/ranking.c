/* NVIDIA's ranking model (recsys-examples, examples/hstu; docs/formats.md): per user
 *   tokens  contextual features | item, action of each history event | candidates
 *   x0 = sqrt(D) * E[token] + P[min(t, first candidate's t, P - 1)]
 * for each layer
 *   u, v, q, k = split(silu(LN(x) W_uvqk + b));  A = silu(q k^T / sqrt(d)) v / N, masked;  x' = (LN(A) * u) W_proj + x
 * and for each candidate
 *   logits = MLP(x / max(|x|, eps))
 * A pass computes the histories' rows, those of some candidates behind them, or both. */
#include "model/ranking_tokens.h"

#include "base/error.h"

#include <math.h>

/* Workspace of a pass; all layers and all passes use the same. */
typedef struct space {
    hs_mat x, normed, u, v, q, k, attn, gated, embedding;
    hs_mat hidden[HS_MAX_HEAD_LAYERS];
    hs_ranking_tokens tokens;
} space;

/* Workspace for passes of n rows, n_candidates of them candidates. */
static hstu_status make_space(
    const hs_pass *pass, const hs_ranking_request *r, int64_t n, int64_t n_candidates, space *s, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const int64_t d = c->item_embedding_dim, hd = c->num_heads * c->dv;
    hs_mat *const wide[] = {&s->u, &s->v, &s->q, &s->k, &s->attn, &s->gated};
    HS_TRY(hs_pass_mat(pass, &s->x, n, d, err));
    HS_TRY(hs_pass_mat(pass, &s->normed, n, d, err));
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        HS_TRY(hs_pass_mat(pass, wide[i], n, hd, err));
    HS_TRY(hs_pass_mat(pass, &s->embedding, n_candidates, d, err));
    for (int i = 0; i + 1 < c->n_head; i++)
        HS_TRY(hs_pass_mat(pass, &s->hidden[i], n_candidates, c->head[i], err));
    return hs_ranking_tokens_make(pass, r, n, &s->tokens, err);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

/* The space's matrices, as long as the pass. */
static space fit(const space *whole, const hs_ranking_tokens *t)
{
    space s = *whole;
    hs_mat *const all[] = {&s.x, &s.normed, &s.u, &s.v, &s.q, &s.k, &s.attn, &s.gated};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->rows = t->n_history + t->n_candidates;
    s.embedding.rows = t->n_candidates;
    for (int i = 0; i < HS_MAX_HEAD_LAYERS; i++)
        s.hidden[i].rows = t->n_candidates;
    return s;
}

static hstu_status embed(const hs_pass *pass, const space *s, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    return hs_op_embed(pass->dev,
        &(hs_embed_args){
            .out = s->x,
            .row = s->tokens.row,
            .row_type = pass->model->table[0].type,
            .scale = sqrtf((float)c->item_embedding_dim),
            .position = pass->model->weight.position,
            .position_rows = c->num_position_buckets,
            .position_id = s->tokens.position,
            .bf16 = pass->model->bf16,
        },
        err);
}

/* One of u, v, q, k for all rows of x; `block` counts them in the weight's order. */
static hs_linear_args projection(const hs_pass *pass, const hs_ranking_layer *layer, int block, hs_mat x, hs_mat out)
{
    const hs_packed *const w[] = {layer->u, layer->v, layer->q, layer->k};
    return (hs_linear_args){.out = out,
        .x = x,
        .w = w[block],
        .bias = layer->uvqk_bias ? layer->uvqk_bias + block * out.cols : NULL,
        .act = HS_ACT_SILU,
        .bf16 = pass->model->bf16};
}

/* How the keys and values of the histories' rows are stored. */
static hs_kv_write_args stored_history(const hs_ranking_request *r, const space *s, const hs_kv_view *kv)
{
    return (hs_kv_write_args){.kv = *kv,
        .k = hs_mat_rows(s->k, 0, s->tokens.n_history),
        .v = hs_mat_rows(s->v, 0, s->tokens.n_history),
        .users = {.n_users = r->n_users, .offset = s->tokens.history_offset},
        .position = r->reused};
}

/* Keys and values of every row, which are stored for the histories, queries and gates of those from `from` on. */
static hstu_status project(
    const hs_pass *pass, int64_t l, const space *s, int64_t from, const hs_kv_write_args *stored, hstu_error *err)
{
    const hs_ranking_layer *w = &pass->model->weight.ranking[l];
    const int64_t n = s->x.rows - from;
    const hs_mat normed = hs_mat_rows(s->normed, from, n);
    const hs_mat u = hs_mat_rows(s->u, from, n), q = hs_mat_rows(s->q, from, n);
    hs_linear_args four[] = {projection(pass, w, 1, s->normed, s->v), projection(pass, w, 3, s->normed, s->k),
        projection(pass, w, 0, normed, u), projection(pass, w, 2, normed, q)};
    four[0].stored = four[1].stored = stored->k.rows > 0 ? stored : NULL;
    four[0].stored_only = four[1].stored_only = !pass->trace;
    four[2].next = hs_mat_rows(s->gated, from, n);
    HS_TRY(hs_op_linears(pass->dev, four, n > 0 ? 4 : 2, err));
    HS_TRY(hs_pass_trace(pass, l, "v", s->v, err));
    HS_TRY(hs_pass_trace(pass, l, "k", s->k, err));
    HS_TRY(hs_pass_trace(pass, l, "u", u, err));
    HS_TRY(hs_pass_trace(pass, l, "q", q, err));
    return HSTU_OK;
}

/* The rows from `from` on: all, or candidates alone. */
static hstu_status attend(const hs_pass *pass, const hs_ranking_request *r, const space *s, int64_t from,
    const hs_kv_view *kv, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_ranking_tokens *t = &s->tokens;
    return hs_op_silu_attn(pass->dev,
        &(hs_silu_attn_args){
            .out = hs_mat_rows(s->attn, from, s->attn.rows - from),
            .q = hs_mat_rows(s->q, from, s->q.rows - from),
            .own_k = hs_mat_rows(s->k, t->n_history, t->n_candidates),
            .own_v = hs_mat_rows(s->v, t->n_history, t->n_candidates),
            .kv = *kv,
            .users = {.n_users = r->n_users, .offset = from > 0 ? r->nothing : t->history_offset},
            .candidates = t->candidate_offset,
            .history = r->history,
            .n_context = c->contextual_mask ? r->context : NULL,
            .alpha = 1.0f / sqrtf((float)c->dqk),
            .inv_n = 1.0f / (float)c->attention_n,
            .bf16 = pass->model->bf16,
        },
        err);
}

static hstu_status gate(
    const hs_pass *pass, const hs_ranking_layer *w, hs_mat u, hs_mat attn, hs_mat out, hstu_error *err)
{
    return hs_op_norm_gate(pass->dev,
        &(hs_norm_gate_args){.out = out,
            .u = u,
            .o = attn,
            .weight = w->out_norm_weight,
            .bias = w->out_norm_bias,
            .eps = (float)pass->model->config.layer_norm_eps,
            .bf16 = pass->model->bf16},
        err);
}

/* Attention and all that follows, for the rows from `from` on: all, or candidates alone. */
static hstu_status finish_layer(const hs_pass *pass, int64_t l, const hs_ranking_request *r, const space *s,
    int64_t from, const hs_kv_view *kv, hstu_error *err)
{
    const hs_ranking_layer *w = &pass->model->weight.ranking[l];
    const int64_t n = s->x.rows - from;
    const hs_mat x = hs_mat_rows(s->x, from, n), u = hs_mat_rows(s->u, from, n);
    const hs_mat attn = hs_mat_rows(s->attn, from, n), gated = hs_mat_rows(s->gated, from, n);

    HS_TRY(attend(pass, r, s, from, kv, err));
    HS_TRY(hs_pass_trace(pass, l, "attn", attn, err));
    HS_TRY(gate(pass, w, u, attn, gated, err));
    HS_TRY(hs_pass_trace(pass, l, "gated", gated, err));
    hs_linear_args last = {
        .out = x, .x = gated, .w = w->proj, .bf16 = pass->model->bf16, .next = hs_mat_rows(s->normed, from, n)};
    if (pass->model->config.residual)
        last.residual = x;
    HS_TRY(hs_op_linear(pass->dev, &last, err));
    HS_TRY(hs_pass_trace(pass, l, "out", x, err));
    return HSTU_OK;
}

/* Of the histories' rows the last layer needs keys and values alone. */
static hstu_status run_layer(
    const hs_pass *pass, int64_t l, const hs_ranking_request *r, const space *s, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_ranking_layer *w = &pass->model->weight.ranking[l];
    const int64_t from = l + 1 == c->num_blocks && !pass->trace ? s->tokens.n_history : 0;
    const hs_kv_view kv = hs_pages_view(&pass->pages, l);
    const hs_kv_write_args stored = stored_history(r, s, &kv);

    HS_TRY(hs_op_layer_norm(pass->dev,
        &(hs_layer_norm_args){.out = s->normed,
            .x = s->x,
            .weight = w->in_norm_weight,
            .bias = w->in_norm_bias,
            .eps = (float)c->layer_norm_eps,
            .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_pass_trace(pass, l, "normed", s->normed, err));
    HS_TRY(project(pass, l, s, from, &stored, err));
    return from < s->x.rows ? finish_layer(pass, l, r, s, from, &kv, err) : HSTU_OK;
}

/* ---- head ------------------------------------------------------------------------------------------------------- */

static hstu_status predict(const hs_pass *pass, const space *s, hs_mat logits, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_activation act = c->head_activation == HS_FFN_GELU ? HS_ACT_GELU : HS_ACT_RELU;
    hs_mat in = s->embedding;
    for (int i = 0; i < c->n_head; i++) {
        const hs_head_layer *w = &pass->model->weight.head[i];
        const bool last = i + 1 == c->n_head;
        const hs_mat out = last ? logits : s->hidden[i];
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

/* All layers over the rows, and the logits of the candidates among them. */
static hstu_status run_rows(
    const hs_pass *pass, const hs_ranking_request *r, const space *whole, hs_mat logits, hstu_error *err)
{
    const hs_config *c = &pass->model->config;
    const hs_ranking_tokens *t = &whole->tokens;
    const space s = fit(whole, t);
    const hs_mat out = hs_mat_rows(logits, t->first, t->n_candidates);
    if (s.x.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_op_begin(pass->dev,
        &(hs_pass_rows){.users = {.n_users = r->n_users, .offset = t->history_offset},
            .past = t->past,
            .candidates = t->n_candidates > 0 ? t->candidate_offset : NULL},
        err));
    HS_TRY(embed(pass, &s, err));
    HS_TRY(hs_pass_trace(pass, -1, "x0", s.x, err));
    for (int64_t l = 0; l < c->num_blocks; l++)
        HS_TRY(run_layer(pass, l, r, &s, err));
    if (t->n_candidates == 0)
        return hs_op_end(pass->dev, (hs_mat){.data = NULL}, err);
    HS_TRY(hs_op_l2_norm(pass->dev,
        &(hs_l2_norm_args){.out = s.embedding,
            .x = hs_mat_rows(s.x, t->n_history, t->n_candidates),
            .eps = (float)c->l2_norm_eps,
            .bf16 = pass->model->bf16},
        err));
    HS_TRY(hs_pass_trace(pass, -1, "final_embedding", s.embedding, err));
    HS_TRY(predict(pass, &s, out, err));
    HS_TRY(hs_pass_trace(pass, -1, "logits", out, err));
    return hs_op_end(pass->dev, out, err);
}

/* Candidates join their histories' pass. Many of one user come in groups behind it, to which the pages of every layer are left. */
hstu_status hs_ranking_forward(const hs_model *model, hs_device *dev, hs_arena *scratch, const hs_ranking_input *input,
    hs_mat logits, const hs_trace *trace, hstu_error *err)
{
    hs_pass pass = {.model = model, .dev = dev, .scratch = scratch, .trace = trace};
    hs_ranking_request r;
    space s = {.x = {.data = NULL}};
    HS_TRY(hs_ranking_request_make(&pass, input, &r, err));
    const int64_t n_new = hs_ranking_new_tokens(&r);
    const bool grouped = r.n_users == 1 && input->micro_batch > 0 && r.n_candidates > input->micro_batch;
    const int64_t group = grouped ? input->micro_batch : r.n_candidates;
    const int64_t most = !grouped ? n_new + group : n_new > group ? n_new : group;
    HS_TRY(hs_pages_make(&pass.pages, model, scratch, r.n_users, r.history, input->kept, grouped, err));
    HS_TRY(make_space(&pass, &r, most, group, &s, err));
    hs_ranking_add_history(&pass, &r, &s.tokens);
    hs_ranking_add_candidates(&pass, &r, 0, grouped ? 0 : group, &s.tokens);
    HS_TRY(run_rows(&pass, &r, &s, logits, err));
    hs_ranking_leave_history(&r, &s.tokens);
    for (int64_t first = 0; grouped && first < r.n_candidates; first += group) {
        const int64_t left = r.n_candidates - first;
        hs_ranking_add_candidates(&pass, &r, first, left < group ? left : group, &s.tokens);
        HS_TRY(run_rows(&pass, &r, &s, logits, err));
    }
    return HSTU_OK;
}
