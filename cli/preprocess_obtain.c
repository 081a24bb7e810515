/* Download, verification and unpacking, in the order that leaves something to go on with after any failure. */
#include "cli/preprocess_obtain.h"

#include "base/error.h"
#include "base/folder.h"
#include "hstu/archive.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* What preprocessing reads of an archive. */
typedef struct raw_files {
    const char *dataset;
    const char *folder; /* below the data set's own; "" for that itself */
    const char
        *pattern[4]; /* what a data set cannot be without stands last, so that who finds it has all; NULL behind them */
    uint64_t bytes;  /* of these files, roughly: as published, or at 75 a row */
} raw_files;

static const raw_files raw[] = {
    {"KuaiRand-Pure", "data", {"user_features_pure.csv", "log_standard_*_pure.csv"}, 110000000},
    {"KuaiRand-1K", "data", {"user_features_1k.csv", "log_standard_*_1k.csv"}, 900000000},
    {"KuaiRand-27K", "data", {"user_features_27k.csv", "log_standard_*_27k_part?.csv"}, 24500000000},
    {"ml-1m", "", {"movies.dat", "users.dat", "ratings.dat"}, 25000000},
    {"ml-20m", "", {"movies.csv", "ratings.csv"}, 535000000},
};

static const raw_files *raw_of(const hstu_known_dataset *known)
{
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        if (strcmp(raw[i].dataset, known->name) == 0)
            return &raw[i];
    }
    return NULL;
}

const hstu_known_dataset *hs_obtain_known(const char *dataset_name)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%s", strlen(dataset_name) < sizeof name ? dataset_name : "");
    if (strncasecmp(name, "ml_", 3) == 0)
        name[2] = '-';
    const hstu_known_dataset *known = hstu_known_dataset_find(name);
    return known && raw_of(known) ? known : NULL;
}

/* Preprocessing looks into the folder that is called as the user wrote before the one of the data set's own name. */
static hstu_status find_folder(hs_path *out, const hs_obtain *o, hstu_error *err)
{
    hs_path top;
    const char *inner = raw_of(o->known)->folder;
    HS_TRY(hs_path_join(&top, o->data_root, o->dataset_name, err));
    if (!*inner || !hs_path_is_folder(top.text))
        HS_TRY(hs_path_join(&top, o->data_root, o->known->name, err));
    if (*inner)
        HS_TRY(hs_path_join(&top, top.text, inner, err));
    *out = top;
    return HSTU_OK;
}

/* The raw files, and beside them what preprocessing keeps on the disk for a while and the results. */
static uint64_t space_bytes(const hs_obtain *o)
{
    return raw_of(o->known)->bytes / 4 * 7;
}

static void on_named(void *ctx, const char *path)
{
    hs_obtain *o = ctx;
    if (o->n_made < HS_OBTAIN_MAX_FILES && strlen(path) < sizeof o->made[0].text)
        memcpy(o->made[o->n_made++].text, path, strlen(path) + 1);
}

/* What is verified has the sizes that are known of it. */
static hstu_status unpack(hs_obtain *o, const char *archive, const char *verified_by, hstu_error *err)
{
    const raw_files *files = raw_of(o->known);
    hstu_unpack_options options;
    hstu_unpack_report report;
    HS_TRY(find_folder(&o->folder, o, err));
    hstu_unpack_options_init(&options);
    options.archive = archive;
    options.folder = o->folder.text;
    options.pattern = files->pattern;
    while (options.n_patterns < sizeof files->pattern / sizeof *files->pattern && files->pattern[options.n_patterns])
        options.n_patterns++;
    options.flat = 1;
    options.needed_bytes = *verified_by && !o->checksum ? space_bytes(o) : 0;
    options.max_files = HS_OBTAIN_MAX_FILES;
    options.named = on_named;
    options.named_ctx = o;
    options.progress = o->console->progress;
    HS_TRY(hstu_unpack(&options, &report, err));
    (void)snprintf(o->origin, sizeof o->origin, "unpacked %llu files (%llu bytes) of %.150s, %s%.200s",
        (unsigned long long)report.n_files, (unsigned long long)report.n_bytes, archive,
        *verified_by ? "verified by " : "not verified", verified_by);
    return HSTU_OK;
}

static bool wants_no_checksum(const hs_obtain *o)
{
    return o->checksum && strcmp(o->checksum, "none") == 0;
}

static hstu_fetch_options fetch_options(const hs_obtain *o, const char *path)
{
    hstu_fetch_options options;
    hstu_fetch_options_init(&options);
    options.url = o->url ? o->url : o->known->url;
    options.path = path;
    options.name = o->known->archive;
    options.checksum = wants_no_checksum(o) ? NULL : o->checksum;
    options.known_checksum = wants_no_checksum(o) ? NULL : o->known->checksum;
    options.progress = o->console->progress;
    return options;
}

/* A file that is there is compared and never replaced. The network is not asked: who has a file at hand may have none. */
hstu_status hs_obtain_archive(hs_obtain *o, hstu_error *err)
{
    hstu_fetch_report report = {.proof = HSTU_FETCH_UNVERIFIED};
    struct stat st;
    if (access(o->archive, R_OK) != 0 || stat(o->archive, &st) != 0)
        return hs_fail(
            err, HSTU_ENOENT, 0, "the archive '%s' of --archive does not exist, or may not be read", o->archive);
    if (!S_ISREG(st.st_mode))
        return hs_fail(err, HSTU_EINVAL, 0, "the archive '%s' of --archive is no regular file", o->archive);
    const hstu_fetch_options options = fetch_options(o, o->archive);
    const hstu_status status = hstu_fetch(&options, &report, err);
    if (status == HSTU_EFORMAT && options.checksum)
        return hs_fail(err, status, 0,
            "'%.200s' is not the file that --checksum names: expected %.100s; nothing was unpacked", o->archive,
            o->checksum);
    if (status == HSTU_EFORMAT)
        hs_console_warn(o->console, "'%s' is not the published %s (%s), and is unpacked unverified", o->archive,
            o->known->archive, o->known->checksum);
    else
        HS_TRY(status);
    return unpack(o, o->archive, report.verified_by, err);
}

/* The download's error with the way round the network. */
static hstu_status fail_download(const hs_obtain *o, hstu_status status, hstu_error *err)
{
    const hstu_error why = *err;
    if (status != HSTU_EIO && status != HSTU_ENOENT)
        return status;
    /* Of the network or the disk: what is said must be true of both. */
    const char *kept =
        status == HSTU_EIO ? "what has arrived is kept for the next run; without a way to the server, " : "";
    return hs_fail(
        err, status, 0, "%.260s; %sfetch %s by hand and name it with --archive", why.msg, kept, o->known->url);
}

/* User name and password are nobody's to read. */
static void tell_download(const char *url, const char *path)
{
    const char *begin = strstr(url, "://");
    begin = begin ? begin + 3 : url;
    const char *host = begin;
    for (const char *c = begin; *c && !strchr("/?#", *c); c++) {
        if (*c == '@')
            host = c + 1;
    }
    (void)fprintf(stderr, "hstu: downloading %.*s%s to %s\n", (int)(begin - url), url, host, path);
}

static hstu_status fetch(hs_obtain *o, const char *path, hstu_fetch_report *report, hstu_error *err)
{
    hstu_fetch_options options = fetch_options(o, path);
    hstu_error why;
    if (!wants_no_checksum(o)) {
        options.record_url = o->known->record_url;
        options.checksum_url = o->known->checksum_url;
    }
    options.extra_bytes = space_bytes(o);
    if (!o->quiet)
        tell_download(options.url, path);
    const hstu_status status = hstu_fetch(&options, report, &why);
    if (status == HSTU_OK)
        return HSTU_OK;
    if (err)
        *err = why;
    return err ? fail_download(o, status, err) : status;
}

hstu_status hs_obtain_download(hs_obtain *o, hstu_error *err)
{
    hstu_fetch_report report;
    hs_path path;
    HS_TRY(hs_folder_make(o->data_root, err));
    HS_TRY(hs_path_join(&path, o->data_root, o->known->archive, err));
    HS_TRY(fetch(o, path.text, &report, err));
    const hstu_status status = unpack(o, path.text, report.verified_by, err);
    const size_t n = strlen(o->origin);
    if (status == HSTU_OK && report.already_there)
        (void)snprintf(o->origin + n, sizeof o->origin - n, "; it was there before and is kept");
    /* What nobody vouched for and cannot be used would stand in the way of the next try. */
    const bool useless = status == HSTU_EFORMAT && report.proof == HSTU_FETCH_UNVERIFIED;
    if (!report.already_there && (status == HSTU_OK || useless))
        (void)unlink(path.text);
    return status;
}

void hs_obtain_remove(hs_obtain *o)
{
    while (o->n_made)
        (void)unlink(o->made[--o->n_made].text);
    if (o->folder.text[0])
        (void)rmdir(o->folder.text); /* unless other files are in it */
}
