/* Pages for the keys and values of a pass. */
#include "model/pages.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/stamp.h"

/* Tokens of a workspace page: short histories waste little, long ones are read in long runs. */
enum { SHORT_PAGE = 32, LONG_PAGE = 256 };

/* Layers that take turns in a page without room for all: what every thread has read of one layer is costly to overwrite as long as it
 * lies in their caches, and by the layer after the next it does not. */
enum { TURNS = 2 };

const char *hs_pages_no_reuse(const hs_config *config)
{
    if (config->family == HS_CONFIG_RANKING && config->contextual_mask && config->n_context > 0)
        return "contextual tokens see the whole history (contextual_mask), so every new event changes all rows";
    if (config->family == HS_CONFIG_RETRIEVAL && config->main_module == HS_MODULE_HSTU &&
        config->normalization == HS_NORM_SOFTMAX)
        return "the denominator of softmax_rel_bias counts later events, so every new event changes all rows";
    return NULL;
}

hs_kv_shape hs_pages_shape(const hs_model *model, int64_t page_tokens)
{
    const hs_config *c = &model->config;
    hs_kv_shape shape = {
        .type = model->kv_type, .page_tokens = page_tokens, .n_heads = c->num_heads, .dqk = c->dqk, .dv = c->dv};
    if (c->family == HS_CONFIG_DECODER) {
        shape.n_heads = 1;
        shape.dqk = shape.dv = c->item_embedding_dim;
    } else if (c->family == HS_CONFIG_RETRIEVAL && c->main_module == HS_MODULE_SASREC) {
        shape.dqk = shape.dv = c->item_embedding_dim / c->num_heads;
    } else if (c->family == HS_CONFIG_RETRIEVAL && c->normalization == HS_NORM_SOFTMAX) {
        shape.n_heads = 1; /* the variant whose heads are not split */
        shape.dqk = c->num_heads * c->dqk;
        shape.dv = c->num_heads * c->dv;
    }
    return shape;
}

bool hs_pages_bytes(const hs_model *model, int64_t page_tokens, size_t *out)
{
    const hs_kv_shape shape = hs_pages_shape(model, page_tokens);
    size_t row = 0;
    if (!hs_mul_size(
            (size_t)(shape.dqk + 1 + hs_kv_value_panels(&shape) * HS_KV_PANEL), 4 * (size_t)shape.n_heads, &row) ||
        !hs_mul_size(row, (size_t)page_tokens * (size_t)model->config.num_blocks, &row) || row > SIZE_MAX / 4)
        return false;
    *out = hs_kv_layer_bytes(&shape) * (size_t)model->config.num_blocks;
    return true;
}

static int64_t workspace_page(int64_t n_users, const int64_t *length)
{
    for (int64_t b = 0; b < n_users; b++) {
        if (length[b] > LONG_PAGE)
            return LONG_PAGE;
    }
    return SHORT_PAGE;
}

/* One piece of workspace for all pages that are missing. */
static hstu_status fill_missing(hs_pages *p, hs_arena *scratch, int64_t n_missing, size_t bytes, hstu_error *err)
{
    char *next = hs_arena_alloc(scratch, (size_t)n_missing, bytes);
    if (!next)
        return hs_fail_nomem(err, (size_t)n_missing * bytes, "keys and values");
    for (int64_t i = 0; i < p->n; i++) {
        if (p->base[i])
            continue;
        p->base[i] = next;
        next += bytes;
    }
    return HSTU_OK;
}

/* Pages that this request writes, in a pass before those that read them, are known to nobody yet. */
static void set_stamps(hs_pages *p, int64_t n_users, const int64_t *length, const hs_kept *kept)
{
    const uint64_t own = hs_stamp_next();
    for (int64_t b = 0; b < n_users; b++) {
        const int64_t first = p->first_page[b], whole = kept ? kept->reused[b] / p->shape.page_tokens : 0;
        for (int64_t i = 0; i < hs_kv_pages(&p->shape, length[b]); i++)
            p->stamp[first + i] = i >= whole || !p->base[first + i] ? own : kept->stamp ? kept->stamp[first + i] : 0;
    }
}

hstu_status hs_pages_make(hs_pages *out, const hs_model *model, hs_arena *scratch, int64_t n_users,
    const int64_t *length, const hs_kept *kept, bool layered, hstu_error *err)
{
    hs_pages p = {.shape = hs_pages_shape(model, kept ? kept->page_tokens : workspace_page(n_users, length)), .n = 0};
    p.first_page = hs_arena_alloc(scratch, (size_t)n_users, sizeof *p.first_page);
    if (!p.first_page)
        return hs_fail_nomem(err, (size_t)n_users * sizeof *p.first_page, "the forward pass");
    for (int64_t b = 0; b < n_users; b++) {
        p.first_page[b] = p.n;
        p.n += hs_kv_pages(&p.shape, length[b]);
    }
    const size_t n = (size_t)p.n;
    p.base = hs_arena_alloc(scratch, n, sizeof *p.base);
    p.page = hs_arena_alloc(scratch, n, sizeof *p.page);
    p.layered = hs_arena_alloc(scratch, n, sizeof *p.layered);
    p.stamp = hs_arena_alloc(scratch, n, sizeof *p.stamp);
    if (!p.base || !p.page || !p.layered || !p.stamp)
        return hs_fail_nomem(err, 3 * n * sizeof *p.base, "the forward pass");
    int64_t n_missing = 0;
    for (int64_t i = 0; i < p.n; i++) {
        p.base[i] = kept ? kept->page[i] : NULL;
        p.layered[i] = layered || p.base[i];
        n_missing += !p.base[i];
    }
    set_stamps(&p, n_users, length, kept);
    const int64_t n_layers = model->config.num_blocks, room = layered || n_layers < TURNS ? n_layers : TURNS;
    const size_t bytes = hs_kv_layer_bytes(&p.shape) * (size_t)room;
    HS_TRY(fill_missing(&p, scratch, n_missing, bytes, err));
    *out = p;
    return HSTU_OK;
}

hs_kv_view hs_pages_view(const hs_pages *pages, int64_t l)
{
    const size_t bytes = hs_kv_layer_bytes(&pages->shape);
    for (int64_t i = 0; i < pages->n; i++)
        pages->page[i] = pages->base[i] + (size_t)(pages->layered[i] ? l : l % TURNS) * bytes;
    return (hs_kv_view){.shape = pages->shape,
        .page = pages->page,
        .first_page = pages->first_page,
        .stamp = pages->stamp,
        .lasting = pages->layered};
}
