/* A trained model on real data: the reference's embeddings, layers, ranks and metrics for KuaiRand-Pure. The checkpoint is too
 * large for the repository: HSTU_SHARED names the folder that holds trained/. */
#include "engine/golden.h"

#include "engine/engine.h"
#include "hstu/metric.h"

#include <stdlib.h>

typedef struct trained {
    hstu_model *model;
    hstu_session *session;
} trained;

static bool open_trained(trained *t)
{
    hstu_error err;
    hstu_model_options options;
    char path[1024], config[1024];
    const char *shared = getenv("HSTU_SHARED");
    if (!shared) {
        print_message("HSTU_SHARED is not set: the trained checkpoint is not compared\n");
        return false;
    }
    (void)snprintf(path, sizeof path, "%s/trained/kuairand-pure-hstu/checkpoint.pt", shared);
    (void)snprintf(config, sizeof config, "%s", golden_path("trained", "config.json"));
    golden_options_init(&options);
    options.config = config;
    assert_ok(hstu_model_open(&t->model, path, &options, &err), &err);
    assert_ok(hstu_session_open(&t->session, t->model, &err), &err);
    return true;
}

static void close_trained(trained *t)
{
    hstu_session_close(t->session);
    hstu_model_close(t->model);
}

/* The reference's list, but for scores that its fp32 run cannot tell apart. */
static void compare_list(
    const char *what, const int64_t *id, const int64_t *expected, const float *score, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++) {
        const bool tie = (i % k > 0 && fabsf(score[i - 1] - score[i]) <= 1e-6f) ||
                         (i % k + 1 < k && fabsf(score[i + 1] - score[i]) <= 1e-6f);
        if (id[i] != expected[i] && !tie)
            fail_msg("%s, sample %" PRId64 ", place %" PRId64 ": found id %" PRId64 ", expected %" PRId64, what, i / k,
                i % k, id[i], expected[i]);
    }
}

static void check_top50(const trained *t, const hs_statedict *samples, const golden_batch *b, bool filter)
{
    hstu_error err;
    int64_t n = 0;
    enum { K = 50, USERS = 64 };
    static int64_t item[USERS * K], rank[USERS];
    static float score[USERS * K];
    hstu_recommend_options options;
    int64_t *target = golden_i64(samples, "target_id", &n);
    int64_t *expected_rank = golden_i64(samples, "rank", &n);
    assert_int_equal(n, USERS);
    hstu_recommend_options_init(&options);
    options.filter_seen = filter;
    options.target_id = target;
    assert_ok(hstu_recommend(t->session, &b->batch, K, &options, item, score, rank, &err), &err);
    int64_t *ids = golden_i64(samples, filter ? "top50_ids" : "unfiltered_top50_ids", &n);
    float *scores = golden_f32(samples, filter ? "top50_scores" : "unfiltered_top50_scores", &n);
    assert_close("top-50 scores", score, scores, n, golden_tolerance());
    compare_list(filter ? "filtered" : "unfiltered", item, ids, scores, n, K);
    for (int u = 0; filter && u < USERS; u++) {
        const bool missed = rank[u] == 0 || rank[u] > HSTU_MAX_RANK;
        assert_int_equal(missed ? HSTU_MAX_RANK + 1 : rank[u], expected_rank[u]);
    }
    hs_free(ids);
    hs_free(scores);
    hs_free(target);
    hs_free(expected_rank);
}

static void test_samples(void **state)
{
    trained t;
    hs_statedict samples;
    golden_batch b;
    hstu_error err;
    int64_t n = 0;
    (void)state;
    if (!open_trained(&t))
        skip();
    golden_open(&samples, "trained", "sample_outputs.safetensors");
    golden_batch_make(&b, &samples, &samples, &samples, "past_timestamps");
    float *expected = golden_f32(&samples, "embedding", &n);
    float *emb = hs_calloc((size_t)n, sizeof *emb);
    assert_ok(hstu_encode(t.session, &b.batch, emb, (size_t)n, &err), &err);
    assert_close("embedding", emb, expected, n, golden_tolerance());
    check_top50(&t, &samples, &b, true);
    check_top50(&t, &samples, &b, false);
    hs_free(expected);
    hs_free(emb);
    golden_batch_free(&b);
    hs_statedict_close(&samples);
    close_trained(&t);
}

typedef struct layer_check {
    const hs_statedict *expected;
    const char *prefix;
    int compared;
} layer_check;

/* "x0" and "l<i>.out" against "<prefix>_x0" and "<prefix>_layer<i>". */
static void compare_layer(void *ctx, const char *name, hs_mat m)
{
    layer_check *check = ctx;
    char expected[64];
    if (strcmp(name, "x0") == 0)
        (void)snprintf(expected, sizeof expected, "%s_x0", check->prefix);
    else if (name[0] == 'l' && strcmp(name + 2, ".out") == 0)
        (void)snprintf(expected, sizeof expected, "%s_layer%c", check->prefix, name[1]);
    else
        return;
    int64_t n = 0;
    float *values = golden_f32(check->expected, expected, &n);
    assert_int_equal(n, m.rows * m.cols);
    assert_int_equal(m.ld, m.cols);
    assert_close(expected, m.data, values, n, relative_tolerance(values, n));
    hs_free(values);
    check->compared++;
}

static int64_t read_scalar(const hs_statedict *dict, const char *prefix, const char *name)
{
    char full[64];
    int64_t n = 0;
    (void)snprintf(full, sizeof full, "%s_%s", prefix, name);
    int64_t *value = golden_i64(dict, full, &n);
    const int64_t result = value[0];
    hs_free(value);
    return result;
}

static void check_layers(const trained *t, const hs_statedict *layers, const golden_batch *b, const char *prefix)
{
    hstu_error err;
    hs_arena scratch;
    float emb[64];
    const int64_t u = read_scalar(layers, prefix, "sample_index");
    const int64_t length = b->offset[u + 1] - b->offset[u], offset[2] = {0, length};
    assert_int_equal(length, read_scalar(layers, prefix, "length"));
    const hs_input input = {
        .users = {.n_users = 1, .offset = offset},
        .item_id = b->item + b->offset[u],
        .timestamp = b->time + b->offset[u],
        .query_time = b->query_time + u,
    };
    layer_check check = {.expected = layers, .prefix = prefix};
    const hs_trace trace = {.ctx = &check, .stage = compare_layer};
    hs_arena_init(&scratch, (size_t)1 << 28);
    assert_ok(
        hs_forward(&t->model->model, t->session->whole.dev, &scratch, &input, hs_mat_of(emb, 1, 64), &trace, &err),
        &err);
    hs_arena_free(&scratch);
    assert_int_equal(check.compared, 5);
}

static void test_layers(void **state)
{
    trained t;
    hs_statedict samples, layers;
    golden_batch b;
    (void)state;
    if (!open_trained(&t))
        skip();
    golden_open(&samples, "trained", "sample_outputs.safetensors");
    golden_open(&layers, "trained", "layer_outputs.safetensors");
    golden_batch_make(&b, &samples, &samples, &samples, "past_timestamps");
    check_layers(&t, &layers, &b, "short");
    check_layers(&t, &layers, &b, "median");
    check_layers(&t, &layers, &b, "long");
    golden_batch_free(&b);
    hs_statedict_close(&layers);
    hs_statedict_close(&samples);
    close_trained(&t);
}

/* The lines of ranks.csv: user_id,target_id,rank,history_length,target_score,rank_lo,rank_hi,rank_fp64. */
typedef struct reference {
    long long user, target, rank, low, high;
} reference;

static FILE *open_ranks(void)
{
    char path[1024], header[256];
    (void)snprintf(path, sizeof path, "%s/trained/kuairand-pure-hstu/ranks.csv", getenv("HSTU_SHARED"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(header, sizeof header, file));
    assert_memory_equal(header, "user_id,target_id,rank,history_length,target_score,rank_lo,rank_hi", 66);
    return file;
}

static reference next_reference(FILE *file)
{
    reference r;
    long long length = 0;
    double score = 0.0;
    char line[256];
    assert_non_null(fgets(line, sizeof line, file));
    assert_int_equal(sscanf(line, "%lld,%lld,%lld,%lld,%lf,%lld,%lld", &r.user, &r.target, &r.rank, &length, &score,
                         &r.low, &r.high),
        7);
    return r;
}

static void rank_all(const trained *t, const hstu_histories *h, int64_t *rank)
{
    enum { BATCH = 512 };
    int64_t offset[BATCH + 1];
    hstu_error err;
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;
    for (int64_t first = 0; first < h->n; first += BATCH) {
        const int64_t n = h->n - first < BATCH ? h->n - first : BATCH;
        for (int64_t u = 0; u <= n; u++)
            offset[u] = h->offset[first + u] - h->offset[first];
        const hstu_batch batch = {
            .n_users = (size_t)n,
            .offset = offset,
            .item_id = h->item_id + h->offset[first],
            .timestamp = h->timestamp + h->offset[first],
            .query_time = h->target_time + first,
        };
        options.target_id = h->target_id + first;
        assert_ok(hstu_recommend(t->session, &batch, 0, &options, NULL, NULL, rank + first, &err), &err);
    }
}

/* The whole evaluation: every rank inside the reference's band, metrics within 1e-4 of eval.json. */
static void test_evaluation(void **state)
{
    trained t;
    char path[1024];
    hstu_error err;
    hstu_dataset *dataset = NULL;
    hstu_histories *h = NULL;
    hstu_history_options rules;
    (void)state;
    if (!golden_on_cpu() && strcmp(golden_device(), "ort-cpu") != 0)
        return; /* the samples are enough of devices that need minutes for all users */
    if (!open_trained(&t))
        skip();
    (void)snprintf(path, sizeof path, "%s/trained/kuairand-pure/sasrec_format.csv", getenv("HSTU_SHARED"));
    hstu_model_info info;
    hstu_model_get_info(t.model, &info);
    rules = info.history;
    assert_ok(hstu_dataset_open(&dataset, path, NULL, &err), &err);
    assert_ok(hstu_histories_open(&h, dataset, &rules, &err), &err);
    assert_int_equal(h->n, 20312);
    int64_t *rank = hs_calloc((size_t)h->n, sizeof *rank);
    rank_all(&t, h, rank);

    FILE *file = open_ranks();
    int64_t differ = 0;
    for (int64_t u = 0; u < h->n; u++) {
        const reference r = next_reference(file);
        const bool missed = rank[u] == 0 || rank[u] > HSTU_MAX_RANK;
        const long long found = missed ? HSTU_MAX_RANK + 1 : (long long)rank[u];
        assert_int_equal(h->user_id[u], r.user);
        assert_int_equal(h->target_id[u], r.target);
        if (found < r.low || found > r.high)
            fail_msg("user %lld: rank %lld, the reference's band is %lld .. %lld", r.user, found, r.low, r.high);
        differ += found != r.rank;
    }
    (void)fclose(file);
    print_message("%" PRId64 " of %" PRId64 " ranks differ from the reference's\n", differ, h->n);
    assert_true(fabs(hstu_hit_rate(rank, (size_t)h->n, 10).mean - 0.073159) < 1e-4);
    assert_true(fabs(hstu_hit_rate(rank, (size_t)h->n, 50).mean - 0.222578) < 1e-4);
    assert_true(fabs(hstu_ndcg(rank, (size_t)h->n, 10).mean - 0.036677) < 1e-4);
    assert_true(fabs(hstu_ndcg(rank, (size_t)h->n, 200).mean - 0.105029) < 1e-4);
    assert_true(fabs(hstu_mrr(rank, (size_t)h->n).mean - 0.035577) < 1e-4);
    hs_free(rank);
    hstu_histories_close(h);
    hstu_dataset_close(dataset);
    close_trained(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_evaluation),
    };
    return golden_main(tests);
}
