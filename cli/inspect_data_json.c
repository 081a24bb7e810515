/* What a data set holds, as JSON. */
#include "base/error.h"
#include "base/path.h"
#include "cli/inspect_data.h"
#include "cli/json_writer.h"

#include <stdio.h>

enum { MAX_JSON_BYTES = 1 << 20 };

static const char *const kind_key[] = {[HSTU_DATASET_EVENTS] = "events",
    [HSTU_DATASET_SESSIONS] = "sessions",
    [HSTU_DATASET_SASREC] = "sasrec",
    [HSTU_DATASET_RANKING] = "ranking"};

static void put_files(hs_json_writer *w, const hs_data_folder *folder)
{
    hs_json_key(w, "files");
    hs_json_begin(w, '[');
    for (size_t i = 0; i < folder->n; i++) {
        hs_json_begin(w, '{');
        hs_json_pair_text(w, "name", folder->file[i].name);
        hs_json_pair_int(w, "bytes", (int64_t)folder->file[i].bytes);
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
    hs_json_pair_text(w, "raw_dataset", folder->set);
    hs_json_pair_text(w, "preprocess", folder->set ? folder->command : NULL);
}

static void put_actions(hs_json_writer *w, const hstu_summary *s)
{
    hs_json_key(w, "actions");
    hs_json_begin(w, '{');
    for (int action = 0; action < HSTU_SUMMARY_ACTIONS; action++) {
        char key[8];
        (void)snprintf(key, sizeof key, "%d", action);
        if (s->n_with_action[action])
            hs_json_pair_int(w, key, s->n_with_action[action]);
    }
    hs_json_end(w, '}');
    hs_json_key(w, "action_rates");
    if (!s->action_is_mask) {
        hs_json_put_text(w, NULL);
        return;
    }
    hs_json_begin(w, '{');
    for (int bit = 0; bit < 8; bit++) {
        int64_t n = 0;
        for (int action = 0; action < HSTU_SUMMARY_ACTIONS; action++)
            n += action >> bit & 1 ? s->n_with_action[action] : 0;
        hs_json_pair_double(w, hs_action_name[bit], s->n_events ? (double)n / (double)s->n_events : 0, 9);
    }
    hs_json_end(w, '}');
}

static void put_time(hs_json_writer *w, const char *key, const hstu_summary *s, int64_t ms)
{
    char text[32], whole[64];
    hs_format_time(ms, text);
    (void)snprintf(whole, sizeof whole, "%s UTC", text);
    hs_json_pair_text(w, key, s->has_time ? whole : NULL);
}

static void put_summary(hs_json_writer *w, const hstu_dataset_info *info, const hstu_summary *s)
{
    hs_json_pair_text(w, "name", info->name);
    hs_json_pair_text(w, "kind", kind_key[info->kind]);
    hs_json_pair_int(w, "users", s->n_users);
    hs_json_pair_int(w, "items", s->n_items);
    hs_json_pair_int(w, "max_item", info->max_item);
    hs_json_pair_int(w, "events", s->n_events);
    hs_json_pair_int(w, "sequences", s->n_sequences);
    hs_json_key(w, "duplicates");
    if (s->n_duplicates < 0)
        hs_json_put_text(w, NULL);
    else
        hs_json_put_int(w, s->n_duplicates);
    put_time(w, "first", s, s->first_ms);
    put_time(w, "last", s, s->last_ms);
    hs_json_key(w, "length");
    hs_json_begin(w, '{');
    for (int k = 0; k < HSTU_SUMMARY_PERCENTILES; k++) {
        char key[8];
        (void)snprintf(key, sizeof key, "p%d", s->percent[k]);
        hs_json_pair_int(w, key, s->length[k]);
    }
    hs_json_end(w, '}');
    put_actions(w, s);
    hs_json_key(w, "top_items");
    hs_json_begin(w, '[');
    for (int64_t i = 0; i < s->n_top; i++) {
        hs_json_begin(w, '{');
        hs_json_pair_int(w, "item", s->top_item[i]);
        hs_json_pair_int(w, "events", s->top_events[i]);
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
}

hstu_status hs_inspect_data_json(const char *path, const hs_data_folder *folder, const hstu_dataset_info *info,
    const hstu_summary *summary, hstu_error *err)
{
    hs_dynbuf out;
    hs_json_writer w;
    hstu_status status = HSTU_OK;
    hs_dynbuf_init(&out, MAX_JSON_BYTES);
    hs_json_writer_init(&w, &out, 2);
    hs_json_begin(&w, '{');
    hs_json_pair_text(&w, folder ? "folder" : "file", path);
    if (folder)
        put_files(&w, folder);
    if (folder && folder->best[0])
        hs_json_pair_text(&w, "sequences_file", hs_path_base(folder->best));
    if (summary)
        put_summary(&w, info, summary);
    hs_json_end(&w, '}');
    if (w.failed || !hs_dynbuf_append_text(&out, "\n"))
        status = hs_fail_nomem(err, MAX_JSON_BYTES, "the summary");
    if (status == HSTU_OK)
        (void)fwrite(out.data, 1, out.len, stdout); /* checked when the program ends */
    hs_dynbuf_free(&out);
    return status;
}
