/* The definition of the kernels that work on one row: epilogue, SiLU, bias, softmax, layer norms, score scans. Sums are
 * in double, so that the tuned kernels are judged against something better than themselves. */
#include "device/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

static float silu(float z)
{
    return z / (1.0f + expf(-z));
}

static float activate(float z, hs_activation act)
{
    switch (act) {
    case HS_ACT_SILU:
        return silu(z);
    case HS_ACT_RELU:
        return z < 0.0f ? 0.0f : z;
    case HS_ACT_GELU:
        return 0.5f * z * (1.0f + erff(z * 0.70710678118654752f));
    case HS_ACT_NONE:
        break;
    }
    return z;
}

void hs_finish_ref(float *out, const float *sum, const float *bias, const float *residual, hs_activation act, int64_t n)
{
    for (int64_t o = 0; o < n; o++) {
        const float y = activate(bias ? sum[o] + bias[o] : sum[o], act);
        out[o] = residual ? y + residual[o] : y;
    }
}

void hs_silu_ref(float *x, const float *bias, int64_t ld, float scale, int64_t rows, int64_t n, int64_t n_first)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < n; j++) {
            float *at = &x[r * ld + j];
            *at = j < n_first + r ? scale * silu(bias ? *at + bias[r * ld + j] : *at) : 0.0f;
        }
    }
}

void hs_bias_row_ref(float *out, const float *position, const float *time, const uint8_t *bucket, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        out[j] = position[j] + time[bucket[j]];
}

void hs_softmax_ref(float *x, const float *bias, float scale, int64_t n)
{
    float max = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        x[j] = scale * (bias ? x[j] + bias[j] : x[j]);
        max = x[j] > max ? x[j] : max;
    }
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        x[j] = expf(x[j] - max);
        sum += (double)x[j];
    }
    for (int64_t j = 0; j < n; j++)
        x[j] = (float)((double)x[j] / sum);
}

static float sum_at(const float *x, const float *add, int64_t c)
{
    return add ? x[c] + add[c] : x[c];
}

static void moments(double *mean, double *inv_sd, const float *x, const float *add, int64_t n, float eps)
{
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < n; c++)
        sum += (double)sum_at(x, add, c);
    *mean = sum / (double)n;
    for (int64_t c = 0; c < n; c++) {
        const double centred = (double)sum_at(x, add, c) - *mean;
        squares += centred * centred;
    }
    *inv_sd = 1.0 / sqrt(squares / (double)n + (double)eps);
}

void hs_layer_norm_ref(float *out, const float *x, const float *add, int64_t n, float eps)
{
    double mean = 0, inv_sd = 0;
    moments(&mean, &inv_sd, x, add, n, eps);
    for (int64_t c = 0; c < n; c++)
        out[c] = (float)(((double)sum_at(x, add, c) - mean) * inv_sd);
}

void hs_norm_gate_ref(float *out, const float *u, const float *o, int64_t n, float eps, bool concat)
{
    double mean = 0, inv_sd = 0;
    moments(&mean, &inv_sd, o, NULL, n, eps);
    for (int64_t c = 0; c < n; c++) {
        const float normed = (float)(((double)o[c] - mean) * inv_sd);
        const float gated = u[c] * normed;
        if (concat) {
            out[c] = u[c];
            out[n + c] = normed;
            out[2 * n + c] = gated;
        } else {
            out[c] = gated;
        }
    }
}

void hs_scale_ref(float *x, const float *by, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        x[j] *= by[j];
}

void hs_above_ref(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal)
{
    memset(mask, 0, (size_t)((n + 63) / 64) * sizeof *mask);
    for (int64_t j = 0; j < n; j++) {
        if (or_equal ? x[j] >= t : x[j] > t)
            mask[j / 64] |= UINT64_C(1) << (j % 64);
    }
}
