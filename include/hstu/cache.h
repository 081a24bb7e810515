/* A cache of keys and values: users who come back are answered from what earlier requests have computed, with the same
 * bits as without the cache.
 *
 *     hstu_cache *cache = NULL;
 *     hstu_cache_options options;
 *     hstu_cache_options_init(&options);
 *     options.bytes = (uint64_t)4 << 30;
 *     if (hstu_cache_open(&cache, model, &options, &err) || hstu_session_use_cache(session, cache, &err))
 *         return report(err.msg);
 *     batch.user_id = user_id;
 *     hstu_rank(session, &batch, logits, n, &err);
 *
 * A request brings its whole history; the cache reuses the longest prefix that is equal, token by token, to what it
 * holds of that user, and computes the rest. Edited, shortened, re-ordered or slid histories are therefore never
 * answered from stale rows. What may be used again depends on the model (hstu_cache_stats.no_reuse). */
#ifndef HSTU_CACHE_H
#define HSTU_CACHE_H

#include "hstu/hstu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Belongs to one model; any number of its sessions use it, in any threads. All functions are thread-safe. */
typedef struct hstu_cache hstu_cache;

typedef struct hstu_cache_options {
    size_t size;         /* set by hstu_cache_options_init */
    uint64_t bytes;      /* bounds all memory of the cache; default 1 GiB */
    int64_t page_tokens; /* tokens of a page, a multiple of 32, at most 65536; default 64 */
} hstu_cache_options;

HSTU_API void hstu_cache_options_init(hstu_cache_options *options);
/* options NULL: the defaults. The model stays borrowed until close. HSTU_EINVAL for options out of range,
 * HSTU_ENOMEM. */
HSTU_API hstu_status hstu_cache_open(
    hstu_cache **out, const hstu_model *model, const hstu_cache_options *options, hstu_error *err);
/* NULL is fine; no session may use it any more. */
HSTU_API void hstu_cache_close(hstu_cache *cache);
/* From now on the session's requests with user ids use the cache; NULL: no cache. HSTU_EINVAL when the cache was opened
 * for a model that computes other bits: other weights, dtype, kv_dtype, configuration or kernels. To tell, the weights
 * are read when the session's model is not the one that the cache was opened for; HSTU_ENOMEM. */
HSTU_API hstu_status hstu_session_use_cache(hstu_session *session, hstu_cache *cache, hstu_error *err);

/* Of the session's last call, which has succeeded: how many tokens user `user` of its batch had in its history, and how
 * many of them were reused; both 0 where none were needed. HSTU_EINVAL past the end. */
HSTU_API hstu_status hstu_session_get_reuse(
    const hstu_session *session, size_t user, int64_t *n_tokens, int64_t *n_reused, hstu_error *err);

typedef struct hstu_cache_stats {
    /* Since opening or hstu_cache_reset_stats. */
    uint64_t n_requests, n_hits;             /* users' requests; those that reused rows */
    uint64_t n_tokens, n_reused_tokens;      /* of all requests' histories */
    uint64_t n_stored, n_not_stored;         /* requests whose new rows were kept, or could not be: the next three */
    uint64_t n_too_large, n_no_room, n_busy; /* larger than the cache; no room beside others; the user was in use */
    uint64_t n_changed;                      /* requests whose history differs from what was held of the user */
    uint64_t n_evicted_users, n_evicted_tokens;
    double bookkeeping_s; /* time spent in naming tokens, look-up, comparison, appending, eviction */
    /* Now. */
    uint64_t n_users; /* that rows are held of */
    uint64_t n_pages, n_free_pages;
    uint64_t n_cached_tokens;
    uint64_t n_unused_rows;           /* rows of pages in use that no token fills */
    uint64_t page_tokens, page_bytes; /* of a page: tokens, bytes of keys and values */
    uint64_t used_bytes;              /* keys and values in pages in use */
    uint64_t bookkeeping_bytes;       /* everything else that the cache keeps */
    uint64_t budget_bytes;
    const char *kv_dtype; /* "fp32" or "bf16" */
    const char *no_reuse; /* why this model's rows cannot be used again, or NULL; static text */
} hstu_cache_stats;

HSTU_API void hstu_cache_get_stats(const hstu_cache *cache, hstu_cache_stats *stats);
HSTU_API void hstu_cache_reset_stats(hstu_cache *cache);

/* Forgets what is held of a user, or of all. Requests under way end as if it were there, and their rows are then
 * forgotten. */
HSTU_API void hstu_cache_drop_user(hstu_cache *cache, int64_t user_id);
HSTU_API void hstu_cache_drop_all(hstu_cache *cache);

typedef struct hstu_cache_loaded {
    uint64_t n_users, n_tokens; /* taken over */
    /* Users left out as their checksum is wrong, or the file ends early; where it does not tell how many it lost, they count as 1. */
    uint64_t n_damaged;
    uint64_t n_no_room; /* users left out: the cache is full */
} hstu_cache_loaded;

/* Writes what is held to a file, which appears under its name only when it is complete; requests go on meanwhile. The
 * first save or load of a cache reads the model's weights. HSTU_ENOENT for a folder that is not there, HSTU_EIO,
 * HSTU_ENOMEM. */
HSTU_API hstu_status hstu_cache_save(hstu_cache *cache, const char *path, hstu_error *err);
/* Adds a file's users to what is held; users that are there stay as they are. A damaged file loses users, never
 * correctness. loaded may be NULL. HSTU_ENOENT, HSTU_EIO, HSTU_ENOMEM; HSTU_EFORMAT for a file of another kind,
 * version or page size; HSTU_EINVAL when it was written for a model that computes other bits. */
HSTU_API hstu_status hstu_cache_load(hstu_cache *cache, const char *path, hstu_cache_loaded *loaded, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
