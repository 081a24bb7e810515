/* Dynamic embedding tables: which files belong to one, whether their sizes fit.
 * Source of the layout: the dump of NVIDIA's DynamicEmb; docs/formats.md. */
#include "ckpt/dynemb.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- File names ------------------------------------------------------------------------------------------------- */

typedef struct part_name {
    char text[HS_DYNEMB_MAX_NAME + 64];
} part_name;

static part_name name_of(const hs_dynemb *d, const char *what, uint32_t rank)
{
    part_name name;
    (void)snprintf(name.text, sizeof name.text, "%s_emb_%s.rank_%" PRIu32 ".world_size_%" PRIu32, d->name, what, rank,
        d->world_size);
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

/* ---- Sizes ------------------------------------------------------------------------------------------------------ */

/* Told by the first rank that holds keys; 0 when none does. */
static hstu_status find_width(uint64_t *dim, const hs_dynemb *d, hstu_error *err)
{
    for (uint32_t r = 0; r < d->world_size && *dim == 0; r++) {
        const uint64_t n = d->rank[r].keys.size / 8, size = d->rank[r].values.size;
        if (n == 0)
            continue;
        if (size == 0 || size % (4 * n) != 0 || size / (4 * n) > HS_DYNEMB_MAX_DIM)
            return hs_fail(err, HSTU_EFORMAT, size,
                "%.200s/%.120s: %" PRIu64 " bytes for %" PRIu64 " keys, expected rows of 1 to %d floats", d->folder,
                name_of(d, "values", r).text, size, n, HS_DYNEMB_MAX_DIM);
        *dim = size / (4 * n);
    }
    return HSTU_OK;
}

static hstu_status check_keys(const hs_dynemb *d, uint32_t rank, hstu_error *err)
{
    const size_t size = d->rank[rank].keys.size;
    if (size % 8 != 0)
        return hs_fail(err, HSTU_EFORMAT, size, "%.200s/%.120s: %zu bytes, expected keys of 8 bytes each", d->folder,
            name_of(d, "keys", rank).text, size);
    return HSTU_OK;
}

static hstu_status check_values(const hs_dynemb *d, uint32_t rank, uint64_t dim, hstu_error *err)
{
    const uint64_t n = d->rank[rank].keys.size / 8, size = d->rank[rank].values.size;
    if (size % 4 != 0 || (dim == 0 ? size != 0 : size / 4 / dim != n || size / 4 % dim != 0))
        return hs_fail(err, HSTU_EFORMAT, size,
            "%.200s/%.120s: %" PRIu64 " bytes for %" PRIu64 " keys, expected %" PRIu64 " (rows of %" PRIu64 " floats)",
            d->folder, name_of(d, "values", rank).text, size, n, 4 * dim * n, dim);
    return HSTU_OK;
}

/* The ranks as parts of the table. */
static hstu_status make_table(hs_dynemb *d, uint64_t dim, hstu_error *err)
{
    const size_t bytes = strlen(d->name) + sizeof(part_name) - HS_DYNEMB_MAX_NAME; /* for one name */
    HS_TRY(hs_table_make(&d->table, d->name, HS_F32, true, dim, d->world_size, err));
    d->sources = hs_alloc(d->world_size, bytes);
    if (!d->sources)
        return hs_fail_nomem(err, d->world_size * bytes, "the names of an embedding table's files");
    char *source = d->sources;
    for (uint32_t r = 0; r < d->world_size; r++) {
        const hs_dynemb_rank *rank = &d->rank[r];
        const part_name name = name_of(d, "keys", r);
        const size_t name_bytes = strlen(name.text) + 1;
        memcpy(source, name.text, name_bytes);
        d->table.part[r] = (hs_table_part){
            .keys = rank->keys.data, .values = rank->values.data, .n_rows = rank->keys.size / 8, .source = source};
        source += name_bytes;
    }
    return hs_table_finish(&d->table, d->folder, err);
}

hstu_status hs_dynemb_index(hs_dynemb *d, uint64_t dim, hstu_error *err)
{
    if (dim > HS_DYNEMB_MAX_DIM)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%.200s: rows of %" PRIu64 " floats for the table '%.100s', at most %d are supported", d->folder, dim,
            d->name, HS_DYNEMB_MAX_DIM);
    for (uint32_t r = 0; r < d->world_size; r++)
        HS_TRY(check_keys(d, r, err));
    HS_TRY(find_width(&dim, d, err));
    for (uint32_t r = 0; r < d->world_size; r++)
        HS_TRY(check_values(d, r, dim, err));
    return make_table(d, dim, err);
}

/* ---- Opening ---------------------------------------------------------------------------------------------------- */

/* The world size that the names of the table's files agree on. */
static hstu_status find_world_size(hs_dynemb *d, const hs_folder *listing, hstu_error *err)
{
    const char *first = NULL;
    const size_t table_bytes = strlen(d->name);
    for (size_t i = 0; i < listing->n; i++) {
        const char *name = listing->name[i];
        hs_dynemb_file file;
        if (!hs_dynemb_parse_name(&file, name) || file.table_bytes != table_bytes ||
            memcmp(name, d->name, table_bytes) != 0)
            continue;
        if (file.world_size == 0 || file.world_size > HS_DYNEMB_MAX_RANKS || file.rank >= file.world_size)
            return hs_fail(err, HSTU_EFORMAT, 0, "%.200s/%.200s: expected a world size of 1 to %d and a rank below it",
                d->folder, name, HS_DYNEMB_MAX_RANKS);
        if (first && file.world_size != d->world_size)
            return hs_fail(err, HSTU_EFORMAT, 0, "%.150s: files of two world sizes stand together, %.120s and %.120s",
                d->folder, first, name);
        first = name;
        d->world_size = file.world_size;
    }
    if (!first)
        return hs_fail(err, HSTU_ENOENT, 0, "%.200s: there is no key file of the table '%.100s'", d->folder, d->name);
    return HSTU_OK;
}

static hstu_status map_file(
    hs_mapfile *out, const hs_dynemb *d, const hs_folder *listing, const char *what, uint32_t rank, hstu_error *err)
{
    hs_path path;
    const part_name name = name_of(d, what, rank);
    if (!hs_folder_has(listing, name.text))
        return hs_fail(err, HSTU_EFORMAT, 0,
            "%.200s: rank %" PRIu32 " of the table '%.80s' is not complete: there is no %.120s", d->folder, rank,
            d->name, name.text);
    HS_TRY(hs_path_join(&path, d->folder, name.text, err));
    return hs_mapfile_open(out, path.text, err);
}

hstu_status hs_dynemb_open(
    hs_dynemb *out, const char *folder, const hs_folder *listing, const char *table, uint64_t dim, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hs_dynemb d = {.folder = hs_strndup(folder, strlen(folder)), .name = hs_strndup(table, strlen(table))};
    if (!d.folder || !d.name) {
        status = hs_fail_nomem(err, strlen(folder) + strlen(table) + 2, "a name");
        goto fail;
    }
    HS_TRY_GOTO(find_world_size(&d, listing, err));
    d.rank = hs_calloc(d.world_size, sizeof *d.rank);
    if (!d.rank) {
        status = hs_fail_nomem(err, d.world_size * sizeof *d.rank, "the ranks of an embedding table");
        goto fail;
    }
    for (uint32_t r = 0; r < d.world_size; r++) {
        HS_TRY_GOTO(map_file(&d.rank[r].keys, &d, listing, "keys", r, err));
        HS_TRY_GOTO(map_file(&d.rank[r].values, &d, listing, "values", r, err));
        hs_mapfile_expect_random(&d.rank[r].values);
    }
    HS_TRY_GOTO(hs_dynemb_index(&d, dim, err));
    *out = d;
    return HSTU_OK;
fail:
    hs_dynemb_close(&d);
    return status;
}

static bool is_file(const hs_dynemb *d, const char *what, uint32_t rank, const char *path)
{
    hs_path file;
    return hs_path_join(&file, d->folder, name_of(d, what, rank).text, NULL) == HSTU_OK &&
           hs_mapfile_same(file.text, path);
}

bool hs_dynemb_reads(const hs_dynemb *d, const char *path)
{
    for (uint32_t r = 0; r < d->world_size; r++) {
        if (is_file(d, "keys", r, path) || is_file(d, "values", r, path))
            return true;
    }
    return false;
}

void hs_dynemb_close(hs_dynemb *d)
{
    for (uint32_t r = 0; d->rank && r < d->world_size; r++) {
        hs_mapfile_close(&d->rank[r].keys);
        hs_mapfile_close(&d->rank[r].values);
    }
    hs_table_close(&d->table);
    hs_free(d->rank);
    hs_free(d->sources);
    hs_free(d->folder);
    hs_free(d->name);
    *d = (hs_dynemb){0};
}
