/* Every allocation fails once while a cache is opened, and so does a range of addresses that cannot be: HSTU_ENOMEM,
 * the output is untouched, nothing leaks. */
#include "torture.h"

#include "cache/kvcache.h"

static const hs_cache_shape shape = {.page_tokens = 64, .page_bytes = 4096, .words_per_token = 1, .n_head_words = 2};

static hstu_status open_cache(void *ctx, hstu_error *err)
{
    hs_cache *cache = NULL;
    const hstu_status status = hs_cache_open(&cache, &shape, *(const uint64_t *)ctx, err);
    assert_int_equal(cache != NULL, status == HSTU_OK);
    hs_cache_close(cache);
    return status;
}

static void test_open(void **state)
{
    (void)state;
    uint64_t budget = 1 << 20;
    torture(open_cache, &budget, 1);
}

static void test_more_than_can_be_addressed(void **state)
{
    (void)state;
    hs_cache_shape large = shape;
    large.page_bytes = (size_t)1 << 24;
    hs_cache *cache = NULL;
    hstu_error err = {0};
    assert_int_equal(hs_cache_open(&cache, &large, UINT64_MAX, &err), HSTU_ENOMEM);
    assert_null(cache);
    assert_non_null(strstr(err.msg, "the pages of a cache"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_more_than_can_be_addressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
