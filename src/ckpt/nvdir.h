/* Checkpoint folders of NVIDIA's recsys-examples: <folder>/torch_module/model.<rank>.pth with the dense weights and the static
 * tables, <folder>/dynamicemb_module/<module>/ with the dynamic tables. Facts: docs/formats.md. */
#ifndef HS_CKPT_NVDIR_H
#define HS_CKPT_NVDIR_H

#include "base/path.h"
#include "ckpt/dynemb.h"
#include "file/statedict.h"

enum { HS_NVDIR_MAX_RANKS = 1024, HS_NVDIR_MAX_TABLES = 4096 };

/* How the reference's layer classes name and lay out the same weights. */
typedef enum hs_nvdir_layout {
    HS_NVDIR_FUSED,  /* _linear_uvqk_weight [D, 4·H·d], columns u | v | q | k */
    HS_NVDIR_NATIVE, /* _linear_uvqk.weight [4·H·d / tensor_parallel, D], rows by head, then u, v, q, k */
    HS_NVDIR_DEBUG   /* as NATIVE in one piece, with FUSED's names of the output norm */
} hs_nvdir_layout;

typedef struct hs_nvdir_table {
    const char *name;      /* static tables that share one tensor: all their names, "a/b/c", in the tensor's order */
    uint64_t dim, rows;    /* rows of all names together; both 0 where the checkpoint does not tell the width */
    const hs_tensor *flat; /* static: fp32 [rows * dim], the tables back to back, in rank 0; NULL for a dynamic one */
    hs_dynemb *dynamic;    /* NULL for a static table, and where the weights name a dynamic table that has no files */
} hs_nvdir_table;

typedef struct hs_nvdir {
    hs_path folder; /* the one that holds torch_module */
    hs_nvdir_layout layout;
    uint32_t n_ranks;         /* model.0.pth to model.<n_ranks - 1>.pth */
    uint32_t tensor_parallel; /* ranks 0 to this - 1 hold the parts of split weights; the others are copies of them */
    hs_statedict *rank;       /* [n_ranks] */
    const char *group;        /* of the weights, as in hs_entry.group */
    hs_nvdir_table *table;    /* [n_tables]: static ones as stored, dynamic ones by file name, absent ones last */
    size_t n_tables;
    hs_arena arena;
} hs_nvdir;

/* What an entry of a rank's file is. */
typedef enum hs_nvdir_use {
    HS_NVDIR_WEIGHT, /* hs_nvdir_weights makes an entry of it, in this order */
    HS_NVDIR_STATIC_TABLE,
    HS_NVDIR_PLACEHOLDER, /* of a dynamic table; ranks without a part of the table may lack it */
    HS_NVDIR_EXTRA_STATE, /* of TransformerEngine's modules: opaque */
    HS_NVDIR_OUTSIDE      /* of the dictionary that holds the weights: optimizer state */
} hs_nvdir_use;

/* path: the folder with torch_module, or one that holds exactly one such folder (a training run's iter<k>). Every rank must
 * hold the same tensors in the same shapes, split ones included. HSTU_EFORMAT names what is missing or does not fit. */
hstu_status hs_nvdir_open(hs_nvdir *out, const char *path, hstu_error *err);
/* Accepts a zeroed one. */
void hs_nvdir_close(hs_nvdir *dir);
hs_nvdir_use hs_nvdir_use_of(const hs_nvdir *dir, const hs_entry *entry);
/* The weights in FUSED's names and layout, whatever the folder's: entries of group "" without wrappers' prefixes; the
 * embedding tables' tensors, modules' extra states and optimizers are left out, what is not known keeps its name. NATIVE's and
 * DEBUG's matrices are put together from the tensor-parallel ranks and re-ordered in memory of `out`; everything else is a view
 * of the folder's files, which must stay open. head_dim: d, by which u, v, q and k alternate in NATIVE's and DEBUG's rows; not
 * read for FUSED; 0 where nobody knows it: then those matrices have names and shapes alone, and no data. HSTU_EINVAL when a
 * matrix does not consist of whole heads of it; HSTU_ESHAPE; HSTU_ENOMEM. */
hstu_status hs_nvdir_weights(hs_statedict *out, const hs_nvdir *dir, int64_t head_dim, hstu_error *err);
/* The tables of one static tensor, `table`: views of the folder's files. out [n], zeroed, which the caller closes one by one;
 * rows [n] in the order of the joined name "a/b/c". Their names lie in `names`, which the caller keeps: strlen(table->name) + 1
 * bytes. path: for errors. HSTU_ESHAPE, naming the tables, when n or the sum of rows does not fit; HSTU_EUNSUP for fp16;
 * HSTU_ENOMEM. */
hstu_status hs_nvdir_split(hs_table *out, char *names, const hs_nvdir_table *table, const uint64_t *rows, size_t n,
    const char *path, hstu_error *err);
const char *hs_nvdir_layout_name(hs_nvdir_layout layout); /* "FUSED", "NATIVE", "DEBUG" */

#endif
