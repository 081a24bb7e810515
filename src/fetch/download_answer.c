/* The server's answer to the request for the file: which bytes these are, and whether they belong to those at hand.
 * RFC 9110 sections 14 (ranges) and 13.1.5 (If-Range). */
#include "fetch/download.h"

#include "base/error.h"
#include "fetch/diskspace.h"
#include "fetch/url.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_IGNORED_BYTES = 64 << 10 };

int64_t hs_download_total(const hs_download *d)
{
    return d->expected->bytes >= 0 ? d->expected->bytes : d->part->info.bytes;
}

hstu_status hs_download_forget(hs_download *d, hstu_error *err)
{
    const hs_partinfo none = {.bytes = -1};
    d->joined = false;
    hs_digest_start(&d->digest, d->digest.kind);
    d->report->n_resumed_bytes = 0;
    return hs_partfile_restart(d->part, &none, err);
}

static hstu_status check_size(const hs_download *d, int64_t bytes, hstu_error *err)
{
    if (bytes < 0)
        return HSTU_OK;
    if (d->expected->bytes >= 0 && bytes != d->expected->bytes)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s has %" PRId64 " bytes on the server, expected %" PRId64 " bytes%s%s",
            d->shown, bytes, d->expected->bytes, d->expected->source[0] ? " by " : "", d->expected->source);
    if ((uint64_t)bytes > d->options->max_bytes)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s has %" PRId64 " bytes, more than the limit of %" PRIu64, d->shown,
            bytes, d->options->max_bytes);
    return HSTU_OK;
}

/* The whole file from its first byte. What was at hand is given up only now that the new one looks right. */
static hstu_status begin_whole(hs_download *d, const hs_response *r, hstu_error *err)
{
    hs_partinfo info = {.bytes = r->length, .checksum = d->expected->checksum};
    HS_TRY(check_size(d, r->length, err));
    if (r->length < 0 && !r->self_delimiting && d->expected->bytes < 0 &&
        d->expected->checksum.kind == HS_CHECKSUM_NONE)
        return hs_fail(err, HSTU_EIO, 0,
            "cannot download %s: the server does not say how long it is, and without a checksum a broken "
            "connection would look like its end",
            d->shown);
    if (info.bytes < 0)
        info.bytes = d->expected->bytes;
    hs_url_show(d->options->url, info.url, sizeof info.url);
    (void)snprintf(info.etag, sizeof info.etag, "%s", r->etag);
    (void)snprintf(info.modified, sizeof info.modified, "%s", r->modified);
    (void)snprintf(info.validator, sizeof info.validator, "%s", hs_response_validator(r));
    if (d->part->bytes) {
        d->n_restarts++;
        HS_TRY(hs_download_forget(d, err));
    }
    HS_TRY(hs_diskspace_check(
        d->part->path.text, info.bytes > 0 ? (uint64_t)info.bytes : 0, d->options->extra_bytes, err));
    HS_TRY(hs_partfile_restart(d->part, &info, err));
    d->started = true;
    return HSTU_OK;
}

static bool differs(const char *a, const char *b)
{
    return a[0] && b[0] && strcmp(a, b) != 0;
}

/* The rest of the file. A server that knows no If-Range may send the rest of another one: its tags and size tell. */
static hstu_status begin_rest(hs_download *d, const hs_response *r, hstu_error *err)
{
    hs_partinfo *info = &d->part->info;
    if (r->range_first < 0 || (uint64_t)r->range_first != d->part->bytes) {
        d->again = true;
        d->n_restarts++;
        HS_TRY(hs_download_forget(d, err));
        return hs_fail(
            err, HSTU_EFORMAT, 0, "cannot download %s: the server sent other bytes than those asked for", d->shown);
    }
    const bool other_size = info->bytes >= 0 && r->range_total >= 0 && r->range_total != info->bytes;
    if (other_size || differs(info->etag, r->etag) || differs(info->modified, r->modified)) {
        d->again = true;
        d->n_restarts++;
        HS_TRY(hs_download_forget(d, err));
        return hs_fail(err, HSTU_EFORMAT, 0, "the file %s has changed on the server during the download", d->shown);
    }
    HS_TRY(check_size(d, r->range_total, err));
    if (info->bytes < 0)
        info->bytes = r->range_total;
    d->joined = true;
    d->started = true;
    return HSTU_OK;
}

/* "Range not satisfiable": either there is no byte behind ours, or the file became shorter. */
static hstu_status begin_nothing(hs_download *d, const hs_response *r, hstu_error *err)
{
    if (r->range_total >= 0 && (uint64_t)r->range_total == d->part->bytes &&
        (hs_download_total(d) < 0 || hs_download_total(d) == r->range_total)) {
        d->complete = true;
        return HSTU_OK;
    }
    d->again = true;
    d->n_restarts++;
    HS_TRY(hs_download_forget(d, err));
    return hs_fail(err, HSTU_EFORMAT, 0, "the server has no rest of %s behind the bytes that are here", d->shown);
}

hstu_status hs_download_begin(void *ctx, const hs_response *response, hstu_error *err)
{
    hs_download *d = ctx;
    d->again = false;
    d->retry_after_s = response->retry_after_s;
    if (response->status == 200)
        return begin_whole(d, response, err);
    if (response->status == 206 && d->part->bytes)
        return begin_rest(d, response, err);
    if (response->status == 416 && d->part->bytes)
        return begin_nothing(d, response, err);
    return hs_response_refusal(response, d->shown, &d->again, err);
}

hstu_status hs_download_take(void *ctx, const void *data, size_t n, hstu_error *err)
{
    hs_download *d = ctx;
    const int64_t total = hs_download_total(d);
    const uint64_t limit = total >= 0 ? (uint64_t)total : d->options->max_bytes;
    d->again = false;
    d->report->n_received_bytes += n;
    if (!d->started) { /* the text behind a 416 */
        d->ignored += n;
        return d->ignored <= MAX_IGNORED_BYTES
                   ? HSTU_OK
                   : hs_fail(err, HSTU_EFORMAT, 0, "the server sends too much text for %s", d->shown);
    }
    if (n > limit - d->part->bytes) {
        HS_TRY(hs_download_forget(d, err));
        return hs_fail(err, HSTU_EFORMAT, 0, "the server sends more for %s than the %" PRIu64 " bytes %s", d->shown,
            limit, total >= 0 ? "that it should have" : "of the limit");
    }
    HS_TRY(hs_partfile_append(d->part, data, n, err));
    if (d->digest.done == d->part->bytes - n)
        hs_digest_add(&d->digest, data, n);
    d->gained += n;
    return HSTU_OK;
}
