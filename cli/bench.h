/* What the parts of `hstu bench` share: a row is one shape with one choice of everything else; its result is what was measured. */
#ifndef HS_CLI_BENCH_H
#define HS_CLI_BENCH_H

#include "cli/progress.h"
#include "cli/stage_times.h"
#include "hstu/cache.h"
#include "hstu/hstu.h"
#include "hstu/npu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers of a row, each of which may be a list. History in tokens: a ranking model has one for each contextual feature
 * and two for each event, a decoder one for each event. Head dim: of queries, keys and values alike. */
typedef enum hs_bench_number {
    HS_BENCH_HISTORY,
    HS_BENCH_CANDIDATES,
    HS_BENCH_LAYERS,
    HS_BENCH_DIM,
    HS_BENCH_HEADS,
    HS_BENCH_HEAD_DIM,
    HS_BENCH_CONTEXT,
    HS_BENCH_ITEMS,
    HS_BENCH_BATCH,
    HS_BENCH_THREADS,
    HS_BENCH_N_NUMBERS
} hs_bench_number;

enum { HS_BENCH_MAX_TOKENS = 1 << 17, HS_BENCH_HEAD_WIDTH = 512, HS_BENCH_CLASSES = 8, HS_BENCH_TOP_K = 10 };

typedef struct hs_bench_row {
    const char *shape; /* its name, or "custom" */
    bool decoder;      /* else ranking */
    int64_t n[HS_BENCH_N_NUMBERS];
    double cached;           /* the share of a history's events whose keys and values are cached */
    const char *dtype, *isa; /* isa NULL: as the environment says */
} hs_bench_row;

/* How rows are measured. Text is borrowed. */
typedef struct hs_bench_settings {
    const char *checkpoint, *config; /* checkpoint NULL: random weights */
    const char *device;
    hstu_npu_options npu;
    int64_t warmup, repetitions;
    double min_s, peak_s; /* peak_s 0: neither peaks nor the yardstick are measured */
    bool profile;         /* the time of each operation too */
} hs_bench_settings;

/* What the machine gives on the row's threads, just before the row; of: static text, NULL where nothing was measured. */
typedef struct hs_bench_peak {
    const char *of;
    double flops;          /* a second, of the threads' best samples */
    double memory_bytes_s; /* on average */
} hs_bench_peak;

/* The same multipliers with operands out of L1, just before the row and just behind it; a second, on average; 0: not
 * measured. */
typedef struct hs_bench_yardstick {
    double before_flops, behind_flops;
} hs_bench_yardstick;

typedef struct hs_bench_times {
    double best_s, p10_s, median_s, p90_s, worst_s; /* of a call */
    int64_t n;
} hs_bench_times;

/* Of one call. */
typedef struct hs_bench_work {
    double flop;         /* multiplications and additions that are done */
    double flop_nominal; /* the same if the last layer computed every row */
    double bytes;        /* weights, keys and values, each read once */
} hs_bench_work;

typedef struct hs_bench_result {
    char kernels[128], kv_dtype[8]; /* hstu_model_info's isa */
    int threads;
    bool random_weights;
    int64_t reused; /* tokens of each history */
    hs_bench_times times;
    hs_bench_work work;
    hs_bench_peak peak;
    hs_bench_yardstick yardstick;
    hs_stage_times stages; /* of the calls that count */
} hs_bench_result;

/* Events of a row's history, and how many of them are cached: never the newest one of a decoder, which is always asked for. */
int64_t hs_bench_events(const hs_bench_row *row);
int64_t hs_bench_cached_events(const hs_bench_row *row);
/* The same in tokens. */
int64_t hs_bench_cached_tokens(const hs_bench_row *row);

/* bench_count.c */
hs_bench_work hs_bench_count(const hs_bench_row *row, bool bf16_keys);
extern const char hs_bench_formula[]; /* what is counted, for people */

/* bench_model.c: random weights of the row's shape, or the checkpoint, whose sizes then become the row's. HSTU_EINVAL for a
 * checkpoint that the row does not fit, and the errors of hstu_model_open. */
hstu_status hs_bench_open_model(
    hstu_model **out, hs_bench_row *row, const hs_bench_settings *settings, hstu_error *err);

/* bench_measure.c: opens, warms up, measures, closes. HSTU_ECANCELLED when the console is. */
hstu_status hs_bench_measure(
    hs_bench_result *out, hs_bench_row *row, const hs_bench_settings *settings, hs_console *console, hstu_error *err);
/* Sorts the samples. n >= 1. */
hs_bench_times hs_bench_summarise(double *sample_s, int64_t n);

#endif
