/* Small ids have a counter each. Others are counted in a table of fixed size; when it is full, all begins anew with twice as
 * many passes, each of which counts the ids of one class of hashes. */
#include "data/itemcount.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/system.h"
#include "data/feedback.h"

#include <stdbool.h>

enum { CHECK_EVENTS = 1 << 22, DENSE_IDS_AN_EVENT = 64, MIN_SLOTS = 16 };

const hs_itemcount_limits hs_itemcount_default = {.dense_ids = 1 << 25, .slots = 1 << 23};

typedef struct id_slot {
    int64_t id;
    int64_t count; /* 0: empty */
} id_slot;

typedef struct id_table {
    id_slot *slot;
    uint64_t n_slots, n, seed;
} id_table;

static void offer_top(hstu_summary *out, int64_t id, int64_t count)
{
    int64_t at = out->n_top;
    while (
        at > 0 && (count > out->top_events[at - 1] || (count == out->top_events[at - 1] && id < out->top_item[at - 1])))
        at--;
    if (at == HSTU_SUMMARY_TOP)
        return;
    out->n_top += out->n_top < HSTU_SUMMARY_TOP;
    for (int64_t i = out->n_top - 1; i > at; i--) {
        out->top_item[i] = out->top_item[i - 1];
        out->top_events[i] = out->top_events[i - 1];
    }
    out->top_item[at] = id;
    out->top_events[at] = count;
}

static hstu_status check(const hstu_progress *progress, int64_t i, int64_t n, hstu_error *err)
{
    if (i % CHECK_EVENTS != 0)
        return HSTU_OK;
    hs_progress_step(progress, "items", (uint64_t)i, (uint64_t)n);
    return hs_progress_check(progress, err);
}

static hstu_status count_dense(
    hstu_summary *out, const int64_t *id, int64_t n, int64_t max_id, const hstu_progress *progress, hstu_error *err)
{
    uint32_t *count = hs_calloc((size_t)max_id + 1, sizeof *count);
    if (!count)
        return hs_fail_nomem(err, ((size_t)max_id + 1) * sizeof *count, "the counts of items");
    hstu_status status = HSTU_OK;
    for (int64_t i = 0; i < n && status == HSTU_OK; i++) {
        count[id[i]]++;
        status = check(progress, i, n, err);
    }
    for (int64_t item = 0; item <= max_id && status == HSTU_OK; item++) {
        if (!count[item])
            continue;
        out->n_items++;
        if (out->n_top < HSTU_SUMMARY_TOP || count[item] > out->top_events[HSTU_SUMMARY_TOP - 1])
            offer_top(out, item, count[item]);
    }
    hs_free(count);
    return status;
}

/* The upper half picks the pass, the lower the slot. */
static uint64_t hash_id(const id_table *table, int64_t id)
{
    uint64_t x = (uint64_t)id ^ table->seed;
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 29) * 0xBF58476D1CE4E5B9u;
    return x ^ x >> 32;
}

/* False when the table is full. */
static bool count_id(id_table *table, int64_t id, uint64_t hash)
{
    uint64_t at = hash & (table->n_slots - 1);
    while (table->slot[at].count && table->slot[at].id != id)
        at = (at + 1) & (table->n_slots - 1);
    if (!table->slot[at].count) {
        if (2 * table->n >= table->n_slots)
            return false;
        table->n++;
        table->slot[at].id = id;
    }
    table->slot[at].count++;
    return true;
}

/* One of n_passes, a power of 2. *full: the table was too small. */
static hstu_status count_pass(id_table *table, bool *full, const int64_t *id, int64_t n, uint64_t pass,
    uint64_t n_passes, const hstu_progress *progress, hstu_error *err)
{
    table->n = 0;
    for (uint64_t i = 0; i < table->n_slots; i++)
        table->slot[i].count = 0;
    *full = false;
    for (int64_t i = 0; i < n && !*full; i++) {
        const uint64_t hash = hash_id(table, id[i]);
        if ((hash >> 32 & (n_passes - 1)) == pass)
            *full = !count_id(table, id[i], hash);
        HS_TRY(check(progress, i, n, err));
    }
    return HSTU_OK;
}

static hstu_status count_hashed(
    hstu_summary *out, id_table *table, const int64_t *id, int64_t n, const hstu_progress *progress, hstu_error *err)
{
    uint64_t n_passes = 1;
    for (uint64_t pass = 0; pass < n_passes; pass++) {
        bool full = false;
        HS_TRY(count_pass(table, &full, id, n, pass, n_passes, progress, err));
        if (full) {
            n_passes *= 2;
            pass = UINT64_MAX;
            out->n_items = out->n_top = 0;
            continue;
        }
        out->n_items += (int64_t)table->n;
        for (uint64_t i = 0; i < table->n_slots; i++) {
            if (table->slot[i].count)
                offer_top(out, table->slot[i].id, table->slot[i].count);
        }
    }
    return HSTU_OK;
}

hstu_status hs_itemcount(hstu_summary *out, const int64_t *id, int64_t n, int64_t max_id,
    const hs_itemcount_limits *limits, const hstu_progress *progress, hstu_error *err)
{
    out->n_items = out->n_top = 0;
    if (max_id < limits->dense_ids && max_id / DENSE_IDS_AN_EVENT <= n && n < UINT32_MAX)
        return count_dense(out, id, n, max_id, progress, err);
    id_table table = {.n_slots = (uint64_t)limits->slots, .seed = hs_system_seed()};
    while (table.n_slots > MIN_SLOTS && (int64_t)(table.n_slots / 4) >= n) /* room for n distinct ids is enough */
        table.n_slots /= 2;
    table.slot = hs_alloc(table.n_slots, sizeof *table.slot);
    if (!table.slot)
        return hs_fail_nomem(err, table.n_slots * sizeof *table.slot, "the counts of items");
    const hstu_status status = count_hashed(out, &table, id, n, progress, err);
    hs_free(table.slot);
    return status;
}
