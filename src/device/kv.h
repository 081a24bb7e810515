/* Keys and values in pages: where those of a token lie, in the layout that attention reads. A page holds `page_tokens`
 * tokens of one layer:
 *   keys    [n_heads][page_tokens / 16] panels of 16 tokens, each [dqk][16]
 *   values  [n_heads][ceil(dv / 16)] panels of 16 dimensions, each [page_tokens][16], zeros past dv
 * so that a tile of either lies in one piece. Bfloat16 elements stand in pairs, the even one in front: keys
 * [ceil(dqk / 2)][16][2], two of a token's dimensions; values [page_tokens / 2][16][2], two tokens at absolute positions 2i and
 * 2i + 1. */
#ifndef HS_DEVICE_KV_H
#define HS_DEVICE_KV_H

#include "tensor/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { HS_KV_PANEL = 16, HS_KV_PAGE_STEP = 32, HS_KV_PAGE_MOST = 1 << 16 };

/* What a page holds of one layer. */
typedef struct hs_kv_shape {
    hs_dtype type;       /* HS_F32, or HS_BF16: keys and values are rounded to it */
    int64_t page_tokens; /* a multiple of HS_KV_PAGE_STEP, at most HS_KV_PAGE_MOST */
    int64_t n_heads, dqk, dv;
} hs_kv_shape;

/* The pages of one layer for several users. Token j of user b lies in page[first_page[b] + j / page_tokens], at place
 * j % page_tokens. */
typedef struct hs_kv_view {
    hs_kv_shape shape;
    char *const *page;         /* each 64-byte aligned */
    const int64_t *first_page; /* [n_users] */
    /* Beside `page`, or NULL. A page's stamp changes when tokens in it change that were there before a pass: a device that has
     * seen page and stamp together need not look again. 0: look. */
    const uint64_t *stamp;
    const bool *lasting; /* beside `page`, or NULL: whether a later pass reads the page; NULL: all */
} hs_kv_view;

static inline size_t hs_kv_element_bytes(const hs_kv_shape *s)
{
    return s->type == HS_BF16 ? 2 : 4;
}

/* Bytes of one head's keys, a multiple of 64. */
static inline size_t hs_kv_key_bytes(const hs_kv_shape *s)
{
    const int64_t dqk = s->type == HS_BF16 ? s->dqk + s->dqk % 2 : s->dqk;
    return (size_t)(s->page_tokens * dqk) * hs_kv_element_bytes(s);
}

/* Bytes of 16 dimensions of a page's values, and how many such panels one head has. */
static inline size_t hs_kv_value_panel_bytes(const hs_kv_shape *s)
{
    return (size_t)(s->page_tokens * HS_KV_PANEL) * hs_kv_element_bytes(s);
}

static inline int64_t hs_kv_value_panels(const hs_kv_shape *s)
{
    return s->dv / HS_KV_PANEL + (s->dv % HS_KV_PANEL != 0);
}

/* Bytes of one head's values, a multiple of 64. */
static inline size_t hs_kv_value_bytes(const hs_kv_shape *s)
{
    return (size_t)hs_kv_value_panels(s) * hs_kv_value_panel_bytes(s);
}

/* Bytes of one layer in a page. */
static inline size_t hs_kv_layer_bytes(const hs_kv_shape *s)
{
    return (size_t)s->n_heads * (hs_kv_key_bytes(s) + hs_kv_value_bytes(s));
}

static inline char *hs_kv_keys(const hs_kv_shape *s, char *page, int64_t head)
{
    return page + (size_t)head * hs_kv_key_bytes(s);
}

static inline char *hs_kv_values(const hs_kv_shape *s, char *page, int64_t head)
{
    return page + (size_t)s->n_heads * hs_kv_key_bytes(s) + (size_t)head * hs_kv_value_bytes(s);
}

/* The parts of hs_kv_clear. */
static inline void hs_kv_clear_keys(const hs_kv_shape *s, char *keys, int64_t from)
{
    const size_t lane = sizeof(float), panel = hs_kv_key_bytes(s) / (size_t)s->page_tokens * HS_KV_PANEL;
    for (int64_t j = from; j < s->page_tokens; j++) {
        char *key = keys + (size_t)(j / HS_KV_PANEL) * panel + (size_t)(j % HS_KV_PANEL) * lane;
        for (size_t at = 0; at < panel; at += HS_KV_PANEL * lane) /* a float, or a pair of a token's dimensions */
            memset(key + at, 0, lane);
    }
}

static inline void hs_kv_clear_values(const hs_kv_shape *s, char *values, int64_t from)
{
    const size_t element = hs_kv_element_bytes(s), token = HS_KV_PANEL * element, panel = hs_kv_value_panel_bytes(s);
    const bool halves = s->type == HS_BF16 && from % 2; /* the odd token of a pair whose even one stays */
    for (int64_t p = 0; p < hs_kv_value_panels(s); p++, values += panel) {
        for (size_t t = 0; halves && t < HS_KV_PANEL; t++)
            memset(values + (size_t)(from - 1) * token + 2 * element * t + element, 0, element);
        memset(values + (size_t)(from + halves) * token, 0, (size_t)(s->page_tokens - from - halves) * token);
    }
}

/* Zeroes tokens from .. page_tokens - 1 of one layer. */
static inline void hs_kv_clear(const hs_kv_shape *s, char *page, int64_t from)
{
    for (int64_t h = 0; h < s->n_heads; h++) {
        hs_kv_clear_keys(s, hs_kv_keys(s, page, h), from);
        hs_kv_clear_values(s, hs_kv_values(s, page, h), from);
    }
}

static inline int64_t hs_kv_pages(const hs_kv_shape *s, int64_t tokens)
{
    return tokens / s->page_tokens + (tokens % s->page_tokens != 0);
}

#endif
