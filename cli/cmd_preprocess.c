/* `hstu preprocess`: options, raw files that are obtained where they are absent, the library call, and the summary. */
#include "base/error.h"
#include "cli/preprocess_obtain.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "hstu/dataset.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    DATASET_NAME,
    DATA_ROOT,
    URL,
    CHECKSUM,
    ARCHIVE,
    NO_DOWNLOAD,
    KEEP_RAW,
    ALLOW_MISSING_LOGS,
    TIME_INTERVAL_S,
    MAX_SEQUENCES,
    MAX_SEQUENCE_LENGTH,
    INPUT,
    USER_COLUMN,
    ITEM_COLUMN,
    TIME_COLUMN,
    ACTION_COLUMNS,
    TIME_UNIT,
    DELIMITER,
    TEXT_IDS,
    NO_TEXT,
    NO_HASH,
    MEMORY_LIMIT,
    THREADS,
    QUIET,
    N_OPTIONS
};

static const int64_t max_count = 1000000000;

static const hs_option options_of_preprocess[N_OPTIONS] = {
    [DATASET_NAME] = {"dataset_name", HS_OPTION_TEXT, "NAME", "KuaiRand-1K", NULL, 0, 0,
        "KuaiRand-1K, KuaiRand-Pure, KuaiRand-27K, ml-1m, ml-20m, or custom for CSV files of your own"},
    [DATA_ROOT] = {"data_root", HS_OPTION_TEXT, "DIR", "tmp_data", NULL, 0, 0,
        "holds NAME/ (KuaiRand: or NAME/data/) with the raw files, or gets them; the results go into DIR/NAME/"},
    [URL] = {"url", HS_OPTION_TEXT, "URL", NULL, NULL, 0, 0,
        "where the archive is downloaded from instead of its publisher's server, when raw files are absent"},
    [CHECKSUM] = {"checksum", HS_OPTION_TEXT, "SUM", NULL, NULL, 0, 0,
        "what the archive must have instead of the published checksum: md5:HEX or sha256:HEX; none: it is not "
        "verified"},
    [ARCHIVE] = {"archive", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "unpacks this archive, .tar.gz, .tar or .zip, and downloads nothing; raw files that are there are replaced"},
    [NO_DOWNLOAD] = {"no_download", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "absent raw files are an error"},
    [KEEP_RAW] = {"keep_raw", HS_OPTION_SWITCH, NULL, "on", NULL, 0, 0,
        "keeps the raw files that were unpacked; off: they are removed once the results are written"},
    [ALLOW_MISSING_LOGS] = {"allow_missing_logs", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "an absent log of the set is a warning, not an error"},
    [TIME_INTERVAL_S] = {"time_interval_s", HS_OPTION_INT, "N", "300", NULL, 1, max_count,
        "a gap of N seconds to the event before begins a new session"},
    [MAX_SEQUENCES] = {"max_sequences", HS_OPTION_INT, "N", "1024", NULL, 1, max_count, "sessions to write"},
    [MAX_SEQUENCE_LENGTH] = {"max_sequence_length", HS_OPTION_INT, "N", "256", NULL, 1, max_count,
        "the last N + 1 events of a session are kept"},
    [INPUT] = {"input", HS_OPTION_TEXTS, "FILE", NULL, NULL, 0, 0,
        "custom: a CSV file with a header line, plain or gzip; may be given several times"},
    [USER_COLUMN] = {"user_column", HS_OPTION_TEXT, "NAME", "user_id", NULL, 0, 0, "custom: the users' column"},
    [ITEM_COLUMN] = {"item_column", HS_OPTION_TEXT, "NAME", "item_id", NULL, 0, 0, "custom: the items' column"},
    [TIME_COLUMN] = {"time_column", HS_OPTION_TEXT, "NAME", "timestamp", NULL, 0, 0, "custom: the times' column"},
    [ACTION_COLUMNS] = {"action_columns", HS_OPTION_TEXT, "LIST", NULL, NULL, 0, 0,
        "custom: columns of actions, with what each adds where it is not 0: click=1,like=2; or rating=value"},
    [TIME_UNIT] = {"time_unit", HS_OPTION_TEXT, "UNIT", "s", NULL, 0, 0,
        "custom: what times are: s, ms, us, ns, or iso for 2022-04-25T14:46:24Z"},
    [DELIMITER] = {"delimiter", HS_OPTION_TEXT, "CHAR", ",", NULL, 0, 0,
        "custom: what stands between fields: one character, or tab"},
    [TEXT_IDS] = {"text_ids", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "custom: ids are numbered from 1 also where all of them are whole numbers"},
    [NO_TEXT] = {"no_text", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "writes sequences.safetensors alone, and removes older text files"},
    [NO_HASH] = {"no_hash", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "raw files are not hashed for the metadata"},
    [MEMORY_LIMIT] = {"memory_limit", HS_OPTION_SIZE, "SIZE", "2GiB", NULL, 1 << 20, INT64_MAX,
        "memory that preprocessing may take; what does not fit waits on the disk"},
    [THREADS] = {"threads", HS_OPTION_INT, "N", NULL, "as many as there are processors", 1, 256, "threads"},
    [QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar"},
};

static void print_count(const char *what, uint64_t n)
{
    (void)printf("  %-34s%12" PRIu64 "\n", what, n);
}

static void print_summary(const char *name, const char *origin, const hstu_preprocess_report *report)
{
    const char *const path[] = {report->sequences_path, report->sessions_path, report->metadata_path,
        report->ranking_path, report->sasrec_path, report->candidates_path, report->user_ids_path,
        report->item_ids_path};
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
        "  %-34s%12.2f\n  %-34s%12.2f\n", "seconds", report->total_s, "of these, waiting for the disk", report->disk_s);
    if (*origin)
        (void)printf("%s\n", origin);
    for (size_t i = 0; i < sizeof path / sizeof *path; i++) {
        if (path[i][0])
            (void)printf("wrote %s\n", path[i]);
    }
}

static void fill_settings(hstu_preprocess_options *settings, const hs_option_value *value, const hs_console *console)
{
    hstu_preprocess_options_init(settings);
    settings->dataset_name = value[DATASET_NAME].text;
    settings->data_root = value[DATA_ROOT].text;
    settings->time_interval_s = value[TIME_INTERVAL_S].number;
    settings->max_sequences = value[MAX_SEQUENCES].number;
    settings->max_sequence_length = value[MAX_SEQUENCE_LENGTH].number;
    settings->allow_missing_logs = value[ALLOW_MISSING_LOGS].given;
    settings->input = value[INPUT].texts;
    settings->n_inputs = value[INPUT].n_list;
    settings->user_column = value[USER_COLUMN].text;
    settings->item_column = value[ITEM_COLUMN].text;
    settings->time_column = value[TIME_COLUMN].text;
    settings->action_columns = value[ACTION_COLUMNS].text;
    settings->time_unit = value[TIME_UNIT].text;
    settings->delimiter = value[DELIMITER].text;
    settings->text_ids = value[TEXT_IDS].given;
    settings->memory_limit = (uint64_t)value[MEMORY_LIMIT].number;
    settings->threads = (int)value[THREADS].number;
    settings->no_text = value[NO_TEXT].given;
    settings->no_hash = value[NO_HASH].given;
    settings->progress = console->progress;
}

/* Options that would otherwise be passed over in silence. */
static hstu_status check_options(const hs_option_value *value, const hstu_known_dataset *known, hstu_error *err)
{
    const int of_archives[] = {URL, CHECKSUM, ARCHIVE};
    if (value[ARCHIVE].given && value[URL].given)
        return hs_fail(err, HSTU_EINVAL, 0, "--archive and --url exclude each other");
    if (value[NO_DOWNLOAD].given && value[URL].given)
        return hs_fail(err, HSTU_EINVAL, 0, "--no_download and --url exclude each other");
    for (size_t i = 0; !known && i < sizeof of_archives / sizeof *of_archives; i++) {
        if (value[of_archives[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0,
                "--%s wants a data set whose archive is known: KuaiRand-1K, KuaiRand-Pure, KuaiRand-27K, ml-1m or "
                "ml-20m, not '%.80s'",
                options_of_preprocess[of_archives[i]].name, value[DATASET_NAME].text);
    }
    const bool custom = strcasecmp(value[DATASET_NAME].text, "custom") == 0;
    if (custom && !value[INPUT].given)
        return hs_fail(err, HSTU_EINVAL, 0, "--dataset_name custom wants --input FILE, a CSV file with a header line");
    for (int i = INPUT; i <= TEXT_IDS; i++) {
        if (value[i].given && !custom)
            return hs_fail(err, HSTU_EINVAL, 0, "--%s wants --dataset_name custom, not '%.80s'",
                options_of_preprocess[i].name, value[DATASET_NAME].text);
    }
    return HSTU_OK;
}

/* Preprocesses what is there, and obtains it only when that fails for want of files. */
static hstu_status preprocess(const hs_option_value *value, const hstu_preprocess_options *settings, hs_obtain *obtain,
    hstu_preprocess_report *report, hstu_error *err)
{
    if (obtain->archive) {
        HS_TRY(hs_obtain_archive(obtain, err));
        return hstu_preprocess(settings, report, err);
    }
    const hstu_status status = hstu_preprocess(settings, report, err);
    if (status == HSTU_OK && (value[URL].given || value[CHECKSUM].given))
        hs_console_warn(
            obtain->console, "nothing was downloaded: the files of %s are there already", settings->dataset_name);
    if (status != HSTU_ENOENT || !obtain->known)
        return status;
    if (value[NO_DOWNLOAD].given) {
        const hstu_error why = *err;
        return hs_fail(err, HSTU_ENOENT, 0,
            "%.280s; without --no_download %s would be downloaded, or name it with --archive when it is at hand",
            why.msg, obtain->known->url);
    }
    HS_TRY(hs_obtain_download(obtain, err));
    return hstu_preprocess(settings, report, err);
}

static int run_verb(const hs_options *options)
{
    const hs_option_value *value = options->value;
    hstu_preprocess_options settings;
    hstu_preprocess_report report;
    hs_console console;
    hstu_error err;
    hs_console_open(&console, value[QUIET].given);
    fill_settings(&settings, value, &console);
    hs_obtain obtain = {.known = hs_obtain_known(value[DATASET_NAME].text),
        .dataset_name = value[DATASET_NAME].text,
        .data_root = value[DATA_ROOT].text,
        .archive = value[ARCHIVE].text,
        .url = value[URL].text,
        .checksum = value[CHECKSUM].text,
        .quiet = value[QUIET].given,
        .console = &console};
    hstu_status status = check_options(value, obtain.known, &err);
    if (status == HSTU_OK)
        status = preprocess(value, &settings, &obtain, &report, &err);
    const int code = hs_console_end(&console, status, &err);
    if (status == HSTU_OK && !value[KEEP_RAW].number)
        hs_obtain_remove(&obtain);
    if (status == HSTU_OK)
        print_summary(settings.dataset_name, obtain.origin, &report);
    return status == HSTU_EINVAL ? HS_EXIT_USAGE : code;
}

const hs_verb hs_verb_preprocess = {
    .name = "preprocess",
    .summary = "fetch a data set and turn its logs into sequence files",
    .text = "Reads the logs of KuaiRand or MovieLens, or CSV files of your own, and writes "
            "sequences.safetensors (every event of every user), processed_inference_sequences.csv (sessions) "
            "and metadata.json, and, where the set has what they need, processed_seqs.csv (whole users for "
            "ranking), sasrec_format.csv and candidates.txt. Raw files that are absent are downloaded from "
            "their publisher, verified and unpacked.",
    .option = options_of_preprocess,
    .n_options = N_OPTIONS,
    .example = "hstu preprocess --dataset_name KuaiRand-1K --data_root tmp_data",
    .run = run_verb,
};
