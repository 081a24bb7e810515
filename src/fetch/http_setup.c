/* curl's handles and options: what a request may do, and what it says. */
#include "fetch/http_int.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 256 << 10 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode started;

/* curl's own state of the process is made once and never taken down: other users of curl in the process may need it. */
static void start(void)
{
    started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

hstu_status hs_http_open(hs_http **out, const hstu_fetch_options *options, hstu_error *err)
{
    (void)pthread_once(&once, start);
    if (started != CURLE_OK)
        return hs_fail(err, HSTU_EIO, 0, "libcurl does not start: %s", curl_easy_strerror(started));
    hs_http *http = hs_calloc(1, sizeof *http);
    if (!http)
        return hs_fail_nomem(err, sizeof *http, "a download");
    http->options = options;
    http->multi = curl_multi_init();
    http->easy = curl_easy_init();
    if (!http->multi || !http->easy) {
        hs_http_close(http);
        return hs_fail_nomem(err, BUFFER_BYTES, "a connection");
    }
    *out = http;
    return HSTU_OK;
}

void hs_http_close(hs_http *http)
{
    if (!http)
        return;
    curl_easy_cleanup(http->easy);
    if (http->multi)
        (void)curl_multi_cleanup(http->multi);
    curl_slist_free_all(http->header);
    hs_free(http);
}

/* http and https only, whatever else this libcurl can do. */
static CURLcode allow_schemes(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/* The library reads the proxy variables itself, but these are read by the curl program alone, in this order. */
static CURLcode use_certificates(CURL *easy)
{
    const char *bundle = getenv("CURL_CA_BUNDLE"), *folder = getenv("SSL_CERT_DIR"), *file = getenv("SSL_CERT_FILE");
    CURLcode code = CURLE_OK;
    if (bundle && *bundle)
        return curl_easy_setopt(easy, CURLOPT_CAINFO, bundle);
    if (folder && *folder)
        code = curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
    if (code == CURLE_OK && file && *file)
        code = curl_easy_setopt(easy, CURLOPT_CAINFO, file);
    return code;
}

static bool add_header(hs_http *http, const char *line)
{
    struct curl_slist *list = curl_slist_append(http->header, line);
    if (!list)
        return false;
    http->header = list;
    return true;
}

/* A compressed transfer would make lengths and ranges those of the compressed bytes. */
static bool make_headers(hs_http *http)
{
    char line[HS_TAG_MAX + 16];
    curl_slist_free_all(http->header);
    http->header = NULL;
    if (!add_header(http, "Accept-Encoding: identity"))
        return false;
    if (!http->request->offset || !*http->request->if_range)
        return true;
    (void)snprintf(line, sizeof line, "If-Range: %s", http->request->if_range);
    return add_header(http, line);
}

static CURLcode set_request(hs_http *http)
{
    CURL *easy = http->easy;
    char range[32];
    (void)snprintf(range, sizeof range, "%" PRIu64 "-", http->request->offset);
    const CURLcode code[] = {
        curl_easy_setopt(easy, CURLOPT_URL, http->url),
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->header),
        curl_easy_setopt(easy, CURLOPT_RANGE, http->request->offset ? range : NULL),
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "hstu"),
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L), /* http.c does, to say what it refuses */
        curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L),
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)http->options->connect_timeout_ms),
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->trouble),
        allow_schemes(easy),
        use_certificates(easy),
    };
    for (size_t i = 0; i < sizeof code / sizeof *code; i++) {
        if (code[i] != CURLE_OK)
            return code[i];
    }
    /* Refused while a buffer is there, as curl 7.88 leaves one when a name cannot be resolved: it has the size already. */
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    return CURLE_OK;
}

hstu_status hs_http_prepare(hs_http *http, hstu_error *err)
{
    curl_easy_reset(http->easy);
    http->trouble[0] = '\0';
    const CURLcode code = make_headers(http) ? set_request(http) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OUT_OF_MEMORY)
        return hs_fail_nomem(err, HS_URL_MAX, "a request");
    if (code != CURLE_OK)
        return hs_fail(err, HSTU_EIO, 0, "cannot download %s: %s", http->shown, curl_easy_strerror(code));
    return HSTU_OK;
}
