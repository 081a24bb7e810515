/* The checkpoint folder's inside: nvdir.c (folders, ranks, layouts), nvtables.c (embedding tables), nvweights.c (the other
 * weights). */
#ifndef HS_CKPT_NVDIR_INT_H
#define HS_CKPT_NVDIR_INT_H

#include "ckpt/nvdir.h"

/* Widths of embedding rows: D, or what a preprocessing network in front of the block takes. */
typedef struct hs_nvdir_widths {
    uint64_t item, context;
} hs_nvdir_widths;

/* The collections that torchrec keeps tables in; what follows names one table, or several that share a tensor. */
#define HS_NVDIR_STATIC_TABLES "_data_parallel_embedding_collection.embeddings."
#define HS_NVDIR_DYNAMIC_TABLES "_model_parallel_embedding_collection."

/* What follows `mark` in a tensor's name, where mark begins the name or stands behind a '.'; NULL without it. */
const char *hs_nvdir_behind(const char *name, const char *mark);
/* The tensor of rank 0's weights whose name ends with `mark`, as above; NULL when there is none. */
const hs_entry *hs_nvdir_find(const hs_nvdir *dir, const char *mark);
/* What follows "_hstu_block._attention_layers.<l>." in a tensor's name; NULL when it is no layer's. */
const char *hs_nvdir_layer_field(const char *name);
/* The next weight or static table of a rank, from the entry *at on: what every rank must hold. NULL: no more. */
const hs_entry *hs_nvdir_next_weight(const hs_nvdir *dir, uint32_t rank, size_t *at);
/* Fills table and n_tables. On failure hs_nvdir_close frees what is there. */
hstu_status hs_nvdir_find_tables(hs_nvdir *dir, hs_nvdir_widths widths, hstu_error *err);

#endif
