/* Unpacking what data sets are published as: .tar.gz, .tar and .zip. */
#ifndef HSTU_ARCHIVE_H
#define HSTU_ARCHIVE_H

#include "hstu/dataset.h" /* hstu_progress */
#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Strings are borrowed for the call. */
typedef struct hstu_unpack_options {
    size_t size;         /* set by hstu_unpack_options_init */
    const char *archive; /* recognised by its content */
    const char *folder;  /* where files go; made when it is absent, with the folders above it */
    /* Which files are wanted, by their own names, folders left out: '*' stands for any text, '?' for one byte. Files of an
     * earlier pattern appear before those of a later one. Without patterns every file is wanted. */
    const char *const *pattern;
    size_t n_patterns;
    int flat; /* nonzero: files go into the folder itself; default 0: into the archive's own folders in it */
    uint64_t max_entries;     /* the archive's files and folders, wanted or not; default 1,000,000 */
    uint64_t max_files;       /* wanted files; default 1,000 */
    uint64_t max_file_bytes;  /* a wanted file; default 64 GiB */
    uint64_t max_total_bytes; /* all that is unpacked, for the files that are not wanted too; default 256 GiB */
    uint64_t max_ratio;       /* bytes unpacked for a byte of the archive, once they are 64 MiB; default 200 */
    uint64_t needed_bytes;    /* disk space that must be free before work starts; default 0: as the archive tells */
    /* Called for each file once it has its name; may be NULL. */
    void (*named)(void *ctx, const char *path);
    void *named_ctx;
    hstu_progress progress; /* stage "unpacking", in bytes of the archive */
} hstu_unpack_options;

typedef struct hstu_unpack_report {
    uint64_t n_files;   /* written */
    uint64_t n_bytes;   /* of these files */
    uint64_t n_skipped; /* files that were not wanted */
} hstu_unpack_report;

HSTU_API void hstu_unpack_options_init(hstu_unpack_options *options);

/* Writes the wanted files of an archive. They appear under their names, replacing what was there, only when the whole archive
 * has been read and all of it was in order: checksums, ends, every entry. A failure before that leaves no file, but perhaps empty
 * folders. Permissions, owners and times are not taken over.
 *
 * An archive is refused as a whole when any entry of it, wanted or not, is neither file nor folder (links, devices, pipes,
 * sparse files), is encrypted, or has a name that is absolute, holds "..", a control character, a backslash or what is not
 * UTF-8, or when two wanted files have one name. Nothing is written through a symbolic link below `folder`.
 *
 * libarchive reads tar and zip; it is loaded when this is called. HSTU_EUNSUP without it, naming the package to install, and
 * for limits; HSTU_EINVAL for options; HSTU_ENOENT for an absent archive; HSTU_EFORMAT, naming archive and entry, for what is
 * damaged, refused, or holds no wanted file; HSTU_EIO, space on the disk included; HSTU_ENOMEM; HSTU_ECANCELLED. Any thread. */
HSTU_API hstu_status hstu_unpack(const hstu_unpack_options *options, hstu_unpack_report *report, hstu_error *err);

#ifdef __cplusplus
}
#endif
#endif
