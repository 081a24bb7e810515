/* Caches and histories for tests: opening a cache of so many pages, filling rows with what tells them from all
 * others, and a walk over everything that a cache must keep true. */
#ifndef TESTS_CACHE_SUPPORT_H
#define TESTS_CACHE_SUPPORT_H

#include "cache/cache_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE_TOKENS = 32, WORDS = 2, HEAD = 3, PAGE_BYTES = PAGE_TOKENS * 8, TOKENS_MOST = 256 };

/* A row is a number. */
static inline void clear_rows(void *ctx, char *page, int64_t from)
{
    (void)ctx;
    memset(page + from * 8, 0, (size_t)(PAGE_TOKENS - from) * 8);
}

static const hs_cache_shape support_shape = {.page_tokens = PAGE_TOKENS,
    .page_bytes = PAGE_BYTES,
    .words_per_token = WORDS,
    .n_head_words = HEAD,
    .clear = clear_rows};

/* The smallest budget that holds n_pages, in steps of 32 bytes; in larger ones while far from it. */
static inline hs_cache *open_pages(uint64_t n_pages)
{
    for (uint64_t budget = 4096, step = 32;; budget += step) {
        hs_cache *cache = NULL;
        hs_cache_stats stats = {0};
        if (hs_cache_open(&cache, &support_shape, budget, NULL) != HSTU_OK)
            continue;
        hs_cache_get_stats(cache, &stats);
        if (stats.n_pages == n_pages)
            return cache;
        hs_cache_close(cache);
        assert_true(stats.n_pages < n_pages);
        step = 32 + (n_pages - stats.n_pages - 1) * PAGE_BYTES;
    }
}

/* A user's history with its words. */
typedef struct story {
    int64_t user_id, n_tokens;
    int64_t head[HEAD];
    int64_t word[TOKENS_MOST * WORDS];
} story;

static inline hs_cache_history history_of(const story *s)
{
    return (hs_cache_history){.user_id = s->user_id, .head = s->head, .word = s->word, .n_tokens = s->n_tokens};
}

static inline int64_t pages_of(int64_t n_tokens)
{
    return (n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
    return x ^ (x >> 29);
}

static inline uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return mix(mix(*state));
}

static inline int64_t below(uint64_t *state, int64_t n)
{
    return (int64_t)(next_random(state) >> 33) % n;
}

/* What the row of each token must hold: depends on the user, the head and all words up to there. */
static inline void rows_of(const story *s, uint64_t row[TOKENS_MOST])
{
    uint64_t h = mix((uint64_t)s->user_id + 1);
    for (int i = 0; i < HEAD; i++)
        h = mix(h ^ (uint64_t)s->head[i]);
    for (int64_t i = 0; i < s->n_tokens; i++) {
        for (int w = 0; w < WORDS; w++)
            h = mix(h ^ (uint64_t)s->word[i * WORDS + w]);
        row[i] = h;
    }
}

/* Fills rows `first` and on of a request's pages. */
static inline void fill_rows(char *const *page, const uint64_t *row, int64_t first, int64_t n_tokens)
{
    for (int64_t i = first; i < n_tokens; i++)
        memcpy(page[i / PAGE_TOKENS] + i % PAGE_TOKENS * 8, &row[i], 8);
}

/* How many rows are right, from the first on. */
static inline int64_t right_rows(char *const *page, const uint64_t *row, int64_t n_tokens)
{
    int64_t i = 0;
    while (i < n_tokens && memcmp(page[i / PAGE_TOKENS] + i % PAGE_TOKENS * 8, &row[i], 8) == 0)
        i++;
    return i;
}

/* One mark a page: every page is somewhere exactly once. */
static inline void mark_chain(const hs_cache *c, char *seen, uint32_t first, uint32_t last, uint32_t n)
{
    uint32_t page = first;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(page < c->n_touched_pages);
        assert_false(seen[page]);
        seen[page] = 1;
        if (i + 1 < n)
            page = c->next_page[page];
    }
    assert_true(n == 0 || page == last);
}

static inline uint32_t last_free_page(const hs_cache *c)
{
    uint32_t page = c->first_free_page;
    for (uint32_t i = 1; i < c->n_returned_pages; i++)
        page = c->next_page[page];
    return page;
}

/* The invariants of cache_int.h, while no other thread is at it. */
static inline void check_cache(const hs_cache *c)
{
    static _Thread_local char seen[4096];
    uint32_t n_users = 0, n_held = 0, n_held_pages = 0, n_used = 0, n_free_entries = 0, n_in_buckets = 0, n_in_ring = 0;
    uint64_t n_tokens = 0;
    assert_true(c->n_pages <= sizeof seen && c->n_touched_pages <= c->n_pages && c->n_touched_entries <= c->n_pages);
    memset(seen, 0, c->n_pages);
    mark_chain(c, seen, c->first_free_page, last_free_page(c), c->n_returned_pages);
    for (uint32_t i = c->first_free_entry; i; i = c->entry[i].next) {
        assert_int_equal(c->entry[i].n_pages, 0);
        n_free_entries++;
    }
    for (uint32_t i = 1; i <= c->n_touched_entries; i++) {
        const hs_cache_entry *e = &c->entry[i];
        if (e->n_pages == 0)
            continue;
        n_used++;
        mark_chain(c, seen, e->first_page, e->last_page, e->n_pages);
        assert_true(e->is_listed || e->n_holds > 0);
        assert_true(e->n_tokens <= (int64_t)e->n_pages * PAGE_TOKENS);
        assert_true(e->has_writer ? e->n_holds > 0 : pages_of(e->n_tokens) == e->n_pages);
        n_users += e->is_listed;
        n_held += e->n_holds > 0;
        n_held_pages += e->n_holds > 0 ? e->n_pages : 0;
        n_tokens += (uint64_t)e->n_tokens;
        if (e->is_listed)
            assert_int_equal(hs_cache_find(c, e->user_id), i);
    }
    assert_null(memchr(seen, 0, c->n_touched_pages));
    assert_int_equal(n_used + n_free_entries, c->n_touched_entries);
    for (uint32_t b = 0; b < c->n_pages; b++)
        for (uint32_t i = c->bucket[b]; i; i = c->entry[i].next)
            n_in_buckets++;
    for (uint32_t i = c->entry[0].newer; i; i = c->entry[i].newer, n_in_ring++)
        assert_int_equal(c->entry[c->entry[i].older].newer, i);
    assert_true(n_users == c->n_users && n_in_buckets == n_users && n_in_ring == n_users);
    assert_true(n_held == c->n_held && n_held_pages == c->n_held_pages && n_tokens == c->n_tokens);
}

#endif
