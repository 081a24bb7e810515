/* Replays of files that are there and right. */
#ifndef TESTS_DATASET_REPLAY_FILES_H
#define TESTS_DATASET_REPLAY_FILES_H

#include "dataset/kuairand_files.h"

#include <inttypes.h>

static inline hstu_dataset *open_ok(const char *path)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dataset;
}

static inline hstu_replay_options defaults(void)
{
    hstu_replay_options options;
    hstu_replay_options_init(&options);
    return options;
}

static inline hstu_preprocess_report preprocess(const scratch *s, const char *name)
{
    hstu_preprocess_report report;
    hstu_error err = {0};
    hstu_preprocess_options options = options_for(s, name);
    options.allow_missing_logs = 1;
    if (hstu_preprocess(&options, &report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return report;
}

static inline hstu_replay *replay_ok(const char *path, const hstu_replay_options *options)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_replay *replay = NULL;
    hstu_error err = {0};
    if (hstu_replay_open(&replay, dataset, options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hstu_dataset_close(dataset); /* the replay must not lean on it */
    return replay;
}

static inline void assert_array(const char *what, const int64_t *found, const int64_t *expected, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (found[i] != expected[i])
            fail_msg("%s[%" PRId64 "] is %" PRId64 ", expected %" PRId64, what, i, found[i], expected[i]);
    }
}

static inline void assert_same(const hstu_replay *x, const hstu_replay *y)
{
    assert_true(x->n_users == y->n_users && x->n == y->n && x->n_skipped == y->n_skipped);
    assert_true(x->n_features == y->n_features && x->item_offset == y->item_offset);
    assert_array("user_id", x->user_id, y->user_id, x->n_users);
    assert_array("offset", x->offset, y->offset, x->n_users + 1);
    assert_array("item_id", x->item_id, y->item_id, x->offset[x->n_users]);
    assert_array("timestamp", x->timestamp, y->timestamp, x->offset[x->n_users]);
    assert_array("action", x->action, y->action, x->offset[x->n_users]);
    assert_array("feature", x->feature, y->feature, x->n_features * x->n_users);
    assert_array("user", x->user, y->user, x->n);
    assert_array("begin", x->begin, y->begin, x->n);
    assert_array("end", x->end, y->end, x->n);
    for (int64_t f = 0; f < x->n_features; f++)
        assert_string_equal(x->feature_name[f], y->feature_name[f]);
}

/* The same replay from both files that hold whole users with features; the caller closes it. */
static inline hstu_replay *replay_both(const hstu_preprocess_report *report, const hstu_replay_options *options)
{
    hstu_replay *x = replay_ok(report->sequences_path, options), *y = replay_ok(report->ranking_path, options);
    assert_same(x, y);
    hstu_replay_close(y);
    return x;
}

#endif
