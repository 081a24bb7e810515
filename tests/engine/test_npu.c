/* The engine on a recording device, with ONNX Runtime's own CPU provider: self-test, warm-up, figures, files of graphs. Needs ONNX
 * Runtime's library (HSTU_ORT_LIBRARY, or what scripts/get_onnxruntime has fetched) and says so where there is none. */
#include "engine/cache_models.h"

#include "base/mapfile.h"
#include "hstu/npu.h"

#include <pthread.h>
#include <sys/stat.h>

static const char device[] = "ort-cpu";
static char folder[] = "/tmp/hstu_test_npu_XXXXXX";
static bool has_runtime;

#define NEEDS_RUNTIME()                                                                                                \
    do {                                                                                                               \
        if (!has_runtime)                                                                                              \
            skip();                                                                                                    \
    } while (0)

/* ---- Models ------------------------------------------------------------------------------------------------------ */

static hstu_model_options options_of(const cache_variant *v)
{
    static char path[64];
    hstu_model_options o;
    (void)snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(v->config, file) >= 0);
    assert_int_equal(fclose(file), 0);
    hstu_model_options_init(&o);
    o.config = path;
    o.device = device;
    o.threads = 1;
    o.seed = 5;
    o.max_item_id = o.max_user_id = ITEMS;
    o.dtype = v->dtype ? v->dtype : "fp32";
    o.kv_dtype = v->kv_dtype;
    return o;
}

typedef struct npu_model {
    hstu_model_options options;
    hstu_model *model;
    hstu_session *session;
} npu_model;

static void open_npu(npu_model *m, const char *variant, const char *dtype, const hstu_npu_options *npu)
{
    hstu_error err;
    *m = (npu_model){.options = options_of(find_variant(variant))};
    m->options.npu = npu;
    if (dtype)
        m->options.dtype = dtype;
    assert_ok(hstu_model_open(&m->model, NULL, &m->options, &err), &err);
    assert_ok(hstu_session_open(&m->session, m->model, &err), &err);
}

static void close_npu(npu_model *m)
{
    hstu_session_close(m->session);
    hstu_model_close(m->model);
}

static hstu_npu_stats stats_of(const hstu_session *session)
{
    hstu_npu_stats stats;
    hstu_error err;
    assert_ok(hstu_session_get_npu_stats(session, &stats, &err), &err);
    return stats;
}

static visit make_visit(int64_t user, int64_t n_events, int64_t n_candidates)
{
    uint64_t random = (uint64_t)user;
    visit v = {.user_id = user, .query_time = 1600000000, .n_candidates = n_candidates, .target = 1};
    see_more(&v, &random, n_events);
    choose_context(&v, &random, false);
    for (int64_t i = 0; i < n_candidates; i++)
        v.candidate[i] = choose_item(&random);
    return v;
}

static void ask_visits(hstu_session *session, const visit *v, size_t n, bool with_user_ids, answers *out)
{
    static visit_batch batch;
    hstu_error err;
    make_visit_batch(&batch, v, n, true, with_user_ids);
    assert_ok(ask(session, &batch, ASK_EMBEDDINGS, out, &err), &err);
}

/* ---- Self-test --------------------------------------------------------------------------------------------------- */

static void test_every_variant_passes(void **state)
{
    (void)state;
    NEEDS_RUNTIME();
    for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
        npu_model m;
        hstu_self_test result = {0};
        hstu_error err = {0};
        open_npu(&m, cache_variants[i].name, NULL, NULL);
        if (hstu_self_test_run(m.model, NULL, &m.options, &result, &err) != HSTU_OK)
            fail_msg("%s: %s", cache_variants[i].name, err.msg);
        assert_true(result.largest_error >= 0 && result.largest_error <= result.allowed);
        assert_true(result.n_users > 1);
        printf("%-48s error %.2g, allowed %.2g\n", cache_variants[i].name, result.largest_error, result.allowed);
        close_npu(&m);
    }
}

static void test_fp16(void **state)
{
    static const char *const names[] = {"HSTU", "SASRec", "ranking", "decoder"};
    (void)state;
    NEEDS_RUNTIME();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        npu_model m;
        hstu_model_info info;
        hstu_self_test result = {0};
        hstu_error err = {0};
        open_npu(&m, names[i], "fp16", NULL);
        hstu_model_get_info(m.model, &info);
        assert_string_equal(info.dtype, "fp16");
        assert_string_equal(info.kv_dtype, "fp32");
        assert_string_equal(info.device, device);
        assert_string_equal(stats_of(m.session).compute_dtype, "fp16");
        if (hstu_self_test_run(m.model, NULL, &m.options, &result, &err) != HSTU_OK)
            fail_msg("%s: %s", names[i], err.msg);
        assert_true(result.largest_error <= 3e-2);
        close_npu(&m);
    }
}

/* Other weights stand for a device that computes something else. */
static void test_wrong_device_is_refused(void **state)
{
    npu_model m;
    hstu_self_test result = {0};
    hstu_error err = {0};
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "ranking", NULL, NULL);
    m.options.seed++;
    assert_int_equal(hstu_self_test_run(m.model, NULL, &m.options, &result, &err), HSTU_EDEVICE);
    assert_true(result.largest_error > result.allowed);
    assert_non_null(strstr(err.msg, device));
    assert_non_null(strstr(err.msg, "self-test"));
    m.options.config = "/nonexistent.json";
    result.n_users = 77;
    assert_int_equal(hstu_self_test_run(m.model, NULL, &m.options, &result, &err), HSTU_ENOENT);
    assert_int_equal(result.n_users, 77);
    close_npu(&m);
}

static void test_passed_models_are_known(void **state)
{
    npu_model m, other, by_file;
    hstu_npu_options as_file;
    char path[64];
    struct stat st;
    (void)state;
    NEEDS_RUNTIME();
    hstu_npu_options_init(&as_file);
    as_file.as_onnx = 1;
    (void)snprintf(path, sizeof path, "%s/cache", folder);
    assert_int_equal(setenv("XDG_CACHE_HOME", path, 1), 0);
    open_npu(&m, "ranking", NULL, NULL);
    open_npu(&other, "ranking", "fp16", NULL);
    open_npu(&by_file, "ranking", NULL, &as_file);
    assert_false(hstu_self_test_is_known(m.model));
    hstu_self_test_remember(m.model);
    assert_true(hstu_self_test_is_known(m.model));
    assert_false(hstu_self_test_is_known(other.model));
    assert_false(hstu_self_test_is_known(by_file.model));
    hstu_self_test_remember(other.model);
    assert_true(hstu_self_test_is_known(other.model));
    assert_true(hstu_self_test_is_known(m.model));
    (void)snprintf(path, sizeof path, "%s/cache/hstu", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));

    /* Where nothing can be written, and where nothing is named. */
    assert_int_equal(setenv("XDG_CACHE_HOME", "/proc/nowhere", 1), 0);
    hstu_self_test_remember(m.model);
    assert_false(hstu_self_test_is_known(m.model));
    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    assert_int_equal(setenv("HOME", folder, 1), 0);
    hstu_self_test_remember(m.model);
    assert_true(hstu_self_test_is_known(m.model));
    (void)snprintf(path, sizeof path, "%s/.cache/hstu", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(unsetenv("HOME"), 0);
    hstu_self_test_remember(m.model);
    assert_false(hstu_self_test_is_known(m.model));
    close_npu(&m);
    close_npu(&other);
    close_npu(&by_file);
}

/* ---- Warm-up ----------------------------------------------------------------------------------------------------- */

/* Requests of the shapes that were compiled ahead compile nothing. */
static void check_warm(hstu_session *session, int64_t most_events, int64_t n_candidates, hstu_cache *cache)
{
    static answers out;
    hstu_error err;
    const int64_t compiled = stats_of(session).n_compiled;
    assert_ok(hstu_session_use_cache(session, cache, &err), &err);
    for (int64_t n = 1; n <= most_events; n += 1 + n / 8) {
        visit v = make_visit(n, n, 1 + (n * 7) % n_candidates);
        ask_visits(session, &v, 1, cache != NULL, &out);
        if (!cache)
            continue;
        ask_visits(session, &v, 1, true, &out);
        uint64_t random = 3;
        if (n < most_events)
            see_more(&v, &random, 1);
        ask_visits(session, &v, 1, true, &out);
    }
    assert_int_equal(stats_of(session).n_compiled, compiled);
    assert_ok(hstu_session_use_cache(session, NULL, &err), &err);
}

static void warm(const char *variant, int64_t most_events)
{
    enum { CANDIDATES = 20 };
    npu_model m;
    hstu_error err = {0};
    open_npu(&m, variant, NULL, &(hstu_npu_options){.size = sizeof(hstu_npu_options), .max_graphs = 4096});
    assert_ok(hstu_session_warm_up(m.session, most_events, CANDIDATES, 1, &err), &err);
    const hstu_npu_stats stats = stats_of(m.session);
    assert_true(stats.n_graphs > 5);
    assert_int_equal(stats.n_graphs, stats.n_compiled);
    assert_int_equal(stats.n_runs, 0);
    check_warm(m.session, most_events, CANDIDATES, NULL);
    assert_true(stats_of(m.session).n_runs > 0);
    hstu_cache *cache = open_cache_of_pages(m.model, 32, 200);
    check_warm(m.session, most_events, CANDIDATES, cache);
    hstu_session_close(m.session);
    m.session = NULL;
    hstu_cache_close(cache);
    close_npu(&m);
}

static void test_warm_up_compiles_what_comes(void **state)
{
    (void)state;
    NEEDS_RUNTIME();
    warm("HSTU", 60);
    warm("HSTU", 100);
    warm("SASRec", 40);
    warm("ranking", 24);
    warm("ranking, contextual mask", 24);
    warm("decoder", 40);
}

static void test_warm_up_is_bounded(void **state)
{
    enum { MOST = 5 };
    npu_model m;
    hstu_error err = {0};
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "ranking", NULL, &(hstu_npu_options){.size = sizeof(hstu_npu_options), .max_graphs = MOST});
    assert_ok(hstu_session_warm_up(m.session, 100, 600, 1, &err), &err);
    hstu_npu_stats stats = stats_of(m.session);
    assert_in_range(stats.n_graphs, 3, MOST); /* 600 candidates come in groups, which take three graphs */
    assert_int_equal(stats.n_evicted, 0);
    assert_ok(hstu_session_warm_up(m.session, 100, 20, 1, &err), &err);
    stats = stats_of(m.session);
    assert_int_equal(stats.n_graphs, MOST);
    assert_int_equal(stats.n_evicted, 0);
    assert_int_equal(stats.n_runs, 0);
    assert_int_equal(hstu_session_warm_up(m.session, -1, 20, 1, &err), HSTU_EINVAL);
    assert_int_equal(hstu_session_warm_up(m.session, 10, 0, 1, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "max_candidates is 0"));
    close_npu(&m);
    open_npu(&m, "HSTU", NULL, NULL);
    assert_int_equal(hstu_session_warm_up(m.session, 0, 0, 0, &err), HSTU_EINVAL);
    close_npu(&m);
}

/* A warmed-up session answers as a fresh one, and keeps its cache. */
static void test_warm_up_leaves_no_trace(void **state)
{
    static answers before, after;
    npu_model m;
    hstu_error err = {0};
    int64_t n_tokens = 0, n_reused = 0;
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "ranking", NULL, NULL);
    hstu_cache *cache = open_cache_of_pages(m.model, 32, 50);
    const visit v = make_visit(1, 20, 9);
    assert_ok(hstu_session_use_cache(m.session, cache, &err), &err);
    ask_visits(m.session, &v, 1, true, &before);
    assert_ok(hstu_session_warm_up(m.session, 30, 9, 1, &err), &err);
    assert_int_equal(hstu_session_get_reuse(m.session, 0, &n_tokens, &n_reused, &err), HSTU_EINVAL);
    ask_visits(m.session, &v, 1, true, &after);
    assert_ok(hstu_session_get_reuse(m.session, 0, &n_tokens, &n_reused, &err), &err);
    assert_int_equal(n_reused, n_tokens);
    for (size_t i = 0; i < 9 * CLASSES; i++)
        assert_true(fabsf(before.value[i] - after.value[i]) <= 1e-5f);

    /* One that fails half-way, too. */
    const size_t max_bytes = m.session->whole.scratch.max_bytes;
    m.session->whole.scratch.max_bytes = 64;
    assert_int_equal(hstu_session_warm_up(m.session, 99, 19, 1, &err), HSTU_ENOMEM);
    m.session->whole.scratch.max_bytes = max_bytes;
    ask_visits(m.session, &v, 1, true, &after);
    assert_ok(hstu_session_get_reuse(m.session, 0, &n_tokens, &n_reused, &err), &err);
    assert_int_equal(n_reused, n_tokens);
    for (size_t i = 0; i < 9 * CLASSES; i++)
        assert_true(fabsf(before.value[i] - after.value[i]) <= 1e-5f);
    hstu_session_close(m.session);
    m.session = NULL;
    hstu_cache_close(cache);
    close_npu(&m);
}

/* ---- Figures ----------------------------------------------------------------------------------------------------- */

static void test_figures_add_up(void **state)
{
    static answers out;
    npu_model m;
    hstu_session *second = NULL;
    hstu_error err = {0};
    visit v[5];
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "HSTU", NULL, NULL);
    hstu_npu_stats stats = stats_of(m.session);
    assert_int_equal(stats.n_graphs + stats.n_compiled + stats.n_runs + stats.n_nodes, 0);
    assert_string_equal(stats.provider, "CPUExecutionProvider");
    assert_string_equal(stats.kind, "CPU");
    assert_string_equal(stats.compute_dtype, "fp32");
    assert_true(strlen(stats.ort_version) >= 5 && strlen(stats.library) > 3);
    for (int64_t u = 0; u < 5; u++)
        v[u] = make_visit(u, u < 3 ? 5 + u : 60 + u, 0); /* two groups of users: each is a pass */
    ask_visits(m.session, v, 5, false, &out);
    stats = stats_of(m.session);
    assert_int_equal(stats.n_runs, 2);
    assert_int_equal(stats.n_compiled, 2);
    assert_int_equal(stats.n_graphs, 2);
    assert_true(stats.n_nodes > 10 && stats.compile_s > 0 && stats.run_s > 0);
    assert_true(stats.n_copies > 0 && stats.bytes_in > 0 && stats.bytes_out >= 5 * 20 * 4);
    ask_visits(m.session, v, 5, false, &out);
    assert_int_equal(stats_of(m.session).n_runs, 4);
    assert_int_equal(stats_of(m.session).bytes_out, 2 * stats.bytes_out);

    /* A second session counts for itself, but compiles nothing again. */
    assert_ok(hstu_session_open(&second, m.model, &err), &err);
    ask_visits(second, v, 5, false, &out);
    assert_int_equal(stats_of(second).n_runs, 2);
    assert_int_equal(stats_of(second).n_graphs, 2);
    assert_int_equal(stats_of(second).n_compiled, 2);
    hstu_session_close(second);

    hstu_session_reset_npu_stats(m.session);
    const hstu_npu_stats reset = stats_of(m.session);
    assert_int_equal(reset.n_runs + reset.n_copies + reset.bytes_in + reset.bytes_out + reset.bytes_kept, 0);
    assert_int_equal(reset.n_graphs, 2);
    assert_int_equal(reset.n_nodes, stats.n_nodes);
    close_npu(&m);
}

/* Every search is counted, by where it ran; ranks of targets are the CPU's. */
static void test_searches_are_counted(void **state)
{
    static visit_batch batch;
    static answers out;
    npu_model m;
    hstu_error err = {0};
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "SASRec", NULL, NULL);
    const visit v = make_visit(1, 20, 0);
    make_visit_batch(&batch, &v, 1, true, false);
    batch.batch.cand_offset = NULL;
    for (int i = 1; i <= 3; i++) {
        assert_ok(hstu_recommend(m.session, &batch.batch, TOP, NULL, out.item, out.value, NULL, &err), &err);
        assert_int_equal(stats_of(m.session).n_top_k_device + stats_of(m.session).n_top_k_cpu, i);
    }
    const int64_t on_cpu = stats_of(m.session).n_top_k_cpu;
    assert_ok(ask(m.session, &batch, ASK_ITEMS, &out, &err), &err);
    assert_int_equal(stats_of(m.session).n_top_k_cpu, on_cpu + 1);
    assert_in_range(out.rank[0], 1, ITEMS);
    close_npu(&m);
}

/* Many users of all lengths, as they share passes, against each alone. */
static void check_batch(const char *variant, size_t n_values)
{
    static answers all, alone;
    enum { USERS = 6 };
    static visit v[USERS];
    npu_model m;
    open_npu(&m, variant, NULL, NULL);
    size_t at = 0;
    for (int64_t u = 0; u < USERS; u++)
        v[u] = make_visit(u + 1, 1 + (u * 37) % 90, 1 + (u * 5) % 18);
    ask_visits(m.session, v, USERS, false, &all);
    for (size_t u = 0; u < USERS; u++) {
        ask_visits(m.session, &v[u], 1, false, &alone);
        const size_t n = n_values ? n_values : (size_t)v[u].n_candidates * CLASSES;
        for (size_t i = 0; i < n; i++, at++)
            assert_true(fabsf(all.value[at] - alone.value[i]) <= 1e-5f);
    }
    close_npu(&m);
}

static void test_batches(void **state)
{
    (void)state;
    NEEDS_RUNTIME();
    check_batch("HSTU", 20);
    check_batch("ranking", 0);
    check_batch("decoder", 19);
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

typedef struct caller {
    hstu_session *session;
    visit_batch batch[4];
    answers expected[4], found;
    bool is_wrong; /* cmocka's own asserts belong to the main thread */
} caller;

static void *call_often(void *ctx)
{
    caller *c = ctx;
    for (int i = 0; i < 40 && !c->is_wrong; i++) {
        const int b = i % 4;
        c->is_wrong = ask(c->session, &c->batch[b], ASK_EMBEDDINGS, &c->found, NULL) != HSTU_OK ||
                      memcmp(&c->found, &c->expected[b], sizeof c->found) != 0;
    }
    return NULL;
}

/* Sessions of one model compile, evict and run the same graphs at once; few are kept, so that they take them from each other. */
static void test_two_sessions_at_once(void **state)
{
    static caller c[2];
    pthread_t thread[2];
    npu_model m;
    hstu_error err = {0};
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "ranking", NULL, &(hstu_npu_options){.size = sizeof(hstu_npu_options), .max_graphs = 3});
    for (int i = 0; i < 2; i++) {
        assert_ok(hstu_session_open(&c[i].session, m.model, &err), &err);
        for (int b = 0; b < 4; b++) {
            const visit v = make_visit(b, 1 + 20 * b, 3);
            make_visit_batch(&c[i].batch[b], &v, 1, true, false);
            assert_ok(ask(m.session, &c[i].batch[b], ASK_EMBEDDINGS, &c[i].expected[b], &err), &err);
        }
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &c[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_false(c[i].is_wrong);
        hstu_session_close(c[i].session);
    }
    const hstu_npu_stats stats = stats_of(m.session);
    assert_true(stats.n_evicted > 0 && stats.n_graphs <= 3);
    assert_int_equal(stats.n_graphs, stats.n_compiled - stats.n_evicted);
    close_npu(&m);
}

static void test_names_and_options(void **state)
{
    npu_model m;
    hstu_model_info info;
    hstu_error err = {0};
    const char *const option[] = {"no_such_option=1"};
    hstu_npu_options npu;
    (void)state;
    NEEDS_RUNTIME();
    open_npu(&m, "ranking, bf16", NULL, NULL);
    hstu_model_get_info(m.model, &info);
    assert_string_equal(info.dtype, "bf16");
    assert_string_equal(info.kv_dtype, "bf16");
    assert_int_equal(info.threads, 1);
    assert_string_equal(stats_of(m.session).compute_dtype, "fp32");
    hstu_npu_options_init(&npu);
    npu.option = option;
    npu.n_options = 1;
    m.options.npu = &npu;
    assert_int_equal(hstu_model_options_check(&m.options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "no_such_option"));
    close_npu(&m);
}

/* ---- Files of graphs --------------------------------------------------------------------------------------------- */

static uint64_t read_varint(const unsigned char *data, size_t size, size_t *at)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(*at < size && shift < 64);
        value |= (uint64_t)(data[*at] & 0x7f) << shift;
        if (!(data[(*at)++] & 0x80))
            return value;
    }
}

/* How often a message has the bytes field `number`; *found is the last one. */
static int count_fields(const unsigned char *data, size_t size, uint64_t number, const unsigned char **found, size_t *n)
{
    int count = 0;
    for (size_t at = 0; at < size;) {
        const uint64_t key = read_varint(data, size, &at);
        assert_true(key % 8 == 0 || key % 8 == 2);
        const uint64_t value = read_varint(data, size, &at);
        if (key % 8 == 0)
            continue;
        assert_true(value <= size - at);
        if (key / 8 == number) {
            count++;
            *found = data + at;
            *n = (size_t)value;
        }
        at += (size_t)value;
    }
    return count;
}

/* ModelProto.graph is field 7, of which node is 1, input 11, output 12. */
static void check_file(const char *path, int least_inputs)
{
    hs_mapfile map;
    hstu_error err;
    const unsigned char *graph = NULL, *part = NULL;
    size_t n = 0, n_part = 0;
    assert_ok(hs_mapfile_open(&map, path, &err), &err);
    assert_int_equal(count_fields((const unsigned char *)map.data, map.size, 7, &graph, &n), 1);
    assert_true(count_fields(graph, n, 1, &part, &n_part) > 10);
    assert_true(count_fields(graph, n, 11, &part, &n_part) >= least_inputs);
    assert_true(count_fields(graph, n, 12, &part, &n_part) >= 1);
    hs_mapfile_close(&map);
}

static void test_export(void **state)
{
    static const char *const names[] = {
        "HSTU", "HSTU, softmax", "SASRec", "ranking", "ranking, contextual mask", "decoder"};
    char path[64];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/graph.onnx", folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hstu_model_options o = options_of(find_variant(names[i]));
        hstu_onnx_options onnx;
        hstu_error err = {0};
        assert_ok(hstu_export_onnx(NULL, &o, NULL, path, &err), &err);
        check_file(path, 1);
        hstu_onnx_options_init(&onnx);
        onnx.n_users = 3;
        onnx.history = 16;
        onnx.cached = 48;
        onnx.candidates = 20;
        const hstu_status status = hstu_export_onnx(NULL, &o, &onnx, path, &err);
        if (find_variant(names[i])->no_reuse) {
            assert_int_equal(status, HSTU_EUNSUP);
            assert_non_null(strstr(err.msg, "cached is 48"));
        } else {
            assert_ok(status, &err);
            check_file(path, 5); /* keys and values of two layers beside the tokens */
        }
        assert_int_equal(remove(path), 0);
    }
}

static void expect_refused(const hstu_onnx_options *onnx, const char *variant, hstu_status status, const char *part)
{
    hstu_error err = {0};
    char path[64];
    struct stat st;
    const hstu_model_options o = options_of(find_variant(variant));
    (void)snprintf(path, sizeof path, "%s/refused.onnx", folder);
    assert_int_equal(hstu_export_onnx(NULL, &o, onnx, path, &err), status);
    if (!strstr(err.msg, part))
        fail_msg("'%s' is not in \"%s\"", part, err.msg);
    assert_int_not_equal(stat(path, &st), 0);
}

static void test_export_refuses(void **state)
{
    hstu_onnx_options o;
    hstu_error err = {0};
    (void)state;
    hstu_onnx_options_init(&o);
    o.n_users = 17;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "n_users is 17");
    o.n_users = 0;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "n_users is 0");
    o.n_users = 1;
    o.history = 101;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "history is 101");
    o.history = -1;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "history is -1");
    o.history = 50;
    o.cached = 51;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "cached 51");
    o.cached = INT64_MAX;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "cached");
    o.history = 0;
    o.cached = 100;
    expect_refused(&o, "HSTU", HSTU_EINVAL, "no room");
    o.cached = 0;
    o.history = 2;
    expect_refused(&o, "ranking", HSTU_EINVAL, "3 contextual tokens");
    o.history = 16;
    o.candidates = 0;
    expect_refused(&o, "ranking", HSTU_EINVAL, "candidates is 0");
    const hstu_model_options model = options_of(find_variant("HSTU"));
    assert_int_equal(hstu_export_onnx(NULL, &model, NULL, model.config, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "reads"));
}

/* ---- All --------------------------------------------------------------------------------------------------------- */

static int find_runtime(void **state)
{
    hstu_model_options o;
    hstu_error err = {0};
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    hstu_model_options_init(&o);
    o.device = device;
    const hstu_status status = hstu_model_options_check(&o, &err);
    has_runtime = status == HSTU_OK;
    if (status == HSTU_ENOENT) {
        printf("SKIPPED: MOST OF test_npu, FOR LACK OF ONNX RUNTIME: %s\n", err.msg);
        return 0;
    }
    if (status != HSTU_OK)
        printf("test_npu: %s\n", err.msg);
    return status == HSTU_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_passes),
        cmocka_unit_test(test_fp16),
        cmocka_unit_test(test_wrong_device_is_refused),
        cmocka_unit_test(test_passed_models_are_known),
        cmocka_unit_test(test_warm_up_compiles_what_comes),
        cmocka_unit_test(test_warm_up_is_bounded),
        cmocka_unit_test(test_warm_up_leaves_no_trace),
        cmocka_unit_test(test_figures_add_up),
        cmocka_unit_test(test_searches_are_counted),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_two_sessions_at_once),
        cmocka_unit_test(test_names_and_options),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_export_refuses),
    };
    return cmocka_run_group_tests(tests, find_runtime, remove_folder);
}
