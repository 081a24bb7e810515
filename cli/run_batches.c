/* The loop over batches. */
#include "cli/run_batches.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/run_cache.h"
#include "cli/run_npu.h"

#include <stdlib.h>

hstu_status hs_run_batches_plan(hs_run_result *result, const hs_run *run, hstu_error *err)
{
    const int64_t n_samples = run->samples.n, all = (n_samples - 1) / run->batch_size + 1;
    *result = (hs_run_result){.n_batches = run->steps && run->steps < all ? run->steps : all};
    result->n_requests = result->n_batches < all ? result->n_batches * run->batch_size : n_samples;
    result->n_targets = hs_samples_target(&run->samples, result->n_requests);
    result->latency_s = hs_alloc((size_t)result->n_batches, sizeof *result->latency_s);
    return result->latency_s
               ? HSTU_OK
               : hs_fail_nomem(err, (size_t)result->n_batches * sizeof *result->latency_s, "the latencies");
}

static hstu_status check_cancelled(const hs_run *run, hstu_error *err)
{
    return hs_console_cancelled(&run->console) ? hs_fail(err, HSTU_ECANCELLED, 0, "interrupted") : HSTU_OK;
}

static hstu_batch assemble(const hs_run *run, const hs_run_result *result, const hs_batch_work *work, int64_t first)
{
    return hs_batch_room_fill(work->room, first, hs_min_int(run->batch_size, result->n_requests - first));
}

static hstu_status warm_up(hs_run *run, const hs_run_result *result, const hs_batch_work *work, hstu_error *err)
{
    HS_TRY(hs_run_cache_use(run, false, err));
    for (int64_t i = 0; i < run->warmup; i++) {
        const int64_t first = i % result->n_batches * run->batch_size;
        HS_TRY(check_cancelled(run, err));
        const hstu_batch batch = assemble(run, result, work, first);
        HS_TRY(work->answer(work->ctx, &batch, first, err));
    }
    return HSTU_OK;
}

/* One batch, timed. Compiling a graph that the batch needs first is no part of its latency. */
static hstu_status answer_batch(
    hs_run *run, hs_run_result *result, const hs_batch_work *work, int64_t b, hstu_batch *batch, hstu_error *err)
{
    const int64_t first = b * run->batch_size;
    double compiled_before = 0, compiled = 0;
    HS_TRY(hs_run_npu_compiled(run, &compiled_before, err));
    const double start = hs_clock_s();
    *batch = assemble(run, result, work, first);
    const double assembled = hs_clock_s();
    HS_TRY(work->answer(work->ctx, batch, first, err));
    const double end = hs_clock_s();
    HS_TRY(hs_run_npu_compiled(run, &compiled, err));
    compiled -= compiled_before;
    result->latency_s[b] = end - assembled - compiled;
    result->total_s += end - start - compiled;
    return HSTU_OK;
}

/* The session times its calls with the compiling that latencies leave out. */
static hstu_status take_stages(const hs_run *run, hs_run_result *result, hstu_error *err)
{
    double total_s = run->npu.on ? run->npu.stats.compile_s - run->npu.compiled_before_s : 0;
    for (int64_t b = 0; b < result->n_batches; b++)
        total_s += result->latency_s[b];
    return hs_stage_times_take(&result->stages, run->session, total_s, result->n_requests, err);
}

hstu_status hs_run_batches(hs_run *run, hs_run_result *result, const hs_batch_work *work, hstu_error *err)
{
    HS_TRY(warm_up(run, result, work, err));
    HS_TRY(hs_run_cache_begin(run, result->n_batches, err));
    HS_TRY(hs_run_npu_begin(run, err));
    if (run->profile)
        hstu_session_start_profile(run->session);
    for (int64_t b = 0; b < result->n_batches; b++) {
        const int64_t first = b * run->batch_size;
        HS_TRY(check_cancelled(run, err));
        hstu_batch batch;
        HS_TRY(answer_batch(run, result, work, b, &batch, err));
        hs_run_npu_note(run, batch.n_users);
        HS_TRY(hs_run_cache_note(run, batch.n_users, result->latency_s[b], err));
        HS_TRY(work->show(work->ctx, &batch, first, err));
        if (hs_run_cache_is_due(run))
            HS_TRY(work->verify(work->ctx, &batch, first, err));
        hs_console_step(&run->console, work->stage, (uint64_t)first + batch.n_users, (uint64_t)result->n_requests);
    }
    qsort(result->latency_s, (size_t)result->n_batches, sizeof *result->latency_s, hs_ascending);
    HS_TRY(hs_run_npu_end(run, err));
    if (run->profile)
        HS_TRY(take_stages(run, result, err));
    return hs_run_cache_end(run, err);
}
