/* Matching tensors to weights. */
#include "model/bind.h"

#include "base/alloc.h"
#include "base/error.h"
#include "model/tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct named {
    const char *name; /* peeled */
    size_t index;     /* in the dictionary */
} named;

static int compare_named(const void *a, const void *b)
{
    const named *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* The first entry of the sorted list with this name, or NULL. */
static const named *find(const named *list, size_t n, const char *name)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(list[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && strcmp(list[low].name, name) == 0 ? &list[low] : NULL;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix)
{
    const size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* Why a tensor that is no weight may be left out, or NULL. */
static const char *ignored_reason(const hs_entry *e, const char *group)
{
    if (strcmp(e->group, group) == 0) {
        const char *name = hs_family_peel(e->name);
        if (strcmp(name, "_attn_mask") == 0)
            return "a mask that follows from its size";
        if (ends_with(name, "num_batches_tracked"))
            return "a training counter";
    }
    if (starts_with(e->group, "optimizer"))
        return "optimizer state";
    if (starts_with(e->group, "scheduler") || starts_with(e->group, "lr_scheduler"))
        return "learning-rate schedule";
    if (e->tensor.rank == 0 && e->group[0] == '\0')
        return "training progress";
    return NULL;
}

/* Embedding tables are no dense weights: tables.c takes their tensors. */
static void match_tables(hs_binding *b, const hs_config *config, const named *list, size_t n)
{
    int table = 0;
    for (size_t i = 0; i < n && config->family == HS_CONFIG_RANKING; i++) {
        if (hs_table_tensor_of(config, list[i].name, &table) != HS_TABLE_NONE)
            b->use[list[i].index] = HS_USE_BOUND;
    }
}

static void match(hs_binding *b, const named *list, size_t n)
{
    for (size_t i = 0; i < b->n_weights; i++) {
        const named *found = find(list, n, b->weight[i].name);
        b->entry[i] = found ? &b->dict->entry[found->index] : NULL;
        if (found)
            b->use[found->index] = HS_USE_BOUND;
        else
            b->n_missing++;
    }
}

hstu_status hs_binding_make(hs_binding *out, const hs_statedict *dict, const hs_recognised *recognised,
    const hs_config *config, hs_weight_target *target, hstu_error *err)
{
    hs_binding b = {.dict = dict};
    named *list = NULL;
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_weight_list(&b.weight, &b.n_weights, config, target, err));
    const size_t n = dict->n_entries;
    b.entry = hs_calloc(b.n_weights, sizeof(const hs_entry *));
    b.use = hs_calloc(n, sizeof *b.use);
    b.reason = hs_calloc(n, sizeof(const char *));
    list = hs_alloc(n, sizeof *list);
    if (!b.entry || !b.use || !b.reason || !list) {
        status = hs_fail_nomem(err, n * sizeof *list, "the list of tensors");
        goto fail;
    }
    size_t n_named = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(dict->entry[i].group, recognised->group) == 0)
            list[n_named++] = (named){.name = hs_family_peel(dict->entry[i].name), .index = i};
    }
    qsort(list, n_named, sizeof *list, compare_named);
    match(&b, list, n_named);
    match_tables(&b, config, list, n_named);
    for (size_t i = 0; i < n; i++) {
        if (b.use[i] == HS_USE_BOUND)
            continue;
        b.reason[i] = ignored_reason(&dict->entry[i], recognised->group);
        b.use[i] = b.reason[i] ? HS_USE_IGNORED : HS_USE_EXTRA;
        b.n_extra += b.use[i] == HS_USE_EXTRA;
    }
    hs_free(list);
    *out = b;
    return HSTU_OK;
fail:
    hs_free(list);
    hs_binding_free(&b);
    return status;
}

void hs_binding_free(hs_binding *binding)
{
    hs_free(binding->weight);
    hs_free((void *)binding->entry);
    hs_free(binding->use);
    hs_free((void *)binding->reason);
    *binding = (hs_binding){0};
}

enum { NAMED_IN_ERRORS = 3, LIST_BYTES = 180 };

/* Appends one more name to a list that an error shows; only the first few are spelled out. */
static void mention(char *text, size_t count, const char *name)
{
    const size_t used = strlen(text);
    if (count < NAMED_IN_ERRORS)
        (void)snprintf(text + used, LIST_BYTES - used, "%s%.60s", count ? ", " : "", name);
    else if (count == NAMED_IN_ERRORS)
        (void)snprintf(text + used, LIST_BYTES - used, ", ...");
}

static hstu_status fail_unmatched(const hs_binding *b, hstu_error *err)
{
    char missing[LIST_BYTES] = "", extra[LIST_BYTES] = "";
    size_t n_missing = 0, n_extra = 0;
    for (size_t i = 0; i < b->n_weights; i++) {
        if (!b->entry[i])
            mention(missing, n_missing++, b->weight[i].name);
    }
    for (size_t i = 0; i < b->dict->n_entries; i++) {
        if (b->use[i] == HS_USE_EXTRA)
            mention(extra, n_extra++, b->dict->entry[i].name);
    }
    return hs_fail(err, HSTU_ESHAPE, 0, "%.80s: missing tensors: %zu%s%s%s; extra tensors: %zu%s%s%s", b->dict->path,
        n_missing, n_missing ? " (" : "", missing, n_missing ? ")" : "", n_extra, n_extra ? " (" : "", extra,
        n_extra ? ")" : "");
}

/* The keys that stand behind a matrix's expected shape, when tensors cannot tell them. */
static void mention_keys(char *text, size_t size, const hs_weight *w, const hs_config *c)
{
    text[0] = '\0';
    if (c->family == HS_CONFIG_RANKING && w->rank == 2)
        (void)snprintf(text, size, " (num_attention_heads %" PRId64 ", kv_channels %" PRId64 ")", c->num_heads, c->dqk);
    if (c->family == HS_CONFIG_RETRIEVAL && c->main_module == HS_MODULE_HSTU && w->rank == 2)
        (void)snprintf(text, size, " (num_heads %" PRId64 ", dqk %" PRId64 ", dv %" PRId64 ", concat_ua %s)",
            c->num_heads, c->dqk, c->dv, c->concat_ua ? "true" : "false");
}

static hstu_status fail_shape(
    const hs_binding *b, const hs_weight *w, const hs_tensor *t, const hs_config *config, hstu_error *err)
{
    char expected[96], found[96], keys[96];
    const hs_tensor wanted = {.rank = w->rank, .shape = {w->shape[0], w->shape[1], w->shape[2]}};
    mention_keys(keys, sizeof keys, w, config);
    return hs_fail(err, HSTU_ESHAPE, 0, "%.100s: tensor '%s' has shape %s, but %.120s asks for %s%s", b->dict->path,
        w->name, hs_tensor_shape_text(t, found, sizeof found), config->source,
        hs_tensor_shape_text(&wanted, expected, sizeof expected), keys);
}

hstu_status hs_binding_check(const hs_binding *b, const hs_config *config, hstu_error *err)
{
    if (b->n_missing || b->n_extra)
        return fail_unmatched(b, err);
    for (size_t i = 0; i < b->n_weights; i++) {
        const hs_weight *w = &b->weight[i];
        const hs_tensor *t = &b->entry[i]->tensor;
        if (!hs_tensor_shape_is(t, w->rank, w->shape))
            return fail_shape(b, w, t, config, err);
        if (t->dtype != HS_F32 && t->dtype != HS_F16 && t->dtype != HS_BF16 && t->dtype != HS_F64)
            return hs_fail(err, HSTU_ESHAPE, 0, "%.120s: tensor '%s' has type %s, expected a floating-point type",
                b->dict->path, w->name, hs_dtype_name(t->dtype));
    }
    return HSTU_OK;
}
