/* hstu_model_*: a configuration, weights and a device become a model. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"

#include <stdio.h>
#include <string.h>

static const char default_config[] = "kuairand_gr";
static const char metadata_key[] = HS_CONFIG_METADATA_KEY;

void hstu_model_options_init(hstu_model_options *options)
{
    *options = (hstu_model_options){.size = sizeof *options, .device = "cpu", .dtype = "fp32"};
}

hstu_status hs_engine_read_options(void *own, size_t own_size, const void *given, const char *init, hstu_error *err)
{
    size_t size = 0;
    memcpy(&size, given, sizeof size); /* the first member of every options struct */
    if (size < sizeof size || size > own_size)
        return hs_fail(
            err, HSTU_EINVAL, 0, "options of %zu bytes, expected at most %zu: call %s first", size, own_size, init);
    memcpy(own, given, size);
    return HSTU_OK;
}

static hstu_status check_options(const hstu_model_options *o, hstu_error *err)
{
    if (o->threads < 0)
        return hs_fail(err, HSTU_EINVAL, 0, "threads is %d, expected 0 (automatic) or more", o->threads);
    if (o->dtype && strcmp(o->dtype, "fp32") != 0 && strcmp(o->dtype, "float32") != 0)
        return hs_fail(
            err, HSTU_EUNSUP, 0, "dtype '%.40s' is not part of this version, which computes in fp32", o->dtype);
    if (o->max_item_id < 0)
        return hs_fail(
            err, HSTU_EINVAL, 0, "max_item_id is %lld, expected 0 (unknown) or more", (long long)o->max_item_id);
    return HSTU_OK;
}

hstu_status hs_engine_copy_text(char **out, const char *text, hstu_error *err)
{
    *out = hs_strndup(text, strlen(text));
    return *out ? HSTU_OK : hs_fail_nomem(err, strlen(text) + 1, "a name");
}

/* "<folder of the checkpoint>/config.json" */
static hstu_status path_beside(char **out, const char *checkpoint, hstu_error *err)
{
    const char *slash = strrchr(checkpoint, '/');
    const size_t folder = slash ? (size_t)(slash - checkpoint) + 1 : 0;
    const char name[] = "config.json";
    *out = hs_alloc(folder + sizeof name, 1);
    if (!*out)
        return hs_fail_nomem(err, folder + sizeof name, "a name");
    memcpy(*out, checkpoint, folder);
    memcpy(*out + folder, name, sizeof name);
    return HSTU_OK;
}

/* In order: what the caller names, the checkpoint's own, the file beside it, the default preset. */
static hstu_status find_config(hstu_model *m, hs_config *config, const char *name, hstu_error *err)
{
    if (name) {
        HS_TRY(hs_engine_copy_text(&m->config, name, err));
        return hs_config_open(config, m->config, err);
    }
    const char *own = m->path ? hs_statedict_metadata(&m->dict, metadata_key) : NULL;
    if (own) {
        HS_TRY(hs_engine_copy_text(&m->config, m->path, err));
        return hs_config_parse(config, own, strlen(own), m->config, err);
    }
    if (m->path) {
        hstu_error ignored;
        HS_TRY(path_beside(&m->config, m->path, err));
        const hstu_status status = hs_config_open(config, m->config, &ignored);
        if (status != HSTU_ENOENT) {
            if (status != HSTU_OK && err)
                *err = ignored;
            return status;
        }
        hs_free(m->config);
        m->config = NULL;
    }
    HS_TRY(hs_engine_copy_text(&m->config, default_config, err));
    HS_TRY(hs_config_open(config, m->config, err));
    if (m->path) /* sizes of this preset that contradict the tensors are nothing that the caller has asked for */
        config->source =
            "the default configuration kuairand_gr (none stands beside the checkpoint: name one with --config)";
    return HSTU_OK;
}

static hstu_status refuse_family(const hs_recognised *r, const hs_statedict *dict, hstu_error *err)
{
    if (r->name)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%.200s: a checkpoint of the family \"%s\", not supported by this version: %s", dict->path, r->name,
            r->not_supported);
    return hs_fail(err, HSTU_EUNSUP, 0,
        "%.200s: no known model among its %zu tensors (the first is '%.80s'); known are retrieval HSTU and SASRec",
        dict->path, dict->n_entries, dict->n_entries ? dict->entry[0].name : "");
}

/* Folders hold the families that this version knows by name alone. */
static hstu_status refuse_folder(const char *path, hstu_error *err)
{
    hs_nvdir dir = {0};
    HS_TRY(hs_nvdir_open(&dir, path, err));
    const hs_recognised recognised = hs_engine_recognise_folder(&dir);
    const hstu_status status = refuse_family(&recognised, &dir.rank[0], err);
    hs_nvdir_close(&dir);
    return status;
}

static hstu_status bind_checkpoint(hstu_model *m, hs_config *config, hstu_error *err)
{
    const hs_recognised recognised = hs_family_recognise(&m->dict);
    hstu_status status = HSTU_OK;
    if (recognised.family == HS_FAMILY_UNKNOWN || recognised.not_supported)
        status = refuse_family(&recognised, &m->dict, err);
    else
        status = hs_model_bind(&m->model, config, m->dev, &m->dict, &recognised, err);
    if (status == HSTU_ESHAPE || status == HSTU_EUNSUP)
        hs_statedict_mention_unread(&m->dict, err);
    return status;
}

static hstu_status open_device(hs_device **out, const hstu_model_options *o, hstu_error *err)
{
    return hs_device_open(out, o->device ? o->device : "cpu", o->threads, err);
}

hstu_status hstu_model_options_check(const hstu_model_options *options, hstu_error *err)
{
    hstu_model_options o;
    hs_device *dev = NULL;
    hstu_model_options_init(&o);
    HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    HS_TRY(check_options(&o, err));
    HS_TRY(open_device(&dev, &o, err));
    hs_device_close(dev);
    return HSTU_OK;
}

static hstu_status make_random(hstu_model *m, hs_config *config, const hstu_model_options *o, hstu_error *err)
{
    m->random_weights = true;
    if (!config->max_item_id) {
        if (o->max_item_id == 0)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s does not fix the number of items: random weights need the option max_item_id", config->source);
        HS_TRY(hs_config_settle(config, "max_item_id", o->max_item_id, "the option max_item_id", err));
        HS_TRY(hs_config_derive(config, err));
    }
    return hs_model_random(&m->model, config, m->dev, o->seed, err);
}

hstu_status hstu_model_open(
    hstu_model **out, const char *checkpoint, const hstu_model_options *options, hstu_error *err)
{
    hstu_model_options o;
    hstu_status status = HSTU_OK;
    hs_config config = {0};
    hstu_model_options_init(&o);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    HS_TRY(check_options(&o, err));
    if (checkpoint && hs_path_is_folder(checkpoint))
        return refuse_folder(checkpoint, err);
    hstu_model *m = hs_calloc(1, sizeof *m);
    if (!m)
        return hs_fail_nomem(err, sizeof *m, "a model");
    m->threads = o.threads;
    HS_TRY_GOTO(open_device(&m->dev, &o, err));
    if (checkpoint) {
        HS_TRY_GOTO(hs_engine_copy_text(&m->path, checkpoint, err));
        HS_TRY_GOTO(hs_ckpt_open(&m->dict, m->path, err));
    }
    HS_TRY_GOTO(find_config(m, &config, o.config, err));
    if (checkpoint)
        HS_TRY_GOTO(bind_checkpoint(m, &config, err));
    else
        HS_TRY_GOTO(make_random(m, &config, &o, err));
    *out = m;
    return HSTU_OK;
fail:
    hs_config_free(&config);
    hstu_model_close(m);
    return status;
}

void hstu_model_close(hstu_model *model)
{
    if (!model)
        return;
    hs_model_free(&model->model);
    hs_device_close(model->dev);
    hs_statedict_close(&model->dict);
    hs_free(model->path);
    hs_free(model->config);
    hs_free(model);
}

void hs_engine_config_info(hstu_model_info *info, const hs_config *c, const char *source)
{
    const bool hstu = c->main_module == HS_MODULE_HSTU;
    const int64_t head = c->num_heads ? c->item_embedding_dim / c->num_heads : 0;
    const hstu_protocol protocol =
        c->protocol == HS_CONFIG_SESSIONS ? HSTU_PROTOCOL_SESSIONS : HSTU_PROTOCOL_LEAVE_ONE_OUT;
    *info = (hstu_model_info){
        .family = "retrieval",
        .main_module = hstu ? "HSTU" : "SASRec",
        .config = source,
        .device = "cpu",
        .dtype = "fp32",
        .dim = c->item_embedding_dim,
        .n_blocks = c->num_blocks,
        .n_heads = c->num_heads,
        .dqk = hstu ? c->dqk : head,
        .dv = hstu ? c->dv : head,
        .max_sequence_length = c->max_sequence_length,
        .attention_n = c->attention_n,
        .max_item_id = c->max_item_id,
        .uses_time = hs_config_uses_time(c),
        .history =
            {
                .size = sizeof(hstu_history_options),
                .protocol = protocol,
                .item_id_offset = c->item_id_offset,
                .shift_id_by = c->shift_id_by,
                .time_unit_ms = c->time_unit_ms,
                .drop_duplicates = c->drop_duplicates,
                .min_events = c->min_events,
                .max_history = c->max_sequence_length,
                .time_interval_s = c->session_time_interval_s,
                .max_sequences = c->session_max_sequences,
                .max_sequence_length = c->session_max_sequence_length,
            },
        .default_protocol = protocol,
        .default_batch_size = c->batch_size,
        .default_sequence_length = c->sequence_length ? c->sequence_length : c->max_sequence_length,
        .default_top_k = c->top_k,
        .default_warmup = c->warmup,
        .default_dataset = c->dataset,
    };
}

void hstu_model_get_info(const hstu_model *model, hstu_model_info *info)
{
    hs_engine_config_info(info, &model->model.config, model->config);
    info->device = model->dev->name;
    info->isa = model->dev->isa;
    info->threads = model->dev->n_threads;
    info->random_weights = model->random_weights;
    info->n_parameters = model->model.n_parameters;
    info->weight_bytes = (uint64_t)model->model.n_parameters * sizeof(float);
}

hstu_status hstu_config_get_info(const char *config, hstu_model_info *info, hstu_error *err)
{
    hs_config read;
    HS_TRY(hs_config_open(&read, config, err));
    hs_engine_config_info(info, &read, read.source);
    hs_config_free(&read);
    return HSTU_OK;
}

const char *hstu_preset_name(size_t i)
{
    return hs_preset_name(i);
}
