/* `hstu bench`: how fast a shape runs, beside what the machine can do. */
#include "base/alloc.h"
#include "base/error.h"
#include "cli/bench_report.h"
#include "cli/bench_shapes.h"
#include "cli/npu_options.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "cli/result_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers' options come first, in the order of hs_bench_number. */
enum {
    CACHED = HS_BENCH_N_NUMBERS,
    SHAPE,
    FAMILY,
    DTYPE,
    ISA,
    CHECKPOINT,
    CONFIG,
    DEVICE,
    WARMUP,
    REPETITIONS,
    MIN_MS,
    PEAK_MS,
    PROFILE,
    JSON,
    QUIET,
    ORT_LIBRARY,
    ORT_PROVIDER_LIBRARY,
    NPU_OPTION,
    N_OPTIONS
};

enum { MAX_JSON_BYTES = 1 << 25 };
static const char of_shape[] = "the shape's", list[] = "LIST";
static const int64_t max_count = 1000000;

static const hs_option options_of_bench[N_OPTIONS] = {
    [HS_BENCH_HISTORY] = {"history", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0,
        "tokens of a history: contextual features, and two for each event; decoder: events"},
    [HS_BENCH_CANDIDATES] = {"candidates", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "candidates of a request"},
    [HS_BENCH_LAYERS] = {"layers", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "layers"},
    [HS_BENCH_DIM] = {"dim", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "width D of a row"},
    [HS_BENCH_HEADS] = {"heads", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "heads of attention"},
    [HS_BENCH_HEAD_DIM] = {"head_dim", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "width of a head"},
    [HS_BENCH_CONTEXT] = {"context", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0,
        "contextual features among the history"},
    [HS_BENCH_ITEMS] = {"items", HS_OPTION_TEXT, list, NULL, "20000; decoder: 50000", 0, 0,
        "rows of the item table; a decoder scores all"},
    [HS_BENCH_BATCH] = {"batch", HS_OPTION_TEXT, list, NULL, of_shape, 0, 0, "requests of a call, of as many users"},
    [HS_BENCH_THREADS] = {"threads", HS_OPTION_TEXT, list, "0", NULL, 0, 0,
        "threads; 0: as many as affinity and quota allow"},
    [CACHED] = {"cached", HS_OPTION_TEXT, "X[,X...]", NULL, of_shape, 0, 0,
        "share of a history's events, 0 to 1, whose keys and values a cache holds"},
    [SHAPE] = {"shape", HS_OPTION_TEXT, "NAME[,NAME...]", NULL, "kr1k_2k, unless a list changes it", 0, 0,
        "named shapes: kr1k_full, kr1k_cached, kr1k_2k, nv_4096_0, nv_4096_3968, pure (ranking), decoder_2x128; lists "
        "change their numbers"},
    [FAMILY] = {"family", HS_OPTION_CHOICE, "ranking|decoder", "ranking", NULL, 0, 0, "of lists without a named shape"},
    [DTYPE] = {"dtype", HS_OPTION_TEXT, "TYPE[,TYPE...]", "fp32", NULL, 0, 0, "arithmetic: fp32, bf16; NPUs: fp16 too"},
    [ISA] = {"isa", HS_OPTION_TEXT, "NAME[,NAME...]", NULL, "the best that the processor has, or HSTU_ISA", 0, 0,
        "kernels, as HSTU_ISA names them: ref, avx2, avx512, avx512bf16, amx, neon"},
    [CHECKPOINT] = {"checkpoint", HS_OPTION_TEXT, "FILE|DIR", NULL, "random weights", 0, 0,
        "a model, which tells the sizes of the network; lists tell those of requests"},
    [CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL, "the checkpoint's own", 0, 0,
        "preset, or JSON or gin file with the checkpoint's configuration"},
    [DEVICE] = {"device", HS_OPTION_TEXT, "NAME", "cpu", NULL, 0, 0, "where the model runs, as for 'hstu run'"},
    [WARMUP] = {"warmup", HS_OPTION_INT, "N", "2", NULL, 0, max_count, "calls in front that do not count"},
    [REPETITIONS] = {"repetitions", HS_OPTION_INT, "N", "5", NULL, 1, 100000, "calls that count, at least"},
    [MIN_MS] = {"min_ms", HS_OPTION_INT, "N", "1000", NULL, 0, max_count, "milliseconds that they take, at least"},
    [PEAK_MS] = {"peak_ms", HS_OPTION_INT, "N", "200", NULL, 0, max_count,
        "milliseconds for each of these: the peak, memory and the yardstick before a row, and the yardstick behind it; "
        "0: none is measured"},
    [PROFILE] = {"profile", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "how long each operation took, too"},
    [JSON] = {"json", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "print one JSON document instead of a Markdown table"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
    [ORT_LIBRARY] = HS_OPTION_ORT_LIBRARY,
    [ORT_PROVIDER_LIBRARY] = HS_OPTION_ORT_PROVIDER_LIBRARY,
    [NPU_OPTION] = {"npu_option", HS_OPTION_TEXTS, "KEY=VALUE", NULL, NULL, 0, 0,
        "an option of the vendor's provider (docs/npu.md); may be given several times"},
};

/* ---- options ---------------------------------------------------------------------------------------------------- */

static hstu_status check_usage(const hs_option_value *value, hstu_error *err)
{
    static const int of_checkpoint[] = {
        SHAPE, HS_BENCH_LAYERS, HS_BENCH_DIM, HS_BENCH_HEADS, HS_BENCH_HEAD_DIM, HS_BENCH_CONTEXT, HS_BENCH_ITEMS};
    static const int of_npu[] = {ORT_LIBRARY, ORT_PROVIDER_LIBRARY, NPU_OPTION};
    for (size_t i = 0; i < sizeof of_checkpoint / sizeof *of_checkpoint && value[CHECKPOINT].given; i++) {
        if (value[of_checkpoint[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0,
                "options --checkpoint and --%s exclude each other: the checkpoint tells the network's sizes",
                options_of_bench[of_checkpoint[i]].name);
    }
    if (value[CONFIG].given && !value[CHECKPOINT].given)
        return hs_fail(err, HSTU_EINVAL, 0, "option --config means nothing without --checkpoint");
    if (value[FAMILY].given && value[SHAPE].given)
        return hs_fail(err, HSTU_EINVAL, 0, "options --shape and --family exclude each other: a shape has its family");
    for (size_t i = 0; i < sizeof of_npu / sizeof *of_npu && strcmp(value[DEVICE].text, "cpu") == 0; i++) {
        if (value[of_npu[i]].given)
            return hs_fail(
                err, HSTU_EINVAL, 0, "option --%s means nothing with --device cpu", options_of_bench[of_npu[i]].name);
    }
    return HSTU_OK;
}

static hstu_status parse_plan(hs_bench_plan *plan, const hs_option_value *value, hstu_error *err)
{
    static const char *const dtypes[] = {"fp32", "bf16", "fp16", NULL};
    static const char *const isas[] = {"ref", "avx2", "avx512", "avx512bf16", "amx", "neon", NULL};
    HS_TRY(check_usage(value, err));
    plan->decoder = value[FAMILY].number == 1;
    plan->checkpoint = value[CHECKPOINT].given;
    for (int i = 0; i < HS_BENCH_N_NUMBERS; i++) {
        const hs_bench_range *range = &hs_bench_ranges[i];
        if (value[i].text)
            HS_TRY(hs_bench_parse_ints(&plan->number[i], range->option, value[i].text, range->min, range->max, err));
    }
    if (value[CACHED].given)
        HS_TRY(hs_bench_parse_fractions(&plan->cached, "cached", value[CACHED].text, err));
    if (value[SHAPE].given)
        HS_TRY(hs_bench_parse_words(&plan->shape, "shape", value[SHAPE].text, hs_bench_shape_names, err));
    if (value[ISA].given)
        HS_TRY(hs_bench_parse_words(&plan->isa, "isa", value[ISA].text, isas, err));
    return hs_bench_parse_words(&plan->dtype, "dtype", value[DTYPE].text, dtypes, err);
}

static hs_bench_settings settings_of(const hs_option_value *value)
{
    hs_bench_settings settings = {.checkpoint = value[CHECKPOINT].text,
        .config = value[CONFIG].text,
        .device = value[DEVICE].text,
        .warmup = value[WARMUP].number,
        .repetitions = value[REPETITIONS].number,
        .min_s = 1e-3 * (double)value[MIN_MS].number,
        .peak_s = 1e-3 * (double)value[PEAK_MS].number,
        .profile = value[PROFILE].given};
    hstu_npu_options_init(&settings.npu);
    settings.npu.ort_library = value[ORT_LIBRARY].text;
    settings.npu.provider_library = value[ORT_PROVIDER_LIBRARY].text;
    settings.npu.option = value[NPU_OPTION].texts;
    settings.npu.n_options = value[NPU_OPTION].n_list;
    return settings;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef struct bench {
    hs_console console;
    hs_bench_plan plan;
    hs_bench_settings settings;
    hs_bench_machine machine;
    hs_bench_row *row;
    hs_stage_times *stages; /* [n_rows] for the table behind that of rows; NULL: none */
    size_t n_rows;
    bool json;
} bench;

/* A model takes its kernels when it is opened. NULL: as the program was started. */
static hstu_status use_isa(const char *isa, hstu_error *err)
{
    return !isa || setenv("HSTU_ISA", isa, 1) == 0 ? HSTU_OK : hs_fail_nomem(err, strlen(isa), "HSTU_ISA");
}

/* Who gave the option never heard of the variable that stands for it. */
static hstu_status check_options(const hstu_model_options *options, const char *isa, hstu_error *err)
{
    const hstu_status status = hstu_model_options_check(options, err);
    if (status == HSTU_OK || !isa || strncmp(err->msg, "HSTU_ISA ", 9) != 0)
        return status;
    return hs_fail(err, status, 0, "option --isa names %s, kernels that this processor cannot run", isa);
}

/* Nobody waits for the last row to hear that it cannot run. */
static hstu_status check_rows(const bench *b, hstu_error *err)
{
    for (size_t i = 0; i < b->n_rows; i++) {
        hstu_model_options options;
        hstu_model_options_init(&options);
        options.device = b->settings.device;
        options.dtype = b->row[i].dtype;
        options.threads = (int)b->row[i].n[HS_BENCH_THREADS];
        options.npu = strcmp(b->settings.device, "cpu") == 0 ? NULL : &b->settings.npu;
        HS_TRY(use_isa(b->row[i].isa, err));
        HS_TRY(check_options(&options, b->row[i].isa, err));
    }
    return HSTU_OK;
}

static hstu_status run_rows(bench *b, hs_json_writer *w, hstu_error *err)
{
    hs_bench_result result;
    for (size_t i = 0; i < b->n_rows; i++) {
        hs_console_step(&b->console, b->row[i].shape, i, b->n_rows);
        HS_TRY(use_isa(b->row[i].isa, err));
        HS_TRY(hs_bench_measure(&result, &b->row[i], &b->settings, &b->console, err));
        hs_console_clear(&b->console);
        if (!b->json && i == 0)
            hs_bench_print_head(hs_result_stream());
        if (b->json)
            hs_bench_put_row(w, &b->row[i], &result, &b->settings, &b->machine);
        else
            hs_bench_print_row(hs_result_stream(), &b->row[i], &result, &b->machine);
        if (b->stages)
            b->stages[i] = result.stages;
    }
    return HSTU_OK;
}

static hstu_status print_json(bench *b, hstu_error *err)
{
    hs_dynbuf out;
    hs_json_writer w;
    hs_dynbuf_init(&out, MAX_JSON_BYTES);
    hs_json_writer_init(&w, &out, 2);
    hs_json_begin(&w, '{');
    hs_json_pair_text(&w, "counted", hs_bench_formula);
    hs_json_key(&w, "rows");
    hs_json_begin(&w, '[');
    hstu_status status = run_rows(b, &w, err);
    hs_json_end(&w, ']');
    hs_json_end(&w, '}');
    if (status == HSTU_OK && (w.failed || !hs_dynbuf_append_text(&out, "\n")))
        status = hs_fail_nomem(err, MAX_JSON_BYTES, "the bench's report");
    if (status == HSTU_OK)
        (void)fwrite(out.data, 1, out.len, hs_result_stream()); /* checked when the program ends */
    hs_dynbuf_free(&out);
    return status;
}

static hstu_status print_table(bench *b, hstu_error *err)
{
    if (b->settings.profile) {
        b->stages = hs_calloc(b->n_rows, sizeof *b->stages);
        if (!b->stages)
            return hs_fail_nomem(err, b->n_rows * sizeof *b->stages, "the bench's stages");
    }
    HS_TRY(run_rows(b, NULL, err));
    for (size_t i = 0; b->stages && i < b->n_rows; i++)
        hs_bench_print_stages(hs_result_stream(), i + 1, &b->stages[i]);
    hs_bench_print_foot(hs_result_stream(), &b->settings);
    return HSTU_OK;
}

/* HSTU_ISA stands as it was behind the bench. */
static hstu_status run_bench(bench *b, hstu_error *err)
{
    const char *before = getenv("HSTU_ISA");
    char *kept = before ? hs_strndup(before, strlen(before)) : NULL;
    if (before && !kept)
        return hs_fail_nomem(err, strlen(before), "HSTU_ISA");
    hstu_status status = check_rows(b, err);
    if (status == HSTU_OK)
        status = b->json ? print_json(b, err) : print_table(b, err);
    if (kept)
        (void)setenv("HSTU_ISA", kept, 1);
    else
        (void)unsetenv("HSTU_ISA");
    hs_free(kept);
    return status;
}

static int run_verb(const hs_options *options)
{
    bench b = {.settings = settings_of(options->value), .json = options->value[JSON].given};
    hstu_error err;
    if (parse_plan(&b.plan, options->value, &err) != HSTU_OK ||
        hs_bench_rows(&b.row, &b.n_rows, &b.plan, &err) != HSTU_OK) {
        (void)fprintf(stderr, "hstu: %s\n", err.msg);
        return HS_EXIT_USAGE;
    }
    hs_console_open(&b.console, options->value[QUIET].given);
    hs_bench_machine_get(&b.machine);
    hstu_status status = hs_result_keep_apart(&err);
    if (status == HSTU_OK)
        status = run_bench(&b, &err);
    hs_free(b.row);
    hs_free(b.stages);
    return hs_console_end(&b.console, status, &err);
}

const hs_verb hs_verb_bench = {
    .name = "bench",
    .summary = "measure shapes beside what the machine can do",
    .text =
        "Measures requests with random weights and prints a row for each: time of a request, operations and bytes a "
        "second, and their share of what the machine gives just before: its multipliers over registers alone (the "
        "peak), and its memory. The yardstick is what the multipliers give with operands out of L1, on average, just "
        "before the row and just behind it. It tells the state of the machine: where both figures differ, or are far "
        "below the peak, other work slowed the machine down. "
        "Shapes have names, or every number is a LIST of numbers and ranges with commas between them: then all "
        "combinations run. A..B is each number, A..B+S every S-th, A..BxF each F times the one before.",
    .option = options_of_bench,
    .n_options = N_OPTIONS,
    .example = "hstu bench --history 512..4096x2 --cached 0,0.5 --dtype fp32,bf16 --threads 1,2",
    .run = run_verb,
};
