/* Values of a pickle and the memory they live in: all of it bounded by the bytes read so far. */
#include "base/alloc.h"
#include "ckpt/pickle_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SLAB_BYTES = 4096, ALIGNMENT = 16, BYTES_PER_BYTE = 64 };

static const size_t BASE_BYTES = (size_t)16 << 20, MAX_BYTES = (size_t)2 << 30;

hstu_status hs_pkl_fail(const hs_pkl_reader *r, hstu_status code, const char *fmt, ...)
{
    char sentence[384];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(sentence, sizeof sentence, fmt, args) < 0)
        sentence[0] = '\0';
    va_end(args);
    return hs_fail(r->err, code, r->op_at, "%s: pickle byte %zu: %s", r->path, r->op_at, sentence);
}

hstu_status hs_pkl_fail_memory(const hs_pkl_reader *r)
{
    if (r->out_of_memory)
        return hs_fail_nomem(r->err, SLAB_BYTES, r->path);
    return hs_pkl_fail(r, HSTU_EUNSUP, "its objects need more memory than a pickle of this length may use (%zu bytes)",
        r->out->arena.max_bytes);
}

static void *take(hs_pkl_reader *r, size_t bytes)
{
    const size_t allowed =
        r->at > (MAX_BYTES - BASE_BYTES) / BYTES_PER_BYTE ? MAX_BYTES : BASE_BYTES + BYTES_PER_BYTE * r->at;
    r->out->arena.max_bytes = allowed;
    void *p = hs_arena_alloc(&r->out->arena, bytes, 1);
    if (!p)
        r->out_of_memory = allowed - r->out->arena.used_bytes > bytes + 64; /* it rounds up to 64 */
    return p;
}

void *hs_pkl_alloc(hs_pkl_reader *r, size_t n, size_t size)
{
    size_t bytes = 0;
    if (!hs_mul_size(n, size, &bytes) || bytes > MAX_BYTES)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes > SLAB_BYTES / 4)
        return take(r, bytes);
    if (bytes > r->slab_bytes) {
        char *slab = take(r, SLAB_BYTES);
        if (!slab)
            return NULL;
        r->slab = slab;
        r->slab_bytes = SLAB_BYTES;
    }
    void *p = r->slab;
    r->slab += bytes;
    r->slab_bytes -= bytes;
    return p;
}

hs_pkl_object *hs_pkl_new(hs_pkl_reader *r, hs_pkl_kind kind)
{
    hs_pkl_object *object = hs_pkl_alloc(r, 1, sizeof *object);
    if (object) {
        memset(object, 0, sizeof *object);
        object->kind = kind;
    }
    return object;
}

hstu_status hs_pkl_extend(hs_pkl_reader *r, hs_pkl_object *seq, hs_pkl_object *const *item, size_t n)
{
    if (n == 0)
        return HSTU_OK;
    const size_t need = seq->as.seq.n + n; /* both are bounded by memory in use */
    if (need > seq->as.seq.cap) {
        const size_t cap = seq->as.seq.n && need < 2 * seq->as.seq.cap ? 2 * seq->as.seq.cap : need;
        hs_pkl_object **grown = hs_pkl_alloc(r, cap, sizeof *grown);
        if (!grown)
            return hs_pkl_fail_memory(r);
        if (seq->as.seq.n)
            memcpy(grown, seq->as.seq.item, seq->as.seq.n * sizeof *grown);
        seq->as.seq.item = grown;
        seq->as.seq.cap = cap;
    }
    memcpy(seq->as.seq.item + seq->as.seq.n, item, n * sizeof *item);
    seq->as.seq.n = need;
    return HSTU_OK;
}

hstu_status hs_pkl_reserve(const hs_pkl_reader *r, void **array, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return HSTU_OK;
    size_t grown_cap = 2 * *cap + 64;
    if (grown_cap < n)
        grown_cap = n;
    if (grown_cap > MAX_BYTES / size)
        return hs_pkl_fail(r, HSTU_EUNSUP, "it needs a stack or memo of more than %zu bytes", MAX_BYTES);
    void *grown = hs_realloc(*array, grown_cap, size);
    if (!grown)
        return hs_fail_nomem(r->err, grown_cap * size, r->path);
    memset((char *)grown + *cap * size, 0, (grown_cap - *cap) * size);
    *array = grown;
    *cap = grown_cap;
    return HSTU_OK;
}

/* The length of the valid sequence (RFC 3629) at text, or 0. */
static size_t utf8_length(const unsigned char *text, size_t bytes)
{
    const unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    const size_t n = first >= 0xc2 && first <= 0xdf   ? 2
                     : (first & 0xf0) == 0xe0         ? 3
                     : first >= 0xf0 && first <= 0xf4 ? 4
                                                      : 0;
    if (n == 0 || n > bytes)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    const unsigned char second = text[1];
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
        (first == 0xf4 && second > 0x8f))
        return 0;
    return n;
}

bool hs_pkl_utf8(const char *text, size_t bytes)
{
    while (bytes) {
        const size_t n = utf8_length((const unsigned char *)text, bytes);
        if (n == 0)
            return false;
        text += n;
        bytes -= n;
    }
    return true;
}

static size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static bool parse_hex(const char *text, size_t n, uint32_t *out)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = text[i];
        uint32_t digit = 0;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* The character behind a backslash of a byte string's repr; *used counts the bytes behind the backslash. */
static bool unquote_escape(const char *text, size_t bytes, char *out, size_t *used)
{
    static const char letters[] = "\\\\''\"\"n\nr\rt\t";
    uint32_t value = 0;
    if (bytes >= 3 && text[0] == 'x' && parse_hex(text + 1, 2, &value)) {
        *out = (char)value;
        *used = 3;
        return true;
    }
    for (size_t i = 0; bytes && i + 1 < sizeof letters; i += 2) {
        if (letters[i] == text[0]) {
            *out = letters[i + 1];
            *used = 1;
            return true;
        }
    }
    return false;
}

hstu_status hs_pkl_unquote(hs_pkl_reader *r, const char *line, size_t bytes, hs_pkl_object **out)
{
    if (bytes < 2 || (line[0] != '\'' && line[0] != '"') || line[bytes - 1] != line[0])
        return hs_pkl_fail(r, HSTU_EFORMAT, "a STRING must stand in quotation marks");
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_BYTES);
    char *text = hs_pkl_alloc(r, bytes, 1);
    if (!object || !text)
        return hs_pkl_fail_memory(r);
    size_t n = 0;
    for (size_t i = 1; i < bytes - 1; i++) {
        size_t used = 0;
        text[n] = line[i];
        if (line[i] == '\\' && !unquote_escape(line + i + 1, bytes - 2 - i, &text[n], &used))
            return hs_pkl_fail(r, HSTU_EFORMAT, "a STRING holds an escape that is not known");
        i += used;
        n++;
    }
    object->kind = hs_pkl_utf8(text, n) ? HS_PKL_STR : HS_PKL_BYTES;
    object->as.string.text = text;
    object->as.string.bytes = n;
    *out = object;
    return HSTU_OK;
}

hstu_status hs_pkl_unescape(hs_pkl_reader *r, const char *line, size_t bytes, hs_pkl_object **out)
{
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_STR);
    char *text = hs_pkl_alloc(r, bytes, 2); /* a Latin-1 byte becomes at most two */
    if (!object || !text)
        return hs_pkl_fail_memory(r);
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint32_t c = (unsigned char)line[i];
        if (c == '\\' && i + 1 < bytes && (line[i + 1] == 'u' || line[i + 1] == 'U')) {
            const size_t digits = line[i + 1] == 'u' ? 4 : 8;
            if (bytes - i - 2 < digits || !parse_hex(line + i + 2, digits, &c) || c > 0x10ffff ||
                (c >= 0xd800 && c <= 0xdfff))
                return hs_pkl_fail(r, HSTU_EFORMAT, "a UNICODE string holds a malformed escape");
            i += 1 + digits;
        }
        n += utf8_put(text + n, c);
    }
    object->as.string.text = text;
    object->as.string.bytes = n;
    *out = object;
    return HSTU_OK;
}

const hs_pkl_object *hs_pkl_get(const hs_pkl_object *dict, const char *key)
{
    const size_t bytes = strlen(key);
    if (dict->kind != HS_PKL_DICT)
        return NULL;
    for (size_t i = dict->as.seq.n; i >= 2; i -= 2) {
        const hs_pkl_object *found = dict->as.seq.item[i - 2];
        if (found->kind == HS_PKL_STR && found->as.string.bytes == bytes &&
            memcmp(found->as.string.text, key, bytes) == 0)
            return dict->as.seq.item[i - 1];
    }
    return NULL;
}

void hs_pickle_close(hs_pickle *pickle)
{
    hs_arena_free(&pickle->arena);
    hs_free(pickle->storage);
    *pickle = (hs_pickle){0};
}
