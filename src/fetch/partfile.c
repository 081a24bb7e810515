/* The partial file of a download. */
#include "fetch/partfile.h"

#include "base/error.h"
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_RACES = 100 };

static hstu_status append_name(hs_path *out, const char *path, const char *suffix, hstu_error *err)
{
    const int n = snprintf(out->text, sizeof out->text, "%s%s", path, suffix);
    if (n < 0 || (size_t)n >= sizeof out->text)
        return hs_fail(err, HSTU_EINVAL, 0, "the path of '%.200s' is too long", hs_path_base(path));
    return HSTU_OK;
}

/* Without the lock's owner the name may have passed to another file: *current says whether it has not. */
static hstu_status open_and_lock(hs_partfile *file, bool *current, hstu_error *err)
{
    const char *path = file->path.text;
    struct stat mine, named;
    file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (file->fd < 0)
        return hs_fail_errno(err, errno, "cannot create '%s'", path);
    if (fstat(file->fd, &mine) != 0)
        return hs_fail_errno(err, errno, "cannot examine '%s'", path);
    if (!S_ISREG(mine.st_mode))
        return hs_fail(err, HSTU_EIO, 0, "cannot download to '%s': it is not a regular file", path);
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return hs_fail(err, HSTU_EIO, 0, "another program is downloading '%s' at this moment", file->target.text);
        return hs_fail_errno(err, errno, "cannot lock '%s'", path);
    }
    *current = stat(path, &named) == 0 && named.st_dev == mine.st_dev && named.st_ino == mine.st_ino;
    if (fstat(file->fd, &mine) != 0) /* again: until the lock was ours it may have grown */
        return hs_fail_errno(err, errno, "cannot examine '%s'", path);
    file->bytes = (uint64_t)mine.st_size;
    return HSTU_OK;
}

static hstu_status empty(hs_partfile *file, hstu_error *err)
{
    if (ftruncate(file->fd, 0) != 0)
        return hs_fail_errno(err, errno, "cannot empty '%s'", file->path.text);
    file->bytes = 0;
    return HSTU_OK;
}

static hstu_status take_over(hs_partfile *file, hstu_error *err)
{
    hstu_error why;
    if (file->bytes == 0)
        return HSTU_OK;
    const hstu_status status = hs_partinfo_read(&file->info, file->info_path.text, &why);
    const bool too_long = status == HSTU_OK && file->info.bytes >= 0 && file->bytes > (uint64_t)file->info.bytes;
    if (status == HSTU_ENOENT || status == HSTU_EFORMAT || too_long)
        return empty(file, err);
    if (status != HSTU_OK && err)
        *err = why;
    return status;
}

hstu_status hs_partfile_open(hs_partfile *out, const char *target, hstu_error *err)
{
    hs_partfile file = {.fd = -1, .info = {.bytes = -1}};
    hstu_status status = HSTU_OK;
    bool current = false;
    HS_TRY(append_name(&file.target, target, "", err));
    HS_TRY(append_name(&file.path, target, ".part", err));
    HS_TRY(append_name(&file.info_path, target, ".part.info", err));
    for (int i = 0; !current; i++) {
        if (i == MAX_RACES)
            return hs_fail(err, HSTU_EIO, 0, "other programs are downloading '%s' again and again", target);
        status = open_and_lock(&file, &current, err);
        if (status != HSTU_OK || !current) {
            if (file.fd >= 0)
                (void)close(file.fd);
            HS_TRY(status);
        }
    }
    hs_outfile_sweep(file.info_path.text);
    status = take_over(&file, err);
    if (status != HSTU_OK) {
        (void)close(file.fd);
        return status;
    }
    *out = file;
    return HSTU_OK;
}

hstu_status hs_partfile_restart(hs_partfile *file, const hs_partinfo *info, hstu_error *err)
{
    HS_TRY(empty(file, err));
    HS_TRY(hs_partinfo_write(info, file->info_path.text, err));
    file->info = *info;
    return HSTU_OK;
}

hstu_status hs_partfile_append(hs_partfile *file, const void *data, size_t n, hstu_error *err)
{
    const char *from = data;
    while (n) {
        const ssize_t written = pwrite(file->fd, from, n, (off_t)file->bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return hs_fail_errno(err, errno, "cannot write '%s' at byte %" PRIu64, file->path.text, file->bytes);
        from += written;
        n -= (size_t)written;
        file->bytes += (uint64_t)written;
    }
    return HSTU_OK;
}

/* The rename itself must outlive a crash of the machine. */
static void sync_folder(const char *path)
{
    char folder[sizeof(hs_path)];
    const size_t n = (size_t)(hs_path_base(path) - path);
    memcpy(folder, path, n);
    folder[n] = '\0';
    const int fd = open(n ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* some file systems cannot */
    (void)close(fd);
}

hstu_status hs_partfile_finish(hs_partfile *file, hstu_error *err)
{
    if (fsync(file->fd) != 0) { /* what of it is on the disk, nobody can tell */
        const int code = errno;
        (void)empty(file, NULL);
        return hs_fail_errno(err, code, "cannot write '%s'", file->path.text);
    }
    if (rename(file->path.text, file->target.text) != 0)
        return hs_fail_errno(err, errno, "cannot rename '%s' to '%s'", file->path.text, file->target.text);
    sync_folder(file->target.text);
    (void)unlink(file->info_path.text);
    (void)close(file->fd);
    file->fd = -1;
    return HSTU_OK;
}

/* The description goes first: a partial file without one is worth nothing, one with a stranger's is a danger. */
void hs_partfile_discard(hs_partfile *file)
{
    if (file->fd < 0)
        return;
    (void)unlink(file->info_path.text);
    (void)unlink(file->path.text);
    (void)close(file->fd);
    file->fd = -1;
}

void hs_partfile_tidy(const char *target)
{
    hs_partfile file = {.fd = -1};
    hs_path path, info_path;
    if (append_name(&path, target, ".part", NULL) != HSTU_OK ||
        append_name(&info_path, target, ".part.info", NULL) != HSTU_OK)
        return;
    if (access(path.text, F_OK) != 0 && access(info_path.text, F_OK) != 0)
        return;
    if (hs_partfile_open(&file, target, NULL) == HSTU_OK) /* else it is another call's, which is at work */
        hs_partfile_discard(&file);
}

void hs_partfile_close(hs_partfile *file)
{
    if (file->fd >= 0 && file->bytes == 0) {
        hs_partfile_discard(file);
        return;
    }
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}
