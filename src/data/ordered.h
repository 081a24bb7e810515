/* Pieces of output made by several threads and taken in order by the caller's. */
#ifndef HS_DATA_ORDERED_H
#define HS_DATA_ORDERED_H

#include "hstu/status.h"

#include <stddef.h>

enum { HS_ORDERED_MAX_THREADS = 256, HS_ORDERED_MAX_SLOTS = 2 * HS_ORDERED_MAX_THREADS };

typedef struct hs_ordered {
    void *ctx;
    size_t n;       /* pieces */
    int threads;    /* at least 1 */
    void **slot;    /* [n_slots] room for a piece each */
    size_t n_slots; /* at least `threads`, and one more so that no thread waits for the caller */
    /* Makes piece number `piece` in a slot; from any thread, cannot fail. */
    void (*make)(void *ctx, void *slot, size_t piece);
    /* Takes it; from the calling thread, pieces ascending. A failure ends all. */
    hstu_status (*take)(void *ctx, const void *slot, size_t piece, hstu_error *err);
} hs_ordered;

/* What `take` fails with, or HSTU_OK. Where threads cannot be started it goes on with those that run, or alone. */
hstu_status hs_ordered_run(const hs_ordered *work, hstu_error *err);

#endif
