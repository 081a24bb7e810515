/* Read-only memory maps of whole files. */
#define _DEFAULT_SOURCE /* madvise: the POSIX call of that name does not give memory back */

#include "base/mapfile.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

hstu_status hs_mapfile_open(hs_mapfile *out, const char *path, hstu_error *err)
{
    /* O_NONBLOCK: opening a pipe without a writer must not hang; it has no meaning for regular files. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return hs_fail_errno(err, errno, "cannot open '%s'", path);
    struct stat st;
    hstu_status status = HSTU_OK;
    if (fstat(fd, &st) != 0) {
        status = hs_fail_errno(err, errno, "cannot examine '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = hs_fail(err, HSTU_EINVAL, 0, "'%s' is not a regular file", path);
    } else if (st.st_size == 0) {
        *out = (hs_mapfile){0};
    } else if ((uintmax_t)st.st_size > SIZE_MAX) {
        status = hs_fail(err, HSTU_EINVAL, 0, "'%s' is too large to map", path);
    } else {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = hs_fail_errno(err, errno, "cannot map '%s'", path);
        else
            *out = (hs_mapfile){.data = data, .size = (size_t)st.st_size};
    }
    (void)close(fd);
    return status;
}

void hs_mapfile_expect_random(const hs_mapfile *map)
{
    if (map->data) /* advice: a system that does not take it still works */
        (void)posix_madvise((void *)(uintptr_t)map->data, map->size, POSIX_MADV_RANDOM);
}

void hs_mapfile_expect_scan(const hs_mapfile *map)
{
    if (map->data)
        (void)posix_madvise((void *)(uintptr_t)map->data, map->size, POSIX_MADV_SEQUENTIAL);
}

void hs_mapfile_release(const hs_mapfile *map, const void *data, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), map_first = (uintptr_t)map->data;
    uintptr_t first = (uintptr_t)data, end = first + bytes;
    if (!map->data || first < map_first || end > map_first + map->size)
        return;
    first = (first + page - 1) / page * page;
    end = end / page * page;
    if (first < end)
        (void)madvise((void *)first, end - first, MADV_DONTNEED);
}

void hs_mapfile_close(hs_mapfile *map)
{
    if (map->data)
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    *map = (hs_mapfile){0};
}

bool hs_mapfile_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
