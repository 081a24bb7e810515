/* Scores of items for top-k: rows of a table, as they lie in memory, times queries that are packed once. */
#ifndef HS_DEVICE_CPU_CPU_SCORE_H
#define HS_DEVICE_CPU_CPU_SCORE_H

#include "tensor/dtype.h"

#include <stdbool.h>
#include <stdint.h>

/* Queries of a block, the width of a vector; blocks that `many` takes at once; queries that `few` takes. */
enum { HS_SCORE_BLOCK = 16, HS_SCORE_BLOCKS = 2, HS_SCORE_FEW = 8, HS_SCORE_ITEMS = 32 };

/* Packed queries: float32 [steps, width], element (t, q) at query[t * width + q], or, for products of pairs, words with
 * elements 2t (low) and 2t + 1 of query q there; zeros up to `width` queries and behind the last element. */
typedef struct hs_score_tile {
    float *score;
    int64_t ld;         /* floats */
    const void *item;   /* row j at item + j * stride */
    int64_t stride;     /* bytes */
    const void *query;  /* 64-byte aligned */
    int64_t n_items, d; /* 1 or more */
    int n;              /* few: queries, 1 .. HS_SCORE_FEW; many: blocks, 1 .. HS_SCORE_BLOCKS */
    const void *ahead;  /* NULL, or what will be read next, ahead_stride bytes for each item: it is asked for */
    int64_t ahead_stride;
} hs_score_tile;

/* What top-k does with the scores of one block. */
typedef struct hs_score_filter {
    float *score; /* [n, 16] at distance ld; where an item has a hit, it becomes score * norm + bias, two roundings */
    int64_t ld;
    const float *norm, *bias; /* [n], each may be NULL */
    int64_t first, n;         /* item j is item first + j to target_at */
    const float *worst;       /* [16]; NaN: there is room */
    uint16_t *hit;            /* [n rounded up to 4]: bit q unless score <= worst; zeros behind */
    /* before[q] grows by the items j with a score above target[q], or equal to it and first + j < target_at[q]; NULL: no targets.
     * target NaN: by none. */
    const float *target; /* [16] */
    const int32_t *target_at;
    int32_t *before;
} hs_score_filter;

/* What an instruction set does better than its gemm kernels. A score is one sum over d whose order depends on the instruction set
 * and the table's type alone: neither on the kernel, `few` or `many`, nor on what else is computed with it.
 * Float32 tables, and bfloat16 ones unless `pairs`: one chain of fused multiply-adds, ascending, bitwise as in the reference.
 * pairs, with queries that hold bfloat16 values: the sums of hs_pair_kernels, with their flushing of denormals.
 * Kernels read no byte outside the items' d elements. */
typedef struct hs_score_kernels {
    bool pairs;
    /* score[q * ld + j], q < n; queries of width hs_score_width(n). NULL: `many` serves. */
    void (*few_f32)(const hs_score_tile *t), (*few_bf16)(const hs_score_tile *t);
    /* score[j * ld + 16 * b + q], b < n; blocks of width 16, one behind the other; score is writable for items up to a multiple
     * of HS_SCORE_ITEMS. NULL: by gemm. */
    void (*many_bf16)(const hs_score_tile *t);
    void (*filter)(const hs_score_filter *f);
    /* Around a thread's calls of the kernels above; each may be NULL. */
    void (*enter)(void), (*leave)(void);
} hs_score_kernels;

extern const hs_score_kernels hs_scores_any, hs_scores_avx2, hs_scores_avx512, hs_scores_avx512bf16, hs_scores_amx;
void hs_few_f32_avx512(const hs_score_tile *t);
void hs_score_filter_avx512(const hs_score_filter *f);

/* Lanes of n queries for `few`: a power of two. */
static inline int hs_score_width(int64_t n)
{
    return n <= 1 ? 1 : n <= 2 ? 2 : n <= 4 ? 4 : 8;
}

/* Steps of packed queries: elements or pairs, whole vectors of items. */
static inline int64_t hs_score_steps(int64_t d, bool pairs)
{
    return pairs ? (d + 31) / 32 * 16 : (d + 31) / 32 * 32;
}

#endif
