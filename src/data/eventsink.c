/* The event sink: taking rows, spilling them, and handing out whole users. */
#include "data/eventsink_int.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/reserve.h"
#include "data/workers.h"

#include <inttypes.h>
#include <string.h>

enum {
    MAX_TEXT_BYTES = 1 << 19,
    MIN_TEXT_BYTES = 1 << 14,
    TEXT_ROW_BYTES = 16, /* rows that are added one by one come in portions of as many as so much text would hold */
    MAX_SLAB_BYTES = 32 << 20,
    MIN_SLAB_BYTES = 64 << 10,
    MAX_BLOCK_ROWS = 48 << 10,
    MIN_BLOCK_ROWS = 64,
    BLOCK_ROW_BYTES = 80,
    USER_BYTES = 160 /* of a user in all tables */
};

hstu_status hs_eventsink_open(hs_eventsink **out, const hs_eventsink_options *options, hstu_error *err)
{
    const uint64_t limit = options->memory_limit;
    if (limit < HS_EVENTSINK_MIN_BYTES)
        return hs_fail(
            err, HSTU_EINVAL, 0, "memory_limit must be at least %d bytes, not %" PRIu64, HS_EVENTSINK_MIN_BYTES, limit);
    if (options->threads < 0)
        return hs_fail(err, HSTU_EINVAL, 0, "threads must not be negative, but is %d", options->threads);
    hs_eventsink *sink = hs_calloc(1, sizeof *sink);
    if (!sink)
        return hs_fail_nomem(err, sizeof *sink, "the event table");
    *sink = (hs_eventsink){.options = *options,
        .n_threads = hs_workers_count(options->threads),
        .rows_limit = limit / 2 + limit / 8,
        .visit_limit = limit / 4,
        .table_limit = limit / 4 + limit / 8,
        .max_item = -1};
    (void)pthread_mutex_init(&sink->lock, NULL);
    const uint64_t rows = sink->visit_limit / 4 / sink->n_threads / BLOCK_ROW_BYTES;
    sink->block_rows = rows > MAX_BLOCK_ROWS ? MAX_BLOCK_ROWS : rows > MIN_BLOCK_ROWS ? (size_t)rows : MIN_BLOCK_ROWS;
    sink->items = hs_calloc(sink->n_threads, sizeof *sink->items);
    if (!sink->items) {
        hs_eventsink_close(sink);
        return hs_fail_nomem(err, sizeof *sink->items, "the event table");
    }
    for (size_t i = 0; i < sink->n_threads; i++)
        sink->items[i].max_words = (size_t)(limit / 32 / sink->n_threads / sizeof(uint64_t));
    *out = sink;
    return HSTU_OK;
}

size_t hs_eventsink_threads(const hs_eventsink *sink)
{
    return sink->n_threads;
}

size_t hs_eventsink_text_bytes(const hs_eventsink *sink)
{
    const uint64_t bytes = sink->options.memory_limit / 64 / sink->n_threads;
    return bytes > MAX_TEXT_BYTES ? MAX_TEXT_BYTES : bytes < MIN_TEXT_BYTES ? MIN_TEXT_BYTES : (size_t)bytes;
}

/* ---- Memory of pieces ------------------------------------------------------------------------------------------- */

static bool add_slab(hs_eventsink *sink, size_t bytes)
{
    const uint64_t usual = sink->rows_limit / 16;
    size_t size = usual > MAX_SLAB_BYTES ? MAX_SLAB_BYTES : usual < MIN_SLAB_BYTES ? MIN_SLAB_BYTES : (size_t)usual;
    size = size > bytes ? size : bytes;
    if (sink->n_slabs == sink->cap_slabs) {
        const size_t capacity = sink->cap_slabs ? 2 * sink->cap_slabs : 16;
        hs_slab *slab = hs_realloc(sink->slab, capacity, sizeof *slab);
        if (!slab)
            return false;
        sink->slab = slab;
        sink->cap_slabs = capacity;
    }
    unsigned char *memory = hs_reserve(size);
    if (!memory)
        return false;
    sink->slab[sink->n_slabs++] = (hs_slab){.memory = memory, .bytes = size};
    sink->slab_bytes += size;
    return true;
}

/* From the newest slab or a new one; 8 divides bytes. The lock is held. */
static void *take_memory(hs_eventsink *sink, size_t bytes)
{
    hs_slab *slab = sink->n_slabs ? &sink->slab[sink->n_slabs - 1] : NULL;
    if (!slab || slab->bytes - slab->used < bytes) {
        if (!add_slab(sink, bytes))
            return NULL;
        slab = &sink->slab[sink->n_slabs - 1];
    }
    unsigned char *memory = slab->memory + slab->used;
    slab->used += bytes;
    return memory;
}

void hs_eventsink_free_slabs(hs_eventsink *sink)
{
    for (size_t i = 0; i < sink->n_slabs; i++)
        hs_reserve_free(sink->slab[i].memory, sink->slab[i].bytes);
    sink->n_slabs = 0;
    sink->slab_bytes = 0;
}

static uint64_t table_bytes(const hs_eventsink *sink)
{
    return sink->table.n * USER_BYTES + sink->disk_user_bytes;
}

bool hs_eventsink_full(hs_eventsink *sink, size_t text_bytes)
{
    /* A row of text is never shorter than its columns by much: at worst its rows and users take four times as much. */
    const uint64_t coming = (sink->n_threads + 1) * 4 * (uint64_t)text_bytes;
    (void)pthread_mutex_lock(&sink->lock);
    const bool full =
        sink->n_pieces > sink->n_on_disk && sink->slab_bytes + table_bytes(sink) + coming > sink->rows_limit;
    (void)pthread_mutex_unlock(&sink->lock);
    return full;
}

/* ---- Commits ---------------------------------------------------------------------------------------------------- */

static bool grow_users(hs_eventsink *sink)
{
    const size_t capacity = sink->cap_users ? sink->cap_users * 2 : 1024;
    hs_sink_user *user = hs_realloc(sink->user, capacity, sizeof *user);
    if (!user)
        return false;
    sink->user = user;
    sink->cap_users = capacity;
    return true;
}

static hstu_status count_users(hs_eventsink *sink, const hs_userlist *users, uint8_t log, hstu_error *err)
{
    for (size_t i = 0; i < users->n; i++) {
        uint32_t number = 0;
        const size_t n_before = sink->table.n;
        const int64_t n = users->first[i + 1] - users->first[i];
        if (!hs_idtable_add(&sink->table, users->id[i], &number) || (number == sink->cap_users && !grow_users(sink)))
            return hs_fail_nomem(err, sink->table.n * sizeof *sink->user, "the user table");
        if (sink->table.n > n_before)
            sink->user[number] = (hs_sink_user){0};
        sink->user[number].n += n;
        sink->user[number].n_held += n;
        sink->user[number].logs |= (uint64_t)1 << log;
    }
    const uint64_t bytes = table_bytes(sink);
    if (bytes > sink->table_limit)
        return hs_fail(err, HSTU_ENOMEM, 0,
            "%zu users need %" PRIu64 " bytes of tables, but the memory limit of %" PRIu64 " bytes leaves %" PRIu64
            " for that",
            sink->table.n, bytes, sink->options.memory_limit, sink->table_limit);
    return HSTU_OK;
}

static bool grow_pieces(hs_eventsink *sink)
{
    if (sink->n_pieces < sink->cap_pieces)
        return true;
    const size_t capacity = sink->cap_pieces ? 2 * sink->cap_pieces : 64;
    hs_piece *piece = hs_realloc(sink->piece, capacity, sizeof *piece);
    if (!piece)
        return false;
    sink->piece = piece;
    sink->cap_pieces = capacity;
    return true;
}

/* What stands side by side tells nearly all: the exact numbers come from the visit. */
static void count_likely(const hs_eventrows *rows, uint64_t *n_duplicates, uint64_t *n_unsorted)
{
    for (size_t i = 1; i < rows->n; i++) {
        const bool same_user = rows->user[i] == rows->user[i - 1];
        *n_unsorted += same_user & (rows->time_ms[i] < rows->time_ms[i - 1]);
        *n_duplicates += same_user & (rows->time_ms[i] == rows->time_ms[i - 1]) & (rows->hash[i] == rows->hash[i - 1]);
    }
}

static int64_t largest_item(const hs_eventrows *rows)
{
    int64_t largest = -1;
    for (size_t i = 0; i < rows->n; i++)
        largest = rows->item[i] > largest ? rows->item[i] : largest;
    return largest;
}

static hstu_status register_piece(hs_eventsink *sink, const hs_piece *piece, uint8_t log, hstu_error *err)
{
    if (!grow_pieces(sink))
        return hs_fail_nomem(err, sink->cap_pieces * 2 * sizeof *piece, "the event table");
    HS_TRY(count_users(sink, &piece->users, log, err));
    sink->piece[sink->n_pieces++] = *piece;
    sink->n_rows += piece->n;
    return HSTU_OK;
}

hstu_status hs_eventsink_commit(
    hs_eventsink *sink, size_t worker, hs_eventrows *rows, uint8_t log, uint64_t place, hstu_error *err)
{
    if (rows->n == 0)
        return HSTU_OK;
    size_t n_users = 0;
    uint64_t n_duplicates = 0, n_unsorted = 0;
    const size_t n_runs = hs_eventrows_group(rows, &n_users), column_bytes = (rows->n * HS_EVENT_BYTES + 7) / 8 * 8;
    const size_t bytes = column_bytes + (2 * n_users + 1) * sizeof(int64_t);
    const int64_t largest = largest_item(rows);
    count_likely(rows, &n_duplicates, &n_unsorted);
    if (!hs_itemset_add(&sink->items[worker], rows->item, rows->n))
        return hs_fail_nomem(err, sink->items[worker].n_words * 2 * sizeof(uint64_t), "the item table");
    (void)pthread_mutex_lock(&sink->lock);
    unsigned char *memory = take_memory(sink, bytes);
    (void)pthread_mutex_unlock(&sink->lock);
    if (!memory)
        return hs_fail_nomem(err, bytes, "the event table");
    hs_piece piece = {.place = place, .memory = memory};
    piece.users.id = (int64_t *)(void *)(memory + column_bytes);
    piece.users.first = piece.users.id + n_users;
    hs_piece_fill(&piece, rows, n_runs, (uint8_t)(log << HS_EVENT_LOG_SHIFT));
    (void)pthread_mutex_lock(&sink->lock);
    const hstu_status status = register_piece(sink, &piece, log, err);
    sink->n_likely_duplicates += n_duplicates;
    sink->n_likely_unsorted += n_unsorted;
    sink->max_item = largest > sink->max_item ? largest : sink->max_item;
    (void)pthread_mutex_unlock(&sink->lock);
    return status;
}

static hstu_status commit_pending(hs_eventsink *sink, hstu_error *err)
{
    HS_TRY(hs_eventsink_commit(sink, 0, &sink->pending, sink->pending_log, sink->next_place++, err));
    sink->pending.n = 0;
    return hs_eventsink_full(sink, hs_eventsink_text_bytes(sink)) ? hs_eventsink_flush(sink, err) : HSTU_OK;
}

hstu_status hs_eventsink_add(hs_eventsink *sink, const hs_event *event, hstu_error *err)
{
    hs_eventrows *rows = &sink->pending;
    if (rows->capacity == 0 && !hs_eventrows_init(rows, hs_eventsink_text_bytes(sink) / TEXT_ROW_BYTES))
        return hs_fail_nomem(err, hs_eventsink_text_bytes(sink), "the event table");
    if (rows->n == rows->capacity || (rows->n && event->log != sink->pending_log))
        HS_TRY(commit_pending(sink, err));
    sink->pending_log = event->log;
    const size_t i = rows->n++;
    rows->user[i] = event->user;
    rows->item[i] = event->item;
    rows->time_ms[i] = event->time_ms;
    rows->hash[i] = event->hash;
    rows->play_time_ms[i] = event->play_time_ms;
    rows->duration_ms[i] = event->duration_ms;
    rows->action[i] = event->action;
    return HSTU_OK;
}

void hs_eventsink_close(hs_eventsink *sink)
{
    if (!sink)
        return;
    for (size_t i = 0; i < sink->n_pieces && i < sink->n_on_disk; i++)
        hs_free(sink->piece[i].users.id);
    for (size_t i = 0; sink->items && i < sink->n_threads; i++)
        hs_itemset_free(&sink->items[i]);
    hs_eventsink_free_slabs(sink);
    hs_free(sink->slab);
    hs_free(sink->piece);
    hs_spillfile_close(sink->spill);
    hs_idtable_free(&sink->table);
    hs_free(sink->user);
    hs_free(sink->items);
    hs_eventrows_free(&sink->pending);
    hs_free(sink->users.id);
    hs_free(sink->logs);
    (void)pthread_mutex_destroy(&sink->lock);
    hs_free(sink);
}
