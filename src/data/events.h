/* Events: what every row of the logs becomes, by user and time. */
#ifndef HS_DATA_EVENTS_H
#define HS_DATA_EVENTS_H

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
    uint64_t hash; /* of the whole row: rows of a user with equal columns and hash count as equal */
} hs_event;

/* Whether each of the first n_logs logs (1 .. HS_EVENTS_MAX_LOGS) holds an event of the view's user number `user`. */
bool hs_event_view_in_every_log(const hs_event_view *view, int64_t user, size_t n_logs);

#endif
