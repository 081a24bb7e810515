/* What the recording device costs over ONNX Runtime, at the two shapes of a KuaiRand-1K ranking request, through the
 * public API alone; random weights.
 *
 *     npu_overhead [--device NAME] [--dtype fp32|bf16|fp16] [--threads N] [--shape kr1k_2k|kr1k_cached] [--events N]
 *                  [--repetitions N] [--ort_library PATH] [--provider_library PATH] [--option KEY=VALUE ...]
 *
 *     kr1k_2k       1,024 events and 100 candidates without the cache: 2,054 tokens of history
 *     kr1k_cached   4,096 events, all but the last in the cache, and 100 candidates: 8,196 of 8,198 tokens
 *
 * --events takes another number of them. The device is ort-cpu without --device. The overhead is the time of a whole request
 * over that inside ONNX Runtime: recording, gathering rows of tables, copies, look-up and appending. What padding to buckets
 * costs is inside ONNX Runtime's time, and no overhead here. Built and run by bench/npu_overhead. */
#include "hstu/cache.h"
#include "hstu/hstu.h"
#include "hstu/npu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ITEMS = 20000,
    ACTIONS = 256,
    EVENTS_MOST = 4096,
    N_CANDIDATES = 100,
    FILLED_AT_ONCE = 512, /* events by which the cached history is made, so that no graph is of all of it */
    WARM_UP = 2,
    REPETITIONS_MOST = 1000,
    OPTIONS_MOST = 32
};

typedef struct shape {
    const char *name;
    int64_t n_events;
    int is_cached;
} shape;

static const shape shapes[] = {{"kr1k_2k", 1024, 0}, {"kr1k_cached", EVENTS_MOST, 1}};

typedef struct settings {
    hstu_model_options model;
    hstu_npu_options npu;
    const char *option[OPTIONS_MOST];
    const char *shape;
    int64_t n_events, n_repetitions;
} settings;

typedef struct bench {
    hstu_model_info info;
    int threads;
    hstu_session *session;
    int64_t item[EVENTS_MOST], action[EVENTS_MOST], candidate[N_CANDIDATES], *context;
    float *logits;
    double total_s[REPETITIONS_MOST], run_s[REPETITIONS_MOST], overhead[REPETITIONS_MOST];
} bench;

__attribute__((format(printf, 1, 2), noreturn)) static void stop(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fputs("npu_overhead: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void require(hstu_status status, const hstu_error *err)
{
    if (status != HSTU_OK)
        stop("%s", err->msg);
}

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        stop("out of memory");
    return p;
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One of 0 .. n - 1, always the same for the i-th of a kind. */
static int64_t pick(uint64_t kind, int64_t i, int64_t n)
{
    uint64_t x = kind * 0x9e3779b97f4a7c15u + (uint64_t)i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((x ^ (x >> 31)) % (uint64_t)n);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *s, int64_t n)
{
    qsort(s, (size_t)n, sizeof *s, by_value);
    return (s[(n - 1) / 2] + s[n / 2]) / 2.0;
}

static hstu_npu_stats stats_of(const bench *b)
{
    hstu_npu_stats stats;
    hstu_error err;
    require(hstu_session_get_npu_stats(b->session, &stats, &err), &err);
    return stats;
}

/* One request of the first n_events events; stops when other than `reused` tokens were reused. Returns how long it took. */
static double ask(bench *b, int64_t n_events, int64_t reused)
{
    const int64_t offset[2] = {0, n_events}, cand_offset[2] = {0, N_CANDIDATES}, user_id = 1;
    const hstu_batch batch = {.n_users = 1,
        .offset = offset,
        .item_id = b->item,
        .cand_offset = cand_offset,
        .cand_id = b->candidate,
        .action = b->action,
        .context = b->context,
        .user_id = &user_id};
    hstu_error err;
    int64_t n_tokens = 0, n_reused = 0;
    const double start_s = now_s();
    require(hstu_rank(b->session, &batch, b->logits, N_CANDIDATES * (size_t)b->info.n_classes, &err), &err);
    const double taken_s = now_s() - start_s;
    require(hstu_session_get_reuse(b->session, 0, &n_tokens, &n_reused, &err), &err);
    if (n_reused != reused)
        stop("%lld of %lld tokens were reused, not %lld", (long long)n_reused, (long long)n_tokens, (long long)reused);
    return taken_s;
}

static int64_t tokens_of(const bench *b, int64_t n_events)
{
    return (int64_t)b->info.n_context + 2 * n_events;
}

/* Puts the first n_events events into the cache. */
static void fill(bench *b, int64_t n_events)
{
    for (int64_t done = 0, next; done < n_events; done = next) {
        next = done + FILLED_AT_ONCE < n_events ? done + FILLED_AT_ONCE : n_events;
        (void)ask(b, next, done > 0 ? tokens_of(b, done) : 0);
    }
}

static void print_row(
    bench *b, const shape *s, const hstu_npu_stats *before, const hstu_npu_stats *after, int64_t reused, int64_t n)
{
    const double each = 1.0 / (double)n, mega = 1e-6 / (double)n;
    char threads[16] = "all"; /* hstu_model_info tells of those of the host's part */
    if (b->threads > 0)
        (void)snprintf(threads, sizeof threads, "%d", b->threads);
    const double total_ms = 1e3 * median(b->total_s, n), run_ms = 1e3 * median(b->run_s, n);
    printf("| %s | %s | %s | %s | %lld | %lld | %d | %.2f | %.2f | %.2f %% | %.1f | %.1f | %.3f | %.3f | %.3f |\n",
        s->name, b->info.device, after->compute_dtype, threads, (long long)tokens_of(b, s->n_events), (long long)reused,
        N_CANDIDATES, total_ms, run_ms, 100.0 * median(b->overhead, n), each * (double)(after->n_runs - before->n_runs),
        each * (double)(after->n_copies - before->n_copies), mega * (double)(after->bytes_in - before->bytes_in),
        mega * (double)(after->bytes_out - before->bytes_out), mega * (double)(after->bytes_kept - before->bytes_kept));
    (void)fflush(stdout);
}

/* Every request's last event is another one: that of the request before is in the cache. */
static void measure(bench *b, const shape *s, int64_t n)
{
    const int64_t reused = s->is_cached ? tokens_of(b, s->n_events - 1) : 0;
    hstu_npu_stats first = stats_of(b), last = first;
    for (int64_t i = -WARM_UP; i < n; i++) {
        b->item[s->n_events - 1] = 1 + pick(4, i, ITEMS - 1);
        const hstu_npu_stats before = last;
        const double taken_s = ask(b, s->n_events, reused);
        last = stats_of(b);
        if (i < 0) {
            first = last;
            continue;
        }
        if (last.n_compiled != first.n_compiled)
            stop("%s: a graph was compiled behind the warm-up", s->name);
        b->total_s[i] = taken_s;
        b->run_s[i] = last.run_s - before.run_s;
        b->overhead[i] = b->total_s[i] / b->run_s[i] - 1.0;
    }
    print_row(b, s, &first, &last, reused, n);
}

static hstu_cache *open_cache(const hstu_model *model)
{
    hstu_cache *cache = NULL;
    hstu_error err;
    require(hstu_cache_open(&cache, model, NULL, &err), &err);
    return cache;
}

static void fill_histories(bench *b)
{
    for (int64_t i = 0; i < EVENTS_MOST; i++) {
        b->item[i] = 1 + pick(1, i, ITEMS - 1);
        b->action[i] = pick(2, i, ACTIONS);
    }
    for (int64_t i = 0; i < N_CANDIDATES; i++)
        b->candidate[i] = 1 + pick(3, i, ITEMS - 1);
    b->context = allocate(b->info.n_context, sizeof *b->context);
    for (size_t i = 0; i < b->info.n_context; i++)
        b->context[i] = 1;
    b->logits = allocate(N_CANDIDATES * (size_t)b->info.n_classes, sizeof *b->logits);
}

static void run_shape(bench *b, const hstu_model *model, shape s, const settings *set)
{
    hstu_error err;
    if (set->n_events > 0)
        s.n_events = set->n_events;
    hstu_cache *cache = s.is_cached ? open_cache(model) : NULL;
    require(hstu_session_open(&b->session, model, &err), &err);
    require(hstu_session_use_cache(b->session, cache, &err), &err);
    fill_histories(b);
    if (s.is_cached)
        fill(b, s.n_events - 1);
    measure(b, &s, set->n_repetitions);
    hstu_session_close(b->session);
    hstu_cache_close(cache);
    free(b->context);
    free(b->logits);
}

static void print_head(const hstu_npu_stats *s, int64_t n_repetitions)
{
    printf("%s%s%s (ONNX Runtime %s), %s%s%s; medians of %lld requests; runs, copies and megabytes are those of a "
           "request\n\n"
           "| shape | device | computes in | threads | history | of it cached | candidates | ms | in ONNX Runtime, ms "
           "| overhead | runs | copies | MB in | MB out | MB kept |\n"
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        s->provider, *s->provider_version ? " " : "", s->provider_version, s->ort_version, s->vendor,
        *s->device ? " " : "", s->device, (long long)n_repetitions);
}

static void run(const settings *s)
{
    hstu_model *model = NULL;
    hstu_error err;
    bench *b = allocate(1, sizeof *b);
    b->threads = s->model.threads;
    require(hstu_model_open(&model, NULL, &s->model, &err), &err);
    hstu_model_get_info(model, &b->info);
    require(hstu_session_open(&b->session, model, &err), &err);
    const hstu_npu_stats names = stats_of(b);
    print_head(&names, s->n_repetitions);
    hstu_session_close(b->session);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!s->shape || strcmp(s->shape, shapes[i].name) == 0)
            run_shape(b, model, shapes[i], s);
    hstu_model_close(model);
    free(b);
}

static int64_t number(const char *option, const char *text, int64_t least, int64_t most)
{
    char *end = NULL;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < least || value > most)
        stop("%s must be %lld to %lld, not '%s'", option, (long long)least, (long long)most, text);
    return value;
}

static void add_option(settings *s, const char *value)
{
    if (s->npu.n_options == OPTIONS_MOST)
        stop("at most %d times --option", OPTIONS_MOST);
    s->option[s->npu.n_options++] = value;
}

static int is_shape(const char *name)
{
    return strcmp(name, shapes[0].name) == 0 || strcmp(name, shapes[1].name) == 0;
}

static void take(settings *s, const char *option, const char *value)
{
    if (strcmp(option, "--device") == 0 && *value)
        s->model.device = value;
    else if (strcmp(option, "--dtype") == 0 && *value)
        s->model.dtype = value;
    else if (strcmp(option, "--threads") == 0)
        s->model.threads = (int)number(option, value, 1, 1024);
    else if (strcmp(option, "--shape") == 0 && is_shape(value))
        s->shape = value;
    else if (strcmp(option, "--events") == 0)
        s->n_events = number(option, value, 2, EVENTS_MOST);
    else if (strcmp(option, "--repetitions") == 0)
        s->n_repetitions = number(option, value, 1, REPETITIONS_MOST);
    else if (strcmp(option, "--ort_library") == 0 && *value)
        s->npu.ort_library = value;
    else if (strcmp(option, "--provider_library") == 0 && *value)
        s->npu.provider_library = value;
    else if (strcmp(option, "--option") == 0 && *value)
        add_option(s, value);
    else
        stop("no such option: %s %s (the head of bench/npu_overhead.c tells)", option, value);
}

int main(int argc, char **argv)
{
    settings s = {.n_repetitions = 21};
    hstu_model_options_init(&s.model);
    hstu_npu_options_init(&s.npu);
    s.model.config = "kuairand_1k_ranking";
    s.model.device = "ort-cpu";
    s.model.max_item_id = ITEMS;
    s.model.max_user_id = ITEMS;
    s.model.npu = &s.npu;
    s.npu.option = s.option;
    for (int i = 1; i < argc; i += 2)
        take(&s, argv[i], i + 1 < argc ? argv[i + 1] : "");
    run(&s);
    return 0;
}
