/* Cache files for tests: a folder of their own, caches of users whose rows tell who they are, and what of them a file
 * gives back. */
#ifndef TESTS_CACHEFILE_SUPPORT_H
#define TESTS_CACHEFILE_SUPPORT_H

#include "cache_support.h"

#include <stdio.h>
#include <unistd.h>

enum { HEADER_BYTES = 64, RECORD_BYTES = 40, FILE_MOST = 1 << 16 };

static const unsigned char print_a[16] = "a fingerprint a";
static char folder[64], path[128];

typedef struct bytes {
    unsigned char data[FILE_MOST];
    size_t n;
} bytes;

/* A cache of 24 pages: more than the users here need. */
static inline hs_cache *open_large(void)
{
    static uint64_t budget_bytes;
    hs_cache *cache = NULL;
    if (!budget_bytes) {
        cache = open_pages(24);
        budget_bytes = cache->budget_bytes;
    } else {
        assert_int_equal(hs_cache_open(&cache, &support_shape, budget_bytes, NULL), HSTU_OK);
    }
    return cache;
}

static inline void read_bytes(bytes *out)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    out->n = fread(out->data, 1, sizeof out->data, file);
    assert_true(out->n < sizeof out->data);
    assert_int_equal(fclose(file), 0);
}

static inline void write_bytes(const unsigned char *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline story make_story(int64_t id, int64_t n_tokens)
{
    story s = {.user_id = id, .n_tokens = n_tokens, .head = {id, -id, INT64_MIN}};
    for (int64_t i = 0; i < TOKENS_MOST * WORDS; i++)
        s.word[i] = id * 1000 - 7 * i;
    return s;
}

/* One request of a story; returns how many tokens were reused, whose rows must be right. */
static inline int64_t ask(hs_cache *cache, const story *s)
{
    uint64_t row[TOKENS_MOST];
    char *page[TOKENS_MOST / PAGE_TOKENS];
    hs_cache_lease lease;
    const hs_cache_history history = history_of(s);
    rows_of(s, row);
    hs_cache_acquire(cache, &history, s->n_tokens, &lease, page, NULL);
    const int64_t reused = lease.reused;
    assert_int_equal(right_rows(page, row, reused), reused);
    if (lease.writes)
        fill_rows(page, row, reused, s->n_tokens);
    hs_cache_commit(cache, &lease, &history);
    check_cache(cache);
    return reused;
}

/* Users 1 to n with 17, 34, 51, ... tokens, user n the most recently used. */
static inline hs_cache *open_users(int64_t n)
{
    hs_cache *cache = open_large();
    for (int64_t id = 1; id <= n; id++) {
        const story s = make_story(id, 17 * id);
        assert_int_equal(ask(cache, &s), 0);
    }
    return cache;
}

static inline void save(hs_cache *cache)
{
    hstu_error err = {0};
    if (hs_cache_save(cache, path, print_a, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static inline hs_cache_loaded load(hs_cache *cache)
{
    hstu_error err = {0};
    hs_cache_loaded loaded = {0};
    if (hs_cache_load(cache, path, print_a, &loaded, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    check_cache(cache);
    return loaded;
}

/* Loads into a new cache and asks it for each of users 1 to n; returns the set of those that were whole, a bit each. */
static inline unsigned load_anew(int64_t n, hs_cache_loaded *loaded)
{
    hs_cache *cache = open_large();
    unsigned whole = 0, n_whole = 0;
    *loaded = load(cache);
    for (int64_t id = 1; id <= n; id++) {
        const story s = make_story(id, 17 * id);
        if (ask(cache, &s) == s.n_tokens) {
            whole |= 1u << id;
            n_whole++;
        }
    }
    assert_int_equal(n_whole, loaded->n_users);
    hs_cache_close(cache);
    return whole;
}

static inline int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/hstu_cachefile_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof path, "%s/cache", folder);
    return 0;
}

static inline int remove_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

#endif
