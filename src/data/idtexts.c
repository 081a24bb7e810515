/* Numbering texts: a hash table with open addressing, at most half full, over texts that lie one behind the other. */
#include "data/idtexts.h"

#include "base/alloc.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "data/csv.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 1024, FIRST_TEXT_BYTES = 1 << 14 };

static const char *text_of(const hs_idtexts *texts, size_t i, size_t *len)
{
    const size_t first = i ? texts->end[i - 1] : 0;
    *len = texts->end[i] - first;
    return texts->text + first;
}

/* The slot that holds the text, or the empty one where it belongs. */
static size_t probe(const hs_idtexts *texts, const char *text, size_t len)
{
    const size_t mask = texts->n_slots - 1;
    size_t i = (size_t)XXH3_64bits(text, len) & mask;
    for (; texts->slot[i]; i = (i + 1) & mask) {
        size_t held_len = 0;
        const char *held = text_of(texts, texts->slot[i] - 1, &held_len);
        if (held_len == len && memcmp(held, text, len) == 0)
            break;
    }
    return i;
}

/* Room for one more number. */
static bool grow_numbers(hs_idtexts *texts)
{
    if (texts->n < texts->capacity)
        return true;
    const size_t n_slots = texts->n_slots ? texts->n_slots * 2 : FIRST_SLOTS;
    size_t *end = hs_realloc(texts->end, n_slots / 2, sizeof *end);
    if (!end)
        return false;
    texts->end = end;
    uint32_t *slot = hs_calloc(n_slots, sizeof *slot);
    if (!slot)
        return false;
    hs_free(texts->slot);
    texts->slot = slot;
    texts->n_slots = n_slots;
    texts->capacity = n_slots / 2;
    for (size_t i = 0; i < texts->n; i++) {
        size_t len = 0;
        const char *text = text_of(texts, i, &len);
        slot[probe(texts, text, len)] = (uint32_t)i + 1;
    }
    return true;
}

static bool grow_text(hs_idtexts *texts, size_t len)
{
    size_t capacity = texts->text_capacity ? texts->text_capacity : FIRST_TEXT_BYTES;
    if (len <= texts->text_capacity - texts->text_bytes)
        return true;
    while (capacity - texts->text_bytes < len)
        capacity += capacity / 2;
    char *text = hs_realloc(texts->text, capacity, 1);
    if (!text)
        return false;
    texts->text = text;
    texts->text_capacity = capacity;
    return true;
}

size_t hs_idtexts_bytes(const hs_idtexts *texts)
{
    return texts->text_bytes + texts->n * (sizeof *texts->end + 2 * sizeof *texts->slot);
}

hstu_status hs_idtexts_add(hs_idtexts *texts, const char *text, size_t len, size_t max_bytes, const char *what,
    int64_t *number, hstu_error *err)
{
    size_t i = 0;
    if (texts->n_slots) {
        i = probe(texts, text, len);
        if (texts->slot[i]) {
            *number = texts->slot[i];
            return HSTU_OK;
        }
    }
    if (texts->n == INT32_MAX || hs_idtexts_bytes(texts) + len > max_bytes)
        return hs_fail(err, HSTU_EUNSUP, texts->n,
            "the texts of %zu different %s take more than %zu bytes: raise the memory limit, or number them beforehand",
            texts->n, what, max_bytes);
    if (!grow_text(texts, len) || !grow_numbers(texts))
        return hs_fail_nomem(err, hs_idtexts_bytes(texts), what);
    i = probe(texts, text, len);
    memcpy(texts->text + texts->text_bytes, text, len);
    texts->text_bytes += len;
    texts->end[texts->n] = texts->text_bytes;
    texts->slot[i] = (uint32_t)++texts->n;
    *number = (int64_t)texts->n;
    return HSTU_OK;
}

static hstu_status write_rows(hs_outfile *file, const hs_idtexts *texts, const char *name, hstu_error *err)
{
    hs_dynbuf row;
    hs_dynbuf_init(&row, SIZE_MAX / 4);
    hstu_status status = hs_outfile_printf(file, err, "%s,text\n", name);
    for (size_t i = 0; status == HSTU_OK && i < texts->n; i++) {
        size_t len = 0;
        const char *text = text_of(texts, i, &len);
        row.len = 0;
        if (!hs_dynbuf_printf(&row, "%zu,", i + 1) || !hs_csv_append_field(&row, text, len) ||
            !hs_dynbuf_append(&row, "\n", 1))
            status = hs_fail_nomem(err, len, name);
        else
            status = hs_outfile_write(file, row.data, row.len, err);
    }
    hs_dynbuf_free(&row);
    return status;
}

hstu_status hs_idtexts_write(
    hs_outfile **out, const char *path, const hs_idtexts *texts, const char *name, hstu_error *err)
{
    hs_outfile *file = NULL;
    HS_TRY(hs_outfile_open(&file, path, err));
    const hstu_status status = write_rows(file, texts, name, err);
    if (status != HSTU_OK)
        hs_outfile_discard(file);
    else
        *out = file;
    return status;
}

void hs_idtexts_free(hs_idtexts *texts)
{
    hs_free(texts->text);
    hs_free(texts->end);
    hs_free(texts->slot);
    *texts = (hs_idtexts){0};
}
