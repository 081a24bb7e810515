/* hstu_checkpoint_*: what a weight file or a checkpoint folder holds, told without running it. */
#include "hstu/checkpoint.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"
#include "engine/engine.h"
#include "model/bind.h"
#include "model/infer.h"
#include "model/tables.h"

#include <string.h>

struct hstu_checkpoint {
    hs_statedict dict; /* the file's, or the folder's weights as a model takes them */
    hs_nvdir folder;   /* zero for a file */
    hs_recognised recognised;
    bool has_binding; /* a supported family */
    hs_binding binding;
    size_t *weight; /* of a folder with a binding: place in `dict` of each tensor that is a weight */
    hs_config config;
    char *path, *config_name, *config_json;
};

/* What the caller names, or what the file carries in itself; *found false: neither. */
static hstu_status read_config(hstu_checkpoint *c, const char *config, bool *found, hstu_error *err)
{
    const hs_config_family family = hs_family_config(c->recognised.family);
    const char *own = hs_statedict_metadata(&c->dict, HS_CONFIG_METADATA_KEY);
    *found = config || own;
    if (config) {
        HS_TRY(hs_engine_copy_text(&c->config_name, config, err));
        return hs_config_open(&c->config, c->config_name, (int)family, err);
    }
    if (own)
        return hs_config_parse(&c->config, own, strlen(own), (int)family, c->path, err);
    hs_config_init(&c->config, family, c->path);
    return HSTU_OK;
}

static hstu_status bind(hstu_checkpoint *c, hstu_error *err)
{
    HS_TRY(hs_infer(&c->config, &c->dict, &c->recognised, err));
    HS_TRY(hs_binding_make(&c->binding, &c->dict, &c->recognised, &c->config, NULL, err));
    c->has_binding = true;
    c->config_json = hs_config_to_json(&c->config);
    return c->config_json ? HSTU_OK : hs_fail_nomem(err, 0, "the configuration");
}

/* The family's weights beside the file's tensors. Nothing but the configuration may contradict the tensors. A ranking model's do
 * not tell its tables, which stand among them: without a configuration they are only listed. */
static hstu_status compare(hstu_checkpoint *c, const char *config, hstu_error *err)
{
    bool found = false;
    HS_TRY(read_config(c, config, &found, err));
    return c->recognised.family == HS_FAMILY_RANKING && !found ? HSTU_OK : bind(c, err);
}

/* Weights are found by name: without a configuration they need not be put together. */
static hstu_status read_folder(hstu_checkpoint *c, bool found, hstu_error *err)
{
    hs_table *table = NULL;
    if (!found)
        return hs_nvdir_weights(&c->dict, &c->folder, 0, err);
    HS_TRY(hs_engine_read_folder(&c->folder, &c->config, &c->dict, &table, err));
    const hstu_status status = hs_tables_settle(&c->config, table, c->path, err);
    hs_tables_close(table, c->config.n_tables);
    return status;
}

/* Which entry of `dict` each of the ranks' tensors has become. */
static hstu_status number_weights(hstu_checkpoint *c, hstu_error *err)
{
    size_t n = 0, at = 0;
    for (uint32_t r = 0; r < c->folder.n_ranks; r++)
        n += c->folder.rank[r].n_entries;
    c->weight = hs_calloc(n, sizeof *c->weight);
    if (!c->weight)
        return hs_fail_nomem(err, n * sizeof *c->weight, "the list of tensors");
    for (uint32_t r = 0; r < c->folder.n_ranks; r++) {
        const hs_statedict *rank = &c->folder.rank[r];
        for (size_t i = 0, place = 0; i < rank->n_entries; i++, at++) {
            if (hs_nvdir_use_of(&c->folder, &rank->entry[i]) == HS_NVDIR_WEIGHT)
                c->weight[at] = place++;
        }
    }
    return HSTU_OK;
}

static hstu_status compare_folder(hstu_checkpoint *c, const char *config, hstu_error *err)
{
    bool found = false;
    HS_TRY(read_config(c, config, &found, err));
    HS_TRY(read_folder(c, found, err));
    c->recognised.group = "";
    HS_TRY(bind(c, err));
    return number_weights(c, err);
}

hstu_status hstu_checkpoint_open(hstu_checkpoint **out, const char *path, const char *config, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hstu_checkpoint *c = hs_calloc(1, sizeof *c);
    if (!c)
        return hs_fail_nomem(err, sizeof *c, "a checkpoint");
    HS_TRY_GOTO(hs_engine_copy_text(&c->path, path, err));
    if (hs_path_is_folder(c->path)) {
        HS_TRY_GOTO(hs_nvdir_open(&c->folder, c->path, err));
        c->recognised = hs_engine_recognise_folder(&c->folder);
        if (c->recognised.name && !c->recognised.not_supported)
            HS_TRY_GOTO(compare_folder(c, config, err));
    } else {
        HS_TRY_GOTO(hs_ckpt_open(&c->dict, c->path, err));
        c->recognised = hs_family_recognise(&c->dict);
        if (c->recognised.name && !c->recognised.not_supported)
            HS_TRY_GOTO(compare(c, config, err));
    }
    *out = c;
    return HSTU_OK;
fail:
    hstu_checkpoint_close(c);
    return status;
}

hs_recognised hs_engine_recognise_folder(const hs_nvdir *dir)
{
    const hs_recognised found = hs_family_recognise(&dir->rank[0]);
    if (found.family == HS_FAMILY_RANKING || found.family == HS_FAMILY_NV_RETRIEVAL)
        return found;
    return (hs_recognised){.family = HS_FAMILY_UNKNOWN, .group = ""};
}

void hstu_checkpoint_close(hstu_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    hs_binding_free(&checkpoint->binding);
    hs_config_free(&checkpoint->config);
    hs_statedict_close(&checkpoint->dict);
    hs_nvdir_close(&checkpoint->folder);
    hs_free(checkpoint->weight);
    hs_free(checkpoint->path);
    hs_free(checkpoint->config_name);
    hs_free(checkpoint->config_json);
    hs_free(checkpoint);
}

void hstu_checkpoint_get_info(const hstu_checkpoint *checkpoint, hstu_checkpoint_info *info)
{
    const hs_nvdir *folder = &checkpoint->folder;
    *info = (hstu_checkpoint_info){
        .format = folder->n_ranks ? "NVIDIA checkpoint folder" : checkpoint->dict.format,
        .family = checkpoint->recognised.name,
        .not_supported = checkpoint->recognised.not_supported,
        .n_tensors = folder->n_ranks ? 0 : checkpoint->dict.n_entries,
        .n_missing = checkpoint->binding.n_missing,
        .n_metadata = checkpoint->dict.n_metadata,
        .layout = folder->n_ranks ? hs_nvdir_layout_name(folder->layout) : NULL,
        .n_ranks = folder->n_ranks,
        .tensor_parallel = folder->tensor_parallel,
        .n_tables = folder->n_tables,
    };
    for (uint32_t r = 0; r < folder->n_ranks; r++)
        info->n_tensors += folder->rank[r].n_entries;
}

static hstu_status fail_past_end(const char *what, uint64_t i, uint64_t n, hstu_error *err)
{
    return hs_fail(err, HSTU_EINVAL, 0, "%s %llu does not exist: there are %llu", what, (unsigned long long)i,
        (unsigned long long)n);
}

static void tell_use(hstu_tensor_info *info, const hs_binding *b, size_t i)
{
    static const hstu_tensor_use uses[] = {
        [HS_USE_BOUND] = HSTU_TENSOR_BOUND, [HS_USE_IGNORED] = HSTU_TENSOR_IGNORED, [HS_USE_EXTRA] = HSTU_TENSOR_EXTRA};
    info->use = uses[b->use[i]];
    info->reason = b->reason[i];
}

/* `weight`: the entry's place in the folder's weights, where it is one. */
static void tell_folder_use(hstu_tensor_info *info, const hstu_checkpoint *c, const hs_entry *e, size_t weight)
{
    static const char *const reasons[] = {[HS_NVDIR_PLACEHOLDER] = "a placeholder: the rows are in dynamicemb_module",
        [HS_NVDIR_EXTRA_STATE] = "a module's extra state",
        [HS_NVDIR_OUTSIDE] = "stands outside the weights' dictionary, as optimizer state does"};
    const hs_nvdir_use use = hs_nvdir_use_of(&c->folder, e);
    if (use == HS_NVDIR_WEIGHT) {
        tell_use(info, &c->binding, weight);
        return;
    }
    info->use = use == HS_NVDIR_STATIC_TABLE ? HSTU_TENSOR_BOUND : HSTU_TENSOR_IGNORED;
    info->reason = use == HS_NVDIR_STATIC_TABLE ? NULL : reasons[use];
}

/* A folder's tensors are counted through its ranks. */
static hstu_status find_entry(
    const hs_entry **out, uint32_t *rank, const hstu_checkpoint *c, uint64_t i, hstu_error *err)
{
    const hs_statedict *dict = c->folder.n_ranks ? c->folder.rank : &c->dict;
    const uint32_t n = c->folder.n_ranks ? c->folder.n_ranks : 1;
    uint64_t first = 0;
    for (uint32_t r = 0; r < n; first += dict[r++].n_entries) {
        if (i - first < dict[r].n_entries) {
            *out = &dict[r].entry[i - first];
            *rank = r;
            return HSTU_OK;
        }
    }
    return fail_past_end("tensor", i, first, err);
}

hstu_status hstu_checkpoint_tensor(
    const hstu_checkpoint *checkpoint, uint64_t i, hstu_tensor_info *info, hstu_error *err)
{
    uint32_t rank = 0;
    const hs_entry *e = NULL;
    HS_TRY(find_entry(&e, &rank, checkpoint, i, err));
    *info = (hstu_tensor_info){
        .group = e->group,
        .name = e->name,
        .dtype = hs_dtype_name(e->tensor.dtype),
        .rank = e->tensor.rank,
        .bytes = (uint64_t)hs_tensor_elements(&e->tensor) * hs_dtype_bytes(e->tensor.dtype),
        .use = HSTU_TENSOR_UNKNOWN,
        .file_rank = rank,
    };
    if (checkpoint->has_binding && checkpoint->folder.n_ranks)
        tell_folder_use(info, checkpoint, e, checkpoint->weight[i]);
    else if (checkpoint->has_binding)
        tell_use(info, &checkpoint->binding, i);
    for (int d = 0; d < e->tensor.rank; d++)
        info->shape[d] = e->tensor.shape[d];
    return HSTU_OK;
}

static hstu_status describe_missing(const hstu_checkpoint *c, const hs_weight *w, hstu_tensor_info *info)
{
    const uint64_t elements = (uint64_t)hs_weight_elements(w);
    *info = (hstu_tensor_info){
        .group = c->recognised.group,
        .name = w->name,
        .dtype = "fp32",
        .rank = elements ? w->rank : -1,
        .bytes = elements * sizeof(float),
        .use = HSTU_TENSOR_BOUND,
    };
    for (int d = 0; d < info->rank; d++)
        info->shape[d] = w->shape[d];
    return HSTU_OK;
}

hstu_status hstu_checkpoint_missing(
    const hstu_checkpoint *checkpoint, uint64_t i, hstu_tensor_info *info, hstu_error *err)
{
    const hs_binding *b = &checkpoint->binding;
    uint64_t n = 0;
    for (size_t w = 0; w < b->n_weights; w++) {
        if (!b->entry[w] && n++ == i)
            return describe_missing(checkpoint, &b->weight[w], info);
    }
    return fail_past_end("missing tensor", i, n, err);
}

hstu_status hstu_checkpoint_table(const hstu_checkpoint *checkpoint, uint64_t i, hstu_table_info *info, hstu_error *err)
{
    if (i >= checkpoint->folder.n_tables)
        return fail_past_end("table", i, checkpoint->folder.n_tables, err);
    const hs_nvdir_table *t = &checkpoint->folder.table[i];
    *info = (hstu_table_info){.name = t->name, .is_dynamic = !t->flat, .rows = t->rows, .dim = t->dim};
    if (t->flat) {
        info->bytes = (uint64_t)hs_tensor_elements(t->flat) * hs_dtype_bytes(t->flat->dtype);
    } else if (t->dynamic) {
        info->bytes = t->rows * t->dim * sizeof(float);
        info->world_size = t->dynamic->world_size;
    }
    return HSTU_OK;
}

hstu_status hstu_checkpoint_metadata(
    const hstu_checkpoint *checkpoint, uint64_t i, const char **key, const char **value, hstu_error *err)
{
    if (i >= checkpoint->dict.n_metadata)
        return fail_past_end("metadata pair", i, checkpoint->dict.n_metadata, err);
    *key = checkpoint->dict.metadata[i].key;
    *value = checkpoint->dict.metadata[i].value;
    return HSTU_OK;
}

const char *hstu_checkpoint_config(const hstu_checkpoint *checkpoint)
{
    return checkpoint->config_json;
}
