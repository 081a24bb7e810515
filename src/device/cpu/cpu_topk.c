/* Exact top-k and ranks over the whole item table. The candidates are split among threads; each thread streams its part
 * in tiles: pack a tile of rows, multiply with all queries by the gemm kernel, leave out what was seen, keep the best k
 * per query in a heap. A score is one chain over D whatever its tile, so its bits depend on query and item alone, and
 * the best k under the total order (score descending, id ascending) do not depend on how the candidates were split. */
#include "device/cpu/cpu_topk.h"
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_int.h"

#include <math.h>
#include <string.h>

enum { TILE_MAX = 256, TILE_FLOATS = 1 << 16 };

/* State of one (part, query). */
typedef struct query_state {
    int64_t n_best, n_before; /* entries in the heap; candidates that come before the target */
    int64_t seen;             /* next index into seen[] */
} query_state;

typedef struct topk_job {
    const hs_cpu_kernels *kernels;
    const hs_topk_args *a;
    int64_t k; /* at most the number of candidates */
    int64_t n_parts, tile;
    hs_scored *best;     /* [n_parts, n, k] */
    query_state *state;  /* [n_parts, n] */
    float *target_score; /* [n]; NaN: rank 0 */
    char *scratch;       /* of worker 0: panels [tile, D], scores [row_tile, tile], norms and biases [tile] */
    size_t each;
} topk_job;

static int64_t id_at(const hs_topk_args *a, int64_t index)
{
    return a->candidate ? a->candidate[index] : a->first + index;
}

/* The first index in begin .. end whose id is >= id. */
static int64_t lower_bound(const int64_t *ids, int64_t begin, int64_t end, int64_t id)
{
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (ids[middle] < id)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

/* Candidates among begin .. end - 1 with a smaller id. */
static int64_t candidates_below(const hs_topk_args *a, int64_t begin, int64_t end, int64_t id)
{
    if (a->candidate)
        return lower_bound(a->candidate, begin, end, id) - begin;
    const int64_t from = a->first + begin, to = a->first + end;
    return id <= from ? 0 : (id < to ? id : to) - from;
}

static bool is_candidate(const hs_topk_args *a, int64_t id)
{
    const int64_t at = candidates_below(a, 0, a->n_candidates, id);
    return at < a->n_candidates && id_at(a, at) == id;
}

static bool is_seen(const hs_topk_args *a, int64_t query, int64_t id)
{
    if (!a->seen)
        return false;
    const int64_t end = a->seen_offset[query + 1];
    const int64_t at = lower_bound(a->seen, a->seen_offset[query], end, id);
    return at < end && a->seen[at] == id;
}

/* The target's score comes from the kernels that score the candidates, so that equality is exact. */
static void target_task(void *context, int worker, int64_t query)
{
    const topk_job *job = context;
    const hs_topk_args *a = job->a;
    const int64_t id = a->target[query], d = a->query.cols;
    float score = NAN;
    if (is_candidate(a, id) && !is_seen(a, query, id)) {
        float *panel = (float *)(void *)(job->scratch + (size_t)worker * job->each);
        const float *row[HS_PANEL] = {a->table + id * d};
        job->kernels->pack_panel(panel, row, 1, d);
        const hs_gemm g = {.c = &score,
            .ldc = 1,
            .a = a->query.data + query * a->query.ld,
            .lda = a->query.ld,
            .b = panel,
            .ldb = HS_PANEL,
            .panel = HS_PANEL * d,
            .rows = 1,
            .k = d,
            .n = 1};
        job->kernels->gemm(&g);
        job->kernels->scale(&score, a->inv_norm ? a->inv_norm + id : NULL, a->bias ? a->bias + id : NULL, 1);
    }
    job->target_score[query] = score;
}

static int64_t count_above(const topk_job *job, const float *score, int64_t n, float t, bool or_equal)
{
    uint64_t mask[TILE_MAX / 64];
    int64_t count = 0;
    job->kernels->above(mask, score, n, t, or_equal);
    for (int64_t w = 0; w < (n + 63) / 64; w++)
        count += __builtin_popcountll(mask[w]);
    return count;
}

/* Takes the candidates begin .. begin + n - 1 into the heap. Their ids are larger than all before, so a score that only
 * equals the worst kept one loses. */
static void keep_best(
    const topk_job *job, hs_scored *best, query_state *s, const float *score, int64_t begin, int64_t n)
{
    int64_t j = 0;
    for (; j < n && s->n_best < job->k; j++) {
        if (!isnan(score[j]))
            hs_scored_push(best, s->n_best++, (hs_scored){.id = id_at(job->a, begin + j), .score = score[j]});
    }
    if (j == n)
        return;
    uint64_t mask[TILE_MAX / 64];
    job->kernels->above(mask, score + j, n - j, best[0].score, false);
    for (int64_t w = 0; w < (n - j + 63) / 64; w++) {
        for (uint64_t bits = mask[w]; bits; bits &= bits - 1) {
            const int64_t at = j + w * 64 + __builtin_ctzll(bits);
            if (score[at] > best[0].score)
                hs_scored_replace_worst(
                    best, s->n_best, (hs_scored){.id = id_at(job->a, begin + at), .score = score[at]});
        }
    }
}

/* One query's scores of the candidates begin .. begin + n - 1. */
static void use_scores(const topk_job *job, int64_t part, int64_t query, float *score, int64_t begin, int64_t n)
{
    const hs_topk_args *a = job->a;
    query_state *s = &job->state[part * a->query.rows + query];
    if (a->seen) {
        const int64_t last = id_at(a, begin + n - 1), end = a->seen_offset[query + 1];
        for (; s->seen < end && a->seen[s->seen] <= last; s->seen++) {
            const int64_t at = candidates_below(a, begin, begin + n, a->seen[s->seen]);
            if (at < n && id_at(a, begin + at) == a->seen[s->seen])
                score[at] = NAN;
        }
    }
    if (a->target && !isnan(job->target_score[query])) {
        const int64_t below = candidates_below(a, begin, begin + n, a->target[query]);
        const float t = job->target_score[query];
        s->n_before += count_above(job, score, below, t, true) + count_above(job, score + below, n - below, t, false);
    }
    if (job->k > 0)
        keep_best(job, job->best + (part * a->query.rows + query) * job->k, s, score, begin, n);
}

static void pack_tile(const topk_job *job, float *panels, int64_t begin, int64_t n)
{
    const hs_topk_args *a = job->a;
    const int64_t d = a->query.cols;
    for (int64_t j = 0; j < n; j += HS_PANEL) {
        const float *row[HS_PANEL] = {NULL};
        const int64_t rows = hs_min_i64(HS_PANEL, n - j);
        for (int64_t r = 0; r < rows; r++)
            row[r] = a->table + id_at(a, begin + j + r) * d;
        job->kernels->pack_panel(panels + j * d, row, rows, d);
    }
}

static void score_tile(const topk_job *job, int64_t part, float *panels, int64_t begin, int64_t n)
{
    const hs_topk_args *a = job->a;
    const int64_t d = a->query.cols, row_tile = job->kernels->row_tile;
    float *score = panels + job->tile * d;
    float *norm = score + row_tile * job->tile, *bias = norm + job->tile;
    pack_tile(job, panels, begin, n);
    for (int64_t j = 0; a->inv_norm && j < n; j++)
        norm[j] = a->inv_norm[id_at(a, begin + j)];
    for (int64_t j = 0; a->bias && j < n; j++)
        bias[j] = a->bias[id_at(a, begin + j)];
    for (int64_t query = 0; query < a->query.rows; query += row_tile) {
        const int64_t rows = hs_min_i64(row_tile, a->query.rows - query);
        const hs_gemm g = {.c = score,
            .ldc = job->tile,
            .a = a->query.data + query * a->query.ld,
            .lda = a->query.ld,
            .b = panels,
            .ldb = HS_PANEL,
            .panel = HS_PANEL * d,
            .rows = rows,
            .k = d,
            .n = n};
        job->kernels->gemm(&g);
        for (int64_t r = 0; r < rows; r++) {
            if (a->inv_norm || a->bias)
                job->kernels->scale(score + r * job->tile, a->inv_norm ? norm : NULL, a->bias ? bias : NULL, n);
            use_scores(job, part, query + r, score + r * job->tile, begin, n);
        }
    }
}

static void part_task(void *context, int worker, int64_t part)
{
    const topk_job *job = context;
    const hs_topk_args *a = job->a;
    const int64_t tiles = hs_ceil_div_i64(a->n_candidates, job->tile);
    const int64_t begin = tiles * part / job->n_parts * job->tile;
    const int64_t end = hs_min_i64(tiles * (part + 1) / job->n_parts * job->tile, a->n_candidates);
    for (int64_t query = 0; query < a->query.rows; query++) {
        query_state *s = &job->state[part * a->query.rows + query];
        *s = (query_state){0};
        if (a->seen)
            s->seen = lower_bound(a->seen, a->seen_offset[query], a->seen_offset[query + 1], id_at(a, begin));
    }
    float *panels = (float *)(void *)(job->scratch + (size_t)worker * job->each);
    for (int64_t at = begin; at < end; at += job->tile)
        score_tile(job, part, panels, at, hs_min_i64(job->tile, end - at));
}

/* Joins the parts' heaps of one query into part 0's, then empties that one from the worst to the best. */
static void merge_task(void *context, int worker, int64_t query)
{
    const topk_job *job = context;
    const hs_topk_args *a = job->a;
    (void)worker;
    hs_scored *best = job->best + query * job->k;
    int64_t n_best = job->n_parts ? job->state[query].n_best : 0;
    int64_t n_before = job->n_parts ? job->state[query].n_before : 0;
    for (int64_t part = 1; part < job->n_parts; part++) {
        const int64_t at = part * a->query.rows + query;
        n_before += job->state[at].n_before;
        for (int64_t i = 0; i < job->state[at].n_best; i++) {
            const hs_scored entry = job->best[at * job->k + i];
            if (n_best < job->k)
                hs_scored_push(best, n_best++, entry);
            else if (hs_scored_worse(best[0], entry))
                hs_scored_replace_worst(best, n_best, entry);
        }
    }
    for (int64_t i = a->k - 1; i >= 0; i--) {
        hs_scored entry = {.id = -1, .score = -INFINITY};
        if (i < n_best) {
            entry = best[0];
            hs_scored_replace_worst(best, i, best[i]);
        }
        a->item[query * a->k + i] = entry.id;
        a->score[query * a->k + i] = entry.score;
    }
    if (a->target)
        a->rank[query] = isnan(job->target_score[query]) ? 0 : 1 + n_before;
}

/* Cuts the device's scratch into the job's arrays. */
static hstu_status plan_memory(hs_cpu *cpu, topk_job *job, hstu_error *err)
{
    const hs_topk_args *a = job->a;
    const size_t n = (size_t)a->query.rows, parts = (size_t)job->n_parts;
    size_t pairs = 0, best = 0, state = 0, panels = 0, all = 0;
    if (!hs_mul_size(n, parts, &pairs) || !hs_mul_size(pairs, sizeof(query_state), &state) ||
        !hs_mul_size(pairs, (size_t)job->k, &best) || !hs_mul_size(best, sizeof(hs_scored), &best) ||
        !hs_mul_size((size_t)(job->tile * a->query.cols), sizeof(float), &panels) || !hs_add_size(best, state, &all) ||
        !hs_add_size(all, n * sizeof(float), &all) || !hs_add_size(all, panels, &all) || all > SIZE_MAX / 4)
        return hs_fail_nomem(err, SIZE_MAX, "the heaps of top-k");
    best = hs_cpu_round64(best);
    state = hs_cpu_round64(state);
    job->each = hs_cpu_round64(panels + (size_t)((cpu->kernels->row_tile + 2) * job->tile) * sizeof(float));
    const size_t shared = best + state + hs_cpu_round64(n * sizeof(float));
    char *scratch = NULL;
    HS_TRY(hs_cpu_scratch(cpu, &scratch, shared, job->each, err));
    job->best = (hs_scored *)(void *)scratch;
    job->state = (query_state *)(void *)(scratch + best);
    job->target_score = (float *)(void *)(scratch + best + state);
    job->scratch = scratch + shared;
    return HSTU_OK;
}

hstu_status hs_cpu_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const int64_t tile = TILE_FLOATS / a->query.cols / HS_PANEL * HS_PANEL;
    topk_job job = {.kernels = cpu->kernels,
        .a = a,
        .k = hs_min_i64(a->k, a->n_candidates),
        .tile = tile < HS_PANEL ? HS_PANEL : hs_min_i64(tile, TILE_MAX)};
    job.n_parts = hs_min_i64(cpu->base.n_threads, hs_ceil_div_i64(a->n_candidates, job.tile));
    HS_TRY(plan_memory(cpu, &job, err));
    if (a->target)
        hs_cpu_pool_run(cpu->pool, a->query.rows, target_task, &job);
    hs_cpu_pool_run(cpu->pool, job.n_parts, part_task, &job);
    hs_cpu_pool_run(cpu->pool, a->query.rows, merge_task, &job);
    return HSTU_OK;
}
