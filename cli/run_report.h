/* The parts of a run's report. */
#ifndef HS_CLI_RUN_REPORT_H
#define HS_CLI_RUN_REPORT_H

#include "cli/json_writer.h"
#include "cli/run.h"

enum { HS_REPORT_DIGITS = 10 };

/* Keys that tell which model ran where. */
void hs_report_put_model(hs_json_writer *w, const hs_run *run);
/* An element of differs_from_training, unless both are equal. */
void hs_report_put_difference(hs_json_writer *w, const char *option, int64_t model, int64_t here);
/* The key replay of that protocol. */
void hs_report_put_replay(hs_json_writer *w, const hs_run *run, const hs_run_result *result);
/* All keys behind the latencies, and the table below its head, of a ranking model. */
void hs_report_put_ranking(hs_json_writer *w, const hs_run *run, const hs_run_result *result);
void hs_report_print_ranking(FILE *out, const hs_run *run, const hs_run_result *result);

#endif
