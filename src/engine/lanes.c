/* Sharing out a batch: which users share a forward pass, and on how many threads. A user's result does not depend on either. */
#include "engine/engine.h"

#include "base/error.h"

#include <stdatomic.h>

/* Threads that share out a batch take slices of it: several each, so that they end together, but not of fewer than SLICE_ROWS on average. Where
 * there are as many as can be, they taper off: the first are twice as large as the average. */
enum { SLICES_PER_PART = 8, SLICE_ROWS = 32 };

/* Some 100 microseconds of one core: twice what it takes to wake sleeping threads and wait for them. */
static const double ALONE_MULTIPLY_ADDS = 4e6;

hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds)
{
    return session->part && multiply_adds < ALONE_MULTIPLY_ADDS ? &session->part[0] : &session->whole;
}

/* A batch that is being worked on. */
typedef struct job {
    const hs_lane_work *work;
    hs_lane *part;
    int64_t rows;        /* of all users */
    double *cost_before; /* [n_users + 1]: multiply-adds of a layer, of the users in front */
    double longest_cost; /* of the user with the most */
    size_t n_slices;
    bool tapers;
    _Atomic size_t next; /* slice that no thread has taken yet */
} job;

static double cost_of(const hs_lane_work *w, size_t user)
{
    return (double)w->rows[user] * (w->row_cost + (double)w->keys[user] * w->pair_cost);
}

/* Whether a device that pads gives both the same room: for rows of the history, tokens before them, and candidates. */
static bool padded_alike(const hs_lane_work *w, size_t a, size_t b)
{
    const int64_t candidates_a = w->candidates ? w->candidates[a] : 0,
                  candidates_b = w->candidates ? w->candidates[b] : 0;
    return hs_device_bucket(w->rows[a] - candidates_a) == hs_device_bucket(w->rows[b] - candidates_b) &&
           hs_device_bucket(w->keys[a] - w->rows[a]) == hs_device_bucket(w->keys[b] - w->rows[b]) &&
           hs_device_bucket(candidates_a) == hs_device_bucket(candidates_b);
}

/* Whether user `next` may join the pass of users first .. next - 1. */
static bool goes_along(const hs_lane_work *w, const hs_lane *lane, size_t first, size_t next)
{
    if (w->rows[next] == 0)
        return false;
    return !lane->dev->pads || (next - first < HS_PADDED_USERS && padded_alike(w, first, next));
}

/* Users first .. end - 1 in passes of at most `most` rows, or of one user. */
static hstu_status run_users(
    const hs_lane_work *w, hs_lane *lane, size_t first, size_t end, int64_t most, hstu_error *err)
{
    while (first < end) {
        int64_t rows = w->rows[first];
        size_t last = first + 1;
        if (rows == 0) {
            first = last;
            continue;
        }
        while (last < end && goes_along(w, lane, first, last) && rows + w->rows[last] <= most)
            rows += w->rows[last++];
        hs_arena_reset(&lane->scratch);
        HS_TRY(w->run(w->ctx, lane, first, last, err));
        first = last;
    }
    return HSTU_OK;
}

/* The first user of a slice. */
static size_t slice_begin(const job *j, size_t slice)
{
    const double left = (double)(j->n_slices - slice) / (double)j->n_slices;
    const double want = j->cost_before[j->work->n_users] * (1 - (j->tapers ? left * left : left));
    size_t user = 0, end = j->work->n_users;
    if (slice == j->n_slices)
        return end;
    while (user < end) {
        const size_t middle = user + (end - user) / 2;
        if (j->cost_before[middle] < want)
            user = middle + 1;
        else
            end = middle;
    }
    return user;
}

static void run_part(void *ctx, int64_t i)
{
    job *j = ctx;
    hs_lane *lane = &j->part[i];
    lane->status = HSTU_OK;
    while (lane->status == HSTU_OK) {
        const size_t slice = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (slice >= j->n_slices)
            break;
        lane->status =
            run_users(j->work, lane, slice_begin(j, slice), slice_begin(j, slice + 1), HS_THREAD_PASS_ROWS, &lane->err);
    }
}

/* Each thread takes whole users, and they meet once. */
static hstu_status run_parted(hstu_session *session, job *j, hstu_error *err)
{
    const size_t most = session->n_parts * SLICES_PER_PART;
    j->n_slices = (size_t)j->rows / SLICE_ROWS + 1 < most ? (size_t)j->rows / SLICE_ROWS + 1 : most;
    j->tapers = j->n_slices == most;
    hs_engine_part_profile(session);
    hs_op_parallel(session->whole.dev, (int64_t)session->n_parts, run_part, j);
    hs_engine_join_profile(session);
    for (size_t i = 0; i < session->n_parts; i++) {
        if (j->part[i].status != HSTU_OK) {
            if (err)
                *err = j->part[i].err;
            return j->part[i].status;
        }
    }
    return HSTU_OK;
}

/* Threads that take whole users wait for the longest history; threads that share every operation wait for each other several
 * times in a layer. */
static bool worth_parting(const hstu_session *session, const job *j)
{
    const double cost = j->cost_before[j->work->n_users];
    if (!session->part || j->work->n_users == 1)
        return false;
    if (cost * (double)j->work->n_layers < ALONE_MULTIPLY_ADDS)
        return false;
    return j->longest_cost < ALONE_MULTIPLY_ADDS || j->longest_cost * (double)session->n_parts <= cost;
}

hstu_status hs_engine_share(hstu_session *session, const hs_lane_work *work, hstu_error *err)
{
    job j = {.work = work,
        .part = session->part,
        .cost_before = hs_arena_alloc(&session->call, work->n_users + 1, sizeof *j.cost_before)};
    if (!j.cost_before)
        return hs_fail_nomem(err, (work->n_users + 1) * sizeof *j.cost_before, "the batch");
    j.cost_before[0] = 0;
    for (size_t u = 0; u < work->n_users; u++) {
        const double cost = cost_of(work, u);
        j.rows += work->rows[u];
        j.cost_before[u + 1] = j.cost_before[u] + cost;
        j.longest_cost = cost > j.longest_cost ? cost : j.longest_cost;
    }
    if (worth_parting(session, &j))
        return run_parted(session, &j, err);
    return run_users(
        work, hs_engine_lane(session, j.cost_before[work->n_users]), 0, work->n_users, session->pass_rows, err);
}
