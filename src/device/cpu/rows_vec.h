/* The row kernels in vector words (x86/vec_avx2.h, x86/vec_avx512.h, arm/vec_neon.h): their arithmetic is the same at every width, so
 * it stands here once. rows_<isa>.c includes the words, then this, and names the results. */
#ifndef HS_DEVICE_CPU_ROWS_VEC_H
#define HS_DEVICE_CPU_ROWS_VEC_H

#include "base/half.h"
#include "device/cpu/cpu_ops.h"

#include <math.h>

/* exp(x) = 2^n * p(r), n = round(x / ln 2), r = x - n ln 2 in two parts. p = 1 + r + r^2 q(r), q of degree 4 fitted on
 * |r| <= ln 2 / 2 to a relative error of 4e-9, so rounding dominates: within 2 ulp for -87 <= x <= 88. x is at most 88,
 * and below -87 counts as -87 (which gives 1.6e-38); NaN stays. */
static inline v_f32 v_exp(v_f32 x)
{
    x = v_max(v_set(-87.0f), x);
    const v_f32 n = v_round(v_mul(x, v_set(1.44269504f)));
    /* 0.693359375 has 9 significant bits: n times it is exact. */
    const v_f32 r = v_fma(n, v_set(2.12194440e-4f), v_fma(n, v_set(-0.693359375f), x));
    v_f32 q = v_fma(r, v_set(0x1.6a244cp-10f), v_set(0x1.1239d4p-7f));
    q = v_fma(q, r, v_set(0x1.5558f2p-5f));
    q = v_fma(q, r, v_set(0x1.555492p-3f));
    q = v_fma(q, r, v_set(0x1.fffffcp-2f));
    const v_f32 p = v_add(v_set(1.0f), v_fma(v_mul(r, r), q, r));
    return v_scale2(p, n);
}

/* z below -88 counts as -88: what is left of the result there is below 2^-100. */
static inline v_f32 v_silu(v_f32 z)
{
    z = v_max(v_set(-88.0f), z);
    return v_div(z, v_add(v_set(1.0f), v_exp(v_sub(v_set(0.0f), z))));
}

/* max(z, 0) - |z| Phi(-|z|), where 2 Phi(u) = exp(u q(u)) for u <= 0, q of degree 9 fitted on -13 <= u <= 0 so that Phi errs by
 * 2.7e-8 (Phi + 0.01). Below -13 u counts as -13, where Phi is below 1e-38. Neither erf nor a difference near 1 is needed, so
 * negative z cost no digits before Phi gets small. */
static inline v_f32 v_gelu(v_f32 z)
{
    const v_f32 size = v_max(v_sub(v_set(0.0f), z), z);
    const v_f32 u = v_max(v_set(-13.0f), v_sub(v_set(0.0f), size));
    v_f32 q = v_fma(u, v_set(-0x1.ef9c9ap-27f), v_set(-0x1.0a2724p-21f));
    q = v_fma(q, u, v_set(-0x1.c9d8ccp-18f));
    q = v_fma(q, u, v_set(-0x1.9e56c0p-15f));
    q = v_fma(q, u, v_set(-0x1.7fa170p-13f));
    q = v_fma(q, u, v_set(0x1.6e2276p-16f));
    q = v_fma(q, u, v_set(0x1.3d5896p-8f));
    q = v_fma(q, u, v_set(0x1.29ee08p-5f));
    q = v_fma(q, u, v_set(-0x1.45f0ccp-2f));
    q = v_fma(q, u, v_set(0x1.98846cp-1f));
    return v_fma(v_mul(v_set(0.5f), u), v_exp(v_mul(q, u)), v_max(v_set(0.0f), z));
}

static inline v_f32 v_activate(v_f32 z, hs_activation act)
{
    if (act == HS_ACT_SILU)
        return v_silu(z);
    if (act == HS_ACT_GELU)
        return v_gelu(z);
    return act == HS_ACT_RELU ? v_max(v_set(0.0f), z) : z;
}

static inline void v_round_row(float *x, float scale, int64_t n)
{
    for (int64_t j = 0; j < n; j += V_LANES)
        v_store(x + j, v_to_bf16(v_add(v_mul(v_set(scale), v_load(x + j, n - j)), v_set(0.0f))), n - j);
}

static inline void v_pair_row(uint32_t *dst, const float *even, const float *odd, int64_t n)
{
    for (int64_t j = 0; j < n; j += V_LANES) {
        const v_f32 low = v_to_bf16(v_load(even + j, n - j));
        const v_f32 high = odd ? v_to_bf16(v_load(odd + j, n - j)) : v_set(0.0f);
        v_store((float *)(void *)(dst + j), v_pair(low, high), n - j);
    }
}

/* Elements j .. of the n at x, zeros behind. */
static inline v_f32 v_value_at(const void *x, hs_dtype type, int64_t j, int64_t n)
{
    if (!x)
        return v_set(0.0f);
    if (type == HS_BF16)
        return v_load_bf16((const char *)x + j * 2, n - j);
    return v_load((const float *)(const void *)((const char *)x + j * 4), n - j);
}

static inline void v_embed_row(
    float *out, const void *x, hs_dtype type, float scale, const float *position, bool bf16, int64_t n)
{
    const v_f32 s = v_set(scale);
    for (int64_t j = 0; j < n; j += V_LANES) {
        v_f32 v = v_value_at(x, type, j, n);
        if (bf16)
            v = v_to_bf16(v);
        v = position ? v_fma(s, v, v_load(position + j, n - j)) : v_mul(s, v);
        v_store(out + j, bf16 ? v_to_bf16(v) : v, n - j);
    }
}

/* Rows whose choices are literals at every call: what a choice leaves out costs the loop nothing. */
#define V_LITERAL_CHOICES static inline __attribute__((always_inline))

V_LITERAL_CHOICES void v_finish_row(
    float *out, const float *sum, const float *bias, const float *residual, hs_activation act, bool bf16, int64_t n)
{
    for (int64_t o = 0; o < n; o += V_LANES) {
        v_f32 y = v_load(sum + o, n - o);
        if (bias)
            y = v_add(y, v_load(bias + o, n - o));
        if (bf16 && act != HS_ACT_NONE)
            y = v_to_bf16(v_activate(v_to_bf16(y), act));
        else
            y = v_activate(y, act);
        if (residual)
            y = v_add(y, v_load(residual + o, n - o));
        v_store(out + o, bf16 ? v_to_bf16(y) : y, n - o);
    }
}

static inline void v_finish(
    float *out, const float *sum, const float *bias, const float *residual, hs_activation act, bool bf16, int64_t n)
{
    if (act == HS_ACT_GELU && bf16)
        v_finish_row(out, sum, bias, residual, HS_ACT_GELU, true, n);
    else if (act == HS_ACT_GELU)
        v_finish_row(out, sum, bias, residual, HS_ACT_GELU, false, n);
    else if (act == HS_ACT_SILU && bf16)
        v_finish_row(out, sum, bias, residual, HS_ACT_SILU, true, n);
    else if (act == HS_ACT_SILU)
        v_finish_row(out, sum, bias, residual, HS_ACT_SILU, false, n);
    else if (act == HS_ACT_RELU)
        v_finish_row(out, sum, bias, residual, HS_ACT_RELU, bf16, n);
    else if (bf16)
        v_finish_row(out, sum, bias, residual, HS_ACT_NONE, true, n);
    else
        v_finish_row(out, sum, bias, residual, HS_ACT_NONE, false, n);
}

V_LITERAL_CHOICES void v_silu_row(const hs_silu_tile *t, float *x, const float *bias, bool bf16, int64_t seen)
{
    const v_f32 alpha = v_set(t->alpha), scale = v_set(t->scale);
    const int64_t n = t->n;
    int64_t j = 0;
    for (; j < seen; j += V_LANES) {
        v_f32 z = v_load(x + j, n - j);
        z = bias ? v_fma(alpha, z, v_load(bias + j, n - j)) : v_mul(alpha, z);
        v_f32 y = v_mul(scale, v_silu(z));
        if (bf16)
            y = v_to_bf16(y);
        v_store(x + j, v_keep(y, 0.0f, seen - j), n - j);
    }
    for (; j < n; j += V_LANES)
        v_store(x + j, v_set(0.0f), n - j);
}

static inline void v_silu_rows(const hs_silu_tile *t)
{
    for (int64_t r = 0; r < t->rows; r++) {
        const int64_t seen = t->n_first + r < t->n ? t->n_first + r : t->n;
        float *x = t->x + r * t->ld;
        if (t->bf16)
            v_silu_row(t, x, t->bias ? t->bias + r * t->ld : NULL, true, seen);
        else if (t->bias)
            v_silu_row(t, x, t->bias + r * t->ld, false, seen);
        else
            v_silu_row(t, x, NULL, false, seen);
    }
}

static inline void v_bias_row(float *out, const float *position, const float *time, const uint8_t *bucket, int64_t n)
{
    for (int64_t j = 0; j < n; j += V_LANES)
        v_store(out + j, v_add(v_load(position + j, n - j), v_lookup(time, bucket + j, n - j)), n - j);
}

static inline void v_softmax_row(float *x, const float *bias, float scale, int64_t n)
{
    v_f32 largest = v_set(-INFINITY);
    for (int64_t j = 0; j < n; j += V_LANES) {
        v_f32 z = v_load(x + j, n - j);
        if (bias)
            z = v_add(z, v_load(bias + j, n - j));
        z = v_mul(v_set(scale), z);
        v_store(x + j, z, n - j);
        largest = v_max(v_keep(z, -INFINITY, n - j), largest);
    }
    const v_f32 max = v_set(v_largest(largest));
    v_f32 sum = v_set(0.0f);
    for (int64_t j = 0; j < n; j += V_LANES) {
        const v_f32 e = v_exp(v_sub(v_load(x + j, n - j), max));
        v_store(x + j, e, n - j);
        sum = v_add(sum, v_keep(e, 0.0f, n - j));
    }
    const v_f32 total = v_set(v_sum(sum));
    for (int64_t j = 0; j < n; j += V_LANES)
        v_store(x + j, v_div(v_load(x + j, n - j), total), n - j);
}

static inline v_f32 v_sum_at(const float *x, const float *add, int64_t c, int64_t n)
{
    const v_f32 v = v_load(x + c, n - c);
    return add ? v_add(v, v_load(add + c, n - c)) : v;
}

/* A row's mean and standard deviation, by which its centred values are divided. */
typedef struct v_moments {
    float mean, sd;
} v_moments;

static inline v_moments v_moments_of(const float *x, const float *add, int64_t n, float eps)
{
    v_f32 sum = v_set(0.0f), squares = v_set(0.0f);
    for (int64_t c = 0; c < n; c += V_LANES)
        sum = v_add(sum, v_sum_at(x, add, c, n));
    const float mean = v_sum(sum) / (float)n;
    for (int64_t c = 0; c < n; c += V_LANES) {
        const v_f32 centred = v_keep(v_sub(v_sum_at(x, add, c, n), v_set(mean)), 0.0f, n - c);
        squares = v_fma(centred, centred, squares);
    }
    return (v_moments){.mean = mean, .sd = sqrtf(v_sum(squares) / (float)n + eps)};
}

/* Whether v_quotient may multiply, which costs a quarter of a division: then no step of it leaves the normal numbers.
 * The bounds leave room: a difference to such a mean is 0 or at least 2^-84, and at most sqrt(n) sd. */
static inline bool v_may_multiply(const v_moments *m)
{
    return fabsf(m->mean) >= 0x1p-60f && m->sd >= 0x1p-20f && m->sd <= 0x1p20f;
}

/* sd, -sd and 1 / sd in every lane. */
typedef struct v_divisor {
    v_f32 sd, minus, inverse;
} v_divisor;

static inline v_divisor v_divisor_of(float sd)
{
    return (v_divisor){.sd = v_set(sd), .minus = v_set(-sd), .inverse = v_set(1.0f / sd)};
}

/* x / sd, correctly rounded either way. `multiply`, a literal: the first correction brings x * (1 / sd) to one of the
 * two neighbours of the true quotient, whose remainder is exact; of those the second gives the nearest (Markstein). */
V_LITERAL_CHOICES v_f32 v_quotient(v_f32 x, const v_divisor *d, bool multiply)
{
    if (!multiply)
        return v_div(x, d->sd);
    v_f32 q = v_mul(x, d->inverse);
    q = v_fma(v_fma(q, d->minus, x), d->inverse, q);
    return v_fma(v_fma(q, d->minus, x), d->inverse, q);
}

static inline v_f32 v_affine_at(v_f32 normed, const float *weight, const float *bias, int64_t c, int64_t n)
{
    if (weight && bias)
        return v_fma(normed, v_load(weight + c, n - c), v_load(bias + c, n - c));
    if (weight)
        return v_mul(normed, v_load(weight + c, n - c));
    return bias ? v_add(normed, v_load(bias + c, n - c)) : normed;
}

V_LITERAL_CHOICES void v_layer_norm_by(float *out, const float *x, const float *add, int64_t n, const float *weight,
    const float *bias, const v_moments *m, bool multiply)
{
    const v_divisor d = v_divisor_of(m->sd);
    for (int64_t c = 0; c < n; c += V_LANES) {
        const v_f32 normed = v_quotient(v_sub(v_sum_at(x, add, c, n), v_set(m->mean)), &d, multiply);
        v_store(out + c, v_affine_at(normed, weight, bias, c, n), n - c);
    }
}

V_LITERAL_CHOICES void v_layer_norm_row(
    float *out, const float *x, const float *add, int64_t n, const float *weight, const float *bias, float eps)
{
    const v_moments m = v_moments_of(x, add, n, eps);
    if (v_may_multiply(&m))
        v_layer_norm_by(out, x, add, n, weight, bias, &m, true);
    else
        v_layer_norm_by(out, x, add, n, weight, bias, &m, false);
}

static inline void v_layer_norm(float *out, const float *x, const float *add, int64_t n, const hs_affine *affine)
{
    if (affine->weight || affine->bias)
        v_layer_norm_row(out, x, add, n, affine->weight, affine->bias, affine->eps);
    else if (add)
        v_layer_norm_row(out, x, add, n, NULL, NULL, affine->eps);
    else
        v_layer_norm_row(out, x, NULL, n, NULL, NULL, affine->eps);
}

V_LITERAL_CHOICES void v_norm_gate_by(float *out, const float *u, const float *o, int64_t n, const float *weight,
    const float *bias, const v_moments *m, bool multiply, bool concat)
{
    const v_divisor d = v_divisor_of(m->sd);
    for (int64_t c = 0; c < n; c += V_LANES) {
        const v_f32 gate = v_load(u + c, n - c);
        const v_f32 centred = v_sub(v_load(o + c, n - c), v_set(m->mean));
        const v_f32 normed = v_affine_at(v_quotient(centred, &d, multiply), weight, bias, c, n);
        if (concat) {
            v_store(out + c, gate, n - c);
            v_store(out + n + c, normed, n - c);
            v_store(out + 2 * n + c, v_mul(gate, normed), n - c);
        } else {
            v_store(out + c, v_mul(gate, normed), n - c);
        }
    }
}

V_LITERAL_CHOICES void v_norm_gate_row(float *out, const float *u, const float *o, int64_t n, const float *weight,
    const float *bias, float eps, bool concat)
{
    const v_moments m = v_moments_of(o, NULL, n, eps);
    if (v_may_multiply(&m))
        v_norm_gate_by(out, u, o, n, weight, bias, &m, true, concat);
    else
        v_norm_gate_by(out, u, o, n, weight, bias, &m, false, concat);
}

static inline void v_norm_gate(
    float *out, const float *u, const float *o, int64_t n, const hs_affine *affine, bool concat)
{
    if (affine->weight || affine->bias)
        v_norm_gate_row(out, u, o, n, affine->weight, affine->bias, affine->eps, concat);
    else if (concat)
        v_norm_gate_row(out, u, o, n, NULL, NULL, affine->eps, true);
    else
        v_norm_gate_row(out, u, o, n, NULL, NULL, affine->eps, false);
}

static inline void v_divide_row(float *out, const float *x, float by, int64_t n)
{
    for (int64_t j = 0; j < n; j += V_LANES)
        v_store(out + j, v_div(v_load(x + j, n - j), v_set(by)), n - j);
}

static inline void v_scale_row(float *x, const float *by, const float *add, int64_t n)
{
    for (int64_t j = 0; j < n; j += V_LANES) {
        v_f32 v = v_load(x + j, n - j);
        if (by)
            v = v_mul(v, v_load(by + j, n - j));
        if (add)
            v = v_add(v, v_load(add + j, n - j));
        v_store(x + j, v, n - j);
    }
}

static inline void v_above_row(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal)
{
    const v_f32 bound = v_set(t);
    for (int64_t first = 0; first < n; first += 64) {
        const int64_t end = n - first < 64 ? n : first + 64;
        uint64_t bits = 0;
        for (int64_t j = first; j < end; j += V_LANES) {
            const v_f32 v = v_keep(v_load(x + j, n - j), NAN, n - j);
            bits |= (uint64_t)(or_equal ? v_at_least(v, bound) : v_above(v, bound)) << (j - first);
        }
        mask[first / 64] = bits;
    }
}

static inline void v_kth_lanes(
    float *kth, const float *x, int64_t ld, const float *norm, const float *bias, int64_t n, int64_t k)
{
    v_f32 group[HS_KTH_GROUPS], best[HS_KTH_GROUPS];
    for (int g = 0; g < HS_KTH_GROUPS; g++)
        group[g] = best[g] = v_set(-INFINITY);
    for (int64_t j = 0; j < n; j++) {
        v_f32 y = v_load(x + j * ld, V_LANES);
        if (norm)
            y = v_mul(y, v_set(norm[j]));
        if (bias)
            y = v_add(y, v_set(bias[j]));
        group[j % HS_KTH_GROUPS] = v_max(y, group[j % HS_KTH_GROUPS]);
    }
    for (int g = 0; g < HS_KTH_GROUPS; g++) {
        v_f32 y = group[g];
        for (int64_t i = 0; i < k; i++) {
            const v_f32 was = best[i];
            best[i] = v_max(was, y);
            y = v_min(was, y);
        }
    }
    v_store(kth, best[k - 1], V_LANES);
}

static inline void v_kth(
    float *kth, const float *x, int64_t ld, const float *norm, const float *bias, int64_t n, int64_t k)
{
    for (int lane = 0; lane < HS_KTH_LANES; lane += V_LANES)
        v_kth_lanes(kth + lane, x + lane, ld, norm, bias, n, k);
}

#endif
