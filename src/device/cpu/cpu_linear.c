/* Linear layers: cutting products into tiles for threads. */
#include "base/error.h"
#include "device/cpu/cpu_int.h"

#include <stdalign.h>
#include <string.h>

/* One task computes up to ROWS x COLS of the output. What no kernel finishes by itself goes through in strips: the sums of STRIP
 * columns pass through the thread's stack and stay in L1 until the epilogue has read them. ROWS is a multiple of every row tile
 * (4, 6, 12), PAIR_ROWS of a pair of tiles; STRIP is a multiple of panel pairs and of four. Below ALONE multiply-adds (some 4 us)
 * starting and joining threads costs more than it gives, and of PAIR_ALONE (2 to 5 us) for products of pairs, which are made of whole
 * tiles of rows. */
enum {
    ROWS = 48,
    PAIR_ROWS = 64,
    COLS_MOST = 256,
    STRIP = 64,
    ALONE = 1 << 18,
    PAIR_ALONE = 1 << 21,
    TASKS_PER_THREAD = 8
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

/* The columns of a weight that a thread has read last, in a cache line of its own. */
typedef struct read_last {
    alignas(64) const void *columns;
} read_last;

typedef struct linear_job {
    const hs_cpu_kernels *kernels;
    const hs_linear_args *a; /* [n] */
    int64_t n, rows, cols;   /* the last two of a task */
    int64_t bands;           /* of rows */
    int64_t row_tasks[HS_LINEAR_MOST], col_tasks[HS_LINEAR_MOST];
    read_last *last;    /* [n_threads] */
    bool stores;        /* tasks store keys and values */
    hs_cpu_space space; /* of each thread: what a task stores */
} linear_job;

/* Rows row .. and columns col .. of a layer's result. */
typedef struct region {
    int64_t row, rows, col, cols;
} region;

static const uint32_t *pairs_of(const hs_packed *w, int64_t col)
{
    return (const uint32_t *)w->data + col * hs_packed_rows(w->type, w->in);
}

/* The sums of one strip. Panels are whole, and so are those of `sums`: kernels need no masks. */
static void multiply(const linear_job *job, const hs_linear_args *a, const region *at, float *sums)
{
    const hs_packed *w = a->w;
    hs_gemm g = {.c = sums,
        .ldc = STRIP,
        .lda = a->x.ld,
        .b = pairs_of(w, at->col), /* or floats, which are as wide */
        .ldb = HS_PANEL,
        .panel = HS_PANEL * hs_packed_rows(w->type, w->in),
        .rows = at->rows,
        .k = w->in,
        .n = hs_ceil_div_i64(at->cols, HS_PANEL) * HS_PANEL};
    if (a->x.bf16) {
        g.left = a->x.half + at->row * a->x.ld;
        job->kernels->pairs->gemm(&g);
        return;
    }
    g.a = a->x.data + at->row * a->x.ld;
    if (w->type == HS_BF16)
        job->kernels->gemm_bf16(&g);
    else
        job->kernels->gemm(&g);
}

/* Where the region's results go to later. */
static hs_claim_plan claim_of(const hs_linear_args *a, const region *at)
{
    const hs_mat *next = &a->next;
    const int64_t element = next->bf16 ? sizeof *next->half : sizeof *next->data, from = at->row * next->ld + at->col;
    if (a->stored)
        return hs_cpu_kv_claim(a->stored, &a->out, at->row, at->col);
    if (!next->data)
        return (hs_claim_plan){.rows = 0};
    return (hs_claim_plan){.at = next->bf16 ? (char *)(next->half + from) : (char *)(next->data + from),
        .rows = at->rows,
        .width = INT64_MAX,
        .cols = HS_LINE / element,
        .col_bytes = element,
        .group_bytes = next->ld * element};
}

/* What follows the sums of a row with a residual stream. */
static void finish_stream(
    const linear_job *job, const hs_linear_args *a, int64_t row, const region *at, const float *sums)
{
    float *const stream = a->stream.data + row * a->stream.ld + at->col;
    const int64_t to = row * a->out.ld + at->col;
    job->kernels->finish(stream, sums, a->bias ? a->bias + at->col : NULL, stream, HS_ACT_NONE, false, at->cols);
    if (a->out.bf16) {
        job->kernels->pairs->narrow(a->out.half + to, stream, 1.0f, at->cols);
        return;
    }
    memcpy(a->out.data + to, stream, (size_t)at->cols * sizeof *stream);
    if (a->bf16)
        job->kernels->round_bf16(a->out.data + to, 1.0f, at->cols);
}

/* Product and epilogue of one strip. */
static void linear_strip(const linear_job *job, const hs_linear_args *a, const region *at)
{
    alignas(64) float sums[PAIR_ROWS * STRIP], residual[STRIP];
    const hs_claim_plan claim = claim_of(a, at);
    multiply(job, a, at, sums);
    for (int64_t r = 0; r < at->rows; r++) {
        for (int64_t col = 0; r < claim.rows && col < at->cols; col += claim.cols)
            hs_claim(hs_claim_line(&claim, hs_claim_columns(&claim, col), r));
        const int64_t from = (at->row + r) * a->residual.ld + at->col, to = (at->row + r) * a->out.ld + at->col;
        const float *more = NULL;
        if (a->stream.data) {
            finish_stream(job, a, at->row + r, at, sums + r * STRIP);
            continue;
        }
        if (a->residual.data && a->residual.bf16) {
            job->kernels->pairs->widen(residual, a->residual.half + from, at->cols);
            more = residual;
        } else if (a->residual.data) {
            more = a->residual.data + from;
        }
        float *const out = a->out.bf16 ? sums + r * STRIP : a->out.data + to;
        job->kernels->finish(
            out, sums + r * STRIP, a->bias ? a->bias + at->col : NULL, more, a->act, a->bf16, at->cols);
        if (a->out.bf16)
            job->kernels->pairs->narrow(a->out.half + to, out, 1.0f, at->cols);
    }
}

/* Whether a kernel does all of it. */
static bool is_whole(const hs_linear_args *a)
{
    return a->bf16 && a->x.bf16 && a->out.bf16 && (!a->residual.data || a->residual.bf16);
}

/* Where a task's results are to stand: in out, or, if they are to go to pages alone, in the thread's own memory. */
static hs_mat results_of(const linear_job *job, const hs_linear_args *a, const region *at, int worker)
{
    hs_mat m = hs_mat_part(a->out, at->row, at->rows, at->col, at->cols);
    if (!job->stores || !a->stored || !a->stored_only || !hs_cpu_kv_run(a->stored, at->row).page)
        return m;
    m.half = hs_cpu_own(&job->space, worker);
    m.ld = hs_mat_half_ld(at->cols);
    return m;
}

static void copy_rows(const hs_mat *out, const hs_mat *m)
{
    for (int64_t r = 0; r < m->rows; r++)
        memcpy(out->half + r * out->ld, m->half + r * m->ld, (size_t)m->cols * sizeof *m->half);
}

/* Stores a task's results, and copies those that are not stored where they belong. */
static void store(const linear_job *job, const hs_linear_args *a, const region *at, const hs_mat *results)
{
    const hs_mat out = hs_mat_part(a->out, at->row, at->rows, at->col, at->cols);
    const bool keys = a->out.half == a->stored->k.half;
    for (int64_t r = 0, n; r < at->rows; r += n) {
        const hs_kv_run run = hs_cpu_kv_run(a->stored, at->row + r);
        n = hs_min_i64(run.rows, at->rows - r);
        const hs_mat some = hs_mat_rows(*results, r, n), place = hs_mat_rows(out, r, n);
        if (run.page)
            hs_cpu_kv_store(job->kernels, a->stored, &run, keys, &some, at->col);
        else if (some.half != place.half)
            copy_rows(&place, &some);
    }
}

static void linear_whole(const linear_job *job, const hs_linear_args *a, const region *at, int worker)
{
    const uint32_t *w = pairs_of(a->w, at->col);
    const hs_mat results = results_of(job, a, at, worker);
    const hs_pair_linear l = {.out = results.half,
        .x = a->x.half + at->row * a->x.ld,
        .residual = a->residual.data ? a->residual.half + at->row * a->residual.ld + at->col : NULL,
        .w = w,
        .bias = a->bias ? a->bias + at->col : NULL,
        .stream = a->stream.data ? a->stream.data + at->row * a->stream.ld + at->col : NULL,
        .lds = a->stream.ld,
        .ldo = results.ld,
        .ldx = a->x.ld,
        .ldr = a->residual.ld,
        .panel = HS_PANEL * hs_packed_rows(a->w->type, a->w->in),
        .rows = at->rows,
        .k = a->w->in,
        .n = at->cols,
        .act = a->act,
        .again = job->last[worker].columns == w,
        .claim = claim_of(a, at)};
    job->kernels->pairs->linear(&l);
    job->last[worker].columns = w;
    if (job->stores && a->stored)
        store(job, a, at, &results);
}

/* How many tasks rows and columns are, by the job's cut; and all tasks. */
static int64_t count_tasks(linear_job *job)
{
    int64_t n = 0;
    for (int64_t i = 0; i < job->n; i++) {
        job->row_tasks[i] = hs_ceil_div_i64(job->a[i].out.rows, job->rows);
        job->col_tasks[i] = hs_ceil_div_i64(job->a[i].out.cols, job->cols);
        n += job->row_tasks[i] * job->col_tasks[i];
    }
    return n;
}

/* The first of a layer's row tasks in a band. */
static int64_t band_first(const linear_job *job, int64_t i, int64_t band)
{
    return job->row_tasks[i] * band / job->bands;
}

/* The first task of a band, which holds tasks of all layers. */
static int64_t band_task(const linear_job *job, int64_t band)
{
    int64_t n = 0;
    for (int64_t i = 0; i < job->n; i++)
        n += band_first(job, i, band) * job->col_tasks[i];
    return n;
}

/* Layer, rows and columns of a task. Neighbours share a weight's columns. */
static region region_of(const linear_job *job, int64_t task, int64_t *layer)
{
    int64_t band = 0, i = 0;
    for (int64_t end = job->bands; end - band > 1;) {
        const int64_t middle = (band + end) / 2;
        if (band_task(job, middle) <= task)
            band = middle;
        else
            end = middle;
    }
    task -= band_task(job, band);
    int64_t first = band_first(job, i, band), rows = band_first(job, i, band + 1) - first;
    while (task >= rows * job->col_tasks[i]) {
        task -= rows * job->col_tasks[i++];
        first = band_first(job, i, band);
        rows = band_first(job, i, band + 1) - first;
    }
    const hs_mat *out = &job->a[i].out;
    region at = {.row = (first + task % rows) * job->rows, .col = task / rows * job->cols};
    at.rows = hs_min_i64(job->rows, out->rows - at.row);
    at.cols = hs_min_i64(job->cols, out->cols - at.col);
    *layer = i;
    return at;
}

static void linear_task(void *context, int worker, int64_t task)
{
    const linear_job *job = context;
    int64_t layer = 0;
    region at = region_of(job, task, &layer);
    const hs_linear_args *a = &job->a[layer];
    const int64_t end = at.col + at.cols;
    const hs_pair_kernels *pairs = a->x.bf16 ? job->kernels->pairs : NULL;
    hs_pairs_enter(pairs);
    if (is_whole(a))
        linear_whole(job, a, &at, worker);
    for (; !is_whole(a) && at.col < end; at.col += STRIP) {
        at.cols = hs_min_i64(STRIP, end - at.col);
        linear_strip(job, a, &at);
    }
    hs_pairs_leave(pairs);
}

/* What each thread fetches, in columns. */
static double fetched(const linear_job *job, int64_t bands, int64_t n_threads)
{
    double rows = 0, results = 0;
    for (int64_t i = 0; i < job->n; i++) {
        const hs_mat *out = &job->a[i].out;
        rows = (double)out->rows > rows ? (double)out->rows : rows;
        results += (double)out->rows * (double)out->cols;
    }
    return (bands == n_threads ? 0 : rows * REMOTE / (double)bands) +
           (rows > 0 ? results / rows : 0) * (double)bands / (double)n_threads;
}

static int64_t best_bands(const linear_job *job, int64_t n_threads)
{
    int64_t best = 1;
    for (int64_t bands = 1; bands < n_threads;) {
        bands = hs_min_i64(2 * bands, n_threads);
        if (fetched(job, bands, n_threads) < fetched(job, best, n_threads))
            best = bands;
    }
    return best;
}

/* Rows and columns of a float32 task. */
static void cut(linear_job *job, int64_t n_threads)
{
    int64_t x = 0, k = 0;
    for (int64_t i = 0; i < job->n; i++) {
        const hs_mat *m = &job->a[i].x;
        const int64_t band = m->rows * m->cols / job->bands;
        x = band > x ? band : x;
        k = m->cols > k ? m->cols : k;
    }
    while (job->cols > STRIP && (x <= X_STAYS || job->cols * k > COLUMNS_STAY || count_tasks(job) < n_threads * ENOUGH))
        job->cols /= 2;
    while (job->rows > ROWS_LEAST && count_tasks(job) < n_threads * ENOUGH)
        job->rows /= 2;
}

/* Rows and columns of a task of pairs: so many columns that there are enough tasks for the threads. */
static void cut_pairs(linear_job *job, int64_t n_threads)
{
    job->rows = PAIR_ROWS;
    while (job->cols > STRIP && count_tasks(job) < n_threads * TASKS_PER_THREAD)
        job->cols /= 2;
}

/* Whether tasks can store what they make: whole lines of pages, of which no two tasks write the same word. */
static bool can_store(const hs_linear_args *a)
{
    const hs_kv_shape *s = &a->stored->kv.shape;
    return is_whole(a) && s->type == HS_BF16 && s->dqk % HS_KV_PANEL == 0 && s->dv % HS_KV_PANEL == 0;
}

/* What no task has stored. */
static hstu_status store_behind(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    const hs_kv_write_args *done = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (a[i].stored && a[i].stored != done)
            HS_TRY(hs_cpu_kv_write(dev, a[i].stored, err));
        done = a[i].stored ? a[i].stored : done;
    }
    return HSTU_OK;
}

/* Fills in what a job is for its layers, but not how it is cut; *work: multiply-adds, *pairs: whether any are of bfloat16 values. */
static hstu_status look_at(linear_job *job, double *work, bool *pairs, hstu_error *err)
{
    bool any = false, all = true;
    for (int64_t i = 0; i < job->n; i++) {
        const hs_linear_args *a = &job->a[i];
        const int64_t tile = a->x.bf16 ? HS_PAIR_ROWS : 1;
        *work += (double)(hs_ceil_div_i64(a->out.rows, tile) * tile) * (double)a->out.cols * (double)a->x.cols;
        *pairs = *pairs || a->x.bf16;
        any = any || a->stored;
        all = all && (!a->stored || can_store(a));
        if (a->x.bf16 && a->w->type != HS_BF16)
            return hs_fail(
                err, HSTU_EINVAL, 0, "op linear: x holds bfloat16 values, but the weight was packed as fp32");
    }
    job->stores = any && all;
    return HSTU_OK;
}

hstu_status hs_cpu_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const int64_t n_threads = cpu->base.n_threads;
    linear_job job = {.kernels = cpu->kernels, .a = a, .n = n, .rows = ROWS, .cols = COLS_MOST};
    double work = 0;
    bool pairs = false;
    HS_TRY(look_at(&job, &work, &pairs, err));
    const size_t last = (size_t)n_threads * sizeof *job.last;
    const size_t each = job.stores ? (size_t)(PAIR_ROWS * hs_mat_half_ld(COLS_MOST)) * sizeof(uint16_t) : 0;
    HS_TRY(hs_cpu_scratch(cpu, &job.space, last, each, err));
    job.last = memset(job.space.shared, 0, last);
    job.bands = best_bands(&job, n_threads);
    if (pairs)
        cut_pairs(&job, n_threads);
    else
        cut(&job, n_threads);
    const int64_t n_tasks = count_tasks(&job);
    if (work < (pairs ? PAIR_ALONE : ALONE)) {
        for (int64_t task = 0; task < n_tasks; task++)
            linear_task(&job, 0, task);
    } else {
        hs_cpu_pool_run_near(cpu->pool, n_tasks, linear_task, &job);
    }
    return job.stores ? HSTU_OK : store_behind(dev, a, n, err);
}
