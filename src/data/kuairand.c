/* The KuaiRand data sets: names and places of files. Source: the data set's page, kuairand.com. */
#include "data/kuairand.h"

#include "base/alloc.h"
#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const hs_kuairand_set sets[] = {
    {"KuaiRand-Pure", "pure", {"log_standard_4_08_to_4_21_pure", "log_standard_4_22_to_5_08_pure"}},
    {"KuaiRand-1K", "1k", {"log_standard_4_08_to_4_21_1k", "log_standard_4_22_to_5_08_1k"}},
    {"KuaiRand-27K", "27k",
        {"log_standard_4_08_to_4_21_27k_part1", "log_standard_4_08_to_4_21_27k_part2",
            "log_standard_4_22_to_5_08_27k_part1", "log_standard_4_22_to_5_08_27k_part2"}},
};

/* A log that was found. */
typedef struct found_log {
    char name[NAME_MAX + 1];
    size_t stem_len; /* the name without ".csv" or ".csv.gz" */
    size_t place;    /* among the published logs; HS_KUAIRAND_MAX_PUBLISHED for others */
} found_log;

typedef struct found_logs {
    found_log log[HS_EVENTS_MAX_LOGS];
    size_t n;
} found_logs;

hstu_status hs_kuairand_find(const hs_kuairand_set **out, const char *name, hstu_error *err)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (strcasecmp(sets[i].name, name) == 0) {
            *out = &sets[i];
            return HSTU_OK;
        }
    }
    return hs_fail(err, HSTU_EINVAL, 0,
        "dataset_name must be KuaiRand-Pure, KuaiRand-1K or KuaiRand-27K, in any case of letters, not '%s'", name);
}

static bool ends_with(const char *text, size_t len, const char *end, size_t *left)
{
    const size_t end_len = strlen(end);
    if (len < end_len || memcmp(text + len - end_len, end, end_len) != 0)
        return false;
    *left = len - end_len;
    return true;
}

/* log_standard_*_<suffix>.csv[.gz], where "_part<digits>" may follow the suffix. */
static bool is_log(const char *name, const char *suffix, size_t *stem_len)
{
    size_t len = strlen(name);
    (void)ends_with(name, len, ".gz", &len);
    if (strncmp(name, "log_standard_", 13) != 0 || !ends_with(name, len, ".csv", &len))
        return false;
    *stem_len = len;
    size_t digits = len;
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9')
        digits--;
    if (digits < len)
        (void)ends_with(name, digits, "_part", &len);
    return ends_with(name, len, suffix, &len) && len > 0 && name[len - 1] == '_';
}

static size_t published_place(const hs_kuairand_set *set, const char *name, size_t stem_len)
{
    for (size_t i = 0; set->log[i]; i++) {
        if (strlen(set->log[i]) == stem_len && memcmp(set->log[i], name, stem_len) == 0)
            return i;
    }
    return HS_KUAIRAND_MAX_PUBLISHED;
}

static int compare_logs(const void *left, const void *right)
{
    const found_log *x = left, *y = right;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The set's logs in a folder, in order. A folder that is not there holds none. */
static hstu_status scan_logs(found_logs *found, const hs_kuairand_set *set, const char *folder, hstu_error *err)
{
    found->n = 0;
    DIR *dir = opendir(folder);
    if (!dir && (errno == ENOENT || errno == ENOTDIR))
        return HSTU_OK;
    if (!dir)
        return hs_fail_errno(err, errno, "cannot read the folder '%s'", folder);
    hstu_status status = HSTU_OK;
    const struct dirent *entry;
    while (status == HSTU_OK && (entry = readdir(dir))) {
        found_log log;
        if (strlen(entry->d_name) >= sizeof log.name || !is_log(entry->d_name, set->suffix, &log.stem_len))
            continue;
        (void)snprintf(log.name, sizeof log.name, "%s", entry->d_name);
        log.place = published_place(set, log.name, log.stem_len);
        if (found->n == HS_EVENTS_MAX_LOGS)
            status = hs_fail(
                err, HSTU_EUNSUP, 0, "'%s' holds more than %d logs of %s", folder, HS_EVENTS_MAX_LOGS, set->name);
        else
            found->log[found->n++] = log;
    }
    (void)closedir(dir);
    qsort(found->log, found->n, sizeof *found->log, compare_logs);
    return status;
}

/* A folder of data_root whose name is `name` but for the case of letters; the first by name. False when there is none. */
static bool folder_ignoring_case(hs_path *out, const char *data_root, const char *name)
{
    DIR *dir = opendir(data_root);
    if (!dir)
        return false;
    bool any = false;
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        hs_path path;
        if (strcasecmp(entry->d_name, name) != 0 || hs_path_join(&path, data_root, entry->d_name, NULL) != HSTU_OK ||
            !hs_path_is_folder(path.text) || (any && strcmp(path.text, out->text) >= 0))
            continue;
        *out = path;
        any = true;
    }
    (void)closedir(dir);
    return any;
}

/* Finds the folder that holds logs: sets files->folder, *logs_folder and found. */
static hstu_status find_folder(hs_kuairand_files *files, hs_path *logs_folder, found_logs *found,
    const hs_kuairand_set *set, const char *data_root, const char *dataset_name, hstu_error *err)
{
    hs_path candidate[3];
    size_t n = 2;
    HS_TRY(hs_path_join(&candidate[0], data_root, dataset_name, err));
    HS_TRY(hs_path_join(&candidate[1], data_root, set->name, err));
    n += folder_ignoring_case(&candidate[2], data_root, set->name);
    for (size_t i = 0; i < n; i++) {
        hs_path data;
        HS_TRY(hs_path_join(&data, candidate[i].text, "data", err));
        const hs_path *place[] = {&data, &candidate[i]};
        for (size_t k = 0; k < 2; k++) {
            HS_TRY(scan_logs(found, set, place[k]->text, err));
            if (found->n) {
                files->folder = candidate[i];
                *logs_folder = *place[k];
                return HSTU_OK;
            }
        }
    }
    size_t known = n;
    for (size_t i = n; i-- > 0;)
        known = hs_path_is_folder(candidate[i].text) ? i : known;
    const hs_path *shown = &candidate[known < n ? known : 1];
    return hs_fail(err, HSTU_ENOENT, 0, "'%s/data/%s.csv' does not exist: extract %s there, or directly into '%s'",
        shown->text, set->log[0], set->name, shown->text);
}

static bool is_found(const found_logs *found, size_t place)
{
    for (size_t i = 0; i < found->n; i++) {
        if (found->log[i].place == place)
            return true;
    }
    return false;
}

static hstu_status check_published(const found_logs *found, const hs_kuairand_set *set, const char *folder,
    int allow_missing, hs_warnings *warnings, hstu_error *err)
{
    for (size_t i = 0; set->log[i]; i++) {
        if (is_found(found, i))
            continue;
        if (!allow_missing)
            return hs_fail(err, HSTU_ENOENT, 0,
                "'%s/%s.csv' does not exist: %s has it; put it there, or go on without it with --allow_missing_logs",
                folder, set->log[i], set->name);
        HS_TRY(hs_warnings_add(warnings, err, "the log %s.csv of %s is missing", set->log[i], set->name));
    }
    return HSTU_OK;
}

static hstu_status find_user_features(
    hs_kuairand_files *files, const hs_kuairand_set *set, const char *folder, hs_warnings *warnings, hstu_error *err)
{
    static const char *const ending[] = {"csv", "csv.gz"};
    files->user_features.text[0] = '\0';
    for (size_t i = 0; i < 2; i++) {
        char name[64];
        hs_path path;
        (void)snprintf(name, sizeof name, "user_features_%s.%s", set->suffix, ending[i]);
        HS_TRY(hs_path_join(&path, folder, name, err));
        FILE *file = fopen(path.text, "rbe");
        if (file) {
            (void)fclose(file);
            files->user_features = path;
            return HSTU_OK;
        }
        if (errno != ENOENT)
            return hs_fail_errno(err, errno, "cannot open '%s'", path.text);
    }
    return hs_warnings_add(
        warnings, err, "user_features_%s.csv is missing, so users have no contextual features", set->suffix);
}

/* Keeps the logs that are read, with a warning for each that is not a published one. */
static hstu_status take_logs(
    hs_kuairand_files *files, const found_logs *found, const char *folder, hs_warnings *warnings, hstu_error *err)
{
    files->n_logs = 0;
    for (size_t i = 0; i < found->n; i++) {
        const found_log *log = &found->log[i], *previous = i ? &found->log[i - 1] : NULL;
        if (previous && previous->stem_len == log->stem_len && memcmp(previous->name, log->name, log->stem_len) == 0) {
            HS_TRY(hs_warnings_add(
                warnings, err, "%s is not read, because %s stands beside it", log->name, previous->name));
            continue;
        }
        if (log->place == HS_KUAIRAND_MAX_PUBLISHED)
            HS_TRY(hs_warnings_add(
                warnings, err, "%s is no published file of the data set, and its rows are used too", log->name));
        HS_TRY(hs_path_join(&files->log[files->n_logs++], folder, log->name, err));
    }
    return HSTU_OK;
}

hstu_status hs_kuairand_files_find(hs_kuairand_files *out, const hs_kuairand_set *set, const char *data_root,
    const char *dataset_name, int allow_missing, hs_warnings *warnings, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    hs_path logs_folder;
    found_logs *found = hs_calloc(1, sizeof *found);
    hs_kuairand_files *files = hs_calloc(1, sizeof *files);
    if (!found || !files) {
        status = hs_fail_nomem(err, sizeof *files, "the list of logs");
        goto fail;
    }
    HS_TRY_GOTO(find_folder(files, &logs_folder, found, set, data_root, dataset_name, err));
    HS_TRY_GOTO(check_published(found, set, logs_folder.text, allow_missing, warnings, err));
    HS_TRY_GOTO(take_logs(files, found, logs_folder.text, warnings, err));
    HS_TRY_GOTO(find_user_features(files, set, logs_folder.text, warnings, err));
    *out = *files;
fail:
    hs_free(found);
    hs_free(files);
    return status;
}
