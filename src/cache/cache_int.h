/* What the cache is made of: one reserved range of memory, cut into page slots, entries (a user each) and the
 * look-up. Entries and pages are named by numbers of 32 bits.
 *
 * Invariants, checked by tests/cache/test_cache_model.c:
 * 1. Every page is in the chain of exactly one entry, in the list of free pages, or fresh (never used).
 * 2. An entry in use has at least one page; so there is always an entry for a free page.
 * 3. Tokens 0 .. n_tokens - 1 of an entry, their words and rows, do not change while the entry is held, except that
 *    its writer, which was alone when it cut n_tokens down to what it uses again, fills tokens n_tokens and on.
 * 4. While an entry has a writer, others hold only whole pages of its n_tokens, so that no page is written and read
 *    at a time.
 * 5. Entries and everything below `mutex` are touched with the mutex held only. Without it a holder may read the
 *    first_page of its entry, next_page and stamp of the pages that it holds, and, when the entry had no writer as it
 *    was held, n_tokens.
 * 6. A page gets a new stamp when it is taken, when tokens in it are cut off, and when a lease ends that filled places
 *    of it, committed or not. So stored tokens under an unchanged stamp are unchanged, and no stamp outlives a lease
 *    beside rows that came to nothing. */
#ifndef HS_CACHE_CACHE_INT_H
#define HS_CACHE_CACHE_INT_H

#include "cache/kvcache.h"

#include <pthread.h>

enum { HS_CACHE_PAGES_MOST = INT32_MAX };

typedef struct hs_cache_entry {
    int64_t user_id;
    int64_t n_tokens; /* whose rows and words are valid */
    /* A chain by next_page, that of the last undefined; a writer's go past n_tokens. */
    uint32_t first_page, last_page, n_pages;
    uint32_t older, newer; /* a ring through entry 0: its newer is the least recently used, its older the most */
    uint32_t next;         /* of the same bucket, or of the free entries; 0 ends */
    uint32_t n_holds;      /* leases, saves and requests that compare; > 0: is not evicted */
    bool has_writer;       /* one of the holders may write */
    bool is_listed; /* in look-up and ring; else it is not yet, or was dropped and goes when the last holder ends */
} hs_cache_entry;

struct hs_cache {
    hs_cache_shape shape;
    size_t token_bytes; /* of a token's words */
    size_t slot_bytes;  /* page_bytes, the words of page_tokens tokens, and a gap */
    uint64_t budget_bytes, seed;
    void *memory;
    size_t memory_bytes;
    uint32_t n_pages;
    char *slot;            /* [n_pages, slot_bytes], 64-byte aligned */
    uint32_t *next_page;   /* [n_pages] */
    uint64_t *stamp;       /* [n_pages]: as hs_cache_acquire gives them */
    hs_cache_entry *entry; /* [n_pages + 1]; entry 0 closes the ring */
    int64_t *head;         /* [n_pages + 1, n_head_words] */
    uint32_t *bucket;      /* [n_pages]: first entry of those whose users fall there, or 0 */

    pthread_mutex_t mutex;
    uint32_t first_free_page, n_returned_pages;   /* a list by next_page */
    uint32_t n_touched_pages;                     /* those behind are fresh */
    uint32_t first_free_entry, n_touched_entries; /* a list by next; entries 1 .. n_touched_entries were used */
    uint32_t n_users, n_held, n_held_pages;       /* listed entries; held entries and their pages, listed or not */
    uint64_t n_tokens;                            /* of all entries */
    hs_cache_stats count; /* the counters of requests; what is now is filled by hs_cache_get_stats */
};

/* The mutex; const, as statistics are read through it too. */
void hs_cache_lock(const hs_cache *cache);
void hs_cache_unlock(const hs_cache *cache);

/* Bytes that callers fill, and the words [page_tokens, words_per_token] behind them. */
static inline char *hs_cache_page(const hs_cache *c, uint32_t page)
{
    return c->slot + page * c->slot_bytes;
}

static inline int64_t *hs_cache_words(const hs_cache *c, uint32_t page)
{
    return (int64_t *)(void *)(hs_cache_page(c, page) + c->shape.page_bytes);
}

static inline int64_t *hs_cache_head(const hs_cache *c, uint32_t entry)
{
    return c->head + (size_t)entry * (size_t)c->shape.n_head_words;
}

/* Pages of n_tokens >= 0 tokens. */
static inline int64_t hs_cache_pages_of(const hs_cache *c, int64_t n_tokens)
{
    return n_tokens / c->shape.page_tokens + (n_tokens % c->shape.page_tokens != 0);
}

static inline uint32_t hs_cache_n_free(const hs_cache *c)
{
    return c->n_returned_pages + (c->n_pages - c->n_touched_pages);
}

/* ---- All that follow need the mutex held ------------------------------------------------------------------------- */

/* The listed entry of a user, or 0. */
uint32_t hs_cache_find(const hs_cache *c, int64_t user_id);

/* Holding keeps an entry from being evicted. The last holder of an entry that is not listed frees it and its pages. */
void hs_cache_hold(hs_cache *c, uint32_t entry);
void hs_cache_unhold(hs_cache *c, uint32_t entry);

/* Evicts users that nobody holds, least recently used first, until n_pages pages are free. When even all of them
 * would not do, evicts nobody and returns false. */
bool hs_cache_make_room(hs_cache *c, int64_t n_pages);

/* A new entry of n_pages >= 1 free pages (which must be there: hs_cache_make_room or hs_cache_n_free), held once by
 * the caller, not listed, without tokens. The caller fills pages, words and head without the mutex: nobody else sees
 * them. Then either hs_cache_set_tokens, hs_cache_list and hs_cache_unhold publish it, or hs_cache_unhold alone
 * gives it back. */
uint32_t hs_cache_new_entry(hs_cache *c, int64_t user_id, int64_t n_pages);
void hs_cache_set_tokens(hs_cache *c, uint32_t entry, int64_t n_tokens);

/* Into look-up and ring, as the most recently used user or the least; the user must not be listed. */
void hs_cache_list(hs_cache *c, uint32_t entry, bool as_newest);
/* Out of them; an entry that nobody holds is freed with its pages. */
void hs_cache_unlist(hs_cache *c, uint32_t entry);

/* Moves a listed entry to the most recently used end. */
void hs_cache_touch(hs_cache *c, uint32_t entry);

/* Appends free pages (which must be there) to a held entry, or cuts its chain behind its first n_pages >= 1 pages. */
void hs_cache_append_pages(hs_cache *c, uint32_t entry, int64_t n_pages);
void hs_cache_cut_pages(hs_cache *c, uint32_t entry, int64_t n_pages);

/* New stamps for those of the entry's pages that have places for tokens `first` and on; no other holder reads them. */
void hs_cache_renew_stamps(hs_cache *c, uint32_t entry, int64_t first);

#endif
