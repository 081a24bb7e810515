/* Dynamic embedding tables: which files belong to one, whether their sizes fit, the index over their keys.
 * Source of the layout: the dump of NVIDIA's DynamicEmb; docs/formats.md. */
#include "ckpt/dynemb.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"
#include "ckpt/le.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A row's number plus 1 shares a slot with half a hash, and 3/2 as many slots are counted in 32 bits. */
static const uint64_t max_rows = UINT64_C(1) << 31;

/* ---- File names ------------------------------------------------------------------------------------------------- */

typedef struct part_name {
    char text[HS_DYNEMB_MAX_NAME + 64];
} part_name;

static part_name name_of(const hs_dynemb *t, const char *what, uint32_t rank)
{
    part_name name;
    (void)snprintf(name.text, sizeof name.text, "%s_emb_%s.rank_%" PRIu32 ".world_size_%" PRIu32, t->name, what, rank,
        t->world_size);
    return name;
}

/* A decimal number as a program prints it: no sign, no leading zeros, at most 9 digits. */
static bool skip_number(const char **text, uint32_t *out)
{
    const char *at = *text;
    uint32_t number = 0;
    int digits = 0;
    for (; at[digits] >= '0' && at[digits] <= '9' && digits < 10; digits++)
        number = 10 * number + (uint32_t)(at[digits] - '0');
    if (digits == 0 || digits > 9 || (at[0] == '0' && digits > 1))
        return false;
    *text = at + digits;
    *out = number;
    return true;
}

static bool skip_text(const char **text, const char *expected)
{
    const size_t n = strlen(expected);
    if (strncmp(*text, expected, n) != 0)
        return false;
    *text += n;
    return true;
}

static bool parse_at(hs_dynemb_file *out, const char *file_name, const char *mark)
{
    const char *at = mark;
    hs_dynemb_file found = {.table_bytes = (size_t)(mark - file_name)};
    if (!skip_text(&at, "_emb_keys.rank_") && !skip_text(&at, "_emb_values.rank_"))
        return false;
    if (!skip_number(&at, &found.rank) || !skip_text(&at, ".world_size_") || !skip_number(&at, &found.world_size))
        return false;
    if (*at || found.table_bytes == 0 || found.table_bytes > HS_DYNEMB_MAX_NAME)
        return false;
    *out = found;
    return true;
}

bool hs_dynemb_parse_name(hs_dynemb_file *out, const char *file_name)
{
    for (const char *mark = strstr(file_name, "_emb_"); mark; mark = strstr(mark + 1, "_emb_")) {
        if (parse_at(out, file_name, mark))
            return true;
    }
    return false;
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

static uint64_t place_of(const hs_dynemb *t, uint64_t h)
{
    return (h >> 32) * t->n_slots >> 32;
}

static uint64_t next_place(const hs_dynemb *t, uint64_t place)
{
    return place + 1 == t->n_slots ? 0 : place + 1;
}

static const hs_dynemb_part *part_of(const hs_dynemb *t, uint64_t row)
{
    uint32_t low = 0, high = t->world_size; /* the last part that begins at or before the row */
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (t->part[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return &t->part[low];
}

static uint64_t key_at(const hs_dynemb_part *part, uint64_t row)
{
    return hs_le64(part->keys.data + 8 * (row - part->first_row));
}

static hstu_status fail_duplicate(const hs_dynemb *t, uint64_t row_a, uint64_t row_b, hstu_error *err)
{
    const hs_dynemb_part *a = part_of(t, row_a), *b = part_of(t, row_b);
    const part_name name_a = name_of(t, "keys", (uint32_t)(a - t->part)),
                    name_b = name_of(t, "keys", (uint32_t)(b - t->part));
    return hs_fail(err, HSTU_EFORMAT, 8 * (row_b - b->first_row),
        "%.150s: the key %" PRId64 " stands twice, in %.120s (row %" PRIu64 ") and in %.120s (row %" PRIu64 ")",
        t->folder, (int64_t)key_at(b, row_b), name_a.text, row_a - a->first_row, name_b.text, row_b - b->first_row);
}

/* Random keys take two steps each. Keys chosen to fall together would take time squared: past `steps` it gives up, with
 * *crowded set. */
static hstu_status insert(hs_dynemb *t, uint64_t row, uint64_t key, uint64_t *steps, bool *crowded, hstu_error *err)
{
    const uint64_t h = hash(t->seed, key), tag = h << 32;
    for (uint64_t place = place_of(t, h); *steps; place = next_place(t, place)) {
        const uint64_t slot = t->slot[place];
        if (slot == 0) {
            t->slot[place] = tag | (row + 1);
            return HSTU_OK;
        }
        const uint64_t other = (slot & UINT32_MAX) - 1;
        if ((slot ^ tag) >> 32 == 0 && key_at(part_of(t, other), other) == key)
            return fail_duplicate(t, other, row, err);
        --*steps;
    }
    *crowded = true;
    return HSTU_OK;
}

static hstu_status insert_all(hs_dynemb *t, bool *crowded, hstu_error *err)
{
    enum { AHEAD = 16 }; /* the slots of so many keys are on their way from memory */
    uint64_t steps = 16 * t->n_rows + 4096;
    *crowded = false;
    for (uint32_t r = 0; r < t->world_size; r++) {
        const hs_dynemb_part *part = &t->part[r];
        for (uint64_t i = 0; i < part->n_rows && !*crowded; i++) {
            const unsigned char *key = part->keys.data + 8 * i;
            if (i + AHEAD < part->n_rows)
                __builtin_prefetch(&t->slot[place_of(t, hash(t->seed, hs_le64(key + 8 * AHEAD)))], 1);
            HS_TRY(insert(t, part->first_row + i, hs_le64(key), &steps, crowded, err));
        }
    }
    return HSTU_OK;
}

static hstu_status build_index(hs_dynemb *t, hstu_error *err)
{
    enum { MAX_SEEDS = 8 };
    if (t->n_rows == 0)
        return HSTU_OK;
    t->n_slots = t->n_rows + t->n_rows / 2 + 1;
    t->slot = hs_calloc((size_t)t->n_slots, sizeof *t->slot);
    if (!t->slot)
        return hs_fail_nomem(err, (size_t)t->n_slots * sizeof *t->slot, "the index of an embedding table");
    for (int i = 0; i < MAX_SEEDS; i++) {
        bool crowded = false;
        HS_TRY(insert_all(t, &crowded, err));
        if (!crowded)
            return HSTU_OK;
        t->seed += UINT64_C(0x9e3779b97f4a7c15);
        memset(t->slot, 0, (size_t)t->n_slots * sizeof *t->slot);
    }
    return hs_fail(err, HSTU_EUNSUP, 0, "%.200s: the keys of the table '%.100s' are chosen so that no index holds them",
        t->folder, t->name);
}

const float *hs_dynemb_find(const hs_dynemb *t, int64_t key)
{
    if (t->n_rows == 0)
        return NULL;
    const uint64_t h = hash(t->seed, (uint64_t)key), tag = h << 32;
    for (uint64_t place = place_of(t, h); t->slot[place]; place = next_place(t, place)) {
        const uint64_t slot = t->slot[place], row = (slot & UINT32_MAX) - 1;
        if ((slot ^ tag) >> 32)
            continue;
        const hs_dynemb_part *part = part_of(t, row);
        if (key_at(part, row) == (uint64_t)key) /* maps begin at a page, so rows are aligned */
            return (const float *)(const void *)(part->values.data + 4 * t->dim * (row - part->first_row));
    }
    return NULL;
}

/* ---- Sizes ------------------------------------------------------------------------------------------------------ */

static hstu_status check_keys(hs_dynemb *t, uint32_t rank, hstu_error *err)
{
    hs_dynemb_part *part = &t->part[rank];
    if (part->keys.size % 8 != 0)
        return hs_fail(err, HSTU_EFORMAT, part->keys.size, "%.200s/%.120s: %zu bytes, expected keys of 8 bytes each",
            t->folder, name_of(t, "keys", rank).text, part->keys.size);
    part->n_rows = part->keys.size / 8;
    part->first_row = t->n_rows;
    if (part->n_rows > max_rows - t->n_rows)
        return hs_fail(err, HSTU_EUNSUP, 0, "%.200s: the table '%.100s' has more than %" PRIu64 " keys", t->folder,
            t->name, max_rows);
    t->n_rows += part->n_rows;
    return HSTU_OK;
}

static hstu_status check_values(hs_dynemb *t, uint32_t rank, hstu_error *err)
{
    const hs_dynemb_part *part = &t->part[rank];
    const uint64_t n = part->n_rows, size = part->values.size;
    if (t->dim == 0 && n && size % (4 * n) == 0 && size / (4 * n) <= HS_DYNEMB_MAX_DIM)
        t->dim = size / (4 * n); /* still 0 for an empty file */
    if (t->dim == 0 && n)
        return hs_fail(err, HSTU_EFORMAT, size,
            "%.200s/%.120s: %" PRIu64 " bytes for %" PRIu64 " keys, expected rows of 1 to %d floats", t->folder,
            name_of(t, "values", rank).text, size, n, HS_DYNEMB_MAX_DIM);
    if (size != 4 * t->dim * n)
        return hs_fail(err, HSTU_EFORMAT, size,
            "%.200s/%.120s: %" PRIu64 " bytes for %" PRIu64 " keys, expected %" PRIu64 " (rows of %" PRIu64 " floats)",
            t->folder, name_of(t, "values", rank).text, size, n, 4 * t->dim * n, t->dim);
    return HSTU_OK;
}

hstu_status hs_dynemb_index(hs_dynemb *t, uint64_t dim, hstu_error *err)
{
    if (dim > HS_DYNEMB_MAX_DIM)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%.200s: rows of %" PRIu64 " floats for the table '%.100s', at most %d are supported", t->folder, dim,
            t->name, HS_DYNEMB_MAX_DIM);
    t->dim = dim;
    for (uint32_t r = 0; r < t->world_size; r++)
        HS_TRY(check_keys(t, r, err));
    for (uint32_t r = 0; r < t->world_size; r++)
        HS_TRY(check_values(t, r, err));
    return build_index(t, err);
}

/* ---- Opening ---------------------------------------------------------------------------------------------------- */

/* The world size that the names of the table's files agree on. */
static hstu_status find_world_size(hs_dynemb *t, const hs_folder *listing, hstu_error *err)
{
    const char *first = NULL;
    const size_t table_bytes = strlen(t->name);
    for (size_t i = 0; i < listing->n; i++) {
        const char *name = listing->name[i];
        hs_dynemb_file file;
        if (!hs_dynemb_parse_name(&file, name) || file.table_bytes != table_bytes ||
            memcmp(name, t->name, table_bytes) != 0)
            continue;
        if (file.world_size == 0 || file.world_size > HS_DYNEMB_MAX_RANKS || file.rank >= file.world_size)
            return hs_fail(err, HSTU_EFORMAT, 0, "%.200s/%.200s: expected a world size of 1 to %d and a rank below it",
                t->folder, name, HS_DYNEMB_MAX_RANKS);
        if (first && file.world_size != t->world_size)
            return hs_fail(err, HSTU_EFORMAT, 0, "%.150s: files of two world sizes stand together, %.120s and %.120s",
                t->folder, first, name);
        first = name;
        t->world_size = file.world_size;
    }
    if (!first)
        return hs_fail(err, HSTU_ENOENT, 0, "%.200s: there is no key file of the table '%.100s'", t->folder, t->name);
    return HSTU_OK;
}

static hstu_status map_file(
    hs_mapfile *out, const hs_dynemb *t, const hs_folder *listing, const char *what, uint32_t rank, hstu_error *err)
{
    hs_path path;
    const part_name name = name_of(t, what, rank);
    if (!hs_folder_has(listing, name.text))
        return hs_fail(err, HSTU_EFORMAT, 0,
            "%.200s: rank %" PRIu32 " of the table '%.80s' is not complete: there is no %.120s", t->folder, rank,
            t->name, name.text);
    HS_TRY(hs_path_join(&path, t->folder, name.text, err));
    return hs_mapfile_open(out, path.text, err);
}

hstu_status hs_dynemb_open(
    hs_dynemb *out, const char *folder, const hs_folder *listing, const char *table, uint64_t dim, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hs_dynemb t = {.folder = hs_strndup(folder, strlen(folder)), .name = hs_strndup(table, strlen(table))};
    if (!t.folder || !t.name) {
        status = hs_fail_nomem(err, strlen(folder) + strlen(table) + 2, "a name");
        goto fail;
    }
    HS_TRY_GOTO(find_world_size(&t, listing, err));
    t.part = hs_calloc(t.world_size, sizeof *t.part);
    if (!t.part) {
        status = hs_fail_nomem(err, t.world_size * sizeof *t.part, "the ranks of an embedding table");
        goto fail;
    }
    for (uint32_t r = 0; r < t.world_size; r++) {
        HS_TRY_GOTO(map_file(&t.part[r].keys, &t, listing, "keys", r, err));
        HS_TRY_GOTO(map_file(&t.part[r].values, &t, listing, "values", r, err));
        hs_mapfile_expect_random(&t.part[r].values);
    }
    HS_TRY_GOTO(hs_dynemb_index(&t, dim, err));
    *out = t;
    return HSTU_OK;
fail:
    hs_dynemb_close(&t);
    return status;
}

void hs_dynemb_close(hs_dynemb *t)
{
    for (uint32_t r = 0; t->part && r < t->world_size; r++) {
        hs_mapfile_close(&t->part[r].keys);
        hs_mapfile_close(&t->part[r].values);
    }
    hs_free(t->part);
    hs_free(t->slot);
    hs_free(t->folder);
    hs_free(t->name);
    *t = (hs_dynemb){0};
}
