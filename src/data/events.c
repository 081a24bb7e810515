/* The event table: collecting rows, sorting them by user and time, finding exact duplicates. */
#include "data/events.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/feedback.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROWS = 1 << 16, CHECK_USERS = 256 };
#define MAX_ROWS ((size_t)UINT32_MAX - 1)

/* A row while rows are added: 48 bytes. */
typedef struct hs_event_record {
    int64_t item, time_ms;
    uint64_t hash[2];
    uint32_t user; /* number in users */
    int32_t play_time_ms, duration_ms;
    uint8_t action, flags;
} hs_event_record;

/* What rows are sorted by; the row number makes every order stable and every key distinct. */
typedef struct sort_key {
    uint64_t a, b;
    uint32_t row;
} sort_key;

typedef struct user_rank {
    int64_t id;
    uint32_t number;
} user_rank;

void hs_events_init(hs_events *events)
{
    *events = (hs_events){.max_item = -1};
}

static bool grow_records(hs_events *events)
{
    size_t capacity = events->capacity ? events->capacity + events->capacity / 2 : FIRST_ROWS;
    capacity = capacity < MAX_ROWS ? capacity : MAX_ROWS;
    hs_event_record *record = hs_realloc(events->record, capacity, sizeof *record);
    if (!record)
        return false;
    events->record = record;
    events->capacity = capacity;
    return true;
}

/* The user's entry, new users included; NULL without memory. */
static hs_event_user *find_user(hs_events *events, int64_t id, uint32_t *number)
{
    const size_t n_before = events->users.n;
    /* Logs hold runs of one user: ask the table only where a run begins. */
    const uint32_t last = events->n ? events->record[events->n - 1].user : 0;
    if (events->n && events->users.id[last] == id)
        *number = last;
    else if (!hs_idtable_add(&events->users, id, number))
        return NULL;
    if (*number == events->user_capacity) {
        const size_t capacity = events->user_capacity ? events->user_capacity * 2 : 1024;
        hs_event_user *user = hs_realloc(events->user, capacity, sizeof *user);
        if (!user)
            return NULL;
        events->user = user;
        events->user_capacity = capacity;
    }
    if (events->users.n > n_before)
        events->user[*number] = (hs_event_user){.last_time_ms = INT64_MIN};
    return &events->user[*number];
}

hstu_status hs_events_add(hs_events *events, const hs_event *event, hstu_error *err)
{
    if (events->n == MAX_ROWS)
        return hs_fail(err, HSTU_EUNSUP, events->n, "the logs hold more than %zu rows", MAX_ROWS);
    if (events->n == events->capacity && !grow_records(events))
        return hs_fail_nomem(err, events->capacity * sizeof *events->record, "the event table");
    uint32_t number = 0;
    hs_event_user *user = find_user(events, event->user, &number);
    if (!user)
        return hs_fail_nomem(err, events->users.n * sizeof *user, "the user table");
    events->n_unsorted += event->time_ms < user->last_time_ms;
    user->last_time_ms = event->time_ms;
    user->logs |= (uint64_t)1 << event->log;
    events->max_item = event->item > events->max_item ? event->item : events->max_item;
    events->record[events->n++] = (hs_event_record){.item = event->item,
        .time_ms = event->time_ms,
        .hash = {event->hash[0], event->hash[1]},
        .user = number,
        .play_time_ms = event->play_time_ms,
        .duration_ms = event->duration_ms,
        .action = event->action,
        .flags = (uint8_t)(event->log << HS_EVENT_LOG_SHIFT)};
    return HSTU_OK;
}

static int compare_keys(const void *left, const void *right)
{
    const sort_key *x = left, *y = right;
    if (x->a != y->a)
        return x->a < y->a ? -1 : 1;
    if (x->b != y->b)
        return x->b < y->b ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static int compare_users(const void *left, const void *right)
{
    const user_rank *x = left, *y = right;
    return (x->id > y->id) - (x->id < y->id);
}

/* Fills user_id and offset, and order: row numbers by (user, row). */
static bool sort_users(hs_events *events, uint32_t *order)
{
    const size_t n_users = events->users.n;
    user_rank *rank = hs_alloc(n_users, sizeof *rank);
    size_t *next = hs_calloc(n_users, sizeof *next); /* by user number: count, then the next free place in order */
    events->user_id = hs_alloc(n_users, sizeof *events->user_id);
    events->offset = hs_alloc(n_users + 1, sizeof *events->offset);
    const bool ok = rank && next && events->user_id && events->offset;
    if (ok) {
        for (size_t i = 0; i < n_users; i++)
            rank[i] = (user_rank){events->users.id[i], (uint32_t)i};
        qsort(rank, n_users, sizeof *rank, compare_users);
        for (size_t row = 0; row < events->n; row++)
            next[events->record[row].user]++;
        events->offset[0] = 0;
        for (size_t i = 0; i < n_users; i++) {
            const size_t first = (size_t)events->offset[i], count = next[rank[i].number];
            events->user_id[i] = rank[i].id;
            events->offset[i + 1] = (int64_t)(first + count);
            next[rank[i].number] = first;
        }
        for (size_t row = 0; row < events->n; row++)
            order[next[events->record[row].user]++] = (uint32_t)row;
    }
    hs_free(rank);
    hs_free(next);
    return ok;
}

/* Puts one user's rows in the order of time; logs mostly hold them in that order. */
static void sort_times(const hs_events *events, uint32_t *order, size_t n, sort_key *key)
{
    size_t i = 1;
    while (i < n && events->record[order[i - 1]].time_ms <= events->record[order[i]].time_ms)
        i++;
    if (i >= n)
        return;
    for (i = 0; i < n; i++) /* flipping the sign bit makes the unsigned order the signed one */
        key[i] = (sort_key){(uint64_t)events->record[order[i]].time_ms ^ (uint64_t)1 << 63, 0, order[i]};
    qsort(key, n, sizeof *key, compare_keys);
    for (i = 0; i < n; i++)
        order[i] = key[i].row;
}

/* Marks, among n rows of one user and time, those that equal an earlier one. */
static void mark_duplicates(hs_events *events, const uint32_t *order, size_t n, sort_key *key)
{
    for (size_t i = 0; i < n; i++) {
        const hs_event_record *record = &events->record[order[i]];
        key[i] = (sort_key){record->hash[0], record->hash[1], order[i]};
    }
    qsort(key, n, sizeof *key, compare_keys);
    for (size_t i = 1; i < n; i++) {
        if (key[i].a == key[i - 1].a && key[i].b == key[i - 1].b) {
            events->record[key[i].row].flags |= HS_EVENT_DUPLICATE;
            events->n_duplicates++;
        }
    }
}

static void sort_user(hs_events *events, uint32_t *order, size_t n, sort_key *key)
{
    sort_times(events, order, n, key);
    for (size_t first = 0, end; first < n; first = end) {
        const int64_t time_ms = events->record[order[first]].time_ms;
        for (end = first + 1; end < n && events->record[order[end]].time_ms == time_ms; end++)
            ;
        if (end - first > 1)
            mark_duplicates(events, order + first, end - first, key);
    }
}

/* Distinct items: a bit per id where ids are dense enough, else a table. */
static bool count_items(hs_events *events)
{
    const uint64_t n_ids = (uint64_t)events->max_item + 1;
    if (n_ids / 64 <= events->n + FIRST_ROWS) {
        uint64_t *bits = hs_calloc((size_t)(n_ids / 64 + 1), sizeof *bits);
        if (!bits)
            return false;
        for (size_t i = 0; i < events->n; i++) {
            const uint64_t item = (uint64_t)events->record[i].item, bit = (uint64_t)1 << item % 64;
            events->n_items += !(bits[item / 64] & bit);
            bits[item / 64] |= bit;
        }
        hs_free(bits);
        return true;
    }
    hs_idtable table = {0};
    uint32_t number = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < events->n; i++)
        ok = hs_idtable_add(&table, events->record[i].item, &number);
    events->n_items = table.n;
    hs_idtable_free(&table);
    return ok;
}

/* Moves the records into sorted columns. */
static bool gather(hs_events *events, const uint32_t *order)
{
    const size_t n = events->n;
    events->item = hs_alloc(n, sizeof *events->item);
    events->time_ms = hs_alloc(n, sizeof *events->time_ms);
    events->play_time_ms = hs_alloc(n, sizeof *events->play_time_ms);
    events->duration_ms = hs_alloc(n, sizeof *events->duration_ms);
    events->action = hs_alloc(n, sizeof *events->action);
    events->flags = hs_alloc(n, sizeof *events->flags);
    if (!events->item || !events->time_ms || !events->play_time_ms || !events->duration_ms || !events->action ||
        !events->flags)
        return false;
    for (size_t i = 0; i < n; i++) {
        const hs_event_record *record = &events->record[order[i]];
        events->item[i] = record->item;
        events->time_ms[i] = record->time_ms;
        events->play_time_ms[i] = record->play_time_ms;
        events->duration_ms[i] = record->duration_ms;
        events->action[i] = record->action;
        events->flags[i] = record->flags;
    }
    hs_free(events->record);
    events->record = NULL;
    events->capacity = 0;
    return true;
}

static size_t longest_user(const hs_events *events)
{
    int64_t longest = 0;
    for (size_t i = 0; i < events->users.n; i++) {
        const int64_t n = events->offset[i + 1] - events->offset[i];
        longest = n > longest ? n : longest;
    }
    return (size_t)longest;
}

hstu_status hs_events_sort(hs_events *events, const hstu_progress *progress, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    sort_key *key = NULL;
    uint32_t *order = hs_alloc(events->n, sizeof *order);
    if (!order || !sort_users(events, order) || !count_items(events)) {
        status = hs_fail_nomem(err, events->n * sizeof *order, "sorting the event table");
        goto fail;
    }
    const size_t longest = longest_user(events);
    key = hs_alloc(longest, sizeof *key);
    if (!key) {
        status = hs_fail_nomem(err, longest * sizeof *key, "sorting the event table");
        goto fail;
    }
    for (size_t i = 0; i < events->users.n; i++) {
        if (i % CHECK_USERS == 0) {
            HS_TRY_GOTO(hs_progress_check(progress, err));
            hs_progress_step(progress, "sorting", (uint64_t)events->offset[i], events->n);
        }
        sort_user(events, order + events->offset[i], (size_t)(events->offset[i + 1] - events->offset[i]), key);
    }
    hs_progress_step(progress, "sorting", events->n, events->n);
    if (!gather(events, order))
        status = hs_fail_nomem(err, events->n * sizeof(int64_t), "the sorted event table");
fail:
    hs_free(order);
    hs_free(key);
    return status;
}

/* A bit for each of the first n_logs logs. */
static uint64_t all_logs(size_t n_logs)
{
    return n_logs >= 64 ? UINT64_MAX : ((uint64_t)1 << n_logs) - 1;
}

uint64_t hs_events_users_missing(const hs_events *events, size_t n_logs)
{
    const uint64_t all = all_logs(n_logs);
    uint64_t n = 0;
    for (size_t i = 0; i < events->users.n; i++)
        n += events->user[i].logs != all;
    return n;
}

hs_event_view hs_events_view(const hs_events *events)
{
    return (hs_event_view){.n_users = (int64_t)events->users.n,
        .n_events = (int64_t)events->n,
        .user_id = events->user_id,
        .offset = events->offset,
        .item = events->item,
        .time_ms = events->time_ms,
        .play_time_ms = events->play_time_ms,
        .duration_ms = events->duration_ms,
        .action = events->action,
        .flags = events->flags};
}

bool hs_event_view_in_every_log(const hs_event_view *view, int64_t user, size_t n_logs)
{
    const uint64_t all = all_logs(n_logs);
    uint64_t logs = 0;
    for (int64_t i = view->offset[user]; (logs & all) != all && i < view->offset[user + 1]; i++)
        logs |= (uint64_t)1 << (view->flags[i] >> HS_EVENT_LOG_SHIFT) % HS_EVENTS_MAX_LOGS;
    return (logs & all) == all;
}

void hs_events_free(hs_events *events)
{
    hs_free(events->record);
    hs_idtable_free(&events->users);
    hs_free(events->user);
    hs_free(events->user_id);
    hs_free(events->offset);
    hs_free(events->item);
    hs_free(events->time_ms);
    hs_free(events->play_time_ms);
    hs_free(events->duration_ms);
    hs_free(events->action);
    hs_free(events->flags);
    hs_events_init(events);
}
