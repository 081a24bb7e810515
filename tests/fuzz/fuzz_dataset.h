/* What must hold for whatever opens as a sequence file, and for the summary, histories, ranking samples and replays made
 * from it. */
#ifndef FUZZ_DATASET_H
#define FUZZ_DATASET_H

#include "fuzz_file.h"

#include "hstu/dataset.h"

#include <stdbool.h>
#include <string.h>

#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static inline void fuzz_histories(const hstu_dataset *dataset, hstu_protocol protocol, int64_t max_item)
{
    hstu_history_options options;
    hstu_histories *h = NULL;
    hstu_error err;
    hstu_history_options_init(&options);
    options.protocol = protocol;
    if (hstu_histories_open(&h, dataset, &options, &err) != HSTU_OK) {
        FUZZ_CHECK(err.code == HSTU_EINVAL && err.msg[0]);
        return;
    }
    FUZZ_CHECK(h->n > 0 && h->offset[0] == 0);
    for (int64_t i = 0; i < h->n; i++) {
        FUZZ_CHECK(h->offset[i + 1] > h->offset[i]);
        for (int64_t k = h->offset[i]; k < h->offset[i + 1]; k++)
            FUZZ_CHECK(h->item_id[k] >= h->item_offset && h->item_id[k] - h->item_offset <= max_item);
        FUZZ_CHECK(h->target_id[i] - h->item_offset <= max_item);
    }
    hstu_histories_close(h);
}

static inline void fuzz_samples(const hstu_dataset *dataset, int64_t max_item, hstu_truncation truncation)
{
    hstu_ranking_options options;
    hstu_ranking_samples *x = NULL;
    hstu_error err;
    hstu_ranking_options_init(&options);
    options.max_history = 1;
    options.max_candidates = 1;
    options.truncation = truncation;
    options.split = HSTU_SPLIT_ALL;
    if (hstu_ranking_samples_open(&x, dataset, &options, &err) != HSTU_OK) {
        FUZZ_CHECK(err.code == HSTU_EINVAL && err.msg[0]);
        return;
    }
    FUZZ_CHECK(x->n > 0 && x->offset[0] == 0 && x->cand_offset[0] == 0);
    for (int64_t i = 0; i < x->n; i++) {
        FUZZ_CHECK(x->offset[i + 1] == i + 1 && x->cand_offset[i + 1] == i + 1);
        FUZZ_CHECK(x->item_id[i] >= 0 && x->item_id[i] <= max_item && x->cand_id[i] >= 0 && x->cand_id[i] <= max_item);
        FUZZ_CHECK(x->action[i] >= 0 && x->action[i] <= 255 && x->label[i] >= 0 && x->label[i] <= 255);
    }
    for (int64_t i = 0; i < x->n_features * x->n; i++)
        FUZZ_CHECK(x->feature[i] >= 1);
    hstu_ranking_samples_close(x);
}

static inline void fuzz_replay(const hstu_dataset *dataset, int64_t max_item, int contextual)
{
    hstu_replay_options options;
    hstu_replay *r = NULL;
    hstu_error err;
    hstu_replay_options_init(&options);
    options.contextual = contextual;
    if (hstu_replay_open(&r, dataset, &options, &err) != HSTU_OK) {
        FUZZ_CHECK(err.code == HSTU_EINVAL && err.msg[0]);
        return;
    }
    FUZZ_CHECK(r->n > 0 && r->n_users > 0 && r->offset[0] == 0);
    for (int64_t i = 0; i < r->n; i++) {
        const int64_t user = r->user[i];
        FUZZ_CHECK(user >= 0 && user < r->n_users);
        FUZZ_CHECK(r->begin[i] > r->offset[user] && r->end[i] > r->begin[i] && r->end[i] <= r->offset[user + 1]);
        FUZZ_CHECK(i == 0 || r->timestamp[r->begin[i]] >= r->timestamp[r->begin[i - 1]]);
    }
    for (int64_t k = 0; k < r->offset[r->n_users]; k++)
        FUZZ_CHECK(r->item_id[k] >= r->item_offset && r->item_id[k] - r->item_offset <= max_item);
    for (int64_t i = 0; i < r->n_features * r->n_users; i++)
        FUZZ_CHECK(r->feature[i] >= 1);
    hstu_replay_close(r);
}

static inline void fuzz_summary(const hstu_dataset *dataset, const hstu_dataset_info *info)
{
    hstu_summary summary;
    hstu_error err;
    FUZZ_CHECK(hstu_summary_make(&summary, dataset, NULL, &err) == HSTU_OK);
    FUZZ_CHECK(summary.n_users == info->n_users && summary.n_events == info->n_events);
    FUZZ_CHECK(summary.n_items <= summary.n_events && (summary.n_items == 0) == (summary.n_events == 0));
    FUZZ_CHECK(summary.n_top <= summary.n_items && summary.n_top <= HSTU_SUMMARY_TOP);
    for (int64_t i = 0; i < summary.n_top; i++) {
        FUZZ_CHECK(summary.top_item[i] >= 0 && summary.top_item[i] <= info->max_item && summary.top_events[i] > 0);
        FUZZ_CHECK(i == 0 || summary.top_events[i] <= summary.top_events[i - 1]);
    }
    for (int k = 1; k < HSTU_SUMMARY_PERCENTILES; k++)
        FUZZ_CHECK(summary.length[k] >= summary.length[k - 1] && summary.length[k] <= summary.n_events);
}

static inline void fuzz_dataset(const uint8_t *data, size_t size)
{
    hstu_dataset *dataset = NULL;
    hstu_dataset_info info;
    hstu_error err = {0};
    const char *path = fuzz_file(data, size);
    const int known = hstu_dataset_recognise(path);
    FUZZ_CHECK(known == 0 || known == 1);
    const hstu_status status = hstu_dataset_open(&dataset, path, NULL, &err);
    if (status != HSTU_OK) {
        FUZZ_CHECK(status == HSTU_EFORMAT && err.code == status && err.msg[0] && !dataset);
        return;
    }
    hstu_dataset_get_info(dataset, &info);
    FUZZ_CHECK(info.name && info.n_users >= 0 && info.n_events >= 0 && (info.max_item < 0) == (info.n_events == 0));
    fuzz_summary(dataset, &info);
    fuzz_histories(dataset, HSTU_PROTOCOL_LEAVE_ONE_OUT, info.max_item);
    fuzz_histories(dataset, HSTU_PROTOCOL_SESSIONS, info.max_item);
    fuzz_samples(dataset, info.max_item, HSTU_TRUNCATION_OLDEST);
    fuzz_samples(dataset, info.max_item, HSTU_TRUNCATION_NEWEST);
    fuzz_replay(dataset, info.max_item, 0);
    fuzz_replay(dataset, info.max_item, 1);
    hstu_dataset_close(dataset);
}

/* The input as what follows `header`, or, when it begins with a letter as seeds do, as a whole file. A header that is no
 * longer the format's would keep every input out, so on the first call `good` must open behind it. */
static inline void fuzz_dataset_behind(const char *header, const char *good, const uint8_t *data, size_t size)
{
    static int proved;
    const size_t header_bytes = strlen(header), good_bytes = strlen(good);
    const bool whole = size && ((data[0] | 0x20) >= 'a' && (data[0] | 0x20) <= 'z');
    const size_t room = header_bytes + (size > good_bytes ? size : good_bytes);
    uint8_t *file = malloc(room);
    if (!file)
        return;
    memcpy(file, header, header_bytes);
    if (!proved) {
        hstu_dataset *dataset = NULL;
        memcpy(file + header_bytes, good, good_bytes);
        FUZZ_CHECK(hstu_dataset_open(&dataset, fuzz_file(file, header_bytes + good_bytes), NULL, NULL) == HSTU_OK);
        hstu_dataset_close(dataset);
        proved = 1;
    }
    if (size)
        memcpy(file + header_bytes, data, size);
    fuzz_dataset(whole ? data : file, whole ? size : header_bytes + size);
    free(file);
}

#endif
