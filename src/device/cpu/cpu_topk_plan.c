/* Top-k as an operation: choosing kernels, sharing the work out, joining the parts' results. */
#include "base/alloc.h"
#include "base/error.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_topk_int.h"

#include <math.h>
#include <stdatomic.h>

/* Bytes of a tile of items: it is read by every block of queries, and should lie close by. */
enum { TILE_BYTES = 1 << 16 };

/* A table of so many bytes stays in a core's own cache, or next to it: threads take queries. A larger one is read once for
 * hundreds of queries: threads take candidates, in more parts than threads so that they end together. */
static const int64_t SMALL_TABLE = 4 << 20;
enum { LEAST_GROUP = 32, MOST_GROUP = 64, LARGE_GROUP = 256, PARTS_PER_THREAD = 16, LEAST_PART_TILES = 16 };
static const int64_t MOST_ENTRIES = 1 << 20; /* of all parts' heaps, beyond a part for each thread */

static int64_t round_up(int64_t n, int64_t to)
{
    return hs_ceil_div_i64(n, to) * to;
}

static void choose_kernels(topk_job *job)
{
    const hs_topk_args *a = job->a;
    const bool bf16 = a->table_type == HS_BF16, pairs = bf16 && job->scores->pairs;
    const int64_t d = a->query.cols;
    if (a->query.rows <= HS_SCORE_FEW)
        job->few = bf16 ? job->scores->few_bf16 : job->scores->few_f32;
    if (!job->few && bf16)
        job->many = job->scores->many_bf16;
    job->widen = bf16 && !job->few && !job->many;
    job->width = job->few ? hs_score_width(a->query.rows) : HS_SCORE_BLOCK;
    job->block_bytes = hs_score_steps(d, pairs) * job->width * (int64_t)sizeof(float);
    job->row_bytes = d * (int64_t)(bf16 ? sizeof(uint16_t) : sizeof(float));
    job->stride = job->widen ? d * (int64_t)sizeof(float) : job->row_bytes;
    const int64_t tile = TILE_BYTES / job->stride / HS_SCORE_ITEMS * HS_SCORE_ITEMS;
    job->tile = tile < HS_SCORE_ITEMS ? HS_SCORE_ITEMS : hs_min_i64(tile, HS_TOPK_TILE);
}

static void share_out(topk_job *job, int64_t threads)
{
    const int64_t n = job->a->query.rows, tiles = hs_ceil_div_i64(job->a->n_candidates, job->tile);
    job->group = hs_min_i64(n, LARGE_GROUP);
    job->n_parts = threads;
    if (job->a->n_candidates * job->row_bytes <= SMALL_TABLE) {
        const int64_t share = round_up(hs_ceil_div_i64(n, threads), LEAST_GROUP);
        job->group = hs_min_i64(n, hs_min_i64(share, MOST_GROUP));
        job->n_parts = threads / hs_ceil_div_i64(n, job->group);
    } else if (threads > 1) {
        const int64_t most = hs_min_i64(tiles / LEAST_PART_TILES, threads * PARTS_PER_THREAD);
        const int64_t affordable = MOST_ENTRIES / n / (job->k > 0 ? job->k : 1);
        job->n_parts = hs_min_i64(most, affordable);
        if (job->n_parts < threads)
            job->n_parts = threads;
    }
    job->n_groups = hs_ceil_div_i64(n, job->group);
    job->n_parts = hs_min_i64(job->n_parts < 1 ? 1 : job->n_parts, tiles);
    job->keep = job->n_parts ? hs_min_i64(job->k, hs_ceil_div_i64(tiles, job->n_parts) * job->tile) : 0;
}

/* Cuts bytes off a region; with base NULL only counts them. */
static void *cut(char *base, size_t *at, size_t bytes)
{
    void *p = base ? base + *at : NULL;
    *at += hs_cpu_round64(bytes);
    return p;
}

/* The room in memory at base, and its bytes. */
static size_t make_room(const topk_job *job, char *base, topk_room *room)
{
    const int64_t queries = round_up(job->group, HS_SCORE_BLOCK);
    const size_t q = (size_t)queries, tile = (size_t)job->tile;
    const size_t scores = tile * (HS_SCORE_BLOCKS * HS_SCORE_BLOCK) * sizeof(float);
    size_t at = 0;
    room->query = cut(base, &at, (size_t)(hs_ceil_div_i64(job->group, job->width) * job->block_bytes));
    room->rows = cut(base, &at, tile * (size_t)job->stride);
    room->score = cut(base, &at, scores);
    room->norm = cut(base, &at, tile * sizeof *room->norm);
    room->bias = cut(base, &at, tile * sizeof *room->bias);
    room->floor = cut(base, &at, q * sizeof *room->floor);
    room->worst = cut(base, &at, q * sizeof *room->worst);
    room->target = cut(base, &at, q * sizeof *room->target);
    room->target_index = cut(base, &at, q * sizeof *room->target_index);
    room->target_at = cut(base, &at, q * sizeof *room->target_at);
    room->before = cut(base, &at, q * sizeof *room->before);
    room->hit = cut(base, &at, tile * sizeof *room->hit);
    return at;
}

/* Cuts the device's scratch into the job's arrays. */
static hstu_status plan_memory(hs_cpu *cpu, topk_job *job, hstu_error *err)
{
    const size_t n = (size_t)job->a->query.rows, parts = (size_t)(job->n_parts ? job->n_parts : 1);
    size_t pairs = 0, best = 0, others = 0, state = 0, query = 0, shared = 0;
    topk_room room;
    if (!hs_mul_size(n, parts, &pairs) || !hs_mul_size(pairs, sizeof(query_state), &state) ||
        !hs_mul_size(n, (size_t)job->k, &best) || !hs_mul_size(pairs - n, (size_t)job->keep, &others) ||
        !hs_add_size(best, others, &best) || !hs_mul_size(best, sizeof(hs_scored), &best) ||
        !hs_mul_size((size_t)job->group + HS_SCORE_BLOCK, (size_t)job->block_bytes, &query) ||
        !hs_add_size(best, state, &shared) || shared > SIZE_MAX / 4 || query > SIZE_MAX / 4)
        return hs_fail_nomem(err, SIZE_MAX, "the heaps of top-k");
    best = hs_cpu_round64(best);
    state = hs_cpu_round64(state);
    shared = best + state + n * sizeof(float);
    HS_TRY(hs_cpu_scratch(cpu, &job->space, shared, make_room(job, NULL, &room), err));
    job->best = (hs_scored *)(void *)job->space.shared;
    job->state = (query_state *)(void *)(job->space.shared + best);
    job->bound = (_Atomic float *)(void *)(job->space.shared + best + state);
    for (size_t q = 0; q < n; q++)
        atomic_init(&job->bound[q], -INFINITY);
    return HSTU_OK;
}

static hs_scored *heaps_of(const topk_job *job, int64_t part, int64_t query)
{
    const int64_t n = job->a->query.rows;
    return part == 0 ? job->best + query * job->k : job->best + n * job->k + ((part - 1) * n + query) * job->keep;
}

/* Joins the parts' heaps of one query into part 0's, then empties that one from the worst to the best. */
static void merge(const topk_job *job, int64_t query)
{
    const hs_topk_args *a = job->a;
    const int64_t n = a->query.rows;
    hs_scored *best = heaps_of(job, 0, query);
    int64_t n_best = job->n_parts ? job->state[query].n_best : 0;
    int64_t n_before = job->n_parts ? job->state[query].n_before : 0;
    for (int64_t part = 1; part < job->n_parts; part++) {
        const query_state *s = &job->state[part * n + query];
        const hs_scored *other = heaps_of(job, part, query);
        n_before += s->n_before;
        for (int64_t i = 0; i < s->n_best; i++) {
            if (n_best < job->k)
                hs_scored_push(best, n_best++, other[i]);
            else if (other[i] > best[0])
                hs_scored_replace_worst(best, n_best, other[i]);
        }
    }
    for (int64_t i = a->k - 1; i >= 0; i--) {
        a->item[query * a->k + i] = i < n_best ? hs_topk_id(a, hs_scored_index(best[0])) : -1;
        a->score[query * a->k + i] = i < n_best ? hs_scored_score(best[0]) : -INFINITY;
        if (i < n_best)
            hs_scored_replace_worst(best, i, best[i]);
    }
    if (a->target)
        a->rank[query] = job->n_parts && job->state[query].found ? 1 + n_before : 0;
}

static void merge_task(void *context, int worker, int64_t query)
{
    (void)worker;
    merge(context, query);
}

static void part_task(void *context, int worker, int64_t task)
{
    const topk_job *job = context;
    const hs_topk_args *a = job->a;
    const int64_t part = task % job->n_parts, group = task / job->n_parts, n = a->query.rows;
    const int64_t tiles = hs_ceil_div_i64(a->n_candidates, job->tile);
    const int64_t begin = tiles * part / job->n_parts * job->tile;
    const int64_t end = hs_min_i64(tiles * (part + 1) / job->n_parts * job->tile, a->n_candidates);
    const int64_t first = group * job->group;
    topk_part p = {.first = first,
        .n = hs_min_i64(job->group, n - first),
        .best = heaps_of(job, part, first),
        .state = job->state + part * n + first,
        .keep = part == 0 ? job->k : job->keep};
    (void)make_room(job, hs_cpu_own(&job->space, worker), &p.room);
    hs_topk_run_part(job, &p, begin, end);
    for (int64_t q = first; job->n_parts == 1 && q < first + p.n; q++)
        merge(job, q);
}

hstu_status hs_cpu_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    topk_job job = {.kernels = cpu->kernels,
        .scores = cpu->kernels->scores ? cpu->kernels->scores : &hs_scores_any,
        .a = a,
        .k = hs_min_i64(a->k, a->n_candidates)};
    if (a->query.rows == 0)
        return HSTU_OK;
    choose_kernels(&job);
    share_out(&job, cpu->base.n_threads);
    HS_TRY(plan_memory(cpu, &job, err));
    hs_cpu_pool_run(cpu->pool, job.n_groups * job.n_parts, part_task, &job);
    if (job.n_parts != 1)
        hs_cpu_pool_run(cpu->pool, a->query.rows, merge_task, &job);
    return HSTU_OK;
}
