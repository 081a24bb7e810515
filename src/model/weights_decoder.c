/* The plain decoder's weights; source: the original's HSTUModel (docs/formats.md names the tensors). */
#include "model/weights_int.h"

#include <inttypes.h>

enum { SHARED_WEIGHTS = 5, LAYER_WEIGHTS = 12 };

/* A torch.nn.Linear: weight [n, in] and bias [n], both in PyTorch's default distribution. */
static void add_linear(
    hs_weight_builder *l, hs_packed **to, const float **bias, int64_t in, int64_t n, int64_t layer, const char *name)
{
    hs_weight *w = hs_weight_add(l, 2, n, in, "layers.%" PRId64 ".%s.weight", layer, name);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(in));
    hs_weight_pack_as(w, to, in, n, false);
    w = hs_weight_add(l, 1, n, 1, "layers.%" PRId64 ".%s.bias", layer, name);
    hs_weight_start(w, HS_INIT_UNIFORM, hs_weight_linear_default(in));
    w->keep = bias;
}

static void add_layer(hs_weight_builder *l, const hs_config *c, int64_t i, hs_decoder_layer *to)
{
    const int64_t d = c->item_embedding_dim, f = c->ffn_hidden_dim;
    add_linear(l, to ? &to->q : NULL, to ? &to->q_bias : NULL, d, d, i, "q_proj");
    add_linear(l, to ? &to->k : NULL, to ? &to->k_bias : NULL, d, d, i, "k_proj");
    add_linear(l, to ? &to->v : NULL, to ? &to->v_bias : NULL, d, d, i, "v_proj");
    add_linear(l, to ? &to->out : NULL, to ? &to->out_bias : NULL, d, d, i, "out_proj");
    add_linear(l, to ? &to->ffn1 : NULL, to ? &to->ffn1_bias : NULL, d, f, i, "ffn.0");
    add_linear(l, to ? &to->ffn2 : NULL, to ? &to->ffn2_bias : NULL, f, d, i, "ffn.2");
}

static void add_kept(hs_weight_builder *l, const float **keep, int rank, int64_t a, int64_t b, hs_init init,
    double scale, const char *name)
{
    hs_weight *w = hs_weight_add(l, rank, a, b, "%s", name);
    hs_weight_start(w, init, scale);
    w->keep = keep;
}

static void add_rows(
    hs_weight_builder *l, hs_item_rows *rows, int64_t n, int64_t d, hs_init init, double scale, const char *name)
{
    hs_weight *w = hs_weight_add(l, 2, n, d, "%s", name);
    hs_weight_start(w, init, scale);
    w->rows = rows;
}

size_t hs_weights_most_decoder(const hs_config *config)
{
    return SHARED_WEIGHTS + (size_t)config->num_blocks * LAYER_WEIGHTS;
}

void hs_weights_decoder(hs_weight_builder *l, const hs_config *config, hs_weight_target *target)
{
    const int64_t d = config->item_embedding_dim, items = config->max_item_id ? config->max_item_id + 1 : 0;
    const double bound = hs_weight_linear_default(d);
    add_rows(l, target ? &target->item : NULL, items, d, HS_INIT_NORMAL, 1.0, "embedding.weight");
    for (int64_t i = 0; i < config->num_blocks; i++)
        add_layer(l, config, i, target ? &target->decoder[i] : NULL);
    add_kept(l, target ? &target->norm_weight : NULL, 1, d, 1, HS_INIT_ONE, 0.0, "norm.weight");
    add_kept(l, target ? &target->norm_bias : NULL, 1, d, 1, HS_INIT_ZERO, 0.0, "norm.bias");
    add_rows(l, target ? &target->vocabulary : NULL, items, d, HS_INIT_UNIFORM, bound, "head.weight");
    add_kept(l, target ? &target->vocabulary_bias : NULL, 1, items, 1, HS_INIT_UNIFORM, bound, "head.bias");
}
