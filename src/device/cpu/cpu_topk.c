/* Exact top-k and ranks over an item table that is read once for all queries. A task scores a part of the candidates with a group
 * of queries, a tile of items at a time, leaves out what was seen, and keeps the best k of each query in a heap; few scores pass
 * the comparison with the worst that is kept. A score's bits depend on query and item alone, and the best k under the total order
 * (score descending, id ascending) do not depend on how queries and candidates were split. */
#include "base/error.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_topk_int.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

int64_t hs_topk_lower_bound(const int64_t *ids, int64_t begin, int64_t end, int64_t id)
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

/* Candidates with a smaller id: the place of `id` if it is one. */
static int64_t candidates_below(const hs_topk_args *a, int64_t id)
{
    if (a->candidate)
        return hs_topk_lower_bound(a->candidate, 0, a->n_candidates, id);
    return id <= a->first ? 0 : hs_min_i64(id - a->first, a->n_candidates);
}

static bool is_seen(const hs_topk_args *a, int64_t query, int64_t id)
{
    if (!a->seen)
        return false;
    const int64_t end = a->seen_offset[query + 1];
    const int64_t at = hs_topk_lower_bound(a->seen, a->seen_offset[query], end, id);
    return at < end && a->seen[at] == id;
}

/* ---- what is kept --------------------------------------------------------------------------------------------------------- */

static void take(const topk_part *p, int64_t query, float *worst, int64_t index, float x)
{
    query_state *s = &p->state[query];
    hs_scored *best = p->best + query * p->keep;
    if (isnan(x))
        return;
    const hs_scored scored = hs_scored_of(x, index);
    if (s->n_best < p->keep)
        hs_scored_push(best, s->n_best++, scored);
    else if (scored > best[0])
        hs_scored_replace_worst(best, s->n_best, scored);
    if (s->n_best == p->keep && !(p->room.floor[query] > hs_scored_score(best[0])))
        *worst = hs_scored_score(best[0]);
}

/* A number below x; among denormals none of them, which a thread may take for 0. */
static float next_below(float x)
{
    int32_t bits;
    if (x > -FLT_MIN && x <= FLT_MIN)
        return -FLT_MIN;
    memcpy(&bits, &x, sizeof bits);
    bits += x > 0.0f ? -1 : 1;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Scores that are equal to the bound are wanted: their ids may be smaller. */
static void learn_bounds(const topk_job *job, const topk_part *p)
{
    for (int64_t q = 0; q < p->n; q++) {
        const float bound = atomic_load_explicit(&job->bound[p->first + q], memory_order_relaxed);
        if (!(bound > -INFINITY))
            continue;
        const float below = next_below(bound), worst = p->room.worst[q];
        if (below > p->room.floor[q])
            p->room.floor[q] = below;
        p->room.worst[q] = worst > p->room.floor[q] ? worst : p->room.floor[q];
    }
}

static void tell_bounds(const topk_job *job, const topk_part *p)
{
    for (int64_t q = 0; q < p->n; q++) {
        if (job->k == 0 || p->state[q].n_best < job->k)
            continue;
        const float worst = hs_scored_score(p->best[q * p->keep]);
        float bound = atomic_load_explicit(&job->bound[p->first + q], memory_order_relaxed);
        while (worst > bound && !atomic_compare_exchange_weak_explicit(&job->bound[p->first + q], &bound, worst,
                                    memory_order_relaxed, memory_order_relaxed)) {}
    }
}

/* Marks the scores of seen items of the tile: no number is ever kept or counted. */
static void hide_seen(
    const topk_job *job, query_state *s, int64_t query, float *x, int64_t ld, int64_t begin, int64_t n)
{
    const hs_topk_args *a = job->a;
    const int64_t last = hs_topk_id(a, begin + n - 1), end = a->seen_offset[query + 1];
    for (; s->seen < end && a->seen[s->seen] <= last; s->seen++) {
        const int64_t id = a->seen[s->seen];
        const int64_t at =
            a->candidate ? hs_topk_lower_bound(a->candidate, begin, begin + n, id) - begin : id - a->first - begin;
        if (at >= 0 && at < n && hs_topk_id(a, begin + at) == id)
            x[at * ld] = NAN;
    }
}

static void place_targets(const topk_room *room, int64_t first, int64_t n, int64_t begin, int64_t tile)
{
    for (int64_t q = first; q < first + n; q++) {
        const int64_t at = room->target_index[q] - begin;
        room->target_at[q] = (int32_t)(at < 0 ? 0 : at > tile ? tile : at);
    }
}

/* Scores of n items with a block, from item `at` of the tile on: those that may be kept, and those in front of targets. */
static void use_items(
    const topk_job *job, const topk_part *p, float *x, int64_t ld, int64_t first, int64_t begin, int64_t at, int64_t n)
{
    const topk_room *room = &p->room;
    const hs_score_filter f = {.score = x + at * ld,
        .ld = ld,
        .norm = job->a->inv_norm ? room->norm + at : NULL,
        .bias = job->a->bias ? room->bias + at : NULL,
        .first = at,
        .n = n,
        .worst = room->worst + first,
        .hit = room->hit,
        .target = job->a->target ? room->target + first : NULL,
        .target_at = room->target_at + first,
        .before = room->before + first};
    job->scores->filter(&f);
    for (int64_t j = 0; p->keep > 0 && j < n; j += 4) {
        uint64_t hits;
        memcpy(&hits, room->hit + j, sizeof hits);
        for (; hits; hits &= hits - 1) {
            const int64_t bit = __builtin_ctzll(hits), q = first + bit % 16, item = at + j + bit / 16;
            if (q < p->n)
                take(p, q, &room->worst[q], begin + item, x[item * ld + bit % 16]);
        }
    }
}

_Static_assert((int)HS_KTH_LANES == (int)HS_SCORE_BLOCK, "");

/* Bounds for queries of a block that want every score, from a tile's: few of these then go through the heap. */
static void find_bounds(const topk_job *job, const topk_part *p, const float *x, int64_t ld, int64_t first, int64_t n)
{
    const topk_room *room = &p->room;
    float kth[HS_SCORE_BLOCK];
    if (p->keep > HS_KTH_GROUPS)
        return;
    job->kernels->kth(kth, x, ld, job->a->inv_norm ? room->norm : NULL, job->a->bias ? room->bias : NULL, n, p->keep);
    for (int64_t q = 0; q < HS_SCORE_BLOCK; q++) {
        if (isnan(room->worst[first + q]) && kth[q] > -INFINITY)
            room->worst[first + q] = room->floor[first + q] = next_below(kth[q]);
    }
}

static bool has_room(const topk_part *p, int64_t first, int64_t n)
{
    for (int64_t q = first; q < first + n; q++) {
        if (p->state[q].n_best < p->keep && isnan(p->room.worst[q]))
            return true;
    }
    return false;
}

/* A block's scores, items by rows. While heaps fill without a bound, the worst that is kept soon changes: it is asked for often. */
static void use_block(
    const topk_job *job, const topk_part *p, float *x, int64_t ld, int64_t first, int64_t begin, int64_t n)
{
    const topk_room *room = &p->room;
    const int64_t lanes = hs_min_i64(HS_SCORE_BLOCK, p->n - first);
    for (int64_t q = 0; job->a->seen && q < lanes; q++)
        hide_seen(job, &p->state[first + q], p->first + first + q, x + q, ld, begin, n);
    if (has_room(p, first, lanes))
        find_bounds(job, p, x, ld, first, n);
    const int64_t step = has_room(p, first, lanes) ? HS_SCORE_ITEMS : n;
    if (job->a->target)
        place_targets(room, first, HS_SCORE_BLOCK, begin, n);
    for (int64_t at = 0; at < n; at += step)
        use_items(job, p, x, ld, first, begin, at, hs_min_i64(step, n - at));
    for (int64_t q = first; job->a->target && q < first + lanes; q++) {
        p->state[q].n_before += room->before[q];
        room->before[q] = 0;
    }
}

static int64_t count_above(const topk_job *job, const float *x, int64_t n, float t, bool or_equal)
{
    uint64_t mask[HS_TOPK_TILE / 64];
    int64_t count = 0;
    job->kernels->above(mask, x, n, t, or_equal);
    for (int64_t w = 0; w < (n + 63) / 64; w++)
        count += __builtin_popcountll(mask[w]);
    return count;
}

/* One query's scores, where few are asked for. */
static void use_row(const topk_job *job, const topk_part *p, float *x, int64_t query, int64_t begin, int64_t n)
{
    const topk_room *room = &p->room;
    uint64_t mask[HS_TOPK_TILE / 64];
    if (job->a->seen)
        hide_seen(job, &p->state[query], p->first + query, x, 1, begin, n);
    if (job->a->inv_norm || job->a->bias)
        job->kernels->scale(x, job->a->inv_norm ? room->norm : NULL, job->a->bias ? room->bias : NULL, n);
    if (job->a->target) {
        place_targets(room, query, 1, begin, n);
        const int64_t below = room->target_at[query];
        const float t = room->target[query];
        p->state[query].n_before +=
            count_above(job, x, below, t, true) + count_above(job, x + below, n - below, t, false);
    }
    int64_t j = 0;
    for (; j < n && p->keep > 0 && isnan(room->worst[query]); j++)
        take(p, query, &room->worst[query], begin + j, x[j]);
    if (j == n || p->keep == 0)
        return;
    job->kernels->above(mask, x + j, n - j, room->worst[query], false);
    for (int64_t w = 0; w < (n - j + 63) / 64; w++) {
        for (uint64_t bits = mask[w]; bits; bits &= bits - 1) {
            const int64_t at = j + w * 64 + __builtin_ctzll(bits);
            take(p, query, &room->worst[query], begin + at, x[at]);
        }
    }
}

/* ---- a part --------------------------------------------------------------------------------------------------------------- */

/* `more`: candidates that come behind these. */
static void use_tile(const topk_job *job, const topk_part *p, int64_t begin, int64_t n, int64_t more)
{
    const hs_topk_args *a = job->a;
    const topk_room *room = &p->room;
    const char *item = hs_topk_rows(job, room, begin, n);
    const char *ahead = more >= n ? (const char *)a->table + hs_topk_id(a, begin + n) * job->row_bytes : NULL;
    for (int64_t j = 0; a->inv_norm && j < n; j++)
        room->norm[j] = a->inv_norm[hs_topk_id(a, begin + j)];
    for (int64_t j = 0; a->bias && j < n; j++)
        room->bias[j] = a->bias[hs_topk_id(a, begin + j)];
    if (job->few) {
        hs_topk_score(job, room, item, n, 0, 1, ahead);
        for (int64_t q = 0; q < p->n; q++)
            use_row(job, p, room->score + q * job->tile, q, begin, n);
        return;
    }
    const int64_t blocks = hs_ceil_div_i64(p->n, HS_SCORE_BLOCK);
    for (int64_t block = 0; block < blocks; block += HS_SCORE_BLOCKS) {
        const int64_t n_blocks = hs_min_i64(HS_SCORE_BLOCKS, blocks - block);
        hs_topk_score(job, room, item, n, block, (int)n_blocks, block == 0 ? ahead : NULL);
        for (int64_t b = 0; b < n_blocks; b++)
            use_block(job, p, room->score + b * HS_SCORE_BLOCK, n_blocks * HS_SCORE_BLOCK, (block + b) * HS_SCORE_BLOCK,
                begin, n);
    }
}

/* The targets' scores come from the kernels that score the candidates, so that equality is exact: those of a block are the items,
 * and each query wants its own. */
static void score_targets(const topk_job *job, const topk_part *p, int64_t first)
{
    const hs_topk_args *a = job->a;
    const topk_room *room = &p->room;
    const int64_t n = hs_min_i64(HS_SCORE_BLOCK, p->n - first);
    bool valid[HS_SCORE_BLOCK] = {false};
    for (int64_t q = 0; q < n; q++) {
        const int64_t id = a->target[p->first + first + q], at = candidates_below(a, id);
        room->target_index[first + q] = at;
        valid[q] = at < a->n_candidates && hs_topk_id(a, at) == id && !is_seen(a, p->first + first + q, id);
        if (valid[q])
            hs_topk_copy_row(job, room->rows + q * job->stride, id);
        else
            memset(room->rows + q * job->stride, 0, (size_t)job->stride);
    }
    hs_topk_score(job, room, room->rows, n, first / HS_SCORE_BLOCK, 1, NULL);
    for (int64_t q = 0; q < n; q++) {
        const int64_t id = a->target[p->first + first + q];
        float x = job->few ? room->score[q * job->tile + q] : room->score[q * HS_SCORE_BLOCK + q];
        if (valid[q])
            job->kernels->scale(&x, a->inv_norm ? a->inv_norm + id : NULL, a->bias ? a->bias + id : NULL, 1);
        room->target[first + q] = valid[q] ? x : NAN;
    }
}

static void start_part(const topk_job *job, const topk_part *p, int64_t begin)
{
    const hs_topk_args *a = job->a;
    const int64_t padded = hs_ceil_div_i64(p->n, job->width) * job->width;
    memset(p->room.query, 0, (size_t)(padded / job->width * job->block_bytes));
    for (int64_t q = 0; q < padded; q++) {
        p->room.worst[q] = q < p->n && p->keep > 0 ? NAN : INFINITY;
        p->room.floor[q] = -INFINITY;
        p->room.target[q] = NAN;
        p->room.target_index[q] = p->room.before[q] = 0;
    }
    for (int64_t q = 0; q < p->n; q++) {
        hs_topk_pack_query(job, p->room.query + q / job->width * job->block_bytes,
            a->query.data + (p->first + q) * a->query.ld, q % job->width);
        p->state[q] = (query_state){0};
        if (a->seen)
            p->state[q].seen = hs_topk_lower_bound(
                a->seen, a->seen_offset[p->first + q], a->seen_offset[p->first + q + 1], hs_topk_id(a, begin));
    }
    for (int64_t q = 0; a->target && q < p->n; q += HS_SCORE_BLOCK)
        score_targets(job, p, q);
}

void hs_topk_run_part(const topk_job *job, const topk_part *p, int64_t begin, int64_t end)
{
    if (job->scores->enter)
        job->scores->enter();
    start_part(job, p, begin);
    for (int64_t at = begin; at < end; at += job->tile) {
        const int64_t n = hs_min_i64(job->tile, end - at);
        if (job->n_parts > 1)
            learn_bounds(job, p);
        use_tile(job, p, at, n, end - at - n);
        if (job->n_parts > 1)
            tell_bounds(job, p);
    }
    for (int64_t q = 0; job->a->target && q < p->n; q++)
        p->state[q].found = !isnan(p->room.target[q]);
    if (job->scores->leave)
        job->scores->leave();
}
