/* Batches out of samples. */
#include "cli/run_assemble.h"

#include "base/alloc.h"
#include "base/error.h"

#include <string.h>

static int64_t window_start(const hs_run *run, int64_t i)
{
    const hs_samples *s = &run->samples;
    return s->from[i] + hs_window_start(s->to[i] - s->from[i], run->window, run->slide_step);
}

/* The most events and targets that any batch holds. */
static void measure(const hs_run *run, int64_t *n_events, int64_t *n_targets)
{
    const hs_samples *s = &run->samples;
    *n_events = *n_targets = 0;
    for (int64_t first = 0; first < s->n; first += run->batch_size) {
        const int64_t end = hs_min_int(first + run->batch_size, s->n);
        const int64_t targets = hs_samples_target(s, end) - hs_samples_target(s, first);
        int64_t events = 0;
        for (int64_t i = first; i < end; i++)
            events += run->pad_attention ? run->window : s->to[i] - window_start(run, i);
        *n_events = events > *n_events ? events : *n_events;
        *n_targets = targets > *n_targets ? targets : *n_targets;
    }
}

static hstu_status find_feature(const hs_run *run, const char *name, const int64_t **out, hstu_error *err)
{
    const hs_samples *s = &run->samples;
    if (strcmp(name, "user_id") == 0) {
        *out = NULL;
        return HSTU_OK;
    }
    for (int64_t i = 0; i < s->n_features; i++) {
        if (strcmp(s->feature_name[i], name) == 0) {
            *out = s->feature + i * s->n_places;
            return HSTU_OK;
        }
    }
    return hs_fail(err, HSTU_EINVAL, 0,
        "%s: expected the contextual feature '%s', which the model takes, found none among %lld features of users",
        run->dataset_info.name, name, (long long)s->n_features);
}

static hstu_status find_features(hs_batch_room *room, hstu_error *err)
{
    for (size_t i = 0; i < room->run->info.n_context; i++) {
        hstu_feature_info info;
        HS_TRY(hstu_model_context(room->run->model, i, &info, err));
        HS_TRY(find_feature(room->run, info.name, &room->feature[i], err));
    }
    return HSTU_OK;
}

hstu_status hs_batch_room_open(hs_batch_room *room, const hs_run *run, hstu_error *err)
{
    const size_t batch_size = (size_t)hs_min_int(run->batch_size, run->samples.n), n_context = run->info.n_context;
    int64_t n_events = 0, n_targets = 0;
    size_t places = 0;
    measure(run, &n_events, &n_targets);
    *room = (hs_batch_room){.run = run, .n_targets = n_targets};
    if (!hs_mul_size(batch_size, n_context, &places))
        return hs_fail_nomem(err, SIZE_MAX, "a batch");
    room->feature = hs_alloc(n_context, sizeof *room->feature);
    room->offset = hs_alloc(batch_size + 1, sizeof *room->offset);
    room->target_offset = hs_alloc(batch_size + 1, sizeof *room->target_offset);
    room->context = hs_alloc(places, sizeof *room->context);
    room->item = hs_alloc((size_t)n_events, sizeof *room->item);
    room->time = hs_alloc(run->ranking ? 0 : (size_t)n_events, sizeof *room->time);
    room->action = hs_alloc(run->ranking ? (size_t)n_events : 0, sizeof *room->action);
    if (!room->feature || !room->offset || !room->target_offset || !room->context || !room->item || !room->time ||
        !room->action)
        return hs_fail_nomem(err, ((size_t)n_events * 3 + places + 2 * batch_size) * sizeof *room->item, "a batch");
    return find_features(room, err);
}

void hs_batch_room_close(hs_batch_room *room)
{
    hs_free(room->feature);
    hs_free(room->offset);
    hs_free(room->target_offset);
    hs_free(room->context);
    hs_free(room->item);
    hs_free(room->time);
    hs_free(room->action);
    *room = (hs_batch_room){0};
}

/* Sample i's history behind the `events` that the batch has already; how many it has then. */
static int64_t append_history(const hs_batch_room *room, int64_t i, int64_t events)
{
    const hs_samples *s = &room->run->samples;
    const int64_t from = window_start(room->run, i), count = s->to[i] - from;
    const size_t bytes = (size_t)count * sizeof *room->item;
    for (int64_t pad = room->run->pad_attention ? room->run->window - count : 0; pad > 0; pad--, events++)
        room->item[events] = room->time[events] = 0;
    memcpy(room->item + events, s->item + from, bytes);
    if (room->run->ranking)
        memcpy(room->action + events, s->action + from, bytes);
    else if (s->time)
        memcpy(room->time + events, s->time + from, bytes);
    return events + count;
}

static void fill_context(const hs_batch_room *room, int64_t first, int64_t n)
{
    const hs_samples *s = &room->run->samples;
    const size_t n_context = room->run->info.n_context;
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = s->place ? s->place[first + i] : first + i;
        for (size_t f = 0; f < n_context; f++)
            room->context[(size_t)i * n_context + f] =
                room->feature[f] ? room->feature[f][place] : s->user_id[first + i];
    }
}

hstu_batch hs_batch_room_fill(const hs_batch_room *room, int64_t first, int64_t n)
{
    const hs_run *run = room->run;
    const hs_samples *s = &run->samples;
    const int64_t target = hs_samples_target(s, first);
    int64_t events = 0;
    for (int64_t i = 0; i < n; i++) {
        room->offset[i] = events;
        room->target_offset[i] = hs_samples_target(s, first + i) - target;
        events = append_history(room, first + i, events);
    }
    room->offset[n] = events;
    room->target_offset[n] = hs_samples_target(s, first + n) - target;
    hstu_batch batch = {
        .n_users = (size_t)n, .offset = room->offset, .item_id = room->item, .user_id = s->user_id + first};
    if (run->ranking) {
        fill_context(room, first, n);
        batch.action = room->action;
        batch.cand_offset = room->target_offset;
        batch.cand_id = s->target + target;
        batch.context = run->info.n_context ? room->context : NULL;
    } else if (s->time) {
        batch.timestamp = room->time;
        batch.query_time = s->query_time + first;
    }
    return batch;
}

const int64_t *hs_batch_room_targets(const hs_batch_room *room)
{
    return room->run->samples.target_offset ? room->target_offset : NULL;
}
