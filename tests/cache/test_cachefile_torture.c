/* Every allocation of a save fails once, on its own: the error is HSTU_ENOMEM and a sentence, nothing is held any more,
 * and the file that was there is still whole. */
#define _DEFAULT_SOURCE /* mkstemp */
#include "cache/kvcache.h"

#include <stdlib.h>

#include "torture.h"

enum { N_TOKENS = 5 };

static const hs_cache_shape shape = {.page_tokens = 32, .page_bytes = 256, .words_per_token = 1, .n_head_words = 0};
static const unsigned char fingerprint[16];
static char path[] = "/tmp/hstu_cachefile_torture_XXXXXX";

/* What the file on disk holds. */
static hstu_status load(uint64_t n_users, hstu_error *err)
{
    hs_cache *cache = NULL;
    hs_cache_loaded loaded = {0};
    hstu_status status = hs_cache_open(&cache, &shape, 1 << 16, err);
    if (status != HSTU_OK)
        return status;
    status = hs_cache_load(cache, path, fingerprint, &loaded, err);
    assert_int_equal(loaded.n_users, status == HSTU_OK ? n_users : 0);
    hs_cache_close(cache);
    return status;
}

static void add_user(hs_cache *cache, int64_t user_id)
{
    static const int64_t word[N_TOKENS] = {1, 2, 3, 4, 5};
    const hs_cache_history history = {.user_id = user_id, .word = word, .n_tokens = N_TOKENS};
    hs_cache_lease lease;
    char *page[1];
    hs_cache_acquire(cache, &history, N_TOKENS, &lease, page, NULL);
    assert_true(lease.writes);
    hs_cache_commit(cache, &lease, &history);
}

/* The first save, of one user, left a file; this one is of two. */
static hstu_status save(void *cache, hstu_error *err)
{
    hs_cache_stats stats;
    const hstu_status status = hs_cache_save(cache, path, fingerprint, err);
    hs_cache_get_stats(cache, &stats);
    assert_true(stats.n_held == 0 && stats.n_users == 2);
    const long left = torture_left;
    torture_left = 0;
    assert_int_equal(load(status == HSTU_OK ? 2 : 1, NULL), HSTU_OK);
    torture_left = left;
    return status;
}

static hstu_status load_one(void *ctx, hstu_error *err)
{
    (void)ctx;
    return load(1, err);
}

static void test_allocations(void **state)
{
    (void)state;
    hs_cache *cache = NULL;
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && close(fd) == 0);
    assert_int_equal(hs_cache_open(&cache, &shape, 1 << 16, NULL), HSTU_OK);
    add_user(cache, 1);
    assert_int_equal(hs_cache_save(cache, path, fingerprint, NULL), HSTU_OK);
    torture(load_one, NULL, 0);
    add_user(cache, 2);
    torture(save, cache, 3);
    hs_cache_close(cache);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
