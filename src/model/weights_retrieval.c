/* The retrieval family's weights. Names, shapes and first values: the reference's modules (research/modeling). */
#include "model/weights_int.h"

#include <inttypes.h>

enum { SHARED_WEIGHTS = 2, HSTU_WEIGHTS = 5, SASREC_WEIGHTS = 8 };

static bool is_hstu(const hs_config *c)
{
    return c->main_module == HS_MODULE_HSTU;
}

static void add_hstu_layer(hs_weight_builder *l, const hs_config *c, int64_t i, hs_hstu_layer *to)
{
    const char *prefix = "_hstu._attention_layers.";
    const int64_t d = c->item_embedding_dim, n = c->attention_n;
    const int64_t hv = c->num_heads * c->dv, hqk = c->num_heads * c->dqk;
    const int64_t uvqk = hv && hqk ? 2 * hv + 2 * hqk : 0, o_in = c->concat_ua ? 3 * hv : hv;

    hs_weight *w = hs_weight_add(l, 2, d, uvqk, "%s%" PRId64 "._uvqk", prefix, i);
    hs_weight_start(w, HS_INIT_NORMAL, 0.02);
    hs_weight_pack_columns(w, to ? &to->u : NULL, d, uvqk, 0, hv);
    hs_weight_pack_columns(w, to ? &to->v : NULL, d, uvqk, hv, hv);
    hs_weight_pack_columns(w, to ? &to->q : NULL, d, uvqk, 2 * hv, hqk);
    hs_weight_pack_columns(w, to ? &to->k : NULL, d, uvqk, 2 * hv + hqk, hqk);

    if (c->enable_relative_attention_bias) {
        w = hs_weight_add(l, 1, c->num_time_buckets + 1, 1, "%s%" PRId64 "._rel_attn_bias._ts_w", prefix, i);
        hs_weight_start(w, HS_INIT_NORMAL, 0.02);
        w->keep = to ? &to->time_w : NULL;
        w = hs_weight_add(l, 1, n ? 2 * n - 1 : 0, 1, "%s%" PRId64 "._rel_attn_bias._pos_w", prefix, i);
        hs_weight_start(w, HS_INIT_NORMAL, 0.02);
        w->keep = to ? &to->position_w : NULL;
    }

    w = hs_weight_add(l, 2, d, o_in, "%s%" PRId64 "._o.weight", prefix, i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_xavier(6.0, o_in, d));
    hs_weight_pack_as(w, to ? &to->o : NULL, o_in, d, false);
    w = hs_weight_add(l, 1, d, 1, "%s%" PRId64 "._o.bias", prefix, i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(o_in));
    w->keep = to ? &to->o_bias : NULL;
}

/* The reference re-initialises every matrix of SASRec's layers as xavier normal and leaves biases as their modules made them:
 * zero in attention, Conv1d's default in the feed-forward part. */
static void add_sasrec_layer(hs_weight_builder *l, const hs_config *c, int64_t i, hs_sasrec_layer *to)
{
    const int64_t d = c->item_embedding_dim, f = c->ffn_hidden_dim;
    hs_weight *w = hs_weight_add(l, 2, 3 * d, d, "attention_layers.%" PRId64 ".in_proj_weight", i);
    hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, d, 3 * d));
    hs_weight_pack_as(w, to ? &to->q : NULL, d, d, false);
    hs_weight_pack_as(w, to ? &to->kv : NULL, d, 2 * d, false);
    if (w->n_packs == 2)
        w->pack[1].first = d * d; /* rows of q come first */
    w = hs_weight_add(l, 1, 3 * d, 1, "attention_layers.%" PRId64 ".in_proj_bias", i);
    w->keep = to ? &to->in_bias : NULL;
    w = hs_weight_add(l, 2, d, d, "attention_layers.%" PRId64 ".out_proj.weight", i);
    hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, d, d));
    hs_weight_pack_as(w, to ? &to->out : NULL, d, d, false);
    w = hs_weight_add(l, 1, d, 1, "attention_layers.%" PRId64 ".out_proj.bias", i);
    w->keep = to ? &to->out_bias : NULL;

    w = hs_weight_add(l, 3, f, d, "forward_layers.%" PRId64 "._conv1d.0.weight", i);
    hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, d, f));
    hs_weight_pack_as(w, to ? &to->ffn1 : NULL, d, f, false);
    w = hs_weight_add(l, 1, f, 1, "forward_layers.%" PRId64 "._conv1d.0.bias", i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(d));
    w->keep = to ? &to->ffn1_bias : NULL;
    w = hs_weight_add(l, 3, d, f, "forward_layers.%" PRId64 "._conv1d.3.weight", i);
    hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, f, d));
    hs_weight_pack_as(w, to ? &to->ffn2 : NULL, f, d, false);
    w = hs_weight_add(l, 1, d, 1, "forward_layers.%" PRId64 "._conv1d.3.bias", i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(f));
    w->keep = to ? &to->ffn2_bias : NULL;
}

size_t hs_weights_most_retrieval(const hs_config *config)
{
    return SHARED_WEIGHTS + (size_t)config->num_blocks * (is_hstu(config) ? HSTU_WEIGHTS : SASREC_WEIGHTS);
}

void hs_weights_retrieval(hs_weight_builder *l, const hs_config *config, hs_weight_target *target)
{
    const int64_t d = config->item_embedding_dim, positions = config->attention_n;
    hs_weight *w =
        hs_weight_add(l, 2, config->max_item_id ? config->max_item_id + 1 : 0, d, "_embedding_module._item_emb.weight");
    hs_weight_start(w, HS_INIT_TRUNCATED_NORMAL, 0.02);
    w->rows = target ? &target->item : NULL;
    w = hs_weight_add(l, 2, positions, d, "_input_features_preproc._pos_emb.weight");
    if (is_hstu(config)) /* HSTU makes it anew, SASRec keeps the module's own */
        hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, d, positions));
    else
        hs_weight_start(w, HS_INIT_TRUNCATED_NORMAL, hs_weight_linear_default(d));
    w->keep = target ? &target->position : NULL;

    for (int64_t i = 0; i < config->num_blocks; i++) {
        if (is_hstu(config))
            add_hstu_layer(l, config, i, target ? &target->hstu[i] : NULL);
        else
            add_sasrec_layer(l, config, i, target ? &target->sasrec[i] : NULL);
    }
}
