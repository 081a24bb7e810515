/* Summaries of sequence files of every kind, and what is taken for one. */
#include "dataset/kuairand_files.h"

#include "data/itemcount.h"

static hstu_summary summarise(scratch *s, const char *name)
{
    hstu_dataset *dataset = NULL;
    hstu_summary summary = {0};
    hstu_error err = {0};
    const char *path = scratch_path(s, name);
    assert_int_equal(hstu_dataset_recognise(path), 1);
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK ||
        hstu_summary_make(&summary, dataset, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hstu_dataset_close(dataset);
    return summary;
}

static void assert_lengths(const hstu_summary *summary, const int64_t (*want)[HSTU_SUMMARY_PERCENTILES])
{
    assert_memory_equal(summary->length, *want, sizeof *want);
}

static void test_events(void **state)
{
    scratch *s = *state;
    hstu_error err = {0};
    write_pure(s,
        LOG_HEADER LOG_ROW(1, 70, 100, 1) LOG_ROW(1, 70, 100, 1) LOG_ROW(1, 8, 200, 1) LOG_ROW(2, 70, 50, 1)
            LOG_ROW(5, 8, 60, 1),
        LOG_HEADER LOG_ROW(1, 9, 90000, 1) "2,70,20220422,0,1650556800123,1,1,0,0,0,0,1,9,9,0,0,0,0,1\n");
    const hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_OK);
    const hstu_summary summary = summarise(s, "KuaiRand-Pure/sequences.safetensors");
    assert_int_equal(summary.n_users, 3);
    assert_int_equal(summary.n_sequences, 3);
    assert_int_equal(summary.n_events, 7);
    assert_int_equal(summary.n_items, 3);
    assert_int_equal(summary.n_duplicates, 1);
    assert_lengths(&summary, &(const int64_t[]){1, 1, 1, 2, 4, 4, 4, 4});
    assert_true(summary.has_time);
    assert_int_equal(summary.first_ms, 50000);
    assert_int_equal(summary.last_ms, 1650556800123);
    assert_true(summary.action_is_mask);
    assert_int_equal(summary.n_with_action[1], 6);
    assert_int_equal(summary.n_with_action[1 + 2 + 64], 1);
    assert_int_equal(summary.n_top, 3);
    const int64_t items[] = {70, 8, 9}, events[] = {4, 2, 1};
    assert_memory_equal(summary.top_item, items, sizeof items);
    assert_memory_equal(summary.top_events, events, sizeof events);
}

static void test_rows(void **state)
{
    scratch *s = *state;
    scratch_text(s, "sessions.csv",
        "user_id,sequence,actions,length\n7,\"[5, 6]\",\"[1, 64]\",2\n7,\"[5, 9, 5]\",\"[0, 0, 0]\",3\n");
    hstu_summary summary = summarise(s, "sessions.csv");
    assert_int_equal(summary.n_users, 1);
    assert_int_equal(summary.n_sequences, 2);
    assert_int_equal(summary.n_events, 5);
    assert_int_equal(summary.n_items, 3);
    assert_int_equal(summary.n_duplicates, -1);
    assert_false(summary.has_time);
    assert_true(summary.action_is_mask);
    assert_int_equal(summary.n_with_action[0], 3);
    assert_lengths(&summary, &(const int64_t[]){2, 2, 2, 2, 3, 3, 3, 3});
    assert_int_equal(summary.top_item[0], 5);
    assert_int_equal(summary.top_events[0], 3);

    scratch_text(s, "sasrec.csv",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n0,3,\"10,20\",\"4,5\",\"978300019,"
        "978300020\"\n");
    summary = summarise(s, "sasrec.csv");
    assert_int_equal(summary.first_ms, 978300019000);
    assert_int_equal(summary.last_ms, 978300020000);
    assert_false(summary.action_is_mask);
    assert_int_equal(summary.n_with_action[5], 1);
    assert_int_equal(summary.top_item[0], 10); /* of equal ones the smaller id */

    scratch_text(
        s, "ranking.csv", "user_id,video_id,time_ms,action_weights\n4,\"[1, 2]\",\"[-5, 1650556800123]\",\"[0, 3]\"\n");
    summary = summarise(s, "ranking.csv");
    assert_int_equal(summary.first_ms, -5);
    assert_int_equal(summary.last_ms, 1650556800123);
    assert_false(summary.action_is_mask); /* nothing above 9: classes of ratings */
}

static void test_nothing_in_it(void **state)
{
    scratch *s = *state;
    scratch_text(s, "empty.csv", "user_id,sequence,actions,length\n");
    const hstu_summary summary = summarise(s, "empty.csv");
    assert_int_equal(summary.n_sequences, 0);
    assert_int_equal(summary.n_items, 0);
    assert_int_equal(summary.n_top, 0);
    assert_lengths(&summary, &(const int64_t[HSTU_SUMMARY_PERCENTILES]){0});
}

static void test_recognise(void **state)
{
    scratch *s = *state;
    static const char *const no[] = {
        "", "\n", "user_id\n1\n", LOG_HEADER, "PK\003\004 sequence,actions\n", "{\"a\": 1}"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        scratch_text(s, "file", no[i]);
        assert_int_equal(hstu_dataset_recognise(scratch_path(s, "file")), 0);
    }
    static const char *const header[] = {
        "{\"__metadata__\":{\"format\":\"hstu_sequences\"}}", "{\"__metadata__\":{\"format\":\"pt\"}}"};
    for (size_t i = 0; i < 2; i++) {
        char file[128] = {0};
        const size_t n = strlen(header[i]);
        file[0] = (char)n;
        memcpy(file + 8, header[i], n);
        scratch_write(s, "file", file, 8 + n);
        assert_int_equal(hstu_dataset_recognise(scratch_path(s, "file")), i == 0);
    }
    assert_int_equal(hstu_dataset_recognise(scratch_path(s, "none")), 0);
    assert_int_equal(hstu_dataset_recognise(s->folder), 0);
    assert_int_equal(hstu_dataset_recognise("/dev/null"), 0);
    assert_int_equal(hstu_dataset_recognise(NULL), 0);
    scratch_gzip(s, "file.gz", "wb", "user_id,sequence,actions\n", 25);
    assert_int_equal(hstu_dataset_recognise(scratch_path(s, "file.gz")), 1);
}

/* However small the table is, and so however many passes it takes, the counts are those of an array. */
static void test_item_counts(void **state)
{
    (void)state;
    enum { N = 30000, IDS = 3000 };
    static int64_t id[N], wide[N];
    hstu_summary dense, hashed;
    uint32_t x = 1;
    for (int i = 0; i < N; i++) {
        x = x * 1664525 + 1013904223;
        const uint32_t a = (x >> 8) % IDS;
        x = x * 1664525 + 1013904223;
        const uint32_t b = (x >> 8) % IDS;
        id[i] = a < b ? a : b; /* small ones more often */
        wide[i] = INT64_MAX - 1 - id[i];
    }
    static const hs_itemcount_limits array = {IDS, 2};
    assert_int_equal(hs_itemcount(&dense, id, N, IDS - 1, &array, NULL, NULL), HSTU_OK);
    assert_true(dense.n_items > IDS / 2 && dense.n_top == HSTU_SUMMARY_TOP);
    for (int64_t slots = 1 << 7; slots <= 1 << 13; slots *= 8) {
        const hs_itemcount_limits table = {0, slots};
        assert_int_equal(hs_itemcount(&hashed, id, N, IDS - 1, &table, NULL, NULL), HSTU_OK);
        assert_int_equal(hashed.n_items, dense.n_items);
        assert_memory_equal(hashed.top_item, dense.top_item, sizeof dense.top_item);
        assert_memory_equal(hashed.top_events, dense.top_events, sizeof dense.top_events);
    }
    assert_int_equal(hs_itemcount(&hashed, wide, N, INT64_MAX - 1, &hs_itemcount_default, NULL, NULL), HSTU_OK);
    assert_int_equal(hashed.n_items, dense.n_items);
    assert_memory_equal(hashed.top_events, dense.top_events, sizeof dense.top_events);
    assert_int_equal(hashed.top_item[0], INT64_MAX - 1 - dense.top_item[0]);
}

static void test_cancelled(void **state)
{
    scratch *s = *state;
    hstu_dataset *dataset = NULL;
    hstu_summary summary = {.n_users = -7};
    hstu_error err = {0};
    static const volatile int stop = 1;
    const hstu_progress progress = {.cancel = &stop};
    scratch_text(s, "sessions.csv", "user_id,sequence,actions,length\n7,\"[5, 6]\",\"[1, 2]\",2\n");
    assert_int_equal(hstu_dataset_open(&dataset, scratch_path(s, "sessions.csv"), NULL, &err), HSTU_OK);
    assert_int_equal(hstu_summary_make(&summary, dataset, &progress, &err), HSTU_ECANCELLED);
    assert_int_equal(summary.n_users, -7);
    hstu_dataset_close(dataset);
    assert_int_equal(hstu_summary_make(&summary, NULL, NULL, &err), HSTU_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_rows, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_in_it, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_recognise, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_item_counts),
        cmocka_unit_test_setup_teardown(test_cancelled, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
