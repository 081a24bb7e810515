/* --profile: where the time of a run's or a bench's calls went, operation by operation. */
#ifndef HS_CLI_STAGE_TIMES_H
#define HS_CLI_STAGE_TIMES_H

#include "cli/json_writer.h"
#include "hstu/hstu.h"

#include <stdio.h>

enum { HS_STAGE_TIMES_MOST = 16 };

/* Of n_requests requests; the last stage is "else": what of total_s no operation took. n 0: not measured. */
typedef struct hs_stage_times {
    hstu_stage_time stage[HS_STAGE_TIMES_MOST]; /* those with calls, the longest first */
    size_t n;
    int64_t n_requests;
    double total_s;
} hs_stage_times;

/* The session's profile, when its calls took total_s. HSTU_EINVAL for a session without. */
hstu_status hs_stage_times_take(
    hs_stage_times *out, const hstu_session *session, double total_s, int64_t n_requests, hstu_error *err);

/* The key profile; nothing when nothing was measured. */
void hs_stage_times_put(hs_json_writer *w, const hs_stage_times *times);
/* Lines for a person, each with `before` and `after` around its cells, which `between` separates. */
void hs_stage_times_print(
    FILE *out, const hs_stage_times *times, const char *before, const char *between, const char *after);

#endif
