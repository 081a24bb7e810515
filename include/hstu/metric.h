/* Retrieval metrics from ranks: hit rate, NDCG, MRR. Definitions: Meta's eval_metrics_v2_from_tensors. */
#ifndef HSTU_METRIC_H
#define HSTU_METRIC_H

#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { HSTU_MAX_RANK = 2500 }; /* a target that ranks behind this, or is filtered, counts as rank 2501 */

typedef struct hstu_estimate {
    double mean;
    double standard_error; /* of the mean over samples; 0 for fewer than two samples */
} hstu_estimate;

/* rank [n]: 1-based, 0 = the target was filtered or no candidate. All are NaN-free for n >= 1; n = 0 gives zeros.
 *   hr@k = [r <= k], ndcg@k = [r <= k] / log2(r + 1), mrr = 1 / r, with r = 2501 for 0 and for ranks above 2500. */
HSTU_API hstu_estimate hstu_hit_rate(const int64_t *rank, size_t n, int64_t k);
HSTU_API hstu_estimate hstu_ndcg(const int64_t *rank, size_t n, int64_t k);
HSTU_API hstu_estimate hstu_mrr(const int64_t *rank, size_t n);

#ifdef __cplusplus
}
#endif
#endif
