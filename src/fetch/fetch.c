/* The public call: options, the file that is there already, and the order of the steps. */
#include "hstu/fetch.h"

#include "base/error.h"
#include "fetch/download.h"
#include "fetch/notice.h"
#include "fetch/sigpipe.h"
#include "fetch/url.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void hstu_fetch_options_init(hstu_fetch_options *options)
{
    *options = (hstu_fetch_options){.size = sizeof *options,
        .expected_bytes = -1,
        .max_bytes = (uint64_t)1 << 40,
        .max_tries = 6,
        .retry_base_ms = 1000,
        .retry_max_ms = 60000,
        .retry_after_max_ms = 300000,
        .connect_timeout_ms = 30000,
        .stall_timeout_ms = 60000,
        .stall_bytes = 1024};
}

typedef struct bounds {
    const char *name;
    int64_t value, min, max;
} bounds;

static hstu_status check_numbers(const hstu_fetch_options *o, hstu_error *err)
{
    const int64_t day_ms = 86400000;
    const bounds list[] = {
        {"expected_bytes", o->expected_bytes, -1, INT64_MAX / 2},
        {"max_tries", o->max_tries, 1, 1000},
        {"retry_base_ms", o->retry_base_ms, 0, day_ms},
        {"retry_max_ms", o->retry_max_ms, 0, day_ms},
        {"retry_after_max_ms", o->retry_after_max_ms, 0, day_ms},
        {"connect_timeout_ms", o->connect_timeout_ms, 1, day_ms},
        {"stall_timeout_ms", o->stall_timeout_ms, 1, day_ms},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].value < list[i].min || list[i].value > list[i].max)
            return hs_fail(err, HSTU_EINVAL, 0, "%s must be from %" PRId64 " to %" PRId64 ", found %" PRId64,
                list[i].name, list[i].min, list[i].max, list[i].value);
    }
    if (o->max_bytes == 0 || o->max_bytes > INT64_MAX)
        return hs_fail(
            err, HSTU_EINVAL, 0, "max_bytes must be from 1 to %" PRId64 ", found %" PRIu64, INT64_MAX, o->max_bytes);
    return HSTU_OK;
}

static hstu_status check_options(const hstu_fetch_options *o, hstu_error *err)
{
    if (!o || o->size != sizeof *o)
        return hs_fail(err, HSTU_EINVAL, 0, "the fetch options were not made by hstu_fetch_options_init");
    if (!o->url || !o->path || !*hs_path_base(o->path))
        return hs_fail(err, HSTU_EINVAL, 0, "a download needs a URL and the path of a file");
    HS_TRY(hs_url_check(o->url, "the URL", err));
    if (o->record_url)
        HS_TRY(hs_url_check(o->record_url, "the record's URL", err));
    if (o->checksum_url)
        HS_TRY(hs_url_check(o->checksum_url, "the checksum file's URL", err));
    return check_numbers(o, err);
}

static hstu_status exists(const char *path, bool *out, hstu_error *err)
{
    struct stat st;
    *out = stat(path, &st) == 0;
    if (!*out)
        return errno == ENOENT ? HSTU_OK : hs_fail_errno(err, errno, "cannot examine '%s'", path);
    if (!S_ISREG(st.st_mode))
        return hs_fail(err, HSTU_EINVAL, 0, "cannot download to '%s': it is not a regular file", path);
    return HSTU_OK;
}

static void fill_report(hstu_fetch_report *report, const hs_expected *e, const hs_checksum *checksum, uint64_t n_bytes)
{
    report->proof = e->proof;
    report->n_bytes = n_bytes;
    hs_checksum_text(checksum, report->checksum);
    (void)snprintf(report->verified_by, sizeof report->verified_by, "%s", e->source);
}

static void warn_unverified(const hstu_fetch_options *o, const hs_expected *e, const hstu_fetch_report *report)
{
    if (e->proof == HSTU_FETCH_UNVERIFIED)
        hs_notice_warn(
            &o->progress, "'%s' was not verified (%s); its checksum is %s", o->path, e->why_not, report->checksum);
}

/* The file at hand is the one that is wanted, or the call fails. */
static hstu_status compare_existing(
    const hstu_fetch_options *o, const hs_expected *e, int fd, hs_checksum *found, uint64_t n_bytes, hstu_error *err)
{
    hs_digest digest;
    char is[HS_CHECKSUM_TEXT], should[HS_CHECKSUM_TEXT];
    if (e->bytes >= 0 && (uint64_t)e->bytes != n_bytes)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "'%.150s' is there but is not the right file: it has %" PRIu64 " bytes, expected %" PRId64
            "; once it is removed, it is downloaded anew",
            o->path, n_bytes, e->bytes);
    hs_digest_start(&digest, e->checksum.kind == HS_CHECKSUM_NONE ? HS_CHECKSUM_SHA256 : e->checksum.kind);
    HS_TRY(hs_digest_read(&digest, fd, o->path, n_bytes, &o->progress, err));
    *found = hs_digest_value(&digest);
    if (e->checksum.kind == HS_CHECKSUM_NONE || hs_checksum_equal(found, &e->checksum))
        return HSTU_OK;
    hs_checksum_text(found, is);
    hs_checksum_text(&e->checksum, should);
    return hs_fail(err, HSTU_EFORMAT, 0,
        "'%.100s' is there but is not the right file: its checksum is %s, expected %s by %.80s; once it is removed, it "
        "is downloaded anew",
        o->path, is, should, e->source);
}

static hstu_status use_existing(
    const hstu_fetch_options *o, const hs_expected *e, hstu_fetch_report *report, hstu_error *err)
{
    struct stat st;
    hs_checksum found;
    const int fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return hs_fail_errno(err, errno, "cannot open '%s'", o->path);
    hstu_status status = HSTU_OK;
    if (fstat(fd, &st) != 0)
        status = hs_fail_errno(err, errno, "cannot examine '%s'", o->path);
    else
        status = compare_existing(o, e, fd, &found, (uint64_t)st.st_size, err);
    (void)close(fd);
    HS_TRY(status);
    report->already_there = 1;
    fill_report(report, e, &found, (uint64_t)st.st_size);
    warn_unverified(o, e, report);
    return HSTU_OK;
}

static hstu_status download(const hstu_fetch_options *o, hs_http *http, hs_partfile *part, const hs_expected *e,
    hstu_fetch_report *report, hstu_error *err)
{
    hs_checksum checksum;
    hs_download d = {.options = o, .http = http, .part = part, .expected = e, .report = report};
    HS_TRY(hs_download_run(&d, &checksum, err));
    const uint64_t n_bytes = part->bytes;
    HS_TRY(hs_partfile_finish(part, err));
    fill_report(report, e, &checksum, n_bytes);
    warn_unverified(o, e, report);
    return HSTU_OK;
}

/* A folder that cannot be written is told before the network is asked. */
static hstu_status run(
    const hstu_fetch_options *o, hs_http *http, hs_partfile *part, hstu_fetch_report *report, hstu_error *err)
{
    hs_expected e;
    bool there = false;
    HS_TRY(hs_notice_check(&o->progress, err));
    HS_TRY(exists(o->path, &there, err));
    if (!there || o->force) {
        HS_TRY(hs_partfile_open(part, o->path, err));
        HS_TRY(exists(o->path, &there, err)); /* another call may have been about to finish */
    }
    HS_TRY(hs_expected_find(&e, http, o, err));
    if (!there || o->force)
        return download(o, http, part, &e, report, err);
    HS_TRY(use_existing(o, &e, report, err));
    hs_partfile_close(part);
    hs_partfile_tidy(o->path);
    return HSTU_OK;
}

hstu_status hstu_fetch(const hstu_fetch_options *options, hstu_fetch_report *report, hstu_error *err)
{
    hs_http *http = NULL;
    hs_partfile part = {.fd = -1};
    hs_sigpipe hold;
    hstu_fetch_report done = {0};
    HS_TRY(check_options(options, err));
    hs_sigpipe_hold(&hold);
    hstu_status status = hs_http_open(&http, options, err);
    if (status == HSTU_OK)
        status = run(options, http, &part, &done, err);
    hs_partfile_close(&part);
    hs_http_close(http);
    hs_sigpipe_release(&hold);
    if (status == HSTU_OK && report)
        *report = done;
    return status;
}
