/* hstu_cache_*: keys and values of many users for one model. */
#include "engine/api_cache.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

enum { DEFAULT_PAGE_TOKENS = 64 };

void hstu_cache_options_init(hstu_cache_options *options)
{
    *options =
        (hstu_cache_options){.size = sizeof *options, .bytes = (uint64_t)1 << 30, .page_tokens = DEFAULT_PAGE_TOKENS};
}

/* Of every layer in a page. */
static void clear_page(void *ctx, char *page, int64_t from)
{
    const hstu_cache *c = ctx;
    for (int64_t l = 0; l < c->model->model.config.num_blocks; l++)
        hs_kv_clear(&c->layer, page + (size_t)l * hs_kv_layer_bytes(&c->layer), from);
}

static hstu_status make_shape(hs_cache_shape *out, const hs_model *m, const hstu_cache_options *o, hstu_error *err)
{
    if (o->page_tokens < HS_KV_PAGE_STEP || o->page_tokens > HS_KV_PAGE_MOST || o->page_tokens % HS_KV_PAGE_STEP != 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "a page of the cache has %" PRId64 " tokens, expected a multiple of %d up to %d", o->page_tokens,
            HS_KV_PAGE_STEP, HS_KV_PAGE_MOST);
    *out = (hs_cache_shape){.page_tokens = o->page_tokens};
    hs_reuse_words(&m->config, &out->words_per_token, &out->n_head_words);
    if (!hs_pages_bytes(m, o->page_tokens, &out->page_bytes))
        return hs_fail(
            err, HSTU_EINVAL, 0, "a page of the cache of %" PRId64 " tokens is too large for memory", o->page_tokens);
    return HSTU_OK;
}

hstu_status hstu_cache_open(
    hstu_cache **out, const hstu_model *model, const hstu_cache_options *options, hstu_error *err)
{
    hstu_cache_options o;
    hs_cache_shape shape;
    hstu_status status = HSTU_OK;
    hstu_cache_options_init(&o);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_cache_options_init", err));
    HS_TRY(make_shape(&shape, &model->model, &o, err));
    hstu_cache *c = hs_calloc(1, sizeof *c);
    if (!c)
        return hs_fail_nomem(err, sizeof *c, "a cache");
    c->model = model;
    c->layer = hs_pages_shape(&model->model, o.page_tokens);
    shape.clear = clear_page;
    shape.ctx = c;
    c->no_reuse = hs_pages_no_reuse(&model->model.config);
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        hs_free(c);
        return hs_fail_nomem(err, sizeof *c, "a cache");
    }
    HS_TRY_GOTO(hs_cache_open(&c->cache, &shape, o.bytes, err));
    *out = c;
    return HSTU_OK;
fail:
    hstu_cache_close(c);
    return status;
}

void hstu_cache_close(hstu_cache *cache)
{
    if (!cache)
        return;
    hs_cache_close(cache->cache);
    (void)pthread_mutex_destroy(&cache->lock);
    hs_free(cache);
}

static hstu_status get_fingerprint(hstu_cache *c, unsigned char out[HS_FINGERPRINT_BYTES], hstu_error *err)
{
    hstu_status status = HSTU_OK;
    (void)pthread_mutex_lock(&c->lock);
    if (!c->has_fingerprint)
        status = hs_engine_fingerprint(c->model, c->fingerprint, err);
    c->has_fingerprint = status == HSTU_OK;
    memcpy(out, c->fingerprint, HS_FINGERPRINT_BYTES);
    (void)pthread_mutex_unlock(&c->lock);
    return status;
}

hstu_status hstu_session_use_cache(hstu_session *session, hstu_cache *cache, hstu_error *err)
{
    unsigned char own[HS_FINGERPRINT_BYTES], others[HS_FINGERPRINT_BYTES];
    if (cache && cache->model != session->model) {
        HS_TRY(get_fingerprint(cache, others, err));
        HS_TRY(hs_engine_fingerprint(session->model, own, err));
        if (memcmp(own, others, sizeof own) != 0)
            return hs_fail(err, HSTU_EINVAL, 0,
                "the cache was opened for another model (%.100s) than the session's (%.100s), or for another dtype or "
                "kernels: its keys and values would be wrong",
                cache->model->config, session->model->config);
    }
    session->cache = cache;
    return HSTU_OK;
}

hstu_status hstu_session_get_reuse(
    const hstu_session *session, size_t user, int64_t *n_tokens, int64_t *n_reused, hstu_error *err)
{
    if (user >= session->reuse.n_users)
        return hs_fail(
            err, HSTU_EINVAL, 0, "user %zu: the session's last call had %zu users", user, session->reuse.n_users);
    *n_tokens = session->reuse.n_tokens[user];
    *n_reused = session->reuse.reused[user];
    return HSTU_OK;
}

void hstu_cache_get_stats(const hstu_cache *cache, hstu_cache_stats *stats)
{
    hs_cache_stats s;
    hs_cache_get_stats(cache->cache, &s);
    *stats = (hstu_cache_stats){
        .n_requests = s.n_requests,
        .n_hits = s.n_hits,
        .n_tokens = s.n_tokens,
        .n_reused_tokens = s.n_reused_tokens,
        .n_stored = s.n_stored,
        .n_not_stored = s.n_not_stored,
        .n_too_large = s.n_too_large,
        .n_no_room = s.n_no_room,
        .n_busy = s.n_busy,
        .n_changed = s.n_changed,
        .n_evicted_users = s.n_evicted_users,
        .n_evicted_tokens = s.n_evicted_tokens,
        .bookkeeping_s = 1e-9 * (double)atomic_load_explicit(&cache->bookkeeping_ns, memory_order_relaxed),
        .n_users = s.n_users,
        .n_pages = s.n_pages,
        .n_free_pages = s.n_free_pages,
        .n_cached_tokens = s.n_cached_tokens,
        .n_unused_rows = s.n_unused_rows,
        .page_tokens = (uint64_t)hs_cache_get_shape(cache->cache)->page_tokens,
        .page_bytes = s.page_bytes,
        .used_bytes = (s.n_pages - s.n_free_pages) * s.page_bytes,
        .bookkeeping_bytes = s.bookkeeping_bytes,
        .budget_bytes = s.budget_bytes,
        .kv_dtype = cache->model->model.kv_type == HS_BF16 ? "bf16" : "fp32",
        .no_reuse = cache->no_reuse,
    };
}

void hstu_cache_reset_stats(hstu_cache *cache)
{
    hs_cache_reset_stats(cache->cache);
    atomic_store_explicit(&cache->bookkeeping_ns, 0, memory_order_relaxed);
}

void hstu_cache_drop_user(hstu_cache *cache, int64_t user_id)
{
    (void)hs_cache_drop_user(cache->cache, user_id);
}

void hstu_cache_drop_all(hstu_cache *cache)
{
    hs_cache_drop_all(cache->cache);
}

hstu_status hstu_cache_save(hstu_cache *cache, const char *path, hstu_error *err)
{
    unsigned char fingerprint[HS_FINGERPRINT_BYTES];
    HS_TRY(get_fingerprint(cache, fingerprint, err));
    return hs_cache_save(cache->cache, path, fingerprint, err);
}

hstu_status hstu_cache_load(hstu_cache *cache, const char *path, hstu_cache_loaded *loaded, hstu_error *err)
{
    unsigned char fingerprint[HS_FINGERPRINT_BYTES];
    hs_cache_loaded l;
    HS_TRY(get_fingerprint(cache, fingerprint, err));
    HS_TRY(hs_cache_load(cache->cache, path, fingerprint, &l, err));
    if (loaded)
        *loaded = (hstu_cache_loaded){
            .n_users = l.n_users, .n_tokens = l.n_tokens, .n_damaged = l.n_damaged, .n_no_room = l.n_no_room};
    return HSTU_OK;
}
