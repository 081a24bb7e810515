/* Writing safetensors: declarations first, then the tensors' bytes in the same order. */
#include "base/alloc.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "base/outfile.h"
#include "file/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100000000, ALIGNMENT = 64, MOVE_BYTES = 1 << 22 };

static const char METADATA[] = "__metadata__";

typedef struct declared {
    char *name, *value; /* value: metadata alone */
    hs_dtype dtype;
    int rank;
    int64_t shape[HS_MAX_RANK];
    uint64_t bytes;
} declared;

typedef struct list {
    declared *item;
    size_t n, cap;
} list;

struct hs_safetensors_writer {
    hs_outfile *file;
    char *path;
    list metadata, tensors;
    uint64_t declared_bytes;
    _Atomic uint64_t written_bytes;
    bool started;   /* the header is written, or in any order: its place is set */
    bool any_order; /* hs_safetensors_begin was called */
    bool finished;
    uint64_t data_at; /* then: where the bytes lie in the file */
};

hstu_status hs_safetensors_create(hs_safetensors_writer **out, const char *path, hstu_error *err)
{
    hs_safetensors_writer *w = hs_calloc(1, sizeof *w);
    if (!w)
        return hs_fail_nomem(err, sizeof *w, path);
    hstu_status status = HSTU_OK;
    w->path = hs_strndup(path, strlen(path));
    if (!w->path)
        status = hs_fail_nomem(err, strlen(path), path);
    else
        status = hs_outfile_open(&w->file, path, err);
    if (status != HSTU_OK) {
        hs_safetensors_discard(w);
        return status;
    }
    *out = w;
    return HSTU_OK;
}

/* ---- Declarations ----------------------------------------------------------------------------------------------- */

/* A copy of name and value in a new last item of the list. */
static hstu_status add(
    hs_safetensors_writer *w, list *l, const char *name, const char *value, declared **out, hstu_error *err)
{
    if (w->started)
        return hs_fail(
            err, HSTU_EINVAL, 0, "%s: '%.120s' is declared after the first bytes were written", w->path, name);
    if (l->n == l->cap) {
        declared *grown = hs_realloc(l->item, 2 * l->cap + 16, sizeof *grown);
        if (!grown)
            return hs_fail_nomem(err, (2 * l->cap + 16) * sizeof *grown, w->path);
        l->item = grown;
        l->cap = 2 * l->cap + 16;
    }
    declared item = {.name = hs_strndup(name, strlen(name)), .value = value ? hs_strndup(value, strlen(value)) : NULL};
    if (!item.name || (value && !item.value)) {
        hs_free(item.name);
        hs_free(item.value);
        return hs_fail_nomem(err, strlen(name), w->path);
    }
    *out = &l->item[l->n++];
    **out = item;
    return HSTU_OK;
}

hstu_status hs_safetensors_add_metadata(hs_safetensors_writer *w, const char *key, const char *value, hstu_error *err)
{
    declared *pair = NULL;
    return add(w, &w->metadata, key, value, &pair, err);
}

hstu_status hs_safetensors_add_tensor(
    hs_safetensors_writer *w, const char *name, hs_dtype dtype, int rank, const int64_t *shape, hstu_error *err)
{
    if (rank < 0 || rank > HS_MAX_RANK || strcmp(name, METADATA) == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s: tensor '%.120s' cannot be written: its rank is %d or its name reserved", w->path, name, rank);
    int64_t bytes = (int64_t)hs_dtype_bytes(dtype);
    bool fits = true, empty = false;
    for (int d = 0; d < rank; d++) {
        fits = fits && shape[d] >= 0;
        empty = empty || shape[d] == 0;
    }
    for (int d = 0; d < rank && fits && !empty; d++)
        fits = !__builtin_mul_overflow(bytes, shape[d], &bytes);
    if (empty)
        bytes = 0;
    if (!fits || (uint64_t)bytes > INT64_MAX - w->declared_bytes)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: the shape of tensor '%.120s' is negative or too large", w->path, name);
    declared *tensor = NULL;
    HS_TRY(add(w, &w->tensors, name, NULL, &tensor, err));
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (int d = 0; d < rank; d++)
        tensor->shape[d] = shape[d];
    tensor->bytes = (uint64_t)bytes;
    w->declared_bytes += (uint64_t)bytes;
    return HSTU_OK;
}

/* ---- The header ------------------------------------------------------------------------------------------------- */

static bool put_string(hs_dynbuf *json, const char *text)
{
    bool ok = hs_dynbuf_append(json, "\"", 1);
    for (const char *c = text; *c && ok; c++) {
        if (*c == '"' || *c == '\\')
            ok = hs_dynbuf_append(json, "\\", 1) && hs_dynbuf_append(json, c, 1);
        else if ((unsigned char)*c < 0x20)
            ok = hs_dynbuf_printf(json, "\\u%04x", (unsigned)*c);
        else
            ok = hs_dynbuf_append(json, c, 1);
    }
    return ok && hs_dynbuf_append(json, "\"", 1);
}

static bool put_metadata(hs_dynbuf *json, const list *metadata)
{
    if (metadata->n == 0)
        return true;
    bool ok = put_string(json, METADATA);
    for (size_t i = 0; i < metadata->n && ok; i++)
        ok = hs_dynbuf_append_text(json, i ? "," : ":{") && put_string(json, metadata->item[i].name) &&
             hs_dynbuf_append_text(json, ":") && put_string(json, metadata->item[i].value);
    return ok && hs_dynbuf_append_text(json, "}");
}

static bool put_tensor(hs_dynbuf *json, const declared *t, uint64_t begin)
{
    bool ok = put_string(json, t->name) &&
              hs_dynbuf_printf(json, ":{\"dtype\":\"%s\",\"shape\":[", hs_dtype_file_name(t->dtype));
    for (int d = 0; d < t->rank && ok; d++)
        ok = hs_dynbuf_printf(json, d ? ",%lld" : "%lld", (long long)t->shape[d]);
    return ok && hs_dynbuf_printf(json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                     (unsigned long long)(begin + t->bytes));
}

/* The header, padded with spaces so that the data begins at a multiple of ALIGNMENT. */
static bool put_header(hs_dynbuf *json, const hs_safetensors_writer *w)
{
    uint64_t at = 0;
    bool ok = hs_dynbuf_append_text(json, "{") && put_metadata(json, &w->metadata);
    for (size_t i = 0; i < w->tensors.n && ok; i++) {
        ok = (json->len == 1 || hs_dynbuf_append_text(json, ",")) && put_tensor(json, &w->tensors.item[i], at);
        at += w->tensors.item[i].bytes;
    }
    ok = ok && hs_dynbuf_append_text(json, "}");
    while (ok && (json->len + sizeof(uint64_t)) % ALIGNMENT != 0)
        ok = hs_dynbuf_append_text(json, " ");
    return ok;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static hstu_status refuse_duplicates(const hs_safetensors_writer *w, const list *l, hstu_error *err)
{
    if (l->n < 2)
        return HSTU_OK;
    const char **name = hs_alloc(l->n, sizeof *name);
    if (!name)
        return hs_fail_nomem(err, l->n * sizeof *name, w->path);
    for (size_t i = 0; i < l->n; i++)
        name[i] = l->item[i].name;
    qsort(name, l->n, sizeof *name, compare_names);
    hstu_status status = HSTU_OK;
    for (size_t i = 1; i < l->n && status == HSTU_OK; i++) {
        if (strcmp(name[i - 1], name[i]) == 0)
            status = hs_fail(err, HSTU_EINVAL, 0, "%s: '%.120s' is declared twice", w->path, name[i]);
    }
    hs_free(name);
    return status;
}

/* The length in front, and the header. */
static hstu_status make_header(hs_dynbuf *whole, const hs_safetensors_writer *w, hstu_error *err)
{
    hs_dynbuf json;
    hs_dynbuf_init(&json, MAX_HEADER_BYTES);
    hs_dynbuf_init(whole, MAX_HEADER_BYTES + sizeof(uint64_t));
    hstu_status status = HSTU_OK;
    unsigned char length[8];
    if (!put_header(&json, w))
        status = json.out_of_memory
                     ? hs_fail_nomem(err, json.len, w->path)
                     : hs_fail(err, HSTU_EINVAL, 0, "%s: its header exceeds %d bytes", w->path, MAX_HEADER_BYTES);
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)((uint64_t)json.len >> 8 * i);
    if (status == HSTU_OK &&
        (!hs_dynbuf_append(whole, length, sizeof length) || !hs_dynbuf_append(whole, json.data, json.len))) {
        status = hs_fail_nomem(err, json.len, w->path);
        hs_dynbuf_free(whole);
    }
    hs_dynbuf_free(&json);
    return status;
}

static hstu_status start(hs_safetensors_writer *w, hstu_error *err)
{
    if (w->started)
        return HSTU_OK;
    HS_TRY(refuse_duplicates(w, &w->metadata, err));
    HS_TRY(refuse_duplicates(w, &w->tensors, err));
    hs_dynbuf header;
    HS_TRY(make_header(&header, w, err));
    const hstu_status status = w->any_order ? HSTU_OK : hs_outfile_write(w->file, header.data, header.len, err);
    w->data_at = header.len;
    hs_dynbuf_free(&header);
    w->started = status == HSTU_OK;
    return status;
}

/* ---- Bytes ------------------------------------------------------------------------------------------------------ */

hstu_status hs_safetensors_write(hs_safetensors_writer *w, const void *data, size_t bytes, hstu_error *err)
{
    HS_TRY(start(w, err));
    if (bytes > w->declared_bytes - w->written_bytes || w->any_order)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: more than the %llu bytes that its tensors have were written", w->path,
            (unsigned long long)w->declared_bytes);
    HS_TRY(hs_outfile_write(w->file, data, bytes, err));
    w->written_bytes += bytes;
    return HSTU_OK;
}

hstu_status hs_safetensors_begin(hs_safetensors_writer *w, hstu_error *err)
{
    w->any_order = true;
    return start(w, err);
}

hstu_status hs_safetensors_write_at(
    hs_safetensors_writer *w, size_t tensor, uint64_t at, const void *data, size_t bytes, hstu_error *err)
{
    if (!w->any_order || tensor >= w->tensors.n || at > w->tensors.item[tensor].bytes ||
        bytes > w->tensors.item[tensor].bytes - at)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: %zu bytes at %llu are no part of tensor %zu", w->path, bytes,
            (unsigned long long)at, tensor);
    for (size_t i = 0; i < tensor; i++)
        at += w->tensors.item[i].bytes;
    HS_TRY(hs_outfile_write_at(w->file, w->data_at + at, data, bytes, err));
    w->written_bytes += bytes;
    return HSTU_OK;
}

hstu_status hs_safetensors_set_metadata(hs_safetensors_writer *w, const char *key, const char *value, hstu_error *err)
{
    for (size_t i = 0; i < w->metadata.n; i++) {
        if (strcmp(w->metadata.item[i].name, key) != 0)
            continue;
        char *copy = hs_strndup(value, strlen(value));
        if (!copy)
            return hs_fail_nomem(err, strlen(value), w->path);
        hs_free(w->metadata.item[i].value);
        w->metadata.item[i].value = copy;
        return HSTU_OK;
    }
    return hs_fail(err, HSTU_EINVAL, 0, "%s: the metadata '%.120s' were not declared", w->path, key);
}

/* Moves the tensors' bytes to `to`: the last ones first when they move back. */
static hstu_status move_data(hs_safetensors_writer *w, uint64_t to, hstu_error *err)
{
    char *room = hs_alloc(MOVE_BYTES, 1);
    if (!room)
        return hs_fail_nomem(err, MOVE_BYTES, w->path);
    hstu_status status = HSTU_OK;
    for (uint64_t done = 0, n; status == HSTU_OK && done < w->declared_bytes; done += n) {
        n = w->declared_bytes - done < MOVE_BYTES ? w->declared_bytes - done : MOVE_BYTES;
        const uint64_t at = to > w->data_at ? w->declared_bytes - done - n : done;
        status = hs_outfile_read_at(w->file, w->data_at + at, room, (size_t)n, err);
        if (status == HSTU_OK)
            status = hs_outfile_write_at(w->file, to + at, room, (size_t)n, err);
    }
    hs_free(room);
    if (status == HSTU_OK && to < w->data_at)
        status = hs_outfile_truncate(w->file, to + w->declared_bytes, err);
    w->data_at = to;
    return status;
}

static hstu_status write_header(hs_safetensors_writer *w, hstu_error *err)
{
    hs_dynbuf header;
    HS_TRY(make_header(&header, w, err));
    hstu_status status = header.len == w->data_at ? HSTU_OK : move_data(w, header.len, err);
    if (status == HSTU_OK)
        status = hs_outfile_write_at(w->file, 0, header.data, header.len, err);
    hs_dynbuf_free(&header);
    return status;
}

hstu_status hs_safetensors_finish(hs_safetensors_writer *w, hstu_error *err)
{
    if (w->finished)
        return HSTU_OK;
    HS_TRY(start(w, err));
    if (w->written_bytes != w->declared_bytes)
        return hs_fail(err, HSTU_EINVAL, 0, "%s: %llu of the %llu bytes that its tensors have were written", w->path,
            (unsigned long long)w->written_bytes, (unsigned long long)w->declared_bytes);
    if (w->any_order)
        HS_TRY(write_header(w, err));
    HS_TRY(hs_outfile_finish(w->file, err));
    w->finished = true;
    return HSTU_OK;
}

hstu_status hs_safetensors_commit(hs_safetensors_writer *w, hstu_error *err)
{
    hstu_status status = hs_safetensors_finish(w, err);
    if (status == HSTU_OK) {
        status = hs_outfile_commit(w->file, err);
        w->file = NULL;
    }
    hs_safetensors_discard(w);
    return status;
}

static void free_list(list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        hs_free(l->item[i].name);
        hs_free(l->item[i].value);
    }
    hs_free(l->item);
}

void hs_safetensors_discard(hs_safetensors_writer *w)
{
    if (!w)
        return;
    hs_outfile_discard(w->file);
    free_list(&w->metadata);
    free_list(&w->tensors);
    hs_free(w->path);
    hs_free(w);
}
