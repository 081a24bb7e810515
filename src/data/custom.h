/* Anybody's logs: CSV files with a column for the user, the item and the time, and any number of columns for actions. */
#ifndef HS_DATA_CUSTOM_H
#define HS_DATA_CUSTOM_H

#include "data/eventsink.h"
#include "data/idtexts.h"
#include "data/timetext.h"
#include "data/warnings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_CUSTOM_MAX_ACTIONS = 64, HS_CUSTOM_ROW_BYTES = 1 << 20 };

typedef struct hs_custom_action {
    const char *column; /* in hs_custom's copy of action_columns */
    int weight; /* 1 .. 255, added to the action where the column is not 0; 0: the column is the action itself */
} hs_custom_action;

/* A column of ids. All of them whole numbers: they are kept. Else all are texts, numbered by first appearance. */
typedef struct hs_custom_ids {
    const char *what, *column; /* "users", the column's name */
    bool are_texts;
    hs_idtexts texts;
} hs_custom_ids;

/* A file that was read. */
typedef struct hs_custom_input {
    uint64_t bytes, hash; /* XXH3 */
} hs_custom_input;

typedef struct hs_custom {
    const hstu_preprocess_options *options; /* borrowed */
    char delimiter;
    hs_time_unit unit;
    char *action_names;
    hs_custom_action action[HS_CUSTOM_MAX_ACTIONS];
    size_t n_actions;
    hs_custom_ids users, items;
    size_t max_text_bytes;  /* of the texts of users and of items, each */
    hs_custom_input *input; /* [options->n_inputs] of those that were read */
    int64_t min_time_ms, max_time_ms;
} hs_custom;

/* Checks the options; max_text_bytes bounds the tables of ids. HSTU_EINVAL names the option. */
hstu_status hs_custom_open(
    hs_custom *out, const hstu_preprocess_options *options, size_t max_text_bytes, hstu_error *err);
/* Adds every row to the sink, files in the order in which they were named. *again: a column of ids that began with whole
 * numbers holds a text, so what the sink has is of no use: read once more into a new one (at most two times). HSTU_EFORMAT
 * with file, line and column. */
hstu_status hs_custom_read(hs_custom *custom, hs_eventsink *sink, hs_warnings *warnings, bool *again, hstu_error *err);
void hs_custom_close(hs_custom *custom); /* a zeroed one is fine */

#endif
