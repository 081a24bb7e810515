/* hstu_session_*, hstu_encode: threads and workspace, and one request batch through the model. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

enum { DEFAULT_MICRO_BATCH = 256 };

/* Whatever the result, close_lane frees what the lane holds. */
static hstu_status open_lane(hs_lane *lane, const hstu_model *model, int threads, hstu_error *err)
{
    hs_arena_init(&lane->scratch, SIZE_MAX / 4);
    return hs_device_join(&lane->dev, model->dev, threads, err); /* packed weights fit one set of kernels */
}

static void close_lane(hs_lane *lane)
{
    hs_arena_free(&lane->scratch);
    hs_device_close(lane->dev);
}

hstu_status hstu_session_open(hstu_session **out, const hstu_model *model, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hstu_session *s = hs_calloc(1, sizeof *s);
    if (!s)
        return hs_fail_nomem(err, sizeof *s, "a session");
    s->model = model;
    s->micro_batch = DEFAULT_MICRO_BATCH;
    hs_arena_init(&s->call, SIZE_MAX / 4);
    HS_TRY_GOTO(open_lane(&s->whole, model, model->threads, err));
    s->pass_rows = s->whole.dev->n_threads > 1 || s->whole.dev->pads ? HS_SESSION_PASS_ROWS : HS_THREAD_PASS_ROWS;
    if (s->whole.dev->n_threads > 1 && !s->whole.dev->pads) {
        const size_t n = (size_t)s->whole.dev->n_threads;
        s->part = hs_calloc(n, sizeof *s->part);
        if (!s->part) {
            status = hs_fail_nomem(err, n * sizeof *s->part, "a session");
            goto fail;
        }
        while (s->n_parts < n)
            HS_TRY_GOTO(open_lane(&s->part[s->n_parts++], model, 1, err));
    }
    *out = s;
    return HSTU_OK;
fail:
    hstu_session_close(s);
    return status;
}

void hstu_session_close(hstu_session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < session->n_parts; i++)
        close_lane(&session->part[i]);
    close_lane(&session->whole);
    hs_free(session->part);
    hs_arena_free(&session->call);
    hs_free(session);
}

hstu_status hstu_session_set_micro_batch(hstu_session *session, int64_t n, hstu_error *err)
{
    if (n < 1)
        return hs_fail(err, HSTU_EINVAL, 0, "the micro batch is %" PRId64 " candidates, expected 1 or more", n);
    session->micro_batch = n;
    return HSTU_OK;
}

void hs_engine_start_call(hstu_session *session)
{
    session->reuse = (hs_reuse){.n_users = 0};
    hs_arena_reset(&session->call);
}

hstu_status hs_engine_refuse_ranking(const hstu_session *s, hstu_error *err)
{
    if (s->model->model.config.family != HS_CONFIG_RANKING)
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0,
        "a ranking model finds neither embeddings nor items for users: it scores candidates with hstu_rank");
}

hstu_status hstu_encode(hstu_session *session, const hstu_batch *batch, float *out, size_t out_len, hstu_error *err)
{
    const size_t dim = (size_t)session->model->model.config.item_embedding_dim;
    hs_request r;
    float *emb = NULL;
    HS_TRY(hs_engine_refuse_ranking(session, err));
    hs_engine_start_call(session);
    if (batch->n_users == 0)
        return HSTU_OK;
    if (batch->n_users > out_len / dim)
        return hs_fail(
            err, HSTU_EINVAL, 0, "out_len is %zu, too few for %zu users of %zu values", out_len, batch->n_users, dim);
    HS_TRY(hs_request_check(&r, &session->model->model.config, batch, &session->call, err));
    HS_TRY(hs_engine_embeddings(session, &r, &emb, err));
    memcpy(out, emb, batch->n_users * dim * sizeof *out);
    return HSTU_OK;
}
