/* Preprocessing of custom logs: events, and what numbers stand for ids that are texts. */
#include "data/preprocess_sets.h"

#include "base/error.h"
#include "base/folder.h"
#include "base/mapfile.h"
#include "data/custom.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { USER_IDS, ITEM_IDS, N_MORE, TEXT_SHARE = 8 };

static const char set_name[] = "custom";

/* Everything that one run holds. */
typedef struct custom_run {
    hs_preprocessing *p;
    hs_custom custom;
} custom_run;

static hstu_status make_folder(hs_path *out, const char *data_root, hstu_error *err)
{
    HS_TRY(hs_path_join(out, data_root, set_name, err));
    return hs_folder_make(out->text, err);
}

/* Results replace what stands under their names, and remove older ones. */
static hstu_status check_inputs(const custom_run *c, hstu_error *err)
{
    const hstu_preprocess_options *o = c->p->options;
    const hs_event_files *files = &c->p->files;
    const hs_path *const result[] = {&files->sequences_path, &files->sessions_path, &files->ranking_path,
        &files->metadata_path, &files->more_path[USER_IDS], &files->more_path[ITEM_IDS]};
    for (size_t i = 0; i < o->n_inputs; i++) {
        for (size_t k = 0; k < sizeof result / sizeof *result; k++) {
            if (hs_mapfile_same(o->input[i], result[k]->text))
                return hs_fail(err, HSTU_EINVAL, 0,
                    "the input '%s' stands where a result is written: rename it or choose another data_root",
                    o->input[i]);
        }
    }
    return HSTU_OK;
}

/* Names may hold any byte; what is kept must be valid JSON in UTF-8. */
static void make_plain(char *text)
{
    for (char *c = text; *c; c++)
        *c = (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e ? '?' : *c;
}

/* What decides over the events, beside the files. */
static hstu_status keep_options(custom_run *c, hstu_error *err)
{
    const hstu_preprocess_options *o = c->p->options;
    const struct {
        const char *key, *value;
    } text[] = {{"user_column", o->user_column}, {"item_column", o->item_column}, {"time_column", o->time_column},
        {"time_unit", o->time_unit}, {"action_columns", o->action_columns}, {"delimiter", o->delimiter}};
    cJSON *object = cJSON_CreateObject();
    c->p->set_options = object;
    bool ok = object != NULL;
    for (size_t i = 0; ok && i < sizeof text / sizeof *text; i++) {
        cJSON *item = cJSON_AddStringToObject(object, text[i].key, text[i].value ? text[i].value : "");
        ok = item != NULL;
        if (ok)
            make_plain(item->valuestring);
    }
    ok = ok && cJSON_AddBoolToObject(object, "text_ids", o->text_ids != 0);
    return ok ? HSTU_OK : hs_fail_nomem(err, sizeof *object, "the options");
}

/* Texts that come late make all that was read void. */
static hstu_status read_logs(custom_run *c, hstu_error *err)
{
    const hstu_preprocess_options *o = c->p->options;
    bool again = true;
    while (again) {
        HS_TRY(hs_preprocessing_begin(c->p, err));
        HS_TRY(hs_custom_read(&c->custom, c->p->sink, &c->p->warnings, &again, err));
    }
    for (size_t i = 0; i < o->n_inputs; i++) {
        char name[NAME_MAX + 1];
        (void)snprintf(name, sizeof name, "%s", hs_path_base(o->input[i]));
        make_plain(name);
        HS_TRY(hs_preprocessing_input(c->p, name, c->custom.input[i].bytes, c->custom.input[i].hash, err));
    }
    return hs_preprocessing_finish(c->p, "the logs", err);
}

static hstu_status write_ids(custom_run *c, hstu_error *err)
{
    hs_event_files *files = &c->p->files;
    if (c->custom.users.are_texts)
        HS_TRY(hs_idtexts_write(
            &files->more[USER_IDS], files->more_path[USER_IDS].text, &c->custom.users.texts, "user_id", err));
    if (c->custom.items.are_texts)
        HS_TRY(hs_idtexts_write(
            &files->more[ITEM_IDS], files->more_path[ITEM_IDS].text, &c->custom.items.texts, "item_id", err));
    return HSTU_OK;
}

static hstu_status run_all(custom_run *c, hstu_error *err)
{
    hs_preprocessing *p = c->p;
    const uint64_t text_bytes = p->options->memory_limit / TEXT_SHARE;
    hs_path folder;
    HS_TRY(hs_custom_open(&c->custom, p->options, text_bytes < SIZE_MAX ? (size_t)text_bytes : SIZE_MAX, err));
    HS_TRY(keep_options(c, err));
    HS_TRY(make_folder(&folder, p->options->data_root, err));
    HS_TRY(hs_preprocessing_name(p, folder.text, err));
    HS_TRY(hs_path_join(&p->files.more_path[USER_IDS], folder.text, "user_ids.csv", err));
    HS_TRY(hs_path_join(&p->files.more_path[ITEM_IDS], folder.text, "item_ids.csv", err));
    p->files.n_more = N_MORE;
    HS_TRY(check_inputs(c, err));
    p->set_bytes = 2 * text_bytes;
    HS_TRY(read_logs(c, err));
    HS_TRY(write_ids(c, err));
    return hs_preprocessing_write(p, false, err);
}

static void fill_report(const custom_run *c, hstu_preprocess_report *report)
{
    const hs_event_files *files = &c->p->files;
    hs_preprocessing_report(c->p, report);
    if (c->custom.users.are_texts)
        memcpy(report->user_ids_path, files->more_path[USER_IDS].text, sizeof report->user_ids_path);
    if (c->custom.items.are_texts)
        memcpy(report->item_ids_path, files->more_path[ITEM_IDS].text, sizeof report->item_ids_path);
}

bool hs_custom_knows(const char *dataset_name)
{
    return strcasecmp(dataset_name, set_name) == 0;
}

hstu_status hs_custom_preprocess(hs_preprocessing *p, hstu_preprocess_report *report, hstu_error *err)
{
    custom_run c = {.p = p};
    p->dataset_name = set_name;
    const hstu_status status = run_all(&c, err);
    if (status == HSTU_OK)
        fill_report(&c, report);
    hs_custom_close(&c.custom);
    return status;
}
