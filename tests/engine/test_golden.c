/* The retrieval family against the reference's own outputs, stage by stage: tests/data/golden/retrieval. */
#include "engine/stages.h"

#include "engine/engine.h"
#include "hstu/metric.h"

/* One case: its model and files. */
typedef struct golden_case {
    char folder[128];
    hstu_model *model;
    hstu_session *session;
    hs_statedict inputs;
} golden_case;

static void open_case(golden_case *c, const char *name, const char *checkpoint)
{
    hstu_error err;
    hstu_model_options options;
    char path[1024];
    memset(c, 0, sizeof *c);
    (void)snprintf(c->folder, sizeof c->folder, "retrieval/%s", name);
    (void)snprintf(path, sizeof path, "%s", golden_path(c->folder, checkpoint));
    golden_options_init(&options); /* config.json is found beside the checkpoint */
    assert_ok(hstu_model_open(&c->model, path, &options, &err), &err);
    assert_ok(hstu_session_open(&c->session, c->model, &err), &err);
    golden_open(&c->inputs, c->folder, "inputs.safetensors");
}

static void close_case(golden_case *c)
{
    hs_statedict_close(&c->inputs);
    hstu_session_close(c->session);
    hstu_model_close(c->model);
}

static void trace_case(golden_case *c, const golden_batch *b, stages *out)
{
    hstu_error err;
    hs_arena scratch;
    const int64_t n = (int64_t)b->batch.n_users, dim = c->model->model.config.item_embedding_dim;
    hs_arena_init(&scratch, (size_t)1 << 30);
    const hs_input input = {
        .users = {.n_users = n, .offset = b->offset},
        .item_id = b->item,
        .timestamp = b->batch.timestamp,
        .query_time = b->batch.query_time,
    };
    float *emb = hs_alloc((size_t)(n * dim), sizeof *emb);
    const hs_trace trace = {.ctx = out, .stage = keep_stage};
    out->n = 0;
    assert_ok(
        hs_forward(&c->model->model, c->session->whole.dev, &scratch, &input, hs_mat_of(emb, n, dim), &trace, &err),
        &err);
    hs_free(emb);
    hs_arena_free(&scratch);
}

/* Compares one traced stage with the expected tensor; the final embedding has an absolute tolerance. */
static void compare_stage(const stages *s, const hs_statedict *expected, const char *name, const char *expected_name)
{
    int64_t n = 0;
    const stage *found = find_stage(s, name);
    float *values = golden_f32(expected, expected_name, &n);
    if (n != found->rows * found->cols)
        fail_msg("%s has %" PRId64 " values, expected %" PRId64, name, found->rows * found->cols, n);
    const bool last = strcmp(name, "user_emb") == 0;
    assert_close(name, found->data, values, n, last ? golden_tolerance() : relative_tolerance(values, n));
    hs_free(values);
}

/* Every expected stage that the forward pass has, in the order in which it is computed. Returns how many. */
static int compare_stages(const stages *s, const hs_statedict *expected)
{
    int compared = 0;
    for (int i = 0; i < s->n; i++) {
        if (!hs_statedict_find(expected, "", s->item[i].name) || strstr(s->item[i].name, "mha_out"))
            continue;
        compare_stage(s, expected, s->item[i].name, s->item[i].name);
        compared++;
    }
    return compared;
}

static int64_t n_blocks(const golden_case *c)
{
    return c->model->model.config.num_blocks;
}

/* Values that the forward pass never holds as such: LN(attn), and every row's normalised output. */
static void compare_derived(golden_case *c, const stages *s, const hs_statedict *expected)
{
    hstu_error err;
    const hs_config *config = &c->model->model.config;
    const bool hstu = config->main_module == HS_MODULE_HSTU;
    char name[64];
    hs_device *cpu = NULL;
    assert_ok(hs_device_open(&cpu, &(hs_device_options){.name = "cpu"}, &err), &err);
    for (int64_t l = 0; hstu && l < n_blocks(c); l++) {
        (void)snprintf(name, sizeof name, "l%" PRId64 ".attn_norm", l);
        if (!hs_statedict_find(expected, "", name))
            continue;
        char attn[64];
        (void)snprintf(attn, sizeof attn, "l%" PRId64 ".attn", l);
        stage normed = *find_stage(s, attn);
        hs_mat m = hs_mat_of(normed.data, normed.rows, normed.cols);
        int64_t n = 0;
        float *values = golden_f32(expected, name, &n);
        assert_int_equal(n, normed.rows * normed.cols);
        assert_ok(hs_op_layer_norm(cpu, &(hs_layer_norm_args){.out = m, .x = m, .eps = 1e-6f}, &err), &err);
        assert_close(name, normed.data, values, n, relative_tolerance(values, n));
        hs_free(values);
    }
    (void)snprintf(name, sizeof name, "l%" PRId64 ".%s", n_blocks(c) - 1, hstu ? "out" : "ffn_out");
    const stage *last = find_stage(s, name);
    const hs_mat m = hs_mat_of(last->data, last->rows, last->cols);
    int64_t n = 0;
    float *values = golden_f32(expected, "encoded", &n);
    if (config->user_embedding_norm == HS_USER_L2)
        assert_ok(hs_op_l2_norm(cpu, &(hs_l2_norm_args){.out = m, .x = m, .eps = 1e-6f}, &err), &err);
    else
        assert_ok(hs_op_layer_norm(cpu, &(hs_layer_norm_args){.out = m, .x = m, .eps = 1e-6f}, &err), &err);
    assert_close("encoded", last->data, values, n, relative_tolerance(values, n));
    hs_free(values);
    hs_device_close(cpu);
}

/* l<i>.rel_bias_user2 [37, 37]: position_w[N - 1 + j - i] + time_w[bucket], for j <= i. */
static void compare_bias(golden_case *c, const golden_batch *b, const hs_statedict *expected)
{
    hstu_error err;
    const hs_config *config = &c->model->model.config;
    const int64_t length = b->offset[3] - b->offset[2], n = config->attention_n;
    const int64_t offset[2] = {0, length}, out_offset[1] = {0};
    uint8_t *bucket = hs_calloc((size_t)(length * length), 1);
    assert_ok(hs_op_time_bucket(c->session->whole.dev,
                  &(hs_time_bucket_args){.out = bucket,
                      .out_offset = out_offset,
                      .users = {.n_users = 1, .offset = offset},
                      .timestamp = b->time + b->offset[2],
                      .query_time = b->query_time + 2,
                      .n = n,
                      .n_buckets = config->num_time_buckets},
                  &err),
        &err);
    for (int64_t l = 0; l < n_blocks(c); l++) {
        char name[64];
        int64_t elements = 0;
        (void)snprintf(name, sizeof name, "l%" PRId64 ".rel_bias_user2", l);
        float *values = golden_f32(expected, name, &elements);
        assert_int_equal(elements, length * length);
        const hs_hstu_layer *layer = &c->model->model.weight.hstu[l];
        for (int64_t i = 0; i < length; i++) {
            for (int64_t j = 0; j <= i; j++) {
                const float bias = layer->position_w[n - 1 + j - i] + layer->time_w[bucket[i * length + j]];
                if (bias != values[i * length + j])
                    fail_msg("%s [%" PRId64 ", %" PRId64 "]: found %.9g, expected %.9g", name, i, j, (double)bias,
                        (double)values[i * length + j]);
            }
        }
        hs_free(values);
    }
    hs_free(bucket);
}

/* Ids must be equal but where neighbouring expected scores are within 1e-6 of each other. */
static void compare_ids(
    const char *what, const int64_t *id, const int64_t *expected, const float *score, int64_t users, int64_t k)
{
    for (int64_t u = 0; u < users; u++) {
        for (int64_t i = 0; i < k; i++) {
            const int64_t at = u * k + i;
            if (id[at] == expected[at])
                continue;
            const bool tie = (i > 0 && fabsf(score[at - 1] - score[at]) <= 1e-6f) ||
                             (i + 1 < k && fabsf(score[at + 1] - score[at]) <= 1e-6f);
            if (!tie)
                fail_msg("%s, user %" PRId64 ", place %" PRId64 ": found id %" PRId64 ", expected %" PRId64, what, u, i,
                    id[at], expected[at]);
        }
    }
}

static void compare_topk(
    golden_case *c, const golden_batch *b, const hs_statedict *expected, const char *prefix, bool filter)
{
    hstu_error err;
    char name[64];
    int64_t n = 0, n_candidates = 0;
    const size_t users = b->batch.n_users;
    int64_t *candidate = golden_i64(&c->inputs, "all_item_ids", &n_candidates);
    (void)snprintf(name, sizeof name, "%s_ids", prefix);
    int64_t *ids = golden_i64(expected, name, &n);
    (void)snprintf(name, sizeof name, "%s_scores", prefix);
    float *scores = golden_f32(expected, name, &n);
    const size_t k = (size_t)n / users;
    int64_t *item = hs_calloc((size_t)n, sizeof *item);
    float *score = hs_calloc((size_t)n, sizeof *score);
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = filter;
    options.candidate_id = candidate;
    options.n_candidates = (size_t)n_candidates;
    assert_ok(hstu_recommend(c->session, &b->batch, k, &options, item, score, NULL, &err), &err);
    assert_close(name, score, scores, n, golden_tolerance() * fmax(1.0, relative_tolerance(scores, n) / 1e-5));
    compare_ids(prefix, item, ids, scores, (int64_t)users, (int64_t)k);
    hs_free(candidate);
    hs_free(ids);
    hs_free(scores);
    hs_free(item);
    hs_free(score);
}

/* `scores` [users, candidates] in the order of all_item_ids: the whole list, ranked, put back by id. */
static void compare_scores(golden_case *c, const golden_batch *b, const hs_statedict *expected)
{
    hstu_error err;
    int64_t n_candidates = 0, n = 0;
    const size_t users = b->batch.n_users;
    int64_t *candidate = golden_i64(&c->inputs, "all_item_ids", &n_candidates);
    float *scores = golden_f32(expected, "scores", &n);
    assert_int_equal(n, (int64_t)users * n_candidates);
    int64_t *item = hs_calloc((size_t)n, sizeof *item);
    float *score = hs_calloc((size_t)n, sizeof *score), *by_place = hs_calloc((size_t)n, sizeof *by_place);
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.candidate_id = candidate;
    options.n_candidates = (size_t)n_candidates;
    assert_ok(hstu_recommend(c->session, &b->batch, (size_t)n_candidates, &options, item, score, NULL, &err), &err);
    const size_t rows = (size_t)c->model->model.config.max_item_id + 1;
    int64_t *place = hs_calloc(rows, sizeof *place); /* in all_item_ids, by id */
    for (int64_t j = 0; j < n_candidates; j++)
        place[candidate[j]] = j;
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(item[i], 1, rows - 1);
        by_place[i / n_candidates * n_candidates + place[item[i]]] = score[i];
    }
    hs_free(place);
    assert_close("scores", by_place, scores, n, golden_tolerance() * fmax(1.0, relative_tolerance(scores, n) / 1e-5));
    hs_free(candidate);
    hs_free(scores);
    hs_free(item);
    hs_free(score);
    hs_free(by_place);
}

/* The plain case: inputs.safetensors gives expected.safetensors. Returns the number of stages compared. */
static int check_plain(golden_case *c)
{
    golden_batch b;
    hs_statedict expected;
    stages s;
    golden_open(&expected, c->folder, "expected.safetensors");
    golden_batch_make(&b, &c->inputs, &c->inputs, &c->inputs, "timestamps");
    trace_case(c, &b, &s);
    const int compared = compare_stages(&s, &expected);
    compare_derived(c, &s, &expected);
    if (hs_statedict_find(&expected, "", "l0.rel_bias_user2"))
        compare_bias(c, &b, &expected);
    compare_scores(c, &b, &expected);
    compare_topk(c, &b, &expected, "topk", true);
    compare_topk(c, &b, &expected, "topk_unfiltered", false);
    free_stages(&s);
    golden_batch_free(&b);
    hs_statedict_close(&expected);
    return compared;
}

static void run_plain(const char *name, int stages_per_layer)
{
    golden_case c;
    open_case(&c, name, "checkpoint_ep100");
    assert_int_equal(check_plain(&c), 2 + stages_per_layer * (int)n_blocks(&c)); /* x0 and user_emb */
    close_case(&c);
}

/* normed, u, v, q, k, attn, o_in, out */
static void test_base(void **state)
{
    (void)state;
    run_plain("base_h1_n71", 8);
}

static void test_concat_ua(void **state)
{
    (void)state;
    run_plain("concat_ua_n71", 8);
}

static void test_no_activation_layer_norm_out(void **state)
{
    (void)state;
    run_plain("linact_none_layernorm_out_n71", 8);
}

static void test_softmax_rel_bias(void **state)
{
    (void)state;
    run_plain("softmax_rel_bias_n71", 8);
}

static void test_softmax_without_bias(void **state)
{
    (void)state;
    run_plain("softmax_nobias_n71", 8);
}

static void test_two_heads_n211(void **state)
{
    (void)state;
    run_plain("h2_n211_eval", 7); /* its file has no o_in */
}

/* expected_<variant>: the stages and, where they are there, scores and top-k. */
static void check_variant(golden_case *c, const golden_batch *b, const char *file)
{
    hs_statedict expected;
    stages s;
    golden_open(&expected, c->folder, file);
    trace_case(c, b, &s);
    assert_int_equal(compare_stages(&s, &expected), 1 + 2 * (int)n_blocks(c)); /* attn, out; user_emb */
    if (hs_statedict_find(&expected, "", "scores")) {
        compare_scores(c, b, &expected);
        compare_topk(c, b, &expected, "topk", true);
    }
    free_stages(&s);
    hs_statedict_close(&expected);
}

static void run_request_time(const char *name)
{
    golden_case c;
    golden_batch b;
    hs_statedict times;
    open_case(&c, name, "checkpoint_ep100");
    golden_open(&times, c.folder, "inputs_request_time.safetensors");
    golden_batch_make(&b, &c.inputs, &c.inputs, &times, "timestamps");
    check_variant(&c, &b, "expected_request_time.safetensors");
    golden_batch_free(&b);
    hs_statedict_close(&times);
    close_case(&c);
}

static void test_request_time(void **state)
{
    (void)state;
    run_request_time("base_h1_n71");
    run_request_time("h2_n211_eval");
}

static void test_no_timestamps(void **state)
{
    golden_case c;
    golden_batch b;
    (void)state;
    open_case(&c, "base_h1_n71", "checkpoint_ep100");
    golden_batch_make(&b, &c.inputs, &c.inputs, NULL, NULL);
    check_variant(&c, &b, "expected_no_timestamps.safetensors");
    golden_batch_free(&b);
    close_case(&c);
}

/* The reference's cache replaces the last item; computing the swapped history anew must give the same. */
static void test_cache_swap(void **state)
{
    golden_case c;
    golden_batch b;
    stages s;
    hs_statedict swapped, expected;
    (void)state;
    open_case(&c, "base_h1_n71", "checkpoint_ep100");
    golden_open(&swapped, c.folder, "inputs_cache_swap.safetensors");
    golden_open(&expected, c.folder, "expected_cache_swap.safetensors");
    golden_batch_make(&b, &swapped, &c.inputs, &c.inputs, "timestamps");
    trace_case(&c, &b, &s);
    compare_stage(&s, &expected, "user_emb", "user_emb_full_recompute");
    compare_stage(&s, &expected, "user_emb", "user_emb");
    free_stages(&s);
    golden_batch_free(&b);

    /* What the reference's cache held before the swap. */
    golden_batch_make(&b, &c.inputs, &c.inputs, &c.inputs, "timestamps");
    trace_case(&c, &b, &s);
    compare_stage(&s, &expected, "l0.v", "l0.cache_v");
    compare_stage(&s, &expected, "l1.v", "l1.cache_v");
    compare_stage(&s, &expected, "l0.out", "l0.cache_out");
    compare_stage(&s, &expected, "l1.out", "l1.cache_out");
    free_stages(&s);
    golden_batch_free(&b);
    hs_statedict_close(&expected);
    hs_statedict_close(&swapped);
    close_case(&c);
}

/* The file's mha_out was packed from [position, user] instead of [user, position]: its row groups are positions 0 .. 3, cut to
 * the users' lengths 1, 2, 4, 4. Rows whose position lies inside the user's history can be compared. */
static void compare_mha_out(const stages *s, const hs_statedict *expected, const golden_batch *b, int64_t layer)
{
    char name[64];
    int64_t n = 0, row = 0;
    (void)snprintf(name, sizeof name, "l%" PRId64 ".mha_out", layer);
    const stage *found = find_stage(s, name);
    float *values = golden_f32(expected, name, &n);
    const int64_t users = (int64_t)b->batch.n_users;
    int compared = 0;
    for (int64_t position = 0; position < users; position++) {
        const int64_t length = b->offset[position + 1] - b->offset[position];
        for (int64_t u = 0; u < (length < users ? length : users); u++, row++) {
            if (position >= b->offset[u + 1] - b->offset[u])
                continue;
            assert_close(name, found->data + (b->offset[u] + position) * found->cols, values + row * found->cols,
                found->cols, relative_tolerance(values, n));
            compared++;
        }
    }
    assert_int_equal(row * found->cols, n);
    assert_int_equal(compared, 6);
    hs_free(values);
}

static void run_sasrec(const char *checkpoint)
{
    golden_case c;
    golden_batch b;
    hs_statedict expected;
    stages s;
    open_case(&c, "sasrec_h2_n71", checkpoint);
    assert_int_equal(check_plain(&c), 2 + 2 * (int)n_blocks(&c)); /* ffn_in, ffn_out */
    golden_open(&expected, c.folder, "expected.safetensors");
    golden_batch_make(&b, &c.inputs, &c.inputs, &c.inputs, "timestamps");
    trace_case(&c, &b, &s);
    for (int64_t l = 0; l < n_blocks(&c); l++)
        compare_mha_out(&s, &expected, &b, l);
    free_stages(&s);
    golden_batch_free(&b);
    hs_statedict_close(&expected);
    close_case(&c);
}

static void test_sasrec(void **state)
{
    (void)state;
    run_sasrec("checkpoint_ep100");
    run_sasrec("checkpoint_ep100.torch2.11");
}

/* The reference's evaluation: rank among 2,800 candidates without the seen ones, then its metrics per user. */
static void test_evaluation(void **state)
{
    golden_case c;
    golden_batch b;
    hs_statedict expected;
    hstu_error err;
    int64_t n = 0, n_candidates = 0, rank[5];
    (void)state;
    open_case(&c, "h2_n211_eval", "checkpoint_ep100");
    golden_open(&expected, c.folder, "expected.safetensors");
    golden_batch_make(&b, &c.inputs, &c.inputs, &c.inputs, "timestamps");
    int64_t *target = golden_i64(&c.inputs, "eval_target_ids", &n);
    assert_int_equal(n, 5);
    int64_t *candidate = golden_i64(&c.inputs, "all_item_ids", &n_candidates);
    int64_t *expected_rank = golden_i64(&expected, "eval_rank", &n);
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;
    options.candidate_id = candidate;
    options.n_candidates = (size_t)n_candidates;
    options.target_id = target;
    assert_ok(hstu_recommend(c.session, &b.batch, 0, &options, NULL, NULL, rank, &err), &err);
    for (int u = 0; u < 5; u++) {
        assert_int_equal(rank[u] ? rank[u] : HSTU_MAX_RANK + 1, expected_rank[u]);
        static const int64_t at[] = {1, 10, 50, 100, 200, 500, 1000};
        for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
            char name[64];
            float values[5];
            (void)snprintf(name, sizeof name, "metric.hr@%" PRId64, at[i]);
            hs_tensor_to_f32(golden_tensor(&expected, name), values);
            assert_true(hstu_hit_rate(&rank[u], 1, at[i]).mean == (double)values[u]);
            if (at[i] > 200)
                continue;
            (void)snprintf(name, sizeof name, "metric.ndcg@%" PRId64, at[i]);
            hs_tensor_to_f32(golden_tensor(&expected, name), values);
            assert_true(fabs(hstu_ndcg(&rank[u], 1, at[i]).mean - (double)values[u]) < 1e-6);
        }
        float mrr[5];
        hs_tensor_to_f32(golden_tensor(&expected, "metric.mrr"), mrr);
        assert_true(fabs(hstu_mrr(&rank[u], 1).mean - (double)mrr[u]) < 1e-6);
    }
    hs_free(target);
    hs_free(candidate);
    hs_free(expected_rank);
    golden_batch_free(&b);
    hs_statedict_close(&expected);
    close_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_concat_ua),
        cmocka_unit_test(test_no_activation_layer_norm_out),
        cmocka_unit_test(test_softmax_rel_bias),
        cmocka_unit_test(test_softmax_without_bias),
        cmocka_unit_test(test_two_heads_n211),
        cmocka_unit_test(test_request_time),
        cmocka_unit_test(test_no_timestamps),
        cmocka_unit_test(test_cache_swap),
        cmocka_unit_test(test_sasrec),
        cmocka_unit_test(test_evaluation),
    };
    return golden_main(tests);
}
