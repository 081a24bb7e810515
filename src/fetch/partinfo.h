/* What identifies the server's file of which a partial file holds the beginning. */
#ifndef HS_FETCH_PARTINFO_H
#define HS_FETCH_PARTINFO_H

#include "fetch/checksum.h"
#include "fetch/response.h"
#include "fetch/url.h"

enum { HS_PARTINFO_MAX_BYTES = 8192 };

typedef struct hs_partinfo {
    char url[HS_URL_MAX];       /* without user name and password */
    char etag[HS_TAG_MAX];      /* as the server gave it, weak ones too; "" without one */
    char modified[HS_DATE_MAX]; /* Last-Modified, "" without one */
    char validator[HS_TAG_MAX]; /* for If-Range, "" without one */
    int64_t bytes;              /* the whole file's size, -1 where it was not known */
    hs_checksum checksum;       /* that the whole file must have, or none */
} hs_partinfo;

/* False when it is not exactly what hs_partinfo_write writes. */
bool hs_partinfo_parse(hs_partinfo *out, const char *text, size_t n);
/* HSTU_ENOENT without the file; HSTU_EFORMAT, HSTU_EIO. */
hstu_status hs_partinfo_read(hs_partinfo *out, const char *path, hstu_error *err);
hstu_status hs_partinfo_write(const hs_partinfo *info, const char *path, hstu_error *err);

#endif
