/* The time of operations, and what they compute in it. */
#include "op/op_profile.h"

bool hs_op_is_timed(const hs_device *dev, hs_stage stage)
{
    if (!dev->profile)
        return false;
    switch (stage) {
    case HS_STAGE_end:
        return dev->records;
    case HS_STAGE_time_bucket:
    case HS_STAGE_topk:
        return true;
    default:
        return !dev->records;
    }
}

void hs_op_note(hs_device *dev, hs_stage stage, double start_s, double flop)
{
    hs_stage_time *t = &dev->profile->stage[stage];
    t->calls++;
    t->seconds += hs_clock_s() - start_s;
    t->flop += flop;
}

double hs_op_linear_flop(const hs_linear_args *a, int64_t n)
{
    double flop = 0;
    for (int64_t i = 0; i < n; i++)
        flop += 2 * (double)a[i].x.rows * (double)a[i].x.cols * (double)a[i].out.cols;
    return flop;
}

static double pair_flop(const hs_kv_shape *s)
{
    return 2 * (double)s->n_heads * (double)(s->dqk + s->dv);
}

/* Pairs of a user's newest rows and the tokens that they see, the first n_context of which see all. */
static double causal_pairs(const hs_jagged *users, int64_t user, int64_t history, int64_t n_context)
{
    const double rows = (double)(users->offset[user + 1] - users->offset[user]), first = (double)history - rows;
    const double wide = (double)n_context > first ? (double)n_context - first : 0;
    return rows * first + rows * (rows + 1) / 2 + wide * (rows - (wide + 1) / 2);
}

double hs_op_silu_flop(const hs_silu_attn_args *a)
{
    double pairs = 0;
    for (int64_t b = 0; b < a->users.n_users; b++) {
        pairs += causal_pairs(&a->users, b, a->history[b], a->n_context ? a->n_context[b] : 0);
        if (a->candidates)
            pairs += (double)(a->candidates[b + 1] - a->candidates[b]) * (double)(a->history[b] + 1);
    }
    return pairs * pair_flop(&a->kv.shape);
}

double hs_op_softmax_flop(const hs_softmax_attn_args *a)
{
    double pairs = 0;
    for (int64_t b = 0; b < a->users.n_users; b++)
        pairs += causal_pairs(&a->users, b, a->history[b], 0);
    return pairs * pair_flop(&a->kv.shape);
}

double hs_op_topk_flop(const hs_topk_args *a)
{
    return 2 * (double)a->query.rows * (double)a->query.cols * (double)a->n_candidates;
}
