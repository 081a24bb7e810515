/* The weights of an NVIDIA checkpoint folder in one form: what the layouts name differently gets FUSED's names, what they split
 * over ranks and order differently is put together. Source of the layouts: docs/formats.md. */
#include "base/alloc.h"
#include "base/error.h"
#include "ckpt/nvdir_int.h"

#include <inttypes.h>
#include <string.h>

typedef enum change {
    RENAME,   /* the same numbers */
    HEADS,    /* rows by head, then u, v, q, k, then the head's numbers; they become columns, u | v | q | k first */
    TRANSPOSE /* ranks hold columns, which become rows */
} change;

/* Fields of a NATIVE or DEBUG layer that FUSED has in another form. */
static const struct {
    const char *name, *fused;
    change change;
    int rank;
} fields[] = {
    {"_linear_uvqk.weight", "_linear_uvqk_weight", HEADS, 2},
    {"_linear_uvqk.bias", "_linear_uvqk_bias", HEADS, 1},
    {"_linear_proj.weight", "_linear_proj_weight", TRANSPOSE, 2},
    {"_output_ln_dropout_mul.weight", "_output_layernorm_weight", RENAME, 1},
    {"_output_ln_dropout_mul.bias", "_output_layernorm_bias", RENAME, 1},
};

enum { N_FIELDS = sizeof fields / sizeof *fields, NAME_BYTES = 64 /* more than the longest field of FUSED */ };

typedef struct work {
    const hs_nvdir *dir;
    int64_t head_dim;
    const hs_entry **part; /* [tensor_parallel]: the tensor at hand in each rank */
    size_t *at;            /* [tensor_parallel]: where each rank stands */
    hs_statedict out;
    hstu_error *err;
} work;

/* ---- Matrices --------------------------------------------------------------------------------------------------- */

/* A part as a matrix; a bias is one of a single column. */
typedef struct matrix {
    const unsigned char *data;
    int64_t rows, cols, row_stride, col_stride; /* in elements */
} matrix;

static matrix matrix_of(const hs_tensor *t)
{
    const bool is_matrix = t->rank == 2;
    return (matrix){.data = t->data,
        .rows = t->shape[0],
        .cols = is_matrix ? t->shape[1] : 1,
        .row_stride = t->stride[0],
        .col_stride = is_matrix ? t->stride[1] : 0};
}

/* n elements of `size` bytes, to_stride and from_stride elements apart. */
static void copy_line(
    unsigned char *to, int64_t to_stride, const unsigned char *from, int64_t from_stride, int64_t n, size_t size)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + (size_t)(i * to_stride) * size, from + (size_t)(i * from_stride) * size, size);
}

/* Row n·4·d + s·d + j of all parts becomes column s·H·d + n·d + j of out [D, 4·H·d]; s: 0 to 3 for u, v, q, k. */
static void put_heads(unsigned char *out, const work *w, int64_t part_rows, size_t size)
{
    const int64_t d = w->head_dim, heads = part_rows / 4 / d, all_cols = part_rows * w->dir->tensor_parallel;
    for (uint32_t r = 0; r < w->dir->tensor_parallel; r++) {
        const matrix m = matrix_of(&w->part[r]->tensor);
        for (int64_t row = 0; row < m.rows; row++) {
            const int64_t head = r * heads + row / (4 * d), s = row / d % 4;
            const int64_t col = s * (all_cols / 4) + head * d + row % d;
            copy_line(out + (size_t)col * size, all_cols, m.data + (size_t)(row * m.row_stride) * size, m.col_stride,
                m.cols, size);
        }
    }
}

static void put_transposed(unsigned char *out, const work *w, size_t size)
{
    for (uint32_t r = 0; r < w->dir->tensor_parallel; r++) {
        const matrix m = matrix_of(&w->part[r]->tensor);
        for (int64_t col = 0; col < m.cols; col++) {
            const int64_t row = r * m.cols + col;
            copy_line(out + (size_t)(row * m.rows) * size, 1, m.data + (size_t)(col * m.col_stride) * size,
                m.row_stride, m.rows, size);
        }
    }
}

/* *bytes becomes the size of all parts together. */
static hstu_status check_part(const work *w, size_t field, size_t *bytes)
{
    const hs_entry *e = w->part[0];
    const hs_tensor *t = &e->tensor;
    const bool heads = fields[field].change == HEADS;
    if (t->rank != fields[field].rank || hs_tensor_elements(t) == 0)
        return hs_fail(w->err, HSTU_ESHAPE, 0, "%.200s: '%.120s' has rank %d, expected a %s that is not empty",
            w->dir->rank[0].path, e->name, t->rank, fields[field].rank == 1 ? "vector" : "matrix");
    const int64_t n = t->shape[heads ? 0 : 1], d = w->head_dim;
    if (d < 0 || (d > 0 && (n % d != 0 || (heads && n / d % 4 != 0))))
        return hs_fail(w->err, HSTU_EINVAL, 0,
            "%.180s: '%.100s' has %" PRId64 " %s, expected a multiple of %shead_dim, which is %" PRId64,
            w->dir->rank[0].path, e->name, n, heads ? "rows" : "columns", heads ? "4 x " : "", d);
    const hs_arena *arena = &w->out.arena;
    if (!hs_mul_size((size_t)hs_tensor_elements(t), w->dir->tensor_parallel * hs_dtype_bytes(t->dtype), bytes) ||
        *bytes > arena->max_bytes - arena->used_bytes)
        return hs_fail(w->err, HSTU_EFORMAT, 0, "%.200s: with '%.120s' the layers have more numbers than the file",
            w->dir->rank[0].path, e->name);
    return HSTU_OK;
}

/* The data of all parts as one tensor's. */
static hstu_status join_data(const void **out, work *w, size_t bytes, bool heads)
{
    const hs_entry *e = w->part[0];
    const size_t size = hs_dtype_bytes(e->tensor.dtype);
    unsigned char *data = hs_arena_alloc(&w->out.arena, bytes, 1);
    if (!data)
        return hs_fail_nomem(w->err, bytes, e->name);
    if (heads)
        put_heads(data, w, e->tensor.shape[0], size);
    else
        put_transposed(data, w, size);
    *out = data;
    return HSTU_OK;
}

/* Makes one tensor of all parts. */
static hstu_status put_together(hs_tensor *out, work *w, size_t field)
{
    const hs_tensor *part = &w->part[0]->tensor;
    const bool heads = fields[field].change == HEADS;
    const void *data = NULL;
    size_t bytes = 0;
    HS_TRY(check_part(w, field, &bytes));
    if (w->head_dim != 0)
        HS_TRY(join_data(&data, w, bytes, heads));
    const matrix m = matrix_of(part);
    *out = (hs_tensor){.dtype = part->dtype, .rank = fields[field].rank, .data = data};
    const int64_t all = (heads ? m.rows : m.cols) * w->dir->tensor_parallel, other = heads ? m.cols : m.rows;
    if (out->rank == 1) {
        out->shape[0] = all;
        out->stride[0] = 1;
    } else {
        out->shape[0] = heads ? other : all;
        out->shape[1] = heads ? all : other;
        out->stride[0] = out->shape[1];
        out->stride[1] = 1;
    }
    return HSTU_OK;
}

/* ---- Entries ---------------------------------------------------------------------------------------------------- */

static const char *peel(const char *name)
{
    static const char *const wrappers[] = {"module.", "_orig_mod.", "model."};
    enum { N_WRAPPERS = sizeof wrappers / sizeof *wrappers };
    for (int i = 0; i < N_WRAPPERS; i++) {
        const size_t n = strlen(wrappers[i]);
        if (strncmp(name, wrappers[i], n) == 0) {
            name += n;
            i = -1; /* one may stand behind another */
        }
    }
    return name;
}

/* Which of `fields` the name ends with, where it is a layer's; N_FIELDS for none. *field: where that begins. */
static size_t find_field(const char *name, const char **field)
{
    *field = hs_nvdir_layer_field(name);
    size_t i = 0;
    while (i < N_FIELDS && !(*field && strcmp(*field, fields[i].name) == 0))
        i++;
    return i;
}

static hstu_status add_entry(work *w)
{
    const hs_entry *e = w->part[0];
    const char *name = peel(e->name), *field = NULL;
    const size_t i = w->dir->layout == HS_NVDIR_FUSED ? N_FIELDS : find_field(name, &field);
    hs_entry *out = &w->out.entry[w->out.n_entries];
    *out = (hs_entry){.group = "", .name = name, .tensor = e->tensor};
    if (i < N_FIELDS) {
        const size_t before = (size_t)(field - name), after = strlen(fields[i].fused) + 1;
        char *renamed = hs_arena_alloc(&w->out.arena, before + after, 1);
        if (!renamed)
            return hs_fail_nomem(w->err, before + after, "a tensor's name");
        memcpy(renamed, name, before);
        memcpy(renamed + before, fields[i].fused, after);
        out->name = renamed;
        if (fields[i].change != RENAME)
            HS_TRY(put_together(&out->tensor, w, i));
    }
    w->out.n_entries++;
    return HSTU_OK;
}

/* Moves every rank to its next weight. False: no more. hs_nvdir_open has seen that all hold the same ones in one order. */
static bool next(work *w)
{
    for (uint32_t r = 0; r < w->dir->tensor_parallel; r++) {
        w->part[r] = hs_nvdir_next_weight(w->dir, r, &w->at[r]);
        if (!w->part[r])
            return false;
    }
    return true;
}

/* What all matrices, names and entries can need: as many bytes as the files have, and rounding. */
static size_t room(const hs_nvdir *dir)
{
    const hs_statedict *first = &dir->rank[0];
    size_t bytes = 4096 + strlen(dir->folder.text);
    for (uint32_t r = 0; r < dir->tensor_parallel; r++)
        bytes += dir->rank[r].map.size;
    for (size_t i = 0; i < first->n_entries; i++)
        bytes += sizeof(hs_entry) + strlen(first->entry[i].name) + 4 * (size_t)NAME_BYTES;
    return bytes;
}

static hstu_status collect(work *w)
{
    const hs_statedict *first = &w->dir->rank[0];
    hs_statedict *out = &w->out;
    hs_arena_init(&out->arena, room(w->dir));
    out->format = "NVIDIA checkpoint folder";
    out->path = hs_arena_strndup(&out->arena, w->dir->folder.text, strlen(w->dir->folder.text));
    out->entry = hs_arena_alloc(&out->arena, first->n_entries, sizeof *out->entry);
    w->part = hs_calloc(w->dir->tensor_parallel, sizeof(const hs_entry *));
    w->at = hs_calloc(w->dir->tensor_parallel, sizeof *w->at);
    if (!out->path || !out->entry || !w->part || !w->at)
        return hs_fail_nomem(w->err, first->n_entries * sizeof *out->entry, "the list of tensors");
    out->n_unread = first->n_unread;
    out->unread_name = first->unread_name;
    out->unread_kind = first->unread_kind;
    while (next(w)) {
        if (hs_nvdir_use_of(w->dir, w->part[0]) == HS_NVDIR_WEIGHT)
            HS_TRY(add_entry(w));
    }
    return HSTU_OK;
}

hstu_status hs_nvdir_weights(hs_statedict *out, const hs_nvdir *dir, int64_t head_dim, hstu_error *err)
{
    work w = {.dir = dir, .head_dim = head_dim, .err = err};
    const hstu_status status = collect(&w);
    hs_free((void *)w.part);
    hs_free(w.at);
    if (status != HSTU_OK) {
        hs_statedict_close(&w.out);
        return status;
    }
    *out = w.out;
    return HSTU_OK;
}
