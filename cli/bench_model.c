/* The model of a row: a configuration made for its sizes, read by the public call from a file that is gone again at once. */
#include "cli/bench.h"

#include "base/error.h"
#include "cli/bench_shapes.h"
#include "cli/json_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONFIG_BYTES = 1 << 16, MAX_PATH = 4096, POSITIONS = 8192, ACTIONS = 256, CONTEXT_ROWS = 2 };

/* ---- configuration ---------------------------------------------------------------------------------------------- */

static const char *context_name(int64_t i, char name[32])
{
    (void)snprintf(name, 32, "context_%lld", (long long)i);
    return name;
}

static void put_table(hs_json_writer *w, const char *name, int64_t rows)
{
    hs_json_begin(w, '{');
    hs_json_pair_text(w, "name", name);
    hs_json_pair_bool(w, "dynamic", false);
    hs_json_pair_int(w, "rows", rows);
    hs_json_end(w, '}');
}

static void put_features(hs_json_writer *w, const hs_bench_row *row)
{
    char name[32];
    hs_json_key(w, "contextual");
    hs_json_begin(w, '[');
    for (int64_t i = 0; i < row->n[HS_BENCH_CONTEXT]; i++)
        hs_json_put_text(w, context_name(i, name));
    hs_json_end(w, ']');
    hs_json_pair_text(w, "item_feature", "item");
    hs_json_pair_text(w, "action_feature", "action");
    hs_json_key(w, "tables");
    hs_json_begin(w, '[');
    put_table(w, "item", row->n[HS_BENCH_ITEMS]);
    put_table(w, "action", ACTIONS);
    for (int64_t i = 0; i < row->n[HS_BENCH_CONTEXT]; i++)
        put_table(w, context_name(i, name), CONTEXT_ROWS);
    hs_json_end(w, ']');
}

static void put_ranking(hs_json_writer *w, const hs_bench_row *row)
{
    hs_json_pair_text(w, "family", "ranking");
    hs_json_pair_int(w, "num_attention_heads", row->n[HS_BENCH_HEADS]);
    hs_json_pair_int(w, "kv_channels", row->n[HS_BENCH_HEAD_DIM]);
    hs_json_pair_int(w, "num_position_buckets", POSITIONS);
    hs_json_pair_int(w, "max_history_seqlen", hs_bench_events(row));
    hs_json_pair_int(w, "max_num_candidates", row->n[HS_BENCH_CANDIDATES]);
    hs_json_pair_bool(w, "contextual_mask", false);
    hs_json_key(w, "prediction_head_arch");
    hs_json_begin(w, '[');
    hs_json_put_int(w, HS_BENCH_HEAD_WIDTH);
    hs_json_put_int(w, HS_BENCH_CLASSES);
    hs_json_end(w, ']');
    put_features(w, row);
}

static hstu_status make_config(hs_dynbuf *out, const hs_bench_row *row, hstu_error *err)
{
    hs_json_writer w;
    hs_dynbuf_init(out, MAX_CONFIG_BYTES);
    hs_json_writer_init(&w, out, 2);
    hs_json_begin(&w, '{');
    if (row->decoder) {
        hs_json_pair_text(&w, "family", "decoder");
        hs_json_pair_int(&w, "vocab_size", row->n[HS_BENCH_ITEMS]);
        hs_json_pair_int(&w, "max_position_embeddings", row->n[HS_BENCH_HISTORY]);
    } else {
        put_ranking(&w, row);
    }
    hs_json_pair_int(&w, "hidden_size", row->n[HS_BENCH_DIM]);
    hs_json_pair_int(&w, "num_layers", row->n[HS_BENCH_LAYERS]);
    hs_json_end(&w, '}');
    if (!w.failed)
        return HSTU_OK;
    hs_dynbuf_free(out);
    return hs_fail_nomem(err, MAX_CONFIG_BYTES, "a configuration");
}

/* A new file with these bytes; path [MAX_PATH] is its name. */
static hstu_status write_temporary(char *path, const hs_dynbuf *text, hstu_error *err)
{
    const char *folder = getenv("TMPDIR");
    const int n = snprintf(path, MAX_PATH, "%s/hstu_bench.XXXXXX", folder && *folder ? folder : "/tmp");
    if (n < 0 || n >= MAX_PATH)
        return hs_fail(err, HSTU_EINVAL, 0, "the environment variable TMPDIR wants a shorter path");
    const int fd = mkstemp(path);
    if (fd < 0)
        return hs_fail_errno(err, errno, "cannot create '%s'", path);
    FILE *file = fdopen(fd, "wb");
    const bool written = file && fwrite(text->data, 1, text->len, file) == text->len;
    const int why = errno;
    if ((file ? fclose(file) : close(fd)) == 0 && written)
        return HSTU_OK;
    (void)unlink(path);
    return hs_fail_errno(err, why ? why : EIO, "cannot write '%s'", path);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static hstu_model_options options_of(const hs_bench_row *row, const hs_bench_settings *settings)
{
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.config = settings->config;
    options.device = settings->device;
    options.dtype = row->dtype;
    options.threads = (int)row->n[HS_BENCH_THREADS];
    options.npu = strcmp(settings->device, "cpu") == 0 ? NULL : &settings->npu;
    return options;
}

static hstu_status open_random(hstu_model **out, const hs_bench_row *row, hstu_model_options *options, hstu_error *err)
{
    char path[MAX_PATH];
    hs_dynbuf config;
    HS_TRY(make_config(&config, row, err));
    hstu_status status = write_temporary(path, &config, err);
    hs_dynbuf_free(&config);
    if (status != HSTU_OK)
        return status;
    options->config = path;
    status = hstu_model_open(out, NULL, options, err);
    (void)unlink(path);
    return status;
}

/* The sizes that the checkpoint tells; those of a request stay the row's. */
static hstu_status take_sizes(hs_bench_row *row, const hstu_model *model, const char *checkpoint, hstu_error *err)
{
    hstu_model_info info;
    hstu_model_get_info(model, &info);
    if (strcmp(info.family, row->decoder ? "decoder" : "ranking") != 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "%s is a model of the family %s: a bench takes ranking, or decoder with "
            "--family decoder",
            checkpoint, info.family);
    row->n[HS_BENCH_LAYERS] = info.n_blocks;
    row->n[HS_BENCH_DIM] = info.dim;
    row->n[HS_BENCH_HEADS] = info.n_heads;
    row->n[HS_BENCH_HEAD_DIM] = info.dqk;
    row->n[HS_BENCH_CONTEXT] = (int64_t)info.n_context;
    if (info.max_item_id < hs_bench_ranges[HS_BENCH_ITEMS].max) /* else any id is one of a dynamic table */
        row->n[HS_BENCH_ITEMS] = info.max_item_id + 1;
    HS_TRY(hs_bench_check_row(row, err));
    if (hs_bench_events(row) > info.max_sequence_length)
        return hs_fail(err, HSTU_EINVAL, 0, "a history of %lld events is above the %lld that %s takes",
            (long long)hs_bench_events(row), (long long)info.max_sequence_length, checkpoint);
    return HSTU_OK;
}

hstu_status hs_bench_open_model(hstu_model **out, hs_bench_row *row, const hs_bench_settings *settings, hstu_error *err)
{
    hstu_model_options options = options_of(row, settings);
    hstu_model *model = NULL;
    HS_TRY(hstu_model_options_check(&options, err));
    if (!settings->checkpoint)
        return open_random(out, row, &options, err);
    HS_TRY(hstu_model_open(&model, settings->checkpoint, &options, err));
    const hstu_status status = take_sizes(row, model, settings->checkpoint, err);
    if (status != HSTU_OK)
        hstu_model_close(model);
    else
        *out = model;
    return status;
}
