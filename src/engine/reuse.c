/* From the requests of a call to what the cache holds of them, and back. */
#include "engine/api_cache.h"

#include "base/clock.h"
#include "base/error.h"

#include <math.h>

void hs_reuse_words(const hs_config *config, int *per_token, int *head)
{
    const bool timed = hs_config_uses_time(config);
    *per_token = timed ? 2 : 1;
    *head = timed ? 2 : config->family == HS_CONFIG_RANKING ? config->n_context : 0;
}

static hstu_status alloc_counts(hs_reuse *r, hs_arena *arena, const hs_reuse_source *source, hstu_error *err)
{
    HS_TRY(hs_engine_alloc_ids(arena, &r->n_tokens, source->n_users, err));
    HS_TRY(hs_engine_alloc_ids(arena, &r->reused, source->n_users, err));
    for (size_t u = 0; u < source->n_users; u++) {
        r->n_tokens[u] = source->n_tokens[u];
        r->reused[u] = 0;
    }
    r->n_users = source->n_users;
    return HSTU_OK;
}

static hstu_status alloc_leases(hs_reuse *r, hs_arena *arena, int64_t page_tokens, hstu_error *err)
{
    const size_t n = r->n_users;
    r->history = hs_arena_alloc(arena, n, sizeof *r->history);
    r->lease = hs_arena_alloc(arena, n, sizeof *r->lease);
    r->kept = hs_arena_alloc(arena, n, sizeof *r->kept);
    HS_TRY(hs_engine_alloc_ids(arena, &r->first_page, n + 1, err));
    if (!r->history || !r->lease || !r->kept)
        return hs_fail_nomem(err, n * (sizeof *r->history + sizeof *r->lease + sizeof *r->kept), "the batch");
    r->first_page[0] = 0;
    for (size_t u = 0; u < n; u++)
        r->first_page[u + 1] = r->first_page[u] + (r->n_tokens[u] + page_tokens - 1) / page_tokens;
    const size_t pages = (size_t)r->first_page[n];
    r->page = hs_arena_alloc(arena, pages, sizeof *r->page);
    r->stamp = hs_arena_alloc(arena, pages, sizeof *r->stamp);
    if (!r->page || !r->stamp)
        return hs_fail_nomem(err, pages * (sizeof *r->page + sizeof *r->stamp), "the batch");
    return HSTU_OK;
}

static hstu_status name_tokens(
    hs_reuse *r, hs_arena *arena, const hs_reuse_source *source, const hs_cache_shape *shape, hstu_error *err)
{
    for (size_t u = 0; u < r->n_users; u++) {
        int64_t *head = NULL, *word = NULL;
        if (r->n_tokens[u] == 0)
            continue;
        HS_TRY(hs_engine_alloc_ids(arena, &head, (size_t)shape->n_head_words, err));
        HS_TRY(hs_engine_alloc_ids(arena, &word, (size_t)(r->n_tokens[u] * shape->words_per_token), err));
        source->name(source->ctx, u, head, word);
        r->history[u] =
            (hs_cache_history){.user_id = source->user_id[u], .head = head, .word = word, .n_tokens = r->n_tokens[u]};
    }
    return HSTU_OK;
}

static void acquire(hs_reuse *r, int64_t newest, int64_t page_tokens)
{
    for (size_t u = 0; u < r->n_users; u++) {
        char **page = r->page + r->first_page[u];
        uint64_t *stamp = r->stamp + r->first_page[u];
        r->lease[u] = (hs_cache_lease){.entry = 0};
        r->kept[u] = (hs_kept){.page_tokens = page_tokens, .reused = r->reused + u, .page = page, .stamp = stamp};
        if (r->n_tokens[u] > 0)
            hs_cache_acquire(r->cache->cache, &r->history[u], r->n_tokens[u] - newest, &r->lease[u], page, stamp);
        r->reused[u] = r->lease[u].reused;
    }
}

hstu_status hs_reuse_begin(hstu_session *session, const hs_reuse_source *source, hstu_error *err)
{
    hs_reuse *r = &session->reuse;
    *r = (hs_reuse){.n_users = 0};
    hs_reuse made = {.n_users = 0};
    HS_TRY(alloc_counts(&made, &session->call, source, err));
    if (session->cache && source->user_id && !session->cache->no_reuse) {
        const hs_cache_shape *shape = hs_cache_get_shape(session->cache->cache);
        const double start = hs_clock_s();
        HS_TRY(alloc_leases(&made, &session->call, shape->page_tokens, err));
        HS_TRY(name_tokens(&made, &session->call, source, shape, err));
        made.cache = session->cache;
        acquire(&made, source->newest, shape->page_tokens);
        hs_cache_handle_spend(session->cache, hs_clock_s() - start);
    }
    *r = made;
    return HSTU_OK;
}

const hs_kept *hs_reuse_kept(const hs_reuse *reuse, size_t first)
{
    return reuse->cache ? &reuse->kept[first] : NULL;
}

size_t hs_engine_find_not_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

void hs_reuse_commit(hs_reuse *reuse, size_t first, size_t end)
{
    if (!reuse->cache)
        return;
    const double start = hs_clock_s();
    for (size_t u = first; u < end; u++) {
        hs_cache_commit(reuse->cache->cache, &reuse->lease[u], &reuse->history[u]);
        reuse->lease[u] = (hs_cache_lease){.entry = 0};
    }
    hs_cache_handle_spend(reuse->cache, hs_clock_s() - start);
}

void hs_reuse_end(hs_reuse *reuse)
{
    if (!reuse->cache)
        return;
    for (size_t u = 0; u < reuse->n_users; u++)
        hs_cache_release(reuse->cache->cache, &reuse->lease[u]);
    reuse->cache = NULL;
}
