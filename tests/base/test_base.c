/* base: allocation limits, buffers, arenas, half precision, random numbers, JSON strictness, output files. */
#include "base/alloc.h"
#include "base/arena.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/half.h"
#include "base/json.h"
#include "base/mapfile.h"
#include "base/outfile.h"
#include "base/random.h"
#include "base/reserve.h"
#include "base/system.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_alloc_refuses_overflow(void **state)
{
    (void)state;
    assert_null(hs_alloc(SIZE_MAX, 2));
    assert_null(hs_alloc_aligned(SIZE_MAX / 2, 3));
    assert_null(hs_alloc_aligned(SIZE_MAX, 1));
    char *p = hs_alloc_aligned(65, 1);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 65; i < 128; i++)
        assert_int_equal(p[i], 0);
    hs_free(p);
    p = hs_alloc(0, 8);
    assert_non_null(p);
    hs_free(p);
    const size_t large = ((size_t)9 << 20) + 3; /* large pages */
    p = hs_alloc_aligned(large, 1);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 1, large);
    for (size_t i = large; i % 64 != 0; i++)
        assert_int_equal(p[i], 0);
    hs_free(p);
}

static void test_error_is_one_clean_sentence(void **state)
{
    (void)state;
    hstu_error err;
    assert_int_equal(hs_fail(&err, HSTU_EFORMAT, 7, "name '%s' is odd", "a\n\x1b[31m"), HSTU_EFORMAT);
    assert_string_equal(err.msg, "name 'a??[31m' is odd");
    assert_int_equal(err.pos, 7);
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    hs_fail(&err, HSTU_EIO, 0, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_int_equal(hs_fail(NULL, HSTU_EIO, 0, "no receiver"), HSTU_EIO);
    assert_string_equal(hstu_status_name(HSTU_ESHAPE), "HSTU_ESHAPE");
    assert_string_equal(hstu_status_text((hstu_status)-99), "unknown status");
}

static void test_arena_keeps_its_limit(void **state)
{
    (void)state;
    hs_arena arena;
    hs_arena_init(&arena, 10000);
    assert_null(hs_arena_alloc(&arena, 10001, 1));
    assert_null(hs_arena_alloc(&arena, SIZE_MAX, 16));
    char *first = hs_arena_alloc(&arena, 100, 1);
    assert_non_null(first);
    memset(first, 1, 100);
    char *second = hs_arena_alloc(&arena, 9000, 1);
    assert_non_null(second);
    memset(second, 2, 9000);
    assert_int_equal(first[99], 1);
    assert_null(hs_arena_alloc(&arena, 9000, 1));
    hs_arena_reset(&arena);
    second = hs_arena_alloc(&arena, 9000, 1);
    assert_non_null(second);
    assert_string_equal(hs_arena_strndup(&arena, "word and more", 4), "word");
    hs_arena_free(&arena);
}

static void test_dynbuf_keeps_its_limit(void **state)
{
    (void)state;
    hs_dynbuf buf;
    hs_dynbuf_init(&buf, 10);
    assert_true(hs_dynbuf_append_text(&buf, "12345"));
    assert_true(hs_dynbuf_printf(&buf, "%d", 678));
    assert_false(hs_dynbuf_append_text(&buf, "9ab"));
    assert_string_equal(buf.data, "12345678");
    assert_true(hs_dynbuf_append_text(&buf, "9a"));
    assert_int_equal(buf.len, 10);
    hs_dynbuf_free(&buf);
}

static void test_half_values(void **state)
{
    (void)state;
    static const struct {
        uint16_t bits;
        double value;
    } cases[] = {{0x3c00, 1.0}, {0xc000, -2.0}, {0x7bff, 65504.0}, {0x0001, 5.9604644775390625e-8},
        {0x03ff, 6.097555160522461e-5}, {0x0400, 6.103515625e-5}, {0x8000, -0.0}, {0x3555, 0.333251953125}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true((double)hs_f16_to_f32(cases[i].bits) == cases[i].value);
    assert_true(hs_f16_to_f32(0x7c00) > 3e38f);
    assert_true(hs_f16_to_f32(0x7e00) != hs_f16_to_f32(0x7e00));
    assert_true(hs_bf16_to_f32(0x3f80) == 1.0f);
    assert_true(hs_bf16_to_f32(0xc049) == -3.140625f);
}

/* Every bfloat16, and what lies between it and the next: nearer, in the middle, and next to the middle. */
static void test_bf16_rounding(void **state)
{
    (void)state;
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t high = 0; high <= 0xffff; high++) {
        for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
            const uint32_t bits = high << 16 | low[i];
            float value;
            memcpy(&value, &bits, sizeof value);
            const uint16_t found = hs_f32_to_bf16(value);
            if (value != value) {
                assert_true(hs_bf16_to_f32(found) != hs_bf16_to_f32(found));
                assert_int_equal(found >> 15, high >> 15); /* keeps its sign */
                continue;
            }
            const uint32_t up = low[i] > 0x8000 || (low[i] == 0x8000 && high % 2 == 1); /* away from zero */
            assert_int_equal(found, high + up);
        }
    }
    assert_int_equal(hs_f32_to_bf16(3.40282347e+38f), 0x7f80); /* FLT_MAX is nearer to 2^128 */
}

/* Around the middle between each half and the next: below it, in it, above it; 2^16 stands in for infinity. */
static void test_f16_rounding(void **state)
{
    (void)state;
    for (uint16_t low = 0; low < 0x7c00; low++) {
        const float next = low == 0x7bff ? 65536.0f : hs_f16_to_f32((uint16_t)(low + 1));
        const float middle = 0.5f * (hs_f16_to_f32(low) + next);
        const uint16_t up = low + 1;
        assert_int_equal(hs_f32_to_f16(hs_f16_to_f32(low)), low);
        assert_int_equal(hs_f32_to_f16(nextafterf(middle, 0.0f)), low);
        assert_int_equal(hs_f32_to_f16(middle), low % 2 ? up : low);
        assert_int_equal(hs_f32_to_f16(nextafterf(middle, 1e9f)), up);
        assert_int_equal(hs_f32_to_f16(-middle), 0x8000 | (low % 2 ? up : low));
    }
    assert_int_equal(hs_f32_to_f16(hs_f16_to_f32(0x7c00)), 0x7c00);
    assert_int_equal(hs_f32_to_f16(hs_f16_to_f32(0xfc00)), 0xfc00);
    assert_int_equal(hs_f32_to_f16(3.4e38f), 0x7c00);
    assert_int_equal(hs_f32_to_f16(1e-45f), 0);
    static const uint32_t nans[] = {0x7f800001, 0xff800001, 0x7fc00000, 0xffffffff, 0x7f802000};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float value;
        memcpy(&value, &nans[i], sizeof value);
        const uint16_t found = hs_f32_to_f16(value);
        assert_true(hs_f16_to_f32(found) != hs_f16_to_f32(found));
        assert_int_equal(found >> 15, nans[i] >> 31); /* keeps its sign */
    }
}

/* The published known-answer vectors of Philox4x32-10 (Random123, kat_vectors). */
static void test_random_known_answers(void **state)
{
    (void)state;
    uint32_t out[4];
    hs_random_block(out, 0, 0, 0);
    assert_int_equal(out[0], 0x6627e8d5);
    assert_int_equal(out[1], 0xe169c58d);
    assert_int_equal(out[2], 0xbc57ac4c);
    assert_int_equal(out[3], 0x9b00dbd8);
    hs_random_block(out, UINT64_MAX, UINT64_MAX, UINT64_MAX);
    assert_int_equal(out[0], 0x408f276d);
    assert_int_equal(out[1], 0x41c83b0e);
    assert_int_equal(out[2], 0xa20bc7c6);
    assert_int_equal(out[3], 0x6d5451fd);
}

static hstu_status parse(const char *text, hstu_error *err)
{
    cJSON *root = NULL;
    const hstu_status status = hs_json_parse(&root, text, strlen(text), "f.json", err);
    if (status == HSTU_OK)
        cJSON_Delete(root);
    return status;
}

static void test_json_is_strict(void **state)
{
    (void)state;
    hstu_error err;
    assert_int_equal(parse(" {\"a\": [1, 2.5, \"x\"]} \n", &err), HSTU_OK);
    assert_int_equal(parse("", &err), HSTU_EFORMAT);
    assert_int_equal(parse("{} x", &err), HSTU_EFORMAT);
    assert_int_equal(err.pos, 3);
    assert_int_equal(parse("{\"a\": 1, \"b\": {\"c\": 1, \"d\": 2, \"c\": 3}}", &err), HSTU_EFORMAT);
    assert_string_equal(err.msg, "f.json: the JSON key 'c' stands twice in one object");
    cJSON *root = NULL;
    assert_int_equal(hs_json_parse(&root, NULL, 0, "f.json", &err), HSTU_EFORMAT); /* an empty file's map */
    assert_int_equal(hs_json_parse(&root, "1\0", 2, "f.json", &err), HSTU_EFORMAT);
    char deep[5000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(parse(deep, &err), HSTU_EFORMAT);
}

static void test_json_members(void **state)
{
    (void)state;
    hstu_error err;
    cJSON *root = NULL;
    const char *text = "{\"i\": 7, \"f\": 7.5, \"big\": 1e300, \"s\": \"x\", \"b\": true}";
    assert_int_equal(hs_json_parse(&root, text, strlen(text), "f.json", &err), HSTU_OK);
    int64_t i = -1;
    assert_int_equal(hs_json_get_int(root, "i", &i, "f.json", &err), HSTU_OK);
    assert_int_equal(i, 7);
    assert_int_equal(hs_json_get_int(root, "absent", &i, "f.json", &err), HSTU_OK);
    assert_int_equal(i, 7);
    assert_int_equal(hs_json_get_int(root, "f", &i, "f.json", &err), HSTU_EFORMAT);
    assert_int_equal(hs_json_get_int(root, "big", &i, "f.json", &err), HSTU_EFORMAT);
    assert_int_equal(hs_json_get_int(root, "s", &i, "f.json", &err), HSTU_EFORMAT);
    bool b = false;
    assert_int_equal(hs_json_get_bool(root, "b", &b, "f.json", &err), HSTU_OK);
    assert_true(b);
    assert_int_equal(hs_json_get_bool(root, "i", &b, "f.json", &err), HSTU_EFORMAT);
    const char *s = NULL;
    assert_int_equal(hs_json_get_string(root, "s", &s, "f.json", &err), HSTU_OK);
    assert_string_equal(s, "x");
    cJSON_Delete(root);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/hstu_base_XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    (void)snprintf(path, sizeof path, "%s/file", folder);
    hstu_error err;
    hs_outfile *file = NULL;
    assert_int_equal(hs_outfile_open(&file, path, &err), HSTU_OK);
    assert_int_equal(hs_outfile_printf(file, &err, "%d,%s", 5, "five"), HSTU_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(hs_outfile_commit(file, &err), HSTU_OK);
    hs_mapfile map = {0};
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_OK);
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "5,five", 6);
    hs_mapfile_close(&map);
    assert_int_equal(hs_outfile_open(&file, path, &err), HSTU_OK);
    assert_int_equal(hs_outfile_write(file, "lost", 4, &err), HSTU_OK);
    hs_outfile_discard(file);
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_OK);
    assert_int_equal(map.size, 6);
    hs_mapfile_close(&map);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(hs_mapfile_open(&map, folder, &err), HSTU_EINVAL);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_EINVAL);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* fails if a temporary file remained */
}

/* What is given back reads the same again, and memory outside the map keeps what it holds. */
static void test_released_map(void **state)
{
    enum { BYTES = 1 << 18 };
    static unsigned char whole[BYTES], other[BYTES];
    char path[] = "/tmp/hstu_base_XXXXXX";
    hs_mapfile map = {0};
    hstu_error err;
    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        whole[i] = other[i] = (unsigned char)(i * 31 + 1);
    const int fd = mkstemp(path);
    assert_int_equal(write(fd, whole, BYTES), BYTES);
    assert_int_equal(close(fd), 0);
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_OK);
    hs_mapfile_expect_scan(&map);
    assert_memory_equal(map.data, whole, BYTES);
    hs_mapfile_release(&map, map.data + 5, BYTES - 5);
    hs_mapfile_release(&map, map.data, BYTES + 1);
    hs_mapfile_release(&map, other, BYTES);
    hs_mapfile_release(&(hs_mapfile){0}, other, BYTES);
    assert_memory_equal(map.data, whole, BYTES);
    assert_memory_equal(other, whole, BYTES);
    hs_mapfile_close(&map);
    assert_int_equal(unlink(path), 0);
}

static void write_file(const char *path, const char *text)
{
    hs_outfile *file = NULL;
    hstu_error err;
    if (hs_outfile_open(&file, path, &err) != HSTU_OK || hs_outfile_write(file, text, strlen(text), &err) != HSTU_OK ||
        hs_outfile_commit(file, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void expect_file(const char *path, const char *text)
{
    hs_mapfile map = {0};
    hstu_error err;
    assert_int_equal(hs_mapfile_open(&map, path, &err), HSTU_OK);
    assert_int_equal(map.size, strlen(text));
    assert_memory_equal(map.data, text, map.size);
    hs_mapfile_close(&map);
}

/* Files that are finished wait for their names, or for the end; folders are made with those above them. */
static void test_finished_files(void **state)
{
    char top[] = "/tmp/hstu_base_XXXXXX", folder[160], path[2][96];
    hs_outfile *file[2] = {NULL, NULL};
    hstu_error err;
    (void)state;
    assert_non_null(mkdtemp(top));
    (void)snprintf(folder, sizeof folder, "%s/a//b/", top);
    assert_int_equal(hs_folder_make(folder, &err), HSTU_OK);
    assert_int_equal(hs_folder_make(folder, &err), HSTU_OK);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path[i], sizeof path[i], "%s/a/b/%zu", top, i);
        assert_int_equal(hs_outfile_open(&file[i], path[i], &err), HSTU_OK);
        assert_int_equal(hs_outfile_write(file[i], "text", 4, &err), HSTU_OK);
        assert_int_equal(hs_outfile_finish(file[i], &err), HSTU_OK);
        assert_int_equal(hs_outfile_finish(file[i], &err), HSTU_OK);
        assert_int_not_equal(access(path[i], F_OK), 0);
    }
    assert_int_equal(hs_outfile_commit(file[0], &err), HSTU_OK);
    hs_outfile_discard(file[1]);
    expect_file(path[0], "text");
    assert_int_not_equal(access(path[1], F_OK), 0);
    (void)snprintf(folder, sizeof folder, "%s/c", path[0]);
    assert_int_equal(hs_folder_make(folder, &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, "cannot make the folder '"));
    assert_int_equal(hs_folder_make(path[0], &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, strerror(ENOTDIR)));
    assert_int_equal(unlink(path[0]), 0);
    (void)snprintf(folder, sizeof folder, "%s/a/b", top);
    assert_int_equal(rmdir(folder), 0); /* fails if a temporary file remained */
    (void)snprintf(folder, sizeof folder, "%s/a", top);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(rmdir(top), 0);
}

/* What stands at the target is a link, a private file, a folder, or a file that someone made under our temporary name. */
static void test_outfile_targets(void **state)
{
    (void)state;
    char folder[] = "/tmp/hstu_base_XXXXXX", path[64], link[64], taken[96];
    hs_outfile *file = NULL;
    hstu_error err;
    struct stat st;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/file", folder);
    (void)snprintf(link, sizeof link, "%s/link", folder);
    (void)snprintf(taken, sizeof taken, "%s.%ld.0.tmp", path, (long)getpid());
    write_file(path, "old");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(symlink("file", link), 0);
    write_file(link, "through the link");
    expect_file(path, "through the link");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    assert_int_equal(symlink("file", taken), 0);
    assert_int_equal(hs_outfile_open(&file, path, &err), HSTU_OK);
    assert_int_equal(hs_outfile_write(file, "x", 1, &err), HSTU_OK);
    expect_file(path, "through the link");
    assert_int_equal(hs_outfile_commit(file, &err), HSTU_OK);
    expect_file(path, "x");
    assert_int_equal(lstat(taken, &st), 0); /* not ours: it stays */

    assert_int_equal(hs_outfile_open(&file, folder, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "it is a folder"));
    assert_int_equal(hs_outfile_remove(folder, &err), HSTU_OK); /* it stays, and so does the link */
    assert_int_equal(hs_outfile_remove(link, &err), HSTU_OK);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(hs_outfile_remove(link, &err), HSTU_OK); /* which leads nowhere now */
    assert_int_equal(hs_outfile_remove("/dev/null/file", &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, "cannot examine '/dev/null/file'"));
    assert_int_equal(unlink(taken), 0);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* Devices are written, not replaced; a full disk is an error with the system's reason. */
static void test_outfile_devices(void **state)
{
    (void)state;
    hs_outfile *file = NULL;
    hstu_error err;
    struct stat st;
    write_file("/dev/null", "gone");
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    if (access("/dev/full", W_OK) != 0)
        return;
    assert_int_equal(hs_outfile_open(&file, "/dev/full", &err), HSTU_OK);
    assert_int_equal(hs_outfile_write(file, "x", 1, &err), HSTU_OK);
    assert_int_equal(hs_outfile_commit(file, &err), HSTU_EIO);
    assert_string_equal(err.msg, "cannot write '/dev/full': No space left on device");
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void test_system_limits(void **state)
{
    (void)state;
    assert_true(hs_system_cpus() >= 1);
    assert_true(hs_system_memory_bytes() > 1 << 20);
}

static void test_reserve_gives_zeroed_memory(void **state)
{
    (void)state;
    assert_null(hs_reserve(0));
    assert_null(hs_reserve(SIZE_MAX / 2));
    const size_t bytes = (size_t)1 << 36; /* more than there may be: only what is touched is taken */
    char *p = hs_reserve(bytes);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 4096, 0);
    for (size_t at = 0; at < bytes; at += bytes / 8) {
        assert_int_equal(p[at], 0);
        p[at] = 1;
        assert_int_equal(p[at + 1], 0);
    }
    hs_reserve_free(p, bytes);
    hs_reserve_free(NULL, 0);
}

static void test_seeds_differ(void **state)
{
    (void)state;
    assert_true(hs_system_seed() != hs_system_seed() || hs_system_seed() != hs_system_seed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_refuses_overflow),
        cmocka_unit_test(test_error_is_one_clean_sentence),
        cmocka_unit_test(test_arena_keeps_its_limit),
        cmocka_unit_test(test_dynbuf_keeps_its_limit),
        cmocka_unit_test(test_half_values),
        cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_bf16_rounding),
        cmocka_unit_test(test_random_known_answers),
        cmocka_unit_test(test_json_is_strict),
        cmocka_unit_test(test_json_members),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_released_map),
        cmocka_unit_test(test_outfile_targets),
        cmocka_unit_test(test_outfile_devices),
        cmocka_unit_test(test_finished_files),
        cmocka_unit_test(test_system_limits),
        cmocka_unit_test(test_reserve_gives_zeroed_memory),
        cmocka_unit_test(test_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
