/* Where a KuaiRand log keeps what is read of it, and how its rows are compared. */
#ifndef HS_DATA_LOG_LAYOUT_H
#define HS_DATA_LOG_LAYOUT_H

#include "base/dynbuf.h"
#include "data/csv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_LOG_ACTIONS = 8 };

typedef struct hs_log_layout {
    size_t n_columns, user, item, time_ms, play_time_ms, duration_ms, action[HS_LOG_ACTIONS];
    size_t *order; /* [n_columns]: the columns in the order in which rows are compared */
    bool in_order; /* order is 0, 1, 2, ... */
    uint64_t seed; /* from the column names: rows of logs with other columns are never equal */
} hs_log_layout;

/* HSTU_EFORMAT for a column that is missing or stands there twice. first: the first log of the set, in whose order of columns
 * rows are compared. */
hstu_status hs_log_layout_find(hs_log_layout *out, const hs_csv *csv, const hs_csv *first, hstu_error *err);
void hs_log_layout_free(hs_log_layout *layout); /* a zeroed one is fine */

/* Of the current row, equal for equal rows; text: room to put it together. */
hstu_status hs_log_hash(
    uint64_t *hash, const hs_log_layout *layout, const hs_csv *csv, hs_dynbuf *text, hstu_error *err);

#endif
