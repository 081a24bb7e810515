/* NVIDIA's processed_seqs.csv, byte for byte what recsys-examples' preprocessing writes with pandas: its inner merges
 * leave out users that a log or the features file lacks; a list is quoted only where it holds a comma. */
#include "data/ranking_csv.h"

#include "base/error.h"
#include "data/feedback.h"

#include <string.h>

enum { CHECK_USERS = 256, PIECE_BYTES = 1 << 14, NUMBER_BYTES = 24 };

/* The lists, in the order of the file's columns. */
typedef enum list { LIST_ITEM, LIST_TIME, LIST_ACTION, LIST_PLAY_TIME, LIST_DURATION, N_LISTS } list;

/* Large sets have billions of numbers, too many for one formatted write each. */
typedef struct writer {
    hs_outfile *file;
    hstu_error *err;
    size_t n; /* bytes of `text` that wait */
    char text[PIECE_BYTES];
} writer;

static bool has_row(const hs_event_view *view, const hs_features *features, size_t n_logs, int64_t user)
{
    return features->code[0][user] && hs_event_view_in_every_log(view, user, n_logs);
}

uint64_t hs_ranking_csv_users(const hs_event_view *view, const hs_features *features, size_t n_logs)
{
    uint64_t n = 0;
    for (int64_t user = 0; user < view->n_users; user++)
        n += has_row(view, features, n_logs, user);
    return n;
}

static hstu_status flush(writer *w)
{
    const size_t n = w->n;
    w->n = 0;
    return hs_outfile_write(w->file, w->text, n, w->err);
}

static hstu_status put(writer *w, const char *text, size_t n)
{
    if (n > PIECE_BYTES - w->n)
        HS_TRY(flush(w));
    if (n > PIECE_BYTES)
        return hs_outfile_write(w->file, text, n, w->err);
    if (n)
        memcpy(w->text + w->n, text, n);
    w->n += n;
    return HSTU_OK;
}

static hstu_status put_number(writer *w, int64_t value)
{
    char text[NUMBER_BYTES];
    size_t first = sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        text[--first] = (char)('0' + left % 10);
    while ((left /= 10) != 0);
    if (value < 0)
        text[--first] = '-';
    return put(w, text + first, sizeof text - first);
}

static int64_t list_value(const hs_event_view *view, list column, int64_t i)
{
    switch (column) {
    case LIST_ITEM:
        return view->item[i];
    case LIST_TIME:
        return view->time_ms[i];
    case LIST_ACTION:
        return view->action[i];
    case LIST_PLAY_TIME:
        return view->play_time_ms[i];
    default:
        return view->duration_ms[i];
    }
}

static hstu_status put_list(writer *w, const hs_event_view *view, list column, int64_t first, int64_t end)
{
    const bool quoted = end - first > 1;
    HS_TRY(put(w, ",\"[", quoted ? 3 : 1));
    if (!quoted)
        HS_TRY(put(w, "[", 1));
    for (int64_t i = first; i < end; i++) {
        if (i > first)
            HS_TRY(put(w, ", ", 2));
        HS_TRY(put_number(w, list_value(view, column, i)));
    }
    return put(w, "]\"", quoted ? 2 : 1);
}

static hstu_status put_user(writer *w, const hs_event_view *view, const hs_features *features, int64_t user)
{
    const hs_feature_row *row = &features->row[user];
    HS_TRY(put_number(w, view->user_id[user]));
    for (int column = 0; column < N_LISTS; column++)
        HS_TRY(put_list(w, view, (list)column, view->offset[user], view->offset[user + 1]));
    HS_TRY(put(w, features->text.data + row->first, row->len));
    return put(w, "\n", 1);
}

static hstu_status put_rows(
    writer *w, const hs_event_view *view, const hs_features *features, size_t n_logs, const hstu_progress *progress)
{
    static const char events[] = "user_id,video_id,time_ms,action_weights,play_time_ms,duration_ms";
    HS_TRY(put(w, events, sizeof events - 1));
    HS_TRY(put(w, features->header.data, features->header.len));
    HS_TRY(put(w, "\n", 1));
    for (int64_t user = 0; user < view->n_users; user++) {
        if (user % CHECK_USERS == 0) {
            HS_TRY(hs_progress_check(progress, w->err));
            hs_progress_step(progress, "writing users", (uint64_t)view->offset[user], (uint64_t)view->n_events);
        }
        if (has_row(view, features, n_logs, user))
            HS_TRY(put_user(w, view, features, user));
    }
    return flush(w);
}

hstu_status hs_ranking_csv_write(hs_outfile **out, const char *path, const hs_event_view *view,
    const hs_features *features, size_t n_logs, const hstu_progress *progress, hstu_error *err)
{
    writer w = {.err = err};
    HS_TRY(hs_outfile_open(&w.file, path, err));
    const hstu_status status = put_rows(&w, view, features, n_logs, progress);
    if (status != HSTU_OK)
        hs_outfile_discard(w.file);
    else
        *out = w.file;
    return status;
}
