/* One large request, with more or less of its history in the cache. */
#include "kv_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    N_CANDIDATES = 100,
    CACHED_IN_ROUND = 5,
    HEAD_WIDTH = 512 /* of the preset's prediction head */
};

enum { WITHOUT, NOTHING, ALL_BUT_ONE, ALL, N_KINDS };
static const char *const kind_name[N_KINDS] = {
    "without the cache", "nothing cached", "all but the last event", "all cached"};

typedef struct series {
    double s[ROUNDS_MOST * CACHED_IN_ROUND], bookkeeping_s, total_s;
    size_t n;
} series;

typedef struct bench {
    hstu_model_info info;
    hstu_session *session;
    hstu_cache *cache;
    hstu_batch batch;
    int64_t *item, *context;
    float *logits[N_KINDS];
    size_t n_logits;
    series of[N_KINDS];
} bench;

/* Multiplications and additions of a request whose first `reused` of n history tokens are cached. Of the history's rows
 * the last layer needs keys and values alone; `nominal` counts its other work too, as the model's formulas have it. */
static double operations(const hstu_model_info *m, double n, double reused, double candidates, int nominal)
{
    const double width = (double)(m->n_heads * m->dqk), wide = 2.0 * (double)m->dim * width, fresh = n - reused;
    const double of_history = 5.0 * wide * fresh + 4.0 * width * (n * (n + 1.0) - reused * (reused + 1.0)) / 2.0;
    const double of_candidates = 5.0 * wide * candidates + 4.0 * width * candidates * (n + 1.0);
    const double full = (double)m->n_blocks - (nominal ? 0.0 : 1.0);
    const double head = 2.0 * candidates * HEAD_WIDTH * (double)(m->dim + m->n_classes);
    return full * of_history + (nominal ? 0.0 : 2.0 * wide * fresh) + (double)m->n_blocks * of_candidates + head;
}

static double median_of(series *s, double *least, double *most)
{
    for (size_t i = 1; i < s->n; i++)
        for (size_t j = i; j > 0 && s->s[j] < s->s[j - 1]; j--) {
            const double larger = s->s[j - 1];
            s->s[j - 1] = s->s[j];
            s->s[j] = larger;
        }
    *least = s->s[0];
    *most = s->s[s->n - 1];
    return s->n % 2 ? s->s[s->n / 2] : (s->s[s->n / 2 - 1] + s->s[s->n / 2]) / 2.0;
}

static int64_t history_tokens(const bench *b)
{
    return (int64_t)b->info.n_context + 2 * b->batch.offset[1];
}

static void ask(bench *b, int kind)
{
    static const int64_t wanted_behind[N_KINDS] = {0, 0, 2, 0};
    hstu_error err;
    hstu_cache_stats before, after;
    int64_t n_tokens = 0, n_reused = 0;
    require(hstu_session_use_cache(b->session, kind == WITHOUT ? NULL : b->cache, &err), &err);
    if (kind == NOTHING)
        hstu_cache_drop_all(b->cache);
    hstu_cache_get_stats(b->cache, &before);
    const double start_s = now_s();
    require(hstu_rank(b->session, &b->batch, b->logits[kind], b->n_logits, &err), &err);
    const double taken_s = now_s() - start_s;
    hstu_cache_get_stats(b->cache, &after);
    require(hstu_session_get_reuse(b->session, 0, &n_tokens, &n_reused, &err), &err);
    const int64_t wanted = kind < ALL_BUT_ONE ? 0 : history_tokens(b) - wanted_behind[kind];
    if (n_reused != wanted)
        stop("%s: %lld tokens were reused, not %lld", kind_name[kind], (long long)n_reused, (long long)wanted);
    series *s = &b->of[kind];
    s->s[s->n++] = taken_s;
    s->total_s += taken_s;
    s->bookkeeping_s += after.bookkeeping_s - before.bookkeeping_s;
}

/* Every round's last events are others; the round before left its history in the cache. */
static void run_round(bench *b, int64_t round)
{
    const int64_t last = b->batch.offset[1] - 1;
    for (int64_t i = 0; i < CACHED_IN_ROUND; i++) {
        b->item[last] = 1 + (round * CACHED_IN_ROUND + i) % (ITEMS - 1);
        ask(b, ALL_BUT_ONE);
        ask(b, ALL);
    }
    ask(b, WITHOUT);
    ask(b, NOTHING);
    for (int kind = NOTHING; kind < N_KINDS; kind++)
        if (memcmp(b->logits[kind], b->logits[WITHOUT], b->n_logits * sizeof(float)) != 0)
            stop("%s: the answer differs from the one without the cache", kind_name[kind]);
}

/* Rates are those of the medians; beside their ratios, in brackets, stand those of the fastest, which other work on the
 * machine disturbs least. */
static void print_rows(bench *b, const char *dtype)
{
    const double n = (double)history_tokens(b);
    const double reused[N_KINDS] = {0, 0, n - 2, n};
    double median_s[N_KINDS], least_s[N_KINDS], most_s[N_KINDS], gflop[2][N_KINDS];
    for (int kind = 0; kind < N_KINDS; kind++) {
        median_s[kind] = median_of(&b->of[kind], &least_s[kind], &most_s[kind]);
        printf("| %s | %d | %s | %.1f (%.1f - %.1f) |", dtype, b->info.threads, kind_name[kind], 1e3 * median_s[kind],
            1e3 * least_s[kind], 1e3 * most_s[kind]);
        for (int nominal = 1; nominal >= 0; nominal--) {
            double *const of = gflop[nominal];
            of[kind] = 1e-9 * operations(&b->info, n, reused[kind], N_CANDIDATES, nominal);
            const double share = 100.0 * of[kind] / of[WITHOUT];
            printf(" %.2f | %.1f | %.0f %% (%.0f %%) |", of[kind], of[kind] / median_s[kind],
                share * median_s[WITHOUT] / median_s[kind], share * least_s[WITHOUT] / least_s[kind]);
        }
        printf(" %.2f %% |\n", 100.0 * b->of[kind].bookkeeping_s / b->of[kind].total_s);
    }
    (void)fflush(stdout);
}

static void bench_request(const char *dtype, int threads, int64_t n_events, int64_t n_rounds)
{
    hstu_model *model = open_model("kuairand_1k_ranking", dtype, threads);
    hstu_error err;
    const int64_t offset[2] = {0, n_events}, cand_offset[2] = {0, N_CANDIDATES}, user_id = 1;
    int64_t *action = allocate((size_t)n_events, sizeof *action), candidate[N_CANDIDATES];
    bench *b = allocate(1, sizeof *b);
    hstu_model_get_info(model, &b->info);
    b->item = allocate((size_t)n_events, sizeof *b->item);
    b->context = allocate(b->info.n_context, sizeof *b->context);
    for (int64_t i = 0; i < n_events; i++) {
        b->item[i] = 1 + pick(1, i, ITEMS - 1);
        action[i] = pick(2, i, ACTIONS);
    }
    for (int64_t i = 0; i < N_CANDIDATES; i++)
        candidate[i] = 1 + pick(3, i, ITEMS - 1);
    for (size_t i = 0; i < b->info.n_context; i++)
        b->context[i] = 1;
    b->n_logits = N_CANDIDATES * (size_t)b->info.n_classes;
    for (int kind = 0; kind < N_KINDS; kind++)
        b->logits[kind] = allocate(b->n_logits, sizeof(float));
    b->batch = (hstu_batch){.n_users = 1,
        .offset = offset,
        .item_id = b->item,
        .cand_offset = cand_offset,
        .cand_id = candidate,
        .action = action,
        .context = b->context,
        .user_id = &user_id};
    require(hstu_session_open(&b->session, model, &err), &err);
    b->cache = open_cache(model, (uint64_t)1 << 30, 64);
    ask(b, NOTHING);
    run_round(b, 0); /* the warm-up */
    memset(b->of, 0, sizeof b->of);
    for (int64_t round = 1; round <= n_rounds; round++)
        run_round(b, round);
    print_rows(b, dtype);
    for (int kind = 0; kind < N_KINDS; kind++)
        free(b->logits[kind]);
    hstu_session_close(b->session);
    hstu_cache_close(b->cache);
    hstu_model_close(model);
    free(b->item);
    free(b->context);
    free(b);
    free(action);
}

void bench_requests(const settings *s)
{
    static const char *const dtypes[] = {"fp32", "bf16"};
    const long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
    const int most = n_processors > 0 ? (int)n_processors : 1;
    printf("6 + 2 x %lld history tokens, %d candidates; times are medians (least - most) of %lld rounds\n\n"
           "| dtype | threads | history | ms | GFLOP, nominal | a second | of uncached | GFLOP, done | a second | of "
           "uncached | bookkeeping |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        (long long)s->events, N_CANDIDATES, (long long)s->repetitions);
    for (size_t d = 0; d < 2; d++) {
        if (s->dtype && strcmp(s->dtype, dtypes[d]) != 0)
            continue;
        if (s->threads > 0) {
            bench_request(dtypes[d], s->threads, s->events, s->repetitions);
            continue;
        }
        for (int threads = 1; threads < most; threads *= 2)
            bench_request(dtypes[d], threads, s->events, s->repetitions);
        bench_request(dtypes[d], most, s->events, s->repetitions);
    }
}
