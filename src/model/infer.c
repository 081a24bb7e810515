/* Sizes from tensor shapes. Shapes: the reference's modules; ranks that do not fit are left to bind.c, which names them. */
#include "model/infer.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

typedef struct seen {
    int64_t blocks;    /* 1 + the largest layer number */
    int64_t uvqk_cols; /* 2 * H * (dv + dqk), 0 unknown */
    int64_t o_in;      /* H * dv or 3 * H * dv, 0 unknown */
    bool has_bias_tables;
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

static hstu_status look_at(hs_config *c, seen *s, const hs_entry *e, hstu_error *err)
{
    const char *name = hs_family_peel(e->name), *rest = NULL;
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

hstu_status hs_infer(hs_config *config, const hs_statedict *dict, const hs_recognised *recognised, hstu_error *err)
{
    const bool hstu = recognised->family == HS_FAMILY_HSTU;
    const int module = hstu ? HS_MODULE_HSTU : HS_MODULE_SASREC;
    HS_TRY(hs_config_settle(config, "main_module", module,
        hstu ? "tensor '_hstu._attention_layers...'" : "tensor 'attention_layers...in_proj_weight'", err));
    seen s = {0};
    for (size_t i = 0; i < dict->n_entries; i++) {
        if (strcmp(dict->entry[i].group, recognised->group) == 0)
            HS_TRY(look_at(config, &s, &dict->entry[i], err));
    }
    HS_TRY(hs_config_settle(config, "num_blocks", s.blocks, "the number of layers among the tensors", err));
    if (hstu) {
        HS_TRY(settle_heads(config, &s, err));
        if (!s.has_bias_tables && !hs_config_is_given(config, "enable_relative_attention_bias") &&
            !hs_config_is_given(config, "normalization")) {
            /* The reference can run layers without bias tables in this mode only. */
            config->enable_relative_attention_bias = false;
            config->normalization = HS_NORM_SOFTMAX;
        }
    }
    return hs_config_derive(config, err);
}
