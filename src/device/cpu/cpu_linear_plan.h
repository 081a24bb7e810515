/* How the products of a call's linear layers are cut into tasks, so that threads fetch little and end together. */
#ifndef HS_DEVICE_CPU_CPU_LINEAR_PLAN_H
#define HS_DEVICE_CPU_CPU_LINEAR_PLAN_H

#include "device/device.h"

/* A task computes up to HS_LINEAR_ROWS x HS_LINEAR_COLS of a layer's results; its first column is a multiple of HS_LINEAR_STRIP. */
enum { HS_LINEAR_ROWS = 64, HS_LINEAR_COLS = 256, HS_LINEAR_STRIP = 64 };

typedef struct hs_linear_plan {
    const hs_linear_args *a; /* [n], borrowed */
    int64_t n, rows, cols;   /* the last two of a task */
    int64_t bands;           /* of rows */
    int64_t row_tasks[HS_LINEAR_MOST], col_tasks[HS_LINEAR_MOST];
    int64_t n_tasks;
    bool alone; /* so little work that threads cost more than they give */
} hs_linear_plan;

/* Rows row .. and columns col .. of a layer's results. */
typedef struct hs_linear_region {
    int64_t layer, row, rows, col, cols;
} hs_linear_region;

hs_linear_plan hs_linear_plan_of(const hs_linear_args *a, int64_t n, int64_t n_threads);
/* What task 0 .. n_tasks - 1 computes; neighbours share a weight's columns. */
hs_linear_region hs_linear_region_of(const hs_linear_plan *plan, int64_t task);

#endif
