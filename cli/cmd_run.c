/* `hstu run`: what its options say, what they open, and which of its works follows. */
#include "cli/run.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/mapfile.h"
#include "base/path.h"
#include "cli/program.h"
#include "cli/run_options.h"
#include "hstu/metric.h"

#include <string.h>

static const char default_config[] = "kuairand_gr";

/* ---- settings --------------------------------------------------------------------------------------------------- */

static int64_t number_or(const hs_option_value *value, int64_t fallback)
{
    return value->given ? value->number : fallback;
}

static const char *canonical_dtype(int64_t choice)
{
    static const char *const names[] = {"fp32", "fp32", "bf16", "bf16", "fp16", "fp16", "fp16"};
    return names[choice];
}

static void set_history(hs_run *run, const hs_option_value *value)
{
    hstu_history_options *h = &run->history;
    *h = run->info.history;
    h->item_id_offset = number_or(&value[HS_RUN_ITEM_ID_OFFSET], h->item_id_offset);
    h->drop_duplicates = (int)number_or(&value[HS_RUN_DROP_DUPLICATES], h->drop_duplicates);
    h->min_events = number_or(&value[HS_RUN_MIN_EVENTS], h->min_events);
    h->time_interval_s = number_or(&value[HS_RUN_TIME_INTERVAL_S], h->time_interval_s);
    h->max_sequences = number_or(&value[HS_RUN_MAX_SEQUENCES], h->max_sequences);
    h->max_sequence_length = number_or(&value[HS_RUN_MAX_SEQUENCE_LENGTH], h->max_sequence_length);
    h->max_history = 0; /* whole histories: the popularity baseline counts what the window cuts off */
    h->protocol = run->info.default_protocol;
    if (value[HS_RUN_PROTOCOL].given)
        h->protocol = value[HS_RUN_PROTOCOL].number == 0 ? HSTU_PROTOCOL_SESSIONS : HSTU_PROTOCOL_LEAVE_ONE_OUT;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SESSIONS)
        h->protocol = HSTU_PROTOCOL_SESSIONS;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SASREC)
        h->protocol = HSTU_PROTOCOL_LEAVE_ONE_OUT;
}

static void set_window(hs_run *run, const hs_option_value *value)
{
    const int64_t most = run->info.max_sequence_length;
    run->window = number_or(&value[HS_RUN_SEQUENCE_LENGTH],
        run->info.default_sequence_length > 0 ? run->info.default_sequence_length : most);
    if (run->window > most) {
        if (value[HS_RUN_SEQUENCE_LENGTH].given)
            hs_console_warn(&run->console, "--sequence_length %lld is more than the model's %lld events: %lld are used",
                (long long)run->window, (long long)most, (long long)most);
        run->window = most;
    }
}

static void set_top_k(hs_run *run, const hs_option_value *value)
{
    run->n_top_k = value->n_list;
    memcpy(run->top_k, value->list, value->n_list * sizeof *value->list);
    if (run->n_top_k == 0)
        run->top_k[run->n_top_k++] = run->info.default_top_k > 0 ? run->info.default_top_k : 5;
    for (size_t i = 0; i < run->n_top_k; i++)
        run->k = run->top_k[i] > run->k ? run->top_k[i] : run->k;
}

/* Which requests a ranking model gets. */
static void set_rules(hs_run *run, const hs_option_value *value)
{
    static const hstu_split splits[] = {HSTU_SPLIT_TEST, HSTU_SPLIT_TRAIN, HSTU_SPLIT_ALL};
    hstu_ranking_options *rules = &run->rules;
    const int64_t most = run->info.max_sequence_length;
    hstu_ranking_options_init(rules);
    rules->max_history = number_or(&value[HS_RUN_MAX_HISTORY], most > 0 ? most : rules->max_history);
    rules->max_candidates = number_or(
        &value[HS_RUN_MAX_CANDIDATES], run->info.max_candidates > 0 ? run->info.max_candidates : rules->max_candidates);
    rules->truncation = value[HS_RUN_TRUNCATION].number == 0 ? HSTU_TRUNCATION_OLDEST : HSTU_TRUNCATION_NEWEST;
    rules->split = splits[value[HS_RUN_SPLIT].number];
    if (most > 0 && rules->max_history > most) {
        hs_console_warn(&run->console, "--max_history %lld is more than the model's %lld events: %lld are used",
            (long long)rules->max_history, (long long)most, (long long)most);
        rules->max_history = most;
    }
}

/* Everything that needs the model's and the data set's facts. */
static void set_all(hs_run *run, const hs_option_value *value)
{
    if (run->ranking) {
        set_rules(run, value);
    } else {
        set_history(run, value);
        set_window(run, value);
        set_top_k(run, &value[HS_RUN_TOP_K]);
    }
    run->pad_attention = value[HS_RUN_PAD_ATTENTION].given;
    run->batch_size =
        number_or(&value[HS_RUN_BATCH_SIZE], run->info.default_batch_size > 0 ? run->info.default_batch_size : 128);
    run->warmup = number_or(&value[HS_RUN_WARMUP], run->info.default_warmup);
    run->steps = value[HS_RUN_STEPS].number;
    run->seed = (uint64_t)value[HS_RUN_SEED].number;
    run->dump_logits = value[HS_RUN_DUMP_LOGITS].given;
    run->candidates_path = value[HS_RUN_CANDIDATES].text;
    run->output_path = value[HS_RUN_OUTPUT].text;
    run->filter_seen = number_or(&value[HS_RUN_FILTER_SEEN], run->history.protocol == HSTU_PROTOCOL_LEAVE_ONE_OUT) != 0;
}

/* Options that say nothing to the model's family, and protocols that are not its own. */
static hstu_status check_family(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    static const int of_ranking[] = {HS_RUN_MAX_HISTORY, HS_RUN_MAX_CANDIDATES, HS_RUN_TRUNCATION, HS_RUN_SPLIT};
    static const int of_others[] = {HS_RUN_SEQUENCE_LENGTH, HS_RUN_TOP_K, HS_RUN_FILTER_SEEN, HS_RUN_CANDIDATES,
        HS_RUN_ITEM_ID_OFFSET, HS_RUN_DROP_DUPLICATES, HS_RUN_MIN_EVENTS, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES,
        HS_RUN_MAX_SEQUENCE_LENGTH};
    const char *family = run->info.family;
    run->ranking = strcmp(family, "ranking") == 0;
    const int *wrong = run->ranking ? of_others : of_ranking;
    const size_t n = run->ranking ? sizeof of_others / sizeof *of_others : sizeof of_ranking / sizeof *of_ranking;
    const hs_option_value *protocol = &value[HS_RUN_PROTOCOL];
    if (protocol->given && (protocol->number == HS_RUN_RANKING) != run->ranking)
        return hs_fail(err, HSTU_EINVAL, 0, "option --protocol wants %s for a model of the family %s, found '%s'",
            run->ranking ? "ranking" : "sessions or leave-one-out", family, protocol->text);
    for (size_t i = 0; i < n; i++) {
        if (value[wrong[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing to a model of the family %s: leave it out",
                hs_run_options[wrong[i]].name, family);
    }
    if (value[HS_RUN_PAD_ATTENTION].given && strcmp(family, "decoder") != 0)
        return hs_fail(
            err, HSTU_EINVAL, 0, "option --pad_attention wants a model of the family decoder, found %s", family);
    return HSTU_OK;
}

/* Rules that were given and that the kind of file or the protocol makes void. */
static void warn_void(hs_run *run, const hs_option_value *value)
{
    static const int rules[] = {HS_RUN_DROP_DUPLICATES, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES,
        HS_RUN_MAX_SEQUENCE_LENGTH, HS_RUN_MIN_EVENTS};
    const hstu_dataset_kind kind = run->dataset_info.kind;
    const bool sessions = run->history.protocol == HSTU_PROTOCOL_SESSIONS;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const bool of_users = rules[i] == HS_RUN_DROP_DUPLICATES || rules[i] == HS_RUN_MIN_EVENTS;
        if (!value[rules[i]].given)
            continue;
        if (kind != HSTU_DATASET_EVENTS && rules[i] != HS_RUN_MIN_EVENTS)
            hs_console_warn(&run->console, "--%s has no effect on %s: only a sequences.safetensors keeps whole logs",
                hs_run_options[rules[i]].name, run->dataset_info.name);
        else if (of_users == sessions)
            hs_console_warn(&run->console, "--%s has no effect with the protocol %s", hs_run_options[rules[i]].name,
                sessions ? "sessions" : "leave-one-out");
    }
    if (kind == HSTU_DATASET_SASREC && value[HS_RUN_ITEM_ID_OFFSET].given)
        hs_console_warn(&run->console, "--item_id_offset has no effect on %s: its ids are the model's already",
            run->dataset_info.name);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* The results would replace `path`, the run's checkpoint, config, .... */
static hstu_status refuse_as_output(const hs_option_value *value, const char *what, const char *path, hstu_error *err)
{
    if (!value[HS_RUN_OUTPUT].given || !path || !hs_mapfile_same(path, value[HS_RUN_OUTPUT].text))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "option --output wants a file of its own, found '%s', which holds the %s",
        value[HS_RUN_OUTPUT].text, what);
}

static hstu_status check_output(const hs_option_value *value, hstu_error *err)
{
    static const int inputs[] = {HS_RUN_CHECKPOINT, HS_RUN_CONFIG, HS_RUN_DATASET, HS_RUN_CANDIDATES};
    const char *output = value[HS_RUN_OUTPUT].text, *checkpoint = value[HS_RUN_CHECKPOINT].text;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        HS_TRY(refuse_as_output(value, hs_run_options[inputs[i]].name, value[inputs[i]].text, err));
    if (output && checkpoint && hs_path_is_folder(checkpoint) && hs_path_is_inside(checkpoint, output))
        return hs_fail(err, HSTU_EINVAL, 0,
            "option --output wants a file outside the checkpoint's folder '%s', found '%s'", checkpoint, output);
    return HSTU_OK;
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
    if (status == HSTU_ENOENT && strncmp(name, "KuaiRand-", 9) != 0)
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
    options.config = run->checkpoint || value[HS_RUN_CONFIG].given ? value[HS_RUN_CONFIG].text : default_config;
    options.device = value[HS_RUN_DEVICE].text;
    options.dtype = canonical_dtype(value[HS_RUN_DTYPE].number);
    options.threads = (int)value[HS_RUN_THREADS].number;
    options.seed = (uint64_t)value[HS_RUN_SEED].number;
    return options;
}

/* What makes model ids of the data set's item ids. */
static int64_t item_offset(const hs_run *run, const hs_option_value *value)
{
    const hstu_history_options *rules = &run->info.history;
    if (run->ranking)
        return 0;
    return run->dataset_info.kind == HSTU_DATASET_SASREC
               ? rules->shift_id_by
               : number_or(&value[HS_RUN_ITEM_ID_OFFSET], rules->item_id_offset);
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
    return HSTU_OK;
}

/* A checkpoint tells the configuration; random weights take it from the preset and, for the size of the item table, from the
 * data set, which therefore is opened first. */
static hstu_status open_all(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    const hstu_model_options options = model_options(run, value);
    HS_TRY(hstu_model_options_check(&options, err));
    if (run->checkpoint)
        HS_TRY(open_model(run, value, err));
    else
        HS_TRY(hstu_config_get_info(
            value[HS_RUN_CONFIG].given ? value[HS_RUN_CONFIG].text : default_config, &run->info, err));
    HS_TRY(check_family(run, value, err));
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
    hs_free(run->candidate);
    hstu_histories_close(run->histories);
    hstu_ranking_samples_close(run->samples);
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
    (void)fwrite(json.data, 1, json.len, stdout); /* checked when the program ends */
    (void)fflush(stdout);
    hs_dynbuf_free(&json);
    if (table)
        hs_report_table(stderr, run, result);
    return HSTU_OK;
}

static hstu_status evaluate_ranking(hs_run *run, hstu_error *err)
{
    hs_run_result result;
    HS_TRY(hstu_ranking_samples_open(&run->samples, run->dataset, &run->rules, err));
    HS_TRY(hs_run_rank(run, &result, err));
    const hstu_status status = report(run, &result, run->console.bar, err);
    hs_run_result_free(&result);
    return status;
}

static hstu_status evaluate(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    hs_run_result result;
    warn_void(run, value);
    HS_TRY(hstu_histories_open(&run->histories, run->dataset, &run->history, err));
    run->item_offset = run->histories->item_offset;
    if (run->info.uses_time && !run->histories->timestamp)
        hs_console_warn(
            &run->console, "%s has no times: the model's relative bias is left out", run->dataset_info.name);
    if (run->candidates_path)
        HS_TRY(hs_run_read_candidates(run, err));
    HS_TRY(hs_run_evaluate(run, &result, err));
    const hstu_status status = report(run, &result, run->console.bar, err);
    hs_run_result_free(&result);
    return status;
}

static hstu_status answer_requests(hs_run *run, hstu_error *err)
{
    run->item_offset = run->history.item_id_offset;
    if (run->candidates_path)
        HS_TRY(hs_run_read_candidates(run, err));
    return hs_run_answer_requests(run, err);
}

static hstu_status work(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    HS_TRY(check_output(value, err));
    HS_TRY(open_all(run, value, err));
    HS_TRY(refuse_as_output(value, "config", run->info.config, err)); /* which the checkpoint may have brought */
    set_all(run, value);
    if (run->ranking)
        return run->requests_path ? hs_run_rank_requests(run, err) : evaluate_ranking(run, err);
    if (run->pad_attention && run->history.protocol != HSTU_PROTOCOL_SESSIONS)
        return hs_fail(err, HSTU_EINVAL, 0, "option --pad_attention wants --protocol sessions, found leave-one-out");
    return run->requests_path ? answer_requests(run, err) : evaluate(run, value, err);
}

/* Options that say nothing about requests. NULL: none was given. */
static const char *clashes_with_requests(const hs_option_value *value)
{
    static const int clash[] = {HS_RUN_STEPS, HS_RUN_OUTPUT, HS_RUN_WARMUP, HS_RUN_PROTOCOL, HS_RUN_DROP_DUPLICATES,
        HS_RUN_MIN_EVENTS, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES, HS_RUN_MAX_SEQUENCE_LENGTH, HS_RUN_MAX_HISTORY,
        HS_RUN_MAX_CANDIDATES, HS_RUN_TRUNCATION, HS_RUN_SPLIT};
    for (size_t i = 0; i < sizeof clash / sizeof *clash; i++) {
        if (value[clash[i]].given)
            return hs_run_options[clash[i]].name;
    }
    return NULL;
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hs_run run = {.checkpoint = value[HS_RUN_CHECKPOINT].text, .requests_path = value[HS_RUN_REQUESTS].text};
    hstu_error err;
    hs_console_open(&run.console, value[HS_RUN_QUIET].given);
    const char *clash = run.requests_path ? clashes_with_requests(value) : NULL;
    if (clash) {
        (void)fprintf(stderr, "hstu: options --requests and --%s exclude each other: give one of them\n", clash);
        return HS_EXIT_USAGE;
    }
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
