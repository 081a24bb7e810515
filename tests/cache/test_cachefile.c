/* Cache files: what comes back, in which order, and into how much room; what a save that fails or is killed leaves;
 * serving goes on. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "cachefile_support.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void check_order(const hs_cache *c, const int64_t *user, size_t n)
{
    uint32_t e = c->entry[0].newer;
    for (size_t i = 0; i < n; i++, e = c->entry[e].newer)
        assert_int_equal(c->entry[e].user_id, user[i]);
    assert_int_equal(e, 0);
}

/* ---- What comes back --------------------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
    (void)state;
    static bytes first, second;
    hs_cache *cache = open_users(6), *again = open_large();
    const story touched = make_story(2, 34);
    assert_int_equal(ask(cache, &touched), 34);
    save(cache);
    read_bytes(&first);
    const hs_cache_loaded loaded = load(again);
    assert_true(loaded.n_users == 6 && loaded.n_tokens == 17 * 21 && !loaded.n_damaged && !loaded.n_no_room);
    check_order(again, (const int64_t[]){1, 3, 4, 5, 6, 2}, 6);
    save(again);
    read_bytes(&second);
    assert_int_equal(first.n, second.n);
    assert_memory_equal(first.data, second.data, first.n);
    for (int64_t id = 1; id <= 6; id++) {
        story s = make_story(id, 17 * id + 3); /* goes on where the file ended */
        assert_int_equal(ask(again, &s), 17 * id);
        s.head[0]++;
        assert_int_equal(ask(again, &s), 0);
    }
    hs_cache_close(cache);
    hs_cache_close(again);
}

static void test_empty(void **state)
{
    (void)state;
    hs_cache *cache = open_users(0);
    hs_cache_loaded loaded;
    save(cache);
    assert_int_equal(load_anew(3, &loaded), 0);
    assert_true(!loaded.n_damaged && !loaded.n_no_room && !loaded.n_tokens);
    hs_cache_close(cache);
}

static void test_less_room(void **state)
{
    (void)state;
    hs_cache *cache = open_users(6); /* of 1, 2, 2, 3, 3, 4 pages */
    save(cache);
    hs_cache_close(cache);
    cache = open_pages(6);
    const hs_cache_loaded loaded = load(cache); /* 6 fits, 5 and 4 do not, then 3 does, and 2 and 1 not */
    assert_true(loaded.n_users == 2 && loaded.n_no_room == 4 && loaded.n_damaged == 0);
    check_order(cache, (const int64_t[]){3, 6}, 2);
    hs_cache_close(cache);
}

static void test_users_that_are_there(void **state)
{
    (void)state;
    hs_cache *cache = open_users(4);
    save(cache);
    hs_cache_close(cache);
    cache = open_pages(11);
    const story mine = make_story(3, 96), other = make_story(9, 33);
    (void)ask(cache, &mine);
    (void)ask(cache, &other);
    const hs_cache_loaded loaded = load(cache);
    assert_true(loaded.n_users == 3 && loaded.n_no_room == 0 && loaded.n_damaged == 0);
    check_order(cache, (const int64_t[]){1, 2, 4, 3, 9}, 5);
    assert_int_equal(ask(cache, &mine), 96);
    assert_int_equal(load(cache).n_users, 0);
    hs_cache_close(cache);
}

/* The file, saved anew, holds none of a story's rows from one on. */
static void expect_gone(hs_cache *cache, const story *s, int64_t from)
{
    static bytes file;
    uint64_t row[TOKENS_MOST];
    rows_of(s, row);
    save(cache);
    read_bytes(&file);
    for (int64_t i = from; i < s->n_tokens; i++)
        for (size_t at = 0; at + 8 <= file.n; at++)
            assert_memory_not_equal(file.data + at, &row[i], 8);
}

/* Pages go from user to user, and from a history to another one of the same user: a file tells of what is there
 * alone. */
static void test_no_rows_of_others(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(2);
    const story secret = make_story(77, 64), next = make_story(5, 40), other = make_story(6, 7);
    story edited = next;
    edited.word[35 * WORDS]++;
    edited.n_tokens = 36;
    assert_int_equal(ask(cache, &secret), 0);
    assert_int_equal(ask(cache, &next), 0);
    expect_gone(cache, &secret, 0);
    assert_int_equal(ask(cache, &edited), 35);
    expect_gone(cache, &next, 35);
    assert_true(hs_cache_drop_user(cache, 5));
    assert_int_equal(ask(cache, &other), 0);
    expect_gone(cache, &next, 0);
    hs_cache_close(cache);
}

static void test_leases_under_way(void **state)
{
    (void)state;
    hs_cache *cache = open_users(3);
    hs_cache_lease reads, writes;
    char *page[TOKENS_MOST / PAGE_TOKENS];
    const story read = make_story(2, 34), written = make_story(3, 90);
    const hs_cache_history read_history = history_of(&read), written_history = history_of(&written);
    hs_cache_loaded loaded;
    hs_cache_acquire(cache, &read_history, 34, &reads, page, NULL);
    hs_cache_acquire(cache, &written_history, 90, &writes, page, NULL);
    assert_true(!reads.writes && reads.reused == 34 && writes.writes);
    save(cache);
    hs_cache_release(cache, &reads);
    hs_cache_release(cache, &writes);
    check_cache(cache);
    hs_cache_close(cache);
    assert_int_equal(load_anew(3, &loaded), 1u << 1 | 1u << 2);
    assert_int_equal(loaded.n_damaged, 0);
}

/* ---- Saves that fail --------------------------------------------------------------------------------------------- */

static void die(int signal_number)
{
    (void)signal_number;
    (void)kill(getpid(), SIGKILL);
}

/* Saves in another process that may write files of so many bytes; returns how it ended. What it does then: be killed,
 * or see the error and end with 0 when the sentence is right. */
static int save_elsewhere(hs_cache *cache, rlim_t n_bytes, void (*at_limit)(int))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        hstu_error err = {0};
        const struct rlimit limit = {n_bytes, n_bytes};
        (void)signal(SIGXFSZ, at_limit);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(3);
        const hstu_status status = hs_cache_save(cache, path, print_a, &err);
        _exit(status == HSTU_EIO && strstr(err.msg, "cannot write") && strstr(err.msg, path) ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int count_files(void)
{
    char command[128];
    int n = 0;
    (void)snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &n), 1);
    assert_int_equal(pclose(pipe), 0);
    return n;
}

static void test_killed_save(void **state)
{
    (void)state;
    static bytes before, after;
    hs_cache *cache = open_users(3);
    save(cache);
    read_bytes(&before);
    const story more = make_story(4, 68);
    (void)ask(cache, &more);
    for (rlim_t n = 1; n < before.n; n += 500) {
        const int status = save_elsewhere(cache, n, die);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(count_files(), 2); /* the file, and what the killed process left */
        read_bytes(&after);
        assert_int_equal(before.n, after.n);
        assert_memory_equal(before.data, after.data, before.n);
    }
    hs_cache_loaded loaded;
    assert_int_equal(load_anew(4, &loaded), 14);
    save(cache); /* and clears up */
    assert_int_equal(count_files(), 1);
    assert_int_equal(load_anew(4, &loaded), 30);
    hs_cache_close(cache);
}

static void test_failed_save(void **state)
{
    (void)state;
    hstu_error err = {0};
    hs_cache_loaded loaded;
    hs_cache *cache = open_users(3);
    save(cache);
    const story more = make_story(4, 68);
    (void)ask(cache, &more);
    const int status = save_elsewhere(cache, 1000, SIG_IGN);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(count_files(), 1);
    assert_int_equal(load_anew(4, &loaded), 14);
    char nowhere[128];
    (void)snprintf(nowhere, sizeof nowhere, "%s/no/cache", folder);
    assert_int_equal(hs_cache_save(cache, nowhere, print_a, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "cannot create"));
    assert_int_equal(hs_cache_save(cache, "/dev/full", print_a, &err), HSTU_EIO);
    assert_string_equal(err.msg, "cannot write '/dev/full': No space left on device");
    check_cache(cache);
    assert_int_equal(cache->n_held, 0);
    hs_cache_close(cache);
}

/* ---- Serving goes on --------------------------------------------------------------------------------------------- */

typedef struct serving {
    hs_cache *cache;
    uint64_t seed;
    atomic_bool *saved; /* all saves are done */
} serving;

/* Histories that grow, shrink and are cut, from more users than there is room for, until the last save is done and once
 * more. */
static void *serve(void *ctx)
{
    serving *s = ctx;
    for (bool last = false; !last;) {
        last = atomic_load(s->saved);
        const story asked = make_story(1 + below(&s->seed, 9), 1 + below(&s->seed, 120));
        uint64_t row[TOKENS_MOST];
        char *page[TOKENS_MOST / PAGE_TOKENS];
        hs_cache_lease lease;
        const hs_cache_history history = history_of(&asked);
        rows_of(&asked, row);
        hs_cache_acquire(s->cache, &history, asked.n_tokens, &lease, page, NULL);
        if (right_rows(page, row, lease.reused) != lease.reused)
            return s;
        if (lease.writes)
            fill_rows(page, row, lease.reused, asked.n_tokens);
        hs_cache_commit(s->cache, &lease, &history);
    }
    return NULL;
}

static void *save_and_load(void *ctx)
{
    serving *s = ctx;
    bool is_wrong = false;
    for (int i = 0; i < 30; i++) {
        hs_cache_loaded loaded = {0};
        is_wrong |= hs_cache_save(s->cache, path, print_a, NULL) != HSTU_OK;
        hs_cache_drop_user(s->cache, 1 + below(&s->seed, 9));
        is_wrong |= hs_cache_load(s->cache, path, print_a, &loaded, NULL) != HSTU_OK || loaded.n_damaged > 0;
    }
    atomic_store(s->saved, true);
    return is_wrong ? s : NULL;
}

static void test_serving_goes_on(void **state)
{
    (void)state;
    enum { N_SERVING = 3 };
    hs_cache *cache = open_pages(20);
    atomic_bool saved = false;
    pthread_t thread[N_SERVING + 1];
    serving s[N_SERVING + 1];
    for (int i = 0; i <= N_SERVING; i++) {
        s[i] = (serving){cache, (uint64_t)i, &saved};
        assert_int_equal(pthread_create(&thread[i], NULL, i < N_SERVING ? serve : save_and_load, &s[i]), 0);
    }
    for (int i = 0; i <= N_SERVING; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(thread[i], &wrong), 0);
        assert_null(wrong);
    }
    check_cache(cache);
    save(cache);
    hs_cache *again = open_pages(20);
    const hs_cache_loaded loaded = load(again);
    assert_true(loaded.n_users == cache->n_users && loaded.n_users > 0 && loaded.n_damaged == 0);
    for (uint32_t e = cache->entry[0].newer; e; e = cache->entry[e].newer) {
        const story held = make_story(cache->entry[e].user_id, cache->entry[e].n_tokens);
        assert_int_equal(ask(again, &held), held.n_tokens);
    }
    hs_cache_close(again);
    hs_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_less_room),
        cmocka_unit_test(test_users_that_are_there),
        cmocka_unit_test(test_no_rows_of_others),
        cmocka_unit_test(test_leases_under_way),
        cmocka_unit_test(test_killed_save),
        cmocka_unit_test(test_failed_save),
        cmocka_unit_test(test_serving_goes_on),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
