/* MD5 and SHA-256 of a file, by nettle. */
#include "fetch/digest.h"

#include "base/alloc.h"
#include "base/error.h"
#include "fetch/notice.h"

#include <errno.h>
#include <inttypes.h>
#include <nettle/version.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

void hs_digest_start(hs_digest *digest, hs_checksum_kind kind)
{
    digest->kind = kind;
    digest->done = 0;
    md5_init(&digest->md5);
    sha256_init(&digest->sha256);
}

void hs_digest_add(hs_digest *digest, const void *data, size_t n)
{
    if (digest->kind == HS_CHECKSUM_MD5)
        md5_update(&digest->md5, n, data);
    else
        sha256_update(&digest->sha256, n, data);
    digest->done += n;
}

static hstu_status read_on(hs_digest *digest, int fd, const char *path, uint64_t end, void *buffer, hstu_error *err)
{
    const uint64_t left = end - digest->done;
    const size_t want = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
    const ssize_t n = pread(fd, buffer, want, (off_t)digest->done);
    if (n < 0 && errno == EINTR)
        return HSTU_OK;
    if (n < 0)
        return hs_fail_errno(err, errno, "cannot read '%s'", path);
    if (n == 0)
        return hs_fail(err, HSTU_EIO, digest->done, "'%s' became shorter while it was read: it ends at byte %" PRIu64,
            path, digest->done);
    hs_digest_add(digest, buffer, (size_t)n);
    return HSTU_OK;
}

hstu_status hs_digest_read(
    hs_digest *digest, int fd, const char *path, uint64_t end, const hstu_progress *progress, hstu_error *err)
{
    if (digest->done >= end)
        return HSTU_OK;
    void *buffer = hs_alloc(BUFFER_BYTES, 1);
    if (!buffer)
        return hs_fail_nomem(err, BUFFER_BYTES, "reading a file");
    hstu_status status = HSTU_OK;
    while (status == HSTU_OK && digest->done < end) {
        hs_notice_step(progress, "checking", digest->done, end);
        status = hs_notice_check(progress, err);
        if (status == HSTU_OK)
            status = read_on(digest, fd, path, end, buffer, err);
    }
    if (status == HSTU_OK)
        hs_notice_step(progress, "checking", end, end);
    hs_free(buffer);
    return status;
}

hs_checksum hs_digest_value(const hs_digest *digest)
{
    hs_checksum sum = {digest->kind, {0}};
    hs_digest copy = *digest;
#if NETTLE_VERSION_MAJOR >= 4 /* which take no length */
    if (sum.kind == HS_CHECKSUM_MD5)
        md5_digest(&copy.md5, sum.value);
    else
        sha256_digest(&copy.sha256, sum.value);
#else
    if (sum.kind == HS_CHECKSUM_MD5)
        md5_digest(&copy.md5, MD5_DIGEST_SIZE, sum.value);
    else
        sha256_digest(&copy.sha256, SHA256_DIGEST_SIZE, sum.value);
#endif
    return sum;
}
