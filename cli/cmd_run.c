/* `hstu run`: what its options open, and which of its works follows. */
#include "cli/run.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/mapfile.h"
#include "base/path.h"
#include "cli/program.h"
#include "cli/result_stream.h"
#include "cli/run_cache.h"
#include "cli/run_npu.h"
#include "cli/run_options.h"
#include "cli/run_settings.h"

#include <string.h>

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static const int outputs[] = {HS_RUN_OUTPUT, HS_RUN_KV_CACHE_SAVE};
enum { N_OUTPUTS = sizeof outputs / sizeof *outputs };

/* What the run writes would replace `path`, its checkpoint, config, .... */
static hstu_status refuse_as_output(const hs_option_value *value, const char *what, const char *path, hstu_error *err)
{
    for (size_t i = 0; i < N_OUTPUTS && path; i++) {
        const hs_option_value *output = &value[outputs[i]];
        if (output->given && hs_mapfile_same(path, output->text))
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s wants a file of its own, found '%s', which holds the %s",
                hs_run_options[outputs[i]].name, output->text, what);
    }
    return HSTU_OK;
}

/* Whether both are one file, which need not be there yet. */
static bool same_place(const char *a, const char *b)
{
    char folder[2][4096];
    const char *const path[2] = {a, b};
    for (int i = 0; i < 2; i++)
        (void)snprintf(folder[i], sizeof folder[i], "%.*s.", (int)(hs_path_base(path[i]) - path[i]), path[i]);
    return hs_mapfile_same(a, b) ||
           (strcmp(hs_path_base(a), hs_path_base(b)) == 0 && hs_mapfile_same(folder[0], folder[1]));
}

static hstu_status check_output(const hs_option_value *value, hstu_error *err)
{
    static const int inputs[] = {HS_RUN_CHECKPOINT, HS_RUN_CONFIG, HS_RUN_DATASET, HS_RUN_CANDIDATES, HS_RUN_REQUESTS};
    const char *checkpoint = value[HS_RUN_CHECKPOINT].text;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        HS_TRY(refuse_as_output(value, hs_run_options[inputs[i]].name, value[inputs[i]].text, err));
    for (size_t i = 0; i < N_OUTPUTS; i++) {
        const char *output = value[outputs[i]].text;
        if (output && checkpoint && hs_path_is_folder(checkpoint) && hs_path_is_inside(checkpoint, output))
            return hs_fail(err, HSTU_EINVAL, 0,
                "option --%s wants a file outside the checkpoint's folder '%s', found '%s'",
                hs_run_options[outputs[i]].name, checkpoint, output);
    }
    const char *output = value[HS_RUN_OUTPUT].text, *load = value[HS_RUN_KV_CACHE_LOAD].text;
    const char *save = value[HS_RUN_KV_CACHE_SAVE].text;
    const bool is_cache = output && ((load && same_place(load, output)) || (save && same_place(save, output)));
    return is_cache ? hs_fail(err, HSTU_EINVAL, 0,
                          "option --output wants a file of its own, found '%s', which holds the cache", output)
                    : HSTU_OK;
}

static hstu_status open_dataset(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    const hstu_progress *progress = &run->console.progress;
    char path[4096];
    if (value[HS_RUN_DATASET].given)
        return hstu_dataset_open(&run->dataset, value[HS_RUN_DATASET].text, progress, err);
    const char *root = value[HS_RUN_DATA_ROOT].text, *name = run->info.default_dataset;
    if (!name)
        return hs_fail(err, HSTU_EINVAL, 0,
            "the configuration %s names no data set: name a sequence file with --dataset", run->info.config);
    const int n = snprintf(path, sizeof path, "%s/%s/sequences.safetensors", root, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return hs_fail(err, HSTU_EINVAL, 0, "option --data_root wants a shorter path");
    HS_TRY(refuse_as_output(value, "dataset", path, err));
    const hstu_status status = hstu_dataset_open(&run->dataset, path, progress, err);
    if (status == HSTU_ENOENT && strncmp(name, "KuaiRand-", 9) != 0 && strncmp(name, "ml-", 3) != 0)
        return hs_fail(err, HSTU_ENOENT, 0, "there is no '%s': name a sequence file of %s with --dataset", path, name);
    if (status == HSTU_ENOENT)
        return hs_fail(err, HSTU_ENOENT, 0,
            "there is no '%s': write it with 'hstu preprocess --dataset_name %s --data_root %s', or name a sequence "
            "file with --dataset",
            path, name, root);
    return status;
}

static hstu_model_options model_options(const hs_run *run, const hs_option_value *value)
{
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.config = run->checkpoint || value[HS_RUN_CONFIG].given ? value[HS_RUN_CONFIG].text : hs_run_default_config;
    options.device = value[HS_RUN_DEVICE].text;
    options.dtype = hs_run_dtype(value);
    options.kv_dtype = hs_run_kv_dtype(value);
    options.threads = (int)value[HS_RUN_THREADS].number;
    options.seed = (uint64_t)value[HS_RUN_SEED].number;
    options.npu = run->npu.on ? &run->npu.options : NULL;
    return options;
}

/* What makes model ids of the data set's item ids. */
static int64_t item_offset(const hs_run *run, const hs_option_value *value)
{
    const hstu_history_options *rules = &run->info.history;
    if (run->ranking)
        return 0;
    return run->dataset_info.kind == HSTU_DATASET_SASREC ? rules->shift_id_by
           : value[HS_RUN_ITEM_ID_OFFSET].given          ? value[HS_RUN_ITEM_ID_OFFSET].number
                                                         : rules->item_id_offset;
}

static hstu_status open_model(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    hstu_model_options options = model_options(run, value);
    if (run->dataset) {
        const int64_t offset = item_offset(run, value);
        if (run->dataset_info.n_events == 0)
            return hs_fail(err, HSTU_EINVAL, 0, "%s: expected events, found none", run->dataset_info.name);
        if (__builtin_add_overflow(run->dataset_info.max_item, offset, &options.max_item_id) ||
            options.max_item_id < run->info.min_item_id)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: the largest item %lld plus the offset %lld is no item id of a model: expected %lld or more",
                run->dataset_info.name, (long long)run->dataset_info.max_item, (long long)offset,
                (long long)run->info.min_item_id);
        options.max_user_id = run->dataset_info.max_user;
    }
    HS_TRY(hstu_model_open(&run->model, run->checkpoint, &options, err));
    hstu_model_get_info(run->model, &run->info);
    run->model_options = options;
    return HSTU_OK;
}

/* A checkpoint tells the configuration; random weights take it from the preset and, for the size of the item table,
 * from the data set, which therefore is opened first. */
static hstu_status open_all(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    const hstu_model_options options = model_options(run, value);
    HS_TRY(hstu_model_options_check(&options, err));
    if (run->checkpoint)
        HS_TRY(open_model(run, value, err));
    else
        HS_TRY(hstu_config_get_info(
            value[HS_RUN_CONFIG].given ? value[HS_RUN_CONFIG].text : hs_run_default_config, &run->info, err));
    HS_TRY(hs_run_check_family(run, value, err));
    /* INT64_MAX: a dynamic table, whose random rows are made for the data set's ids. */
    const bool ids_are_told = run->checkpoint || (run->info.max_item_id > 0 && run->info.max_item_id < INT64_MAX);
    if (!run->requests_path || !ids_are_told) {
        HS_TRY(open_dataset(run, value, err));
        hstu_dataset_get_info(run->dataset, &run->dataset_info);
    } else if (value[HS_RUN_DATASET].given) {
        hs_console_warn(&run->console, "--dataset has no effect: the model tells the size of its item table");
    }
    if (!run->checkpoint) {
        HS_TRY(open_model(run, value, err));
        hs_console_warn(&run->console, "no --checkpoint was given: the weights are random (seed %llu)",
            (unsigned long long)value[HS_RUN_SEED].number);
    }
    return hstu_session_open(&run->session, run->model, err);
}

static void close_all(hs_run *run)
{
    hs_run_cache_close(run);
    hs_free(run->candidate);
    hs_samples_close(&run->samples);
    hstu_histories_close(run->histories);
    hstu_ranking_samples_close(run->ranking_samples);
    hstu_replay_close(run->replayed);
    hstu_session_close(run->session);
    hstu_dataset_close(run->dataset);
    hstu_model_close(run->model);
}

/* ---- work ------------------------------------------------------------------------------------------------------- */

static hstu_status report(hs_run *run, const hs_run_result *result, bool table, hstu_error *err)
{
    hs_dynbuf json;
    HS_TRY(hs_report_json(&json, run, result, err));
    hs_console_clear(&run->console);
    (void)fwrite(json.data, 1, json.len, hs_result_stream()); /* checked when the program ends */
    (void)fflush(hs_result_stream());
    hs_dynbuf_free(&json);
    if (table)
        hs_report_table(stderr, run, result);
    return HSTU_OK;
}

/* The samples of the protocol. */
static hstu_status open_samples(hs_run *run, hstu_error *err)
{
    if (run->replay) {
        HS_TRY(hstu_replay_open(&run->replayed, run->dataset, &run->replay_rules, err));
        HS_TRY(hs_samples_of_replay(&run->samples, run->replayed, err));
    } else if (run->ranking) {
        HS_TRY(hstu_ranking_samples_open(&run->ranking_samples, run->dataset, &run->rules, err));
        hs_samples_of_ranking(&run->samples, run->ranking_samples);
    } else {
        HS_TRY(hstu_histories_open(&run->histories, run->dataset, &run->history, err));
        hs_samples_of_histories(&run->samples, run->histories);
    }
    run->item_offset = run->samples.item_offset;
    return HSTU_OK;
}

static hstu_status evaluate(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    hs_run_result result;
    hs_run_warn_void(run, value);
    HS_TRY(open_samples(run, err));
    if (run->info.uses_time && !run->samples.time)
        hs_console_warn(
            &run->console, "%s has no times: the model's relative bias is left out", run->dataset_info.name);
    if (run->candidates_path)
        HS_TRY(hs_run_read_candidates(run, err));
    HS_TRY(run->ranking ? hs_run_rank(run, &result, err) : hs_run_evaluate(run, &result, err));
    const hstu_status status = report(run, &result, run->console.bar, err);
    hs_run_result_free(&result);
    return status;
}

static hstu_status answer_requests(hs_run *run, hstu_error *err)
{
    if (!run->ranking)
        run->item_offset = run->history.item_id_offset;
    if (run->candidates_path)
        HS_TRY(hs_run_read_candidates(run, err));
    HS_TRY(hs_run_cache_begin(run, 0, err));
    HS_TRY(hs_run_npu_begin(run, err));
    HS_TRY(run->ranking ? hs_run_rank_requests(run, err) : hs_run_answer_requests(run, err));
    HS_TRY(hs_run_npu_end(run, err));
    HS_TRY(hs_run_cache_end(run, err));
    if (run->console.bar) {
        hs_report_print_npu(stderr, run);
        hs_report_print_cache(stderr, run);
    }
    return HSTU_OK;
}

static hstu_status work(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    HS_TRY(check_output(value, err));
    if (run->npu.on)
        HS_TRY(hs_result_keep_apart(err));
    HS_TRY(open_all(run, value, err));
    HS_TRY(refuse_as_output(value, "config", run->info.config, err)); /* which the checkpoint may have brought */
    HS_TRY(hs_run_settings(run, value, err));
    if (run->micro_batch)
        HS_TRY(hstu_session_set_micro_batch(run->session, run->micro_batch, err));
    HS_TRY(hs_run_cache_open(run, err));
    HS_TRY(hs_run_npu_prepare(run, err));
    return run->requests_path ? answer_requests(run, err) : evaluate(run, value, err);
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hs_run run = {.checkpoint = value[HS_RUN_CHECKPOINT].text, .requests_path = value[HS_RUN_REQUESTS].text};
    hstu_error err;
    hs_console_open(&run.console, value[HS_RUN_QUIET].given);
    if (hs_run_check_usage(value, &err) != HSTU_OK) {
        (void)fprintf(stderr, "hstu: %s\n", err.msg);
        return HS_EXIT_USAGE;
    }
    hs_run_npu_ask(&run, value);
    const hstu_status status = work(&run, value, &err);
    close_all(&run);
    return hs_console_end(&run.console, status, &err);
}

const hs_verb hs_verb_run = {
    .name = "run",
    .summary = "answer a data set's or your own requests with a model; report metrics and latency as JSON",
    .text =
        "Answers every sample of a sequence file with a model and prints one JSON document: latency, throughput, hit "
        "rate, NDCG and MRR with standard errors, and a most-popular baseline by the same rules; with a ranking model "
        "AUC, GAUC, log loss and normalised entropy of every task. With --requests it answers your own requests "
        "instead, one JSON line each.",
    .option = hs_run_options,
    .n_options = HS_RUN_N_OPTIONS,
    .example = "hstu run --config kuairand_gr --steps 4 --device cpu --checkpoint model.pt",
    .run = run_verb,
};
