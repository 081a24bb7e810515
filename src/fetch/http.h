/* One file from one server: requests, redirects, time limits. Nothing here knows of retries or files. */
#ifndef HS_FETCH_HTTP_H
#define HS_FETCH_HTTP_H

#include "fetch/response.h"

#include "hstu/fetch.h"

typedef struct hs_http hs_http;

/* What becomes of the answer. A function that fails ends the request, with its error. */
typedef struct hs_http_sink {
    void *ctx;
    /* The final answer's head, redirects followed, before any byte of its body. */
    hstu_status (*begin)(void *ctx, const hs_response *response, hstu_error *err);
    hstu_status (*take)(void *ctx, const void *data, size_t n, hstu_error *err);
    /* From time to time; may be NULL. */
    void (*tick)(void *ctx);
} hs_http_sink;

typedef struct hs_http_request {
    const char *url;
    uint64_t offset;      /* asks for the bytes from here on, when it is not 0 */
    const char *if_range; /* only if the file is still the one with this validator; "" for none */
    hs_http_sink sink;
} hs_http_request;

/* `options` must outlive it. */
hstu_status hs_http_open(hs_http **out, const hstu_fetch_options *options, hstu_error *err);
void hs_http_close(hs_http *http); /* NULL is fine */
/* HSTU_OK when the whole answer arrived and the sink took it. *again says whether what failed may succeed later; when the sink
 * failed it is left as the sink set it. */
hstu_status hs_http_get(hs_http *http, const hs_http_request *request, bool *again, hstu_error *err);

#endif
