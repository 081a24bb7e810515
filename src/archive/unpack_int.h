/* Between the files of this folder: the library, the bytes it reads, names, and the files that are being made. */
#ifndef HS_ARCHIVE_UNPACK_INT_H
#define HS_ARCHIVE_UNPACK_INT_H

#include "base/outfile.h"
#include "base/path.h"
#include "hstu/archive.h"

#include <stdbool.h>
#include <sys/types.h>

/* ---- libarchive, by name. Source: archive.h and archive_entry.h of 3.4 to 3.8, whose interface is stable. -------------- */

typedef struct la_archive la_archive;
typedef struct la_entry la_entry;
typedef ssize_t (*la_read_fn)(la_archive *archive, void *ctx, const void **buffer);
typedef int64_t (*la_skip_fn)(la_archive *archive, void *ctx, int64_t bytes);
typedef int64_t (*la_seek_fn)(la_archive *archive, void *ctx, int64_t offset, int whence);

enum { LA_OK = 0, LA_EOF = 1, LA_WARN = -20, LA_FATAL = -30 };
enum { LA_FILE = 0100000, LA_FOLDER = 0040000, LA_LINK = 0120000, LA_PIPE = 0010000, LA_SOCKET = 0140000 };

/* X(result, name, arguments): the symbol is archive_<name>. */
#define HS_LA_MAP(X)                                                                                                   \
    X(la_archive *, read_new, (void))                                                                                  \
    X(int, read_free, (la_archive *))                                                                                  \
    X(int, read_support_format_tar, (la_archive *))                                                                    \
    X(int, read_support_format_zip_seekable, (la_archive *))                                                           \
    X(int, read_set_read_callback, (la_archive *, la_read_fn))                                                         \
    X(int, read_set_skip_callback, (la_archive *, la_skip_fn))                                                         \
    X(int, read_set_seek_callback, (la_archive *, la_seek_fn))                                                         \
    X(int, read_set_callback_data, (la_archive *, void *))                                                             \
    X(int, read_open1, (la_archive *))                                                                                 \
    X(int, read_next_header, (la_archive *, la_entry **))                                                              \
    X(ssize_t, read_data, (la_archive *, void *, size_t))                                                              \
    X(const char *, error_string, (la_archive *))                                                                      \
    X(const char *, entry_pathname, (la_entry *))                                                                      \
    X(const char *, entry_hardlink, (la_entry *))                                                                      \
    X(mode_t, entry_filetype, (la_entry *))                                                                            \
    X(int64_t, entry_size, (la_entry *))                                                                               \
    X(int, entry_size_is_set, (la_entry *))                                                                            \
    X(int, entry_is_encrypted, (la_entry *))                                                                           \
    X(int, entry_sparse_count, (la_entry *))

#define HS_LA_MEMBER(result, name, arguments) result(*name) arguments;
typedef struct hs_la {
    void *handle;
    HS_LA_MAP(HS_LA_MEMBER)
} hs_la;
#undef HS_LA_MEMBER

/* Loads the library `file`, NULL for the system's own. HSTU_EUNSUP, naming the package, when it is absent or lacks a function. */
hstu_status hs_la_load(hs_la *out, const char *file, hstu_error *err);
/* Accepts a zeroed table. */
void hs_la_close(hs_la *la);

/* ---- The archive's bytes ------------------------------------------------------------------------------------------- */

typedef enum hs_unpack_form { HS_UNPACK_TAR_GZ, HS_UNPACK_TAR, HS_UNPACK_ZIP } hs_unpack_form;

typedef struct hs_unpack_source hs_unpack_source;

/* Opens and recognises the file. Keeps the options, which must live as long. */
hstu_status hs_unpack_source_open(hs_unpack_source **out, const hstu_unpack_options *options, hstu_error *err);
void hs_unpack_source_close(hs_unpack_source *source); /* NULL is fine */
hs_unpack_form hs_unpack_source_form(const hs_unpack_source *source);
/* From the first byte again. */
hstu_status hs_unpack_source_rewind(hs_unpack_source *source, hstu_error *err);
/* Makes the source what `archive` reads. */
bool hs_unpack_source_attach(hs_unpack_source *source, const hs_la *la, la_archive *archive);
/* What failed in a callback, while libarchive only knows that something did: HSTU_OK when nothing has. */
hstu_status hs_unpack_source_failure(const hs_unpack_source *source, hstu_error *err);
/* Reads what libarchive left unread, so that a checksum behind it counts, and looks for a tar's end mark. */
hstu_status hs_unpack_source_finish(hs_unpack_source *source, hstu_error *err);
/* HSTU_EUNSUP when `bytes` that were unpacked are more than the options allow for this archive. */
hstu_status hs_unpack_source_check_total(const hs_unpack_source *source, uint64_t bytes, hstu_error *err);

/* ---- Names --------------------------------------------------------------------------------------------------------- */

/* `name` without "." and doubled slashes, "" for the top folder itself; NULL when it may be used, else why not. */
const char *hs_unpack_name(hs_path *out, const char *name);
/* The first pattern that the name's last part fits; n_patterns when none does. 0 without patterns. */
size_t hs_unpack_wanted(const hstu_unpack_options *options, const char *name);
bool hs_unpack_fits(const char *pattern, const char *name);

/* ---- The files that are being made --------------------------------------------------------------------------------- */

typedef struct hs_unpack_file {
    char *name; /* below the folder */
    size_t pattern;
    hs_outfile *out; /* whole and closed, under its temporary name */
} hs_unpack_file;

typedef struct hs_unpack_files {
    const hstu_unpack_options *options;
    hs_unpack_file *file; /* [n] in the archive's order */
    size_t n, cap;
} hs_unpack_files;

/* Takes up a name; its file is made by hs_unpack_files_create. HSTU_EFORMAT when it was there before, HSTU_EUNSUP past max_files. */
hstu_status hs_unpack_files_add(hs_unpack_files *files, const char *name, size_t pattern, hstu_error *err);
/* Opens the newest name's temporary file, and makes the folders above it. */
hstu_status hs_unpack_files_create(hs_unpack_files *files, hstu_error *err);
/* HSTU_EIO when the disk has less than `bytes` free. */
hstu_status hs_unpack_files_check_space(const hs_unpack_files *files, uint64_t bytes, hstu_error *err);
/* Gives all files their names. */
hstu_status hs_unpack_files_commit(hs_unpack_files *files, hstu_error *err);
/* Removes what has no name yet, and forgets the rest. */
void hs_unpack_files_discard(hs_unpack_files *files);

/* ---- Entries ------------------------------------------------------------------------------------------------------- */

/* Reads the whole archive: checks every entry, takes up the wanted ones, and makes their files, or, when it only looks, adds up
 * the sizes that it tells of them in report->n_bytes. */
hstu_status hs_unpack_walk(const hs_la *la, hs_unpack_source *source, hs_unpack_files *files, bool look,
    hstu_unpack_report *report, hstu_error *err);

#endif
