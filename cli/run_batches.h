/* Samples in batches, in order, timed one by one: the loop of every evaluation. */
#ifndef HS_CLI_RUN_BATCHES_H
#define HS_CLI_RUN_BATCHES_H

#include "cli/run_assemble.h"

/* What an evaluation does with a batch; `first` is the number of its first sample. */
typedef struct hs_batch_work {
    void *ctx;
    const char *stage;         /* what the progress bar says */
    const hs_batch_room *room; /* of the run's samples */
    hstu_status (*answer)(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err);
    /* Untimed, after each answer: shapes and rows to print; and a second answer from run->cache.plain, compared. */
    hstu_status (*show)(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err);
    hstu_status (*verify)(void *ctx, const hstu_batch *batch, int64_t first, hstu_error *err);
} hs_batch_work;

/* Sets n_batches, n_requests, n_targets and room for latency_s of an evaluation of the run's samples; the rest is
 * zeroed. HSTU_ENOMEM. */
hstu_status hs_run_batches_plan(hs_run_result *result, const hs_run *run, hstu_error *err);
/* Warm-up batches, untimed and without the cache, then every batch once; fills latency_s, ascending, and total_s.
 * HSTU_ECANCELLED. */
hstu_status hs_run_batches(hs_run *run, hs_run_result *result, const hs_batch_work *work, hstu_error *err);

#endif
