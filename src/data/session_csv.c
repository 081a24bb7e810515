/* The original's text files, byte for byte: Python's json.dumps in cells that pandas quotes, and json.dump(indent=2). */
#include "data/session_csv.h"

#include "base/error.h"

#include <inttypes.h>

static hstu_status write_session(
    hs_outfile *file, const hs_event_view *view, const hs_session *session, hstu_error *err)
{
    HS_TRY(hs_outfile_printf(file, err, "%" PRId64 ",\"[", view->user_id[session->user]));
    for (int64_t i = 0; i < session->n; i++)
        HS_TRY(hs_outfile_printf(file, err, "%s%" PRId64, i ? ", " : "", view->item[session->first + i]));
    HS_TRY(hs_outfile_printf(file, err, "]\",\"["));
    for (int64_t i = 0; i < session->n; i++)
        HS_TRY(hs_outfile_printf(file, err, "%s%d", i ? ", " : "", view->action[session->first + i]));
    return hs_outfile_printf(file, err, "]\",%" PRId64 "\n", session->n);
}

hstu_status hs_session_csv_open(hs_outfile **out, const char *path, hstu_error *err)
{
    hs_outfile *file = NULL;
    HS_TRY(hs_outfile_open(&file, path, err));
    const hstu_status status = hs_outfile_printf(file, err, "user_id,sequence,actions,length\n");
    if (status != HSTU_OK)
        hs_outfile_discard(file);
    else
        *out = file;
    return status;
}

hstu_status hs_session_csv_feed(hs_outfile *file, hs_session_cutter *cutter, const hs_event_view *view, hstu_error *err)
{
    HS_TRY(hs_session_cutter_feed(cutter, view, err));
    for (int64_t i = 0; i < cutter->n_latest; i++)
        HS_TRY(write_session(file, view, &cutter->all.session[i], err));
    return HSTU_OK;
}

hstu_status hs_session_metadata_write(hs_outfile **out, const char *path, const char *dataset_name,
    const hs_sessions *sessions, const hs_session_rules *rules, hstu_error *err)
{
    hs_outfile *file = NULL;
    HS_TRY(hs_outfile_open(&file, path, err));
    const hstu_status status = hs_outfile_printf(file, err,
        "{\n  \"dataset_name\": \"%s\",\n  \"num_sequences\": %" PRId64 ",\n  \"max_sequence_length\": %" PRId64
        ",\n  \"time_interval_s\": %" PRId64 ",\n  \"vocab_size\": %" PRId64 ",\n  \"num_users\": %" PRId64 "\n}",
        dataset_name, sessions->n, rules->max_sequence_length, rules->time_interval_s, sessions->vocab_size,
        sessions->n_users);
    if (status != HSTU_OK)
        hs_outfile_discard(file);
    else
        *out = file;
    return status;
}
