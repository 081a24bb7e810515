/* The decoder through the whole program: with --pad_attention its answers are the original's, golden case decoder/model_fp32
 * (fresh), and without it there are no pads. */
#include "cli/program_run.h"

#include "engine/golden.h"

#include "dataset/scratch.h"

enum { USERS = 3, LENGTH = 12, TOP = 5, LINE = 4096 };

typedef struct fresh {
    scratch files;
    int64_t *tokens; /* [LENGTH, USERS], pads of id 0 in front */
    int64_t *top;    /* [USERS, TOP] */
    float *score;
} fresh;

static void fresh_open(fresh *f)
{
    hs_statedict in, out;
    int64_t n = 0;
    scratch_open(&f->files);
    golden_open(&in, "decoder/model_fp32", "inputs_fresh.safetensors");
    golden_open(&out, "decoder/model_fp32", "expected_fresh.safetensors");
    f->tokens = golden_i64(&in, "tokens", &n);
    assert_int_equal(n, LENGTH * USERS);
    f->top = golden_i64(&out, "top5_ids", &n);
    assert_int_equal(n, USERS * TOP);
    f->score = golden_f32(&out, "top5_values", &n);
    hs_statedict_close(&in);
    hs_statedict_close(&out);
}

static void fresh_close(fresh *f)
{
    hs_free(f->tokens);
    hs_free(f->top);
    hs_free(f->score);
    remove_folder(f->files.folder);
}

/* "3, 1, 4": user u's tokens without the pads, and `last` behind them unless it is negative. */
static void history(const fresh *f, int u, int last_item, char *text)
{
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; i < LENGTH; i++) {
        const int64_t id = f->tokens[i * USERS + u];
        if (id || n)
            n += (size_t)snprintf(text + n, 16, n ? ", %d" : "%d", (int)id);
    }
    if (last_item >= 0)
        (void)snprintf(text + n, 16, ", %d", last_item);
}

static void run_model(fresh *f, const char *source, const char *file, const char *options)
{
    char line[LINE];
    (void)snprintf(line, sizeof line, "run --checkpoint %s --%s %s --quiet %s",
        golden_path("decoder/model_fp32", "model_raw.pt"), source, scratch_path(&f->files, file), options);
    expect_done(line);
    assert_string_equal(last.err, "");
}

/* Each session's target is the best item of the golden answer, the second user's the second best. */
static void test_sessions(void **state)
{
    (void)state;
    fresh f;
    FILE *out = NULL;
    char items[512], options[1024], text[MAX_OUTPUT], padded[MAX_OUTPUT];
    fresh_open(&f);
    out = fopen(scratch_path(&f.files, "data.csv"), "wb");
    assert_non_null(out);
    (void)fputs("user_id,sequence,actions,length\n", out);
    for (int u = 0; u < USERS; u++) {
        int n = 1;
        history(&f, u, (int)f.top[u * TOP + (u == 1)], items);
        for (const char *at = items; (at = strchr(at, ',')); at++)
            n++;
        (void)fprintf(out, "%d,\"[%s]\",\"[", u + 7, items);
        for (int i = 0; i < n; i++)
            (void)fputs(i ? ", 0" : "0", out);
        (void)fprintf(out, "]\",%d\n", n);
    }
    assert_int_equal(fclose(out), 0);

    char users[512];
    (void)snprintf(users, sizeof users, "%s", scratch_path(&f.files, "users.csv"));
    for (int batch_size = 1; batch_size <= USERS; batch_size++) {
        (void)snprintf(options, sizeof options,
            "--pad_attention --sequence_length %d --top_k %d --batch_size %d --output %s", LENGTH, TOP, batch_size,
            users);
        run_model(&f, "dataset", "data.csv", options);
        cJSON *root = parse_output();
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "pad_attention")));
        cJSON_Delete(root);
        read_file(users, padded);
        size_t n = (size_t)snprintf(text, sizeof text, "user_id,target,rank,top_k\n");
        for (int u = 0; u < USERS; u++) {
            n += (size_t)snprintf(
                text + n, sizeof text - n, "%d,%d,%d,", u + 7, (int)f.top[u * TOP + (u == 1)], u == 1 ? 2 : 1);
            for (int i = 0; i < TOP; i++)
                n += (size_t)snprintf(text + n, sizeof text - n, i < TOP - 1 ? "%d " : "%d\n", (int)f.top[u * TOP + i]);
        }
        assert_string_equal(padded, text);
    }

    /* Without the option a longer window changes nothing, and short histories have other answers than with pads. */
    for (int length = LENGTH; length <= 60; length += 24) {
        (void)snprintf(options, sizeof options, "--sequence_length %d --top_k %d --output %s", length, TOP, users);
        run_model(&f, "dataset", "data.csv", options);
        assert_null(strstr(last.out, "pad_attention"));
        read_file(users, last.out);
        if (length == LENGTH)
            memcpy(text, last.out, sizeof text);
        assert_string_equal(last.out, text);
    }
    assert_string_not_equal(text, padded);
    fresh_close(&f);
}

/* The same of requests, with the original's scores. */
static void test_requests(void **state)
{
    (void)state;
    fresh f;
    char items[512], text[2048], options[256];
    size_t n = 0;
    fresh_open(&f);
    for (int u = 0; u < USERS; u++) {
        history(&f, u, -1, items);
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"items\": [%s]}\n", items);
    }
    scratch_text(&f.files, "requests.jsonl", text);
    for (int batch_size = 1; batch_size <= USERS; batch_size++) {
        (void)snprintf(options, sizeof options, "--pad_attention --sequence_length %d --top_k %d --batch_size %d",
            LENGTH, TOP, batch_size);
        run_model(&f, "requests", "requests.jsonl", options);
        int u = 0;
        for (char *save = NULL, *line = strtok_r(last.out, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save), u++) {
            cJSON *root = parse_text(line);
            const cJSON *ids = cJSON_GetObjectItemCaseSensitive(root, "items");
            const cJSON *scores = cJSON_GetObjectItemCaseSensitive(root, "scores");
            float found[TOP];
            assert_int_equal(cJSON_GetArraySize(ids), TOP);
            for (int i = 0; i < TOP; i++) {
                assert_int_equal(cJSON_GetArrayItem(ids, i)->valueint, f.top[u * TOP + i]);
                found[i] = (float)cJSON_GetArrayItem(scores, i)->valuedouble;
            }
            assert_close("scores", found, f.score + u * TOP, TOP, relative_tolerance(f.score, (int64_t)USERS * TOP));
            cJSON_Delete(root);
        }
        assert_int_equal(u, USERS);
    }
    /* Times say nothing to the decoder, with or without pads. */
    scratch_text(&f.files, "requests.jsonl", "{\"items\": [3]}\n");
    (void)snprintf(options, sizeof options, "--pad_attention --sequence_length %d --top_k %d", LENGTH, TOP);
    run_model(&f, "requests", "requests.jsonl", options);
    (void)snprintf(text, sizeof text, "%.1024s", last.out);
    scratch_text(&f.files, "requests.jsonl", "{\"items\": [3], \"times\": [5], \"request_time\": 6}\n");
    run_model(&f, "requests", "requests.jsonl", options);
    assert_string_equal(last.out, text);
    fresh_close(&f);
}

static int remove_files(void **state)
{
    (void)state;
    run_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
