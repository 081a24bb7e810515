/* From a checked batch to user embeddings: which users share a forward pass, and on how many threads. A user's result does
 * not depend on either. */
#include "engine/engine.h"

#include "base/error.h"

#include <stdatomic.h>
#include <string.h>

/* A forward pass takes whole users until it holds this many events: the workspace does not grow with the batch. One thread
 * alone wants the workspace in its own cache. */
enum { WHOLE_CHUNK_ROWS = 4096, PART_CHUNK_ROWS = 512 };

/* Threads that share out a batch take slices of it: several each, so that they end together, but not too small ones. */
enum { SLICES_PER_PART = 4, SLICE_ROWS = 32 };

/* Some 100 microseconds of one core: twice what it takes to wake sleeping threads and wait for them. */
static const double ALONE_MULTIPLY_ADDS = 4e6;

hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds)
{
    return session->part && multiply_adds < ALONE_MULTIPLY_ADDS ? &session->part[0] : &session->whole;
}

hstu_status hs_engine_alloc_ids(hs_arena *arena, int64_t **out, size_t n, hstu_error *err)
{
    *out = hs_arena_alloc(arena, n, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, n * sizeof **out, "the batch");
}

static int64_t rows_of(const hs_request *r, size_t user)
{
    return r->batch->offset[user + 1] - r->first[user];
}

/* Users first .. end - 1 as one jagged input, in scratch memory. */
static hstu_status gather_input(
    hs_lane *lane, const hs_request *r, size_t first, size_t end, hs_input *out, hstu_error *err)
{
    const hstu_batch *b = r->batch;
    const size_t n = end - first;
    int64_t *offset = NULL, *item = NULL, *time = NULL;
    HS_TRY(hs_engine_alloc_ids(&lane->scratch, &offset, n + 1, err));
    offset[0] = 0;
    for (size_t i = 0; i < n; i++)
        offset[i + 1] = offset[i] + (b->offset[first + i + 1] - r->first[first + i]);
    const size_t rows = (size_t)offset[n];
    HS_TRY(hs_engine_alloc_ids(&lane->scratch, &item, rows, err));
    if (r->uses_time)
        HS_TRY(hs_engine_alloc_ids(&lane->scratch, &time, rows, err));
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = (size_t)(offset[i + 1] - offset[i]) * sizeof *item;
        memcpy(item + offset[i], b->item_id + r->first[first + i], bytes);
        if (time)
            memcpy(time + offset[i], b->timestamp + r->first[first + i], bytes);
    }
    *out = (hs_input){
        .users = {.n_users = (int64_t)n, .offset = offset},
        .item_id = item,
        .timestamp = time,
        .query_time = time ? b->query_time + first : NULL,
    };
    return HSTU_OK;
}

/* A batch, and where its embeddings go. */
typedef struct job {
    const hs_model *model;
    const hs_request *request;
    float *emb;
    hs_lane *part;
    int64_t rows, longest; /* events of all users, and of one */
    size_t n_slices;
    _Atomic size_t next; /* slice that no thread has taken yet */
} job;

/* Users first .. end - 1 in passes of at most `most` rows, or of one user. */
static hstu_status encode_users(const job *j, hs_lane *lane, size_t first, size_t end, int64_t most, hstu_error *err)
{
    const int64_t dim = j->model->config.item_embedding_dim;
    while (first < end) {
        int64_t rows = rows_of(j->request, first);
        size_t last = first + 1;
        while (last < end && rows + rows_of(j->request, last) <= most)
            rows += rows_of(j->request, last++);
        hs_input input;
        hs_arena_reset(&lane->scratch);
        HS_TRY(gather_input(lane, j->request, first, last, &input, err));
        const hs_mat out = hs_mat_of(j->emb + (int64_t)first * dim, (int64_t)(last - first), dim);
        HS_TRY(hs_forward(j->model, lane->dev, &lane->scratch, &input, out, NULL, err));
        first = last;
    }
    return HSTU_OK;
}

/* The first user of a slice, when slices are cut at equal numbers of rows. */
static size_t slice_begin(const job *j, size_t slice)
{
    const double want = (double)j->rows * (double)slice / (double)j->n_slices;
    double rows = 0;
    size_t user = 0;
    while (user < j->request->batch->n_users && rows < want)
        rows += (double)rows_of(j->request, user++);
    return user;
}

static void encode_part(void *ctx, int64_t i)
{
    job *j = ctx;
    hs_lane *lane = &j->part[i];
    lane->status = HSTU_OK;
    while (lane->status == HSTU_OK) {
        const size_t slice = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (slice >= j->n_slices)
            break;
        lane->status =
            encode_users(j, lane, slice_begin(j, slice), slice_begin(j, slice + 1), PART_CHUNK_ROWS, &lane->err);
    }
}

/* Each thread takes whole users, and they meet once. */
static hstu_status encode_parted(hstu_session *session, job *j, hstu_error *err)
{
    const size_t most = session->n_parts * SLICES_PER_PART;
    j->n_slices = (size_t)j->rows / SLICE_ROWS + 1 < most ? (size_t)j->rows / SLICE_ROWS + 1 : most;
    hs_op_parallel(session->whole.dev, (int64_t)session->n_parts, encode_part, j);
    for (size_t i = 0; i < session->n_parts; i++) {
        if (j->part[i].status != HSTU_OK) {
            if (err)
                *err = j->part[i].err;
            return j->part[i].status;
        }
    }
    return HSTU_OK;
}

/* A layer has about 6 D^2 weights (u, v, q, k, the output and, in SASRec, the feed-forward part). */
static double layer_multiply_adds(const hs_config *c, int64_t rows)
{
    const double dim = (double)c->item_embedding_dim;
    return 6 * dim * dim * (double)rows;
}

/* Threads that take whole users wait for the longest history; threads that share every operation wait for each other several
 * times in a layer. */
static bool worth_parting(const hstu_session *session, const job *j)
{
    const hs_config *c = &j->model->config;
    if (!session->part || j->request->batch->n_users == 1)
        return false;
    if (layer_multiply_adds(c, j->rows) * (double)c->num_blocks < ALONE_MULTIPLY_ADDS)
        return false;
    return layer_multiply_adds(c, j->longest) < ALONE_MULTIPLY_ADDS ||
           j->longest * (int64_t)session->n_parts <= j->rows;
}

hstu_status hs_engine_encode(hstu_session *session, const hs_request *request, float *emb, hstu_error *err)
{
    job j = {.model = &session->model->model, .request = request, .emb = emb, .part = session->part};
    for (size_t u = 0; u < request->batch->n_users; u++) {
        const int64_t rows = rows_of(request, u);
        j.rows += rows;
        j.longest = rows > j.longest ? rows : j.longest;
    }
    if (worth_parting(session, &j))
        return encode_parted(session, &j, err);
    hs_lane *lane = hs_engine_lane(session, layer_multiply_adds(&j.model->config, j.rows));
    return encode_users(&j, lane, 0, request->batch->n_users, WHOLE_CHUNK_ROWS, err);
}
