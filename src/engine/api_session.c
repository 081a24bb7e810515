/* hstu_session_*, hstu_encode, hstu_recommend: one request batch through the model. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Whatever the result, close_lane frees what the lane holds. */
static hstu_status open_lane(hs_lane *lane, const hstu_model *model, int threads, hstu_error *err)
{
    hs_arena_init(&lane->scratch, SIZE_MAX / 4);
    HS_TRY(hs_device_open(&lane->dev, model->dev->name, threads, err));
    if (strcmp(lane->dev->isa, model->dev->isa) != 0) { /* packed weights fit one set of kernels */
        return hs_fail(err, HSTU_EDEVICE, 0,
            "the model was opened for %s kernels, but a session opened now would use %s kernels", model->dev->isa,
            lane->dev->isa);
    }
    return HSTU_OK;
}

static void close_lane(hs_lane *lane)
{
    hs_arena_free(&lane->scratch);
    hs_device_close(lane->dev);
}

hstu_status hstu_session_open(hstu_session **out, const hstu_model *model, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hstu_session *s = hs_calloc(1, sizeof *s);
    if (!s)
        return hs_fail_nomem(err, sizeof *s, "a session");
    s->model = model;
    hs_arena_init(&s->call, SIZE_MAX / 4);
    HS_TRY_GOTO(open_lane(&s->whole, model, model->threads, err));
    if (s->whole.dev->n_threads > 1) {
        const size_t n = (size_t)s->whole.dev->n_threads;
        s->part = hs_calloc(n, sizeof *s->part);
        if (!s->part) {
            status = hs_fail_nomem(err, n * sizeof *s->part, "a session");
            goto fail;
        }
        while (s->n_parts < n)
            HS_TRY_GOTO(open_lane(&s->part[s->n_parts++], model, 1, err));
    }
    *out = s;
    return HSTU_OK;
fail:
    hstu_session_close(s);
    return status;
}

void hstu_session_close(hstu_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < session->n_parts; i++)
        close_lane(&session->part[i]);
    close_lane(&session->whole);
    hs_free(session->part);
    hs_arena_free(&session->call);
    hs_free(session);
}

static hstu_status refuse_ranking(const hstu_session *s, hstu_error *err)
{
    if (s->model->model.config.family != HS_CONFIG_RANKING)
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0,
        "a ranking model finds neither embeddings nor items for users: it scores candidates with hstu_rank");
}

static hstu_status make_embeddings(hstu_session *s, const hs_request *r, float **out, hstu_error *err)
{
    const size_t n = r->batch->n_users * (size_t)s->model->model.config.item_embedding_dim;
    *out = hs_arena_alloc(&s->call, n, sizeof **out);
    if (!*out)
        return hs_fail_nomem(err, n * sizeof **out, "the user embeddings");
    return hs_engine_encode(s, r, *out, err);
}

hstu_status hstu_encode(hstu_session *session, const hstu_batch *batch, float *out, size_t out_len, hstu_error *err)
{
    const size_t dim = (size_t)session->model->model.config.item_embedding_dim;
    hs_request r;
    float *emb = NULL;
    HS_TRY(refuse_ranking(session, err));
    if (batch->n_users == 0)
        return HSTU_OK;
    if (batch->n_users > out_len / dim)
        return hs_fail(
            err, HSTU_EINVAL, 0, "out_len is %zu, too few for %zu users of %zu values", out_len, batch->n_users, dim);
    hs_arena_reset(&session->call);
    HS_TRY(hs_request_check(&r, &session->model->model.config, batch, &session->call, err));
    HS_TRY(make_embeddings(session, &r, &emb, err));
    memcpy(out, emb, batch->n_users * dim * sizeof *out);
    return HSTU_OK;
}

void hstu_recommend_options_init(hstu_recommend_options *options)
{
    *options = (hstu_recommend_options){.size = sizeof *options};
}

static int compare_ids(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Copies n ids in ascending order, each once; *out_n of them. */
static void sort_ids(int64_t *out, size_t *out_n, const int64_t *id, size_t n)
{
    if (n == 0) {
        *out_n = 0;
        return;
    }
    memcpy(out, id, n * sizeof *out);
    qsort(out, n, sizeof *out, compare_ids);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++) {
        if (out[i] != out[kept - 1])
            out[kept++] = out[i];
    }
    *out_n = kept;
}

/* A list of candidates as the top-k operation wants it: ascending and distinct, or every item. */
typedef struct candidates {
    const int64_t *id; /* NULL: every item */
    size_t n;
} candidates;

static hstu_status sort_candidates(
    hstu_session *s, candidates *out, const int64_t *id, size_t n, const char *whose, size_t user, hstu_error *err)
{
    const int64_t least = hs_engine_min_item_id(&s->model->model.config), most = s->model->model.config.max_item_id;
    int64_t *sorted = NULL;
    for (size_t i = 0; i < n; i++) {
        if (id[i] >= least && id[i] <= most)
            continue;
        if (whose)
            return hs_fail(err, HSTU_EINVAL, 0, "%s: candidate id %" PRId64 " is outside %" PRId64 " .. %" PRId64,
                whose, id[i], least, most);
        return hs_fail(err, HSTU_EINVAL, 0, "user %zu: candidate id %" PRId64 " is outside %" PRId64 " .. %" PRId64,
            user, id[i], least, most);
    }
    HS_TRY(hs_engine_alloc_ids(&s->call, &sorted, n, err));
    sort_ids(sorted, &out->n, id, n);
    out->id = sorted;
    return HSTU_OK;
}

/* For users without candidates of their own: the call's, else the model's, else every item. */
static hstu_status shared_candidates(hstu_session *s, candidates *out, const hstu_recommend_options *o, hstu_error *err)
{
    const hs_config *c = &s->model->model.config;
    *out = (candidates){.n = (size_t)(c->max_item_id - hs_engine_min_item_id(c) + 1)};
    if (o->candidate_id)
        return sort_candidates(s, out, o->candidate_id, o->n_candidates, "the options", 0, err);
    if (c->candidate_id)
        *out = (candidates){.id = c->candidate_id, .n = c->n_candidates};
    return HSTU_OK;
}

/* What a recommendation works on; results stay here until all of it has succeeded. */
typedef struct answer {
    float *emb;
    int64_t *seen_offset, *seen; /* NULL without the filter */
    const int64_t *target;
    size_t k;
    int64_t *item;
    float *score;
    int64_t *rank;
} answer;

/* Each user's items in the window that is used, ascending. */
static hstu_status find_seen(hstu_session *s, const hs_request *r, answer *a, hstu_error *err)
{
    const hstu_batch *b = r->batch;
    size_t rows = 0;
    for (size_t u = 0; u < b->n_users; u++)
        rows += (size_t)(b->offset[u + 1] - r->first[u]);
    HS_TRY(hs_engine_alloc_ids(&s->call, &a->seen_offset, b->n_users + 1, err));
    HS_TRY(hs_engine_alloc_ids(&s->call, &a->seen, rows, err));
    a->seen_offset[0] = 0;
    for (size_t u = 0; u < b->n_users; u++) {
        size_t n = 0;
        sort_ids(a->seen + a->seen_offset[u], &n, b->item_id + r->first[u], (size_t)(b->offset[u + 1] - r->first[u]));
        a->seen_offset[u + 1] = a->seen_offset[u] + (int64_t)n;
    }
    return HSTU_OK;
}

static hstu_status alloc_answer(hstu_session *s, answer *a, size_t n_users, hstu_error *err)
{
    size_t places = 0;
    if (!hs_mul_size(n_users, a->k, &places))
        return hs_fail(err, HSTU_EINVAL, 0, "k = %zu is too large for %zu users", a->k, n_users);
    HS_TRY(hs_engine_alloc_ids(&s->call, &a->item, places, err));
    a->score = hs_arena_alloc(&s->call, places, sizeof *a->score);
    if (!a->score)
        return hs_fail_nomem(err, places * sizeof *a->score, "the scores");
    return a->target ? hs_engine_alloc_ids(&s->call, &a->rank, n_users, err) : HSTU_OK;
}

/* Users first .. end - 1, who share their candidates. */
static hstu_status find_top(
    hstu_session *s, const answer *a, const candidates *cand, size_t first, size_t end, hstu_error *err)
{
    const hs_model *m = &s->model->model;
    const hs_weight_target *w = &m->weight;
    const bool decoder = m->config.family == HS_CONFIG_DECODER;
    const int64_t dim = m->config.item_embedding_dim;
    int64_t *seen_offset = NULL;
    if (a->seen && first > 0) { /* offsets of a part start at 0 too */
        HS_TRY(hs_engine_alloc_ids(&s->call, &seen_offset, end - first + 1, err));
        for (size_t u = first; u <= end; u++)
            seen_offset[u - first] = a->seen_offset[u] - a->seen_offset[first];
    } else {
        seen_offset = a->seen_offset;
    }
    /* Packing a candidate costs about as much as four queries. */
    const double work = (double)cand->n * (double)dim * (double)(end - first + 4);
    return hs_op_topk(hs_engine_lane(s, work)->dev,
        &(hs_topk_args){
            .query = hs_mat_of(a->emb + (int64_t)first * dim, (int64_t)(end - first), dim),
            .table = decoder ? w->vocabulary : w->item,
            .table_rows = m->config.max_item_id + 1,
            .inv_norm = m->item_inv_norm,
            .bias = decoder ? w->vocabulary_bias : NULL,
            .candidate = cand->id,
            .first = hs_engine_min_item_id(&m->config),
            .n_candidates = (int64_t)cand->n,
            .seen_offset = seen_offset,
            .seen = a->seen ? a->seen + a->seen_offset[first] : NULL,
            .target = a->target ? a->target + first : NULL,
            .k = (int64_t)a->k,
            .item = a->item + first * a->k,
            .score = a->score + first * a->k,
            .rank = a->rank ? a->rank + first : NULL,
        },
        err);
}

static size_t n_own_candidates(const hstu_batch *b, size_t user)
{
    return (size_t)(b->cand_offset[user + 1] - b->cand_offset[user]);
}

/* One pass over the table for everybody, or, when users bring candidates, one for each of these and one for each run of
 * others. */
static hstu_status find_all(
    hstu_session *s, const hstu_batch *b, const answer *a, const candidates *shared, hstu_error *err)
{
    if (!b->cand_offset)
        return find_top(s, a, shared, 0, b->n_users, err);
    size_t end = 0;
    for (size_t u = 0; u < b->n_users; u = end) {
        candidates own = *shared;
        end = u + 1;
        if (n_own_candidates(b, u) > 0)
            HS_TRY(sort_candidates(s, &own, b->cand_id + b->cand_offset[u], n_own_candidates(b, u), NULL, u, err));
        else
            while (end < b->n_users && n_own_candidates(b, end) == 0)
                end++;
        HS_TRY(find_top(s, a, &own, u, end, err));
    }
    return HSTU_OK;
}

static hstu_status check_targets(const hs_config *c, const int64_t *target, size_t n, hstu_error *err)
{
    const int64_t least = hs_engine_min_item_id(c);
    for (size_t u = 0; u < n; u++) {
        if (target[u] < least || target[u] > c->max_item_id)
            return hs_fail(err, HSTU_EINVAL, 0, "user %zu: target id %" PRId64 " is outside %" PRId64 " .. %" PRId64, u,
                target[u], least, c->max_item_id);
    }
    return HSTU_OK;
}

static hstu_status check_outputs(size_t k, const hstu_recommend_options *o, const int64_t *item, const float *score,
    const int64_t *rank, hstu_error *err)
{
    if (k > 0 && (!item || !score))
        return hs_fail(err, HSTU_EINVAL, 0, "k is %zu, but item or score is NULL", k);
    if ((o->target_id != NULL) != (rank != NULL))
        return hs_fail(err, HSTU_EINVAL, 0, "target_id and rank must be given together");
    if (k > (size_t)INT64_MAX / sizeof(int64_t))
        return hs_fail(err, HSTU_EINVAL, 0, "k = %zu is too large", k);
    return HSTU_OK;
}

hstu_status hstu_recommend(hstu_session *session, const hstu_batch *batch, size_t k,
    const hstu_recommend_options *options, int64_t *item, float *score, int64_t *rank, hstu_error *err)
{
    const hs_config *config = &session->model->model.config;
    hstu_recommend_options o;
    hs_request r;
    candidates shared;
    hstu_recommend_options_init(&o);
    HS_TRY(refuse_ranking(session, err));
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_recommend_options_init", err));
    HS_TRY(check_outputs(k, &o, item, score, rank, err));
    if (batch->n_users == 0)
        return HSTU_OK;
    hs_arena_reset(&session->call);
    HS_TRY(hs_request_check(&r, config, batch, &session->call, err));
    if (o.target_id)
        HS_TRY(check_targets(config, o.target_id, batch->n_users, err));
    HS_TRY(shared_candidates(session, &shared, &o, err));
    answer a = {.target = o.target_id, .k = k};
    if (o.filter_seen)
        HS_TRY(find_seen(session, &r, &a, err));
    HS_TRY(alloc_answer(session, &a, batch->n_users, err));
    HS_TRY(make_embeddings(session, &r, &a.emb, err));
    HS_TRY(find_all(session, batch, &a, &shared, err));
    if (k > 0) {
        memcpy(item, a.item, batch->n_users * k * sizeof *item);
        memcpy(score, a.score, batch->n_users * k * sizeof *score);
    }
    if (rank)
        memcpy(rank, a.rank, batch->n_users * sizeof *rank);
    return HSTU_OK;
}
