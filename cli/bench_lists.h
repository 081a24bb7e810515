/* Lists and ranges on the command line: 512,1024..4096x2. */
#ifndef HS_CLI_BENCH_LISTS_H
#define HS_CLI_BENCH_LISTS_H

#include "hstu/status.h"

#include <stddef.h>
#include <stdint.h>

enum { HS_BENCH_MAX_LIST = 64, HS_BENCH_MAX_WORD = 16 };

typedef struct hs_bench_ints {
    int64_t x[HS_BENCH_MAX_LIST];
    size_t n;
} hs_bench_ints;

typedef struct hs_bench_reals {
    double x[HS_BENCH_MAX_LIST];
    size_t n;
} hs_bench_reals;

typedef struct hs_bench_words {
    char x[HS_BENCH_MAX_LIST][HS_BENCH_MAX_WORD];
    size_t n;
} hs_bench_words;

/* Comma-separated: N, A..B (each number), A..B+S (every S-th), A..BxF (each F times the one before), all in min .. max, none
 * twice. HSTU_EINVAL names the option. */
hstu_status hs_bench_parse_ints(
    hs_bench_ints *out, const char *option, const char *text, int64_t min, int64_t max, hstu_error *err);
/* Comma-separated fractions from 0 to 1, none twice. */
hstu_status hs_bench_parse_fractions(hs_bench_reals *out, const char *option, const char *text, hstu_error *err);
/* Comma-separated words out of known[], at most HS_BENCH_MAX_LIST and NULL behind them; none twice. */
hstu_status hs_bench_parse_words(
    hs_bench_words *out, const char *option, const char *text, const char *const *known, hstu_error *err);

#endif
