/* Running one request: hops, callbacks, and the clock. */
#include "fetch/http.h"

#include "base/clock.h"
#include "base/error.h"
#include "fetch/http_int.h"
#include "fetch/notice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_HOPS = 10, MAX_HEAD_BYTES = 256 << 10, MAX_REDIRECT_BODY_BYTES = 64 << 10, POLL_MS = 100 };

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static size_t on_head(char *line, size_t one, size_t n, void *ctx)
{
    hs_http *http = ctx;
    (void)one;
    http->head_bytes += n;
    if (http->head_bytes > MAX_HEAD_BYTES) {
        http->status = hs_fail(&http->err, HSTU_EFORMAT, 0,
            "cannot download %s: the server's headers are longer than %d bytes", http->shown, MAX_HEAD_BYTES);
        return 0;
    }
    if (http->begun) /* behind a chunked body */
        return n;
    if (n > 2 || (n == 2 && line[0] != '\r')) {
        hs_response_line(&http->response, line, n);
        return n;
    }
    if (http->response.status < 200 || is_redirect(http->response.status))
        return n;
    if (http->response.chunked) /* then Content-Length does not count */
        http->response.length = -1;
    http->begun = true;
    http->status = http->request->sink.begin(http->request->sink.ctx, &http->response, &http->err);
    return http->status == HSTU_OK ? n : 0;
}

static size_t on_body(char *data, size_t one, size_t n, void *ctx)
{
    hs_http *http = ctx;
    (void)one;
    http->body_bytes += n;
    if (!http->begun)
        return is_redirect(http->response.status) && http->body_bytes <= MAX_REDIRECT_BODY_BYTES ? n : 0;
    http->status = http->request->sink.take(http->request->sink.ctx, data, n, &http->err);
    return http->status == HSTU_OK ? n : 0;
}

/* What may have gone wrong on the way; the rest is in the request, the certificates or this machine. */
static bool may_pass(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static hstu_status fail_curl(hs_http *http, CURLcode code, bool *again, hstu_error *err)
{
    if (code == CURLE_OUT_OF_MEMORY)
        return hs_fail_nomem(err, HS_URL_MAX, "a connection");
    *again = may_pass(code);
    const char *words = http->trouble[0] ? http->trouble : curl_easy_strerror(code);
    const bool certificate = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    return hs_fail(err, HSTU_EIO, 0, "cannot download %s: %s%.200s", http->shown,
        certificate ? "the server's certificate was not accepted: " : "", words);
}

typedef struct watch {
    double begin_s;
    uint64_t begin_bytes;
} watch;

/* Too little in the time allowed: a connection that is dead without saying so. */
static hstu_status check_pace(const hs_http *http, watch *w, bool *again, hstu_error *err)
{
    const hstu_fetch_options *o = http->options;
    const double now = hs_clock_s();
    if (now - w->begin_s < (double)o->stall_timeout_ms / 1000)
        return HSTU_OK;
    if (http->body_bytes - w->begin_bytes < o->stall_bytes) {
        *again = true;
        return hs_fail(err, HSTU_EIO, 0,
            "cannot download %s: the transfer stalled, %" PRIu64 " bytes arrived in the last %.1f s", http->shown,
            http->body_bytes - w->begin_bytes, now - w->begin_s);
    }
    *w = (watch){now, http->body_bytes};
    return HSTU_OK;
}

static bool has_ended(const hs_http *http, CURLcode *code)
{
    int left = 0;
    const CURLMsg *message;
    while ((message = curl_multi_info_read(http->multi, &left))) {
        if (message->msg == CURLMSG_DONE) {
            *code = message->data.result;
            return true;
        }
    }
    return false;
}

/* Until curl has ended the hop (*code), or time or the caller end it. */
static hstu_status drive(hs_http *http, CURLcode *code, bool *again, hstu_error *err)
{
    watch w = {hs_clock_s(), 0};
    for (;;) {
        int running = 0;
        CURLMcode trouble = curl_multi_perform(http->multi, &running);
        if (trouble == CURLM_OK && has_ended(http, code))
            return HSTU_OK;
        if (trouble == CURLM_OK)
            trouble = curl_multi_poll(http->multi, NULL, 0, POLL_MS, NULL);
        if (trouble == CURLM_OUT_OF_MEMORY)
            return hs_fail_nomem(err, HS_URL_MAX, "a connection");
        if (trouble != CURLM_OK)
            return hs_fail(err, HSTU_EIO, 0, "cannot download %s: %s", http->shown, curl_multi_strerror(trouble));
        HS_TRY(hs_notice_check(&http->options->progress, err));
        if (http->request->sink.tick)
            http->request->sink.tick(http->request->sink.ctx);
        HS_TRY(check_pace(http, &w, again, err));
    }
}

static hstu_status run_hop(hs_http *http, bool *again, hstu_error *err)
{
    http->response = (hs_response){0};
    http->head_bytes = 0;
    http->body_bytes = 0;
    http->begun = false;
    http->status = HSTU_OK;
    HS_TRY(hs_http_prepare(http, err));
    (void)curl_easy_setopt(http->easy, CURLOPT_HEADERFUNCTION, on_head);
    (void)curl_easy_setopt(http->easy, CURLOPT_HEADERDATA, http);
    (void)curl_easy_setopt(http->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(http->easy, CURLOPT_WRITEDATA, http);
    if (curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
        return hs_fail_nomem(err, HS_URL_MAX, "a connection");
    CURLcode code = CURLE_OK;
    const hstu_status status = drive(http, &code, again, err);
    (void)curl_multi_remove_handle(http->multi, http->easy);
    HS_TRY(status);
    if (http->status != HSTU_OK) {
        if (err)
            *err = http->err;
        return http->status;
    }
    if (is_redirect(http->response.status) && (code == CURLE_OK || code == CURLE_WRITE_ERROR))
        return HSTU_OK;
    if (code != CURLE_OK)
        return fail_curl(http, code, again, err);
    *again = !http->begun;
    return http->begun ? HSTU_OK
                       : hs_fail(err, HSTU_EIO, 0, "cannot download %s: the server's answer is not HTTP", http->shown);
}

/* Makes the place that the answer names the next hop's URL. */
static hstu_status redirect(hs_http *http, hstu_error *err)
{
    const char *next = NULL;
    char shown[200];
    if (curl_easy_getinfo(http->easy, CURLINFO_REDIRECT_URL, &next) != CURLE_OK || !next)
        return hs_fail(err, HSTU_EFORMAT, 0, "cannot download %s: the server redirects (%ld) to no usable place",
            http->shown, http->response.status);
    hs_url_show(next, shown, sizeof shown);
    if (hs_url_scheme(next) == HS_SCHEME_OTHER)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "cannot download %s: the server redirects to %s, which is neither http nor https", http->shown, shown);
    if (hs_url_scheme(http->url) == HS_SCHEME_HTTPS && hs_url_scheme(next) != HS_SCHEME_HTTPS)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "cannot download %s: the server redirects from https to %s, which is not encrypted", http->shown, shown);
    hstu_error why;
    if (hs_url_check(next, "the place that the server redirects to", &why) != HSTU_OK)
        return hs_fail(err, HSTU_EFORMAT, 0, "cannot download %s: %.250s", http->shown, why.msg);
    (void)snprintf(http->url, sizeof http->url, "%s", next);
    return HSTU_OK;
}

hstu_status hs_http_get(hs_http *http, const hs_http_request *request, bool *again, hstu_error *err)
{
    *again = false;
    http->request = request;
    (void)snprintf(http->url, sizeof http->url, "%s", request->url);
    hs_url_show(request->url, http->shown, sizeof http->shown);
    for (int hop = 0; hop <= MAX_HOPS; hop++) {
        HS_TRY(run_hop(http, again, err));
        if (!is_redirect(http->response.status))
            return HSTU_OK;
        HS_TRY(redirect(http, err));
    }
    return hs_fail(
        err, HSTU_EIO, 0, "cannot download %s: the server redirects more than %d times", http->shown, MAX_HOPS);
}
