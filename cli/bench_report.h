/* The figures of a bench, as a Markdown table that grows row by row, or as one JSON document. */
#ifndef HS_CLI_BENCH_REPORT_H
#define HS_CLI_BENCH_REPORT_H

#include "cli/bench.h"
#include "cli/json_writer.h"

#include <stdio.h>

/* Where and with what was measured. */
typedef struct hs_bench_machine {
    char cpu[128];                           /* the processor's name, "" where the system does not tell */
    int cores;                               /* that this process may use */
    const char *compiler, *version, *commit; /* commit NULL: built outside of a repository */
} hs_bench_machine;

void hs_bench_machine_get(hs_bench_machine *out);

void hs_bench_print_head(FILE *out);
void hs_bench_print_row(FILE *out, const hs_bench_row *row, const hs_bench_result *result, const hs_bench_machine *on);
/* Stages of the row, the number-th of the table above; 1 comes first and brings the head. Nothing without a profile. */
void hs_bench_print_stages(FILE *out, size_t number, const hs_stage_times *stages);
void hs_bench_print_foot(FILE *out, const hs_bench_settings *settings);

/* One object. */
void hs_bench_put_row(hs_json_writer *w, const hs_bench_row *row, const hs_bench_result *result,
    const hs_bench_settings *settings, const hs_bench_machine *on);

#endif
