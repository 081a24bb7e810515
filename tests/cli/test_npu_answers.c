/* What the built program answers on the tests' virtual NPU: every family as on the processor, with and without the cache, and a
 * report whose counts tell what the device did. */
#define _XOPEN_SOURCE 700 /* posix_openpt */
#include "cli/npu_run.h"

static const double near_fp32 = 1e-4;

/* Without the self-test, which has tests of its own. */
static const char on_npu[] = "--device npu --npu_selftest off";

/* ---- the same answers -------------------------------------------------------------------------------------------- */

typedef struct answers {
    char *metrics, *users;
} answers;

static answers take_answers(const cJSON *root, int model)
{
    return (answers){
        .metrics = cJSON_Print(member(root, model == NPU_RANKING ? "tasks" : "metrics")), .users = take_users()};
}

static void free_answers(answers *a)
{
    cJSON_free(a->metrics);
    free(a->users);
}

static answers replay_on_cpu(int model, const char *options)
{
    cJSON *root = replay_report(model, options);
    assert_null(cJSON_GetObjectItemCaseSensitive(root, "npu"));
    const answers a = take_answers(root, model);
    assert_true(strlen(a.users) > 1000);
    cJSON_Delete(root);
    return a;
}

/* The same replay on the virtual NPU, whose report comes back. */
static cJSON *replay_on_npu(int model, const char *options, const answers *expected)
{
    char text[NPU_LINE / 4];
    (void)snprintf(text, sizeof text, "%s %s", on_npu, options);
    cJSON *root = replay_report(model, text);
    answers found = take_answers(root, model);
    if (difference(expected->users, found.users) > near_fp32 ||
        difference(expected->metrics, found.metrics) > near_fp32)
        fail_msg("%s, '%s': answers are not the processor's", npu_model_names[model], options);
    free_answers(&found);
    return root;
}

/* Passes, and every search for the best items in the place that the device chose. */
static void check_counts(const cJSON *root, int model, bool declines_top_k)
{
    const cJSON *npu = member(root, "npu"), *graphs = member(npu, "graphs"), *top_k = member(npu, "top_k");
    const double n = number(root, "requests"),
                 ranks = model == NPU_RANKING ? 0 : n; /* ranks are found on the processor */
    assert_int_equal(n, LOG_REQUESTS);
    assert_true(number(graphs, "kept") >= 1 && number(graphs, "nodes") >= 20 * number(graphs, "kept"));
    assert_true(number(graphs, "compiled") >= number(graphs, "kept") && number(graphs, "evicted") == 0);
    assert_true(number(npu, "runs") == n + (declines_top_k ? 0 : ranks));
    assert_true(number(npu, "copies") >= 2 * n && number(npu, "bytes_in") > 0 && number(npu, "bytes_out") > 0);
    assert_true(fabs(number(npu, "copies_per_request") - number(npu, "copies") / n) < 1e-6);
    assert_true(number(npu, "run_s") > 0 && number(member(npu, "compile_s"), "total") > 0);
    assert_true(number(top_k, "device") == (declines_top_k ? 0 : ranks));
    assert_true(number(top_k, "cpu") == (declines_top_k ? 2 : 1) * ranks);
}

static void test_replays(void **state)
{
    (void)state;
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        answers cpu = replay_on_cpu(model, "");
        cJSON *root = replay_on_npu(model, "", &cpu);
        check_counts(root, model, false);
        const double copies = number(member(root, "npu"), "copies");
        assert_null(cJSON_GetObjectItemCaseSensitive(root, "kv_cache"));
        cJSON_Delete(root);

        root = replay_on_npu(model, "--kv_cache", &cpu);
        check_counts(root, model, false);
        const cJSON *cache = member(root, "kv_cache");
        assert_true(number(cache, "hits") == LOG_REQUESTS - LOG_USERS);
        assert_true(number(cache, "reused_tokens") > number(cache, "tokens") / 2);
        assert_true(number(member(root, "npu"), "copies") > copies); /* keys and values of the cached rows */
        cJSON_Delete(root);

        cJSON_Delete(replay_on_npu(model, "--kv_cache --batch_size 5 --npu_route onnx", &cpu));
        free_answers(&cpu);
    }
}

/* Each sample's one target, or each user's candidates, in batches of users of different lengths. */
static void test_evaluations(void **state)
{
    (void)state;
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        char line[2][NPU_LINE], *cpu = NULL;
        const char *protocol = model == NPU_RANKING ? "ranking --split all --max_history 15 --max_candidates 10"
                                                    : "leave-one-out --batch_size 4";
        for (int npu = 0; npu < 2; npu++) {
            (void)snprintf(line[npu], sizeof line[npu], "run %s --protocol %s --quiet --output %s/users.csv %s",
                model_options(model), protocol, npu_files.folder, npu ? on_npu : "");
            expect_silence(line[npu]);
            cJSON_Delete(parse_output());
            char *users = take_users();
            if (npu && difference(cpu, users) > near_fp32)
                fail_msg("%s: answers are not the processor's", npu_model_names[model]);
            free(cpu);
            cpu = users;
        }
        free(cpu);
    }
}

static void test_requests(void **state)
{
    (void)state;
    static const char *const options[] = {"", "--batch_size 1", "--batch_size 3 --kv_cache"};
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        char text[NPU_LINE / 4], cpu[MAX_OUTPUT];
        write_requests(model);
        expect_silence(requests_line(model, ""));
        memcpy(cpu, last.out, sizeof cpu);
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
            (void)snprintf(text, sizeof text, "%s %s", on_npu, options[i]);
            expect_silence(requests_line(model, text));
            if (difference(cpu, last.out) > near_fp32)
                fail_msg("%s, '%s': answers are not the processor's", npu_model_names[model], options[i]);
        }
    }
}

/* ---- what the device did ----------------------------------------------------------------------------------------- */

/* Two graphs for lengths that want more: others are compiled again, and that is all that changes. */
static void test_few_graphs(void **state)
{
    (void)state;
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        answers cpu = replay_on_cpu(model, "");
        cJSON *root = replay_on_npu(model, "--kv_cache --npu_graphs 2", &cpu);
        const cJSON *graphs = member(member(root, "npu"), "graphs");
        assert_true(number(graphs, "kept") == 2);
        assert_true(number(graphs, "evicted") >= 1);
        assert_true(number(graphs, "compiled") >= number(graphs, "kept") + number(graphs, "evicted"));
        cJSON_Delete(root);
        free_answers(&cpu);
    }
}

/* What was compiled ahead is compiled no more between the answers: graphs of a model and, by the untimed batches, a search. */
static void test_warm_up(void **state)
{
    (void)state;
    static const char *const options[] = {
        "--npu_warmup --micro_batch 16", "--npu_warmup --warmup 1", "--npu_warmup --warmup 1 --kv_cache"};
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        answers cpu = replay_on_cpu(model, "");
        for (size_t i = model == NPU_RANKING ? 0 : 1; i < (model == NPU_RANKING ? 1u : 3u); i++) {
            cJSON *root = replay_on_npu(model, options[i], &cpu);
            const cJSON *npu = member(root, "npu"), *compile = member(npu, "compile_s");
            assert_true(number(npu, "warmup_s") > 0);
            assert_true(number(compile, "timed") == 0);
            assert_true(number(compile, "total") > 0);
            assert_true(number(member(npu, "graphs"), "evicted") == 0);
            cJSON_Delete(root);
        }
        cJSON *root = replay_on_npu(model, "--warmup 0", &cpu);
        const cJSON *npu = member(root, "npu"), *compile = member(npu, "compile_s");
        assert_true(cJSON_IsNull(member(npu, "warmup_s")));
        assert_true(number(compile, "timed") > 0 && number(compile, "timed") == number(compile, "total"));
        cJSON_Delete(root);
        free_answers(&cpu);
    }
}

/* Candidates of one user in several groups meet the same keys and values, which stay where they are. */
static void test_kept_keys(void **state)
{
    (void)state;
    static const char *const options[] = {"", "--kv_cache"};
    static const char several[] = "--batch_ts_interval 4000";
    char text[128];
    answers cpu = replay_on_cpu(NPU_RANKING, several);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        double bytes[2];
        for (int grouped = 0; grouped < 2; grouped++) {
            (void)snprintf(
                text, sizeof text, "%s %s %s", several, options[i], grouped ? "--micro_batch 2" : "--micro_batch 64");
            cJSON *root = replay_on_npu(NPU_RANKING, text, &cpu);
            bytes[grouped] = number(member(root, "npu"), "bytes_kept");
            cJSON_Delete(root);
        }
        assert_true(bytes[0] == 0);
        assert_true(bytes[1] > 0);
    }
    free_answers(&cpu);
}

static void test_declined_top_k(void **state)
{
    (void)state;
    static const int models[] = {NPU_HSTU, NPU_DECODER};
    for (size_t i = 0; i < 2; i++) {
        answers cpu = replay_on_cpu(models[i], "");
        behave("decline=TopK");
        cJSON *root = replay_on_npu(models[i], "", &cpu);
        check_counts(root, models[i], true);
        cJSON_Delete(root);
        (void)npu_reset(state);
        free_answers(&cpu);
    }
}

/* Runs the requests with a terminal for standard error; what it shows. */
static void show_requests(int model, char *text, size_t size)
{
    size_t n = 0;
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    char line[NPU_LINE], *quiet = strstr(strcpy(line, requests_line(model, on_npu)), "--quiet ");
    memmove(quiet, quiet + 8, strlen(quiet + 8) + 1);
    assert_int_equal(launch_into(line, ptsname(terminal)), HS_EXIT_DONE);
    for (ssize_t got = 1; got > 0 && n + 1 < size; n += got > 0 ? (size_t)got : 0)
        got = read(terminal, text + n, size - 1 - n);
    text[n] = '\0';
    assert_int_equal(close(terminal), 0);
}

/* --requests prints answers alone; a person at a terminal is told the rest. Three of four users want the best of all items. */
static void test_searches_of_requests(void **state)
{
    (void)state;
    char text[8192];
    write_requests(NPU_HSTU);
    show_requests(NPU_HSTU, text, sizeof text);
    if (!strstr(text,
            "NPU         hstu tests NPU (virtual NPU) through VirtualNpuExecutionProvider 1.2.3 in ONNX Runtime") ||
        !strstr(text, "top-k: 2 on the device, 1 on the processor"))
        fail_msg("the terminal shows: %s", text);
    behave("decline=TopK");
    show_requests(NPU_HSTU, text, sizeof text);
    if (!strstr(text, "top-k: 0 on the device, 3 on the processor"))
        fail_msg("the terminal shows: %s", text);
}

/* ---- the cache's file --------------------------------------------------------------------------------------------- */

/* What a run on the NPU saves, the next one there begins with; the processor's bits are others, and neither takes the other's. */
static void test_cache_files(void **state)
{
    (void)state;
    static const char stranger[] = "was written for another model, dtype or processor";
    static const int models[] = {NPU_HSTU, NPU_RANKING};
    for (size_t i = 0; i < 2; i++) {
        char save[128], load[128], load_on_npu[256];
        answers cpu = replay_on_cpu(models[i], "");
        (void)snprintf(save, sizeof save, "--kv_cache --kv_cache_save %s/saved.kv", npu_files.folder);
        (void)snprintf(load, sizeof load, "--kv_cache --kv_cache_load %s/saved.kv", npu_files.folder);
        (void)snprintf(load_on_npu, sizeof load_on_npu, "%s %s", on_npu, load);
        cJSON_Delete(replay_on_npu(models[i], save, &cpu));
        cJSON *root = replay_on_npu(models[i], load, &cpu);
        assert_true(number(member(root, "kv_cache"), "hits") == LOG_REQUESTS);
        cJSON_Delete(root);
        expect_refusal(replay_line(models[i], load), HS_EXIT_FAILED, stranger);
        cJSON_Delete(replay_report(models[i], save));
        expect_refusal(replay_line(models[i], load_on_npu), HS_EXIT_FAILED, stranger);
        (void)unlink(scratch_path(&npu_files, "saved.kv"));
        (void)unlink(scratch_path(&npu_files, "users.csv"));
        expect_no_file();
        free_answers(&cpu);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_replays, npu_reset),
        cmocka_unit_test_teardown(test_evaluations, npu_reset),
        cmocka_unit_test_teardown(test_requests, npu_reset),
        cmocka_unit_test_teardown(test_few_graphs, npu_reset),
        cmocka_unit_test_teardown(test_warm_up, npu_reset),
        cmocka_unit_test_teardown(test_kept_keys, npu_reset),
        cmocka_unit_test_teardown(test_declined_top_k, npu_reset),
        cmocka_unit_test_teardown(test_searches_of_requests, npu_reset),
        cmocka_unit_test_teardown(test_cache_files, npu_reset),
    };
    if (!npu_begin("test_npu_answers"))
        return NPU_SKIPPED;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    npu_end();
    return failed;
}
