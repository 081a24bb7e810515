/* Sizes from tensor shapes. Shapes: the reference's modules; ranks that do not fit are left to bind.c, which names them. */
#include "model/infer.h"

#include "base/error.h"
#include "model/config_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct seen {
    int64_t blocks; /* 1 + the largest layer number */
    /* retrieval */
    int64_t uvqk_cols; /* 2 * H * (dv + dqk), 0 unknown */
    int64_t o_in;      /* H * dv or 3 * H * dv, 0 unknown */
    bool has_bias_tables;
    /* ranking */
    int64_t head[HS_MAX_HEAD_LAYERS]; /* outputs of each layer of the prediction head, 0 unknown */
    int n_head;
    bool has_input_norm, has_output_norm, has_uvqk_bias, has_head_bias;
} seen;

static const char *describe(const hs_entry *entry, char *buf, size_t size)
{
    char shape[96];
    (void)snprintf(buf, size, "tensor '%.100s' of shape %s", entry->name,
        hs_tensor_shape_text(&entry->tensor, shape, sizeof shape));
    return buf;
}

static bool is_rank(const hs_entry *entry, int rank)
{
    return entry->tensor.rank == rank;
}

static hstu_status look_at_shared(hs_config *c, const hs_entry *e, const char *name, hstu_error *err)
{
    char what[256];
    const int64_t *shape = e->tensor.shape;
    if (strcmp(name, "_embedding_module._item_emb.weight") == 0 && is_rank(e, 2)) {
        HS_TRY(hs_config_settle(c, "item_embedding_dim", shape[1], describe(e, what, sizeof what), err));
        return hs_config_settle(c, "max_item_id", shape[0] - 1, describe(e, what, sizeof what), err);
    }
    if (strcmp(name, "_input_features_preproc._pos_emb.weight") == 0 && is_rank(e, 2)) {
        HS_TRY(hs_config_settle(c, "attention_n", shape[0], describe(e, what, sizeof what), err));
        return hs_config_settle(c, "item_embedding_dim", shape[1], describe(e, what, sizeof what), err);
    }
    return HSTU_OK;
}

static hstu_status look_at_hstu(hs_config *c, seen *s, const hs_entry *e, const char *rest, hstu_error *err)
{
    char what[256];
    const int64_t *shape = e->tensor.shape;
    if (strcmp(rest, "_uvqk") == 0 && is_rank(e, 2)) {
        s->uvqk_cols = shape[1];
        return hs_config_settle(c, "item_embedding_dim", shape[0], describe(e, what, sizeof what), err);
    }
    if (strcmp(rest, "_o.weight") == 0 && is_rank(e, 2))
        s->o_in = shape[1];
    if (strcmp(rest, "_rel_attn_bias._ts_w") == 0 && is_rank(e, 1)) {
        s->has_bias_tables = true;
        HS_TRY(hs_config_settle(c, "enable_relative_attention_bias", 1, describe(e, what, sizeof what), err));
        return hs_config_settle(c, "num_time_buckets", shape[0] - 1, describe(e, what, sizeof what), err);
    }
    if (strcmp(rest, "_rel_attn_bias._pos_w") == 0 && is_rank(e, 1)) {
        s->has_bias_tables = true;
        return hs_config_settle(c, "attention_n", shape[0] / 2 + 1, describe(e, what, sizeof what), err);
    }
    return HSTU_OK;
}

static hstu_status look_at_sasrec(hs_config *c, const hs_entry *e, const char *rest, hstu_error *err)
{
    char what[256];
    if (strcmp(rest, "in_proj_weight") == 0 && is_rank(e, 2))
        return hs_config_settle(c, "item_embedding_dim", e->tensor.shape[1], describe(e, what, sizeof what), err);
    if (strcmp(rest, "_conv1d.0.weight") == 0 && is_rank(e, 3))
        return hs_config_settle(c, "ffn_hidden_dim", e->tensor.shape[0], describe(e, what, sizeof what), err);
    return HSTU_OK;
}

static hstu_status look_at_retrieval(hs_config *c, seen *s, const hs_entry *e, const char *name, hstu_error *err)
{
    const char *rest = NULL;
    HS_TRY(look_at_shared(c, e, name, err));
    int64_t layer = -1;
    if (c->main_module == HS_MODULE_HSTU) {
        layer = hs_family_layer(name, "_hstu._attention_layers.", &rest);
        if (layer >= 0)
            HS_TRY(look_at_hstu(c, s, e, rest, err));
    } else {
        layer = hs_family_layer(name, "attention_layers.", &rest);
        if (layer < 0)
            layer = hs_family_layer(name, "forward_layers.", &rest);
        if (layer >= 0)
            HS_TRY(look_at_sasrec(c, e, rest, err));
    }
    if (layer + 1 > s->blocks)
        s->blocks = layer + 1;
    return HSTU_OK;
}

static hstu_status look_at_ranking_layer(hs_config *c, seen *s, const hs_entry *e, const char *rest, hstu_error *err)
{
    char what[256];
    s->has_input_norm |= strcmp(rest, "_input_layernorm_weight") == 0;
    s->has_output_norm |= strcmp(rest, "_output_layernorm_weight") == 0;
    s->has_uvqk_bias |= strcmp(rest, "_linear_uvqk_bias") == 0;
    if (strcmp(rest, "_linear_uvqk_weight") == 0 && is_rank(e, 2)) {
        s->uvqk_cols = e->tensor.shape[1];
        return hs_config_settle(c, "hidden_size", e->tensor.shape[0], describe(e, what, sizeof what), err);
    }
    return HSTU_OK;
}

/* "_mlp._mlp.<2 i>.weight" is layer i of the prediction head. */
static void look_at_head(seen *s, const hs_entry *e, int64_t number, const char *rest)
{
    const int64_t i = number / 2;
    if (number % 2 != 0 || i >= HS_MAX_HEAD_LAYERS)
        return; /* bind.c calls it extra */
    s->has_head_bias |= strcmp(rest, "bias") == 0;
    if (strcmp(rest, "weight") == 0 && is_rank(e, 2)) {
        s->head[i] = e->tensor.shape[0];
        s->n_head = i + 1 > s->n_head ? (int)i + 1 : s->n_head;
    }
}

static hstu_status look_at_ranking(hs_config *c, seen *s, const hs_entry *e, const char *name, hstu_error *err)
{
    char what[256];
    const char *rest = NULL;
    if (strcmp(name, "_hstu_block._preprocessor._positional_encoder._position_embeddings_weight") == 0 &&
        is_rank(e, 2)) {
        HS_TRY(hs_config_settle(c, "num_position_buckets", e->tensor.shape[0], describe(e, what, sizeof what), err));
        return hs_config_settle(c, "hidden_size", e->tensor.shape[1], describe(e, what, sizeof what), err);
    }
    const int64_t number = hs_family_layer(name, "_mlp._mlp.", &rest);
    if (number >= 0)
        look_at_head(s, e, number, rest);
    const int64_t layer = hs_family_layer(name, "_hstu_block._attention_layers.", &rest);
    if (layer >= 0)
        HS_TRY(look_at_ranking_layer(c, s, e, rest, err));
    if (layer + 1 > s->blocks)
        s->blocks = layer + 1;
    return HSTU_OK;
}

static hstu_status look_at_decoder(hs_config *c, seen *s, const hs_entry *e, const char *name, hstu_error *err)
{
    char what[256];
    const char *rest = NULL;
    if (strcmp(name, "embedding.weight") == 0 && is_rank(e, 2)) {
        HS_TRY(hs_config_settle(c, "vocab_size", e->tensor.shape[0], describe(e, what, sizeof what), err));
        return hs_config_settle(c, "hidden_size", e->tensor.shape[1], describe(e, what, sizeof what), err);
    }
    const int64_t layer = hs_family_layer(name, "layers.", &rest);
    if (layer + 1 > s->blocks)
        s->blocks = layer + 1;
    return HSTU_OK;
}

static hstu_status look_at(hs_config *c, seen *s, const hs_entry *e, hstu_error *err)
{
    const char *name = hs_family_peel(e->name);
    if (c->family == HS_CONFIG_RANKING)
        return look_at_ranking(c, s, e, name, err);
    if (c->family == HS_CONFIG_DECODER)
        return look_at_decoder(c, s, e, name, err);
    return look_at_retrieval(c, s, e, name, err);
}

/* The head sizes, when the number of heads is known; and concat_ua, whose output projection is wider than u and q together. */
static hstu_status settle_heads(hs_config *c, const seen *s, hstu_error *err)
{
    const char *what = "the width of the '_uvqk' and '_o.weight' tensors";
    if (s->uvqk_cols == 0 || s->o_in == 0 || s->uvqk_cols > 4 * (int64_t)HS_MAX_DIM ||
        s->o_in > 3 * (int64_t)HS_MAX_DIM)
        return HSTU_OK;
    if (s->o_in >= s->uvqk_cols / 2)
        HS_TRY(hs_config_settle(c, "concat_ua", 1, what, err));
    const int64_t hv = c->concat_ua ? s->o_in / 3 : s->o_in;
    const int64_t hqk = s->uvqk_cols / 2 - hv;
    if (c->num_heads == 0 || hqk <= 0 || hv % c->num_heads != 0 || hqk % c->num_heads != 0)
        return HSTU_OK; /* left to the shapes that bind.c expects */
    if (c->dv == 0)
        HS_TRY(hs_config_settle(c, "dv", hv / c->num_heads, what, err));
    if (c->dqk == 0)
        HS_TRY(hs_config_settle(c, "dqk", hqk / c->num_heads, what, err));
    return HSTU_OK;
}

static hstu_status finish_retrieval(hs_config *config, const seen *s, hstu_error *err)
{
    HS_TRY(hs_config_settle(config, "num_blocks", s->blocks, "the number of layers among the tensors", err));
    if (config->main_module != HS_MODULE_HSTU)
        return HSTU_OK;
    HS_TRY(settle_heads(config, s, err));
    if (!s->has_bias_tables && !hs_config_is_given(config, "enable_relative_attention_bias") &&
        !hs_config_is_given(config, "normalization")) {
        /* The reference can run layers without bias tables in this mode only. */
        config->enable_relative_attention_bias = false;
        config->normalization = HS_NORM_SOFTMAX;
    }
    return HSTU_OK;
}

static hstu_status settle_head(hs_config *c, const seen *s, hstu_error *err)
{
    if (c->n_head && c->n_head != s->n_head)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: prediction_head_arch has %d layers, but the '_mlp._mlp...' tensors are %d", c->source, c->n_head,
            s->n_head);
    for (int i = 0; i < s->n_head; i++) {
        if (s->head[i] < 1 || s->head[i] > HS_MAX_DIM)
            return hs_fail(err, HSTU_ESHAPE, 0,
                "tensor '_mlp._mlp.%d.weight' is missing or gives %" PRId64 " outputs, expected 1 .. %d", 2 * i,
                s->head[i], HS_MAX_DIM);
        if (c->n_head && c->head[i] != s->head[i])
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: prediction_head_arch[%d] is %" PRId64 ", but tensor '_mlp._mlp.%d.weight' has %" PRId64 " outputs",
                c->source, i, c->head[i], 2 * i, s->head[i]);
    }
    memcpy(c->head, s->head, sizeof c->head);
    c->n_head = s->n_head;
    return hs_config_settle(
        c, "prediction_head_bias", s->has_head_bias, "the presence of '_mlp._mlp...bias' tensors", err);
}

static hstu_status finish_ranking(hs_config *c, const seen *s, hstu_error *err)
{
    HS_TRY(hs_config_settle(c, "num_layers", s->blocks, "the number of layers among the tensors", err));
    HS_TRY(hs_config_settle(
        c, "learnable_input_layernorm", s->has_input_norm, "the presence of '_input_layernorm_weight' tensors", err));
    HS_TRY(hs_config_settle(c, "learnable_output_layernorm", s->has_output_norm,
        "the presence of '_output_layernorm_weight' tensors", err));
    HS_TRY(hs_config_settle(c, "add_uvqk_bias", s->has_uvqk_bias, "the presence of '_linear_uvqk_bias' tensors", err));
    if (c->num_heads && s->uvqk_cols && s->uvqk_cols <= 4 * (int64_t)HS_MAX_DIM &&
        s->uvqk_cols % (4 * c->num_heads) == 0 && c->dqk == 0)
        HS_TRY(hs_config_settle(
            c, "kv_channels", s->uvqk_cols / (4 * c->num_heads), "the width of '_linear_uvqk_weight'", err));
    return settle_head(c, s, err);
}

static hstu_status finish_decoder(hs_config *c, const seen *s, hstu_error *err)
{
    return hs_config_settle(c, "num_layers", s->blocks, "the number of layers among the tensors", err);
}

static hstu_status check_family(const hs_config *config, const hs_recognised *recognised, hstu_error *err)
{
    if (config->family == (int)hs_family_config(recognised->family))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "%s is a configuration of the family \"%s\", but the checkpoint holds a %s",
        config->source, hs_family_names[config->family], recognised->name);
}

hstu_status hs_infer(hs_config *config, const hs_statedict *dict, const hs_recognised *recognised, hstu_error *err)
{
    HS_TRY(check_family(config, recognised, err));
    if (recognised->family == HS_FAMILY_HSTU)
        HS_TRY(hs_config_settle(config, "main_module", HS_MODULE_HSTU, "tensor '_hstu._attention_layers...'", err));
    if (recognised->family == HS_FAMILY_SASREC)
        HS_TRY(hs_config_settle(
            config, "main_module", HS_MODULE_SASREC, "tensor 'attention_layers...in_proj_weight'", err));
    seen s = {0};
    for (size_t i = 0; i < dict->n_entries; i++) {
        if (strcmp(dict->entry[i].group, recognised->group) == 0)
            HS_TRY(look_at(config, &s, &dict->entry[i], err));
    }
    if (config->family == HS_CONFIG_RANKING)
        HS_TRY(finish_ranking(config, &s, err));
    else if (config->family == HS_CONFIG_DECODER)
        HS_TRY(finish_decoder(config, &s, err));
    else
        HS_TRY(finish_retrieval(config, &s, err));
    return hs_config_derive(config, err);
}
