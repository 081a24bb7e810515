/* The cache's public handle, for the engine's own files. */
#ifndef HS_ENGINE_API_CACHE_H
#define HS_ENGINE_API_CACHE_H

#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>

struct hstu_cache {
    const hstu_model *model;
    hs_cache *cache;
    hs_kv_shape layer;               /* of a page, of which each has as many as the model */
    const char *no_reuse;            /* why nothing is looked up, or NULL */
    _Atomic uint64_t bookkeeping_ns; /* since opening or the last reset */
    pthread_mutex_t lock;            /* of the fingerprint, which is made when it is first wanted */
    bool has_fingerprint;
    unsigned char fingerprint[HS_FINGERPRINT_BYTES];
};

/* Adds to the time that the cache has cost. */
static inline void hs_cache_handle_spend(struct hstu_cache *cache, double seconds)
{
    atomic_fetch_add_explicit(&cache->bookkeeping_ns, (uint64_t)(1e9 * seconds), memory_order_relaxed);
}

#endif
