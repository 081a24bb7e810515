/* Operations that treat each row by itself: embedding, layer norms, gather, L2 norm. Layer norms have a kernel for
 * bfloat16 values alone; elsewhere such rows pass through float32 ones in the thread's scratch. */
#include "base/error.h"
#include "device/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

/* An element takes 0.25 ns (a norm in L1) to 0.7 ns (an embedding from memory), a region of 16 threads 1.5 us, and its results go to
 * lines that many have read (bench/LOG.md). Below ALONE elements, 4 us of the quickest, threads give less than they cost. A task has
 * about TASK elements: 1 us, and still 17 tasks for each of 16 threads in 2,200 rows of 512, so that one more or less is 6 %. */
enum { TASK = 1 << 12, ALONE = 1 << 14, SPACES = 3, LANES = 8 };

typedef struct rows_job {
    const hs_cpu_kernels *kernels;
    void (*row)(const struct rows_job *job, int64_t row, float *space);
    const void *args;
    int64_t rows, task_rows;
    int64_t width; /* in floats, of what a row has SPACES of in the thread's scratch */
    hs_cpu_space space;
} rows_job;

/* Row r as float32 values, in `space` if it holds others; NULL without a matrix. */
static const float *row_in(const rows_job *job, const hs_mat *m, int64_t r, float *space)
{
    if (!m->data || !m->bf16)
        return m->data ? m->data + r * m->ld : NULL;
    job->kernels->pairs->widen(space, m->half + r * m->ld, m->cols);
    return space;
}

/* Where row r's values are to be put before row_done. */
static float *row_out(const hs_mat *m, int64_t r, float *space)
{
    return m->bf16 ? space : m->data + r * m->ld;
}

static void row_done(const rows_job *job, const hs_mat *m, int64_t r, bool round, float *space)
{
    if (m->bf16)
        job->kernels->pairs->narrow(m->half + r * m->ld, space, 1.0f, m->cols);
    else if (round)
        job->kernels->round_bf16(m->data + r * m->ld, 1.0f, m->cols);
}

static void rows_task(void *context, int worker, int64_t task)
{
    const rows_job *job = context;
    const int64_t first = task * job->task_rows, end = hs_min_i64(first + job->task_rows, job->rows);
    for (int64_t r = first; r < end; r++)
        job->row(job, r, hs_cpu_own(&job->space, worker));
}

static int64_t whole_runs(int64_t rows)
{
    return hs_ceil_div_i64(rows, HS_HALF_NORM_ROWS) * HS_HALF_NORM_ROWS;
}

/* Rows of a task, whole runs of the norm's kernel: no more than a thread's share. */
static int64_t task_rows(const hs_cpu *cpu, const hs_mat *out)
{
    const int64_t share = hs_ceil_div_i64(out->rows, cpu->base.n_threads);
    const int64_t rows = hs_ceil_div_i64(TASK, out->cols > 0 ? out->cols : 1);
    return whole_runs(share > 0 && share < rows ? share : rows);
}

static void run_tasks(hs_cpu *cpu, const hs_mat *out, int64_t step, hs_cpu_task_fn *fn, void *job)
{
    const int64_t n_tasks = hs_ceil_div_i64(out->rows, step);
    if (out->rows * out->cols < ALONE) {
        for (int64_t task = 0; task < n_tasks; task++)
            fn(job, 0, task);
    } else {
        hs_cpu_pool_run_near(cpu->pool, n_tasks, fn, job);
    }
}

static hstu_status run_rows(hs_device *dev, const hs_mat *out,
    void (*row)(const rows_job *job, int64_t row, float *space), const void *args, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    rows_job job = {.kernels = cpu->kernels, .row = row, .args = args, .rows = out->rows};
    const size_t bytes = hs_cpu_round64((size_t)out->cols * sizeof(float));
    job.task_rows = task_rows(cpu, out);
    job.width = (int64_t)(bytes / sizeof(float));
    HS_TRY(hs_cpu_scratch(cpu, &job.space, 0, SPACES * bytes, err));
    run_tasks(cpu, out, job.task_rows, rows_task, &job);
    return HSTU_OK;
}

/* ---- layer norms of matrices that all hold bfloat16 values ------------------------------------------------------ */

typedef struct half_job {
    hs_half_norm_fn *norm;
    const hs_mat *out, *x, *add, *gate;
    const hs_affine *affine;
    int64_t task_rows;
    hs_cpu_space space;
} half_job;

static uint16_t *half_row(const hs_mat *m, int64_t row)
{
    return m->data ? m->half + row * m->ld : NULL;
}

static void half_task(void *context, int worker, int64_t task)
{
    const half_job *job = context;
    const int64_t row = task * job->task_rows;
    job->norm(&(hs_half_norm){.out = half_row(job->out, row),
        .x = half_row(job->x, row),
        .add = half_row(job->add, row),
        .gate = half_row(job->gate, row),
        .ldo = job->out->ld,
        .ldx = job->x->ld,
        .lda = job->add->ld,
        .ldg = job->gate->ld,
        .rows = hs_min_i64(job->task_rows, job->out->rows - row),
        .n = job->out->cols,
        .affine = job->affine,
        .space = hs_cpu_own(&job->space, worker)});
}

static bool norms_halves(const hs_device *dev, const hs_mat *out, const hs_mat *x, const hs_mat *other)
{
    return ((const hs_cpu *)dev)->kernels->half_norm && out->bf16 && x->bf16 && (!other->data || other->bf16);
}

static hstu_status run_halves(hs_device *dev, const hs_mat *out, const hs_mat *x, const hs_mat *add, const hs_mat *gate,
    const hs_affine *affine, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    half_job job = {.norm = cpu->kernels->half_norm, .out = out, .x = x, .add = add, .gate = gate, .affine = affine};
    job.task_rows = task_rows(cpu, out);
    const size_t each = HS_HALF_NORM_ROWS * hs_cpu_round64((size_t)out->cols * sizeof(float));
    HS_TRY(hs_cpu_scratch(cpu, &job.space, 0, each, err));
    run_tasks(cpu, out, job.task_rows, half_task, &job);
    return HSTU_OK;
}

/* ---- the operations --------------------------------------------------------------------------------------------- */

static void embed_row(const rows_job *job, int64_t row, float *space)
{
    const hs_embed_args *a = job->args;
    const int64_t d = a->out.cols;
    job->kernels->embed(row_out(&a->out, row, space), a->row[row], a->row_type, a->scale,
        a->position ? a->position + a->position_id[row] * d : NULL, a->bf16, d);
    row_done(job, &a->out, row, false, space);
}

hstu_status hs_cpu_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err)
{
    return run_rows(dev, &a->out, embed_row, a, err);
}

static void layer_norm_row(const rows_job *job, int64_t row, float *space)
{
    const hs_layer_norm_args *a = job->args;
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    job->kernels->layer_norm(row_out(&a->out, row, space), row_in(job, &a->x, row, space + job->width),
        row_in(job, &a->add, row, space + 2 * job->width), a->out.cols, &affine);
    row_done(job, &a->out, row, a->bf16, space);
}

hstu_status hs_cpu_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err)
{
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    const hs_mat none = {.data = NULL};
    if (norms_halves(dev, &a->out, &a->x, &a->add))
        return run_halves(dev, &a->out, &a->x, &a->add, &none, &affine, err);
    return run_rows(dev, &a->out, layer_norm_row, a, err);
}

static void norm_gate_row(const rows_job *job, int64_t row, float *space)
{
    const hs_norm_gate_args *a = job->args;
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    job->kernels->norm_gate(row_out(&a->out, row, space), row_in(job, &a->u, row, space + job->width),
        row_in(job, &a->o, row, space + 2 * job->width), a->o.cols, &affine, a->concat);
    row_done(job, &a->out, row, a->bf16, space);
}

hstu_status hs_cpu_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err)
{
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    const hs_mat none = {.data = NULL};
    if (!a->concat && norms_halves(dev, &a->out, &a->o, &a->u))
        return run_halves(dev, &a->out, &a->o, &none, &a->u, &affine, err);
    return run_rows(dev, &a->out, norm_gate_row, a, err);
}

static void gather_row(const rows_job *job, int64_t row, float *space)
{
    const hs_gather_args *a = job->args;
    const hs_mat *x = &a->x, *out = &a->out;
    const int64_t from = a->row[row] * x->ld, to = row * out->ld, n = out->cols;
    (void)space;
    if (x->bf16 && out->bf16)
        memcpy(out->half + to, x->half + from, (size_t)n * sizeof *x->half);
    else if (x->bf16)
        job->kernels->pairs->widen(out->data + to, x->half + from, n);
    else if (out->bf16)
        job->kernels->pairs->narrow(out->half + to, x->data + from, 1.0f, n);
    else
        memcpy(out->data + to, x->data + from, (size_t)n * sizeof *x->data);
}

hstu_status hs_cpu_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    return a->out.cols == 0 ? HSTU_OK : run_rows(dev, &a->out, gather_row, a, err);
}

/* In LANES sums, for each addition waits for the last one to its own. */
static double sum_of_squares(const float *x, int64_t n)
{
    double sum[LANES] = {0}, all = 0;
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        for (int i = 0; i < LANES; i++)
            sum[i] += (double)x[c + i] * (double)x[c + i];
    }
    for (; c < n; c++)
        all += (double)x[c] * (double)x[c];
    for (int i = 0; i < LANES; i++)
        all += sum[i];
    return all;
}

static void l2_norm_row(const rows_job *job, int64_t row, float *space)
{
    const hs_l2_norm_args *a = job->args;
    const float *x = row_in(job, &a->x, row, space + job->width);
    float *out = row_out(&a->out, row, space);
    float norm = (float)sqrt(sum_of_squares(x, a->out.cols));
    if (a->bf16)
        job->kernels->round_bf16(&norm, 1.0f, 1);
    job->kernels->divide(out, x, norm < a->eps ? a->eps : norm, a->out.cols); /* a NaN norm stays */
    row_done(job, &a->out, row, a->bf16, space);
}

hstu_status hs_cpu_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    return run_rows(dev, &a->out, l2_norm_row, a, err);
}
