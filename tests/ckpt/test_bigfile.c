/* A checkpoint past 4 GiB: a storage of 4.8 GB and one behind it, in zip64 form as torch.save writes it. The file is a
 * hole with a few written places, so it costs neither disk nor time, unless the reader touches what it need not. */
#include "ckpt/pth.h"

#include "ckpt_support.h"

#include <time.h>

#define COUNT "J\x00\x8c\x86\x47" /* 1200000000 */
#define STORAGE(key, count) "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" key "X\3\0\0\0cpu" count "tQ"
#define TENSOR(key, count) "ctorch._utils\n_rebuild_tensor\n(" STORAGE(key, count) "K\0" count "\x85K\1\x85tR"

static const char OBJECT[] = "\x80\2}(U\3big" TENSOR("0", COUNT) "U\5small" TENSOR("1", "K\2") "u.";
static const int64_t BIG = 1200000000;

typedef struct writer {
    int fd;
    off_t at;
    bool failed;
    unsigned char directory[1024];
    size_t directory_bytes;
} writer;

static void put(writer *w, const void *data, size_t n)
{
    w->failed = w->failed || pwrite(w->fd, data, n, w->at) != (ssize_t)n;
    w->at += (off_t)n;
}

static size_t little(unsigned char *to, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        to[i] = (unsigned char)(value >> 8 * i);
    return (size_t)width;
}

/* A local header, and the entry of the directory: narrow fields of all ones, the values in the extra field. */
static void begin_entry(writer *w, const char *name, uint64_t size)
{
    unsigned char local[30] = {'P', 'K', 3, 4};
    unsigned char *d = w->directory + w->directory_bytes;
    const uint64_t header_at = (uint64_t)w->at;
    const size_t name_bytes = strlen(name);
    little(local + 26, name_bytes, 2);
    put(w, local, sizeof local);
    put(w, name, name_bytes);
    memcpy(d, "PK\1\2", 4);
    little(d + 20, UINT32_MAX, 4);
    little(d + 24, UINT32_MAX, 4);
    little(d + 28, name_bytes, 2);
    little(d + 30, 28, 2);
    little(d + 42, UINT32_MAX, 4);
    memcpy(d + 46, name, name_bytes);
    d += 46 + name_bytes;
    d += little(d, 1, 2);
    d += little(d, 24, 2);
    d += little(d, size, 8);
    d += little(d, size, 8);
    d += little(d, header_at, 8);
    w->directory_bytes = (size_t)(d - w->directory);
}

static void finish(writer *w, unsigned entries)
{
    unsigned char end[56 + 20 + 22] = {'P', 'K', 6, 6};
    const uint64_t directory_at = (uint64_t)w->at, end_at = directory_at + w->directory_bytes;
    put(w, w->directory, w->directory_bytes);
    little(end + 4, 44, 8);
    little(end + 24, entries, 8);
    little(end + 32, entries, 8);
    little(end + 40, w->directory_bytes, 8);
    little(end + 48, directory_at, 8);
    memcpy(end + 56, "PK\6\7", 4);
    little(end + 64, end_at, 8);
    little(end + 72, 1, 4);
    memcpy(end + 76, "PK\5\6", 4);
    memset(end + 84, 0xff, 12);
    put(w, end, sizeof end);
}

static void make_file(char path[64])
{
    const float last = 7, small[2] = {1, 2};
    snprintf(path, 64, "/tmp/hstu_big_XXXXXX");
    writer w = {.fd = mkstemp(path)};
    assert_true(w.fd >= 0);
    begin_entry(&w, "a/data.pkl", sizeof OBJECT - 1);
    put(&w, OBJECT, sizeof OBJECT - 1);
    begin_entry(&w, "a/data/0", 4 * (uint64_t)BIG);
    w.at += 4 * BIG - 4;
    put(&w, &last, 4);
    begin_entry(&w, "a/data/1", 8);
    put(&w, small, 8);
    finish(&w, 3);
    close(w.fd);
    if (w.failed) {
        unlink(path);
        print_message("SKIPPED: /tmp does not take a sparse file of 5 GB\n");
        skip();
    }
}

static void opens_without_reading_it_all(void **state)
{
    (void)state;
    char path[64];
    hs_statedict dict = {0};
    hstu_error err;
    make_file(path);
    const clock_t begin = clock();
    const hstu_status status = hs_ckpt_open(&dict, path, &err);
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    unlink(path);
    if (status != HSTU_OK)
        fail_msg("%s", err.msg);
    const hs_entry *big = hs_statedict_find(&dict, "", "big"), *small = hs_statedict_find(&dict, "", "small");
    assert_non_null(big);
    assert_non_null(small);
    assert_int_equal(hs_tensor_elements(&big->tensor), BIG);
    float value = 0, both[2];
    memcpy(&value, (const char *)big->tensor.data + 4 * (BIG - 1), 4);
    assert_true(value == 7);
    hs_tensor_to_f32(&small->tensor, both);
    assert_true(both[0] == 1 && both[1] == 2);
    assert_true(seconds < 0.2);
    hs_statedict_close(&dict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_without_reading_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
