/* The figures of a bench. */
#include "cli/bench_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIGITS = 6 };

/* ---- derived figures -------------------------------------------------------------------------------------------- */

static double giga_a_second(double amount, double seconds)
{
    return 1e-9 * amount / seconds;
}

/* NaN without a peak: JSON has null then. */
static double percent(double rate, double peak)
{
    return peak > 0 ? 100 * rate / peak : (double)NAN;
}

/* Of the mean of before and behind. */
static double percent_of_yardstick(double rate, const hs_bench_yardstick *y)
{
    return percent(rate, (y->before_flops + y->behind_flops) / 2);
}

static double per_request_ms(const hs_bench_row *row, double seconds)
{
    return 1e3 * seconds / (double)row->n[HS_BENCH_BATCH];
}

/* ---- Markdown --------------------------------------------------------------------------------------------------- */

void hs_bench_print_head(FILE *out)
{
    (void)fputs(
        "| shape | history | cached | candidates | layers x D | heads x width | batch | dtype | kernels | threads "
        "| ms, median | best | p10 - p90 | GFLOP | GFLOP/s | of peak | best of peak | peak, GFLOP/s | of "
        "yardstick | yardstick before, behind, GFLOP/s | GB/s | of memory | machine | build |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | "
        "--- | --- | --- | --- | --- | --- | --- |\n",
        out);
}

static void print_shape(FILE *out, const hs_bench_row *row, const hs_bench_result *r, const char *kernels)
{
    const int64_t *n = row->n;
    (void)fprintf(out, "| %s | %lld | %lld | ", row->shape, (long long)n[HS_BENCH_HISTORY], (long long)r->reused);
    if (row->decoder)
        (void)fprintf(out, "%lld items | %lld x %lld | decoder", (long long)n[HS_BENCH_ITEMS],
            (long long)n[HS_BENCH_LAYERS], (long long)n[HS_BENCH_DIM]);
    else
        (void)fprintf(out, "%lld | %lld x %lld | %lld x %lld", (long long)n[HS_BENCH_CANDIDATES],
            (long long)n[HS_BENCH_LAYERS], (long long)n[HS_BENCH_DIM], (long long)n[HS_BENCH_HEADS],
            (long long)n[HS_BENCH_HEAD_DIM]);
    (void)fprintf(out, " | %lld | %s | %s | %d |", (long long)n[HS_BENCH_BATCH], row->dtype, kernels, r->threads);
}

static void print_percent(FILE *out, double x)
{
    (void)fprintf(out, isfinite(x) ? " %.1f %% |" : " - |", x);
}

static void print_rates(FILE *out, const hs_bench_result *r)
{
    const hs_bench_times *t = &r->times;
    const hs_bench_yardstick *y = &r->yardstick;
    (void)fprintf(out, " %.2f | %.1f |", 1e-9 * r->work.flop, giga_a_second(r->work.flop, t->median_s));
    print_percent(out, percent(r->work.flop / t->median_s, r->peak.flops));
    print_percent(out, percent(r->work.flop / t->best_s, r->peak.flops));
    if (r->peak.of)
        (void)fprintf(out, " %.1f (%s) |", 1e-9 * r->peak.flops, r->peak.of);
    else
        (void)fputs(" - |", out);
    print_percent(out, percent_of_yardstick(r->work.flop / t->median_s, y));
    if (y->before_flops > 0)
        (void)fprintf(out, " %.1f, %.1f |", 1e-9 * y->before_flops, 1e-9 * y->behind_flops);
    else
        (void)fputs(" - |", out);
    (void)fprintf(out, " %.2f |", giga_a_second(r->work.bytes, t->median_s));
    print_percent(out, percent(r->work.bytes / t->median_s, r->peak.memory_bytes_s));
}

/* Names come out of libraries and the system; a bar would end the cell. */
static const char *clean_cell(char *text)
{
    hs_console_clean(text);
    for (char *bar = strchr(text, '|'); bar; bar = strchr(bar, '|'))
        *bar = '/';
    return text;
}

void hs_bench_print_row(FILE *out, const hs_bench_row *row, const hs_bench_result *r, const hs_bench_machine *on)
{
    char kernels[sizeof r->kernels], cpu[sizeof on->cpu];
    (void)snprintf(kernels, sizeof kernels, "%s", r->kernels);
    (void)snprintf(cpu, sizeof cpu, "%s", on->cpu);
    print_shape(out, row, r, clean_cell(kernels));
    (void)fprintf(out, " %.3f | %.3f | %.3f - %.3f |", per_request_ms(row, r->times.median_s),
        per_request_ms(row, r->times.best_s), per_request_ms(row, r->times.p10_s), per_request_ms(row, r->times.p90_s));
    print_rates(out, r);
    (void)fprintf(out, " %s%s%d cores | %s, %s %s |\n", clean_cell(cpu), cpu[0] ? ", " : "", on->cores, on->compiler,
        on->commit ? "commit" : "version", on->commit ? on->commit : on->version);
    (void)fflush(out);
}

void hs_bench_print_stages(FILE *out, size_t number, const hs_stage_times *stages)
{
    char before[32];
    if (number == 1)
        (void)fputs("\n| row | stage | calls a request | ms a request | share | GFLOP/s |\n"
                    "| --- | --- | --- | --- | --- | --- |\n",
            out);
    (void)snprintf(before, sizeof before, "| %zu | ", number);
    hs_stage_times_print(out, stages, before, " | ", " |\n");
}

void hs_bench_print_foot(FILE *out, const hs_bench_settings *settings)
{
    (void)fprintf(out,
        "\nms are those of a request: a call's by its batch; %lld calls of warm-up, then at least %lld and %.3g s. "
        "%s Peak: of the multipliers over registers alone, just before the row; yardstick: with operands out of L1, "
        "just before and just behind it.\n",
        (long long)settings->warmup, (long long)settings->repetitions, settings->min_s, hs_bench_formula);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_shape(hs_json_writer *w, const hs_bench_row *row, const hs_bench_result *r)
{
    static const char *const names[HS_BENCH_THREADS] = {
        "history", "candidates", "layers", "dim", "heads", "head_dim", "context", "items", "batch"};
    hs_json_pair_text(w, "shape", row->shape);
    hs_json_pair_text(w, "family", row->decoder ? "decoder" : "ranking");
    for (int i = 0; i < HS_BENCH_THREADS; i++)
        hs_json_pair_int(w, names[i], row->n[i]);
    hs_json_pair_int(w, "cached", r->reused);
}

static void put_times(hs_json_writer *w, const char *key, const hs_bench_times *t, double scale)
{
    hs_json_key(w, key);
    hs_json_begin(w, '{');
    hs_json_pair_double(w, "best", scale * t->best_s, DIGITS);
    hs_json_pair_double(w, "p10", scale * t->p10_s, DIGITS);
    hs_json_pair_double(w, "median", scale * t->median_s, DIGITS);
    hs_json_pair_double(w, "p90", scale * t->p90_s, DIGITS);
    hs_json_pair_double(w, "worst", scale * t->worst_s, DIGITS);
    hs_json_end(w, '}');
}

static void put_yardstick(hs_json_writer *w, const hs_bench_yardstick *y, double rate)
{
    const bool measured = y->before_flops > 0;
    hs_json_pair_double(w, "yardstick_gflops_before", measured ? 1e-9 * y->before_flops : (double)NAN, DIGITS);
    hs_json_pair_double(w, "yardstick_gflops_behind", measured ? 1e-9 * y->behind_flops : (double)NAN, DIGITS);
    hs_json_pair_double(w, "percent_of_yardstick", percent_of_yardstick(rate, y), DIGITS);
}

static void put_rates(hs_json_writer *w, const hs_bench_result *r)
{
    const double median_s = r->times.median_s, best_s = r->times.best_s, flop = r->work.flop;
    const bool peak = r->peak.of != NULL, memory = r->peak.memory_bytes_s > 0;
    hs_json_pair_double(w, "gflop", 1e-9 * flop, DIGITS);
    hs_json_pair_double(w, "gflop_nominal", 1e-9 * r->work.flop_nominal, DIGITS);
    hs_json_pair_double(w, "gflops", giga_a_second(flop, median_s), DIGITS);
    hs_json_pair_double(w, "gflops_best", giga_a_second(flop, best_s), DIGITS);
    hs_json_pair_text(w, "peak", r->peak.of);
    hs_json_pair_double(w, "peak_gflops", peak ? 1e-9 * r->peak.flops : (double)NAN, DIGITS);
    hs_json_pair_double(w, "percent_of_peak", percent(flop / median_s, r->peak.flops), DIGITS);
    hs_json_pair_double(w, "percent_of_peak_best", percent(flop / best_s, r->peak.flops), DIGITS);
    put_yardstick(w, &r->yardstick, flop / median_s);
    hs_json_pair_double(w, "gbytes", 1e-9 * r->work.bytes, DIGITS);
    hs_json_pair_double(w, "gbytes_s", giga_a_second(r->work.bytes, median_s), DIGITS);
    hs_json_pair_double(w, "memory_gbytes_s", memory ? 1e-9 * r->peak.memory_bytes_s : (double)NAN, DIGITS);
    hs_json_pair_double(w, "percent_of_memory", percent(r->work.bytes / median_s, r->peak.memory_bytes_s), DIGITS);
}

void hs_bench_put_row(hs_json_writer *w, const hs_bench_row *row, const hs_bench_result *r,
    const hs_bench_settings *settings, const hs_bench_machine *on)
{
    const double batch = (double)row->n[HS_BENCH_BATCH];
    hs_json_begin(w, '{');
    put_shape(w, row, r);
    hs_json_pair_text(w, "checkpoint", settings->checkpoint);
    hs_json_pair_text(w, "device", settings->device);
    hs_json_pair_text(w, "dtype", row->dtype);
    hs_json_pair_text(w, "kv_dtype", r->kv_dtype);
    hs_json_pair_text(w, "isa", r->kernels);
    hs_json_pair_int(w, "threads", r->threads);
    hs_json_pair_int(w, "warmup", settings->warmup);
    hs_json_pair_int(w, "repetitions", r->times.n);
    put_times(w, "ms", &r->times, 1e3 / batch);
    put_times(w, "call_ms", &r->times, 1e3);
    hs_json_pair_double(w, "requests_s", batch / r->times.median_s, DIGITS);
    put_rates(w, r);
    hs_stage_times_put(w, &r->stages);
    hs_json_pair_text(w, "cpu", on->cpu[0] ? on->cpu : NULL);
    hs_json_pair_int(w, "cores", on->cores);
    hs_json_pair_text(w, "compiler", on->compiler);
    hs_json_pair_text(w, "version", on->version);
    hs_json_pair_text(w, "commit", on->commit);
    hs_json_end(w, '}');
}
