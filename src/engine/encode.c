/* From a checked batch to user embeddings: which users share a forward pass, and on how many threads. A user's result does
 * not depend on either. */
#include "engine/engine.h"

#include "base/error.h"

#include <string.h>

/* A forward pass takes whole users until it holds this many events: the workspace does not grow with the batch. One thread
 * alone wants the workspace in its own cache. */
enum { WHOLE_CHUNK_ROWS = 4096, PART_CHUNK_ROWS = 512 };

/* Some 100 microseconds of one core: twice what it takes to wake a sleeping thread and wait for it. */
static const double ALONE_MULTIPLY_ADDS = 4e6;

hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds)
{
    return session->part && multiply_adds < ALONE_MULTIPLY_ADDS ? &session->part[0] : &session->whole;
}

static hstu_status alloc_rows(hs_arena *arena, int64_t **out, size_t n, hstu_error *err)
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
    HS_TRY(alloc_rows(&lane->scratch, &offset, n + 1, err));
    offset[0] = 0;
    for (size_t i = 0; i < n; i++)
        offset[i + 1] = offset[i] + (b->offset[first + i + 1] - r->first[first + i]);
    const size_t rows = (size_t)offset[n];
    HS_TRY(alloc_rows(&lane->scratch, &item, rows, err));
    if (r->uses_time)
        HS_TRY(alloc_rows(&lane->scratch, &time, rows, err));
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

/* A run of users, and where their embeddings go. */
typedef struct job {
    const hs_model *model;
    const hs_request *request;
    float *emb;
    hs_lane *part;
    size_t n_parts;
    int64_t rows; /* of all users */
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

/* The first user of part i, when parts are cut at equal numbers of rows. */
static size_t part_begin(const job *j, size_t i)
{
    const double want = (double)j->rows * (double)i / (double)j->n_parts;
    double rows = 0;
    size_t user = 0;
    while (user < j->request->batch->n_users && rows < want)
        rows += (double)rows_of(j->request, user++);
    return user;
}

static void encode_part(void *ctx, int64_t i)
{
    const job *j = ctx;
    hs_lane *lane = &j->part[i];
    const size_t end = (size_t)i + 1 == j->n_parts ? j->request->batch->n_users : part_begin(j, (size_t)i + 1);
    lane->status = encode_users(j, lane, part_begin(j, (size_t)i), end, PART_CHUNK_ROWS, &lane->err);
}

/* Many short histories: the threads take a part of the users each and meet once. Otherwise they share every operation. */
static bool worth_parting(const job *j)
{
    int64_t longest = 0;
    for (size_t u = 0; u < j->request->batch->n_users; u++)
        longest = rows_of(j->request, u) > longest ? rows_of(j->request, u) : longest;
    return j->n_parts > 1 && longest * (int64_t)j->n_parts <= j->rows;
}

hstu_status hs_engine_encode(hstu_session *session, const hs_request *request, float *emb, hstu_error *err)
{
    job j = {
        .model = &session->model->model,
        .request = request,
        .emb = emb,
        .part = session->part,
        .n_parts = session->n_parts,
    };
    for (size_t u = 0; u < request->batch->n_users; u++)
        j.rows += rows_of(request, u);
    /* A layer has about 6 D^2 weights (u, v, q, k, the output and, in SASRec, the feed-forward part). */
    const hs_config *c = &j.model->config;
    const double dim = (double)c->item_embedding_dim;
    hs_lane *lane = hs_engine_lane(session, (double)j.rows * (double)c->num_blocks * 6 * dim * dim);
    if (lane != &session->whole || !worth_parting(&j))
        return encode_users(&j, lane, 0, request->batch->n_users, WHOLE_CHUNK_ROWS, err);
    hs_op_parallel(session->whole.dev, (int64_t)j.n_parts, encode_part, &j);
    for (size_t i = 0; i < j.n_parts; i++) {
        if (j.part[i].status != HSTU_OK) {
            if (err)
                *err = j.part[i].err;
            return j.part[i].status;
        }
    }
    return HSTU_OK;
}
