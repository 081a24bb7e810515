/* The event table: what every row of the logs becomes, by user and time. */
#ifndef HS_DATA_EVENTS_H
#define HS_DATA_EVENTS_H

#include "data/idtable.h"
#include "hstu/dataset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An event's flags: bit 0 says that an earlier row equals it in every column, the bits above which log it came from. */
enum { HS_EVENT_DUPLICATE = 1, HS_EVENT_LOG_SHIFT = 1, HS_EVENTS_MAX_LOGS = 64 };

/* Events of whole users: users ascending, each user's events by (time, place in the logs). Owns nothing. */
typedef struct hs_event_view {
    int64_t n_users, n_events;
    const int64_t *user_id; /* [n_users] */
    const int64_t *offset;  /* [n_users + 1] into the columns below, each [n_events] */
    const int64_t *item, *time_ms;
    const int32_t *play_time_ms, *duration_ms;
    const uint8_t *action; /* bit mask */
    const uint8_t *flags;
} hs_event_view;

/* One row of a log. */
typedef struct hs_event {
    int64_t user, item, time_ms;
    int32_t play_time_ms, duration_ms;
    uint8_t action, log;
    uint64_t hash[2]; /* of the whole row: rows with equal user, time and hash count as equal */
} hs_event;

typedef struct hs_event_user {
    int64_t last_time_ms;
    uint64_t logs; /* bit per log that holds the user */
} hs_event_user;

typedef struct hs_events {
    struct hs_event_record *record; /* while rows are added: in file order */
    size_t n, capacity;
    hs_idtable users;
    hs_event_user *user; /* [users.n] */
    size_t user_capacity;
    int64_t max_item;
    uint64_t n_unsorted; /* rows before the same user's previous row */
    /* From hs_events_sort on. */
    uint64_t n_items, n_duplicates;
    int64_t *user_id, *offset, *item, *time_ms;
    int32_t *play_time_ms, *duration_ms;
    uint8_t *action, *flags;
} hs_events;

void hs_events_init(hs_events *events);
/* HSTU_EUNSUP past 2^32 - 2 rows. event->log < HS_EVENTS_MAX_LOGS, item >= 0. */
hstu_status hs_events_add(hs_events *events, const hs_event *event, hstu_error *err);
/* Sorts, marks duplicates, counts. Once, when all rows are there. */
hstu_status hs_events_sort(hs_events *events, const hstu_progress *progress, hstu_error *err);
/* Users that not every one of the first n_logs logs holds. */
uint64_t hs_events_users_missing(const hs_events *events, size_t n_logs);
/* After the sort; lives as long as `events`. */
hs_event_view hs_events_view(const hs_events *events);
/* Whether each of the first n_logs logs (1 .. HS_EVENTS_MAX_LOGS) holds an event of the view's user number `user`. */
bool hs_event_view_in_every_log(const hs_event_view *view, int64_t user, size_t n_logs);
void hs_events_free(hs_events *events);

#endif
