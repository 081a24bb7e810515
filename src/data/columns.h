/* An open sequence file as columns, whatever its kind: what histories, ranking samples and replays are made from. */
#ifndef HS_DATA_COLUMNS_H
#define HS_DATA_COLUMNS_H

#include "data/dataset_int.h"

/* Borrows the data set. A row is a user, of a sessions file a session; a sasrec file may hold several rows of a
 * user. */
typedef struct hs_columns {
    const hstu_dataset *dataset;
    int64_t n;              /* rows */
    const int64_t *user_id; /* [n] */
    const int64_t *offset;  /* [n + 1] into the columns below, each [offset[n]] */
    const int64_t *item;    /* raw ids */
    const int64_t *time;    /* in the file's unit; NULL without times */
    const uint8_t *flags;   /* HS_EVENT_DUPLICATE and log numbers of an events file, else NULL */
    const uint8_t *mask;    /* actions: one of these two */
    const int64_t *number;
    const int64_t *feature[HS_FEATURES_N]; /* [n] each, by hs_feature_name; NULL where the file lacks it */
} hs_columns;

hs_columns hs_columns_of(const hstu_dataset *dataset);

/* How events become a model's inputs. */
typedef struct hs_input_rules {
    int64_t item_offset; /* added to items */
    int64_t time_unit;   /* times are divided by it, rounded down; >= 1 */
} hs_input_rules;

/* Of the options that hstu_history_options documents, those that hold for this kind of file. */
hs_input_rules hs_input_rules_of(
    const hstu_dataset *dataset, int64_t item_id_offset, int64_t shift_id_by, int64_t time_unit_ms);

/* HSTU_EINVAL, naming the item, when the sum is no 64-bit integer. */
hstu_status hs_columns_item(
    const hs_columns *columns, const hs_input_rules *rules, int64_t row, int64_t event, int64_t *out, hstu_error *err);
int64_t hs_columns_action(const hs_columns *columns, int64_t event);
int64_t hs_input_time(const hs_input_rules *rules, int64_t time);

/* HSTU_EINVAL for a file that holds no whole users with actions, or does not say how many logs it was made of. */
hstu_status hs_columns_check_ranking(const hstu_dataset *dataset, hstu_error *err);
/* Of a file that hs_columns_check_ranking accepts: false when a log or the features file lacks the row's user. */
bool hs_columns_complete(const hs_columns *columns, int64_t row);
/* The names of the features that are there, in the order of hs_feature_name; returns how many. */
int64_t hs_columns_feature_names(const hs_columns *columns, const char *name[HS_FEATURES_N]);
/* A row's codes of these features into out[0], out[stride], out[2 * stride], ... */
void hs_columns_feature_codes(const hs_columns *columns, int64_t row, int64_t *out, int64_t stride);

#endif
