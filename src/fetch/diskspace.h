/* Whether there is room, asked before work starts. */
#ifndef HS_FETCH_DISKSPACE_H
#define HS_FETCH_DISKSPACE_H

#include "hstu/status.h"

/* HSTU_EIO unless `bytes` for the file `path` and `extra_bytes` for what comes out of it fit beside it. */
hstu_status hs_diskspace_check(const char *path, uint64_t bytes, uint64_t extra_bytes, hstu_error *err);

#endif
