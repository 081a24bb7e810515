/* The files that a set's events become: sequences, sessions with their metadata.json, whole users for ranking. */
#ifndef HS_DATA_EVENT_FILES_H
#define HS_DATA_EVENT_FILES_H

#include "base/json.h"
#include "base/outfile.h"
#include "base/path.h"
#include "data/eventsink.h"
#include "data/features.h"
#include "data/ranking_csv.h"
#include "data/sequences.h"
#include "data/sessions.h"
#include "data/warnings.h"

#include <stdbool.h>

enum { HS_EVENT_FILES_MORE = 4 };

typedef struct hs_event_files {
    hs_path folder, sequences_path, sessions_path, ranking_path, metadata_path;
    /* Under temporary names until the commit; NULL: not written. */
    hs_sequences_writer *sequences;
    hs_outfile *sessions, *ranking, *metadata;
    /* Files of the set beside these: the caller names and makes them; they are swept, committed and discarded with the rest. */
    hs_path more_path[HS_EVENT_FILES_MORE];
    hs_outfile *more[HS_EVENT_FILES_MORE]; /* NULL: not written, so an older one is removed */
    size_t n_more;
    /* What the visit told. */
    hs_event_counts counts;
    hs_sessions found; /* numbers alone */
    double disk_s;     /* spent waiting for the disk */
} hs_event_files;      /* zeroed before the first call */

typedef struct hs_event_files_plan {
    hs_eventsink *sink; /* finished */
    const char *dataset_name;
    const hs_session_rules *rules; /* NULL: no sessions and no metadata.json */
    const hs_features *features;   /* NULL: none */
    bool ranking;                  /* KuaiRand's processed_seqs.csv; wants features */
    size_t n_logs;
    uint64_t memory_limit;
    hs_warnings *warnings;
    /* What becomes __metadata__, NULL without memory: called with likely counts, then with the true ones, and each time with the
     * warnings that there are. */
    cJSON *(*make_metadata)(void *ctx, const hs_event_counts *counts);
    void *ctx;
} hs_event_files_plan;

/* Sets the paths in `folder`; then, where the caller has set more_path, prepare: the folder must take new files, and what killed
 * runs left there goes. */
hstu_status hs_event_files_name(hs_event_files *files, const char *folder, hstu_error *err);
hstu_status hs_event_files_prepare(const hs_event_files *files, hstu_error *err);
/* Makes the files under temporary names. */
hstu_status hs_event_files_write(hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err);
/* Gives them their names. Whenever the process is killed, each file that is there is whole, no two of them are of different
 * runs, and a folder with metadata.json has all. */
hstu_status hs_event_files_commit(hs_event_files *files, hstu_error *err);
/* What was not committed goes. */
void hs_event_files_discard(hs_event_files *files);

#endif
