/* Defaults of a configuration, and the rules between its keys. */
#include "model/config.h"

#include "base/alloc.h"
#include "base/error.h"
#include "model/config_keys.h"

#include <inttypes.h>
#include <string.h>

void hs_config_init(hs_config *config, const char *source)
{
    *config = (hs_config){
        .source = source,
        .main_module = HS_MODULE_HSTU,
        .gr_output_length = 10,
        .ffn_activation_fn = HS_FFN_RELU,
        .linear_activation = HS_LINEAR_SILU,
        .normalization = HS_NORM_REL_BIAS,
        .enable_relative_attention_bias = true,
        .num_time_buckets = 128,
        .layer_norm_eps = 1e-6,
        .user_embedding_norm = HS_USER_L2,
        .user_embedding_norm_eps = 1e-6,
        .item_l2_norm = true,
        .l2_norm_eps = 1e-6,
        .item_id_offset = 1,
        .time_unit_ms = 1000,
        .min_events = 3,
        .drop_duplicates = true,
        .protocol = HS_CONFIG_LEAVE_ONE_OUT,
        .session_time_interval_s = 300,
        .session_max_sequences = 1024,
        .session_max_sequence_length = 256,
        .batch_size = 128,
        .top_k = 10,
        .warmup = 1,
    };
}

void hs_config_free(hs_config *config)
{
    hs_free(config->candidate_id);
    *config = (hs_config){0};
}

bool hs_config_is_given(const hs_config *config, const char *key)
{
    const int row = hs_key_find(key);
    return row >= 0 && (config->given >> row & 1) != 0;
}

static void mark_given(hs_config *config, const char *key)
{
    config->given |= UINT64_C(1) << hs_key_find(key);
}

static int64_t *int_field(hs_config *config, const hs_key *key)
{
    return (int64_t *)(void *)((char *)config + key->offset);
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
    if (key->offset == offsetof(hs_config, attention_n) && config->max_sequence_length &&
        have == config->max_sequence_length + config->gr_output_length + 1)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: attention_n is %" PRId64 " (max_sequence_length %" PRId64 " + gr_output_length %" PRId64
            " + 1), but %s says %" PRId64,
            config->source, have, config->max_sequence_length, config->gr_output_length, what, value);
    return hs_fail(err, HSTU_EINVAL, 0, "%s: %s is %" PRId64 ", but %s says %" PRId64, config->source, key->name, have,
        what, value);
}

hstu_status hs_config_settle(hs_config *config, const char *name, int64_t value, const char *what, hstu_error *err)
{
    const hs_key *key = &hs_key_table[hs_key_find(name)];
    char *field = (char *)config + key->offset;
    int64_t have = 0;
    if (key->kind == HS_KEY_INT)
        have = *int_field(config, key);
    else if (key->kind == HS_KEY_BOOL)
        have = *(bool *)(void *)field;
    else
        have = *(int *)(void *)field;
    if (hs_config_is_given(config, name))
        return have == value ? HSTU_OK : refuse(config, key, have, value, what, err);
    if (key->kind == HS_KEY_INT && (value < key->min || value > key->max))
        return hs_fail(err, HSTU_EUNSUP, 0,
            "%s says that %s is %" PRId64 ", outside %" PRId64 " .. %" PRId64 " which this version runs", what,
            key->name, value, key->min, key->max);
    if (key->kind == HS_KEY_INT)
        *int_field(config, key) = value;
    else if (key->kind == HS_KEY_BOOL)
        *(bool *)(void *)field = value != 0;
    else
        *(int *)(void *)field = (int)value;
    mark_given(config, name);
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
    if (config->sequence_length && config->max_sequence_length && config->sequence_length > config->max_sequence_length)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: sequence_length %" PRId64 " is above max_sequence_length %" PRId64,
            config->source, config->sequence_length, config->max_sequence_length);
    return HSTU_OK;
}

hstu_status hs_config_derive(hs_config *config, hstu_error *err)
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
    if (config->num_heads * wide > HS_MAX_DIM)
        return hs_fail(err, HSTU_EUNSUP, 0, "%s: num_heads %" PRId64 " x max(dqk, dv) %" PRId64 " is above %d",
            config->source, config->num_heads, wide, HS_MAX_DIM);
    return HSTU_OK;
}

hstu_status hs_config_require_complete(const hs_config *config, hstu_error *err)
{
    const bool hstu = config->main_module == HS_MODULE_HSTU;
    const struct {
        const char *name;
        int64_t value;
    } needed[] = {
        {"max_sequence_length", config->max_sequence_length},
        {"item_embedding_dim", config->item_embedding_dim},
        {"num_blocks", config->num_blocks},
        {"num_heads", config->num_heads},
        {"dqk", hstu ? config->dqk : 1},
        {"dv", hstu ? config->dv : 1},
        {"ffn_hidden_dim", hstu ? 1 : config->ffn_hidden_dim},
        {"max_item_id", config->max_item_id},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (needed[i].value == 0)
            return hs_fail(
                err, HSTU_EINVAL, 0, "%s: '%s' is missing, and nothing else tells it", config->source, needed[i].name);
    }
    return HSTU_OK;
}
