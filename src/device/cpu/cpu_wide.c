/* Matrices of bfloat16 values as float32 ones, for operations that have no kernel of their own for them. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_int.h"

enum { ROWS = 32 };

typedef struct wide_job {
    const hs_pair_kernels *pairs;
    const hs_mat *wide, *half;
    bool widens;
} wide_job;

static void wide_task(void *context, int worker, int64_t task)
{
    const wide_job *job = context;
    const hs_mat *w = job->wide, *m = job->half;
    const int64_t end = hs_min_i64((task + 1) * ROWS, m->rows);
    (void)worker;
    for (int64_t r = task * ROWS; r < end; r++) {
        if (job->widens)
            job->pairs->widen(w->data + r * w->ld, m->half + r * m->ld, m->cols);
        else
            job->pairs->narrow(m->half + r * m->ld, w->data + r * w->ld, 1.0f, m->cols);
    }
}

static void convert(hs_cpu *cpu, const hs_mat *wide, const hs_mat *half, bool widens)
{
    wide_job job = {.pairs = cpu->kernels->pairs, .wide = wide, .half = half, .widens = widens};
    hs_cpu_pool_run(cpu->pool, hs_ceil_div_i64(half->rows, ROWS), wide_task, &job);
}

/* op/ has bounded rows * ld of every matrix. */
hstu_status hs_cpu_widen(hs_cpu *cpu, hs_mat *wide, const hs_mat *mat, int n, hstu_error *err)
{
    size_t floats = 0;
    for (int i = 0; i < n; i++)
        floats += mat[i].data && mat[i].bf16 ? (size_t)(mat[i].rows * mat[i].cols) : 0;
    if (floats > cpu->wide_floats) {
        float *grown = hs_alloc_aligned(floats, sizeof *grown);
        if (!grown)
            return hs_fail_nomem(err, floats * sizeof *grown, "matrices in float32");
        hs_free(cpu->wide);
        cpu->wide = grown;
        cpu->wide_floats = floats;
    }
    float *next = cpu->wide;
    for (int i = 0; i < n; i++) {
        wide[i] = mat[i];
        if (!mat[i].data || !mat[i].bf16)
            continue;
        wide[i] = hs_mat_of(next, mat[i].rows, mat[i].cols);
        next += mat[i].rows * mat[i].cols;
        convert(cpu, &wide[i], &mat[i], true);
    }
    return HSTU_OK;
}

void hs_cpu_narrow(hs_cpu *cpu, const hs_mat *m, const hs_mat *wide)
{
    if (m->bf16)
        convert(cpu, wide, m, false);
}
