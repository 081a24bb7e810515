/* Metrics. Retrieval, from ranks: hit rate, NDCG, MRR; definitions: Meta's eval_metrics_v2_from_tensors. Ranking, from scores and
 * labels: AUC as torchmetrics' binary AUROC, grouped AUC, log loss, normalised entropy. */
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

/* Scores of one task over n candidates: that of candidate i is score[i * stride]; positive[i] is nonzero for a positive label.
 * Borrowed for one call. Scores may be infinite but not NaN: HSTU_EINVAL names the candidate. */
typedef struct hstu_scores {
    const float *score;
    size_t stride; /* elements from one candidate's score to the next one's, >= 1 */
    const uint8_t *positive;
    size_t n;
} hstu_scores;

typedef struct hstu_auc {
    double auc; /* share of pairs (positive, negative) in the right order, ties count half; 0 without any pair */
    double standard_error; /* DeLong's; 0 for fewer than two positives or negatives */
    uint64_t n_positive, n_negative;
} hstu_auc;

/* Exact: pairs are counted in integers. HSTU_ENOMEM; HSTU_EINVAL also for more than 2^32 - 1 candidates. */
HSTU_API hstu_status hstu_auc_of(hstu_auc *out, const hstu_scores *scores, hstu_error *err);

typedef struct hstu_gauc {
    double gauc;      /* mean of the users' AUCs, weighted by their candidates; 0 without users that have both labels */
    uint64_t n_users; /* users with both labels: the others do not count */
} hstu_gauc;

/* User u owns candidates offset[u] .. offset[u + 1] - 1; offset [n_users + 1] runs from 0 to scores->n. */
HSTU_API hstu_status hstu_gauc_of(
    hstu_gauc *out, const hstu_scores *scores, const int64_t *offset, size_t n_users, hstu_error *err);

/* Of logits: log_loss = mean over candidates of -log p(label), p = sigmoid(logit), in nats and double precision;
 * normalised_entropy = log_loss / the entropy of the label rate, 0 when only one label occurs. n = 0 gives zeros. */
typedef struct hstu_log_loss {
    double log_loss, normalised_entropy, label_rate;
} hstu_log_loss;
HSTU_API hstu_status hstu_log_loss_of(hstu_log_loss *out, const hstu_scores *logits, hstu_error *err);

/* Multi-class: logits [n, n_classes] row-major, label [n] in 0 .. n_classes - 1 (else HSTU_EINVAL). auc is the macro mean over
 * classes of one class against the rest of the softmax probabilities, where a class that does not occur counts as 0, as in
 * torchmetrics (n_classes_seen tells); logits must be finite;
 * log_loss is cross entropy, normalised by the entropy of the classes' rates. */
typedef struct hstu_multiclass {
    double auc, log_loss, normalised_entropy, accuracy;
    uint64_t n_classes_seen;
} hstu_multiclass;
HSTU_API hstu_status hstu_multiclass_of(
    hstu_multiclass *out, const float *logits, const int64_t *label, size_t n, size_t n_classes, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
