/* hstu_export_onnx: one graph of a model, recorded with made-up requests, becomes a file. */
#include "engine/synthetic.h"

#include "base/error.h"
#include "base/outfile.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <inttypes.h>

void hstu_onnx_options_init(hstu_onnx_options *options)
{
    *options = (hstu_onnx_options){.size = sizeof *options, .n_users = 1, .candidates = 128};
}

/* Users whose pass has the shape that is asked for. */
typedef struct shape {
    int64_t n_users, cached, whole; /* users; events that the cache holds of each, and all events */
    int64_t candidates;
} shape;

static hstu_status check_ranges(const hs_config *c, const hstu_onnx_options *o, hstu_error *err)
{
    const int64_t most = hs_synthetic_tokens(c, hs_synthetic_most_events(c));
    if (o->n_users < 1 || o->n_users > HS_PADDED_USERS)
        return hs_fail(
            err, HSTU_EINVAL, 0, "n_users is %" PRId64 ", expected 1 .. %d", o->n_users, (int)HS_PADDED_USERS);
    if (o->history < 0 || o->cached < 0 || o->history > most || o->cached > most - o->history)
        return hs_fail(err, HSTU_EINVAL, 0,
            "history is %" PRId64 " and cached %" PRId64 ", expected 0 or more, and at most %" PRId64 " together",
            o->history, o->cached, most);
    if (c->family == HS_CONFIG_RANKING && (o->candidates < 1 || o->candidates > HS_MAX_SEQUENCE))
        return hs_fail(
            err, HSTU_EINVAL, 0, "candidates is %" PRId64 ", expected 1 .. %d", o->candidates, (int)HS_MAX_SEQUENCE);
    if (o->cached > 0 && hs_pages_no_reuse(c))
        return hs_fail(err, HSTU_EUNSUP, 0, "cached is %" PRId64 ", but no row of this model outlives a request: %s",
            o->cached, hs_pages_no_reuse(c));
    return HSTU_OK;
}

/* Events whose tokens, behind `before` others, need the room of n tokens. */
static int64_t events_for(const hs_config *c, int64_t n, int64_t before)
{
    const int64_t events = hs_synthetic_events(c, before + n);
    const int64_t tokens = hs_synthetic_tokens(c, events) - before;
    return hs_device_bucket(tokens) < hs_device_bucket(n) ? events + 1 : events;
}

static hstu_status choose_shape(shape *out, const hs_config *c, const hstu_onnx_options *o, hstu_error *err)
{
    const int64_t most_events = hs_synthetic_most_events(c), most = hs_synthetic_tokens(c, most_events);
    const int64_t least = hs_synthetic_tokens(c, 0);
    HS_TRY(check_ranges(c, o, err));
    const int64_t history = o->history ? o->history : most - o->cached;
    *out = (shape){.n_users = o->n_users, .candidates = o->candidates};
    if ((o->cached ? o->cached : history) < least)
        return hs_fail(err, HSTU_EINVAL, 0, "%s is %" PRId64 ", expected at least the %" PRId64 " contextual tokens",
            o->cached ? "cached" : "history", o->cached ? o->cached : history, least);
    if (o->cached)
        out->cached = events_for(c, o->cached, 0);
    out->whole = events_for(c, history, o->cached ? hs_synthetic_tokens(c, out->cached) : 0);
    if (out->whole > most_events)
        out->whole = most_events;
    if (out->whole < out->cached || out->whole < (c->family == HS_CONFIG_RANKING ? 0 : out->cached + 1))
        return hs_fail(err, HSTU_EINVAL, 0,
            "cached is %" PRId64 ", which leaves no room behind it in a history of at most %" PRId64 " tokens",
            o->cached, most);
    return HSTU_OK;
}

static hstu_status ask(hstu_session *session, const shape *s, int64_t events, hstu_error *err)
{
    int64_t length[HS_PADDED_USERS], candidates[HS_PADDED_USERS];
    hs_synthetic made;
    for (int64_t u = 0; u < s->n_users; u++) {
        length[u] = events;
        candidates[u] = s->candidates;
    }
    hstu_status status =
        hs_synthetic_make(&made, &session->model->model, (size_t)s->n_users, length, candidates, 0, err);
    if (status == HSTU_OK)
        status = hs_synthetic_ask(session, &made, NULL, err);
    hs_synthetic_free(&made);
    return status;
}

/* All users and candidates in one pass. */
static hstu_status record(hstu_session *session, const shape *s, hs_outfile *file, hstu_error *err)
{
    session->pass_rows = INT64_MAX;
    session->micro_batch = INT64_MAX;
    if (s->cached)
        HS_TRY(ask(session, s, s->cached, err));
    hs_npu_export(session->whole.dev, file);
    return ask(session, s, s->whole, err);
}

static hstu_status write_graph(const hstu_model *model, const shape *s, hs_outfile *file, hstu_error *err)
{
    hstu_session *session = NULL;
    hstu_cache *cache = NULL;
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hstu_session_open(&session, model, err));
    if (!hs_pages_no_reuse(&model->model.config)) /* the rows that the graph computes are outputs, for later graphs */
        HS_TRY_GOTO(
            hs_synthetic_cache(&cache, model, s->n_users, hs_synthetic_tokens(&model->model.config, s->whole), err));
    session->cache = cache;
    HS_TRY_GOTO(record(session, s, file, err));
fail:
    hstu_session_close(session);
    hstu_cache_close(cache);
    return status;
}

static hstu_status export_model(const hstu_model *model, const hstu_onnx_options *o, const char *path, hstu_error *err)
{
    shape s;
    hs_outfile *file = NULL;
    if (hs_engine_reads(model, path))
        return hs_fail(
            err, HSTU_EINVAL, 0, "%.200s is a file that the export reads: expected another name for the result", path);
    HS_TRY(choose_shape(&s, &model->model.config, o, err));
    HS_TRY(hs_outfile_open(&file, path, err));
    const hstu_status status = write_graph(model, &s, file, err);
    if (status == HSTU_OK)
        return hs_outfile_commit(file, err);
    hs_outfile_discard(file);
    return status;
}

hstu_status hstu_export_onnx(const char *checkpoint, const hstu_model_options *options, const hstu_onnx_options *onnx,
    const char *path, hstu_error *err)
{
    hstu_model_options o;
    hstu_onnx_options shapes;
    hstu_model *model = NULL;
    hstu_model_options_init(&o);
    hstu_onnx_options_init(&shapes);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    if (onnx)
        HS_TRY(hs_engine_read_options(&shapes, sizeof shapes, onnx, "hstu_onnx_options_init", err));
    o.device = "onnx";
    o.npu = NULL;
    HS_TRY(hs_engine_open_model(&model, checkpoint, &o, true, err));
    const hstu_status status = export_model(model, &shapes, path, err);
    hstu_model_close(model);
    return status;
}
