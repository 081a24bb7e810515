/* One visit of all users writes everything that is made of events. */
#include "data/event_files.h"

#include "base/clock.h"
#include "base/error.h"
#include "data/feedback.h"
#include "data/session_csv.h"
#include "data/spillfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
    EVENT_BYTES = 26,         /* of an event in the sequence file */
    RANKING_EVENT_BYTES = 15, /* of an event in processed_seqs.csv, at least */
    MAX_TEXT_BYTES = 4 << 20
};

/* ---- Names ------------------------------------------------------------------------------------------------------ */

hstu_status hs_event_files_name(hs_event_files *files, const char *folder, hstu_error *err)
{
    if (strlen(folder) >= sizeof files->folder.text)
        return hs_fail(err, HSTU_EINVAL, 0, "the path '%.80s...' is too long", folder);
    memcpy(files->folder.text, folder, strlen(folder) + 1);
    HS_TRY(hs_path_join(&files->sequences_path, folder, "sequences.safetensors", err));
    HS_TRY(hs_path_join(&files->sessions_path, folder, "processed_inference_sequences.csv", err));
    HS_TRY(hs_path_join(&files->ranking_path, folder, "processed_seqs.csv", err));
    return hs_path_join(&files->metadata_path, folder, "metadata.json", err);
}

hstu_status hs_event_files_prepare(const hs_event_files *files, hstu_error *err)
{
    if (faccessat(AT_FDCWD, files->folder.text, W_OK | X_OK, AT_EACCESS) != 0)
        return hs_fail_errno(err, errno, "cannot write into '%s'", files->folder.text);
    hs_outfile_sweep(files->sequences_path.text);
    hs_outfile_sweep(files->sessions_path.text);
    hs_outfile_sweep(files->ranking_path.text);
    hs_outfile_sweep(files->metadata_path.text);
    for (size_t i = 0; i < files->n_more; i++)
        hs_outfile_sweep(files->more_path[i].text);
    return HSTU_OK;
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

typedef struct writing {
    hs_event_files *files;
    hs_ranking_csv *ranking;
    hs_session_cutter cutter;
} writing;

static hstu_status take_anytime(void *ctx, const hs_event_block *block, hstu_error *err)
{
    writing *w = ctx;
    if (w->ranking)
        hs_ranking_csv_prepare(w->ranking, block);
    return hs_sequences_put(w->files->sequences, block, err);
}

static hstu_status take_in_turn(void *ctx, const hs_event_block *block, hstu_error *err)
{
    writing *w = ctx;
    if (w->files->sessions && !w->cutter.full)
        HS_TRY(hs_session_csv_feed(w->files->sessions, &w->cutter, &block->view, err));
    return w->ranking ? hs_ranking_csv_write(w->ranking, block, err) : HSTU_OK;
}

static hstu_status check_room(const hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err)
{
    const hs_event_users users = hs_eventsink_users(plan->sink);
    const uint64_t n_columns = 2 + (plan->features ? (uint64_t)HS_FEATURES_N : 0);
    const uint64_t bytes =
        (uint64_t)users.n_events * (uint64_t)(EVENT_BYTES + (plan->ranking ? RANKING_EVENT_BYTES : 0)) +
        (uint64_t)users.n * n_columns * sizeof(int64_t);
    return hs_disk_check(files->folder.text, bytes, "the sorted events", err);
}

static hstu_status make_sequences(hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err)
{
    const hs_event_users users = hs_eventsink_users(plan->sink);
    const hs_event_counts likely = {users.n_likely_duplicates, users.n_likely_unsorted};
    cJSON *metadata = plan->make_metadata(plan->ctx, &likely);
    if (!metadata)
        return hs_fail_nomem(err, sizeof *metadata, "the metadata of the sequences");
    const hstu_status status =
        hs_sequences_create(&files->sequences, files->sequences_path.text, &users, plan->features, metadata, err);
    cJSON_Delete(metadata);
    return status;
}

static hstu_status finish_sequences(hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err)
{
    cJSON *metadata = plan->make_metadata(plan->ctx, &files->counts);
    if (!metadata)
        return hs_fail_nomem(err, sizeof *metadata, "the metadata of the sequences");
    const hstu_status status = hs_sequences_finish(files->sequences, metadata, err);
    cJSON_Delete(metadata);
    return status;
}

static hstu_status open_texts(writing *w, const hs_event_files_plan *plan, const hs_event_users *users, hstu_error *err)
{
    const size_t n_threads = hs_eventsink_threads(plan->sink);
    const uint64_t bytes = plan->memory_limit / 32 / n_threads;
    if (plan->rules) {
        HS_TRY(hs_session_cutter_open(&w->cutter, plan->rules, err));
        HS_TRY(hs_session_csv_open(&w->files->sessions, w->files->sessions_path.text, err));
    }
    if (plan->ranking)
        HS_TRY(hs_ranking_csv_open(&w->ranking, w->files->ranking_path.text, users, plan->features, plan->n_logs,
            n_threads, bytes < MAX_TEXT_BYTES ? (size_t)bytes : MAX_TEXT_BYTES, err));
    return HSTU_OK;
}

static hstu_status keep_sessions(writing *w, const hs_event_files_plan *plan, hstu_error *err)
{
    hs_event_files *files = w->files;
    files->found = w->cutter.all;
    files->found.session = NULL;
    if (!plan->rules)
        return HSTU_OK;
    if (files->found.n == 0)
        HS_TRY(hs_warnings_add(plan->warnings, err, "no session has at least 2 events, so the sessions file is empty"));
    return hs_session_metadata_write(
        &files->metadata, files->metadata_path.text, plan->dataset_name, &files->found, plan->rules, err);
}

/* Onto the disk, so that only names are missing. */
static hstu_status flush(hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err)
{
    enum { N_TEXTS = 3 };
    hs_outfile *const texts[N_TEXTS] = {files->sessions, files->ranking, files->metadata};
    const hstu_progress *progress = plan->warnings->progress;
    const double begin = hs_clock_s();
    hs_progress_step(progress, "finishing", 0, 1 + N_TEXTS);
    HS_TRY(finish_sequences(files, plan, err));
    for (size_t i = 0; i < N_TEXTS; i++) {
        HS_TRY(hs_progress_check(progress, err));
        hs_progress_step(progress, "finishing", 1 + i, 1 + N_TEXTS);
        if (texts[i])
            HS_TRY(hs_outfile_finish(texts[i], err));
    }
    hs_progress_step(progress, "finishing", 1 + N_TEXTS, 1 + N_TEXTS);
    files->disk_s += hs_clock_s() - begin;
    return HSTU_OK;
}

hstu_status hs_event_files_write(hs_event_files *files, const hs_event_files_plan *plan, hstu_error *err)
{
    writing w = {.files = files};
    const hs_block_consumer consumer = {&w, take_anytime, plan->rules || plan->ranking ? take_in_turn : NULL};
    const hs_event_users users = hs_eventsink_users(plan->sink);
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(check_room(files, plan, err));
    HS_TRY_GOTO(make_sequences(files, plan, err));
    HS_TRY_GOTO(open_texts(&w, plan, &users, err));
    HS_TRY_GOTO(hs_eventsink_visit(plan->sink, &consumer, &files->counts, err));
    if (w.ranking)
        files->ranking = hs_ranking_csv_take(w.ranking);
    HS_TRY_GOTO(keep_sessions(&w, plan, err));
    HS_TRY_GOTO(flush(files, plan, err));
    HS_TRY_GOTO(hs_progress_check(plan->warnings->progress, err));
fail:
    hs_ranking_csv_close(w.ranking);
    hs_session_cutter_close(&w.cutter);
    return status;
}

/* ---- Names at last ---------------------------------------------------------------------------------------------- */

static hstu_status commit(hs_outfile **file, hstu_error *err)
{
    hs_outfile *committed = *file;
    *file = NULL;
    return hs_outfile_commit(committed, err);
}

/* Several renames are not one, so what an earlier run left goes first (also where this run writes none) and metadata.json
 * comes last. */
hstu_status hs_event_files_commit(hs_event_files *files, hstu_error *err)
{
    const double begin = hs_clock_s();
    for (size_t i = 0; i < files->n_more; i++) {
        if (files->more[i])
            HS_TRY(hs_outfile_finish(files->more[i], err));
    }
    HS_TRY(hs_outfile_remove(files->metadata_path.text, err));
    HS_TRY(hs_outfile_remove(files->sessions_path.text, err));
    HS_TRY(hs_outfile_remove(files->ranking_path.text, err));
    for (size_t i = 0; i < files->n_more; i++)
        HS_TRY(hs_outfile_remove(files->more_path[i].text, err));
    hs_sequences_writer *sequences = files->sequences;
    files->sequences = NULL;
    HS_TRY(hs_sequences_commit(sequences, err));
    HS_TRY(commit(&files->sessions, err));
    HS_TRY(commit(&files->ranking, err));
    for (size_t i = 0; i < files->n_more; i++)
        HS_TRY(commit(&files->more[i], err));
    HS_TRY(commit(&files->metadata, err));
    files->disk_s += hs_clock_s() - begin;
    return HSTU_OK;
}

void hs_event_files_discard(hs_event_files *files)
{
    hs_sequences_discard(files->sequences);
    hs_outfile_discard(files->sessions);
    hs_outfile_discard(files->ranking);
    hs_outfile_discard(files->metadata);
    for (size_t i = 0; i < files->n_more; i++)
        hs_outfile_discard(files->more[i]);
    files->sequences = NULL;
    files->sessions = files->ranking = files->metadata = NULL;
    memset(files->more, 0, sizeof files->more);
}
