/* Linear layers: packing weights into panels, cutting the product into tiles for threads. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/half.h"
#include "device/cpu/cpu_int.h"

#include <stdalign.h>

/* One task computes up to ROWS x COLS_MOST of the output, in strips: the sums of STRIP columns pass through the thread's stack and stay in
 * L1 until the epilogue has read them. ROWS is a multiple of every row tile (4, 6, 8), and of pairs the most below PAIR_ROWS that
 * fills tiles; STRIP is a multiple of panel pairs and of four. Below ALONE multiply-adds (some 30 us) starting and joining threads costs more than it gives, and
 * for packing the left side below as many elements. */
enum {
    ROWS = 48,
    PAIR_ROWS = 96,
    COLS_MOST = 256,
    STRIP = 64,
    ALONE = 1 << 21,
    PACK_ALONE = 1 << 17,
    TASKS_PER_THREAD = 3
};

static void pack_f32(float *dst, const float *w, int64_t in, int64_t n, int64_t stride_in, int64_t stride_out)
{
    for (int64_t first = 0; first < n; first += HS_PANEL) {
        for (int64_t i = 0; i < in; i++) {
            for (int64_t c = first; c < first + HS_PANEL; c++)
                *dst++ = c < n ? w[i * stride_in + c * stride_out] : 0.0f;
        }
    }
}

static void pack_bf16(uint32_t *dst, const float *w, int64_t in, int64_t n, int64_t stride_in, int64_t stride_out)
{
    for (int64_t first = 0; first < n; first += HS_PANEL) {
        for (int64_t i = 0; i < in; i += 2) {
            for (int64_t c = first; c < first + HS_PANEL; c++) {
                const float *at = w + i * stride_in + c * stride_out;
                const uint32_t odd = c < n && i + 1 < in ? hs_f32_to_bf16(at[stride_in]) : 0;
                *dst++ = c < n ? hs_f32_to_bf16(*at) | odd << 16 : 0;
            }
        }
    }
}

/* Rows of words in a panel. */
static int64_t panel_rows(hs_dtype type, int64_t in)
{
    return type == HS_BF16 ? hs_ceil_div_i64(in, 2) : in;
}

hstu_status hs_cpu_pack(hs_device *dev, hs_packed **out, const float *w, hs_dtype type, int64_t in, int64_t n,
    int64_t stride_in, int64_t stride_out, hstu_error *err)
{
    (void)dev;
    const int64_t columns = hs_ceil_div_i64(n, HS_PANEL) * HS_PANEL;
    size_t words = 0;
    if (!hs_mul_size((size_t)panel_rows(type, in), (size_t)columns, &words))
        return hs_fail_nomem(err, SIZE_MAX, "a packed weight");
    hs_packed *p = hs_calloc(1, sizeof *p);
    void *data = hs_alloc_aligned(words, sizeof(float));
    if (!p || !data) {
        hs_free(p);
        hs_free(data);
        return hs_fail_nomem(err, words * sizeof(float), "a packed weight");
    }
    if (type == HS_BF16)
        pack_bf16(data, w, in, n, stride_in, stride_out);
    else
        pack_f32(data, w, in, n, stride_in, stride_out);
    *p = (hs_packed){.type = type, .in = in, .n = n, .data = data};
    *out = p;
    return HSTU_OK;
}

void hs_cpu_pack_free(hs_packed *w)
{
    if (!w)
        return;
    hs_free(w->data);
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
    int64_t n, rows, cols;   /* the last two of a task */
    /* The left side of a[i] as pairs, or NULL: its product is computed in float32. */
    uint32_t *left[HS_LINEAR_MOST];
    const hs_mat *x; /* what pack_task packs, and where to */
    uint32_t *packed;
} linear_job;

/* Product and epilogue of one strip. */
static void linear_strip(const linear_job *job, int64_t i, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    const hs_linear_args *a = &job->a[i];
    const hs_packed *w = a->w;
    alignas(64) float sums[PAIR_ROWS * STRIP];
    hs_gemm g = {.c = sums,
        .ldc = STRIP,
        .a = a->x.data + row * a->x.ld,
        .lda = a->x.ld,
        .b = (const float *)w->data + col * panel_rows(w->type, w->in),
        .ldb = HS_PANEL,
        .panel = HS_PANEL * panel_rows(w->type, w->in),
        .rows = rows,
        .k = w->in,
        .n = cols};
    if (job->left[i]) {
        g.lda = hs_pair_stride(w->in);
        g.left = job->left[i] + row * g.lda;
        job->kernels->pairs->gemm(&g);
    } else if (w->type == HS_BF16) {
        job->kernels->gemm_bf16(&g);
    } else {
        job->kernels->gemm(&g);
    }
    for (int64_t r = 0; r < rows; r++) {
        job->kernels->finish(a->out.data + (row + r) * a->out.ld + col, sums + r * STRIP,
            a->bias ? a->bias + col : NULL,
            a->residual.data ? a->residual.data + (row + r) * a->residual.ld + col : NULL, a->act, a->bf16, cols);
    }
}

static int64_t n_tasks(const linear_job *job, int64_t i)
{
    return hs_ceil_div_i64(job->a[i].out.rows, job->rows) * hs_ceil_div_i64(job->a[i].out.cols, job->cols);
}

static int64_t n_all_tasks(const linear_job *job)
{
    int64_t n = 0;
    for (int64_t i = 0; i < job->n; i++)
        n += n_tasks(job, i);
    return n;
}

static void linear_task(void *context, int worker, int64_t task)
{
    const linear_job *job = context;
    int64_t i = 0;
    (void)worker;
    for (int64_t n = n_tasks(job, i); task >= n; n = n_tasks(job, i)) {
        task -= n;
        i++;
    }
    const hs_mat *out = &job->a[i].out;
    const int64_t row_tasks = hs_ceil_div_i64(out->rows, job->rows);
    const int64_t row = task % row_tasks * job->rows,
                  first = task / row_tasks * job->cols; /* a weight's columns are read once */
    const int64_t rows = hs_min_i64(job->rows, out->rows - row), end = hs_min_i64(first + job->cols, out->cols);
    const hs_pair_kernels *pairs = job->left[i] ? job->kernels->pairs : NULL;
    hs_pairs_enter(pairs);
    for (int64_t col = first; col < end; col += STRIP)
        linear_strip(job, i, row, rows, col, hs_min_i64(STRIP, end - col));
    hs_pairs_leave(pairs);
}

static void pack_task(void *context, int worker, int64_t task)
{
    const linear_job *job = context;
    const int64_t stride = hs_pair_stride(job->x->cols), end = hs_min_i64((task + 1) * ROWS, job->x->rows);
    (void)worker;
    for (int64_t r = task * ROWS; r < end; r++)
        job->kernels->pairs->pack_left(job->packed + r * stride, job->x->data + r * job->x->ld, job->x->cols);
}

static bool is_paired(const linear_job *job, int64_t i)
{
    return job->kernels->pairs && job->a[i].bf16 && job->a[i].w->type == HS_BF16;
}

/* The first layer whose left side is a[i]'s too. */
static int64_t same_left(const linear_job *job, int64_t i)
{
    const hs_mat *x = &job->a[i].x;
    for (int64_t j = 0; j < i; j++) {
        const hs_mat *other = &job->a[j].x;
        if (is_paired(job, j) && other->data == x->data && other->rows == x->rows && other->cols == x->cols &&
            other->ld == x->ld)
            return j;
    }
    return i;
}

/* The left sides of layers of pairs, each once, in scratch. */
static hstu_status pack_left_sides(hs_cpu *cpu, linear_job *job, hstu_error *err)
{
    size_t words[HS_LINEAR_MOST] = {0}, all = 0;
    for (int64_t i = 0; i < job->n; i++) {
        const hs_mat *x = &job->a[i].x;
        const int64_t rows = hs_ceil_div_i64(x->rows, HS_PAIR_ROWS) * HS_PAIR_ROWS;
        if (is_paired(job, i) && same_left(job, i) == i)
            words[i] = (size_t)(rows * hs_pair_stride(x->cols));
        all += words[i];
    }
    char *scratch = NULL;
    if (all == 0)
        return HSTU_OK;
    HS_TRY(hs_cpu_scratch(cpu, &scratch, all * sizeof(uint32_t), 0, err));
    uint32_t *next = (uint32_t *)(void *)scratch;
    for (int64_t i = 0; i < job->n; next += words[i++]) {
        if (!is_paired(job, i))
            continue;
        const int64_t same = same_left(job, i), tasks = hs_ceil_div_i64(job->a[i].x.rows, ROWS);
        job->left[i] = same < i ? job->left[same] : next;
        job->x = &job->a[i].x;
        job->packed = next;
        if (same == i && job->x->rows * job->x->cols >= PACK_ALONE)
            hs_cpu_pool_run(cpu->pool, tasks, pack_task, job);
        for (int64_t task = 0; same == i && job->x->rows * job->x->cols < PACK_ALONE && task < tasks; task++)
            pack_task(job, 0, task);
    }
    return HSTU_OK;
}

/* So many columns a task that there are enough for the threads. */
hstu_status hs_cpu_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    linear_job job = {.kernels = cpu->kernels, .a = a, .n = n, .rows = ROWS, .cols = COLS_MOST};
    double work = 0;
    for (int64_t i = 0; i < n; i++) {
        work += (double)a[i].out.rows * (double)a[i].out.cols * (double)a[i].x.cols;
        job.rows = is_paired(&job, i) ? PAIR_ROWS : job.rows;
    }
    HS_TRY(pack_left_sides(cpu, &job, err));
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
