/* Made-up events, logs made of them, and what an event sink must make of them, worked out the slow way. */
#ifndef TESTS_DATASET_EVENT_ROWS_H
#define TESTS_DATASET_EVENT_ROWS_H

#include "dataset/kuairand_files.h"

#include "data/eventsink.h"

#include <inttypes.h>

static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* n rows: users in runs or shuffled, times mostly ascending, some equal, some rows repeated near and far. */
static inline hs_event *make_events(size_t n, int64_t n_users, int64_t n_items, bool shuffled, uint64_t seed)
{
    hs_event *event = calloc(n, sizeof *event);
    assert_non_null(event);
    for (size_t i = 0; i < n; i++) {
        const uint64_t r = next_random(&seed);
        event[i] = (hs_event){.user = shuffled ? (int64_t)(r % (uint64_t)n_users) : (int64_t)i * n_users / (int64_t)n,
            .item = (int64_t)(next_random(&seed) % (uint64_t)n_items),
            .time_ms = 1650000000000 + (int64_t)i * 50 - (int64_t)(r % 11 == 0 ? 100000 : 0),
            .play_time_ms = (int32_t)(r % 20000),
            .duration_ms = 1000 + (int32_t)(r % 7) * 5000,
            .action = (uint8_t)(r % 5 ? 0 : r >> 8),
            .log = i < n / 2 ? 0 : 1};
        if (i && r % 13 == 0)
            event[i].time_ms = event[i - 1].time_ms;
        if (i && r % 17 == 0) /* a row again, maybe of the other log */
            event[i] = event[r % 34 == 0 ? i - 1 : (size_t)(next_random(&seed) % i)];
        event[i].log = i < n / 2 ? 0 : 1;
        event[i].hash = (uint64_t)event[i].item * 31 + (uint64_t)event[i].play_time_ms;
    }
    return event;
}

typedef struct expected_row {
    hs_event event;
    size_t place;
    bool duplicate;
} expected_row;

static inline int compare_rows(const void *left, const void *right)
{
    const expected_row *x = left, *y = right;
    if (x->event.user != y->event.user)
        return x->event.user < y->event.user ? -1 : 1;
    if (x->event.time_ms != y->event.time_ms)
        return x->event.time_ms < y->event.time_ms ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

static inline bool equal_events(const hs_event *x, const hs_event *y)
{
    return x->user == y->user && x->item == y->item && x->time_ms == y->time_ms && x->play_time_ms == y->play_time_ms &&
           x->duration_ms == y->duration_ms && x->action == y->action && x->hash == y->hash;
}

static inline expected_row *expect_rows(const hs_event *event, size_t n)
{
    expected_row *row = calloc(n, sizeof *row);
    assert_non_null(row);
    for (size_t i = 0; i < n; i++)
        row[i] = (expected_row){event[i], i, false};
    qsort(row, n, sizeof *row, compare_rows);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i;
             k-- > 0 && row[k].event.user == row[i].event.user && row[k].event.time_ms == row[i].event.time_ms;)
            row[i].duplicate = row[i].duplicate || equal_events(&row[k].event, &row[i].event);
    }
    return row;
}

/* One log of the events [first, end) under a name of the scratch folder. note: NULL, or a text in a last column of its own, in
 * quotes; line_end: "\n" or "\r\n". */
static inline void write_log(scratch *s, const char *name, const hs_event *event, size_t first, size_t end,
    const char *(*note)(size_t row), const char *line_end)
{
    FILE *file = fopen(scratch_path(s, name), "wb");
    assert_non_null(file);
    (void)fprintf(file, "%.*s%s%s", (int)sizeof LOG_HEADER - 2, LOG_HEADER, note ? ",note" : "", line_end);
    for (size_t i = first; i < end; i++) {
        const hs_event *e = &event[i];
        (void)fprintf(file, "%" PRId64 ",%" PRId64 ",20220408,1400,%" PRId64, e->user, e->item, e->time_ms);
        for (int b = 0; b < 7; b++)
            (void)fprintf(file, ",%d", e->action >> b & 1);
        (void)fprintf(file, ",%d,%d,0,0,%d,0,1", e->play_time_ms, e->duration_ms, e->action >> 7);
        if (note)
            (void)fprintf(file, ",\"%s\"", note(i));
        (void)fprintf(file, "%s", line_end);
    }
    assert_int_equal(fclose(file), 0);
}

#endif
