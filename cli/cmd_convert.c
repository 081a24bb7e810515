/* `hstu convert`: options, the library call, and what was written. */
#include "base/error.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "hstu/checkpoint.h"
#include "hstu/npu.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { TO, CONFIG, DTYPE, USERS, HISTORY, CACHED, CANDIDATES, QUIET, N_OPTIONS };
enum { TO_SAFETENSORS, TO_ONNX };
enum { DTYPE_FP32, DTYPE_BF16, DTYPE_FP16 };

static const int64_t max_count = 1000000000;

static const hs_option options_of_convert[N_OPTIONS] = {
    [TO] = {"to", HS_OPTION_CHOICE, "safetensors|onnx", "safetensors", NULL, 0, 0,
        "the whole model for this program; or one graph of it, with its weights, for those who compile for an NPU "
        "ahead of time"},
    [CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL, "as 'hstu run --checkpoint IN' finds it", 0, 0,
        "preset, or JSON or gin file with the model's configuration, which is stored beside the weights"},
    [DTYPE] = {"dtype", HS_OPTION_CHOICE, "fp32|bf16|fp16", "fp32", NULL, 0, 0,
        "safetensors: how weights and embedding tables are stored; bf16 halves the file by rounding to nearest even; "
        "onnx: fp32 or fp16, in which the graph computes"},
    [USERS] = {"users", HS_OPTION_INT, "N", NULL, "1", 1, max_count, "onnx: users whom the graph answers at once"},
    [HISTORY] = {"history", HS_OPTION_INT, "N", NULL, "the model's maximum", 1, max_count,
        "onnx: tokens of a history that the graph computes: its events, or in a ranking model its contextual features "
        "and two for each event; rounded up to a bucket of shapes, as all of these numbers"},
    [CACHED] = {"cached", HS_OPTION_INT, "N", NULL, "0", 0, max_count,
        "onnx: tokens in front of those, whose keys and values are inputs of the graph"},
    [CANDIDATES] = {"candidates", HS_OPTION_INT, "N", NULL, "128", 1, max_count,
        "onnx, ranking: candidates that the graph scores"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
};

/* Told from the file itself, so that what is printed has been read back. */
static hstu_status print_result(const char *path, hstu_error *err)
{
    hstu_checkpoint *checkpoint = NULL;
    hstu_checkpoint_info info;
    hstu_tensor_info tensor = {0};
    hstu_status status = hstu_checkpoint_open(&checkpoint, path, NULL, err);
    if (status != HSTU_OK)
        return status;
    uint64_t bytes = 0;
    const char *dtype = ""; /* of the weights: keys of dynamic tables are integers */
    hstu_checkpoint_get_info(checkpoint, &info);
    for (uint64_t i = 0; i < info.n_tensors && status == HSTU_OK; i++) {
        status = hstu_checkpoint_tensor(checkpoint, i, &tensor, err);
        if (status == HSTU_OK && strcmp(tensor.dtype, "int64") != 0)
            dtype = tensor.dtype;
        bytes += tensor.bytes;
    }
    if (status == HSTU_OK)
        (void)printf("wrote %s: %s, %" PRIu64 " tensors in %s, %" PRIu64 " bytes of weights\n", path, info.family,
            info.n_tensors, dtype, bytes);
    hstu_checkpoint_close(checkpoint);
    return status;
}

static const char *const dtypes[] = {"fp32", "bf16", "fp16"};

static hstu_status to_safetensors(const hs_options *options, hs_console *console, hstu_error *err)
{
    const hs_option_value *value = options->value;
    hstu_convert_options settings;
    hstu_convert_options_init(&settings);
    settings.config = value[CONFIG].text;
    settings.dtype = dtypes[value[DTYPE].number];
    settings.progress = console->progress;
    const hstu_status status = hstu_checkpoint_convert(options->operand, options->second_operand, &settings, err);
    hs_console_clear(console);
    return status == HSTU_OK ? print_result(options->second_operand, err) : status;
}

static hstu_status to_onnx(const hs_options *options, hs_console *console, hstu_error *err)
{
    const hs_option_value *value = options->value;
    const char *path = options->second_operand;
    hstu_model_options model;
    hstu_onnx_options shape;
    struct stat file;
    hstu_model_options_init(&model);
    hstu_onnx_options_init(&shape);
    model.config = value[CONFIG].text;
    model.dtype = dtypes[value[DTYPE].number];
    shape.n_users = value[USERS].given ? value[USERS].number : shape.n_users;
    shape.history = value[HISTORY].given ? value[HISTORY].number : shape.history;
    shape.cached = value[CACHED].given ? value[CACHED].number : shape.cached;
    shape.candidates = value[CANDIDATES].given ? value[CANDIDATES].number : shape.candidates;
    hs_console_step(console, "writing the graph", 0, 1);
    const hstu_status status = hstu_export_onnx(options->operand, &model, &shape, path, err);
    hs_console_clear(console);
    if (status != HSTU_OK)
        return status;
    if (stat(path, &file) != 0)
        return hs_fail(err, HSTU_EIO, 0, "%.200s was written and is gone", path);
    (void)printf("wrote %s: ONNX, a graph in %s, %lld bytes; its metadata explains inputs and outputs\n", path,
        model.dtype, (long long)file.st_size);
    return HSTU_OK;
}

static hstu_status check_usage(const hs_option_value *value, hstu_error *err)
{
    static const int of_onnx[] = {USERS, HISTORY, CACHED, CANDIDATES};
    const bool onnx = value[TO].number == TO_ONNX;
    for (size_t i = 0; i < sizeof of_onnx / sizeof *of_onnx && !onnx; i++) {
        if (value[of_onnx[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing without --to onnx",
                options_of_convert[of_onnx[i]].name);
    }
    if (value[DTYPE].number == (onnx ? DTYPE_BF16 : DTYPE_FP16))
        return hs_fail(err, HSTU_EINVAL, 0, "option --dtype wants %s with --to %s, found '%s'",
            onnx ? "fp32 or fp16" : "fp32 or bf16", value[TO].text, value[DTYPE].text);
    return HSTU_OK;
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, value[QUIET].given);
    if (check_usage(value, &err) != HSTU_OK) {
        (void)fprintf(stderr, "hstu: %s\n", err.msg);
        return HS_EXIT_USAGE;
    }
    const hstu_status status =
        value[TO].number == TO_ONNX ? to_onnx(options, &console, &err) : to_safetensors(options, &console, &err);
    return hs_console_end(&console, status, &err);
}

const hs_verb hs_verb_convert = {
    .name = "convert",
    .operand = "IN",
    .second_operand = "OUT",
    .summary = "write a model as one safetensors file that needs no other, or a graph of it as ONNX",
    .text = "Reads a PyTorch or safetensors checkpoint, or a checkpoint folder of NVIDIA's recsys-examples, and writes "
            "its weights, its embedding tables and its whole configuration into one safetensors file: 'hstu run "
            "--checkpoint OUT' needs nothing else, uses the tables where they lie in the file, and gives the same "
            "answers. What 'hstu run' would refuse is refused here. With --to onnx it writes one graph of the model, "
            "as an NPU would run it, of fixed shapes and with its weights but without embedding tables (docs/npu.md).",
    .option = options_of_convert,
    .n_options = N_OPTIONS,
    .example = "hstu convert checkpoint.pt model.safetensors --config config.json",
    .run = run_verb,
};
