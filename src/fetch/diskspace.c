/* Whether there is room, asked before work starts. */
#include "fetch/diskspace.h"

#include "base/error.h"
#include "base/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

typedef struct amount {
    char text[32];
} amount;

static amount in_words(uint64_t bytes)
{
    amount a;
    if (bytes < 10 * 1000 * 1000)
        (void)snprintf(a.text, sizeof a.text, "%.2f MB", (double)bytes / 1e6);
    else if (bytes < 10ull * 1000 * 1000 * 1000)
        (void)snprintf(a.text, sizeof a.text, "%.0f MB", (double)bytes / 1e6);
    else
        (void)snprintf(a.text, sizeof a.text, "%.1f GB", (double)bytes / 1e9);
    return a;
}

hstu_status hs_diskspace_check(const char *path, uint64_t bytes, uint64_t extra_bytes, hstu_error *err)
{
    struct statvfs fs;
    char folder[sizeof(hs_path)];
    const size_t n = (size_t)(hs_path_base(path) - path);
    (void)snprintf(folder, sizeof folder, "%.*s", n ? (int)n : 1, n ? path : ".");
    while (statvfs(folder, &fs) != 0) {
        if (errno != EINTR)
            return hs_fail_errno(err, errno, "cannot ask for the free disk space of '%s'", folder);
    }
    const uint64_t unit = fs.f_frsize ? fs.f_frsize : fs.f_bsize;
    const uint64_t free_bytes = unit && fs.f_bavail > UINT64_MAX / unit ? UINT64_MAX : (uint64_t)fs.f_bavail * unit;
    if (bytes <= free_bytes && extra_bytes <= free_bytes - bytes)
        return HSTU_OK;
    if (extra_bytes == 0 || bytes == 0) /* a size that is not known yet, or nothing left to download */
        return hs_fail(err, HSTU_EIO, 0, "not enough disk space in '%.200s': %s are needed%s, %s are free", folder,
            in_words(bytes ? bytes : extra_bytes).text, bytes ? "" : " to unpack", in_words(free_bytes).text);
    return hs_fail(err, HSTU_EIO, 0,
        "not enough disk space in '%.200s': %s are needed to download and %s to unpack, %s are free", folder,
        in_words(bytes).text, in_words(extra_bytes).text, in_words(free_bytes).text);
}
