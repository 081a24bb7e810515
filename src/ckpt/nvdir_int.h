/* The checkpoint folder's inside: nvdir.c (folders, ranks, layouts) and nvtables.c (embedding tables). */
#ifndef HS_CKPT_NVDIR_INT_H
#define HS_CKPT_NVDIR_INT_H

#include "ckpt/nvdir.h"

/* Widths of embedding rows: D, or what a preprocessing network in front of the block takes. */
typedef struct hs_nvdir_widths {
    uint64_t item, context;
} hs_nvdir_widths;

/* What follows `mark` in a tensor's name, where mark begins the name or stands behind a '.'; NULL without it. */
const char *hs_nvdir_behind(const char *name, const char *mark);
/* The tensor of rank 0's weights whose name ends with `mark`, as above; NULL when there is none. */
const hs_entry *hs_nvdir_find(const hs_nvdir *dir, const char *mark);
/* Fills table and n_tables. On failure hs_nvdir_close frees what is there. */
hstu_status hs_nvdir_find_tables(hs_nvdir *dir, hs_nvdir_widths widths, hstu_error *err);

#endif
