/* The kernels that an instruction set must supply, and the tables of those that exist. Kernels cannot fail and allocate
 * nothing; they work on one row or one small tile, so that the drivers (cpu_*.c) alone decide blocking and threads. */
#ifndef HS_DEVICE_CPU_CPU_OPS_H
#define HS_DEVICE_CPU_CPU_OPS_H

#include "device/device.h"

#include <stddef.h>

/* Columns of one packed panel; every instruction set shares the packed layout. */
enum { HS_PANEL = 16 };

static inline int64_t hs_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t hs_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t hs_ceil_div_i64(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* c[i, o] = sum over t = 0 .. k - 1 of a[i, t] * b(t, o), b(t, o) = b[(o / 16) * panel + t * ldb + o % 16].
 * A packed weight has ldb = 16, panel = 16 k; a row-major matrix has ldb = its ld, panel = 16.
 * With b NULL it lies in pages: b(t, o) is element (t % page_k, o % page_n) of the matrix that begins `skip` bytes
 * behind page[t / page_k + o / page_n], laid out as b is. page_k is even, page_n a multiple of 32; page_k covers all of
 * k, or page_n all of n.
 * Each element is one chain of float32 fused multiply-adds over ascending t, begun at 0, or with `accumulate` at what
 * c holds; a zero is stored as +0, so that terms of 0 * b behind a sum leave no trace. The bits depend neither on the
 * tile that an element falls into, nor on pages, nor on the instruction set, and a sum over t may be cut anywhere.
 * Reads b(t, o) for o < n only, writes c[0 .. rows - 1, 0 .. n - 1] only. c overlaps nothing.
 *   `next` tells the right side that is read next: in pages if this one is, with the same ldb, page_k and page_n; its b or page, skip,
 * panel, k and n count. Its list of pages may be read, its words are not.
 * Check: |err| <= k * FLT_EPSILON / 2 * sum |a b| (the rounding of one chain), and bitwise against the reference. */
typedef struct hs_gemm {
    float *c;
    const float *a;
    const uint16_t *left; /* instead of a, in products of bfloat16 values (hs_pair_kernels) */
    const void *b;        /* float, or pairs: uint32_t */
    char *const *page;
    size_t skip;
    int64_t page_k, page_n;
    int64_t ldc, lda, ldb, panel;
    int64_t rows, k, n;
    bool accumulate;
    bool again;                 /* the right side was read a moment ago: a hint */
    const struct hs_gemm *next; /* or NULL; a hint */
} hs_gemm;
typedef void hs_gemm_fn(const hs_gemm *g);

/* The same sum over a b of bfloat16 pairs: the word of b(t, o), t even, stands at b[(o / 16) * panel + (t / 2) * ldb +
 * o % 16], with b(t, o) in its low half and b(t + 1, o) in its high one, which is not multiplied where t + 1 = k.
 * Widening is exact, so the bits are those of hs_gemm_fn over the widened values. */
typedef void hs_gemm_bf16_fn(const hs_gemm *g);

/* dst[t * 16 + r] = row[r][t] for first <= r < end <= 16, t < d; its other elements stay as they are. dst [d, 16], 64-byte aligned. */
typedef void hs_pack_panel_fn(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d);

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
 * Check: SiLU as in hs_silu_fn; GELU |err| <= FLT_EPSILON * |z| (of -INFINITY it may be NaN, or near 0), equal bits in all
 * instruction sets but the reference; ReLU exact. ReLU passes NaN on. */
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

/* Asks for a line that is to be written. Processors that do not know the instruction pass it over. */
static inline void hs_claim(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw (%0)" : : "r"(p));
#else
    __builtin_prefetch(p, 1);
#endif
}

enum { HS_LINE = 64 /* bytes of a cache line */ };

/* Lines that results of a layer go to later: one for each row and `cols` columns. To write a line that many cores have read takes
 * long, so who computes the results asks for it in advance. They lie in a page (device/kv.h), or in a matrix: that counts as one head, and
 * each of its rows as a group. */
typedef struct hs_claim_plan {
    char *at;      /* of the head that holds the first column, on the page that holds the first row's token */
    int64_t rows;  /* how many of the first rows are to lie on this page; 0: there is nothing to ask for */
    int64_t place; /* of the first row's token */
    int64_t col, width, head_bytes; /* the first column in its head; columns of a head; from one head to the next */
    int64_t cols;                   /* that share a line */
    int64_t col_bytes, group_bytes; /* from a column to the next; from a group of tokens to the next */
    int64_t lane_bytes;             /* from the line of a group's token to that of the next */
    int group_bits;                 /* a group holds 2^group_bits tokens */
} hs_claim_plan;

/* Where the lines of the columns col .. col + cols - 1 begin, and among them that of a row < rows. */
static inline char *hs_claim_columns(const hs_claim_plan *c, int64_t col)
{
    const int64_t at = c->col + col;
    return c->at + at / c->width * c->head_bytes + at % c->width * c->col_bytes;
}

static inline char *hs_claim_line(const hs_claim_plan *c, char *columns, int64_t row)
{
    const int64_t place = c->place + row, lane = place & ((1 << c->group_bits) - 1);
    return columns + (place >> c->group_bits) * c->group_bytes + lane * c->lane_bytes;
}

/* What an instruction set that multiplies bfloat16 values has beside the kernels of kernels.def; a property of its own, for its
 * sums are chains of another kind. It serves products of matrices of bfloat16 values (tensor/mat.h), of which it reads whole
 * blocks: HS_PAIR_STEP columns, and rows up to a multiple of HS_PAIR_ROWS. */
enum { HS_PAIR_STEP = HS_MAT_BLOCK, HS_PAIR_ROWS = 16, HS_PAIR_TILE = 32 };

/* out[r, o] = act(sum + bias[o]) + residual[r, o], sum as gemm has it of x [rows, k] and a packed weight; rounded as hs_finish_fn
 * does with `bf16`. bias and residual may be NULL; out may be residual. With `stream` (no act, no residual), which is not rounded,
 *   stream[r, o] = sum + bias[o] + stream[r, o], and out[r, o] that rounded.
 * Check: before its value is rounded, SiLU is within 2^-16 of the true one, relatively, + 2^-100, and GELU within 2^-15 + 2^-59 (of
 * -INFINITY both may be NaN, GELU near 0 too); others as in hs_finish_fn. */
typedef struct hs_pair_linear {
    uint16_t *out;
    const uint16_t *x, *residual;
    const uint32_t *w; /* panel p begins at w + p * panel */
    const float *bias;
    float *stream; /* or NULL */
    int64_t ldo, ldx, ldr, lds, panel;
    int64_t rows, k, n;
    hs_activation act;
    int64_t n_behind;    /* columns of the weight that follow these, and are likely to be read next: a hint */
    bool again;          /* the thread read these columns of the weight a moment ago: a hint */
    hs_claim_plan claim; /* a hint; its cols are HS_PAIR_STEP, or less: then some lines are not asked for */
} hs_pair_linear;

/* Weights of attention: of scores->rows <= HS_PAIR_TILE rows for scores->n tokens, whose keys are the right side of `scores`,
 *   out[r, j] = silu(alpha * sum + bias[r, j])
 * rounded, in the columns that row r sees, the first min(n, n_first + r); 0 in the others up to a multiple of HS_PAIR_STEP.
 * scores: left, lda, right side, rows, k, n, and hints; the keys of the last HS_PANEL tokens are readable whatever they hold. Where
 * they lie in pages, page_n is a multiple of HS_PAIR_STEP. Precision as in hs_pair_linear.
 *   `beside` is another product of at most HS_PAIR_TILE rows, or NULL: it is carried out as gemm does, at the same time. It may read
 * weights of an earlier call. */
typedef struct hs_pair_weights {
    hs_gemm scores;
    const hs_gemm *beside;
    uint16_t *out;
    const float *bias; /* [rows, n], or NULL */
    int64_t ldo, ldb, n_first;
    float alpha;
    char *claim; /* a hint: so many lines, one for each row of HS_PAIR_STEP weights, that are written soon */
    int64_t claim_lines;
} hs_pair_weights;

/* sum[o] += w * v[o], w = silu(alpha * (q . k)) rounded; dqk and dv elements. q . k is summed in 16 lanes, in an order that
 * depends on dqk alone. */
typedef struct hs_pair_own {
    float *sum;
    const uint16_t *q, *k, *v;
    int64_t dqk, dv;
    float alpha;
} hs_pair_own;

typedef struct hs_pair_kernels {
    /* dst[j] = scale * x[j] + 0 rounded to the nearest even; denormals may become 0. */
    void (*narrow)(uint16_t *dst, const float *x, float scale, int64_t n);
    void (*widen)(float *dst, const uint16_t *x, int64_t n);
    void (*add)(float *to, const float *x, int64_t n); /* to[j] += x[j] */
    /* dst[(j / 16) * panel + j % 16] = even[j] in the low half, odd[j] in the high one, or 0 there where odd is NULL; j < n, and 0
     * past n up to a multiple of 16. */
    void (*zip)(uint32_t *dst, int64_t panel, const uint16_t *even, const uint16_t *odd, int64_t n);
    /* hs_gemm_bf16_fn's sum, where a(i, t) stands in left[i * lda + t]. page_k is a multiple of HS_PAIR_STEP, and
     * only there may a sum be cut. A zero has either sign. Bits depend on nothing but the instruction set:
     * avx512bf16: one chain, two fused multiply-adds a pair, the odd element first; denormals count as 0.
     * amx: of each HS_PAIR_STEP elements one chain of the even ones and one of the odd ones, begun at 0; to what is there
     * their sum is added; denormals count as 0.
     * Check: |err| <= k * FLT_EPSILON / 2 * sum |a b| + what was flushed, and bitwise against a model of the instruction. */
    void (*gemm)(const hs_gemm *g);
    void (*linear)(const hs_pair_linear *l);
    void (*weights)(const hs_pair_weights *w);
    void (*own)(const hs_pair_own *o);
    /* Neighbours on the same core seldom change its speed by more than a third: threads may be given their work in few pieces. */
    bool steady;
    /* A thread enters before it calls gemm, linear or weights, and leaves behind them; each may be NULL. */
    void (*enter)(void), (*leave)(void);
} hs_pair_kernels;

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

/* Rows of bfloat16 values, n >= 1: out = layer norm of x + add, as hs_layer_norm_fn has it, times gate, then + 0 (so that a
 * zero has no sign) and rounded; denormals become 0. add and gate may be NULL; out may be any of the three. The bits are
 * those of hs_layer_norm_fn and hs_norm_gate_fn over the widened values. */
typedef struct hs_half_norm {
    uint16_t *out;
    const uint16_t *x, *add, *gate;
    int64_t ldo, ldx, lda, ldg;
    int64_t rows, n;
    const hs_affine *affine;
    float *space; /* HS_HALF_NORM_ROWS rows of n floats, each rounded up to 64 bytes; 64-byte aligned */
} hs_half_norm;
enum { HS_HALF_NORM_ROWS = 4 };
typedef void hs_half_norm_fn(const hs_half_norm *a);

/* x[j] = x[j] * by[j] + add[j], two roundings; by and add may each be NULL. */
typedef void hs_scale_fn(float *x, const float *by, const float *add, int64_t n);

/* out[j] = x[j] / by, j < n; out may be x. Equal in every instruction set. */
typedef void hs_divide_fn(float *out, const float *x, float by, int64_t n);

/* Bit j of mask [ceil(n / 64)] = x[j] > t, or with `or_equal` x[j] >= t; false for NaN; bits past n are 0. */
typedef void hs_above_fn(uint64_t *mask, const float *x, int64_t n, float t, bool or_equal);

/* Of the scores x [n, 16] at distance ld, each times norm[j] plus bias[j] (two roundings; NULL: without), kth[q] is one that k of
 * column q reach, or -infinity: the k-th largest of the maxima of HS_KTH_GROUPS groups, of which group g has the items g,
 * g + HS_KTH_GROUPS and so on. 1 <= k <= HS_KTH_GROUPS. NaN counts for nothing. Equal in every instruction set, but for a
 * zero's sign. */
enum { HS_KTH_GROUPS = 32, HS_KTH_LANES = 16 };
typedef void hs_kth_fn(
    float *kth, const float *x, int64_t ld, const float *norm, const float *bias, int64_t n, int64_t k);

typedef struct hs_cpu_kernels {
    const char *isa;
    int row_tile;                          /* rows of gemm's register tile: the best number of rows to call it with */
    const hs_pair_kernels *pairs;          /* or NULL */
    hs_half_norm_fn *half_norm;            /* or NULL, as `pairs` is */
    const struct hs_score_kernels *scores; /* or NULL; cpu_score.h */
#define X(slot) hs_##slot##_fn *slot;
#include "device/cpu/kernels.def"
#undef X
} hs_cpu_kernels;

#define X(slot) hs_##slot##_fn hs_##slot##_ref, hs_##slot##_avx2, hs_##slot##_avx512, hs_##slot##_neon;
#include "device/cpu/kernels.def"
#undef X
extern const hs_pair_kernels hs_pairs_avx512bf16, hs_pairs_amx;
/* Those of both. */
void hs_narrow_avx512bf16(uint16_t *dst, const float *x, float scale, int64_t n);
void hs_widen_avx512bf16(float *dst, const uint16_t *x, int64_t n);
void hs_add_avx512bf16(float *to, const float *x, int64_t n);
void hs_zip_avx512bf16(uint32_t *dst, int64_t panel, const uint16_t *even, const uint16_t *odd, int64_t n);
void hs_own_avx512bf16(const hs_pair_own *o);
hs_half_norm_fn hs_half_norm_avx512bf16;

/* Instruction sets this build knows, worst first: ref, then what the architecture has. NULL past the last. */
const hs_cpu_kernels *hs_cpu_kernels_at(int i);
/* Whether this processor can run hs_cpu_kernels_at(i), and whether it gains by them over those before. */
bool hs_cpu_can_run(int i);
bool hs_cpu_gains(int i);

#endif
