/* Plain and gzip files as a sliding window of bytes. */
#include "data/bytesource.h"

#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the state by value: no allocation of its own */
#include <xxhash.h>
#include <zlib.h>

enum { BUFFER_BYTES = 1 << 18, GZIP_WINDOW_BITS = 15 + 16 };

struct hs_bytesource {
    int fd; /* -1: memory */
    char *path;
    uint64_t file_bytes, read_bytes; /* the file's size when it was opened; bytes read of it */
    XXH3_state_t hash;               /* of the bytes read */
    bool hashed, gzip, stream_open, member_done;
    z_stream stream;
    char *packed; /* gzip only: BUFFER_BYTES, of which the stream has avail_in left */
    char *buffer; /* the window is text[begin, end) */
    const char *text;
    size_t begin, end, capacity, max_window_bytes;
};

/* ---- The file --------------------------------------------------------------------------------------------------- */

static hstu_status open_file(hs_bytesource *source, hstu_error *err)
{
    /* O_NONBLOCK: opening a pipe without a writer must not hang; it has no meaning for regular files. */
    source->fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->fd < 0)
        return hs_fail_errno(err, errno, "cannot open '%s'", source->path);
    struct stat st;
    if (fstat(source->fd, &st) != 0)
        return hs_fail_errno(err, errno, "cannot examine '%s'", source->path);
    if (!S_ISREG(st.st_mode))
        return hs_fail(err, HSTU_EINVAL, 0, "'%s' is not a regular file", source->path);
    source->file_bytes = (uint64_t)st.st_size;
    unsigned char magic[2];
    source->gzip =
        pread(source->fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic && magic[0] == 0x1f && magic[1] == 0x8b;
    (void)posix_fadvise(source->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return HSTU_OK;
}

/* The file's next bytes, at most up to the size that it had when it was opened; *n is not 0. */
static hstu_status read_file(hs_bytesource *source, char *to, size_t room, size_t *n, hstu_error *err)
{
    const uint64_t left = source->file_bytes - source->read_bytes;
    ssize_t got;
    do
        got = read(source->fd, to, room < left ? room : (size_t)left);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return hs_fail_errno(err, errno, "cannot read '%s'", source->path);
    if (got == 0)
        return hs_fail(err, HSTU_EIO, source->read_bytes, "'%s' became shorter while it was read", source->path);
    if (source->hashed)
        (void)XXH3_64bits_update(&source->hash, to, (size_t)got);
    source->read_bytes += (uint64_t)got;
    *n = (size_t)got;
    return HSTU_OK;
}

/* ---- gzip ------------------------------------------------------------------------------------------------------- */

static hstu_status fail_early_end(const hs_bytesource *source, hstu_error *err)
{
    const uint64_t at = source->read_bytes - source->stream.avail_in;
    return hs_fail(
        err, HSTU_EFORMAT, at, "'%s': the gzip data end early, at byte %llu", source->path, (unsigned long long)at);
}

/* One call of inflate into `to`; *n may be 0 where only a member's end was read. */
static hstu_status inflate_some(hs_bytesource *source, char *to, size_t room, size_t *n, hstu_error *err)
{
    z_stream *stream = &source->stream;
    if (stream->avail_in == 0 && source->read_bytes < source->file_bytes) {
        size_t got = 0;
        HS_TRY(read_file(source, source->packed, BUFFER_BYTES, &got, err));
        stream->next_in = (Bytef *)source->packed;
        stream->avail_in = (uInt)got;
    }
    if (source->member_done) { /* gzip files may hold several members, one behind the other */
        if (inflateReset(stream) != Z_OK)
            return hs_fail(err, HSTU_EFORMAT, source->read_bytes, "'%s': damaged gzip data", source->path);
        source->member_done = false;
    }
    const uInt in = stream->avail_in, out = room < UINT32_MAX ? (uInt)room : UINT32_MAX;
    stream->next_out = (Bytef *)to;
    stream->avail_out = out;
    const int code = inflate(stream, Z_NO_FLUSH);
    *n = out - stream->avail_out;
    if (code == Z_STREAM_END)
        source->member_done = true;
    else if (code == Z_MEM_ERROR)
        return hs_fail_nomem(err, 1 << 16, source->path);
    else if (code == Z_BUF_ERROR || (code == Z_OK && in == 0 && *n == 0))
        return fail_early_end(source, err);
    else if (code != Z_OK)
        return hs_fail(err, HSTU_EFORMAT, source->read_bytes - stream->avail_in,
            "'%s': damaged gzip data at byte %llu (%s)", source->path,
            (unsigned long long)(source->read_bytes - stream->avail_in), stream->msg ? stream->msg : "unknown");
    return HSTU_OK;
}

/* ---- The window ------------------------------------------------------------------------------------------------- */

static hstu_status start_gzip(hs_bytesource *source, hstu_error *err)
{
    source->packed = hs_alloc(BUFFER_BYTES, 1);
    if (!source->packed || inflateInit2(&source->stream, GZIP_WINDOW_BITS) != Z_OK)
        return hs_fail_nomem(err, BUFFER_BYTES, source->path);
    source->stream_open = true;
    return HSTU_OK;
}

static hs_bytesource *make_source(const char *path)
{
    hs_bytesource *source = hs_alloc_aligned(1, sizeof *source); /* XXH3's state wants 64-byte alignment */
    if (!source)
        return NULL;
    memset(source, 0, sizeof *source);
    source->fd = -1;
    source->path = hs_strndup(path, strlen(path));
    if (!source->path) {
        hs_free(source);
        return NULL;
    }
    return source;
}

hstu_status hs_bytesource_open(hs_bytesource **out, const char *path, size_t max_window_bytes, hstu_error *err)
{
    hs_bytesource *source = make_source(path);
    if (!source)
        return hs_fail_nomem(err, sizeof *source, path);
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(open_file(source, err));
    source->hashed = XXH3_64bits_reset(&source->hash) == XXH_OK;
    source->max_window_bytes = max_window_bytes;
    source->capacity = BUFFER_BYTES < max_window_bytes ? BUFFER_BYTES : max_window_bytes;
    source->buffer = hs_alloc(source->capacity, 1);
    source->text = source->buffer;
    if (!source->buffer) {
        status = hs_fail_nomem(err, source->capacity, path);
        goto fail;
    }
    if (source->gzip)
        HS_TRY_GOTO(start_gzip(source, err));
    *out = source;
    return HSTU_OK;
fail:
    hs_bytesource_close(source);
    return status;
}

hstu_status hs_bytesource_open_memory(hs_bytesource **out, const char *text, size_t bytes, hstu_error *err)
{
    hs_bytesource *source = make_source("memory");
    if (!source)
        return hs_fail_nomem(err, sizeof *source, "a reader of rows");
    source->text = text;
    source->end = bytes;
    *out = source;
    return HSTU_OK;
}

void hs_bytesource_close(hs_bytesource *source)
{
    if (!source)
        return;
    if (source->stream_open)
        (void)inflateEnd(&source->stream);
    if (source->fd >= 0)
        (void)close(source->fd);
    hs_free(source->path);
    hs_free(source->packed);
    hs_free(source->buffer);
    hs_free(source);
}

void hs_bytesource_no_hash(hs_bytesource *source)
{
    source->hashed = false;
}

const char *hs_bytesource_window(const hs_bytesource *source, size_t *size)
{
    *size = source->end - source->begin;
    return source->text + source->begin;
}

/* No byte follows those that the window holds. */
static bool all_read(const hs_bytesource *source)
{
    if (source->gzip)
        return source->member_done && source->stream.avail_in == 0 && source->read_bytes == source->file_bytes;
    return source->read_bytes == source->file_bytes;
}

bool hs_bytesource_at_end(const hs_bytesource *source)
{
    return all_read(source);
}

void hs_bytesource_consume(hs_bytesource *source, size_t n)
{
    source->begin += n;
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
    source->text = buffer;
    source->capacity = capacity;
    return HSTU_OK;
}

/* Fills the room as far as the file goes. */
static hstu_status fill(hs_bytesource *source, char *to, size_t room, size_t *n, hstu_error *err)
{
    *n = 0;
    while (*n < room && !all_read(source)) {
        size_t got = 0;
        if (source->gzip)
            HS_TRY(inflate_some(source, to + *n, room - *n, &got, err));
        else
            HS_TRY(read_file(source, to + *n, room - *n, &got, err));
        *n += got;
    }
    return HSTU_OK;
}

hstu_status hs_bytesource_more(hs_bytesource *source, hstu_error *err)
{
    size_t n = 0;
    HS_TRY(make_room(source, err));
    HS_TRY(fill(source, source->buffer + source->end, source->capacity - source->end, &n, err));
    source->end += n;
    return HSTU_OK;
}

hstu_status hs_bytesource_read(hs_bytesource *source, char *to, size_t room, size_t *n, hstu_error *err)
{
    const size_t window = source->end - source->begin, first = window < room ? window : room;
    size_t more = 0;
    if (first)
        memcpy(to, source->text + source->begin, first);
    source->begin += first;
    HS_TRY(fill(source, to + first, room - first, &more, err));
    *n = first + more;
    return HSTU_OK;
}

uint64_t hs_bytesource_done_bytes(const hs_bytesource *source)
{
    return source->read_bytes;
}

uint64_t hs_bytesource_file_bytes(const hs_bytesource *source)
{
    return source->file_bytes;
}

uint64_t hs_bytesource_hash(hs_bytesource *source)
{
    size_t n = 0;
    char *const room = source->gzip ? source->packed : source->buffer;
    const size_t bytes = source->gzip ? BUFFER_BYTES : source->capacity;
    source->begin = source->end; /* what is left of the window makes room */
    while (source->hashed && source->read_bytes < source->file_bytes &&
           read_file(source, room, bytes, &n, NULL) == HSTU_OK)
        source->stream.avail_in = 0;
    return XXH3_64bits_digest(&source->hash);
}
