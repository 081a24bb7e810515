/* The columns of KuaiRand's logs. The action bits are those of the reference's preprocessing. */
#include "data/log_layout.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const action_column[HS_LOG_ACTIONS] = {"is_click", "is_like", "is_follow", "is_comment",
    "is_forward", "is_hate", "long_view", "is_profile_enter"}; /* bit 0 .. 7 */

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

/* The first log's order where the columns are the same, else the names' order. */
static bool find_order(hs_log_layout *layout, const hs_csv *csv, const hs_csv *reference)
{
    const size_t n = csv->n_columns;
    column_name *mine = sorted_names(csv->column, n), *first = sorted_names(reference->column, reference->n_columns);
    layout->order = hs_alloc(n, sizeof *layout->order);
    const bool ok = mine && first && layout->order;
    if (ok) {
        bool same = n == reference->n_columns;
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

hstu_status hs_log_layout_find(hs_log_layout *out, const hs_csv *csv, const hs_csv *first, hstu_error *err)
{
    hs_log_layout layout = {.n_columns = csv->n_columns};
    const struct {
        const char *name;
        size_t *index;
    } wanted[] = {{"user_id", &layout.user}, {"video_id", &layout.item}, {"time_ms", &layout.time_ms},
        {"play_time_ms", &layout.play_time_ms}, {"duration_ms", &layout.duration_ms}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        HS_TRY(hs_csv_column(csv, wanted[i].name, wanted[i].index, err));
    for (size_t i = 0; i < HS_LOG_ACTIONS; i++)
        HS_TRY(hs_csv_column(csv, action_column[i], &layout.action[i], err));
    if (!find_order(&layout, csv, first)) {
        hs_log_layout_free(&layout);
        return hs_fail_nomem(err, csv->n_columns * sizeof(column_name), csv->path);
    }
    *out = layout;
    return HSTU_OK;
}

void hs_log_layout_free(hs_log_layout *layout)
{
    hs_free(layout->order);
    *layout = (hs_log_layout){0};
}

hstu_status hs_log_hash(
    uint64_t *hash, const hs_log_layout *layout, const hs_csv *csv, hs_dynbuf *room, hstu_error *err)
{
    const char *text = csv->row;
    size_t len = csv->row_bytes;
    if (!layout->in_order || csv->row_quoted) { /* a row without quotes is its own text */
        room->len = 0;
        for (size_t i = 0; i < csv->n_columns; i++) {
            const hs_csv_field *field = &csv->field[layout->order[i]];
            if ((i && !hs_dynbuf_append(room, ",", 1)) || !hs_csv_append_field(room, field->text, field->len))
                return hs_fail_nomem(err, room->len, csv->path);
        }
        text = room->data;
        len = room->len;
    }
    *hash = XXH3_64bits_withSeed(text, len, layout->seed);
    return HSTU_OK;
}
