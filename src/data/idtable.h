/* Distinct 64-bit ids, numbered 0, 1, 2, ... in order of first appearance. */
#ifndef HS_DATA_IDTABLE_H
#define HS_DATA_IDTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_idtable {
    int64_t *id; /* [n] by number */
    size_t n;
    uint32_t *slot; /* [n_slots], number + 1, or 0 for an empty slot */
    size_t n_slots; /* a power of two, or 0 before the first id */
} hs_idtable;       /* a zeroed one is empty */

/* The number of `id`, which is added when it is new. False without memory or past 2^31 ids. */
bool hs_idtable_add(hs_idtable *table, int64_t id, uint32_t *number);
void hs_idtable_free(hs_idtable *table);

#endif
