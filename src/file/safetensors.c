/* Reading safetensors: the header's JSON becomes views into the mapped file. The writer is stwriter.c. */
#include "file/safetensors.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000 };

static const char METADATA[] = "__metadata__";

/* A tensor's place in the data section. */
typedef struct span {
    uint64_t begin, end;
    const char *name;
} span;

typedef struct parser {
    const char *path;
    const unsigned char *data; /* the data section */
    uint64_t data_bytes;
    hs_statedict dict;
    span *span; /* [dict.n_entries] */
    hstu_error *err;
} parser;

static uint64_t header_length(const unsigned char *p)
{
    uint64_t n = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | p[i];
    return n;
}

bool hs_safetensors_recognise(const hs_mapfile *map)
{
    if (map->size < LENGTH_BYTES + 2)
        return false;
    const uint64_t n = header_length(map->data);
    return n >= 2 && n <= MAX_HEADER_BYTES && map->data[LENGTH_BYTES] == '{';
}

/* ---- One tensor ------------------------------------------------------------------------------------------------- */

static hstu_status fail_tensor(const parser *p, const char *name, const char *what)
{
    return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: tensor '%.120s' %s", p->path, name, what);
}

static hstu_status read_dtype(const parser *p, const cJSON *item, const char *name, hs_dtype *out)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    if (!cJSON_IsString(dtype))
        return fail_tensor(p, name, "has no dtype");
    for (int d = 0; d < HS_DTYPE_COUNT; d++) {
        if (strcmp(hs_dtype_file_name((hs_dtype)d), dtype->valuestring) == 0) {
            *out = (hs_dtype)d;
            return HSTU_OK;
        }
    }
    return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: tensor '%.120s' has the dtype '%.20s', which is not supported",
        p->path, name, dtype->valuestring);
}

/* A whole number of the member `key` of a tensor's description. */
static hstu_status read_number(const parser *p, const cJSON *item, const char *key, const char *name, int64_t *out)
{
    if (hs_json_int(item, out, key, p->path, NULL) == HSTU_OK)
        return HSTU_OK;
    return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: the %s of tensor '%.120s' must be whole numbers of at most 2^53",
        p->path, key, name);
}

/* The shape with row-major strides; *bytes is the tensor's size. */
static hstu_status read_shape(const parser *p, const cJSON *item, const char *name, hs_tensor *t, uint64_t *bytes)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape"), *size = NULL;
    if (!cJSON_IsArray(shape))
        return fail_tensor(p, name, "has no shape");
    cJSON_ArrayForEach(size, shape)
    {
        if (t->rank == HS_MAX_RANK)
            return fail_tensor(p, name, "has more than 8 dimensions, which is not supported");
        HS_TRY(read_number(p, size, "shape", name, &t->shape[t->rank]));
        if (t->shape[t->rank] < 0)
            return fail_tensor(p, name, "has a negative size");
        t->rank++;
    }
    bool empty = false;
    for (int d = 0; d < t->rank; d++)
        empty = empty || t->shape[d] == 0;
    int64_t n = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        t->stride[d] = n;
        if (!empty && __builtin_mul_overflow(n, t->shape[d], &n))
            return fail_tensor(p, name, "has more elements than fit 63 bits");
    }
    const int64_t element_bytes = (int64_t)hs_dtype_bytes(t->dtype);
    if (empty)
        n = 0;
    else if (n > INT64_MAX / element_bytes)
        return fail_tensor(p, name, "has more bytes than fit 63 bits");
    *bytes = (uint64_t)(n * element_bytes);
    return HSTU_OK;
}

static hstu_status read_offsets(const parser *p, const cJSON *item, const char *name, uint64_t bytes, span *out)
{
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    int64_t begin = 0, end = 0;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
        return fail_tensor(p, name, "has no data_offsets of two numbers");
    HS_TRY(read_number(p, offsets->child, "data_offsets", name, &begin));
    HS_TRY(read_number(p, offsets->child->next, "data_offsets", name, &end));
    if (begin < 0 || end < begin || (uint64_t)end > p->data_bytes)
        return hs_fail(p->err, HSTU_EFORMAT, 0,
            "%s: tensor '%.120s' has the offsets %lld to %lld, but the data has %llu bytes", p->path, name,
            (long long)begin, (long long)end, (unsigned long long)p->data_bytes);
    if ((uint64_t)(end - begin) != bytes)
        return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: tensor '%.120s' has %lld bytes, its shape and dtype need %llu",
            p->path, name, (long long)(end - begin), (unsigned long long)bytes);
    *out = (span){.begin = (uint64_t)begin, .end = (uint64_t)end, .name = name};
    return HSTU_OK;
}

static hstu_status read_tensor(parser *p, const cJSON *item)
{
    hs_entry *entry = &p->dict.entry[p->dict.n_entries];
    span *place = &p->span[p->dict.n_entries];
    const char *name = hs_arena_strndup(&p->dict.arena, item->string, strlen(item->string));
    if (!name)
        return hs_fail_nomem(p->err, strlen(item->string), p->path);
    if (!cJSON_IsObject(item))
        return fail_tensor(p, name, "is not described by an object");
    uint64_t bytes = 0;
    *entry = (hs_entry){.group = "", .name = name};
    HS_TRY(read_dtype(p, item, name, &entry->tensor.dtype));
    HS_TRY(read_shape(p, item, name, &entry->tensor, &bytes));
    HS_TRY(read_offsets(p, item, name, bytes, place));
    if (bytes)
        entry->tensor.data = p->data + place->begin;
    p->dict.n_entries++;
    return HSTU_OK;
}

/* ---- The header ------------------------------------------------------------------------------------------------- */

static hstu_status read_metadata(parser *p, const cJSON *metadata)
{
    if (!metadata)
        return HSTU_OK;
    if (!cJSON_IsObject(metadata))
        return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: %s must be an object", p->path, METADATA);
    const cJSON *item = NULL;
    p->dict.metadata = hs_arena_alloc(&p->dict.arena, (size_t)cJSON_GetArraySize(metadata), sizeof *p->dict.metadata);
    if (!p->dict.metadata)
        return hs_fail_nomem(p->err, sizeof *p->dict.metadata, p->path);
    cJSON_ArrayForEach(item, metadata)
    {
        if (!cJSON_IsString(item))
            return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: the value of '%.120s' in %s must be a string", p->path,
                item->string, METADATA);
        const hs_metadata pair = {.key = hs_arena_strndup(&p->dict.arena, item->string, strlen(item->string)),
            .value = hs_arena_strndup(&p->dict.arena, item->valuestring, strlen(item->valuestring))};
        if (!pair.key || !pair.value)
            return hs_fail_nomem(p->err, strlen(item->valuestring), p->path);
        p->dict.metadata[p->dict.n_metadata++] = pair;
    }
    return HSTU_OK;
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Tensors must follow one another from the first to the last byte. */
static hstu_status check_spans(parser *p)
{
    uint64_t at = 0;
    qsort(p->span, p->dict.n_entries, sizeof *p->span, compare_spans);
    for (size_t i = 0; i < p->dict.n_entries; i++) {
        if (p->span[i].begin != at)
            return hs_fail(p->err, HSTU_EFORMAT, 0,
                "%s: tensor '%.120s' begins at byte %llu of the data, expected %llu", p->path, p->span[i].name,
                (unsigned long long)p->span[i].begin, (unsigned long long)at);
        at = p->span[i].end;
    }
    if (at != p->data_bytes)
        return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: the data has %llu bytes, its tensors %llu", p->path,
            (unsigned long long)p->data_bytes, (unsigned long long)at);
    return HSTU_OK;
}

static hstu_status read_header(parser *p, const cJSON *root)
{
    if (!cJSON_IsObject(root))
        return hs_fail(p->err, HSTU_EFORMAT, 0, "%s: the safetensors header must be a JSON object", p->path);
    const cJSON *item = NULL;
    const size_t n = (size_t)cJSON_GetArraySize(root);
    p->dict.path = hs_arena_strndup(&p->dict.arena, p->path, strlen(p->path));
    p->dict.entry = hs_arena_alloc(&p->dict.arena, n, sizeof *p->dict.entry);
    p->span = hs_alloc(n, sizeof *p->span);
    if (!p->dict.path || !p->dict.entry || !p->span)
        return hs_fail_nomem(p->err, n * sizeof *p->dict.entry, p->path);
    HS_TRY(read_metadata(p, cJSON_GetObjectItemCaseSensitive(root, METADATA)));
    cJSON_ArrayForEach(item, root)
    {
        if (strcmp(item->string, METADATA) != 0)
            HS_TRY(read_tensor(p, item));
    }
    return check_spans(p);
}

hstu_status hs_safetensors_read(hs_statedict *out, hs_mapfile *map, const char *path, hstu_error *err)
{
    if (map->size < LENGTH_BYTES)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s: %zu bytes are too few for a safetensors file", path, map->size);
    const uint64_t n = header_length(map->data);
    if (n > MAX_HEADER_BYTES || n > map->size - LENGTH_BYTES)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "%s: the safetensors header's length is %llu bytes, past the file's end or the limit of %d", path,
            (unsigned long long)n, MAX_HEADER_BYTES);
    parser p = {
        .path = path, .data = map->data + LENGTH_BYTES + n, .data_bytes = map->size - LENGTH_BYTES - n, .err = err};
    /* The shortest member of an object, "":1, has 5 bytes and costs an entry or two strings: below 64 bytes each. */
    hs_arena_init(&p.dict.arena, strlen(path) + 1024 + 64 * (size_t)n);
    cJSON *root = NULL;
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_json_parse(&root, (const char *)map->data + LENGTH_BYTES, (size_t)n, path, err));
    HS_TRY_GOTO(read_header(&p, root));
    cJSON_Delete(root);
    hs_free(p.span);
    p.dict.format = "safetensors";
    p.dict.map = *map;
    *map = (hs_mapfile){0};
    *out = p.dict;
    return HSTU_OK;
fail:
    cJSON_Delete(root);
    hs_free(p.span);
    hs_statedict_close(&p.dict);
    return status;
}

hstu_status hs_safetensors_open(hs_statedict *out, const char *path, hstu_error *err)
{
    hs_mapfile map = {0};
    HS_TRY(hs_mapfile_open(&map, path, err));
    const hstu_status status = hs_safetensors_read(out, &map, path, err);
    hs_mapfile_close(&map); /* empty when the dictionary has it */
    return status;
}
