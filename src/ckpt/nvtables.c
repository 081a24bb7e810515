/* The embedding tables of an NVIDIA checkpoint folder: flat static ones among the weights, dynamic ones in files of their
 * own. The weights of both kinds are named by torchrec's collections. */
#include "base/alloc.h"
#include "base/error.h"
#include "ckpt/nvdir_int.h"

#include <inttypes.h>
#include <string.h>

static hstu_status add_table(hs_nvdir *dir, const char *name, size_t name_bytes, hs_nvdir_table **out, hstu_error *err)
{
    if (dir->n_tables == HS_NVDIR_MAX_TABLES)
        return hs_fail(
            err, HSTU_EUNSUP, 0, "%.300s: more than %d embedding tables", dir->folder.text, HS_NVDIR_MAX_TABLES);
    if (!dir->table)
        dir->table = hs_calloc(HS_NVDIR_MAX_TABLES, sizeof *dir->table);
    const char *copy = hs_arena_strndup(&dir->arena, name, name_bytes);
    if (!dir->table || !copy)
        return hs_fail_nomem(err, HS_NVDIR_MAX_TABLES * sizeof *dir->table, "the tables of a checkpoint");
    *out = &dir->table[dir->n_tables++];
    (*out)->name = copy;
    return HSTU_OK;
}

static bool name_is(const hs_nvdir_table *table, const char *name, size_t name_bytes)
{
    return strncmp(table->name, name, name_bytes) == 0 && table->name[name_bytes] == '\0';
}

/* The dynamic table of this name from the table `first` on, or NULL. */
static const hs_nvdir_table *find_dynamic(const hs_nvdir *dir, size_t first, const char *name, size_t name_bytes)
{
    for (size_t i = first; i < dir->n_tables; i++) {
        if (!dir->table[i].flat && name_is(&dir->table[i], name, name_bytes))
            return &dir->table[i];
    }
    return NULL;
}

/* ---- Static tables ---------------------------------------------------------------------------------------------- */

static hstu_status check_flat(const hs_nvdir *dir, const hs_entry *e, uint64_t dim, hstu_error *err)
{
    const hs_tensor *t = &e->tensor;
    if (t->rank != 1 || !hs_tensor_contiguous(t) || (t->dtype != HS_F32 && t->dtype != HS_BF16 && t->dtype != HS_F16))
        return hs_fail(err, HSTU_ESHAPE, 0, "%.200s: '%.150s' is %s of rank %d, expected one flat vector of floats",
            dir->rank[0].path, e->name, hs_dtype_name(t->dtype), t->rank);
    if (dim && (uint64_t)t->shape[0] % dim != 0)
        return hs_fail(err, HSTU_ESHAPE, 0, "%.200s: '%.150s' has %" PRId64 " numbers, expected rows of %" PRIu64,
            dir->rank[0].path, e->name, t->shape[0], dim);
    return HSTU_OK;
}

static hstu_status add_static(hs_nvdir *dir, const hs_entry *e, const char *names, uint64_t dim, hstu_error *err)
{
    static const char end[] = "_weights";
    const size_t n = strlen(names), end_bytes = sizeof end - 1;
    hs_nvdir_table *table = NULL;
    if (n <= end_bytes || strcmp(names + n - end_bytes, end) != 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%.200s: '%.150s': expected a name that ends with '<table>%s'",
            dir->rank[0].path, e->name, end);
    HS_TRY(check_flat(dir, e, dim, err));
    HS_TRY(add_table(dir, names, n - end_bytes, &table, err));
    table->flat = &e->tensor;
    table->dim = dim;
    table->rows = dim ? (uint64_t)e->tensor.shape[0] / dim : 0;
    return HSTU_OK;
}

static hstu_status check_split(
    const hs_nvdir_table *table, const uint64_t *rows, size_t n, const char *path, hstu_error *err)
{
    size_t n_names = 1;
    uint64_t sum = 0;
    for (const char *at = strchr(table->name, '/'); at; at = strchr(at + 1, '/'))
        n_names++;
    if (n_names != n)
        return hs_fail(err, HSTU_ESHAPE, 0, "%.200s: one tensor holds %zu tables, '%.200s', expected %zu of them", path,
            n_names, table->name, n);
    if (table->flat->dtype == HS_F16)
        return hs_fail(err, HSTU_EUNSUP, 0, "%.200s: the static tables '%.200s' hold fp16, expected fp32 or bf16", path,
            table->name);
    if (table->dim == 0)
        return hs_fail(err, HSTU_ESHAPE, 0,
            "%.200s: the rows of the static tables '%.200s' may be of two widths, expected a checkpoint without "
            "preprocessing networks",
            path, table->name);
    for (size_t i = 0; i < n; i++)
        sum = rows[i] > UINT64_MAX - sum ? UINT64_MAX : sum + rows[i];
    if (sum != table->rows)
        return hs_fail(err, HSTU_ESHAPE, 0,
            "%.200s: the static tables '%.200s' have %" PRIu64 " rows together, expected %" PRIu64, path, table->name,
            table->rows, sum);
    return HSTU_OK;
}

hstu_status hs_nvdir_split(hs_table *out, char *names, const hs_nvdir_table *table, const uint64_t *rows, size_t n,
    const char *path, hstu_error *err)
{
    const hs_tensor *flat = table->flat;
    const unsigned char *values = flat->data;
    hstu_status status = check_split(table, rows, n, path, err);
    if (status != HSTU_OK)
        return status;
    memcpy(names, table->name, strlen(table->name) + 1);
    for (size_t i = 0; i < n && status == HSTU_OK; i++) {
        char *end = strchr(names, '/');
        if (end)
            *end = '\0';
        status = hs_table_make(&out[i], names, flat->dtype, false, table->dim, 1, err);
        if (status == HSTU_OK) {
            out[i].part[0] = (hs_table_part){.values = rows[i] ? values : NULL, .n_rows = rows[i]};
            status = hs_table_finish(&out[i], path, err);
            names = end ? end + 1 : names;
            values = rows[i] ? values + rows[i] * table->dim * hs_dtype_bytes(flat->dtype) : values;
        }
    }
    for (size_t i = 0; i < n && status != HSTU_OK; i++)
        hs_table_close(&out[i]);
    return status;
}

/* ---- Dynamic tables --------------------------------------------------------------------------------------------- */

static hstu_status check_width(const hs_nvdir *dir, const hs_table *t, hs_nvdir_widths widths, hstu_error *err)
{
    if (t->n_rows == 0 || t->dim == widths.item || t->dim == widths.context)
        return HSTU_OK;
    return hs_fail(err, HSTU_EFORMAT, 0,
        "%.250s: the rows of the table '%.100s' have %" PRIu64 " floats, expected %" PRIu64 " or %" PRIu64,
        dir->folder.text, t->name, t->dim, widths.item, widths.context);
}

static hstu_status open_table(hs_nvdir *dir, const char *folder, const hs_folder *listing, const char *file_name,
    size_t name_bytes, hs_nvdir_widths widths, hstu_error *err)
{
    hs_nvdir_table *table = NULL;
    HS_TRY(add_table(dir, file_name, name_bytes, &table, err));
    hs_dynemb *dynamic = hs_calloc(1, sizeof *dynamic);
    if (!dynamic)
        return hs_fail_nomem(err, sizeof *dynamic, "an embedding table");
    table->dynamic = dynamic;
    const uint64_t dim = widths.item == widths.context ? widths.item : 0;
    HS_TRY(hs_dynemb_open(dynamic, folder, listing, table->name, dim, err));
    HS_TRY(check_width(dir, &dynamic->table, widths, err));
    table->dim = dynamic->table.dim;
    table->rows = dynamic->table.n_rows;
    return HSTU_OK;
}

static hstu_status open_tables(
    hs_nvdir *dir, const char *folder, const hs_folder *listing, hs_nvdir_widths widths, hstu_error *err)
{
    const size_t first = dir->n_tables;
    for (size_t i = 0; i < listing->n; i++) {
        const char *name = listing->name[i];
        hs_dynemb_file file;
        if (!hs_dynemb_parse_name(&file, name))
            continue;
        if (dir->n_tables > first && name_is(&dir->table[dir->n_tables - 1], name, file.table_bytes))
            continue; /* the listing is sorted: the usual case */
        if (find_dynamic(dir, first, name, file.table_bytes))
            continue;
        if (find_dynamic(dir, 0, name, file.table_bytes))
            return hs_fail(err, HSTU_EFORMAT, 0,
                "%.300s: the table '%.100s' stands in two folders of dynamicemb_module", folder,
                dir->table[find_dynamic(dir, 0, name, file.table_bytes) - dir->table].name);
        HS_TRY(open_table(dir, folder, listing, name, file.table_bytes, widths, err));
    }
    return HSTU_OK;
}

static hstu_status open_module(hs_nvdir *dir, const char *folder, hs_nvdir_widths widths, hstu_error *err)
{
    hs_folder listing = {0};
    if (!hs_path_is_folder(folder))
        return HSTU_OK;
    HS_TRY(hs_folder_list(&listing, folder, err));
    const hstu_status status = open_tables(dir, folder, &listing, widths, err);
    hs_folder_free(&listing);
    return status;
}

static hstu_status open_modules(hs_nvdir *dir, hs_nvdir_widths widths, hstu_error *err)
{
    hs_path folder, module;
    hs_folder listing = {0};
    hstu_status status = HSTU_OK;
    HS_TRY(hs_path_join(&folder, dir->folder.text, "dynamicemb_module", err));
    if (!hs_path_is_folder(folder.text))
        return HSTU_OK;
    HS_TRY(hs_folder_list(&listing, folder.text, err));
    for (size_t i = 0; i < listing.n && status == HSTU_OK; i++) {
        status = hs_path_join(&module, folder.text, listing.name[i], err);
        if (status == HSTU_OK)
            status = open_module(dir, module.text, widths, err);
    }
    hs_folder_free(&listing);
    return status;
}

/* The weights hold a placeholder "<table>.weight" for each dynamic table, unless it was saved as a sharded tensor. */
static hstu_status add_absent(hs_nvdir *dir, const char *name, hstu_error *err)
{
    static const char end[] = ".weight";
    const size_t n = strlen(name), end_bytes = sizeof end - 1;
    hs_nvdir_table *table = NULL;
    if (n <= end_bytes || strcmp(name + n - end_bytes, end) != 0 || find_dynamic(dir, 0, name, n - end_bytes))
        return HSTU_OK;
    return add_table(dir, name, n - end_bytes, &table, err);
}

hstu_status hs_nvdir_find_tables(hs_nvdir *dir, hs_nvdir_widths widths, hstu_error *err)
{
    const hs_statedict *dict = &dir->rank[0];
    const uint64_t dim = widths.item == widths.context ? widths.item : 0;
    for (size_t i = 0; i < dict->n_entries; i++) {
        const char *names = hs_nvdir_behind(dict->entry[i].name, HS_NVDIR_STATIC_TABLES);
        if (names && strcmp(dict->entry[i].group, dir->group) == 0)
            HS_TRY(add_static(dir, &dict->entry[i], names, dim, err));
    }
    HS_TRY(open_modules(dir, widths, err));
    for (size_t i = 0; i < dict->n_entries; i++) {
        const char *name = hs_nvdir_behind(dict->entry[i].name, HS_NVDIR_DYNAMIC_TABLES "embeddings.");
        if (name && strcmp(dict->entry[i].group, dir->group) == 0)
            HS_TRY(add_absent(dir, name, err));
    }
    return HSTU_OK;
}
