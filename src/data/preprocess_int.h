/* What the preprocessing of every kind of set has in common. */
#ifndef HS_DATA_PREPROCESS_INT_H
#define HS_DATA_PREPROCESS_INT_H

#include "data/event_files.h"
#include "data/eventsink.h"
#include "data/features.h"
#include "data/sessions.h"
#include "data/warnings.h"

#include <stdbool.h>

/* Everything that one run holds. The set's own part fills what is not said to be filled here. */
typedef struct hs_preprocessing {
    const hstu_preprocess_options *options;
    const char *dataset_name; /* as metadata have it; borrowed */
    hs_session_rules rules;   /* filled by open */
    hs_warnings warnings;
    cJSON *inputs;      /* array: name, bytes, hash of every file that was read */
    cJSON *set_options; /* object: options that only this set has, for the metadata; NULL: none. Owned */
    uint64_t set_bytes; /* of memory_limit, for the set's own tables */
    size_t n_logs;
    hs_eventsink *sink;
    hs_event_users users; /* filled by finish */
    hs_features features;
    bool has_features;
    uint64_t n_ranking_users;
    hs_event_files files;
    double begin_s, read_s; /* when it began; spent until the rows were read */
} hs_preprocessing;

/* Checks the options that all sets have. Close it on failure too. */
hstu_status hs_preprocessing_open(hs_preprocessing *p, const hstu_preprocess_options *options, hstu_error *err);
void hs_preprocessing_close(hs_preprocessing *p);

/* Names the files in `folder`. */
hstu_status hs_preprocessing_name(hs_preprocessing *p, const char *folder, hstu_error *err);
/* Before reading, when p->files has all names: prepares the folder and opens p->sink. Once more: an empty sink again. */
hstu_status hs_preprocessing_begin(hs_preprocessing *p, hstu_error *err);
/* A file that was read, in the order of reading. */
hstu_status hs_preprocessing_input(
    hs_preprocessing *p, const char *path, uint64_t bytes, uint64_t hash, hstu_error *err);
/* After the last row; HSTU_EFORMAT without any: what: "the logs of KuaiRand-1K". */
hstu_status hs_preprocessing_finish(hs_preprocessing *p, const char *what, hstu_error *err);
/* Writes and commits p->files; ranking: with KuaiRand's processed_seqs.csv. What the set adds to p->files.more is there. */
hstu_status hs_preprocessing_write(hs_preprocessing *p, bool ranking, hstu_error *err);
void hs_preprocessing_report(const hs_preprocessing *p, hstu_preprocess_report *report);

#endif
