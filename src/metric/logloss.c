/* Log loss and normalised entropy of logits (He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, 2014). */
#include "base/error.h"
#include "hstu/metric.h"

#include <math.h>

/* log(1 + exp(x)) that neither overflows nor loses small values. */
static double softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

hstu_status hstu_log_loss_of(hstu_log_loss *out, const hstu_scores *logits, hstu_error *err)
{
    double sum = 0;
    uint64_t n_positive = 0;
    for (size_t i = 0; i < logits->n; i++) {
        const double x = (double)logits->score[i * logits->stride];
        if (isnan(x))
            return hs_fail(err, HSTU_EINVAL, i, "candidate %zu: expected a logit, found NaN", i);
        sum += softplus(logits->positive[i] ? -x : x);
        n_positive += logits->positive[i] != 0;
    }
    *out = (hstu_log_loss){0};
    if (logits->n == 0)
        return HSTU_OK;
    const double rate = (double)n_positive / (double)logits->n;
    out->log_loss = sum / (double)logits->n;
    out->label_rate = rate;
    if (n_positive > 0 && n_positive < logits->n)
        out->normalised_entropy = out->log_loss / -(rate * log(rate) + (1 - rate) * log1p(-rate));
    return HSTU_OK;
}
