/* Cutting users' events into sessions. Reference: the original's preprocess_kuairand.py. */
#include "data/sessions.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/rules.h"

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

static bool append(hs_session_cutter *c, hs_session session)
{
    hs_sessions *all = &c->all;
    if (c->n_latest == c->capacity) {
        const int64_t grown = c->capacity ? c->capacity * 2 : 256;
        hs_session *array = hs_realloc(all->session, (size_t)grown, sizeof *array);
        if (!array)
            return false;
        all->session = array;
        c->capacity = grown;
    }
    if (c->n_latest == 0 || all->session[c->n_latest - 1].user != session.user)
        all->n_users++;
    all->session[c->n_latest++] = session;
    all->n++;
    return true;
}

static int64_t largest(const int64_t *item, int64_t first, int64_t end, int64_t so_far)
{
    for (int64_t i = first; i < end; i++)
        so_far = item[i] > so_far ? item[i] : so_far;
    return so_far;
}

hstu_status hs_session_cutter_open(hs_session_cutter *out, const hs_session_rules *rules, hstu_error *err)
{
    HS_TRY(hs_session_rules_check(rules, err));
    *out = (hs_session_cutter){.rules = *rules, .max_item = -1};
    return HSTU_OK;
}

static hstu_status cut_user(hs_session_cutter *c, const hs_event_view *view, int64_t user, hstu_error *err)
{
    const uint64_t interval_ms = (uint64_t)c->rules.time_interval_s * 1000;
    const int64_t keep = c->rules.max_sequence_length + 1, user_end = view->offset[user + 1];
    for (int64_t first = view->offset[user], end; first < user_end && !c->full; first = end) {
        end = session_end(view, first, user_end, interval_ms);
        c->max_item = largest(view->item, first, end, c->max_item);
        if (end - first == 1) {
            c->all.n_dropped++;
            continue;
        }
        c->full = c->all.n == c->rules.max_sequences;
        const int64_t n = end - first < keep ? end - first : keep;
        if (!c->full && !append(c, (hs_session){user, end - n, n}))
            return hs_fail_nomem(err, (size_t)c->capacity * 2 * sizeof *c->all.session, "sessions");
    }
    return HSTU_OK;
}

hstu_status hs_session_cutter_feed(hs_session_cutter *cutter, const hs_event_view *view, hstu_error *err)
{
    cutter->n_latest = 0;
    for (int64_t user = 0; user < view->n_users && !cutter->full; user++)
        HS_TRY(cut_user(cutter, view, user, err));
    cutter->all.vocab_size = cutter->max_item + 1;
    return HSTU_OK;
}

void hs_session_cutter_close(hs_session_cutter *cutter)
{
    hs_sessions_free(&cutter->all);
}

hstu_status hs_sessions_cut(hs_sessions *out, const hs_event_view *view, const hs_session_rules *rules, hstu_error *err)
{
    hs_session_cutter cutter;
    HS_TRY(hs_session_cutter_open(&cutter, rules, err));
    const hstu_status status = hs_session_cutter_feed(&cutter, view, err);
    if (status == HSTU_OK)
        *out = cutter.all;
    else
        hs_session_cutter_close(&cutter);
    return status;
}

void hs_sessions_free(hs_sessions *sessions)
{
    hs_free(sessions->session);
    *sessions = (hs_sessions){0};
}
