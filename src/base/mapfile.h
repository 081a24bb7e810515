/* Read-only memory maps of whole files. */
#ifndef HS_BASE_MAPFILE_H
#define HS_BASE_MAPFILE_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct hs_mapfile {
    const unsigned char *data; /* NULL for an empty file */
    size_t size;
} hs_mapfile;

/* Maps `path`, a regular file. HSTU_ENOENT, HSTU_EIO (with the system's reason), or HSTU_EINVAL when it is a folder, pipe
 * or device. A file that another program shortens while it is mapped raises SIGBUS, as with any map. */
hstu_status hs_mapfile_open(hs_mapfile *out, const char *path, hstu_error *err);
/* Says that single pages will be read here and there: then no neighbours are read from the disk with them. */
void hs_mapfile_expect_random(const hs_mapfile *map);
/* Says that the map will be read once, from the first byte to the last. */
void hs_mapfile_expect_scan(const hs_mapfile *map);
/* Gives back the memory of whole pages among `bytes` bytes at `data`, as far as they lie in the map: a later touch reads them
 * from the file again. */
void hs_mapfile_release(const hs_mapfile *map, const void *data, size_t bytes);
/* Accepts a zeroed map. */
void hs_mapfile_close(hs_mapfile *map);
/* Both paths lead to one existing file, by links too: who writes the one replaces what is mapped from the other. */
bool hs_mapfile_same(const char *a, const char *b);

#endif
