/* The KV cache of a run. */
#include "cli/run_cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/outfile.h"

#include <stdlib.h>

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static hstu_status load(hs_run *run, hstu_error *err)
{
    hs_run_cache *c = &run->cache;
    if (!c->load_path)
        return HSTU_OK;
    HS_TRY(hstu_cache_load(c->cache, c->load_path, &c->loaded, err));
    if (c->loaded.n_damaged)
        hs_console_warn(&run->console, "%s is damaged: users left out %llu or more, taken over %llu", c->load_path,
            (unsigned long long)c->loaded.n_damaged, (unsigned long long)c->loaded.n_users);
    if (c->loaded.n_no_room)
        hs_console_warn(&run->console, "%s: %llu users find no room and are left out, %llu are taken over",
            c->load_path, (unsigned long long)c->loaded.n_no_room, (unsigned long long)c->loaded.n_users);
    return HSTU_OK;
}

static hstu_status open_plain(hs_run *run, hstu_error *err)
{
    if (run->cache.verify_every == 0)
        return HSTU_OK;
    HS_TRY(hstu_session_open(&run->cache.plain, run->model, err));
    return run->micro_batch ? hstu_session_set_micro_batch(run->cache.plain, run->micro_batch, err) : HSTU_OK;
}

/* A place that cannot be written to is told before the work, not after it. */
static hstu_status try_save_path(const char *path, hstu_error *err)
{
    hs_outfile *file = NULL;
    HS_TRY(hs_outfile_open(&file, path, err));
    hs_outfile_discard(file);
    return HSTU_OK;
}

hstu_status hs_run_cache_open(hs_run *run, hstu_error *err)
{
    hs_run_cache *c = &run->cache;
    if (!c->on)
        return HSTU_OK;
    if (c->save_path)
        HS_TRY(try_save_path(c->save_path, err));
    HS_TRY(hstu_cache_open(&c->cache, run->model, &c->options, err));
    hstu_cache_get_stats(c->cache, &c->stats);
    if (c->stats.no_reuse)
        hs_console_warn(&run->console, "--kv_cache gains nothing with this model: %s", c->stats.no_reuse);
    HS_TRY(load(run, err));
    return open_plain(run, err);
}

void hs_run_cache_close(hs_run *run)
{
    hs_run_cache *c = &run->cache;
    /* Sessions end before the cache that they use; who opened the run's own closes it after this. */
    if (c->cache && run->session)
        (void)hstu_session_use_cache(run->session, NULL, NULL);
    hstu_session_close(c->plain);
    hstu_cache_close(c->cache);
    hs_free(c->latency_s);
    c->plain = NULL;
    c->cache = NULL;
    c->latency_s = NULL;
}

hstu_status hs_run_cache_use(hs_run *run, bool on, hstu_error *err)
{
    return run->cache.cache ? hstu_session_use_cache(run->session, on ? run->cache.cache : NULL, err) : HSTU_OK;
}

/* ---- batches ---------------------------------------------------------------------------------------------------- */

hstu_status hs_run_cache_begin(hs_run *run, int64_t n_timed, hstu_error *err)
{
    hs_run_cache *c = &run->cache;
    if (!c->cache)
        return HSTU_OK;
    c->n_batches = c->n_verified_batches = c->n_verified_requests = 0;
    c->n_timed = n_timed;
    for (int i = 0; i < HS_N_BATCH_KINDS; i++)
        c->n_of_kind[i] = 0;
    hs_free(c->latency_s);
    c->latency_s = n_timed ? hs_alloc((size_t)n_timed, HS_N_BATCH_KINDS * sizeof *c->latency_s) : NULL;
    if (n_timed && !c->latency_s)
        return hs_fail_nomem(err, (size_t)n_timed * HS_N_BATCH_KINDS * sizeof *c->latency_s, "the latencies");
    hstu_cache_reset_stats(c->cache);
    return hs_run_cache_use(run, true, err);
}

/* What the session's last batch took from the cache. */
static hstu_status kind_of_batch(const hs_run *run, size_t n_users, int *kind, hstu_error *err)
{
    bool hit = false, miss = false;
    for (size_t i = 0; i < n_users; i++) {
        int64_t n_tokens = 0, n_reused = 0;
        HS_TRY(hstu_session_get_reuse(run->session, i, &n_tokens, &n_reused, err));
        hit = hit || n_reused > 0;
        miss = miss || (n_tokens > 0 && n_reused == 0);
    }
    *kind = hit && miss ? HS_BATCH_MIXED : hit ? HS_BATCH_HIT : HS_BATCH_MISS;
    return HSTU_OK;
}

hstu_status hs_run_cache_note(hs_run *run, size_t n_users, double latency_s, hstu_error *err)
{
    hs_run_cache *c = &run->cache;
    int kind = HS_BATCH_MISS;
    if (!c->cache)
        return HSTU_OK;
    c->n_batches++;
    if (!c->latency_s)
        return HSTU_OK;
    HS_TRY(kind_of_batch(run, n_users, &kind, err));
    c->latency_s[kind * c->n_timed + c->n_of_kind[kind]++] = latency_s;
    return HSTU_OK;
}

hstu_status hs_run_cache_end(hs_run *run, hstu_error *err)
{
    hs_run_cache *c = &run->cache;
    if (!c->cache)
        return HSTU_OK;
    if (c->verify_every > c->n_batches)
        hs_console_warn(&run->console, "--verify_cache %lld has verified nothing: there were only %lld batches",
            (long long)c->verify_every, (long long)c->n_batches);
    hstu_cache_get_stats(c->cache, &c->stats);
    for (int i = 0; i < HS_N_BATCH_KINDS && c->latency_s; i++)
        qsort(c->latency_s + i * c->n_timed, (size_t)c->n_of_kind[i], sizeof *c->latency_s, hs_ascending);
    return c->save_path ? hstu_cache_save(c->cache, c->save_path, err) : HSTU_OK;
}

/* ---- verification ----------------------------------------------------------------------------------------------- */

bool hs_run_cache_is_due(const hs_run *run)
{
    return run->cache.plain && run->cache.n_batches % run->cache.verify_every == 0;
}

hstu_status hs_run_cache_verify(hs_run *run, const hs_answer_part *part, size_t n_parts, size_t n_users,
    hs_name_user *name, void *ctx, hstu_error *err)
{
    hs_difference difference;
    char who[256], what[160];
    if (!hs_answers_differ(part, n_parts, n_users, &difference)) {
        run->cache.n_verified_batches++;
        run->cache.n_verified_requests += (int64_t)n_users;
        return HSTU_OK;
    }
    name(ctx, difference.user, who, sizeof who);
    hs_difference_describe(&difference, what, sizeof what);
    return hs_fail(err, HSTU_EDEVICE, 0, "%s: %s: the cache is wrong", who, what);
}

typedef struct named_samples {
    const hs_run *run;
    int64_t first;
} named_samples;

static void name_sample(void *ctx, size_t user, char *text, size_t size)
{
    const named_samples *named = ctx;
    const int64_t i = named->first + (int64_t)user;
    (void)snprintf(text, size, "%.120s: user %lld, request %lld", named->run->dataset_info.name,
        (long long)named->run->samples.user_id[i], (long long)i);
}

hstu_status hs_run_cache_verify_samples(
    hs_run *run, const hs_answer_part *part, size_t n_parts, size_t n_users, int64_t first, hstu_error *err)
{
    named_samples named = {run, first};
    return hs_run_cache_verify(run, part, n_parts, n_users, name_sample, &named, err);
}
