/* Making a model's histories and targets from a sequence file, by the model's own rules. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/columns.h"
#include "data/rules.h"
#include "data/sessions.h"

#include <inttypes.h>
#include <stddef.h>

typedef struct histories_owner {
    hstu_histories shown; /* first: the caller's pointer is the owner's */
    hs_intlist user_id, offset, item, time, action, target, target_time;
} histories_owner;

/* The object under construction. */
typedef struct builder {
    histories_owner *h;
    hs_columns from;
    hs_input_rules rules;
    int64_t max_history, n_skipped;
    hs_intlist kept; /* events of the sample at hand: indices into the columns */
    hstu_error *err;
} builder;

void hstu_history_options_init(hstu_history_options *options)
{
    *options = (hstu_history_options){.size = sizeof *options,
        .protocol = HSTU_PROTOCOL_LEAVE_ONE_OUT,
        .item_id_offset = 1,
        .shift_id_by = 0,
        .time_unit_ms = 1000,
        .drop_duplicates = 1,
        .min_events = 3,
        .max_history = 0,
        .time_interval_s = 300,
        .max_sequences = 1024,
        .max_sequence_length = 256};
}

static hstu_status no_memory(const builder *b)
{
    return hs_fail_nomem(b->err, (b->h->item.n + b->kept.n) * sizeof(int64_t), "histories");
}

/* The kept events become one sample: the last is the target, the newest max_history before it the history. */
static hstu_status add_sample(builder *b, int64_t row)
{
    histories_owner *h = b->h;
    const size_t last = b->kept.n - 1;
    const size_t first = b->max_history && (uint64_t)b->max_history < last ? last - (size_t)b->max_history : 0;
    for (size_t i = first; i <= last; i++) {
        const int64_t event = b->kept.value[i];
        const int64_t time = b->from.time ? hs_input_time(&b->rules, b->from.time[event]) : 0;
        int64_t item = 0;
        HS_TRY(hs_columns_item(&b->from, &b->rules, row, event, &item, b->err));
        bool ok;
        if (i < last)
            ok = hs_intlist_push(&h->item, item) && hs_intlist_push(&h->action, hs_columns_action(&b->from, event)) &&
                 (!b->from.time || hs_intlist_push(&h->time, time));
        else
            ok = hs_intlist_push(&h->target, item) && (!b->from.time || hs_intlist_push(&h->target_time, time));
        if (!ok)
            return no_memory(b);
    }
    if (!hs_intlist_push(&h->user_id, b->from.user_id[row]) || !hs_intlist_push(&h->offset, (int64_t)h->item.n))
        return no_memory(b);
    return HSTU_OK;
}

/* Events [first, end) of a row are what one sample is made of, less those whose flag is set. */
static hstu_status take_events(
    builder *b, int64_t row, int64_t first, int64_t end, const uint8_t *flags, int64_t min_events)
{
    b->kept.n = 0;
    for (int64_t i = first; i < end; i++) {
        if (flags && (flags[i] & HS_EVENT_DUPLICATE))
            continue;
        if (!hs_intlist_push(&b->kept, i))
            return no_memory(b);
    }
    if ((int64_t)b->kept.n < min_events) {
        b->n_skipped++;
        return HSTU_OK;
    }
    return add_sample(b, row);
}

static hstu_status from_rows(builder *b, const uint8_t *flags, int64_t min_events)
{
    const size_t n = (size_t)b->from.offset[b->from.n];
    if (!hs_intlist_reserve(&b->h->item, n) || !hs_intlist_reserve(&b->h->action, n) ||
        (b->from.time && !hs_intlist_reserve(&b->h->time, n)))
        return hs_fail_nomem(b->err, n * 3 * sizeof(int64_t), "histories");
    for (int64_t row = 0; row < b->from.n; row++)
        HS_TRY(take_events(b, row, b->from.offset[row], b->from.offset[row + 1], flags, min_events));
    return HSTU_OK;
}

static hstu_status from_sessions(builder *b, const hs_event_view *view, const hstu_history_options *options)
{
    const hs_session_rules rules = {options->time_interval_s, options->max_sequences, options->max_sequence_length};
    hs_sessions sessions;
    HS_TRY(hs_sessions_cut(&sessions, view, &rules, b->err));
    hstu_status status = HSTU_OK;
    for (int64_t i = 0; status == HSTU_OK && i < sessions.n; i++) {
        const hs_session *s = &sessions.session[i];
        status = take_events(b, s->user, s->first, s->first + s->n, NULL, 2);
    }
    b->n_skipped = sessions.n_dropped;
    hs_sessions_free(&sessions);
    return status;
}

static hstu_status check_options(const hstu_dataset *dataset, const hstu_history_options *options, hstu_error *err)
{
    if (options->size != sizeof *options)
        return hs_fail(err, HSTU_EINVAL, 0, "the history options were not set up by hstu_history_options_init");
    if (dataset->kind == HSTU_DATASET_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds users for ranking, where duplicate rows cannot be told any more: histories are made from "
            "sequences.safetensors",
            dataset->path);
    if (options->protocol == HSTU_PROTOCOL_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "the protocol ranking makes requests with candidates, which are read by hstu_ranking_samples_open");
    const bool sessions = options->protocol == HSTU_PROTOCOL_SESSIONS;
    if (!sessions && options->protocol != HSTU_PROTOCOL_LEAVE_ONE_OUT)
        return hs_fail(
            err, HSTU_EINVAL, 0, "protocol must be leave-one-out or sessions, not %d", (int)options->protocol);
    if (!sessions && dataset->kind == HSTU_DATASET_SESSIONS)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds sessions, not whole users: protocol must be sessions, not leave-one-out", dataset->path);
    if (sessions && dataset->kind == HSTU_DATASET_SASREC)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds whole users without sessions: protocol must be leave-one-out, not sessions", dataset->path);
    HS_TRY(hs_rule_check("time_unit_ms", options->time_unit_ms, 1, INT64_MAX, err));
    HS_TRY(hs_rule_check("min_events", options->min_events, 2, INT64_MAX, err));
    HS_TRY(hs_rule_check("max_history", options->max_history, 0, INT64_MAX, err));
    const hs_session_rules rules = {options->time_interval_s, options->max_sequences, options->max_sequence_length};
    return hs_session_rules_check(&rules, err);
}

static hstu_status make_samples(builder *b, const hstu_dataset *dataset, const hstu_history_options *options)
{
    const bool sessions = options->protocol == HSTU_PROTOCOL_SESSIONS;
    if (!hs_intlist_push(&b->h->offset, 0))
        return no_memory(b);
    if (sessions && dataset->kind == HSTU_DATASET_EVENTS)
        HS_TRY(from_sessions(b, &dataset->sequences.view, options));
    else
        HS_TRY(from_rows(b, options->drop_duplicates ? b->from.flags : NULL, sessions ? 2 : options->min_events));
    if (b->h->user_id.n)
        return HSTU_OK;
    if (sessions)
        return hs_fail(b->err, HSTU_EINVAL, 0,
            "'%s' holds no session of at least 2 events (%" PRId64 " were looked at)", dataset->path, b->n_skipped);
    return hs_fail(b->err, HSTU_EINVAL, 0,
        "'%s' holds no user with at least %" PRId64 " events (%" PRId64 " were looked at)", dataset->path,
        options->min_events, b->n_skipped);
}

hstu_status hstu_histories_open(
    hstu_histories **out, const hstu_dataset *dataset, const hstu_history_options *options, hstu_error *err)
{
    if (!out || !dataset || !options)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_histories_open wants a place, a data set and options");
    HS_TRY(check_options(dataset, options, err));
    builder b = {.h = hs_calloc(1, sizeof *b.h),
        .from = hs_columns_of(dataset),
        .rules = hs_input_rules_of(dataset, options->item_id_offset, options->shift_id_by, options->time_unit_ms),
        .max_history = options->max_history,
        .err = err};
    hstu_status status = HSTU_OK;
    if (!b.h)
        return hs_fail_nomem(err, sizeof *b.h, "histories");
    HS_TRY_GOTO(make_samples(&b, dataset, options));
    const bool has_time = b.from.time != NULL;
    b.h->shown = (hstu_histories){.n = (int64_t)b.h->user_id.n,
        .n_skipped = b.n_skipped,
        .user_id = b.h->user_id.value,
        .offset = b.h->offset.value,
        .item_id = b.h->item.value,
        .timestamp = has_time ? b.h->time.value : NULL,
        .action = b.h->action.value,
        .target_id = b.h->target.value,
        .target_time = has_time ? b.h->target_time.value : NULL,
        .item_offset = b.rules.item_offset};
    hs_intlist_free(&b.kept);
    *out = &b.h->shown;
    return HSTU_OK;
fail:
    hs_intlist_free(&b.kept);
    hstu_histories_close(&b.h->shown);
    return status;
}

void hstu_histories_close(hstu_histories *histories)
{
    if (!histories)
        return;
    histories_owner *h = (histories_owner *)histories;
    hs_intlist_free(&h->user_id);
    hs_intlist_free(&h->offset);
    hs_intlist_free(&h->item);
    hs_intlist_free(&h->time);
    hs_intlist_free(&h->action);
    hs_intlist_free(&h->target);
    hs_intlist_free(&h->target_time);
    hs_free(h);
}
