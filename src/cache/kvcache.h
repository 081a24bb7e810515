/* Which user's rows lie in which pages. The cache knows nothing of models: a page is bytes that a caller fills, a
 * token is a few 64-bit words that tell whether its row may be used again. Everything is allocated when the cache is
 * opened. Thread-safe: every function may be called from any thread at any time. */
#ifndef HS_CACHE_KVCACHE_H
#define HS_CACHE_KVCACHE_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_cache hs_cache;

enum { HS_CACHE_PAGE_TOKENS_MOST = 1 << 16, HS_CACHE_WORDS_MOST = 4, HS_CACHE_HEAD_MOST = 64 };

typedef struct hs_cache_shape {
    int64_t page_tokens; /* a multiple of 32, at most HS_CACHE_PAGE_TOKENS_MOST */
    size_t page_bytes;   /* that callers fill, all layers; a multiple of 64 */
    int words_per_token; /* 1 .. HS_CACHE_WORDS_MOST */
    int n_head_words;    /* 0 .. HS_CACHE_HEAD_MOST: words in front of all tokens */
    /* Zeroes the rows of places `from` .. page_tokens - 1 of a page, so that files do not tell of tokens that are no
     * longer there. Any thread. NULL: files hold pages as they are. */
    void (*clear)(void *ctx, char *page, int64_t from);
    void *ctx;
} hs_cache_shape;

/* budget_bytes bounds all memory of the cache: pages, the words of their tokens, entries, look-up. It is reserved at
 * once and used as pages are first filled. HSTU_EINVAL for a shape out of range or a budget that holds no page (the
 * sentence says how many bytes one needs); HSTU_ENOMEM. */
hstu_status hs_cache_open(hs_cache **out, const hs_cache_shape *shape, uint64_t budget_bytes, hstu_error *err);
void hs_cache_close(hs_cache *cache); /* NULL is fine; no lease may be open */
const hs_cache_shape *hs_cache_get_shape(const hs_cache *cache);

/* A user's whole history, as words. */
typedef struct hs_cache_history {
    int64_t user_id;
    const int64_t *head; /* [n_head_words]; any difference: nothing is used again */
    const int64_t *word; /* [n_tokens, words_per_token] */
    int64_t n_tokens;
} hs_cache_history;

/* A request's hold on its user's rows. Zeroed: holds nothing. */
typedef struct hs_cache_lease {
    int64_t entry;  /* the cache's own; 0: none */
    int64_t reused; /* tokens 0 .. reused - 1 equal the stored ones, and their rows can be read */
    bool writes;    /* all pages are the cache's, and the caller fills tokens reused .. n_tokens - 1 */
} hs_cache_lease;

/* Finds the longest stored prefix whose words are equal, holds it, and makes room for the rest. Never fails.
 * page [ceil(n_tokens / page_tokens)] gets the addresses of the pages that the cache has: all of them when
 * lease->writes, else those of the first `reused` tokens, and NULL for those that the caller must supply. Where there
 * are such, `reused` is a multiple of page_tokens, so that no page is shared between cached and other tokens.
 * At most `most_reused` tokens are used again (those behind are computed again, over the same pages).
 *
 * stamp [as page], or NULL: by these a device with memory of its own knows what it has seen before; 0 where page is NULL.
 * While a lease holds them, page and stamp together name the contents of the page's committed tokens: the tokens below
 * `reused` have the same bits as whenever, in any lease of any cache, that pair was seen with them below `reused`. (Those
 * that were not below it then have not been seen.) Of a page where a lease fills tokens, no lease before has seen these
 * tokens under the pair, and when the lease has ended, committed or not, the pair never comes again: what was written
 * under it misleads nobody.
 * So a stamp changes when its page is taken for another entry, by a request or from a file, when tokens of the page are
 * cut off, and when a lease ends that could fill tokens of it.
 *
 * A lease writes when something is to be written (reused < n_tokens), nobody else holds the user, and pages are there.
 * The user's stored tokens are then cut to `reused`; else they stay, even when they are more than the history's. What
 * pages held before stays in them.
 * Held tokens are neither evicted nor changed. Of several requests of one user at a time at most one writes; the
 * others read whole pages of what was there before, or all of it when nobody writes, and store nothing.
 *
 * The user becomes the most recently used one. Users that nobody holds are evicted, least recently used first, as far
 * as pages are needed and only when that gives enough; a history of more pages than the cache has evicts nobody. */
void hs_cache_acquire(hs_cache *cache, const hs_cache_history *history, int64_t most_reused, hs_cache_lease *lease,
    char **page, uint64_t *stamp);
/* Ends a lease whose rows are filled: all n_tokens become the user's. For a lease that does not write, as
 * hs_cache_release. `history` is the one given to hs_cache_acquire. */
void hs_cache_commit(hs_cache *cache, hs_cache_lease *lease, const hs_cache_history *history);
/* Ends a lease without keeping what was written: the user keeps the first `reused` tokens. A zeroed lease is fine. */
void hs_cache_release(hs_cache *cache, hs_cache_lease *lease);

/* Forgets a user at once: later requests find nothing. What requests hold at the moment, or still commit, lives
 * until the last of them ends. Returns whether the user was there. */
bool hs_cache_drop_user(hs_cache *cache, int64_t user_id);
void hs_cache_drop_all(hs_cache *cache);

typedef struct hs_cache_stats {
    uint64_t n_requests, n_hits;        /* requests, with empty histories too; those that used rows again */
    uint64_t n_tokens, n_reused_tokens; /* of all requests */
    uint64_t n_stored;                  /* requests whose new rows were kept */
    uint64_t n_not_stored;              /* requests with new rows that could not be kept: the sum of the next three */
    uint64_t n_too_large;               /* more pages than the cache has */
    uint64_t n_no_room;                 /* more pages than free ones and those of users that nobody holds */
    uint64_t n_busy;                    /* another request held the user, or the user was dropped meanwhile */
    uint64_t n_changed;                 /* requests whose user was there with other words at some token */
    uint64_t n_evicted_users, n_evicted_tokens;
    uint64_t n_users;               /* now: that can be found, with those whose first rows are being written */
    uint64_t n_held;                /* now: users that requests hold, with dropped ones */
    uint64_t n_pages, n_free_pages; /* now */
    uint64_t n_cached_tokens;       /* now: rows that are kept, with those of dropped users that requests hold */
    uint64_t n_unused_rows;         /* now: rows of pages in use that no token fills */
    uint64_t page_bytes;            /* keys and values of a page */
    uint64_t bookkeeping_bytes; /* words, gaps, entries, stamps, look-up, of the cache; beside n_pages * page_bytes */
    uint64_t budget_bytes;
} hs_cache_stats;
void hs_cache_get_stats(const hs_cache *cache, hs_cache_stats *stats);
/* Counters to 0; what is now stays. */
void hs_cache_reset_stats(hs_cache *cache);

/* ---- Files (cachefile.c) ---------------------------------------------------------------------------------------- */

/* Writes every entry that nobody writes at the moment, most recently used first, under a temporary name that is
 * renamed when complete. Entries are held one at a time: requests go on. fingerprint: 16 bytes that name the model,
 * its arithmetic and the pages' layout. Format: docs/formats.md. HSTU_EIO, HSTU_ENOENT for a folder that is not
 * there, HSTU_ENOMEM. */
hstu_status hs_cache_save(hs_cache *cache, const char *path, const unsigned char fingerprint[16], hstu_error *err);

typedef struct hs_cache_loaded {
    uint64_t n_users, n_tokens; /* taken over */
    uint64_t n_damaged; /* with a wrong checksum or cut off; 1 for all that follow where nothing tells how many */
    uint64_t n_no_room; /* entries left out because the cache is full */
} hs_cache_loaded;

/* Adds the entries of a file to what is there, as less recently used than that and in their own order; a user that
 * is there stays as it is, and nobody is evicted. A damaged entry is left out and counted, and so is all that
 * follows where its length cannot be trusted. HSTU_ENOENT, HSTU_EIO; HSTU_EFORMAT for a file of another kind,
 * version or page layout; HSTU_EINVAL for another fingerprint. Nothing is added when the call fails. */
hstu_status hs_cache_load(
    hs_cache *cache, const char *path, const unsigned char fingerprint[16], hs_cache_loaded *loaded, hstu_error *err);

#endif
