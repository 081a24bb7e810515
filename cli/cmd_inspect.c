/* `hstu inspect`: what a weight file or checkpoint folder holds, and how it fits the family that it was recognised as;
 * the text for a person. Data goes to inspect_data.c. */
#include "base/dynbuf.h"
#include "base/error.h"
#include "cli/inspect_data.h"
#include "cli/inspect_json.h"
#include "cli/program.h"
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG, JSON, QUIET, N_OPTIONS };

static const hs_option options_of_inspect[N_OPTIONS] = {
    [CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL, "sizes as the tensors tell", 0, 0,
        "preset, or JSON or gin file with the configuration to compare the tensors with"},
    [JSON] = {"json", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "print one JSON document"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
};

enum { NAME_BYTES = 1024, SHAPE_BYTES = 192 };

/* As hs_console_clean, for text of any length. */
static void print_clean(const char *text)
{
    for (; *text; text++) {
        char character[2] = {*text};
        hs_console_clean(character);
        (void)putchar(character[0]);
    }
}

/* With several ranks the name begins with its rank. */
static void full_name(const hstu_tensor_info *info, uint32_t n_ranks, char out[NAME_BYTES])
{
    char rank[24] = "";
    const bool grouped = info->group && *info->group;
    if (n_ranks > 1)
        (void)snprintf(rank, sizeof rank, "%" PRIu32 ":", info->file_rank);
    (void)snprintf(out, NAME_BYTES, "%s%s%s%s", rank, grouped ? info->group : "", grouped ? "/" : "", info->name);
    hs_console_clean(out);
}

static void shape_text(const hstu_tensor_info *info, char out[SHAPE_BYTES])
{
    size_t n = 0;
    out[0] = '\0';
    if (info->rank < 0) {
        (void)snprintf(out, SHAPE_BYTES, "?");
        return;
    }
    for (int i = 0; i < info->rank && n < SHAPE_BYTES; i++)
        n += (size_t)snprintf(out + n, SHAPE_BYTES - n, "%s%" PRId64, i ? ", " : "[", info->shape[i]);
    if (n < SHAPE_BYTES)
        (void)snprintf(out + n, SHAPE_BYTES - n, "%s", info->rank ? "]" : "[]");
}

static void human_bytes(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t unit = 0;
    for (; x >= 1024 && unit < 4; unit++)
        x /= 1024;
    (void)snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", x, units[unit]);
}

static hstu_status print_tensors(const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    char name[NAME_BYTES], shape[SHAPE_BYTES], size[32];
    uint64_t n_of[4] = {0}, bytes_of[4] = {0};
    int width = 6;
    hstu_tensor_info t;
    for (uint64_t i = 0; i < info->n_tensors; i++) {
        HS_TRY(hstu_checkpoint_tensor(c, i, &t, err));
        full_name(&t, info->n_ranks, name);
        const int n = (int)strlen(name);
        width = n > width && n <= 72 ? n : width;
    }
    (void)printf("\n%-*s  %-8s  %-20s  %10s  use\n", width, "tensor", "dtype", "shape", "size");
    for (uint64_t i = 0; i < info->n_tensors; i++) {
        HS_TRY(hstu_checkpoint_tensor(c, i, &t, err));
        full_name(&t, info->n_ranks, name);
        shape_text(&t, shape);
        human_bytes(t.bytes, size);
        (void)printf("%-*s  %-8s  %-20s  %10s  %s", width, name, t.dtype, shape, size, hs_inspect_use_name(t.use));
        if (t.reason)
            (void)printf(": %s", t.reason);
        (void)putchar('\n');
        n_of[t.use]++;
        bytes_of[t.use] += t.bytes;
    }
    (void)putchar('\n');
    for (int use = 0; use < 4; use++) {
        human_bytes(bytes_of[use], size);
        if (n_of[use])
            (void)printf("%" PRIu64 " %s, %s\n", n_of[use], hs_inspect_use_name((hstu_tensor_use)use), size);
    }
    return HSTU_OK;
}

static hstu_status print_tables(const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    char size[32];
    hstu_table_info t;
    if (info->n_tables)
        (void)printf("\n%-8s  %12s  %6s  %10s  embedding table\n", "kind", "rows", "width", "size");
    for (uint64_t i = 0; i < info->n_tables; i++) {
        HS_TRY(hstu_checkpoint_table(c, i, &t, err));
        human_bytes(t.bytes, size);
        (void)printf(
            "%-8s  %12" PRIu64 "  %6" PRIu64 "  %10s  ", t.is_dynamic ? "dynamic" : "static", t.rows, t.dim, size);
        print_clean(t.name);
        if (t.is_dynamic && t.world_size == 0)
            (void)fputs(": named by the weights, its files are missing", stdout);
        else if (t.is_dynamic)
            (void)printf(" (ranks: %" PRIu32 ")", t.world_size);
        else if (t.dim == 0)
            (void)fputs(": its width is not told", stdout);
        else if (strchr(t.name, '/'))
            (void)fputs(" together", stdout);
        (void)putchar('\n');
    }
    return HSTU_OK;
}

/* The next extra tensor from *at on, as text; "" when there is none. */
static hstu_status next_extra(
    const hstu_checkpoint *c, uint64_t n, uint64_t *at, char out[NAME_BYTES + SHAPE_BYTES], hstu_error *err)
{
    char name[NAME_BYTES], shape[SHAPE_BYTES];
    hstu_tensor_info t;
    out[0] = '\0';
    while (*at < n) {
        HS_TRY(hstu_checkpoint_tensor(c, (*at)++, &t, err));
        if (t.use != HSTU_TENSOR_EXTRA)
            continue;
        full_name(&t, 0, name);
        shape_text(&t, shape);
        (void)snprintf(out, NAME_BYTES + SHAPE_BYTES, "%s %s", name, shape);
        break;
    }
    return HSTU_OK;
}

/* Missing weights on the left, tensors that fit nowhere on the right: a renamed weight stands on both sides. */
static hstu_status print_near_miss(const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    char left[NAME_BYTES + SHAPE_BYTES], right[NAME_BYTES + SHAPE_BYTES], name[NAME_BYTES], shape[SHAPE_BYTES];
    uint64_t at = 0;
    HS_TRY(next_extra(c, info->n_tensors, &at, right, err));
    if (info->n_missing == 0 && right[0] == '\0')
        return HSTU_OK;
    (void)printf("\nthe file does not fit its family:\n  %-58s  %s\n", "missing", "extra");
    for (uint64_t i = 0; i < info->n_missing || right[0]; i++) {
        left[0] = '\0';
        if (i < info->n_missing) {
            hstu_tensor_info t;
            HS_TRY(hstu_checkpoint_missing(c, i, &t, err));
            full_name(&t, 0, name);
            shape_text(&t, shape);
            (void)snprintf(left, sizeof left, "%s %s", name, shape);
        }
        (void)printf("  %-58s  %s\n", left, right);
        HS_TRY(next_extra(c, info->n_tensors, &at, right, err));
    }
    return HSTU_OK;
}

static hstu_status print_metadata(const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    for (uint64_t i = 0; i < info->n_metadata; i++) {
        const char *key = NULL, *value = NULL;
        HS_TRY(hstu_checkpoint_metadata(c, i, &key, &value, err));
        (void)fputs(i ? "  " : "\nmetadata:\n  ", stdout);
        print_clean(key);
        (void)fputs(": ", stdout);
        print_clean(value);
        (void)putchar('\n');
    }
    return HSTU_OK;
}

static hstu_status print_config(const char *config, hstu_error *err)
{
    hs_dynbuf out;
    hs_json_writer w;
    hs_dynbuf_init(&out, HS_INSPECT_MAX_JSON_BYTES);
    hs_json_writer_init(&w, &out, 2);
    hstu_status status = hs_inspect_put_config(&w, config, err);
    if (status == HSTU_OK && w.failed)
        status = hs_fail_nomem(err, HS_INSPECT_MAX_JSON_BYTES, "the configuration");
    if (status == HSTU_OK)
        (void)printf("configuration: %s\n", out.data);
    hs_dynbuf_free(&out);
    return status;
}

static hstu_status print_text(const hstu_checkpoint *c, const char *path, hstu_error *err)
{
    hstu_checkpoint_info info;
    hstu_checkpoint_get_info(c, &info);
    const char *config = hstu_checkpoint_config(c);
    (void)printf("%s\nformat: %s, %" PRIu64 " tensors\n", path, info.format, info.n_tensors);
    if (info.layout)
        (void)printf("layout: %s (ranks: %" PRIu32 ", tensor parallel: %" PRIu32 ")\n", info.layout, info.n_ranks,
            info.tensor_parallel);
    (void)printf("family: %s\n", info.family ? info.family : "not recognised");
    if (info.not_supported)
        (void)printf("not supported by this version: %s\n", info.not_supported);
    if (config)
        HS_TRY(print_config(config, err));
    HS_TRY(print_metadata(c, &info, err));
    HS_TRY(print_tables(c, &info, err));
    HS_TRY(print_tensors(c, &info, err));
    return print_near_miss(c, &info, err);
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hstu_checkpoint *checkpoint = NULL;
    hs_console console;
    hstu_error err;
    if (!value[CONFIG].given && hs_inspect_is_data(options->operand)) {
        hs_console_open(&console, value[QUIET].given);
        return hs_console_end(&console, hs_inspect_data(options->operand, value[JSON].given, &console, &err), &err);
    }
    hs_console_open(&console, true);
    hstu_status status = hstu_checkpoint_open(&checkpoint, options->operand, value[CONFIG].text, &err);
    if (status == HSTU_OK)
        status = value[JSON].given ? hs_inspect_print_json(checkpoint, options->operand, &err)
                                   : print_text(checkpoint, options->operand, &err);
    hstu_checkpoint_close(checkpoint);
    return hs_console_end(&console, status, &err);
}

const hs_verb hs_verb_inspect = {
    .name = "inspect",
    .operand = "FILE|FOLDER",
    .summary = "list what a weight file, checkpoint folder, sequence file or data folder holds",
    .text = "Lists the tensors of a PyTorch or safetensors file, the model family that they make, the configuration "
            "that they imply, what a model would ignore, and, where they do not fit, missing and extra tensors side by "
            "side. Of a checkpoint folder of NVIDIA's recsys-examples it also tells the layers' layout, the ranks and "
            "the embedding tables. Of a sequence file or a data set's folder it tells users, items, events, lengths of "
            "histories, the time span, action rates and the most frequent items.",
    .option = options_of_inspect,
    .n_options = N_OPTIONS,
    .example = "hstu inspect checkpoint.pt",
    .run = run_verb,
};
