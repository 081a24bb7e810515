/* Reading KuaiRand's standard logs. The action bits are those of the reference's preprocessing. */
#include "data/kuairand_log.h"

#include "base/alloc.h"
#include "base/dynbuf.h"
#include "base/error.h"
#include "data/feedback.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { CHECK_ROWS = 4096, N_ACTIONS = 8 };

static const char *const action_column[N_ACTIONS] = {"is_click", "is_like", "is_follow", "is_comment", "is_forward",
    "is_hate", "long_view", "is_profile_enter"}; /* bit 0 .. 7 */

/* Where a log keeps what is read, and how its rows are hashed. */
typedef struct log_layout {
    size_t user, item, time_ms, play_time_ms, duration_ms, action[N_ACTIONS];
    size_t *order;  /* [n_columns]: the columns in the order in which rows are compared */
    bool in_order;  /* order is 0, 1, 2, ... */
    uint64_t seed;  /* from the column names: rows of logs with other columns are never equal */
    hs_dynbuf text; /* a row in that order, when its own bytes will not do */
} log_layout;

typedef struct column_name {
    const char *name;
    size_t index;
} column_name;

static int compare_names(const void *left, const void *right)
{
    const column_name *x = left, *y = right;
    const int order = strcmp(x->name, y->name);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static column_name *sorted_names(char *const *name, size_t n)
{
    column_name *sorted = hs_alloc(n, sizeof *sorted);
    if (!sorted)
        return NULL;
    for (size_t i = 0; i < n; i++)
        sorted[i] = (column_name){name[i], i};
    qsort(sorted, n, sizeof *sorted, compare_names);
    return sorted;
}

static bool keep_columns(hs_log_reader *reader, const hs_csv *csv)
{
    reader->column = hs_calloc(csv->n_columns, sizeof *reader->column);
    if (!reader->column)
        return false;
    reader->n_columns = csv->n_columns;
    for (size_t i = 0; i < csv->n_columns; i++) {
        reader->column[i] = hs_strndup(csv->column[i], strlen(csv->column[i]));
        if (!reader->column[i])
            return false;
    }
    return true;
}

/* The first log's order where the columns are the same, else the names' order. */
static bool find_order(log_layout *layout, const hs_log_reader *reader, const hs_csv *csv)
{
    const size_t n = csv->n_columns;
    column_name *mine = sorted_names(csv->column, n), *first = sorted_names(reader->column, reader->n_columns);
    layout->order = hs_alloc(n, sizeof *layout->order);
    const bool ok = mine && first && layout->order;
    if (ok) {
        bool same = n == reader->n_columns;
        for (size_t i = 0; same && i < n; i++)
            same = strcmp(mine[i].name, first[i].name) == 0;
        for (size_t i = 0; i < n; i++)
            layout->order[same ? first[i].index : i] = mine[i].index;
        layout->in_order = true;
        layout->seed = 0;
        for (size_t i = 0; i < n; i++) {
            const char *name = csv->column[layout->order[i]];
            layout->in_order = layout->in_order && layout->order[i] == i;
            layout->seed = XXH3_64bits_withSeed(name, strlen(name) + 1, layout->seed);
        }
    }
    hs_free(mine);
    hs_free(first);
    return ok;
}

static hstu_status find_layout(log_layout *layout, hs_log_reader *reader, const hs_csv *csv, hstu_error *err)
{
    const struct {
        const char *name;
        size_t *index;
    } wanted[] = {{"user_id", &layout->user}, {"video_id", &layout->item}, {"time_ms", &layout->time_ms},
        {"play_time_ms", &layout->play_time_ms}, {"duration_ms", &layout->duration_ms}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        HS_TRY(hs_csv_column(csv, wanted[i].name, wanted[i].index, err));
    for (size_t i = 0; i < N_ACTIONS; i++)
        HS_TRY(hs_csv_column(csv, action_column[i], &layout->action[i], err));
    hs_dynbuf_init(&layout->text, 4 * (size_t)HS_KUAIRAND_ROW_BYTES);
    if ((!reader->column && !keep_columns(reader, csv)) || !find_order(layout, reader, csv))
        return hs_fail_nomem(err, csv->n_columns * sizeof(column_name), csv->path);
    return HSTU_OK;
}

static hstu_status hash_row(uint64_t hash[2], log_layout *layout, const hs_csv *csv, hstu_error *err)
{
    const char *text = csv->row;
    size_t len = csv->row_bytes;
    if (!layout->in_order || csv->row_quoted) { /* a row without quotes is its own text */
        layout->text.len = 0;
        for (size_t i = 0; i < csv->n_columns; i++) {
            const hs_csv_field *field = &csv->field[layout->order[i]];
            if ((i && !hs_dynbuf_append(&layout->text, ",", 1)) ||
                !hs_csv_append_field(&layout->text, field->text, field->len))
                return hs_fail_nomem(err, layout->text.len, csv->path);
        }
        text = layout->text.data;
        len = layout->text.len;
    }
    const XXH128_hash_t value = XXH3_128bits_withSeed(text, len, layout->seed);
    hash[0] = value.low64;
    hash[1] = value.high64;
    return HSTU_OK;
}

static hstu_status read_row(hs_event *event, log_layout *layout, const hs_csv *csv, hstu_error *err)
{
    int64_t value = 0;
    HS_TRY(hs_csv_int(csv, layout->user, 0, INT64_MAX, &event->user, err));
    HS_TRY(hs_csv_int(csv, layout->item, 0, INT64_MAX - 1, &event->item, err));
    HS_TRY(hs_csv_int(csv, layout->time_ms, INT64_MIN, INT64_MAX, &event->time_ms, err));
    HS_TRY(hs_csv_int(csv, layout->play_time_ms, INT32_MIN, INT32_MAX, &value, err));
    event->play_time_ms = (int32_t)value;
    HS_TRY(hs_csv_int(csv, layout->duration_ms, INT32_MIN, INT32_MAX, &value, err));
    event->duration_ms = (int32_t)value;
    unsigned action = 0;
    for (unsigned i = 0; i < N_ACTIONS; i++) {
        HS_TRY(hs_csv_int(csv, layout->action[i], INT64_MIN, INT64_MAX, &value, err));
        action |= (unsigned)(value != 0) << i;
    }
    event->action = (uint8_t)action;
    return hash_row(event->hash, layout, csv, err);
}

static hstu_status read_rows(hs_log_reader *reader, log_layout *layout, hs_csv *csv, hstu_error *err)
{
    hs_event event = {.log = reader->log};
    for (uint64_t row = 0;; row++) {
        bool more = false;
        if (row % CHECK_ROWS == 0) {
            HS_TRY(hs_progress_check(reader->progress, err));
            hs_progress_step(reader->progress, "reading", reader->done_bytes + hs_bytesource_done_bytes(csv->source),
                reader->total_bytes);
        }
        HS_TRY(hs_csv_next(csv, &more, err));
        if (!more)
            return HSTU_OK;
        HS_TRY(read_row(&event, layout, csv, err));
        HS_TRY(hs_events_add(reader->events, &event, err));
    }
}

hstu_status hs_log_reader_read(
    hs_log_reader *reader, const char *path, uint64_t *file_bytes, uint64_t *file_hash, hstu_error *err)
{
    hs_csv csv = {0};
    log_layout layout = {0};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_csv_open(&csv, path, HS_KUAIRAND_ROW_BYTES, err));
    HS_TRY_GOTO(find_layout(&layout, reader, &csv, err));
    HS_TRY_GOTO(read_rows(reader, &layout, &csv, err));
    *file_bytes = hs_bytesource_file_bytes(csv.source);
    *file_hash = hs_bytesource_hash(csv.source);
    reader->done_bytes += *file_bytes;
    reader->log++;
fail:
    hs_csv_close(&csv);
    hs_free(layout.order);
    hs_dynbuf_free(&layout.text);
    return status;
}

void hs_log_reader_free(hs_log_reader *reader)
{
    for (size_t i = 0; i < reader->n_columns; i++)
        hs_free(reader->column[i]);
    hs_free(reader->column);
    reader->column = NULL;
    reader->n_columns = 0;
}
