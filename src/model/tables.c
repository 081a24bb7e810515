/* Embedding tables of ranking models: found among tensors, held against the configuration, or made of random rows. */
#include "model/tables.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/system.h"
#include "model/family.h"
#include "model/init.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Streams of random numbers behind those of any list of dense weights. */
static const uint64_t first_stream = (uint64_t)1 << 32;

hs_table_tensor hs_table_tensor_of(const hs_config *config, const char *name, int *table)
{
    static const struct {
        const char *suffix;
        hs_table_tensor tensor;
        bool dynamic;
    } tensors[] = {
        {".weight", HS_TABLE_WEIGHT, false}, {".keys", HS_TABLE_KEYS, true}, {".values", HS_TABLE_VALUES, true}};
    if (strncmp(name, HS_TABLE_PREFIX, strlen(HS_TABLE_PREFIX)) != 0)
        return HS_TABLE_NONE;
    const char *rest = name + strlen(HS_TABLE_PREFIX);
    for (int i = 0; i < config->n_tables; i++) {
        const hs_config_table *t = &config->table[i];
        const size_t n = strlen(t->name);
        if (strncmp(rest, t->name, n) != 0)
            continue;
        for (size_t k = 0; k < sizeof tensors / sizeof tensors[0]; k++) {
            if (tensors[k].dynamic == t->dynamic && strcmp(rest + n, tensors[k].suffix) == 0) {
                *table = i;
                return tensors[k].tensor;
            }
        }
    }
    return HS_TABLE_NONE;
}

/* ---- from tensors ----------------------------------------------------------------------------------------------- */

/* The tensors of one table; weight or keys and values. */
typedef struct found {
    const hs_entry *keys, *values;
} found;

static hstu_status fail_tensor(const hs_entry *e, const char *expected, const char *path, hstu_error *err)
{
    char shape[96];
    return hs_fail(err, HSTU_ESHAPE, 0, "%.150s: tensor '%.100s' is %s %s, expected %s", path, e->name,
        hs_dtype_name(e->tensor.dtype), hs_tensor_shape_text(&e->tensor, shape, sizeof shape), expected);
}

static hstu_status check_found(const found *f, const hs_config_table *t, const char *path, hstu_error *err)
{
    if (!f->values || (t->dynamic && !f->keys))
        return hs_fail(err, HSTU_ESHAPE, 0, "%.150s: the %s table '%s' lacks its tensor '" HS_TABLE_PREFIX "%s.%s'",
            path, t->dynamic ? "dynamic" : "static", t->name, t->name,
            !t->dynamic  ? "weight"
            : !f->values ? "values"
                         : "keys");
    const hs_tensor *v = &f->values->tensor;
    if (v->rank != 2 || (v->dtype != HS_F32 && v->dtype != HS_BF16) || !hs_tensor_contiguous(v))
        return fail_tensor(f->values, "rows of fp32 or bf16", path, err);
    if (!t->dynamic)
        return HSTU_OK;
    const hs_tensor *k = &f->keys->tensor;
    if (k->rank != 1 || k->dtype != HS_I64 || !hs_tensor_contiguous(k) || k->shape[0] != v->shape[0])
        return fail_tensor(f->keys, "one int64 key for each row of values", path, err);
    return HSTU_OK;
}

static hstu_status make_view(hs_table *out, const found *f, const hs_config_table *t, const char *path, hstu_error *err)
{
    HS_TRY(check_found(f, t, path, err));
    const hs_tensor *v = &f->values->tensor;
    HS_TRY(hs_table_make(out, t->name, v->dtype, t->dynamic, (uint64_t)v->shape[1], 1, err));
    out->part[0] = (hs_table_part){
        .keys = t->dynamic ? f->keys->tensor.data : NULL, .values = v->data, .n_rows = (uint64_t)v->shape[0]};
    return hs_table_finish(out, path, err);
}

hstu_status hs_tables_from_dict(
    hs_table *out, const hs_config *config, const hs_statedict *dict, const char *group, hstu_error *err)
{
    found f[HS_MAX_FEATURES] = {{NULL, NULL}};
    for (size_t i = 0; i < dict->n_entries; i++) {
        const hs_entry *e = &dict->entry[i];
        int table = 0;
        if (strcmp(e->group, group) != 0)
            continue;
        const hs_table_tensor tensor = hs_table_tensor_of(config, hs_family_peel(e->name), &table);
        const hs_entry **place = tensor == HS_TABLE_KEYS ? &f[table].keys : &f[table].values;
        if (tensor == HS_TABLE_NONE)
            continue;
        if (*place) /* names that differ in their wrappers' prefixes */
            return hs_fail(err, HSTU_ESHAPE, 0, "%.150s: the tensors '%.120s' and '%.120s' are one, expected it once",
                dict->path, (*place)->name, e->name);
        *place = e;
    }
    for (int i = 0; i < config->n_tables; i++) {
        const hstu_status status = make_view(&out[i], &f[i], &config->table[i], dict->path, err);
        if (status == HSTU_OK)
            continue;
        for (int k = 0; k <= i; k++)
            hs_table_close(&out[k]);
        return status;
    }
    return HSTU_OK;
}

/* ---- against the configuration ---------------------------------------------------------------------------------- */

static hstu_status settle_rows(hs_config *config, int i, const hs_table *table, const char *where, hstu_error *err)
{
    hs_config_table *t = &config->table[i];
    const int64_t rows = (int64_t)table->n_rows;
    if (t->dynamic)
        return HSTU_OK;
    if (t->rows != 0 && t->rows != rows && t->reference_rows != rows)
        return hs_fail(err, HSTU_EINVAL, 0, "%.150s: table '%s' has %" PRId64 " rows, but %.150s says %" PRId64, where,
            t->name, rows, config->source, t->rows);
    t->rows = rows;
    t->reference_rows = 0;
    return HSTU_OK;
}

hstu_status hs_tables_settle(hs_config *config, const hs_table *table, const char *where, hstu_error *err)
{
    for (int i = 0; i < config->n_tables; i++) {
        const hs_table *t = &table[i];
        HS_TRY(settle_rows(config, i, t, where, err));
        if (t->dim == 0 && t->n_rows == 0)
            continue; /* an empty dynamic table */
        if (t->dim != (uint64_t)config->item_embedding_dim)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%.150s: table '%s' has rows of %" PRIu64 " values, but hidden_size is %" PRId64, where,
                config->table[i].name, t->dim, config->item_embedding_dim);
        if (t->type != table[0].type)
            return hs_fail(err, HSTU_EUNSUP, 0,
                "%.150s: table '%s' holds %s and table '%s' %s: all tables must have one type", where,
                config->table[0].name, hs_dtype_name(table[0].type), config->table[i].name, hs_dtype_name(t->type));
    }
    return HSTU_OK;
}

/* ---- random rows ------------------------------------------------------------------------------------------------ */

static int64_t random_rows(const hs_config *config, const hs_config_table *t, int64_t n_items, int64_t n_users)
{
    if (t->rows)
        return t->rows;
    return strcmp(t->name, config->item.table) == 0 ? n_items : n_users;
}

static hstu_status check_memory(const hs_config *config, int64_t n_items, int64_t n_users, hstu_error *err)
{
    double need = 0;
    for (int i = 0; i < config->n_tables; i++)
        need += (double)random_rows(config, &config->table[i], n_items, n_users);
    need *= (double)config->item_embedding_dim * (double)sizeof(float);
    const double have = (double)hs_system_memory_bytes();
    if (need <= have)
        return HSTU_OK;
    return hs_fail(err, HSTU_ENOMEM, 0,
        "%s: random embedding tables for %" PRId64 " items and %" PRId64
        " users need %.1f GB, but %.1f GB are available",
        config->source, n_items, n_users, need * 1e-9, have * 1e-9);
}

/* A dynamic table's keys are its row numbers, so that it needs no index. */
static hstu_status make_random(hs_table *out, const hs_config *config, hs_device *dev, const hs_config_table *t,
    int64_t rows, uint64_t seed, uint64_t stream, hstu_error *err)
{
    const int64_t n = rows * config->item_embedding_dim;
    HS_TRY(hs_table_make(out, t->name, HS_F32, false, (uint64_t)config->item_embedding_dim, 1, err));
    out->memory = hs_alloc_aligned((size_t)n, sizeof(float));
    if (!out->memory)
        return hs_fail_nomem(err, (size_t)n * sizeof(float), t->name);
    hs_init_fill(dev, out->memory, n, HS_INIT_UNIFORM, 1.0 / sqrt((double)rows), seed, stream);
    out->part[0] = (hs_table_part){.values = out->memory, .n_rows = (uint64_t)rows};
    return hs_table_finish(out, config->source, err);
}

hstu_status hs_tables_random(hs_table *out, const hs_config *config, hs_device *dev, uint64_t seed, int64_t n_items,
    int64_t n_users, hstu_error *err)
{
    for (int i = 0; i < config->n_tables; i++) {
        if (random_rows(config, &config->table[i], n_items, n_users) < 1)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s does not say how many rows table '%s' has: random weights need the options max_item_id and "
                "max_user_id",
                config->source, config->table[i].name);
    }
    HS_TRY(check_memory(config, n_items, n_users, err));
    for (int i = 0; i < config->n_tables; i++) {
        const hs_config_table *t = &config->table[i];
        HS_TRY(make_random(
            &out[i], config, dev, t, random_rows(config, t, n_items, n_users), seed, first_stream + (uint64_t)i, err));
    }
    return HSTU_OK;
}

void hs_tables_close(hs_table *table, int n)
{
    for (int i = 0; table && i < n; i++)
        hs_table_close(&table[i]);
    hs_free(table);
}
