/* What SiLU and softmax attention share. Both products are a gemm kernel's, over pages; every sum is one chain over
 * ascending tokens, whatever the pages' size. */
#include "device/cpu/cpu_attn.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdatomic.h>
#include <string.h>

enum { ALONE = 1 << 19 }; /* multiply-adds: some 10 us */

hs_attn_job hs_attn_job_of(const hs_cpu *cpu, const hs_mat *out, const hs_mat *q, const hs_kv_view *kv,
    const hs_jagged *users, const int64_t *history, const hs_rel_bias *bias, bool bf16)
{
    const hs_pair_kernels *pairs = bf16 && kv->shape.type == HS_BF16 ? cpu->kernels->pairs : NULL;
    return (hs_attn_job){.kernels = cpu->kernels,
        .product = pairs                       ? pairs->gemm
                   : kv->shape.type == HS_BF16 ? cpu->kernels->gemm_bf16
                                               : cpu->kernels->gemm,
        .pairs = pairs,
        .row_tile = pairs ? HS_PAIR_TILE : cpu->kernels->row_tile,
        .out = *out,
        .q = *q,
        .kv = kv,
        .users = users,
        .history = history,
        .bias = bias};
}

hs_gemm hs_attn_queries(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head)
{
    return (hs_gemm){.a = job->q.data + row * job->q.ld + head * job->kv->shape.dqk, .lda = job->q.ld, .rows = rows};
}

void hs_attn_half_queries(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head, uint16_t *space, hs_gemm *g)
{
    const hs_mat *q = &job->q;
    const int64_t dqk = job->kv->shape.dqk, ld = hs_mat_half_ld(dqk);
    g->rows = rows;
    g->left = q->half + row * q->ld + head * dqk;
    g->lda = q->ld;
    if (dqk % HS_PAIR_STEP == 0)
        return;
    for (int64_t r = 0; r < rows; r++) {
        memcpy(space + r * ld, g->left + r * q->ld, (size_t)dqk * sizeof *space);
        memset(space + r * ld + dqk, 0, (size_t)(ld - dqk) * sizeof *space);
    }
    g->left = space;
    g->lda = ld;
}

hs_gemm hs_attn_sums(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head)
{
    const int64_t dv = job->kv->shape.dv;
    return (hs_gemm){.c = job->out.data + row * job->out.ld + head * dv, .ldc = job->out.ld, .rows = rows, .n = dv};
}

/* g's right side is tokens first .. end - 1: their part of a page begins at `skip`, a token has token_bytes. */
static void set_pages(
    hs_gemm *g, const hs_attn_job *job, int64_t user, int64_t first, int64_t end, size_t skip, size_t token_bytes)
{
    const int64_t page_tokens = job->kv->shape.page_tokens, place = first % page_tokens;
    char *const *page = job->kv->page + job->kv->first_page[user] + first / page_tokens;
    g->b = end - first <= page_tokens - place ? *page + skip + (size_t)place * token_bytes : NULL;
    g->page = page;
    g->skip = skip;
}

int64_t hs_attn_piece_end(const hs_kv_shape *s, int64_t first, int64_t end)
{
    const int64_t place = first % s->page_tokens;
    return place ? hs_min_i64(end, first + s->page_tokens - place) : end;
}

size_t hs_attn_left_elements(int64_t rows, int64_t k)
{
    return (size_t)(hs_ceil_div_i64(rows, HS_PAIR_TILE) * HS_PAIR_TILE * hs_mat_half_ld(k));
}

void hs_attn_pack_left(const hs_attn_job *job, hs_gemm *g, int64_t k, uint16_t *left)
{
    const int64_t ld = hs_mat_half_ld(k), whole = hs_ceil_div_i64(k, HS_PAIR_STEP) * HS_PAIR_STEP;
    if (!job->pairs)
        return;
    for (int64_t r = 0; r < g->rows; r++) {
        job->pairs->narrow(left + r * ld, g->a + r * g->lda, 1.0f, k);
        memset(left + r * ld + k, 0, (size_t)(whole - k) * sizeof *left);
    }
    g->left = left;
    g->lda = ld;
}

void hs_attn_keys(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm *g)
{
    const hs_kv_shape *s = &job->kv->shape;
    const size_t bytes = hs_kv_key_bytes(s);
    const size_t token_bytes = bytes / (size_t)s->page_tokens; /* on average, over a panel */
    set_pages(g, job, user, first, end, (size_t)head * bytes, token_bytes);
    g->k = g->page_k = s->dqk;
    g->n = end - first;
    g->page_n = s->page_tokens;
    g->ldb = HS_PANEL;
    g->panel = (int64_t)(token_bytes / sizeof(float)) * HS_PANEL;
}

void hs_attn_dot_keys(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm g)
{
    hs_attn_keys(job, user, head, first, end, &g);
    if (job->pairs) /* panels are whole in a page, and whole tiles are quicker */
        g.n = hs_ceil_div_i64(end - first, HS_PANEL) * HS_PANEL;
    job->product(&g);
}

void hs_attn_values(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm *g)
{
    const hs_kv_shape *s = &job->kv->shape;
    const size_t skip = (size_t)s->n_heads * hs_kv_key_bytes(s) + (size_t)head * hs_kv_value_bytes(s);
    set_pages(g, job, user, first, end, skip, HS_KV_PANEL * hs_kv_element_bytes(s));
    g->k = end - first;
    g->page_k = s->page_tokens;
    g->n = s->dv;
    g->page_n = INT64_MAX;
    g->ldb = HS_PANEL;
    g->panel = (int64_t)(hs_kv_value_panel_bytes(s) / sizeof(float));
}

void hs_attn_add_values(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm g)
{
    hs_attn_values(job, user, head, first, end, &g);
    job->product(&g);
}

void hs_attn_runs(
    const hs_attn_job *job, const int64_t *n_context, const hs_user_task *task, hs_row_run runs[HS_ROW_KINDS])
{
    const hs_jagged *users = job->users;
    const int64_t user = task->user, rows = hs_user_rows(users, user), at = users->offset[user];
    const int64_t before = job->history[user] - rows, last = hs_min_i64(task->end, rows);
    const int64_t contextual = n_context ? hs_max_i64(n_context[user] - before, 0) : 0;
    runs[HS_ROW_CONTEXT] = (hs_row_run){
        .user = user, .first = task->first, .end = hs_min_i64(last, contextual), .before = before, .at = at};
    runs[HS_ROW_CAUSAL] = (hs_row_run){.user = user,
        .first = hs_max_i64(task->first, contextual),
        .end = last,
        .before = before,
        .at = at,
        .causal = true};
    runs[HS_ROW_CANDIDATE] = (hs_row_run){.user = user,
        .first = hs_max_i64(task->first, rows),
        .end = task->end,
        .at = job->candidates ? users->offset[users->n_users] + job->candidates[user] - rows : 0};
}

int64_t hs_attn_longest(const hs_attn_job *job)
{
    int64_t longest = 0;
    for (int64_t b = 0; b < job->users->n_users; b++) {
        if (hs_user_all_rows(job->users, job->candidates, b) > 0)
            longest = hs_max_i64(longest, job->history[b]);
    }
    return longest;
}

int64_t hs_attn_rows_see(const hs_attn_job *job, const hs_row_run *run, int64_t row, int64_t rows)
{
    return run->causal ? run->before + row + rows : job->history[run->user];
}

int64_t hs_attn_run_sees(const hs_attn_job *job, const hs_row_run *run)
{
    return run->first < run->end ? hs_attn_rows_see(job, run, run->first, run->end - run->first) : 0;
}

void hs_attn_bias_row(
    const hs_attn_job *job, float *dst, int64_t user, int64_t row, int64_t token, int64_t first, int64_t n)
{
    const hs_rel_bias *b = job->bias;
    job->kernels->bias_row(dst, b->position_w + (b->n - 1 - token + first), b->time_w,
        b->bucket + b->bucket_offset[user] + row * b->bucket_cols[user] + first, n);
}

bool hs_attn_alone(const hs_attn_job *job)
{
    const hs_kv_shape *s = &job->kv->shape;
    double pairs = 0; /* of a row and a token */
    for (int64_t b = 0; b < job->users->n_users; b++)
        pairs += (double)hs_user_all_rows(job->users, job->candidates, b) * (double)job->history[b];
    return pairs * (double)s->n_heads * (double)(s->dqk + s->dv) < ALONE;
}

hstu_status hs_attn_keep_segments(
    hs_attn_job *job, int64_t chunk, int64_t n_segments, int64_t rows, hs_cpu_task_fn *join, hstu_error *err)
{
    const hs_kv_shape *s = &job->kv->shape;
    const int64_t n_sums = hs_user_tasks_count(job->users, job->candidates, chunk) * s->n_heads; /* of a segment */
    job->kept_rows = chunk;
    job->kept_segments = n_segments;
    job->joins = hs_ceil_div_i64(chunk, rows);
    job->join = join;
    if (!hs_mul_size((size_t)n_sums, (size_t)(n_segments * chunk), &job->shared_floats) ||
        !hs_mul_size(job->shared_floats, (size_t)s->dv, &job->shared_floats))
        return hs_fail_nomem(err, SIZE_MAX, "the sums of attention");
    return HSTU_OK;
}

float *hs_attn_segment(const hs_attn_job *job, int64_t task, int64_t head, int64_t segment)
{
    const hs_kv_shape *s = &job->kv->shape;
    return job->shared + ((task * s->n_heads + head) * job->kept_segments + segment) * job->kept_rows * s->dv;
}

void hs_attn_segment_made(const hs_attn_job *job, int64_t task, int64_t head)
{
    atomic_fetch_add_explicit(&job->made[task * job->kv->shape.n_heads + head], 1, memory_order_release);
}

void hs_attn_await_segments(const hs_attn_job *job, int64_t task, int64_t head)
{
    hs_cpu_pool_await(&job->made[task * job->kv->shape.n_heads + head], job->kept_segments);
}

hstu_status hs_attn_run(hs_cpu *cpu, hs_attn_job *job, int64_t chunk, size_t floats, int64_t per_task,
    hs_cpu_task_fn *fn, void *ctx, hstu_error *err)
{
    const int64_t n_tasks = hs_user_tasks_count(job->users, job->candidates, chunk);
    const int64_t n_made = job->kept_segments > 0 ? n_tasks * job->kv->shape.n_heads : 0;
    const size_t list = hs_cpu_round64((size_t)n_tasks * sizeof(hs_user_task));
    const size_t made = hs_cpu_round64((size_t)n_made * sizeof *job->made);
    size_t bytes = 0, shared = 0;
    if (!hs_mul_size(floats, sizeof(float), &bytes) || !hs_mul_size(job->shared_floats, sizeof(float), &shared) ||
        !hs_add_size(shared, list + made, &shared))
        return hs_fail_nomem(err, SIZE_MAX, "the scores of attention");
    HS_TRY(hs_cpu_scratch(cpu, &job->space, shared, bytes, err));
    hs_user_task *const tasks = (hs_user_task *)(void *)job->space.shared;
    hs_user_tasks_list(tasks, job->users, job->candidates, job->history, chunk);
    job->tasks = tasks;
    job->n_tasks = n_tasks;
    job->made = (_Atomic int64_t *)(void *)(job->space.shared + list);
    job->shared = (float *)(void *)(job->space.shared + list + made);
    for (int64_t i = 0; i < n_made; i++)
        atomic_init(&job->made[i], 0);
    if (job->kept_segments > 0) {
        hs_cpu_pool_run_then(cpu->pool, n_tasks * per_task, fn, n_made * job->joins, job->join, ctx);
    } else if (hs_attn_alone(job)) {
        for (int64_t task = 0; task < n_tasks * per_task; task++)
            fn(ctx, 0, task);
    } else if (job->in_turn) {
        hs_cpu_pool_run_near(cpu->pool, n_tasks * per_task, fn, ctx);
    } else {
        hs_cpu_pool_run(cpu->pool, n_tasks * per_task, fn, ctx);
    }
    return HSTU_OK;
}
