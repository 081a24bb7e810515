/* Walking the columns of a product's right side, which may lie in pages. */
#ifndef HS_DEVICE_CPU_GEMM_COLUMNS_H
#define HS_DEVICE_CPU_GEMM_COLUMNS_H

#include "device/cpu/cpu_ops.h"

/* Columns col .. of b. */
typedef struct hs_gemm_columns {
    int64_t col;
    int64_t page, at; /* their page for t = 0, and their column in it */
    int64_t page_k;   /* as in hs_gemm, or k without pages */
} hs_gemm_columns;

static inline hs_gemm_columns hs_gemm_first_columns(const hs_gemm *g)
{
    return (hs_gemm_columns){.page_k = g->b ? g->k : g->page_k};
}

static inline void hs_gemm_next_columns(const hs_gemm *g, hs_gemm_columns *c, int64_t n)
{
    c->col += n;
    c->at += n;
    if (!g->b && c->at == g->page_n) {
        c->page++;
        c->at = 0;
    }
}

/* How many columns stand together from c on, at most `most`. */
static inline int64_t hs_gemm_columns_left(const hs_gemm *g, const hs_gemm_columns *c, int64_t most)
{
    const int64_t left = g->n - c->col, in_page = g->b ? left : g->page_n - c->at, n = left < in_page ? left : in_page;
    return n < most ? n : most;
}

/* The words of these columns in the page-th of the pages that hold k, or in b. */
static inline const float *hs_gemm_words(const hs_gemm *g, const hs_gemm_columns *c, int64_t page)
{
    const void *b = g->b ? g->b : g->page[c->page + page] + g->skip;
    return (const float *)b + c->at / HS_PANEL * g->panel;
}

#endif
