/* The decoder against the original's own outputs: tests/data/golden/decoder. */
#include "engine/stages.h"

#include "engine/engine.h"
#include "model/load.h"

enum { USERS = 3, LENGTH = 12, DIM = 32, VOCABULARY = 61 };

typedef struct decoder_case {
    hstu_model *model;
    hstu_session *session;
} decoder_case;

/* config.json is found beside the checkpoint. */
static void open_case(decoder_case *c, const char *checkpoint, const char *dtype)
{
    hstu_error err;
    hstu_model_options options;
    char path[1024];
    golden_options_init(&options);
    options.dtype = dtype;
    (void)snprintf(path, sizeof path, "%s", golden_path("decoder/model_fp32", checkpoint));
    assert_ok(hstu_model_open(&c->model, path, &options, &err), &err);
    assert_ok(hstu_session_open(&c->session, c->model, &err), &err);
}

static void close_case(decoder_case *c)
{
    hstu_session_close(c->session);
    hstu_model_close(c->model);
}

/* The score of every item, by id, [n_users, VOCABULARY]. */
static float *all_scores(decoder_case *c, const hstu_batch *batch)
{
    hstu_error err;
    const size_t n = batch->n_users * VOCABULARY;
    int64_t *item = hs_calloc(n, sizeof *item);
    float *score = hs_calloc(n, sizeof *score), *by_id = hs_calloc(n, sizeof *by_id);
    assert_ok(hstu_recommend(c->session, batch, VOCABULARY, NULL, item, score, NULL, &err), &err);
    for (size_t i = 0; i < n; i++) {
        assert_in_range(item[i], 0, VOCABULARY - 1);
        by_id[i / VOCABULARY * VOCABULARY + (size_t)item[i]] = score[i];
    }
    hs_free(item);
    hs_free(score);
    return by_id;
}

/* inputs_fresh: tokens [LENGTH, USERS] with pads of id 0 in front, which the original attends like any item. */
static void fresh_batch(int64_t *offset, int64_t *item)
{
    hs_statedict inputs;
    int64_t n = 0;
    golden_open(&inputs, "decoder/model_fp32", "inputs_fresh.safetensors");
    int64_t *tokens = golden_i64(&inputs, "tokens", &n);
    assert_int_equal(n, LENGTH * USERS);
    for (int64_t u = 0; u <= USERS; u++)
        offset[u] = u * LENGTH;
    for (int64_t i = 0; i < n; i++)
        item[i % USERS * LENGTH + i / USERS] = tokens[i];
    hs_free(tokens);
    hs_statedict_close(&inputs);
}

static void trace_fresh(decoder_case *c, const int64_t *offset, const int64_t *item, stages *out, float *emb)
{
    hstu_error err;
    hs_arena arena;
    hs_arena_init(&arena, (size_t)1 << 28);
    const hs_input input = {.users = {.n_users = USERS, .offset = offset}, .item_id = item};
    const hs_trace trace = {.ctx = out, .stage = keep_stage};
    out->n = 0;
    assert_ok(
        hs_forward(&c->model->model, c->session->whole.dev, &arena, &input, hs_mat_of(emb, USERS, DIM), &trace, &err),
        &err);
    hs_arena_free(&arena);
}

/* Expected stages are [LENGTH, USERS, cols], or one tensor for each user, "<stage>.row<user>". Returns how many were compared. */
static int compare_stage(const stage *found, const hs_statedict *expected)
{
    const int64_t cols = found->cols;
    int compared = 0;
    for (int64_t u = 0; u < USERS && found->rows == LENGTH * USERS; u++) {
        char name[96];
        int64_t n = 0;
        (void)snprintf(name, sizeof name, "%s.row%d", found->name, (int)u);
        const bool apart = hs_statedict_find(expected, "", name) != NULL;
        if (!apart && !hs_statedict_find(expected, "", found->name))
            continue;
        float *all = golden_f32(expected, apart ? name : found->name, &n);
        assert_int_equal(n, apart ? LENGTH * cols : LENGTH * USERS * cols);
        const double tolerance = relative_tolerance(all, n);
        for (int64_t r = 0; r < LENGTH; r++)
            assert_close(found->name, found->data + (u * LENGTH + r) * cols,
                all + (apart ? r * cols : (r * USERS + u) * cols), cols, tolerance);
        hs_free(all);
        compared++;
    }
    return compared;
}

static void check_fresh(const char *checkpoint)
{
    decoder_case c;
    stages s;
    hs_statedict expected;
    int64_t offset[USERS + 1], item[LENGTH * USERS], n = 0;
    float emb[USERS * DIM];
    int compared = 0;
    open_case(&c, checkpoint, "fp32");
    golden_open(&expected, "decoder/model_fp32", "expected_fresh.safetensors");
    fresh_batch(offset, item);
    trace_fresh(&c, offset, item, &s, emb);
    for (int i = 0; i < s.n; i++)
        compared += compare_stage(&s.item[i], &expected);
    assert_int_equal(compared, USERS * (1 + 6 * 3)); /* x0; q, k, v, attn, ffn_in, out of three layers */

    float *norm = golden_f32(&expected, "final_norm", &n);
    float *logits = golden_f32(&expected, "logits", &n);
    const hstu_batch batch = {.n_users = USERS, .offset = offset, .item_id = item};
    float *scores = all_scores(&c, &batch);
    const float *last_norm = norm + (LENGTH - 1) * USERS * DIM;
    const float *last_logits = logits + (LENGTH - 1) * USERS * VOCABULARY;
    assert_close("final_norm", emb, last_norm, USERS * DIM, 1e-5);
    assert_close("logits", scores, last_logits, USERS * VOCABULARY, 1e-5);

    hstu_error err;
    int64_t top[USERS * 5], *top_expected = golden_i64(&expected, "top5_ids", &n);
    float top_score[USERS * 5];
    assert_ok(hstu_recommend(c.session, &batch, 5, NULL, top, top_score, NULL, &err), &err);
    assert_int_equal(n, USERS * 5);
    assert_memory_equal(top, top_expected, sizeof top);
    hs_free(top_expected);
    hs_free(norm);
    hs_free(logits);
    hs_free(scores);
    free_stages(&s);
    hs_statedict_close(&expected);
    close_case(&c);
}

static void test_fresh(void **state)
{
    (void)state;
    check_fresh("model_raw.pt");
    check_fresh("model_wrapped.pt");
    check_fresh("model_raw.torch2.11.pt");
}

/* The history of both calls in one call, without a cache: what a cache that does not lie must answer, too. */
static void test_two_calls(void **state)
{
    (void)state;
    decoder_case c;
    hs_statedict inputs, expected;
    int64_t n_first = 0, n_second = 0, n = 0, item[LENGTH];
    open_case(&c, "model_raw.pt", "fp32");
    golden_open(&inputs, "decoder/model_fp32", "inputs_two_calls.safetensors");
    golden_open(&expected, "decoder/model_fp32", "expected_two_calls.safetensors");
    int64_t *first = golden_i64(&inputs, "tokens1", &n_first), *second = golden_i64(&inputs, "tokens2", &n_second);
    float *logits = golden_f32(&expected, "uncached_concat_logits", &n);
    assert_int_equal(n, n_second * VOCABULARY);
    memcpy(item, first, (size_t)n_first * sizeof *item);
    memcpy(item + n_first, second, (size_t)n_second * sizeof *item);
    for (int64_t i = 0; i < n_second; i++) {
        const int64_t offset[2] = {0, n_first + i + 1};
        float *scores = all_scores(&c, &(hstu_batch){.n_users = 1, .offset = offset, .item_id = item});
        assert_close("uncached_concat_logits", scores, logits + i * VOCABULARY, VOCABULARY, 1e-5);
        hs_free(scores);
    }
    hs_free(first);
    hs_free(second);
    hs_free(logits);
    hs_statedict_close(&inputs);
    hs_statedict_close(&expected);
    close_case(&c);
}

/* Weights rounded by the original and by us are the same; bfloat16 arithmetic stays near fp32. */
static void test_bf16(void **state)
{
    (void)state;
    decoder_case stored, rounded, exact;
    int64_t offset[USERS + 1], item[LENGTH * USERS];
    open_case(&stored, "model_raw_bf16.pt", "bf16");
    open_case(&rounded, "model_raw.pt", "bf16");
    open_case(&exact, "model_raw.pt", "fp32");
    fresh_batch(offset, item);
    const hstu_batch batch = {.n_users = USERS, .offset = offset, .item_id = item};
    float *a = all_scores(&stored, &batch), *b = all_scores(&rounded, &batch), *c = all_scores(&exact, &batch);
    const double most = largest_magnitude(c, USERS * VOCABULARY);
    assert_memory_equal(a, b, USERS * VOCABULARY * sizeof *a);
    assert_true(memcmp(a, c, USERS * VOCABULARY * sizeof *a) != 0);
    assert_close("bf16 logits", a, c, USERS * VOCABULARY, 0.01 * most);
    hs_free(a);
    hs_free(b);
    hs_free(c);
    close_case(&stored);
    close_case(&rounded);
    close_case(&exact);
}

static void compare_positions(hs_device *dev, const hs_statedict *expected, int64_t dim)
{
    enum { ROWS = 4096 };
    char name[32];
    int64_t n_rows = 0, n = 0;
    float *table = hs_calloc((size_t)(ROWS * dim), sizeof *table);
    int64_t *rows = golden_i64(expected, "rows", &n_rows);
    (void)snprintf(name, sizeof name, "pe_%d", (int)dim);
    float *fp32 = golden_f32(expected, name, &n);
    (void)snprintf(name, sizeof name, "pe_%d_bf16", (int)dim);
    float *bf16 = golden_f32(expected, name, &n);
    assert_int_equal(n, n_rows * dim);
    hs_load_sinusoids(dev, table, ROWS, dim);
    for (int64_t i = 0; i < n_rows; i++)
        assert_close("position", table + rows[i] * dim, fp32 + i * dim, dim, 1e-7);
    hs_load_round_bf16(dev, table, ROWS * dim);
    for (int64_t i = 0; i < n_rows; i++)
        assert_close("position in bf16", table + rows[i] * dim, bf16 + i * dim, dim, 0.0);
    hs_free(table);
    hs_free(rows);
    hs_free(fp32);
    hs_free(bf16);
}

static void test_positions(void **state)
{
    (void)state;
    decoder_case c;
    hs_statedict expected;
    int64_t n = 0;
    open_case(&c, "model_raw.pt", "fp32");
    golden_open(&expected, "decoder/model_fp32", "position_table.safetensors");
    float *table = golden_f32(&expected, "pe", &n);
    assert_int_equal(n, c.model->model.config.max_position_embeddings * DIM);
    assert_close("position", c.model->model.weight.position, table, n, 1e-7);
    hs_free(table);
    hs_statedict_close(&expected);
    golden_open(&expected, "decoder/position_table_4096", "expected.safetensors");
    compare_positions(c.session->whole.dev, &expected, 64);
    compare_positions(c.session->whole.dev, &expected, 512);
    hs_statedict_close(&expected);
    close_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_two_calls),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_positions),
    };
    return golden_main(tests);
}
