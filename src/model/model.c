/* Making models: from a checkpoint, or from a seed. */
#include "model/model.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "base/system.h"
#include "model/bind.h"
#include "model/infer.h"
#include "model/init.h"
#include "model/load.h"

#include <inttypes.h>

/* Room for the layers' pointers, once the configuration is complete. */
static hstu_status make_layers(hs_model *m, hstu_error *err)
{
    const size_t n = (size_t)m->config.num_blocks;
    hs_weight_target *w = &m->weight;
    if (m->config.family == HS_CONFIG_RANKING)
        w->ranking = hs_calloc(n, sizeof *w->ranking);
    else if (m->config.family == HS_CONFIG_DECODER)
        w->decoder = hs_calloc(n, sizeof *w->decoder);
    else if (m->config.main_module == HS_MODULE_HSTU)
        w->hstu = hs_calloc(n, sizeof *w->hstu);
    else
        w->sasrec = hs_calloc(n, sizeof *w->sasrec);
    if (!w->ranking && !w->decoder && !w->hstu && !w->sasrec)
        return hs_fail_nomem(err, n * sizeof(hs_decoder_layer), "the layers");
    return HSTU_OK;
}

/* Puts the values of one weight where they belong. Values that are only packed are not needed afterwards. */
static hstu_status install(hs_model *m, const hs_weight *w, const float *values, hstu_error *err)
{
    if (w->keep)
        *w->keep = values;
    for (int i = 0; i < w->n_packs; i++) {
        const hs_weight_pack *p = &w->pack[i];
        HS_TRY(hs_op_pack(m->dev, p->out, values + p->first, m->bf16 ? HS_BF16 : HS_F32, p->in, p->n, p->stride_in,
            p->stride_out, err));
    }
    m->n_parameters += hs_weight_elements(w);
    return HSTU_OK;
}

/* Memory for a weight's values: the arena, or *temporary, which the caller frees. */
static float *room_for(hs_model *m, const hs_weight *w, float **temporary)
{
    const size_t n = (size_t)hs_weight_elements(w);
    if (w->keep)
        return hs_arena_alloc(&m->arena, n, sizeof(float));
    *temporary = hs_alloc_aligned(n, sizeof(float));
    return *temporary;
}

static hstu_status fail_room(const hs_weight *w, hstu_error *err)
{
    return hs_fail_nomem(err, (size_t)hs_weight_elements(w) * sizeof(float), w->name);
}

static hstu_status check_finite(
    hs_model *m, const hs_weight *w, const void *values, hs_dtype type, const char *path, hstu_error *err)
{
    const int64_t n = hs_weight_elements(w);
    int64_t *found = hs_alloc((size_t)hs_load_chunks(n), sizeof *found);
    if (!found)
        return hs_fail_nomem(err, (size_t)hs_load_chunks(n) * sizeof *found, w->name);
    const int64_t at = hs_load_find_not_finite(m->dev, values, type, n, found);
    hs_free(found);
    if (at < 0)
        return HSTU_OK;
    return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: tensor '%s' holds %g at element %" PRId64 ", expected finite weights",
        path, w->name,
        (double)(type == HS_F32 ? ((const float *)values)[at] : hs_bf16_to_f32(((const uint16_t *)values)[at])), at);
}

/* An item table in the type that the model computes with; read where it lies if it has that type. */
static hstu_status load_rows(
    hs_model *m, const hs_weight *w, const hs_tensor *tensor, const char *path, hstu_error *err)
{
    hs_item_rows *rows = w->rows;
    rows->type = m->bf16 ? HS_BF16 : HS_F32;
    rows->data = hs_load_in_place(tensor, rows->type);
    if (!rows->data) {
        rows->memory = hs_alloc_aligned((size_t)hs_weight_elements(w), hs_dtype_bytes(rows->type));
        if (!rows->memory)
            return fail_room(w, err);
        if (m->bf16)
            hs_load_bf16(m->dev, tensor, rows->memory);
        else
            hs_load_f32(m->dev, tensor, rows->memory);
        rows->data = rows->memory;
    }
    m->n_parameters += hs_weight_elements(w);
    return check_finite(m, w, rows->data, rows->type, path, err);
}

static hstu_status load_weight(
    hs_model *m, const hs_weight *w, const hs_tensor *tensor, const char *path, hstu_error *err)
{
    if (w->rows)
        return load_rows(m, w, tensor, path, err);
    float *temporary = NULL;
    const bool rounded = m->bf16 && tensor->dtype != HS_BF16;
    const float *values = rounded ? NULL : hs_load_in_place(tensor, HS_F32);
    if (!values) {
        float *room = room_for(m, w, &temporary);
        if (!room)
            return fail_room(w, err);
        hs_load_f32(m->dev, tensor, room);
        if (rounded)
            hs_load_round_bf16(m->dev, room, hs_weight_elements(w));
        values = room;
    }
    hstu_status status = check_finite(m, w, values, HS_F32, path, err);
    if (status == HSTU_OK)
        status = install(m, w, values, err);
    hs_free(temporary);
    return status;
}

static hstu_status make_item_norms(hs_model *m, hstu_error *err)
{
    if (m->config.family != HS_CONFIG_RETRIEVAL || !m->config.item_l2_norm)
        return HSTU_OK;
    const int64_t rows = m->config.max_item_id + 1;
    m->item_inv_norm = hs_alloc_aligned((size_t)rows, sizeof(float));
    if (!m->item_inv_norm)
        return hs_fail_nomem(err, (size_t)rows * sizeof(float), "the item norms");
    hs_load_inv_norm(
        m->dev, m->item_inv_norm, &m->weight.item, rows, m->config.item_embedding_dim, (float)m->config.l2_norm_eps);
    return HSTU_OK;
}

/* The original's sinusoidal positions: sin and cos of float32 angles (docs/pitfalls.md), even columns sines. */
static hstu_status make_positions(hs_model *m, hstu_error *err)
{
    if (m->config.family != HS_CONFIG_DECODER)
        return HSTU_OK;
    const int64_t rows = m->config.max_position_embeddings, dim = m->config.item_embedding_dim;
    float *table = hs_arena_alloc(&m->arena, (size_t)rows * (size_t)dim, sizeof *table);
    if (!table)
        return hs_fail_nomem(err, (size_t)rows * (size_t)dim * sizeof *table, "the positions");
    hs_load_sinusoids(m->dev, table, rows, dim);
    if (m->bf16)
        hs_load_round_bf16(m->dev, table, rows * dim);
    m->weight.position = table;
    return HSTU_OK;
}

static const hs_table *table_of(const hs_model *m, const hs_config_feature *feature)
{
    return &m->table[hs_config_find_table(&m->config, feature->table) - m->config.table];
}

/* Tables are called by the configuration's names, which move with the model. */
static void hand_over(hs_model *out, const hs_model *m)
{
    *out = *m;
    for (int i = 0; out->table && i < out->config.n_tables; i++)
        out->table[i].name = out->config.table[i].name;
}

/* The configuration has checked that every feature's table is there. */
static void find_feature_tables(hs_model *m)
{
    for (int i = 0; i < m->config.n_context; i++)
        m->context_table[i] = table_of(m, &m->config.context[i]);
    m->item_table = table_of(m, &m->config.item);
    m->action_table = table_of(m, &m->config.action);
    for (int i = 0; i < m->config.n_tables; i++)
        m->n_parameters += (int64_t)(m->table[i].n_rows * m->table[i].dim);
}

static hstu_status alloc_tables(hs_model *m, hstu_error *err)
{
    const size_t n = (size_t)m->config.n_tables;
    m->table = hs_calloc(n, sizeof *m->table);
    return m->table ? HSTU_OK : hs_fail_nomem(err, n * sizeof *m->table, "the embedding tables");
}

static hstu_status bind_tables(hs_model *m, const hs_model_source *source, hstu_error *err)
{
    if (m->config.family != HS_CONFIG_RANKING)
        return HSTU_OK;
    if (!m->table) {
        HS_TRY(alloc_tables(m, err));
        HS_TRY(hs_tables_from_dict(m->table, &m->config, source->dict, source->recognised->group, err));
    }
    HS_TRY(hs_tables_settle(&m->config, m->table, source->dict->path, err));
    find_feature_tables(m);
    return HSTU_OK;
}

static void start(hs_model *m, hs_config *config, hs_device *dev, bool bf16)
{
    *m = (hs_model){.config = *config, .dev = dev, .bf16 = bf16, .kv_type = bf16 ? HS_BF16 : HS_F32};
    *config = (hs_config){0};
    hs_arena_init(&m->arena, SIZE_MAX / 4);
}

hstu_status hs_model_bind(
    hs_model *out, hs_config *config, hs_device *dev, const hs_model_source *source, bool bf16, hstu_error *err)
{
    const hs_statedict *dict = source->dict;
    hs_model m;
    hs_binding binding = {0};
    hstu_status status = HSTU_OK;
    start(&m, config, dev, bf16);
    m.table = source->table;
    HS_TRY_GOTO(hs_infer(&m.config, dict, source->recognised, err));
    HS_TRY_GOTO(hs_config_require_complete(&m.config, err));
    HS_TRY_GOTO(make_layers(&m, err));
    HS_TRY_GOTO(hs_binding_make(&binding, dict, source->recognised, &m.config, &m.weight, err));
    HS_TRY_GOTO(hs_binding_check(&binding, &m.config, err));
    HS_TRY_GOTO(bind_tables(&m, source, err));
    for (size_t i = 0; i < binding.n_weights; i++)
        HS_TRY_GOTO(load_weight(&m, &binding.weight[i], &binding.entry[i]->tensor, dict->path, err));
    HS_TRY_GOTO(make_item_norms(&m, err));
    HS_TRY_GOTO(make_positions(&m, err));
    hs_binding_free(&binding);
    hand_over(out, &m);
    return HSTU_OK;
fail:
    hs_binding_free(&binding);
    hs_model_free(&m);
    return status;
}

/* The item norms are counted too; packed copies of layers are small beside the table. */
static hstu_status check_memory(const hs_weight *weight, size_t n, const hs_config *config, hstu_error *err)
{
    double need = (double)sizeof(float) * (double)(config->max_item_id + 1);
    for (size_t i = 0; i < n; i++)
        need += (double)sizeof(float) * (double)hs_weight_elements(&weight[i]);
    const double have = (double)hs_system_memory_bytes();
    if (need <= have)
        return HSTU_OK;
    if (config->family == HS_CONFIG_RANKING) /* its items are in the tables, which tables.c counts */
        return hs_fail(err, HSTU_ENOMEM, 0, "%s: random dense weights need %.1f GB, but %.1f GB are available",
            config->source, need * 1e-9, have * 1e-9);
    return hs_fail(err, HSTU_ENOMEM, 0,
        "%s: random weights for %" PRId64 " items of %" PRId64 " values need %.1f GB, but %.1f GB are available",
        config->source, config->max_item_id, config->item_embedding_dim, need * 1e-9, have * 1e-9);
}

/* A table takes over the memory, or has its values rounded into its own. */
static hstu_status take_rows(hs_model *m, const hs_weight *w, float **values, hstu_error *err)
{
    hs_item_rows *rows = w->rows;
    const int64_t n = hs_weight_elements(w);
    rows->type = m->bf16 ? HS_BF16 : HS_F32;
    if (m->bf16) {
        rows->memory = hs_alloc_aligned((size_t)n, sizeof(uint16_t));
        if (!rows->memory)
            return fail_room(w, err);
        const hs_tensor all = {.dtype = HS_F32,
            .rank = 2,
            .shape = {w->shape[0], w->shape[1]},
            .stride = {w->shape[1], 1},
            .data = *values};
        hs_load_bf16(m->dev, &all, rows->memory);
    } else {
        rows->memory = *values;
        *values = NULL;
    }
    rows->data = rows->memory;
    m->n_parameters += n;
    return HSTU_OK;
}

static hstu_status make_random(hs_model *m, const hs_weight *w, uint64_t seed, uint64_t stream, hstu_error *err)
{
    float *temporary = NULL;
    float *room = room_for(m, w, &temporary);
    if (!room)
        return fail_room(w, err);
    hs_init_fill(m->dev, room, hs_weight_elements(w), w->init, w->scale, seed, stream);
    if (m->bf16 && !w->rows)
        hs_load_round_bf16(m->dev, room, hs_weight_elements(w));
    const hstu_status status = w->rows ? take_rows(m, w, &temporary, err) : install(m, w, room, err);
    hs_free(temporary);
    return status;
}

static hstu_status make_random_tables(hs_model *m, const hs_model_random_options *o, hstu_error *err)
{
    if (m->config.family != HS_CONFIG_RANKING)
        return HSTU_OK;
    HS_TRY(alloc_tables(m, err));
    HS_TRY(hs_tables_random(m->table, &m->config, m->dev, o->seed, o->n_items, o->n_users, err));
    find_feature_tables(m);
    return HSTU_OK;
}

hstu_status hs_model_random(
    hs_model *out, hs_config *config, hs_device *dev, const hs_model_random_options *options, hstu_error *err)
{
    hs_model m;
    hs_weight *weight = NULL;
    size_t n = 0;
    hstu_status status = HSTU_OK;
    start(&m, config, dev, options->bf16);
    HS_TRY_GOTO(hs_config_require_complete(&m.config, err));
    HS_TRY_GOTO(make_layers(&m, err));
    HS_TRY_GOTO(hs_weight_list(&weight, &n, &m.config, &m.weight, err));
    HS_TRY_GOTO(check_memory(weight, n, &m.config, err));
    HS_TRY_GOTO(make_random_tables(&m, options, err));
    for (size_t i = 0; i < n; i++)
        HS_TRY_GOTO(make_random(&m, &weight[i], options->seed, i, err));
    HS_TRY_GOTO(make_item_norms(&m, err));
    HS_TRY_GOTO(make_positions(&m, err));
    hs_free(weight);
    hand_over(out, &m);
    return HSTU_OK;
fail:
    hs_free(weight);
    hs_model_free(&m);
    return status;
}

static void free_decoder_layer(hs_device *dev, hs_decoder_layer *layer)
{
    hs_op_pack_free(dev, layer->q);
    hs_op_pack_free(dev, layer->k);
    hs_op_pack_free(dev, layer->v);
    hs_op_pack_free(dev, layer->out);
    hs_op_pack_free(dev, layer->ffn1);
    hs_op_pack_free(dev, layer->ffn2);
}

static void free_layers(hs_model *m)
{
    for (int64_t i = 0; m->weight.hstu && i < m->config.num_blocks; i++) {
        hs_hstu_layer *layer = &m->weight.hstu[i];
        hs_op_pack_free(m->dev, layer->u);
        hs_op_pack_free(m->dev, layer->v);
        hs_op_pack_free(m->dev, layer->q);
        hs_op_pack_free(m->dev, layer->k);
        hs_op_pack_free(m->dev, layer->o);
    }
    for (int64_t i = 0; m->weight.sasrec && i < m->config.num_blocks; i++) {
        hs_sasrec_layer *layer = &m->weight.sasrec[i];
        hs_op_pack_free(m->dev, layer->q);
        hs_op_pack_free(m->dev, layer->kv);
        hs_op_pack_free(m->dev, layer->out);
        hs_op_pack_free(m->dev, layer->ffn1);
        hs_op_pack_free(m->dev, layer->ffn2);
    }
    for (int64_t i = 0; m->weight.ranking && i < m->config.num_blocks; i++) {
        hs_ranking_layer *layer = &m->weight.ranking[i];
        hs_op_pack_free(m->dev, layer->u);
        hs_op_pack_free(m->dev, layer->v);
        hs_op_pack_free(m->dev, layer->q);
        hs_op_pack_free(m->dev, layer->k);
        hs_op_pack_free(m->dev, layer->proj);
    }
    for (int i = 0; m->weight.ranking && i < m->config.n_head; i++)
        hs_op_pack_free(m->dev, m->weight.head[i].w);
    for (int64_t i = 0; m->weight.decoder && i < m->config.num_blocks; i++)
        free_decoder_layer(m->dev, &m->weight.decoder[i]);
}

void hs_model_free(hs_model *model)
{
    free_layers(model);
    hs_free(model->weight.hstu);
    hs_free(model->weight.sasrec);
    hs_free(model->weight.ranking);
    hs_free(model->weight.decoder);
    hs_free(model->item_inv_norm);
    hs_free(model->weight.item.memory);
    hs_free(model->weight.vocabulary.memory);
    hs_tables_close(model->table, model->config.n_tables);
    hs_arena_free(&model->arena);
    hs_config_free(&model->config);
    *model = (hs_model){0};
}
