/* Sequence files in text: one sequence a row, whole in memory. */
#ifndef HS_DATA_ROWS_H
#define HS_DATA_ROWS_H

#include "data/csv.h"
#include "data/features.h"
#include "data/intlist.h"
#include "hstu/dataset.h"

enum { HS_ROWS_MAX_BYTES = 1 << 28 }; /* longest row of a sequence file in text */

typedef struct hs_rows {
    hs_intlist user_id; /* [n], in file order; a user may have several rows */
    hs_intlist offset;  /* [n + 1] into the lists below */
    hs_intlist item, action;
    hs_intlist time;                   /* as long as item, or empty when the file has no times */
    hs_intlist feature[HS_FEATURES_N]; /* [n] each, by hs_feature_name; empty where the file lacks it */
} hs_rows;

void hs_rows_free(hs_rows *rows); /* a zeroed one is fine */

/* The original's processed_inference_sequences.csv: user_id, sequence, actions, length. csv: its header has been read. */
hstu_status hs_session_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err);
/* Meta's sasrec_format.csv: user_id, sequence_item_ids, sequence_ratings, sequence_timestamps. */
hstu_status hs_sasrec_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err);
/* NVIDIA's processed_seqs.csv: user_id, video_id, time_ms, action_weights, or of MovieLens user_id, movie_id, rating,
 * unix_timestamp, and the contextual features that are there. Times become milliseconds. */
hstu_status hs_ranking_csv_read(hs_rows *out, hs_csv *csv, const hstu_progress *progress, hstu_error *err);

#endif
