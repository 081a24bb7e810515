/* The row kernels for NEON. */
#include "device/cpu/arm/vec_neon.h"
#include "device/cpu/cpu_ops.h"

#include "device/cpu/rows_vec.h"

void hs_round_bf16_neon(float *x, float scale, int64_t n)
{
    v_round_row(x, scale, n);
}

void hs_pair_bf16_neon(uint32_t *dst, const float *even, const float *odd, int64_t n)
{
    v_pair_row(dst, even, odd, n);
}

void hs_embed_neon(float *out, const void *x, hs_dtype type, float scale, const float *position, bool bf16, int64_t n)
{
    v_embed_row(out, x, type, scale, position, bf16, n);
}

void hs_finish_neon(
    float *out, const float *sum, const float *bias, const float *residual, hs_activation act, bool bf16, int64_t n)
{
    v_finish(out, sum, bias, residual, act, bf16, n);
}

void hs_silu_neon(const hs_silu_tile *t)
{
    v_silu_rows(t);
}

void hs_bias_row_neon(float *out, const float *position, const float *time, const uint8_t *bucket, int64_t n)
{
    v_bias_row(out, position, time, bucket, n);
}

void hs_softmax_neon(float *x, const float *bias, float scale, int64_t n)
{
    v_softmax_row(x, bias, scale, n);
}

void hs_layer_norm_neon(float *out, const float *x, const float *add, int64_t n, const hs_affine *affine)
{
    v_layer_norm(out, x, add, n, affine);
}

void hs_norm_gate_neon(float *out, const float *u, const float *o, int64_t n, const hs_affine *affine, bool concat)
{
    v_norm_gate(out, u, o, n, affine, concat);
}

void hs_scale_neon(float *x, const float *by, const float *add, int64_t n)
{
    v_scale_row(x, by, add, n);
}

void hs_divide_neon(float *out, const float *x, float by, int64_t n)
{
    v_divide_row(out, x, by, n);
}

void hs_above_neon(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal)
{
    v_above_row(mask, x, n, t, or_equal);
}

void hs_kth_neon(float *kth, const float *x, int64_t ld, const float *norm, const float *bias, int64_t n, int64_t k)
{
    v_kth(kth, x, ld, norm, bias, n, k);
}
