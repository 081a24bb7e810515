/* `hstu preprocess`: options, the library call, and the summary. */
#include "cli/program.h"
#include "cli/progress.h"
#include "hstu/dataset.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    DATASET_NAME,
    DATA_ROOT,
    TIME_INTERVAL_S,
    MAX_SEQUENCES,
    MAX_SEQUENCE_LENGTH,
    ALLOW_MISSING_LOGS,
    QUIET,
    N_OPTIONS
};

static const int64_t max_count = 1000000000;

static const hs_option options_of_preprocess[N_OPTIONS] = {
    [DATASET_NAME] = {"dataset_name", HS_OPTION_TEXT, "NAME", "KuaiRand-1K", NULL, 0, 0,
        "KuaiRand-1K, KuaiRand-Pure or KuaiRand-27K"},
    [DATA_ROOT] = {"data_root", HS_OPTION_TEXT, "DIR", "tmp_data", NULL, 0, 0,
        "holds NAME/ or NAME/data/ with the extracted CSV files; the results go into DIR/NAME/"},
    [TIME_INTERVAL_S] = {"time_interval_s", HS_OPTION_INT, "N", "300", NULL, 1, max_count,
        "a gap of N seconds to the event before begins a new session"},
    [MAX_SEQUENCES] = {"max_sequences", HS_OPTION_INT, "N", "1024", NULL, 1, max_count, "sessions to write"},
    [MAX_SEQUENCE_LENGTH] = {"max_sequence_length", HS_OPTION_INT, "N", "256", NULL, 1, max_count,
        "the last N + 1 events of a session are kept"},
    [ALLOW_MISSING_LOGS] = {"allow_missing_logs", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "an absent log of the set is a warning, not an error"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
};

static void print_count(const char *what, uint64_t n)
{
    (void)printf("  %-34s%12" PRIu64 "\n", what, n);
}

static void print_summary(const char *name, const hstu_preprocess_report *report)
{
    (void)printf("%s\n", name);
    print_count("rows", report->n_rows);
    print_count("users", report->n_users);
    print_count("items", report->n_items);
    print_count("duplicate rows", report->n_duplicates);
    print_count("rows out of time order", report->n_unsorted);
    print_count("users that some log lacks", report->n_users_one_log);
    print_count("contextual features per user", report->n_features);
    print_count("sessions written", report->n_sessions);
    print_count("vocabulary size of the sessions", report->vocab_size);
    if (report->ranking_path[0])
        print_count("users for ranking", report->n_ranking_users);
    (void)printf(
        "wrote %s\nwrote %s\nwrote %s\n", report->sequences_path, report->sessions_path, report->metadata_path);
    if (report->ranking_path[0])
        (void)printf("wrote %s\n", report->ranking_path);
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hstu_preprocess_options settings;
    hstu_preprocess_report report;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, value[QUIET].given);
    hstu_preprocess_options_init(&settings);
    settings.dataset_name = value[DATASET_NAME].text;
    settings.data_root = value[DATA_ROOT].text;
    settings.time_interval_s = value[TIME_INTERVAL_S].number;
    settings.max_sequences = value[MAX_SEQUENCES].number;
    settings.max_sequence_length = value[MAX_SEQUENCE_LENGTH].number;
    settings.allow_missing_logs = value[ALLOW_MISSING_LOGS].given;
    settings.progress = console.progress;
    const hstu_status status = hstu_preprocess(&settings, &report, &err);
    const int code = hs_console_end(&console, status, &err);
    if (status == HSTU_OK)
        print_summary(settings.dataset_name, &report);
    return status == HSTU_EINVAL ? HS_EXIT_USAGE : code;
}

const hs_verb hs_verb_preprocess = {
    .name = "preprocess",
    .summary = "turn KuaiRand's logs into sequence files",
    .text = "Reads the standard logs of an extracted KuaiRand data set and writes sequences.safetensors (every event "
            "of every user), processed_inference_sequences.csv (sessions) and metadata.json, and, where the set's user "
            "features are there, processed_seqs.csv (whole users for ranking).",
    .option = options_of_preprocess,
    .n_options = N_OPTIONS,
    .example = "hstu preprocess --dataset_name KuaiRand-1K --data_root tmp_data",
    .run = run_verb,
};
