/* Output files that appear under their name only when they are complete. */
#ifndef HS_BASE_OUTFILE_H
#define HS_BASE_OUTFILE_H

#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hs_outfile hs_outfile;

/* Creates "<path>.<process id>.<n>.tmp" beside `path`, or beside the file that a symbolic link `path` leads to. A device,
 * pipe or terminal is written directly: it can be neither replaced nor taken back. */
hstu_status hs_outfile_open(hs_outfile **out, const char *path, hstu_error *err);
/* Buffered. After a failure only hs_outfile_discard is of use. */
hstu_status hs_outfile_write(hs_outfile *file, const void *data, size_t n, hstu_error *err);
/* Bytes at a place of the file, from several threads at once; not to be mixed with calls that append. */
hstu_status hs_outfile_write_at(hs_outfile *file, uint64_t at, const void *data, size_t n, hstu_error *err);
/* What write_at wrote. Not past it. */
hstu_status hs_outfile_read_at(hs_outfile *file, uint64_t at, void *data, size_t n, hstu_error *err);
/* Cuts the file off. */
hstu_status hs_outfile_truncate(hs_outfile *file, uint64_t size, hstu_error *err);
__attribute__((format(printf, 3, 4))) hstu_status hs_outfile_printf(
    hs_outfile *file, hstu_error *err, const char *fmt, ...);
/* Flushes to the disk and closes the file, which keeps its temporary name until it is committed or discarded: many files can
 * wait so for one another. Nothing can be written afterwards. */
hstu_status hs_outfile_finish(hs_outfile *file, hstu_error *err);
/* Finishes where that has not happened, renames to `path` (a file that it replaces leaves its permissions) and frees `file`, on failure
 * too (nothing remains then). NULL is HSTU_OK. */
hstu_status hs_outfile_commit(hs_outfile *file, hstu_error *err);
/* Removes the temporary file and frees `file`; NULL is fine. */
void hs_outfile_discard(hs_outfile *file);
/* Removes the temporary files that killed processes left beside `path`. */
void hs_outfile_sweep(const char *path);
/* Removes the file that a commit to `path` would replace: behind a symbolic link the file it leads to, so that the link stays.
 * A device, pipe or folder stays too. HSTU_OK where there is nothing. */
hstu_status hs_outfile_remove(const char *path, hstu_error *err);

#endif
