/* What an evaluation answers: samples in order, whichever protocol they come from. A view: histories, ranking samples
 * and replays all become one, and the loops know nothing else. */
#ifndef HS_CLI_RUN_SAMPLES_H
#define HS_CLI_RUN_SAMPLES_H

#include "hstu/dataset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays are borrowed from what the view was made of, which must outlive it; those that are not there are NULL. */
typedef struct hs_samples {
    int64_t n;
    int64_t n_users;          /* users (or sessions) that the rules kept */
    int64_t n_users_skipped;  /* and those that they left out */
    const int64_t *user_id;   /* [n] */
    const int64_t *from, *to; /* [n] the whole history: events from .. to - 1 of item, time and action */
    const int64_t *item, *time, *action;
    const int64_t *query_time;       /* [n] */
    const int64_t *target_offset;    /* [n + 1] into target and label; NULL: one each */
    const int64_t *target;           /* items that are asked about: targets, or candidates of a ranking model */
    const int64_t *label;            /* of candidates */
    int64_t n_features, n_places;    /* contextual features beside the user id */
    const char *const *feature_name; /* [n_features] */
    const int64_t *feature;          /* [n_features, n_places] */
    const int64_t *place; /* [n] the sample's user, below n_places; samples of one place are of one log. NULL: i */
    int64_t item_offset;  /* original id = model id - item_offset */
    int64_t *memory;      /* of arrays that are the view's own */
} hs_samples;

void hs_samples_of_histories(hs_samples *out, const hstu_histories *histories);
void hs_samples_of_ranking(hs_samples *out, const hstu_ranking_samples *ranking);
/* HSTU_ENOMEM. */
hstu_status hs_samples_of_replay(hs_samples *out, const hstu_replay *replay, hstu_error *err);
void hs_samples_close(hs_samples *samples); /* accepts a zeroed one */

/* Where the targets of sample i begin; i up to n. */
static inline int64_t hs_samples_target(const hs_samples *samples, int64_t i)
{
    return samples->target_offset ? samples->target_offset[i] : i;
}

/* Which of n events a window of at most `window` begins with: the newest `window`, or fewer so that it is a multiple of
 * step. A window that begins elsewhere at each request has no prefix in common with the one before it, and nothing can
 * be used again; with a larger step it stays in place until `step` events have come. step <= window keeps at least one
 * event. */
static inline int64_t hs_window_start(int64_t n, int64_t window, int64_t step)
{
    const int64_t surplus = n > window ? n - window : 0;
    return step > 1 ? (surplus + step - 1) / step * step : surplus;
}

#endif
