/* The request of a bench's row, again and again: ids that are always the same, except the first event behind the cached ones. */
#ifndef HS_CLI_BENCH_REQUEST_H
#define HS_CLI_BENCH_REQUEST_H

#include "cli/bench.h"

typedef struct hs_bench_request hs_bench_request;

/* Opens a session on the model, and with cached events a cache that holds them. Both stay borrowed until close. HSTU_EINVAL for a
 * model of which no row can be used again; HSTU_ENOMEM, and the errors of the calls. */
hstu_status hs_bench_request_open(
    hs_bench_request **out, const hs_bench_row *row, const hstu_model *model, hstu_error *err);
void hs_bench_request_close(hs_bench_request *request); /* NULL is fine */
/* Asks once, and tells how long the answer took. `turn` differs from call to call. HSTU_EDEVICE when other than the cached tokens
 * were reused. */
hstu_status hs_bench_request_ask(hs_bench_request *request, int64_t turn, double *taken_s, hstu_error *err);
/* Times operations from here on; what all calls since then, which took total_s, spent on each. */
void hs_bench_request_start_profile(hs_bench_request *request);
hstu_status hs_bench_request_stages(
    const hs_bench_request *request, double total_s, int64_t n_calls, hs_stage_times *out, hstu_error *err);

#endif
