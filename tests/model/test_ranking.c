/* The ranking model's forward pass on small random models: contextual features of any number of ids, users without tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/forward.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { USERS = 3, CLASSES = 5, N_ITEMS = 9 };

/* Contextual feature `a`, and with `more` features b and c, all in one table. */
static void make_model(hs_model *out, hs_device *dev, const char *more, const char *more_tables, bool bf16)
{
    hs_config c;
    hstu_error err;
    char text[1024];
    (void)snprintf(text, sizeof text,
        "{\"family\": \"ranking\", \"hidden_size\": 12, \"num_layers\": 2, \"num_heads\": 2, \"head_dim\": 8, "
        "\"num_position_buckets\": 8, \"N\": 20, \"max_history\": 6, \"max_candidates\": 4, \"contextual_mask\": true, "
        "\"contextual\": [\"a\"%s], \"item_feature\": \"item\", \"action_feature\": \"action\", "
        "\"prediction_head_arch\": [6, 5], \"feature_to_table\": {\"a\": \"user\"%s}, \"tables\": [{\"name\": "
        "\"user\", "
        "\"rows\": 7}, {\"name\": \"item\", \"dynamic\": true}, {\"name\": \"action\", \"rows\": 4}]}",
        more, more_tables);
    if (hs_config_parse(&c, text, strlen(text), HS_CONFIG_ANY, "test", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    const hs_model_random_options o = {.seed = 11, .bf16 = bf16, .n_items = N_ITEMS};
    if (hs_model_random(out, &c, dev, &o, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

/* Two events and two candidates, nothing at all, a candidate alone. */
static const int64_t offset[USERS + 1] = {0, 2, 2, 2}, cand_offset[USERS + 1] = {0, 2, 2, 3};
static const int64_t item[] = {1, 8}, action[] = {3, 0}, cand[] = {4, 100, 2}; /* 100: a zero row */
static const int64_t context[] = {6, 0, 2, 5};
static const hstu_batch users = {.n_users = USERS,
    .offset = offset,
    .item_id = item,
    .action = action,
    .cand_offset = cand_offset,
    .cand_id = cand,
    .context = context};

/* Runs users first .. end - 1, whose contextual ids begin at context_first. */
static void run(const hs_model *model, const hstu_batch *batch, int64_t first, int64_t end,
    const int64_t *context_first, float *logits)
{
    hs_arena arena;
    hstu_error err;
    const hs_ranking_input in = {.batch = batch,
        .first = first,
        .end = end,
        .item_first = offset,
        .action_first = offset,
        .context_first = context_first};
    hs_arena_init(&arena, 1 << 20);
    const hs_mat out = hs_mat_of(logits, cand_offset[end] - cand_offset[first], CLASSES);
    if (hs_ranking_forward(model, model->dev, &arena, &in, out, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hs_arena_free(&arena);
}

/* The same table serves three features of one id, or one of three ids: the tokens are the same. */
static void check_ids(bool bf16)
{
    hs_model one, three;
    hs_device *dev = NULL;
    hstu_error err;
    float found[3 * CLASSES], expected[3 * CLASSES];
    static const int64_t length[] = {3, 0, 1}, place[] = {0, 3, 3};
    static const int64_t lengths[] = {1, 2, 0, 0, 0, 0, 0, 0, 1};
    hstu_batch batch = users;
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 1}, &err), HSTU_OK);
    make_model(&one, dev, "", "", bf16);
    make_model(&three, dev, ", \"b\", \"c\"", ", \"b\": \"user\", \"c\": \"user\"", bf16);
    batch.context_length = length;
    run(&one, &batch, 0, USERS, place, found);
    batch.context_length = lengths;
    run(&three, &batch, 0, USERS, place, expected);
    assert_memory_equal(found, expected, sizeof found);
    for (int i = 0; i < 3 * CLASSES; i++)
        assert_true(isfinite(found[i]));

    batch.context_length = NULL; /* one id each */
    run(&three, &batch, 0, 1, place, expected);
    assert_memory_equal(found, expected, 2 * CLASSES * sizeof *found);
    run(&one, &batch, 0, 1, place, expected); /* its first id alone */
    assert_memory_not_equal(found, expected, 2 * CLASSES * sizeof *found);
    hs_model_free(&one);
    hs_model_free(&three);
    hs_device_close(dev);
}

static void test_features_of_several_ids(void **state)
{
    (void)state;
    check_ids(false);
    check_ids(true);
}

/* Alone they are a pass without any row; beside others they change nothing. */
static void test_users_without_tokens(void **state)
{
    hs_model model;
    hs_device *dev = NULL;
    hstu_error err;
    float all[3 * CLASSES], alone[CLASSES];
    static const int64_t length[] = {3, 0, 1}, place[] = {0, 3, 3};
    hstu_batch batch = users;
    (void)state;
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 1}, &err), HSTU_OK);
    make_model(&model, dev, "", "", false);
    batch.context_length = length;
    const hs_ranking_input in = {
        .batch = &batch, .end = USERS, .item_first = offset, .action_first = offset, .context_first = place};
    assert_int_equal(hs_ranking_history(&model, &in, 0), 3 + 2 * 2);
    assert_int_equal(hs_ranking_history(&model, &in, 1), 0);
    assert_int_equal(hs_ranking_history(&model, &in, 2), 1);
    run(&model, &batch, 1, 2, place, alone);
    run(&model, &batch, 0, 0, place, alone);
    run(&model, &batch, 0, USERS, place, all);
    run(&model, &batch, 2, 3, place, alone);
    assert_memory_equal(alone, all + 2 * CLASSES, sizeof alone);
    hs_model_free(&model);
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_of_several_ids),
        cmocka_unit_test(test_users_without_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
