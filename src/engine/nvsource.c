/* A checkpoint folder of NVIDIA's as a model's source: its tables in the order of the configuration. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"
#include "model/tables.h"

#include <inttypes.h>
#include <string.h>

/* The tables found so far. */
typedef struct reader {
    hs_nvdir *dir;
    const hs_config *config;
    hs_table *table;             /* [config->n_tables] */
    bool found[HS_MAX_FEATURES]; /* [config->n_tables] */
} reader;

/* The place of the configured table of this name, which the folder holds as `dynamic` or not. */
static hstu_status claim(reader *r, const char *name, size_t name_bytes, bool dynamic, int *place, hstu_error *err)
{
    const char *folder = r->dir->folder.text, *kind[] = {"static", "dynamic"};
    const hs_config *c = r->config;
    int i = 0;
    while (i < c->n_tables && (strncmp(c->table[i].name, name, name_bytes) != 0 || c->table[i].name[name_bytes]))
        i++;
    if (i == c->n_tables)
        return hs_fail(err, HSTU_EINVAL, 0, "%.250s holds the %s table '%.*s', which %.150s does not name", folder,
            kind[dynamic], name_bytes < 100 ? (int)name_bytes : 100, name, c->source);
    if (c->table[i].dynamic != dynamic)
        return hs_fail(err, HSTU_EINVAL, 0, "%.250s holds the %s table '%s', which %.150s calls %s", folder,
            kind[dynamic], c->table[i].name, c->source, kind[!dynamic]);
    if (r->found[i])
        return hs_fail(err, HSTU_EFORMAT, 0, "%.250s holds the table '%s' twice", folder, c->table[i].name);
    r->found[i] = true;
    *place = i;
    return HSTU_OK;
}

/* The tables that share one tensor. */
typedef struct joined {
    const hs_nvdir_table *from;
    int place[HS_MAX_FEATURES]; /* [n] */
    uint64_t rows[HS_MAX_FEATURES];
    size_t n;
} joined;

static hstu_status claim_joined(reader *r, joined *j, const hs_nvdir_table *from, hstu_error *err)
{
    const char *name = from->name, *end = name;
    *j = (joined){.from = from};
    for (;; name = end + 1) {
        const size_t bytes = strcspn(name, "/");
        end = name + bytes;
        /* Each place is claimed once, so that no more than the configuration's tables can come here. */
        HS_TRY(claim(r, name, bytes, false, &j->place[j->n], err));
        j->n++;
        if (!*end || j->n == HS_MAX_FEATURES)
            break;
    }
    return HSTU_OK;
}

/* Rows as configured, or those of the reference; a single table that the configuration leaves open takes what is left. False
 * when they do not fit. */
static bool choose_rows(const reader *r, joined *j, bool reference)
{
    uint64_t sum = 0;
    size_t open = j->n;
    for (size_t i = 0; i < j->n; i++) {
        const hs_config_table *t = &r->config->table[j->place[i]];
        const int64_t rows = reference && t->reference_rows ? t->reference_rows : t->rows;
        if (rows == 0 && open < j->n)
            return false;
        open = rows == 0 ? i : open;
        j->rows[i] = (uint64_t)rows;
        sum += (uint64_t)rows;
    }
    if (open == j->n)
        return sum == j->from->rows;
    if (sum >= j->from->rows)
        return false;
    j->rows[open] = j->from->rows - sum;
    return true;
}

static hstu_status fail_rows(const reader *r, const joined *j, hstu_error *err)
{
    uint64_t rows = 0, reference = 0;
    size_t n_open = 0;
    for (size_t i = 0; i < j->n; i++) {
        const hs_config_table *t = &r->config->table[j->place[i]];
        n_open += t->rows == 0;
        rows += (uint64_t)t->rows;
        reference += (uint64_t)(t->reference_rows ? t->reference_rows : t->rows);
    }
    if (n_open)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.150s: the static tables '%.200s' have %" PRIu64
            " rows, but %.100s leaves open how many %zu of them have "
            "and gives %" PRIu64 " to the others: expected one open table at most, and rows left for it",
            r->dir->folder.text, j->from->name, j->from->rows, r->config->source, n_open, rows);
    if (reference != rows)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.150s: the static tables '%.200s' have %" PRIu64 " rows, but %.100s says %" PRIu64
            " (or, as the reference, %" PRIu64 ")",
            r->dir->folder.text, j->from->name, j->from->rows, r->config->source, rows, reference);
    return hs_fail(err, HSTU_EINVAL, 0,
        "%.150s: the static tables '%.200s' have %" PRIu64 " rows, but %.100s says %" PRIu64, r->dir->folder.text,
        j->from->name, j->from->rows, r->config->source, rows);
}

static hstu_status read_static(reader *r, const hs_nvdir_table *from, hstu_error *err)
{
    joined j;
    hs_table part[HS_MAX_FEATURES] = {{0}};
    HS_TRY(claim_joined(r, &j, from, err));
    if (!choose_rows(r, &j, false) && !choose_rows(r, &j, true))
        return fail_rows(r, &j, err);
    char *names = hs_arena_alloc(&r->dir->arena, strlen(from->name) + 1, 1);
    if (!names)
        return hs_fail_nomem(err, strlen(from->name) + 1, "the names of tables");
    HS_TRY(hs_nvdir_split(part, names, from, j.rows, j.n, r->dir->folder.text, err));
    for (size_t i = 0; i < j.n; i++)
        r->table[j.place[i]] = part[i];
    return HSTU_OK;
}

/* The folder keeps the maps, the reader takes the index. */
static hstu_status read_dynamic(reader *r, const hs_nvdir_table *from, hstu_error *err)
{
    int place = 0;
    HS_TRY(claim(r, from->name, strlen(from->name), true, &place, err));
    if (!from->dynamic)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.250s: the weights name the dynamic table '%.100s', but dynamicemb_module holds no files of it",
            r->dir->folder.text, from->name);
    r->table[place] = from->dynamic->table;
    from->dynamic->table = (hs_table){0};
    return HSTU_OK;
}

static hstu_status read_tables(reader *r, hstu_error *err)
{
    for (size_t i = 0; i < r->dir->n_tables; i++) {
        const hs_nvdir_table *from = &r->dir->table[i];
        if (from->flat)
            HS_TRY(read_static(r, from, err));
        else
            HS_TRY(read_dynamic(r, from, err));
    }
    for (int i = 0; i < r->config->n_tables; i++) {
        if (!r->found[i])
            return hs_fail(err, HSTU_EINVAL, 0, "%.250s lacks the %s table '%s', which %.150s names",
                r->dir->folder.text, r->config->table[i].dynamic ? "dynamic" : "static", r->config->table[i].name,
                r->config->source);
    }
    return HSTU_OK;
}

hstu_status hs_engine_read_folder(
    hs_nvdir *dir, const hs_config *config, hs_statedict *dict, hs_table **table, hstu_error *err)
{
    reader r = {.dir = dir, .config = config};
    hstu_status status = HSTU_OK;
    if (config->family != HS_CONFIG_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.250s: a ranking checkpoint, but %.150s is a configuration of the family \"%s\"", dir->folder.text,
            config->source, hs_engine_family_name(config));
    if (dir->layout != HS_NVDIR_FUSED && config->dqk == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.200s does not say kv_channels, the size of a head, by which the layers of %.250s are laid out (%s)",
            config->source, dir->folder.text, hs_nvdir_layout_name(dir->layout));
    HS_TRY(hs_nvdir_weights(dict, dir, config->dqk, err));
    r.table = hs_calloc((size_t)config->n_tables, sizeof *r.table);
    if (!r.table) {
        status = hs_fail_nomem(err, (size_t)config->n_tables * sizeof *r.table, "the embedding tables");
        goto fail;
    }
    HS_TRY_GOTO(read_tables(&r, err));
    *table = r.table;
    return HSTU_OK;
fail:
    hs_tables_close(r.table, config->n_tables);
    return status;
}
