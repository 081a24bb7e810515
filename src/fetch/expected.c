/* What the file must be. */
#include "fetch/expected.h"

#include "base/dynbuf.h"
#include "base/error.h"
#include "fetch/published.h"
#include "fetch/retry.h"
#include "fetch/url.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TRIES = 3 }; /* for a list: the download itself is worth more patience */

typedef struct list {
    const char *url;
    char shown[200];
    hs_dynbuf text;
    bool again;
    int64_t retry_after_s;
} list;

static hstu_status begin(void *ctx, const hs_response *response, hstu_error *err)
{
    list *l = ctx;
    l->retry_after_s = response->retry_after_s;
    return response->status == 200 ? HSTU_OK : hs_response_refusal(response, l->shown, &l->again, err);
}

static hstu_status take(void *ctx, const void *data, size_t n, hstu_error *err)
{
    list *l = ctx;
    l->again = false;
    if (hs_dynbuf_append(&l->text, data, n))
        return HSTU_OK;
    if (l->text.out_of_memory)
        return hs_fail_nomem(err, l->text.len + n, "a list of files");
    return hs_fail(err, HSTU_EFORMAT, 0, "the list at %s is longer than %d bytes", l->shown, HS_PUBLISHED_MAX_BYTES);
}

static hstu_status download(list *l, hs_http *http, const hstu_fetch_options *options, hstu_error *err)
{
    hs_retry retry = {.options = options, .max_tries = options->max_tries < MAX_TRIES ? options->max_tries : MAX_TRIES};
    const hs_http_request request = {.url = l->url, .if_range = "", .sink = {l, begin, take, NULL}};
    for (;;) {
        hstu_error why;
        hs_dynbuf_free(&l->text);
        hs_dynbuf_init(&l->text, HS_PUBLISHED_MAX_BYTES);
        l->retry_after_s = -1;
        const hstu_status status = hs_http_get(http, &request, &l->again, &why);
        if (status == HSTU_OK)
            return HSTU_OK;
        if (!l->again) {
            if (err)
                *err = why;
            return status;
        }
        HS_TRY(hs_retry_wait(&retry, &why, l->retry_after_s, 0, err));
    }
}

typedef hstu_status (*reader)(
    hs_published *out, const char *text, size_t len, const char *name, const char *url, hstu_error *err);

/* Puts what the list says into *out, or the reason why it says nothing into out->why_not. */
static hstu_status ask(hs_expected *out, hs_http *http, const hstu_fetch_options *options, const char *url,
    const char *name, hstu_fetch_proof proof, hstu_error *err)
{
    const reader read = proof == HSTU_FETCH_RECORD ? hs_published_record : hs_published_checksums;
    list l = {.url = url};
    hs_published found = {.bytes = -1};
    hstu_error why;
    hs_dynbuf_init(&l.text, HS_PUBLISHED_MAX_BYTES);
    hs_url_show(url, l.shown, sizeof l.shown);
    hstu_status status = download(&l, http, options, &why);
    if (status == HSTU_OK)
        status = read(&found, l.text.len ? l.text.data : "", l.text.len, name, l.shown, &why);
    hs_dynbuf_free(&l.text);
    if (status == HSTU_ENOMEM || status == HSTU_ECANCELLED) {
        if (err)
            *err = why;
        return status;
    }
    if (status != HSTU_OK) {
        (void)snprintf(out->why_not, sizeof out->why_not, "%.390s", why.msg);
        return HSTU_OK;
    }
    if (found.bytes >= 0 && out->bytes >= 0 && found.bytes != out->bytes)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%.100s' should have %" PRId64 " bytes, but the list at %s says %" PRId64,
            name, out->bytes, l.shown, found.bytes);
    out->checksum = found.checksum;
    out->bytes = found.bytes >= 0 ? found.bytes : out->bytes;
    out->proof = proof;
    (void)snprintf(out->source, sizeof out->source, "the %s at %s",
        proof == HSTU_FETCH_RECORD ? "list of files" : "checksum file", l.shown);
    return HSTU_OK;
}

static hstu_status use(hs_expected *out, const char *text, const char *option, hstu_fetch_proof proof, hstu_error *err)
{
    if (!hs_checksum_parse(&out->checksum, text, strlen(text)))
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s must be md5:HEX with 32 or sha256:HEX with 64 hexadecimal digits, found '%.100s'", option, text);
    out->proof = proof;
    (void)snprintf(out->source, sizeof out->source, "%s", option);
    return HSTU_OK;
}

hstu_status hs_expected_find(hs_expected *out, hs_http *http, const hstu_fetch_options *o, hstu_error *err)
{
    hs_expected e = {.bytes = o->expected_bytes, .why_not = "no checksum was given"};
    char name[256];
    if (o->name)
        (void)snprintf(name, sizeof name, "%s", o->name);
    else
        hs_url_name(o->url, name, sizeof name);
    if (o->checksum)
        HS_TRY(use(&e, o->checksum, "the given checksum", HSTU_FETCH_GIVEN, err));
    if (e.checksum.kind == HS_CHECKSUM_NONE && o->record_url)
        HS_TRY(ask(&e, http, o, o->record_url, name, HSTU_FETCH_RECORD, err));
    if (e.checksum.kind == HS_CHECKSUM_NONE && o->checksum_url)
        HS_TRY(ask(&e, http, o, o->checksum_url, name, HSTU_FETCH_CHECKSUM_FILE, err));
    if (e.checksum.kind == HS_CHECKSUM_NONE && o->known_checksum)
        HS_TRY(use(&e, o->known_checksum, "the known checksum", HSTU_FETCH_KNOWN, err));
    if (e.checksum.kind == HS_CHECKSUM_NONE && o->require_checksum)
        return hs_fail(err, HSTU_EIO, 0, "a checksum is required, and there is none: %.380s", e.why_not);
    *out = e;
    return HSTU_OK;
}
