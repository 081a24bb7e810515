/* The request of a bench's row. */
#include "cli/bench_request.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

#include <string.h>

enum {
    ACTIONS = 64, /* fewer than any action table of KuaiRand has */
    PAGE_TOKENS = 64,
    FILLED_AT_ONCE = 512 /* events, so that no NPU's graph is of a whole history that is cached anyway */
};

struct hs_bench_request {
    const hs_bench_row *row;
    int64_t batch, events, cached, candidates, n_ids, reused;
    size_t n_context;
    hstu_session *session;
    hstu_cache *cache;
    /* [batch + 1], [batch, events], ...; logits of ranking, the best items and their scores of a decoder. */
    int64_t *offset, *item, *action, *candidate_offset, *candidate, *context, *user, *best;
    float *score;
    size_t n_scores;
};

/* One of 0 .. n - 1, always the same for the i-th of a kind (tools/bench_vs_torch.py makes the same). */
static int64_t pick(uint64_t kind, int64_t i, int64_t n)
{
    uint64_t x = kind * 0x9e3779b97f4a7c15u + (uint64_t)i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((x ^ (x >> 31)) % (uint64_t)n);
}

/* ---- ids -------------------------------------------------------------------------------------------------------- */

/* Id 0 is padding in a decoder, and left out everywhere. */
static int64_t item_of(const hs_bench_request *r, uint64_t kind, int64_t i)
{
    return 1 + pick(kind, i, r->n_ids - 1);
}

static void fill_ids(hs_bench_request *r)
{
    for (int64_t u = 0; u <= r->batch; u++) {
        r->offset[u] = u * r->events;
        r->candidate_offset[u] = u * r->candidates;
        if (u < r->batch)
            r->user[u] = u + 1;
    }
    for (int64_t i = 0; i < r->batch * r->events; i++) {
        r->item[i] = item_of(r, 1, i);
        r->action[i] = pick(2, i, ACTIONS);
    }
    for (int64_t i = 0; i < r->batch * r->candidates; i++)
        r->candidate[i] = item_of(r, 3, i);
}

static hstu_status fill_context(hs_bench_request *r, const hstu_model *model, hstu_error *err)
{
    hstu_feature_info feature;
    for (size_t i = 0; i < r->n_context; i++) {
        HS_TRY(hstu_model_context(model, i, &feature, err));
        for (int64_t u = 0; u < r->batch; u++)
            r->context[(size_t)u * r->n_context + i] = feature.is_dynamic || feature.rows > 1;
    }
    return HSTU_OK;
}

static hstu_status make_ids(hs_bench_request *r, const hstu_model *model, const hstu_model_info *info, hstu_error *err)
{
    const size_t batch = (size_t)r->batch, events = (size_t)r->events, candidates = (size_t)r->candidates;
    r->n_scores = r->row->decoder ? batch * HS_BENCH_TOP_K : batch * candidates * (size_t)info->n_classes;
    const struct {
        int64_t **p;
        size_t n;
    } all[] = {{&r->offset, batch + 1}, {&r->item, batch * events}, {&r->action, batch * events},
        {&r->candidate_offset, batch + 1}, {&r->candidate, batch * candidates}, {&r->context, batch * r->n_context},
        {&r->user, batch}, {&r->best, batch * HS_BENCH_TOP_K}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *all[i].p = hs_alloc(all[i].n, sizeof(int64_t));
        if (!*all[i].p)
            return hs_fail_nomem(err, all[i].n * sizeof(int64_t), "a bench's request");
    }
    r->score = hs_alloc(r->n_scores, sizeof *r->score);
    if (!r->score)
        return hs_fail_nomem(err, r->n_scores * sizeof *r->score, "a bench's answers");
    fill_ids(r);
    return fill_context(r, model, err);
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

static hstu_status answer(hs_bench_request *r, const hstu_batch *batch, hstu_error *err)
{
    const size_t all = (size_t)r->batch, n = batch->n_users;
    if (r->row->decoder)
        return hstu_recommend(r->session, batch, HS_BENCH_TOP_K, NULL, r->best, r->score, NULL, err);
    return hstu_rank(r->session, batch, r->score, r->n_scores / all * n, err);
}

/* Puts the first events of a user into the cache. */
static hstu_status fill_user(hs_bench_request *r, int64_t u, hstu_error *err)
{
    for (int64_t done = 0; done < r->cached;) {
        done = done + FILLED_AT_ONCE < r->cached ? done + FILLED_AT_ONCE : r->cached;
        const int64_t offset[2] = {0, done};
        HS_TRY(answer(r,
            &(hstu_batch){.n_users = 1,
                .offset = offset,
                .item_id = r->item + u * r->events,
                .action = r->action + u * r->events,
                .cand_offset = r->row->decoder ? NULL : r->candidate_offset,
                .cand_id = r->candidate,
                .context = r->context,
                .user_id = r->user + u},
            err));
    }
    return HSTU_OK;
}

static hstu_status check_reuse(const hs_bench_request *r, hstu_error *err)
{
    for (int64_t u = 0; u < r->batch; u++) {
        int64_t n_tokens = 0, n_reused = 0;
        HS_TRY(hstu_session_get_reuse(r->session, (size_t)u, &n_tokens, &n_reused, err));
        if (n_reused != r->reused)
            return hs_fail(err, HSTU_EDEVICE, 0, "user %lld: %lld of %lld cached tokens were reused", (long long)u,
                (long long)n_reused, (long long)r->reused);
    }
    return HSTU_OK;
}

hstu_status hs_bench_request_ask(hs_bench_request *r, int64_t turn, double *taken_s, hstu_error *err)
{
    for (int64_t u = 0; u < r->batch && r->cached < r->events; u++)
        r->item[u * r->events + r->cached] = 1 + turn % (r->n_ids - 1);
    const hstu_batch batch = {.n_users = (size_t)r->batch,
        .offset = r->offset,
        .item_id = r->item,
        .action = r->row->decoder ? NULL : r->action,
        .cand_offset = r->row->decoder ? NULL : r->candidate_offset,
        .cand_id = r->row->decoder ? NULL : r->candidate,
        .context = r->row->decoder ? NULL : r->context,
        .user_id = r->cache ? r->user : NULL};
    const double start_s = hs_clock_s();
    HS_TRY(answer(r, &batch, err));
    *taken_s = hs_clock_s() - start_s;
    return r->cache ? check_reuse(r, err) : HSTU_OK;
}

void hs_bench_request_start_profile(hs_bench_request *r)
{
    hstu_session_start_profile(r->session);
}

hstu_status hs_bench_request_stages(
    const hs_bench_request *r, double total_s, int64_t n_calls, hs_stage_times *out, hstu_error *err)
{
    return hs_stage_times_take(out, r->session, total_s, n_calls * r->batch, err);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static hstu_status open_cache(
    hs_bench_request *r, const hstu_model *model, const hstu_model_info *info, hstu_error *err)
{
    hstu_cache_options options;
    hstu_cache_stats stats;
    hstu_cache_options_init(&options);
    const uint64_t tokens = (uint64_t)(r->row->n[HS_BENCH_HISTORY] + 2 * PAGE_TOKENS) * (uint64_t)r->batch;
    const uint64_t width = (uint64_t)(info->dqk + (info->dv + 15) / 16 * 16); /* values lie in panels of 16 */
    const uint64_t each = 2u * 4u * (uint64_t)(info->n_blocks * info->n_heads) * width;
    options.bytes = tokens * (each + 64u) + ((uint64_t)16 << 20);
    options.page_tokens = PAGE_TOKENS;
    HS_TRY(hstu_cache_open(&r->cache, model, &options, err));
    hstu_cache_get_stats(r->cache, &stats);
    if (stats.no_reuse)
        return hs_fail(err, HSTU_EINVAL, 0, "--cached wants a model whose rows can be used again: %s", stats.no_reuse);
    HS_TRY(hstu_session_use_cache(r->session, r->cache, err));
    for (int64_t u = 0; u < r->batch; u++)
        HS_TRY(fill_user(r, u, err));
    return HSTU_OK;
}

static hstu_status fill_request(hs_bench_request *r, const hstu_model *model, hstu_error *err)
{
    hstu_model_info info;
    hstu_model_get_info(model, &info);
    r->n_context = info.n_context;
    HS_TRY(make_ids(r, model, &info, err));
    HS_TRY(hstu_session_open(&r->session, model, err));
    return r->cached > 0 ? open_cache(r, model, &info, err) : HSTU_OK;
}

hstu_status hs_bench_request_open(
    hs_bench_request **out, const hs_bench_row *row, const hstu_model *model, hstu_error *err)
{
    hs_bench_request *r = hs_calloc(1, sizeof *r);
    if (!r)
        return hs_fail_nomem(err, sizeof *r, "a bench's request");
    r->row = row;
    r->batch = row->n[HS_BENCH_BATCH];
    r->events = hs_bench_events(row);
    r->cached = hs_bench_cached_events(row);
    r->reused = hs_bench_cached_tokens(row);
    r->candidates = row->decoder ? 0 : row->n[HS_BENCH_CANDIDATES];
    r->n_ids = row->n[HS_BENCH_ITEMS];
    const hstu_status status = fill_request(r, model, err);
    if (status != HSTU_OK)
        hs_bench_request_close(r);
    else
        *out = r;
    return status;
}

void hs_bench_request_close(hs_bench_request *r)
{
    if (!r)
        return;
    hstu_session_close(r->session);
    hstu_cache_close(r->cache);
    int64_t *const all[] = {
        r->offset, r->item, r->action, r->candidate_offset, r->candidate, r->context, r->user, r->best};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        hs_free(all[i]);
    hs_free(r->score);
    hs_free(r);
}
