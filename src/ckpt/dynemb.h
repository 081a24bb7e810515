/* Dynamic embedding tables as DynamicEmb dumps them: for every rank one file of raw keys and one of raw rows. The rows stay
 * in the mapped files; an index over the keys is built once. */
#ifndef HS_CKPT_DYNEMB_H
#define HS_CKPT_DYNEMB_H

#include "base/folder.h"
#include "base/mapfile.h"

#include <stdint.h>

enum { HS_DYNEMB_MAX_DIM = 1 << 16, HS_DYNEMB_MAX_RANKS = 1 << 16, HS_DYNEMB_MAX_NAME = 255 };

typedef struct hs_dynemb_part {
    hs_mapfile keys, values; /* int64 [n_rows]; float32 [n_rows, dim]: row i belongs to key i */
    uint64_t first_row, n_rows;
} hs_dynemb_part;

/* Immutable after opening: threads may look up at once. */
typedef struct hs_dynemb {
    char *folder, *name;
    uint32_t world_size;
    hs_dynemb_part *part; /* [world_size], by rank */
    uint64_t n_rows, dim; /* of all ranks; dim 0: an empty table whose width nobody told */
    /* Open addressing, linear probing, at most 2/3 full. A slot holds the low half of its key's hash above the row's number
     * plus 1; 0 is empty. The high half of the hash chooses the place. */
    uint64_t *slot;
    uint64_t n_slots, seed;
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
/* The second half of opening: checks the sizes of the parts' maps and builds the index. Folder, name, world_size and the
 * maps are set, the rest is zero; the caller closes the table on failure. */
hstu_status hs_dynemb_index(hs_dynemb *table, uint64_t dim, hstu_error *err);
/* The key's row, [dim], in the mapped file; NULL when the table does not hold it. */
const float *hs_dynemb_find(const hs_dynemb *table, int64_t key);
/* Accepts a zeroed table. */
void hs_dynemb_close(hs_dynemb *table);

#endif
