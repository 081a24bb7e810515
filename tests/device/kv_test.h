/* Pages for tests, laid out one element at a time from the words of device/kv.h. Every page is an allocation of its own
 * and begins as NaN, so that what no token filled is seen wherever it is used. */
#ifndef HS_TESTS_DEVICE_KV_TEST_H
#define HS_TESTS_DEVICE_KV_TEST_H

#include "bf16_test.h"

typedef struct kv_pages {
    hs_kv_view view;
    char **page;
    int64_t *first_page;
    int64_t n_pages;
} kv_pages;

/* Room for tokens[b] tokens of user b. The pages of later users come first, and a missing page is between users. */
static inline kv_pages kv_new(hs_kv_shape shape, const int64_t *tokens, int64_t n_users)
{
    kv_pages p = {.view.shape = shape, .first_page = hs_calloc((size_t)n_users, sizeof *p.first_page)};
    assert_non_null(p.first_page);
    for (int64_t b = n_users - 1; b >= 0; b--) {
        p.first_page[b] = p.n_pages;
        p.n_pages += hs_kv_pages(&shape, tokens[b]) + 1;
    }
    p.page = hs_calloc((size_t)p.n_pages, sizeof *p.page);
    assert_non_null(p.page);
    for (int64_t b = 0; b < n_users; b++) {
        for (int64_t i = 0; i < hs_kv_pages(&shape, tokens[b]); i++) {
            char **page = &p.page[p.first_page[b] + i];
            *page = hs_alloc_aligned(hs_kv_layer_bytes(&shape), 1);
            assert_non_null(*page);
            memset(*page, 0xff, hs_kv_layer_bytes(&shape));
        }
    }
    p.view.page = p.page;
    p.view.first_page = p.first_page;
    return p;
}

static inline void kv_free(kv_pages *p)
{
    for (int64_t i = 0; i < p->n_pages; i++)
        hs_free(p->page[i]);
    hs_free(p->page);
    hs_free(p->first_page);
}

/* Element `at` of a part: float32, or the half `odd` of pair `at`. Of a pair, an even element clears its neighbour. */
static inline void kv_set(const hs_kv_shape *s, char *part, int64_t at, bool odd, float x)
{
    if (s->type == HS_F32) {
        memcpy(part + at * 4, &x, sizeof x);
        return;
    }
    const uint16_t half[2] = {hs_f32_to_bf16(x), 0};
    memcpy(part + at * 4 + (odd ? 2 : 0), half, odd ? sizeof half[0] : sizeof half);
}

/* Keys k [n_heads * dqk] and values v [n_heads * dv] become the token of the user. */
static inline void kv_put(const kv_pages *p, int64_t user, int64_t token, const float *k, const float *v)
{
    const hs_kv_shape *s = &p->view.shape;
    char *page = p->page[p->first_page[user] + token / s->page_tokens];
    const int64_t place = token % s->page_tokens, lane = place % 16;
    const bool paired = s->type == HS_BF16;
    const int64_t panel_rows = paired ? (s->dqk + 1) / 2 : s->dqk, step = paired ? 2 : 1;
    for (int64_t h = 0; h < s->n_heads; h++) {
        char *keys = page + (size_t)h * hs_kv_key_bytes(s);
        char *values = page + (size_t)s->n_heads * hs_kv_key_bytes(s) + (size_t)h * hs_kv_value_bytes(s);
        for (int64_t t = 0; t < s->dqk; t++)
            kv_set(s, keys, (place / 16 * panel_rows + t / step) * 16 + lane, t % 2, k[h * s->dqk + t]);
        for (int64_t o = 0; o < (s->dv + 15) / 16 * 16; o++)
            kv_set(s, values, (o / 16 * s->page_tokens + place) / step * 16 + o % 16, place % 2,
                o < s->dv ? v[h * s->dv + o] : 0.0f);
    }
}

/* Pages of users whose first tokens[b] rows in k and v are their tokens. */
static inline kv_pages kv_of(
    hs_kv_shape shape, const hs_mat *k, const hs_mat *v, const int64_t *offset, const int64_t *tokens, int64_t n_users)
{
    kv_pages p = kv_new(shape, tokens, n_users);
    for (int64_t b = 0; b < n_users; b++) {
        for (int64_t j = 0; j < tokens[b]; j++)
            kv_put(&p, b, j, k->data + (offset[b] + j) * k->ld, v->data + (offset[b] + j) * v->ld);
    }
    return p;
}

#endif
