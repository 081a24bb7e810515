/* Events from any reader, sorted by user and time in bounded memory: rows go in as they come, whole users come out in
 * blocks. What does not fit waits in temporary files of the output folder, which have no name and so go with the process.
 *
 *   open -> add ... -> finish -> users, visit -> close
 *
 * The rows are held in pieces, each grouped by user; a full memory becomes one piece on disk. A visit gathers a block's
 * users from all pieces, sorts each by time and marks duplicates, on all threads. What comes out depends neither on the
 * threads nor on the limit. */
#ifndef HS_DATA_EVENTSINK_H
#define HS_DATA_EVENTSINK_H

#include "data/events.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hs_eventsink hs_eventsink;

typedef struct hs_eventsink_options {
    uint64_t memory_limit; /* bytes, of rows, tables of users and items, and buffers */
    int threads;           /* 0: as many as this process may use */
    const char *folder;    /* where temporary files go; borrowed until close */
    const hstu_progress *progress;
} hs_eventsink_options;

/* From hs_eventsink_finish on. Owned by the sink. */
typedef struct hs_event_users {
    int64_t n, n_events;
    const int64_t *id;     /* [n] ascending */
    const int64_t *offset; /* [n + 1]: user u's events are offset[u] .. offset[u + 1] - 1 of all */
    const uint64_t *logs;  /* [n] bit per log that holds the user */
    int64_t max_item;      /* -1 without events */
    uint64_t n_items;      /* distinct */
    /* What the visit's counts will most likely be; may depend on threads and limit, so not for any output. */
    uint64_t n_likely_duplicates, n_likely_unsorted;
} hs_event_users;

/* What only the visit of all blocks tells. */
typedef struct hs_event_counts {
    uint64_t n_duplicates; /* rows equal to an earlier one */
    uint64_t n_unsorted;   /* rows before the same user's previous row in the order of adding */
} hs_event_counts;

/* Consecutive users with all of their events. */
typedef struct hs_event_block {
    hs_event_view view;  /* its offset begins at 0; valid until the callback returns */
    int64_t first_user;  /* the place of the view's first user among all */
    int64_t first_event; /* the place of its first event among all */
    size_t worker;       /* number of the calling thread, from 0: index of a consumer's own buffers */
} hs_event_block;

/* Takes the blocks of a visit. Either function may be NULL; the first failure ends the visit. */
typedef struct hs_block_consumer {
    void *ctx;
    /* From several threads at once, in any order. */
    hstu_status (*anytime)(void *ctx, const hs_event_block *block, hstu_error *err);
    /* After the same block's anytime, by the same thread; one at a time, users ascending. */
    hstu_status (*in_turn)(void *ctx, const hs_event_block *block, hstu_error *err);
} hs_block_consumer;

/* HSTU_EINVAL for a limit below HS_EVENTSINK_MIN_BYTES. */
enum { HS_EVENTSINK_MIN_BYTES = 1 << 20 };
hstu_status hs_eventsink_open(hs_eventsink **out, const hs_eventsink_options *options, hstu_error *err);
/* Threads that a visit uses: the number of a consumer's own buffers. */
size_t hs_eventsink_threads(const hs_eventsink *sink);
/* One row; from one thread, in the order that decides between equal times. event->log < HS_EVENTS_MAX_LOGS, user and item
 * >= 0, item < INT64_MAX. HSTU_ENOMEM when the users alone exceed the limit; HSTU_EIO where a temporary file fails. */
hstu_status hs_eventsink_add(hs_eventsink *sink, const hs_event *event, hstu_error *err);
/* No rows follow. */
hstu_status hs_eventsink_finish(hs_eventsink *sink, hstu_error *err);
hs_event_users hs_eventsink_users(const hs_eventsink *sink);
/* Every user once. May be repeated. The counts are set on success; NULL is fine. HSTU_ENOMEM names a user whose events alone
 * exceed the limit. */
hstu_status hs_eventsink_visit(
    hs_eventsink *sink, const hs_block_consumer *consumer, hs_event_counts *counts, hstu_error *err);
void hs_eventsink_close(hs_eventsink *sink); /* NULL is fine */

#endif
