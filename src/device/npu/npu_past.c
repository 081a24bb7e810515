/* Keys and values of tokens from before a pass, copied from pages to where graphs read them. A page that is known by its stamp is not
 * copied again. */
#include "device/npu/npu_int.h"

#include "base/alloc.h"
#include "base/half.h"

#include <string.h>

/* Floats that one thread copies before another would be awake. */
enum { WORTH_WAKING = 1 << 18 };

static size_t key_floats(const npu_past *p)
{
    return (size_t)(p->users * p->shape.n_heads * p->shape.dqk * p->tokens);
}

static size_t value_floats(const npu_past *p)
{
    return (size_t)(p->users * p->shape.n_heads * p->shape.dv * p->tokens);
}

/* Pages of one user, of the smallest size that there is. */
static int64_t most_pages(const npu_past *p)
{
    return p->tokens / HS_KV_PAGE_STEP + 1;
}

static void free_past(npu_past *p)
{
    for (int64_t i = 0; i < p->n_attns; i++) {
        hs_free(p->k ? p->k[i] : NULL);
        hs_free(p->v ? p->v[i] : NULL);
    }
    hs_free(p->k);
    hs_free(p->v);
    hs_free(p->tag);
    hs_free(p->filled);
    hs_free(p->version);
    hs_free(p->page_tokens);
    hs_free(p);
}

static float *alloc_zeros(size_t floats)
{
    float *data = hs_alloc_aligned(floats, sizeof *data);
    if (data)
        memset(data, 0, floats * sizeof *data);
    return data;
}

static npu_past *make_past(int64_t users, int64_t tokens, int64_t n_attns, const hs_kv_shape *shape)
{
    npu_past *p = hs_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (npu_past){.users = users, .tokens = tokens, .n_attns = n_attns, .shape = *shape};
    p->k = hs_calloc((size_t)n_attns, sizeof *p->k);
    p->v = hs_calloc((size_t)n_attns, sizeof *p->v);
    p->tag = hs_calloc((size_t)(n_attns * users * most_pages(p)), sizeof *p->tag);
    p->filled = hs_calloc((size_t)(n_attns * users), sizeof *p->filled);
    p->version = hs_calloc((size_t)n_attns, sizeof *p->version);
    p->page_tokens = hs_calloc((size_t)(n_attns * users), sizeof *p->page_tokens);
    bool complete = p->k && p->v && p->tag && p->version && p->filled && p->page_tokens;
    for (int64_t i = 0; complete && i < n_attns; i++) {
        p->k[i] = alloc_zeros(key_floats(p));
        p->v[i] = alloc_zeros(value_floats(p));
        complete = p->k[i] && p->v[i];
    }
    if (complete)
        return p;
    free_past(p);
    return NULL;
}

npu_past *hs_npu_past_find(hs_npu *npu, int64_t n_attns, const hs_kv_shape *shape)
{
    const npu_layout *l = &npu->pass.layout;
    npu_past *p = npu->past;
    while (p && (p->users != l->users || p->tokens != l->past || p->n_attns != n_attns ||
                    p->shape.n_heads != shape->n_heads || p->shape.dqk != shape->dqk || p->shape.dv != shape->dv))
        p = p->next;
    if (!p) {
        p = make_past(l->users, l->past, n_attns, shape);
        if (!p)
            return NULL;
        p->next = npu->past;
        npu->past = p;
    }
    p->n_users++;
    return p;
}

void hs_npu_past_leave(hs_npu *npu, npu_past *past)
{
    if (!past || --past->n_users > 0)
        return;
    for (npu_past **at = &npu->past; *at; at = &(*at)->next) {
        if (*at == past) {
            *at = past->next;
            break;
        }
    }
    free_past(past);
}

/* ---- copying ---------------------------------------------------------------------------------------------------- */

/* One head of one user in one attention. */
typedef struct head {
    const hs_kv_shape *shape; /* of the pages */
    int64_t head, tokens;     /* columns of k */
    float *k, *v;             /* [dqk, tokens], [tokens, dv] */
} head;

/* The first n <= HS_KV_PANEL elements of a panel's row; two rows of bfloat16 values stand in pairs. */
static void copy_row(hs_dtype type, float *to, const char *panel, int64_t row, int64_t n)
{
    if (type == HS_F32) {
        memcpy(to, (const float *)(const void *)panel + row * HS_KV_PANEL, (size_t)n * sizeof *to);
        return;
    }
    const uint16_t *pair = (const uint16_t *)(const void *)panel + row / 2 * 2 * HS_KV_PANEL + row % 2;
    for (int64_t i = 0; i < n; i++)
        to[i] = hs_bf16_to_f32(pair[2 * i]);
}

static void copy_keys(const head *h, const char *page, int64_t first, int64_t n)
{
    const hs_kv_shape *s = h->shape;
    const char *keys = page + (size_t)h->head * hs_kv_key_bytes(s);
    const size_t panel = hs_kv_key_bytes(s) / (size_t)s->page_tokens * HS_KV_PANEL;
    for (int64_t j = 0; j < n; j += HS_KV_PANEL) {
        const int64_t width = n - j < HS_KV_PANEL ? n - j : HS_KV_PANEL;
        const char *from = keys + (size_t)(j / HS_KV_PANEL) * panel;
        for (int64_t d = 0; d < s->dqk; d++)
            copy_row(s->type, h->k + d * h->tokens + first + j, from, d, width);
    }
}

static void copy_values(const head *h, const char *page, int64_t first, int64_t n)
{
    const hs_kv_shape *s = h->shape;
    const char *panel = page + (size_t)s->n_heads * hs_kv_key_bytes(s) + (size_t)h->head * hs_kv_value_bytes(s);
    for (int64_t o = 0; o < s->dv; o += HS_KV_PANEL, panel += hs_kv_value_panel_bytes(s)) {
        const int64_t width = s->dv - o < HS_KV_PANEL ? s->dv - o : HS_KV_PANEL;
        for (int64_t t = 0; t < n; t++)
            copy_row(s->type, h->v + (first + t) * s->dv + o, panel, t, width);
    }
}

/* Zeroes tokens first .. end - 1, which an earlier pass has left. */
static void clear_tokens(const head *h, int64_t first, int64_t end)
{
    for (int64_t d = 0; d < h->shape->dqk; d++)
        memset(h->k + d * h->tokens + first, 0, (size_t)(end - first) * sizeof *h->k);
    memset(h->v + first * h->shape->dv, 0, (size_t)((end - first) * h->shape->dv) * sizeof *h->v);
}

/* Tags of pages as large as the last pass's, none of a token behind `tokens`. */
static void cut_tags(npu_past *p, int64_t task, int64_t page_tokens, int64_t tokens)
{
    npu_tag *tag = p->tag + task * most_pages(p);
    for (int64_t i = 0; i < most_pages(p); i++) {
        const int64_t left = tokens - i * page_tokens;
        if (tag[i].tokens > left)
            tag[i].tokens = left > 0 ? left : 0;
    }
}

typedef struct filling {
    const npu_pass *pass;
    npu_past *past;
    _Atomic int64_t n_copies, bytes, bytes_kept;
} filling;

/* A user's heads in one attention; pages that are known stay. */
static void fill_user(void *ctx, int64_t task)
{
    filling *f = ctx;
    npu_past *p = f->past;
    const int64_t at = task / p->users, user = task % p->users, most = most_pages(p);
    const hs_kv_view *kv = &f->pass->attn[at].kv;
    const hs_kv_shape *s = &kv->shape;
    const int64_t tokens = user < f->pass->rows.users.n_users ? f->pass->rows.past[user] : 0;
    const int64_t token_bytes = s->n_heads * (s->dqk + s->dv) * (int64_t)sizeof(float);
    npu_tag *tag = p->tag + task * most;
    int64_t copied = 0;
    if (p->page_tokens[task] != s->page_tokens)
        cut_tags(p, task, s->page_tokens, 0);
    p->page_tokens[task] = s->page_tokens;
    for (int64_t first = 0, i = 0; first < tokens; first += s->page_tokens, i++) {
        const int64_t n = tokens - first < s->page_tokens ? tokens - first : s->page_tokens;
        const int64_t place = kv->first_page[user] + i;
        const char *page = kv->page[place];
        const uint64_t stamp = kv->stamp ? kv->stamp[place] : 0;
        if (stamp && tag[i].page == page && tag[i].stamp == stamp && tag[i].tokens >= n)
            continue;
        for (int64_t h = 0; h < s->n_heads; h++) {
            const int64_t k = (user * s->n_heads + h) * p->tokens;
            const head one = {
                .shape = s, .head = h, .tokens = p->tokens, .k = p->k[at] + k * s->dqk, .v = p->v[at] + k * s->dv};
            copy_keys(&one, page, first, n);
            copy_values(&one, page, first, n);
        }
        tag[i] = (npu_tag){.page = page, .stamp = stamp, .tokens = n};
        copied += n;
    }
    for (int64_t h = 0; tokens < p->filled[task] && h < s->n_heads; h++) {
        const int64_t k = (user * s->n_heads + h) * p->tokens;
        const head one = {.shape = s, .tokens = p->tokens, .k = p->k[at] + k * s->dqk, .v = p->v[at] + k * s->dv};
        clear_tokens(&one, tokens, p->filled[task]);
    }
    if (copied > 0 || tokens < p->filled[task])
        atomic_fetch_add_explicit(&p->version[at], 1, memory_order_relaxed);
    if (tokens < p->filled[task])
        cut_tags(p, task, s->page_tokens, tokens);
    p->filled[task] = tokens;
    f->n_copies += copied > 0 ? 2 : 0;
    f->bytes += copied * token_bytes;
    f->bytes_kept += (tokens - copied) * token_bytes;
}

/* Whether there is more to copy than a few pages: the first attention's tags speak for all. */
static bool needs_copying(const filling *f)
{
    const npu_past *p = f->past;
    const hs_kv_view *kv = &f->pass->attn[0].kv;
    int64_t tokens = 0;
    for (int64_t b = 0; b < f->pass->rows.users.n_users; b++) {
        for (int64_t i = 0; i * kv->shape.page_tokens < f->pass->rows.past[b]; i++) {
            const npu_tag *tag = &p->tag[b * most_pages(p) + i];
            const int64_t place = kv->first_page[b] + i;
            if (!kv->stamp || tag->stamp != kv->stamp[place] || tag->page != kv->page[place])
                tokens += kv->shape.page_tokens;
        }
    }
    return tokens * p->n_attns * kv->shape.n_heads * (kv->shape.dqk + kv->shape.dv) > WORTH_WAKING;
}

void hs_npu_past_fill(hs_npu *npu, npu_past *past)
{
    filling f = {.pass = &npu->pass, .past = past};
    hs_device *host = needs_copying(&f) ? npu->cpu : npu->one;
    host->table->parallel(host, past->n_attns * past->users, fill_user, &f);
    npu->stats.n_copies += f.n_copies;
    npu->stats.bytes_in += f.bytes;
    npu->stats.bytes_kept += f.bytes_kept;
}
