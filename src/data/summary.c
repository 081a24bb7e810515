/* What a sequence file holds, in a few numbers. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/dataset_int.h"
#include "data/feedback.h"
#include "data/itemcount.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CHECK_EVENTS = 1 << 22, MAX_RATING = 9 };

static int compare_lengths(const void *left, const void *right)
{
    const int64_t x = *(const int64_t *)left, y = *(const int64_t *)right;
    return (x > y) - (x < y);
}

static hstu_status rank_lengths(hstu_summary *out, const int64_t *offset, hstu_error *err)
{
    const int64_t n = out->n_sequences;
    int64_t *length = hs_alloc((size_t)n, sizeof *length);
    if (!length)
        return hs_fail_nomem(err, (size_t)n * sizeof *length, "the lengths of histories");
    for (int64_t i = 0; i < n; i++)
        length[i] = offset[i + 1] - offset[i];
    qsort(length, (size_t)n, sizeof *length, compare_lengths);
    for (int k = 0; n > 0 && k < HSTU_SUMMARY_PERCENTILES; k++) {
        const int64_t percent = out->percent[k];
        const int64_t rank = percent * (n / 100) + (percent * (n % 100) + 99) / 100; /* of n, rounded up */
        out->length[k] = length[rank > 0 ? rank - 1 : 0];
    }
    hs_free(length);
    return HSTU_OK;
}

static void span_times(hstu_summary *out, const int64_t *time, int64_t n, int64_t unit_ms)
{
    out->first_ms = INT64_MAX;
    out->last_ms = INT64_MIN;
    for (int64_t i = 0; i < n; i++) {
        /* Seconds that no millisecond can hold are no dates either. */
        const int64_t t = time[i] > INT64_MAX / unit_ms   ? INT64_MAX
                          : time[i] < INT64_MIN / unit_ms ? INT64_MIN
                                                          : time[i] * unit_ms;
        out->first_ms = t < out->first_ms ? t : out->first_ms;
        out->last_ms = t > out->last_ms ? t : out->last_ms;
    }
    out->has_time = n > 0;
    if (n == 0)
        out->first_ms = out->last_ms = 0;
}

/* An events file names its data set. Of the others, MovieLens' have classes of ratings, which are small; a KuaiRand file without
 * a single long view is none that anybody has. */
static int is_mask(const hstu_summary *out, const hstu_dataset *dataset)
{
    if (dataset->kind == HSTU_DATASET_EVENTS)
        return strncasecmp(dataset->name, "KuaiRand", 8) == 0;
    if (dataset->kind == HSTU_DATASET_SASREC)
        return 0;
    for (int action = MAX_RATING + 1; action < HSTU_SUMMARY_ACTIONS; action++) {
        if (out->n_with_action[action])
            return 1;
    }
    return 0;
}

static hstu_status summarise_events(
    hstu_summary *out, const hs_event_view *view, const hstu_progress *progress, hstu_error *err)
{
    out->n_duplicates = 0;
    for (int64_t i = 0; i < view->n_events; i++) {
        out->n_with_action[view->action[i]]++;
        out->n_duplicates += view->flags[i] & HS_EVENT_DUPLICATE;
        if (i % CHECK_EVENTS == 0)
            HS_TRY(hs_progress_check(progress, err));
    }
    span_times(out, view->time_ms, view->n_events, 1);
    return rank_lengths(out, view->offset, err);
}

static hstu_status summarise_rows(hstu_summary *out, const hs_rows *rows, int64_t unit_ms, hstu_error *err)
{
    for (size_t i = 0; i < rows->action.n; i++) {
        const int64_t action = rows->action.value[i];
        if (action >= 0 && action < HSTU_SUMMARY_ACTIONS)
            out->n_with_action[action]++;
    }
    if (rows->time.n)
        span_times(out, rows->time.value, (int64_t)rows->time.n, unit_ms);
    return rank_lengths(out, rows->offset.value, err);
}

hstu_status hstu_summary_make(
    hstu_summary *out, const hstu_dataset *dataset, const hstu_progress *progress, hstu_error *err)
{
    if (!out || !dataset)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_summary_make wants a place for the summary and a data set");
    const bool events = dataset->kind == HSTU_DATASET_EVENTS;
    hstu_summary summary = {.percent = {0, 10, 25, 50, 75, 90, 99, 100},
        .n_users = dataset->n_users,
        .n_sequences = events ? dataset->n_users : (int64_t)dataset->rows.user_id.n,
        .n_events = dataset->n_events,
        .n_duplicates = -1};
    const int64_t *item = events ? dataset->sequences.view.item : dataset->rows.item.value;
    if (events)
        HS_TRY(summarise_events(&summary, &dataset->sequences.view, progress, err));
    else
        HS_TRY(summarise_rows(&summary, &dataset->rows, dataset->kind == HSTU_DATASET_SASREC ? 1000 : 1, err));
    HS_TRY(hs_itemcount(&summary, item, summary.n_events, dataset->max_item, &hs_itemcount_default, progress, err));
    summary.action_is_mask = is_mask(&summary, dataset);
    *out = summary;
    return HSTU_OK;
}
