/* The NPU of a run: asked for, tested against the processor, warmed up, measured. Every function is right for a run on the
 * processor, where it does nothing. */
#ifndef HS_CLI_RUN_NPU_H
#define HS_CLI_RUN_NPU_H

#include "cli/json_writer.h"
#include "cli/run.h"

/* Before anything is opened: HSTU_EINVAL for options of NPUs without one, and of others that an NPU cannot keep. */
hstu_status hs_run_npu_check_usage(const hs_option_value *value, hstu_error *err);
/* Sets run->npu from the options, whose values live longer than the run. */
void hs_run_npu_ask(hs_run *run, const hs_option_value *value);

/* With model, session and cache open: the self-test, and the graphs that --npu_warmup wants. HSTU_EDEVICE of a device whose
 * answers are wrong. */
hstu_status hs_run_npu_prepare(hs_run *run, hstu_error *err);

/* Around the answers that are measured: counters begin anew; each batch is noted behind its answer. */
hstu_status hs_run_npu_begin(hs_run *run, hstu_error *err);
void hs_run_npu_note(hs_run *run, size_t n_users);
hstu_status hs_run_npu_end(hs_run *run, hstu_error *err);
/* Seconds of compiling so far: what grows during an answer is not part of its latency. */
hstu_status hs_run_npu_compiled(const hs_run *run, double *compile_s, hstu_error *err);

/* The key npu of a report, if the run has an NPU. */
void hs_report_put_npu(hs_json_writer *w, const hs_run *run);
/* The same in a few lines for a person. */
void hs_report_print_npu(FILE *out, const hs_run *run);

#endif
