/* What the preprocessing of every kind of set has in common: options, metadata, the report. */
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "data/feedback.h"
#include "data/preprocess_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

hstu_status hs_preprocessing_open(hs_preprocessing *p, const hstu_preprocess_options *options, hstu_error *err)
{
    *p = (hs_preprocessing){
        .options = options, .warnings.progress = &options->progress, .begin_s = hs_clock_s(), .n_logs = 1};
    p->inputs = cJSON_CreateArray();
    if (!p->inputs)
        return hs_fail_nomem(err, sizeof *p->inputs, "the list of input files");
    if (!options->dataset_name || !options->data_root)
        return hs_fail(err, HSTU_EINVAL, 0, "dataset_name and data_root must be given");
    p->rules = (hs_session_rules){options->time_interval_s, options->max_sequences, options->max_sequence_length};
    return hs_session_rules_check(&p->rules, err);
}

void hs_preprocessing_close(hs_preprocessing *p)
{
    hs_event_files_discard(&p->files);
    hs_eventsink_close(p->sink);
    hs_features_free(&p->features);
    hs_warnings_free(&p->warnings);
    cJSON_Delete(p->inputs);
    cJSON_Delete(p->set_options);
}

hstu_status hs_preprocessing_name(hs_preprocessing *p, const char *folder, hstu_error *err)
{
    return hs_event_files_name(&p->files, folder, err);
}

hstu_status hs_preprocessing_begin(hs_preprocessing *p, hstu_error *err)
{
    const hs_eventsink_options options = {.memory_limit = p->options->memory_limit - p->set_bytes,
        .threads = p->options->threads,
        .folder = p->files.folder.text,
        .progress = &p->options->progress};
    hs_eventsink_close(p->sink);
    p->sink = NULL;
    HS_TRY(hs_event_files_prepare(&p->files, err));
    return hs_eventsink_open(&p->sink, &options, err);
}

/* ---- Metadata --------------------------------------------------------------------------------------------------- */

static bool add_number(cJSON *object, const char *key, uint64_t value)
{
    return cJSON_AddNumberToObject(object, key, (double)value) != NULL;
}

hstu_status hs_preprocessing_input(
    hs_preprocessing *p, const char *path, uint64_t bytes, uint64_t hash, hstu_error *err)
{
    char hex[17];
    (void)snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    cJSON *input = cJSON_CreateObject();
    if (input && cJSON_AddItemToArray(p->inputs, input) && cJSON_AddStringToObject(input, "name", hs_path_base(path)) &&
        add_number(input, "bytes", bytes) &&
        (p->options->no_hash ? cJSON_AddNullToObject(input, "xxh3_64") != NULL
                             : cJSON_AddStringToObject(input, "xxh3_64", hex) != NULL))
        return HSTU_OK;
    return hs_fail_nomem(err, sizeof hex, "the list of input files");
}

static cJSON *options_json(const hs_preprocessing *p)
{
    cJSON *object = p->set_options ? cJSON_Duplicate(p->set_options, 1) : cJSON_CreateObject();
    if (object && add_number(object, "time_interval_s", (uint64_t)p->rules.time_interval_s) &&
        add_number(object, "max_sequences", (uint64_t)p->rules.max_sequences) &&
        add_number(object, "max_sequence_length", (uint64_t)p->rules.max_sequence_length) &&
        cJSON_AddBoolToObject(object, "allow_missing_logs", p->options->allow_missing_logs != 0))
        return object;
    cJSON_Delete(object);
    return NULL;
}

/* Users that not every log holds. */
static uint64_t count_incomplete(const hs_preprocessing *p)
{
    const uint64_t all = p->n_logs >= 64 ? UINT64_MAX : ((uint64_t)1 << p->n_logs) - 1;
    uint64_t n = 0;
    for (int64_t i = 0; i < p->users.n; i++)
        n += p->users.logs[i] != all;
    return n;
}

static cJSON *counts_json(const hs_preprocessing *p, const hs_event_counts *counts)
{
    const hs_event_users *u = &p->users;
    const uint64_t n_users = (uint64_t)u->n;
    cJSON *object = cJSON_CreateObject();
    if (object && add_number(object, "rows", (uint64_t)u->n_events) && add_number(object, "users", n_users) &&
        add_number(object, "items", u->n_items) && add_number(object, "duplicate_rows", counts->n_duplicates) &&
        add_number(object, "unsorted_rows", counts->n_unsorted) &&
        add_number(object, "users_not_in_every_log", count_incomplete(p)) &&
        add_number(object, "users_without_features", p->has_features ? p->features.n_users_without : n_users) &&
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
        if (!features->code[f])
            continue;
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

static cJSON *make_metadata(void *ctx, const hs_event_counts *counts)
{
    const hs_preprocessing *p = ctx;
    cJSON *object = cJSON_CreateObject();
    cJSON *warnings = p->warnings.list ? cJSON_Duplicate(p->warnings.list, 1) : cJSON_CreateArray();
    const bool ok = object && cJSON_AddStringToObject(object, "dataset_name", p->dataset_name);
    if (ok && add_number(object, "n_logs", p->n_logs) && add_item(object, "options", options_json(p)) &&
        add_item(object, "inputs", cJSON_Duplicate(p->inputs, 1)) &&
        add_item(object, "counts", counts_json(p, counts)) &&
        (!p->has_features || add_item(object, "feature_values", feature_values_json(&p->features)))) {
        if (add_item(object, "warnings", warnings))
            return object;
        warnings = NULL;
    }
    cJSON_Delete(warnings);
    cJSON_Delete(object);
    return NULL;
}

/* ---- Results ---------------------------------------------------------------------------------------------------- */

hstu_status hs_preprocessing_finish(hs_preprocessing *p, const char *what, hstu_error *err)
{
    HS_TRY(hs_eventsink_finish(p->sink, err));
    p->users = hs_eventsink_users(p->sink);
    p->read_s = hs_clock_s() - p->begin_s;
    if (p->users.n_events == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "%s hold no rows", what);
    return HSTU_OK;
}

hstu_status hs_preprocessing_write(hs_preprocessing *p, bool ranking, hstu_error *err)
{
    const hs_event_files_plan plan = {.sink = p->sink,
        .dataset_name = p->dataset_name,
        .rules = p->options->no_text ? NULL : &p->rules,
        .features = p->has_features ? &p->features : NULL,
        .ranking = ranking && p->has_features && !p->options->no_text,
        .n_logs = p->n_logs,
        .memory_limit = p->options->memory_limit,
        .warnings = &p->warnings,
        .make_metadata = make_metadata,
        .ctx = p};
    HS_TRY(hs_event_files_write(&p->files, &plan, err));
    return hs_event_files_commit(&p->files, err);
}

void hs_preprocessing_report(const hs_preprocessing *p, hstu_preprocess_report *report)
{
    *report = (hstu_preprocess_report){.n_rows = (uint64_t)p->users.n_events,
        .n_users = (uint64_t)p->users.n,
        .n_items = p->users.n_items,
        .n_duplicates = p->files.counts.n_duplicates,
        .n_unsorted = p->files.counts.n_unsorted,
        .n_users_one_log = count_incomplete(p),
        .n_sessions = (uint64_t)p->files.found.n,
        .vocab_size = (uint64_t)p->files.found.vocab_size,
        .n_ranking_users = p->n_ranking_users,
        .read_s = p->read_s,
        .disk_s = p->files.disk_s};
    for (size_t f = 0; f < HS_FEATURES_N; f++)
        report->n_features += p->has_features && p->features.code[f];
    memcpy(report->sequences_path, p->files.sequences_path.text, sizeof report->sequences_path);
    if (!p->options->no_text) {
        memcpy(report->sessions_path, p->files.sessions_path.text, sizeof report->sessions_path);
        memcpy(report->metadata_path, p->files.metadata_path.text, sizeof report->metadata_path);
    }
    report->total_s = hs_clock_s() - p->begin_s;
}
