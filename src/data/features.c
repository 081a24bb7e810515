/* Contextual features of KuaiRand users. Reference: the five range columns of recsys-examples'
 * hstu_data_preprocessor.py, numbered from 1 in order of first appearance. */
#include "data/features.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/csv.h"
#include "data/feedback.h"
#include "data/kuairand_log.h"

#include <inttypes.h>
#include <string.h>

enum { CHECK_ROWS = 4096, TEXT_BYTES = 64 << 20, ROWS_BYTES = 1 << 30 };

const char *const hs_feature_name[HS_FEATURES_N] = {"user_active_degree", "follow_user_num_range",
    "fans_user_num_range", "friend_user_num_range", "register_days_range", "sex", "age_group", "occupation",
    "zip_code"};

/* The place of `field` among the feature's values, from 1; a new value is added. */
static hstu_status find_value(
    hs_features *features, const hs_csv *csv, size_t feature, size_t index, int64_t *code, hstu_error *err)
{
    const hs_csv_field *field = &csv->field[index];
    const char **value = features->value[feature];
    size_t *n = &features->n_values[feature];
    for (size_t i = 0; i < *n; i++) {
        if (strlen(value[i]) == field->len && memcmp(value[i], field->text, field->len) == 0) {
            *code = (int64_t)i + 1;
            return HSTU_OK;
        }
    }
    if (memchr(field->text, '\0', field->len))
        return hs_csv_fail(csv, index, err, "the text holds a NUL byte");
    if (*n == HS_FEATURES_MAX_VALUES)
        return hs_csv_fail(csv, index, err, "there are more than %d different values", HS_FEATURES_MAX_VALUES);
    value[*n] = hs_arena_strndup(&features->arena, field->text, field->len);
    if (!value[*n])
        return hs_fail_nomem(err, field->len, csv->path);
    *code = (int64_t)++ * n;
    return HSTU_OK;
}

/* The user's index, or n_users. */
static size_t find_user(const int64_t *user_id, size_t n_users, int64_t id)
{
    size_t low = 0, high = n_users;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (user_id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n_users && user_id[low] == id ? low : n_users;
}

/* An append to one of the texts failed. */
static hstu_status fail_text(const hs_dynbuf *text, const hs_csv *csv, hstu_error *err)
{
    if (text->out_of_memory)
        return hs_fail_nomem(err, text->len, csv->path);
    return hs_fail(err, HSTU_EUNSUP, csv->line,
        "'%s', line %" PRIu64 ": the rows of the logs' users are longer than %zu bytes together", csv->path, csv->line,
        text->max);
}

/* Names the columns that go into processed_seqs.csv, beside those that file has of the events. */
static hstu_status keep_header(hs_features *features, const hs_csv *csv, size_t user_column, hstu_error *err)
{
    static const char *const taken[] = {"video_id", "time_ms", "action_weights", "play_time_ms", "duration_ms"};
    for (size_t i = 0; i < csv->n_columns; i++) {
        const char *name = csv->column[i];
        if (i == user_column)
            continue;
        for (size_t k = 0; k < sizeof taken / sizeof *taken; k++) {
            if (strcmp(name, taken[k]) == 0)
                return hs_csv_fail(csv, i, err, "users cannot have a column that processed_seqs.csv has of the events");
        }
        if (!hs_dynbuf_append(&features->header, ",", 1) || !hs_csv_append_field(&features->header, name, strlen(name)))
            return fail_text(&features->header, csv, err);
    }
    return HSTU_OK;
}

/* The feature that a column holds, HS_FEATURES_KUAIRAND for another one. */
static size_t feature_of(const size_t *column, size_t index)
{
    size_t f = 0;
    while (f < HS_FEATURES_KUAIRAND && column[f] != index)
        f++;
    return f;
}

static hstu_status keep_row(hs_features *features, const hs_csv *csv, size_t user, size_t user_column,
    const size_t *column, const int64_t *code, hstu_error *err)
{
    const size_t first = features->text.len;
    for (size_t i = 0; i < csv->n_columns; i++) {
        const size_t f = feature_of(column, i);
        const hs_csv_field *field = &csv->field[i];
        if (i == user_column)
            continue;
        const bool ok = f < HS_FEATURES_KUAIRAND ? hs_dynbuf_printf(&features->text, ",%" PRId64, code[f])
                                                 : hs_dynbuf_append(&features->text, ",", 1) &&
                                                       hs_csv_append_field(&features->text, field->text, field->len);
        if (!ok)
            return fail_text(&features->text, csv, err);
    }
    features->row[user] = (hs_feature_row){first, features->text.len - first};
    return HSTU_OK;
}

static hstu_status read_rows(hs_features *features, hs_csv *csv, const int64_t *user_id, size_t n_users,
    const hstu_progress *progress, hstu_error *err)
{
    size_t user_column = 0, column[HS_FEATURES_KUAIRAND] = {0};
    HS_TRY(hs_csv_column(csv, "user_id", &user_column, err));
    for (size_t f = 0; f < HS_FEATURES_KUAIRAND; f++)
        HS_TRY(hs_csv_column(csv, hs_feature_name[f], &column[f], err));
    HS_TRY(keep_header(features, csv, user_column, err));
    features->n_users_without = n_users;
    for (uint64_t row = 0;; row++) {
        bool more = false;
        if (row % CHECK_ROWS == 0)
            HS_TRY(hs_progress_check(progress, err));
        HS_TRY(hs_csv_next(csv, &more, err));
        if (!more)
            return HSTU_OK;
        int64_t id = 0, code[HS_FEATURES_KUAIRAND];
        HS_TRY(hs_csv_int(csv, user_column, 0, INT64_MAX, &id, err));
        for (size_t f = 0; f < HS_FEATURES_KUAIRAND; f++)
            HS_TRY(find_value(features, csv, f, column[f], &code[f], err));
        const size_t user = find_user(user_id, n_users, id);
        if (user == n_users)
            continue;
        if (features->code[0][user])
            return hs_csv_fail(csv, user_column, err, "the user %" PRId64 " stands there a second time", id);
        features->n_users_without--;
        for (size_t f = 0; f < HS_FEATURES_KUAIRAND; f++)
            features->code[f][user] = code[f];
        HS_TRY(keep_row(features, csv, user, user_column, column, code, err));
    }
}

hstu_status hs_features_read(hs_features *out, const char *path, const int64_t *user_id, size_t n_users,
    const hstu_progress *progress, hstu_error *err)
{
    hs_features features = {0};
    hs_csv csv = {0};
    hstu_status status = HSTU_OK;
    hs_arena_init(&features.arena, TEXT_BYTES);
    hs_dynbuf_init(&features.header, 2 * (size_t)HS_KUAIRAND_ROW_BYTES + HS_CSV_MAX_COLUMNS);
    hs_dynbuf_init(&features.text, ROWS_BYTES);
    features.row = hs_calloc(n_users, sizeof *features.row);
    if (!features.row) {
        status = hs_fail_nomem(err, n_users * sizeof *features.row, "contextual features");
        goto fail;
    }
    for (size_t f = 0; f < HS_FEATURES_KUAIRAND; f++) {
        features.code[f] = hs_calloc(n_users, sizeof *features.code[f]);
        features.value[f] = hs_calloc(HS_FEATURES_MAX_VALUES, sizeof *features.value[f]);
        if (!features.code[f] || !features.value[f]) {
            status = hs_fail_nomem(err, n_users * sizeof *features.code[f], "contextual features");
            goto fail;
        }
    }
    HS_TRY_GOTO(hs_csv_open(&csv, path, HS_KUAIRAND_ROW_BYTES, err));
    HS_TRY_GOTO(read_rows(&features, &csv, user_id, n_users, progress, err));
    features.file_bytes = hs_bytesource_file_bytes(csv.source);
    features.file_hash = hs_bytesource_hash(csv.source);
    hs_csv_close(&csv);
    *out = features;
    return HSTU_OK;
fail:
    hs_csv_close(&csv);
    hs_features_free(&features);
    return status;
}

void hs_features_free(hs_features *features)
{
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        hs_free(features->code[f]);
        hs_free(features->value[f]);
    }
    hs_arena_free(&features->arena);
    hs_dynbuf_free(&features->header);
    hs_dynbuf_free(&features->text);
    hs_free(features->row);
    *features = (hs_features){0};
}
