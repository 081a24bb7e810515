/* The list of a model's dense weights: what all families share. */
#include "model/weights_int.h"

#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

hs_weight *hs_weight_add(hs_weight_builder *l, int rank, int64_t a, int64_t b, const char *fmt, ...)
{
    hs_weight *w = &l->weight[l->n++];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(w->name, sizeof w->name, fmt, args);
    va_end(args);
    w->rank = rank;
    w->shape[0] = a;
    w->shape[1] = b;
    w->shape[2] = 1;
    return w;
}

void hs_weight_start(hs_weight *w, hs_init init, double scale)
{
    w->init = init;
    w->scale = scale;
}

void hs_weight_pack_as(hs_weight *w, hs_packed **out, int64_t in, int64_t n, bool input_first)
{
    if (!out)
        return;
    w->pack[w->n_packs++] = (hs_weight_pack){
        .out = out, .in = in, .n = n, .stride_in = input_first ? n : 1, .stride_out = input_first ? 1 : in};
}

void hs_weight_pack_columns(hs_weight *w, hs_packed **out, int64_t in, int64_t columns, int64_t first, int64_t n)
{
    if (!out)
        return;
    w->pack[w->n_packs++] =
        (hs_weight_pack){.out = out, .first = first, .in = in, .n = n, .stride_in = columns, .stride_out = 1};
}

double hs_weight_xavier(double gain, int64_t fan_in, int64_t fan_out)
{
    const int64_t fans = fan_in + fan_out;
    return fans ? sqrt(gain / (double)fans) : 0.0;
}

double hs_weight_linear_default(int64_t fan_in)
{
    return fan_in ? 1.0 / sqrt((double)fan_in) : 0.0;
}

static size_t most_weights(const hs_config *config)
{
    switch ((hs_config_family)config->family) {
    case HS_CONFIG_RANKING:
        return hs_weights_most_ranking(config);
    case HS_CONFIG_DECODER:
        return hs_weights_most_decoder(config);
    case HS_CONFIG_RETRIEVAL:
        break;
    }
    return hs_weights_most_retrieval(config);
}

hstu_status hs_weight_list(
    hs_weight **out, size_t *n, const hs_config *config, hs_weight_target *target, hstu_error *err)
{
    const size_t most = most_weights(config);
    hs_weight_builder l = {.weight = hs_calloc(most, sizeof *l.weight)};
    if (!l.weight)
        return hs_fail_nomem(err, most * sizeof *l.weight, "the list of weights");
    if (config->family == HS_CONFIG_RANKING)
        hs_weights_ranking(&l, config, target);
    else if (config->family == HS_CONFIG_DECODER)
        hs_weights_decoder(&l, config, target);
    else
        hs_weights_retrieval(&l, config, target);
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
