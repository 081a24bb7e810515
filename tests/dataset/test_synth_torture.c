/* Every allocation of making synthetic logs and of summaries fails once: each time an error, and nothing left behind. */
#include "dataset/kuairand_files.h"

#include "base/error.h"
#include "data/itemcount.h"

#include "torture.h"

static hstu_status make_logs(void *ctx, hstu_error *err)
{
    scratch *s = ctx;
    hstu_synth_options options;
    hstu_synth_report report;
    hstu_synth_options_init(&options);
    options.like = "KuaiRand-27K";
    options.data_root = s->folder;
    options.users = 9;
    options.events = 900;
    options.items = 90;
    options.threads = 2;
    options.overwrite = 1;
    const hstu_status status = hstu_synth(&options, &report, err);
    if (status != HSTU_OK && scratch_exists(s, "KuaiRand-27K/data"))
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-27K/data")), 0);
    return status;
}

static void test_synth(void **state)
{
    scratch *s = *state;
    torture(make_logs, s, 10);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-27K/data")), 5);
}

static char path[512];

static hstu_status summarise(void *ctx, hstu_error *err)
{
    hstu_dataset *dataset = NULL;
    hstu_summary summary;
    (void)ctx;
    HS_TRY(hstu_dataset_open(&dataset, path, NULL, err));
    const hstu_status status = hstu_summary_make(&summary, dataset, NULL, err);
    hstu_dataset_close(dataset);
    return status;
}

static hstu_status count_in_table(void *ctx, hstu_error *err)
{
    static const int64_t id[] = {INT64_MAX - 1, 5, 5};
    static const hs_itemcount_limits limits = {0, 16};
    (void)ctx;
    hstu_summary summary;
    const hstu_status status = hs_itemcount(&summary, id, 3, INT64_MAX - 1, &limits, NULL, err);
    if (status == HSTU_OK)
        assert_int_equal(summary.n_items, 2);
    return status;
}

static void test_summary(void **state)
{
    scratch *s = *state;
    scratch_text(s, "sessions.csv", "user_id,sequence,actions,length\n7,\"[5, 6]\",\"[1, 2]\",2\n");
    (void)snprintf(path, sizeof path, "%s", scratch_path(s, "sessions.csv"));
    torture(summarise, NULL, 4);
    torture(count_in_table, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_synth, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_summary, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
