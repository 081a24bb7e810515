/* Dynamic embedding tables as DynamicEmb dumps them: for every rank one file of raw keys and one of raw rows, which stay
 * where they are mapped. */
#ifndef HS_CKPT_DYNEMB_H
#define HS_CKPT_DYNEMB_H

#include "base/folder.h"
#include "base/mapfile.h"
#include "file/embtable.h"

#include <stdint.h>

enum { HS_DYNEMB_MAX_DIM = 1 << 16, HS_DYNEMB_MAX_RANKS = 1 << 16, HS_DYNEMB_MAX_NAME = 255 };

typedef struct hs_dynemb_rank {
    hs_mapfile keys, values; /* int64 [n]; float32 [n, dim]: row i belongs to key i */
} hs_dynemb_rank;

/* Immutable after opening: threads may look up at once. */
typedef struct hs_dynemb {
    char *folder, *name;
    uint32_t world_size;
    hs_dynemb_rank *rank; /* [world_size] */
    char *sources;        /* the key files' names, one behind the other: the parts' sources */
    hs_table table;       /* one part for each rank; who takes it away zeroes it here, and keeps the rest open */
} hs_dynemb;

/* What "<table>_emb_keys.rank_<r>.world_size_<W>" or "<table>_emb_values..." says. */
typedef struct hs_dynemb_file {
    size_t table_bytes; /* the table's name: so many of the file name's first bytes */
    uint32_t rank, world_size;
} hs_dynemb_file;

/* False for every other name, also those of the optimizer's, scores' and counters' files. */
bool hs_dynemb_parse_name(hs_dynemb_file *out, const char *file_name);

/* Opens the files of one table. listing: what `folder` holds. dim: the expected width, 0 when it is not known: then the
 * files tell it. HSTU_EFORMAT, naming the file, when a rank's file is missing, two world sizes stand together, a size does
 * not fit, or a key stands twice (in one rank or in two). Rows are not looked at: NaN in one is its reader's. */
hstu_status hs_dynemb_open(
    hs_dynemb *out, const char *folder, const hs_folder *listing, const char *table, uint64_t dim, hstu_error *err);
/* The second half of opening: checks the sizes of the ranks' maps and builds the table. Folder, name, world_size and the
 * maps are set, the rest is zero; the caller closes it on failure. */
hstu_status hs_dynemb_index(hs_dynemb *d, uint64_t dim, hstu_error *err);
/* Whether `path` is one of the table's files, by links too. */
bool hs_dynemb_reads(const hs_dynemb *d, const char *path);
/* Accepts a zeroed table. */
void hs_dynemb_close(hs_dynemb *d);

#endif
