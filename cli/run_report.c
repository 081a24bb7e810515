/* The report of a run: one JSON document, and a table for a person. The first keys are the original program's. */
#include "cli/run.h"

#include "base/error.h"
#include "cli/run_cache.h"
#include "cli/run_npu.h"
#include "cli/run_report.h"

#include <string.h>

enum { MAX_REPORT_BYTES = 1 << 20, MAX_KS = HS_MAX_OPTION_VALUES + 8 };

/* Meta's evaluation reports these. */
static const int64_t reference_hr[] = {1, 10, 50, 100, 200, 500, 1000};
static const int64_t reference_ndcg[] = {1, 10, 50, 100, 200};

typedef struct ks {
    int64_t k[MAX_KS]; /* ascending, each once */
    size_t n;
} ks;

int hs_ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double hs_quantile(const double *x, size_t n, double p)
{
    const double h = p * (double)(n - 1);
    const size_t i = (size_t)h;
    return i + 1 < n ? x[i] + (h - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

static void ks_add(ks *set, int64_t k)
{
    size_t at = 0;
    while (at < set->n && set->k[at] < k)
        at++;
    if (at < set->n && set->k[at] == k)
        return;
    memmove(set->k + at + 1, set->k + at, (set->n - at) * sizeof *set->k);
    set->k[at] = k;
    set->n++;
}

static bool leaves_one_out(const hs_run *run)
{
    return !run->replay && run->history.protocol == HSTU_PROTOCOL_LEAVE_ONE_OUT;
}

static ks cuts(const hs_run *run, const int64_t *reference, size_t n_reference)
{
    ks set = {.n = 0};
    for (size_t i = 0; i < run->n_top_k; i++)
        ks_add(&set, run->top_k[i]);
    for (size_t i = 0; i < n_reference && leaves_one_out(run); i++)
        ks_add(&set, reference[i]);
    return set;
}

static ks hr_cuts(const hs_run *run)
{
    return cuts(run, reference_hr, sizeof reference_hr / sizeof *reference_hr);
}

static ks ndcg_cuts(const hs_run *run)
{
    return cuts(run, reference_ndcg, sizeof reference_ndcg / sizeof *reference_ndcg);
}

static const char *protocol_name(const hs_run *run)
{
    return run->replay ? "replay" : run->ranking ? "ranking" : leaves_one_out(run) ? "leave-one-out" : "sessions";
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_estimate(hs_json_writer *w, const char *name, int64_t k, hstu_estimate estimate)
{
    char key[40];
    (void)snprintf(key, sizeof key, k ? "%s@%lld" : "%s", name, (long long)k);
    hs_json_key(w, key);
    hs_json_begin(w, '{');
    hs_json_pair_double(w, "mean", estimate.mean, HS_REPORT_DIGITS);
    hs_json_pair_double(w, "standard_error", estimate.standard_error, HS_REPORT_DIGITS);
    hs_json_end(w, '}');
}

static void put_metrics(hs_json_writer *w, const char *key, const hs_run *run, const int64_t *rank, size_t n)
{
    const ks hr = hr_cuts(run), ndcg = ndcg_cuts(run);
    hs_json_key(w, key);
    hs_json_begin(w, '{');
    for (size_t i = 0; i < hr.n; i++)
        put_estimate(w, "hr", hr.k[i], hstu_hit_rate(rank, n, hr.k[i]));
    for (size_t i = 0; i < ndcg.n; i++)
        put_estimate(w, "ndcg", ndcg.k[i], hstu_ndcg(rank, n, ndcg.k[i]));
    put_estimate(w, "mrr", 0, hstu_mrr(rank, n));
    hs_json_end(w, '}');
}

static double milliseconds(const hs_run_result *result, double p)
{
    return 1e3 * hs_quantile(result->latency_s, (size_t)result->n_batches, p);
}

static double average_ms(const hs_run_result *result)
{
    double sum = 0;
    for (int64_t i = 0; i < result->n_batches; i++)
        sum += result->latency_s[i];
    return 1e3 * sum / (double)result->n_batches;
}

static double per_second(const hs_run_result *result)
{
    return result->total_s > 0 ? (double)result->n_requests / result->total_s : 0;
}

/* The original's keys, in its order and with its meanings. */
static void put_original(hs_json_writer *w, const hs_run *run, const hs_run_result *result)
{
    hs_json_pair_text(w, "config", run->info.config);
    hs_json_pair_text(w, "dataset", run->dataset_info.name);
    hs_json_pair_int(w, "num_batches", result->n_batches);
    hs_json_pair_int(w, "batch_size", run->batch_size);
    hs_json_pair_int(w, "vocab_size", run->dataset_info.max_item + 1);
    hs_json_pair_text(w, "model_checkpoint", run->checkpoint);
    hs_json_pair_bool(w, "model_downloaded", run->checkpoint != NULL);
    hs_json_pair_double(w, "total_time_s", result->total_s, HS_REPORT_DIGITS);
    hs_json_pair_int(w, "requests", result->n_requests);
    hs_json_pair_double(w, "avg_latency_ms", average_ms(result), HS_REPORT_DIGITS);
    hs_json_pair_double(w, "p50_latency_ms", milliseconds(result, 0.5), HS_REPORT_DIGITS);
    if (result->rank)
        hs_json_pair_double(w, "hit_rate", hstu_hit_rate(result->rank, (size_t)result->n_targets, run->top_k[0]).mean,
            HS_REPORT_DIGITS);
    hs_json_pair_double(w, "throughput_rps", per_second(result), HS_REPORT_DIGITS);
}

void hs_report_put_model(hs_json_writer *w, const hs_run *run)
{
    hs_json_pair_text(w, "family", run->info.family);
    hs_json_pair_text(w, "main_module", run->info.main_module);
    hs_json_pair_text(w, "device", run->info.device);
    hs_json_pair_text(w, "dtype", run->info.dtype);
    hs_json_pair_text(w, "kv_dtype", run->info.kv_dtype);
    hs_json_pair_int(w, "threads", run->info.threads);
    hs_json_pair_text(w, "isa", run->info.isa);
}

void hs_report_put_replay(hs_json_writer *w, const hs_run *run, const hs_run_result *result)
{
    hs_json_key(w, "replay");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "batch_ts_interval_s", run->replay_rules.interval_s);
    hs_json_pair_int(w, "slide_step", run->slide_step);
    hs_json_pair_int(w, "targets", result->n_targets);
    hs_json_pair_int(w, "users", run->samples.n_users);
    hs_json_pair_int(w, "skipped_users", run->samples.n_users_skipped);
    hs_json_pair_int(w, "skipped_intervals", run->replayed->n_skipped);
    hs_json_end(w, '}');
}

static void put_circumstances(hs_json_writer *w, const hs_run *run)
{
    hs_report_put_model(w, run);
    hs_json_pair_text(w, "protocol", protocol_name(run));
    hs_json_pair_bool(w, "filter_seen", run->filter_seen);
    hs_json_key(w, "top_k");
    hs_json_begin(w, '[');
    for (size_t i = 0; i < run->n_top_k; i++)
        hs_json_put_int(w, run->top_k[i]);
    hs_json_end(w, ']');
    hs_json_pair_int(w, "candidates",
        run->candidate ? (int64_t)run->n_candidates : run->info.max_item_id - run->info.min_item_id + 1);
    hs_json_pair_int(w, "sequence_length", run->window);
    if (run->pad_attention)
        hs_json_pair_bool(w, "pad_attention", true);
    hs_json_pair_bool(w, "random_weights", run->info.random_weights != 0);
    hs_json_pair_int(w, "seed", (int64_t)run->seed);
    if (!run->replay)
        hs_json_pair_int(w, "skipped", run->samples.n_users_skipped);
    hs_json_pair_bool(w, "timestamps", run->samples.time != NULL);
}

void hs_report_put_difference(hs_json_writer *w, const char *option, int64_t model, int64_t here)
{
    if (model == here)
        return;
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "option", option);
    hs_json_pair_int(w, "model", model);
    hs_json_pair_int(w, "run", here);
    hs_json_end(w, '}');
}

/* What this run does otherwise than the model's configuration says. Rules that the kind of file makes void are left
 * out. */
static void put_differences(hs_json_writer *w, const hs_run *run)
{
    const hstu_history_options *model = &run->info.history, *here = &run->history;
    const bool events = run->dataset_info.kind == HSTU_DATASET_EVENTS;
    hs_json_key(w, "differs_from_training");
    hs_json_begin(w, '[');
    hs_report_put_difference(w, "sequence_length", run->info.max_sequence_length, run->window);
    if (run->dataset_info.kind != HSTU_DATASET_SASREC)
        hs_report_put_difference(w, "item_id_offset", model->item_id_offset, here->item_id_offset);
    if (leaves_one_out(run))
        hs_report_put_difference(w, "min_events", model->min_events, here->min_events);
    if (events && (leaves_one_out(run) || run->replay))
        hs_report_put_difference(w, "drop_duplicates", model->drop_duplicates, here->drop_duplicates);
    if (events && !leaves_one_out(run) && !run->replay) {
        hs_report_put_difference(w, "time_interval_s", model->time_interval_s, here->time_interval_s);
        hs_report_put_difference(w, "max_sequences", model->max_sequences, here->max_sequences);
        hs_report_put_difference(w, "max_sequence_length", model->max_sequence_length, here->max_sequence_length);
    }
    if (run->info.uses_time && !run->samples.time) {
        hs_json_begin(w, '{');
        hs_json_pair_text(w, "option", "timestamps");
        hs_json_pair_text(w, "model", "the relative bias wants the time of every event");
        hs_json_pair_text(w, "run", "the dataset has no times: the whole relative bias is left out");
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
}

hstu_status hs_report_json(hs_dynbuf *out, const hs_run *run, const hs_run_result *result, hstu_error *err)
{
    hs_json_writer w;
    const size_t n = (size_t)result->n_targets;
    hs_dynbuf_init(out, MAX_REPORT_BYTES);
    hs_json_writer_init(&w, out, 2);
    hs_json_begin(&w, '{');
    put_original(&w, run, result);
    hs_json_pair_double(&w, "p90_latency_ms", milliseconds(result, 0.9), HS_REPORT_DIGITS);
    hs_json_pair_double(&w, "p99_latency_ms", milliseconds(result, 0.99), HS_REPORT_DIGITS);
    hs_json_pair_double(&w, "max_latency_ms", milliseconds(result, 1), HS_REPORT_DIGITS);
    if (run->ranking) {
        hs_report_put_ranking(&w, run, result);
    } else {
        put_metrics(&w, "metrics", run, result->rank, n);
        put_circumstances(&w, run);
        if (run->replay)
            hs_report_put_replay(&w, run, result);
        put_differences(&w, run);
        put_metrics(&w, "most_popular_baseline", run, result->popular_rank, n);
    }
    hs_report_put_npu(&w, run);
    hs_report_put_cache(&w, run);
    hs_stage_times_put(&w, &result->stages);
    hs_json_end(&w, '}');
    if (w.failed || !hs_dynbuf_append_text(out, "\n")) {
        hs_dynbuf_free(out);
        return hs_fail_nomem(err, MAX_REPORT_BYTES, "the report");
    }
    return HSTU_OK;
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

static void print_row(FILE *out, const char *name, int64_t k, hstu_estimate model, hstu_estimate popular)
{
    char label[40];
    (void)snprintf(label, sizeof label, k ? "%s@%lld" : "%s", name, (long long)k);
    (void)fprintf(out, "  %-12s%9.5f +- %.5f   %9.5f +- %.5f\n", label, model.mean, model.standard_error, popular.mean,
        popular.standard_error);
}

static void print_head(FILE *out, const hs_run *run, const hs_run_result *result)
{
    char title[2048];
    (void)snprintf(title, sizeof title, "%s on %s, %s: %lld requests in %lld batches of %lld",
        run->info.random_weights ? "random weights" : run->checkpoint, run->dataset_info.name, protocol_name(run),
        (long long)result->n_requests, (long long)result->n_batches, (long long)run->batch_size);
    hs_console_clean(title);
    (void)fprintf(out, "\n  %s\n", title);
    (void)fprintf(out, "  %s %s, %s, %s (%s), %d threads\n", run->info.family, run->info.main_module, run->info.dtype,
        run->info.device, run->info.isa, run->info.threads);
    (void)fprintf(out, "  %.1f requests/s; a batch: mean %.3f ms, p50 %.3f, p90 %.3f, p99 %.3f, max %.3f\n\n",
        per_second(result), average_ms(result), milliseconds(result, 0.5), milliseconds(result, 0.9),
        milliseconds(result, 0.99), milliseconds(result, 1));
}

static void print_tail(FILE *out, const hs_run *run, const hs_run_result *result)
{
    hs_report_print_npu(out, run);
    hs_report_print_cache(out, run);
    if (result->stages.n == 0)
        return;
    (void)fprintf(out, "  %-12s  %9s  %10s  %7s  %9s\n", "stage", "calls", "ms", "share", "GFLOP/s");
    hs_stage_times_print(out, &result->stages, "  ", "  ", "\n");
    (void)fputs("  calls and ms of a request\n\n", out);
}

void hs_report_table(FILE *out, const hs_run *run, const hs_run_result *result)
{
    const size_t n = (size_t)result->n_targets;
    const ks hr = hr_cuts(run), ndcg = ndcg_cuts(run);
    print_head(out, run, result);
    if (run->ranking) {
        hs_report_print_ranking(out, run, result);
        print_tail(out, run, result);
        return;
    }
    (void)fprintf(out, "  %-12s%-23s%s\n", "", "     model", "     most popular");
    for (size_t i = 0; i < hr.n; i++)
        print_row(out, "hr", hr.k[i], hstu_hit_rate(result->rank, n, hr.k[i]),
            hstu_hit_rate(result->popular_rank, n, hr.k[i]));
    for (size_t i = 0; i < ndcg.n; i++)
        print_row(out, "ndcg", ndcg.k[i], hstu_ndcg(result->rank, n, ndcg.k[i]),
            hstu_ndcg(result->popular_rank, n, ndcg.k[i]));
    print_row(out, "mrr", 0, hstu_mrr(result->rank, n), hstu_mrr(result->popular_rank, n));
    (void)fputc('\n', out);
    print_tail(out, run, result);
}
