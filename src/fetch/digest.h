/* Computing a file's checksum while it is written, or afterwards. */
#ifndef HS_FETCH_DIGEST_H
#define HS_FETCH_DIGEST_H

#include "fetch/checksum.h"

#include "hstu/dataset.h"

#include <nettle/md5.h>
#include <nettle/sha2.h>

typedef struct hs_digest {
    hs_checksum_kind kind; /* not none */
    uint64_t done;         /* the file's first `done` bytes are in it */
    struct md5_ctx md5;
    struct sha256_ctx sha256;
} hs_digest;

void hs_digest_start(hs_digest *digest, hs_checksum_kind kind);
void hs_digest_add(hs_digest *digest, const void *data, size_t n);
/* Reads what is missing up to `end` from the file; stage "checking". HSTU_EIO also when the file ends before. */
hstu_status hs_digest_read(
    hs_digest *digest, int fd, const char *path, uint64_t end, const hstu_progress *progress, hstu_error *err);
/* The checksum of what was added until now. */
hs_checksum hs_digest_value(const hs_digest *digest);

#endif
