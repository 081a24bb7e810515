/* The archive's bytes, as libarchive asks for them. gzip is undone here: libarchive does not look at gzip's checksum. */
#include "archive/unpack_int.h"
#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { IN_BYTES = 1 << 18, OUT_BYTES = 1 << 20, GZIP_WINDOW_BITS = 15 + 16, TAR_BLOCK = 512, TAR_MAGIC_AT = 257 };

static const uint64_t ratio_counts_from = UINT64_C(64) << 20;

struct hs_unpack_source {
    const hstu_unpack_options *options;
    hs_unpack_form form;
    int fd;
    uint64_t file_bytes;
    uint64_t at_bytes;   /* the next byte to read */
    uint64_t read_bytes; /* read so far, for progress */
    uint64_t out_bytes;  /* undone from gzip */
    uint64_t zeros;      /* bytes 0 at the end of what was given */
    bool stream_open, member_done;
    z_stream stream;
    unsigned char *in, *out;
    hstu_status status; /* of a callback that failed */
    hstu_error error;
};

hs_unpack_form hs_unpack_source_form(const hs_unpack_source *source)
{
    return source->form;
}

/* Reads up to n bytes at at_bytes; 0 only at the file's end. */
static hstu_status read_some(hs_unpack_source *source, size_t n, size_t *got, hstu_error *err)
{
    const hstu_progress *progress = &source->options->progress;
    if (progress->cancel && *progress->cancel)
        return hs_fail(err, HSTU_ECANCELLED, 0, "unpacking '%s' was interrupted", source->options->archive);
    ssize_t bytes;
    do
        bytes = pread(source->fd, source->in, n < IN_BYTES ? n : IN_BYTES, (off_t)source->at_bytes);
    while (bytes < 0 && errno == EINTR);
    if (bytes < 0)
        return hs_fail_errno(err, errno, "cannot read '%s'", source->options->archive);
    source->at_bytes += (uint64_t)bytes;
    source->read_bytes += (uint64_t)bytes;
    *got = (size_t)bytes;
    if (progress->step)
        progress->step(progress->ctx, "unpacking",
            source->read_bytes < source->file_bytes ? source->read_bytes : source->file_bytes, source->file_bytes);
    return HSTU_OK;
}

hstu_status hs_unpack_source_check_total(const hs_unpack_source *source, uint64_t bytes, hstu_error *err)
{
    const hstu_unpack_options *o = source->options;
    if (bytes > o->max_total_bytes)
        return hs_fail(err, HSTU_EUNSUP, 0, "'%s' unpacks to more than %" PRIu64 " bytes, the most that is allowed",
            o->archive, o->max_total_bytes);
    if (bytes > ratio_counts_from && bytes / o->max_ratio >= source->file_bytes)
        return hs_fail(err, HSTU_EUNSUP, 0,
            "'%s' unpacks to more than %" PRIu64 " times its own %" PRIu64 " bytes, as no real data do", o->archive,
            o->max_ratio, source->file_bytes);
    return HSTU_OK;
}

/* More packed bytes where none are left; HSTU_EFORMAT at the end of the file. */
static hstu_status fill_in(hs_unpack_source *source, hstu_error *err)
{
    size_t got = 0;
    if (source->stream.avail_in)
        return HSTU_OK;
    HS_TRY(read_some(source, IN_BYTES, &got, err));
    if (!got)
        return hs_fail(err, HSTU_EFORMAT, source->at_bytes,
            "'%s' is cut short: its gzip data end early, at byte %" PRIu64, source->options->archive, source->at_bytes);
    source->stream.next_in = source->in;
    source->stream.avail_in = (uInt)got;
    return HSTU_OK;
}

static bool gzip_at_end(const hs_unpack_source *source)
{
    return source->member_done && !source->stream.avail_in && source->at_bytes >= source->file_bytes;
}

static hstu_status inflate_once(hs_unpack_source *source, hstu_error *err)
{
    HS_TRY(fill_in(source, err));
    if (source->member_done) { /* several members, one behind the other, are one file */
        (void)inflateReset(&source->stream);
        source->member_done = false;
    }
    const int code = inflate(&source->stream, Z_NO_FLUSH);
    source->member_done = code == Z_STREAM_END;
    if (code == Z_MEM_ERROR)
        return hs_fail_nomem(err, 1 << 16, source->options->archive);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
        const uint64_t at = source->at_bytes - source->stream.avail_in;
        return hs_fail(err, HSTU_EFORMAT, at, "'%s' is damaged: its gzip data are wrong before byte %" PRIu64 " (%s)",
            source->options->archive, at, source->stream.msg ? source->stream.msg : "no reason is given");
    }
    return HSTU_OK;
}

static hstu_status read_gzip(hs_unpack_source *source, size_t *got, hstu_error *err)
{
    source->stream.next_out = source->out;
    source->stream.avail_out = OUT_BYTES;
    while (source->stream.avail_out && !gzip_at_end(source))
        HS_TRY(inflate_once(source, err));
    *got = OUT_BYTES - source->stream.avail_out;
    source->out_bytes += *got;
    return hs_unpack_source_check_total(source, source->out_bytes, err);
}

static void count_zeros(hs_unpack_source *source, const unsigned char *data, size_t n)
{
    size_t zeros = 0;
    while (zeros < n && data[n - 1 - zeros] == 0)
        zeros++;
    source->zeros = zeros == n ? source->zeros + n : zeros;
}

/* The next bytes for libarchive, none at the end. They live until the next call. */
static hstu_status next_bytes(hs_unpack_source *source, const unsigned char **data, size_t *n, hstu_error *err)
{
    if (source->form == HS_UNPACK_TAR_GZ)
        HS_TRY(read_gzip(source, n, err));
    else
        HS_TRY(read_some(source, IN_BYTES, n, err));
    *data = source->form == HS_UNPACK_TAR_GZ ? source->out : source->in;
    count_zeros(source, *data, *n);
    return HSTU_OK;
}

static ssize_t on_read(la_archive *archive, void *ctx, const void **buffer)
{
    hs_unpack_source *source = ctx;
    const unsigned char *data = NULL;
    size_t n = 0;
    (void)archive;
    if (source->status == HSTU_OK)
        source->status = next_bytes(source, &data, &n, &source->error);
    *buffer = data;
    return source->status == HSTU_OK ? (ssize_t)n : LA_FATAL;
}

/* The position is kept inside the file, whose size was taken once. */
static int64_t on_skip(la_archive *archive, void *ctx, int64_t bytes)
{
    hs_unpack_source *source = ctx;
    (void)archive;
    if (bytes <= 0 || source->at_bytes >= source->file_bytes)
        return 0;
    const uint64_t left = source->file_bytes - source->at_bytes, n = (uint64_t)bytes < left ? (uint64_t)bytes : left;
    source->at_bytes += n;
    source->zeros = 0;
    return (int64_t)n;
}

static int64_t on_seek(la_archive *archive, void *ctx, int64_t offset, int whence)
{
    hs_unpack_source *source = ctx;
    const uint64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? source->at_bytes : source->file_bytes;
    (void)archive;
    if (offset < 0 ? (uint64_t) - (offset + 1) >= base : (uint64_t)offset > source->file_bytes - base)
        return LA_FATAL;
    source->at_bytes = offset < 0 ? base - (uint64_t) - (offset + 1) - 1 : base + (uint64_t)offset;
    return (int64_t)source->at_bytes;
}

bool hs_unpack_source_attach(hs_unpack_source *source, const hs_la *la, la_archive *archive)
{
    const bool zip = source->form == HS_UNPACK_ZIP;
    bool good =
        zip ? la->read_support_format_zip_seekable(archive) == LA_OK : la->read_support_format_tar(archive) == LA_OK;
    good = good && la->read_set_read_callback(archive, on_read) == LA_OK &&
           la->read_set_callback_data(archive, source) == LA_OK;
    if (source->form != HS_UNPACK_TAR_GZ)
        good = good && la->read_set_skip_callback(archive, on_skip) == LA_OK;
    if (zip)
        good = good && la->read_set_seek_callback(archive, on_seek) == LA_OK;
    return good;
}

hstu_status hs_unpack_source_failure(const hs_unpack_source *source, hstu_error *err)
{
    if (source->status != HSTU_OK && err)
        *err = source->error;
    return source->status;
}

hstu_status hs_unpack_source_finish(hs_unpack_source *source, hstu_error *err)
{
    if (source->form == HS_UNPACK_ZIP)
        return HSTU_OK;
    const unsigned char *data = NULL;
    size_t n = 1;
    while (n)
        HS_TRY(next_bytes(source, &data, &n, err));
    /* An archive that was cut between two entries has no other sign of it. */
    if (source->zeros < (uint64_t)2 * TAR_BLOCK)
        return hs_fail(err, HSTU_EFORMAT, source->file_bytes,
            "'%s' is cut short: the two blocks of zeros that end an archive are missing", source->options->archive);
    return HSTU_OK;
}

hstu_status hs_unpack_source_rewind(hs_unpack_source *source, hstu_error *err)
{
    source->at_bytes = source->read_bytes = source->out_bytes = source->zeros = 0;
    source->member_done = false;
    if (source->form != HS_UNPACK_TAR_GZ)
        return HSTU_OK;
    if (source->stream_open)
        (void)inflateEnd(&source->stream);
    source->stream = (z_stream){0};
    source->stream_open = inflateInit2(&source->stream, GZIP_WINDOW_BITS) == Z_OK;
    return source->stream_open ? HSTU_OK : hs_fail_nomem(err, 1 << 16, source->options->archive);
}

static hstu_status recognise(hs_unpack_source *source, hstu_error *err)
{
    const char *path = source->options->archive;
    size_t n = 0;
    HS_TRY(read_some(source, TAR_BLOCK, &n, err));
    const unsigned char *head = source->in;
    if (n == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' is no archive: it is empty", path);
    if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
        source->form = HS_UNPACK_TAR_GZ;
    else if (n >= 4 && head[0] == 'P' && head[1] == 'K' && head[2] < 9 && head[3] == head[2] + 1)
        source->form = HS_UNPACK_ZIP;
    else if (n == TAR_BLOCK && memcmp(head + TAR_MAGIC_AT, "ustar", 5) == 0)
        source->form = HS_UNPACK_TAR;
    else
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' is no archive: it begins as neither .tar.gz, .tar nor .zip", path);
    return HSTU_OK;
}

static hstu_status open_file(hs_unpack_source *source, hstu_error *err)
{
    const char *path = source->options->archive;
    struct stat st;
    source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us up */
    if (source->fd < 0 || fstat(source->fd, &st) != 0)
        return hs_fail_errno(err, errno, "cannot open the archive '%s'", path);
    if (!S_ISREG(st.st_mode))
        return hs_fail(err, HSTU_EINVAL, 0, "cannot unpack '%s': it is no regular file", path);
    source->file_bytes = (uint64_t)st.st_size;
    return recognise(source, err);
}

hstu_status hs_unpack_source_open(hs_unpack_source **out, const hstu_unpack_options *options, hstu_error *err)
{
    hs_unpack_source *source = hs_calloc(1, sizeof *source);
    if (!source)
        return hs_fail_nomem(err, sizeof *source, options->archive);
    *source = (hs_unpack_source){.options = options, .fd = -1};
    hstu_status status = HSTU_OK;
    source->in = hs_alloc(IN_BYTES, 1);
    source->out = hs_alloc(OUT_BYTES, 1);
    if (!source->in || !source->out) {
        status = hs_fail_nomem(err, IN_BYTES + OUT_BYTES, options->archive);
        goto fail;
    }
    HS_TRY_GOTO(open_file(source, err));
    HS_TRY_GOTO(hs_unpack_source_rewind(source, err));
    *out = source;
    return HSTU_OK;
fail:
    hs_unpack_source_close(source);
    return status;
}

void hs_unpack_source_close(hs_unpack_source *source)
{
    if (!source)
        return;
    if (source->stream_open)
        (void)inflateEnd(&source->stream);
    if (source->fd >= 0)
        (void)close(source->fd);
    hs_free(source->in);
    hs_free(source->out);
    hs_free(source);
}
