/* Configurations from the reference's gin files: which of its keys is which of ours. */
#include "model/config_gin.h"

#include "base/error.h"
#include "base/json.h"
#include "model/config_keys.h"
#include "model/config_value.h"
#include "model/gin.h"
#include "model/preset.h"

#include <stdio.h>
#include <string.h>

static const char dataset_name[] = "DatasetArgs.dataset_name";

/* The ranking family's key, or NULL for a binding that inference does not need. */
static const struct {
    const char *name, *key;
} bindings[] = {
    {dataset_name, NULL}, /* read before all others */
    {"DatasetArgs.dataset_path", NULL},
    {"DatasetArgs.max_history_seqlen", "max_history_seqlen"},
    {"DatasetArgs.max_sequence_length", "max_history_seqlen"}, /* its name in older files */
    {"DatasetArgs.max_num_candidates", "max_num_candidates"},
    {"DatasetArgs.shuffle", NULL},
    {"NetworkArgs.num_layers", "num_layers"},
    {"NetworkArgs.hidden_size", "hidden_size"},
    {"NetworkArgs.num_attention_heads", "num_attention_heads"},
    {"NetworkArgs.kv_channels", "kv_channels"},
    {"NetworkArgs.norm_epsilon", "norm_epsilon"},
    {"NetworkArgs.num_position_buckets", "num_position_buckets"},
    {"NetworkArgs.scaling_seqlen", "scaling_seqlen"},
    {"NetworkArgs.disable_contextual_mask", "disable_contextual_mask"},
    {"NetworkArgs.is_causal", "is_causal"},
    {"NetworkArgs.target_group_size", "target_group_size"},
    {"NetworkArgs.item_embedding_dim", "item_embedding_dim"},
    {"NetworkArgs.contextual_embedding_dim", "contextual_embedding_dim"},
    {"NetworkArgs.use_time_encoding", "use_time_encoding"},
    {"NetworkArgs.backbone", "backbone"},
    {"NetworkArgs.transformer_ffn_dim", "transformer_ffn_dim"},
    {"NetworkArgs.hidden_dropout", NULL},
    {"NetworkArgs.dtype_str", NULL},
    {"NetworkArgs.kernel_backend", NULL},
    {"NetworkArgs.layer_type", NULL},
    {"NetworkArgs.recompute_input_layernorm", NULL},
    {"NetworkArgs.recompute_input_silu", NULL},
    {"NetworkArgs.embedding_backend", NULL},
    {"NetworkArgs.hash_size", NULL},
    {"RankingArgs.prediction_head_arch", "prediction_head_arch"},
    {"RankingArgs.prediction_head_act_type", "prediction_head_act_type"},
    {"RankingArgs.prediction_head_bias", "prediction_head_bias"},
    {"RankingArgs.num_tasks", "num_tasks"},
    {"RankingArgs.eval_metrics", NULL},
    {"TrainerArgs.eval_batch_size", "batch_size"},
};

/* Whole classes that say nothing about a trained model. */
static const char *const ignored[] = {
    "TrainerArgs.", "OptimizerArgs.", "TensorModelParallelArgs.", "MixedPrecisionArgs."};

static const struct {
    const char *prefix, *what;
} refused[] = {
    {"RetrievalArgs.", "the reference's retrieval model"},
    {"BenchmarkDatasetArgs.", "random data of a benchmark"},
    {"AttnBalancedBenchmarkArgs.", "random data of a benchmark"},
    {"FeatureArgs.", "random data of a benchmark"},
    {"EmbeddingArgs.", "random data of a benchmark"},
    {"DynamicEmbeddingArgs.", "random data of a benchmark"},
    {"RandomDistribution.", "random data of a benchmark"},
};

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* *key is NULL when the binding means nothing here. */
static hstu_status find_binding(const char *name, const char **key, const char *source, hstu_error *err)
{
    hs_nearest nearest = hs_nearest_make(name);
    *key = NULL;
    for (size_t i = 0; i < sizeof bindings / sizeof bindings[0]; i++) {
        if (strcmp(bindings[i].name, name) == 0) {
            *key = bindings[i].key;
            return HSTU_OK;
        }
        hs_nearest_consider(&nearest, bindings[i].name);
    }
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        if (begins(name, ignored[i]))
            return HSTU_OK;
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (begins(name, refused[i].prefix))
            return hs_fail(err, HSTU_EUNSUP, 0, "%s: '%.100s' describes %s, which is not supported", source, name,
                refused[i].what);
    }
    if (nearest.best)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'; the nearest known key is '%s'", source, name,
            nearest.best);
    return hs_fail(err, HSTU_EFORMAT, 0, "%s: unknown key '%.100s'", source, name);
}

/* "<file>:<line>", as the errors of one binding call the configuration. */
typedef struct place {
    char text[256];
} place;

static place place_of(const hs_config *config, const cJSON *entry)
{
    place p;
    const cJSON *line = cJSON_GetObjectItemCaseSensitive(entry, "line");
    (void)snprintf(p.text, sizeof p.text, "%.200s:%.0f", config->source, line->valuedouble);
    return p;
}

/* The data set brings the features and their tables. */
static hstu_status read_dataset_name(hs_config *config, const cJSON *gin, hstu_error *err)
{
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(gin, dataset_name);
    if (!entry)
        return HSTU_OK;
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(entry, "value");
    const place p = place_of(config, entry);
    if (!cJSON_IsString(value))
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: '%s' must be a string", p.text, dataset_name);
    if (hs_preset_use_dataset(config, value->valuestring))
        return HSTU_OK;
    return hs_fail(err, HSTU_EUNSUP, 0,
        "%s: '%s' must be 'kuairand-pure', 'kuairand-1k', 'kuairand-27k', 'ml-1m' or 'ml-20m', but it is '%.100s'",
        p.text, dataset_name, value->valuestring);
}

/* Moves the value of one binding into `root`, under our name. */
static hstu_status read_entry(hs_config *config, cJSON *root, cJSON *entry, hstu_error *err)
{
    const place p = place_of(config, entry);
    const char *key = NULL;
    HS_TRY(find_binding(entry->string, &key, p.text, err));
    if (!key)
        return HSTU_OK;
    cJSON *value = cJSON_DetachItemFromObjectCaseSensitive(entry, "value");
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(root, key);
    if (other && !cJSON_Compare(other, value, true)) {
        cJSON_Delete(value);
        return hs_fail(err, HSTU_EINVAL, 0, "%s: '%.100s' and another binding of '%s' are one thing, but differ",
            p.text, entry->string, key);
    }
    if (!cJSON_AddItemToObject(root, key, value)) {
        cJSON_Delete(value);
        return hs_fail_nomem(err, sizeof *value, p.text);
    }
    const char *source = config->source;
    config->source = p.text;
    const hstu_status status = hs_config_read_member(config, root, value, err);
    config->source = source;
    return status;
}

/* The reference's contextual mask is on unless its file switches it off. */
static hstu_status read_bindings(hs_config *config, cJSON *root, cJSON *gin, hstu_error *err)
{
    HS_TRY(read_dataset_name(config, gin, err));
    cJSON *entry = NULL;
    cJSON_ArrayForEach(entry, gin) HS_TRY(read_entry(config, root, entry, err));
    if (!cJSON_GetObjectItemCaseSensitive(gin, dataset_name))
        return hs_fail(err, HSTU_EINVAL, 0, "%s: '%s' is missing, which tells the features and their tables",
            config->source, dataset_name);
    if (!cJSON_GetObjectItemCaseSensitive(root, "disable_contextual_mask"))
        HS_TRY(hs_config_settle(config, "contextual_mask", 1, config->source, err));
    return hs_config_read_rest(config, root, err);
}

hstu_status hs_config_read_gin(hs_config *config, const char *text, size_t len, int family, hstu_error *err)
{
    if (family != HS_CONFIG_ANY && family != HS_CONFIG_RANKING)
        return hs_fail(err, HSTU_EUNSUP, 0, "%s: gin files describe the family \"ranking\" only, not \"%s\"",
            config->source, hs_family_names[family]);
    cJSON *gin = NULL, *root = cJSON_CreateObject();
    hstu_status status = hs_gin_parse(&gin, text, len, config->source, err);
    hs_config_init(config, HS_CONFIG_RANKING, config->source);
    if (status == HSTU_OK && !root)
        status = hs_fail_nomem(err, sizeof *root, config->source);
    if (status == HSTU_OK)
        status = read_bindings(config, root, gin, err);
    cJSON_Delete(root);
    cJSON_Delete(gin);
    return status;
}
