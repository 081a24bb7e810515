/* Operations that treat each row by itself: embedding, layer norms, gather, L2 norm. */
#include "device/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

/* Below ALONE elements (some 30 us) starting and joining threads costs more than it gives. */
enum { ROWS = 32, ALONE = 1 << 17 };

typedef struct rows_job {
    const hs_cpu_kernels *kernels;
    void (*row)(const hs_cpu_kernels *kernels, const void *args, int64_t row);
    const void *args;
    int64_t rows;
} rows_job;

static void rows_task(void *context, int worker, int64_t task)
{
    const rows_job *job = context;
    (void)worker;
    const int64_t end = hs_min_i64((task + 1) * ROWS, job->rows);
    for (int64_t r = task * ROWS; r < end; r++)
        job->row(job->kernels, job->args, r);
}

static hstu_status run_rows(hs_device *dev, const hs_mat *out,
    void (*row)(const hs_cpu_kernels *kernels, const void *args, int64_t row), const void *args)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    rows_job job = {.kernels = cpu->kernels, .row = row, .args = args, .rows = out->rows};
    if (out->rows * out->cols < ALONE) {
        for (int64_t r = 0; r < out->rows; r++)
            row(cpu->kernels, args, r);
    } else {
        hs_cpu_pool_run(cpu->pool, hs_ceil_div_i64(out->rows, ROWS), rows_task, &job);
    }
    return HSTU_OK;
}

static void embed_row(const hs_cpu_kernels *kernels, const void *args, int64_t row)
{
    const hs_embed_args *a = args;
    const int64_t d = a->out.cols;
    kernels->embed(a->out.data + row * a->out.ld, a->row[row], a->row_type, a->scale,
        a->position ? a->position + a->position_id[row] * d : NULL, a->bf16, d);
}

hstu_status hs_cpu_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err)
{
    (void)err;
    return run_rows(dev, &a->out, embed_row, a);
}

static void layer_norm_row(const hs_cpu_kernels *kernels, const void *args, int64_t row)
{
    const hs_layer_norm_args *a = args;
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    float *out = a->out.data + row * a->out.ld;
    kernels->layer_norm(
        out, a->x.data + row * a->x.ld, a->add.data ? a->add.data + row * a->add.ld : NULL, a->out.cols, &affine);
    if (a->bf16)
        kernels->round_bf16(out, 1.0f, a->out.cols);
}

hstu_status hs_cpu_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err)
{
    (void)err;
    return run_rows(dev, &a->out, layer_norm_row, a);
}

static void norm_gate_row(const hs_cpu_kernels *kernels, const void *args, int64_t row)
{
    const hs_norm_gate_args *a = args;
    const hs_affine affine = {.weight = a->weight, .bias = a->bias, .eps = a->eps};
    float *out = a->out.data + row * a->out.ld;
    kernels->norm_gate(out, a->u.data + row * a->u.ld, a->o.data + row * a->o.ld, a->o.cols, &affine, a->concat);
    if (a->bf16)
        kernels->round_bf16(out, 1.0f, a->out.cols);
}

hstu_status hs_cpu_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err)
{
    (void)err;
    return run_rows(dev, &a->out, norm_gate_row, a);
}

static void gather_row(const hs_cpu_kernels *kernels, const void *args, int64_t row)
{
    const hs_gather_args *a = args;
    (void)kernels;
    memcpy(a->out.data + row * a->out.ld, a->x.data + a->row[row] * a->x.ld, (size_t)a->out.cols * sizeof(float));
}

hstu_status hs_cpu_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    (void)err;
    return a->out.cols == 0 ? HSTU_OK : run_rows(dev, &a->out, gather_row, a);
}

static void l2_norm_row(const hs_cpu_kernels *kernels, const void *args, int64_t row)
{
    const hs_l2_norm_args *a = args;
    const float *x = a->x.data + row * a->x.ld;
    float *out = a->out.data + row * a->out.ld;
    double sum = 0;
    for (int64_t c = 0; c < a->out.cols; c++)
        sum += (double)x[c] * (double)x[c];
    float norm = (float)sqrt(sum);
    if (a->bf16)
        kernels->round_bf16(&norm, 1.0f, 1);
    const float by = norm < a->eps ? a->eps : norm; /* a NaN norm stays */
    for (int64_t c = 0; c < a->out.cols; c++)
        out[c] = x[c] / by;
    if (a->bf16)
        kernels->round_bf16(out, 1.0f, a->out.cols);
}

hstu_status hs_cpu_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    (void)err;
    return run_rows(dev, &a->out, l2_norm_row, a);
}
