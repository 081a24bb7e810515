/* --profile of hstu run and hstu bench: which stages there are, and that their times add up. */
#include "cli/program_run.h"

#include "cli/stage_times.h"

#include <math.h>
#include <stdlib.h>

#define TINY                                                                                                           \
    "bench --quiet --min_ms=0 --repetitions=3 --warmup=1 --peak_ms=0 --items=50 --dim=16 --heads=2 --head_dim=8 "      \
    "--layers=2 --candidates=5 --history=12 --profile "

static const char data_path[] = "test_stage_times.csv";

static const cJSON *member(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!item)
        fail_msg("no '%s' in: %s", key, last.out);
    return item;
}

static const cJSON *stage_of(const cJSON *profile, const char *name)
{
    const cJSON *stage = NULL;
    cJSON_ArrayForEach(stage, member(profile, "stages"))
    {
        if (strcmp(cJSON_GetStringValue(member(stage, "stage")), name) == 0)
            return stage;
    }
    return NULL;
}

/* The longest first, "else" last; together all of the time. */
static void check_profile(const cJSON *profile, double requests)
{
    const cJSON *stages = member(profile, "stages"), *stage = NULL;
    const int n = cJSON_GetArraySize(stages);
    double ms = 0, share = 0, before = INFINITY;
    assert_true(fabs(number(profile, "requests") - requests) < 0.5);
    assert_string_equal(cJSON_GetStringValue(member(cJSON_GetArrayItem(stages, n - 1), "stage")), "else");
    cJSON_ArrayForEach(stage, stages)
    {
        ms += number(stage, "ms");
        share += number(stage, "share");
        if (stage->next) {
            assert_true(number(stage, "calls") > 0 && number(stage, "ms") <= before);
            before = number(stage, "ms");
        }
    }
    assert_true(fabs(ms / number(profile, "ms") - 1) < 1e-3);
    assert_true(fabs(share - 1) < 1e-3);
}

static void check_calls(const cJSON *profile, const char *name, double calls)
{
    const cJSON *stage = stage_of(profile, name);
    if (!stage)
        fail_msg("no stage '%s' in: %s", name, last.out);
    assert_true(fabs(number(stage, "calls") - calls) < 1e-6);
}

/* ---- hstu bench -------------------------------------------------------------------------------------------------- */

static void test_bench_json(void **state)
{
    (void)state;
    expect_done(TINY "--json --threads 1 --batch 1,2 --dtype fp32,bf16");
    cJSON *root = parse_output();
    const cJSON *row = NULL;
    assert_int_equal(cJSON_GetArraySize(member(root, "rows")), 4);
    cJSON_ArrayForEach(row, member(root, "rows"))
    {
        const cJSON *profile = member(row, "profile");
        const double batch = number(row, "batch");
        check_profile(profile, 3 * batch);
        check_calls(profile, "silu_attn", 2 / batch);
        check_calls(profile, "embed", 1 / batch);
        assert_null(stage_of(profile, "softmax_attn"));
        assert_null(stage_of(profile, "graph"));
        assert_true(number(stage_of(profile, "linear"), "gflops") > 0);
        assert_true(cJSON_IsNull(member(stage_of(profile, "embed"), "gflops")));
        assert_true(number(profile, "ms") <= number(member(row, "ms"), "worst") * 1.001);
        assert_true(number(profile, "ms") >= number(member(row, "ms"), "best") * 0.999);
    }
    cJSON_Delete(root);
}

static void test_bench_table(void **state)
{
    (void)state;
    expect_done(TINY "--threads 1,2");
    const char *table = strstr(last.out, "\n\n| row | stage | calls a request | ms a request | share | GFLOP/s |\n");
    assert_non_null(table);
    assert_non_null(strstr(table, "\n| 1 | linear"));
    assert_non_null(strstr(table, "\n| 2 | silu_attn"));
    assert_non_null(strstr(table, "\n| 2 | else"));
    assert_null(strstr(table, "\n| 3 |"));
    assert_non_null(strstr(table, "\nms are those of a request"));
    for (const char *line = strchr(table + 1, '\n') + 1; *line == '|'; line = strchr(line, '\n') + 1) {
        int bars = 0;
        for (const char *at = line; *at != '\n'; at++)
            bars += *at == '|';
        assert_int_equal(bars, 7);
    }
}

/* ---- hstu run ---------------------------------------------------------------------------------------------------- */

static void write_dataset(void)
{
    write_file(data_path, "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
                          "0,10,\"1,2,3\",\"1,1,1\",\"100,200,300\"\n"
                          "1,11,\"4,5,6,7\",\"1,1,1,1\",\"100,200,300,400\"\n"
                          "2,12,\"9,8,7\",\"1,1,1\",\"100,200,300\"\n");
}

static void test_run_report(void **state)
{
    (void)state;
    char line[256];
    write_dataset();
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --batch_size 2 --top_k 3 --quiet", data_path);
    expect_done(line);
    assert_null(strstr(last.out, "\"profile\""));
    (void)snprintf(line + strlen(line), sizeof line - strlen(line), " --profile");
    expect_done(line);
    cJSON *root = parse_output();
    const cJSON *profile = member(root, "profile");
    check_profile(profile, 3);
    check_calls(profile, "topk", 2.0 / 3);
    assert_true(
        fabs(number(profile, "ms") * 3 / (number(root, "avg_latency_ms") * number(root, "num_batches")) - 1) < 1e-3);
    cJSON_Delete(root);
    expect_error("run --requests x --profile", HS_EXIT_USAGE, "options --requests and --profile exclude each other");
    assert_int_equal(unlink(data_path), 0);
}

static int cleanup(void **state)
{
    (void)state;
    run_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_json),
        cmocka_unit_test(test_bench_table),
        cmocka_unit_test(test_run_report),
    };
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
