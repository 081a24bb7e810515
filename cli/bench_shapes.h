/* The rows of a bench: named shapes, and the product of all lists. */
#ifndef HS_CLI_BENCH_SHAPES_H
#define HS_CLI_BENCH_SHAPES_H

#include "cli/bench.h"
#include "cli/bench_lists.h"

enum { HS_BENCH_MAX_ROWS = 4096, HS_BENCH_MAX_SHAPES = 16 };

/* What the command line asks for; n 0: the shape's own. */
typedef struct hs_bench_plan {
    hs_bench_words shape; /* none: `family` with the lists' numbers */
    bool decoder;         /* the family without a named shape */
    bool checkpoint;      /* tells the sizes of the network */
    hs_bench_ints number[HS_BENCH_N_NUMBERS];
    hs_bench_reals cached;
    hs_bench_words dtype, isa;
} hs_bench_plan;

typedef struct hs_bench_range {
    const char *option;
    int64_t min, max;
} hs_bench_range;

/* Of each number; its option's name. */
extern const hs_bench_range hs_bench_ranges[HS_BENCH_N_NUMBERS];
/* Names of shapes, NULL behind the last. */
extern const char *const hs_bench_shape_names[];

/* All rows, shapes first and instruction sets innermost; *out is freed with hs_free. Text points into the plan. HSTU_EINVAL for a
 * number that a shape's family has not, for a row that no model has, or for too many of them; HSTU_ENOMEM. */
hstu_status hs_bench_rows(hs_bench_row **out, size_t *n, const hs_bench_plan *plan, hstu_error *err);
/* A history's tokens are contextual features and whole events, and all fit; HSTU_EINVAL names row and reason. */
hstu_status hs_bench_check_row(const hs_bench_row *row, hstu_error *err);

#endif
