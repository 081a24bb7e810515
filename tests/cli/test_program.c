/* The whole program by its command line: exit codes, and standard output that holds the result and nothing else. */
#include "cli/program_run.h"

#include "hstu/version.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static const char data_path[] = "test_program.csv", requests_path[] = "test_program.jsonl",
                  users_path[] = "test_program.users", model_path[] = "test_program.safetensors";

static void test_help_and_version(void **state)
{
    (void)state;
    static const char *const verbs[] = {"preprocess", "run", "inspect", "convert", "devices"};
    assert_int_equal(run("--version"), HS_EXIT_DONE);
    assert_memory_equal(last.out, "hstu ", 5);
    assert_memory_equal(last.out + 5, hstu_version(), strlen(hstu_version()));
    assert_int_equal(run("--help"), HS_EXIT_DONE);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        assert_non_null(strstr(last.out, verbs[i]));
    assert_string_equal(last.err, "");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        char line[32], usage[64];
        (void)snprintf(line, sizeof line, "%s --help", verbs[i]);
        (void)snprintf(usage, sizeof usage, "usage: hstu %s ", verbs[i]);
        assert_int_equal(run(line), HS_EXIT_DONE);
        assert_memory_equal(last.out, usage, strlen(usage));
        assert_non_null(strstr(last.out, "\nexample:\n  hstu "));
    }
    assert_int_equal(run(""), HS_EXIT_USAGE);
    assert_string_equal(last.out, "");
}

static void test_wrong_usage(void **state)
{
    (void)state;
    expect_error("rum", HS_EXIT_USAGE, "unknown verb 'rum': did you mean 'run'?");
    expect_error("serve", HS_EXIT_USAGE,
        "unknown verb 'serve': expected preprocess, synth, run, bench, inspect, convert or devices");
    expect_error("run --stesp 3", HS_EXIT_USAGE, "did you mean '--steps'?");
    expect_error("run --steps 0", HS_EXIT_USAGE, "--steps wants a whole number");
    expect_error("run --requests x --output y", HS_EXIT_USAGE, "--requests and --output exclude each other");
    expect_error("inspect", HS_EXIT_USAGE, "wants FILE");
    expect_error("convret a b", HS_EXIT_USAGE, "unknown verb 'convret': did you mean 'convert'?");
    expect_error("convert", HS_EXIT_USAGE, "wants IN, found nothing");
    expect_error("convert a.pt", HS_EXIT_USAGE, "wants OUT behind 'a.pt'");
    expect_error("convert a.pt b c", HS_EXIT_USAGE, "takes two files, found 'c'");
    expect_error(
        "convert a.pt b --dtype fp16", HS_EXIT_USAGE, "--dtype wants fp32 or bf16 with --to safetensors, found 'fp16'");
    expect_error("convert a.pt b --confg c", HS_EXIT_USAGE, "did you mean '--config'?");
    expect_error("preprocess --dataset_name Nothing-5", HS_EXIT_USAGE, "Nothing-5");
}

static void test_failures(void **state)
{
    (void)state;
    expect_error("inspect no_such_file.pt", HS_EXIT_FAILED, "no_such_file.pt");
    expect_error("convert no_such_file.pt test_program.no", HS_EXIT_FAILED, "no_such_file.pt");
    assert_int_not_equal(access("test_program.no", F_OK), 0);
    expect_error("run --data_root no_such_folder", HS_EXIT_FAILED, "write it with 'hstu preprocess");
    expect_error("run --checkpoint no_such_file.pt", HS_EXIT_FAILED, "no_such_file.pt");
    expect_error("preprocess --no_download --data_root no_such_folder", HS_EXIT_FAILED, "no_such_folder");
    expect_error("inspect .", HS_EXIT_FAILED, "'.' is a folder: expected a PyTorch or safetensors file");
    expect_error("run --checkpoint .", HS_EXIT_FAILED, "'.' is a folder");
    /* No preprocessing makes these: it is not advised. */
    expect_error("run --config amzn-books", HS_EXIT_FAILED, "name a sequence file of amzn-books with --dataset");
    expect_error(
        "run --config ml-1m", HS_EXIT_FAILED, "write it with 'hstu preprocess --dataset_name ml-1m --data_root");
    /* What cannot run at all is said first. */
    expect_error("run --device gpu --checkpoint no_such_file.pt", HS_EXIT_FAILED, "gpu");
    expect_error("run --dtype fp16 --checkpoint no_such_file.pt", HS_EXIT_FAILED, "fp16");
    expect_error("run --protocol ranking", HS_EXIT_FAILED, "--protocol wants sessions, leave-one-out or replay");
    expect_error("run --split all", HS_EXIT_FAILED, "--split means nothing to a model of the family retrieval");
    expect_error("run --pad_attention", HS_EXIT_FAILED, "--pad_attention wants a model of the family decoder");
    expect_error("run --truncation middle", HS_EXIT_USAGE, "--truncation wants one of oldest|newest");
}

/* A checkpoint without a configuration beside it is read with the default preset: the sentence shows the way out. */
static void test_lone_checkpoint(void **state)
{
    (void)state;
    static const char name[] = "test_program.pt";
    (void)unlink(name);
    assert_int_equal(symlink(TEST_DATA "/../../examples/data/kuairand-pure-hstu/checkpoint.pt", name), 0);
    expect_error("run --checkpoint test_program.pt", HS_EXIT_FAILED, "name one with --config");
    assert_int_equal(unlink(name), 0);
}

static void test_a_checkpoint_folder(void **state)
{
    char line[512];
    hstu_error err;
    cJSON *root = NULL;
    (void)state;
    const char *folder = TEST_DATA "/golden/ranking/c0_hd32_d24_pclamp_2rank/checkpoint";
    (void)snprintf(line, sizeof line, "inspect %s", folder);
    assert_int_equal(run(line), HS_EXIT_DONE);
    assert_non_null(strstr(last.out, "layout: FUSED (ranks: 1, tensor parallel: 1)\nfamily: NVIDIA ranking HSTU\n"));
    assert_non_null(strstr(last.out, "static             233      24    21.8 KiB  action_weights\n"
                                     "dynamic            153      24    14.3 KiB  video_id (ranks: 2)\n"));
    (void)snprintf(line, sizeof line, "inspect %s --json", folder);
    assert_int_equal(run(line), HS_EXIT_DONE);
    assert_int_equal(hs_json_parse(&root, last.out, strlen(last.out), "the listing", &err), HSTU_OK);
    const cJSON *tables = cJSON_GetObjectItemCaseSensitive(root, "tables");
    assert_int_equal(cJSON_GetArraySize(tables), 2);
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(tables, 1), "world_size")->valueint, 2);
    cJSON_Delete(root);
    (void)snprintf(line, sizeof line, "run --checkpoint %s", folder);
    expect_error(line, HS_EXIT_FAILED, "a ranking checkpoint needs a configuration (--config with a preset such as");
    (void)snprintf(line, sizeof line, "run --checkpoint %s", TEST_DATA);
    expect_error(line, HS_EXIT_FAILED, "is a folder: expected a PyTorch or safetensors file, or a folder with");
}

/* Seven users with items 1 .. 9 in Meta's layout. */
static void write_dataset(void)
{
    write_file(data_path, "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
                          "0,10,\"1,2,3\",\"1,1,1\",\"100,200,300\"\n"
                          "1,11,\"4,5,6,7\",\"1,1,1,1\",\"100,200,300,400\"\n"
                          "2,12,\"9,8,7\",\"1,1,1\",\"100,200,300\"\n"
                          "3,13,\"1,3,5,7,9\",\"1,1,1,1,1\",\"100,200,300,400,500\"\n"
                          "4,14,\"2,4,6\",\"1,1,1\",\"100,200,300\"\n"
                          "5,15,\"3,3,3\",\"1,1,1\",\"100,200,300\"\n"
                          "6,16,\"8,6,4,2\",\"1,1,1,1\",\"100,200,300,400\"\n");
}

/* Random weights: the figures mean nothing, but every user is answered once, whatever the batches. */
static void test_run(void **state)
{
    (void)state;
    char first[MAX_OUTPUT], line[256];
    write_dataset();
    for (int batch_size = 1; batch_size <= 8; batch_size += 3) {
        (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --batch_size %d --top_k 3,1 --output %s",
            data_path, batch_size, users_path);
        if (run(line) != HS_EXIT_DONE)
            fail_msg("%s", last.err);
        assert_non_null(strstr(last.err, "hstu: warning: no --checkpoint was given: the weights are random"));
        cJSON *root = parse_output();
        assert_int_equal((int)number(root, "requests"), 7);
        assert_int_equal((int)number(root, "num_batches"), (7 + batch_size - 1) / batch_size);
        assert_int_equal((int)number(root, "vocab_size"), 10);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "random_weights")));
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "protocol")), "leave-one-out");
        cJSON_Delete(root);
        read_file(users_path, last.out);
        if (batch_size == 1)
            memcpy(first, last.out, sizeof first);
        assert_string_equal(last.out, first);
        assert_memory_equal(first, "user_id,target,rank,top_k\n10,3,", 31);
    }
    (void)snprintf(
        line, sizeof line, "run --config ml-1m --dataset %s --batch_size 2 --steps 2 --dump-logits", data_path);
    assert_int_equal(run(line), HS_EXIT_DONE);
    assert_non_null(strstr(last.err, "hstu: output shapes: user embeddings [2, "));
    cJSON *root = parse_output();
    assert_int_equal((int)number(root, "requests"), 4);
    cJSON_Delete(root);
    assert_int_equal(unlink(users_path), 0);
}

/* A user whose target stands in the history is a miss with the filter, and is found without. */
static void test_filter(void **state)
{
    (void)state;
    char line[256];
    write_dataset();
    write_file(requests_path, "3\n1\n"); /* the candidates */
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --candidates %s --output %s --quiet", data_path,
        requests_path, users_path);
    assert_int_equal(run(line), HS_EXIT_DONE);
    read_file(users_path, last.out);
    assert_non_null(strstr(last.out, "\n15,3,0,1\n"));
    assert_non_null(strstr(last.out, "\n10,3,1,3\n"));
    assert_non_null(strstr(last.out, "\n11,7,0,")); /* no candidate */
    strncat(line, " --no-filter-seen", sizeof line - strlen(line) - 1);
    assert_int_equal(run(line), HS_EXIT_DONE);
    read_file(users_path, last.out);
    assert_null(strstr(last.out, "\n15,3,0,"));
    assert_int_equal(unlink(users_path), 0);
}

/* The results must not replace an input. */
static void test_output_is_no_input(void **state)
{
    (void)state;
    char line[256], sentence[256];
    write_dataset();
    read_file(data_path, last.out);
    const size_t length = strlen(last.out);
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --output ./%s", data_path, data_path);
    (void)snprintf(sentence, sizeof sentence, "--output wants a file of its own, found './%s', which holds the dataset",
        data_path);
    expect_error(line, HS_EXIT_FAILED, sentence);
    read_file(data_path, last.out);
    assert_int_equal(strlen(last.out), length);
}

/* The users' ranks and lists of a run on `checkpoint`, whose report must name `config`. */
static void run_checkpoint(const char *checkpoint, const char *config, char *users)
{
    char line[512];
    (void)snprintf(line, sizeof line, "run --checkpoint %s --dataset %s --top_k 20 --output %s --quiet", checkpoint,
        data_path, users_path);
    if (run(line) != HS_EXIT_DONE)
        fail_msg("%s", last.err);
    cJSON *root = parse_output();
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "config")), config);
    cJSON_Delete(root);
    read_file(users_path, users);
    assert_int_equal(unlink(users_path), 0);
}

/* The converted file alone gives the answers of checkpoint and configuration. */
static void test_convert(void **state)
{
    static const char folder[] = TEST_DATA "/golden/retrieval/base_h1_n71";
    static char before[MAX_OUTPUT], after[MAX_OUTPUT];
    char checkpoint[256], config[256], line[512];
    (void)state;
    write_dataset();
    (void)snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint_ep100", folder);
    (void)snprintf(config, sizeof config, "%s/config.json", folder);
    run_checkpoint(checkpoint, config, before);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        (void)snprintf(line, sizeof line, "convert %s %s %s", checkpoint, model_path, bf16 ? "--dtype bf16" : "");
        if (run(line) != HS_EXIT_DONE)
            fail_msg("%s", last.err);
        assert_string_equal(last.err, "");
        assert_string_equal(last.out,
            bf16 ? "wrote test_program.safetensors: retrieval HSTU, 12 tensors in bf16, 58296 bytes of weights\n"
                 : "wrote test_program.safetensors: retrieval HSTU, 12 tensors in fp32, 116592 bytes of weights\n");
        run_checkpoint(model_path, model_path, after);
        if (!bf16)
            assert_string_equal(before, after);
    }
    (void)snprintf(line, sizeof line, "convert %s ./%s", model_path, model_path);
    expect_error(line, HS_EXIT_FAILED, "is a file that the conversion reads");
    (void)snprintf(line, sizeof line, "convert %s %s --config ml-1m", checkpoint, model_path);
    expect_error(line, HS_EXIT_FAILED, "ml-1m: ");
    assert_int_equal(unlink(model_path), 0);
}

/* Answers do not depend on the batch; a bad line stops behind the answers of the lines before it. */
static void test_requests(void **state)
{
    (void)state;
    char first[MAX_OUTPUT], line[256];
    write_file(requests_path, "{\"user\": \"a\", \"items\": [1, 2], \"times\": [5, 6], \"request_time\": 7}\n"
                              "\r\n"
                              "{\"items\": [3]}\n"
                              "{\"user\": 12345678901234567890, \"items\": [3], \"candidates\": [7, 5, 7]}\r\n"
                              "{\"user\": null, \"items\": [4], \"candidates\": [6]}");
    for (int batch_size = 1; batch_size <= 3; batch_size++) {
        (void)snprintf(line, sizeof line,
            "run --config ml-1m --requests %s --top_k 3 --batch_size %d --item_id_offset 0", requests_path, batch_size);
        if (run(line) != HS_EXIT_DONE)
            fail_msg("%s", last.err);
        if (batch_size == 1)
            memcpy(first, last.out, sizeof first);
        assert_string_equal(last.out, first);
    }
    assert_memory_equal(first, "{\"user\": \"a\", \"items\": [", 24);
    assert_non_null(strstr(first, "\n{\"user\": 12345678901234567890, \"items\": ["));
    assert_non_null(strstr(first, "\n{\"user\": null, \"items\": [6], \"scores\": ["));

    write_file(requests_path,
        "{\"user\": 1, \"items\": [1]}\n{\"user\": 2, \"items\": [2]}\n{\"user\": 3, \"items\": [0]}\n"
        "{\"user\": 4, \"items\": [4]}\n");
    (void)snprintf(line, sizeof line, "run --config ml-1m --requests %s --item_id_offset 0", requests_path);
    assert_int_equal(run(line), HS_EXIT_FAILED);
    assert_non_null(
        strstr(last.err, "test_program.jsonl: line 3: item 0 of 'items' is not in the model's item table (ids 1 to "));
    assert_non_null(strstr(last.out, "{\"user\": 1,"));
    assert_non_null(strstr(last.out, "\n{\"user\": 2,"));
    assert_null(strstr(last.out, "\"user\": 3"));
    assert_null(strstr(last.out, "\"user\": 4"));
    assert_int_equal(last.out[strlen(last.out) - 1], '\n');
}

/* Starts "hstu <words>" with standard input from, and standard output into, a pipe; the errors go nowhere. */
static pid_t start(const char *const *words, int *to, int *from)
{
    int in[2], out[2];
    assert_true(pipe(in) == 0 && pipe(out) == 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *argument[MAX_ARGUMENTS] = {0};
        int n = 0;
        for (; words[n]; n++)
            argument[n] = strdup(words[n]);
        const int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        (void)dup2(nowhere, 2);
        (void)close(in[1]);
        (void)close(out[0]);
        const int code = hs_program_run(n, argument);
        for (int i = 0; i < n; i++)
            free(argument[i]);
        _exit(code);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    *to = in[1];
    *from = out[0];
    return child;
}

static void wait_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&time, NULL);
}

/* Who feeds requests one by one gets each answer before the next request, and can stop the program while it waits. */
static void test_conversation(void **state)
{
    (void)state;
    static const char *const words[] = {
        "hstu", "run", "--config", "ml-1m", "--requests", "-", "--batch_size", "1", "--top_k", "2", NULL};
    static const char request[] = "{\"user\": 1, \"items\": [4]}\n";
    int to = -1, from = -1, result = 0;
    const pid_t child = start(words, &to, &from);
    for (int i = 0; i < 2; i++) {
        char answer[256] = "";
        assert_int_equal(write(to, request, sizeof request - 1), sizeof request - 1);
        (void)alarm(20); /* an answer that never comes fails the test */
        assert_true(read(from, answer, sizeof answer - 1) > 0);
        (void)alarm(0);
        assert_ptr_equal(strstr(answer, "{\"user\": 1, \"items\": ["), answer);
    }
    /* Soon after the answer it waits for the next line; a signal that comes just before is followed by another. */
    pid_t ended = 0;
    for (int i = 0; i < 2 && ended == 0; i++) {
        wait_ms(100);
        assert_int_equal(kill(child, SIGINT), 0);
        for (int k = 0; k < 100 && (ended = waitpid(child, &result, WNOHANG)) == 0; k++)
            wait_ms(20);
    }
    assert_int_equal(ended, child);
    assert_true(WIFEXITED(result) ? WEXITSTATUS(result) == HS_EXIT_INTERRUPTED : WTERMSIG(result) == SIGINT);
    (void)close(to);
    (void)close(from);
}

/* Files that are opened while standard error is closed do not receive the messages. */
static void test_closed_streams(void **state)
{
    (void)state;
    write_dataset();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *argument[] = {strdup("hstu"), strdup("run"), strdup("--config"), strdup("ml-1m"), strdup("--dataset"),
            strdup(data_path), strdup("--output"), strdup(users_path), strdup("--dump_logits"), NULL};
        (void)close(0);
        (void)close(1);
        (void)close(2);
        _exit(hs_program_run(9, argument));
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    /* Standard output could not be written, which is a failure. */
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == HS_EXIT_FAILED);
    read_file(users_path, last.out);
    assert_memory_equal(last.out, "user_id,target,rank,top_k\n10,3,", 31);
    assert_null(strstr(last.out, "hstu"));
    assert_int_equal(unlink(users_path), 0);
}

/* Random weights have as many items as the data set's ids ask for: ids that no model can have are refused. */
static void test_wild_ids(void **state)
{
    (void)state;
    static const struct {
        const char *rows, *options, *sentence;
    } cases[] = {
        {"1,\"[9223372036854775806, 5]\",\"[1, 1]\",2\n", "--item_id_offset 1000",
            "9223372036854775806 plus the offset 1000"},
        {"1,\"[7, 5]\",\"[1, 1]\",2\n", "--item_id_offset -7", "7 plus the offset -7 is no item id"},
        {"1,\"[68719476736, 5]\",\"[1, 1]\",2\n", "", "68719476737"},
        {"", "", "test_program.csv: expected events, found none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], line[128];
        (void)snprintf(text, sizeof text, "user_id,sequence,actions,length\n%s", cases[i].rows);
        write_file(data_path, text);
        (void)snprintf(line, sizeof line, "run --dataset %s %s", data_path, cases[i].options);
        expect_error(line, HS_EXIT_FAILED, cases[i].sentence);
    }
}

/* An option that does nothing here is told. */
static void test_void_options(void **state)
{
    (void)state;
    char line[256];
    write_dataset();
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --max_sequences 2 --min_events 3", data_path);
    assert_int_equal(run(line), HS_EXIT_DONE);
    assert_non_null(strstr(last.err, "hstu: warning: --max_sequences has no effect on test_program.csv"));
    assert_null(strstr(last.err, "--min_events"));
    write_file(requests_path, "{\"items\": [4]}\n{\"items\": [5]}\n");
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --requests %s", data_path, requests_path);
    assert_int_equal(run(line), HS_EXIT_DONE);
    assert_non_null(strstr(last.err, "hstu: warning: --dataset has no effect"));
    const char *told = strstr(last.err, "line 1 has no times");
    assert_non_null(told);
    assert_null(strstr(told + strlen("line 1 has no times"), "has no times"));
}

static int remove_files(void **state)
{
    (void)state;
    run_cleanup();
    (void)unlink(data_path);
    (void)unlink(requests_path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_a_checkpoint_folder),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_output_is_no_input),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_lone_checkpoint),
        cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_closed_streams),
        cmocka_unit_test(test_wild_ids),
        cmocka_unit_test(test_void_options),
        cmocka_unit_test(test_convert),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
