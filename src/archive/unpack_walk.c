/* From the archive's first entry to its last. What is not a plain file or a folder with a harmless name refuses all of it. */
#include "archive/unpack_int.h"
#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DATA_BYTES = 1 << 18 };

typedef struct walk {
    const hs_la *la;
    la_archive *archive;
    la_entry *entry;
    hs_unpack_source *source;
    const hstu_unpack_options *options;
    hs_unpack_files *files;
    hstu_unpack_report *report;
    unsigned char *data; /* [DATA_BYTES] */
    uint64_t n_entries;  /* the current one included */
    hs_path name;        /* of the current one */
    bool look;
} walk;

/* What libarchive says of a failure, unless one of the callbacks knows better. */
static hstu_status fail_library(const walk *w, const char *what, hstu_error *err)
{
    HS_TRY(hs_unpack_source_failure(w->source, err));
    const char *why = w->la->error_string(w->archive);
    return hs_fail(err, HSTU_EFORMAT, w->n_entries, "'%s' is damaged or cut short: %s (%.150s)", w->options->archive,
        what, why ? why : "no reason is given");
}

static hstu_status fail_entry(const walk *w, hstu_error *err)
{
    char what[300];
    (void)snprintf(what, sizeof what, "'%.250s' cannot be read", w->name.text);
    return fail_library(w, what, err);
}

static hstu_status refuse(const walk *w, const char *why, hstu_error *err)
{
    return hs_fail(err, HSTU_EFORMAT, w->n_entries, "'%s' is refused: entry %" PRIu64 " ('%.150s'): %s",
        w->options->archive, w->n_entries, w->name.text, why);
}

static const char *wrong_type(const walk *w)
{
    if (w->la->entry_hardlink(w->entry))
        return "it is a hard link, and only files and folders are unpacked";
    switch (w->la->entry_filetype(w->entry)) {
    case LA_FILE:
    case LA_FOLDER:
        break;
    case LA_LINK:
        return "it is a symbolic link, and only files and folders are unpacked";
    case LA_PIPE:
    case LA_SOCKET:
        return "it is a pipe or a socket, and only files and folders are unpacked";
    default:
        return "it is a device, and only files and folders are unpacked";
    }
    if (w->la->entry_is_encrypted(w->entry))
        return "it is encrypted";
    if (w->la->entry_sparse_count(w->entry) > 0)
        return "it is a sparse file";
    if (w->la->entry_size_is_set(w->entry) && w->la->entry_size(w->entry) < 0)
        return "its size is negative";
    return NULL;
}

static hstu_status check_entry(walk *w, hstu_error *err)
{
    const char *name = w->la->entry_pathname(w->entry);
    if (w->n_entries > w->options->max_entries)
        return hs_fail(err, HSTU_EUNSUP, w->n_entries,
            "'%s' holds more than %" PRIu64 " entries, the most that is allowed", w->options->archive,
            w->options->max_entries);
    w->name.text[0] = '\0';
    const char *why = name ? hs_unpack_name(&w->name, name) : "its name cannot be read";
    if (why) {
        (void)snprintf(w->name.text, sizeof w->name.text, "%.150s",
            name && strcmp(why, "its name is not UTF-8") != 0 ? name : "?");
        return refuse(w, why, err);
    }
    why = wrong_type(w);
    return why ? refuse(w, why, err) : HSTU_OK;
}

static hstu_status check_size(const walk *w, uint64_t bytes, hstu_error *err)
{
    if (bytes > w->options->max_file_bytes)
        return hs_fail(err, HSTU_EUNSUP, w->n_entries,
            "'%s': '%.150s' has more than %" PRIu64 " bytes, the most that is allowed", w->options->archive,
            w->name.text, w->options->max_file_bytes);
    if (bytes > w->options->max_total_bytes - w->report->n_bytes)
        bytes = w->options->max_total_bytes - w->report->n_bytes + 1;
    return hs_unpack_source_check_total(w->source, w->report->n_bytes + bytes, err);
}

/* The entry's bytes into its file. */
static hstu_status copy(const walk *w, hs_outfile *out, uint64_t *n_bytes, hstu_error *err)
{
    for (uint64_t bytes = 0;;) {
        const ssize_t n = w->la->read_data(w->archive, w->data, DATA_BYTES);
        if (n < 0)
            return fail_entry(w, err);
        HS_TRY(check_size(w, bytes + (uint64_t)n, err));
        if (n == 0) {
            *n_bytes = bytes;
            return HSTU_OK;
        }
        HS_TRY(hs_outfile_write(out, w->data, (size_t)n, err));
        bytes += (uint64_t)n;
    }
}

static hstu_status make_file(walk *w, uint64_t told_bytes, hstu_error *err)
{
    uint64_t n_bytes = 0;
    HS_TRY(hs_unpack_files_check_space(w->files, told_bytes, err));
    HS_TRY(hs_unpack_files_create(w->files, err));
    hs_outfile *out = w->files->file[w->files->n - 1].out;
    HS_TRY(copy(w, out, &n_bytes, err));
    if (w->la->entry_size_is_set(w->entry) && n_bytes != told_bytes)
        return hs_fail(err, HSTU_EFORMAT, w->n_entries,
            "'%s' is damaged: '%.150s' has %" PRIu64 " bytes, and should have %" PRIu64, w->options->archive,
            w->name.text, n_bytes, told_bytes);
    w->report->n_bytes += n_bytes;
    return hs_outfile_finish(out, err);
}

static hstu_status take_entry(walk *w, hstu_error *err)
{
    HS_TRY(check_entry(w, err));
    if (w->la->entry_filetype(w->entry) == LA_FOLDER)
        return HSTU_OK;
    const size_t pattern = hs_unpack_wanted(w->options, w->name.text);
    const char *name = w->options->flat ? hs_path_base(w->name.text) : w->name.text;
    if (w->options->n_patterns && pattern == w->options->n_patterns) {
        w->report->n_skipped++;
        return HSTU_OK;
    }
    if (!*name)
        return refuse(w, "a file needs a name", err);
    const uint64_t bytes = w->la->entry_size_is_set(w->entry) ? (uint64_t)w->la->entry_size(w->entry) : 0;
    HS_TRY(hs_unpack_files_add(w->files, name, pattern, err));
    HS_TRY(check_size(w, bytes, err));
    w->report->n_files++;
    if (!w->look)
        return make_file(w, bytes, err);
    w->report->n_bytes += bytes;
    return HSTU_OK;
}

/* Owners that cannot be turned into the thread's encoding are no reason to refuse an archive, since they are not taken over. Any other
 * warning of libarchive is of something that is wrong. */
static int next_entry(walk *w)
{
    const int code = w->la->read_next_header(w->archive, &w->entry);
    const char *why = code == LA_WARN ? w->la->error_string(w->archive) : NULL;
    return why && strstr(why, "can't be converted") ? LA_OK : code;
}

static hstu_status walk_entries(walk *w, hstu_error *err)
{
    int code = w->la->read_open1(w->archive);
    while (code == LA_OK && (code = next_entry(w)) == LA_OK) {
        w->n_entries++;
        HS_TRY(take_entry(w, err));
    }
    if (code == LA_EOF)
        return hs_unpack_source_finish(w->source, err);
    char what[64];
    (void)snprintf(what, sizeof what, "entry %" PRIu64 " cannot be read", w->n_entries + 1);
    return fail_library(w, what, err);
}

hstu_status hs_unpack_walk(const hs_la *la, hs_unpack_source *source, hs_unpack_files *files, bool look,
    hstu_unpack_report *report, hstu_error *err)
{
    walk *w = hs_calloc(1, sizeof *w);
    if (!w)
        return hs_fail_nomem(err, sizeof *w, "reading an archive");
    *w = (walk){.la = la, .source = source, .options = files->options, .files = files, .report = report, .look = look};
    w->data = hs_alloc(DATA_BYTES, 1);
    w->archive = w->data ? la->read_new() : NULL;
    hstu_status status = HSTU_OK;
    if (!w->archive || !hs_unpack_source_attach(source, la, w->archive))
        status = hs_fail_nomem(err, DATA_BYTES, "reading an archive");
    else
        status = walk_entries(w, err);
    if (w->archive)
        (void)la->read_free(w->archive);
    hs_free(w->data);
    hs_free(w);
    return status;
}
