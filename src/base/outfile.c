/* Output files that appear under their name only when they are complete. */
#include "base/outfile.h"

#include "base/alloc.h"
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

struct hs_outfile {
    FILE *stream;
    char *path, *temporary, *buffer;
};

static void free_parts(hs_outfile *file)
{
    hs_free(file->path);
    hs_free(file->temporary);
    hs_free(file->buffer);
    hs_free(file);
}

hstu_status hs_outfile_open(hs_outfile **out, const char *path, hstu_error *err)
{
    hs_outfile *file = hs_calloc(1, sizeof *file);
    if (!file)
        return hs_fail_nomem(err, sizeof *file, path);
    const size_t temporary_bytes = strlen(path) + 32;
    file->path = hs_strndup(path, strlen(path));
    file->temporary = hs_alloc(temporary_bytes, 1);
    file->buffer = hs_alloc(BUFFER_BYTES, 1);
    if (!file->path || !file->temporary || !file->buffer) {
        free_parts(file);
        return hs_fail_nomem(err, BUFFER_BYTES, path);
    }
    (void)snprintf(file->temporary, temporary_bytes, "%s.%ld.tmp", path, (long)getpid());
    file->stream = fopen(file->temporary, "wbe");
    if (!file->stream) {
        const hstu_status status = hs_fail_errno(err, errno, "cannot create '%s'", file->temporary);
        free_parts(file);
        return status;
    }
    (void)setvbuf(file->stream, file->buffer, _IOFBF, BUFFER_BYTES);
    *out = file;
    return HSTU_OK;
}

hstu_status hs_outfile_write(hs_outfile *file, const void *data, size_t n, hstu_error *err)
{
    if (n && fwrite(data, 1, n, file->stream) != n)
        return hs_fail_errno(err, errno, "cannot write '%s'", file->temporary);
    return HSTU_OK;
}

hstu_status hs_outfile_printf(hs_outfile *file, hstu_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vfprintf(file->stream, fmt, args);
    va_end(args);
    return n < 0 ? hs_fail_errno(err, errno, "cannot write '%s'", file->temporary) : HSTU_OK;
}

hstu_status hs_outfile_commit(hs_outfile *file, hstu_error *err)
{
    if (!file)
        return HSTU_OK;
    hstu_status status = HSTU_OK;
    if (fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0)
        status = hs_fail_errno(err, errno, "cannot write '%s'", file->temporary);
    if (fclose(file->stream) != 0 && status == HSTU_OK)
        status = hs_fail_errno(err, errno, "cannot write '%s'", file->temporary);
    if (status == HSTU_OK && rename(file->temporary, file->path) != 0)
        status = hs_fail_errno(err, errno, "cannot rename '%s' to '%s'", file->temporary, file->path);
    if (status != HSTU_OK)
        (void)remove(file->temporary);
    free_parts(file);
    return status;
}

void hs_outfile_discard(hs_outfile *file)
{
    if (!file)
        return;
    (void)fclose(file->stream);
    (void)remove(file->temporary);
    free_parts(file);
}
