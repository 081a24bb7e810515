/* What publishers say of their files: the readers of record lists and checksum files. */
#ifndef HS_FETCH_PUBLISHED_H
#define HS_FETCH_PUBLISHED_H

#include "fetch/checksum.h"

#include "hstu/status.h"

enum { HS_PUBLISHED_MAX_BYTES = 4 << 20 };

typedef struct hs_published {
    hs_checksum checksum; /* not none */
    int64_t bytes;        /* the file's size, -1 where it is not said */
} hs_published;

/* Finds the file `name` in a record: a JSON object whose `files` (or `entries`) is an array of objects with `key`, `size` and
 * `checksum`. `url` stands in errors. HSTU_EFORMAT; HSTU_ENOENT when the list does not name the file. */
hstu_status hs_published_record(
    hs_published *out, const char *text, size_t len, const char *name, const char *url, hstu_error *err);
/* The same for the lines of a checksum file: "MD5 (name) = hex", "hex  name", "hex *name"; or one checksum alone. */
hstu_status hs_published_checksums(
    hs_published *out, const char *text, size_t len, const char *name, const char *url, hstu_error *err);

#endif
