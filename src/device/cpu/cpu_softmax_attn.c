/* Softmax attention (SASRec, softmax_rel_bias, decoder). A task is one head of a run of a user's rows; it keeps whole
 * rows of scores. Tokens that a row does not see carry a weight of exactly 0. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <string.h>

/* Rows of a task: a multiple of the row tiles 4, 6, 8 and 12; a larger tile is a task. */
enum { CHUNK = 24 };

typedef struct softmax_job {
    hs_attn_job attn;
    float scale;
    int64_t padded_n;
    bool bf16;
    int64_t score_ld, chunk;
} softmax_job;

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

static void softmax_task(void *context, int worker, int64_t index)
{
    const softmax_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t n_heads = attn->kv->shape.n_heads, head = index % n_heads;
    const hs_user_task *task = &attn->tasks[index / n_heads];
    const int64_t user = task->user, base = attn->users->offset[user];
    const int64_t before = attn->history[user] - hs_user_rows(attn->users, user); /* row r is token before + r */
    const int64_t end = before + task->end, n_keys = job->padded_n ? attn->history[user] : end;
    float *bias = (float *)(void *)(attn->scratch + (size_t)worker * attn->each);
    float *score = bias + job->score_ld;
    uint32_t *left = (uint32_t *)(void *)(score + job->chunk * job->score_ld);
    hs_gemm scores = hs_attn_queries(attn, base + task->first, task->end - task->first, head);
    scores.c = score;
    scores.ldc = job->score_ld;
    hs_pairs_enter(attn->pairs);
    hs_attn_pack_left(attn, &scores, attn->kv->shape.dqk, left);
    hs_attn_dot_keys(attn, user, head, 0, n_keys, scores);
    for (int64_t row = task->first; row < task->end; row++)
        weigh_row(job, score + (row - task->first) * job->score_ld, bias, user, row, before + row, n_keys, end);
    const int64_t tile = attn->row_tile;
    for (int64_t row = task->first; row < task->end; row += tile) {
        const int64_t rows = hs_min_i64(tile, task->end - row);
        hs_gemm sums = hs_attn_sums(attn, base + row, rows, head);
        sums.a = score + (row - task->first) * job->score_ld;
        sums.lda = job->score_ld;
        hs_attn_pack_left(attn, &sums, before + row + rows, left);
        hs_attn_add_values(attn, user, head, 0, before + row + rows, sums);
        for (int64_t r = 0; job->bf16 && r < rows; r++)
            attn->kernels->round_bf16(sums.c + r * sums.ldc, 1.0f, sums.n);
    }
    hs_pairs_leave(attn->pairs);
}

hstu_status hs_cpu_softmax_attn(hs_device *dev, const hs_softmax_attn_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    int64_t width = a->padded_n;
    for (int64_t b = 0; b < a->users.n_users; b++) {
        if (hs_user_rows(&a->users, b) > 0 && a->history[b] > width)
            width = a->history[b];
    }
    softmax_job job = {.attn = hs_attn_job_of(cpu, &a->out, &a->q, &a->kv, &a->users, a->history, a->bias, a->bf16),
        .scale = a->scale,
        .padded_n = a->padded_n,
        .bf16 = a->bf16,
        .score_ld = hs_ceil_div_i64(width, HS_PANEL) * HS_PANEL};
    job.chunk = job.attn.row_tile > CHUNK ? job.attn.row_tile : CHUNK;
    const int64_t most = width > a->kv.shape.dqk ? width : a->kv.shape.dqk;
    size_t floats = 0;
    if (!hs_mul_size((size_t)job.score_ld, (size_t)job.chunk + 1, &floats) ||
        !hs_add_size(floats, job.attn.pairs ? hs_attn_left_words(job.chunk, most) : 0, &floats))
        return hs_fail_nomem(err, SIZE_MAX, "the scores of attention");
    return hs_attn_run(cpu, &job.attn, job.chunk, floats, a->kv.shape.n_heads, softmax_task, &job, err);
}
