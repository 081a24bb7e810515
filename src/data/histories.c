/* Making a model's histories and targets from a sequence file, by the model's own rules. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/dataset_int.h"
#include "data/sessions.h"

#include <inttypes.h>
#include <stddef.h>

/* Where events come from, whatever the file. */
typedef struct event_columns {
    const int64_t *item;
    const int64_t *time;        /* NULL without times */
    const uint8_t *action_mask; /* one of these two */
    const int64_t *action_number;
    int64_t item_offset; /* added to items */
    int64_t time_unit;   /* times are divided by it */
} event_columns;

typedef struct histories_owner {
    hstu_histories shown; /* first: the caller's pointer is the owner's */
    hs_intlist user_id, offset, item, time, action, target, target_time;
} histories_owner;

/* The object under construction. */
typedef struct builder {
    histories_owner *h;
    event_columns from;
    int64_t max_history, n_skipped;
    hs_intlist kept; /* events of the sample at hand: indices into the columns */
    const char *path;
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

/* a / b rounded down, b > 0. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static hstu_status no_memory(const builder *b)
{
    return hs_fail_nomem(b->err, (b->h->item.n + b->kept.n) * sizeof(int64_t), "histories");
}

static hstu_status model_item(const builder *b, int64_t user, int64_t index, int64_t *out)
{
    if (__builtin_add_overflow(b->from.item[index], b->from.item_offset, out))
        return hs_fail(b->err, HSTU_EINVAL, 0,
            "'%s': item %" PRId64 " of user %" PRId64 " plus the offset %" PRId64 " is no 64-bit integer", b->path,
            b->from.item[index], user, b->from.item_offset);
    return HSTU_OK;
}

static int64_t model_time(const builder *b, int64_t index)
{
    return floor_div(b->from.time[index], b->from.time_unit);
}

static int64_t event_action(const builder *b, int64_t index)
{
    return b->from.action_mask ? b->from.action_mask[index] : b->from.action_number[index];
}

/* The kept events become one sample: the last is the target, the newest max_history before it the history. */
static hstu_status add_sample(builder *b, int64_t user)
{
    histories_owner *h = b->h;
    const size_t last = b->kept.n - 1;
    const size_t first = b->max_history && (uint64_t)b->max_history < last ? last - (size_t)b->max_history : 0;
    for (size_t i = first; i <= last; i++) {
        const int64_t index = b->kept.value[i];
        int64_t item = 0;
        HS_TRY(model_item(b, user, index, &item));
        bool ok;
        if (i < last)
            ok = hs_intlist_push(&h->item, item) && hs_intlist_push(&h->action, event_action(b, index)) &&
                 (!b->from.time || hs_intlist_push(&h->time, model_time(b, index)));
        else
            ok = hs_intlist_push(&h->target, item) &&
                 (!b->from.time || hs_intlist_push(&h->target_time, model_time(b, index)));
        if (!ok)
            return no_memory(b);
    }
    if (!hs_intlist_push(&h->user_id, user) || !hs_intlist_push(&h->offset, (int64_t)h->item.n))
        return no_memory(b);
    return HSTU_OK;
}

/* Events [first, end) are what one sample is made of, less those whose flag is set. */
static hstu_status take_events(
    builder *b, int64_t user, int64_t first, int64_t end, const uint8_t *flags, int64_t min_events)
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
    return add_sample(b, user);
}

static hstu_status from_users(builder *b, const hs_event_view *view, const hstu_history_options *options)
{
    const uint8_t *flags = options->drop_duplicates ? view->flags : NULL;
    if (!hs_intlist_reserve(&b->h->item, (size_t)view->n_events) ||
        !hs_intlist_reserve(&b->h->time, (size_t)view->n_events) ||
        !hs_intlist_reserve(&b->h->action, (size_t)view->n_events))
        return hs_fail_nomem(b->err, (size_t)view->n_events * 3 * sizeof(int64_t), "histories");
    for (int64_t user = 0; user < view->n_users; user++)
        HS_TRY(take_events(
            b, view->user_id[user], view->offset[user], view->offset[user + 1], flags, options->min_events));
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
        status = take_events(b, view->user_id[s->user], s->first, s->first + s->n, NULL, 2);
    }
    b->n_skipped = sessions.n_dropped;
    hs_sessions_free(&sessions);
    return status;
}

static hstu_status from_rows(builder *b, const hs_rows *rows, int64_t min_events)
{
    for (size_t row = 0; row < rows->user_id.n; row++)
        HS_TRY(take_events(
            b, rows->user_id.value[row], rows->offset.value[row], rows->offset.value[row + 1], NULL, min_events));
    return HSTU_OK;
}

static hstu_status check_at_least(const char *name, int64_t value, int64_t min, hstu_error *err)
{
    if (value >= min)
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "%s must be at least %" PRId64 ", not %" PRId64, name, min, value);
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
    HS_TRY(check_at_least("time_unit_ms", options->time_unit_ms, 1, err));
    HS_TRY(check_at_least("min_events", options->min_events, 2, err));
    HS_TRY(check_at_least("max_history", options->max_history, 0, err));
    const hs_session_rules rules = {options->time_interval_s, options->max_sequences, options->max_sequence_length};
    return hs_session_rules_check(&rules, err);
}

static hstu_status make_samples(builder *b, const hstu_dataset *dataset, const hstu_history_options *options)
{
    const bool events = dataset->kind == HSTU_DATASET_EVENTS, sasrec = dataset->kind == HSTU_DATASET_SASREC;
    const bool sessions = options->protocol == HSTU_PROTOCOL_SESSIONS;
    const hs_event_view *view = &dataset->sequences.view;
    const hs_rows *rows = &dataset->rows;
    b->from = (event_columns){.item = events ? view->item : rows->item.value,
        .time = events   ? view->time_ms
                : sasrec ? rows->time.value
                         : NULL,
        .action_mask = events ? view->action : NULL,
        .action_number = events ? NULL : rows->action.value,
        .item_offset = sasrec ? options->shift_id_by : options->item_id_offset,
        .time_unit = events ? options->time_unit_ms : 1};
    if (!hs_intlist_push(&b->h->offset, 0))
        return no_memory(b);
    if (events && sessions)
        HS_TRY(from_sessions(b, view, options));
    else if (events)
        HS_TRY(from_users(b, view, options));
    else
        HS_TRY(from_rows(b, rows, sessions ? 2 : options->min_events));
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
    builder b = {
        .h = hs_calloc(1, sizeof *b.h), .max_history = options->max_history, .path = dataset->path, .err = err};
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
        .item_offset = b.from.item_offset};
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
