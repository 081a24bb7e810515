/* MovieLens 1M's users.dat: four columns of every user as small integers, as each of the two references counts them. */
#ifndef HS_DATA_MLUSERS_H
#define HS_DATA_MLUSERS_H

#include "data/features.h"

#include <stddef.h>
#include <stdint.h>

/* No file of users or movies is larger: both are held in memory. */
enum { HS_ML_COLUMNS = 4, HS_ML_MAX_VALUES = 1 << 16, HS_ML_MAX_ROWS = 1 << 20 };

/* "sex", "age_group", "occupation", "zip_code": both references' names and order. */
extern const char *const hs_ml_column[HS_ML_COLUMNS];

typedef struct hs_mluser {
    int64_t id;
    size_t row; /* of the file, from 0 */
} hs_mluser;

/* A column's values count as numbers where all of them are integers, else as texts: that is how pandas reads them. */
typedef struct hs_mlusers {
    hs_mluser *user; /* [n] by id */
    size_t n;
    int32_t *first[HS_ML_COLUMNS];  /* [n] by row: place of the user's value among all, by first appearance, from 1 */
    int32_t *sorted[HS_ML_COLUMNS]; /* [n] by row: the same by order of values, from 0 */
    const char **value[HS_ML_COLUMNS]; /* [n_values] the texts in the order of first[] */
    size_t n_values[HS_ML_COLUMNS];
    hs_arena arena; /* the texts */
    uint64_t file_bytes, file_hash;
} hs_mlusers;

/* HSTU_EFORMAT with file, line and field; so are more rows, or different values in a column, than above. */
hstu_status hs_mlusers_read(hs_mlusers *out, const char *path, const hstu_progress *progress, hstu_error *err);
/* The row of a user, or -1. */
int64_t hs_mlusers_find(const hs_mlusers *users, int64_t id);
/* The users' contextual features, numbered by first appearance. *out owns the texts then, which `users` has no more. */
hstu_status hs_mlusers_features(
    hs_features *out, hs_mlusers *users, const int64_t *user_id, size_t n_users, hstu_error *err);
void hs_mlusers_free(hs_mlusers *users); /* a zeroed one is fine */

#endif
