/* One request on its way, shared by http.c and http_setup.c. */
#ifndef HS_FETCH_HTTP_INT_H
#define HS_FETCH_HTTP_INT_H

#include "fetch/http.h"
#include "fetch/url.h"

#include <curl/curl.h>

struct hs_http {
    const hstu_fetch_options *options;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *header;
    char trouble[CURL_ERROR_SIZE]; /* curl's own words */
    char url[HS_URL_MAX];          /* of this hop */
    char shown[200];               /* of the request, for errors */
    /* This hop's answer. */
    const hs_http_request *request;
    hs_response response;
    size_t head_bytes;
    uint64_t body_bytes;
    bool begun;         /* the sink has seen the head */
    hstu_status status; /* why a callback ended the hop */
    hstu_error err;
};

/* The handle's options for the hop to http->url. */
hstu_status hs_http_prepare(hs_http *http, hstu_error *err);

#endif
