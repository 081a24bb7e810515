/* SiLU attention over bfloat16 values, where the instruction set multiplies pairs of them. The tokens are cut into segments at
 * fixed positions; of a row and head, each segment's sum begins at 0, and the sums are added in ascending order. So they may be
 * computed by several threads: a task is one head (under a bias all heads, which share its rows) of a run of one user's rows, and all
 * segments or, where these are shared out, one. */
#include "base/error.h"
#include "device/cpu/cpu_attn.h"

#include <string.h>

enum {
    SEGMENT = HS_ATTN_SEGMENT,
    CHUNK = 192,          /* rows of a task when there are enough */
    JOINED = 16,          /* rows of a task that adds up segments */
    TASKS_PER_THREAD = 8, /* enough: one may be four times as slow as another (bench/LOG.md) */
    SLICE_ROWS = 64,      /* of a task of one segment, at least: fewer would read keys and values for too little */
    FEW_ROWS = 8,         /* tokens, at least, for each row: few rows */
    HEAD_TASKS = 2        /* of a thread, at least, that has heads of its own: one that is late can still be helped */
};

typedef struct pair_job {
    hs_attn_job attn;
    const hs_silu_attn_args *a;
    int64_t chunk, task_heads;
    int64_t n_segments; /* of the longest history */
    int64_t n_slices;   /* 1: a task computes all segments, or n_segments: one */
    int64_t n_runs;     /* attn.tasks */
    int64_t together;   /* threads that share a head */
    int64_t weights_ld;
} pair_job;

/* A tile's weights are there, but not their product with the values: that is made beside the next weights, or by
 * make_due. */
typedef struct values_due {
    hs_gemm product;
    hs_gemm next; /* where the product's hint points to: not to be copied while that is due */
    bool there;
    float *add_to; /* its sums are added to these, or NULL */
} values_due;

/* A thread's scratch: sums of all heads and rows of a task, those of one tile, its bias, its queries; its weights, and those of the
 * tile before. */
typedef struct pair_space {
    float *sums, *tile, *bias;
    uint16_t *weights, *due_weights, *queries;
    values_due due;
} pair_space;

static size_t tile_queries(const hs_kv_shape *s)
{
    return s->dqk % HS_PAIR_STEP ? hs_attn_left_elements(HS_PAIR_TILE, s->dqk) : 0;
}

/* In floats; `out` may be NULL. */
static size_t cut_space(const pair_job *job, float *memory, pair_space *out)
{
    const hs_kv_shape *s = &job->attn.kv->shape;
    const size_t sums = job->n_slices > 1 ? 0 : (size_t)(job->task_heads * job->chunk * s->dv);
    const size_t tile = (size_t)(HS_PAIR_TILE * s->dv), bias = job->attn.bias ? HS_PAIR_TILE * SEGMENT : 0;
    const size_t weights = (size_t)(HS_PAIR_TILE * job->weights_ld) / 2, queries = tile_queries(s) / 2;
    if (out) {
        *out = (pair_space){.sums = memory, .tile = memory + sums, .bias = memory + sums + tile};
        out->weights = (uint16_t *)(void *)(out->bias + bias);
        out->due_weights = out->weights + 2 * weights;
        out->queries = out->due_weights + 2 * weights;
    }
    return sums + tile + bias + 2 * weights + queries;
}

/* The product that was due is made. */
static void settle(const pair_job *job, values_due *due)
{
    if (due->there && due->add_to)
        job->attn.pairs->add(due->add_to, due->product.c, due->product.rows * due->product.ldc);
    due->there = false;
}

/* Weights of one piece, and what was due beside them. */
static void make_weights(const pair_job *job, hs_pair_weights *w, pair_space *space)
{
    w->beside = space->due.there ? &space->due.product : NULL;
    job->attn.pairs->weights(w);
    settle(job, &space->due);
}

static void make_due(const pair_job *job, pair_space *space)
{
    if (space->due.there)
        job->attn.pairs->gemm(&space->due.product);
    settle(job, &space->due);
}

/* Keys and values that lie a segment behind the tokens at .. end - 1, whose keys are `here`: this task reads them next, or the one that
 * its thread is likely to take. They stay empty where there are none. */
static void set_next(const pair_job *job, const hs_row_run *run, int64_t head, int64_t at, int64_t end,
    const hs_gemm *here, hs_gemm *keys, hs_gemm *values)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t sees = hs_min_i64(hs_attn_run_sees(attn, run), attn->history[run->user]), next = at + SEGMENT;
    hs_gemm k = {.n = 0};
    if (next >= sees)
        return;
    hs_attn_keys(attn, run->user, head, next, hs_min_i64(sees, end + SEGMENT), &k);
    if (!here->b != !k.b)
        return; /* one of them lies in several pages, the other does not */
    *keys = k;
    hs_attn_values(attn, run->user, head, next, hs_min_i64(sees, end + SEGMENT), values);
}

/* Rows row .. row + rows - 1 of the run against tokens key .. end - 1 of one segment: their sums will be in `sums` [rows, dv], or
 * with `adds` added to them. */
static void tile_segment(const pair_job *job, const hs_row_run *run, int64_t row, int64_t rows, int64_t key,
    int64_t end, int64_t head, pair_space *space, float *sums, bool adds)
{
    const hs_attn_job *attn = &job->attn;
    const hs_kv_shape *s = &attn->kv->shape;
    const int64_t seen_first = run->causal ? run->before + row + 1 : end; /* by the first row */
    const bool again = row > run->first;
    uint16_t *const weights = space->due_weights;
    hs_pair_weights w = {
        .ldo = job->weights_ld, .ldb = SEGMENT, .alpha = job->a->alpha, .scores = {.rows = rows, .again = again}};
    hs_attn_half_queries(attn, run->at + row, rows, head, space->queries, &w.scores);
    space->due_weights = space->weights;
    space->weights = weights;
    for (int64_t at = key, next; at < end; at = next) {
        next = hs_attn_piece_end(s, at, end);
        hs_attn_keys(attn, run->user, head, at, next, &w.scores);
        w.out = weights + (at - key);
        w.bias = attn->bias ? space->bias + (at - key) : NULL;
        w.n_first = seen_first - at;
        w.claim = (char *)sums;
        w.claim_lines = job->n_slices > 1 && at == key ? rows * s->dv * (int64_t)sizeof *sums / HS_LINE : 0;
        hs_gemm next_keys = {.n = 0}, next_values = {.n = 0};
        if (!again)
            set_next(job, run, head, at, next, &w.scores, &next_keys, &next_values);
        w.scores.next = &next_keys;
        make_weights(job, &w, space);
        space->due = (values_due){.there = true, .add_to = adds && next == end ? sums : NULL, .next = next_values};
        space->due.product = (hs_gemm){.c = adds ? space->tile : sums,
            .ldc = s->dv,
            .left = w.out,
            .lda = job->weights_ld,
            .rows = rows,
            .again = again,
            .next = &space->due.next,
            .accumulate = at > key};
        hs_attn_values(attn, run->user, head, at, next, &space->due.product);
    }
}

static void bias_rows(
    const pair_job *job, const hs_row_run *run, int64_t row, int64_t rows, int64_t key, int64_t end, float *bias)
{
    for (int64_t r = 0; r < rows; r++) {
        const int64_t token = run->before + row + r, seen = hs_min_i64(run->causal ? token + 1 : end, end) - key;
        if (seen > 0)
            hs_attn_bias_row(&job->attn, bias + r * SEGMENT, run->user, row + r, token, key, seen);
    }
}

/* Where the sums of a task's row (counted from its first) and head stand: one for each segment with several slices, else one. */
static float *sums_at(
    const pair_job *job, int64_t task, int64_t head, int64_t segment, int64_t row, const pair_space *space)
{
    const hs_kv_shape *s = &job->attn.kv->shape;
    if (job->n_slices > 1)
        return hs_attn_segment(&job->attn, task, head, segment) + row * s->dv;
    return space->sums + (head % job->task_heads * job->chunk + row) * s->dv;
}

/* One segment for a task's rows and heads head .. head_end - 1. */
static void task_segment(const pair_job *job, int64_t task, const hs_row_run *run, int64_t segment, int64_t head,
    int64_t head_end, pair_space *space)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t key = segment * SEGMENT, first = attn->tasks[task].first;
    const bool adds = job->n_slices == 1 && segment > 0;
    for (int64_t row = run->first; row < run->end; row += HS_PAIR_TILE) {
        const int64_t rows = hs_min_i64(HS_PAIR_TILE, run->end - row);
        const int64_t seen = hs_min_i64(hs_attn_rows_see(attn, run, row, rows), attn->history[run->user]);
        const int64_t end = hs_min_i64(key + SEGMENT, seen);
        if (seen <= key)
            continue;
        if (attn->bias)
            bias_rows(job, run, row, rows, key, end, space->bias);
        for (int64_t h = head; h < head_end; h++) {
            float *sums = sums_at(job, task, h, segment, row - first, space);
            tile_segment(job, run, row, rows, key, end, h, space, sums, adds);
        }
    }
}

/* A row's sum is complete: its own term, and what follows. */
static void finish_row(
    const pair_job *job, const hs_row_run *run, bool candidate, int64_t row, int64_t head, float *sum)
{
    const hs_silu_attn_args *a = job->a;
    const hs_kv_shape *s = &a->kv.shape;
    const int64_t at = run->at + row, own = at - a->users.offset[a->users.n_users];
    if (a->history[run->user] == 0)
        memset(sum, 0, (size_t)s->dv * sizeof *sum);
    if (candidate) {
        const hs_pair_own o = {.sum = sum,
            .q = a->q.half + at * a->q.ld + head * s->dqk,
            .k = a->own_k.half + own * a->own_k.ld + head * s->dqk,
            .v = a->own_v.half + own * a->own_v.ld + head * s->dv,
            .dqk = s->dqk,
            .dv = s->dv,
            .alpha = a->alpha};
        job->attn.pairs->own(&o);
    }
    job->attn.pairs->narrow(a->out.half + at * a->out.ld + head * s->dv, sum, a->inv_n, s->dv);
}

static pair_space space_of(const pair_job *job, int worker)
{
    pair_space space;
    cut_space(job, hs_cpu_own(&job->attn.space, worker), &space);
    return space;
}

/* The place-th run of rows for a head. Runs are listed costliest first; neighbouring places are for one thread, so they hold every
 * `together`-th of the list. */
static int64_t run_at(const pair_job *job, int64_t place)
{
    for (int64_t first = 0; first < job->together; first++) {
        const int64_t n = hs_ceil_div_i64(job->n_runs - first, job->together);
        if (place < n)
            return first + place * job->together;
        place -= n;
    }
    return 0; /* never: places are 0 .. n_runs - 1 */
}

/* Candidates that stand behind the last of the history's rows see what that one sees: no more than all of the tokens. So both go
 * through in the same tiles. */
static void join_candidates(const hs_attn_job *attn, hs_row_run runs[HS_ROW_KINDS])
{
    hs_row_run *causal = &runs[HS_ROW_CAUSAL], *candidate = &runs[HS_ROW_CANDIDATE];
    if (attn->bias || causal->first >= causal->end || causal->end != candidate->first || causal->at != candidate->at ||
        candidate->first >= candidate->end)
        return;
    causal->end = candidate->end;
    candidate->end = candidate->first;
}

/* All segments, or one, for the rows and heads of a task. Neighbours read the same keys and values. */
static void pair_task(void *context, int worker, int64_t index)
{
    const pair_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t slice = index / job->n_runs % job->n_slices, task = run_at(job, index % job->n_runs);
    const int64_t head = index / job->n_runs / job->n_slices * job->task_heads;
    const int64_t head_end = head + job->task_heads, end = job->n_slices > 1 ? slice + 1 : job->n_segments;
    pair_space space = space_of(job, worker);
    hs_row_run runs[HS_ROW_KINDS], joined[HS_ROW_KINDS];
    hs_attn_runs(attn, job->a->n_context, &attn->tasks[task], runs);
    memcpy(joined, runs, sizeof joined);
    join_candidates(attn, joined);
    hs_pairs_enter(attn->pairs);
    for (int64_t segment = slice; segment < end; segment++) {
        for (int i = 0; i < HS_ROW_KINDS; i++) {
            if (hs_attn_run_sees(attn, &joined[i]) > segment * SEGMENT)
                task_segment(job, task, &joined[i], segment, head, head_end, &space);
        }
    }
    make_due(job, &space);
    hs_pairs_leave(attn->pairs);
    if (job->n_slices > 1)
        hs_attn_segment_made(attn, task, head);
    for (int i = 0; job->n_slices == 1 && i < HS_ROW_KINDS; i++) {
        for (int64_t h = head; h < head_end; h++) {
            for (int64_t row = runs[i].first; row < runs[i].end; row++)
                finish_row(job, &runs[i], i == HS_ROW_CANDIDATE, row, h,
                    sums_at(job, task, h, 0, row - attn->tasks[task].first, &space));
        }
    }
}

/* Adds up the segments of rows row .. end - 1 of a run: of one segment all rows that see it, the last ones, for they lie in one
 * piece. */
static void join_rows(const pair_job *job, const hs_row_run *run, int64_t task, int64_t head, int64_t row, int64_t end)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t first = attn->tasks[task].first, dv = attn->kv->shape.dv;
    for (int64_t segment = 1; row < end && segment < job->n_segments; segment++) {
        while (row < end && hs_attn_rows_see(attn, run, row, 1) <= segment * SEGMENT)
            row++;
        attn->pairs->add(sums_at(job, task, head, 0, row - first, NULL),
            sums_at(job, task, head, segment, row - first, NULL), (end - row) * dv);
    }
}

/* The same for some of a run's rows and one head, and what follows. */
static void join_task(void *context, int worker, int64_t index)
{
    const pair_job *job = context;
    const hs_attn_job *attn = &job->attn;
    const int64_t part = index % attn->joins, task = index / attn->joins % job->n_runs;
    const int64_t head = index / attn->joins / job->n_runs;
    const int64_t first = attn->tasks[task].first, begin = first + part * JOINED;
    hs_row_run runs[HS_ROW_KINDS];
    (void)worker;
    hs_attn_await_segments(attn, task, head);
    hs_attn_runs(attn, job->a->n_context, &attn->tasks[task], runs);
    for (int i = 0; i < HS_ROW_KINDS; i++) {
        const int64_t end = hs_min_i64(runs[i].end, begin + JOINED);
        int64_t row = hs_max_i64(runs[i].first, begin);
        join_rows(job, &runs[i], task, head, row, end);
        for (; row < end; row++)
            finish_row(job, &runs[i], i == HS_ROW_CANDIDATE, row, head, sums_at(job, task, head, 0, row - first, NULL));
    }
}

static void set_rows(pair_job *job, int64_t chunk)
{
    job->chunk = chunk;
    job->n_runs = hs_user_tasks_count(job->attn.users, job->attn.candidates, chunk);
}

/* Rows, heads and segments of a task, so that there are enough for the threads. Segments are shared out where rows are few beside
 * their tokens, for then fewer rows a task would read the same keys and values again; but not where heads divide among threads of steady
 * speed: then nobody has to add up segments. */
static void cut(pair_job *job, int64_t n_threads)
{
    const hs_attn_job *attn = &job->attn;
    const int64_t n_heads = attn->kv->shape.n_heads, enough = n_threads * TASKS_PER_THREAD;
    const bool alone = n_threads == 1 || hs_attn_alone(attn);
    const int64_t longest = hs_attn_longest(attn);
    set_rows(job, CHUNK);
    const int64_t n_tasks = job->n_runs * n_heads;
    job->n_segments = hs_ceil_div_i64(longest, SEGMENT);
    job->n_slices = 1;
    job->task_heads = 1;
    job->together = 1;
    const bool few = !alone && n_tasks < enough && attn->q.rows * FEW_ROWS <= longest && job->n_segments > 1;
    if (few && attn->pairs->steady && n_heads % n_threads == 0 && n_tasks >= HEAD_TASKS * n_threads)
        return;
    job->n_slices = few ? job->n_segments : 1;
    while (!alone && job->n_runs * n_heads * job->n_slices < enough && job->chunk > (few ? SLICE_ROWS : HS_PAIR_TILE))
        set_rows(job, job->chunk - HS_PAIR_TILE);
    if (few)
        return;
    if (!alone && 2 * job->n_runs * n_heads <= n_threads)
        set_rows(job, HS_PAIR_ROWS); /* dearer than whole tiles, but most threads would have nothing to do */
    if (attn->bias && (alone || job->n_runs >= enough))
        job->task_heads = n_heads;
    job->together = n_threads * job->task_heads > n_heads ? n_threads * job->task_heads / n_heads : 1;
}

hstu_status hs_cpu_pair_attn(hs_cpu *cpu, const hs_silu_attn_args *a, hstu_error *err)
{
    pair_job job = {.attn = hs_attn_job_of(cpu, &a->out, &a->q, &a->kv, &a->users, a->history, a->bias, true),
        .a = a,
        .weights_ld = hs_mat_half_ld(SEGMENT)};
    const int64_t n_heads = a->kv.shape.n_heads;
    job.attn.candidates = a->candidates;
    job.attn.in_turn = true;
    cut(&job, cpu->base.n_threads);
    if (job.n_slices > 1)
        HS_TRY(hs_attn_keep_segments(&job.attn, job.chunk, job.n_segments, JOINED, join_task, err));
    return hs_attn_run(cpu, &job.attn, job.chunk, cut_space(&job, NULL, NULL), n_heads / job.task_heads * job.n_slices,
        pair_task, &job, err);
}
