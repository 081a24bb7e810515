/* Contextual features of users as small integers: of KuaiRand, read here from user_features_<set>.csv, and of MovieLens. */
#ifndef HS_DATA_FEATURES_H
#define HS_DATA_FEATURES_H

#include "base/arena.h"
#include "base/dynbuf.h"
#include "hstu/dataset.h"

#include <stddef.h>
#include <stdint.h>

/* KuaiRand's features are the first ones of all. */
enum { HS_FEATURES_KUAIRAND = 5, HS_FEATURES_N = 9, HS_FEATURES_MAX_VALUES = 1024 };

/* "user_active_degree", "follow_user_num_range", ..., "sex", ...: the order of the reference's models. */
extern const char *const hs_feature_name[HS_FEATURES_N];

typedef struct hs_feature_row {
    size_t first, len; /* bytes */
} hs_feature_row;

typedef struct hs_features {
    int64_t *code[HS_FEATURES_N];      /* [n_users]: place of the user's value, from 1; 0: the file lacks the user;
                                          NULL: the set has no such feature */
    const char **value[HS_FEATURES_N]; /* [n_values]: the texts in order of first appearance in the file */
    size_t n_values[HS_FEATURES_N];
    uint64_t n_users_without; /* users that the file lacks */
    uint64_t file_bytes, file_hash;
    hs_arena arena; /* the texts */
    /* Every column but user_id, for processed_seqs.csv: the columns of `code` as numbers, others as they stand. */
    hs_dynbuf header; /* ",is_lowactive_period,..." */
    hs_dynbuf text;
    hs_feature_row *row; /* [n_users] places in text; of length 0: the file lacks the user */
} hs_features;

/* user_id: ascending. Every row of the file counts for the order of values, also of users that are not among user_id. */
hstu_status hs_features_read(hs_features *out, const char *path, const int64_t *user_id, size_t n_users,
    const hstu_progress *progress, hstu_error *err);
void hs_features_free(hs_features *features); /* a zeroed one is fine */

#endif
