/* MovieLens 1M and 20M: their files, their ratings as events, the movies that may be recommended. A rating is an event whose
 * action is the rating's class, as NVIDIA's preprocessing counts it: 0 .. 4 for 1 .. 5, 0 .. 9 for 0.5 .. 5.0. */
#ifndef HS_DATA_MOVIELENS_H
#define HS_DATA_MOVIELENS_H

#include "base/path.h"
#include "data/eventsink.h"
#include "data/intlist.h"
#include "data/mlusers.h"
#include "data/warnings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_movielens_set {
    const char *name; /* "ml-1m", also the folder's */
    bool dat;         /* .dat files without a header, and users.dat; else .csv */
    int n_classes;
} hs_movielens_set;

typedef struct hs_movielens_files {
    hs_path folder; /* where results go */
    hs_path ratings;
    hs_path users, movies; /* "" where there is none */
} hs_movielens_files;

/* A file that was read. */
typedef struct hs_input_file {
    uint64_t bytes, hash; /* XXH3 */
} hs_input_file;

/* NULL when `name` is no MovieLens set; capitals and small letters, '-' and '_' are alike. */
const hs_movielens_set *hs_movielens_find(const char *name);
/* Looks in <data_root>/<name> for ratings, users and movies, plain or .gz. HSTU_ENOENT without ratings, or without the users
 * of a set that has them; absent movies are a warning. */
hstu_status hs_movielens_files_find(hs_movielens_files *out, const hs_movielens_set *set, const char *data_root,
    hs_warnings *warnings, hstu_error *err);

/* Gives the sink every rating, in the order of the file. *fractions: some rating has a point ("4.0"), so pandas reads all as floats.
 * HSTU_EFORMAT with file, line and column. */
hstu_status hs_movielens_read(const hs_movielens_set *set, const char *path, hs_eventsink *sink, bool *fractions,
    hs_input_file *file, const hstu_progress *progress, hstu_error *err);
/* The movies' ids, in the order of the file. */
hstu_status hs_movielens_read_movies(hs_intlist *out, const hs_movielens_set *set, const char *path,
    hs_input_file *file, const hstu_progress *progress, hstu_error *err);

#endif
