/* Every allocation of preprocessing, of opening sequence files and of making histories fails once: each time an error, nothing
 * left behind, nothing leaked (AddressSanitizer sees that). */
#include "dataset/kuairand_files.h"

#include "torture.h"

static char path[512];

static hstu_status preprocess(void *ctx, hstu_error *err)
{
    scratch *s = ctx;
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
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

static void test_all(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    scratch_text(s, "KuaiRand-1K/data/user_features_1k.csv",
        "user_id,user_active_degree,follow_user_num_range,fans_user_num_range,friend_user_num_range,register_days_"
        "range\n"
        "1,\"a \"\"quoted\"\" one\",b,c,d,e\n");
    torture(preprocess, s, 50);
    static const char *const files[] = {
        "KuaiRand-1K/sequences.safetensors", "KuaiRand-1K/processed_inference_sequences.csv", "sasrec.csv"};
    scratch_copy(s, "sasrec.csv", TEST_DATA "/fuzz/sasrec.csv");
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s", scratch_path(s, files[i]));
        torture(open_dataset, NULL, 15);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
