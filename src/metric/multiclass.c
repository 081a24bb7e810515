/* Metrics of a softmax over classes. The AUC is torchmetrics' multi-class AUROC, macro average. */
#include "base/alloc.h"
#include "base/error.h"
#include "metric/pairs.h"

#include <math.h>

static hstu_status check(const float *logits, const int64_t *label, size_t n, size_t n_classes, hstu_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || (uint64_t)label[i] >= n_classes)
            return hs_fail(err, HSTU_EINVAL, i, "candidate %zu: expected a label from 0 to %zu, found %lld", i,
                n_classes - 1, (long long)label[i]);
        for (size_t c = 0; c < n_classes; c++) {
            if (!isfinite(logits[i * n_classes + c]))
                return hs_fail(err, HSTU_EINVAL, i, "candidate %zu: expected a finite logit of class %zu, found %g", i,
                    c, (double)logits[i * n_classes + c]);
        }
    }
    return HSTU_OK;
}

static size_t largest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* Softmax in fp32, whose ties are the reference's. */
static void softmax(float *out, const float *x, size_t n)
{
    const float max = x[largest(x, n)];
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = expf(x[i] - max);
        sum += out[i];
    }
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}

static double cross_entropy(const float *x, size_t n, size_t label)
{
    const double max = (double)x[largest(x, n)];
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return log(sum) + max - (double)x[label];
}

/* probability [n, n_classes], pairs [n] to work in. */
static void rank_classes(
    hstu_multiclass *m, const float *probability, const int64_t *label, size_t n, size_t n_classes, hs_labelled *pairs)
{
    double sum = 0, entropy = 0;
    for (size_t c = 0; c < n_classes; c++) {
        for (size_t i = 0; i < n; i++)
            pairs[i] =
                (hs_labelled){.score = probability[i * n_classes + c], .positive = (uint64_t)label[i] == (uint64_t)c};
        const hs_pairs found = hs_pairs_count(pairs, n);
        const double rate = (double)found.n_positive / (double)n;
        sum += hs_pairs_auc(&found);
        entropy -= rate > 0 ? rate * log(rate) : 0;
        m->n_classes_seen += found.n_positive > 0;
    }
    m->auc = sum / (double)n_classes;
    m->normalised_entropy = m->n_classes_seen > 1 ? m->log_loss / entropy : 0;
}

hstu_status hstu_multiclass_of(
    hstu_multiclass *out, const float *logits, const int64_t *label, size_t n, size_t n_classes, hstu_error *err)
{
    hstu_multiclass m = {0};
    size_t places = 0, right = 0;
    hstu_status status = HSTU_OK;
    float *probability = NULL;
    hs_labelled *pairs = NULL;
    if (n_classes == 0)
        return hs_fail(err, HSTU_EINVAL, 0, "expected at least one class, found none");
    if (n == 0) {
        *out = m;
        return HSTU_OK;
    }
    if (!hs_mul_size(n, n_classes, &places))
        return hs_fail_nomem(err, SIZE_MAX, "the probabilities");
    HS_TRY_GOTO(hs_pairs_alloc(&pairs, n, err));
    HS_TRY_GOTO(check(logits, label, n, n_classes, err));
    probability = hs_alloc(places, sizeof *probability);
    if (!probability) {
        status = hs_fail_nomem(err, places * sizeof *probability, "the probabilities");
        goto fail;
    }
    for (size_t i = 0; i < n; i++) {
        const float *x = logits + i * n_classes;
        softmax(probability + i * n_classes, x, n_classes);
        m.log_loss += cross_entropy(x, n_classes, (size_t)label[i]) / (double)n;
        right += largest(x, n_classes) == (size_t)label[i];
    }
    m.accuracy = (double)right / (double)n;
    rank_classes(&m, probability, label, n, n_classes, pairs);
    *out = m;

fail:
    hs_free(pairs);
    hs_free(probability);
    return status;
}
