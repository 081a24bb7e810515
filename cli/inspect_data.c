/* What a data set holds, for a person. */
#include "cli/inspect_data.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *const hs_action_name[8] = {
    "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"};

static const char *const kind_name[] = {[HSTU_DATASET_EVENTS] = "every event of whole users",
    [HSTU_DATASET_SESSIONS] = "sessions",
    [HSTU_DATASET_SASREC] = "whole users, in Meta's layout",
    [HSTU_DATASET_RANKING] = "whole users, in NVIDIA's layout"};

enum { MAX_VALUES = 16 };

void hs_format_time(int64_t ms, char out[32])
{
    struct tm tm;
    const time_t seconds = (time_t)(ms / 1000 - (ms % 1000 < 0));
    if (!gmtime_r(&seconds, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        (void)snprintf(out, 32, "%" PRId64 " ms", ms);
}

static void print_lengths(const hstu_summary *s, hstu_dataset_kind kind)
{
    (void)printf("\nevents of a %s\n  ", kind == HSTU_DATASET_SESSIONS ? "session" : "user");
    for (int k = 0; k < HSTU_SUMMARY_PERCENTILES; k++)
        (void)printf("%10s%-3d", "p", s->percent[k]);
    (void)printf("\n  ");
    for (int k = 0; k < HSTU_SUMMARY_PERCENTILES; k++)
        (void)printf("%12" PRId64 " ", s->length[k]);
    (void)putchar('\n');
}

static double share(int64_t part, int64_t all)
{
    return all > 0 ? (double)part / (double)all : 0;
}

static void print_actions(const hstu_summary *s)
{
    int printed = 0;
    (void)printf(
        "\n%s\n", s->action_is_mask ? "action                share of the events" : "action or rating      events");
    if (s->action_is_mask) {
        for (int bit = 0; bit < 8; bit++) {
            int64_t n = 0;
            for (int action = 0; action < HSTU_SUMMARY_ACTIONS; action++)
                n += action >> bit & 1 ? s->n_with_action[action] : 0;
            (void)printf("  %-20s%.5f\n", hs_action_name[bit], share(n, s->n_events));
        }
        return;
    }
    for (int action = 0; action < HSTU_SUMMARY_ACTIONS && printed < MAX_VALUES; action++) {
        if (s->n_with_action[action] && ++printed)
            (void)printf("  %-20d%" PRId64 " (%.4f)\n", action, s->n_with_action[action],
                share(s->n_with_action[action], s->n_events));
    }
}

static void print_top(const hstu_summary *s)
{
    (void)printf("\nitems with most events\n");
    for (int64_t i = 0; i < s->n_top; i++)
        (void)printf("  %-20" PRId64 "%" PRId64 " (%.5f)\n", s->top_item[i], s->top_events[i],
            share(s->top_events[i], s->n_events));
}

static void print_summary(const hstu_dataset_info *info, const hstu_summary *s)
{
    char from[32], to[32], name[256];
    (void)snprintf(name, sizeof name, "%s", info->name);
    hs_console_clean(name);
    (void)printf("%s: %s\n", name, kind_name[info->kind]);
    (void)printf("users       %" PRId64 "\nitems       %" PRId64 " (largest id %" PRId64 ")\nevents      %" PRId64 "\n",
        s->n_users, s->n_items, info->max_item, s->n_events);
    if (info->kind == HSTU_DATASET_SESSIONS)
        (void)printf("sessions    %" PRId64 "\n", s->n_sequences);
    if (s->n_duplicates >= 0)
        (void)printf(
            "duplicates  %" PRId64 " (%.4f of the events)\n", s->n_duplicates, share(s->n_duplicates, s->n_events));
    if (s->has_time) {
        hs_format_time(s->first_ms, from);
        hs_format_time(s->last_ms, to);
        (void)printf("time        %s to %s UTC\n", from, to);
    }
    if (s->n_events > 0) {
        print_lengths(s, info->kind);
        print_actions(s);
        print_top(s);
    }
}

static void print_folder(const char *path, const hs_data_folder *folder)
{
    (void)printf("%s\n", path);
    for (size_t i = 0; i < folder->n; i++) {
        char name[sizeof folder->file[i].name];
        (void)memcpy(name, folder->file[i].name, sizeof name);
        hs_console_clean(name);
        (void)printf("  %-44s%14" PRIu64 " bytes\n", name, folder->file[i].bytes);
    }
    if (folder->best[0])
        (void)printf("\n%s: ", hs_path_base(folder->best));
    else if (folder->set)
        (void)printf("\nnot preprocessed yet: %s\n", folder->command);
}

static hstu_status inspect_file(
    const char *path, const char *shown, const hs_data_folder *folder, bool json, hs_console *console, hstu_error *err)
{
    hstu_dataset *dataset = NULL;
    hstu_dataset_info info;
    hstu_summary summary;
    HS_TRY(hstu_dataset_open(&dataset, path, &console->progress, err));
    hstu_dataset_get_info(dataset, &info);
    hstu_status status = hstu_summary_make(&summary, dataset, &console->progress, err);
    hs_console_clear(console);
    if (status == HSTU_OK && json) {
        status = hs_inspect_data_json(shown, folder, &info, &summary, err);
    } else if (status == HSTU_OK) {
        if (folder)
            print_folder(shown, folder);
        print_summary(&info, &summary);
    }
    hstu_dataset_close(dataset);
    return status;
}

static bool holds_data(const hs_data_folder *folder)
{
    return folder->set || folder->best[0];
}

/* The data sets whose folders lie in `path`, as text; "" when there are none. */
static hstu_status list_sets(const char *path, char *out, size_t size, hstu_error *err)
{
    hs_folder names = {0};
    hs_data_folder *folder = hs_calloc(1, sizeof *folder);
    size_t n = 0;
    out[0] = '\0';
    if (!folder)
        return hs_fail_nomem(err, sizeof *folder, path);
    hstu_status status = hs_folder_list(&names, path, err);
    for (size_t i = 0; status == HSTU_OK && i < names.n && n < size; i++) {
        hs_path below;
        if (strcmp(names.name[i], "data") != 0 && hs_path_join(&below, path, names.name[i], NULL) == HSTU_OK &&
            hs_path_is_folder(below.text) && hs_data_folder_read(folder, below.text, NULL) == HSTU_OK &&
            holds_data(folder))
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", names.name[i]);
    }
    hs_folder_free(&names);
    hs_free(folder);
    return status;
}

bool hs_inspect_is_data(const char *path)
{
    char sets[64];
    if (!hs_path_is_folder(path))
        return hstu_dataset_recognise(path) || hs_data_file_set(hs_path_base(path));
    hs_data_folder *folder = hs_calloc(1, sizeof *folder);
    const bool has_files = folder && hs_data_folder_read(folder, path, NULL) == HSTU_OK && holds_data(folder);
    hs_free(folder);
    return has_files || (list_sets(path, sets, sizeof sets, NULL) == HSTU_OK && sets[0]);
}

static hstu_status inspect_folder(
    hs_data_folder *folder, const char *path, bool json, hs_console *console, hstu_error *err)
{
    char sets[256];
    HS_TRY(hs_data_folder_read(folder, path, err));
    if (!holds_data(folder)) {
        HS_TRY(list_sets(path, sets, sizeof sets, err));
        return hs_fail(err, HSTU_EINVAL, 0, "'%s' holds folders of data sets (%s): name one of them", path, sets);
    }
    if (folder->best[0])
        return inspect_file(folder->best, path, folder, json, console, err);
    if (json)
        return hs_inspect_data_json(path, folder, NULL, NULL, err);
    print_folder(path, folder);
    return HSTU_OK;
}

hstu_status hs_inspect_data(const char *path, bool json, hs_console *console, hstu_error *err)
{
    const char *set = hs_path_is_folder(path) ? NULL : hs_data_file_set(hs_path_base(path));
    if (set)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' is a raw file of %s: inspect its folder, or, when hstu preprocess has read it, sequences.safetensors",
            path, set);
    if (!hs_path_is_folder(path))
        return inspect_file(path, path, NULL, json, console, err);
    hs_data_folder *folder = hs_alloc(1, sizeof *folder);
    if (!folder)
        return hs_fail_nomem(err, sizeof *folder, path);
    const hstu_status status = inspect_folder(folder, path, json, console, err);
    hs_free(folder);
    return status;
}
