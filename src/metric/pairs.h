/* Counting pairs (positive, negative) by score: what AUC, its error, grouped AUC and multi-class AUC share. */
#ifndef HS_METRIC_PAIRS_H
#define HS_METRIC_PAIRS_H

#include "hstu/metric.h"

typedef struct hs_labelled {
    float score; /* no NaN */
    uint8_t positive;
} hs_labelled;

typedef struct hs_pairs {
    uint64_t n_positive, n_negative;
    uint64_t twice_right; /* 2 for each pair in the right order, 1 for a tie: at most 2 * n_positive * n_negative */
} hs_pairs;

/* Sorts x [n] by score and counts. n < 2^32, so that nothing overflows. */
hs_pairs hs_pairs_count(hs_labelled *x, size_t n);
/* The share of pairs in the right order; 0 without any pair. */
double hs_pairs_auc(const hs_pairs *pairs);
/* Copies scores into out [scores->n]. HSTU_EINVAL names the first candidate whose score is NaN. */
hstu_status hs_pairs_load(hs_labelled *out, const hstu_scores *scores, hstu_error *err);
/* Room for n candidates, after checking that they can be counted; the caller frees it. */
hstu_status hs_pairs_alloc(hs_labelled **out, size_t n, hstu_error *err);

#endif
