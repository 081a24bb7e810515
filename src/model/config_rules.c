/* The rules between a configuration's keys: what follows from others, and what must be there. */
#include "base/error.h"
#include "model/config.h"
#include "model/config_features.h"
#include "model/config_keys.h"

#include <inttypes.h>

static void mark_given(hs_config *config, const char *key)
{
    hs_key_mark_given(config, hs_key_find(key, config->family));
}

static hstu_status check_run_length(const hs_config *config, hstu_error *err)
{
    if (config->sequence_length && config->max_sequence_length && config->sequence_length > config->max_sequence_length)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: sequence_length %" PRId64 " is above max_sequence_length %" PRId64,
            config->source, config->sequence_length, config->max_sequence_length);
    return HSTU_OK;
}

static hstu_status derive_lengths(hs_config *config, hstu_error *err)
{
    const int64_t more = config->gr_output_length + 1;
    if (!config->attention_n && config->max_sequence_length) {
        if (config->max_sequence_length > HS_MAX_SEQUENCE - more)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: max_sequence_length %" PRId64 " + gr_output_length %" PRId64 " + 1 is above %d", config->source,
                config->max_sequence_length, config->gr_output_length, HS_MAX_SEQUENCE);
        config->attention_n = config->max_sequence_length + more;
        mark_given(config, "attention_n");
    } else if (config->attention_n && !config->max_sequence_length) {
        if (config->attention_n <= more)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: attention_n %" PRId64 " leaves no event before gr_output_length %" PRId64 " + 1", config->source,
                config->attention_n, config->gr_output_length);
        config->max_sequence_length = config->attention_n - more;
        mark_given(config, "max_sequence_length");
    }
    if (config->max_sequence_length > config->attention_n)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: max_sequence_length %" PRId64 " is above attention_n %" PRId64,
            config->source, config->max_sequence_length, config->attention_n);
    return check_run_length(config, err);
}

static hstu_status check_heads(const hs_config *config, const char *widths, int64_t wide, hstu_error *err)
{
    if (config->num_heads * wide > HS_MAX_DIM)
        return hs_fail(err, HSTU_EUNSUP, 0, "%s: num_heads %" PRId64 " x %s %" PRId64 " is above %d", config->source,
            config->num_heads, widths, wide, HS_MAX_DIM);
    return HSTU_OK;
}

static hstu_status derive_retrieval(hs_config *config, hstu_error *err)
{
    HS_TRY(derive_lengths(config, err));
    if (hs_config_is_given(config, "l2_norm_eps") && !hs_config_is_given(config, "user_embedding_norm_eps"))
        config->user_embedding_norm_eps = config->l2_norm_eps;
    if (config->candidate_id && config->max_item_id) {
        const int64_t last = config->candidate_id[config->n_candidates - 1];
        if (last > config->max_item_id)
            return hs_fail(err, HSTU_EINVAL, 0, "%s: candidate id %" PRId64 " is above max_item_id %" PRId64,
                config->source, last, config->max_item_id);
    }
    if (config->main_module == HS_MODULE_SASREC) {
        if (config->num_heads && config->item_embedding_dim % config->num_heads != 0)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: SASRec's item_embedding_dim %" PRId64 " is no multiple of num_heads %" PRId64, config->source,
                config->item_embedding_dim, config->num_heads);
        return HSTU_OK;
    }
    if (config->normalization == HS_NORM_REL_BIAS && !config->enable_relative_attention_bias)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%s: normalization \"rel_bias\" without enable_relative_attention_bias does not run in the reference "
            "either",
            config->source);
    const int64_t wide = config->dqk > config->dv ? config->dqk : config->dv;
    return check_heads(config, "max(dqk, dv)", wide, err);
}

/* Contextual features have one token each, history events and candidates two: an item and its action. */
static hstu_status derive_divisor(hs_config *config, hstu_error *err)
{
    if (config->attention_n || !config->max_history || !config->max_candidates ||
        !hs_config_is_given(config, "contextual"))
        return HSTU_OK;
    const int64_t n = config->n_context + 2 * (config->max_history + config->max_candidates);
    if (n > HS_MAX_SEQUENCE)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: %d contextual features + 2 * (max_history_seqlen %" PRId64 " + max_num_candidates %" PRId64
            ") are %" PRId64 " tokens, above %d",
            config->source, config->n_context, config->max_history, config->max_candidates, n, HS_MAX_SEQUENCE);
    config->attention_n = n;
    mark_given(config, "scaling_seqlen");
    return HSTU_OK;
}

static hstu_status derive_ranking(hs_config *config, hstu_error *err)
{
    config->dv = config->dqk;
    HS_TRY(check_heads(config, "kv_channels", config->dqk, err));
    HS_TRY(hs_features_derive(config, err));
    HS_TRY(derive_divisor(config, err));
    if (config->n_head == 0)
        return HSTU_OK;
    const int64_t classes = config->head[config->n_head - 1];
    if (config->num_tasks == 0)
        config->num_tasks = classes;
    if (config->num_tasks != 1 && config->num_tasks != classes)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: num_tasks %" PRId64
            " must be 1 or the number of classes, the last size of prediction_head_arch, %" PRId64,
            config->source, config->num_tasks, classes);
    return HSTU_OK;
}

static hstu_status derive_decoder(hs_config *config, hstu_error *err)
{
    config->ffn_hidden_dim = 4 * config->item_embedding_dim;
    if (config->max_sequence_length == 0)
        config->max_sequence_length = config->max_position_embeddings;
    if (config->max_sequence_length > config->max_position_embeddings)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: max_sequence_length %" PRId64 " is above max_position_embeddings %" PRId64, config->source,
            config->max_sequence_length, config->max_position_embeddings);
    return check_run_length(config, err);
}

hstu_status hs_config_derive(hs_config *config, hstu_error *err)
{
    const bool ranking = config->family == HS_CONFIG_RANKING;
    if (ranking != (config->protocol == HS_CONFIG_RANKING_REQUESTS))
        return hs_fail(err, HSTU_EINVAL, 0, "%s: the protocol \"ranking\" and the family \"%s\" do not %s",
            config->source, hs_family_names[config->family], ranking ? "go without each other" : "go together");
    if (ranking)
        return derive_ranking(config, err);
    return config->family == HS_CONFIG_DECODER ? derive_decoder(config, err) : derive_retrieval(config, err);
}

/* A size that must be known. */
typedef struct size_needed {
    const char *name;
    int64_t value;
} size_needed;

static hstu_status refuse_unknown(const hs_config *config, const size_needed *needed, size_t n, hstu_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (needed[i].value == 0)
            return hs_fail(
                err, HSTU_EINVAL, 0, "%s: '%s' is missing, and nothing else tells it", config->source, needed[i].name);
    }
    return HSTU_OK;
}

static hstu_status require_retrieval(const hs_config *config, hstu_error *err)
{
    const bool hstu = config->main_module == HS_MODULE_HSTU;
    const size_needed needed[] = {
        {"max_sequence_length", config->max_sequence_length},
        {"item_embedding_dim", config->item_embedding_dim},
        {"num_blocks", config->num_blocks},
        {"num_heads", config->num_heads},
        {"dqk", hstu ? config->dqk : 1},
        {"dv", hstu ? config->dv : 1},
        {"ffn_hidden_dim", hstu ? 1 : config->ffn_hidden_dim},
        {"max_item_id", config->max_item_id},
    };
    return refuse_unknown(config, needed, sizeof needed / sizeof needed[0], err);
}

static hstu_status require_ranking(const hs_config *config, hstu_error *err)
{
    const size_needed needed[] = {
        {"hidden_size", config->item_embedding_dim},
        {"num_layers", config->num_blocks},
        {"num_attention_heads", config->num_heads},
        {"kv_channels", config->dqk},
        {"num_position_buckets", config->num_position_buckets},
        {"contextual", hs_config_is_given(config, "contextual")},
        {"item_feature", config->item.name[0]},
        {"action_feature", config->action.name[0]},
        {"tables", config->n_tables},
        {"prediction_head_arch", config->n_head},
        {"max_history_seqlen", config->max_history},
        {"max_num_candidates", config->max_candidates},
        {"scaling_seqlen", config->attention_n},
        {"contextual_mask", hs_config_is_given(config, "contextual_mask")},
    };
    return refuse_unknown(config, needed, sizeof needed / sizeof needed[0], err);
}

hstu_status hs_config_require_complete(const hs_config *config, hstu_error *err)
{
    if (config->family == HS_CONFIG_RETRIEVAL)
        return require_retrieval(config, err);
    if (config->family == HS_CONFIG_RANKING)
        return require_ranking(config, err);
    const size_needed needed[] = {
        {"hidden_size", config->item_embedding_dim},
        {"num_layers", config->num_blocks},
        {"max_position_embeddings", config->max_position_embeddings},
        {"vocab_size", config->max_item_id},
    };
    return refuse_unknown(config, needed, sizeof needed / sizeof needed[0], err);
}
