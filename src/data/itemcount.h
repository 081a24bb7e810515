/* How often ids occur, in bounded memory: how many are distinct, and which are the most frequent. */
#ifndef HS_DATA_ITEMCOUNT_H
#define HS_DATA_ITEMCOUNT_H

#include "hstu/dataset.h"

#include <stdint.h>

typedef struct hs_itemcount_limits {
    int64_t dense_ids; /* ids below this are counted in an array */
    int64_t slots;     /* else in a table of so many slots, a power of 2, which holds half as many ids in each pass */
} hs_itemcount_limits;

/* What hstu_summary_make uses. */
extern const hs_itemcount_limits hs_itemcount_default;

/* Fills n_items and the top items of `out`. id: [n], 0 .. max_id. */
hstu_status hs_itemcount(hstu_summary *out, const int64_t *id, int64_t n, int64_t max_id,
    const hs_itemcount_limits *limits, const hstu_progress *progress, hstu_error *err);

#endif
