/* hstu_self_test_run: a device and the CPU are asked the same and compared. */
#include "engine/synthetic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "device/npu/npu_device.h"
#include "hstu/npu.h"

#include <math.h>
#include <string.h>

/* Two short histories, which may share a pass, and a long one. LATER events come behind what a cache holds of each. */
enum { USERS = 3, SHORT = 5, LONG_TOKENS = 256, LATER = 2, TOP = 10, SEED = 6 };

static const double ALLOWED_FP32 = 1e-4, ALLOWED_FP16 = 3e-2;
/* The CPU rounds all keys and values to bfloat16, a device those that it finds in pages: and sums that differ in their last bits
 * may be rounded to either neighbour. */
static const double ALLOWED_KV_BF16 = 3e-2;

/* The device or the CPU, and what it has answered. */
typedef struct side {
    const hstu_model *model;
    hstu_session *session;
    hstu_cache *cache; /* or NULL */
    float *value;      /* [n_values] logits or embeddings */
    float score[USERS * TOP];
} side;

static hstu_status open_side(side *s, const hstu_model *model, int64_t n_values, int64_t tokens, hstu_error *err)
{
    s->model = model;
    HS_TRY(hstu_session_open(&s->session, model, err));
    if (!hs_pages_no_reuse(&model->model.config))
        HS_TRY(hs_synthetic_cache(&s->cache, model, USERS, tokens, err));
    s->value = hs_calloc((size_t)n_values, sizeof *s->value);
    return s->value ? HSTU_OK : hs_fail_nomem(err, (size_t)n_values * sizeof *s->value, "the self-test");
}

static void close_side(side *s)
{
    hstu_session_close(s->session);
    hstu_cache_close(s->cache);
    hs_free(s->value);
}

/* Relative to the CPU's largest value; INFINITY for what is no number, or is one on one side only. */
static double largest_error(const float *value, const float *expected, int64_t n)
{
    double error = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(expected[i]) != isfinite(value[i]))
            return INFINITY;
        if (!isfinite(expected[i])) /* a place without an item */
            continue;
        const double e = fabs((double)value[i] - (double)expected[i]), x = fabs((double)expected[i]);
        error = e > error ? e : error;
        scale = x > scale ? x : scale;
    }
    return error == 0 ? 0 : scale == 0 ? INFINITY : error / scale;
}

typedef struct test {
    side device, cpu;
    hs_synthetic before, whole; /* the same users, before the last events and with them */
    double error;
} test;

static void note_error(test *t, double error)
{
    t->error = error > t->error ? error : t->error;
}

/* The CPU goes first: what keeps it from answering is no fault of the device, but answers that are no numbers are. */
static hstu_status ask_both(test *t, const hs_synthetic *s, hstu_error *err)
{
    HS_TRY(hs_synthetic_ask(t->cpu.session, s, t->cpu.value, err));
    const hstu_status status = hs_synthetic_ask(t->device.session, s, t->device.value, err);
    if (status == HSTU_EFORMAT) {
        t->error = INFINITY;
        return HSTU_OK;
    }
    HS_TRY(status);
    note_error(t, largest_error(t->device.value, t->cpu.value, s->n_values));
    return HSTU_OK;
}

static hstu_status search(side *s, const hstu_batch *batch, hstu_error *err)
{
    int64_t item[USERS * TOP];
    return hstu_recommend(s->session, batch, TOP, NULL, item, s->score, NULL, err);
}

static hstu_status compare(test *t, hstu_error *err)
{
    HS_TRY(ask_both(t, &t->whole, err));
    if (isinf(t->error)) /* whatever else is asked has no answer either */
        return HSTU_OK;
    if (t->cpu.model->model.config.family != HS_CONFIG_RANKING) {
        HS_TRY(search(&t->cpu, &t->whole.batch, err));
        HS_TRY(search(&t->device, &t->whole.batch, err));
        note_error(t, largest_error(t->device.score, t->cpu.score, USERS * TOP));
    }
    if (!t->cpu.cache)
        return HSTU_OK;
    t->cpu.session->cache = t->cpu.cache;
    t->device.session->cache = t->device.cache;
    HS_TRY(ask_both(t, &t->before, err));
    return ask_both(t, &t->whole, err);
}

/* Each user has at least one event in both batches. */
static hstu_status make_batches(test *t, const hs_model *m, hstu_error *err)
{
    const int64_t limit = hs_synthetic_most_events(&m->config), fitting = hs_synthetic_events(&m->config, LONG_TOKENS);
    const int64_t most = limit < fitting ? limit : fitting > 1 ? fitting : 1;
    const int64_t wanted[USERS] = {SHORT, SHORT + 1, most}, candidates[USERS] = {9, 4, 20};
    int64_t before[USERS], whole[USERS];
    for (int u = 0; u < USERS; u++) {
        whole[u] = wanted[u] < most ? wanted[u] : most;
        before[u] = whole[u] > LATER ? whole[u] - LATER : whole[u] > 1 ? 1 : whole[u];
    }
    HS_TRY(hs_synthetic_make(&t->before, m, USERS, before, candidates, SEED, err));
    return hs_synthetic_make(&t->whole, m, USERS, whole, candidates, SEED, err);
}

static hstu_status run_test(test *t, const hstu_model *device, const hstu_model *cpu, hstu_error *err)
{
    HS_TRY(make_batches(t, &cpu->model, err));
    const int64_t events = t->whole.batch.offset[USERS] - t->whole.batch.offset[USERS - 1];
    const int64_t tokens = hs_synthetic_tokens(&cpu->model.config, events);
    HS_TRY(open_side(&t->cpu, cpu, t->whole.n_values, tokens, err));
    HS_TRY(open_side(&t->device, device, t->whole.n_values, tokens, err));
    return compare(t, err);
}

static double allowed_for(const hstu_model *device)
{
    if (hs_npu_compute(device->dev) == HS_F16)
        return ALLOWED_FP16;
    return device->model.kv_type == HS_BF16 ? ALLOWED_KV_BF16 : ALLOWED_FP32;
}

/* The same weights, computed in fp32 as the device does. */
static hstu_status open_on_cpu(hstu_model **out, const hstu_model *device, const char *checkpoint,
    const hstu_model_options *options, hstu_error *err)
{
    hstu_model_options o;
    hstu_model_options_init(&o);
    if (options)
        HS_TRY(hs_engine_read_options(&o, sizeof o, options, "hstu_model_options_init", err));
    o.device = "cpu";
    o.dtype = device->model.bf16 ? "bf16" : "fp32";
    HS_TRY(hstu_model_open(out, checkpoint, &o, err));
    (*out)->model.bf16 = false;
    return HSTU_OK;
}

static hstu_status judge(const hstu_model *model, const hstu_self_test *r, hstu_error *err)
{
    hs_ort_info info;
    if (r->largest_error <= r->allowed)
        return HSTU_OK;
    hs_npu_get_info(model->dev, &info);
    const bool is_half = r->allowed < ALLOWED_FP16 && r->largest_error <= ALLOWED_FP16;
    return hs_fail(err, HSTU_EDEVICE, 0,
        "the device \"%.60s\" (%.60s %.30s) fails the self-test: of %d made-up users its answers differ from the CPU's "
        "by %.3g of the largest, at most %.3g is allowed%s",
        model->device, info.provider ? info.provider : "", info.provider_version ? info.provider_version : "",
        r->n_users, r->largest_error, r->allowed,
        is_half ? "; a device that computes in half precision wants the dtype fp16" : "");
}

hstu_status hstu_self_test_run(const hstu_model *model, const char *checkpoint, const hstu_model_options *options,
    hstu_self_test *result, hstu_error *err)
{
    hstu_model *cpu = NULL;
    test t = {.error = 0};
    if (!hs_npu_is(model->dev))
        return hs_fail(err, HSTU_EINVAL, 0,
            "a self-test compares an NPU with the CPU, but the model's device is \"%.60s\"", model->device);
    HS_TRY(open_on_cpu(&cpu, model, checkpoint, options, err));
    hstu_status status = run_test(&t, model, cpu, err);
    close_side(&t.device);
    close_side(&t.cpu);
    hs_synthetic_free(&t.before);
    hs_synthetic_free(&t.whole);
    hstu_model_close(cpu);
    if (status != HSTU_OK)
        return status;
    *result = (hstu_self_test){.largest_error = t.error, .allowed = allowed_for(model), .n_users = USERS};
    return judge(model, result, err);
}
