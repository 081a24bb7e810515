/* SiLU attention (HSTU). A task is a run of one user's rows and one head, or all heads; blocks of tokens pass outside,
 * tiles of rows inside, so that a block's keys and values stay in the cache. Tokens that a row does not see carry a
 * weight of exactly 0. */
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 120,           /* rows of a task when there are enough */
    CHUNK_LEAST = 24,      /* and when there are not */
    TASKS_PER_THREAD = 3,  /* enough */
    TASK_ROWS = 10,        /* streaming keys and values costs as much as this many rows (Zen 4, d = 128) */
    BLOCK_MAX = 256,       /* tokens of a block */
    BLOCK_FLOATS = 1 << 16 /* and floats of their keys: a quarter of an L2 cache of 1 MB */
};

typedef struct silu_job {
    hs_attn_job attn;
    hs_mat own_k, own_v;
    const int64_t *n_context;
    float alpha, scale; /* before SiLU, and after it */
    float after;        /* of the sum; bf16 only */
    bool bf16;
    int64_t task_heads, block;
} silu_job;

/* Tokens of a block: a multiple of HS_KV_PAGE_STEP, and whole pages if one fits. */
static int64_t block_of(const hs_kv_shape *s, int64_t heads)
{
    const int64_t most = hs_min_i64(BLOCK_FLOATS / (heads * s->dqk), BLOCK_MAX);
    if (most >= s->page_tokens)
        return most - most % s->page_tokens;
    return most < HS_KV_PAGE_STEP ? HS_KV_PAGE_STEP : most - most % HS_KV_PAGE_STEP;
}

/* Rows row .. row + rows - 1 of the run against tokens key .. end - 1 of one block, for heads head .. head_end - 1. */
static void silu_tile(const silu_job *job, const hs_row_run *run, int64_t row, int64_t rows, int64_t key, int64_t end,
    int64_t head, int64_t head_end, float *score)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t ld = job->block, first = run->at + row, n = end - key;
    const int64_t n_first = run->causal ? run->before + row + 1 - key : n; /* what the first row sees */
    float *bias = score + attn->row_tile * ld;
    for (int64_t r = 0; attn->bias && r < rows; r++) {
        const int64_t seen = hs_min_i64(n_first + r, n);
        if (seen > 0)
            hs_attn_bias_row(attn, bias + r * ld, run->user, row + r, run->before + row + r, key, seen);
    }
    for (int64_t h = head; h < head_end; h++) {
        hs_gemm scores = hs_attn_queries(attn, first, rows, h);
        scores.c = score;
        scores.ldc = ld;
        hs_attn_dot_keys(attn, run->user, h, key, end, scores);
        const hs_silu_tile weights = {.x = score,
            .bias = attn->bias ? bias : NULL,
            .ld = ld,
            .alpha = job->alpha,
            .scale = job->scale,
            .rows = rows,
            .n = n,
            .n_first = n_first,
            .bf16 = job->bf16};
        attn->kernels->silu(&weights);
        hs_gemm sums = hs_attn_sums(attn, first, rows, h);
        sums.a = score;
        sums.lda = ld;
        sums.accumulate = key > 0;
        hs_attn_add_values(attn, run->user, h, key, end, sums);
    }
}

/* The tokens of a block that begins at `key` end where the next begins: whole pages, or a part of one. */
static int64_t block_end(const silu_job *job, int64_t key)
{
    const int64_t page_tokens = job->attn.kv->shape.page_tokens;
    return job->block >= page_tokens ? key + job->block
                                     : hs_min_i64(key + job->block, key - key % page_tokens + page_tokens);
}

/* The run's rows, tile by tile, against tokens key .. end - 1. */
static void silu_run(
    const silu_job *job, const hs_row_run *run, int64_t key, int64_t end, int64_t head, int64_t head_end, float *score)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t tile = attn->row_tile;
    for (int64_t row = run->first; row < run->end; row += tile) {
        const int64_t rows = hs_min_i64(tile, run->end - row), sees = hs_attn_rows_see(attn, run, row, rows);
        if (sees > key)
            silu_tile(job, run, row, rows, key, hs_min_i64(end, sees), head, head_end, score);
    }
}

/* x's n values in scratch, rounded if the pages are. */
static const float *own_values(
    const silu_job *job, const hs_mat *x, int64_t row, int64_t head, int64_t n, float *scratch)
{
    const float *own = x->data + row * x->ld + head * n;
    if (job->attn.kv->shape.type == HS_F32)
        return own;
    memcpy(scratch, own, (size_t)n * sizeof *own);
    job->attn.kernels->round_bf16(scratch, 1.0f, n);
    return scratch;
}

/* The last term of a candidate's sum: itself. */
static void own_term(const silu_job *job, int64_t row, int64_t head, bool accumulate, float *scratch)
{
    const hs_attn_job *attn = &job->attn;
    const hs_kv_shape *s = &attn->kv->shape;
    const int64_t own = row - attn->users->offset[attn->users->n_users];
    float weight = 0.0f;
    hs_gemm scores = hs_attn_queries(attn, row, 1, head);
    scores.c = &weight;
    scores.b = own_values(job, &job->own_k, own, head, s->dqk, scratch);
    scores.ldb = 1;
    scores.k = s->dqk;
    scores.n = 1;
    attn->kernels->gemm(&scores);
    const hs_silu_tile activate = {
        .x = &weight, .alpha = job->alpha, .scale = job->scale, .rows = 1, .n = 1, .n_first = 1, .bf16 = job->bf16};
    attn->kernels->silu(&activate);
    hs_gemm sums = hs_attn_sums(attn, row, 1, head);
    sums.a = &weight;
    sums.b = own_values(job, &job->own_v, own, head, s->dv, scratch);
    sums.panel = HS_PANEL;
    sums.k = 1;
    sums.accumulate = accumulate;
    attn->kernels->gemm(&sums);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void silu_task(void *context, int worker, int64_t index)
{
    const silu_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t splits = attn->kv->shape.n_heads / job->task_heads;
    const int64_t head = index % splits * job->task_heads, head_end = head + job->task_heads;
    float *score = (float *)(void *)(attn->scratch + (size_t)worker * attn->each);
    hs_row_run runs[HS_ROW_KINDS];
    int64_t sees = 0;
    hs_attn_runs(attn, job->n_context, &attn->tasks[index / splits], runs);
    for (int i = 0; i < HS_ROW_KINDS; i++)
        sees = larger(sees, hs_attn_run_sees(attn, &runs[i]));
    for (int64_t key = 0, end; key < sees; key = end) {
        end = block_end(job, key);
        for (int i = 0; i < HS_ROW_KINDS; i++)
            silu_run(job, &runs[i], key, end, head, head_end, score);
    }
    const hs_row_run *candidates = &runs[HS_ROW_CANDIDATE];
    for (int64_t h = head; h < head_end; h++) {
        for (int64_t row = candidates->first; row < candidates->end; row++)
            own_term(job, candidates->at + row, h, attn->history[candidates->user] > 0, score);
        for (int i = 0; job->bf16 && i < HS_ROW_KINDS; i++) {
            const hs_gemm sums = hs_attn_sums(attn, runs[i].at + runs[i].first, runs[i].end - runs[i].first, h);
            for (int64_t r = 0; r < sums.rows; r++)
                attn->kernels->round_bf16(sums.c + r * sums.ldc, job->after, sums.n);
        }
    }
}

/* Rows and heads of a task. With few rows for the threads a task is one head, and of as many rows as end soonest when
 * each thread takes an equal number of equal tasks. Heads are taken together only to share the rows of a bias. */
static int64_t cut(silu_job *job, int64_t n_threads)
{
    const hs_jagged *users = job->attn.users;
    const int64_t *candidates = job->attn.candidates;
    const int64_t n_heads = job->attn.kv->shape.n_heads, n_runs = hs_user_tasks_count(users, candidates, CHUNK);
    const bool enough = n_threads == 1 || hs_attn_alone(&job->attn) || n_runs >= n_threads * TASKS_PER_THREAD;
    int64_t best = CHUNK;
    double least = INFINITY;
    job->task_heads = enough && job->attn.bias ? n_heads : 1;
    for (int64_t chunk = CHUNK; !enough && chunk >= CHUNK_LEAST; chunk -= job->attn.row_tile) {
        const int64_t n_tasks = hs_user_tasks_count(users, candidates, chunk) * n_heads;
        const double rows = (double)job->attn.q.rows * (double)n_heads / (double)n_tasks; /* of a task */
        const double time = (double)hs_ceil_div_i64(n_tasks, n_threads) * (rows + TASK_ROWS);
        if (time <= least) {
            least = time;
            best = chunk;
        }
    }
    return best;
}

static hstu_status silu_attn(hs_cpu *cpu, const hs_silu_attn_args *a, hstu_error *err)
{
    silu_job job = {.attn = hs_attn_job_of(cpu, &a->out, &a->q, &a->kv, &a->users, a->history, a->bias, false),
        .own_k = a->own_k,
        .own_v = a->own_v,
        .n_context = a->n_context,
        .alpha = a->alpha,
        .scale = a->bf16 ? 1.0f : a->inv_n,
        .after = a->inv_n,
        .bf16 = a->bf16};
    const hs_kv_shape *s = &a->kv.shape;
    job.attn.candidates = a->candidates;
    const int64_t chunk = cut(&job, cpu->base.n_threads);
    job.block = block_of(s, job.task_heads);
    const size_t floats = (size_t)larger(2 * job.attn.row_tile * job.block, larger(s->dqk, s->dv));
    return hs_attn_run(cpu, &job.attn, chunk, floats, s->n_heads / job.task_heads, silu_task, &job, err);
}

/* Products of pairs where every matrix and the pages hold bfloat16 values; else in float32. */
hstu_status hs_cpu_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    enum { Q, OWN_K, OWN_V, OUT, N_MATS };
    const hs_mat mat[N_MATS] = {[Q] = a->q, [OWN_K] = a->own_k, [OWN_V] = a->own_v, [OUT] = a->out};
    hs_mat wide[N_MATS];
    const bool own_bf16 = !a->candidates || (a->own_k.bf16 && a->own_v.bf16);
    if (a->bf16 && a->q.bf16 && a->out.bf16 && own_bf16 && a->kv.shape.type == HS_BF16)
        return hs_cpu_pair_attn(cpu, a, err);
    HS_TRY(hs_cpu_widen(cpu, wide, mat, N_MATS, err));
    hs_silu_attn_args widened = *a;
    widened.q = wide[Q];
    widened.own_k = wide[OWN_K];
    widened.own_v = wide[OWN_V];
    widened.out = wide[OUT];
    HS_TRY(silu_attn(cpu, &widened, err));
    hs_cpu_narrow(cpu, &a->out, &wide[OUT]);
    return HSTU_OK;
}
