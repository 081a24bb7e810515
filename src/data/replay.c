/* Cutting users' logs into requests in the order of time: the replay protocol. Reference for the intervals: the
 * inference preprocessing of NVIDIA's recsys-examples. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/columns.h"
#include "data/rules.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MS_PER_S = 1000 };

typedef struct replay_owner {
    hstu_replay shown; /* first: the caller's pointer is the owner's */
    const char *feature_name[HS_FEATURES_N];
    int64_t *user_id, *offset, *item_id, *timestamp, *action, *feature;
    int64_t *user, *begin, *end;
} replay_owner;

/* What the users are made of, and by which rules. */
typedef struct source {
    hs_columns columns;
    hs_input_rules rules;
    const uint8_t *flags; /* events with HS_EVENT_DUPLICATE are left out; NULL: none is */
    bool contextual;
    int64_t min_events, min_history;
    uint64_t interval; /* in the file's unit of time */
} source;

/* An interval of a user's events that becomes a request. */
typedef struct request {
    int64_t time; /* of the first target, in the file's unit */
    int64_t user, begin, end;
} request;

void hstu_replay_options_init(hstu_replay_options *options)
{
    *options = (hstu_replay_options){.size = sizeof *options,
        .interval_s = 60,
        .min_history = 1,
        .min_events = 2,
        .item_id_offset = 1,
        .shift_id_by = 0,
        .time_unit_ms = 1000,
        .drop_duplicates = 1,
        .contextual = 0};
}

static hstu_status check_options(const hstu_dataset *dataset, const hstu_replay_options *options, hstu_error *err)
{
    if (options->size != sizeof *options)
        return hs_fail(err, HSTU_EINVAL, 0, "the replay options were not set up by hstu_replay_options_init");
    HS_TRY(hs_rule_check("interval_s", options->interval_s, 1, INT64_MAX / MS_PER_S, err));
    HS_TRY(hs_rule_check("min_history", options->min_history, 0, INT64_MAX, err));
    HS_TRY(hs_rule_check("min_events", options->min_events, 1, INT64_MAX, err));
    HS_TRY(hs_rule_check("time_unit_ms", options->time_unit_ms, 1, INT64_MAX, err));
    if (dataset->kind == HSTU_DATASET_SESSIONS)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds sessions without times: a replay needs the times of sequences.safetensors, sasrec_format.csv "
            "or processed_seqs.csv",
            dataset->path);
    if (options->contextual)
        return hs_columns_check_ranking(dataset, err);
    if (dataset->kind == HSTU_DATASET_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds users for ranking, where duplicate rows cannot be told any more: without contextual features "
            "a replay is made from sequences.safetensors",
            dataset->path);
    return HSTU_OK;
}

static source source_of(const hstu_dataset *dataset, const hstu_replay_options *options)
{
    const bool raw = options->contextual != 0;
    const int64_t units_per_s = dataset->kind == HSTU_DATASET_SASREC ? 1 : MS_PER_S;
    source s = {.columns = hs_columns_of(dataset),
        .rules =
            hs_input_rules_of(dataset, raw ? 0 : options->item_id_offset, options->shift_id_by, options->time_unit_ms),
        .contextual = raw,
        .min_events = options->min_events,
        .min_history = options->min_history,
        .interval = (uint64_t)(options->interval_s * units_per_s)};
    s.flags = options->drop_duplicates && !raw ? s.columns.flags : NULL;
    return s;
}

static bool is_event(const source *s, int64_t i)
{
    return !s->flags || !(s->flags[i] & HS_EVENT_DUPLICATE);
}

/* Events of a row that count; 0 when the rules leave its user out. */
static int64_t count_events(const source *s, int64_t row)
{
    int64_t n = 0;
    for (int64_t i = s->columns.offset[row]; i < s->columns.offset[row + 1]; i++)
        n += is_event(s, i);
    return n >= s->min_events && (!s->contextual || hs_columns_complete(&s->columns, row)) ? n : 0;
}

/* Allocates the users' arrays in their final sizes, which sets shown.n_users. No size overflows: none is longer than
 * what the open file holds. */
static hstu_status allocate_users(replay_owner *h, const source *s, hstu_error *err)
{
    const size_t size = sizeof(int64_t);
    size_t n = 0, n_events = 0;
    for (int64_t row = 0; row < s->columns.n; row++) {
        const int64_t n_row = count_events(s, row);
        n += n_row > 0;
        n_events += (size_t)n_row;
    }
    if (n == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds no user with at least %" PRId64 " events (min_events)%s: %" PRId64 " were looked at",
            s->columns.dataset->path, s->min_events, s->contextual ? " whom every log and the features file hold" : "",
            s->columns.n);
    h->shown.n_users = (int64_t)n;
    if (s->contextual)
        h->shown.n_features = hs_columns_feature_names(&s->columns, h->feature_name);
    const size_t n_codes = n * (size_t)h->shown.n_features;
    h->user_id = hs_alloc(n, size);
    h->offset = hs_alloc(n + 1, size);
    h->feature = hs_alloc(n_codes, size);
    h->item_id = hs_alloc(n_events, size);
    h->timestamp = hs_alloc(n_events, size);
    h->action = hs_alloc(n_events, size);
    if (h->user_id && h->offset && h->feature && h->item_id && h->timestamp && h->action)
        return HSTU_OK;
    return hs_fail_nomem(err, (n * 2 + n_codes + n_events * 3) * size, "a replay's events");
}

/* Copies a row's events behind those of the users before it, times as the file has them. */
static hstu_status copy_user(replay_owner *h, int64_t user, const source *s, int64_t row, hstu_error *err)
{
    const hs_columns *c = &s->columns;
    const int64_t first = h->offset[user];
    int64_t at = first;
    for (int64_t i = c->offset[row]; i < c->offset[row + 1]; i++) {
        if (!is_event(s, i))
            continue;
        HS_TRY(hs_columns_item(c, &s->rules, row, i, &h->item_id[at], err));
        if (at > first && c->time[i] < h->timestamp[at - 1])
            return hs_fail(err, HSTU_EINVAL, 0,
                "'%s': a replay needs times that do not descend, but event %" PRId64 " of user %" PRId64 " has %" PRId64
                " after %" PRId64,
                c->dataset->path, at - first + 1, c->user_id[row], c->time[i], h->timestamp[at - 1]);
        h->timestamp[at] = c->time[i];
        h->action[at++] = hs_columns_action(c, i);
    }
    h->user_id[user] = c->user_id[row];
    h->offset[user + 1] = at;
    if (s->contextual)
        hs_columns_feature_codes(c, row, h->feature + user, h->shown.n_users);
    return HSTU_OK;
}

static hstu_status copy_users(replay_owner *h, const source *s, hstu_error *err)
{
    int64_t user = 0;
    h->offset[0] = 0;
    for (int64_t row = 0; row < s->columns.n; row++) {
        if (count_events(s, row) > 0)
            HS_TRY(copy_user(h, user++, s, row, err));
    }
    h->shown.n_users_skipped = s->columns.n - user;
    return HSTU_OK;
}

/* The end of the interval that begins at `first`, of a user whose events end at `end`. */
static int64_t interval_end(const int64_t *time, int64_t first, int64_t end, uint64_t interval)
{
    int64_t i = first + 1;
    /* Times ascend, so the unsigned difference is exact for any two of them. */
    while (i < end && (uint64_t)time[i] - (uint64_t)time[first] < interval)
        i++;
    return i;
}

/* Counts the requests, and the intervals that are too early for one in shown.n_skipped; where `out` is given, it gets
 * the requests by user. */
static int64_t cut_intervals(replay_owner *h, const source *s, request *out)
{
    int64_t n = 0, n_skipped = 0;
    for (int64_t user = 0; user < h->shown.n_users; user++) {
        const int64_t first = h->offset[user], end = h->offset[user + 1];
        for (int64_t begin = first, next; begin < end; begin = next) {
            next = interval_end(h->timestamp, begin, end, s->interval);
            if (begin - first < s->min_history) {
                n_skipped++;
                continue;
            }
            if (out)
                out[n] = (request){h->timestamp[begin], user, begin, next};
            n++;
        }
    }
    h->shown.n_skipped = n_skipped;
    return n;
}

/* Two intervals of a user never begin at the same time, so no two requests are equal. */
static int compare_requests(const void *a, const void *b)
{
    const request *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (x->user > y->user) - (x->user < y->user);
}

static hstu_status make_requests(replay_owner *h, const source *s, hstu_error *err)
{
    const size_t n = (size_t)cut_intervals(h, s, NULL), size = sizeof(int64_t);
    if (n == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s': expected an interval with at least %" PRId64
            " earlier events of its user (min_history), found none among %" PRId64 " intervals of %" PRId64 " users",
            s->columns.dataset->path, s->min_history, h->shown.n_skipped, h->shown.n_users);
    request *list = hs_alloc(n, sizeof *list);
    h->user = hs_alloc(n, size);
    h->begin = hs_alloc(n, size);
    h->end = hs_alloc(n, size);
    if (!list || !h->user || !h->begin || !h->end) {
        hs_free(list);
        return hs_fail_nomem(err, n * (sizeof *list + 3 * size), "a replay's requests");
    }
    (void)cut_intervals(h, s, list);
    qsort(list, n, sizeof *list, compare_requests);
    for (size_t i = 0; i < n; i++) {
        h->user[i] = list[i].user;
        h->begin[i] = list[i].begin;
        h->end[i] = list[i].end;
    }
    hs_free(list);
    h->shown.n = (int64_t)n;
    return HSTU_OK;
}

hstu_status hstu_replay_open(
    hstu_replay **out, const hstu_dataset *dataset, const hstu_replay_options *options, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    if (!out || !dataset || !options)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_replay_open wants a place, a data set and options");
    HS_TRY(check_options(dataset, options, err));
    const source s = source_of(dataset, options);
    replay_owner *h = hs_calloc(1, sizeof *h);
    if (!h)
        return hs_fail_nomem(err, sizeof *h, "a replay");
    HS_TRY_GOTO(allocate_users(h, &s, err));
    HS_TRY_GOTO(copy_users(h, &s, err));
    HS_TRY_GOTO(make_requests(h, &s, err));
    for (int64_t i = 0; i < h->offset[h->shown.n_users]; i++)
        h->timestamp[i] = hs_input_time(&s.rules, h->timestamp[i]);
    h->shown.user_id = h->user_id;
    h->shown.offset = h->offset;
    h->shown.item_id = h->item_id;
    h->shown.timestamp = h->timestamp;
    h->shown.action = h->action;
    h->shown.feature_name = h->feature_name;
    h->shown.feature = h->feature;
    h->shown.item_offset = s.rules.item_offset;
    h->shown.user = h->user;
    h->shown.begin = h->begin;
    h->shown.end = h->end;
    *out = &h->shown;
    return HSTU_OK;
fail:
    hstu_replay_close(&h->shown);
    return status;
}

void hstu_replay_close(hstu_replay *replay)
{
    if (!replay)
        return;
    replay_owner *h = (replay_owner *)replay;
    hs_free(h->user_id);
    hs_free(h->offset);
    hs_free(h->item_id);
    hs_free(h->timestamp);
    hs_free(h->action);
    hs_free(h->feature);
    hs_free(h->user);
    hs_free(h->begin);
    hs_free(h->end);
    hs_free(h);
}
