/* Reading MovieLens. References: Meta's preprocessor.py and NVIDIA's hstu_data_preprocessor.py, which read the same files. */
#include "data/movielens.h"

#include "base/error.h"
#include "data/csv.h"
#include "data/datfile.h"
#include "data/feedback.h"
#include "data/number.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHECK_ROWS = 4096, MS_PER_S = 1000, N_RATING_FIELDS = 4, N_MOVIE_FIELDS = 3, CSV_ROW_BYTES = 1 << 20 };

static const hs_movielens_set sets[] = {{"ml-1m", true, 5}, {"ml-20m", false, 10}};

static int folded(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

const hs_movielens_set *hs_movielens_find(const char *name)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        size_t k = 0;
        while (name[k] && folded(name[k]) == sets[i].name[k])
            k++;
        if (!name[k] && !sets[i].name[k])
            return &sets[i];
    }
    return NULL;
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

/* <folder>/<stem>.dat or .csv, or that with .gz; "" where there is neither. */
static hstu_status find_file(
    hs_path *out, const hs_movielens_set *set, const char *folder, const char *stem, hstu_error *err)
{
    for (int gz = 0; gz < 2; gz++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s.%s%s", stem, set->dat ? "dat" : "csv", gz ? ".gz" : "");
        HS_TRY(hs_path_join(out, folder, name, err));
        if (access(out->text, F_OK) == 0)
            return HSTU_OK;
        if (errno != ENOENT && errno != ENOTDIR)
            return hs_fail_errno(err, errno, "cannot open '%s'", out->text);
    }
    out->text[0] = '\0';
    return HSTU_OK;
}

static hstu_status fail_absent(
    const hs_movielens_files *files, const hs_movielens_set *set, const char *stem, hstu_error *err)
{
    return hs_fail(err, HSTU_ENOENT, 0, "'%s/%s.%s' does not exist: extract %s there", files->folder.text, stem,
        set->dat ? "dat" : "csv", set->name);
}

hstu_status hs_movielens_files_find(
    hs_movielens_files *out, const hs_movielens_set *set, const char *data_root, hs_warnings *warnings, hstu_error *err)
{
    hs_movielens_files files = {0};
    HS_TRY(hs_path_join(&files.folder, data_root, set->name, err));
    HS_TRY(find_file(&files.ratings, set, files.folder.text, "ratings", err));
    if (!files.ratings.text[0])
        return fail_absent(&files, set, "ratings", err);
    if (set->dat) {
        HS_TRY(find_file(&files.users, set, files.folder.text, "users", err));
        if (!files.users.text[0])
            return fail_absent(&files, set, "users", err);
    }
    HS_TRY(find_file(&files.movies, set, files.folder.text, "movies", err));
    if (!files.movies.text[0])
        HS_TRY(hs_warnings_add(warnings, err, "movies.%s of %s is missing, so candidates.txt is not written",
            set->dat ? "dat" : "csv", set->name));
    *out = files;
    return HSTU_OK;
}

/* ---- Rows of either kind of file -------------------------------------------------------------------------------- */

/* An open .dat or .csv file, and where the fields that are read stand in its rows. */
typedef struct table {
    bool dat;
    hs_datfile lines;
    hs_csv csv;
    size_t index[N_RATING_FIELDS];
} table;

static hstu_status table_open(table *t, const hs_movielens_set *set, const char *path, const char *const *dat_name,
    size_t n_dat, const char *const *csv_name, size_t n_csv, hstu_error *err)
{
    *t = (table){.dat = set->dat};
    for (size_t i = 0; i < N_RATING_FIELDS; i++)
        t->index[i] = i;
    if (t->dat)
        return hs_datfile_open(&t->lines, path, dat_name, n_dat, err);
    HS_TRY(hs_csv_open(&t->csv, path, CSV_ROW_BYTES, err));
    for (size_t i = 0; i < n_csv; i++) {
        const hstu_status status = hs_csv_column(&t->csv, csv_name[i], &t->index[i], err);
        if (status != HSTU_OK) {
            hs_csv_close(&t->csv);
            return status;
        }
    }
    return HSTU_OK;
}

static void table_close(table *t)
{
    hs_datfile_close(&t->lines);
    hs_csv_close(&t->csv);
}

static hs_bytesource *table_source(const table *t)
{
    return t->dat ? t->lines.source : t->csv.source;
}

/* The next row, with a look at the caller's wishes now and then. */
static hstu_status table_next(table *t, uint64_t row, bool *more, const hstu_progress *progress, hstu_error *err)
{
    if (row % CHECK_ROWS == 0) {
        const hs_bytesource *source = table_source(t);
        HS_TRY(hs_progress_check(progress, err));
        hs_progress_step(progress, "reading", hs_bytesource_done_bytes(source), hs_bytesource_file_bytes(source));
    }
    return t->dat ? hs_datfile_next(&t->lines, more, err) : hs_csv_next(&t->csv, more, err);
}

static const hs_csv_field *table_field(const table *t, size_t i)
{
    return t->dat ? &t->lines.field[t->index[i]] : &t->csv.field[t->index[i]];
}

static hstu_status table_int(const table *t, size_t i, int64_t min, int64_t max, int64_t *out, hstu_error *err)
{
    return t->dat ? hs_datfile_int(&t->lines, t->index[i], min, max, out, err)
                  : hs_csv_int(&t->csv, t->index[i], min, max, out, err);
}

static void table_input(const table *t, hs_input_file *file)
{
    *file = (hs_input_file){hs_bytesource_file_bytes(table_source(t)), hs_bytesource_hash(table_source(t))};
}

/* ---- Ratings ---------------------------------------------------------------------------------------------------- */

/* "3", "3.5" or "3.0": a whole number of halves, from 1 to 10. */
static bool parse_halves(const char *text, size_t len, int64_t *halves, bool *point)
{
    const char *dot = len ? memchr(text, '.', len) : NULL;
    const size_t whole_len = dot ? (size_t)(dot - text) : len;
    int64_t whole = 0;
    if (!hs_number_int(text, whole_len, &whole) || text[0] == '-' || whole > 5)
        return false;
    bool half = false;
    for (size_t i = whole_len + 1; i < len; i++) {
        if (text[i] != '0' && !(text[i] == '5' && i == whole_len + 1))
            return false;
        half = half || text[i] == '5';
    }
    *point = dot != NULL;
    *halves = whole * 2 + half;
    return *halves >= 1 && *halves <= 10 && !(dot && whole_len + 1 == len);
}

static hstu_status read_rating(
    const table *t, const hs_movielens_set *set, hs_event *event, bool *fractions, hstu_error *err)
{
    int64_t rating = 0, time_s = 0;
    HS_TRY(table_int(t, 0, 1, INT64_MAX, &event->user, err));
    HS_TRY(table_int(t, 1, 1, INT64_MAX - 1, &event->item, err));
    if (set->dat) {
        HS_TRY(table_int(t, 2, 1, set->n_classes, &rating, err));
    } else {
        const hs_csv_field *field = table_field(t, 2);
        bool point = false;
        if (!parse_halves(field->text, field->len, &rating, &point))
            return hs_csv_fail(&t->csv, t->index[2], err, "expected a rating of 0.5, 1.0, ... or 5.0, found '%.*s'%s",
                hs_number_shown(field->len), field->text, field->len > HS_NUMBER_SHOWN ? "..." : "");
        *fractions = *fractions || point;
    }
    HS_TRY(table_int(t, 3, INT64_MIN / MS_PER_S, INT64_MAX / MS_PER_S, &time_s, err));
    event->time_ms = time_s * MS_PER_S;
    event->action = (uint8_t)(rating - 1);
    event->hash = event->action; /* the other columns are compared by themselves */
    return HSTU_OK;
}

static hstu_status read_ratings(table *t, const hs_movielens_set *set, hs_eventsink *sink, bool *fractions,
    const hstu_progress *progress, hstu_error *err)
{
    hs_event event = {0};
    for (uint64_t row = 0;; row++) {
        bool more = false;
        HS_TRY(table_next(t, row, &more, progress, err));
        if (!more)
            return HSTU_OK;
        HS_TRY(read_rating(t, set, &event, fractions, err));
        HS_TRY(hs_eventsink_add(sink, &event, err));
    }
}

hstu_status hs_movielens_read(const hs_movielens_set *set, const char *path, hs_eventsink *sink, bool *fractions,
    hs_input_file *file, const hstu_progress *progress, hstu_error *err)
{
    static const char *const dat[] = {"user_id", "movie_id", "rating", "unix_timestamp"};
    static const char *const csv[] = {"userId", "movieId", "rating", "timestamp"};
    table t;
    *fractions = false;
    HS_TRY(table_open(&t, set, path, dat, N_RATING_FIELDS, csv, N_RATING_FIELDS, err));
    const hstu_status status = read_ratings(&t, set, sink, fractions, progress, err);
    if (status == HSTU_OK)
        table_input(&t, file);
    table_close(&t);
    return status;
}

/* ---- Movies ----------------------------------------------------------------------------------------------------- */

static hstu_status read_movies(hs_intlist *out, table *t, const hstu_progress *progress, hstu_error *err)
{
    for (uint64_t row = 0;; row++) {
        bool more = false;
        int64_t id = 0;
        HS_TRY(table_next(t, row, &more, progress, err));
        if (!more)
            return HSTU_OK;
        HS_TRY(table_int(t, 0, 1, INT64_MAX - 1, &id, err));
        if (out->n == HS_ML_MAX_ROWS)
            return t->dat ? hs_datfile_fail(&t->lines, 0, err, "there are more than %d movies", HS_ML_MAX_ROWS)
                          : hs_csv_fail(&t->csv, t->index[0], err, "there are more than %d movies", HS_ML_MAX_ROWS);
        if (!hs_intlist_push(out, id))
            return hs_fail_nomem(err, out->n * 2 * sizeof id, "the movies");
    }
}

hstu_status hs_movielens_read_movies(hs_intlist *out, const hs_movielens_set *set, const char *path,
    hs_input_file *file, const hstu_progress *progress, hstu_error *err)
{
    static const char *const dat[] = {"movie_id", "title", "genres"};
    static const char *const csv[] = {"movieId"};
    hs_intlist movies = {0};
    table t;
    HS_TRY(table_open(&t, set, path, dat, N_MOVIE_FIELDS, csv, 1, err));
    const hstu_status status = read_movies(&movies, &t, progress, err);
    if (status == HSTU_OK) {
        table_input(&t, file);
        *out = movies;
    } else {
        hs_intlist_free(&movies);
    }
    table_close(&t);
    return status;
}
