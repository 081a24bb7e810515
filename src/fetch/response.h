/* The head of a server's answer, line by line. */
#ifndef HS_FETCH_RESPONSE_H
#define HS_FETCH_RESPONSE_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { HS_TAG_MAX = 256, HS_DATE_MAX = 64 };

typedef struct hs_response {
    long status;    /* 200, 404, ...; 0 before the first line */
    int64_t length; /* Content-Length; each of these is -1 where it is absent or malformed */
    int64_t range_first, range_last, range_total; /* Content-Range; a 416 has range_total alone */
    int64_t retry_after_s;
    bool self_delimiting; /* a body without a length ends in a way that a cut connection does not */
    bool chunked;
    char etag[HS_TAG_MAX];      /* with its quotes; "" where absent or too long to be kept */
    char modified[HS_DATE_MAX]; /* Last-Modified */
    char date[HS_DATE_MAX];
} hs_response;

/* Takes a line without regard to its end (CR, LF). A status line begins a new answer. */
void hs_response_line(hs_response *response, const char *line, size_t n);
/* What makes a second request ask for the same file: a strong ETag, or a Last-Modified long enough before Date that a later
 * change shows; else "". */
const char *hs_response_validator(const hs_response *response);
/* The sentence for an answer that brings no file, and whether it may be another one later. */
hstu_status hs_response_refusal(const hs_response *response, const char *shown_url, bool *again, hstu_error *err);

#endif
