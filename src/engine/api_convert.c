/* hstu_checkpoint_convert: a checkpoint becomes one safetensors file that holds everything a run needs. */
#include "hstu/checkpoint.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "base/json.h"
#include "data/feedback.h"
#include "engine/engine.h"
#include "file/safetensors.h"
#include "model/bind.h"
#include "model/tables.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 1 << 18 /* elements */, ALIGNMENT = 64, NAME_BYTES = HS_WEIGHT_NAME_BYTES + HS_MAX_FEATURE_NAME };

/* A tensor of the file that is written. */
typedef struct stored {
    char name[NAME_BYTES];
    hs_dtype dtype;
    int rank;
    int64_t shape[3];
    const hs_tensor *tensor; /* a dense weight; NULL for a table's */
    const hs_table *table;   /* its rows, or, of the type int64, its keys */
    const hs_dynemb *files;  /* the table's own, of a folder; or NULL */
} stored;

typedef struct conversion {
    const hs_config *config;
    const char *path; /* of the checkpoint, for errors */
    const hs_mapfile *map;
    hs_dtype dtype;
    stored *tensor; /* [n] in the order of the file */
    size_t n;
    hs_safetensors_writer *writer;
    float *values;     /* [piece]: a piece of one tensor */
    uint16_t *rounded; /* [piece] */
    const hstu_progress *progress;
    uint64_t done_bytes, total_bytes;
} conversion;

void hstu_convert_options_init(hstu_convert_options *options)
{
    *options = (hstu_convert_options){.size = sizeof *options, .dtype = "fp32"};
}

static hstu_status read_dtype(hs_dtype *out, const char *name, hstu_error *err)
{
    if (!name || strcmp(name, "fp32") == 0 || strcmp(name, "float32") == 0)
        *out = HS_F32;
    else if (strcmp(name, "bf16") == 0 || strcmp(name, "bfloat16") == 0)
        *out = HS_BF16;
    else
        return hs_fail(
            err, HSTU_EUNSUP, 0, "dtype '%.40s': converted weights are stored in fp32 or bf16, nothing else", name);
    return HSTU_OK;
}

/* ---- What is written -------------------------------------------------------------------------------------------- */

static int64_t row_elements(const stored *t)
{
    int64_t n = 1;
    for (int d = 1; d < t->rank; d++)
        n *= t->shape[d];
    return n;
}

static uint64_t bytes_of(const stored *t)
{
    return (uint64_t)(t->shape[0] * row_elements(t)) * hs_dtype_bytes(t->dtype);
}

static void list_weights(conversion *c, const hs_binding *binding)
{
    for (size_t i = 0; i < binding->n_weights; i++) {
        const hs_weight *w = &binding->weight[i];
        stored *t = &c->tensor[c->n++];
        *t = (stored){.dtype = c->dtype, .rank = w->rank, .tensor = &binding->entry[i]->tensor};
        (void)snprintf(t->name, sizeof t->name, "%s", w->name);
        memcpy(t->shape, w->shape, sizeof t->shape);
    }
}

/* The files that hold the rows of the table, when it is a dynamic one of a folder. */
static const hs_dynemb *files_of(const hs_nvdir *folder, const hs_config_table *named)
{
    for (size_t i = 0; i < folder->n_tables; i++) {
        if (folder->table[i].dynamic && strcmp(folder->table[i].name, named->name) == 0)
            return folder->table[i].dynamic;
    }
    return NULL;
}

static void list_table(conversion *c, const hs_config_table *named, const hs_table *table, const hs_dynemb *files)
{
    stored *t = &c->tensor[c->n++];
    const int64_t rows = (int64_t)table->n_rows;
    *t = (stored){
        .dtype = c->dtype, .rank = 2, .shape = {rows, c->config->item_embedding_dim}, .table = table, .files = files};
    (void)snprintf(t->name, sizeof t->name, HS_TABLE_PREFIX "%s.%s", named->name, named->dynamic ? "values" : "weight");
    if (!named->dynamic)
        return;
    t = &c->tensor[c->n++];
    *t = (stored){.dtype = HS_I64, .rank = 1, .shape = {rows}, .table = table};
    (void)snprintf(t->name, sizeof t->name, HS_TABLE_PREFIX "%s.keys", named->name);
}

/* The format allows no gaps, so what is a multiple of the alignment goes first. The item table heads the list of weights: it
 * begins at such a multiple whatever its size. */
static hstu_status choose_order(conversion *c, hstu_error *err)
{
    stored *ordered = hs_alloc(c->n, sizeof *ordered);
    if (!ordered)
        return hs_fail_nomem(err, c->n * sizeof *ordered, "the order of tensors");
    size_t at = 0;
    for (int odd = 0; odd < 2; odd++) {
        for (size_t i = 0; i < c->n; i++) {
            if ((bytes_of(&c->tensor[i]) % ALIGNMENT != 0) == odd)
                ordered[at++] = c->tensor[i];
        }
    }
    hs_free(c->tensor);
    c->tensor = ordered;
    return HSTU_OK;
}

static hstu_status list_tensors(conversion *c, const hstu_model *model, const hs_binding *binding, hstu_error *err)
{
    const hs_table *table = model->model.table;
    const int n_tables = table ? c->config->n_tables : 0;
    const size_t most = binding->n_weights + 2 * (size_t)n_tables;
    c->tensor = hs_calloc(most, sizeof *c->tensor);
    if (!c->tensor)
        return hs_fail_nomem(err, most * sizeof *c->tensor, "the list of tensors");
    list_weights(c, binding);
    for (int i = 0; i < n_tables; i++)
        list_table(c, &c->config->table[i], &table[i], files_of(&model->folder, &c->config->table[i]));
    return choose_order(c, err);
}

static hstu_status make_room(conversion *c, hstu_error *err)
{
    int64_t piece = PIECE;
    for (size_t i = 0; i < c->n; i++) {
        const int64_t row = row_elements(&c->tensor[i]);
        piece = row > piece ? row : piece;
        c->total_bytes += bytes_of(&c->tensor[i]);
    }
    c->values = hs_alloc((size_t)piece, sizeof *c->values);
    c->rounded = hs_alloc((size_t)piece, sizeof *c->rounded);
    if (!c->values || !c->rounded)
        return hs_fail_nomem(err, (size_t)piece * (sizeof *c->values + sizeof *c->rounded), "a piece of a tensor");
    return HSTU_OK;
}

static hstu_status declare_all(conversion *c, hstu_error *err)
{
    char *json = hs_config_to_json(c->config);
    if (!json)
        return hs_fail_nomem(err, 0, "the configuration");
    cJSON_Minify(json);
    const hstu_status status = hs_safetensors_add_metadata(c->writer, HS_CONFIG_METADATA_KEY, json, err);
    hs_free(json);
    HS_TRY(status);
    for (size_t i = 0; i < c->n; i++) {
        const stored *t = &c->tensor[i];
        HS_TRY(hs_safetensors_add_tensor(c->writer, t->name, t->dtype, t->rank, t->shape, err));
    }
    return HSTU_OK;
}

/* ---- Bytes ------------------------------------------------------------------------------------------------------ */

/* Weights are finite, but the largest fp32 values lie nearer to infinity than to the largest bf16 value. Table rows may hold
 * anything. */
static hstu_status round_piece(conversion *c, const char *name, int64_t first, int64_t n, hstu_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        c->rounded[i] = hs_f32_to_bf16(c->values[i]);
        if ((c->rounded[i] & 0x7f80u) == 0x7f80u)
            return hs_fail(err, HSTU_EINVAL, 0, "%.200s: tensor '%s' holds %.9g at element %" PRId64 ", which is %s",
                c->path, name, (double)c->values[i], first + i,
                isfinite(c->values[i]) ? "too large for bf16" : "no finite number");
    }
    return HSTU_OK;
}

static hstu_status write_bytes(conversion *c, const void *data, size_t bytes, hstu_error *err)
{
    HS_TRY(hs_safetensors_write(c->writer, data, bytes, err));
    c->done_bytes += bytes;
    hs_progress_step(c->progress, "writing", c->done_bytes, c->total_bytes);
    return hs_progress_check(c->progress, err);
}

/* Some rows of a tensor, row first_row of the stored one on. */
static hstu_status write_piece(
    conversion *c, const stored *to, const hs_tensor *part, int64_t first_row, hstu_error *err)
{
    const int64_t row = row_elements(to), n = part->shape[0] * row;
    hs_tensor_to_f32(part, c->values);
    if (to->dtype != HS_BF16)
        return write_bytes(c, c->values, (size_t)n * sizeof *c->values, err);
    HS_TRY(round_piece(c, to->name, first_row * row, n, err));
    return write_bytes(c, c->rounded, (size_t)n * sizeof *c->rounded, err);
}

/* All rows of `t`, the first of which is row `first_row` of the stored tensor. They may be far more than memory: what has been
 * written is given back to the map. */
static hstu_status write_rows(
    conversion *c, const stored *to, const hs_tensor *t, int64_t first_row, const hs_mapfile *map, hstu_error *err)
{
    const size_t row_bytes = (size_t)t->stride[0] * hs_dtype_bytes(t->dtype);
    const int64_t row = row_elements(to), most = row >= PIECE ? 1 : PIECE / row;
    for (int64_t first = 0; first < t->shape[0]; first += most) {
        const int64_t left = t->shape[0] - first;
        hs_tensor part = *t;
        part.shape[0] = left < most ? left : most;
        part.data = (const char *)t->data + (size_t)first * row_bytes;
        HS_TRY(write_piece(c, to, &part, first_row + first, err));
        hs_mapfile_release(map, part.data, (size_t)part.shape[0] * row_bytes);
    }
    return HSTU_OK;
}

static hstu_status write_keys(conversion *c, const hs_table_part *part, hstu_error *err)
{
    for (uint64_t first = 0; first < part->n_rows; first += PIECE) {
        const uint64_t left = part->n_rows - first, n = left < PIECE ? left : PIECE;
        HS_TRY(write_bytes(c, (const char *)part->keys + first * sizeof(int64_t), n * sizeof(int64_t), err));
    }
    return HSTU_OK;
}

static hstu_status write_table(conversion *c, const stored *to, hstu_error *err)
{
    const hs_table *table = to->table;
    for (size_t p = 0; p < table->n_parts; p++) {
        const hs_table_part *part = &table->part[p];
        const hs_tensor rows = {.dtype = table->type,
            .rank = 2,
            .shape = {(int64_t)part->n_rows, (int64_t)table->dim},
            .stride = {(int64_t)table->dim, 1},
            .data = part->values};
        const hs_mapfile *map = to->files ? &to->files->rank[p].values : c->map;
        if (to->dtype == HS_I64) {
            HS_TRY(write_keys(c, part, err));
            continue;
        }
        if (to->files)
            hs_mapfile_expect_scan(map);
        HS_TRY(write_rows(c, to, &rows, (int64_t)part->first_row, map, err));
    }
    return HSTU_OK;
}

static hstu_status write_file(
    conversion *c, const hstu_model *model, const hs_binding *binding, const char *out, hstu_error *err)
{
    HS_TRY(list_tensors(c, model, binding, err));
    HS_TRY(make_room(c, err));
    HS_TRY(hs_safetensors_create(&c->writer, out, err));
    HS_TRY(declare_all(c, err));
    for (size_t i = 0; i < c->n; i++) {
        const stored *t = &c->tensor[i];
        HS_TRY(t->tensor ? write_rows(c, t, t->tensor, 0, c->map, err) : write_table(c, t, err));
    }
    hs_safetensors_writer *writer = c->writer;
    c->writer = NULL;
    return hs_safetensors_commit(writer, err);
}

static hstu_status convert_model(
    const hstu_model *model, const char *out, hs_dtype dtype, const hstu_progress *progress, hstu_error *err)
{
    conversion c = {.config = &model->model.config,
        .path = model->path,
        .map = &model->dict.map,
        .dtype = dtype,
        .progress = progress};
    hs_binding binding = {0};
    HS_TRY(hs_binding_make(&binding, &model->dict, &model->recognised, c.config, NULL, err));
    const hstu_status status = write_file(&c, model, &binding, out, err);
    hs_safetensors_discard(c.writer);
    hs_binding_free(&binding);
    hs_free(c.tensor);
    hs_free(c.values);
    hs_free(c.rounded);
    return status;
}

bool hs_engine_reads(const hstu_model *model, const char *path)
{
    for (uint32_t r = 0; r < model->folder.n_ranks; r++) {
        if (hs_mapfile_same(model->folder.rank[r].path, path))
            return true;
    }
    for (size_t i = 0; i < model->folder.n_tables; i++) {
        if (model->folder.table[i].dynamic && hs_dynemb_reads(model->folder.table[i].dynamic, path))
            return true;
    }
    return (model->path && hs_mapfile_same(model->path, path)) ||
           (model->config && hs_mapfile_same(model->config, path));
}

hstu_status hstu_checkpoint_convert(
    const char *in, const char *out, const hstu_convert_options *options, hstu_error *err)
{
    hstu_convert_options o;
    hstu_model_options open;
    hs_dtype dtype = HS_F32;
    hstu_model *model = NULL;
    hstu_convert_options_init(&o);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_convert_options_init", err));
    HS_TRY(read_dtype(&dtype, o.dtype, err));
    hstu_model_options_init(&open);
    open.config = o.config;
    /* Opening is the check: what cannot be run is not converted, and the sentence is the same. */
    HS_TRY(hstu_model_open(&model, in, &open, err));
    const hstu_status status =
        hs_engine_reads(model, out)
            ? hs_fail(err, HSTU_EINVAL, 0,
                  "%.200s is a file that the conversion reads: expected another name for the result", out)
            : convert_model(model, out, dtype, &o.progress, err);
    hstu_model_close(model);
    return status;
}
