/* The most-popular baseline: every user gets the items that occur most often in the histories. */
#include "cli/run.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdlib.h>

typedef struct popular_item {
    int64_t id, count;
} popular_item;

static int by_popularity(const void *a, const void *b)
{
    const popular_item *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void count_items(const hs_run *run, int64_t from, int64_t to, int64_t *count)
{
    for (int64_t j = from; j < to; j++) {
        const int64_t id = run->samples.item[j];
        /* Ids outside the table stop a run only when their user is answered. */
        if (id >= run->info.min_item_id && id <= run->info.max_item_id)
            count[id]++;
    }
}

/* count [max_item_id + 1]: how often each item stands in a history. Of samples of one place the later ones have longer
 * histories of the same log; counted [n_places] remembers where the last one ended. */
static void count_histories(const hs_run *run, int64_t *counted, int64_t *count)
{
    const hs_samples *s = &run->samples;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t from = s->from[i];
        if (s->place && counted[s->place[i]] > from)
            from = counted[s->place[i]];
        count_items(run, from, s->to[i], count);
        if (s->place)
            counted[s->place[i]] = s->to[i];
    }
}

/* Replaces count[id] by the item's 1-based place among the candidates, 0 for what is none. `item` has room for all. */
static void place_items(const hs_run *run, int64_t *count, popular_item *item)
{
    const int64_t max_item_id = run->info.max_item_id;
    const int64_t min_item_id = run->info.min_item_id;
    const size_t n = run->candidate ? run->n_candidates : (size_t)(max_item_id - min_item_id + 1);
    for (size_t i = 0; i < n; i++) {
        const int64_t id = run->candidate ? run->candidate[i] : (int64_t)i + min_item_id;
        item[i] = (popular_item){.id = id, .count = count[id]};
    }
    qsort(item, n, sizeof *item, by_popularity);
    for (int64_t id = 0; id <= max_item_id; id++)
        count[id] = 0;
    for (size_t i = 0; i < n; i++)
        count[item[i].id] = (int64_t)i + 1;
}

/* The place of sample i's target j once the window's items are gone: each distinct one in front of it moves it up.
 * stamp [max_item_id + 1] remembers which target met an item last, target numbers from 1. */
static int64_t rank_target(const hs_run *run, int64_t i, int64_t j, const int64_t *place, int64_t *stamp)
{
    const hs_samples *s = &run->samples;
    const int64_t target = s->target[j], min_item_id = run->info.min_item_id, max_item_id = run->info.max_item_id;
    if (target < min_item_id || target > max_item_id)
        return 0;
    int64_t rank = place[target];
    const int64_t from = s->from[i] + hs_window_start(s->to[i] - s->from[i], run->window, run->slide_step);
    for (int64_t e = from; e < s->to[i] && run->filter_seen; e++) {
        const int64_t id = s->item[e];
        if (id == target)
            return 0;
        if (id < min_item_id || id > max_item_id || stamp[id] == j + 1)
            continue;
        stamp[id] = j + 1;
        rank -= place[id] > 0 && place[id] < place[target];
    }
    return rank;
}

hstu_status hs_run_rank_by_popularity(const hs_run *run, size_t n, int64_t *rank, hstu_error *err)
{
    const size_t n_ids = (size_t)run->info.max_item_id + 1;
    hstu_status status = HSTU_OK;
    int64_t *place = hs_calloc(n_ids, sizeof *place);
    int64_t *stamp = hs_calloc(n_ids, sizeof *stamp);
    int64_t *counted = hs_calloc((size_t)run->samples.n_places, sizeof *counted);
    popular_item *item = hs_alloc(run->candidate ? run->n_candidates : n_ids, sizeof *item);
    if (!place || !stamp || !counted || !item) {
        status = hs_fail_nomem(err, n_ids * (2 * sizeof *place + sizeof *item), "the popularity baseline");
        goto fail;
    }
    count_histories(run, counted, place);
    place_items(run, place, item);
    for (int64_t i = 0; i < (int64_t)n; i++) {
        for (int64_t j = hs_samples_target(&run->samples, i); j < hs_samples_target(&run->samples, i + 1); j++)
            rank[j] = rank_target(run, i, j, place, stamp);
    }

fail:
    hs_free(place);
    hs_free(stamp);
    hs_free(counted);
    hs_free(item);
    return status;
}
