/* hstu_rank: one batch of requests through a ranking model. */
#include "engine/engine.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

/* A checked batch, and where its logits go. */
typedef struct ranking {
    const hs_model *model;
    const hs_rank_request *request;
    float *logits; /* [candidates, n_classes] */
    hs_reuse *reuse;
    int64_t micro_batch;
    _Atomic bool not_finite; /* a pass has found a logit that is not: its users are not kept */
} ranking;

static int64_t n_classes(const hs_config *c)
{
    return c->head[c->n_head - 1];
}

static hstu_status rank_pass(ranking *r, hs_lane *lane, size_t first, size_t end, hstu_error *err)
{
    const int64_t classes = n_classes(&r->model->config);
    const int64_t *cand = r->request->input.batch->cand_offset;
    hs_ranking_input input = r->request->input;
    input.first = (int64_t)first;
    input.end = (int64_t)end;
    input.kept = hs_reuse_kept(r->reuse, first);
    input.micro_batch = r->micro_batch;
    const hs_mat out = hs_mat_of(r->logits + cand[first] * classes, cand[end] - cand[first], classes);
    hs_arena_reset(&lane->scratch);
    HS_TRY(hs_ranking_forward(r->model, lane->dev, &lane->scratch, &input, out, NULL, err));
    const size_t n = (size_t)(out.rows * out.cols);
    if (hs_engine_find_not_finite(out.data, n) == n)
        hs_reuse_commit(r->reuse, first, end);
    else
        atomic_store(&r->not_finite, true);
    return HSTU_OK;
}

/* A user whose candidates come in several groups has passes of its own. */
static hstu_status rank_users(void *ctx, hs_lane *lane, size_t first, size_t end, hstu_error *err)
{
    ranking *r = ctx;
    const int64_t *cand = r->request->input.batch->cand_offset;
    for (size_t last = first; first < end; first = last) {
        const bool many = cand[first + 1] - cand[first] > r->micro_batch;
        last = first + 1;
        while (!many && last < end && cand[last + 1] - cand[last] <= r->micro_batch)
            last++;
        HS_TRY(rank_pass(r, lane, first, last, err));
    }
    return HSTU_OK;
}

static hstu_status refuse_not_finite(const ranking *r, const hstu_model *model, hstu_error *err)
{
    const hstu_batch *b = r->request->input.batch;
    const size_t classes = (size_t)n_classes(&r->model->config), n = (size_t)b->cand_offset[b->n_users] * classes;
    const size_t at = hs_engine_find_not_finite(r->logits, n);
    const int64_t candidate = (int64_t)(at / classes);
    size_t user = 0;
    while (b->cand_offset[user + 1] <= candidate)
        user++;
    return hs_fail(err, HSTU_EFORMAT, 0,
        "user %zu: logit %zu of candidate %" PRId64 " (item %" PRId64
        ") is %g: rows of the embedding tables hold numbers that are not finite, or too large%s",
        user, at % classes, candidate - b->cand_offset[user], b->cand_id[candidate], (double)r->logits[at],
        model->dev->pads ? ", or the device computes wrong" : "");
}

/* Tokens as the cache knows them: their ids; in front how many ids each contextual feature has. */
static void name_tokens(void *ctx, size_t user, int64_t *head, int64_t *word)
{
    const ranking *r = ctx;
    const hs_ranking_input *in = &r->request->input;
    const hstu_batch *b = in->batch;
    const int64_t features = r->model->config.n_context;
    const int64_t context = hs_ranking_context(r->model, in, (int64_t)user);
    for (int64_t f = 0; f < features; f++)
        head[f] = b->context_length ? b->context_length[(int64_t)user * features + f] : 1;
    if (context > 0)
        memcpy(word, b->context + in->context_first[user], (size_t)context * sizeof *word);
    word += context;
    for (int64_t i = 0; i < b->offset[user + 1] - in->item_first[user]; i++) {
        *word++ = b->item_id[in->item_first[user] + i];
        *word++ = b->action[in->action_first[user] + i];
    }
}

/* [n_users] each: rows that a user's pass computes, tokens that they look at, and how many of both are candidates. */
typedef struct shares {
    int64_t *rows, *keys, *candidates;
} shares;

/* Projections to u, v, q, k and back for each row; q . k and the sum over v for each pair, of which attention sees half. */
static hs_lane_work work_of(const hs_config *c, size_t n_users, ranking *r, const shares *s)
{
    const double hd = (double)(c->num_heads * c->dv);
    return (hs_lane_work){.n_users = n_users,
        .rows = s->rows,
        .keys = s->keys,
        .candidates = s->candidates,
        .row_cost = 5 * hd * (double)c->item_embedding_dim,
        .pair_cost = hd,
        .n_layers = c->num_blocks,
        .ctx = r,
        .run = rank_users};
}

static hstu_status count_rows(hstu_session *session, const hs_rank_request *request, shares *s, hstu_error *err)
{
    const hstu_batch *b = request->input.batch;
    HS_TRY(hs_engine_alloc_ids(&session->call, &s->rows, b->n_users, err));
    HS_TRY(hs_engine_alloc_ids(&session->call, &s->keys, b->n_users, err));
    HS_TRY(hs_engine_alloc_ids(&session->call, &s->candidates, b->n_users, err));
    for (size_t u = 0; u < b->n_users; u++) {
        s->candidates[u] = b->cand_offset[u + 1] - b->cand_offset[u];
        s->rows[u] = request->history[u] - session->reuse.reused[u] + s->candidates[u];
        s->keys[u] = request->history[u] + s->candidates[u];
    }
    return HSTU_OK;
}

/* The logits of a checked batch. */
static hstu_status rank_all(hstu_session *session, ranking *r, hstu_error *err)
{
    const hstu_batch *b = r->request->input.batch;
    const hs_reuse_source source = {
        .n_users = b->n_users, .user_id = b->user_id, .n_tokens = r->request->history, .ctx = r, .name = name_tokens};
    shares s;
    HS_TRY(hs_reuse_begin(session, &source, err));
    hstu_status status = count_rows(session, r->request, &s, err);
    if (status == HSTU_OK) {
        const hs_lane_work work = work_of(&r->model->config, b->n_users, r, &s);
        status = hs_engine_share(session, &work, err);
    }
    hs_reuse_end(&session->reuse);
    return status == HSTU_OK && r->not_finite ? refuse_not_finite(r, session->model, err) : status;
}

hstu_status hstu_rank(hstu_session *session, const hstu_batch *batch, float *logits, size_t logits_len, hstu_error *err)
{
    const hs_model *m = &session->model->model;
    hs_rank_request request;
    ranking r = {.model = m, .request = &request, .reuse = &session->reuse, .micro_batch = session->micro_batch};
    if (m->config.family != HS_CONFIG_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "a model of the family \"%s\" scores no candidates: hstu_rank needs a ranking model",
            hs_engine_family_name(&m->config));
    hs_engine_start_call(session);
    if (batch->n_users == 0)
        return HSTU_OK;
    HS_TRY(hs_rank_request_check(&request, m, batch, &session->call, err));
    const size_t candidates = (size_t)batch->cand_offset[batch->n_users], classes = (size_t)n_classes(&m->config);
    if (candidates > logits_len / classes)
        return hs_fail(err, HSTU_EINVAL, 0, "logits_len is %zu, too few for %zu candidates of %zu values", logits_len,
            candidates, classes);
    r.logits = hs_arena_alloc(&session->call, candidates * classes, sizeof *r.logits);
    if (!r.logits)
        return hs_fail_nomem(err, candidates * classes * sizeof *r.logits, "the logits");
    HS_TRY(rank_all(session, &r, err));
    if (candidates > 0)
        memcpy(logits, r.logits, candidates * classes * sizeof *logits);
    return HSTU_OK;
}
