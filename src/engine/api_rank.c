/* hstu_rank: one batch of requests through a ranking model. */
#include "engine/engine.h"

#include "base/error.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A checked batch, and where its logits go. */
typedef struct ranking {
    const hs_model *model;
    const hs_rank_request *request;
    float *logits; /* [candidates, n_classes] */
} ranking;

static int64_t n_classes(const hs_config *c)
{
    return c->head[c->n_head - 1];
}

static hstu_status rank_users(void *ctx, hs_lane *lane, size_t first, size_t end, hstu_error *err)
{
    const ranking *r = ctx;
    const int64_t classes = n_classes(&r->model->config);
    const int64_t *cand = r->request->input.batch->cand_offset;
    hs_ranking_input input = r->request->input;
    input.first = (int64_t)first;
    input.end = (int64_t)end;
    const hs_mat out = hs_mat_of(r->logits + cand[first] * classes, cand[end] - cand[first], classes);
    return hs_ranking_forward(r->model, lane->dev, &lane->scratch, &input, out, NULL, err);
}

static hstu_status check_finite(const ranking *r, hstu_error *err)
{
    const hstu_batch *b = r->request->input.batch;
    const int64_t classes = n_classes(&r->model->config);
    for (size_t u = 0; u < b->n_users; u++) {
        for (int64_t i = b->cand_offset[u] * classes; i < b->cand_offset[u + 1] * classes; i++) {
            if (!isfinite(r->logits[i]))
                return hs_fail(err, HSTU_EFORMAT, 0,
                    "user %zu: logit %" PRId64 " of candidate %" PRId64 " (item %" PRId64
                    ") is %g: rows of the embedding tables hold numbers that are not finite, or too large",
                    u, i % classes, i / classes - b->cand_offset[u], b->cand_id[i / classes], (double)r->logits[i]);
        }
    }
    return HSTU_OK;
}

/* Projections to u, v, q, k and back for each row; q . k and the sum over v for each pair, of which attention sees half. */
static hs_lane_work work_of(const hs_config *c, size_t n_users, ranking *r)
{
    const double hd = (double)(c->num_heads * c->dv);
    return (hs_lane_work){.n_users = n_users,
        .rows = r->request->rows,
        .row_cost = 5 * hd * (double)c->item_embedding_dim,
        .pair_cost = hd,
        .n_layers = c->num_blocks,
        .ctx = r,
        .run = rank_users};
}

hstu_status hstu_rank(hstu_session *session, const hstu_batch *batch, float *logits, size_t logits_len, hstu_error *err)
{
    const hs_model *m = &session->model->model;
    hs_rank_request request;
    ranking r = {.model = m, .request = &request};
    if (m->config.family != HS_CONFIG_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "a model of the family \"%s\" scores no candidates: hstu_rank needs a ranking model",
            hs_engine_family_name(&m->config));
    if (batch->n_users == 0)
        return HSTU_OK;
    hs_arena_reset(&session->call);
    HS_TRY(hs_rank_request_check(&request, m, batch, &session->call, err));
    const size_t candidates = (size_t)batch->cand_offset[batch->n_users], classes = (size_t)n_classes(&m->config);
    if (candidates > logits_len / classes)
        return hs_fail(err, HSTU_EINVAL, 0, "logits_len is %zu, too few for %zu candidates of %zu values", logits_len,
            candidates, classes);
    if (candidates == 0)
        return HSTU_OK;
    r.logits = hs_arena_alloc(&session->call, candidates * classes, sizeof *r.logits);
    if (!r.logits)
        return hs_fail_nomem(err, candidates * classes * sizeof *r.logits, "the logits");
    const hs_lane_work work = work_of(&m->config, batch->n_users, &r);
    HS_TRY(hs_engine_share(session, &work, err));
    HS_TRY(check_finite(&r, err));
    memcpy(logits, r.logits, candidates * classes * sizeof *logits);
    return HSTU_OK;
}
