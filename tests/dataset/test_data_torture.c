/* Every allocation of preprocessing, of opening sequence files and of making histories, ranking samples and replays
 * fails once: each time an error, nothing left behind, nothing leaked (AddressSanitizer sees that). */
#include "dataset/kuairand_files.h"

#include "base/error.h"

#include "torture.h"

static char path[512];

static hstu_status preprocess(void *ctx, hstu_error *err)
{
    scratch *s = ctx;
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    options.threads = 1; /* the same allocations each time */
    const hstu_status status = hstu_preprocess(&options, NULL, err);
    if (status != HSTU_OK)
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
    return status;
}

static hstu_status open_dataset(void *ctx, hstu_error *err)
{
    (void)ctx;
    hstu_dataset *dataset = NULL;
    hstu_histories *histories = NULL;
    hstu_dataset_info info;
    hstu_history_options options;
    hstu_status status = hstu_dataset_open(&dataset, path, NULL, err);
    if (status != HSTU_OK) {
        assert_null(dataset);
        return status;
    }
    hstu_dataset_get_info(dataset, &info);
    hstu_history_options_init(&options);
    if (info.kind != HSTU_DATASET_SASREC)
        options.protocol = HSTU_PROTOCOL_SESSIONS;
    status = hstu_histories_open(&histories, dataset, &options, err);
    assert_int_equal(status == HSTU_OK, histories != NULL);
    hstu_histories_close(histories);
    hstu_dataset_close(dataset);
    return status;
}

static hstu_status open_samples(void *ctx, hstu_error *err)
{
    (void)ctx;
    hstu_dataset *dataset = NULL;
    hstu_ranking_samples *samples = NULL;
    hstu_ranking_options options;
    hstu_ranking_options_init(&options);
    options.max_candidates = 2;
    options.split = HSTU_SPLIT_ALL;
    HS_TRY(hstu_dataset_open(&dataset, path, NULL, err));
    const hstu_status status = hstu_ranking_samples_open(&samples, dataset, &options, err);
    assert_int_equal(status == HSTU_OK, samples != NULL);
    hstu_ranking_samples_close(samples);
    hstu_dataset_close(dataset);
    return status;
}

static hstu_status open_replay(void *ctx, hstu_error *err)
{
    (void)ctx;
    hstu_dataset *dataset = NULL;
    hstu_replay *replay = NULL;
    hstu_replay_options options;
    hstu_replay_options_init(&options);
    options.min_history = 0;
    options.contextual = strstr(path, "sasrec") == NULL;
    HS_TRY(hstu_dataset_open(&dataset, path, NULL, err));
    const hstu_status status = hstu_replay_open(&replay, dataset, &options, err);
    assert_int_equal(status == HSTU_OK, replay != NULL);
    hstu_replay_close(replay);
    hstu_dataset_close(dataset);
    return status;
}

static void test_all(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    copy_tiny_features(s);
    torture(preprocess, s, 50);
    static const char *const files[] = {
        "KuaiRand-1K/sequences.safetensors", "KuaiRand-1K/processed_inference_sequences.csv", "sasrec.csv"};
    scratch_copy(s, "sasrec.csv", TEST_DATA "/fuzz/sasrec.csv");
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s", scratch_path(s, files[i]));
        torture(open_dataset, NULL, 15);
    }
    torture(open_replay, NULL, 15); /* of the last one */
    static const char *const whole_users[] = {"KuaiRand-1K/sequences.safetensors", "KuaiRand-1K/processed_seqs.csv"};
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s", scratch_path(s, whole_users[i]));
        torture(open_samples, NULL, 20);
        torture(open_replay, NULL, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
