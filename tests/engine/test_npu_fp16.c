/* Half precision: a small model of each family in fp16, on ONNX Runtime's own CPU provider and on the simulator of Qualcomm's HTP,
 * whose plug-in HSTU_ORT_QNN names, against fp32 on the CPU. Prints the largest error of each, relative to the CPU's largest value:
 * of first weights as they are, and of those that make attention's sums large, and small. */
#include "engine/golden.h"

#include "device/npu/npu_device.h"
#include "engine/synthetic.h"
#include "model/init.h"
#include "model/tables.h"
#include "ort/ort_support.h" /* what sanitizers must know of vendors' libraries */

#include <unistd.h>

enum { USERS = 3, CANDIDATES = 8, LATER = 3, SEED = 6, ITEMS = 300, SIMULATED_EVENTS = 60 };
static const double ALLOWED = 3e-2;

/* ---- models ---- */

/* Without the longest history and the end. */
#define HSTU                                                                                                           \
    "\"item_embedding_dim\": 48, \"num_blocks\": 2, \"num_heads\": 3, \"dqk\": 16, \"dv\": 16, \"max_item_id\": 300"
#define SASREC                                                                                                         \
    "{\"main_module\": \"SASRec\", \"item_embedding_dim\": 48, \"num_blocks\": 2, \"num_heads\": 3,"                   \
    " \"ffn_hidden_dim\": 64, \"max_item_id\": 300"
#define RANKING                                                                                                        \
    "{\"family\": \"ranking\", \"num_position_buckets\": 1100, \"max_num_candidates\": 20, \"hidden_size\": 48,"       \
    " \"num_layers\": 2, \"num_heads\": 3, \"head_dim\": 16, \"prediction_head_arch\": [32, 3],"                       \
    " \"item_feature\": \"item\", \"action_feature\": \"action\", \"contextual\": [\"user\", \"age\"],"                \
    " \"tables\": [{\"name\": \"item\", \"dynamic\": true}, {\"name\": \"action\", \"rows\": 9},"                      \
    " {\"name\": \"user\", \"dynamic\": true}, {\"name\": \"age\", \"rows\": 6}]"

typedef struct fp16_model {
    const char *name, *config, *longest; /* the key of the longest history */
    double large;                        /* what makes sums of SiLU attention 1e3 and more, scores of a softmax 1e1 */
} fp16_model;

static const fp16_model models[] = {
    {"ranking", RANKING ", \"contextual_mask\": false", "max_history", 8},
    {"ranking, contextual mask", RANKING ", \"contextual_mask\": true", "max_history", 8},
    {"HSTU, SiLU, time bias", "{" HSTU, "max_sequence_length", 8},
    {"HSTU, softmax_rel_bias", "{\"normalization\": \"softmax_rel_bias\", " HSTU, "max_sequence_length", 8},
    {"HSTU, concat_ua", "{\"concat_ua\": true, " HSTU, "max_sequence_length", 8},
    {"SASRec", SASREC, "max_sequence_length", 4},
    {"SASRec, GELU", SASREC ", \"ffn_activation_fn\": \"gelu\"", "max_sequence_length", 4},
    {"decoder", "{\"family\": \"decoder\", \"hidden_size\": 48, \"num_layers\": 2, \"vocab_size\": 301",
        "max_position_embeddings", 4},
};
enum { N_MODELS = sizeof models / sizeof *models };

/* How a model is tried: the projections of its attention are multiplied by `factor`. */
typedef struct fp16_case {
    double factor;
    int longest;
    bool cached;
} fp16_case;

/* ---- checkpoints ---- */

typedef struct weights {
    hs_safetensors_writer *writer;
    const hstu_model *model;
    double factor;
} weights;

static bool is_projection(const hs_weight *w)
{
    return w->rank > 1 && (strstr(w->name, "uvqk") || strstr(w->name, "in_proj") || strstr(w->name, "q_proj") ||
                              strstr(w->name, "k_proj") || strstr(w->name, "v_proj"));
}

static void write_weight(const weights *c, const hs_weight *w, uint64_t stream)
{
    hstu_error err;
    const size_t n = (size_t)hs_weight_elements(w);
    float *value = hs_alloc(n, sizeof *value);
    assert_non_null(value);
    hs_init_fill(c->model->dev, value, (int64_t)n, w->init, w->scale, SEED, stream);
    for (size_t i = 0; is_projection(w) && i < n; i++)
        value[i] *= (float)c->factor;
    assert_ok(hs_safetensors_write(c->writer, value, n * sizeof *value, &err), &err);
    hs_free(value);
}

static void declare_table(const weights *c, int i)
{
    hstu_error err;
    char name[160];
    const hs_config_table *named = &c->model->model.config.table[i];
    const hs_table *t = &c->model->model.table[i];
    const int64_t shape[] = {(int64_t)t->n_rows, (int64_t)t->dim};
    (void)snprintf(name, sizeof name, HS_TABLE_PREFIX "%s.%s", named->name, named->dynamic ? "values" : "weight");
    assert_ok(hs_safetensors_add_tensor(c->writer, name, HS_F32, 2, shape, &err), &err);
    (void)snprintf(name, sizeof name, HS_TABLE_PREFIX "%s.keys", named->name);
    if (named->dynamic)
        assert_ok(hs_safetensors_add_tensor(c->writer, name, HS_I64, 1, shape, &err), &err);
}

/* A random table's keys are its rows' numbers. */
static void write_table(const weights *c, int i)
{
    hstu_error err;
    const hs_table *t = &c->model->model.table[i];
    assert_int_equal(t->n_parts, 1);
    assert_ok(hs_safetensors_write(c->writer, t->part[0].values, t->n_rows * t->dim * sizeof(float), &err), &err);
    for (int64_t key = 0; c->model->model.config.table[i].dynamic && key < (int64_t)t->n_rows; key++)
        assert_ok(hs_safetensors_write(c->writer, &key, sizeof key, &err), &err);
}

/* Random weights of the model's configuration as a file. */
static void write_weights(const char *path, const hstu_model *model, double factor)
{
    hstu_error err;
    hs_weight *weight = NULL;
    size_t n = 0;
    weights c = {.model = model, .factor = factor};
    const int n_tables = model->model.table ? model->model.config.n_tables : 0;
    char *json = hs_config_to_json(&model->model.config);
    assert_non_null(json);
    assert_ok(hs_weight_list(&weight, &n, &model->model.config, NULL, &err), &err);
    assert_ok(hs_safetensors_create(&c.writer, path, &err), &err);
    assert_ok(hs_safetensors_add_metadata(c.writer, HS_CONFIG_METADATA_KEY, json, &err), &err);
    for (size_t i = 0; i < n; i++)
        assert_ok(
            hs_safetensors_add_tensor(c.writer, weight[i].name, HS_F32, weight[i].rank, weight[i].shape, &err), &err);
    for (int i = 0; i < n_tables; i++)
        declare_table(&c, i);
    for (size_t i = 0; i < n; i++)
        write_weight(&c, &weight[i], i);
    for (int i = 0; i < n_tables; i++)
        write_table(&c, i);
    assert_ok(hs_safetensors_commit(c.writer, &err), &err);
    hs_free(weight);
    hs_free(json);
}

static char checkpoint[64];

/* `checkpoint` becomes the model's. */
static void make_checkpoint(const fp16_model *m, const fp16_case *c)
{
    char config[64];
    hstu_error err;
    hstu_model *random = NULL;
    hstu_model_options o;
    (void)snprintf(config, sizeof config, "/tmp/hstu_test_fp16_%ld.json", (long)getpid());
    (void)snprintf(checkpoint, sizeof checkpoint, "/tmp/hstu_test_fp16_%ld.safetensors", (long)getpid());
    FILE *file = fopen(config, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "%s, \"%s\": %d}", m->config, m->longest, c->longest) > 0);
    assert_int_equal(fclose(file), 0);
    hstu_model_options_init(&o);
    o.config = config;
    o.threads = 1;
    o.seed = SEED;
    o.max_item_id = o.max_user_id = ITEMS;
    assert_ok(hstu_model_open(&random, NULL, &o, &err), &err);
    write_weights(checkpoint, random, c->factor);
    hstu_model_close(random);
    assert_int_equal(remove(config), 0);
}

/* ---- sides ---- */

typedef struct side {
    hstu_model *model;
    hstu_session *session;
    hstu_cache *cache; /* or NULL */
} side;

/* The options of a device. Text is static. */
static void options_of(hstu_model_options *o, hstu_npu_options *npu, const char *device)
{
    static char backend[1100];
    static const char *const option[] = {backend, "soc_model=60"}; /* Snapdragon X Elite: its arithmetic */
    hstu_model_options_init(o);
    hstu_npu_options_init(npu);
    o->device = device;
    o->threads = 1;
    o->npu = npu;
    if (strcmp(device, "cpu") != 0)
        o->dtype = "fp16";
    if (strncmp(device, "npu:", 4) != 0)
        return;
    const char *plugin = getenv("HSTU_ORT_QNN"), *file = strrchr(plugin, '/');
    const int n = file ? (int)(file + 1 - plugin) : 0;
    (void)snprintf(backend, sizeof backend, "backend_path=%.*slibQnnHtp.so", n, plugin);
    npu->provider_library = plugin;
    npu->option = option;
    npu->n_options = 2;
}

static void open_side(side *s, const char *device)
{
    hstu_error err;
    hstu_model_options o;
    hstu_npu_options npu;
    options_of(&o, &npu, device);
    assert_ok(hstu_model_open(&s->model, checkpoint, &o, &err), &err);
    assert_ok(hstu_session_open(&s->session, s->model, &err), &err);
    s->cache = NULL;
    if (!hs_pages_no_reuse(&s->model->model.config))
        assert_ok(hs_synthetic_cache(&s->cache, s->model, USERS, 1100, &err), &err);
}

static void close_side(side *s)
{
    hstu_session_close(s->session);
    hstu_cache_close(s->cache);
    hstu_model_close(s->model);
}

/* ---- comparing ---- */

/* INFINITY for what is no number. */
static double error_of(const float *value, const float *expected, int64_t n)
{
    double error = 0;
    for (int64_t i = 0; i < n; i++)
        error = isfinite(value[i]) ? fmax(error, fabs((double)value[i] - (double)expected[i])) : INFINITY;
    return error / largest_magnitude(expected, n);
}

static double ask_both(side *cpu, side *npu, const hs_synthetic *s)
{
    hstu_error err = {0};
    float *expected = hs_calloc((size_t)s->n_values, sizeof *expected);
    float *value = hs_calloc((size_t)s->n_values, sizeof *value);
    assert_non_null(expected);
    assert_non_null(value);
    assert_ok(hs_synthetic_ask(cpu->session, s, expected, &err), &err);
    assert_ok(hs_synthetic_ask(npu->session, s, value, &err), &err);
    const double error = error_of(value, expected, s->n_values);
    hs_free(expected);
    hs_free(value);
    return error;
}

/* Some users' histories, and then with LATER events more behind what a cache holds of them. */
static double compare(const fp16_model *m, const fp16_case *c, const char *device)
{
    const int64_t events[USERS] = {10, c->longest / 2, c->longest};
    int64_t before[USERS], candidates[USERS];
    side cpu, npu;
    hs_synthetic earlier, whole;
    hstu_error err;
    hstu_npu_stats stats;
    make_checkpoint(m, c);
    open_side(&cpu, "cpu");
    open_side(&npu, device);
    for (int u = 0; u < USERS; u++) {
        before[u] = events[u] - LATER;
        candidates[u] = CANDIDATES;
    }
    assert_ok(hs_synthetic_make(&earlier, &cpu.model->model, USERS, before, candidates, SEED, &err), &err);
    assert_ok(hs_synthetic_make(&whole, &cpu.model->model, USERS, events, candidates, SEED, &err), &err);
    double error = ask_both(&cpu, &npu, &whole);
    if (cpu.cache && c->cached) {
        assert_ok(hstu_session_use_cache(cpu.session, cpu.cache, &err), &err);
        assert_ok(hstu_session_use_cache(npu.session, npu.cache, &err), &err);
        error = fmax(error, ask_both(&cpu, &npu, &earlier));
        error = fmax(error, ask_both(&cpu, &npu, &whole));
    }
    assert_ok(hstu_session_get_npu_stats(npu.session, &stats, &err), &err);
    assert_string_equal(stats.compute_dtype, "fp16");
    hs_synthetic_free(&earlier);
    hs_synthetic_free(&whole);
    close_side(&npu);
    close_side(&cpu);
    assert_int_equal(remove(checkpoint), 0);
    return error;
}

/* The weights as they are made, large sums, small ones: error[3]. */
static void compare_sizes(const fp16_model *m, const char *device, int longest, bool cached, double error[3])
{
    const double factor[] = {1, m->large, 0.1};
    for (int i = 0; i < 3; i++) {
        const fp16_case c = {.factor = factor[i], .longest = longest, .cached = cached || i == 0};
        error[i] = compare(m, &c, device);
    }
}

static void test_model(void **state)
{
    const fp16_model *m = *state;
    double own[3], simulated[3] = {0};
    const bool has_simulator = getenv("HSTU_ORT_QNN") != NULL;
    char text[64] = "SKIPPED";
    compare_sizes(m, "ort-cpu", 500, true, own);
    if (has_simulator) {
        compare_sizes(m, "npu:QNNExecutionProvider", SIMULATED_EVENTS, false, simulated);
        (void)snprintf(
            text, sizeof text, "%.1e (large sums %.1e, small %.1e)", simulated[0], simulated[1], simulated[2]);
    }
    printf("%-26s ort-cpu %.1e (large sums %.1e, small %.1e), HTP's simulator %s\n", m->name, own[0], own[1], own[2],
        text);
    for (int i = 0; i < 3; i++) {
        assert_true(own[i] <= ALLOWED);
        assert_true(simulated[i] <= ALLOWED);
    }
}

int main(void)
{
    hstu_model_options o;
    hstu_npu_options npu;
    hstu_error err;
    struct CMUnitTest tests[N_MODELS];
    options_of(&o, &npu, "ort-cpu");
    if (hstu_model_options_check(&o, &err) == HSTU_ENOENT) {
        printf("SKIPPED: test_npu_fp16, for lack of ONNX Runtime: %s\n", err.msg);
        return GOLDEN_SKIPPED;
    }
    if (!getenv("HSTU_ORT_QNN"))
        printf("SKIPPED: the simulator of Qualcomm's HTP: HSTU_ORT_QNN names no library\n");
    for (size_t i = 0; i < N_MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL, (void *)(uintptr_t)&models[i]};
    return cmocka_run_group_tests_name("fp16 against fp32", tests, NULL, NULL);
}
