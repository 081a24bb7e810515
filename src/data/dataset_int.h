/* What an open sequence file is inside: shared by opening it and by making histories and samples from it. */
#ifndef HS_DATA_DATASET_INT_H
#define HS_DATA_DATASET_INT_H

#include "data/rows.h"
#include "data/sequences.h"
#include "hstu/dataset.h"

struct hstu_dataset {
    hstu_dataset_kind kind;
    char *path;
    const char *name; /* points into path or sequences */
    int64_t n_users, n_events, max_item;
    hs_sequences sequences; /* HSTU_DATASET_EVENTS */
    hs_rows rows;           /* the other kinds */
};

#endif
