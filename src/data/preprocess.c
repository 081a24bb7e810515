/* hstu_preprocess: KuaiRand's raw logs become sequences.safetensors, the sessions CSV and metadata.json, and, with user
 * features, processed_seqs.csv. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/kuairand.h"
#include "data/kuairand_log.h"
#include "data/preprocess_sets.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_MEMORY_LIMIT (UINT64_C(2) << 30)

void hstu_preprocess_options_init(hstu_preprocess_options *options)
{
    *options = (hstu_preprocess_options){.size = sizeof *options,
        .dataset_name = "KuaiRand-1K",
        .data_root = "tmp_data",
        .time_interval_s = 300,
        .max_sequences = 1024,
        .max_sequence_length = 256,
        .memory_limit = DEFAULT_MEMORY_LIMIT,
        .user_column = "user_id",
        .item_column = "item_id",
        .time_column = "timestamp",
        .time_unit = "s",
        .delimiter = ","};
}

/* ---- KuaiRand --------------------------------------------------------------------------------------------------- */

static hstu_status read_logs(hs_preprocessing *p, const hs_kuairand_files *files, hstu_error *err)
{
    hs_log_file file[HS_EVENTS_MAX_LOGS];
    HS_TRY(hs_logs_read(p->sink, files->log, files->n_logs, !p->options->no_hash, &p->options->progress, file, err));
    for (size_t i = 0; i < files->n_logs; i++)
        HS_TRY(hs_preprocessing_input(p, files->log[i].text, file[i].bytes, file[i].hash, err));
    return HSTU_OK;
}

static hstu_status read_features(hs_preprocessing *p, const char *path, hstu_error *err)
{
    if (!*path)
        return HSTU_OK;
    HS_TRY(hs_features_read(&p->features, path, p->users.id, (size_t)p->users.n, &p->options->progress, err));
    p->has_features = true;
    if (p->features.n_users_without)
        HS_TRY(hs_warnings_add(&p->warnings, err,
            "%s lacks %" PRIu64 " of %" PRId64 " users, whose contextual features are 0", hs_path_base(path),
            p->features.n_users_without, p->users.n));
    return hs_preprocessing_input(p, path, p->features.file_bytes, p->features.file_hash, err);
}

/* Counts the users of processed_seqs.csv, and warns of those that it leaves out. */
static hstu_status count_ranking_users(hs_preprocessing *p, const char *features_path, hstu_error *err)
{
    if (!p->has_features)
        return HSTU_OK;
    p->n_ranking_users = hs_ranking_csv_users(&p->users, &p->features, p->n_logs);
    if (p->n_ranking_users == (uint64_t)p->users.n)
        return HSTU_OK;
    return hs_warnings_add(&p->warnings, err,
        "%s leaves out %" PRIu64 " of %" PRId64 " users, as the reference does: a log or %s lacks them",
        hs_path_base(p->files.ranking_path.text), (uint64_t)p->users.n - p->n_ranking_users, p->users.n,
        hs_path_base(features_path));
}

static hstu_status run_kuairand(hs_preprocessing *p, hs_kuairand_files *files, hstu_error *err)
{
    const hs_kuairand_set *set = NULL;
    char what[sizeof files->folder.text + 64];
    if (hs_kuairand_find(&set, p->options->dataset_name, NULL) != HSTU_OK)
        return hs_fail(err, HSTU_EINVAL, 0,
            "dataset_name must be KuaiRand-Pure, KuaiRand-1K, KuaiRand-27K, ml-1m, ml-20m or custom, in any case, not "
            "'%s'",
            p->options->dataset_name);
    HS_TRY(hs_kuairand_files_find(files, set, p->options->data_root, p->options->dataset_name,
        p->options->allow_missing_logs, &p->warnings, err));
    p->dataset_name = set->name;
    p->n_logs = files->n_logs;
    (void)snprintf(what, sizeof what, "the logs of %s under '%s'", set->name, files->folder.text);
    HS_TRY(hs_preprocessing_name(p, files->folder.text, err));
    HS_TRY(hs_preprocessing_begin(p, err));
    HS_TRY(read_logs(p, files, err));
    HS_TRY(hs_preprocessing_finish(p, what, err));
    HS_TRY(read_features(p, files->user_features.text, err));
    HS_TRY(count_ranking_users(p, files->user_features.text, err));
    return hs_preprocessing_write(p, true, err);
}

static hstu_status preprocess_kuairand(hs_preprocessing *p, hstu_preprocess_report *report, hstu_error *err)
{
    hs_kuairand_files *files = hs_calloc(1, sizeof *files);
    if (!files)
        return hs_fail_nomem(err, sizeof *files, "the list of logs");
    const hstu_status status = run_kuairand(p, files, err);
    hs_free(files);
    if (status == HSTU_OK) {
        hs_preprocessing_report(p, report);
        if (p->has_features && !p->options->no_text)
            memcpy(report->ranking_path, p->files.ranking_path.text, sizeof report->ranking_path);
    }
    return status;
}

/* ---- Any set ---------------------------------------------------------------------------------------------------- */

hstu_status hstu_preprocess(const hstu_preprocess_options *options, hstu_preprocess_report *report, hstu_error *err)
{
    hstu_preprocess_report ignored;
    hs_preprocessing p;
    if (!options)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_preprocess wants options");
    if (options->size != sizeof *options)
        return hs_fail(
            err, HSTU_EINVAL, 0, "the preprocessing options were not set up by hstu_preprocess_options_init");
    hstu_status status = hs_preprocessing_open(&p, options, err);
    hstu_preprocess_report *filled = report ? report : &ignored;
    if (status == HSTU_OK && hs_movielens_knows(options->dataset_name))
        status = hs_movielens_preprocess(&p, filled, err);
    else if (status == HSTU_OK && hs_custom_knows(options->dataset_name))
        status = hs_custom_preprocess(&p, filled, err);
    else if (status == HSTU_OK)
        status = preprocess_kuairand(&p, filled, err);
    hs_preprocessing_close(&p);
    return status;
}
