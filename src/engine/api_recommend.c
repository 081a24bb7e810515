/* hstu_recommend: the best candidates for the users of a batch, and the ranks of their targets. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void hstu_recommend_options_init(hstu_recommend_options *options)
{
    *options = (hstu_recommend_options){.size = sizeof *options};
}

static int compare_ids(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Most histories are so short that this takes a fraction of what qsort does. */
enum { SHORT_LIST = 48 };

static void insert_sorted(int64_t *out, const int64_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && out[at - 1] > id[i]; at--)
            out[at] = out[at - 1];
        out[at] = id[i];
    }
}

/* Copies n ids in ascending order. */
static void sort_ids(int64_t *out, const int64_t *id, size_t n)
{
    if (n <= SHORT_LIST) {
        insert_sorted(out, id, n);
    } else {
        memcpy(out, id, n * sizeof *out);
        qsort(out, n, sizeof *out, compare_ids);
    }
}

/* Leaves one of each id of an ascending list; how many. */
static size_t keep_distinct(int64_t *id, size_t n)
{
    size_t kept = n > 0;
    for (size_t i = 1; i < n; i++) {
        if (id[i] != id[kept - 1])
            id[kept++] = id[i];
    }
    return kept;
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
    sort_ids(sorted, id, n);
    *out = (candidates){.id = sorted, .n = keep_distinct(sorted, n)};
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
    int64_t *seen_offset, *seen;           /* NULL without the filter */
    const int64_t *target, *target_offset; /* target_offset NULL: one for each user */
    size_t k, n_targets;
    int64_t *item;
    float *score;
    int64_t *rank; /* [n_targets] */
} answer;

/* A task of sorting: so many users, some ten microseconds where histories are short. */
enum { SORTED_USERS = 64 };

typedef struct sorting {
    const hs_request *request;
    const answer *answer;
} sorting;

static void sort_seen(void *ctx, int64_t task)
{
    const sorting *s = ctx;
    const hstu_batch *b = s->request->batch;
    const size_t first = (size_t)task * SORTED_USERS, left = b->n_users - first;
    for (size_t u = first; u < first + (left < SORTED_USERS ? left : SORTED_USERS); u++) {
        const int64_t from = s->request->first[u];
        sort_ids(s->answer->seen + s->answer->seen_offset[u], b->item_id + from, (size_t)(b->offset[u + 1] - from));
    }
}

/* Each user's items in the window that is used, ascending. */
static hstu_status find_seen(hstu_session *s, const hs_request *r, answer *a, hstu_error *err)
{
    const hstu_batch *b = r->batch;
    HS_TRY(hs_engine_alloc_ids(&s->call, &a->seen_offset, b->n_users + 1, err));
    a->seen_offset[0] = 0;
    for (size_t u = 0; u < b->n_users; u++)
        a->seen_offset[u + 1] = a->seen_offset[u] + b->offset[u + 1] - r->first[u];
    HS_TRY(hs_engine_alloc_ids(&s->call, &a->seen, (size_t)a->seen_offset[b->n_users], err));
    hs_op_parallel(
        s->whole.dev, (int64_t)((b->n_users - 1) / SORTED_USERS + 1), sort_seen, &(sorting){.request = r, .answer = a});
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
    return a->target ? hs_engine_alloc_ids(&s->call, &a->rank, a->n_targets, err) : HSTU_OK;
}

/* Queries of one pass over the table: users, or with several targets for some, the targets' users. */
typedef struct queries {
    hs_mat emb;
    const int64_t *seen_offset; /* from 0; NULL without the filter */
    const int64_t *seen;
    const int64_t *target;
    size_t k;
    int64_t *item;
    float *score;
    int64_t *rank;
} queries;

static hstu_status search(hstu_session *s, const queries *q, const candidates *cand, hstu_error *err)
{
    const hs_model *m = &s->model->model;
    const hs_weight_target *w = &m->weight;
    const bool decoder = m->config.family == HS_CONFIG_DECODER;
    const hs_item_rows *table = decoder ? &w->vocabulary : &w->item;
    /* Reading a candidate costs about as much as four queries. */
    const double work = (double)cand->n * (double)q->emb.cols * (double)(q->emb.rows + 4);
    return hs_op_topk(hs_engine_lane(s, work)->dev,
        &(hs_topk_args){
            .query = q->emb,
            .table = table->data,
            .table_type = table->type,
            .table_rows = m->config.max_item_id + 1,
            .inv_norm = m->item_inv_norm,
            .bias = decoder ? w->vocabulary_bias : NULL,
            .candidate = cand->id,
            .first = hs_engine_min_item_id(&m->config),
            .n_candidates = (int64_t)cand->n,
            .seen_offset = q->seen_offset,
            .seen = q->seen,
            .target = q->target,
            .k = (int64_t)q->k,
            .item = q->item,
            .score = q->score,
            .rank = q->rank,
        },
        err);
}

/* Users first .. end - 1, who share their candidates. */
static hstu_status find_top(
    hstu_session *s, const answer *a, const candidates *cand, size_t first, size_t end, hstu_error *err)
{
    const int64_t dim = s->model->model.config.item_embedding_dim;
    const bool one_target = a->target && !a->target_offset;
    queries q = {.emb = hs_mat_of(a->emb + (int64_t)first * dim, (int64_t)(end - first), dim),
        .target = one_target ? a->target + first : NULL,
        .k = a->k,
        .item = a->item + first * a->k,
        .score = a->score + first * a->k,
        .rank = one_target ? a->rank + first : NULL};
    if (a->seen) {
        int64_t *offset = NULL;
        HS_TRY(hs_engine_alloc_ids(&s->call, &offset, end - first + 1, err));
        for (size_t u = first; u <= end; u++)
            offset[u - first] = a->seen_offset[u] - a->seen_offset[first];
        q.seen_offset = offset;
        q.seen = a->seen + a->seen_offset[first];
    }
    return search(s, &q, cand, err);
}

/* The seen items of the user of each target, from target `from` on. */
static hstu_status repeat_seen(hstu_session *s, const answer *a, size_t first, size_t end, queries *q, hstu_error *err)
{
    const int64_t from = a->target_offset[first], to = a->target_offset[end];
    int64_t *offset = NULL, *seen = NULL, n = 0, row = 0;
    for (size_t u = first; u < end; u++)
        n += (a->target_offset[u + 1] - a->target_offset[u]) * (a->seen_offset[u + 1] - a->seen_offset[u]);
    HS_TRY(hs_engine_alloc_ids(&s->call, &offset, (size_t)(to - from + 1), err));
    HS_TRY(hs_engine_alloc_ids(&s->call, &seen, (size_t)n, err));
    offset[0] = 0;
    for (size_t u = first; u < end; u++) {
        const int64_t count = a->seen_offset[u + 1] - a->seen_offset[u];
        for (int64_t t = a->target_offset[u]; t < a->target_offset[u + 1]; t++, row++) {
            if (count > 0)
                memcpy(seen + offset[row], a->seen + a->seen_offset[u], (size_t)count * sizeof *seen);
            offset[row + 1] = offset[row] + count;
        }
    }
    q->seen_offset = offset;
    q->seen = seen;
    return HSTU_OK;
}

/* Ranks of the targets of users first .. end - 1: each target is a query with its user's embedding. */
static hstu_status find_ranks(
    hstu_session *s, const answer *a, const candidates *cand, size_t first, size_t end, hstu_error *err)
{
    const int64_t dim = s->model->model.config.item_embedding_dim;
    const int64_t from = a->target_offset[first], to = a->target_offset[end];
    float *emb = hs_arena_alloc(&s->call, (size_t)(to - from), (size_t)dim * sizeof *emb);
    queries q = {.emb = hs_mat_of(emb, to - from, dim), .target = a->target + from, .rank = a->rank + from};
    if (to == from)
        return HSTU_OK;
    if (!emb)
        return hs_fail_nomem(err, (size_t)(to - from) * (size_t)dim * sizeof *emb, "the targets");
    for (size_t u = first; u < end; u++) {
        for (int64_t t = a->target_offset[u]; t < a->target_offset[u + 1]; t++)
            memcpy(emb + (t - from) * dim, a->emb + (int64_t)u * dim, (size_t)dim * sizeof *emb);
    }
    if (a->seen)
        HS_TRY(repeat_seen(s, a, first, end, &q, err));
    return search(s, &q, cand, err);
}

static hstu_status find_for(
    hstu_session *s, const answer *a, const candidates *cand, size_t first, size_t end, hstu_error *err)
{
    if (a->k > 0 || !a->target_offset)
        HS_TRY(find_top(s, a, cand, first, end, err));
    return a->target_offset ? find_ranks(s, a, cand, first, end, err) : HSTU_OK;
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
        return find_for(s, a, shared, 0, b->n_users, err);
    size_t end = 0;
    for (size_t u = 0; u < b->n_users; u = end) {
        candidates own = *shared;
        end = u + 1;
        if (n_own_candidates(b, u) > 0)
            HS_TRY(sort_candidates(s, &own, b->cand_id + b->cand_offset[u], n_own_candidates(b, u), NULL, u, err));
        else
            while (end < b->n_users && n_own_candidates(b, end) == 0)
                end++;
        HS_TRY(find_for(s, a, &own, u, end, err));
    }
    return HSTU_OK;
}

static hstu_status check_targets(
    const hs_config *c, const hstu_recommend_options *o, size_t n_users, size_t *n_targets, hstu_error *err)
{
    const int64_t least = hs_engine_min_item_id(c), *offset = o->target_offset;
    if (offset && offset[0] != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "target_offset[0] is %" PRId64 ", expected 0", offset[0]);
    for (size_t u = 0; u < n_users; u++) {
        const int64_t from = offset ? offset[u] : (int64_t)u, to = offset ? offset[u + 1] : from + 1;
        if (to < from)
            return hs_fail(
                err, HSTU_EINVAL, 0, "user %zu: target_offset goes down from %" PRId64 " to %" PRId64, u, from, to);
        for (int64_t t = from; t < to; t++) {
            if (o->target_id[t] < least || o->target_id[t] > c->max_item_id)
                return hs_fail(err, HSTU_EINVAL, 0,
                    "user %zu: target id %" PRId64 " is outside %" PRId64 " .. %" PRId64, u, o->target_id[t], least,
                    c->max_item_id);
        }
    }
    *n_targets = offset ? (size_t)offset[n_users] : n_users;
    return HSTU_OK;
}

static hstu_status check_outputs(size_t k, const hstu_recommend_options *o, const int64_t *item, const float *score,
    const int64_t *rank, hstu_error *err)
{
    if (k > 0 && (!item || !score))
        return hs_fail(err, HSTU_EINVAL, 0, "k is %zu, but item or score is NULL", k);
    if ((o->target_id != NULL) != (rank != NULL))
        return hs_fail(err, HSTU_EINVAL, 0, "target_id and rank must be given together");
    if (o->target_offset && !o->target_id)
        return hs_fail(err, HSTU_EINVAL, 0, "target_offset is given without target_id");
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
    HS_TRY(hs_engine_refuse_ranking(session, err));
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_recommend_options_init", err));
    HS_TRY(check_outputs(k, &o, item, score, rank, err));
    hs_engine_start_call(session);
    if (batch->n_users == 0)
        return HSTU_OK;
    HS_TRY(hs_request_check(&r, config, batch, &session->call, err));
    answer a = {.target = o.target_id, .target_offset = o.target_offset, .k = k};
    if (o.target_id)
        HS_TRY(check_targets(config, &o, batch->n_users, &a.n_targets, err));
    HS_TRY(shared_candidates(session, &shared, &o, err));
    if (o.filter_seen)
        HS_TRY(find_seen(session, &r, &a, err));
    HS_TRY(alloc_answer(session, &a, batch->n_users, err));
    HS_TRY(hs_engine_embeddings(session, &r, &a.emb, err));
    HS_TRY(find_all(session, batch, &a, &shared, err));
    if (k > 0) {
        memcpy(item, a.item, batch->n_users * k * sizeof *item);
        memcpy(score, a.score, batch->n_users * k * sizeof *score);
    }
    if (rank)
        memcpy(rank, a.rank, a.n_targets * sizeof *rank);
    return HSTU_OK;
}
