/* What a model, or a configuration alone, tells about itself. */
#include "engine/engine.h"

#include "base/error.h"
#include "device/npu/npu_device.h"

const char *hs_engine_family_name(const hs_config *config)
{
    static const char *const names[] = {"retrieval", "ranking", "decoder"};
    return names[config->family];
}

int64_t hs_engine_min_item_id(const hs_config *config)
{
    return config->family == HS_CONFIG_RETRIEVAL ? 1 : 0;
}

static hstu_protocol protocol_of(const hs_config *c)
{
    switch ((hs_config_protocol)c->protocol) {
    case HS_CONFIG_SESSIONS:
        return HSTU_PROTOCOL_SESSIONS;
    case HS_CONFIG_RANKING_REQUESTS:
        return HSTU_PROTOCOL_RANKING;
    case HS_CONFIG_LEAVE_ONE_OUT:
        break;
    }
    return HSTU_PROTOCOL_LEAVE_ONE_OUT;
}

static const char *main_module_of(const hs_config *c)
{
    if (c->family == HS_CONFIG_RANKING)
        return "GR ranking";
    if (c->family == HS_CONFIG_DECODER)
        return "decoder";
    return c->main_module == HS_MODULE_HSTU ? "HSTU" : "SASRec";
}

/* The decoder has one head whatever its configuration says, SASRec's share D equally. */
static void describe_heads(hstu_model_info *info, const hs_config *c)
{
    info->n_heads = c->num_heads;
    info->dqk = c->dqk;
    info->dv = c->dv;
    if (c->family == HS_CONFIG_DECODER) {
        info->n_heads = 1;
        info->dqk = info->dv = c->item_embedding_dim;
    } else if (c->family == HS_CONFIG_RETRIEVAL && c->main_module == HS_MODULE_SASREC) {
        info->dqk = info->dv = c->num_heads ? c->item_embedding_dim / c->num_heads : 0;
    }
}

static void describe_ranking(hstu_model_info *info, const hs_config *c)
{
    const hs_config_table *items = hs_config_find_table(c, c->item.table);
    info->max_sequence_length = c->max_history;
    info->max_item_id = items && items->dynamic ? INT64_MAX : items && items->rows ? items->rows - 1 : 0;
    info->n_context = (size_t)c->n_context;
    info->n_classes = c->n_head ? c->head[c->n_head - 1] : 0;
    info->n_tasks = c->num_tasks;
    info->max_candidates = c->max_candidates;
    info->contextual_mask = c->contextual_mask;
}

void hs_engine_config_info(hstu_model_info *info, const hs_config *c, const char *source)
{
    const hstu_protocol protocol = protocol_of(c);
    *info = (hstu_model_info){
        .family = hs_engine_family_name(c),
        .main_module = main_module_of(c),
        .config = source,
        .device = "cpu",
        .dtype = "fp32",
        .kv_dtype = "fp32",
        .dim = c->item_embedding_dim,
        .n_blocks = c->num_blocks,
        .max_sequence_length = c->max_sequence_length,
        .attention_n = c->family == HS_CONFIG_DECODER ? 0 : c->attention_n,
        .min_item_id = hs_engine_min_item_id(c),
        .max_item_id = c->max_item_id,
        .uses_time = hs_config_uses_time(c),
    };
    describe_heads(info, c);
    if (c->family == HS_CONFIG_RANKING)
        describe_ranking(info, c);
    info->history = (hstu_history_options){
        .size = sizeof(hstu_history_options),
        .protocol = protocol,
        .item_id_offset = c->item_id_offset,
        .shift_id_by = c->shift_id_by,
        .time_unit_ms = c->time_unit_ms,
        .drop_duplicates = c->drop_duplicates,
        .min_events = c->min_events,
        .max_history = info->max_sequence_length,
        .time_interval_s = c->session_time_interval_s,
        .max_sequences = c->session_max_sequences,
        .max_sequence_length = c->session_max_sequence_length,
    };
    info->default_protocol = protocol;
    info->default_batch_size = c->batch_size;
    info->default_sequence_length = c->sequence_length ? c->sequence_length : info->max_sequence_length;
    info->default_top_k = c->top_k;
    info->default_warmup = c->warmup;
    info->default_dataset = c->dataset;
}

void hstu_model_get_info(const hstu_model *model, hstu_model_info *info)
{
    const hs_model *m = &model->model;
    hs_engine_config_info(info, &m->config, model->config);
    info->device = model->device;
    info->dtype = m->bf16 ? "bf16" : hs_npu_is(model->dev) ? hs_dtype_name(hs_npu_compute(model->dev)) : "fp32";
    info->kv_dtype = m->kv_type == HS_BF16 ? "bf16" : "fp32";
    info->isa = model->dev->isa;
    info->threads = model->dev->n_threads;
    info->random_weights = model->random_weights;
    info->n_parameters = m->n_parameters;
    info->weight_bytes = (uint64_t)m->n_parameters * sizeof(float);
    for (int i = 0; m->table && i < m->config.n_tables; i++)
        info->weight_bytes -= m->table[i].n_rows * m->table[i].dim * (sizeof(float) - hs_dtype_bytes(m->table[i].type));
}

hstu_status hstu_model_context(const hstu_model *model, size_t i, hstu_feature_info *info, hstu_error *err)
{
    const hs_config *c = &model->model.config;
    if (i >= (size_t)c->n_context)
        return hs_fail(err, HSTU_EINVAL, 0, "contextual feature %zu does not exist: the model has %d", i, c->n_context);
    const hs_config_table *table = hs_config_find_table(c, c->context[i].table);
    *info = (hstu_feature_info){
        .name = c->context[i].name,
        .table = table->name,
        .is_dynamic = table->dynamic,
        .rows = (int64_t)model->model.context_table[i]->n_rows,
    };
    return HSTU_OK;
}

hstu_status hstu_config_get_info(const char *config, hstu_model_info *info, hstu_error *err)
{
    hs_config read;
    HS_TRY(hs_config_open(&read, config, HS_CONFIG_ANY, err));
    hs_engine_config_info(info, &read, read.source);
    hs_config_free(&read);
    return HSTU_OK;
}
