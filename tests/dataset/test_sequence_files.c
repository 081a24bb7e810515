/* Opening sequence files: the four kinds, recognised by content, and everything that is none of them. */
#include "dataset/kuairand_files.h"

#include "file/safetensors.h"

static hstu_dataset *open_ok(const char *path)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dataset;
}

static void assert_fails(const char *path, uint64_t line, const char *problem)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    const hstu_status status = hstu_dataset_open(&dataset, path, NULL, &err);
    if (status != HSTU_EFORMAT || err.pos != line || !strstr(err.msg, problem) || !strstr(err.msg, path))
        fail_msg("status %d, line %d: %s", status, (int)err.pos, err.msg);
    assert_null(dataset);
}

static void assert_info(const char *path, hstu_dataset_info expected)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_dataset_info info;
    hstu_dataset_get_info(dataset, &info);
    assert_int_equal(info.kind, expected.kind);
    assert_string_equal(info.name, expected.name);
    assert_true(info.n_users == expected.n_users);
    assert_true(info.n_events == expected.n_events);
    assert_true(info.max_item == expected.max_item);
    assert_int_equal(info.max_user, expected.max_user);
    assert_int_equal(info.has_time, expected.has_time);
    hstu_dataset_close(dataset);
}

/* Preprocesses the golden logs; the report's paths are the files. */
static hstu_preprocess_report make_files(scratch *s)
{
    hstu_preprocess_report report;
    hstu_error err;
    copy_tiny(s);
    copy_tiny_features(s);
    const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_OK);
    return report;
}

static void test_kinds(void **state)
{
    scratch *s = *state;
    const hstu_preprocess_report report = make_files(s);
    assert_info(report.sequences_path, (hstu_dataset_info){HSTU_DATASET_EVENTS, "KuaiRand-1K", 5, 32, 201, 12, 1});
    assert_info(report.sessions_path,
        (hstu_dataset_info){HSTU_DATASET_SESSIONS, "processed_inference_sequences.csv", 5, 30, 201, 12, 0});
    assert_info(report.ranking_path, (hstu_dataset_info){HSTU_DATASET_RANKING, "processed_seqs.csv", 2, 16, 91, 7, 1});
    scratch_text(s, "few", "action_weights,time_ms,date,user_id,video_id\n[],[],x,5,[]\n[1],[-9],,4,[8]\n");
    assert_info(s->path, (hstu_dataset_info){HSTU_DATASET_RANKING, "few", 2, 1, 8, 5, 1});
    /* The name says nothing, and other columns and orders of columns are fine. */
    static const char text[] = "sequence_timestamps,index,user_id,sequence_ratings,sequence_item_ids,sex\n"
                               "\"10,20\",0,7,\"4.5,1\",\"5,9\",M\n30,1,8,3,2,F\n";
    scratch_text(s, "whatever.safetensors", text);
    assert_info(s->path, (hstu_dataset_info){HSTU_DATASET_SASREC, "whatever.safetensors", 2, 3, 9, 8, 1});
    scratch_gzip(s, "packed", "wb", text, sizeof text - 1);
    assert_info(s->path, (hstu_dataset_info){HSTU_DATASET_SASREC, "packed", 2, 3, 9, 8, 1});
    scratch_text(s, "none.csv", "user_id,sequence,actions,length\n");
    assert_info(s->path, (hstu_dataset_info){HSTU_DATASET_SESSIONS, "none.csv", 0, 0, -1, -1, 0});
}

static void test_unknown(void **state)
{
    scratch *s = *state;
    hstu_dataset *dataset = NULL;
    hstu_error err;
    assert_int_equal(hstu_dataset_open(&dataset, scratch_path(s, "absent"), NULL, &err), HSTU_ENOENT);
    assert_int_equal(hstu_dataset_open(&dataset, s->folder, NULL, &err), HSTU_EINVAL);
    assert_int_equal(hstu_dataset_open(&dataset, NULL, NULL, &err), HSTU_EINVAL);
    scratch_text(s, "other.csv", "date,user_id\n1,2\n");
    assert_fails(s->path, 1, "found 2 columns that begin with 'date'; expected sequences.safetensors");
    scratch_write(s, "zip", "PK\3\4abc", 7);
    assert_fails(s->path, 0, "found binary data; expected sequences.safetensors");
    scratch_text(s, "empty", "");
    assert_fails(s->path, 1, "is empty");
}

typedef struct bad_text {
    const char *text;
    uint64_t line;
    const char *problem;
} bad_text;

static void test_bad_texts(void **state)
{
    scratch *s = *state;
#define SESSIONS "user_id,sequence,actions,length\n"
#define SASREC "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
#define RANKING "user_id,video_id,time_ms,action_weights,register_days_range\n"
    static const bad_text bad[] = {
        {SESSIONS "1,\"[1, 2]\",\"[0, 0]\",2\n1,\"[1, 2\",\"[0, 0]\",2\n", 3,
            "line 3, column 2 (sequence): expected ',' or ']' at character 6 of the list"},
        {SESSIONS "1,\"[1, x]\",\"[0, 0]\",2\n", 2, "expected an integer at character 5 of the list, found 'x]'"},
        {SESSIONS "1,\"1, 2\",\"[0, 0]\",2\n", 2, "expected '[' at character 1"},
        {SESSIONS "1,\"[1, 2]\",[0],2\n", 2,
            "column 3 (actions): the list has 1 entries, but column 2 (sequence) has 2"},
        {SESSIONS "1,\"[1, 2]\",\"[0, 0]\",3\n", 2, "column 4 (length): the length is 3, but the lists have 2 entries"},
        {SESSIONS "1,\"[1, -2]\",\"[0, 0]\",2\n", 2, "entry 2 must be an integer from 0 to"},
        {SESSIONS "1,\"[1, 2]\",\"[0, 256]\",2\n", 2,
            "column 3 (actions): entry 2 must be an integer from 0 to 255, not 256"},
        {SESSIONS "x,\"[1, 2]\",\"[0, 0]\",2\n", 2, "column 1 (user_id): expected an integer, found 'x'"},
        {"user_id,sequence,actions\n", 1, "the column 'length' is missing"},
        {SASREC "0,1,\"1,2\",\"1,1\",\"5\"\n", 2, "column 5 (sequence_timestamps): the list has 1 entries"},
        {SASREC "0,1,,,\n", 2,
            "column 3 (sequence_item_ids): expected an integer at character 1 of the list, found ''"},
        {SASREC "0,1,1.5,1,1\n", 2, "expected ',' at character 2 of the list, found '.5'"},
        {"user_id,sequence_item_ids,sequence_ratings\n", 1, "the column 'sequence_timestamps' is missing"},
        {RANKING "1,\"[1, 2]\",\"[5, 5]\",\"[0, 1]\",1\n2,\"[1, 2]\",[5],\"[0, 1]\",1\n", 3,
            "column 3 (time_ms): the list has 1 entries, but column 2 (video_id) has 2"},
        {RANKING "1,\"[1, 2]\",\"[5, 6]\",[0],1\n", 2, "column 4 (action_weights): the list has 1 entries"},
        {RANKING "1,\"[1, 2, 3]\",\"[5, 6, -5]\",\"[0, 1, 0]\",1\n", 2,
            "column 3 (time_ms): the times must not descend, but entry 3 is -5 after 6"},
        {RANKING "1,[1],[5],[256],1\n", 2, "entry 1 must be an integer from 0 to 255, not 256"},
        {RANKING "1,[-1],[5],[0],1\n", 2, "column 2 (video_id): entry 1 must be an integer from 0 to"},
        {RANKING "1,1,5,0,1\n", 2, "expected '[' at character 1"},
        {RANKING "1,[1],[5],[0],0\n", 2, "column 5 (register_days_range): expected an integer from 1 to"},
        {RANKING "1,[1],[5],[0],730+\n", 2, "column 5 (register_days_range): expected an integer, found '730+'"},
        {RANKING "1.0,[1],[5],[0],1\n", 2, "column 1 (user_id): expected an integer, found '1.0'"},
        {RANKING "1,[1],[5],[0],1\n3,[1],[5],[0],1\n1,[1],[5],[0],1\n", 0, "user 1 has rows 1 and 3"},
        {"user_id,video_id,action_weights\n", 1, "the column 'time_ms' is missing"},
        {"user_id,video_id,action_weights,time_ms,register_days_range,register_days_range\n", 1,
            "the column 'register_days_range' stands there twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scratch_text(s, "t.csv", bad[i].text);
        assert_fails(s->path, bad[i].line, bad[i].problem);
    }
}

static void test_cut_binary(void **state)
{
    scratch *s = *state;
    const hstu_preprocess_report report = make_files(s);
    size_t n = 0;
    char *data = read_whole(report.sequences_path, &n);
    hstu_dataset *dataset = NULL;
    hstu_error err;
    for (size_t cut = 0; cut < n; cut++) {
        scratch_write(s, "cut", data, cut);
        assert_int_equal(hstu_dataset_open(&dataset, s->path, NULL, &err), HSTU_EFORMAT);
    }
    /* Any one damaged byte is refused or read as other data of the right form, never more than that. */
    for (size_t i = 0; i < n; i++) {
        data[i] = (char)(data[i] ^ 0x41);
        scratch_write(s, "flipped", data, n);
        if (hstu_dataset_open(&dataset, s->path, NULL, &err) == HSTU_OK)
            hstu_dataset_close(dataset);
        else
            assert_int_equal(err.code, HSTU_EFORMAT);
        data[i] = (char)(data[i] ^ 0x41);
    }
    free(data);
}

/* A header one byte longer puts every column at an odd address. */
static void test_unaligned(void **state)
{
    scratch *s = *state;
    const hstu_preprocess_report report = make_files(s);
    size_t n = 0;
    char *data = read_whole(report.sequences_path, &n), *moved = malloc(n + 1);
    uint64_t header = 0;
    memcpy(&header, data, sizeof header); /* little-endian, as the test machines are */
    memcpy(moved, data, 8 + header);
    moved[8 + header] = ' ';
    memcpy(moved + 9 + header, data + 8 + header, n - 8 - header);
    header++;
    memcpy(moved, &header, sizeof header);
    scratch_write(s, "moved", moved, n + 1);
    hstu_dataset *dataset[2] = {open_ok(report.sequences_path), open_ok(s->path)};
    hstu_histories *h[2];
    hstu_history_options options;
    hstu_history_options_init(&options);
    for (int i = 0; i < 2; i++)
        assert_int_equal(hstu_histories_open(&h[i], dataset[i], &options, NULL), HSTU_OK);
    assert_true(h[0]->n == 4 && h[1]->n == 4);
    const size_t n_events = (size_t)h[0]->offset[4];
    assert_memory_equal(h[0]->offset, h[1]->offset, 5 * sizeof(int64_t));
    assert_memory_equal(h[0]->item_id, h[1]->item_id, n_events * sizeof(int64_t));
    assert_memory_equal(h[0]->timestamp, h[1]->timestamp, n_events * sizeof(int64_t));
    for (int i = 0; i < 2; i++) {
        hstu_histories_close(h[i]);
        hstu_dataset_close(dataset[i]);
    }
    free(data);
    free(moved);
}

/* The columns of a small file, and what is wrong with it. */
typedef struct bad_binary {
    const char *format, *version;
    int64_t user_id[2], offset[3], item[3], time_ms[3];
    hs_dtype action_dtype;
    int64_t n_flags;
    uint8_t flags[3];
    const char *n_logs; /* NULL: the file does not say */
    int64_t feature[2];
    const char *problem; /* NULL: nothing */
} bad_binary;

static void write_binary(const char *path, const bad_binary *b)
{
    hs_safetensors_writer *w = NULL;
    hstu_error err;
    static const int64_t zero[3] = {0};
    const int64_t two = 2, three = 3;
    assert_int_equal(hs_safetensors_create(&w, path, &err), HSTU_OK);
    assert_int_equal(hs_safetensors_add_metadata(w, "format", b->format, &err), HSTU_OK);
    assert_int_equal(hs_safetensors_add_metadata(w, "format_version", b->version, &err), HSTU_OK);
    if (b->n_logs)
        assert_int_equal(hs_safetensors_add_metadata(w, "n_logs", b->n_logs, &err), HSTU_OK);
    const struct {
        const char *name;
        hs_dtype dtype;
        const int64_t *n;
        const void *data;
    } column[] = {{"user_id", HS_I64, &two, b->user_id}, {"offset", HS_I64, &three, b->offset},
        {"item", HS_I64, &three, b->item}, {"time_ms", HS_I64, &three, b->time_ms},
        {"play_time_ms", HS_I32, &three, zero}, {"duration_ms", HS_I32, &three, zero},
        {"action", b->action_dtype, &three, zero}, {"flags", HS_U8, &b->n_flags, b->flags},
        {"feature.friend_user_num_range", HS_I64, &two, b->feature}};
    const size_t n = sizeof column / sizeof *column;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(hs_safetensors_add_tensor(w, column[i].name, column[i].dtype, 1, column[i].n, &err), HSTU_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(
            hs_safetensors_write(w, column[i].data, (size_t)*column[i].n * hs_dtype_bytes(column[i].dtype), &err),
            HSTU_OK);
    assert_int_equal(hs_safetensors_commit(w, &err), HSTU_OK);
}

static void test_bad_binary(void **state)
{
    scratch *s = *state;
#define GOOD .format = "hstu_sequences", .version = "1", .user_id = {4, 5}, .action_dtype = HS_U8, .n_flags = 3
    static const bad_binary cases[] = {
        {GOOD, .offset = {0, 1, 3}, .item = {7, 8, 9}, .time_ms = {9, 1, 2}},
        {GOOD, .offset = {0, 3, 3}, .time_ms = {1, 1, 1}},
        {GOOD, .offset = {0, 3, 3}, .n_logs = "2", .flags = {2, 1, 3}, .feature = {0, 7}},
        {GOOD, .offset = {0, 3, 3}, .n_logs = "2", .flags = {2, 1, 4},
            .problem = "'flags' must name one of 2 logs, but element 2 names log 2"},
        {GOOD, .offset = {0, 3, 3}, .n_logs = "0", .problem = "n_logs must be an integer from 1 to 64, not '0'"},
        {GOOD, .offset = {0, 3, 3}, .n_logs = "65", .problem = "n_logs must be an integer from 1 to 64, not '65'"},
        {GOOD, .offset = {0, 3, 3}, .n_logs = "1.5", .problem = "n_logs must be an integer from 1 to 64, not '1.5'"},
        {GOOD, .offset = {0, 3, 3}, .feature = {1, -2},
            .problem = "'feature.friend_user_num_range' must not be negative, but element 1 is -2"},
        {GOOD, .offset = {0, 3, 2}, .problem = "'offset' must run from 0 to the number of events"},
        {GOOD, .offset = {1, 2, 3}, .problem = "'offset' must run from 0 to the number of events"},
        {GOOD, .offset = {0, 4, 3}, .problem = "'offset' must not descend or pass 3, but element 1 is 4 after 0"},
        {GOOD, .offset = {0, -1, 3}, .problem = "'offset' must not descend or pass 3, but element 1 is -1 after 0"},
        {GOOD, .offset = {0, 2, 3}, .time_ms = {5, 4, 9},
            .problem = "'time_ms' must not descend within user 4, but element 1"},
        {GOOD, .offset = {0, 2, 3}, .item = {0, -1, 0},
            .problem = "'item' must not be negative or 2^63 - 1, but element 1 is -1"},
        {GOOD, .offset = {0, 2, 3}, .item = {0, 0, INT64_MAX}, .problem = "but element 2 is 9223372036854775807"},
        {.format = "hstu_sequences",
            .version = "1",
            .user_id = {5, 5},
            .offset = {0, 1, 3},
            .action_dtype = HS_U8,
            .n_flags = 3,
            .problem = "'user_id' must ascend, but element 1 is 5 after 5"},
        {.format = "hstu_sequences",
            .version = "1",
            .user_id = {4, 5},
            .offset = {0, 1, 3},
            .action_dtype = HS_I8,
            .n_flags = 3,
            .problem = "'action' must be uint8 of one dimension, not int8 [3]"},
        {.format = "hstu_sequences",
            .version = "1",
            .user_id = {4, 5},
            .offset = {0, 1, 3},
            .action_dtype = HS_U8,
            .n_flags = 2,
            .problem = "'flags' must hold 3 elements, not 2"},
        {.format = "hstu_sequences",
            .version = "2",
            .action_dtype = HS_U8,
            .n_flags = 3,
            .problem = "has format version '2', but this program reads version 1"},
        {.format = "pt", .version = "1", .action_dtype = HS_U8, .n_flags = 3, .problem = "holds no sequences"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_binary(scratch_path(s, "t"), &cases[i]);
        if (cases[i].problem)
            assert_fails(s->path, 0, cases[i].problem);
        else
            hstu_dataset_close(open_ok(s->path));
    }
}

static void test_cancel(void **state)
{
    scratch *s = *state;
    const hstu_preprocess_report report = make_files(s);
    const char *const path[] = {report.sequences_path, report.sessions_path, report.ranking_path};
    const volatile int cancel = 1;
    const hstu_progress progress = {.cancel = &cancel};
    for (size_t i = 0; i < 3; i++) {
        hstu_dataset *dataset = NULL;
        hstu_error err;
        assert_int_equal(hstu_dataset_open(&dataset, path[i], &progress, &err), HSTU_ECANCELLED);
        assert_null(dataset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kinds, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_unknown, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_texts, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cut_binary, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_unaligned, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_binary, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cancel, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
