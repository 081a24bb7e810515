/* SiLU attention (HSTU). A task is a run of one user's rows and one head, or all heads; blocks of tokens pass outside,
 * tiles of rows inside, so that a block's keys and values stay in the cache. Tokens that a row does not see carry a
 * weight of exactly 0. */
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 120,           /* rows of a task when there are enough */
    PAIR_CHUNK = 192,      /* and of one over pairs */
    CHUNK_LEAST = 24,      /* and when there are not */
    TASKS_PER_THREAD = 3,  /* enough */
    TASK_ROWS = 10,        /* streaming keys and values costs as much as this many rows (Zen 4, d = 128) */
    BLOCK_MAX = 256,       /* tokens of a block; twice as many of pairs */
    SUB = 64,              /* tokens whose scores of pairs are computed at once */
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

/* Rows first .. end - 1 of a user, all of one kind: causal ones see tokens up to themselves (row r is token before + r),
 * others all of the history. Row r is row at + r of the matrices. */
typedef struct row_run {
    int64_t user, first, end;
    int64_t before, at;
    bool causal;
} row_run;

/* Tokens of a block: a multiple of HS_KV_PAGE_STEP, and whole pages if one fits. */
static int64_t block_of(const hs_kv_shape *s, int64_t heads, bool pairs)
{
    const int64_t most = hs_min_i64(BLOCK_FLOATS / (heads * s->dqk), BLOCK_MAX) * (pairs ? 2 : 1);
    if (most >= s->page_tokens)
        return most - most % s->page_tokens;
    return most < HS_KV_PAGE_STEP ? HS_KV_PAGE_STEP : most - most % HS_KV_PAGE_STEP;
}

/* Rows row .. row + rows - 1 of the run against tokens key .. end - 1 of one block, for heads head .. head_end - 1. */
static void silu_tile(const silu_job *job, const row_run *run, int64_t row, int64_t rows, int64_t key, int64_t end,
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

/* The weights of a tile's rows for the n <= SUB tokens from `at` on, of one page; `scores` holds the queries, and SUB columns that
 * stay in L1. */
static void pair_weights(const silu_job *job, const row_run *run, int64_t row, int64_t at, int64_t n, int64_t head,
    const hs_gemm *scores, uint32_t *weights)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t token = run->before + row; /* of a causal row */
    float *bias = scores->c + attn->row_tile * SUB;
    const hs_silu_tile tile = {.x = scores->c,
        .bias = attn->bias ? bias : NULL,
        .ld = SUB,
        .alpha = job->alpha,
        .scale = job->scale,
        .rows = scores->rows,
        .n = n,
        .n_first = run->causal ? token + 1 - at : n,
        .bf16 = true};
    for (int64_t r = 0; attn->bias && r < tile.rows; r++) {
        const int64_t seen = hs_min_i64(tile.n_first + r, n);
        if (seen > 0)
            hs_attn_bias_row(attn, bias + r * SUB, run->user, row + r, token + r, at, seen);
    }
    hs_attn_dot_keys(attn, run->user, head, at, at + n, *scores);
    attn->pairs->silu_left(weights, hs_pair_stride(job->block), &tile);
}

/* silu_tile over pairs, for one head. */
static void pair_tile(const silu_job *job, const row_run *run, int64_t row, int64_t rows, int64_t key, int64_t end,
    int64_t head, float *score)
{
    const hs_attn_job *attn = &job->attn;
    const hs_kv_shape *s = &attn->kv->shape;
    uint32_t *weights = (uint32_t *)(void *)(score + 2 * attn->row_tile * SUB);
    uint32_t *queries = weights + hs_attn_left_words(attn->row_tile, job->block);
    hs_gemm scores = hs_attn_queries(attn, run->at + row, rows, head);
    hs_gemm sums = hs_attn_sums(attn, run->at + row, rows, head);
    hs_attn_pack_left(attn, &scores, s->dqk, queries);
    scores.c = score;
    scores.ldc = SUB;
    for (int64_t at = key, n; at < end; at += n) {
        n = hs_min_i64(hs_min_i64(SUB, end - at), s->page_tokens - at % s->page_tokens);
        pair_weights(job, run, row, at, n, head, &scores, weights + (at - key) / 2);
    }
    sums.left = weights;
    sums.lda = hs_pair_stride(job->block);
    sums.accumulate = key > 0;
    hs_attn_add_values(attn, run->user, head, key, end, sums);
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
    const silu_job *job, const row_run *run, int64_t key, int64_t end, int64_t head, int64_t head_end, float *score)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t tile = attn->row_tile, history = attn->history[run->user];
    for (int64_t row = run->first; row < run->end; row += tile) {
        const int64_t rows = hs_min_i64(tile, run->end - row);
        const int64_t sees = run->causal ? run->before + row + rows : history;
        for (int64_t h = head; attn->pairs && sees > key && h < head_end; h++)
            pair_tile(job, run, row, rows, key, hs_min_i64(end, sees), h, score);
        if (!attn->pairs && sees > key)
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

enum { N_KINDS = 3 };

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The task's contextual rows, causal rows and candidates. */
static void split_task(const silu_job *job, const hs_user_task *task, row_run runs[N_KINDS])
{
    const hs_attn_job *attn = &job->attn;
    const hs_jagged *users = attn->users;
    const int64_t user = task->user, rows = hs_user_rows(users, user), at = users->offset[user];
    const int64_t before = attn->history[user] - rows, last = hs_min_i64(task->end, rows);
    const int64_t contextual = job->n_context ? larger(job->n_context[user] - before, 0) : 0;
    runs[0] =
        (row_run){.user = user, .first = task->first, .end = hs_min_i64(last, contextual), .before = before, .at = at};
    runs[1] = (row_run){.user = user,
        .first = larger(task->first, contextual),
        .end = last,
        .before = before,
        .at = at,
        .causal = true};
    runs[2] = (row_run){.user = user,
        .first = larger(task->first, rows),
        .end = task->end,
        .at = attn->candidates ? users->offset[users->n_users] + attn->candidates[user] - rows : 0};
}

/* How many of the user's tokens the run's rows see. */
static int64_t seen_by(const silu_job *job, const row_run *run)
{
    if (run->first >= run->end)
        return 0;
    return run->causal ? run->before + run->end : job->attn.history[run->user];
}

static void silu_task(void *context, int worker, int64_t index)
{
    const silu_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t splits = attn->kv->shape.n_heads / job->task_heads;
    const int64_t head = index % splits * job->task_heads, head_end = head + job->task_heads;
    float *score = (float *)(void *)(attn->scratch + (size_t)worker * attn->each);
    row_run runs[N_KINDS];
    int64_t sees = 0;
    split_task(job, &attn->tasks[index / splits], runs);
    hs_pairs_enter(attn->pairs);
    for (int i = 0; i < N_KINDS; i++)
        sees = larger(sees, seen_by(job, &runs[i]));
    for (int64_t key = 0, end; key < sees; key = end) {
        end = block_end(job, key);
        for (int i = 0; i < N_KINDS; i++)
            silu_run(job, &runs[i], key, end, head, head_end, score);
    }
    hs_pairs_leave(attn->pairs);
    const row_run *candidates = &runs[N_KINDS - 1];
    for (int64_t h = head; h < head_end; h++) {
        for (int64_t row = candidates->first; row < candidates->end; row++)
            own_term(job, candidates->at + row, h, attn->history[candidates->user] > 0, score);
        for (int i = 0; job->bf16 && i < N_KINDS; i++) {
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
    const int64_t n_heads = job->attn.kv->shape.n_heads,
                  n_runs = hs_user_tasks_count(users, candidates, job->attn.pairs ? PAIR_CHUNK : CHUNK);
    const bool enough = n_threads == 1 || hs_attn_alone(&job->attn) || n_runs >= n_threads * TASKS_PER_THREAD;
    const int64_t most = job->attn.pairs ? PAIR_CHUNK : CHUNK;
    int64_t best = most;
    double least = INFINITY;
    job->task_heads = enough && job->attn.bias ? n_heads : 1;
    for (int64_t chunk = most; !enough && chunk >= CHUNK_LEAST; chunk -= job->attn.row_tile) {
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

hstu_status hs_cpu_silu_attn(hs_device *dev, const hs_silu_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    silu_job job = {.attn = hs_attn_job_of(cpu, &a->out, &a->q, &a->kv, &a->users, a->history, a->bias, a->bf16),
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
    job.block = block_of(s, job.task_heads, job.attn.pairs);
    const int64_t tile = job.attn.row_tile, tiles = 2 * tile * (job.attn.pairs ? SUB : job.block);
    size_t floats = (size_t)larger(tiles, larger(s->dqk, s->dv));
    if (job.attn.pairs)
        floats += hs_attn_left_words(tile, job.block) + hs_attn_left_words(tile, s->dqk);
    return hs_attn_run(cpu, &job.attn, chunk, floats, s->n_heads / job.task_heads, silu_task, &job, err);
}
