/* From a URL to a complete and verified partial file. */
#ifndef HS_FETCH_DOWNLOAD_H
#define HS_FETCH_DOWNLOAD_H

#include "fetch/digest.h"
#include "fetch/expected.h"
#include "fetch/http.h"
#include "fetch/partfile.h"

typedef struct hs_download {
    const hstu_fetch_options *options;
    hs_http *http;
    hs_partfile *part;
    const hs_expected *expected;
    hstu_fetch_report *report; /* its counts are kept up to date */
    hs_digest digest;          /* of the partial file's first digest.done bytes */
    char shown[200];           /* the URL for errors */
    bool joined;               /* the partial file's bytes came over more than one connection */
    /* The try under way. */
    bool again, started;   /* whether another one may succeed; whether the answer's bytes are being appended */
    bool complete;         /* the server says that it has no more */
    int64_t retry_after_s; /* what the server asked for, or -1 */
    uint64_t gained;       /* bytes appended */
    uint64_t ignored;      /* bytes of an answer that is no file */
    int n_restarts;        /* so often the file was begun anew in this call */
} hs_download;

/* Fills the partial file until it is whole and its size and checksum are right; *checksum is its own then. After an error it
 * is left for a later call, or emptied when it is worth nothing. */
hstu_status hs_download_run(hs_download *download, hs_checksum *checksum, hstu_error *err);

/* download_answer.c: what becomes of the server's answer to the request for the file. */
hstu_status hs_download_begin(void *download, const hs_response *response, hstu_error *err);
hstu_status hs_download_take(void *download, const void *data, size_t n, hstu_error *err);
/* The whole file's size, -1 while it is not known. */
int64_t hs_download_total(const hs_download *download);
/* Makes what is there worthless: the next try begins at the first byte. */
hstu_status hs_download_forget(hs_download *download, hstu_error *err);

#endif
