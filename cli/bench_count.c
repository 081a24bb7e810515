/* What a call of `hstu bench` computes and reads, by formulas (bench/README.md). */
#include "cli/bench.h"

#include <string.h>

const char hs_bench_formula[] =
    "GFLOP are those of the operations done: 2 x rows x inputs x outputs for a linear layer, 2 x pairs x (dqk + dv) "
    "for "
    "attention over the causal pairs alone; rows that the last layer skips do not count. GB: weights, keys and values, "
    "each read once.";

typedef struct sizes {
    double history, reused, fresh, candidates, layers, dim, width, items, batch;
} sizes;

static sizes sizes_of(const hs_bench_row *row)
{
    const double n = (double)row->n[HS_BENCH_HISTORY], reused = (double)hs_bench_cached_tokens(row);
    return (sizes){.history = n,
        .reused = reused,
        .fresh = n - reused,
        .candidates = (double)row->n[HS_BENCH_CANDIDATES],
        .layers = (double)row->n[HS_BENCH_LAYERS],
        .dim = (double)row->n[HS_BENCH_DIM],
        .width =
            row->decoder ? (double)row->n[HS_BENCH_DIM] : (double)(row->n[HS_BENCH_HEADS] * row->n[HS_BENCH_HEAD_DIM]),
        .items = (double)row->n[HS_BENCH_ITEMS],
        .batch = (double)row->n[HS_BENCH_BATCH]};
}

/* Pairs of a fresh row and itself or a row in front of it. */
static double causal_pairs(const sizes *s)
{
    return (s->history * (s->history + 1) - s->reused * (s->reused + 1)) / 2;
}

/* u, v, q, k and the output, each 2 D H d for a row; of the last layer's history keys and values alone. */
static void count_ranking(const sizes *s, hs_bench_work *out)
{
    const double matrix = 2 * s->dim * s->width, pair = 4 * s->width;
    const double history = 5 * matrix * s->fresh + pair * causal_pairs(s);
    const double candidates = 5 * matrix * s->candidates + pair * s->candidates * (s->history + 1);
    const double head = 2 * s->candidates * HS_BENCH_HEAD_WIDTH * (s->dim + HS_BENCH_CLASSES);
    out->flop_nominal = s->batch * (s->layers * (history + candidates) + head);
    out->flop = out->flop_nominal - s->batch * (history - 2 * matrix * s->fresh);
    out->bytes = s->layers * 5 * s->dim * s->width + HS_BENCH_HEAD_WIDTH * (s->dim + HS_BENCH_CLASSES);
}

/* q, k, v, the output, and 4 D in between: 2 x 12 D^2 for a row; of the last layer keys and values, and the newest row. */
static void count_decoder(const sizes *s, hs_bench_work *out)
{
    const double square = 2 * s->dim * s->dim, pair = 4 * s->dim;
    const double all = 12 * square * s->fresh + pair * causal_pairs(s);
    const double last = 2 * square * s->fresh + 10 * square + pair * s->history;
    const double scores = 2 * s->items * s->dim;
    out->flop_nominal = s->batch * (s->layers * all + scores);
    out->flop = s->batch * ((s->layers - 1) * all + last + scores);
    out->bytes = s->layers * 12 * s->dim * s->dim + s->items * s->dim;
}

hs_bench_work hs_bench_count(const hs_bench_row *row, bool bf16_keys)
{
    const sizes s = sizes_of(row);
    hs_bench_work out = {0};
    if (row->decoder)
        count_decoder(&s, &out);
    else
        count_ranking(&s, &out);
    out.bytes *= strcmp(row->dtype, "fp32") == 0 ? 4 : 2;
    out.bytes += (bf16_keys ? 2 : 4) * 2 * s.batch * s.layers * s.history * s.width;
    return out;
}
