/* hstu bench: lists and ranges, the rows that they make, what is counted, and the whole program on tiny shapes. */
#include "cli/program_run.h"

#include "base/alloc.h"
#include "cli/bench_report.h"
#include "cli/bench_shapes.h"

#include <math.h>
#include <stdlib.h>

#define TINY                                                                                                           \
    "bench --quiet --min_ms=0 --repetitions=2 --warmup=1 --peak_ms=0 --items=50 --dim=16 --heads=2 --head_dim=8 "      \
    "--layers=2 --candidates=5 --history=12 "
#define TINY_DECODER                                                                                                   \
    "bench --quiet --min_ms=0 --repetitions=2 --peak_ms=0 --family=decoder --items=50 --dim=16 --layers=2 --history "  \
    "12 "

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static void expect_ints(const char *text, const int64_t *x, size_t n)
{
    hs_bench_ints found;
    hstu_error err = {0};
    if (hs_bench_parse_ints(&found, "history", text, 0, 100000, &err) != HSTU_OK)
        fail_msg("%s: %s", text, err.msg);
    assert_int_equal(found.n, n);
    assert_memory_equal(found.x, x, n * sizeof *x);
}

static void test_ranges(void **state)
{
    (void)state;
    expect_ints("7", (const int64_t[]){7}, 1);
    expect_ints("7,0,9", (const int64_t[]){7, 0, 9}, 3);
    expect_ints("3..5", (const int64_t[]){3, 4, 5}, 3);
    expect_ints("1..8+3", (const int64_t[]){1, 4, 7}, 3);
    expect_ints("512,1024..4096x2", (const int64_t[]){512, 1024, 2048, 4096}, 4);
    expect_ints("10..100000x10", (const int64_t[]){10, 100, 1000, 10000, 100000}, 5);
    expect_ints("4..4x2", (const int64_t[]){4}, 1);
    expect_ints("0..99999+60000", (const int64_t[]){0, 60000}, 2);
    hs_bench_ints far;
    static const char *const most[] = {"9223372036854775807..9223372036854775807x9223372036854775807",
        "9223372036854775806..9223372036854775807+2", "68719476736..9223372036854775807x9223372036854775807"};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        assert_int_equal(hs_bench_parse_ints(&far, "items", most[i], 2, INT64_MAX, NULL), HSTU_OK);
        assert_int_equal(far.n, 1);
    }
}

static void test_bad_ranges(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ",", "1,", ",1", "x", "1..", "..2", "5..1", "1..4x1", "1..4x0", "1..4+0",
        "0..4x2", "1..4*2", "1..4x", "1..4+", "-1", "100001", "1..100001", "1...3", "1..2..3", "1 ", "0x10",
        "99999999999999999999", "1..2+99999999999999999999",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hs_bench_ints found;
        hstu_error err = {0};
        if (hs_bench_parse_ints(&found, "history", bad[i], 0, 100000, &err) != HSTU_EINVAL)
            fail_msg("'%s' was taken", bad[i]);
        assert_memory_equal(err.msg, "option --history wants whole numbers from 0 to 100000, or ranges", 64);
    }
    hs_bench_ints found;
    hstu_error err = {0};
    assert_int_equal(hs_bench_parse_ints(&found, "dim", "4,1..8x2", 0, 10, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "option --dim names 4 twice");
    assert_int_equal(hs_bench_parse_ints(&found, "dim", "1..64", 0, 100, &err), HSTU_OK);
    assert_int_equal(found.n, HS_BENCH_MAX_LIST);
    assert_int_equal(hs_bench_parse_ints(&found, "dim", "1..65", 0, 100, &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "option --dim takes at most 64 values, found more");
}

static void test_fractions(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "1.01", "-0", "nan", "inf", "0x1", "1e-3", ".", "0.5,", "0..1"};
    hs_bench_reals found;
    hstu_error err = {0};
    assert_int_equal(hs_bench_parse_fractions(&found, "cached", "0,0.5,1", &err), HSTU_OK);
    assert_int_equal(found.n, 3);
    assert_true(found.x[0] <= 0 && fabs(found.x[1] - 0.5) <= 0 && found.x[2] >= 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (hs_bench_parse_fractions(&found, "cached", bad[i], &err) != HSTU_EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(hs_bench_parse_fractions(&found, "cached", "0.5,0.50", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "option --cached names 0.50 twice");
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static hs_bench_plan plan_of(const char *shape, const char *history, const char *threads)
{
    hs_bench_plan plan = {.decoder = false};
    if (shape)
        assert_int_equal(hs_bench_parse_words(&plan.shape, "shape", shape, hs_bench_shape_names, NULL), HSTU_OK);
    if (history)
        assert_int_equal(
            hs_bench_parse_ints(&plan.number[HS_BENCH_HISTORY], "history", history, 1, 131072, NULL), HSTU_OK);
    assert_int_equal(hs_bench_parse_ints(&plan.number[HS_BENCH_THREADS], "threads", threads, 0, 4096, NULL), HSTU_OK);
    return plan;
}

static void test_product(void **state)
{
    (void)state;
    hs_bench_plan plan = plan_of(NULL, "512..2048x2", "1,2");
    hs_bench_row *row = NULL;
    size_t n = 0;
    hstu_error err = {0};
    assert_int_equal(hs_bench_parse_fractions(&plan.cached, "cached", "0,0.5", &err), HSTU_OK);
    assert_int_equal(hs_bench_rows(&row, &n, &plan, &err), HSTU_OK);
    assert_int_equal(n, 12);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(row[i].shape, "custom");
        assert_int_equal(row[i].n[HS_BENCH_HISTORY], 512 << (i / 4));
        assert_int_equal(row[i].n[HS_BENCH_THREADS], 1 + i / 2 % 2);
        assert_int_equal(hs_bench_cached_tokens(&row[i]), i % 2 ? row[i].n[HS_BENCH_HISTORY] / 2 : 0);
        assert_int_equal(row[i].n[HS_BENCH_CANDIDATES], 100);
        assert_string_equal(row[i].dtype, "fp32");
        assert_null(row[i].isa);
    }
    hs_free(row);
}

static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t cached;
        double gflop, nominal;
    } known[] = {{"kr1k_full", 0, 195.11, 276.83}, {"kr1k_cached", 8196, 5.957, 5.994}, {"kr1k_2k", 0, 23.67, 31.22},
        {"nv_4096_0", 0, 614.5, 674.66}, {"nv_4096_3968", 3968, 80.84, 83.76}, {"pure", 0, 0.07837, 0.2030},
        {"decoder_2x128", 0, 8.604, 9.969}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const hs_bench_plan plan = plan_of(known[i].name, NULL, "0");
        hs_bench_row *row = NULL;
        size_t n = 0;
        hstu_error err = {0};
        assert_string_equal(hs_bench_shape_names[i], known[i].name);
        assert_int_equal(hs_bench_rows(&row, &n, &plan, &err), HSTU_OK);
        assert_int_equal(n, 1);
        assert_string_equal(row->shape, known[i].name);
        assert_int_equal(hs_bench_cached_tokens(row), known[i].cached);
        const hs_bench_work work = hs_bench_count(row, false);
        if (fabs(1e-9 * work.flop / known[i].gflop - 1) > 1e-3 ||
            fabs(1e-9 * work.flop_nominal / known[i].nominal - 1) > 1e-3)
            fail_msg("%s: %g, nominal %g", known[i].name, 1e-9 * work.flop, 1e-9 * work.flop_nominal);
        hs_free(row);
    }
    assert_null(hs_bench_shape_names[sizeof known / sizeof *known]);
}

/* Every product of two matrices and every pair of attention one by one. */
static double count_by_hand(const hs_bench_row *row)
{
    const int64_t *n = row->n, first = hs_bench_cached_tokens(row);
    const double d = (double)n[HS_BENCH_DIM], w = (double)(n[HS_BENCH_HEADS] * n[HS_BENCH_HEAD_DIM]);
    double flop = 0;
    for (int64_t l = 0; l < n[HS_BENCH_LAYERS]; l++) {
        const bool narrow = l + 1 == n[HS_BENCH_LAYERS];
        for (int64_t t = first; t < n[HS_BENCH_HISTORY] + n[HS_BENCH_CANDIDATES]; t++) {
            const bool candidate = t >= n[HS_BENCH_HISTORY];
            const int64_t seen = candidate ? n[HS_BENCH_HISTORY] + 1 : t + 1;
            flop += 2 * 2 * d * w; /* k, v */
            if (!narrow || candidate)
                flop += 3 * 2 * d * w + (double)seen * 2 * (w + w);
        }
    }
    flop += (double)n[HS_BENCH_CANDIDATES] * 2 * (d * HS_BENCH_HEAD_WIDTH + HS_BENCH_HEAD_WIDTH * HS_BENCH_CLASSES);
    return flop * (double)n[HS_BENCH_BATCH];
}

static void test_count(void **state)
{
    (void)state;
    const hs_bench_row rows[] = {{"custom", false, {14, 3, 2, 8, 2, 6, 0, 50, 1, 0}, 0, "fp32", NULL},
        {"custom", false, {16, 3, 3, 8, 2, 6, 2, 50, 5, 0}, 0.5, "bf16", NULL},
        {"custom", false, {16, 7, 1, 8, 2, 6, 2, 50, 2, 0}, 1, "fp32", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hs_bench_work work = hs_bench_count(&rows[i], false);
        assert_true(fabs(work.flop - count_by_hand(&rows[i])) < 0.5);
    }
    const double weights = 2 * 5 * 8 * 12 + HS_BENCH_HEAD_WIDTH * (8 + HS_BENCH_CLASSES);
    assert_true(fabs(hs_bench_count(&rows[0], false).bytes - 4 * (weights + 2 * 2 * 14 * 12)) < 0.5);
    assert_true(fabs(hs_bench_count(&rows[0], true).bytes - 4 * weights - 2 * 2 * 2 * 14 * 12) < 0.5);
}

static void test_summary(void **state)
{
    (void)state;
    double s[] = {9, 1, 5, 3, 7, 2, 8, 4, 6, 11, 10};
    const hs_bench_times t = hs_bench_summarise(s, 11), one = hs_bench_summarise(s, 1), two = hs_bench_summarise(s, 2);
    assert_true(fabs(t.best_s - 1) <= 0 && fabs(t.p10_s - 2) <= 0 && fabs(t.median_s - 6) <= 0);
    assert_true(fabs(t.p90_s - 10) <= 0 && fabs(t.worst_s - 11) <= 0 && t.n == 11);
    assert_true(fabs(one.best_s - 1) <= 0 && fabs(one.median_s - 1) <= 0 && fabs(one.p90_s - 1) <= 0);
    assert_true(fabs(two.median_s - 1.5) <= 0);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static const cJSON *member(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!item)
        fail_msg("no '%s' in: %s", key, last.out);
    return item;
}

static void expect_text(const cJSON *row, const char *key, const char *text)
{
    assert_true(cJSON_IsString(member(row, key)));
    assert_string_equal(member(row, key)->valuestring, text);
}

static void expect_number(const cJSON *row, const char *key, double x)
{
    if (fabs(number(row, key) - x) > 1e-9)
        fail_msg("%s is %g, not %g", key, number(row, key), x);
}

static void test_json(void **state)
{
    (void)state;
    expect_done(TINY "--json --cached 0,0.5,1 --dtype fp32,bf16 --batch 1,3 --threads 1,2 --context 2");
    assert_string_equal(last.err, "");
    cJSON *root = parse_output();
    const cJSON *rows = member(root, "rows"), *row = NULL;
    assert_int_equal(cJSON_GetArraySize(rows), 24);
    assert_non_null(strstr(member(root, "counted")->valuestring, "2 x rows x inputs x outputs"));
    cJSON_ArrayForEach(row, rows)
    {
        expect_text(row, "shape", "custom");
        expect_text(row, "family", "ranking");
        expect_text(row, "device", "cpu");
        expect_text(row, "kv_dtype", member(row, "dtype")->valuestring);
        expect_number(row, "history", 12);
        expect_number(row, "candidates", 5);
        expect_number(row, "context", 2);
        expect_number(row, "repetitions", 2);
        assert_true(number(row, "gflop") > 0 && number(row, "gflops") > 0 && number(row, "gbytes_s") > 0);
        assert_true(number(row, "gflops_best") >= number(row, "gflops") && number(row, "cores") >= 1);
        const cJSON *ms = member(row, "ms"), *call = member(row, "call_ms");
        assert_true(number(ms, "best") <= number(ms, "median") && number(ms, "median") <= number(ms, "worst"));
        assert_true(fabs(number(ms, "best") * number(row, "batch") / number(call, "best") - 1) < 1e-4);
        assert_true(cJSON_IsNull(member(row, "peak")) && cJSON_IsNull(member(row, "percent_of_peak")));
        assert_true(cJSON_IsNull(member(row, "yardstick_gflops_before")));
        assert_true(cJSON_IsNull(member(row, "yardstick_gflops_behind")));
        assert_true(cJSON_IsNull(member(row, "percent_of_yardstick")));
        assert_true(strlen(member(row, "compiler")->valuestring) > 3 && member(row, "commit") && member(row, "cpu"));
        expect_text(row, "version", hstu_version());
    }
    expect_number(cJSON_GetArrayItem(rows, 0), "cached", 0);
    expect_number(cJSON_GetArrayItem(rows, 2), "cached", 8); /* 5 events: 2.5 are 3, behind 2 contextual features */
    expect_number(cJSON_GetArrayItem(rows, 5), "cached", 12);
    cJSON_Delete(root);
}

static void test_decoder(void **state)
{
    (void)state;
    expect_done(TINY_DECODER "--json --cached 0,1 --dtype fp32,bf16 --batch 1,2");
    cJSON *root = parse_output();
    const cJSON *rows = member(root, "rows"), *row = NULL;
    assert_int_equal(cJSON_GetArraySize(rows), 8);
    cJSON_ArrayForEach(row, rows)
    {
        expect_text(row, "family", "decoder");
        expect_number(row, "items", 50);
    }
    expect_number(cJSON_GetArrayItem(rows, 2), "cached", 11); /* the newest event is asked for */
    cJSON_Delete(root);
}

/* Of the head, the line below it and the first row. */
static void expect_columns(size_t bars)
{
    const char *at = last.out;
    for (int line = 0; line < 3; line++, at++) {
        size_t n = 0;
        for (; *at != '\n'; at++)
            n += *at == '|';
        assert_int_equal(n, bars);
    }
}

static void test_table(void **state)
{
    (void)state;
    expect_done(TINY "--isa ref --threads 1 --batch 2");
    assert_memory_equal(last.out, "| shape | history | cached |", 28);
    assert_non_null(strstr(last.out, "\n| custom | 12 | 0 | 5 | 2 x 16 | 2 x 8 | 2 | fp32 | ref | 1 | "));
    assert_non_null(strstr(last.out, "\nms are those of a request: a call's by its batch; 1 calls of warm-up"));
    expect_columns(25);
}

/* A row a value, and the environment as it was behind them. */
static void test_isa(void **state)
{
    (void)state;
    char *before = getenv("HSTU_ISA") ? strdup(getenv("HSTU_ISA")) : NULL;
    assert_int_equal(setenv("HSTU_ISA", "ref", 1), 0);
    expect_done(TINY "--json");
    cJSON *root = parse_output();
    expect_text(cJSON_GetArrayItem(member(root, "rows"), 0), "isa", "ref");
    cJSON_Delete(root);
    if (run(TINY "--json --isa avx2,ref") == HS_EXIT_DONE) {
        root = parse_output();
        expect_text(cJSON_GetArrayItem(member(root, "rows"), 0), "isa", "avx2");
        expect_text(cJSON_GetArrayItem(member(root, "rows"), 1), "isa", "ref");
        cJSON_Delete(root);
    } else {
        assert_non_null(strstr(last.err, "avx2"));
        assert_string_equal(last.out, "");
    }
    assert_string_equal(getenv("HSTU_ISA"), "ref");
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
    expect_done(TINY "--isa ref");
    assert_null(getenv("HSTU_ISA"));
    assert_int_equal(before ? setenv("HSTU_ISA", before, 1) : 0, 0);
    free(before);
}

static void test_peak(void **state)
{
    (void)state;
    expect_done("bench --quiet --shape pure --json --min_ms 0 --repetitions 1 --peak_ms 10 --dtype fp32,bf16");
    cJSON *root = parse_output();
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, member(root, "rows"))
    {
        expect_text(row, "shape", "pure");
        assert_true(number(row, "peak_gflops") > 0 && number(row, "memory_gbytes_s") > 0);
        assert_true(strlen(member(row, "peak")->valuestring) > 4);
        const double share = 100 * number(row, "gflops") / number(row, "peak_gflops");
        assert_true(fabs(number(row, "percent_of_peak") / share - 1) < 1e-3);
        const double before = number(row, "yardstick_gflops_before"), behind = number(row, "yardstick_gflops_behind");
        assert_true(before > 0 && behind > 0);
        const double of_mean = 200 * number(row, "gflops") / (before + behind);
        assert_true(fabs(number(row, "percent_of_yardstick") / of_mean - 1) < 1e-3);
    }
    cJSON_Delete(root);
}

/* Every row names its figures, before and behind. */
static void test_peak_table(void **state)
{
    (void)state;
    double before = 0, behind = 0;
    expect_done("bench --quiet --shape pure --min_ms 0 --repetitions 1 --peak_ms 2 --isa ref --threads 1");
    expect_columns(25);
    const char *at = strstr(last.out, "(portable fp32) | ");
    assert_non_null(strstr(last.out, "| of yardstick | yardstick before, behind, GFLOP/s |"));
    assert_non_null(at);
    assert_int_equal(sscanf(at, "(portable fp32) | %*f %% | %lf, %lf |", &before, &behind), 2);
    assert_true(before > 0 && behind > 0);
}

static void test_usage(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {{"bench --shape kr1k", "--shape wants some of kr1k_full, kr1k_cached"},
        {"bench --shape pure,pure", "option --shape names pure twice"},
        {"bench --history 0", "--history wants whole numbers from 1 to 131072"},
        {"bench --history 513", "a history of 513 tokens cannot be 0 contextual features and whole events"},
        {"bench --shape kr1k_2k --context 7", "a history of 2054 tokens cannot be 7 contextual features"},
        {"bench --history 4 --context 4", "a history of 4 tokens cannot be 4 contextual features"},
        {"bench --history 131072", "131072 tokens of history and 2 x 100 of candidates are above the 131072"},
        {"bench --batch 65536", "a batch of 65536 x 2248 tokens is above the 67108864 that a bench takes"},
        {"bench --heads 512 --head_dim 256", "512 heads of 256 are above the width of 65536"},
        {"bench --family decoder --dim 16385", "a decoder's --dim is at most 16384, found 16385"},
        {"bench --shape pure,decoder_2x128 --heads 2", "--heads means nothing for a decoder (shape decoder_2x128)"},
        {"bench --family decoder --candidates 5", "--candidates means nothing for a decoder"},
        {"bench --shape pure --family decoder", "--shape and --family exclude each other"},
        {"bench --cached 2", "--cached wants fractions from 0 to 1"},
        {"bench --dtype fp8", "--dtype wants some of fp32, bf16, fp16 with commas between them, found 'fp8'"},
        {"bench --isa avx", "--isa wants some of ref, avx2"},
        {"bench --repetitions 0", "--repetitions wants a whole number from 1"},
        {"bench --checkpoint x --shape pure", "--checkpoint and --shape exclude each other"},
        {"bench --checkpoint x --dim 8", "--checkpoint and --dim exclude each other"},
        {"bench --config x", "--config means nothing without --checkpoint"},
        {"bench --npu_option a=b", "--npu_option means nothing with --device cpu"},
        {"bench --ort_library x", "--ort_library means nothing with --device cpu"},
        {"bench --trace", "unknown option '--trace' of 'hstu bench'"},
        {"bench x", "'hstu bench' takes only options, found 'x'"},
        {"bench --layers 1..64 --threads 1..64 --batch 1,2", "the lists make more than 4096 rows: shorten them"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_error(wrong[i][0], HS_EXIT_USAGE, wrong[i][1]);
}

static void test_failures(void **state)
{
    (void)state;
    expect_error("bench --quiet --checkpoint no_such_file", HS_EXIT_FAILED, "no_such_file");
    expect_error(TINY "--dtype fp32,fp16", HS_EXIT_FAILED, "only NPUs compute in fp16");
    expect_error(TINY "--device tpu", HS_EXIT_FAILED, "tpu");
    expect_error(TINY "--isa neon,avx2", HS_EXIT_FAILED, "option --isa names "); /* no processor runs both */
    char *before = getenv("TMPDIR") ? strdup(getenv("TMPDIR")) : NULL;
    assert_int_equal(setenv("TMPDIR", "no_such_folder", 1), 0);
    expect_error(TINY "--json", HS_EXIT_FAILED, "cannot create 'no_such_folder/hstu_bench.");
    assert_int_equal(before ? setenv("TMPDIR", before, 1) : unsetenv("TMPDIR"), 0);
    free(before);
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
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_isa),
        cmocka_unit_test(test_peak),
        cmocka_unit_test(test_peak_table),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
