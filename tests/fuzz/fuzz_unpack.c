/* libFuzzer target: the input as an archive. When its first byte is a letter other than P, the rest is a tar that is packed here, since
 * no mutation finds its way through gzip's checksums. What comes out are plain files inside the folder, or nothing. */
#include "fuzz_file.h"

#include "hstu/archive.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* Removes what is below `path`; the files that were there. */
static uint64_t empty(const char *path)
{
    uint64_t n = 0;
    DIR *dir = opendir(path);
    const struct dirent *item;
    while (dir && (item = readdir(dir))) {
        char inner[4096];
        struct stat st;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        check(snprintf(inner, sizeof inner, "%s/%s", path, item->d_name) < (int)sizeof inner);
        check(lstat(inner, &st) == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)));
        if (S_ISDIR(st.st_mode))
            n += empty(inner);
        else
            n++;
        check(remove(inner) == 0);
    }
    if (dir)
        (void)closedir(dir);
    return n;
}

static const char *packed(const uint8_t *data, size_t size)
{
    static unsigned char out[1 << 17];
    z_stream z = {0};
    check(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = sizeof out;
    const int code = deflate(&z, Z_FINISH);
    (void)deflateEnd(&z);
    return fuzz_file(out, code == Z_STREAM_END ? sizeof out - z.avail_out : 0);
}

static char top[64], folder[80];

static void remove_top(void)
{
    (void)rmdir(top);
}

static void make_top(void)
{
    (void)snprintf(top, sizeof top, "/dev/shm/hstu_unpack_XXXXXX");
    if (!mkdtemp(top)) {
        (void)snprintf(top, sizeof top, "/tmp/hstu_unpack_XXXXXX");
        check(mkdtemp(top) != NULL);
    }
    (void)snprintf(folder, sizeof folder, "%s/out", top);
    (void)atexit(remove_top);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hstu_unpack_options options;
    hstu_unpack_report report = {0};
    hstu_error err = {0};
    const int tar = size && data[0] != 'P' && ((data[0] | 0x20) >= 'a' && (data[0] | 0x20) <= 'z');
    if (!top[0])
        make_top();
    hstu_unpack_options_init(&options);
    options.archive = tar ? packed(data + 1, size - 1) : fuzz_file(data, size);
    options.folder = folder;
    options.flat = size & 1;
    options.max_entries = 100;
    options.max_files = 10;
    options.max_file_bytes = options.max_total_bytes = 1 << 20;
    const hstu_status status = hstu_unpack(&options, &report, &err);
    const uint64_t n = empty(top);
    check(n == report.n_files && (status == HSTU_OK ? n > 0 : n == 0 && err.code == status && err.msg[0]));
    check(status == HSTU_OK || status == HSTU_EFORMAT || status == HSTU_EUNSUP || status == HSTU_EIO);
    return 0;
}
