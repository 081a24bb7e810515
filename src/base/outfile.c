/* Output files that appear under their name only when they are complete. */
#define _XOPEN_SOURCE 700 /* realpath */

#include "base/outfile.h"

#include "base/alloc.h"
#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, MAX_TEMPORARIES = 100 };

struct hs_outfile {
    FILE *stream;    /* NULL: finished */
    char *path;      /* what the caller asked for, symbolic links resolved */
    char *temporary; /* NULL: `path` is written directly */
    char *buffer;
};

static void free_parts(hs_outfile *file)
{
    hs_free(file->path);
    hs_free(file->temporary);
    hs_free(file->buffer);
    hs_free(file);
}

/* The name that is open, for errors. */
static const char *open_name(const hs_outfile *file)
{
    return file->temporary ? file->temporary : file->path;
}

static hstu_status fail_write(const hs_outfile *file, hstu_error *err)
{
    return hs_fail_errno(err, errno, "cannot write '%s'", open_name(file));
}

/* Never opens a file that exists: another process may use the name, and in a shared folder a link may lie in wait. */
static hstu_status open_temporary(hs_outfile *file, hstu_error *err)
{
    const size_t bytes = strlen(file->path) + 40;
    file->temporary = hs_alloc(bytes, 1);
    if (!file->temporary)
        return hs_fail_nomem(err, bytes, file->path);
    for (int n = 0; !file->stream && n < MAX_TEMPORARIES; n++) {
        (void)snprintf(file->temporary, bytes, "%s.%ld.%d.tmp", file->path, (long)getpid(), n);
        file->stream = fopen(file->temporary, "w+bxe");
        if (!file->stream && errno != EEXIST)
            break;
    }
    return file->stream ? HSTU_OK : hs_fail_errno(err, errno, "cannot create '%s'", file->temporary);
}

static hstu_status open_stream(hs_outfile *file, hstu_error *err)
{
    struct stat st;
    const bool exists = stat(file->path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return hs_fail(err, HSTU_EINVAL, 0, "cannot create '%s': it is a folder", file->path);
    if (exists && !S_ISREG(st.st_mode)) {
        file->stream = fopen(file->path, "wbe");
        return file->stream ? HSTU_OK : hs_fail_errno(err, errno, "cannot open '%s'", file->path);
    }
    HS_TRY(open_temporary(file, err));
    if (exists)
        (void)fchmod(fileno(file->stream), st.st_mode & 0777);
    return HSTU_OK;
}

hstu_status hs_outfile_open(hs_outfile **out, const char *path, hstu_error *err)
{
    hs_outfile *file = hs_calloc(1, sizeof *file);
    if (!file)
        return hs_fail_nomem(err, sizeof *file, path);
    struct stat st;
    hstu_status status = HSTU_OK;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        file->path = realpath(path, NULL); /* NULL: the link leads nowhere, and is replaced */
    if (!file->path)
        file->path = hs_strndup(path, strlen(path));
    file->buffer = hs_alloc(BUFFER_BYTES, 1);
    if (!file->path || !file->buffer)
        status = hs_fail_nomem(err, BUFFER_BYTES, path);
    else
        status = open_stream(file, err);
    if (status != HSTU_OK) {
        free_parts(file);
        return status;
    }
    (void)setvbuf(file->stream, file->buffer, _IOFBF, BUFFER_BYTES);
    *out = file;
    return HSTU_OK;
}

hstu_status hs_outfile_write(hs_outfile *file, const void *data, size_t n, hstu_error *err)
{
    return n && fwrite(data, 1, n, file->stream) != n ? fail_write(file, err) : HSTU_OK;
}

hstu_status hs_outfile_write_at(hs_outfile *file, uint64_t at, const void *data, size_t n, hstu_error *err)
{
    const char *from = data;
    while (n) {
        const ssize_t done = pwrite(fileno(file->stream), from, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return fail_write(file, err);
        from += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return HSTU_OK;
}

hstu_status hs_outfile_read_at(hs_outfile *file, uint64_t at, void *data, size_t n, hstu_error *err)
{
    char *to = data;
    while (n) {
        const ssize_t done = pread(fileno(file->stream), to, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return hs_fail_errno(err, done ? errno : EIO, "cannot read '%s'", open_name(file));
        to += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return HSTU_OK;
}

hstu_status hs_outfile_truncate(hs_outfile *file, uint64_t size, hstu_error *err)
{
    return ftruncate(fileno(file->stream), (off_t)size) == 0 ? HSTU_OK : fail_write(file, err);
}

hstu_status hs_outfile_printf(hs_outfile *file, hstu_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vfprintf(file->stream, fmt, args);
    va_end(args);
    return n < 0 ? fail_write(file, err) : HSTU_OK;
}

hstu_status hs_outfile_finish(hs_outfile *file, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    if (!file->stream)
        return status;
    if (fflush(file->stream) != 0 || (file->temporary && fsync(fileno(file->stream)) != 0))
        status = fail_write(file, err);
    if (fclose(file->stream) != 0 && status == HSTU_OK)
        status = fail_write(file, err);
    file->stream = NULL;
    hs_free(file->buffer);
    file->buffer = NULL;
    return status;
}

hstu_status hs_outfile_commit(hs_outfile *file, hstu_error *err)
{
    if (!file)
        return HSTU_OK;
    hstu_status status = hs_outfile_finish(file, err);
    if (file->temporary && status == HSTU_OK && rename(file->temporary, file->path) != 0)
        status = hs_fail_errno(err, errno, "cannot rename '%s' to '%s'", file->temporary, file->path);
    if (file->temporary && status != HSTU_OK)
        (void)remove(file->temporary);
    free_parts(file);
    return status;
}

void hs_outfile_discard(hs_outfile *file)
{
    if (!file)
        return;
    if (file->stream)
        (void)fclose(file->stream);
    if (file->temporary)
        (void)remove(file->temporary);
    free_parts(file);
}

hstu_status hs_outfile_remove(const char *path, hstu_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return errno == ENOENT ? HSTU_OK : hs_fail_errno(err, errno, "cannot examine '%s'", path);
    if (!S_ISREG(st.st_mode))
        return HSTU_OK;
    char *target = realpath(path, NULL);
    const bool removed = target && (unlink(target) == 0 || errno == ENOENT);
    const int code = errno;
    hs_free(target);
    return removed ? HSTU_OK : hs_fail_errno(err, code, "cannot remove '%s'", path);
}

/* "<base>.<process id>.<n>.tmp" of a process that is no more. */
static bool is_left_over(const char *name, const char *base)
{
    const size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || name[n] != '.' || name[n + 1] < '1' || name[n + 1] > '9')
        return false;
    char *end = NULL;
    const long id = strtol(name + n + 1, &end, 10);
    if (*end != '.' || (long)(pid_t)id != id)
        return false;
    const size_t digits = strspn(end + 1, "0123456789");
    return digits && strcmp(end + 1 + digits, ".tmp") == 0 && kill((pid_t)id, 0) != 0 && errno == ESRCH;
}

void hs_outfile_sweep(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[4096] = ".";
    if (slash && (size_t)(slash - path) + 1 >= sizeof folder)
        return;
    if (slash)
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (is_left_over(entry->d_name, slash ? slash + 1 : path))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
}
