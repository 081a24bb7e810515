/* Measuring one row. */
#include "cli/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/bench_peak.h"
#include "cli/bench_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SAMPLES = 1 << 17 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

hs_bench_times hs_bench_summarise(double *s, int64_t n)
{
    qsort(s, (size_t)n, sizeof *s, by_value);
    return (hs_bench_times){.best_s = s[0],
        .p10_s = s[(n - 1) / 10],
        .median_s = (s[(n - 1) / 2] + s[n / 2]) / 2,
        .p90_s = s[n - 1 - (n - 1) / 10],
        .worst_s = s[n - 1],
        .n = n};
}

static hstu_status repeat(hs_bench_result *out, hs_bench_request *request, const hs_bench_settings *settings,
    double *sample, hs_console *console, hstu_error *err)
{
    double total_s = 0;
    int64_t n = 0;
    for (int64_t turn = 0; n < MAX_SAMPLES && (n < settings->repetitions || total_s < settings->min_s); turn++) {
        double taken_s = 0;
        if (hs_console_cancelled(console))
            return hs_fail(err, HSTU_ECANCELLED, 0, "interrupted");
        if (settings->profile && turn == settings->warmup)
            hs_bench_request_start_profile(request);
        HS_TRY(hs_bench_request_ask(request, turn, &taken_s, err));
        if (turn < settings->warmup)
            continue;
        sample[n++] = taken_s;
        total_s += taken_s;
    }
    out->times = hs_bench_summarise(sample, n);
    return settings->profile ? hs_bench_request_stages(request, total_s, n, &out->stages, err) : HSTU_OK;
}

static void describe(hs_bench_result *out, const hs_bench_row *row, const hstu_model *model)
{
    hstu_model_info info;
    hstu_model_get_info(model, &info);
    (void)snprintf(out->kernels, sizeof out->kernels, "%s", info.isa);
    (void)snprintf(out->kv_dtype, sizeof out->kv_dtype, "%s", info.kv_dtype);
    out->threads = info.threads;
    out->random_weights = info.random_weights != 0;
    out->reused = hs_bench_cached_tokens(row);
    out->work = hs_bench_count(row, strcmp(info.kv_dtype, "bf16") == 0);
}

/* The yardstick comes last, next to the row. */
static hstu_status measure_before(
    hs_bench_result *out, const hs_bench_row *row, const hs_bench_settings *settings, hstu_error *err)
{
    if (settings->peak_s <= 0 || strcmp(settings->device, "cpu") != 0)
        return HSTU_OK;
    HS_TRY(hs_bench_peak_measure(
        &out->peak, out->kernels, strcmp(row->dtype, "bf16") == 0, out->threads, settings->peak_s, err));
    return hs_bench_yardstick_measure(&out->yardstick.before_flops, out->peak.of, out->threads, settings->peak_s, err);
}

static hstu_status measure_model(hs_bench_result *out, const hs_bench_row *row, const hs_bench_settings *settings,
    const hstu_model *model, hs_console *console, hstu_error *err)
{
    hs_bench_request *request = NULL;
    double *sample = hs_alloc(MAX_SAMPLES, sizeof *sample);
    hstu_status status = sample ? HSTU_OK : hs_fail_nomem(err, MAX_SAMPLES * sizeof *sample, "a bench's samples");
    describe(out, row, model);
    if (status == HSTU_OK)
        status = hs_bench_request_open(&request, row, model, err);
    if (status == HSTU_OK)
        status = measure_before(out, row, settings, err);
    if (status == HSTU_OK)
        status = repeat(out, request, settings, sample, console, err);
    if (status == HSTU_OK)
        status =
            hs_bench_yardstick_measure(&out->yardstick.behind_flops, out->peak.of, out->threads, settings->peak_s, err);
    hs_bench_request_close(request);
    hs_free(sample);
    return status;
}

hstu_status hs_bench_measure(
    hs_bench_result *out, hs_bench_row *row, const hs_bench_settings *settings, hs_console *console, hstu_error *err)
{
    hstu_model *model = NULL;
    *out = (hs_bench_result){.threads = 0};
    HS_TRY(hs_bench_open_model(&model, row, settings, err));
    const hstu_status status = measure_model(out, row, settings, model, console, err);
    hstu_model_close(model);
    return status;
}
