/* Plain and gzip files as a sliding window of bytes. */
#include "data/bytesource.h"

#include "base/alloc.h"
#include "base/error.h"

#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the state by value: no allocation of its own */
#include <xxhash.h>
#include <zlib.h>

enum { BUFFER_BYTES = 1 << 18, HASH_BYTES = 1 << 20, GZIP_WINDOW_BITS = 15 + 16 };

struct hs_bytesource {
    hs_mapfile map;
    char *path;
    size_t read_bytes;   /* of the map: consumed as text, or by inflate */
    size_t hashed_bytes; /* <= read_bytes */
    XXH3_state_t hash;
    bool gzip, stream_open, member_done;
    z_stream stream;
    char *buffer; /* gzip only: the window is buffer[begin, end) */
    size_t begin, end, capacity, max_window_bytes;
};

/* Hashes what lies behind the reading position, in large pieces unless `all`. */
static void hash_read(hs_bytesource *source, bool all)
{
    const size_t n = source->read_bytes - source->hashed_bytes;
    if (n == 0 || (!all && n < HASH_BYTES))
        return;
    (void)XXH3_64bits_update(&source->hash, source->map.data + source->hashed_bytes, n);
    source->hashed_bytes = source->read_bytes;
}

hstu_status hs_bytesource_open(hs_bytesource **out, const char *path, size_t max_window_bytes, hstu_error *err)
{
    hs_bytesource *source = hs_alloc_aligned(1, sizeof *source); /* XXH3's state wants 64-byte alignment */
    if (!source)
        return hs_fail_nomem(err, sizeof *source, path);
    memset(source, 0, sizeof *source);
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_mapfile_open(&source->map, path, err));
    source->path = hs_strndup(path, strlen(path));
    source->gzip = source->map.size >= 2 && source->map.data[0] == 0x1f && source->map.data[1] == 0x8b;
    source->max_window_bytes = max_window_bytes;
    if (!source->path || XXH3_64bits_reset(&source->hash) == XXH_ERROR) {
        status = hs_fail_nomem(err, strlen(path), path);
        goto fail;
    }
    if (source->gzip) {
        source->capacity = BUFFER_BYTES < max_window_bytes ? BUFFER_BYTES : max_window_bytes;
        source->buffer = hs_alloc(source->capacity, 1);
        if (!source->buffer) {
            status = hs_fail_nomem(err, source->capacity, path);
            goto fail;
        }
        if (inflateInit2(&source->stream, GZIP_WINDOW_BITS) != Z_OK) {
            status = hs_fail_nomem(err, 1 << 16, path);
            goto fail;
        }
        source->stream_open = true;
    }
    *out = source;
    return HSTU_OK;
fail:
    hs_bytesource_close(source);
    return status;
}

void hs_bytesource_close(hs_bytesource *source)
{
    if (!source)
        return;
    if (source->stream_open)
        (void)inflateEnd(&source->stream);
    hs_mapfile_close(&source->map);
    hs_free(source->path);
    hs_free(source->buffer);
    hs_free(source);
}

const char *hs_bytesource_window(const hs_bytesource *source, size_t *size)
{
    if (source->gzip) {
        *size = source->end - source->begin;
        return source->buffer + source->begin;
    }
    *size = source->map.size - source->read_bytes;
    return source->map.data ? (const char *)source->map.data + source->read_bytes : "";
}

bool hs_bytesource_at_end(const hs_bytesource *source)
{
    return !source->gzip || (source->member_done && source->read_bytes == source->map.size);
}

void hs_bytesource_consume(hs_bytesource *source, size_t n)
{
    if (source->gzip) {
        source->begin += n;
    } else {
        source->read_bytes += n;
        hash_read(source, false);
    }
}

/* Room behind the window: what was consumed first, then a larger buffer. */
static hstu_status make_room(hs_bytesource *source, hstu_error *err)
{
    if (source->begin > 0) {
        memmove(source->buffer, source->buffer + source->begin, source->end - source->begin);
        source->end -= source->begin;
        source->begin = 0;
    }
    if (source->end < source->capacity)
        return HSTU_OK;
    if (source->capacity >= source->max_window_bytes)
        return hs_fail(err, HSTU_EFORMAT, source->read_bytes, "'%s': a row is longer than %zu bytes", source->path,
            source->max_window_bytes);
    const size_t half = source->max_window_bytes / 2;
    const size_t capacity = source->capacity > half ? source->max_window_bytes : source->capacity * 2;
    char *buffer = hs_realloc(source->buffer, capacity, 1);
    if (!buffer)
        return hs_fail_nomem(err, capacity, source->path);
    source->buffer = buffer;
    source->capacity = capacity;
    return HSTU_OK;
}

/* One call of inflate: from the map into the room behind the window. */
static hstu_status inflate_some(hs_bytesource *source, hstu_error *err)
{
    if (source->member_done) { /* gzip files may hold several members, one behind the other */
        if (inflateReset(&source->stream) != Z_OK)
            return hs_fail(err, HSTU_EFORMAT, source->read_bytes, "'%s': damaged gzip data", source->path);
        source->member_done = false;
    }
    const size_t left = source->map.size - source->read_bytes, room = source->capacity - source->end;
    const uInt in = left < HASH_BYTES ? (uInt)left : HASH_BYTES;
    const uInt out = room < UINT32_MAX ? (uInt)room : UINT32_MAX;
    source->stream.next_in = (Bytef *)(uintptr_t)(source->map.data + source->read_bytes);
    source->stream.avail_in = in;
    source->stream.next_out = (Bytef *)source->buffer + source->end;
    source->stream.avail_out = out;
    const int code = inflate(&source->stream, Z_NO_FLUSH);
    source->read_bytes += in - source->stream.avail_in;
    source->end += out - source->stream.avail_out;
    hash_read(source, false);
    if (code == Z_STREAM_END)
        source->member_done = true;
    else if (code == Z_MEM_ERROR)
        return hs_fail_nomem(err, 1 << 16, source->path);
    else if (code == Z_BUF_ERROR || (code == Z_OK && in == 0))
        return hs_fail(err, HSTU_EFORMAT, source->read_bytes, "'%s': the gzip data end early, at byte %zu",
            source->path, source->read_bytes);
    else if (code != Z_OK)
        return hs_fail(err, HSTU_EFORMAT, source->read_bytes, "'%s': damaged gzip data at byte %zu (%s)", source->path,
            source->read_bytes, source->stream.msg ? source->stream.msg : "unknown");
    return HSTU_OK;
}

hstu_status hs_bytesource_more(hs_bytesource *source, hstu_error *err)
{
    HS_TRY(make_room(source, err));
    while (source->end < source->capacity && !hs_bytesource_at_end(source)) {
        const size_t end = source->end, read_bytes = source->read_bytes;
        HS_TRY(inflate_some(source, err));
        if (source->end == end && source->read_bytes == read_bytes && !source->member_done)
            return hs_fail(
                err, HSTU_EFORMAT, read_bytes, "'%s': the gzip data end early, at byte %zu", source->path, read_bytes);
    }
    return HSTU_OK;
}

uint64_t hs_bytesource_done_bytes(const hs_bytesource *source)
{
    return source->read_bytes;
}

uint64_t hs_bytesource_file_bytes(const hs_bytesource *source)
{
    return source->map.size;
}

uint64_t hs_bytesource_hash(hs_bytesource *source)
{
    hash_read(source, true);
    if (source->hashed_bytes < source->map.size) {
        (void)XXH3_64bits_update(
            &source->hash, source->map.data + source->hashed_bytes, source->map.size - source->hashed_bytes);
        source->hashed_bytes = source->map.size;
    }
    return XXH3_64bits_digest(&source->hash);
}
