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

/* count [max_item_id + 1]: how often each item stands in a history. */
static void count_items(const hs_run *run, int64_t *count)
{
    const hstu_histories *h = run->histories;
    for (int64_t i = 0; i < h->offset[h->n]; i++) {
        /* Ids outside the table stop a run only when their user is answered. */
        if (h->item_id[i] >= run->info.min_item_id && h->item_id[i] <= run->info.max_item_id)
            count[h->item_id[i]]++;
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

/* The target's place once the window's items are gone: each distinct one in front of it moves it up. stamp [max_item_id + 1]
 * remembers which sample met an item last, sample numbers from 1. */
static int64_t rank_target(const hs_run *run, int64_t i, const int64_t *place, int64_t *stamp)
{
    const hstu_histories *h = run->histories;
    const int64_t target = h->target_id[i], min_item_id = run->info.min_item_id, max_item_id = run->info.max_item_id;
    if (target < min_item_id || target > max_item_id)
        return 0;
    int64_t rank = place[target];
    const int64_t length = h->offset[i + 1] - h->offset[i];
    const int64_t from = length > run->window ? h->offset[i + 1] - run->window : h->offset[i];
    for (int64_t j = from; j < h->offset[i + 1] && run->filter_seen; j++) {
        const int64_t id = h->item_id[j];
        if (id == target)
            return 0;
        if (id < min_item_id || id > max_item_id || stamp[id] == i + 1)
            continue;
        stamp[id] = i + 1;
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
    popular_item *item = hs_alloc(run->candidate ? run->n_candidates : n_ids, sizeof *item);
    if (!place || !stamp || !item) {
        status = hs_fail_nomem(err, n_ids * (2 * sizeof *place + sizeof *item), "the popularity baseline");
        goto fail;
    }
    count_items(run, place);
    place_items(run, place, item);
    for (size_t i = 0; i < n; i++)
        rank[i] = rank_target(run, (int64_t)i, place, stamp);

fail:
    hs_free(place);
    hs_free(stamp);
    hs_free(item);
    return status;
}
