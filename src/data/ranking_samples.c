/* Making ranking samples from whole users: the rules of recsys-examples' HSTUSequenceDataset. */
#include "base/alloc.h"
#include "base/error.h"
#include "data/columns.h"
#include "data/rules.h"

#include <inttypes.h>

enum { MAX_EVENTS = INT32_MAX };

typedef struct samples_owner {
    hstu_ranking_samples shown; /* first: the caller's pointer is the owner's */
    const char *feature_name[HS_FEATURES_N];
    int64_t *user_id, *offset, *item_id, *action, *cand_offset, *cand_id, *label, *feature;
} samples_owner;

/* Which users are samples: numbers `first` to `end` - 1 of those that are kept, in row order. */
typedef struct selection {
    int64_t n_kept, n_short, n_incomplete;
    int64_t first, end;
    int64_t n_history; /* events of the samples' histories together */
} selection;

void hstu_ranking_options_init(hstu_ranking_options *options)
{
    *options = (hstu_ranking_options){.size = sizeof *options,
        .max_history = 4096,
        .max_candidates = 100,
        .truncation = HSTU_TRUNCATION_OLDEST,
        .split = HSTU_SPLIT_TEST,
        .train_fraction = 0.7};
}

static hstu_status check_options(const hstu_ranking_options *options, hstu_error *err)
{
    if (options->size != sizeof *options)
        return hs_fail(err, HSTU_EINVAL, 0, "the ranking options were not set up by hstu_ranking_options_init");
    HS_TRY(hs_rule_check("max_history", options->max_history, 0, MAX_EVENTS, err));
    HS_TRY(hs_rule_check("max_candidates", options->max_candidates, 1, MAX_EVENTS, err));
    if (options->truncation != HSTU_TRUNCATION_OLDEST && options->truncation != HSTU_TRUNCATION_NEWEST)
        return hs_fail(err, HSTU_EINVAL, 0, "truncation must be oldest or newest, not %d", (int)options->truncation);
    if (options->split != HSTU_SPLIT_TEST && options->split != HSTU_SPLIT_TRAIN && options->split != HSTU_SPLIT_ALL)
        return hs_fail(err, HSTU_EINVAL, 0, "split must be test, train or all, not %d", (int)options->split);
    if (!(options->train_fraction >= 0 && options->train_fraction <= 1))
        return hs_fail(err, HSTU_EINVAL, 0, "train_fraction must be from 0 to 1, not %g", options->train_fraction);
    return HSTU_OK;
}

static int64_t event_count(const hs_columns *rows, int64_t user)
{
    return rows->offset[user + 1] - rows->offset[user];
}

static bool is_kept(const hs_columns *rows, int64_t user, const hstu_ranking_options *options)
{
    return event_count(rows, user) > options->max_candidates && hs_columns_complete(rows, user);
}

static int64_t history_length(const hs_columns *rows, int64_t user, const hstu_ranking_options *options)
{
    const int64_t n = event_count(rows, user) - options->max_candidates;
    return n < options->max_history ? n : options->max_history;
}

static hstu_status select_users(
    selection *s, const hs_columns *rows, const hstu_ranking_options *options, hstu_error *err)
{
    *s = (selection){0};
    for (int64_t user = 0; user < rows->n; user++) {
        if (!hs_columns_complete(rows, user))
            s->n_incomplete++;
        else if (event_count(rows, user) <= options->max_candidates)
            s->n_short++;
        else
            s->n_kept++;
    }
    const int64_t n_train = (int64_t)(options->train_fraction * (double)s->n_kept);
    s->first = options->split == HSTU_SPLIT_TEST ? n_train : 0;
    s->end = options->split == HSTU_SPLIT_TRAIN ? n_train : s->n_kept;
    if (s->n_kept == 0)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s' holds no user with more than %" PRId64 " events (max_candidates): %" PRId64
            " have no more, and a log or the features file lacks %" PRId64,
            rows->dataset->path, options->max_candidates, s->n_short, s->n_incomplete);
    if (s->first == s->end)
        return hs_fail(err, HSTU_EINVAL, 0,
            "'%s': the %s part of %" PRId64 " users is empty with the train_fraction %g", rows->dataset->path,
            options->split == HSTU_SPLIT_TRAIN ? "training" : "test", s->n_kept, options->train_fraction);
    int64_t number = 0;
    for (int64_t user = 0; user < rows->n; user++) {
        if (!is_kept(rows, user, options))
            continue;
        if (number >= s->first && number < s->end)
            s->n_history += history_length(rows, user, options);
        number++;
    }
    return HSTU_OK;
}

/* Every array in its final size. No size overflows: no array is longer than what the open file holds. */
static bool allocate(samples_owner *h, const selection *s, const hstu_ranking_options *options)
{
    const size_t n = (size_t)(s->end - s->first), n_history = (size_t)s->n_history,
                 n_candidates = n * (size_t)options->max_candidates, size = sizeof(int64_t);
    h->user_id = hs_alloc(n, size);
    h->offset = hs_alloc(n + 1, size);
    h->item_id = hs_alloc(n_history, size);
    h->action = hs_alloc(n_history, size);
    h->cand_offset = hs_alloc(n + 1, size);
    h->cand_id = hs_alloc(n_candidates, size);
    h->label = hs_alloc(n_candidates, size);
    h->feature = hs_alloc((size_t)h->shown.n_features * n, size);
    return h->user_id && h->offset && h->item_id && h->action && h->cand_offset && h->cand_id && h->label && h->feature;
}

/* Copies n events from `first` on. */
static void copy_events(int64_t *item, int64_t *action, const hs_columns *rows, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        item[i] = rows->item[first + i];
        action[i] = hs_columns_action(rows, first + i);
    }
}

static void add_sample(
    samples_owner *h, int64_t sample, const hs_columns *rows, int64_t user, const hstu_ranking_options *options)
{
    const int64_t n_history = history_length(rows, user, options), n_candidates = options->max_candidates;
    const int64_t newest = rows->offset[user + 1] - n_history - n_candidates;
    const int64_t first = options->truncation == HSTU_TRUNCATION_NEWEST ? newest : rows->offset[user];
    const int64_t at = h->offset[sample], cand_at = h->cand_offset[sample];
    copy_events(h->item_id + at, h->action + at, rows, first, n_history);
    copy_events(h->cand_id + cand_at, h->label + cand_at, rows, first + n_history, n_candidates);
    h->user_id[sample] = rows->user_id[user];
    h->offset[sample + 1] = at + n_history;
    h->cand_offset[sample + 1] = cand_at + n_candidates;
}

static void add_samples(
    samples_owner *h, const hs_columns *rows, const selection *s, const hstu_ranking_options *options)
{
    const int64_t n = s->end - s->first;
    int64_t number = 0;
    h->offset[0] = h->cand_offset[0] = 0;
    for (int64_t user = 0; number < s->end; user++) {
        if (!is_kept(rows, user, options))
            continue;
        const int64_t sample = number++ - s->first;
        if (sample < 0)
            continue;
        add_sample(h, sample, rows, user, options);
        hs_columns_feature_codes(rows, user, h->feature + sample, n);
    }
}

hstu_status hstu_ranking_samples_open(
    hstu_ranking_samples **out, const hstu_dataset *dataset, const hstu_ranking_options *options, hstu_error *err)
{
    selection s;
    if (!out || !dataset || !options)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_ranking_samples_open wants a place, a data set and options");
    HS_TRY(check_options(options, err));
    HS_TRY(hs_columns_check_ranking(dataset, err));
    const hs_columns rows = hs_columns_of(dataset);
    HS_TRY(select_users(&s, &rows, options, err));
    samples_owner *h = hs_calloc(1, sizeof *h);
    if (!h)
        return hs_fail_nomem(err, sizeof *h, "ranking samples");
    h->shown.n_features = hs_columns_feature_names(&rows, h->feature_name);
    if (!allocate(h, &s, options)) {
        hstu_ranking_samples_close(&h->shown);
        return hs_fail_nomem(err, (size_t)s.n_history * 2 * sizeof(int64_t), "ranking samples");
    }
    add_samples(h, &rows, &s, options);
    h->shown = (hstu_ranking_samples){.n = s.end - s.first,
        .n_short = s.n_short,
        .n_incomplete = s.n_incomplete,
        .user_id = h->user_id,
        .offset = h->offset,
        .item_id = h->item_id,
        .action = h->action,
        .cand_offset = h->cand_offset,
        .cand_id = h->cand_id,
        .label = h->label,
        .n_features = h->shown.n_features,
        .feature_name = h->feature_name,
        .feature = h->feature};
    *out = &h->shown;
    return HSTU_OK;
}

void hstu_ranking_samples_close(hstu_ranking_samples *samples)
{
    if (!samples)
        return;
    samples_owner *h = (samples_owner *)samples;
    hs_free(h->user_id);
    hs_free(h->offset);
    hs_free(h->item_id);
    hs_free(h->action);
    hs_free(h->cand_offset);
    hs_free(h->cand_id);
    hs_free(h->label);
    hs_free(h->feature);
    hs_free(h);
}
