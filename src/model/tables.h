/* The embedding tables of a ranking model, in the order of its configuration. */
#ifndef HS_MODEL_TABLES_H
#define HS_MODEL_TABLES_H

#include "file/embtable.h"
#include "file/statedict.h"
#include "model/config.h"
#include "op/op.h"

/* What a table's tensors are called in a file of ours: "_embedding_collection.<table>.weight" [rows, D] of a static table,
 * "_embedding_collection.<table>.keys" int64 [n] and ".values" [n, D] of a dynamic one. */
#define HS_TABLE_PREFIX "_embedding_collection."

typedef enum hs_table_tensor { HS_TABLE_NONE, HS_TABLE_WEIGHT, HS_TABLE_KEYS, HS_TABLE_VALUES } hs_table_tensor;

/* Which tensor of which configured table `name` (peeled) is; *table is the table's place. HS_TABLE_NONE: of none. */
hs_table_tensor hs_table_tensor_of(const hs_config *config, const char *name, int *table);

/* The configured tables among a dictionary's tensors, of its group: views, out [n_tables]. HSTU_ESHAPE names a table that lacks a
 * tensor, or a tensor that is no table. On failure *out is closed. */
hstu_status hs_tables_from_dict(
    hs_table *out, const hs_config *config, const hs_statedict *dict, const char *group, hstu_error *err);
/* The rows that a static table of the configuration must have: what it says or, where that fits and it does not, what the
 * reference gives the table. Settles config->table[i].rows of all static tables by the tables at hand. HSTU_EINVAL names
 * table, rows and both sides. Widths must be D (told by the tables where the configuration does not), types alike. */
hstu_status hs_tables_settle(hs_config *config, const hs_table *table, const char *where, hstu_error *err);
/* Random rows, uniform within 1 / sqrt(rows); out [n_tables], zeroed. A dynamic table holds the keys 0 .. rows - 1, rows told by
 * the configuration or, where it does not, n_items and n_users. HSTU_ENOMEM before anything is made; on failure the caller closes
 * what is there. */
hstu_status hs_tables_random(hs_table *out, const hs_config *config, hs_device *dev, uint64_t seed, int64_t n_items,
    int64_t n_users, hstu_error *err);
void hs_tables_close(hs_table *table, int n); /* [n], frees the array too; NULL is fine */

#endif
