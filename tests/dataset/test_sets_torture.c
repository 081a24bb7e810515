/* Every allocation of preprocessing MovieLens and custom logs fails once: each time an error, nothing left behind, nothing leaked
 * (AddressSanitizer sees that). */
#include "dataset/kuairand_files.h"

#include "torture.h"

static hstu_status preprocess_movielens(void *ctx, hstu_error *err)
{
    scratch *s = ctx;
    hstu_preprocess_options options = options_for(s, "ml-1m");
    options.threads = 1; /* the same allocations each time */
    const hstu_status status = hstu_preprocess(&options, NULL, err);
    if (status != HSTU_OK)
        assert_int_equal(count_entries(scratch_path(s, "ml-1m")), 3);
    return status;
}

/* The text in a later row makes it read twice. */
static hstu_status preprocess_custom(void *ctx, hstu_error *err)
{
    scratch *s = ctx;
    char path[512];
    const char *input[] = {path};
    (void)snprintf(path, sizeof path, "%s", scratch_path(s, "log.csv"));
    hstu_preprocess_options options = options_for(s, "custom");
    options.threads = 1;
    options.input = input;
    options.n_inputs = 1;
    options.action_columns = "click,buy=128";
    const hstu_status status = hstu_preprocess(&options, NULL, err);
    if (status != HSTU_OK)
        assert_int_equal(count_entries(scratch_path(s, "custom")), 0);
    return status;
}

static void test_all(void **state)
{
    scratch *s = *state;
    scratch_mkdir(s, "ml-1m");
    scratch_text(s, "ml-1m/users.dat", "2::M::56::16::70072\n1::F::1::10::48067\n");
    scratch_text(s, "ml-1m/movies.dat", "20::a (1990)::b\n30::b (1990)::b\n");
    scratch_text(s, "ml-1m/ratings.dat", "1::30::5::1000\n1::20::3::900\n2::30::1::2000\n3::30::2::5\n");
    torture(preprocess_movielens, s, 80);
    scratch_mkdir(s, "custom");
    scratch_text(s, "log.csv",
        "user_id,item_id,timestamp,click,buy\n7,5,1650882384,1,0\n7,\"a,b\",1650882385,0,1\n8,5,1650882384,0,0\n");
    torture(preprocess_custom, s, 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
