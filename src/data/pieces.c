/* Collecting rows as columns and grouping them by user. */
#include "data/pieces.h"

#include "base/alloc.h"

#include <string.h>

const uint8_t hs_event_column_bytes[HS_EVENT_COLUMNS] = {8, 8, 8, 4, 4, 1, 1};
const uint8_t hs_event_column_start[HS_EVENT_COLUMNS] = {0, 8, 16, 24, 28, 32, 33};

hs_event_columns hs_event_columns_over(void *memory, size_t n)
{
    int64_t *const wide = memory;
    int32_t *const half = (int32_t *)(wide + 3 * n);
    uint8_t *const byte = (uint8_t *)(half + 2 * n);
    return (hs_event_columns){.item = wide,
        .time_ms = wide + n,
        .hash = (uint64_t *)(wide + 2 * n),
        .play_time_ms = half,
        .duration_ms = half + n,
        .action = byte,
        .flags = byte + n};
}

bool hs_eventrows_init(hs_eventrows *rows, size_t capacity)
{
    const size_t row_bytes = sizeof(int64_t) + HS_EVENT_BYTES + 2 * sizeof(hs_sort_key);
    unsigned char *memory = hs_alloc(capacity, row_bytes);
    if (!memory)
        return false;
    *rows = (hs_eventrows){.capacity = capacity, .memory = memory, .run = (hs_sort_key *)(void *)memory};
    rows->spare = rows->run + capacity;
    rows->user = (int64_t *)(rows->spare + capacity);
    const hs_event_columns c = hs_event_columns_over(rows->user + capacity, capacity);
    rows->item = c.item;
    rows->time_ms = c.time_ms;
    rows->hash = c.hash;
    rows->play_time_ms = c.play_time_ms;
    rows->duration_ms = c.duration_ms;
    rows->action = c.action;
    return true;
}

void hs_eventrows_free(hs_eventrows *rows)
{
    hs_free(rows->memory);
    *rows = (hs_eventrows){0};
}

size_t hs_eventrows_group(hs_eventrows *rows, size_t *n_users)
{
    size_t n = 0;
    bool ascending = true;
    for (size_t first = 0, end; first < rows->n; first = end) {
        const int64_t user = rows->user[first];
        for (end = first + 1; end < rows->n && rows->user[end] == user; end++)
            ;
        ascending = ascending && (n == 0 || rows->run[n - 1].key < (uint64_t)user);
        rows->run[n++] = (hs_sort_key){(uint64_t)user, (uint64_t)first << 32 | (end - first)};
    }
    *n_users = n;
    if (ascending)
        return n;
    hs_sort_keys(rows->run, rows->spare, n);
    for (size_t i = 1; i < n; i++)
        *n_users -= rows->run[i].key == rows->run[i - 1].key;
    return n;
}

/* Copies rows [first, first + n) behind the `at` rows that are there. */
static void copy_run(const hs_event_columns *to, size_t at, const hs_eventrows *rows, size_t first, size_t n)
{
    memcpy(to->item + at, rows->item + first, n * sizeof *to->item);
    memcpy(to->time_ms + at, rows->time_ms + first, n * sizeof *to->time_ms);
    memcpy(to->hash + at, rows->hash + first, n * sizeof *to->hash);
    memcpy(to->play_time_ms + at, rows->play_time_ms + first, n * sizeof *to->play_time_ms);
    memcpy(to->duration_ms + at, rows->duration_ms + first, n * sizeof *to->duration_ms);
    memcpy(to->action + at, rows->action + first, n);
}

void hs_piece_fill(hs_piece *piece, const hs_eventrows *rows, size_t n_runs, uint8_t flags)
{
    const hs_event_columns to = hs_event_columns_over(piece->memory, rows->n);
    hs_userlist *users = &piece->users;
    size_t at = 0;
    users->n = 0;
    for (size_t i = 0, whole = 0; i < n_runs; i++) {
        const size_t first = (size_t)(rows->run[i].value >> 32), n = (size_t)(rows->run[i].value & UINT32_MAX);
        if (i == 0 || rows->run[i].key != rows->run[i - 1].key) {
            users->id[users->n] = (int64_t)rows->run[i].key;
            users->first[users->n++] = (int64_t)at;
        }
        /* Runs that stood side by side are copied as one. */
        whole += n;
        if (i + 1 < n_runs && (size_t)(rows->run[i + 1].value >> 32) == first + n) {
            at += n;
            continue;
        }
        copy_run(&to, at + n - whole, rows, first + n - whole, whole);
        at += n;
        whole = 0;
    }
    users->first[users->n] = (int64_t)at;
    memset(to.flags, flags, rows->n);
    piece->n = rows->n;
}
