/* From a checked batch to user embeddings. */
#include "engine/engine.h"

#include "base/error.h"

#include <stdatomic.h>
#include <string.h>

hstu_status hs_engine_alloc_ids(hs_arena *arena, int64_t **out, size_t n, hstu_error *err)
{
    *out = hs_arena_alloc(arena, n, sizeof **out);
    return *out ? HSTU_OK : hs_fail_nomem(err, n * sizeof **out, "the batch");
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
typedef struct encoding {
    const hs_model *model;
    const hs_request *request;
    float *emb;
    hs_reuse *reuse;
    _Atomic bool not_finite; /* a pass has found an embedding that is not: these are not kept */
} encoding;

static hstu_status encode_users(void *ctx, hs_lane *lane, size_t first, size_t end, hstu_error *err)
{
    encoding *e = ctx;
    const int64_t dim = e->model->config.item_embedding_dim;
    const size_t n = (end - first) * (size_t)dim;
    hs_input input;
    HS_TRY(gather_input(lane, e->request, first, end, &input, err));
    input.kept = hs_reuse_kept(e->reuse, first);
    const hs_mat out = hs_mat_of(e->emb + (int64_t)first * dim, (int64_t)(end - first), dim);
    HS_TRY(hs_forward(e->model, lane->dev, &lane->scratch, &input, out, NULL, err));
    if (hs_engine_find_not_finite(out.data, n) == n)
        hs_reuse_commit(e->reuse, first, end);
    else
        atomic_store(&e->not_finite, true);
    return HSTU_OK;
}

/* Tokens as the cache knows them: the item and, in a model that uses time, the time that the row's bias is made with,
 * which is that of the next event or of the request; in front whether there are times, and the first. Rows whose words
 * are equal, and all those before, are equal. */
static void name_tokens(void *ctx, size_t user, int64_t *head, int64_t *word)
{
    const encoding *e = ctx;
    const hs_request *r = e->request;
    const hstu_batch *b = r->batch;
    const int64_t first = r->first[user], n = b->offset[user + 1] - first, last = e->model->config.attention_n - 1;
    if (!hs_config_uses_time(&e->model->config)) {
        memcpy(word, b->item_id + first, (size_t)n * sizeof *word);
        return;
    }
    head[0] = r->uses_time;
    head[1] = r->uses_time ? b->timestamp[first] : 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t next = i < last ? i + 1 : last;
        word[2 * i] = b->item_id[first + i];
        word[2 * i + 1] = !r->uses_time ? 0 : next < n ? b->timestamp[first + next] : b->query_time[user];
    }
}

/* A layer of the retrieval family has about 6 D^2 weights (u, v, q, k, the output and, in SASRec, the feed-forward part), one of
 * the decoder 4 D^2 and its feed-forward part. Attention is small beside them. */
static double row_cost(const hs_config *c)
{
    const double dim = (double)c->item_embedding_dim;
    if (c->family == HS_CONFIG_DECODER)
        return 4 * dim * dim + 2 * dim * (double)c->ffn_hidden_dim;
    return 6 * dim * dim;
}

/* Weights are finite, but sums may be too large for the type that a device computes in. */
static hstu_status refuse_not_finite(const hstu_session *s, size_t n_users, const float *emb, hstu_error *err)
{
    const size_t dim = (size_t)s->model->model.config.item_embedding_dim;
    const size_t at = hs_engine_find_not_finite(emb, n_users * dim);
    return hs_fail(err, HSTU_EFORMAT, 0,
        "user %zu: element %zu of the embedding is %g on the device \"%.60s\": the weights are too large for it, or it "
        "computes wrong",
        at / dim, at % dim, (double)emb[at], s->model->device);
}

static hstu_status encode(hstu_session *session, const hs_request *request, float *emb, hstu_error *err)
{
    const hstu_batch *b = request->batch;
    const hs_model *m = &session->model->model;
    encoding e = {.model = m, .request = request, .emb = emb, .reuse = &session->reuse};
    int64_t *length = NULL, *rows = NULL;
    HS_TRY(hs_engine_alloc_ids(&session->call, &length, b->n_users, err));
    HS_TRY(hs_engine_alloc_ids(&session->call, &rows, b->n_users, err));
    for (size_t u = 0; u < b->n_users; u++)
        length[u] = b->offset[u + 1] - request->first[u];
    const hs_reuse_source source = {.n_users = b->n_users,
        .user_id = b->user_id,
        .n_tokens = length,
        .newest = 1, /* which is the answer */
        .ctx = &e,
        .name = name_tokens};
    HS_TRY(hs_reuse_begin(session, &source, err));
    for (size_t u = 0; u < b->n_users; u++)
        rows[u] = length[u] - session->reuse.reused[u];
    const hs_lane_work work = {.n_users = b->n_users,
        .rows = rows,
        .keys = length,
        .row_cost = row_cost(&m->config),
        .n_layers = m->config.num_blocks,
        .ctx = &e,
        .run = encode_users};
    const hstu_status status = hs_engine_share(session, &work, err);
    hs_reuse_end(&session->reuse);
    return status == HSTU_OK && e.not_finite ? refuse_not_finite(session, b->n_users, emb, err) : status;
}

hstu_status hs_engine_embeddings(hstu_session *s, const hs_request *r, float **out, hstu_error *err)
{
    const size_t n = r->batch->n_users * (size_t)s->model->model.config.item_embedding_dim;
    *out = hs_arena_alloc(&s->call, n, sizeof **out);
    if (!*out)
        return hs_fail_nomem(err, n * sizeof **out, "the user embeddings");
    return encode(s, r, *out, err);
}
