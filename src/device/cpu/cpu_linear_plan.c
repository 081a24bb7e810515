/* How linear layers are cut into tasks. */
#include "device/cpu/cpu_linear_plan.h"

#include "device/cpu/cpu_ops.h"

/* Rows of a task of float32 are a multiple of every row tile (4, 6, 12), of one of pairs two tiles. Below ALONE multiply-adds (some 4
 * us) starting and joining threads costs more than it gives, and of PAIR_ALONE (2 to 5 us) for products of pairs, which are made of
 * whole tiles of rows. */
enum {
    ROWS = 48,
    PAIR_ROWS = HS_LINEAR_ROWS,
    ALONE = 1 << 18,
    PAIR_ALONE = 1 << 21,
    TASKS_PER_THREAD = 8 /* of pairs */
};

/* What threads fetch. Rows are cut into bands, each for some of the threads, which share out its columns, those of all layers of a
 * call: with B bands each of n threads fetches rows / B rows of x and cols B / n columns of the weights. A row that another thread
 * wrote lately costs REMOTE times as much as a column, which all have read before; with a band for each thread rows are its own, for
 * the operations on rows around a layer share them out alike. So 2,154 rows and 2,048 columns are 8 bands for 16 threads, 384 and
 * 4,096 two, 8,298 and 2,048 sixteen.
 *   Tasks of float32. A core multiplies and adds 70e9 times a second and reads 5e9 floats from the third cache, so that a row of x or a
 * column of a weight costs as much to fetch as 14 results of it to compute. A thread keeps its band of x in its second cache, if
 * it fits, and takes columns a strip at a time, of neighbouring tasks: then small tasks fetch no more than large ones and end
 * together. An x that does not fit is fetched again for each task's columns, which are as many as stay in the cache themselves. */
enum {
    REMOTE = 3,
    ROWS_LEAST = 24,
    X_STAYS = 1 << 18,      /* floats: 1 MB */
    COLUMNS_STAY = 1 << 17, /* floats: half a MB */
    ENOUGH = 6              /* tasks for each thread: one that is slow gives some of them away */
};

/* How many tasks rows and columns are, by the plan's cut; and all tasks. */
static int64_t count_tasks(hs_linear_plan *plan)
{
    int64_t n = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        plan->row_tasks[i] = hs_ceil_div_i64(plan->a[i].out.rows, plan->rows);
        plan->col_tasks[i] = hs_ceil_div_i64(plan->a[i].out.cols, plan->cols);
        n += plan->row_tasks[i] * plan->col_tasks[i];
    }
    return n;
}

/* The first of a layer's row tasks in a band. */
static int64_t band_first(const hs_linear_plan *plan, int64_t i, int64_t band)
{
    return plan->row_tasks[i] * band / plan->bands;
}

/* The first task of a band, which holds tasks of all layers. */
static int64_t band_task(const hs_linear_plan *plan, int64_t band)
{
    int64_t n = 0;
    for (int64_t i = 0; i < plan->n; i++)
        n += band_first(plan, i, band) * plan->col_tasks[i];
    return n;
}

/* What each thread fetches, in columns. */
static double fetched(const hs_linear_plan *plan, int64_t bands, int64_t n_threads)
{
    double rows = 0, results = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const hs_mat *out = &plan->a[i].out;
        rows = (double)out->rows > rows ? (double)out->rows : rows;
        results += (double)out->rows * (double)out->cols;
    }
    return (bands == n_threads ? 0 : rows * REMOTE / (double)bands) +
           (rows > 0 ? results / rows : 0) * (double)bands / (double)n_threads;
}

static int64_t best_bands(const hs_linear_plan *plan, int64_t n_threads)
{
    int64_t best = 1;
    for (int64_t bands = 1; bands < n_threads;) {
        bands = hs_min_i64(2 * bands, n_threads);
        if (fetched(plan, bands, n_threads) < fetched(plan, best, n_threads))
            best = bands;
    }
    return best;
}

/* Rows and columns of a float32 task. */
static void cut(hs_linear_plan *plan, int64_t n_threads)
{
    int64_t x = 0, k = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const hs_mat *m = &plan->a[i].x;
        const int64_t band = m->rows * m->cols / plan->bands;
        x = band > x ? band : x;
        k = m->cols > k ? m->cols : k;
    }
    while (plan->cols > HS_LINEAR_STRIP &&
           (x <= X_STAYS || plan->cols * k > COLUMNS_STAY || count_tasks(plan) < n_threads * ENOUGH))
        plan->cols /= 2;
    while (plan->rows > ROWS_LEAST && count_tasks(plan) < n_threads * ENOUGH)
        plan->rows /= 2;
}

/* Rows and columns of a task of pairs: so many columns that there are enough tasks for the threads. */
static void cut_pairs(hs_linear_plan *plan, int64_t n_threads)
{
    plan->rows = PAIR_ROWS;
    while (plan->cols > HS_LINEAR_STRIP && count_tasks(plan) < n_threads * TASKS_PER_THREAD)
        plan->cols /= 2;
}

/* Whether any layer multiplies pairs. */
static bool has_pairs(const hs_linear_plan *plan)
{
    bool pairs = false;
    for (int64_t i = 0; i < plan->n; i++)
        pairs = pairs || plan->a[i].x.bf16;
    return pairs;
}

/* Multiply-adds. */
static double work_of(const hs_linear_plan *plan)
{
    double work = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const hs_linear_args *a = &plan->a[i];
        const int64_t tile = a->x.bf16 ? HS_PAIR_ROWS : 1;
        work += (double)(hs_ceil_div_i64(a->out.rows, tile) * tile) * (double)a->out.cols * (double)a->x.cols;
    }
    return work;
}

hs_linear_plan hs_linear_plan_of(const hs_linear_args *a, int64_t n, int64_t n_threads)
{
    hs_linear_plan plan = {.a = a, .n = n, .rows = ROWS, .cols = HS_LINEAR_COLS};
    const bool pairs = has_pairs(&plan);
    plan.alone = work_of(&plan) < (pairs ? PAIR_ALONE : ALONE);
    plan.bands = best_bands(&plan, n_threads);
    if (pairs)
        cut_pairs(&plan, n_threads);
    else
        cut(&plan, n_threads);
    plan.n_tasks = count_tasks(&plan);
    return plan;
}

hs_linear_region hs_linear_region_of(const hs_linear_plan *plan, int64_t task)
{
    int64_t band = 0, i = 0;
    for (int64_t end = plan->bands; end - band > 1;) {
        const int64_t middle = (band + end) / 2;
        if (band_task(plan, middle) <= task)
            band = middle;
        else
            end = middle;
    }
    task -= band_task(plan, band);
    int64_t first = band_first(plan, i, band), rows = band_first(plan, i, band + 1) - first;
    while (task >= rows * plan->col_tasks[i]) {
        task -= rows * plan->col_tasks[i++];
        first = band_first(plan, i, band);
        rows = band_first(plan, i, band + 1) - first;
    }
    const hs_mat *out = &plan->a[i].out;
    hs_linear_region at = {.layer = i, .row = (first + task % rows) * plan->rows, .col = task / rows * plan->cols};
    at.rows = hs_min_i64(plan->rows, out->rows - at.row);
    at.cols = hs_min_i64(plan->cols, out->cols - at.col);
    return at;
}
