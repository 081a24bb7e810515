/* Reading sequence files in text. */
#include "data/rows.h"

#include "base/error.h"
#include "data/feedback.h"
#include "data/number.h"

#include <inttypes.h>

enum { CHECK_ROWS = 256 };

/* A list column of a format. */
typedef struct list_column {
    const char *name;
    hs_intlist_form form;
    int64_t min, max;
    size_t index;
    hs_intlist *list;
} list_column;

enum { MAX_LISTS = 3 };

/* What a kind of file holds. */
typedef struct row_format {
    size_t n_columns;
    list_column column[MAX_LISTS]; /* of equal length in a row; the first one is the items */
    const char *length;            /* NULL, or the column that repeats the lists' length */
    bool ranking;         /* the last list is times that must not descend; columns of contextual features count */
    int64_t time_unit_ms; /* ranking: times become milliseconds */
    size_t user, length_index;
    size_t feature[HS_FEATURES_N]; /* n_columns of the file where it lacks the feature */
} row_format;

void hs_rows_free(hs_rows *rows)
{
    hs_intlist_free(&rows->user_id);
    hs_intlist_free(&rows->offset);
    hs_intlist_free(&rows->item);
    hs_intlist_free(&rows->action);
    hs_intlist_free(&rows->time);
    for (size_t f = 0; f < HS_FEATURES_N; f++)
        hs_intlist_free(&rows->feature[f]);
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
static hstu_status read_lists(const row_format *format, size_t n_before, const hs_csv *csv, hstu_error *err)
{
    const list_column *column = format->column;
    for (size_t c = 0; c < format->n_columns; c++) {
        HS_TRY(read_list(&column[c], csv, err));
        const size_t n = column[c].list->n - n_before, n_items = column[0].list->n - n_before;
        if (n != n_items)
            return hs_csv_fail(csv, column[c].index, err, "the list has %zu entries, but column %zu (%s) has %zu", n,
                column[0].index + 1, column[0].name, n_items);
    }
    return HSTU_OK;
}

static hstu_status find_columns(row_format *format, const hs_csv *csv, hstu_error *err)
{
    HS_TRY(hs_csv_column(csv, "user_id", &format->user, err));
    for (size_t c = 0; c < format->n_columns; c++)
        HS_TRY(hs_csv_column(csv, format->column[c].name, &format->column[c].index, err));
    if (format->length)
        HS_TRY(hs_csv_column(csv, format->length, &format->length_index, err));
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        format->feature[f] = csv->n_columns;
        if (format->ranking && hs_csv_has_column(csv, hs_feature_name[f]))
            HS_TRY(hs_csv_column(csv, hs_feature_name[f], &format->feature[f], err));
    }
    return HSTU_OK;
}

static hstu_status check_length(const row_format *format, int64_t n_items, const hs_csv *csv, hstu_error *err)
{
    int64_t n = 0;
    if (!format->length)
        return HSTU_OK;
    HS_TRY(hs_csv_int(csv, format->length_index, 0, INT64_MAX, &n, err));
    if (n != n_items)
        return hs_csv_fail(csv, format->length_index, err,
            "the length is %" PRId64 ", but the lists have %" PRId64 " entries", n, n_items);
    return HSTU_OK;
}

/* What only a row of processed_seqs.csv has: times in order, and contextual features. */
static hstu_status read_ranking(
    hs_rows *rows, const row_format *format, size_t n_before, const hs_csv *csv, hstu_error *err)
{
    const list_column *time = &format->column[format->n_columns - 1];
    for (size_t i = n_before + 1; i < time->list->n; i++) {
        const int64_t value = time->list->value[i], previous = time->list->value[i - 1];
        if (value < previous)
            return hs_csv_fail(csv, time->index, err,
                "the times must not descend, but entry %zu is %" PRId64 " after %" PRId64, i - n_before + 1, value,
                previous);
    }
    for (size_t i = n_before; i < time->list->n; i++)
        time->list->value[i] *= format->time_unit_ms; /* the format's range leaves room */
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        int64_t code = 0;
        if (format->feature[f] == csv->n_columns)
            continue;
        HS_TRY(hs_csv_int(csv, format->feature[f], 1, INT64_MAX, &code, err));
        if (!hs_intlist_push(&rows->feature[f], code))
            return hs_fail_nomem(err, rows->feature[f].n * 2 * sizeof(int64_t), csv->path);
    }
    return HSTU_OK;
}

static hstu_status read_row(hs_rows *rows, const row_format *format, const hs_csv *csv, hstu_error *err)
{
    const size_t n_before = rows->item.n;
    int64_t id = 0;
    HS_TRY(hs_csv_int(csv, format->user, INT64_MIN, INT64_MAX, &id, err));
    HS_TRY(read_lists(format, n_before, csv, err));
    HS_TRY(check_length(format, (int64_t)(rows->item.n - n_before), csv, err));
    if (format->ranking)
        HS_TRY(read_ranking(rows, format, n_before, csv, err));
    if (!hs_intlist_push(&rows->user_id, id) || !hs_intlist_push(&rows->offset, (int64_t)rows->item.n))
        return hs_fail_nomem(err, rows->offset.n * 2 * sizeof(int64_t), csv->path);
    return HSTU_OK;
}

static hstu_status read_rows(
    hs_rows *rows, row_format *format, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    HS_TRY(find_columns(format, csv, err));
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
        HS_TRY(read_row(rows, format, csv, err));
    }
}

/* Gives the rows away when all of them were read. */
static hstu_status read_file(
    hs_rows *out, hs_rows *rows, row_format *format, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    const hstu_status status = read_rows(rows, format, csv, progress, err);
    if (status != HSTU_OK)
        hs_rows_free(rows);
    else
        *out = *rows;
    return status;
}

hstu_status hs_session_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    hs_rows rows = {0};
    row_format format = {.n_columns = 2,
        .column = {{"sequence", HS_INTLIST_JSON, 0, INT64_MAX - 1, 0, &rows.item},
            {"actions", HS_INTLIST_JSON, 0, UINT8_MAX, 0, &rows.action}},
        .length = "length"};
    return read_file(out, &rows, &format, csv, progress, err);
}

hstu_status hs_sasrec_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    hs_rows rows = {0};
    row_format format = {.n_columns = 3,
        .column = {{"sequence_item_ids", HS_INTLIST_BARE, 0, INT64_MAX - 1, 0, &rows.item},
            {"sequence_ratings", HS_INTLIST_FRACTIONS, INT64_MIN, INT64_MAX, 0, &rows.action},
            {"sequence_timestamps", HS_INTLIST_BARE, INT64_MIN, INT64_MAX, 0, &rows.time}}};
    return read_file(out, &rows, &format, csv, progress, err);
}

hstu_status hs_ranking_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    const bool kuairand = hs_csv_has_column(csv, "video_id"); /* else MovieLens, whose times are seconds */
    const int64_t unit_ms = kuairand ? 1 : 1000;
    hs_rows rows = {0};
    row_format format = {.n_columns = 3,
        .column = {{kuairand ? "video_id" : "movie_id", HS_INTLIST_JSON, 0, INT64_MAX - 1, 0, &rows.item},
            {kuairand ? "action_weights" : "rating", HS_INTLIST_JSON, 0, UINT8_MAX, 0, &rows.action},
            {kuairand ? "time_ms" : "unix_timestamp", HS_INTLIST_JSON, INT64_MIN / unit_ms, INT64_MAX / unit_ms, 0,
                &rows.time}},
        .ranking = true,
        .time_unit_ms = unit_ms};
    return read_file(out, &rows, &format, csv, progress, err);
}
