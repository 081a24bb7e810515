/* Linear layers: products and what follows them, task by task. What no kernel finishes by itself goes through in strips: the sums of
 * STRIP columns pass through the thread's stack and stay in L1 until the epilogue has read them. */
#include "base/error.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_linear_plan.h"

#include <stdalign.h>
#include <string.h>

enum { STRIP = HS_LINEAR_STRIP }; /* a multiple of panel pairs and of four */

/* The columns of a weight that a thread has read last, in a cache line of its own. */
typedef struct read_last {
    alignas(64) const void *columns;
} read_last;

typedef struct linear_job {
    const hs_cpu_kernels *kernels;
    hs_linear_plan plan;
    read_last *last;    /* [n_threads] */
    bool stores;        /* tasks store keys and values */
    hs_cpu_space space; /* of each thread: what a task stores */
} linear_job;

static const uint32_t *pairs_of(const hs_packed *w, int64_t col)
{
    return (const uint32_t *)w->data + col * hs_packed_rows(w->type, w->in);
}

/* The sums of one strip. Panels are whole, and so are those of `sums`: kernels need no masks. */
static void multiply(const linear_job *job, const hs_linear_args *a, const hs_linear_region *at, float *sums)
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
static hs_claim_plan claim_of(const hs_linear_args *a, const hs_linear_region *at)
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
    const linear_job *job, const hs_linear_args *a, int64_t row, const hs_linear_region *at, const float *sums)
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
static void linear_strip(const linear_job *job, const hs_linear_args *a, const hs_linear_region *at)
{
    alignas(64) float sums[HS_LINEAR_ROWS * STRIP], residual[STRIP];
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
static hs_mat results_of(const linear_job *job, const hs_linear_args *a, const hs_linear_region *at, int worker)
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
static void store(const linear_job *job, const hs_linear_args *a, const hs_linear_region *at, const hs_mat *results)
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

static void linear_whole(const linear_job *job, const hs_linear_args *a, const hs_linear_region *at, int worker)
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
        .n_behind = a->out.cols - at->col - at->cols,
        .again = job->last[worker].columns == w,
        .claim = claim_of(a, at)};
    job->kernels->pairs->linear(&l);
    job->last[worker].columns = w;
    if (job->stores && a->stored)
        store(job, a, at, &results);
}

static void linear_task(void *context, int worker, int64_t task)
{
    const linear_job *job = context;
    hs_linear_region at = hs_linear_region_of(&job->plan, task);
    const hs_linear_args *a = &job->plan.a[at.layer];
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

/* Whether tasks can store what they make: no two of them write the same half of a word, for a task's columns are multiples of
 * HS_KV_PANEL. */
_Static_assert(HS_LINEAR_STRIP % HS_KV_PANEL == 0, "");
static bool can_store(const hs_linear_args *a)
{
    const hs_kv_shape *s = &a->stored->kv.shape;
    return is_whole(a) && s->type == HS_BF16 && s->dqk % HS_KV_PANEL == 0 && s->dv % HS_KV_PANEL == 0;
}

/* What no task has stored. Of each there is one layer of keys. */
static hstu_status store_behind(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        if (a[i].stored && a[i].out.data == a[i].stored->k.data)
            HS_TRY(hs_cpu_kv_write(dev, a[i].stored, err));
    }
    return HSTU_OK;
}

/* Whether all keys and values of a call are stored by the tasks that make them. */
static bool all_can_store(const hs_linear_args *a, int64_t n)
{
    bool any = false, all = true;
    for (int64_t i = 0; i < n; i++) {
        any = any || a[i].stored;
        all = all && (!a[i].stored || can_store(&a[i]));
    }
    return any && all;
}

hstu_status hs_cpu_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const int64_t n_threads = cpu->base.n_threads;
    for (int64_t i = 0; i < n; i++) {
        if (a[i].x.bf16 && a[i].w->type != HS_BF16)
            return hs_fail(
                err, HSTU_EINVAL, 0, "op linear: x holds bfloat16 values, but the weight was packed as fp32");
    }
    linear_job job = {
        .kernels = cpu->kernels, .plan = hs_linear_plan_of(a, n, n_threads), .stores = all_can_store(a, n)};
    const size_t last = (size_t)n_threads * sizeof *job.last;
    const int64_t kept = job.stores ? HS_LINEAR_ROWS * hs_mat_half_ld(HS_LINEAR_COLS) : 0;
    HS_TRY(hs_cpu_scratch(cpu, &job.space, last, (size_t)kept * sizeof(uint16_t), err));
    job.last = memset(job.space.shared, 0, last);
    if (job.plan.alone) {
        for (int64_t task = 0; task < job.plan.n_tasks; task++)
            linear_task(&job, 0, task);
    } else {
        hs_cpu_pool_run_near(cpu->pool, job.plan.n_tasks, linear_task, &job);
    }
    return job.stores ? HSTU_OK : store_behind(dev, a, n, err);
}
