/* AUC with DeLong's error, and grouped AUC. Definitions: torchmetrics' binary AUROC without thresholds (the area under the
 * trapezoid curve is the share of ordered pairs); DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988). */
#include "base/alloc.h"
#include "base/error.h"
#include "metric/pairs.h"

#include <math.h>

static double square(double x)
{
    return x * x;
}

/* x [n] sorted. The placement of a positive is the share of negatives below it, that of a negative the share of positives above
 * it, ties half; their sample variances, each over its own count, add up to the variance of the AUC. */
static double delong_error(const hs_labelled *x, size_t n, const hs_pairs *pairs, double auc)
{
    const double n_positive = (double)pairs->n_positive, n_negative = (double)pairs->n_negative;
    double below = 0, above = n_positive, of_positives = 0, of_negatives = 0;
    if (pairs->n_positive < 2 || pairs->n_negative < 2)
        return 0;
    for (size_t i = 0, end = 0; i < n; i = end) {
        double positive = 0;
        for (end = i; end < n && x[end].score == x[i].score; end++)
            positive += x[end].positive;
        const double negative = (double)(end - i) - positive;
        above -= positive;
        of_positives += positive * square((below + 0.5 * negative) / n_negative - auc);
        of_negatives += negative * square((above + 0.5 * positive) / n_positive - auc);
        below += negative;
    }
    return sqrt(of_positives / ((n_positive - 1) * n_positive) + of_negatives / ((n_negative - 1) * n_negative));
}

hstu_status hstu_auc_of(hstu_auc *out, const hstu_scores *scores, hstu_error *err)
{
    hs_labelled *x = NULL;
    HS_TRY(hs_pairs_alloc(&x, scores->n, err));
    const hstu_status status = hs_pairs_load(x, scores, err);
    if (status == HSTU_OK) {
        const hs_pairs pairs = hs_pairs_count(x, scores->n);
        const double auc = hs_pairs_auc(&pairs);
        *out = (hstu_auc){.auc = auc,
            .standard_error = delong_error(x, scores->n, &pairs, auc),
            .n_positive = pairs.n_positive,
            .n_negative = pairs.n_negative};
    }
    hs_free(x);
    return status;
}

static hstu_status check_offset(const hstu_scores *scores, const int64_t *offset, size_t n_users, hstu_error *err)
{
    if (offset[0] != 0 || (uint64_t)offset[n_users] != scores->n)
        return hs_fail(err, HSTU_EINVAL, 0, "expected offsets of users from 0 to %zu, found %lld to %lld", scores->n,
            (long long)offset[0], (long long)offset[n_users]);
    for (size_t u = 0; u < n_users; u++) {
        if (offset[u + 1] < offset[u])
            return hs_fail(err, HSTU_EINVAL, u, "user %zu: expected an offset of at least %lld, found %lld", u,
                (long long)offset[u], (long long)offset[u + 1]);
    }
    return HSTU_OK;
}

hstu_status hstu_gauc_of(
    hstu_gauc *out, const hstu_scores *scores, const int64_t *offset, size_t n_users, hstu_error *err)
{
    hs_labelled *x = NULL;
    double sum = 0, weight = 0;
    uint64_t n_counted = 0;
    HS_TRY(check_offset(scores, offset, n_users, err));
    HS_TRY(hs_pairs_alloc(&x, scores->n, err));
    const hstu_status status = hs_pairs_load(x, scores, err);
    for (size_t u = 0; u < n_users && status == HSTU_OK; u++) {
        const size_t n = (size_t)(offset[u + 1] - offset[u]);
        const hs_pairs pairs = hs_pairs_count(x + offset[u], n);
        if (pairs.n_positive == 0 || pairs.n_negative == 0)
            continue;
        sum += (double)n * hs_pairs_auc(&pairs);
        weight += (double)n;
        n_counted++;
    }
    hs_free(x);
    if (status == HSTU_OK)
        *out = (hstu_gauc){.gauc = n_counted ? sum / weight : 0, .n_users = n_counted};
    return status;
}
