/* Defaults of a configuration, and what tensors add to it. */
#include "model/config.h"

#include "base/alloc.h"
#include "base/error.h"
#include "model/config_keys.h"

#include <inttypes.h>

static void init_retrieval(hs_config *config)
{
    config->main_module = HS_MODULE_HSTU;
    config->gr_output_length = 10;
    config->ffn_activation_fn = HS_FFN_RELU;
    config->linear_activation = HS_LINEAR_SILU;
    config->normalization = HS_NORM_REL_BIAS;
    config->enable_relative_attention_bias = true;
    config->num_time_buckets = 128;
    config->layer_norm_eps = 1e-6;
    config->user_embedding_norm = HS_USER_L2;
    config->user_embedding_norm_eps = 1e-6;
    config->item_l2_norm = true;
    config->item_id_offset = 1;
    config->drop_duplicates = true;
}

static void init_ranking(hs_config *config)
{
    config->layer_norm_eps = 1e-5;
    config->num_position_buckets = 8192;
    config->residual = true;
    config->learnable_input_layernorm = true;
    config->learnable_output_layernorm = true;
    config->add_uvqk_bias = true;
    config->head_activation = HS_FFN_RELU;
    config->head_bias = true;
    config->protocol = HS_CONFIG_RANKING_REQUESTS;
}

static void init_decoder(hs_config *config)
{
    config->layer_norm_eps = 1e-5;
    config->ffn_activation_fn = HS_FFN_GELU;
    config->max_position_embeddings = 4096;
    config->drop_duplicates = true;
    config->protocol = HS_CONFIG_SESSIONS;
}

void hs_config_init(hs_config *config, hs_config_family family, const char *source)
{
    *config = (hs_config){
        .source = source,
        .family = (int)family,
        .l2_norm_eps = 1e-6,
        .time_unit_ms = 1000,
        .min_events = 3,
        .protocol = HS_CONFIG_LEAVE_ONE_OUT,
        .session_time_interval_s = 300,
        .session_max_sequences = 1024,
        .session_max_sequence_length = 256,
        .batch_size = 128,
        .top_k = 10,
        .warmup = 1,
    };
    if (family == HS_CONFIG_RANKING)
        init_ranking(config);
    else if (family == HS_CONFIG_DECODER)
        init_decoder(config);
    else
        init_retrieval(config);
}

void hs_config_free(hs_config *config)
{
    hs_free(config->candidate_id);
    *config = (hs_config){0};
}

bool hs_config_is_given(const hs_config *config, const char *name)
{
    return hs_key_is_given(config, hs_key_find(name, config->family));
}

static hstu_status refuse(
    const hs_config *config, const hs_key *key, int64_t have, int64_t value, const char *what, hstu_error *err)
{
    if (key->kind == HS_KEY_CHOICE)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: %s is \"%.*s\", but %s says \"%.*s\"", config->source, key->name,
            hs_key_spelling(key->choice[have]), key->choice[have], what, hs_key_spelling(key->choice[value]),
            key->choice[value]);
    if (key->kind == HS_KEY_BOOL)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: %s is %s, but %s says %s", config->source, key->name,
            have ? "true" : "false", what, value ? "true" : "false");
    if (config->family == HS_CONFIG_RETRIEVAL && key->offset == offsetof(hs_config, attention_n) &&
        config->max_sequence_length && have == config->max_sequence_length + config->gr_output_length + 1)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: attention_n is %" PRId64 " (max_sequence_length %" PRId64 " + gr_output_length %" PRId64
            " + 1), but %s says %" PRId64,
            config->source, have, config->max_sequence_length, config->gr_output_length, what, value);
    return hs_fail(err, HSTU_EINVAL, 0, "%s: %s is %" PRId64 ", but %s says %" PRId64, config->source, key->name, have,
        what, value);
}

static int64_t field_value(const hs_config *config, const hs_key *key)
{
    const void *field = (const char *)config + key->offset;
    switch (key->kind) {
    case HS_KEY_BOOL:
        return *(const bool *)field;
    case HS_KEY_CHOICE:
        return *(const int *)field;
    case HS_KEY_COUNT:
        return *(const int64_t *)field + 1;
    default:
        return *(const int64_t *)field;
    }
}

static void set_field(hs_config *config, const hs_key *key, int64_t value)
{
    void *field = (char *)config + key->offset;
    switch (key->kind) {
    case HS_KEY_BOOL:
        *(bool *)field = value != 0;
        break;
    case HS_KEY_CHOICE:
        *(int *)field = (int)value;
        break;
    case HS_KEY_COUNT:
        *(int64_t *)field = value - 1;
        break;
    default:
        *(int64_t *)field = value;
    }
}

static bool is_settled(hs_key_kind kind)
{
    return kind == HS_KEY_INT || kind == HS_KEY_COUNT || kind == HS_KEY_BOOL || kind == HS_KEY_CHOICE;
}

hstu_status hs_config_settle(hs_config *config, const char *name, int64_t value, const char *what, hstu_error *err)
{
    const int row = hs_key_find(name, config->family);
    if (row < 0 || !is_settled(hs_key_table[row].kind))
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: %s says that '%s' is %" PRId64 ", which the family \"%s\" does not know", config->source, what, name,
            value, hs_family_names[config->family]);
    const hs_key *key = &hs_key_table[row];
    if (hs_key_is_given(config, row)) {
        const int64_t have = field_value(config, key);
        return have == value ? HSTU_OK : refuse(config, key, have, value, what, err);
    }
    if ((key->kind == HS_KEY_INT || key->kind == HS_KEY_COUNT) && (value < key->min || value > key->max))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%s says that %s is %" PRId64 ", outside %" PRId64 " .. %" PRId64 " which this version runs", what,
            key->name, value, key->min, key->max);
    set_field(config, key, value);
    hs_key_mark_given(config, row);
    return HSTU_OK;
}
