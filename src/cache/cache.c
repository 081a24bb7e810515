/* Requests: from a history to the pages that hold its longest stored prefix, and back. Histories are compared and
 * words are written without the mutex, by who holds the entry. */
#include "base/stamp.h"
#include "cache/cache_int.h"

#include <string.h>

void hs_cache_lock(const hs_cache *cache)
{
    (void)pthread_mutex_lock((pthread_mutex_t *)(uintptr_t)&cache->mutex);
}

void hs_cache_unlock(const hs_cache *cache)
{
    (void)pthread_mutex_unlock((pthread_mutex_t *)(uintptr_t)&cache->mutex);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t whole_pages(const hs_cache *c, int64_t n_tokens)
{
    return n_tokens - n_tokens % c->shape.page_tokens;
}

/* A request while it looks for its rows. */
typedef struct request {
    const hs_cache_history *history;
    uint32_t entry; /* of the user, or 0 */
    bool is_held, may_write;
    int64_t n_comparable; /* stored tokens that it may look at */
} request;

/* ---- Comparison -------------------------------------------------------------------------------------------------- */

/* How many of `n` tokens are equal from the first on. */
static int64_t equal_words(const int64_t *a, const int64_t *b, int64_t n, int words_per_token)
{
    if (memcmp(a, b, (size_t)(n * words_per_token) * sizeof *a) == 0)
        return n;
    int64_t i = 0;
    while (a[i] == b[i])
        i++;
    return i / words_per_token;
}

/* How many of the entry's comparable tokens are the history's. */
static int64_t equal_tokens(const hs_cache *c, const request *r, int64_t n)
{
    const hs_cache_history *h = r->history;
    const int64_t page_tokens = c->shape.page_tokens;
    const int words = c->shape.words_per_token, n_head_words = c->shape.n_head_words;
    for (int i = 0; i < n_head_words; i++)
        if (hs_cache_head(c, r->entry)[i] != h->head[i])
            return 0;
    uint32_t page = c->entry[r->entry].first_page;
    for (int64_t first = 0;; first += page_tokens, page = c->next_page[page]) {
        const int64_t want = smaller(n - first, page_tokens);
        const int64_t equal = equal_words(hs_cache_words(c, page), h->word + first * words, want, words);
        if (equal < want || first + want == n)
            return first + equal;
    }
}

/* ---- Acquire ----------------------------------------------------------------------------------------------------- */

/* Finds the user and holds the entry when there is something to compare. Who finds nobody else there may write. */
static void find_entry(hs_cache *c, request *r)
{
    r->entry = hs_cache_find(c, r->history->user_id);
    if (!r->entry)
        return;
    hs_cache_touch(c, r->entry);
    hs_cache_entry *e = &c->entry[r->entry];
    r->may_write = e->n_holds == 0;
    r->n_comparable = e->has_writer ? whole_pages(c, e->n_tokens) : e->n_tokens;
    r->is_held = r->may_write || r->n_comparable > 0;
    if (r->may_write)
        e->has_writer = true;
    if (r->is_held)
        hs_cache_hold(c, r->entry);
}

/* The user's entry with pages for the whole history and `reused` valid tokens; false, and counted, where that cannot
 * be. */
static bool start_writing(hs_cache *c, request *r, int64_t reused)
{
    const int64_t n_pages = hs_cache_pages_of(c, r->history->n_tokens);
    if (n_pages > c->n_pages) {
        c->count.n_too_large++;
        return false;
    }
    hs_cache_entry *e = &c->entry[r->entry];
    if (r->entry && (!r->may_write || !e->is_listed ||
                        (e->n_holds > 1 && reused < whole_pages(c, e->n_tokens)))) { /* others came and hold these */
        c->count.n_busy++;
        return false;
    }
    const int64_t missing = r->entry ? n_pages - e->n_pages : n_pages;
    if (missing > 0 && !hs_cache_make_room(c, missing)) {
        c->count.n_no_room++;
        return false;
    }
    if (!r->entry) {
        r->entry = hs_cache_new_entry(c, r->history->user_id, n_pages);
        r->is_held = true;
        c->entry[r->entry].has_writer = true;
        hs_cache_list(c, r->entry, true);
        return true;
    }
    if (reused < e->n_tokens)
        hs_cache_renew_stamps(c, r->entry, reused);
    hs_cache_set_tokens(c, r->entry, reused);
    if (missing > 0)
        hs_cache_append_pages(c, r->entry, missing);
    else
        hs_cache_cut_pages(c, r->entry, n_pages);
    return true;
}

/* `equal` tokens were found equal. */
static void make_lease(hs_cache *c, request *r, int64_t equal, int64_t most_reused, hs_cache_lease *lease)
{
    const int64_t n_tokens = r->history->n_tokens;
    int64_t reused = smaller(equal, most_reused > 0 ? most_reused : 0);
    if (equal < smaller(r->n_comparable, n_tokens))
        c->count.n_changed++;
    const bool writes = reused < n_tokens && start_writing(c, r, reused);
    if (!writes) {
        if (r->may_write)
            c->entry[r->entry].has_writer = false;
        if (reused < n_tokens)
            reused = whole_pages(c, reused);
        if (reused == 0 && r->is_held) {
            hs_cache_unhold(c, r->entry);
            r->is_held = false;
        }
    }
    if (r->is_held)
        *lease = (hs_cache_lease){.entry = r->entry, .reused = reused, .writes = writes};
    c->count.n_hits += reused > 0;
    c->count.n_reused_tokens += (uint64_t)reused;
}

/* Without the mutex: no other holder changes the chain up to there, or its stamps. */
static void give_pages(const hs_cache *c, const hs_cache_lease *lease, int64_t n_tokens, char **page, uint64_t *stamp)
{
    const int64_t n_pages = hs_cache_pages_of(c, n_tokens);
    const int64_t n_leased = lease->writes ? n_pages : hs_cache_pages_of(c, lease->reused);
    uint32_t at = n_leased > 0 ? c->entry[lease->entry].first_page : 0;
    for (int64_t i = 0; i < n_pages; i++) {
        page[i] = i < n_leased ? hs_cache_page(c, at) : NULL;
        if (stamp)
            stamp[i] = i < n_leased ? c->stamp[at] : 0;
        if (i + 1 < n_leased)
            at = c->next_page[at];
    }
}

void hs_cache_acquire(hs_cache *cache, const hs_cache_history *history, int64_t most_reused, hs_cache_lease *lease,
    char **page, uint64_t *stamp)
{
    const int64_t n_tokens = history->n_tokens > 0 ? history->n_tokens : 0;
    request r = {.history = history};
    *lease = (hs_cache_lease){0};
    hs_cache_lock(cache);
    cache->count.n_requests++;
    cache->count.n_tokens += (uint64_t)n_tokens;
    if (n_tokens > 0) {
        int64_t equal = 0;
        find_entry(cache, &r);
        if (r.is_held) {
            hs_cache_unlock(cache);
            equal = equal_tokens(cache, &r, smaller(r.n_comparable, n_tokens));
            hs_cache_lock(cache);
        }
        make_lease(cache, &r, equal, most_reused, lease);
    }
    hs_cache_unlock(cache);
    give_pages(cache, lease, n_tokens, page, stamp);
}

/* ---- The end of a lease ------------------------------------------------------------------------------------------ */

/* The words of tokens first .. n_tokens - 1 behind their rows, and new stamps for what now holds these tokens. */
static void write_words(hs_cache *c, uint32_t entry, const hs_cache_history *h, int64_t first)
{
    const int64_t page_tokens = c->shape.page_tokens;
    const int words = c->shape.words_per_token;
    if (first == 0)
        for (int i = 0; i < c->shape.n_head_words; i++)
            hs_cache_head(c, entry)[i] = h->head[i];
    uint32_t page = c->entry[entry].first_page;
    for (int64_t start = 0; start < h->n_tokens; start += page_tokens) {
        const int64_t from = start > first ? start : first, to = smaller(start + page_tokens, h->n_tokens);
        if (from < to) {
            memcpy(hs_cache_words(c, page) + (from - start) * words, h->word + from * words,
                (size_t)(to - from) * c->token_bytes);
            c->stamp[page] = hs_stamp_next();
        }
        if (to < h->n_tokens)
            page = c->next_page[page];
    }
}

void hs_cache_commit(hs_cache *cache, hs_cache_lease *lease, const hs_cache_history *history)
{
    const uint32_t entry = (uint32_t)lease->entry;
    if (!lease->writes) {
        hs_cache_release(cache, lease);
        return;
    }
    write_words(cache, entry, history, lease->reused);
    hs_cache_lock(cache);
    hs_cache_set_tokens(cache, entry, history->n_tokens);
    cache->entry[entry].has_writer = false;
    if (cache->entry[entry].is_listed)
        cache->count.n_stored++;
    else
        cache->count.n_busy++;
    hs_cache_unhold(cache, entry);
    hs_cache_unlock(cache);
    *lease = (hs_cache_lease){0};
}

void hs_cache_release(hs_cache *cache, hs_cache_lease *lease)
{
    const uint32_t entry = (uint32_t)lease->entry;
    if (entry) {
        hs_cache_lock(cache);
        if (lease->writes) {
            cache->entry[entry].has_writer = false;
            if (lease->reused > 0) {
                hs_cache_cut_pages(cache, entry, hs_cache_pages_of(cache, lease->reused));
                hs_cache_renew_stamps(cache, entry, lease->reused);
            } else if (cache->entry[entry].is_listed) {
                hs_cache_unlist(cache, entry);
            }
        }
        hs_cache_unhold(cache, entry);
        hs_cache_unlock(cache);
    }
    *lease = (hs_cache_lease){0};
}

bool hs_cache_drop_user(hs_cache *cache, int64_t user_id)
{
    hs_cache_lock(cache);
    const uint32_t entry = hs_cache_find(cache, user_id);
    if (entry)
        hs_cache_unlist(cache, entry);
    hs_cache_unlock(cache);
    return entry != 0;
}

void hs_cache_drop_all(hs_cache *cache)
{
    hs_cache_lock(cache);
    while (cache->entry[0].newer)
        hs_cache_unlist(cache, cache->entry[0].newer);
    hs_cache_unlock(cache);
}
