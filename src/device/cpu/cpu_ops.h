/* The kernels that an instruction set must supply, and the tables of those that exist. Kernels cannot fail and allocate
 * nothing; they work on one row or one small tile, so that the drivers (cpu_*.c) alone decide blocking and threads. */
#ifndef HS_DEVICE_CPU_CPU_OPS_H
#define HS_DEVICE_CPU_CPU_OPS_H

#include "device/device.h"

#include <stddef.h>

/* Columns of one packed panel; every instruction set shares the packed layout. */
enum { HS_PANEL = 16 };

/* c[i, o] = sum over t = 0 .. k - 1 of a[i, t] * b(t, o), b(t, o) = b[(o / 16) * panel + t * ldb + o % 16].
 * A packed weight has ldb = 16, panel = 16 k; a row-major matrix has ldb = its ld, panel = 16.
 * With b NULL it lies in pages: b(t, o) is element (t % page_k, o % page_n) of the matrix that begins `skip` bytes
 * behind page[t / page_k + o / page_n], laid out as b is. page_k is even, page_n a multiple of 32; page_k covers all of
 * k, or page_n all of n.
 * Each element is one chain of float32 fused multiply-adds over ascending t, begun at 0, or with `accumulate` at what
 * c holds; a zero is stored as +0, so that terms of 0 * b behind a sum leave no trace. The bits depend neither on the
 * tile that an element falls into, nor on pages, nor on the instruction set, and a sum over t may be cut anywhere.
 * Reads b(t, o) for o < n only, writes c[0 .. rows - 1, 0 .. n - 1] only. c overlaps nothing.
 * Check: |err| <= k * FLT_EPSILON / 2 * sum |a b| (the rounding of one chain), and bitwise against the reference. */
typedef struct hs_gemm {
    float *c;
    const float *a;
    const uint32_t *left; /* instead of a, in products of pairs (hs_pair_kernels) */
    const void *b;        /* float, or pairs: uint32_t */
    char *const *page;
    size_t skip;
    int64_t page_k, page_n;
    int64_t ldc, lda, ldb, panel;
    int64_t rows, k, n;
    bool accumulate;
} hs_gemm;
typedef void hs_gemm_fn(const hs_gemm *g);

/* The same sum over a b of bfloat16 pairs: the word of b(t, o), t even, stands at b[(o / 16) * panel + (t / 2) * ldb +
 * o % 16], with b(t, o) in its low half and b(t + 1, o) in its high one, which is not multiplied where t + 1 = k.
 * Widening is exact, so the bits are those of hs_gemm_fn over the widened values. */
typedef void hs_gemm_bf16_fn(const hs_gemm *g);

/* dst[t * 16 + r] = row[r][t] for r < n_rows <= 16, t < d; 0 for r >= n_rows. dst [d, 16], 64-byte aligned. */
typedef void hs_pack_panel_fn(float *dst, const float *const *row, int64_t n_rows, int64_t d);

/* dst[j] = even[j] rounded to bfloat16 in the low half, odd[j] in the high one, or 0 there where odd is NULL; j < n.
 * Equal in every instruction set. */
typedef void hs_pair_bf16_fn(uint32_t *dst, const float *even, const float *odd, int64_t n);

/* x[j] = scale * x[j] + 0 (so that a zero has no sign), rounded to bfloat16 as hs_f32_to_bf16 (base/half.h) does and widened
 * again. Equal in every instruction set. */
typedef void hs_round_bf16_fn(float *x, float scale, int64_t n);

/* out[j] = scale * x[j] + position[j] in one fused multiply-add, or scale * x[j] where position is NULL. x: n values of
 * `type`, HS_F32 or HS_BF16, at any address; NULL: zeros. With `bf16` x[j] and the result are rounded to
 * bfloat16. Equal in every instruction set. */
typedef void hs_embed_fn(
    float *out, const void *x, hs_dtype type, float scale, const float *position, bool bf16, int64_t n);

/* out[o] = act(sum[o] + bias[o]) + residual[o], o < n; bias and residual may be NULL; out may be residual or sum. With
 * `bf16` act's argument and value are rounded to bfloat16 (where there is an act), and so is the result.
 * Check: SiLU as in hs_silu_fn; GELU is erff's, ReLU exact. ReLU passes NaN on. */
typedef void hs_finish_fn(
    float *out, const float *sum, const float *bias, const float *residual, hs_activation act, bool bf16, int64_t n);

/* A tile of scores: row r sees its first min(n, n_first + r) columns (none if that is negative), where
 * x[r, j] = scale * silu(z), z = alpha * x[r, j] + bias[r, j] in one fused multiply-add, silu(z) = z / (1 + exp(-z))
 * with a true division; in the columns up to n that it does not see, x becomes exactly 0 whatever it was. x and bias
 * [rows, n] with the same ld; bias may be NULL. With `bf16` the result is rounded to bfloat16.
 * Check with scale 1: |err| <= 3 ulp of the result + 2^-100 (below z = -88; of -INFINITY it may also be NaN). */
typedef struct hs_silu_tile {
    float *x;
    const float *bias;
    int64_t ld;
    float alpha, scale;
    int64_t rows, n, n_first;
    bool bf16;
} hs_silu_tile;
typedef void hs_silu_fn(const hs_silu_tile *t);

/* What an instruction set that multiplies bfloat16 values has beside the kernels of kernels.def; a property of its own, for its
 * sums are chains of another kind. It serves products whose left side holds bfloat16 values too. */
enum { HS_PAIR_STEP = 32, HS_PAIR_ROWS = 16 };
typedef struct hs_pair_kernels {
    int row_tile; /* as in hs_cpu_kernels */
    /* dst [ceil(n / 32) * 16] = the pairs of x, n bfloat16 values, zeros behind. Denormals may become 0: the products
     * take them for 0. */
    void (*pack_left)(uint32_t *dst, const float *x, int64_t n);
    /* The tile's weights, rounded, as rows of a left side: left [rows, lda], zeros up to a multiple of 32 columns and where a row
     * does not see. x stays. Check: what is rounded is within 2^-16 of silu's result, relatively, + 2^-100. */
    void (*silu_left)(uint32_t *left, int64_t lda, const hs_silu_tile *t);
    /* hs_gemm_bf16_fn's sum, where a(i, t) stands in left[i * lda + t / 2] as pack_left puts it; lda in words. left is
     * readable, whatever it holds, for rows up to a multiple of HS_PAIR_ROWS. page_k is a multiple of HS_PAIR_STEP, and
     * only there may a sum be cut. A zero has either sign. Bits depend on nothing but the instruction set:
     * avx512bf16: one chain, two fused multiply-adds a pair, the odd element first; denormals count as 0.
     * amx: of each HS_PAIR_STEP elements one chain of the even ones and one of the odd ones, begun at 0; to what is there
     * their sum is added; denormals count as 0.
     * Check: |err| <= k * FLT_EPSILON / 2 * sum |a b| + what was flushed, and bitwise against a model of the instruction. */
    void (*gemm)(const hs_gemm *g);
    /* A thread enters before it calls gemm, and leaves behind it; each may be NULL. */
    void (*enter)(void), (*leave)(void);
} hs_pair_kernels;

/* Words from one row of a left side to the next: whole cache lines, and an odd number of them, so that rows that are read
 * together lie in different sets of the cache. */
static inline int64_t hs_pair_stride(int64_t k)
{
    return ((k + HS_PAIR_STEP - 1) / HS_PAIR_STEP | 1) * (HS_PAIR_STEP / 2);
}

/* out[j] = position[j] + time[bucket[j]], j < n: one rounding, so equal in every instruction set. */
typedef void hs_bias_row_fn(float *out, const float *position, const float *time, const uint8_t *bucket, int64_t n);

/* x[j] = exp(z[j] - max z) / sum of exp(z - max z), z[j] = scale * (x[j] + bias[j]); bias may be NULL; n >= 1.
 * The sum's lane order depends on n alone. Check: relative error of an element <= (8 + |z - max z|) * FLT_EPSILON + the
 * sum's n * FLT_EPSILON / 2; elements below e^-87 of the largest may come out as about 1e-38 instead. */
typedef void hs_softmax_fn(float *x, const float *bias, float scale, int64_t n);

/* weight and bias [n] of a layer norm, each or both NULL, and its eps: on = (y - mean) / sqrt(var + eps) becomes
 * on * weight + bias (one fused multiply-add where both are there). */
typedef struct hs_affine {
    const float *weight, *bias;
    float eps;
} hs_affine;

/* out = layer norm of y = x + add, two passes, biased variance, lane order fixed by n. add may be NULL; out may be x or
 * add. Check, with u = FLT_EPSILON / 2:
 *   |err| <= (n + 8) * u * (max |y| + max |y - mean|) / sqrt(var + eps) * |weight| + u * |out|. */
typedef void hs_layer_norm_fn(float *out, const float *x, const float *add, int64_t n, const hs_affine *affine);

/* On = layer norm of o [n]; out [n] = u * On, or with `concat` out [3 n] = u, On, u * On. out overlaps neither u nor o
 * with concat; without it out may be u or o. */
typedef void hs_norm_gate_fn(
    float *out, const float *u, const float *o, int64_t n, const hs_affine *affine, bool concat);

/* x[j] = x[j] * by[j] + add[j], two roundings; by and add may each be NULL. */
typedef void hs_scale_fn(float *x, const float *by, const float *add, int64_t n);

/* Bit j of mask [ceil(n / 64)] = x[j] > t, or with `or_equal` x[j] >= t; false for NaN; bits past n are 0. */
typedef void hs_above_fn(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal);

typedef struct hs_cpu_kernels {
    const char *isa;
    int row_tile;                 /* rows of gemm's register tile: the best number of rows to call it with */
    const hs_pair_kernels *pairs; /* or NULL */
#define X(slot) hs_##slot##_fn *slot;
#include "device/cpu/kernels.def"
#undef X
} hs_cpu_kernels;

#define X(slot) hs_##slot##_fn hs_##slot##_ref, hs_##slot##_avx2, hs_##slot##_avx512;
#include "device/cpu/kernels.def"
#undef X
extern const hs_pair_kernels hs_pairs_avx512bf16, hs_pairs_amx;
void hs_pack_left_avx512bf16(uint32_t *dst, const float *x, int64_t n);
void hs_silu_left_avx512bf16(uint32_t *left, int64_t lda, const hs_silu_tile *t);

/* Instruction sets this build knows, worst first: ref, then what the architecture has. NULL past the last. */
const hs_cpu_kernels *hs_cpu_kernels_at(int i);
/* Whether this processor can run hs_cpu_kernels_at(i), and whether it gains by them over those before. */
bool hs_cpu_can_run(int i);
bool hs_cpu_gains(int i);

#endif
