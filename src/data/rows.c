/* Reading sequence files in text. */
#include "data/rows.h"

#include "base/error.h"
#include "data/feedback.h"
#include "data/number.h"

#include <inttypes.h>

enum { CHECK_ROWS = 256 };

/* The list columns of a format. */
typedef struct list_column {
    const char *name;
    hs_intlist_form form;
    int64_t min, max;
    size_t index;
    hs_intlist *list;
} list_column;

void hs_rows_free(hs_rows *rows)
{
    hs_intlist_free(&rows->user_id);
    hs_intlist_free(&rows->offset);
    hs_intlist_free(&rows->item);
    hs_intlist_free(&rows->action);
    hs_intlist_free(&rows->time);
}

/* Appends one cell's list to its column. */
static hstu_status read_list(const list_column *column, const hs_csv *csv, hstu_error *err)
{
    const hs_csv_field *field = &csv->field[column->index];
    const size_t first = column->list->n;
    const char *problem = NULL;
    size_t at = 0;
    if (!hs_intlist_parse(column->list, field->text, field->len, column->form, &problem, &at)) {
        if (!problem)
            return hs_fail_nomem(err, column->list->n * 2 * sizeof(int64_t), csv->path);
        const size_t left = at < field->len ? field->len - at : 0;
        return hs_csv_fail(csv, column->index, err, "%s at character %zu of the list, found '%.*s'", problem, at + 1,
            hs_number_shown(left), field->text + (left ? at : 0));
    }
    for (size_t i = first; i < column->list->n; i++) {
        const int64_t value = column->list->value[i];
        if (value < column->min || value > column->max)
            return hs_csv_fail(csv, column->index, err,
                "entry %zu must be an integer from %" PRId64 " to %" PRId64 ", not %" PRId64, i - first + 1,
                column->min, column->max, value);
    }
    return HSTU_OK;
}

/* Reads a row's lists, which must be equally long. */
static hstu_status read_lists(
    const list_column *column, size_t n_columns, size_t n_before, const hs_csv *csv, hstu_error *err)
{
    for (size_t c = 0; c < n_columns; c++) {
        HS_TRY(read_list(&column[c], csv, err));
        const size_t n = column[c].list->n - n_before, n_items = column[0].list->n - n_before;
        if (n != n_items)
            return hs_csv_fail(csv, column[c].index, err, "the list has %zu entries, but column %zu (%s) has %zu", n,
                column[0].index + 1, column[0].name, n_items);
    }
    return HSTU_OK;
}

/* Reads every row. length: NULL, or the name of a column that repeats the lists' length. */
static hstu_status read_rows(hs_rows *rows, list_column *column, size_t n_columns, const char *length, hs_csv *csv,
    const hstu_progress *progress, hstu_error *err)
{
    size_t user = 0, length_index = 0;
    HS_TRY(hs_csv_column(csv, "user_id", &user, err));
    for (size_t c = 0; c < n_columns; c++)
        HS_TRY(hs_csv_column(csv, column[c].name, &column[c].index, err));
    if (length)
        HS_TRY(hs_csv_column(csv, length, &length_index, err));
    if (!hs_intlist_push(&rows->offset, 0))
        return hs_fail_nomem(err, sizeof(int64_t), csv->path);
    for (uint64_t row = 0;; row++) {
        bool more = false;
        if (row % CHECK_ROWS == 0) {
            HS_TRY(hs_progress_check(progress, err));
            hs_progress_step(
                progress, "reading", hs_bytesource_done_bytes(csv->source), hs_bytesource_file_bytes(csv->source));
        }
        HS_TRY(hs_csv_next(csv, &more, err));
        if (!more)
            return HSTU_OK;
        const size_t n_before = rows->item.n;
        int64_t id = 0, n = 0;
        HS_TRY(hs_csv_int(csv, user, INT64_MIN, INT64_MAX, &id, err));
        HS_TRY(read_lists(column, n_columns, n_before, csv, err));
        const int64_t n_items = (int64_t)(rows->item.n - n_before);
        if (length)
            HS_TRY(hs_csv_int(csv, length_index, 0, INT64_MAX, &n, err));
        if (length && n != n_items)
            return hs_csv_fail(csv, length_index, err,
                "the length is %" PRId64 ", but the lists have %" PRId64 " entries", n, n_items);
        if (!hs_intlist_push(&rows->user_id, id) || !hs_intlist_push(&rows->offset, (int64_t)rows->item.n))
            return hs_fail_nomem(err, rows->offset.n * 2 * sizeof(int64_t), csv->path);
    }
}

hstu_status hs_session_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    hs_rows rows = {0};
    list_column column[] = {{"sequence", HS_INTLIST_JSON, 0, INT64_MAX - 1, 0, &rows.item},
        {"actions", HS_INTLIST_JSON, 0, UINT8_MAX, 0, &rows.action}};
    const hstu_status status = read_rows(&rows, column, sizeof column / sizeof *column, "length", csv, progress, err);
    if (status != HSTU_OK)
        hs_rows_free(&rows);
    else
        *out = rows;
    return status;
}

hstu_status hs_sasrec_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    hs_rows rows = {0};
    list_column column[] = {{"sequence_item_ids", HS_INTLIST_BARE, 0, INT64_MAX - 1, 0, &rows.item},
        {"sequence_ratings", HS_INTLIST_FRACTIONS, INT64_MIN, INT64_MAX, 0, &rows.action},
        {"sequence_timestamps", HS_INTLIST_BARE, INT64_MIN, INT64_MAX, 0, &rows.time}};
    const hstu_status status = read_rows(&rows, column, sizeof column / sizeof *column, NULL, csv, progress, err);
    if (status != HSTU_OK)
        hs_rows_free(&rows);
    else
        *out = rows;
    return status;
}
