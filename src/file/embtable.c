/* Embedding tables: which part holds a row, and the index over a dynamic table's keys. */
#include "file/embtable.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

/* A row's number plus 1 shares a slot with half a hash, and 3/2 as many slots are counted in 32 bits. */
static const uint64_t max_rows = UINT64_C(1) << 31;

/* ---- Rows ------------------------------------------------------------------------------------------------------- */

static const hs_table_part *part_of(const hs_table *t, uint64_t row)
{
    size_t low = 0, high = t->n_parts; /* the last part that begins at or before the row */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (t->part[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return &t->part[low];
}

/* i: counted in the part. */
static uint64_t key_at(const hs_table_part *part, uint64_t i)
{
    uint64_t key;
    memcpy(&key, (const unsigned char *)part->keys + 8 * i, sizeof key);
    return key;
}

static const void *values_at(const hs_table *t, const hs_table_part *part, uint64_t i)
{
    return (const unsigned char *)part->values + i * t->dim * hs_dtype_bytes(t->type);
}

/* ---- The index -------------------------------------------------------------------------------------------------- */

/* The finaliser of MurmurHash3: every bit of the key reaches every bit of the hash. */
static uint64_t hash(uint64_t seed, uint64_t key)
{
    uint64_t h = key ^ seed;
    h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

static uint64_t place_of(const hs_table *t, uint64_t h)
{
    return (h >> 32) * t->n_slots >> 32;
}

static uint64_t next_place(const hs_table *t, uint64_t place)
{
    return place + 1 == t->n_slots ? 0 : place + 1;
}

static hstu_status fail_duplicate(const hs_table *t, uint64_t row_a, uint64_t row_b, const char *where, hstu_error *err)
{
    const hs_table_part *a = part_of(t, row_a), *b = part_of(t, row_b);
    return hs_fail(err, HSTU_EFORMAT, 8 * (row_b - b->first_row),
        "%.150s: the key %" PRId64 " stands twice, in %.120s (row %" PRIu64 ") and in %.120s (row %" PRIu64 ")", where,
        (int64_t)key_at(b, row_b - b->first_row), a->source ? a->source : t->name, row_a - a->first_row,
        b->source ? b->source : t->name, row_b - b->first_row);
}

/* Random keys take two steps each. Keys chosen to fall together would take time squared: past `steps` it gives up. False: the
 * key stands already, in the row *other. */
static bool insert(hs_table *t, uint64_t row, uint64_t key, uint64_t *steps, uint64_t *other)
{
    const uint64_t h = hash(t->seed, key), tag = h << 32;
    for (uint64_t place = place_of(t, h); *steps; place = next_place(t, place), --*steps) {
        const uint64_t slot = t->slot[place];
        if (slot == 0) {
            t->slot[place] = tag | (row + 1);
            return true;
        }
        if ((slot ^ tag) >> 32)
            continue;
        *other = (slot & UINT32_MAX) - 1;
        const hs_table_part *part = part_of(t, *other);
        if (key_at(part, *other - part->first_row) == key)
            return false;
    }
    return true;
}

static hstu_status insert_all(hs_table *t, uint64_t *steps, const char *where, hstu_error *err)
{
    enum { AHEAD = 16 }; /* the slots of so many keys are on their way from memory */
    for (size_t p = 0; p < t->n_parts; p++) {
        const hs_table_part *part = &t->part[p];
        for (uint64_t i = 0; i < part->n_rows && *steps; i++) {
            uint64_t other = 0;
            if (i + AHEAD < part->n_rows)
                __builtin_prefetch(&t->slot[place_of(t, hash(t->seed, key_at(part, i + AHEAD)))], 1);
            if (!insert(t, part->first_row + i, key_at(part, i), steps, &other))
                return fail_duplicate(t, other, part->first_row + i, where, err);
        }
    }
    return HSTU_OK;
}

static hstu_status build_index(hs_table *t, const char *where, hstu_error *err)
{
    enum { MAX_SEEDS = 8 };
    if (t->n_rows == 0)
        return HSTU_OK;
    t->n_slots = t->n_rows + t->n_rows / 2 + 1;
    t->slot = hs_calloc((size_t)t->n_slots, sizeof *t->slot);
    if (!t->slot)
        return hs_fail_nomem(err, (size_t)t->n_slots * sizeof *t->slot, "the index of an embedding table");
    for (int i = 0; i < MAX_SEEDS; i++) {
        uint64_t steps = 16 * t->n_rows + 4096;
        HS_TRY(insert_all(t, &steps, where, err));
        if (steps)
            return HSTU_OK;
        t->seed += UINT64_C(0x9e3779b97f4a7c15);
        memset(t->slot, 0, (size_t)t->n_slots * sizeof *t->slot);
    }
    return hs_fail(err, HSTU_EUNSUP, 0, "%.200s: the keys of the table '%.100s' are chosen so that no index holds them",
        where, t->name);
}

/* ---- Tables ----------------------------------------------------------------------------------------------------- */

hstu_status hs_table_make(
    hs_table *out, const char *name, hs_dtype type, bool dynamic, uint64_t dim, size_t n_parts, hstu_error *err)
{
    hs_table_part *part = hs_calloc(n_parts, sizeof *part);
    if (!part)
        return hs_fail_nomem(err, n_parts * sizeof *part, "the parts of an embedding table");
    *out = (hs_table){.name = name, .type = type, .dynamic = dynamic, .dim = dim, .part = part, .n_parts = n_parts};
    return HSTU_OK;
}

hstu_status hs_table_finish(hs_table *t, const char *where, hstu_error *err)
{
    t->n_rows = 0;
    for (size_t p = 0; p < t->n_parts; p++) {
        hs_table_part *part = &t->part[p];
        if (part->n_rows > max_rows - t->n_rows)
            return hs_fail(err, HSTU_EUNSUP, 0,
                "%.200s: the table '%.100s' has more than %" PRIu64 " rows, which is the most supported", where,
                t->name, max_rows);
        part->first_row = t->n_rows;
        t->n_rows += part->n_rows;
    }
    return t->dynamic ? build_index(t, where, err) : HSTU_OK;
}

static const void *static_row(const hs_table *t, uint64_t id)
{
    if (id >= t->n_rows)
        return NULL;
    const hs_table_part *part = part_of(t, id);
    return values_at(t, part, id - part->first_row);
}

const void *hs_table_row(const hs_table *t, int64_t id)
{
    const uint64_t key = (uint64_t)id; /* a negative one is past every row */
    if (!t->dynamic)
        return static_row(t, key);
    if (t->n_slots == 0)
        return NULL;
    const uint64_t h = hash(t->seed, key), tag = h << 32;
    for (uint64_t place = place_of(t, h); t->slot[place]; place = next_place(t, place)) {
        const uint64_t slot = t->slot[place], row = (slot & UINT32_MAX) - 1;
        if ((slot ^ tag) >> 32)
            continue;
        const hs_table_part *part = part_of(t, row);
        if (key_at(part, row - part->first_row) == key)
            return values_at(t, part, row - part->first_row);
    }
    return NULL;
}

void hs_table_close(hs_table *t)
{
    hs_free(t->part);
    hs_free(t->slot);
    hs_free(t->memory);
    *t = (hs_table){0};
}
