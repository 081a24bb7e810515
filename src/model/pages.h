/* Where a forward pass keeps keys and values: pages that outlive it, and workspace. */
#ifndef HS_MODEL_PAGES_H
#define HS_MODEL_PAGES_H

#include "base/arena.h"
#include "model/model.h"

/* Pages that outlive a pass. A page holds all layers, one behind the other. */
typedef struct hs_kept {
    int64_t page_tokens;
    const int64_t *reused; /* [n_users]: rows 0 .. reused - 1 are there */
    /* ceil(length / page_tokens) pages for each user, one user behind the other; NULL: workspace, of a user whose
     * reused rows fill the pages before. The rest of the rows is written where a page is given. */
    char *const *page;
    const uint64_t *stamp; /* beside page, as in hs_kv_view; or NULL */
} hs_kept;

/* What keeps a model's rows from being used again in a later pass: text for people, or NULL. */
const char *hs_pages_no_reuse(const hs_config *config);

/* The shape of a layer's part of a page. */
hs_kv_shape hs_pages_shape(const hs_model *model, int64_t page_tokens);
/* Bytes of a page with all layers; false when it is too large to be one. */
bool hs_pages_bytes(const hs_model *model, int64_t page_tokens, size_t *out);

typedef struct hs_pages {
    hs_kv_shape shape;
    int64_t n;
    int64_t *first_page; /* [n_users] */
    char **base;         /* [n]: layer 0 */
    bool *layered;       /* [n]: whether the page has room for every layer, and layers do not take turns */
    uint64_t *stamp;     /* [n] */
    char **page;         /* [n]: the layer at work */
} hs_pages;

/* Pages for length[b] rows of each user, in workspace where kept (or NULL) gives none: with `layered` for every layer
 * at once. */
hstu_status hs_pages_make(hs_pages *out, const hs_model *model, hs_arena *scratch, int64_t n_users,
    const int64_t *length, const hs_kept *kept, bool layered, hstu_error *err);
/* The pages of layer l, until the next call. */
hs_kv_view hs_pages_view(const hs_pages *pages, int64_t l);

#endif
