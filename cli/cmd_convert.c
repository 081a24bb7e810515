/* `hstu convert`: options, the library call, and what was written. */
#include "cli/program.h"
#include "cli/progress.h"
#include "hstu/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG, DTYPE, QUIET, N_OPTIONS };

static const hs_option options_of_convert[N_OPTIONS] = {
    [CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL, "as 'hstu run --checkpoint IN' finds it", 0, 0,
        "preset, or JSON or gin file with the model's configuration, which is stored beside the weights"},
    [DTYPE] = {"dtype", HS_OPTION_CHOICE, "fp32|bf16", "fp32", NULL, 0, 0,
        "how weights and embedding tables are stored; bf16 halves the file by rounding to nearest even"},
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

static int run_verb(const hs_options *options)
{
    static const char *const dtypes[] = {"fp32", "bf16"};
    const hs_option_value *value = options->value;
    hstu_convert_options settings;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, value[QUIET].given);
    hstu_convert_options_init(&settings);
    settings.config = value[CONFIG].text;
    settings.dtype = dtypes[value[DTYPE].number];
    settings.progress = console.progress;
    hstu_status status = hstu_checkpoint_convert(options->operand, options->second_operand, &settings, &err);
    hs_console_clear(&console);
    if (status == HSTU_OK)
        status = print_result(options->second_operand, &err);
    return hs_console_end(&console, status, &err);
}

const hs_verb hs_verb_convert = {
    .name = "convert",
    .operand = "IN",
    .second_operand = "OUT.safetensors",
    .summary = "write a model as one safetensors file that needs no other",
    .text =
        "Reads a PyTorch or safetensors checkpoint, or a checkpoint folder of NVIDIA's recsys-examples, and writes its "
        "weights, its embedding tables and its whole configuration into one safetensors file: 'hstu run "
        "--checkpoint OUT.safetensors' needs nothing else, uses the tables where they lie in the file, and gives "
        "the same answers. What 'hstu run' would refuse is refused here.",
    .option = options_of_convert,
    .n_options = N_OPTIONS,
    .example = "hstu convert checkpoint.pt model.safetensors --config config.json",
    .run = run_verb,
};
