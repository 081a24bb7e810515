/* Making models: from a checkpoint, or from a seed. */
#include "model/model.h"

#include "base/alloc.h"
#include "base/error.h"
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
    const bool hstu = m->config.main_module == HS_MODULE_HSTU;
    if (hstu)
        m->weight.hstu = hs_calloc(n, sizeof *m->weight.hstu);
    else
        m->weight.sasrec = hs_calloc(n, sizeof *m->weight.sasrec);
    if (!m->weight.hstu && !m->weight.sasrec)
        return hs_fail_nomem(err, n * sizeof(hs_sasrec_layer), "the layers");
    return HSTU_OK;
}

/* Puts the values of one weight where they belong. Values that are only packed are not needed afterwards. */
static hstu_status install(hs_model *m, const hs_weight *w, const float *values, hstu_error *err)
{
    if (w->keep)
        *w->keep = values;
    for (int i = 0; i < w->n_packs; i++) {
        const hs_weight_pack *p = &w->pack[i];
        HS_TRY(hs_op_pack(m->dev, p->out, values + p->first, p->in, p->n, p->stride_in, p->stride_out, err));
    }
    m->n_parameters += hs_weight_elements(w);
    return HSTU_OK;
}

/* Memory for a weight's values: the item table's own, the arena, or *temporary, which the caller frees. */
static float *room_for(hs_model *m, const hs_weight *w, float **temporary)
{
    const size_t n = (size_t)hs_weight_elements(w);
    if (w->keep == &m->weight.item) {
        m->item = hs_alloc_aligned(n, sizeof(float));
        return m->item;
    }
    if (w->keep)
        return hs_arena_alloc(&m->arena, n, sizeof(float));
    *temporary = hs_alloc_aligned(n, sizeof(float));
    return *temporary;
}

static hstu_status fail_room(const hs_weight *w, hstu_error *err)
{
    return hs_fail_nomem(err, (size_t)hs_weight_elements(w) * sizeof(float), w->name);
}

static hstu_status check_finite(hs_model *m, const hs_weight *w, const float *values, const char *path, hstu_error *err)
{
    const int64_t n = hs_weight_elements(w);
    int64_t *found = hs_alloc((size_t)hs_load_chunks(n), sizeof *found);
    if (!found)
        return hs_fail_nomem(err, (size_t)hs_load_chunks(n) * sizeof *found, w->name);
    const int64_t at = hs_load_find_not_finite(m->dev, values, n, found);
    hs_free(found);
    if (at < 0)
        return HSTU_OK;
    return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: tensor '%s' holds %g at element %" PRId64 ", expected finite weights",
        path, w->name, (double)values[at], at);
}

static hstu_status load_weight(
    hs_model *m, const hs_weight *w, const hs_tensor *tensor, const char *path, hstu_error *err)
{
    float *temporary = NULL;
    const float *values = hs_load_in_place(tensor);
    if (!values) {
        float *room = room_for(m, w, &temporary);
        if (!room)
            return fail_room(w, err);
        hs_load_f32(m->dev, tensor, room);
        values = room;
    }
    hstu_status status = check_finite(m, w, values, path, err);
    if (status == HSTU_OK)
        status = install(m, w, values, err);
    hs_free(temporary);
    return status;
}

static hstu_status make_item_norms(hs_model *m, hstu_error *err)
{
    if (!m->config.item_l2_norm)
        return HSTU_OK;
    const int64_t rows = m->config.max_item_id + 1;
    m->item_inv_norm = hs_alloc_aligned((size_t)rows, sizeof(float));
    if (!m->item_inv_norm)
        return hs_fail_nomem(err, (size_t)rows * sizeof(float), "the item norms");
    hs_load_inv_norm(
        m->dev, m->item_inv_norm, m->weight.item, rows, m->config.item_embedding_dim, (float)m->config.l2_norm_eps);
    return HSTU_OK;
}

static void start(hs_model *m, hs_config *config, hs_device *dev)
{
    *m = (hs_model){.config = *config, .dev = dev};
    *config = (hs_config){0};
    hs_arena_init(&m->arena, SIZE_MAX / 4);
}

hstu_status hs_model_bind(hs_model *out, hs_config *config, hs_device *dev, const hs_statedict *dict,
    const hs_recognised *recognised, hstu_error *err)
{
    hs_model m;
    hs_binding binding = {0};
    hstu_status status = HSTU_OK;
    start(&m, config, dev);
    HS_TRY_GOTO(hs_infer(&m.config, dict, recognised, err));
    HS_TRY_GOTO(hs_config_require_complete(&m.config, err));
    HS_TRY_GOTO(make_layers(&m, err));
    HS_TRY_GOTO(hs_binding_make(&binding, dict, recognised, &m.config, &m.weight, err));
    HS_TRY_GOTO(hs_binding_check(&binding, &m.config, err));
    for (size_t i = 0; i < binding.n_weights; i++)
        HS_TRY_GOTO(load_weight(&m, &binding.weight[i], &binding.entry[i]->tensor, dict->path, err));
    HS_TRY_GOTO(make_item_norms(&m, err));
    hs_binding_free(&binding);
    *out = m;
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
    return hs_fail(err, HSTU_ENOMEM, 0,
        "%s: random weights for %" PRId64 " items of %" PRId64 " values need %.1f GB, but %.1f GB are available",
        config->source, config->max_item_id, config->item_embedding_dim, need * 1e-9, have * 1e-9);
}

static hstu_status make_random(hs_model *m, const hs_weight *w, uint64_t seed, uint64_t stream, hstu_error *err)
{
    float *temporary = NULL;
    float *room = room_for(m, w, &temporary);
    if (!room)
        return fail_room(w, err);
    hs_init_fill(m->dev, room, hs_weight_elements(w), w->init, w->scale, seed, stream);
    const hstu_status status = install(m, w, room, err);
    hs_free(temporary);
    return status;
}

hstu_status hs_model_random(hs_model *out, hs_config *config, hs_device *dev, uint64_t seed, hstu_error *err)
{
    hs_model m;
    hs_weight *weight = NULL;
    size_t n = 0;
    hstu_status status = HSTU_OK;
    start(&m, config, dev);
    HS_TRY_GOTO(hs_config_require_complete(&m.config, err));
    HS_TRY_GOTO(make_layers(&m, err));
    HS_TRY_GOTO(hs_weight_list(&weight, &n, &m.config, &m.weight, err));
    HS_TRY_GOTO(check_memory(weight, n, &m.config, err));
    for (size_t i = 0; i < n; i++)
        HS_TRY_GOTO(make_random(&m, &weight[i], seed, i, err));
    HS_TRY_GOTO(make_item_norms(&m, err));
    hs_free(weight);
    *out = m;
    return HSTU_OK;
fail:
    hs_free(weight);
    hs_model_free(&m);
    return status;
}

static void free_layers(hs_model *m)
{
    for (int64_t i = 0; m->weight.hstu && i < m->config.num_blocks; i++) {
        hs_op_pack_free(m->dev, m->weight.hstu[i].uvqk);
        hs_op_pack_free(m->dev, m->weight.hstu[i].o);
    }
    for (int64_t i = 0; m->weight.sasrec && i < m->config.num_blocks; i++) {
        hs_sasrec_layer *layer = &m->weight.sasrec[i];
        hs_op_pack_free(m->dev, layer->q);
        hs_op_pack_free(m->dev, layer->kv);
        hs_op_pack_free(m->dev, layer->out);
        hs_op_pack_free(m->dev, layer->ffn1);
        hs_op_pack_free(m->dev, layer->ffn2);
    }
}

void hs_model_free(hs_model *model)
{
    free_layers(model);
    hs_free(model->weight.hstu);
    hs_free(model->weight.sasrec);
    hs_free(model->item_inv_norm);
    hs_free(model->item);
    hs_arena_free(&model->arena);
    hs_config_free(&model->config);
    *model = (hs_model){0};
}
