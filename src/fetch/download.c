/* The tries of a download, and the proof at its end. */
#include "fetch/download.h"

#include "base/error.h"
#include "fetch/diskspace.h"
#include "fetch/notice.h"
#include "fetch/retry.h"
#include "fetch/url.h"

#include <inttypes.h>
#include <string.h>

enum { ENOUGH_BYTES = 1 << 20 };

static void tick(void *ctx)
{
    const hs_download *d = ctx;
    const int64_t total = hs_download_total(d);
    hs_notice_step(&d->options->progress, "downloading", d->part->bytes, total > 0 ? (uint64_t)total : 0);
}

static bool is_whole(const hs_download *d)
{
    return d->complete ||
           (hs_download_total(d) >= 0 && d->part->bytes == (uint64_t)hs_download_total(d) && d->part->bytes);
}

/* Whether what an earlier call or try left may be continued: the same file, which can be told from another. */
static bool may_continue(const hs_download *d)
{
    const hs_partinfo *info = &d->part->info;
    char url[HS_URL_MAX];
    hs_url_show(d->options->url, url, sizeof url);
    if (strcmp(url, info->url) != 0)
        return false;
    if (d->expected->bytes >= 0 && info->bytes >= 0 && info->bytes != d->expected->bytes)
        return false;
    if ((d->expected->bytes >= 0 && d->part->bytes > (uint64_t)d->expected->bytes) ||
        d->part->bytes > d->options->max_bytes)
        return false;
    const bool known = d->expected->checksum.kind != HS_CHECKSUM_NONE;
    if (known && info->checksum.kind != HS_CHECKSUM_NONE && !hs_checksum_equal(&info->checksum, &d->expected->checksum))
        return false;
    return known || info->validator[0];
}

/* One connection, or as many as redirects need. */
static hstu_status try_once(hs_download *d, hstu_error *err)
{
    if (d->part->bytes && !may_continue(d))
        HS_TRY(hs_download_forget(d, err));
    const hs_http_request request = {.url = d->options->url,
        .offset = d->part->bytes,
        .if_range = d->part->info.validator,
        .sink = {d, hs_download_begin, hs_download_take, tick}};
    d->started = d->again = false;
    d->gained = d->ignored = 0;
    d->retry_after_s = -1;
    d->report->n_tries++;
    const hstu_status status = hs_http_get(d->http, &request, &d->again, err);
    if (d->complete && status != HSTU_ENOMEM && status != HSTU_ECANCELLED) /* how a 416 ends does not matter */
        return HSTU_OK;
    HS_TRY(status);
    tick(d);
    const int64_t total = hs_download_total(d);
    if (total >= 0 && d->part->bytes != (uint64_t)total) {
        d->again = true;
        return hs_fail(err, HSTU_EIO, d->part->bytes,
            "cannot download %s: the connection ended after %" PRIu64 " of %" PRId64 " bytes", d->shown, d->part->bytes,
            total);
    }
    d->complete = true;
    return HSTU_OK;
}

static hstu_status try_until_whole(hs_download *d, hstu_error *err)
{
    hs_retry retry = {.options = d->options, .max_tries = d->options->max_tries};
    while (!is_whole(d)) {
        hstu_error why;
        const int n_restarts = d->n_restarts;
        const hstu_status status = try_once(d, &why);
        if (status == HSTU_OK)
            continue;
        /* A file that changes without end would otherwise be begun anew without end. */
        if (!d->again || d->n_restarts > d->options->max_tries) {
            if (err)
                *err = why;
            return status;
        }
        if (d->n_restarts > n_restarts && !d->started) { /* only what was here was at fault */
            hs_notice_warn(&d->options->progress, "%s; beginning anew", why.msg);
            continue;
        }
        HS_TRY(hs_retry_wait(&retry, &why, d->retry_after_s, d->gained >= ENOUGH_BYTES, err));
    }
    return HSTU_OK;
}

static hstu_status take_stock(hs_download *d, hstu_error *err)
{
    const hs_checksum_kind kind = d->expected->checksum.kind;
    hs_url_show(d->options->url, d->shown, sizeof d->shown);
    hs_digest_start(&d->digest, kind == HS_CHECKSUM_NONE ? HS_CHECKSUM_SHA256 : kind);
    if (d->part->bytes && !may_continue(d))
        HS_TRY(hs_download_forget(d, err));
    d->joined = d->part->bytes > 0;
    d->report->n_resumed_bytes = d->part->bytes;
    const int64_t total = hs_download_total(d);
    const uint64_t left = total > 0 && (uint64_t)total > d->part->bytes ? (uint64_t)total - d->part->bytes : 0;
    HS_TRY(hs_diskspace_check(d->part->path.text, left, d->options->extra_bytes, err));
    return hs_digest_read(&d->digest, d->part->fd, d->part->path.text, d->part->bytes, &d->options->progress, err);
}

static hstu_status verify(hs_download *d, hs_checksum *checksum, hstu_error *err)
{
    char found[HS_CHECKSUM_TEXT], wanted[HS_CHECKSUM_TEXT];
    const hs_checksum *expected = &d->expected->checksum;
    HS_TRY(hs_digest_read(&d->digest, d->part->fd, d->part->path.text, d->part->bytes, &d->options->progress, err));
    *checksum = hs_digest_value(&d->digest);
    if (expected->kind == HS_CHECKSUM_NONE || hs_checksum_equal(checksum, expected))
        return HSTU_OK;
    hs_checksum_text(checksum, found);
    hs_checksum_text(expected, wanted);
    return hs_fail(err, HSTU_EFORMAT, 0, "%s arrived with the checksum %s, expected %s by %s: it was thrown away",
        d->shown, found, wanted, d->expected->source);
}

hstu_status hs_download_run(hs_download *d, hs_checksum *checksum, hstu_error *err)
{
    HS_TRY(take_stock(d, err));
    for (;;) {
        hstu_error why;
        HS_TRY(try_until_whole(d, err));
        const bool joined = d->joined;
        const hstu_status status = verify(d, checksum, &why);
        if (status == HSTU_OK)
            return HSTU_OK;
        if (status == HSTU_EFORMAT)
            HS_TRY(hs_download_forget(d, err));
        /* Two files may have been joined where a server did not tell them apart: from one connection it cannot be so. */
        if (status != HSTU_EFORMAT || !joined || d->n_restarts > d->options->max_tries) {
            if (err)
                *err = why;
            return status;
        }
        hs_notice_warn(
            &d->options->progress, "%s; downloading it anew, as it had been put together from parts", why.msg);
        d->n_restarts++;
        d->complete = false;
    }
}
