/* Writing the original's processed_inference_sequences.csv and metadata.json. */
#ifndef HS_DATA_SESSION_CSV_H
#define HS_DATA_SESSION_CSV_H

#include "base/outfile.h"
#include "data/sessions.h"

/* On success *out is complete but for hs_outfile_commit. */
hstu_status hs_session_csv_write(hs_outfile **out, const char *path, const hs_event_view *view,
    const hs_sessions *sessions, const hstu_progress *progress, hstu_error *err);
/* The original's six keys. */
hstu_status hs_session_metadata_write(hs_outfile **out, const char *path, const char *dataset_name,
    const hs_sessions *sessions, const hs_session_rules *rules, hstu_error *err);

#endif
