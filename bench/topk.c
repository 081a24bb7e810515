/* Exact top-k over a large item table: what one call costs beside the machine's memory and multipliers.
 *
 *     topk [--items 1000000] [--dim 512] [--dtype bf16|fp32] [--batch 1,32] [--threads N] [--k 100] [--rounds 15]
 *
 * Random items and queries. A round measures reading of memory and the peak of the multipliers (cli/bench_peak.h, 0.1 s each), then one
 * call for every batch size; a row has the best and the median of the rounds, and the shares of the best figures. `floor` is the longer
 * of the table's bytes at the speed of reading, and of the operations at the peak.
 *
 * Built and run by bench/topk. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/half.h"
#include "cli/bench_peak.h"
#include "device/device.h"
#include "op/op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCHES_MOST = 16, ROUNDS_MOST = 1000 };
static const double PEAK_S = 0.1;

typedef struct settings {
    int64_t items, dim, k, threads, rounds;
    int64_t batch[BATCHES_MOST];
    int n_batches;
    bool bf16;
} settings;

typedef struct bench {
    settings set;
    hs_device *dev;
    void *table;
    float *query, *score;
    int64_t *item;
    double time_s[BATCHES_MOST][ROUNDS_MOST];
    hs_bench_peak peak;
} bench;

static int fail(const char *message)
{
    (void)fprintf(stderr, "topk: %s\n", message);
    return 1;
}

/* Small whole numbers by 1/64: exact in both types. */
static float value_at(uint64_t i)
{
    i = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    i = (i ^ i >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (float)((int)(i >> 56) - 128) / 64.0f;
}

static void fill_rows(void *ctx, int64_t row)
{
    const bench *b = ctx;
    for (int64_t i = row * b->set.dim; i < (row + 1) * b->set.dim; i++) {
        if (b->set.bf16)
            ((uint16_t *)b->table)[i] = hs_f32_to_bf16(value_at((uint64_t)i));
        else
            ((float *)b->table)[i] = value_at((uint64_t)i);
    }
}

static bool open_bench(bench *b, int64_t most)
{
    const settings *s = &b->set;
    hstu_error err;
    if (hs_device_open(&b->dev, &(hs_device_options){.name = "cpu", .threads = (int)s->threads}, &err) != HSTU_OK) {
        (void)fail(err.msg);
        return false;
    }
    b->table = hs_alloc_aligned((size_t)(s->items * s->dim), s->bf16 ? 2 : 4);
    b->query = hs_alloc_aligned((size_t)(most * s->dim), sizeof(float));
    b->score = hs_alloc_aligned((size_t)(most * s->k), sizeof(float));
    b->item = hs_alloc_aligned((size_t)(most * s->k), sizeof(int64_t));
    if (!b->table || !b->query || !b->score || !b->item) {
        (void)fail("out of memory");
        return false;
    }
    hs_op_parallel(b->dev, s->items, fill_rows, b);
    for (int64_t i = 0; i < most * s->dim; i++)
        b->query[i] = value_at((uint64_t)i << 32);
    return true;
}

static bool call(bench *b, int64_t batch, double *time_s)
{
    hstu_error err;
    const double start_s = hs_clock_s();
    const hstu_status status = hs_op_topk(b->dev,
        &(hs_topk_args){.query = hs_mat_of(b->query, batch, b->set.dim),
            .table = b->table,
            .table_type = b->set.bf16 ? HS_BF16 : HS_F32,
            .table_rows = b->set.items,
            .n_candidates = b->set.items,
            .k = b->set.k,
            .item = b->item,
            .score = b->score},
        &err);
    *time_s = hs_clock_s() - start_s;
    if (status != HSTU_OK)
        (void)fail(err.msg);
    return status == HSTU_OK;
}

static bool run_round(bench *b, int64_t round)
{
    hstu_error err;
    hs_bench_peak peak;
    if (hs_bench_peak_measure(&peak, b->dev->isa, b->set.bf16, b->dev->n_threads, PEAK_S, &err) != HSTU_OK) {
        (void)fail(err.msg);
        return false;
    }
    if (peak.flops > b->peak.flops) {
        b->peak.flops = peak.flops;
        b->peak.of = peak.of;
    }
    if (peak.memory_bytes_s > b->peak.memory_bytes_s)
        b->peak.memory_bytes_s = peak.memory_bytes_s;
    double unused_s = 0;
    for (int i = 0; i < b->set.n_batches; i++) {
        if (round == 0 && !call(b, b->set.batch[i], &unused_s))
            return false;
        if (!call(b, b->set.batch[i], &b->time_s[i][round]))
            return false;
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(bench *b)
{
    const settings *s = &b->set;
    const double bytes = (double)s->items * (double)s->dim * (s->bf16 ? 2 : 4);
    printf("%lld items x %lld %s, %.2f GB; %s, %d threads; reading %.1f GB/s, %s %.0f GFLOP/s\n\n", (long long)s->items,
        (long long)s->dim, s->bf16 ? "bf16" : "fp32", bytes * 1e-9, b->dev->isa, b->dev->n_threads,
        b->peak.memory_bytes_s * 1e-9, b->peak.of, b->peak.flops * 1e-9);
    printf(
        "| batch | best, ms | median, ms | GB/s | of reading | GFLOP/s | of the peak | floor, ms | best / floor |\n");
    printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (int i = 0; i < s->n_batches; i++) {
        qsort(b->time_s[i], (size_t)s->rounds, sizeof(double), ascending);
        const double best_s = b->time_s[i][0], flop = bytes / (s->bf16 ? 2 : 4) * 2 * (double)s->batch[i];
        const double memory_s = bytes / b->peak.memory_bytes_s, compute_s = flop / b->peak.flops;
        const double floor_s = memory_s > compute_s ? memory_s : compute_s;
        printf("| %lld | %.2f | %.2f | %.1f | %.0f %% | %.0f | %.0f %% | %.2f | %.2f |\n", (long long)s->batch[i],
            best_s * 1e3, b->time_s[i][s->rounds / 2] * 1e3, bytes / best_s * 1e-9, 100 * memory_s / best_s,
            flop / best_s * 1e-9, 100 * compute_s / best_s, floor_s * 1e3, best_s / floor_s);
    }
}

static bool read_batches(settings *s, const char *text)
{
    char *end = NULL;
    for (s->n_batches = 0; s->n_batches < BATCHES_MOST; text = end + 1) {
        s->batch[s->n_batches] = strtoll(text, &end, 10);
        if (end == text || s->batch[s->n_batches] < 1 || s->batch[s->n_batches] > 100000)
            return false;
        s->n_batches++;
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
    }
    return false;
}

static bool read_option(settings *s, const char *name, const char *value)
{
    const struct {
        const char *name;
        int64_t *to, most;
    } number[] = {{"--items", &s->items, INT64_C(1) << 32}, {"--dim", &s->dim, 1 << 20}, {"--k", &s->k, 1 << 20},
        {"--threads", &s->threads, 1024}, {"--rounds", &s->rounds, ROUNDS_MOST}};
    if (strcmp(name, "--batch") == 0)
        return read_batches(s, value);
    if (strcmp(name, "--dtype") == 0) {
        s->bf16 = strcmp(value, "bf16") == 0;
        return s->bf16 || strcmp(value, "fp32") == 0;
    }
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        char *end = NULL;
        if (strcmp(name, number[i].name) != 0)
            continue;
        *number[i].to = strtoll(value, &end, 10);
        return end != value && *end == '\0' && *number[i].to >= 1 && *number[i].to <= number[i].most;
    }
    return false;
}

int main(int argc, char **argv)
{
    static bench b = {
        .set = {.items = 1000000, .dim = 512, .k = 100, .rounds = 15, .batch = {1, 32}, .n_batches = 2, .bf16 = true}};
    int64_t most = 0;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc || !read_option(&b.set, argv[i], argv[i + 1]))
            return fail("the options stand at the head of bench/topk.c");
    }
    for (int i = 0; i < b.set.n_batches; i++)
        most = b.set.batch[i] > most ? b.set.batch[i] : most;
    bool ok = open_bench(&b, most);
    for (int64_t round = 0; ok && round < b.set.rounds; round++)
        ok = run_round(&b, round);
    if (ok)
        report(&b);
    hs_device_close(b.dev);
    hs_free(b.table);
    hs_free(b.query);
    hs_free(b.score);
    hs_free(b.item);
    return ok ? 0 : 1;
}
