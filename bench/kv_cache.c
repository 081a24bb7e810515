/* The bench of the KV cache: what it gains and costs, through the public API alone.
 *
 *     kv_cache [--dtype fp32|bf16] [--threads N] [--events N] [--repetitions N]
 *         One request of the KuaiRand-1K ranking shape, in turns without the cache, and with it and nothing, all but
 *         the last event, or all of the history in it. Without --dtype or --threads: both, and 1, 2, 4, ... all
 *         processors.
 *     kv_cache --users N [--threads N]
 *         Fills a cache with N users of 32 tokens (1 layer, heads x width 128, bf16, pages of 32) and asks a sample of
 *         them again.
 *     kv_cache --lengths FILE [--threads N]
 *         The same with users' real numbers of events: FILE.txt with one a line, or the leave-one-out histories of a
 *         sequence file; for several page sizes.
 *
 * Every answer of the cache is compared with the one without it, bit for bit. Built and run by bench/kv_cache. */
#include "kv_bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void stop(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fputs("kv_cache: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void require(hstu_status status, const hstu_error *err)
{
    if (status != HSTU_OK)
        stop("%s", err->msg);
}

void *allocate(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        stop("out of memory");
    return p;
}

double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t pick(int64_t user, int64_t i, int64_t n)
{
    uint64_t x = (uint64_t)user * 0x9e3779b97f4a7c15u + (uint64_t)i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((x ^ (x >> 31)) % (uint64_t)n);
}

hstu_model *open_model(const char *config, const char *dtype, int threads)
{
    hstu_model *model = NULL;
    hstu_model_options options;
    hstu_error err;
    hstu_model_options_init(&options);
    options.config = config;
    options.dtype = dtype;
    options.threads = threads;
    options.max_item_id = ITEMS;
    options.max_user_id = ITEMS;
    require(hstu_model_open(&model, NULL, &options, &err), &err);
    return model;
}

hstu_cache *open_cache(const hstu_model *model, uint64_t n_bytes, int64_t page_tokens)
{
    hstu_cache *cache = NULL;
    hstu_cache_options options;
    hstu_error err;
    hstu_cache_options_init(&options);
    options.bytes = n_bytes;
    options.page_tokens = page_tokens;
    require(hstu_cache_open(&cache, model, &options, &err), &err);
    return cache;
}

static int64_t number(const char *option, const char *text, int64_t most)
{
    char *end = NULL;
    const long long value = strtoll(text, &end, 10);
    if (*end || value < 1 || value > most)
        stop("%s must be 1 to %lld, not '%s'", option, (long long)most, text);
    return value;
}

int main(int argc, char **argv)
{
    settings s = {.events = EVENTS_MOST, .repetitions = 7};
    for (int i = 1; i < argc; i += 2) {
        const char *const option = argv[i], *const value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(option, "--dtype") == 0 && (strcmp(value, "fp32") == 0 || strcmp(value, "bf16") == 0))
            s.dtype = value;
        else if (strcmp(option, "--threads") == 0)
            s.threads = (int)number(option, value, 1024);
        else if (strcmp(option, "--events") == 0)
            s.events = number(option, value, EVENTS_MOST);
        else if (strcmp(option, "--repetitions") == 0)
            s.repetitions = number(option, value, ROUNDS_MOST);
        else if (strcmp(option, "--users") == 0)
            s.users = number(option, value, 1 << 30);
        else if (strcmp(option, "--lengths") == 0)
            s.lengths = value;
        else
            stop("no such option: %s %s (the head of bench/kv_cache.c tells)", option, value);
    }
    if (s.lengths)
        bench_lengths(&s);
    else if (s.users)
        bench_users(&s);
    else
        bench_requests(&s);
    return 0;
}
