/* Cutting users' events into sessions. Reference: the original's preprocess_kuairand.py. */
#include "data/sessions.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/rules.h"

#include <stdbool.h>

hstu_status hs_session_rules_check(const hs_session_rules *rules, hstu_error *err)
{
    HS_TRY(hs_rule_check("time_interval_s", rules->time_interval_s, 1, INT64_MAX / 1000, err));
    HS_TRY(hs_rule_check("max_sequences", rules->max_sequences, 1, INT64_MAX, err));
    return hs_rule_check("max_sequence_length", rules->max_sequence_length, 1, INT64_MAX - 1, err);
}

/* The end of the session that begins at `first`, of a user whose events end at `end`. */
static int64_t session_end(const hs_event_view *view, int64_t first, int64_t end, uint64_t interval_ms)
{
    int64_t i = first + 1;
    /* Times ascend, so the unsigned difference is exact for any two of them. */
    while (i < end && (uint64_t)view->time_ms[i] - (uint64_t)view->time_ms[i - 1] < interval_ms)
        i++;
    return i;
}

static bool append(hs_sessions *sessions, int64_t *capacity, hs_session session)
{
    if (sessions->n == *capacity) {
        const int64_t grown = *capacity ? *capacity * 2 : 256;
        hs_session *array = hs_realloc(sessions->session, (size_t)grown, sizeof *array);
        if (!array)
            return false;
        sessions->session = array;
        *capacity = grown;
    }
    if (sessions->n == 0 || sessions->session[sessions->n - 1].user != session.user)
        sessions->n_users++;
    sessions->session[sessions->n++] = session;
    return true;
}

static int64_t largest(const int64_t *item, int64_t first, int64_t end, int64_t so_far)
{
    for (int64_t i = first; i < end; i++)
        so_far = item[i] > so_far ? item[i] : so_far;
    return so_far;
}

hstu_status hs_sessions_cut(hs_sessions *out, const hs_event_view *view, const hs_session_rules *rules, hstu_error *err)
{
    HS_TRY(hs_session_rules_check(rules, err));
    const uint64_t interval_ms = (uint64_t)rules->time_interval_s * 1000;
    const int64_t keep = rules->max_sequence_length + 1;
    hs_sessions sessions = {0};
    int64_t capacity = 0, max_item = -1;
    bool full = false;
    for (int64_t user = 0; user < view->n_users && !full; user++) {
        const int64_t user_end = view->offset[user + 1];
        for (int64_t first = view->offset[user], end; first < user_end && !full; first = end) {
            end = session_end(view, first, user_end, interval_ms);
            max_item = largest(view->item, first, end, max_item);
            if (end - first == 1) {
                sessions.n_dropped++;
                continue;
            }
            full = sessions.n == rules->max_sequences;
            const int64_t n = end - first < keep ? end - first : keep;
            if (!full && !append(&sessions, &capacity, (hs_session){user, end - n, n})) {
                hs_sessions_free(&sessions);
                return hs_fail_nomem(err, (size_t)capacity * 2 * sizeof *sessions.session, "sessions");
            }
        }
    }
    sessions.vocab_size = max_item + 1;
    *out = sessions;
    return HSTU_OK;
}

void hs_sessions_free(hs_sessions *sessions)
{
    hs_free(sessions->session);
    *sessions = (hs_sessions){0};
}
