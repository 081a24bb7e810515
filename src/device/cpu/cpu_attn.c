/* Attention over jagged users: SiLU (HSTU) and softmax (SASRec, softmax_rel_bias, decoder). A task is a run of one
 * user's rows. Both products are the gemm kernel's: keys are packed into panels of 16 for q . k, values are read where
 * they lie, and every element of the output is one chain over ascending keys. Masked keys of a row tile carry a weight
 * of exactly 0. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_users.h"

#include <string.h>

enum {
    SILU_CHUNK = 120,          /* rows of a task: a multiple of the row tiles 4, 6 and 8 */
    SOFTMAX_CHUNK = 24,        /* smaller, since a task keeps whole score rows */
    KEY_BLOCK_MAX = 512,       /* keys packed at a time */
    KEY_BLOCK_FLOATS = 1 << 16 /* and floats in them: a quarter of an L2 cache of 1 MB */
};

typedef struct attn_job {
    const hs_cpu_kernels *kernels;
    hs_mat out, q, k, v;
    const hs_jagged *users;
    int64_t n_heads, dqk, dv;
    const int64_t *n_context, *n_candidates;
    float alpha, scale; /* of SiLU: before and after; of softmax: scale */
    float after;        /* of SiLU with bf16: of the sum */
    bool bf16;
    int64_t padded_n;
    const hs_rel_bias *bias;
    const hs_user_task *tasks;
    char *scratch; /* of worker 0 */
    size_t each;
    int64_t key_block;
    int64_t score_ld;
} attn_job;

static int64_t key_block_of(int64_t width)
{
    const int64_t keys = KEY_BLOCK_FLOATS / width / HS_PANEL * HS_PANEL;
    return keys < HS_PANEL ? HS_PANEL : hs_min_i64(keys, KEY_BLOCK_MAX);
}

/* dst = keys first .. end - 1 of one head, from matrix row `base` on, as panels [dqk, 16]. */
static void pack_keys(const attn_job *job, float *dst, int64_t base, int64_t first, int64_t end, int64_t head)
{
    for (int64_t j = first; j < end; j += HS_PANEL) {
        const float *row[HS_PANEL] = {NULL};
        const int64_t n = hs_min_i64(HS_PANEL, end - j);
        for (int64_t r = 0; r < n; r++)
            row[r] = job->k.data + (base + j + r) * job->k.ld + head * job->dqk;
        job->kernels->pack_panel(dst + (j - first) * job->dqk, row, n, job->dqk);
    }
}

/* dst[j] = bias of (row, first + j), j < n. */
static void bias_row(const attn_job *job, float *dst, int64_t user, int64_t row, int64_t first, int64_t n)
{
    const hs_rel_bias *b = job->bias;
    job->kernels->bias_row(dst, b->position_w + (b->n - 1 - row + first), b->time_w,
        b->bucket + b->bucket_offset[user] + row * b->bucket_cols[user] + first, n);
}

/* A tile of SiLU attention: rows of one user that are of one kind, and the keys of one block that some of them see. */
typedef struct row_tile {
    int64_t user, base; /* the user's first row in the matrices */
    int64_t row, rows;  /* of the user */
    int64_t key, end;
    bool causal; /* row i sees keys up to i; otherwise every row sees every key */
} row_tile;

/* How many of the tile's keys the row sees. */
static int64_t visible(const row_tile *t, int64_t row)
{
    const int64_t n = t->causal ? hs_min_i64(t->end, row + 1) - t->key : t->end - t->key;
    return n > 0 ? n : 0;
}

static void silu_tile_heads(const attn_job *job, const row_tile *t, const float *panels, float *score, float *bias)
{
    const int64_t ld = job->key_block, n_keys = t->end - t->key;
    for (int64_t r = 0; job->bias && r < t->rows; r++)
        bias_row(job, bias + r * ld, t->user, t->row + r, t->key, visible(t, t->row + r));
    for (int64_t h = 0; h < job->n_heads; h++) {
        const int64_t first = t->base + t->row;
        const hs_gemm qk = {.c = score,
            .ldc = ld,
            .a = job->q.data + first * job->q.ld + h * job->dqk,
            .lda = job->q.ld,
            .b = panels + h * ld * job->dqk,
            .ldb = HS_PANEL,
            .panel = HS_PANEL * job->dqk,
            .rows = t->rows,
            .k = job->dqk,
            .n = n_keys};
        job->kernels->gemm(&qk);
        const hs_silu_tile weights = {.x = score,
            .bias = job->bias ? bias : NULL,
            .ld = ld,
            .alpha = job->alpha,
            .scale = job->scale,
            .rows = t->rows,
            .n = n_keys,
            .n_first = t->causal ? t->row + 1 - t->key : n_keys,
            .bf16 = job->bf16};
        job->kernels->silu(&weights);
        const hs_gemm av = {.c = job->out.data + first * job->out.ld + h * job->dv,
            .ldc = job->out.ld,
            .a = score,
            .lda = ld,
            .b = job->v.data + (t->base + t->key) * job->v.ld + h * job->dv,
            .ldb = job->v.ld,
            .panel = HS_PANEL,
            .rows = t->rows,
            .k = n_keys,
            .n = job->dv,
            .accumulate = t->key > 0};
        job->kernels->gemm(&av);
    }
}

/* The last term of a candidate's sum: itself. */
static void own_term(const attn_job *job, int64_t user, int64_t row, bool accumulate)
{
    const int64_t at = job->users->offset[user] + row;
    float bias = 0.0f;
    if (job->bias)
        bias_row(job, &bias, user, row, row, 1);
    for (int64_t h = 0; h < job->n_heads; h++) {
        float weight = 0.0f;
        const hs_gemm qk = {.c = &weight,
            .ldc = 1,
            .a = job->q.data + at * job->q.ld + h * job->dqk,
            .lda = job->q.ld,
            .b = job->k.data + at * job->k.ld + h * job->dqk,
            .ldb = 1,
            .panel = HS_PANEL,
            .rows = 1,
            .k = job->dqk,
            .n = 1};
        job->kernels->gemm(&qk);
        const hs_silu_tile activate = {.x = &weight,
            .bias = job->bias ? &bias : NULL,
            .ld = 1,
            .alpha = job->alpha,
            .scale = job->scale,
            .rows = 1,
            .n = 1,
            .n_first = 1,
            .bf16 = job->bf16};
        job->kernels->silu(&activate);
        const hs_gemm av = {.c = job->out.data + at * job->out.ld + h * job->dv,
            .ldc = job->out.ld,
            .a = &weight,
            .lda = 1,
            .b = job->v.data + at * job->v.ld + h * job->dv,
            .ldb = job->v.ld,
            .panel = HS_PANEL,
            .rows = 1,
            .k = 1,
            .n = job->dv,
            .accumulate = accumulate};
        job->kernels->gemm(&av);
    }
}

/* Where the kinds of rows of a user begin and end: contextual ones 0 .. context - 1, causal ones up to history - 1,
 * then candidates. */
typedef struct row_kinds {
    int64_t context, history;
} row_kinds;

static row_kinds kinds_of(const attn_job *job, int64_t user)
{
    const int64_t rows = hs_user_rows(job->users, user);
    return (row_kinds){.context = job->n_context ? job->n_context[user] : 0,
        .history = rows - (job->n_candidates ? job->n_candidates[user] : 0)};
}

/* Tiles over the task's rows from .. to - 1 (as far as it has them), all of one kind: they see keys before `sees`,
 * causal ones up to themselves. */
static void silu_rows(const attn_job *job, const hs_user_task *task, int64_t from, int64_t to, int64_t sees,
    bool causal, int64_t key, float *panels)
{
    const int64_t tile = job->kernels->row_tile, block = job->key_block;
    const int64_t first = from > task->first ? from : task->first, end = hs_min_i64(to, task->end);
    float *score = panels + block * job->n_heads * job->dqk;
    float *bias = score + tile * block;
    for (int64_t row = first; row < end; row += tile) {
        const int64_t rows = hs_min_i64(tile, end - row);
        const row_tile t = {.user = task->user,
            .base = job->users->offset[task->user],
            .row = row,
            .rows = rows,
            .key = key,
            .end = hs_min_i64(key + block, causal ? row + rows : sees),
            .causal = causal};
        if (t.end > key)
            silu_tile_heads(job, &t, panels, score, bias);
    }
}

static void silu_task(void *context, int worker, int64_t index)
{
    const attn_job *job = context;
    const hs_user_task *task = &job->tasks[index];
    const int64_t base = job->users->offset[task->user], block = job->key_block;
    const row_kinds kinds = kinds_of(job, task->user);
    const int64_t history = kinds.history;
    const int64_t sees = task->first < kinds.context ? history : hs_min_i64(task->end, history);
    float *panels = (float *)(void *)(job->scratch + (size_t)worker * job->each);
    for (int64_t key = 0; key < sees; key += block) {
        for (int64_t h = 0; h < job->n_heads; h++)
            pack_keys(job, panels + h * block * job->dqk, base, key, hs_min_i64(key + block, sees), h);
        silu_rows(job, task, 0, kinds.context, history, false, key, panels);
        silu_rows(job, task, kinds.context, history, history, true, key, panels);
        silu_rows(job, task, history, INT64_MAX, history, false, key, panels);
    }
    for (int64_t row = history > task->first ? history : task->first; row < task->end; row++)
        own_term(job, task->user, row, history > 0);
    for (int64_t row = task->first; job->bf16 && row < task->end; row++)
        job->kernels->round_bf16(job->out.data + (base + row) * job->out.ld, job->after, job->out.cols);
}

/* Lists the tasks in shared scratch, with `floats` of scratch for each worker, and runs fn for `per_task` times as
 * many. */
static hstu_status run_attn(
    hs_cpu *cpu, attn_job *job, int64_t chunk, size_t floats, int64_t per_task, hs_cpu_task_fn *fn, hstu_error *err)
{
    const int64_t n_tasks = hs_user_tasks_count(job->users, chunk);
    const size_t shared = hs_cpu_round64((size_t)n_tasks * sizeof(hs_user_task));
    size_t bytes = 0;
    if (!hs_mul_size(floats, sizeof(float), &bytes) || bytes > SIZE_MAX / 2)
        return hs_fail_nomem(err, SIZE_MAX, "the scores of attention");
    char *scratch = NULL;
    job->each = hs_cpu_round64(bytes);
    HS_TRY(hs_cpu_scratch(cpu, &scratch, shared, job->each, err));
    hs_user_tasks_list((hs_user_task *)(void *)scratch, job->users, chunk);
    job->tasks = (const hs_user_task *)(const void *)scratch;
    job->scratch = scratch + shared;
    hs_cpu_pool_run(cpu->pool, n_tasks * per_task, fn, job);
    return HSTU_OK;
}

hstu_status hs_cpu_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    attn_job job = {.kernels = cpu->kernels,
        .out = a->out,
        .q = a->q,
        .k = a->k,
        .v = a->v,
        .users = &a->users,
        .n_heads = a->n_heads,
        .dqk = a->dqk,
        .dv = a->dv,
        .n_context = a->n_context,
        .n_candidates = a->n_candidates,
        .alpha = a->alpha,
        .scale = a->bf16 ? 1.0f : a->inv_n,
        .after = a->inv_n,
        .bf16 = a->bf16,
        .bias = a->bias,
        .key_block = key_block_of(a->n_heads * a->dqk)};
    const size_t floats = (size_t)job.key_block * (size_t)(a->n_heads * a->dqk + 2 * cpu->kernels->row_tile);
    return run_attn(cpu, &job, SILU_CHUNK, floats, 1, silu_task, err);
}

/* score[r, j] = q[first + r] . k[j] for one head and the n_keys first keys of the user. */
static void softmax_scores(
    const attn_job *job, const hs_user_task *task, int64_t head, int64_t n_keys, float *panels, float *score)
{
    const int64_t base = job->users->offset[task->user];
    for (int64_t key = 0; key < n_keys; key += job->key_block) {
        const int64_t end = hs_min_i64(key + job->key_block, n_keys);
        pack_keys(job, panels, base, key, end, head);
        const hs_gemm qk = {.c = score + key,
            .ldc = job->score_ld,
            .a = job->q.data + (base + task->first) * job->q.ld + head * job->dqk,
            .lda = job->q.ld,
            .b = panels,
            .ldb = HS_PANEL,
            .panel = HS_PANEL * job->dqk,
            .rows = task->end - task->first,
            .k = job->dqk,
            .n = end - key};
        job->kernels->gemm(&qk);
    }
}

static void softmax_task(void *context, int worker, int64_t index)
{
    const attn_job *job = context;
    const hs_user_task *task = &job->tasks[index / job->n_heads];
    const int64_t head = index % job->n_heads;
    const int64_t base = job->users->offset[task->user], ld = job->score_ld;
    const int64_t n_keys = job->padded_n ? hs_user_rows(job->users, task->user) : task->end;
    float *panels = (float *)(void *)(job->scratch + (size_t)worker * job->each);
    float *bias = panels + job->key_block * job->dqk;
    float *score = bias + ld;
    softmax_scores(job, task, head, n_keys, panels, score);
    for (int64_t row = task->first; row < task->end; row++) {
        float *s = score + (row - task->first) * ld;
        const int64_t n = job->padded_n ? job->padded_n : row + 1;
        if (job->padded_n) /* padding has k = 0, so q . k = 0 there */
            memset(s + n_keys, 0, (size_t)(n - n_keys) * sizeof *s);
        if (job->bias)
            bias_row(job, bias, task->user, row, 0, n);
        job->kernels->softmax(s, job->bias ? bias : NULL, job->scale, n);
        if (job->bf16)
            job->kernels->round_bf16(s, 1.0f, row + 1);
        memset(s + row + 1, 0, (size_t)(task->end - row - 1) * sizeof *s);
    }
    const int64_t tile = job->kernels->row_tile;
    for (int64_t row = task->first; row < task->end; row += tile) {
        const int64_t rows = hs_min_i64(tile, task->end - row);
        const hs_gemm pv = {.c = job->out.data + (base + row) * job->out.ld + head * job->dv,
            .ldc = job->out.ld,
            .a = score + (row - task->first) * ld,
            .lda = ld,
            .b = job->v.data + base * job->v.ld + head * job->dv,
            .ldb = job->v.ld,
            .panel = HS_PANEL,
            .rows = rows,
            .k = row + rows,
            .n = job->dv};
        job->kernels->gemm(&pv);
        for (int64_t r = 0; job->bf16 && r < rows; r++)
            job->kernels->round_bf16(pv.c + r * pv.ldc, 1.0f, job->dv);
    }
}

hstu_status hs_cpu_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    int64_t width = a->padded_n;
    for (int64_t b = 0; b < a->users.n_users; b++) {
        const int64_t rows = hs_user_rows(&a->users, b);
        width = rows > width ? rows : width;
    }
    attn_job job = {.kernels = cpu->kernels,
        .out = a->out,
        .q = a->q,
        .k = a->k,
        .v = a->v,
        .users = &a->users,
        .n_heads = a->n_heads,
        .dqk = a->dqk,
        .dv = a->dv,
        .scale = a->scale,
        .padded_n = a->padded_n,
        .bf16 = a->bf16,
        .bias = a->bias,
        .key_block = key_block_of(a->dqk),
        .score_ld = hs_ceil_div_i64(width, HS_PANEL) * HS_PANEL};
    size_t floats = 0;
    if (!hs_mul_size((size_t)job.score_ld, SOFTMAX_CHUNK + 1, &floats) ||
        !hs_add_size(floats, (size_t)(job.key_block * a->dqk), &floats))
        return hs_fail_nomem(err, SIZE_MAX, "the scores of attention");
    return run_attn(cpu, &job, SOFTMAX_CHUNK, floats, a->n_heads, softmax_task, err);
}
