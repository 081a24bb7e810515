/* Writing MovieLens for the references. pandas quotes a cell only where it holds a comma; integers that were joined with
 * rows that lack some become floats. */
#include "data/movielens_csv.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/textout.h"

#include <string.h>

enum { MS_PER_S = 1000 };

struct hs_movielens_csv {
    hs_textout to;
    hs_movielens_events from;
    bool users_lacking; /* users.dat lacks some user */
    uint64_t n_rows;
    void (*put)(hs_movielens_csv *csv, const hs_event_block *block, int64_t user);
};

/* ---- Meta ------------------------------------------------------------------------------------------------------- */

static void put_rating(hs_movielens_csv *w, int64_t class)
{
    const int64_t halves = w->from.halves ? class + 1 : 2 * (class + 1);
    hs_textout_int(&w->to, halves / 2);
    if (w->from.fractions)
        hs_textout_text(&w->to, halves % 2 ? ".5" : ".0");
}

/* ",<a>,<b>", in quotes where there are several. */
static void put_bare(hs_movielens_csv *w, const hs_event_view *view, int64_t user, char what)
{
    const int64_t first = view->offset[user], end = view->offset[user + 1];
    const char *quote = end - first > 1 ? "\"" : "";
    hs_textout_text(&w->to, ",");
    hs_textout_text(&w->to, quote);
    for (int64_t i = first; i < end; i++) {
        if (i > first)
            hs_textout_text(&w->to, ",");
        if (what == 'i')
            hs_textout_int(&w->to, view->item[i]);
        else if (what == 'r')
            put_rating(w, view->action[i]);
        else
            hs_textout_int(&w->to, view->time_ms[i] / MS_PER_S);
    }
    hs_textout_text(&w->to, quote);
}

static void put_sorted_codes(hs_movielens_csv *w, int64_t id)
{
    const int64_t row = hs_mlusers_find(w->from.users, id);
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        hs_textout_text(&w->to, ",");
        if (row >= 0)
            hs_textout_int(&w->to, w->from.users->sorted[c][row]);
        if (row >= 0 && w->users_lacking)
            hs_textout_text(&w->to, ".0");
    }
}

static void put_sasrec(hs_movielens_csv *w, const hs_event_block *block, int64_t user)
{
    hs_textout_int(&w->to, block->first_user + user);
    hs_textout_text(&w->to, ",");
    hs_textout_int(&w->to, block->view.user_id[user]);
    put_bare(w, &block->view, user, 'i');
    put_bare(w, &block->view, user, 'r');
    put_bare(w, &block->view, user, 't');
    if (w->from.users)
        put_sorted_codes(w, block->view.user_id[user]);
    hs_textout_text(&w->to, "\n");
    w->n_rows++;
}

/* ---- NVIDIA ----------------------------------------------------------------------------------------------------- */

/* ",[<a>, <b>]", in quotes where there are several. */
static void put_list(hs_movielens_csv *w, const hs_event_view *view, int64_t user, char what)
{
    const int64_t first = view->offset[user], end = view->offset[user + 1];
    hs_textout_text(&w->to, end - first > 1 ? ",\"[" : ",[");
    for (int64_t i = first; i < end; i++) {
        if (i > first)
            hs_textout_text(&w->to, ", ");
        hs_textout_int(&w->to, what == 'i'   ? view->item[i]
                               : what == 'r' ? view->action[i]
                                             : view->time_ms[i] / MS_PER_S);
    }
    hs_textout_text(&w->to, end - first > 1 ? "]\"" : "]");
}

static void put_ranking(hs_movielens_csv *w, const hs_event_block *block, int64_t user)
{
    const hs_mlusers *users = w->from.users;
    const int64_t id = block->view.user_id[user], row = users ? hs_mlusers_find(users, id) : -1;
    if (users && row < 0)
        return;
    hs_textout_int(&w->to, id);
    put_list(w, &block->view, user, 'i');
    put_list(w, &block->view, user, 'r');
    put_list(w, &block->view, user, 't');
    for (size_t c = 0; users && c < HS_ML_COLUMNS; c++) {
        hs_textout_text(&w->to, ",");
        hs_textout_int(&w->to, users->first[c][row]);
    }
    hs_textout_text(&w->to, "\n");
    w->n_rows++;
}

/* ---- Both ------------------------------------------------------------------------------------------------------- */

static bool lacks_some(const hs_movielens_events *from)
{
    for (int64_t i = 0; from->users && i < from->all->n; i++) {
        if (hs_mlusers_find(from->users, from->all->id[i]) < 0)
            return true;
    }
    return false;
}

static hstu_status open_file(hs_movielens_csv **out, const char *path, const hs_movielens_events *from,
    const char *header, void (*put)(hs_movielens_csv *csv, const hs_event_block *block, int64_t user), hstu_error *err)
{
    hs_movielens_csv *w = hs_calloc(1, sizeof *w);
    if (!w)
        return hs_fail_nomem(err, sizeof *w, path);
    *w = (hs_movielens_csv){.from = *from, .users_lacking = lacks_some(from), .put = put};
    const hstu_status status = hs_outfile_open(&w->to.file, path, err);
    if (status != HSTU_OK) {
        hs_free(w);
        return status;
    }
    hs_textout_text(&w->to, header);
    for (size_t c = 0; from->users && c < HS_ML_COLUMNS; c++) {
        hs_textout_text(&w->to, ",");
        hs_textout_text(&w->to, hs_ml_column[c]);
    }
    hs_textout_text(&w->to, "\n");
    *out = w;
    return HSTU_OK;
}

hstu_status hs_sasrec_csv_open(
    hs_movielens_csv **out, const char *path, const hs_movielens_events *from, hstu_error *err)
{
    return open_file(
        out, path, from, "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps", put_sasrec, err);
}

hstu_status hs_movielens_csv_open(
    hs_movielens_csv **out, const char *path, const hs_movielens_events *from, hstu_error *err)
{
    return open_file(out, path, from, "user_id,movie_id,rating,unix_timestamp", put_ranking, err);
}

hstu_status hs_movielens_csv_put(hs_movielens_csv *csv, const hs_event_block *block, hstu_error *err)
{
    csv->to.err = err;
    for (int64_t user = 0; user < block->view.n_users && csv->to.status == HSTU_OK; user++)
        csv->put(csv, block, user);
    csv->to.err = NULL;
    return csv->to.status;
}

hstu_status hs_movielens_csv_finish(hs_outfile **out, hs_movielens_csv *csv, uint64_t *n_rows, hstu_error *err)
{
    csv->to.err = err;
    const hstu_status status = hs_textout_flush(&csv->to);
    if (status != HSTU_OK) {
        hs_movielens_csv_discard(csv);
        return status;
    }
    if (n_rows)
        *n_rows = csv->n_rows;
    *out = csv->to.file;
    hs_free(csv);
    return HSTU_OK;
}

void hs_movielens_csv_discard(hs_movielens_csv *csv)
{
    if (!csv)
        return;
    hs_outfile_discard(csv->to.file);
    hs_free(csv);
}

hstu_status hs_candidates_write(hs_outfile **out, const char *path, const hs_intlist *ids, hstu_error *err)
{
    hs_outfile *file = NULL;
    HS_TRY(hs_outfile_open(&file, path, err));
    hs_textout to = {.file = file, .err = err};
    for (size_t i = 0; i < ids->n; i++) {
        hs_textout_int(&to, ids->value[i]);
        hs_textout_text(&to, "\n");
    }
    const hstu_status status = hs_textout_flush(&to);
    if (status != HSTU_OK)
        hs_outfile_discard(file);
    else
        *out = file;
    return status;
}
