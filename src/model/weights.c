/* The list of a retrieval model's weights. Names, shapes and first values: the reference's modules (research/modeling). */
#include "model/weights.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { SHARED_WEIGHTS = 2, HSTU_WEIGHTS = 5, SASREC_WEIGHTS = 8 };

typedef struct list {
    hs_weight *weight;
    size_t n;
} list;

__attribute__((format(printf, 2, 3))) static hs_weight *add(list *l, const char *fmt, ...)
{
    hs_weight *w = &l->weight[l->n++];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(w->name, sizeof w->name, fmt, args);
    va_end(args);
    return w;
}

static void shape(hs_weight *w, int rank, int64_t a, int64_t b)
{
    w->rank = rank;
    w->shape[0] = a;
    w->shape[1] = b;
    w->shape[2] = 1;
}

static void start(hs_weight *w, hs_init init, double scale)
{
    w->init = init;
    w->scale = scale;
}

static double xavier(double gain, int64_t fan_in, int64_t fan_out)
{
    const int64_t fans = fan_in + fan_out;
    return fans ? sqrt(gain / (double)fans) : 0.0;
}

/* PyTorch's default for Linear and Conv biases (and weights): uniform within 1 / sqrt(fan_in). */
static double linear_default(int64_t fan_in)
{
    return fan_in ? 1.0 / sqrt((double)fan_in) : 0.0;
}

/* The whole weight is [n, in], as torch.nn.Linear stores it, or with `input_first` [in, n]. */
static void pack(hs_weight *w, hs_packed **out, int64_t in, int64_t n, bool input_first)
{
    if (!out)
        return;
    w->pack[w->n_packs++] = (hs_weight_pack){
        .out = out, .in = in, .n = n, .stride_in = input_first ? n : 1, .stride_out = input_first ? 1 : in};
}

static void add_hstu_layer(list *l, const hs_config *c, int64_t i, hs_hstu_layer *to)
{
    const char *prefix = "_hstu._attention_layers.";
    const int64_t d = c->item_embedding_dim, n = c->attention_n;
    const int64_t hv = c->num_heads * c->dv, hqk = c->num_heads * c->dqk;
    const int64_t uvqk = hv && hqk ? 2 * hv + 2 * hqk : 0, o_in = c->concat_ua ? 3 * hv : hv;

    hs_weight *w = add(l, "%s%" PRId64 "._uvqk", prefix, i);
    shape(w, 2, d, uvqk);
    start(w, HS_INIT_NORMAL, 0.02);
    pack(w, to ? &to->uvqk : NULL, d, uvqk, true);

    if (c->enable_relative_attention_bias) {
        w = add(l, "%s%" PRId64 "._rel_attn_bias._ts_w", prefix, i);
        shape(w, 1, c->num_time_buckets + 1, 1);
        start(w, HS_INIT_NORMAL, 0.02);
        w->keep = to ? &to->time_w : NULL;
        w = add(l, "%s%" PRId64 "._rel_attn_bias._pos_w", prefix, i);
        shape(w, 1, n ? 2 * n - 1 : 0, 1);
        start(w, HS_INIT_NORMAL, 0.02);
        w->keep = to ? &to->position_w : NULL;
    }

    w = add(l, "%s%" PRId64 "._o.weight", prefix, i);
    shape(w, 2, d, o_in);
    start(w, HS_INIT_UNIFORM, xavier(6.0, o_in, d));
    pack(w, to ? &to->o : NULL, o_in, d, false);
    w = add(l, "%s%" PRId64 "._o.bias", prefix, i);
    shape(w, 1, d, 1);
    start(w, HS_INIT_UNIFORM, linear_default(o_in));
    w->keep = to ? &to->o_bias : NULL;
}

/* The reference re-initialises every matrix of SASRec's layers as xavier normal and leaves biases as their modules made them:
 * zero in attention, Conv1d's default in the feed-forward part. */
static void add_sasrec_layer(list *l, const hs_config *c, int64_t i, hs_sasrec_layer *to)
{
    const int64_t d = c->item_embedding_dim, f = c->ffn_hidden_dim;
    hs_weight *w = add(l, "attention_layers.%" PRId64 ".in_proj_weight", i);
    shape(w, 2, 3 * d, d);
    start(w, HS_INIT_NORMAL, xavier(2.0, d, 3 * d));
    pack(w, to ? &to->q : NULL, d, d, false);
    pack(w, to ? &to->kv : NULL, d, 2 * d, false);
    if (w->n_packs == 2)
        w->pack[1].first = d * d; /* rows of q come first */
    w = add(l, "attention_layers.%" PRId64 ".in_proj_bias", i);
    shape(w, 1, 3 * d, 1);
    w->keep = to ? &to->in_bias : NULL;
    w = add(l, "attention_layers.%" PRId64 ".out_proj.weight", i);
    shape(w, 2, d, d);
    start(w, HS_INIT_NORMAL, xavier(2.0, d, d));
    pack(w, to ? &to->out : NULL, d, d, false);
    w = add(l, "attention_layers.%" PRId64 ".out_proj.bias", i);
    shape(w, 1, d, 1);
    w->keep = to ? &to->out_bias : NULL;

    w = add(l, "forward_layers.%" PRId64 "._conv1d.0.weight", i);
    shape(w, 3, f, d);
    start(w, HS_INIT_NORMAL, xavier(2.0, d, f));
    pack(w, to ? &to->ffn1 : NULL, d, f, false);
    w = add(l, "forward_layers.%" PRId64 "._conv1d.0.bias", i);
    shape(w, 1, f, 1);
    start(w, HS_INIT_UNIFORM, linear_default(d));
    w->keep = to ? &to->ffn1_bias : NULL;
    w = add(l, "forward_layers.%" PRId64 "._conv1d.3.weight", i);
    shape(w, 3, d, f);
    start(w, HS_INIT_NORMAL, xavier(2.0, f, d));
    pack(w, to ? &to->ffn2 : NULL, f, d, false);
    w = add(l, "forward_layers.%" PRId64 "._conv1d.3.bias", i);
    shape(w, 1, d, 1);
    start(w, HS_INIT_UNIFORM, linear_default(f));
    w->keep = to ? &to->ffn2_bias : NULL;
}

hstu_status hs_weight_list(
    hs_weight **out, size_t *n, const hs_config *config, hs_weight_target *target, hstu_error *err)
{
    const bool hstu = config->main_module == HS_MODULE_HSTU;
    const size_t most = SHARED_WEIGHTS + (size_t)config->num_blocks * (hstu ? HSTU_WEIGHTS : SASREC_WEIGHTS);
    list l = {.weight = hs_calloc(most, sizeof *l.weight)};
    if (!l.weight)
        return hs_fail_nomem(err, most * sizeof *l.weight, "the list of weights");
    const int64_t d = config->item_embedding_dim, positions = config->attention_n;

    hs_weight *w = add(&l, "_embedding_module._item_emb.weight");
    shape(w, 2, config->max_item_id ? config->max_item_id + 1 : 0, d);
    start(w, HS_INIT_TRUNCATED_NORMAL, 0.02);
    w->keep = target ? &target->item : NULL;
    w = add(&l, "_input_features_preproc._pos_emb.weight");
    shape(w, 2, positions, d);
    if (hstu) /* HSTU makes it anew, SASRec keeps the module's own */
        start(w, HS_INIT_NORMAL, xavier(2.0, d, positions));
    else
        start(w, HS_INIT_TRUNCATED_NORMAL, linear_default(d));
    w->keep = target ? &target->position : NULL;

    for (int64_t i = 0; i < config->num_blocks; i++) {
        if (hstu)
            add_hstu_layer(&l, config, i, target ? &target->hstu[i] : NULL);
        else
            add_sasrec_layer(&l, config, i, target ? &target->sasrec[i] : NULL);
    }
    *out = l.weight;
    *n = l.n;
    return HSTU_OK;
}

int64_t hs_weight_elements(const hs_weight *weight)
{
    int64_t n = 1;
    for (int d = 0; d < weight->rank; d++)
        n *= weight->shape[d];
    return n;
}
