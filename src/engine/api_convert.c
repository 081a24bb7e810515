/* hstu_checkpoint_convert: a weight file becomes one safetensors file that holds everything a run needs. */
#include "hstu/checkpoint.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "base/json.h"
#include "data/feedback.h"
#include "engine/engine.h"
#include "file/safetensors.h"
#include "model/bind.h"

#include <inttypes.h>
#include <string.h>

enum { PIECE = 1 << 18 /* elements */, ALIGNMENT = 64 };

typedef struct conversion {
    const hs_config *config;
    hs_binding binding;
    hs_dtype dtype;
    size_t *order; /* [binding.n_weights]: the place in the file -> the weight */
    hs_safetensors_writer *writer;
    float *values;     /* [piece]: a piece of one weight */
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

static uint64_t bytes_of(const conversion *c, size_t weight)
{
    return (uint64_t)hs_weight_elements(&c->binding.weight[weight]) * hs_dtype_bytes(c->dtype);
}

/* The format allows no gaps, so what is a multiple of the alignment goes first. The item table heads the list of weights: it
 * begins at such a multiple whatever its size. */
static hstu_status choose_order(conversion *c, hstu_error *err)
{
    const size_t n = c->binding.n_weights;
    c->order = hs_alloc(n, sizeof *c->order);
    if (!c->order)
        return hs_fail_nomem(err, n * sizeof *c->order, "the order of tensors");
    size_t at = 0;
    for (int odd = 0; odd < 2; odd++) {
        for (size_t i = 0; i < n; i++) {
            if ((bytes_of(c, i) % ALIGNMENT != 0) == odd)
                c->order[at++] = i;
        }
    }
    return HSTU_OK;
}

static int64_t row_elements(const hs_weight *w)
{
    return hs_weight_elements(w) / w->shape[0];
}

static hstu_status make_room(conversion *c, hstu_error *err)
{
    int64_t piece = PIECE;
    for (size_t i = 0; i < c->binding.n_weights; i++) {
        const int64_t row = row_elements(&c->binding.weight[i]);
        piece = row > piece ? row : piece;
        c->total_bytes += bytes_of(c, i);
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
    for (size_t i = 0; i < c->binding.n_weights; i++) {
        const hs_weight *w = &c->binding.weight[c->order[i]];
        HS_TRY(hs_safetensors_add_tensor(c->writer, w->name, c->dtype, w->rank, w->shape, err));
    }
    return HSTU_OK;
}

/* Weights are finite, but the largest fp32 values lie nearer to infinity than to the largest bf16 value. */
static hstu_status round_piece(conversion *c, const hs_weight *w, int64_t first, int64_t n, hstu_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        c->rounded[i] = hs_f32_to_bf16(c->values[i]);
        if ((c->rounded[i] & 0x7f80u) == 0x7f80u)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%.200s: tensor '%s' holds %.9g at element %" PRId64 ", which is too large for bf16",
                c->binding.dict->path, w->name, (double)c->values[i], first + i);
    }
    return HSTU_OK;
}

static hstu_status write_piece(
    conversion *c, const hs_weight *w, const hs_tensor *t, int64_t first_row, int64_t rows, hstu_error *err)
{
    const int64_t row = row_elements(w), n = rows * row;
    hs_tensor part = *t;
    part.shape[0] = rows;
    part.data = (const char *)t->data + (size_t)(first_row * t->stride[0]) * hs_dtype_bytes(t->dtype);
    hs_tensor_to_f32(&part, c->values);
    if (c->dtype == HS_BF16)
        HS_TRY(round_piece(c, w, first_row * row, n, err));
    const size_t bytes = (size_t)n * hs_dtype_bytes(c->dtype);
    HS_TRY(hs_safetensors_write(
        c->writer, c->dtype == HS_BF16 ? (const void *)c->rounded : (const void *)c->values, bytes, err));
    c->done_bytes += bytes;
    hs_progress_step(c->progress, "writing", c->done_bytes, c->total_bytes);
    return hs_progress_check(c->progress, err);
}

static hstu_status write_weight(conversion *c, const hs_weight *w, const hs_tensor *t, hstu_error *err)
{
    const int64_t row = row_elements(w), most = row >= PIECE ? 1 : PIECE / row;
    for (int64_t first = 0; first < w->shape[0]; first += most) {
        const int64_t left = w->shape[0] - first;
        HS_TRY(write_piece(c, w, t, first, left < most ? left : most, err));
    }
    return HSTU_OK;
}

static hstu_status write_file(conversion *c, const char *out, hstu_error *err)
{
    HS_TRY(choose_order(c, err));
    HS_TRY(make_room(c, err));
    HS_TRY(hs_safetensors_create(&c->writer, out, err));
    HS_TRY(declare_all(c, err));
    for (size_t i = 0; i < c->binding.n_weights; i++) {
        const size_t weight = c->order[i];
        HS_TRY(write_weight(c, &c->binding.weight[weight], &c->binding.entry[weight]->tensor, err));
    }
    hs_safetensors_writer *writer = c->writer;
    c->writer = NULL;
    return hs_safetensors_commit(writer, err);
}

static hstu_status convert_model(
    const hstu_model *model, const char *out, hs_dtype dtype, const hstu_progress *progress, hstu_error *err)
{
    const hs_recognised recognised = hs_family_recognise(&model->dict);
    conversion c = {.config = &model->model.config, .dtype = dtype, .progress = progress};
    HS_TRY(hs_binding_make(&c.binding, &model->dict, &recognised, c.config, NULL, err));
    const hstu_status status = write_file(&c, out, err);
    hs_safetensors_discard(c.writer);
    hs_binding_free(&c.binding);
    hs_free(c.order);
    hs_free(c.values);
    hs_free(c.rounded);
    return status;
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
    if (hs_mapfile_same(in, out))
        return hs_fail(
            err, HSTU_EINVAL, 0, "%.200s is the file that is converted: expected another name for the result", out);
    hstu_model_options_init(&open);
    open.config = o.config;
    /* Opening is the check: what cannot be run is not converted, and the sentence is the same. */
    HS_TRY(hstu_model_open(&model, in, &open, err));
    const hstu_status status = convert_model(model, out, dtype, &o.progress, err);
    hstu_model_close(model);
    return status;
}
