/* Operations that treat each row by itself: embedding, layer norms, gather, L2 norm. Rows of bfloat16 values pass through
 * float32 ones in the thread's scratch. */
#include "base/error.h"
#include "device/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

/* Below ALONE elements (some 5 us) starting and joining threads costs more than it gives. */
enum { ROWS = 16, ALONE = 1 << 14, SPACES = 3 };

typedef struct rows_job {
    const hs_cpu_kernels *kernels;
    void (*row)(const struct rows_job *job, int64_t row, float *space);
    const void *args;
    int64_t rows, width; /* of a space, of which a row has SPACES */
    float *space;        /* of worker 0 */
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
    const int64_t end = hs_min_i64((task + 1) * ROWS, job->rows);
    for (int64_t r = task * ROWS; r < end; r++)
        job->row(job, r, job->space + worker * SPACES * job->width);
}

static hstu_status run_rows(hs_device *dev, const hs_mat *out,
    void (*row)(const rows_job *job, int64_t row, float *space), const void *args, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    char *scratch = NULL;
    rows_job job = {.kernels = cpu->kernels, .row = row, .args = args, .rows = out->rows};
    const size_t bytes = hs_cpu_round64((size_t)out->cols * sizeof(float));
    job.width = (int64_t)(bytes / sizeof(float));
    HS_TRY(hs_cpu_scratch(cpu, &scratch, 0, SPACES * bytes, err));
    job.space = (float *)(void *)scratch;
    const int64_t n_tasks = hs_ceil_div_i64(out->rows, ROWS);
    if (out->rows * out->cols < ALONE) {
        for (int64_t task = 0; task < n_tasks; task++)
            rows_task(&job, 0, task);
    } else {
        hs_cpu_pool_run_near(cpu->pool, n_tasks, rows_task, &job);
    }
    return HSTU_OK;
}

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

static void l2_norm_row(const rows_job *job, int64_t row, float *space)
{
    const hs_l2_norm_args *a = job->args;
    const float *x = row_in(job, &a->x, row, space + job->width);
    float *out = row_out(&a->out, row, space);
    double sum = 0;
    for (int64_t c = 0; c < a->out.cols; c++)
        sum += (double)x[c] * (double)x[c];
    float norm = (float)sqrt(sum);
    if (a->bf16)
        job->kernels->round_bf16(&norm, 1.0f, 1);
    const float by = norm < a->eps ? a->eps : norm; /* a NaN norm stays */
    for (int64_t c = 0; c < a->out.cols; c++)
        out[c] = x[c] / by;
    row_done(job, &a->out, row, a->bf16, space);
}

hstu_status hs_cpu_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    return run_rows(dev, &a->out, l2_norm_row, a, err);
}
