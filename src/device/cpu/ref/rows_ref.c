/* The definition of the kernels that work on one row: epilogue, SiLU, bias, softmax, layer norms, score scans. Sums are
 * in double, so that the tuned kernels are judged against something better than themselves. */
#include "base/half.h"
#include "device/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

static float to_bf16(float x)
{
    return hs_bf16_to_f32(hs_f32_to_bf16(x));
}

void hs_round_bf16_ref(float *x, float scale, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        x[j] = to_bf16(scale * x[j] + 0.0f);
}

static float value_at(const void *x, hs_dtype type, int64_t j)
{
    float value = 0.0f;
    uint16_t bits = 0;
    if (!x)
        return value;
    if (type == HS_BF16) {
        memcpy(&bits, (const char *)x + (size_t)j * sizeof bits, sizeof bits);
        return hs_bf16_to_f32(bits);
    }
    memcpy(&value, (const char *)x + (size_t)j * sizeof value, sizeof value);
    return value;
}

void hs_embed_ref(float *out, const void *x, hs_dtype type, float scale, const float *position, bool bf16, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        const float value = bf16 ? to_bf16(value_at(x, type, j)) : value_at(x, type, j);
        const float y = position ? fmaf(scale, value, position[j]) : scale * value;
        out[j] = bf16 ? to_bf16(y) : y;
    }
}

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

void hs_finish_ref(
    float *out, const float *sum, const float *bias, const float *residual, hs_activation act, bool bf16, int64_t n)
{
    const bool inside = bf16 && act != HS_ACT_NONE;
    for (int64_t o = 0; o < n; o++) {
        const float z = bias ? sum[o] + bias[o] : sum[o];
        const float a = inside ? to_bf16(activate(to_bf16(z), act)) : activate(z, act);
        const float y = residual ? a + residual[o] : a;
        out[o] = bf16 ? to_bf16(y) : y;
    }
}

void hs_silu_ref(const hs_silu_tile *t)
{
    for (int64_t r = 0; r < t->rows; r++) {
        for (int64_t j = 0; j < t->n; j++) {
            float *x = &t->x[r * t->ld + j];
            const float z = t->bias ? fmaf(t->alpha, *x, t->bias[r * t->ld + j]) : t->alpha * *x;
            const float y = j < t->n_first + r ? t->scale * silu(z) : 0.0f;
            *x = t->bf16 ? to_bf16(y) : y;
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

static float affine_at(double normed, const hs_affine *affine, int64_t c)
{
    const double scaled = affine->weight ? normed * (double)affine->weight[c] : normed;
    return (float)(affine->bias ? scaled + (double)affine->bias[c] : scaled);
}

void hs_layer_norm_ref(float *out, const float *x, const float *add, int64_t n, const hs_affine *affine)
{
    double mean = 0, inv_sd = 0;
    moments(&mean, &inv_sd, x, add, n, affine->eps);
    for (int64_t c = 0; c < n; c++)
        out[c] = affine_at(((double)sum_at(x, add, c) - mean) * inv_sd, affine, c);
}

void hs_norm_gate_ref(float *out, const float *u, const float *o, int64_t n, const hs_affine *affine, bool concat)
{
    double mean = 0, inv_sd = 0;
    moments(&mean, &inv_sd, o, NULL, n, affine->eps);
    for (int64_t c = 0; c < n; c++) {
        const float normed = affine_at(((double)o[c] - mean) * inv_sd, affine, c);
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

void hs_scale_ref(float *x, const float *by, const float *add, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        const float product = by ? x[j] * by[j] : x[j];
        x[j] = add ? product + add[j] : product;
    }
}

void hs_divide_ref(float *out, const float *x, float by, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        out[j] = x[j] / by;
}

void hs_above_ref(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal)
{
    memset(mask, 0, (size_t)((n + 63) / 64) * sizeof *mask);
    for (int64_t j = 0; j < n; j++) {
        if (or_equal ? x[j] >= t : x[j] > t)
            mask[j / 64] |= UINT64_C(1) << (j % 64);
    }
}

/* The k-th largest of the n numbers at x. */
static float kth_largest(const float *x, int n, int64_t k)
{
    float best[HS_KTH_GROUPS];
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && best[at - 1] < x[i]; at--)
            best[at] = best[at - 1];
        best[at] = x[i];
    }
    return best[k - 1];
}

void hs_kth_ref(float *kth, const float *x, int64_t ld, const float *norm, const float *bias, int64_t n, int64_t k)
{
    for (int q = 0; q < HS_KTH_LANES; q++) {
        float group[HS_KTH_GROUPS];
        for (int g = 0; g < HS_KTH_GROUPS; g++)
            group[g] = -INFINITY;
        for (int64_t j = 0; j < n; j++) {
            float y = x[j * ld + q];
            hs_scale_ref(&y, norm ? norm + j : NULL, bias ? bias + j : NULL, 1);
            float *const most = &group[j % HS_KTH_GROUPS];
            *most = y > *most ? y : *most;
        }
        kth[q] = kth_largest(group, HS_KTH_GROUPS, k);
    }
}
