/* SiLU attention (HSTU) in float32. The tokens are cut into segments at fixed positions; of a row and head, each
 * segment's sum begins at 0, and the sums are added in ascending order. So they may be computed by several threads: a
 * task is a run of one user's rows, one head (under a bias all heads, which share its rows), and all segments or,
 * where rows are few beside their tokens, one. Tokens that a row does not see carry a weight of exactly 0. */
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <math.h>
#include <string.h>

/* A segment's keys and values stay in the second cache while the tiles of a task's rows pass over them. To stream
 * them costs a task as much as TASK_ROWS more rows (Zen 4, d = 128). */
enum {
    SEGMENT = HS_ATTN_SEGMENT,
    PIECE = 128,          /* tokens of a product */
    TILE = 24,            /* its rows: whole register tiles (4, 6, 12) */
    CHUNK = 120,          /* rows of a task when there are enough */
    CHUNK_LEAST = 6,      /* and when there are not */
    TASKS_PER_THREAD = 3, /* enough */
    TASK_ROWS = 10,
    JOINED_ROWS = 8 /* whose segments one task adds up */
};
static const double JOINING = 1.1; /* what keeping sums apart and adding them up costs */

typedef struct silu_job {
    hs_attn_job attn;
    hs_mat own_k, own_v;
    const int64_t *n_context;
    float alpha, scale; /* before SiLU, and after it */
    float after;        /* of the sum; bf16 only */
    bool bf16;
    int64_t chunk, task_heads;
    int64_t n_segments; /* of the longest history */
    int64_t n_slices;   /* 1: a task computes all segments, or n_segments: one */
} silu_job;

/* A thread's scratch: a tile's scores and bias of a piece (or what a candidate's own term needs), a segment's sums of
 * all rows and heads of a task. */
typedef struct silu_space {
    float *score, *bias, *sums;
} silu_space;

/* In floats; `out` may be NULL. */
static size_t cut_space(const silu_job *job, float *memory, silu_space *out)
{
    const hs_kv_shape *s = &job->attn.kv->shape;
    const int64_t score = TILE * PIECE, own = hs_max_i64(s->dqk, s->dv) - score, bias = job->attn.bias ? score : 0;
    const int64_t sums = job->n_slices > 1 || job->n_segments <= 1 ? 0 : job->task_heads * job->chunk * s->dv;
    if (out)
        *out = (silu_space){.score = memory, .bias = memory + score, .sums = memory + score + hs_max_i64(bias, own)};
    return (size_t)(score + hs_max_i64(bias, own) + sums);
}

/* What a thread works at: a task's rows of each kind for heads head .. head_end - 1. */
typedef struct silu_work {
    int64_t task, head, head_end;
    int64_t from, sees; /* the task's first row, and how many tokens its rows see at most */
    hs_row_run runs[HS_ROW_KINDS];
    silu_space space;
} silu_work;

/* Tokens at .. next - 1 of a segment. */
typedef struct silu_piece {
    int64_t segment, at, next;
} silu_piece;

static silu_work work_of(const silu_job *job, int worker, int64_t task, int64_t head, int64_t n_heads)
{
    const hs_attn_job *attn = &job->attn;
    const hs_user_task *rows = &attn->tasks[task];
    silu_work w = {.task = task, .head = head, .head_end = head + n_heads, .from = rows->first};
    cut_space(job, hs_cpu_own(&attn->space, worker), &w.space);
    hs_attn_runs(attn, job->n_context, rows, w.runs);
    for (int i = 0; i < HS_ROW_KINDS; i++)
        w.sees = hs_max_i64(w.sees, hs_attn_run_sees(attn, &w.runs[i]));
    return w;
}

/* The end of a piece that begins with token `key`. Segments begin with one. */
static int64_t piece_end(const hs_kv_shape *s, int64_t key, int64_t end)
{
    const int64_t segment_end = (key / SEGMENT + 1) * SEGMENT;
    return hs_attn_piece_end(s, key, hs_min_i64(hs_min_i64(key + PIECE, segment_end), end));
}

/* Where a segment's sums of a row and those behind it stand. With slices each segment has a place of its own; else the
 * first one's are the result, to which others are added. */
static hs_gemm sums_of(const silu_job *job, const silu_work *w, const hs_row_run *run, int64_t row, int64_t rows,
    int64_t segment, int64_t head)
{
    const hs_attn_job *attn = &job->attn;
    const hs_kv_shape *s = &attn->kv->shape;
    hs_gemm sums = hs_attn_sums(attn, run->at + row, rows, head);
    if (job->n_slices == 1 && segment == 0)
        return sums;
    sums.c = job->n_slices > 1 ? hs_attn_segment(attn, w->task, head, segment)
                               : w->space.sums + (head - w->head) * job->chunk * s->dv;
    sums.c += (row - w->from) * s->dv;
    sums.ldc = s->dv;
    return sums;
}

/* Sums of a tile, rows row .. row + rows - 1 of a run, for one head over one piece. */
static void multiply(const silu_job *job, const silu_work *w, const silu_piece *p, const hs_row_run *run, int64_t row,
    int64_t rows, int64_t head)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t end = hs_min_i64(p->next, hs_attn_rows_see(attn, run, row, rows)), n = end - p->at;
    hs_gemm scores = hs_attn_queries(attn, run->at + row, rows, head);
    hs_gemm sums = sums_of(job, w, run, row, rows, p->segment, head);
    scores.c = w->space.score;
    scores.ldc = PIECE;
    hs_attn_dot_keys(attn, run->user, head, p->at, end, scores);
    const hs_silu_tile weights = {.x = w->space.score,
        .bias = attn->bias ? w->space.bias : NULL,
        .ld = PIECE,
        .alpha = job->alpha,
        .scale = job->scale,
        .rows = rows,
        .n = n,
        .n_first = run->causal ? run->before + row + 1 - p->at : n, /* what the first row sees */
        .bf16 = job->bf16};
    attn->kernels->silu(&weights);
    sums.a = w->space.score;
    sums.lda = PIECE;
    sums.accumulate = p->at > p->segment * SEGMENT;
    hs_attn_add_values(attn, run->user, head, p->at, end, sums);
}

static void bias_rows(
    const silu_job *job, const silu_work *w, const silu_piece *p, const hs_row_run *run, int64_t row, int64_t rows)
{
    for (int64_t r = row; r < row + rows; r++) {
        const int64_t n = hs_min_i64(p->next, hs_attn_rows_see(&job->attn, run, r, 1)) - p->at;
        if (n > 0)
            hs_attn_bias_row(&job->attn, w->space.bias + (r - row) * PIECE, run->user, r, run->before + r, p->at, n);
    }
}

/* One piece for all rows of a run. Where they see different parts of it, tiles are small. */
static void run_piece(const silu_job *job, const silu_work *w, const silu_piece *p, const hs_row_run *run)
{
    const hs_attn_job *attn = &job->attn;
    for (int64_t row = run->first, rows = 0; row < run->end; row += rows) {
        const bool whole = hs_attn_rows_see(attn, run, row, 1) >= p->next;
        rows = hs_min_i64(whole ? TILE : attn->row_tile, run->end - row);
        if (hs_attn_rows_see(attn, run, row, rows) <= p->at)
            continue;
        if (attn->bias)
            bias_rows(job, w, p, run, row, rows);
        for (int64_t h = w->head; h < w->head_end; h++)
            multiply(job, w, p, run, row, rows, h);
    }
}

/* Adds a segment's sums to the result. */
static void add_segment(
    const silu_job *job, const silu_work *w, const hs_row_run *run, int64_t first, int64_t end, int64_t segment)
{
    const hs_attn_job *attn = &job->attn;
    for (int64_t row = first; row < end; row++) {
        for (int64_t h = w->head; h < w->head_end && hs_attn_rows_see(attn, run, row, 1) > segment * SEGMENT; h++) {
            const hs_gemm to = hs_attn_sums(attn, run->at + row, 1, h);
            const float *more = sums_of(job, w, run, row, 1, segment, h).c;
            if (segment > 0)
                attn->kernels->scale(to.c, NULL, more, to.n);
            else if (more != to.c)
                memcpy(to.c, more, (size_t)to.n * sizeof *more);
        }
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

/* These rows' sums are complete: a candidate's own term, and what follows. */
static void finish_rows(const silu_job *job, const silu_work *w, int kind, int64_t first, int64_t end)
{
    const hs_attn_job *attn = &job->attn;
    const hs_row_run *run = &w->runs[kind];
    if (kind != HS_ROW_CANDIDATE && !job->bf16)
        return;
    for (int64_t row = run->at + first; row < run->at + end; row++) {
        for (int64_t h = w->head; h < w->head_end; h++) {
            const hs_gemm sums = hs_attn_sums(attn, row, 1, h);
            if (kind == HS_ROW_CANDIDATE)
                own_term(job, row, h, attn->history[run->user] > 0, w->space.score);
            if (job->bf16)
                attn->kernels->round_bf16(sums.c, job->after, sums.n);
        }
    }
}

/* All segments, or one, for the rows and heads of a task. */
static void silu_task(void *context, int worker, int64_t index)
{
    const silu_job *job = context;
    const hs_kv_shape *s = &job->attn.kv->shape;
    const int64_t per_run = s->n_heads / job->task_heads * job->n_slices, slice = index % job->n_slices;
    const silu_work w =
        work_of(job, worker, index / per_run, index % per_run / job->n_slices * job->task_heads, job->task_heads);
    const int64_t end = job->n_slices > 1 ? hs_min_i64(w.sees, (slice + 1) * SEGMENT) : w.sees;
    silu_piece p = {.segment = slice};
    for (p.at = slice * SEGMENT; p.at < end; p.at = p.next) {
        p.segment = p.at / SEGMENT;
        p.next = piece_end(s, p.at, end);
        for (int i = 0; i < HS_ROW_KINDS; i++)
            run_piece(job, &w, &p, &w.runs[i]);
        const bool adds = job->n_slices == 1 && p.segment > 0 && (p.next == end || p.next % SEGMENT == 0);
        for (int i = 0; adds && i < HS_ROW_KINDS; i++)
            add_segment(job, &w, &w.runs[i], w.runs[i].first, w.runs[i].end, p.segment);
    }
    if (job->n_slices > 1)
        hs_attn_segment_made(&job->attn, w.task, w.head);
    for (int i = 0; job->n_slices == 1 && i < HS_ROW_KINDS; i++)
        finish_rows(job, &w, i, w.runs[i].first, w.runs[i].end);
}

/* Adds up the segments of a few of a task's rows for one head. */
static void join_task(void *context, int worker, int64_t index)
{
    const silu_job *job = context;
    const int64_t n_heads = job->attn.kv->shape.n_heads, parts = job->attn.joins;
    const silu_work w = work_of(job, worker, index / parts / n_heads, index / parts % n_heads, 1);
    const int64_t from = w.from + index % parts * JOINED_ROWS;
    hs_attn_await_segments(&job->attn, w.task, w.head);
    for (int i = 0; i < HS_ROW_KINDS; i++) {
        const int64_t first = hs_max_i64(w.runs[i].first, from), end = hs_min_i64(w.runs[i].end, from + JOINED_ROWS);
        for (int64_t segment = 0; segment < job->n_segments; segment++)
            add_segment(job, &w, &w.runs[i], first, end, segment);
        finish_rows(job, &w, i, first, end);
    }
}

/* How long tasks take when each thread takes equally many: of `rows` rows and a share of the tokens, in rows over all
 * tokens. */
static double time_of(int64_t n_tasks, int64_t n_threads, double rows, double share)
{
    return (double)hs_ceil_div_i64(n_tasks, n_threads) * (rows + TASK_ROWS) * share;
}

/* Rows of a task of one head and all segments, as many as end soonest: in *time. They are whole register tiles, or half of one where
 * most threads would have nothing to do. */
static int64_t cut_rows(const silu_job *job, int64_t n_threads, double *time)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t n_heads = attn->kv->shape.n_heads;
    int64_t best = CHUNK;
    *time = INFINITY;
    for (int64_t chunk = CHUNK, step; chunk >= CHUNK_LEAST; chunk -= step) {
        step = chunk > attn->row_tile ? attn->row_tile : (attn->row_tile + 1) / 2;
        const int64_t n_tasks = hs_user_tasks_count(attn->users, attn->candidates, chunk) * n_heads;
        const double rows = (double)attn->q.rows * (double)n_heads / (double)n_tasks;
        const double now = time_of(n_tasks, n_threads, rows, 1);
        if (now <= *time) {
            *time = now;
            best = chunk;
        }
    }
    return best;
}

/* Rows, heads and segments of a task. With few rows for the threads a task is one head, and of fewer rows, or of one
 * segment if that ends sooner. Heads are taken together only to share the rows of a bias. */
static void cut(silu_job *job, int64_t n_threads)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t n_heads = attn->kv->shape.n_heads;
    const int64_t n_runs = hs_user_tasks_count(attn->users, attn->candidates, CHUNK), n_tasks = n_runs * n_heads;
    const bool enough = n_threads == 1 || hs_attn_alone(attn) || n_runs >= n_threads * TASKS_PER_THREAD;
    const int64_t longest = hs_attn_longest(attn);
    job->n_segments = hs_ceil_div_i64(longest, SEGMENT);
    job->n_slices = 1;
    job->chunk = CHUNK;
    job->task_heads = enough && attn->bias ? n_heads : 1;
    if (enough)
        return;
    double time = 0;
    job->chunk = cut_rows(job, n_threads, &time);
    const double rows = (double)attn->q.rows / (double)n_runs, share = (double)SEGMENT / (double)longest;
    if (job->n_segments > 1 && time_of(n_tasks * job->n_segments, n_threads, rows, share) * JOINING < time) {
        job->n_slices = job->n_segments;
        job->chunk = CHUNK;
    }
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
    const int64_t n_heads = a->kv.shape.n_heads;
    job.attn.candidates = a->candidates;
    cut(&job, cpu->base.n_threads);
    job.attn.in_turn = job.n_slices > 1;
    if (job.n_slices > 1)
        HS_TRY(hs_attn_keep_segments(&job.attn, job.chunk, job.n_segments, JOINED_ROWS, join_task, err));
    return hs_attn_run(cpu, &job.attn, job.chunk, cut_space(&job, NULL, NULL), n_heads / job.task_heads * job.n_slices,
        silu_task, &job, err);
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
