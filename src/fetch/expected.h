/* What the file must be: size and checksum, and who says so. */
#ifndef HS_FETCH_EXPECTED_H
#define HS_FETCH_EXPECTED_H

#include "fetch/checksum.h"
#include "fetch/http.h"

typedef struct hs_expected {
    hs_checksum checksum; /* or none */
    int64_t bytes;        /* -1: not known */
    hstu_fetch_proof proof;
    char source[256];  /* "the list at <URL>"; "" without a checksum */
    char why_not[400]; /* without a published checksum: why */
} hs_expected;

/* From the options: the checksum given, else the first list that can be read, else the one that is known. A list that cannot be
 * read is no error (unless a checksum is required). */
hstu_status hs_expected_find(hs_expected *out, hs_http *http, const hstu_fetch_options *options, hstu_error *err);

#endif
