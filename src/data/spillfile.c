/* Temporary files that are unlinked as soon as they are open. */
#include "data/spillfile.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAX_NAMES = 100 };

struct hs_spillfile {
    int fd;
    uint64_t end;
    char *folder;
};

/* Between the two calls the name is there: it is one that hs_outfile_sweep of the sequence file clears away. */
static int open_nameless(const char *folder, hs_path *path)
{
    char name[64];
    int fd = -1;
    for (int n = 0; fd < 0 && n < MAX_NAMES; n++) {
        (void)snprintf(name, sizeof name, "sequences.safetensors.%ld.%d.tmp", (long)getpid(), n);
        if (hs_path_join(path, folder, name, NULL) != HSTU_OK) {
            errno = ENAMETOOLONG;
            return -1;
        }
        fd = open(path->text, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    if (fd >= 0)
        (void)unlink(path->text);
    return fd;
}

hstu_status hs_spillfile_open(hs_spillfile **out, const char *folder, hstu_error *err)
{
    hs_path path;
    hs_spillfile *file = hs_calloc(1, sizeof *file);
    char *copy = hs_strndup(folder, strlen(folder));
    if (!file || !copy) {
        hs_free(file);
        hs_free(copy);
        return hs_fail_nomem(err, sizeof *file, folder);
    }
    file->folder = copy;
    file->fd = open_nameless(folder, &path);
    if (file->fd < 0) {
        const hstu_status status = hs_fail_errno(err, errno, "cannot create a temporary file in '%s'", folder);
        hs_spillfile_close(file);
        return status;
    }
    *out = file;
    return HSTU_OK;
}

hstu_status hs_spillfile_extend(hs_spillfile *file, uint64_t bytes, uint64_t *at, hstu_error *err)
{
    HS_TRY(hs_disk_check(file->folder, bytes, "rows that do not fit into the memory limit", err));
    *at = file->end;
    file->end += bytes;
    return HSTU_OK;
}

hstu_status hs_spillfile_write(hs_spillfile *file, uint64_t at, const void *data, size_t bytes, hstu_error *err)
{
    const char *from = data;
    while (bytes) {
        const ssize_t n = pwrite(file->fd, from, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hs_fail_errno(err, n ? errno : ENOSPC, "cannot write a temporary file in '%s'", file->folder);
        from += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return HSTU_OK;
}

hstu_status hs_spillfile_read(const hs_spillfile *file, uint64_t at, void *data, size_t bytes, hstu_error *err)
{
    char *to = data;
    while (bytes) {
        const ssize_t n = pread(file->fd, to, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hs_fail_errno(err, n ? errno : EIO, "cannot read a temporary file in '%s'", file->folder);
        to += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return HSTU_OK;
}

void hs_spillfile_close(hs_spillfile *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    hs_free(file->folder);
    hs_free(file);
}

hstu_status hs_disk_check(const char *folder, uint64_t bytes, const char *what, hstu_error *err)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) != 0)
        return hs_fail_errno(err, errno, "cannot examine '%s'", folder);
    uint64_t left = 0;
    const bool fits = __builtin_mul_overflow((uint64_t)fs.f_bavail, (uint64_t)fs.f_frsize, &left) || left >= bytes;
    if (fits)
        return HSTU_OK;
    return hs_fail(err, HSTU_EIO, 0, "the disk of '%s' has %" PRIu64 " bytes left, but %s need %" PRIu64, folder, left,
        what, bytes);
}
