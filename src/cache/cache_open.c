/* Opening and closing a cache: how many pages a budget holds and where everything lies in its memory. Statistics. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/reserve.h"
#include "base/system.h"
#include "cache/cache_int.h"

#include <inttypes.h>

enum { ALIGNMENT = 64, PAGE_STEP = 32, MEMORY_STEP = 4096 };

/* Pages from SPREAD_LEAST bytes on stand an odd multiple of SPREAD apart. Attention reads the same part of many pages, and a line's place in
 * the processor's second cache is its address modulo 128 KB or so: that far apart, or a multiple, they would drive each other out. A gap takes
 * less than 16 KB; pages that are smaller fit into that cache one beside the other. */
enum { SPREAD = 8 << 10, SPREAD_LEAST = 128 << 10 };

static hstu_status check_shape(const hs_cache_shape *s, hstu_error *err)
{
    if (s->page_tokens < PAGE_STEP || s->page_tokens > HS_CACHE_PAGE_TOKENS_MOST || s->page_tokens % PAGE_STEP != 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "a cache page must hold a multiple of %d tokens, at most %d, but %" PRId64 " were asked for",
            (int)PAGE_STEP, (int)HS_CACHE_PAGE_TOKENS_MOST, s->page_tokens);
    if (s->page_bytes == 0 || s->page_bytes % ALIGNMENT != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "a cache page must have a multiple of %d bytes, but %zu were asked for",
            (int)ALIGNMENT, s->page_bytes);
    if (s->words_per_token < 1 || s->words_per_token > HS_CACHE_WORDS_MOST)
        return hs_fail(err, HSTU_EINVAL, 0, "a token in the cache must have 1 to %d words, but %d were asked for",
            (int)HS_CACHE_WORDS_MOST, s->words_per_token);
    if (s->n_head_words < 0 || s->n_head_words > HS_CACHE_HEAD_MOST)
        return hs_fail(err, HSTU_EINVAL, 0,
            "a history in the cache must have 0 to %d head words, but %d were asked for", (int)HS_CACHE_HEAD_MOST,
            s->n_head_words);
    return HSTU_OK;
}

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t slot_bytes(const hs_cache_shape *shape, size_t token_bytes)
{
    const size_t bytes = shape->page_bytes + (size_t)shape->page_tokens * token_bytes;
    return bytes < SPREAD_LEAST ? bytes : ((bytes + SPREAD - 1) / SPREAD | 1) * SPREAD;
}

/* Gives each array its place in c->memory, for n_pages pages; returns the bytes of all. */
static size_t lay_out(hs_cache *c, size_t n_pages)
{
    char *const memory = c->memory;
    size_t at = 0;
    const size_t slots = at, entries = at += n_pages * c->slot_bytes;
    const size_t heads = at += round_up((n_pages + 1) * sizeof *c->entry);
    const size_t stamps = at += round_up((n_pages + 1) * (size_t)c->shape.n_head_words * sizeof *c->head);
    const size_t nexts = at += round_up(n_pages * sizeof *c->stamp);
    const size_t buckets = at += round_up(n_pages * sizeof *c->next_page);
    at += round_up(n_pages * sizeof *c->bucket);
    if (memory) {
        c->slot = memory + slots;
        c->entry = (hs_cache_entry *)(void *)(memory + entries);
        c->head = (int64_t *)(void *)(memory + heads);
        c->stamp = (uint64_t *)(void *)(memory + stamps);
        c->next_page = (uint32_t *)(void *)(memory + nexts);
        c->bucket = (uint32_t *)(void *)(memory + buckets);
    }
    return at;
}

/* Bytes that each page needs, and those that there are once, so that everything fits whatever the number of pages. */
static size_t bytes_each(const hs_cache *c)
{
    return c->slot_bytes + sizeof *c->entry + (size_t)c->shape.n_head_words * sizeof *c->head + sizeof *c->stamp +
           sizeof *c->next_page + sizeof *c->bucket;
}

static size_t bytes_once(const hs_cache *c)
{
    return sizeof *c + bytes_each(c) - c->slot_bytes + 5 * ALIGNMENT + MEMORY_STEP;
}

static hstu_status reserve(hs_cache *c, hstu_error *err)
{
    const size_t once = bytes_once(c), each = bytes_each(c);
    if (c->budget_bytes < once || c->budget_bytes - once < each)
        return hs_fail(err, HSTU_EINVAL, 0,
            "the cache's budget of %" PRIu64 " bytes holds no page: one page needs %zu bytes", c->budget_bytes,
            once + each);
    uint64_t n_pages = (c->budget_bytes - once) / each;
    if (n_pages > HS_CACHE_PAGES_MOST)
        n_pages = HS_CACHE_PAGES_MOST;
    if (n_pages * each > SIZE_MAX - once)
        return hs_fail_nomem(err, SIZE_MAX, "the pages of a cache");
    c->memory_bytes = lay_out(c, (size_t)n_pages);
    c->memory = hs_reserve(c->memory_bytes);
    if (!c->memory)
        return hs_fail_nomem(err, c->memory_bytes, "the pages of a cache");
    c->n_pages = (uint32_t)n_pages;
    (void)lay_out(c, c->n_pages);
    return HSTU_OK;
}

hstu_status hs_cache_open(hs_cache **out, const hs_cache_shape *shape, uint64_t budget_bytes, hstu_error *err)
{
    HS_TRY(check_shape(shape, err));
    const size_t token_bytes = (size_t)shape->words_per_token * sizeof(int64_t);
    /* Half of the range: the sums of bytes_each and bytes_once cannot overflow. */
    if (shape->page_bytes > SIZE_MAX / 2)
        return hs_fail(err, HSTU_EINVAL, 0, "a cache page of %zu bytes is too large", shape->page_bytes);
    hs_cache *c = hs_calloc(1, sizeof *c);
    if (!c)
        return hs_fail_nomem(err, sizeof *c, "a cache");
    c->shape = *shape;
    c->token_bytes = token_bytes;
    c->slot_bytes = slot_bytes(shape, token_bytes);
    c->budget_bytes = budget_bytes;
    c->seed = hs_system_seed();
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(reserve(c, err));
    if (pthread_mutex_init(&c->mutex, NULL) != 0) {
        status = hs_fail_nomem(err, sizeof c->mutex, "the mutex of a cache");
        goto fail;
    }
    *out = c;
    return HSTU_OK;
fail:
    hs_reserve_free(c->memory, c->memory_bytes);
    hs_free(c);
    return status;
}

void hs_cache_close(hs_cache *cache)
{
    if (!cache)
        return;
    (void)pthread_mutex_destroy(&cache->mutex);
    hs_reserve_free(cache->memory, cache->memory_bytes);
    hs_free(cache);
}

const hs_cache_shape *hs_cache_get_shape(const hs_cache *cache)
{
    return &cache->shape;
}

void hs_cache_get_stats(const hs_cache *cache, hs_cache_stats *stats)
{
    hs_cache_lock(cache);
    hs_cache_stats s = cache->count;
    s.n_users = cache->n_users;
    s.n_held = cache->n_held;
    s.n_free_pages = hs_cache_n_free(cache);
    s.n_cached_tokens = cache->n_tokens;
    hs_cache_unlock(cache);
    s.n_not_stored = s.n_too_large + s.n_no_room + s.n_busy;
    s.n_pages = cache->n_pages;
    s.n_unused_rows = (s.n_pages - s.n_free_pages) * (uint64_t)cache->shape.page_tokens - s.n_cached_tokens;
    s.page_bytes = cache->shape.page_bytes;
    s.bookkeeping_bytes = sizeof *cache + cache->memory_bytes - s.n_pages * s.page_bytes;
    s.budget_bytes = cache->budget_bytes;
    *stats = s;
}

void hs_cache_reset_stats(hs_cache *cache)
{
    hs_cache_lock(cache);
    cache->count = (hs_cache_stats){0};
    hs_cache_unlock(cache);
}
