/* hstu_session_warm_up: made-up requests of one user, of which an NPU compiles the graphs and runs none. */
#include "engine/synthetic.h"

#include "base/error.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <inttypes.h>

/* Steps of the ladder of padded sizes that fit HS_MAX_SEQUENCE, and some to spare. */
enum { STEPS_MOST = 128 };

typedef struct warm_up {
    hstu_session *session;
    const hs_config *config;
    hstu_cache *cache;           /* of its own; NULL: without */
    int64_t length[STEPS_MOST];  /* [n_lengths] events, longest first, each of another step */
    int64_t n_cands[STEPS_MOST]; /* [n_counts] candidates, most first; {0} where there are none */
    int n_lengths, n_counts;
} warm_up;

/* The step below one of the ladder's; 0 below the smallest. */
static int64_t step_below(int64_t step)
{
    int64_t below = 0;
    for (int64_t next = hs_device_bucket(1); next < step; next = hs_device_bucket(next + 1))
        below = next;
    return below;
}

/* The most events of each step of tokens, up to `most` events. */
static void list_lengths(warm_up *w, int64_t most)
{
    const int64_t least = w->config->family == HS_CONFIG_RANKING ? 0 : 1;
    for (int64_t events = most; events >= least && w->n_lengths < STEPS_MOST;) {
        const int64_t step = hs_device_bucket(hs_synthetic_tokens(w->config, events));
        w->length[w->n_lengths++] = events;
        if (step == 0)
            return;
        events = hs_synthetic_events(w->config, step_below(step));
    }
}

/* More than a micro batch come in groups, which are alike for all such counts but the last group. */
static void list_counts(warm_up *w, int64_t most)
{
    const int64_t group = w->session->micro_batch;
    if (w->config->family != HS_CONFIG_RANKING) {
        w->n_cands[w->n_counts++] = 0;
        return;
    }
    for (int64_t n = most; n > 0 && w->n_counts < STEPS_MOST;) {
        w->n_cands[w->n_counts++] = n;
        n = n > group ? group : step_below(hs_device_bucket(n));
    }
}

/* Whether what one more request compiles can be kept. */
static bool has_room(const warm_up *w, int64_t candidates)
{
    hs_npu_stats stats;
    const int64_t graphs = candidates > w->session->micro_batch ? 3 : 1; /* the history, a group, the last group */
    hs_npu_get_stats(w->session->whole.dev, &stats);
    return stats.n_graphs + graphs <= w->session->model->max_graphs;
}

static hstu_status ask(const warm_up *w, int64_t events, int64_t candidates, hstu_error *err)
{
    hs_synthetic s;
    hstu_status status = hs_synthetic_make(&s, &w->session->model->model, 1, &events, &candidates, 0, err);
    if (status == HSTU_OK)
        status = hs_synthetic_ask(w->session, &s, NULL, err);
    hs_synthetic_free(&s);
    return status;
}

/* `fresh` new events behind `events` cached ones. */
static hstu_status ask_behind(const warm_up *w, int64_t events, int64_t fresh, int64_t candidates, hstu_error *err)
{
    const int64_t most = hs_synthetic_most_events(w->config) - fresh;
    const int64_t cached = events < most ? events : most;
    if (cached < 0 || hs_synthetic_tokens(w->config, cached) == 0)
        return HSTU_OK;
    hstu_cache_drop_all(w->cache);
    w->session->cache = w->cache;
    hstu_status status = ask(w, cached, candidates, err);
    if (status == HSTU_OK)
        status = ask(w, cached + fresh, candidates, err);
    w->session->cache = NULL;
    return status;
}

/* Every length, with one number of candidates, the longest first: these compile and run longest. */
static hstu_status warm_lengths(const warm_up *w, int64_t candidates, hstu_error *err)
{
    /* Rows that are computed behind cached ones: a ranking model's event has two, and a request that is repeated none; another
     * model computes the newest one always. So these fill the two smallest steps. */
    const int64_t fresh[] = {
        w->config->family == HS_CONFIG_RANKING ? 1 : 2, w->config->family == HS_CONFIG_RANKING ? 0 : 1};
    for (int i = 0; i < w->n_lengths && has_room(w, candidates); i++)
        HS_TRY(ask(w, w->length[i], candidates, err));
    for (int f = 0; w->cache && f < 2; f++) {
        for (int i = 0; i < w->n_lengths && has_room(w, candidates); i++)
            HS_TRY(ask_behind(w, w->length[i], fresh[f], candidates, err));
    }
    return HSTU_OK;
}

static hstu_status warm_all(warm_up *w, bool use_cache, hstu_error *err)
{
    const hstu_model *model = w->session->model;
    if (use_cache && !hs_pages_no_reuse(w->config))
        HS_TRY(hs_synthetic_cache(
            &w->cache, model, 1, hs_synthetic_tokens(w->config, hs_synthetic_most_events(w->config)), err));
    for (int i = 0; i < w->n_counts; i++)
        HS_TRY(warm_lengths(w, w->n_cands[i], err));
    return HSTU_OK;
}

hstu_status hstu_session_warm_up(
    hstu_session *session, int64_t max_events, int64_t max_candidates, int use_kv_cache, hstu_error *err)
{
    const hs_config *c = &session->model->model.config;
    warm_up w = {.session = session, .config = c};
    hstu_cache *const cache = session->cache;
    const bool ranking = c->family == HS_CONFIG_RANKING;
    const int64_t most = hs_synthetic_most_events(c);
    HS_TRY(hs_engine_require_npu(session, err));
    if (max_events < (ranking ? 0 : 1))
        return hs_fail(err, HSTU_EINVAL, 0, "max_events is %" PRId64 ", expected %d or more", max_events, !ranking);
    if (ranking && (max_candidates < 1 || max_candidates > HS_MAX_SEQUENCE))
        return hs_fail(err, HSTU_EINVAL, 0, "max_candidates is %" PRId64 ", expected 1 .. %d", max_candidates,
            (int)HS_MAX_SEQUENCE);
    list_lengths(&w, max_events < most ? max_events : most);
    list_counts(&w, max_candidates);
    session->cache = NULL;
    hs_npu_compile_only(session->whole.dev, true);
    const hstu_status status = warm_all(&w, use_kv_cache, err);
    hs_npu_compile_only(session->whole.dev, false);
    session->cache = cache;
    hstu_cache_close(w.cache);
    hs_engine_start_call(session); /* nobody asks for what a made-up request has reused */
    return status;
}
