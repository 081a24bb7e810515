/* One view of every kind of sequence file, and the rules by which its events become a model's inputs. */
#include "data/columns.h"

#include "base/error.h"

#include <inttypes.h>
#include <string.h>

hs_columns hs_columns_of(const hstu_dataset *dataset)
{
    const hs_rows *rows = &dataset->rows;
    hs_columns columns = {.dataset = dataset};
    if (dataset->kind == HSTU_DATASET_EVENTS) {
        const hs_event_view *view = &dataset->sequences.view;
        columns.n = view->n_users;
        columns.user_id = view->user_id;
        columns.offset = view->offset;
        columns.item = view->item;
        columns.time = view->time_ms;
        columns.flags = view->flags;
        columns.mask = view->action;
        memcpy(columns.feature, dataset->sequences.feature, sizeof columns.feature);
        return columns;
    }
    columns.n = (int64_t)rows->user_id.n;
    columns.user_id = rows->user_id.value;
    columns.offset = rows->offset.value;
    columns.item = rows->item.value;
    columns.time = dataset->kind == HSTU_DATASET_SESSIONS ? NULL : rows->time.value;
    columns.number = rows->action.value;
    for (size_t f = 0; f < HS_FEATURES_N; f++)
        columns.feature[f] = rows->feature[f].n ? rows->feature[f].value : NULL;
    return columns;
}

hs_input_rules hs_input_rules_of(
    const hstu_dataset *dataset, int64_t item_id_offset, int64_t shift_id_by, int64_t time_unit_ms)
{
    const bool in_ms = dataset->kind == HSTU_DATASET_EVENTS || dataset->kind == HSTU_DATASET_RANKING;
    return (hs_input_rules){.item_offset = dataset->kind == HSTU_DATASET_SASREC ? shift_id_by : item_id_offset,
        .time_unit = in_ms ? time_unit_ms : 1};
}

hstu_status hs_columns_item(
    const hs_columns *columns, const hs_input_rules *rules, int64_t row, int64_t event, int64_t *out, hstu_error *err)
{
    if (__builtin_add_overflow(columns->item[event], rules->item_offset, out))
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s': item %" PRId64 " of user %" PRId64 " plus the offset %" PRId64 " is no 64-bit integer",
            columns->dataset->path, columns->item[event], columns->user_id[row], rules->item_offset);
    return HSTU_OK;
}

int64_t hs_columns_action(const hs_columns *columns, int64_t event)
{
    return columns->mask ? columns->mask[event] : columns->number[event];
}

int64_t hs_input_time(const hs_input_rules *rules, int64_t time)
{
    return time / rules->time_unit - (time % rules->time_unit < 0);
}

hstu_status hs_columns_check_ranking(const hstu_dataset *dataset, hstu_error *err)
{
    if (dataset->kind != HSTU_DATASET_EVENTS && dataset->kind != HSTU_DATASET_RANKING)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds no whole users with actions: ranking needs sequences.safetensors or processed_seqs.csv",
            dataset->path);
    if (dataset->kind == HSTU_DATASET_EVENTS && dataset->sequences.n_logs == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' does not say of how many logs it was made, so users that lack one cannot be told: preprocess again",
            dataset->path);
    return HSTU_OK;
}

bool hs_columns_complete(const hs_columns *columns, int64_t row)
{
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        if (columns->feature[f] && columns->feature[f][row] == 0)
            return false;
    }
    const hs_sequences *s = &columns->dataset->sequences;
    return columns->dataset->kind == HSTU_DATASET_RANKING ||
           hs_event_view_in_every_log(&s->view, row, (size_t)s->n_logs);
}

int64_t hs_columns_feature_names(const hs_columns *columns, const char *name[HS_FEATURES_N])
{
    int64_t n = 0;
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        if (columns->feature[f])
            name[n++] = hs_feature_name[f];
    }
    return n;
}

void hs_columns_feature_codes(const hs_columns *columns, int64_t row, int64_t *out, int64_t stride)
{
    int64_t n = 0;
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        if (columns->feature[f])
            out[n++ * stride] = columns->feature[f][row];
    }
}
