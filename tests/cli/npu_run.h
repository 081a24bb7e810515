/* The built program on the tests' virtual NPU (tests/npu/provider): starting it, the models and the log that it is given, and
 * comparing its answers. tests/npu/CMakeLists.txt says where both lie: TEST_PROGRAM, TEST_PROVIDER. */
#ifndef TESTS_CLI_NPU_RUN_H
#define TESTS_CLI_NPU_RUN_H

#include "cli/replay_data.h"

#include <math.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

enum { NPU_LINE = 4096, NPU_SKIPPED = 77 };
enum { NPU_HSTU, NPU_SASREC, NPU_DECODER, NPU_RANKING, NPU_MODELS };
enum { NPU_STEP = TEST_SANITIZED ? NPU_RANKING - NPU_HSTU : 1 }; /* sanitizers are slow: the first and the last */

static const char *const npu_model_names[NPU_MODELS] = {"HSTU", "SASRec", "decoder", "ranking"};

/* The data, what the runs write, and what the program remembers of self-tests. */
static scratch npu_files;

/* ---- starting the program --------------------------------------------------------------------------------------- */

/* How the virtual NPU behaves from now on: "" is as it should. */
static inline void behave(const char *how)
{
    assert_int_equal(setenv("HSTU_VIRTUAL_NPU", how, 1), 0);
}

/* Runs "hstu <line>" as a process of its own, with standard error into `err`; words stand between blanks. */
static inline int launch_into(const char *line, const char *err)
{
    char text[NPU_LINE], *argument[MAX_ARGUMENTS + 8] = {TEST_PROGRAM};
    int n = 1, result = 0;
    pid_t child;
    posix_spawn_file_actions_t streams;
    assert_true(snprintf(text, sizeof text, "%s", line) < (int)sizeof text);
    for (char *save = NULL, *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        assert_true(n < MAX_ARGUMENTS + 7);
        argument[n++] = word;
    }
    const int create = O_WRONLY | O_CREAT | O_TRUNC;
    assert_int_equal(posix_spawn_file_actions_init(&streams), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&streams, 0, "/dev/null", O_RDONLY, 0), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&streams, 1, run_path("out"), create, 0600), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&streams, 2, err, create, 0600), 0);
    assert_int_equal(posix_spawn(&child, TEST_PROGRAM, &streams, NULL, argument, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&streams), 0);
    assert_int_equal(waitpid(child, &result, 0), child);
    if (!WIFEXITED(result))
        fail_msg("'hstu %s' was ended by signal %d", line, WTERMSIG(result));
    read_file(run_path("out"), last.out);
    return last.code = WEXITSTATUS(result);
}

static inline int launch(const char *line)
{
    char err[64];
    (void)snprintf(err, sizeof err, "%s", run_path("err"));
    (void)launch_into(line, err);
    read_file(run_path("err"), last.err);
    return last.code;
}

/* Succeeds and has nothing to say on standard error. */
static inline void expect_silence(const char *line)
{
    if (launch(line) != HS_EXIT_DONE || *last.err)
        fail_msg("'hstu %s': code %d, '%s'", line, last.code, last.err);
}

/* Fails with one sentence that holds `words`, and nothing on standard output. */
static inline void expect_refusal(const char *line, int code, const char *words)
{
    if (launch(line) != code || !strstr(last.err, words))
        fail_msg("'hstu %s': code %d, '%s', expected code %d and '%s'", line, last.code, last.err, code, words);
    assert_memory_equal(last.err, "hstu: ", 6);
    assert_ptr_equal(strchr(last.err, '\n'), last.err + strlen(last.err) - 1);
    assert_string_equal(last.out, "");
}

/* ---- models and what they are asked ------------------------------------------------------------------------------ */

/* The golden checkpoints, whose answers hang on their weights, over the log of replay_data.h. */
static inline const char *model_options(int model)
{
    static char text[NPU_LINE / 2];
    static const char golden[] = TEST_DATA "/golden", *folder = npu_files.folder;
    if (model == NPU_RANKING)
        (void)snprintf(text, sizeof text,
            "--checkpoint %s/ranking/c6_fused_fp32/checkpoint --config %s/ranking.json --dataset %s/processed.csv",
            golden, folder, folder);
    else if (model == NPU_DECODER)
        (void)snprintf(
            text, sizeof text, "--checkpoint %s/decoder/model_fp32/model_raw.pt --dataset %s/log.csv", golden, folder);
    else
        (void)snprintf(text, sizeof text,
            "--checkpoint %s/retrieval/%s/checkpoint_ep100 --config %s/retrieval/%s/config.json --dataset %s/log.csv",
            golden, model == NPU_SASREC ? "sasrec_h2_n71" : "base_h1_n71", golden,
            model == NPU_SASREC ? "sasrec_h2_n71" : "base_h1_n71", folder);
    return text;
}

/* "run --protocol replay ..." of the model, which writes users.csv. */
static inline const char *replay_line(int model, const char *options)
{
    static char line[NPU_LINE];
    (void)snprintf(line, sizeof line, "run %s --protocol replay --quiet --output %s/users.csv %s", model_options(model),
        npu_files.folder, options);
    return line;
}

/* The report of a replay that succeeds. */
static inline cJSON *replay_report(int model, const char *options)
{
    expect_silence(replay_line(model, options));
    return parse_output();
}

/* Nothing of what a run would have written is there, whole or half. */
static inline void expect_no_file(void)
{
    DIR *dir = opendir(npu_files.folder);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (strncmp(entry->d_name, "users", 5) == 0 || strncmp(entry->d_name, "saved", 5) == 0)
            fail_msg("%s was left behind", entry->d_name);
    }
    assert_int_equal(closedir(dir), 0);
}

static inline void expect_replay_refusal(int model, const char *options, const char *words)
{
    expect_refusal(replay_line(model, options), HS_EXIT_FAILED, words);
    expect_no_file();
}

/* Requests of users of very different histories, of which one brings candidates of its own. */
static inline void write_requests(int model)
{
    static const int length[] = {3, 30, 1, 17};
    static const char context[] =
        "\"context\": {\"user_active_degree\": 1, \"follow_user_num_range\": 2, \"fans_user_num_range\": 3, "
        "\"friend_user_num_range\": 4, \"register_days_range\": 5}, ";
    FILE *out = fopen(scratch_path(&npu_files, "requests.jsonl"), "wb");
    assert_non_null(out);
    for (int u = 0; u < 4; u++) {
        (void)fprintf(out, "{\"user\": %d, ", u + 1);
        for (int what = 0; what < 2; what++) {
            (void)fputs(what == 0              ? "\"items\": ["
                        : model == NPU_RANKING ? "], \"actions\": ["
                                               : "], \"times\": [",
                out);
            for (int i = 0; i < length[u]; i++) {
                const long x = what == 0 ? log_item(u, i) : model == NPU_RANKING ? (i * 5 + u) % 200 : log_time_s(u, i);
                (void)fprintf(out, i ? ", %ld" : "%ld", x);
            }
        }
        (void)fprintf(out, "], %s", model == NPU_RANKING ? context : "\"request_time\": 90000, ");
        (void)fprintf(
            out, model == NPU_RANKING || u == 1 ? "\"candidates\": [1, 7, 30, 4, 9]}\n" : "\"user_id\": %d}\n", u);
    }
    assert_int_equal(fclose(out), 0);
}

static inline const char *requests_line(int model, const char *options)
{
    static char line[NPU_LINE];
    const char *text = model_options(model); /* a checkpoint tells all that requests need */
    (void)snprintf(line, sizeof line, "run %.*s --requests %s/requests.jsonl --quiet %s",
        (int)(strstr(text, " --dataset") - text), text, npu_files.folder, options);
    return line;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/* What a run answered: the file of --output, or a line a request. Free it. */
static inline char *take_users(void)
{
    size_t n = 0;
    char *text = read_whole(scratch_path(&npu_files, "users.csv"), &n);
    assert_int_equal(unlink(npu_files.path), 0);
    return text;
}

static inline bool begins_number(const char *text)
{
    return (*text >= '0' && *text <= '9') || (*text == '-' && text[1] >= '0' && text[1] <= '9');
}

/* The largest difference of two texts that are equal up to their numbers, relative to 1 and the number: whole numbers below
 * 1 / allowed must be equal. */
static inline double difference(const char *expected, const char *found)
{
    double largest = 0;
    const char *const begin = expected;
    while (*expected || *found) {
        if (begins_number(expected) && begins_number(found)) {
            char *end[2];
            const double x = strtod(expected, &end[0]), y = strtod(found, &end[1]);
            largest = fmax(largest, fabs(x - y) / fmax(1, fabs(x)));
            expected = end[0];
            found = end[1];
        } else if (*expected++ != *found++) {
            fail_msg("answers differ behind %ld characters: '%.40s' and '%.40s'", (long)(expected - begin),
                expected - 1, found - 1);
        }
    }
    return largest;
}

static inline const cJSON *member(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!item)
        fail_msg("no '%s' in: %s", key, last.out);
    return item;
}

static inline const char *text_of(const cJSON *root, const char *key)
{
    const char *text = cJSON_GetStringValue(member(root, key));
    if (!text)
        fail_msg("'%s' is no text in: %s", key, last.out);
    return text;
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

static inline int npu_reset(void **state)
{
    (void)state;
    (void)unsetenv("HSTU_ALLOW_VIRTUAL_NPU");
    (void)unlink(scratch_path(&npu_files, "users.csv"));
    return unsetenv("HSTU_VIRTUAL_NPU");
}

/* Whether ONNX Runtime is at hand where the program looks for it. */
static inline bool npu_finds_runtime(void)
{
    bool found = false;
    const cJSON *device = NULL;
    expect_silence("devices --json");
    cJSON *root = parse_output();
    cJSON_ArrayForEach(device, member(root, "devices")) found =
        found || (strcmp(text_of(device, "name"), "ort-cpu") == 0 && cJSON_IsTrue(member(device, "usable")));
    cJSON_Delete(root);
    return found;
}

/* false, said loudly: there is no runtime, and nothing to test. */
static inline bool npu_begin(const char *program)
{
    scratch_open(&npu_files);
    assert_int_equal(setenv("XDG_CACHE_HOME", npu_files.folder, 1), 0);
    assert_int_equal(setenv("HSTU_ORT_PROVIDER_LIBRARY", TEST_PROVIDER, 1), 0);
    (void)npu_reset(NULL);
    if (!npu_finds_runtime()) {
        printf("SKIPPED: ALL OF %s, FOR LACK OF ONNX RUNTIME: scripts/get_onnxruntime fetches it\n", program);
        remove_folder(npu_files.folder);
        run_cleanup();
        return false;
    }
    write_sasrec(&npu_files, "log.csv");
    write_processed(&npu_files, "processed.csv");
    write_ranking_config(&npu_files, "ranking.json", false);
    /* This one for every vendor: the folder of HSTU_ORT_HOME may hold others of their own. */
    cJSON *root = replay_report(NPU_HSTU, "--steps 1 --device ort-cpu --npu_selftest off");
    assert_int_equal(setenv("HSTU_ORT_LIBRARY", text_of(member(root, "npu"), "library"), 1), 0);
    cJSON_Delete(root);
    return npu_reset(NULL) == 0;
}

static inline void npu_end(void)
{
    remove_folder(npu_files.folder);
    run_cleanup();
}

#endif
