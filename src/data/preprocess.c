/* hstu_preprocess: KuaiRand's raw logs become sequences.safetensors, the sessions CSV and metadata.json, and, with user
 * features, processed_seqs.csv. */
#include "base/error.h"
#include "base/json.h"
#include "data/features.h"
#include "data/feedback.h"
#include "data/kuairand.h"
#include "data/kuairand_log.h"
#include "data/ranking_csv.h"
#include "data/sequences.h"
#include "data/session_csv.h"
#include "data/warnings.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything that one run holds. */
typedef struct preprocessing {
    const hstu_preprocess_options *options;
    const hs_kuairand_set *set;
    hs_session_rules rules;
    hs_warnings warnings;
    hs_kuairand_files files;
    hs_events events;
    hs_features features;
    bool has_features;
    cJSON *inputs; /* array: name, bytes, hash of every file that was read */
    hs_sessions sessions;
    uint64_t n_ranking_users;
    hs_path sequences_path, sessions_path, ranking_path, metadata_path;
    hs_safetensors_writer *sequences_file;
    hs_outfile *sessions_file, *ranking_file, *metadata_file; /* ranking_file NULL: no user features */
} preprocessing;

void hstu_preprocess_options_init(hstu_preprocess_options *options)
{
    *options = (hstu_preprocess_options){.size = sizeof *options,
        .dataset_name = "KuaiRand-1K",
        .data_root = "tmp_data",
        .time_interval_s = 300,
        .max_sequences = 1024,
        .max_sequence_length = 256};
}

static hstu_status check_options(preprocessing *p, hstu_error *err)
{
    const hstu_preprocess_options *o = p->options;
    if (o->size != sizeof *o)
        return hs_fail(
            err, HSTU_EINVAL, 0, "the preprocessing options were not set up by hstu_preprocess_options_init");
    if (!o->dataset_name || !o->data_root)
        return hs_fail(err, HSTU_EINVAL, 0, "dataset_name and data_root must be given");
    p->rules = (hs_session_rules){o->time_interval_s, o->max_sequences, o->max_sequence_length};
    HS_TRY(hs_session_rules_check(&p->rules, err));
    return hs_kuairand_find(&p->set, o->dataset_name, err);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static bool add_number(cJSON *object, const char *key, uint64_t value)
{
    return cJSON_AddNumberToObject(object, key, (double)value) != NULL;
}

static hstu_status keep_input(preprocessing *p, const char *path, uint64_t bytes, uint64_t hash, hstu_error *err)
{
    char hex[17];
    (void)snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    cJSON *input = cJSON_CreateObject();
    if (input && p->inputs && cJSON_AddItemToArray(p->inputs, input) &&
        cJSON_AddStringToObject(input, "name", hs_path_base(path)) && add_number(input, "bytes", bytes) &&
        cJSON_AddStringToObject(input, "xxh3_64", hex))
        return HSTU_OK;
    if (input && !p->inputs)
        cJSON_Delete(input);
    return hs_fail_nomem(err, sizeof hex, "the list of input files");
}

static hstu_status total_bytes(const hs_kuairand_files *files, uint64_t *total, hstu_error *err)
{
    *total = 0;
    for (size_t i = 0; i < files->n_logs; i++) {
        struct stat st;
        if (stat(files->log[i].text, &st) != 0)
            return hs_fail_errno(err, errno, "cannot examine '%s'", files->log[i].text);
        *total += (uint64_t)st.st_size;
    }
    return HSTU_OK;
}

static hstu_status read_logs(preprocessing *p, hstu_error *err)
{
    hs_log_reader reader = {.events = &p->events, .progress = &p->options->progress};
    HS_TRY(total_bytes(&p->files, &reader.total_bytes, err));
    hstu_status status = HSTU_OK;
    for (size_t i = 0; i < p->files.n_logs; i++) {
        uint64_t bytes = 0, hash = 0;
        HS_TRY_GOTO(hs_log_reader_read(&reader, p->files.log[i].text, &bytes, &hash, err));
        HS_TRY_GOTO(keep_input(p, p->files.log[i].text, bytes, hash, err));
    }
    hs_progress_step(reader.progress, "reading", reader.done_bytes, reader.total_bytes);
    if (p->events.n == 0)
        status =
            hs_fail(err, HSTU_EFORMAT, 0, "the logs of %s under '%s' hold no rows", p->set->name, p->files.folder.text);
fail:
    hs_log_reader_free(&reader);
    return status;
}

static hstu_status read_features(preprocessing *p, hstu_error *err)
{
    const char *path = p->files.user_features.text;
    if (!*path)
        return HSTU_OK;
    HS_TRY(hs_features_read(&p->features, path, p->events.user_id, p->events.users.n, &p->options->progress, err));
    p->has_features = true;
    if (p->features.n_users_without)
        HS_TRY(hs_warnings_add(&p->warnings, err, "%s lacks %" PRIu64 " of %zu users, whose contextual features are 0",
            hs_path_base(path), p->features.n_users_without, p->events.users.n));
    return keep_input(p, path, p->features.file_bytes, p->features.file_hash, err);
}

/* Counts the users of processed_seqs.csv, and warns of those that it leaves out. */
static hstu_status count_ranking_users(preprocessing *p, hstu_error *err)
{
    const hs_event_view view = hs_events_view(&p->events);
    if (!p->has_features)
        return HSTU_OK;
    p->n_ranking_users = hs_ranking_csv_users(&view, &p->features, p->files.n_logs);
    if (p->n_ranking_users == p->events.users.n)
        return HSTU_OK;
    return hs_warnings_add(&p->warnings, err,
        "%s leaves out %" PRIu64 " of %zu users, as the reference does: a log or %s lacks them",
        hs_path_base(p->ranking_path.text), p->events.users.n - p->n_ranking_users, p->events.users.n,
        hs_path_base(p->files.user_features.text));
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

static cJSON *options_json(const preprocessing *p)
{
    cJSON *object = cJSON_CreateObject();
    if (object && add_number(object, "time_interval_s", (uint64_t)p->rules.time_interval_s) &&
        add_number(object, "max_sequences", (uint64_t)p->rules.max_sequences) &&
        add_number(object, "max_sequence_length", (uint64_t)p->rules.max_sequence_length) &&
        cJSON_AddBoolToObject(object, "allow_missing_logs", p->options->allow_missing_logs != 0))
        return object;
    cJSON_Delete(object);
    return NULL;
}

static cJSON *counts_json(const preprocessing *p)
{
    const hs_events *e = &p->events;
    cJSON *object = cJSON_CreateObject();
    const uint64_t one_log = hs_events_users_missing(e, p->files.n_logs);
    if (object && add_number(object, "rows", e->n) && add_number(object, "users", e->users.n) &&
        add_number(object, "items", e->n_items) && add_number(object, "duplicate_rows", e->n_duplicates) &&
        add_number(object, "unsorted_rows", e->n_unsorted) && add_number(object, "users_not_in_every_log", one_log) &&
        add_number(object, "users_without_features", p->has_features ? p->features.n_users_without : e->users.n) &&
        add_number(object, "ranking_users", p->n_ranking_users))
        return object;
    cJSON_Delete(object);
    return NULL;
}

/* The texts behind the features' numbers: an array per feature, whose first entry is number 1. */
static cJSON *feature_values_json(const hs_features *features)
{
    cJSON *object = cJSON_CreateObject();
    for (size_t f = 0; object && f < HS_FEATURES_N; f++) {
        cJSON *list = cJSON_AddArrayToObject(object, hs_feature_name[f]);
        bool ok = list != NULL;
        for (size_t i = 0; ok && i < features->n_values[f]; i++) {
            cJSON *text = cJSON_CreateString(features->value[f][i]);
            ok = text && cJSON_AddItemToArray(list, text);
            for (char *c = ok ? text->valuestring : NULL; c && *c; c++)
                *c = (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e ? '?' : *c; /* the file may not be UTF-8 */
        }
        if (!ok) {
            cJSON_Delete(object);
            object = NULL;
        }
    }
    return object;
}

/* Adds `item`, which the object owns from then on; false (and item freed) without memory. */
static bool add_item(cJSON *object, const char *key, cJSON *item)
{
    if (item && cJSON_AddItemToObject(object, key, item))
        return true;
    cJSON_Delete(item);
    return false;
}

static cJSON *metadata_json(const preprocessing *p)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *warnings = p->warnings.list ? cJSON_Duplicate(p->warnings.list, 1) : cJSON_CreateArray();
    const bool ok = object && cJSON_AddStringToObject(object, "dataset_name", p->set->name);
    if (ok && add_number(object, "n_logs", p->files.n_logs) && add_item(object, "options", options_json(p)) &&
        add_item(object, "inputs", cJSON_Duplicate(p->inputs, 1)) && add_item(object, "counts", counts_json(p)) &&
        (!p->has_features || add_item(object, "feature_values", feature_values_json(&p->features)))) {
        if (add_item(object, "warnings", warnings))
            return object;
        warnings = NULL;
    }
    cJSON_Delete(warnings);
    cJSON_Delete(object);
    return NULL;
}

/* Before hours of reading: the folder must take new files. What killed runs left there goes. */
static hstu_status prepare_folder(const preprocessing *p, hstu_error *err)
{
    if (faccessat(AT_FDCWD, p->files.folder.text, W_OK | X_OK, AT_EACCESS) != 0)
        return hs_fail_errno(err, errno, "cannot write into '%s'", p->files.folder.text);
    hs_outfile_sweep(p->sequences_path.text);
    hs_outfile_sweep(p->sessions_path.text);
    hs_outfile_sweep(p->ranking_path.text);
    hs_outfile_sweep(p->metadata_path.text);
    return HSTU_OK;
}

/* Makes the files under temporary names. */
static hstu_status write_files(preprocessing *p, hstu_error *err)
{
    const hs_event_view view = hs_events_view(&p->events);
    const hstu_progress *progress = &p->options->progress;
    HS_TRY(hs_sessions_cut(&p->sessions, &view, &p->rules, err));
    if (p->sessions.n == 0)
        HS_TRY(hs_warnings_add(&p->warnings, err, "no session has at least 2 events, so the sessions file is empty"));
    cJSON *metadata = metadata_json(p);
    if (!metadata)
        return hs_fail_nomem(err, sizeof *metadata, "the metadata of the sequences");
    const hstu_status status = hs_sequences_write(&p->sequences_file, p->sequences_path.text, &view,
        p->has_features ? &p->features : NULL, metadata, progress, err);
    cJSON_Delete(metadata);
    HS_TRY(status);
    HS_TRY(hs_session_csv_write(&p->sessions_file, p->sessions_path.text, &view, &p->sessions, progress, err));
    if (p->has_features)
        HS_TRY(hs_ranking_csv_write(
            &p->ranking_file, p->ranking_path.text, &view, &p->features, p->files.n_logs, progress, err));
    HS_TRY(hs_session_metadata_write(
        &p->metadata_file, p->metadata_path.text, p->set->name, &p->sessions, &p->rules, err));
    return hs_progress_check(progress, err);
}

/* Gives the files their names. Several renames are not one, so what an earlier run left of the text files goes first (a
 * processed_seqs.csv also where this run writes none) and metadata.json comes last: whenever the process is killed, each
 * file that is there is whole, no two of them are of different runs, and a folder with metadata.json has all. */
static hstu_status commit_files(preprocessing *p, hstu_error *err)
{
    HS_TRY(hs_outfile_remove(p->metadata_path.text, err));
    HS_TRY(hs_outfile_remove(p->sessions_path.text, err));
    HS_TRY(hs_outfile_remove(p->ranking_path.text, err));
    hs_safetensors_writer *sequences = p->sequences_file;
    hs_outfile *sessions = p->sessions_file, *ranking = p->ranking_file, *metadata = p->metadata_file;
    p->sequences_file = NULL;
    HS_TRY(hs_safetensors_commit(sequences, err));
    p->sessions_file = NULL;
    HS_TRY(hs_outfile_commit(sessions, err));
    p->ranking_file = NULL;
    HS_TRY(hs_outfile_commit(ranking, err));
    p->metadata_file = NULL;
    return hs_outfile_commit(metadata, err);
}

static void fill_report(const preprocessing *p, hstu_preprocess_report *report)
{
    const hs_events *e = &p->events;
    *report = (hstu_preprocess_report){.n_rows = e->n,
        .n_users = e->users.n,
        .n_items = e->n_items,
        .n_duplicates = e->n_duplicates,
        .n_unsorted = e->n_unsorted,
        .n_users_one_log = hs_events_users_missing(e, p->files.n_logs),
        .n_sessions = (uint64_t)p->sessions.n,
        .vocab_size = (uint64_t)p->sessions.vocab_size,
        .n_features = p->has_features ? HS_FEATURES_N : 0,
        .n_ranking_users = p->n_ranking_users};
    memcpy(report->sequences_path, p->sequences_path.text, sizeof report->sequences_path);
    memcpy(report->sessions_path, p->sessions_path.text, sizeof report->sessions_path);
    memcpy(report->metadata_path, p->metadata_path.text, sizeof report->metadata_path);
    if (p->has_features)
        memcpy(report->ranking_path, p->ranking_path.text, sizeof report->ranking_path);
}

static hstu_status run(preprocessing *p, hstu_error *err)
{
    HS_TRY(check_options(p, err));
    HS_TRY(hs_kuairand_files_find(&p->files, p->set, p->options->data_root, p->options->dataset_name,
        p->options->allow_missing_logs, &p->warnings, err));
    const char *folder = p->files.folder.text;
    HS_TRY(hs_path_join(&p->sequences_path, folder, "sequences.safetensors", err));
    HS_TRY(hs_path_join(&p->sessions_path, folder, "processed_inference_sequences.csv", err));
    HS_TRY(hs_path_join(&p->ranking_path, folder, "processed_seqs.csv", err));
    HS_TRY(hs_path_join(&p->metadata_path, folder, "metadata.json", err));
    HS_TRY(prepare_folder(p, err));
    HS_TRY(read_logs(p, err));
    HS_TRY(hs_events_sort(&p->events, &p->options->progress, err));
    HS_TRY(read_features(p, err));
    HS_TRY(count_ranking_users(p, err));
    HS_TRY(write_files(p, err));
    return commit_files(p, err);
}

hstu_status hstu_preprocess(const hstu_preprocess_options *options, hstu_preprocess_report *report, hstu_error *err)
{
    if (!options)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_preprocess wants options");
    preprocessing p = {.options = options, .warnings.progress = &options->progress, .inputs = cJSON_CreateArray()};
    hs_events_init(&p.events);
    const hstu_status status = run(&p, err);
    if (status == HSTU_OK && report)
        fill_report(&p, report);
    if (p.sequences_file)
        hs_safetensors_discard(p.sequences_file);
    hs_outfile_discard(p.sessions_file);
    hs_outfile_discard(p.ranking_file);
    hs_outfile_discard(p.metadata_file);
    hs_sessions_free(&p.sessions);
    hs_features_free(&p.features);
    hs_events_free(&p.events);
    hs_warnings_free(&p.warnings);
    cJSON_Delete(p.inputs);
    return status;
}
