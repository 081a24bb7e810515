/* Embedding tables: rows of values by id, which stay where the file is mapped. A static table's id is its row; a dynamic one has
 * an index over 64-bit keys. */
#ifndef HS_FILE_EMBTABLE_H
#define HS_FILE_EMBTABLE_H

#include "hstu/status.h"
#include "tensor/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows of one file or tensor. Any alignment. */
typedef struct hs_table_part {
    const void *keys;           /* int64 [n_rows]; NULL in a static table */
    const void *values;         /* [n_rows, dim] of the table's type: row i belongs to key i */
    uint64_t n_rows, first_row; /* first_row: hs_table_finish sets it */
    const char *source;         /* the file or tensor of the keys, for errors; borrowed; not read in a static table */
} hs_table_part;

/* Immutable once it is made: threads may look up at once. Zeroed: an empty one. */
typedef struct hs_table {
    const char *name; /* borrowed */
    hs_dtype type;    /* HS_F32 or HS_BF16 */
    bool dynamic;
    uint64_t n_rows, dim; /* dim 0: an empty dynamic table whose width nobody told */
    hs_table_part *part;  /* [n_parts] */
    size_t n_parts;
    void *memory; /* hs_alloc_aligned values of its own, or NULL; freed on close */
    /* Of a dynamic table, open addressing, linear probing, at most 2/3 full. A slot holds the low half of its key's hash above
     * the row's number plus 1; 0 is empty. The high half of the hash chooses the place. */
    uint64_t *slot;
    uint64_t n_slots, seed;
} hs_table;

/* Room for n_parts parts, zeroed, which the caller fills; then hs_table_finish. HSTU_ENOMEM. */
hstu_status hs_table_make(
    hs_table *out, const char *name, hs_dtype type, bool dynamic, uint64_t dim, size_t n_parts, hstu_error *err);
/* Numbers the parts' rows and, for a dynamic table, builds the index. HSTU_EFORMAT names a key that stands twice and where;
 * HSTU_EUNSUP past 2^31 rows; HSTU_ENOMEM. `where` names the file or folder in errors. The caller closes on failure. */
hstu_status hs_table_finish(hs_table *table, const char *where, hstu_error *err);
/* The id's row, dim values of the table's type; NULL when the table does not hold it. */
const void *hs_table_row(const hs_table *table, int64_t id);
void hs_table_close(hs_table *table); /* accepts a zeroed one */

#endif
