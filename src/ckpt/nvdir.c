/* NVIDIA checkpoint folders: where the files stand, whether the ranks fit together, how their layers are laid out. */
#include "ckpt/nvdir.h"

#include "base/alloc.h"
#include "base/error.h"
#include "ckpt/nvdir_int.h"
#include "ckpt/pth.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char block[] = "_hstu_block._attention_layers.";

const char *hs_nvdir_layout_name(hs_nvdir_layout layout)
{
    static const char *const names[] = {"FUSED", "NATIVE", "DEBUG"};
    return names[layout];
}

/* ---- Names of tensors ------------------------------------------------------------------------------------------- */

const char *hs_nvdir_behind(const char *name, const char *mark)
{
    for (const char *at = strstr(name, mark); at; at = strstr(at + 1, mark)) {
        if (at == name || at[-1] == '.')
            return at + strlen(mark);
    }
    return NULL;
}

const hs_entry *hs_nvdir_find(const hs_nvdir *dir, const char *mark)
{
    const hs_statedict *dict = &dir->rank[0];
    for (size_t i = 0; i < dict->n_entries; i++) {
        const char *rest = hs_nvdir_behind(dict->entry[i].name, mark);
        if (rest && !*rest && strcmp(dict->entry[i].group, dir->group) == 0)
            return &dict->entry[i];
    }
    return NULL;
}

const char *hs_nvdir_layer_field(const char *name)
{
    const char *field = hs_nvdir_behind(name, block);
    if (!field)
        return NULL;
    field += strspn(field, "0123456789");
    return *field == '.' ? field + 1 : NULL;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- Folders ---------------------------------------------------------------------------------------------------- */

static hstu_status has_torch_module(bool *out, const char *folder, hstu_error *err)
{
    hs_path path;
    HS_TRY(hs_path_join(&path, folder, "torch_module", err));
    *out = hs_path_is_folder(path.text);
    return HSTU_OK;
}

/* The one checkpoint among the folders of a training run. */
static hstu_status find_below(hs_path *out, const char *path, const hs_folder *listing, hstu_error *err)
{
    const char *first = NULL, *last = NULL;
    size_t n = 0;
    for (size_t i = 0; i < listing->n; i++) {
        hs_path below;
        bool found = false;
        HS_TRY(hs_path_join(&below, path, listing->name[i], err));
        HS_TRY(has_torch_module(&found, below.text, err));
        if (!found)
            continue;
        first = first ? first : listing->name[i];
        last = listing->name[i];
        *out = below;
        n++;
    }
    if (n > 1)
        return hs_fail(err, HSTU_EINVAL, 0,
            "the folder '%.200s' holds %zu checkpoints, '%.80s' to '%.80s': name one of them", path, n, first, last);
    if (n == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%.200s' is a folder: expected a PyTorch or safetensors file, or a folder with "
            "torch_module/model.0.pth as NVIDIA's recsys-examples writes it",
            path);
    return HSTU_OK;
}

static hstu_status find_root(hs_path *out, const char *path, hstu_error *err)
{
    hs_folder listing = {0};
    bool found = false;
    HS_TRY(has_torch_module(&found, path, err));
    if (found) {
        memcpy(out->text, path, strlen(path) + 1); /* a longer one has just fitted */
        return HSTU_OK;
    }
    HS_TRY(hs_folder_list(&listing, path, err));
    const hstu_status status = find_below(out, path, &listing, err);
    hs_folder_free(&listing);
    return status;
}

/* ---- Ranks ------------------------------------------------------------------------------------------------------ */

typedef struct rank_name {
    char text[32];
} rank_name;

static rank_name name_of_rank(uint32_t rank)
{
    rank_name name;
    (void)snprintf(name.text, sizeof name.text, "model.%" PRIu32 ".pth", rank);
    return name;
}

/* Whether the name is that of a rank's file, whatever its number. */
static bool is_rank(const char *name)
{
    if (strncmp(name, "model.", 6) != 0)
        return false;
    const size_t digits = strspn(name + 6, "0123456789");
    return digits && (name[6] != '0' || digits == 1) && strcmp(name + 6 + digits, ".pth") == 0;
}

static hstu_status count_ranks(hs_nvdir *dir, const char *folder, const hs_folder *listing, hstu_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < listing->n; i++)
        n += is_rank(listing->name[i]);
    if (n > HS_NVDIR_MAX_RANKS)
        return hs_fail(
            err, HSTU_EUNSUP, 0, "%.300s: %zu ranks, at most %d are supported", folder, n, HS_NVDIR_MAX_RANKS);
    const uint32_t expected = n ? (uint32_t)n : 1;
    for (uint32_t r = 0; r < expected; r++) {
        const rank_name name = name_of_rank(r);
        if (!hs_folder_has(listing, name.text))
            return hs_fail(err, HSTU_EFORMAT, 0,
                "%.300s: there is no %s, but files of %zu ranks, which are numbered from 0 without gaps", folder,
                name.text, n);
    }
    dir->n_ranks = expected;
    return HSTU_OK;
}

static hstu_status open_ranks(hs_nvdir *dir, hstu_error *err)
{
    hs_path folder, path;
    hs_folder listing = {0};
    HS_TRY(hs_path_join(&folder, dir->folder.text, "torch_module", err));
    HS_TRY(hs_folder_list(&listing, folder.text, err));
    const hstu_status status = count_ranks(dir, folder.text, &listing, err);
    hs_folder_free(&listing);
    HS_TRY(status);
    dir->rank = hs_calloc(dir->n_ranks, sizeof *dir->rank);
    if (!dir->rank)
        return hs_fail_nomem(err, dir->n_ranks * sizeof *dir->rank, "the ranks of a checkpoint");
    for (uint32_t r = 0; r < dir->n_ranks; r++) {
        HS_TRY(hs_path_join(&path, folder.text, name_of_rank(r).text, err));
        HS_TRY(hs_ckpt_open(&dir->rank[r], path.text, err));
    }
    return HSTU_OK;
}

hs_nvdir_use hs_nvdir_use_of(const hs_nvdir *dir, const hs_entry *entry)
{
    if (strcmp(entry->group, dir->group) != 0)
        return HS_NVDIR_OUTSIDE;
    if (ends_with(entry->name, "_extra_state"))
        return HS_NVDIR_EXTRA_STATE;
    if (hs_nvdir_behind(entry->name, HS_NVDIR_DYNAMIC_TABLES))
        return HS_NVDIR_PLACEHOLDER;
    return hs_nvdir_behind(entry->name, HS_NVDIR_STATIC_TABLES) ? HS_NVDIR_STATIC_TABLE : HS_NVDIR_WEIGHT;
}

const hs_entry *hs_nvdir_next_weight(const hs_nvdir *dir, uint32_t rank, size_t *at)
{
    const hs_statedict *dict = &dir->rank[rank];
    while (*at < dict->n_entries) {
        const hs_entry *e = &dict->entry[(*at)++];
        const hs_nvdir_use use = hs_nvdir_use_of(dir, e);
        if (use == HS_NVDIR_WEIGHT || use == HS_NVDIR_STATIC_TABLE)
            return e;
    }
    return NULL;
}

static hstu_status fail_rank(
    const hs_nvdir *dir, uint32_t rank, const hs_entry *expected, const hs_entry *found, hstu_error *err)
{
    char expected_shape[128] = "", found_shape[128] = "";
    if (expected)
        hs_tensor_shape_text(&expected->tensor, expected_shape, sizeof expected_shape);
    if (found)
        hs_tensor_shape_text(&found->tensor, found_shape, sizeof found_shape);
    return hs_fail(err, HSTU_EFORMAT, 0, "%.180s: expected %.90s %.40s as in model.0.pth, found %.90s %.40s",
        dir->rank[rank].path, expected ? expected->name : "no more tensors", expected_shape,
        found ? found->name : "no more tensors", found_shape);
}

static hstu_status compare_rank(const hs_nvdir *dir, uint32_t rank, hstu_error *err)
{
    size_t at_first = 0, at = 0;
    for (;;) {
        const hs_entry *a = hs_nvdir_next_weight(dir, 0, &at_first), *b = hs_nvdir_next_weight(dir, rank, &at);
        if (!a && !b)
            return HSTU_OK;
        if (!a || !b || strcmp(a->name, b->name) != 0 || a->tensor.dtype != b->tensor.dtype ||
            !hs_tensor_shape_is(&b->tensor, a->tensor.rank, a->tensor.shape))
            return fail_rank(dir, rank, a, b, err);
    }
}

/* ---- Layouts ---------------------------------------------------------------------------------------------------- */

/* What the names of rank 0's layers show. */
typedef struct marks {
    const hs_entry *fused, *linear, *norm; /* the first of each: uvqk in either form, the output norm's scale */
    bool native;
} marks;

static void look_at(marks *m, const hs_entry *e, const char *field)
{
    if (!m->fused && strcmp(field, "_linear_uvqk_weight") == 0)
        m->fused = e;
    if (!m->linear && strcmp(field, "_linear_uvqk.weight") == 0)
        m->linear = e;
    const bool native_norm = strcmp(field, "_output_ln_dropout_mul.weight") == 0;
    if (!m->norm && (native_norm || strcmp(field, "_output_layernorm_weight") == 0))
        m->norm = e;
    m->native |= native_norm || ends_with(field, "._extra_state");
}

static hstu_status find_marks(hs_nvdir *dir, marks *m, hstu_error *err)
{
    const hs_statedict *dict = &dir->rank[0];
    for (size_t i = 0; i < dict->n_entries; i++) {
        const char *field = hs_nvdir_layer_field(dict->entry[i].name);
        if (!field)
            continue;
        if (!dir->group)
            dir->group = dict->entry[i].group;
        if (strcmp(dict->entry[i].group, dir->group) == 0)
            look_at(m, &dict->entry[i], field);
    }
    if (!m->fused && !m->linear)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "%.300s: no tensor '%sN._linear_uvqk_weight' or '..._linear_uvqk.weight': no checkpoint of NVIDIA's HSTU",
            dict->path, block);
    if (m->fused && m->linear)
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: layers of two layouts, '%.120s' and '%.120s'", dict->path,
            m->fused->name, m->linear->name);
    const hs_entry *uvqk = m->fused ? m->fused : m->linear;
    if (uvqk->tensor.rank != 2 || hs_tensor_elements(&uvqk->tensor) == 0)
        return hs_fail(err, HSTU_ESHAPE, 0, "%.200s: '%.120s' has rank %d, expected a matrix that is not empty",
            dict->path, uvqk->name, uvqk->tensor.rank);
    return HSTU_OK;
}

/* A rank's part of uvqk has 4·H·d / tensor_parallel rows, the output norm all of its H·d numbers. Without the norm, every
 * file counts as a part. */
static hstu_status find_parts(hs_nvdir *dir, const marks *m, hstu_error *err)
{
    dir->tensor_parallel = 1;
    if (dir->layout != HS_NVDIR_NATIVE)
        return HSTU_OK;
    dir->tensor_parallel = dir->n_ranks;
    if (!m->norm)
        return HSTU_OK;
    const int64_t rows = m->linear->tensor.shape[0], width = m->norm->tensor.rank == 1 ? m->norm->tensor.shape[0] : 0;
    const int64_t parts = width <= INT64_MAX / 4 ? 4 * width / rows : 0;
    if (parts < 1 || parts > HS_NVDIR_MAX_RANKS || parts * rows != 4 * width)
        return hs_fail(err, HSTU_ESHAPE, 0,
            "%.180s: '%.100s' has %" PRId64 " rows, expected 4 x %" PRId64
            " (the size of '%.100s') or an equal part of that",
            dir->rank[0].path, m->linear->name, rows, width, m->norm->name);
    if (dir->n_ranks % parts != 0)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "%.250s/torch_module: its layers are split over %" PRId64 " ranks, but there are files of %" PRIu32,
            dir->folder.text, parts, dir->n_ranks);
    dir->tensor_parallel = (uint32_t)parts;
    return HSTU_OK;
}

/* The first matrix [D, width] of a preprocessing network tells the width; without one it is D. */
static hstu_status width_of(const hs_nvdir *dir, const char *name, uint64_t *width, hstu_error *err)
{
    const hs_entry *e = hs_nvdir_find(dir, name);
    if (!e)
        return HSTU_OK;
    if (e->tensor.rank != 2 || e->tensor.shape[1] < 1)
        return hs_fail(err, HSTU_ESHAPE, 0, "%.200s: '%.150s' has rank %d, expected a matrix that is not empty",
            dir->rank[0].path, e->name, e->tensor.rank);
    *width = (uint64_t)e->tensor.shape[1];
    return HSTU_OK;
}

static hstu_status read_dir(hs_nvdir *dir, const char *path, hstu_error *err)
{
    marks m = {0};
    hs_nvdir_widths widths;
    HS_TRY(find_root(&dir->folder, path, err));
    HS_TRY(open_ranks(dir, err));
    HS_TRY(find_marks(dir, &m, err));
    dir->layout = m.fused ? HS_NVDIR_FUSED : m.native ? HS_NVDIR_NATIVE : HS_NVDIR_DEBUG;
    HS_TRY(find_parts(dir, &m, err));
    for (uint32_t r = 1; r < dir->n_ranks; r++)
        HS_TRY(compare_rank(dir, r, err));
    widths.item = (uint64_t)(m.fused ? m.fused->tensor.shape[0] : m.linear->tensor.shape[1]);
    widths.context = widths.item;
    HS_TRY(width_of(dir, "_hstu_block._preprocessor._item_mlp._mlp.0.weight", &widths.item, err));
    HS_TRY(width_of(dir, "_hstu_block._preprocessor._contextual_mlp._mlp.0.weight", &widths.context, err));
    return hs_nvdir_find_tables(dir, widths, err);
}

hstu_status hs_nvdir_open(hs_nvdir *out, const char *path, hstu_error *err)
{
    hs_nvdir dir = {0};
    hs_arena_init(&dir.arena, (size_t)HS_NVDIR_MAX_TABLES * 1024);
    const hstu_status status = read_dir(&dir, path, err);
    if (status != HSTU_OK) {
        hs_nvdir_close(&dir);
        return status;
    }
    *out = dir;
    return HSTU_OK;
}

void hs_nvdir_close(hs_nvdir *dir)
{
    for (size_t i = 0; i < dir->n_tables; i++) {
        if (dir->table[i].dynamic)
            hs_dynemb_close(dir->table[i].dynamic);
        hs_free(dir->table[i].dynamic);
    }
    hs_free(dir->table);
    for (uint32_t r = 0; dir->rank && r < dir->n_ranks; r++)
        hs_statedict_close(&dir->rank[r]);
    hs_free(dir->rank);
    hs_arena_free(&dir->arena);
    *dir = (hs_nvdir){0};
}
