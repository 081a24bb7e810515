/* Cutting users' events into sessions, as the original's preprocessing does. */
#ifndef HS_DATA_SESSIONS_H
#define HS_DATA_SESSIONS_H

#include "data/events.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct hs_session_rules {
    int64_t time_interval_s;     /* >= 1: a gap of at least this much starts a new session */
    int64_t max_sequences;       /* >= 1 */
    int64_t max_sequence_length; /* >= 1: the newest max_sequence_length + 1 events are kept */
} hs_session_rules;

typedef struct hs_session {
    int64_t user;  /* index into the view's users */
    int64_t first; /* of n events in the view's columns */
    int64_t n;     /* >= 2 */
} hs_session;

typedef struct hs_sessions {
    hs_session *session; /* [n], in the view's order */
    int64_t n, n_users;
    int64_t n_dropped;  /* sessions of one event that were met on the way */
    int64_t vocab_size; /* largest item + 1 over every session looked at: dropped ones, events cut off, and the first
                           session beyond max_sequences too */
} hs_sessions;

/* Cuts one view after the other, as if they were one. */
typedef struct hs_session_cutter {
    hs_session_rules rules;
    hs_sessions all;  /* of every view so far, but `session` holds those of the last one alone */
    int64_t n_latest; /* of the last view */
    int64_t capacity, max_item;
    bool full; /* there is a session beyond max_sequences: nothing more is looked at */
} hs_session_cutter;

/* HSTU_EINVAL when a rule is out of its range. */
hstu_status hs_session_rules_check(const hs_session_rules *rules, hstu_error *err);
hstu_status hs_session_cutter_open(hs_session_cutter *out, const hs_session_rules *rules, hstu_error *err);
hstu_status hs_session_cutter_feed(hs_session_cutter *cutter, const hs_event_view *view, hstu_error *err);
void hs_session_cutter_close(hs_session_cutter *cutter); /* a zeroed one is fine */
/* The sessions of one view. */
hstu_status hs_sessions_cut(
    hs_sessions *out, const hs_event_view *view, const hs_session_rules *rules, hstu_error *err);
void hs_sessions_free(hs_sessions *sessions);

#endif
