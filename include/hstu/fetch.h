/* Downloading one file: resumed where it broke off, verified, and under its name only when it is whole. */
#ifndef HSTU_FETCH_H
#define HSTU_FETCH_H

#include "hstu/dataset.h" /* hstu_progress */
#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the file's checksum was compared with. */
typedef enum hstu_fetch_proof {
    HSTU_FETCH_UNVERIFIED,    /* nothing: no checksum was at hand, and a warning said so */
    HSTU_FETCH_GIVEN,         /* options.checksum */
    HSTU_FETCH_RECORD,        /* the record's published list of files */
    HSTU_FETCH_CHECKSUM_FILE, /* the published checksum file */
    HSTU_FETCH_KNOWN          /* options.known_checksum: what is published could not be read */
} hstu_fetch_proof;

/* Strings are borrowed for the call; NULL where an option is not wanted. URLs are http:// or https://. */
typedef struct hstu_fetch_options {
    size_t size;            /* set by hstu_fetch_options_init */
    const char *url;        /* what to download */
    const char *path;       /* the file to write; its folder must exist */
    const char *name;       /* the file's name in the published lists; NULL: the last part of the URL's path */
    const char *checksum;   /* "md5:HEX" or "sha256:HEX", or 32 or 64 hexadecimal digits alone: then no list is read */
    const char *record_url; /* a record of a research archive as JSON: files[] of key, size, checksum */
    const char *checksum_url;   /* lines "MD5 (name) = hex", "hex  name" or "hex"; asked after record_url */
    const char *known_checksum; /* as checksum, used only when neither list can be read */
    int require_checksum;       /* nonzero: without any checksum the call fails instead of warning */
    int force;                  /* nonzero: a file that is there is downloaded again and replaced */
    int64_t expected_bytes;     /* the file's size where it is known; default -1: what the lists or the server say */
    uint64_t max_bytes;         /* no larger file is accepted; default 1 TiB */
    uint64_t extra_bytes;       /* disk space that must be free beside the file's own, for unpacking; default 0 */
    int max_tries;              /* tries in a row that bring less than 1 MiB each before the call fails; default 6 */
    int64_t retry_base_ms;      /* wait before the second try, doubled each time, with jitter; default 1000 */
    int64_t retry_max_ms;       /* the longest of these waits; default 60000 */
    int64_t retry_after_max_ms; /* a server that asks for a longer wait (Retry-After) ends the call; default 300000 */
    int64_t connect_timeout_ms; /* default 30000 */
    int64_t stall_timeout_ms;   /* a try ends when so long less than stall_bytes arrived; default 60000 */
    uint64_t stall_bytes;       /* default 1024 */
    /* Stages "downloading" and "checking", in bytes. A cancelled download keeps its partial file. */
    hstu_progress progress;
} hstu_fetch_options;

typedef struct hstu_fetch_report {
    hstu_fetch_proof proof;
    int already_there;         /* nonzero: the right file was there, and nothing was downloaded */
    uint64_t n_bytes;          /* the file's size */
    uint64_t n_resumed_bytes;  /* of these, what earlier calls had left in the partial file and was kept */
    uint64_t n_received_bytes; /* what this call read from the network, bytes that were thrown away included */
    uint64_t n_tries;          /* connections for the file itself */
    char checksum[80];         /* the file's own: "md5:HEX" or "sha256:HEX" */
    char verified_by[256];     /* "the given checksum", "the list at <URL>", ...; "" when unverified */
} hstu_fetch_report;

HSTU_API void hstu_fetch_options_init(hstu_fetch_options *options);

/* Downloads options->url to options->path.
 *
 * Bytes go to "<path>.part", and what identifies the server's file to "<path>.part.info". A later call goes on where these
 * end, provided that the server still has the same file; otherwise it begins anew. The file appears as `path`, on the disk,
 * only when its size and checksum are right. Two calls for one path at a time, in any processes: the second fails.
 * A file that is there already with the right size and checksum is left alone; with wrong ones the call fails, unless `force`.
 *
 * Proxies and certificates come from the environment as with curl: http_proxy, https_proxy, all_proxy, no_proxy;
 * CURL_CA_BUNDLE, SSL_CERT_DIR, SSL_CERT_FILE. Redirects are followed to http and https only, never from https to http.
 *
 * HSTU_EINVAL for options; HSTU_ENOENT when the server has no such file (404, 410) or the folder does not exist; HSTU_EFORMAT
 * when the size or checksum is wrong; HSTU_EIO for the network after all tries, a refusing server, the disk (space too) and a
 * path that another call is downloading to; HSTU_ENOMEM; HSTU_ECANCELLED. Any thread. */
HSTU_API hstu_status hstu_fetch(const hstu_fetch_options *options, hstu_fetch_report *report, hstu_error *err);

/* ---- Data sets whose place is known ----------------------------------------------------------------------------- */

typedef struct hstu_known_dataset {
    const char *name;    /* "KuaiRand-1K", "KuaiRand-Pure", "KuaiRand-27K", "ml-1m", "ml-20m" */
    const char *archive; /* the file's name: "KuaiRand-1K.tar.gz" */
    const char *url;
    const char *record_url;   /* or NULL */
    const char *checksum_url; /* or NULL */
    const char *checksum;     /* what the publisher's own pages name, for known_checksum; or NULL */
    uint64_t archive_bytes;   /* for a hint of the time it takes; 0: not known */
    uint64_t unpacked_bytes;  /* roughly, of all files in the archive; 0: not known */
} hstu_known_dataset;

/* The data set of that name, in any case; NULL when it is not known. Static. */
HSTU_API const hstu_known_dataset *hstu_known_dataset_find(const char *name);
/* The data set number i, from 0; NULL past the last. Static. */
HSTU_API const hstu_known_dataset *hstu_known_dataset_at(size_t i);

#ifdef __cplusplus
}
#endif
#endif
