/* Preprocessing of MovieLens: events, and the text files of both references. */
#include "data/preprocess_sets.h"

#include "base/error.h"
#include "data/movielens.h"
#include "data/movielens_csv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SASREC, CANDIDATES, N_MORE };

/* Everything that one run holds. */
typedef struct movielens {
    hs_preprocessing *p;
    const hs_movielens_set *set;
    hs_movielens_files found;
    hs_mlusers users; /* of a set that has them */
    hs_intlist movies;
    bool fractions;
    hs_movielens_csv *sasrec, *ranking;
} movielens;

static hstu_status read_ratings(movielens *m, hstu_error *err)
{
    char what[sizeof m->found.ratings.text + 32];
    const char *path = m->found.ratings.text;
    hs_input_file file = {0};
    HS_TRY(hs_movielens_read(m->set, path, m->p->sink, &m->fractions, &file, &m->p->options->progress, err));
    HS_TRY(hs_preprocessing_input(m->p, path, file.bytes, file.hash, err));
    (void)snprintf(what, sizeof what, "the ratings in '%s'", path);
    return hs_preprocessing_finish(m->p, what, err);
}

static hstu_status read_others(movielens *m, hstu_error *err)
{
    const hstu_progress *progress = &m->p->options->progress;
    hs_input_file file = {0};
    if (m->found.users.text[0]) {
        HS_TRY(hs_mlusers_read(&m->users, m->found.users.text, progress, err));
        HS_TRY(hs_preprocessing_input(m->p, m->found.users.text, m->users.file_bytes, m->users.file_hash, err));
    }
    if (!m->found.movies.text[0])
        return HSTU_OK;
    HS_TRY(hs_movielens_read_movies(&m->movies, m->set, m->found.movies.text, &file, progress, err));
    return hs_preprocessing_input(m->p, m->found.movies.text, file.bytes, file.hash, err);
}

static hstu_status take_features(movielens *m, hstu_error *err)
{
    hs_preprocessing *p = m->p;
    p->n_ranking_users = (uint64_t)p->users.n;
    if (!m->set->dat)
        return HSTU_OK;
    HS_TRY(hs_mlusers_features(&p->features, &m->users, p->users.id, (size_t)p->users.n, err));
    p->has_features = true;
    p->n_ranking_users -= p->features.n_users_without;
    if (p->features.n_users_without == 0)
        return HSTU_OK;
    return hs_warnings_add(&p->warnings, err,
        "%s lacks %" PRIu64 " of %" PRId64 " users, whose contextual features are 0; %s leaves them out, as the "
        "reference does",
        hs_path_base(m->found.users.text), p->features.n_users_without, p->users.n,
        hs_path_base(p->files.ranking_path.text));
}

static hstu_status put_texts(void *ctx, const hs_event_block *block, hstu_error *err)
{
    const movielens *m = ctx;
    HS_TRY(hs_movielens_csv_put(m->sasrec, block, err));
    return hs_movielens_csv_put(m->ranking, block, err);
}

static hstu_status write_texts(movielens *m, hstu_error *err)
{
    hs_event_files *files = &m->p->files;
    const hs_movielens_events from = {
        &m->p->users, m->set->dat ? &m->users : NULL, .halves = !m->set->dat, .fractions = m->fractions};
    const hs_block_consumer consumer = {.ctx = m, .in_turn = put_texts};
    HS_TRY(hs_sasrec_csv_open(&m->sasrec, files->more_path[SASREC].text, &from, err));
    HS_TRY(hs_movielens_csv_open(&m->ranking, files->ranking_path.text, &from, err));
    HS_TRY(hs_eventsink_visit(m->p->sink, &consumer, NULL, err));
    hs_movielens_csv *sasrec = m->sasrec, *ranking = m->ranking;
    m->sasrec = NULL;
    HS_TRY(hs_movielens_csv_finish(&files->more[SASREC], sasrec, NULL, err));
    m->ranking = NULL;
    HS_TRY(hs_movielens_csv_finish(&files->ranking, ranking, NULL, err));
    if (!m->found.movies.text[0])
        return HSTU_OK;
    return hs_candidates_write(&files->more[CANDIDATES], files->more_path[CANDIDATES].text, &m->movies, err);
}

static hstu_status run_all(movielens *m, hstu_error *err)
{
    hs_preprocessing *p = m->p;
    HS_TRY(hs_movielens_files_find(&m->found, m->set, p->options->data_root, &p->warnings, err));
    const char *folder = m->found.folder.text;
    HS_TRY(hs_preprocessing_name(p, folder, err));
    HS_TRY(hs_path_join(&p->files.more_path[SASREC], folder, "sasrec_format.csv", err));
    HS_TRY(hs_path_join(&p->files.more_path[CANDIDATES], folder, "candidates.txt", err));
    p->files.n_more = N_MORE;
    HS_TRY(hs_preprocessing_begin(p, err));
    HS_TRY(read_ratings(m, err));
    HS_TRY(read_others(m, err));
    HS_TRY(take_features(m, err));
    if (!p->options->no_text)
        HS_TRY(write_texts(m, err));
    return hs_preprocessing_write(p, false, err);
}

static void fill_report(const movielens *m, hstu_preprocess_report *report)
{
    const hs_event_files *files = &m->p->files;
    hs_preprocessing_report(m->p, report);
    if (m->p->options->no_text)
        return;
    memcpy(report->ranking_path, files->ranking_path.text, sizeof report->ranking_path);
    memcpy(report->sasrec_path, files->more_path[SASREC].text, sizeof report->sasrec_path);
    if (m->found.movies.text[0])
        memcpy(report->candidates_path, files->more_path[CANDIDATES].text, sizeof report->candidates_path);
}

bool hs_movielens_knows(const char *dataset_name)
{
    return hs_movielens_find(dataset_name) != NULL;
}

hstu_status hs_movielens_preprocess(hs_preprocessing *p, hstu_preprocess_report *report, hstu_error *err)
{
    movielens m = {.p = p, .set = hs_movielens_find(p->options->dataset_name)};
    p->dataset_name = m.set->name;
    const hstu_status status = run_all(&m, err);
    if (status == HSTU_OK)
        fill_report(&m, report);
    hs_movielens_csv_discard(m.sasrec);
    hs_movielens_csv_discard(m.ranking);
    hs_mlusers_free(&m.users);
    hs_intlist_free(&m.movies);
    return status;
}
