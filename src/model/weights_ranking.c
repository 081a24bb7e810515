/* The ranking family's dense weights, in the layout of the reference's fused layer (NVIDIA recsys-examples, examples/hstu). */
#include "model/weights_int.h"

#include <inttypes.h>

enum { SHARED_WEIGHTS = 1, LAYER_WEIGHTS = 7, HEAD_WEIGHTS = 2 };

/* A vector that stays as it is. */
static void add_vector(
    hs_weight_builder *l, const float **keep, int64_t n, hs_init init, int64_t layer, const char *name)
{
    hs_weight *w = hs_weight_add(l, 1, n, 1, "_hstu_block._attention_layers.%" PRId64 ".%s", layer, name);
    hs_weight_start(w, init, 0.0);
    w->keep = keep;
}

static hs_weight *add_matrix(hs_weight_builder *l, int64_t in, int64_t n, int64_t layer, const char *name)
{
    hs_weight *w = hs_weight_add(l, 2, in, n, "_hstu_block._attention_layers.%" PRId64 ".%s", layer, name);
    hs_weight_start(w, HS_INIT_NORMAL, hs_weight_xavier(2.0, in, n));
    return w;
}

static void add_layer(hs_weight_builder *l, const hs_config *c, int64_t i, hs_ranking_layer *to)
{
    const int64_t d = c->item_embedding_dim, hv = c->num_heads * c->dv;
    if (c->learnable_input_layernorm) {
        add_vector(l, to ? &to->in_norm_weight : NULL, d, HS_INIT_ONE, i, "_input_layernorm_weight");
        add_vector(l, to ? &to->in_norm_bias : NULL, d, HS_INIT_ZERO, i, "_input_layernorm_bias");
    }
    hs_weight *w = add_matrix(l, d, 4 * hv, i, "_linear_uvqk_weight");
    hs_weight_pack_columns(w, to ? &to->u : NULL, d, 4 * hv, 0, hv);
    hs_weight_pack_columns(w, to ? &to->v : NULL, d, 4 * hv, hv, hv);
    hs_weight_pack_columns(w, to ? &to->q : NULL, d, 4 * hv, 2 * hv, hv);
    hs_weight_pack_columns(w, to ? &to->k : NULL, d, 4 * hv, 3 * hv, hv);
    if (c->add_uvqk_bias)
        add_vector(l, to ? &to->uvqk_bias : NULL, 4 * hv, HS_INIT_ZERO, i, "_linear_uvqk_bias");
    if (c->learnable_output_layernorm) {
        add_vector(l, to ? &to->out_norm_weight : NULL, hv, HS_INIT_ONE, i, "_output_layernorm_weight");
        add_vector(l, to ? &to->out_norm_bias : NULL, hv, HS_INIT_ZERO, i, "_output_layernorm_bias");
    }
    w = add_matrix(l, hv, d, i, "_linear_proj_weight");
    hs_weight_pack_as(w, to ? &to->proj : NULL, hv, d, true);
}

/* torch.nn.Sequential numbers activations too: every second module is a Linear. */
static void add_head_layer(hs_weight_builder *l, const hs_config *c, int i, hs_head_layer *to)
{
    const int64_t in = i ? c->head[i - 1] : c->item_embedding_dim, n = c->head[i];
    hs_weight *w = hs_weight_add(l, 2, n, in, "_mlp._mlp.%d.weight", 2 * i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(in));
    hs_weight_pack_as(w, to ? &to->w : NULL, in, n, false);
    if (!c->head_bias)
        return;
    w = hs_weight_add(l, 1, n, 1, "_mlp._mlp.%d.bias", 2 * i);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(in));
    w->keep = to ? &to->bias : NULL;
}

size_t hs_weights_most_ranking(const hs_config *config)
{
    return SHARED_WEIGHTS + (size_t)config->num_blocks * LAYER_WEIGHTS + (size_t)config->n_head * HEAD_WEIGHTS;
}

void hs_weights_ranking(hs_weight_builder *l, const hs_config *config, hs_weight_target *target)
{
    const int64_t positions = config->num_position_buckets;
    hs_weight *w = hs_weight_add(l, 2, positions, config->item_embedding_dim,
        "_hstu_block._preprocessor._positional_encoder._position_embeddings_weight");
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(positions));
    w->keep = target ? &target->position : NULL;
    for (int64_t i = 0; i < config->num_blocks; i++)
        add_layer(l, config, i, target ? &target->ranking[i] : NULL);
    for (int i = 0; i < config->n_head; i++)
        add_head_layer(l, config, i, target ? &target->head[i] : NULL);
}
