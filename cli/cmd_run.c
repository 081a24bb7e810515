/* `hstu run`: its options, what they open, and which of its two works follows. */
#include "cli/run.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/mapfile.h"
#include "cli/program.h"
#include "hstu/metric.h"

#include <string.h>

static const char default_config[] = "kuairand_gr";

enum {
    CONFIG,
    CHECKPOINT,
    DATASET,
    DATA_ROOT,
    PROTOCOL,
    STEPS,
    BATCH_SIZE,
    SEQUENCE_LENGTH,
    TOP_K,
    FILTER_SEEN,
    CANDIDATES,
    REQUESTS,
    OUTPUT,
    WARMUP,
    THREADS,
    DEVICE,
    DTYPE,
    SEED,
    DUMP_LOGITS,
    QUIET,
    ITEM_ID_OFFSET,
    DROP_DUPLICATES,
    MIN_EVENTS,
    TIME_INTERVAL_S,
    MAX_SEQUENCES,
    MAX_SEQUENCE_LENGTH,
    N_OPTIONS
};

static const char of_preset[] = "the preset's";
static const char of_model[] = "the model's";
static const int64_t max_count = 1000000000;

static const hs_option options_of_run[N_OPTIONS] = {
    [CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL,
        "the checkpoint's own, config.json beside it, or kuairand_gr", 0, 0,
        "preset, or JSON file with the model's configuration"},
    [CHECKPOINT] = {"checkpoint", HS_OPTION_TEXT, "FILE", NULL, "none: random weights from the seed", 0, 0,
        "PyTorch or safetensors file with the weights"},
    [DATASET] = {"dataset", HS_OPTION_TEXT, "FILE", NULL, "what preprocess wrote for the preset's data set", 0, 0,
        "sequence file: sequences.safetensors, processed_inference_sequences.csv or sasrec_format.csv"},
    [DATA_ROOT] = {"data_root", HS_OPTION_TEXT, "DIR", "tmp_data", NULL, 0, 0, "where preprocess wrote"},
    [PROTOCOL] = {"protocol", HS_OPTION_CHOICE, "sessions|leave-one-out", NULL, "the preset's, or what the file allows",
        0, 0, "one sample a session, or one a user; the last event is the target"},
    [STEPS] = {"steps", HS_OPTION_INT, "N", NULL, "all", 1, max_count, "batches to run"},
    [BATCH_SIZE] = {"batch_size", HS_OPTION_INT, "N", NULL, of_preset, 1, 65536,
        "requests in a batch; 1 answers each line of --requests at once"},
    [SEQUENCE_LENGTH] = {"sequence_length", HS_OPTION_INT, "N", NULL, of_preset, 1, max_count,
        "newest events of a history that are used, at most the model's own limit"},
    [TOP_K] = {"top_k", HS_OPTION_INTS, "K[,K...]", NULL, of_preset, 1, HSTU_MAX_RANK,
        "items to recommend; several values give several hr@k and ndcg@k, the first is hit_rate's"},
    [FILTER_SEEN] = {"filter_seen", HS_OPTION_SWITCH, "[on|off]", NULL, "on for leave-one-out, off for sessions", 0, 0,
        "leave out items of the history that is used"},
    [CANDIDATES] = {"candidates", HS_OPTION_TEXT, "FILE", NULL, "every item", 0, 0,
        "the only items to recommend: original ids, one a line"},
    [REQUESTS] = {"requests", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "answer these instead of a data set (- is standard input): a line is {\"user\": .., \"items\": [..], "
        "\"times\": [..], \"request_time\": .., \"candidates\": [..]}, times in the model's unit (seconds unless its "
        "configuration says "
        "otherwise), only items required"},
    [OUTPUT] = {"output", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "CSV of every user: user_id, target, rank (0: target filtered or no candidate), top-k ids"},
    [WARMUP] = {"warmup", HS_OPTION_INT, "N", NULL, of_preset, 0, max_count,
        "batches that run once more in front, untimed and uncounted"},
    [THREADS] = {"threads", HS_OPTION_INT, "N", "0", NULL, 0, 4096, "threads; 0: as many as affinity and quota allow"},
    [DEVICE] = {"device", HS_OPTION_TEXT, "NAME", "cpu", NULL, 0, 0, "where the model runs"},
    [DTYPE] = {"dtype", HS_OPTION_CHOICE, "fp32|float32|bf16|bfloat16|fp16|float16|half", "fp32", NULL, 0, 0,
        "arithmetic; this version runs fp32"},
    [SEED] = {"seed", HS_OPTION_INT, "N", "0", NULL, 0, INT64_MAX, "of random weights"},
    [DUMP_LOGITS] = {"dump_logits", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "print the shapes of the outputs on standard error"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar and no table on the terminal"},
    [ITEM_ID_OFFSET] = {"item_id_offset", HS_OPTION_INT, "N", NULL, of_model, -max_count, max_count,
        "model item id = original id + N"},
    [DROP_DUPLICATES] = {"drop_duplicates", HS_OPTION_SWITCH, "[on|off]", NULL, of_model, 0, 0,
        "leave out events that repeat an earlier row of the logs exactly"},
    [MIN_EVENTS] = {"min_events", HS_OPTION_INT, "N", NULL, of_model, 2, max_count,
        "leave-one-out: users with fewer events are left out"},
    [TIME_INTERVAL_S] = {"time_interval_s", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "sessions: a gap of N seconds begins a new one"},
    [MAX_SEQUENCES] = {"max_sequences", HS_OPTION_INT, "N", NULL, of_model, 1, max_count, "sessions: at most N"},
    [MAX_SEQUENCE_LENGTH] = {"max_sequence_length", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "sessions: the last N + 1 events of each"},
};

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
    h->item_id_offset = number_or(&value[ITEM_ID_OFFSET], h->item_id_offset);
    h->drop_duplicates = (int)number_or(&value[DROP_DUPLICATES], h->drop_duplicates);
    h->min_events = number_or(&value[MIN_EVENTS], h->min_events);
    h->time_interval_s = number_or(&value[TIME_INTERVAL_S], h->time_interval_s);
    h->max_sequences = number_or(&value[MAX_SEQUENCES], h->max_sequences);
    h->max_sequence_length = number_or(&value[MAX_SEQUENCE_LENGTH], h->max_sequence_length);
    h->max_history = 0; /* whole histories: the popularity baseline counts what the window cuts off */
    h->protocol = run->info.default_protocol;
    if (value[PROTOCOL].given)
        h->protocol = value[PROTOCOL].number == 0 ? HSTU_PROTOCOL_SESSIONS : HSTU_PROTOCOL_LEAVE_ONE_OUT;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SESSIONS)
        h->protocol = HSTU_PROTOCOL_SESSIONS;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SASREC)
        h->protocol = HSTU_PROTOCOL_LEAVE_ONE_OUT;
}

static void set_window(hs_run *run, const hs_option_value *value)
{
    const int64_t most = run->info.max_sequence_length;
    run->window = number_or(
        &value[SEQUENCE_LENGTH], run->info.default_sequence_length > 0 ? run->info.default_sequence_length : most);
    if (run->window > most) {
        if (value[SEQUENCE_LENGTH].given)
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

/* Everything that needs the model's and the data set's facts. */
static void set_all(hs_run *run, const hs_option_value *value)
{
    set_history(run, value);
    set_window(run, value);
    set_top_k(run, &value[TOP_K]);
    run->batch_size =
        number_or(&value[BATCH_SIZE], run->info.default_batch_size > 0 ? run->info.default_batch_size : 128);
    run->warmup = number_or(&value[WARMUP], run->info.default_warmup);
    run->steps = value[STEPS].number;
    run->seed = (uint64_t)value[SEED].number;
    run->dump_logits = value[DUMP_LOGITS].given;
    run->candidates_path = value[CANDIDATES].text;
    run->output_path = value[OUTPUT].text;
    run->filter_seen = number_or(&value[FILTER_SEEN], run->history.protocol == HSTU_PROTOCOL_LEAVE_ONE_OUT) != 0;
}

/* Rules that were given and that the kind of file or the protocol makes void. */
static void warn_void(hs_run *run, const hs_option_value *value)
{
    static const int rules[] = {DROP_DUPLICATES, TIME_INTERVAL_S, MAX_SEQUENCES, MAX_SEQUENCE_LENGTH, MIN_EVENTS};
    const hstu_dataset_kind kind = run->dataset_info.kind;
    const bool sessions = run->history.protocol == HSTU_PROTOCOL_SESSIONS;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const bool of_users = rules[i] == DROP_DUPLICATES || rules[i] == MIN_EVENTS;
        if (!value[rules[i]].given)
            continue;
        if (kind != HSTU_DATASET_EVENTS && rules[i] != MIN_EVENTS)
            hs_console_warn(&run->console, "--%s has no effect on %s: only a sequences.safetensors keeps whole logs",
                options_of_run[rules[i]].name, run->dataset_info.name);
        else if (of_users == sessions)
            hs_console_warn(&run->console, "--%s has no effect with the protocol %s", options_of_run[rules[i]].name,
                sessions ? "sessions" : "leave-one-out");
    }
    if (kind == HSTU_DATASET_SASREC && value[ITEM_ID_OFFSET].given)
        hs_console_warn(&run->console, "--item_id_offset has no effect on %s: its ids are the model's already",
            run->dataset_info.name);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* The results would replace what `option` reads. */
static hstu_status refuse_as_output(const hs_option_value *value, const char *option, const char *path, hstu_error *err)
{
    if (!value[OUTPUT].given || !path || !hs_mapfile_same(path, value[OUTPUT].text))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "option --output wants a file of its own, found '%s', which --%s reads",
        value[OUTPUT].text, option);
}

static hstu_status check_output(const hs_option_value *value, hstu_error *err)
{
    static const int inputs[] = {CHECKPOINT, CONFIG, DATASET, CANDIDATES};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        HS_TRY(refuse_as_output(value, options_of_run[inputs[i]].name, value[inputs[i]].text, err));
    return HSTU_OK;
}

static hstu_status open_dataset(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    const hstu_progress *progress = &run->console.progress;
    char path[4096];
    if (value[DATASET].given)
        return hstu_dataset_open(&run->dataset, value[DATASET].text, progress, err);
    const char *root = value[DATA_ROOT].text, *name = run->info.default_dataset;
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
    options.config = run->checkpoint || value[CONFIG].given ? value[CONFIG].text : default_config;
    options.device = value[DEVICE].text;
    options.dtype = canonical_dtype(value[DTYPE].number);
    options.threads = (int)value[THREADS].number;
    options.seed = (uint64_t)value[SEED].number;
    return options;
}

static hstu_status open_model(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    hstu_model_options options = model_options(run, value);
    if (run->dataset) {
        const hstu_history_options *rules = &run->info.history;
        const int64_t offset = run->dataset_info.kind == HSTU_DATASET_SASREC
                                   ? rules->shift_id_by
                                   : number_or(&value[ITEM_ID_OFFSET], rules->item_id_offset);
        if (run->dataset_info.n_events == 0)
            return hs_fail(err, HSTU_EINVAL, 0, "%s: expected events, found none", run->dataset_info.name);
        if (__builtin_add_overflow(run->dataset_info.max_item, offset, &options.max_item_id) || options.max_item_id < 1)
            return hs_fail(err, HSTU_EINVAL, 0,
                "%s: the largest item %lld plus the offset %lld is no item id of a model: expected 1 or more",
                run->dataset_info.name, (long long)run->dataset_info.max_item, (long long)offset);
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
        HS_TRY(hstu_config_get_info(value[CONFIG].given ? value[CONFIG].text : default_config, &run->info, err));
    if (!run->requests_path || (!run->checkpoint && run->info.max_item_id == 0)) {
        HS_TRY(open_dataset(run, value, err));
        hstu_dataset_get_info(run->dataset, &run->dataset_info);
    } else if (value[DATASET].given) {
        hs_console_warn(&run->console, "--dataset has no effect: the model tells the size of its item table");
    }
    if (!run->checkpoint) {
        HS_TRY(open_model(run, value, err));
        hs_console_warn(&run->console, "no --checkpoint was given: the weights are random (seed %llu)",
            (unsigned long long)value[SEED].number);
    }
    return hstu_session_open(&run->session, run->model, err);
}

static void close_all(hs_run *run)
{
    hs_free(run->candidate);
    hstu_histories_close(run->histories);
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
    set_all(run, value);
    return run->requests_path ? answer_requests(run, err) : evaluate(run, value, err);
}

/* Options that say nothing about requests. NULL: none was given. */
static const char *clashes_with_requests(const hs_option_value *value)
{
    static const int clash[] = {STEPS, OUTPUT, WARMUP, PROTOCOL, DROP_DUPLICATES, MIN_EVENTS, TIME_INTERVAL_S,
        MAX_SEQUENCES, MAX_SEQUENCE_LENGTH};
    for (size_t i = 0; i < sizeof clash / sizeof *clash; i++) {
        if (value[clash[i]].given)
            return options_of_run[clash[i]].name;
    }
    return NULL;
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hs_run run = {.checkpoint = value[CHECKPOINT].text, .requests_path = value[REQUESTS].text};
    hstu_error err;
    hs_console_open(&run.console, value[QUIET].given);
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
        "rate, NDCG and MRR with standard errors, and a most-popular baseline by the same rules. With --requests it "
        "answers your own requests instead, one JSON line each.",
    .option = options_of_run,
    .n_options = N_OPTIONS,
    .example = "hstu run --config kuairand_gr --steps 4 --device cpu --checkpoint model.pt",
    .run = run_verb,
};
