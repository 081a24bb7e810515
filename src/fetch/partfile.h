/* The partial file of a download: locked, appended to, and renamed when it is whole. Invariants:
 * 1. While it is open here no other call has it open, in any process.
 * 2. Its bytes are the beginning of the file that `info` identifies; `info` lies on the disk before the first of them.
 * 3. It becomes the target by a rename after it was written to the disk, never by a copy. */
#ifndef HS_FETCH_PARTFILE_H
#define HS_FETCH_PARTFILE_H

#include "base/path.h"
#include "fetch/partinfo.h"

typedef struct hs_partfile {
    hs_path target, path, info_path;
    int fd;         /* -1: not open */
    uint64_t bytes; /* its size, and where the next byte goes */
    hs_partinfo info;
} hs_partfile;

/* Opens and locks, or creates, "<target>.part". What an earlier call left stays if its description is there and whole; else
 * the file is emptied. HSTU_EIO for a folder that cannot be written and when another call holds the file. */
hstu_status hs_partfile_open(hs_partfile *out, const char *target, hstu_error *err);
/* Empties the file, which from now on belongs to `info`. */
hstu_status hs_partfile_restart(hs_partfile *file, const hs_partinfo *info, hstu_error *err);
hstu_status hs_partfile_append(hs_partfile *file, const void *data, size_t n, hstu_error *err);
/* To the disk, and to the target's name. The file is closed then. */
hstu_status hs_partfile_finish(hs_partfile *file, hstu_error *err);
/* Removes what calls that were killed left beside a target that is whole. */
void hs_partfile_tidy(const char *target);
/* Removes it with its description. */
void hs_partfile_discard(hs_partfile *file);
/* Leaves what is there for a later call; an empty file is removed. One that is not open is fine. */
void hs_partfile_close(hs_partfile *file);

#endif
