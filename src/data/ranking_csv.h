/* Writing NVIDIA's processed_seqs.csv: one row a user, events as lists, then the user's contextual features. */
#ifndef HS_DATA_RANKING_CSV_H
#define HS_DATA_RANKING_CSV_H

#include "base/outfile.h"
#include "data/events.h"
#include "data/features.h"

/* The users it has rows for: those that each of n_logs logs and the features file hold. */
uint64_t hs_ranking_csv_users(const hs_event_view *view, const hs_features *features, size_t n_logs);

/* The file as pandas' to_csv writes it, users ascending. On success *out is complete but for hs_outfile_commit. */
hstu_status hs_ranking_csv_write(hs_outfile **out, const char *path, const hs_event_view *view,
    const hs_features *features, size_t n_logs, const hstu_progress *progress, hstu_error *err);

#endif
