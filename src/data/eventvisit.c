/* What the event sink does with all of its pieces: spilling them, counting items, handing out whole users. */
#include "data/eventsink_int.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/feedback.h"

#include <stdlib.h>

static int compare_places(const void *left, const void *right)
{
    const hs_piece *x = left, *y = right;
    return (x->place > y->place) - (x->place < y->place);
}

static void order_pieces(hs_eventsink *sink)
{
    if (sink->n_pieces > sink->n_on_disk)
        qsort(sink->piece + sink->n_on_disk, sink->n_pieces - sink->n_on_disk, sizeof *sink->piece, compare_places);
}

static size_t count_listed(const hs_eventsink *sink, bool held)
{
    size_t n = 0;
    for (size_t i = 0; i < sink->table.n; i++)
        n += !held || sink->user[i].n_held;
    return n;
}

/* Users by id, with all of their rows or those held in memory. logs: [n] or NULL. */
static bool list_users(const hs_eventsink *sink, bool held, hs_userlist *out, uint64_t *logs)
{
    const size_t n = count_listed(sink, held);
    hs_sort_key *key = hs_alloc(n, 2 * sizeof *key);
    int64_t *id = hs_alloc(2 * n + 1, sizeof *id);
    if (!key || !id) {
        hs_free(key);
        hs_free(id);
        return false;
    }
    size_t k = 0;
    for (size_t i = 0; i < sink->table.n; i++) {
        if (!held || sink->user[i].n_held)
            key[k++] = (hs_sort_key){(uint64_t)sink->table.id[i], i};
    }
    hs_sort_keys(key, key + n, n);
    *out = (hs_userlist){.n = n, .id = id, .first = id + n};
    out->first[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const hs_sink_user *user = &sink->user[key[i].value];
        out->id[i] = (int64_t)key[i].key;
        out->first[i + 1] = out->first[i] + (held ? user->n_held : user->n);
        if (logs)
            logs[i] = user->logs;
    }
    hs_free(key);
    return true;
}

/* ---- Spilling --------------------------------------------------------------------------------------------------- */

static hstu_status spill_block(hs_blockwalk *walk, hs_gathered *block, hstu_error *err)
{
    const hs_piece *run = walk->ctx;
    const unsigned char *from = block->columns;
    const uint64_t first = (uint64_t)block->users->first[block->first_user];
    for (size_t c = 0; c < HS_EVENT_COLUMNS; c++) {
        const size_t size = hs_event_column_bytes[c];
        const uint64_t at = run->file_at + hs_event_column_start[c] * run->n + first * size;
        HS_TRY(hs_spillfile_write(walk->sink->spill, at, from, block->n * size, err));
        from += block->n * size;
    }
    return HSTU_OK;
}

static void drop_held(hs_eventsink *sink, const hs_piece *run)
{
    hs_eventsink_free_slabs(sink);
    for (size_t i = 0; i < sink->table.n; i++)
        sink->user[i].n_held = 0;
    sink->piece[sink->n_on_disk++] = *run;
    sink->n_pieces = sink->n_on_disk;
    sink->disk_user_bytes += (2 * run->users.n + 1) * sizeof(int64_t);
}

hstu_status hs_eventsink_flush(hs_eventsink *sink, hstu_error *err)
{
    if (sink->n_pieces == sink->n_on_disk)
        return HSTU_OK;
    order_pieces(sink);
    hs_piece run = {.place = sink->piece[sink->n_on_disk].place};
    if (!list_users(sink, true, &run.users, NULL))
        return hs_fail_nomem(err, sink->table.n * 2 * sizeof(int64_t), "the user table");
    run.n = (uint64_t)run.users.first[run.users.n];
    hs_blockwalk walk = {.sink = sink,
        .users = &run.users,
        .piece = sink->piece + sink->n_on_disk,
        .n_pieces = sink->n_pieces - sink->n_on_disk,
        .fn = spill_block,
        .ctx = &run,
        .stage = "spilling"};
    hstu_status status = HSTU_OK;
    if (!sink->spill)
        HS_TRY_GOTO(hs_spillfile_open(&sink->spill, sink->options.folder, err));
    HS_TRY_GOTO(hs_spillfile_extend(sink->spill, run.n * HS_EVENT_BYTES, &run.file_at, err));
    HS_TRY_GOTO(hs_blockwalk_run(&walk, err));
    drop_held(sink, &run);
    return HSTU_OK;
fail:
    hs_free(run.users.id);
    return status;
}

/* ---- Items ------------------------------------------------------------------------------------------------------ */

/* Adds the rows' items of one part of n_parts. False: the bag is full. */
static bool add_items(hs_idbag *bag, const int64_t *item, size_t n, uint64_t part, uint64_t n_parts)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t mixed = hs_idbag_mix(bag, item[i]);
        if ((mixed >> 32) % n_parts == part && !hs_idbag_add(bag, item[i], mixed))
            return false;
    }
    return true;
}

enum { ITEMS_AT_ONCE = 1 << 12 };

static hstu_status add_piece_items(hs_idbag *bag, const hs_eventsink *sink, const hs_piece *piece, uint64_t part,
    uint64_t n_parts, bool *fits, hstu_error *err)
{
    int64_t room[ITEMS_AT_ONCE];
    *fits = true;
    if (piece->memory) {
        *fits = add_items(bag, (const int64_t *)(const void *)piece->memory, (size_t)piece->n, part, n_parts);
        return HSTU_OK;
    }
    for (uint64_t i = 0; *fits && i < piece->n; i += ITEMS_AT_ONCE) {
        const size_t n = piece->n - i < ITEMS_AT_ONCE ? (size_t)(piece->n - i) : ITEMS_AT_ONCE;
        HS_TRY(hs_spillfile_read(sink->spill, piece->file_at + i * sizeof *room, room, n * sizeof *room, err));
        *fits = add_items(bag, room, n, part, n_parts);
    }
    return HSTU_OK;
}

/* Items whose ids are too far apart for a bit each: in as many passes as the memory asks for. */
static hstu_status count_sparse(hs_eventsink *sink, hstu_error *err)
{
    hs_idbag bag;
    const size_t bytes = (size_t)sink->visit_limit;
    if (!hs_idbag_init(&bag, bytes < sink->n_rows * 32 ? bytes : (size_t)sink->n_rows * 32))
        return hs_fail_nomem(err, bytes, "the item table");
    hstu_status status = HSTU_OK;
    uint64_t n_parts = 1;
    sink->n_items = 0;
    for (uint64_t part = 0; part < n_parts; part++) {
        bool fits = true;
        hs_idbag_clear(&bag);
        for (size_t i = 0; fits && i < sink->n_pieces; i++) {
            HS_TRY_GOTO(hs_progress_check(sink->options.progress, err));
            HS_TRY_GOTO(add_piece_items(&bag, sink, &sink->piece[i], part, n_parts, &fits, err));
        }
        sink->n_items += bag.n;
        if (!fits) { /* again, in smaller parts */
            n_parts *= 2;
            part = UINT64_MAX;
            sink->n_items = 0;
        }
    }
fail:
    hs_idbag_free(&bag);
    return status;
}

static hstu_status count_items(hs_eventsink *sink, hstu_error *err)
{
    for (size_t i = 1; i < sink->n_threads; i++) {
        if (!hs_itemset_join(&sink->items[0], &sink->items[i]))
            return hs_fail_nomem(err, sink->items[i].n_words * sizeof(uint64_t), "the item table");
        hs_itemset_free(&sink->items[i]);
    }
    const bool sparse = sink->items[0].sparse;
    sink->n_items = hs_itemset_count(&sink->items[0]);
    hs_itemset_free(&sink->items[0]);
    return sparse ? count_sparse(sink, err) : HSTU_OK;
}

/* ---- Whole users ------------------------------------------------------------------------------------------------ */

hstu_status hs_eventsink_finish(hs_eventsink *sink, hstu_error *err)
{
    HS_TRY(hs_eventsink_commit(sink, 0, &sink->pending, sink->pending_log, sink->next_place++, err));
    hs_eventrows_free(&sink->pending);
    order_pieces(sink);
    HS_TRY(count_items(sink, err));
    sink->logs = hs_alloc(sink->table.n, sizeof *sink->logs);
    if (!sink->logs || !list_users(sink, false, &sink->users, sink->logs))
        return hs_fail_nomem(err, sink->table.n * 2 * sizeof(int64_t), "the user table");
    hs_idtable_free(&sink->table);
    hs_free(sink->user);
    sink->user = NULL;
    sink->cap_users = 0;
    return HSTU_OK;
}

hs_event_users hs_eventsink_users(const hs_eventsink *sink)
{
    return (hs_event_users){.n = (int64_t)sink->users.n,
        .n_events = (int64_t)sink->n_rows,
        .id = sink->users.id,
        .offset = sink->users.first,
        .logs = sink->logs,
        .max_item = sink->max_item,
        .n_items = sink->n_items,
        .n_likely_duplicates = sink->n_likely_duplicates,
        .n_likely_unsorted = sink->n_likely_unsorted};
}

typedef struct visit {
    const hs_block_consumer *consumer;
    hs_event_counts counts; /* under the walk's lock */
} visit;

static hs_event_block block_of(const hs_gathered *from)
{
    const hs_event_columns c = hs_event_columns_over(from->columns, from->n);
    return (hs_event_block){.view = {.n_users = (int64_t)from->n_users,
                                .n_events = (int64_t)from->n,
                                .user_id = from->users->id + from->first_user,
                                .offset = from->offset,
                                .item = c.item,
                                .time_ms = c.time_ms,
                                .play_time_ms = c.play_time_ms,
                                .duration_ms = c.duration_ms,
                                .action = c.action,
                                .flags = c.flags},
        .first_user = (int64_t)from->first_user,
        .first_event = from->users->first[from->first_user],
        .worker = from->worker};
}

static hstu_status visit_block(hs_blockwalk *walk, hs_gathered *gathered, hstu_error *err)
{
    visit *v = walk->ctx;
    hs_event_counts counts = {0};
    hs_block_sort(gathered, &counts.n_duplicates, &counts.n_unsorted);
    (void)pthread_mutex_lock(&walk->lock);
    v->counts.n_duplicates += counts.n_duplicates;
    v->counts.n_unsorted += counts.n_unsorted;
    (void)pthread_mutex_unlock(&walk->lock);
    const hs_event_block block = block_of(gathered);
    if (v->consumer->anytime)
        HS_TRY(v->consumer->anytime(v->consumer->ctx, &block, err));
    if (!v->consumer->in_turn || !hs_blockwalk_wait(walk, gathered->index))
        return HSTU_OK;
    HS_TRY(v->consumer->in_turn(v->consumer->ctx, &block, err));
    hs_blockwalk_pass(walk);
    return HSTU_OK;
}

hstu_status hs_eventsink_visit(
    hs_eventsink *sink, const hs_block_consumer *consumer, hs_event_counts *counts, hstu_error *err)
{
    visit v = {.consumer = consumer};
    hs_blockwalk walk = {.sink = sink,
        .users = &sink->users,
        .piece = sink->piece,
        .n_pieces = sink->n_pieces,
        .fn = visit_block,
        .ctx = &v,
        .stage = "writing"};
    HS_TRY(hs_blockwalk_run(&walk, err));
    if (counts)
        *counts = v.counts;
    return HSTU_OK;
}
