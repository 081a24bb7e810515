/* hstu_model_*: a configuration, weights and a device become a model. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <stdio.h>
#include <string.h>

static const char default_config[] = "kuairand_gr";
static const char metadata_key[] = HS_CONFIG_METADATA_KEY;

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

/* Reads the file at m->config; *found false, and m->config free again, when there is none. */
static hstu_status try_config(hstu_model *m, hs_config *config, int family, bool *found, hstu_error *err)
{
    hstu_error absent;
    const hstu_status status = hs_config_open(config, m->config, family, &absent);
    *found = status != HSTU_ENOENT;
    if (!*found) {
        hs_free(m->config);
        m->config = NULL;
        return HSTU_OK;
    }
    if (status != HSTU_OK && err)
        *err = absent;
    return status;
}

/* The config.json that belongs to the checkpoint: beside a file, inside a folder. */
static hstu_status find_own_config(hstu_model *m, hs_config *config, int family, bool *found, hstu_error *err)
{
    *found = false;
    if (!m->path)
        return HSTU_OK;
    if (m->folder.n_ranks) {
        hs_path path;
        HS_TRY(hs_path_join(&path, m->folder.folder.text, "config.json", err));
        HS_TRY(hs_engine_copy_text(&m->config, path.text, err));
        HS_TRY(try_config(m, config, family, found, err));
        if (*found || strcmp(m->path, m->folder.folder.text) == 0)
            return HSTU_OK;
        HS_TRY(hs_path_join(&path, m->path, "config.json", err)); /* of the training run */
        HS_TRY(hs_engine_copy_text(&m->config, path.text, err));
    } else {
        HS_TRY(path_beside(&m->config, m->path, err));
    }
    return try_config(m, config, family, found, err);
}

static hstu_status default_configuration(hstu_model *m, hs_config *config, int family, hstu_error *err)
{
    if (family == HS_CONFIG_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%.200s: a ranking checkpoint needs a configuration (--config with a preset such as kuairand_1k_ranking, "
            "or a JSON or gin file), which its tensors do not tell and where contextual_mask has no default",
            m->path);
    if (family == HS_CONFIG_DECODER) {
        HS_TRY(hs_engine_copy_text(&m->config, m->path, err));
        hs_config_init(config, HS_CONFIG_DECODER, m->config);
        return HSTU_OK;
    }
    HS_TRY(hs_engine_copy_text(&m->config, default_config, err));
    HS_TRY(hs_config_open(config, m->config, family, err));
    if (m->path) /* sizes of this preset that contradict the tensors are nothing that the caller has asked for */
        config->source =
            "the default configuration kuairand_gr (none stands beside the checkpoint: name one with --config)";
    return HSTU_OK;
}

/* In order: what the caller names, the checkpoint's own, the file beside it, the family's default. */
static hstu_status find_config(hstu_model *m, hs_config *config, const char *name, hstu_error *err)
{
    const int family = m->path ? (int)hs_family_config(m->recognised.family) : HS_CONFIG_ANY;
    bool found = false;
    if (name) {
        HS_TRY(hs_engine_copy_text(&m->config, name, err));
        return hs_config_open(config, m->config, family, err);
    }
    const char *own = m->path ? hs_statedict_metadata(&m->dict, metadata_key) : NULL;
    if (own) {
        HS_TRY(hs_engine_copy_text(&m->config, m->path, err));
        return hs_config_parse(config, own, strlen(own), family, m->config, err);
    }
    HS_TRY(find_own_config(m, config, family, &found, err));
    return found ? HSTU_OK : default_configuration(m, config, family, err);
}

static hstu_status refuse_family(const hs_recognised *r, const hs_statedict *dict, hstu_error *err)
{
    if (r->name)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%.200s: a checkpoint of the family \"%s\", not supported by this version: %s", dict->path, r->name,
            r->not_supported);
    return hs_fail(err, HSTU_EUNSUP, 0,
        "%.200s: no known model among its %zu tensors (the first is '%.80s'); known are retrieval HSTU and SASRec, "
        "NVIDIA's ranking HSTU and the plain decoder",
        dict->path, dict->n_entries, dict->n_entries ? dict->entry[0].name : "");
}

/* Opens the file or folder and tells its family. */
static hstu_status open_checkpoint(hstu_model *m, const char *path, hstu_error *err)
{
    HS_TRY(hs_engine_copy_text(&m->path, path, err));
    if (hs_path_is_folder(m->path)) {
        HS_TRY(hs_nvdir_open(&m->folder, m->path, err));
        m->recognised = hs_engine_recognise_folder(&m->folder);
    } else {
        HS_TRY(hs_ckpt_open(&m->dict, m->path, err));
        m->recognised = hs_family_recognise(&m->dict);
    }
    return HSTU_OK;
}

/* A file of a checkpoint folder has torchrec's collections among its weights; the dynamic tables are not in it. */
static hstu_status refuse_lone_rank(const hstu_model *m, hstu_error *err)
{
    if (m->folder.n_ranks || m->recognised.family != HS_FAMILY_RANKING)
        return HSTU_OK;
    for (size_t i = 0; i < m->dict.n_entries; i++) {
        if (strstr(m->dict.entry[i].name, "_parallel_embedding_collection."))
            return hs_fail(err, HSTU_EINVAL, 0,
                "%.300s is one file of a checkpoint folder: name the folder that holds torch_module and "
                "dynamicemb_module",
                m->path);
    }
    return HSTU_OK;
}

static hstu_status check_family(const hstu_model *m, hstu_error *err)
{
    const hs_statedict *dict = m->folder.n_ranks ? &m->folder.rank[0] : &m->dict;
    if (m->recognised.family != HS_FAMILY_UNKNOWN && !m->recognised.not_supported)
        return refuse_lone_rank(m, err);
    (void)refuse_family(&m->recognised, dict, err);
    hs_statedict_mention_unread(dict, err);
    return HSTU_EUNSUP;
}

static hstu_status bind_checkpoint(hstu_model *m, hs_config *config, bool bf16, hstu_error *err)
{
    hs_model_source source = {.dict = &m->dict, .recognised = &m->recognised};
    const hs_statedict *file = &m->dict;
    if (m->folder.n_ranks) {
        HS_TRY(hs_engine_read_folder(&m->folder, config, &m->dict, &source.table, err));
        m->recognised.group = "";
        file = &m->folder.rank[0];
    }
    const hstu_status status = hs_model_bind(&m->model, config, m->dev, &source, bf16, err);
    if (status == HSTU_ESHAPE || status == HSTU_EUNSUP)
        hs_statedict_mention_unread(file, err);
    return status;
}

/* The number of items of a retrieval model or decoder, which random weights need. */
static hstu_status settle_items(hs_config *config, const hstu_model_options *o, hstu_error *err)
{
    const bool decoder = config->family == HS_CONFIG_DECODER;
    if (config->family == HS_CONFIG_RANKING || config->max_item_id)
        return HSTU_OK;
    if (o->max_item_id == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s does not fix the number of items: random weights need the option max_item_id", config->source);
    if (decoder)
        HS_TRY(hs_config_settle(config, "vocab_size", o->max_item_id + 1, "the option max_item_id", err));
    else
        HS_TRY(hs_config_settle(config, "max_item_id", o->max_item_id, "the option max_item_id", err));
    return hs_config_derive(config, err);
}

static hstu_status make_random(hstu_model *m, hs_config *config, const hstu_model_options *o, hstu_error *err)
{
    m->random_weights = true;
    if (o->max_item_id > HS_MAX_ITEM_ID || o->max_user_id > HS_MAX_ITEM_ID)
        return hs_fail(err, HSTU_EINVAL, 0, "max_item_id and max_user_id are %lld and %lld, expected at most %lld",
            (long long)o->max_item_id, (long long)o->max_user_id, (long long)HS_MAX_ITEM_ID);
    HS_TRY(settle_items(config, o, err));
    m->random = (hs_model_random_options){.seed = o->seed,
        .bf16 = hs_engine_is_bf16(o->dtype),
        .n_items = o->max_item_id ? o->max_item_id + 1 : 0,
        .n_users = o->max_user_id ? o->max_user_id + 1 : 0};
    return hs_model_random(&m->model, config, m->dev, &m->random, err);
}

/* The device, and what the model tells about it. */
static hstu_status take_device(hstu_model *m, const hstu_model_options *o, bool for_file, hstu_error *err)
{
    hstu_npu_options npu;
    m->threads = o->threads;
    HS_TRY(hs_engine_copy_text(&m->device, o->device ? o->device : "cpu", err));
    HS_TRY(hs_engine_open_device(&m->dev, o, for_file, err));
    HS_TRY(hs_engine_read_npu_options(&npu, hs_npu_is(m->dev) ? o->npu : NULL, err));
    m->max_graphs = npu.max_graphs ? npu.max_graphs : HS_NPU_MAX_GRAPHS;
    return HSTU_OK;
}

hstu_status hs_engine_open_model(
    hstu_model **out, const char *checkpoint, const hstu_model_options *o, bool for_file, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hs_config config = {0};
    HS_TRY(hs_engine_check_options(o, err));
    hstu_model *m = hs_calloc(1, sizeof *m);
    if (!m)
        return hs_fail_nomem(err, sizeof *m, "a model");
    HS_TRY_GOTO(take_device(m, o, for_file, err));
    if (checkpoint)
        HS_TRY_GOTO(open_checkpoint(m, checkpoint, err));
    if (o->config) /* what it asks for may be refused by its own name */
        HS_TRY_GOTO(find_config(m, &config, o->config, err));
    if (checkpoint)
        HS_TRY_GOTO(check_family(m, err));
    if (!o->config)
        HS_TRY_GOTO(find_config(m, &config, NULL, err));
    if (checkpoint)
        HS_TRY_GOTO(bind_checkpoint(m, &config, hs_engine_is_bf16(o->dtype), err));
    else
        HS_TRY_GOTO(make_random(m, &config, o, err));
    if (hs_engine_is_bf16(o->kv_dtype))
        m->model.kv_type = HS_BF16;
    *out = m;
    return HSTU_OK;
fail:
    hs_config_free(&config);
    hstu_model_close(m);
    return status;
}

hstu_status hstu_model_open(
    hstu_model **out, const char *checkpoint, const hstu_model_options *options, hstu_error *err)
{
    hstu_model_options o;
    hstu_model_options_init(&o);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    return hs_engine_open_model(out, checkpoint, &o, false, err);
}

void hstu_model_close(hstu_model *model)
{
    if (!model)
        return;
    hs_model_free(&model->model);
    hs_device_close(model->dev);
    hs_statedict_close(&model->dict);
    hs_nvdir_close(&model->folder);
    hs_free(model->path);
    hs_free(model->config);
    hs_free(model->device);
    hs_free(model);
}

const char *hstu_preset_name(size_t i)
{
    return hs_preset_name(i);
}
