/* Linear layers: packing weights into panels, cutting the product into tiles for threads. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_int.h"

#include <stdalign.h>

/* One task computes up to ROWS x COLS_MOST of the output, in strips: the sums of STRIP columns pass through the thread's stack and stay in
 * L1 until the epilogue has read them. ROWS is a multiple of every row tile (4, 6, 8), STRIP of a panel pair (32). Below
 * ALONE multiply-adds (some 30 us) starting and joining threads costs more than it gives. */
enum { ROWS = 48, COLS_MOST = 256, STRIP = 64, ALONE = 1 << 21, TASKS_PER_THREAD = 3 };

hstu_status hs_cpu_pack(hs_device *dev, hs_packed **out, const float *w, int64_t in, int64_t n, int64_t stride_in,
    int64_t stride_out, hstu_error *err)
{
    (void)dev;
    const int64_t n_panels = hs_ceil_div_i64(n, HS_PANEL);
    size_t elements = 0;
    if (!hs_mul_size((size_t)in, (size_t)n_panels * HS_PANEL, &elements))
        return hs_fail_nomem(err, SIZE_MAX, "a packed weight");
    hs_packed *p = hs_calloc(1, sizeof *p);
    float *panels = hs_alloc_aligned(elements, sizeof *panels);
    if (!p || !panels) {
        hs_free(p);
        hs_free(panels);
        return hs_fail_nomem(err, elements * sizeof *panels, "a packed weight");
    }
    for (int64_t panel = 0; panel < n_panels; panel++) {
        float *dst = panels + panel * HS_PANEL * in;
        const int64_t first = panel * HS_PANEL;
        for (int64_t i = 0; i < in; i++) {
            for (int64_t c = 0; c < HS_PANEL; c++)
                dst[i * HS_PANEL + c] = first + c < n ? w[i * stride_in + (first + c) * stride_out] : 0.0f;
        }
    }
    *p = (hs_packed){.in = in, .n = n, .panels = panels};
    *out = p;
    return HSTU_OK;
}

void hs_cpu_pack_free(hs_packed *w)
{
    if (!w)
        return;
    hs_free(w->panels);
    hs_free(w);
}

void hs_cpu_pack_size(const hs_packed *w, int64_t *in, int64_t *n)
{
    *in = w->in;
    *n = w->n;
}

typedef struct linear_job {
    const hs_cpu_kernels *kernels;
    const hs_linear_args *a; /* [n] */
    int64_t n, cols;         /* of a task */
} linear_job;

static void linear_strip(
    const hs_cpu_kernels *kernels, const hs_linear_args *a, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    const int64_t in = a->w->in;
    alignas(64) float sums[ROWS * STRIP];
    const hs_gemm g = {.c = sums,
        .ldc = STRIP,
        .a = a->x.data + row * a->x.ld,
        .lda = a->x.ld,
        .b = a->w->panels + col * in,
        .ldb = HS_PANEL,
        .panel = HS_PANEL * in,
        .rows = rows,
        .k = in,
        .n = cols};
    kernels->gemm(&g);
    for (int64_t r = 0; r < rows; r++) {
        kernels->finish(a->out.data + (row + r) * a->out.ld + col, sums + r * STRIP, a->bias ? a->bias + col : NULL,
            a->residual.data ? a->residual.data + (row + r) * a->residual.ld + col : NULL, a->act, a->bf16, cols);
    }
}

static int64_t n_tasks(const hs_linear_args *a, int64_t cols)
{
    return hs_ceil_div_i64(a->out.rows, ROWS) * hs_ceil_div_i64(a->out.cols, cols);
}

static int64_t n_all_tasks(const linear_job *job)
{
    int64_t n = 0;
    for (int64_t i = 0; i < job->n; i++)
        n += n_tasks(&job->a[i], job->cols);
    return n;
}

static void linear_task(void *context, int worker, int64_t task)
{
    const linear_job *job = context;
    const hs_linear_args *a = job->a;
    (void)worker;
    for (int64_t n = n_tasks(a, job->cols); task >= n; n = n_tasks(a, job->cols)) {
        task -= n;
        a++;
    }
    const int64_t col_tasks = hs_ceil_div_i64(a->out.cols, job->cols);
    const int64_t row = task / col_tasks * ROWS, first = task % col_tasks * job->cols;
    const int64_t rows = hs_min_i64(ROWS, a->out.rows - row), end = hs_min_i64(first + job->cols, a->out.cols);
    for (int64_t col = first; col < end; col += STRIP)
        linear_strip(job->kernels, a, row, rows, col, hs_min_i64(STRIP, end - col));
}

/* So many columns a task that there are enough for the threads. */
hstu_status hs_cpu_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    (void)err;
    hs_cpu *cpu = (hs_cpu *)dev;
    linear_job job = {.kernels = cpu->kernels, .a = a, .n = n, .cols = COLS_MOST};
    double work = 0;
    for (int64_t i = 0; i < n; i++)
        work += (double)a[i].out.rows * (double)a[i].out.cols * (double)a[i].x.cols;
    while (job.cols > STRIP && n_all_tasks(&job) < (int64_t)cpu->base.n_threads * TASKS_PER_THREAD)
        job.cols /= 2;
    if (work < ALONE) {
        for (int64_t task = 0; task < n_all_tasks(&job); task++)
            linear_task(&job, 0, task);
    } else {
        hs_cpu_pool_run(cpu->pool, n_all_tasks(&job), linear_task, &job);
    }
    return HSTU_OK;
}
