/* Softmax attention (SASRec, softmax_rel_bias, decoder). A task is one head of a run of a user's rows; it keeps whole
 * rows of scores. Tokens that a row does not see carry a weight of exactly 0. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <string.h>

/* Rows of a task: many share what is read of keys and values, as long as their scores fit into the cache beside it, but
 * threads must end together. Multiples of the row tiles 4, 6 and 12; at least a row tile, or where not every thread would have a
 * task, half a tile of pairs. */
enum { CHUNK_MOST = 96, CHUNK_LEAST = 24, SCORES_MOST = 1 << 18, TASKS_PER_THREAD = 3 };

/* Tokens of a block: keys of which a row tile skips what it does not see; values that stay in the second cache. */
enum { KEYS = 32, VALUES = 256 };

typedef struct softmax_job {
    hs_attn_job attn;
    float scale;
    int64_t padded_n;
    bool bf16, half; /* half: q and out hold bfloat16 values, with pairs */
    int64_t score_ld, chunk;
} softmax_job;

/* A thread's scratch; sums [chunk, dv] of rows that become bfloat16 values. */
typedef struct softmax_space {
    float *bias, *score, *sums;
    uint16_t *left;
} softmax_space;

/* The scores of the user's row, which is its token `token`, become weights; those of tokens up to `end` that it does
 * not see become 0. n_keys scores are there. */
static void weigh_row(const softmax_job *job, float *score, float *bias, int64_t user, int64_t row, int64_t token,
    int64_t n_keys, int64_t end)
{
    const hs_cpu_kernels *kernels = job->attn.kernels;
    const int64_t n = job->padded_n ? job->padded_n : token + 1;
    if (job->padded_n) /* padding has k = 0, so q . k = 0 there */
        memset(score + n_keys, 0, (size_t)(n - n_keys) * sizeof *score);
    if (job->attn.bias)
        hs_attn_bias_row(&job->attn, bias, user, row, token, 0, n);
    kernels->softmax(score, job->attn.bias ? bias : NULL, job->scale, n);
    if (job->bf16)
        kernels->round_bf16(score, 1.0f, token + 1);
    memset(score + token + 1, 0, (size_t)(end - token - 1) * sizeof *score);
}

/* The end of a block of about `most` tokens: whole pages, or a part of one. */
static int64_t block_end(const softmax_job *job, int64_t first, int64_t most)
{
    const int64_t page = job->attn.kv->shape.page_tokens, left = page - first % page;
    return page < most ? first + most / page * page : first + (most < left ? most : left);
}

/* A run of a user's rows: row `row` is token before + row of `history`. */
typedef struct softmax_rows {
    int64_t user, head, first, end; /* rows */
    int64_t before, row;            /* `row`: of the first one in q and out */
} softmax_rows;

/* Scores of all rows against n_keys tokens. Row tiles in front of a block do not see it. */
static void score_rows(const softmax_job *job, const softmax_rows *r, int64_t n_keys, const softmax_space *space)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t rows = r->end - r->first;
    hs_gemm all = {0};
    if (job->half) {
        hs_attn_half_queries(attn, r->row, rows, r->head, space->left, &all);
    } else {
        all = hs_attn_queries(attn, r->row, rows, r->head);
        hs_attn_pack_left(attn, &all, attn->kv->shape.dqk, space->left);
    }
    all.c = space->score;
    all.ldc = job->score_ld;
    for (int64_t first = 0, stop; first < n_keys; first = stop) {
        const int64_t hidden = job->padded_n ? 0 : first - r->before - r->first;
        const int64_t skip = hidden > 0 ? hidden / attn->row_tile * attn->row_tile : 0;
        hs_gemm g = all;
        stop = hs_min_i64(block_end(job, first, KEYS), n_keys);
        g.rows -= skip;
        g.c += skip * g.ldc + first;
        if (g.left)
            g.left += skip * g.lda;
        else
            g.a += skip * g.lda;
        hs_attn_dot_keys(attn, r->user, r->head, first, stop, g);
    }
}

/* Where the sums of rows row .. go. */
static hs_gemm sums_of(
    const softmax_job *job, const softmax_rows *r, int64_t row, int64_t rows, const softmax_space *space)
{
    const int64_t dv = job->attn.kv->shape.dv;
    if (!job->half)
        return hs_attn_sums(&job->attn, r->row + row - r->first, rows, r->head);
    return (hs_gemm){.c = space->sums + (row - r->first) * dv, .ldc = dv, .rows = rows, .n = dv};
}

/* The values of all rows' tokens by their weights. A block of tokens stays in the cache until every row tile has read it. */
static void add_values(const softmax_job *job, const softmax_rows *r, const softmax_space *space)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t tile = attn->row_tile;
    for (int64_t first = 0, stop; first < r->before + r->end; first = stop) {
        stop = block_end(job, first, VALUES);
        for (int64_t row = r->first; row < r->end; row += tile) {
            const int64_t rows = hs_min_i64(tile, r->end - row), end = hs_min_i64(stop, r->before + row + rows);
            hs_gemm sums = sums_of(job, r, row, rows, space);
            if (end <= first)
                continue;
            sums.a = space->score + (row - r->first) * job->score_ld + first;
            sums.lda = job->score_ld;
            sums.accumulate = first > 0;
            hs_attn_pack_left(attn, &sums, end - first, space->left);
            hs_attn_add_values(attn, r->user, r->head, first, end, sums);
        }
    }
}

static void round_sums(const softmax_job *job, const softmax_rows *r, const softmax_space *space)
{
    const hs_attn_job *attn = &job->attn;
    for (int64_t row = r->first; row < r->end; row++) {
        const hs_gemm sums = sums_of(job, r, row, 1, space);
        const int64_t at = (r->row + row - r->first) * attn->out.ld + r->head * sums.n;
        if (job->half)
            attn->pairs->narrow(attn->out.half + at, sums.c, 1.0f, sums.n);
        else if (job->bf16)
            attn->kernels->round_bf16(sums.c, 1.0f, sums.n);
    }
}

static size_t sums_floats(const softmax_job *job)
{
    return job->half ? (size_t)(job->chunk * job->attn.kv->shape.dv) : 0;
}

static bool space_floats(const softmax_job *job, size_t *floats)
{
    const int64_t dqk = job->attn.kv->shape.dqk, most = job->score_ld > dqk ? job->score_ld : dqk;
    const size_t left = job->attn.pairs ? hs_attn_left_elements(job->chunk, most) / 2 : 0;
    return hs_mul_size((size_t)job->score_ld, (size_t)job->chunk + 1, floats) &&
           hs_add_size(*floats, sums_floats(job) + left, floats);
}

static softmax_space space_of(const softmax_job *job, int worker)
{
    softmax_space space = {.bias = hs_cpu_own(&job->attn.space, worker)};
    space.score = space.bias + job->score_ld;
    space.sums = space.score + job->chunk * job->score_ld;
    space.left = (uint16_t *)(void *)(space.sums + sums_floats(job));
    return space;
}

static void softmax_task(void *context, int worker, int64_t index)
{
    const softmax_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t n_heads = attn->kv->shape.n_heads;
    const hs_user_task *task = &attn->tasks[index / n_heads];
    const int64_t user = task->user;
    const softmax_rows r = {.user = user,
        .head = index % n_heads,
        .first = task->first,
        .end = task->end,
        .before = attn->history[user] - hs_user_rows(attn->users, user),
        .row = attn->users->offset[user] + task->first};
    const int64_t end = r.before + r.end, n_keys = job->padded_n ? attn->history[user] : end;
    const softmax_space space = space_of(job, worker);
    hs_pairs_enter(attn->pairs);
    score_rows(job, &r, n_keys, &space);
    for (int64_t row = r.first; row < r.end; row++)
        weigh_row(
            job, space.score + (row - r.first) * job->score_ld, space.bias, user, row, r.before + row, n_keys, end);
    add_values(job, &r, &space);
    hs_pairs_leave(attn->pairs);
    round_sums(job, &r, &space);
}

static void choose_chunk(softmax_job *job, int n_threads)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t want = n_threads > 1 ? (int64_t)TASKS_PER_THREAD * n_threads : 0, n_heads = attn->kv->shape.n_heads;
    int64_t chunk = CHUNK_MOST;
    while (chunk > CHUNK_LEAST &&
           (chunk * job->score_ld > SCORES_MOST || hs_user_tasks_count(attn->users, NULL, chunk) * n_heads < want))
        chunk /= 2;
    if (chunk < attn->row_tile || hs_user_tasks_count(attn->users, NULL, chunk) * n_heads < want)
        chunk = attn->row_tile;
    if (attn->pairs && !hs_attn_alone(attn) && hs_user_tasks_count(attn->users, NULL, chunk) * n_heads < n_threads)
        chunk = HS_PAIR_ROWS;
    job->chunk = chunk;
}

static hstu_status softmax_attn(hs_cpu *cpu, const hs_softmax_attn_args *a, hstu_error *err)
{
    int64_t width = a->padded_n;
    for (int64_t b = 0; b < a->users.n_users; b++) {
        if (hs_user_rows(&a->users, b) > 0 && a->history[b] > width)
            width = a->history[b];
    }
    softmax_job job = {.attn = hs_attn_job_of(cpu, &a->out, &a->q, &a->kv, &a->users, a->history, a->bias, a->bf16),
        .scale = a->scale,
        .padded_n = a->padded_n,
        .bf16 = a->bf16,
        .half = a->q.bf16,
        .score_ld = hs_ceil_div_i64(width, HS_PANEL) * HS_PANEL};
    choose_chunk(&job, cpu->base.n_threads);
    size_t floats = 0;
    if (!space_floats(&job, &floats))
        return hs_fail_nomem(err, SIZE_MAX, "the scores of attention");
    return hs_attn_run(cpu, &job.attn, job.chunk, floats, a->kv.shape.n_heads, softmax_task, &job, err);
}

hstu_status hs_cpu_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const hs_mat mat[] = {a->q, a->out};
    hs_mat wide[2];
    if (a->bf16 && a->q.bf16 && a->out.bf16 && a->kv.shape.type == HS_BF16 && cpu->kernels->pairs)
        return softmax_attn(cpu, a, err);
    HS_TRY(hs_cpu_widen(cpu, wide, mat, 2, err));
    hs_softmax_attn_args widened = *a;
    widened.q = wide[0];
    widened.out = wide[1];
    HS_TRY(softmax_attn(cpu, &widened, err));
    hs_cpu_narrow(cpu, &a->out, &wide[1]);
    return HSTU_OK;
}
