/* Writing the original's processed_inference_sequences.csv and metadata.json. */
#ifndef HS_DATA_SESSION_CSV_H
#define HS_DATA_SESSION_CSV_H

#include "base/outfile.h"
#include "data/sessions.h"

/* Begins the file with its header. */
hstu_status hs_session_csv_open(hs_outfile **out, const char *path, hstu_error *err);
/* Adds the sessions that the cutter finds in the view. */
hstu_status hs_session_csv_feed(
    hs_outfile *file, hs_session_cutter *cutter, const hs_event_view *view, hstu_error *err);
/* The original's six keys. */
hstu_status hs_session_metadata_write(hs_outfile **out, const char *path, const char *dataset_name,
    const hs_sessions *sessions, const hs_session_rules *rules, hstu_error *err);

#endif
