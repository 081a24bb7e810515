/* Damaged cache files and files that lie: what is refused, what is lost, and that all that is left is right. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "cachefile_support.h"

#include <xxhash.h>

static const unsigned char print_b[16] = "a fingerprint b";

static void put(unsigned char *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

/* ---- Damage ------------------------------------------------------------------------------------------------------ */

/* Loading must fail with that code and words, and add nothing. */
static void expect_refusal(hs_cache *cache, const unsigned char *print, hstu_status code, const char *words)
{
    hstu_error err = {0};
    hs_cache_loaded loaded = {.n_users = 99};
    assert_int_equal(hs_cache_load(cache, path, print, &loaded, &err), code);
    if (err.code != code || !strstr(err.msg, words) || !strstr(err.msg, path))
        fail_msg("'%s' is not said in: %s", words, err.msg);
    assert_int_equal(loaded.n_users, 99);
    assert_int_equal(cache->n_users, 0);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        unsigned char value;
        bool repair; /* the header's checksum */
        hstu_status code;
        const char *words;
    } bad[] = {
        {0, 'H', true, HSTU_EFORMAT, "is not the file of a KV cache"},
        {8, 2, true, HSTU_EFORMAT, "format version 2, and this program reads version 1; it can be deleted"},
        {12, 65, true, HSTU_EFORMAT, "the header"},
        {20, 1, false, HSTU_EFORMAT, "damaged"},
        {32, 64, true, HSTU_EFORMAT, "pages of 64 tokens, and those of the cache have 32"},
        {31, 1, true, HSTU_EINVAL, "written for another model, dtype or processor"},
        {41, 2, true, HSTU_EFORMAT,
            "has 512 bytes a page, 2 words a token and 3 in front, and the cache has 256, 2 and 3"},
        {48, 3, true, HSTU_EFORMAT, "3 words a token"},
        {52, 0, true, HSTU_EFORMAT, "0 in front"},
    };
    static bytes file;
    hs_cache *cache = open_users(2);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    cache = open_large();
    expect_refusal(cache, print_b, HSTU_EINVAL, "can be deleted");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bytes changed = file;
        changed.data[bad[i].at] = bad[i].value;
        if (bad[i].at == 41)
            changed.data[40] = 0;
        if (bad[i].repair)
            put(changed.data + 56, XXH3_64bits(changed.data, 56));
        write_bytes(changed.data, changed.n);
        expect_refusal(cache, print_a, bad[i].code, bad[i].words);
    }
    for (size_t n = 0; n < HEADER_BYTES; n += 21) {
        write_bytes(file.data, n);
        expect_refusal(cache, print_a, HSTU_EFORMAT, "is not the file");
    }
    assert_int_equal(unlink(path), 0);
    expect_refusal(cache, print_a, HSTU_ENOENT, "cannot open");
    hs_cache_close(cache);
}

/* Whichever byte is damaged: one user is lost, or what follows, and all others are right. */
static void test_every_byte(void **state)
{
    (void)state;
    static bytes file;
    hs_cache_loaded loaded;
    hs_cache *cache = open_users(3);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    size_t n_one_lost = 0;
    for (size_t at = HEADER_BYTES; at < file.n; at++) {
        file.data[at] ^= 0x40;
        write_bytes(file.data, file.n);
        file.data[at] ^= 0x40;
        const unsigned whole = load_anew(3, &loaded);
        if (at < file.n - RECORD_BYTES)
            assert_int_equal(loaded.n_users + loaded.n_damaged, 3);
        else
            assert_true(whole == 14 && loaded.n_damaged == 1);
        assert_true(loaded.n_damaged >= 1 && loaded.n_no_room == 0);
        n_one_lost += loaded.n_damaged == 1;
    }
    assert_true(n_one_lost > file.n / 2);
}

static void test_every_length(void **state)
{
    (void)state;
    static bytes file;
    hs_cache_loaded loaded;
    hs_cache *cache = open_users(3);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    unsigned before = 0;
    for (size_t n = HEADER_BYTES; n < file.n; n++) {
        write_bytes(file.data, n);
        const unsigned whole = load_anew(3, &loaded);
        assert_int_equal(loaded.n_damaged, 1);
        assert_int_equal(whole & before, before); /* the longer, the more */
        before = whole;
    }
    assert_int_equal(before, 14);
}

/* Lies with right checksums. The first record is that of user 3: 51 tokens, 2 pages. */
static void test_lies(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
        uint64_t n_users, n_damaged;
    } lie[] = {
        {8, UINT64_MAX, 0, 3}, {8, (uint64_t)1 << 63, 0, 3},
        {8, 0, 0, 3},   /* then the content stands where a record should */
        {24, 0, 2, 1},  /* no tokens */
        {24, 52, 2, 1}, /* one more than there is */
        {24, 64, 2, 1}, /* as many as the pages hold */
        {24, INT64_MAX, 2, 1}, {24, UINT64_MAX, 2, 1}, {24, (uint64_t)1 << 60, 2, 1},
        {16, 2, 2, 0},         /* user 2 twice: the first counts */
        {0, 0x7478656e, 0, 3}, /* another kind of record */
    };
    static bytes file;
    hs_cache *cache = open_users(3);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        bytes changed = file;
        unsigned char *record = changed.data + HEADER_BYTES, *content = record + RECORD_BYTES;
        const size_t n = (size_t)get(record + 8) - 8;
        put(record + lie[i].at, lie[i].value);
        put(record + 32, XXH3_64bits(record, 32));
        put(content + n, XXH3_64bits_withSeed(content, n, get(record + 32)));
        write_bytes(changed.data, changed.n);
        cache = open_large();
        const hs_cache_loaded loaded = load(cache);
        if (loaded.n_users != lie[i].n_users || loaded.n_damaged != lie[i].n_damaged)
            fail_msg("lie %zu: %llu users, %llu damaged", i, (unsigned long long)loaded.n_users,
                (unsigned long long)loaded.n_damaged);
        hs_cache_close(cache);
    }
}

/* A user without tokens would be one without pages. */
static void test_no_tokens(void **state)
{
    (void)state;
    enum { CONTENT_BYTES = HEAD * 8 + 8 };
    static bytes file;
    hs_cache *cache = open_users(1);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    unsigned char *record = file.data + HEADER_BYTES, *content = record + RECORD_BYTES;
    put(record + 8, CONTENT_BYTES);
    put(record + 24, 0);
    put(record + 32, XXH3_64bits(record, 32));
    put(content + HEAD * 8, XXH3_64bits_withSeed(content, HEAD * 8, get(record + 32)));
    memmove(content + CONTENT_BYTES, file.data + file.n - RECORD_BYTES, RECORD_BYTES);
    write_bytes(file.data, HEADER_BYTES + RECORD_BYTES + CONTENT_BYTES + RECORD_BYTES);
    cache = open_large();
    const hs_cache_loaded loaded = load(cache);
    assert_true(loaded.n_users == 0 && loaded.n_damaged == 1 && loaded.n_no_room == 0);
    hs_cache_close(cache);
}

/* A last record that tells of more entries than there are: they are missed, as many as a file of that size can have
 * held. */
static void test_missing_entries(void **state)
{
    (void)state;
    static const uint64_t told[] = {0, 2, 3, 5, UINT64_MAX};
    static bytes file;
    hs_cache_loaded loaded;
    hs_cache *cache = open_users(3);
    save(cache);
    hs_cache_close(cache);
    read_bytes(&file);
    const uint64_t missed[] = {0, 0, 0, 2, file.n / RECORD_BYTES};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        unsigned char *end = file.data + file.n - RECORD_BYTES;
        put(end + 16, told[i]);
        put(end + 32, XXH3_64bits(end, 32));
        write_bytes(file.data, file.n);
        assert_int_equal(load_anew(3, &loaded), 14);
        assert_int_equal(loaded.n_damaged, missed[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_no_tokens),
        cmocka_unit_test(test_missing_entries),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
