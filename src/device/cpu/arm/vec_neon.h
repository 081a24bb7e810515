/* The vector words that rows_vec.h is written in, for NEON: two registers make a vector, so that two chains of dependent
 * operations are under way, and sums run over as many lanes as AVX2's. Included by *_neon.c only. */
#ifndef HS_DEVICE_CPU_ARM_VEC_NEON_H
#define HS_DEVICE_CPU_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

enum { V_HALF = 4, V_LANES = 2 * V_HALF };
typedef struct v_f32 {
    float32x4_t low, high;
} v_f32;

/* At any address, which vld1q_f32 does not promise. */
static inline float32x4_t v_load_four(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}

static inline float v_load_one(const float *p)
{
    float x = 0.0f;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Lanes 0 .. n - 1 of p, zeros behind, n may be 0 or less. Nothing past p[n - 1] is read. */
static inline float32x4_t v_load_half(const float *p, int64_t n)
{
    if (n >= V_HALF)
        return v_load_four(p);
    float32x4_t x = vdupq_n_f32(0.0f);
    if (n > 0)
        x = vsetq_lane_f32(v_load_one(p), x, 0);
    if (n > 1)
        x = vsetq_lane_f32(v_load_one(p + 1), x, 1);
    if (n > 2)
        x = vsetq_lane_f32(v_load_one(p + 2), x, 2);
    return x;
}

static inline void v_store_half(float *p, float32x4_t x, int64_t n)
{
    if (n >= V_HALF) {
        vst1q_f32(p, x);
        return;
    }
    if (n > 0)
        vst1q_lane_f32(p, x, 0);
    if (n > 1)
        vst1q_lane_f32(p + 1, x, 1);
    if (n > 2)
        vst1q_lane_f32(p + 2, x, 2);
}

/* n >= V_LANES loads all. */
static inline v_f32 v_load(const float *p, int64_t n)
{
    if (n >= V_LANES)
        return (v_f32){v_load_four(p), v_load_four(p + V_HALF)};
    return (v_f32){v_load_half(p, n), n > V_HALF ? v_load_half(p + V_HALF, n - V_HALF) : vdupq_n_f32(0.0f)};
}

static inline void v_store(float *p, v_f32 x, int64_t n)
{
    if (n >= V_LANES) {
        vst1q_f32(p, x.low);
        vst1q_f32(p + V_HALF, x.high);
        return;
    }
    v_store_half(p, x.low, n);
    if (n > V_HALF)
        v_store_half(p + V_HALF, x.high, n - V_HALF);
}

/* All bits of lanes first .. that are below n. */
static inline uint32x4_t v_tail(int32_t first, int64_t n)
{
    static const int32_t lane[V_HALF] = {0, 1, 2, 3};
    const int32x4_t lanes = vaddq_s32(vld1q_s32(lane), vdupq_n_s32(first));
    return vcgtq_s32(vdupq_n_s32((int32_t)(n < V_LANES ? n : V_LANES)), lanes);
}

/* x in lanes 0 .. n - 1, `other` behind. */
static inline v_f32 v_keep(v_f32 x, float other, int64_t n)
{
    if (n >= V_LANES)
        return x;
    const float32x4_t o = vdupq_n_f32(other);
    return (v_f32){vbslq_f32(v_tail(0, n), x.low, o), vbslq_f32(v_tail(V_HALF, n), x.high, o)};
}

static inline v_f32 v_set(float x)
{
    return (v_f32){vdupq_n_f32(x), vdupq_n_f32(x)};
}

static inline v_f32 v_add(v_f32 a, v_f32 b)
{
    return (v_f32){vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}

static inline v_f32 v_sub(v_f32 a, v_f32 b)
{
    return (v_f32){vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
}

static inline v_f32 v_mul(v_f32 a, v_f32 b)
{
    return (v_f32){vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}

static inline v_f32 v_div(v_f32 a, v_f32 b)
{
    return (v_f32){vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)};
}

/* a * b + c, one rounding. */
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return (v_f32){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}

/* Where x is NaN the result is x, and where both are zeros too: FMAX would lose a sign that ReLU keeps. */
static inline v_f32 v_max(v_f32 bound, v_f32 x)
{
    return (v_f32){vbslq_f32(vcgtq_f32(bound.low, x.low), bound.low, x.low),
        vbslq_f32(vcgtq_f32(bound.high, x.high), bound.high, x.high)};
}

static inline v_f32 v_min(v_f32 a, v_f32 b)
{
    return (v_f32){vminq_f32(a.low, b.low), vminq_f32(a.high, b.high)};
}

static inline v_f32 v_round(v_f32 x)
{
    return (v_f32){vrndnq_f32(x.low), vrndnq_f32(x.high)};
}

/* x * 2^n for a whole n with -126 <= n <= 127. */
static inline float32x4_t v_scale2_half(float32x4_t x, float32x4_t n)
{
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}

static inline v_f32 v_scale2(v_f32 x, v_f32 n)
{
    return (v_f32){v_scale2_half(x.low, n.low), v_scale2_half(x.high, n.high)};
}

/* Each lane rounded to bfloat16 as hs_f32_to_bf16 (base/half.h) does, and widened again. */
static inline float32x4_t v_to_bf16_half(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t nearest = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    const uint32x4_t chosen = vbslq_u32(vceqq_f32(x, x), nearest, quiet);
    return vreinterpretq_f32_u32(vandq_u32(chosen, vdupq_n_u32(0xffff0000)));
}

static inline v_f32 v_to_bf16(v_f32 x)
{
    return (v_f32){v_to_bf16_half(x.low), v_to_bf16_half(x.high)};
}

/* The pairs of two vectors that hold bfloat16 values: low in the low half of each lane, high in the other. */
static inline float32x4_t v_pair_half(float32x4_t low, float32x4_t high)
{
    return vreinterpretq_f32_u32(vsriq_n_u32(vreinterpretq_u32_f32(high), vreinterpretq_u32_f32(low), 16));
}

static inline v_f32 v_pair(v_f32 low, v_f32 high)
{
    return (v_f32){v_pair_half(low.low, high.low), v_pair_half(low.high, high.high)};
}

/* Lanes 0 .. n - 1 of the bfloat16 values at p (any address), widened; zeros behind. */
static inline v_f32 v_load_bf16(const void *p, int64_t n)
{
    uint16_t lane[V_LANES] = {0};
    if (n < V_LANES) {
        memcpy(lane, p, (size_t)n * sizeof lane[0]);
        p = lane;
    }
    const uint16x8_t half = vreinterpretq_u16_u8(vld1q_u8(p));
    return (v_f32){
        vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(half), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(half, 16))};
}

/* Sum of the lanes: halves are added until one is left, the same tree always. */
static inline float v_sum(v_f32 x)
{
    const float32x4_t s4 = vaddq_f32(x.low, x.high);
    const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}

static inline float v_largest(v_f32 x)
{
    return vmaxvq_f32(vmaxq_f32(x.low, x.high));
}

/* table[index[j]] for lanes j < n, 0 behind. */
static inline v_f32 v_lookup(const float *table, const uint8_t *index, int64_t n)
{
    float lane[V_LANES] = {0};
    const int64_t count = n < V_LANES ? n : V_LANES;
    for (int64_t j = 0; j < count; j++)
        lane[j] = table[index[j]];
    return (v_f32){vld1q_f32(lane), vld1q_f32(lane + V_HALF)};
}

/* Bit j = lane j of two masks. */
static inline unsigned v_bits(uint32x4_t low, uint32x4_t high)
{
    static const uint32_t lane[V_LANES] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u32(vorrq_u32(vandq_u32(low, vld1q_u32(lane)), vandq_u32(high, vld1q_u32(lane + V_HALF))));
}

/* Bit j = lane j of x > t (>= t); false for NaN. */
static inline unsigned v_above(v_f32 x, v_f32 t)
{
    return v_bits(vcgtq_f32(x.low, t.low), vcgtq_f32(x.high, t.high));
}

static inline unsigned v_at_least(v_f32 x, v_f32 t)
{
    return v_bits(vcgeq_f32(x.low, t.low), vcgeq_f32(x.high, t.high));
}

#endif
