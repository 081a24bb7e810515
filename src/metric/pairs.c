/* Pairs of a positive and a negative candidate, counted exactly in integers along the sorted scores. */
#include "metric/pairs.h"

#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <stdlib.h>

static int by_score(const void *a, const void *b)
{
    const hs_labelled *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

/* Equal scores are one group, so the order that qsort leaves inside it does not matter. */
hs_pairs hs_pairs_count(hs_labelled *x, size_t n)
{
    hs_pairs pairs = {0};
    qsort(x, n, sizeof *x, by_score);
    for (size_t i = 0, end = 0; i < n; i = end) {
        uint64_t positive = 0;
        for (end = i; end < n && x[end].score == x[i].score; end++)
            positive += x[end].positive;
        const uint64_t negative = end - i - positive;
        pairs.twice_right += positive * (2 * pairs.n_negative + negative);
        pairs.n_positive += positive;
        pairs.n_negative += negative;
    }
    return pairs;
}

double hs_pairs_auc(const hs_pairs *pairs)
{
    const uint64_t n = pairs->n_positive * pairs->n_negative;
    return n ? (double)pairs->twice_right / (2.0 * (double)n) : 0.0;
}

hstu_status hs_pairs_load(hs_labelled *out, const hstu_scores *scores, hstu_error *err)
{
    for (size_t i = 0; i < scores->n; i++) {
        const float score = scores->score[i * scores->stride];
        if (isnan(score))
            return hs_fail(err, HSTU_EINVAL, i, "candidate %zu: expected a score, found NaN", i);
        out[i] = (hs_labelled){.score = score, .positive = scores->positive[i] != 0};
    }
    return HSTU_OK;
}

hstu_status hs_pairs_alloc(hs_labelled **out, size_t n, hstu_error *err)
{
    if (n > UINT32_MAX)
        return hs_fail(err, HSTU_EINVAL, 0, "expected at most %lu candidates, found %zu", (unsigned long)UINT32_MAX, n);
    *out = hs_alloc(n, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, n * sizeof **out, "the scores");
}
