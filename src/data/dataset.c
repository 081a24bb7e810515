/* Opening sequence files, recognised by content. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"
#include "data/dataset_int.h"
#include "data/idtable.h"

#include <inttypes.h>
#include <string.h>

#define KNOWN                                                                                                          \
    "expected sequences.safetensors, or a CSV file with the columns of processed_inference_sequences.csv "             \
    "(user_id, sequence, actions, length), of sasrec_format.csv (user_id, sequence_item_ids, ...) or of "              \
    "processed_seqs.csv (user_id, video_id, action_weights, time_ms, or user_id, movie_id, rating, unix_timestamp)"

static hstu_status count_rows(hstu_dataset *dataset, hstu_error *err)
{
    const hs_rows *rows = &dataset->rows;
    hs_idtable users = {0};
    uint32_t number = 0;
    bool ok = true;
    size_t n = 0; /* rows that were counted: up to the first that repeats a user where each has one row */
    while (ok && n < rows->user_id.n && (n == users.n || dataset->kind != HSTU_DATASET_RANKING))
        ok = hs_idtable_add(&users, rows->user_id.value[n++], &number);
    const bool repeated = dataset->kind == HSTU_DATASET_RANKING && users.n < n;
    dataset->n_users = (int64_t)users.n;
    hs_idtable_free(&users);
    if (ok && repeated)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s': user %" PRId64 " has rows %" PRIu32 " and %zu, but one is expected",
            dataset->path, rows->user_id.value[n - 1], number + 1, n);
    dataset->n_events = (int64_t)rows->item.n;
    dataset->max_item = -1;
    for (size_t i = 0; i < rows->item.n; i++)
        dataset->max_item = rows->item.value[i] > dataset->max_item ? rows->item.value[i] : dataset->max_item;
    return ok ? HSTU_OK : hs_fail_nomem(err, rows->user_id.n * sizeof(int64_t), dataset->path);
}

static hstu_status read_csv(hstu_dataset *dataset, hs_csv *csv, const hstu_progress *progress, hstu_error *err)
{
    if (hs_csv_has_column(csv, "sequence_item_ids")) {
        dataset->kind = HSTU_DATASET_SASREC;
        HS_TRY(hs_sasrec_csv_read(&dataset->rows, csv, progress, err));
    } else if (hs_csv_has_column(csv, "sequence") && hs_csv_has_column(csv, "actions")) {
        dataset->kind = HSTU_DATASET_SESSIONS;
        HS_TRY(hs_session_csv_read(&dataset->rows, csv, progress, err));
    } else if ((hs_csv_has_column(csv, "video_id") && hs_csv_has_column(csv, "action_weights")) ||
               (hs_csv_has_column(csv, "movie_id") && hs_csv_has_column(csv, "unix_timestamp"))) {
        dataset->kind = HSTU_DATASET_RANKING;
        HS_TRY(hs_ranking_csv_read(&dataset->rows, csv, progress, err));
    } else {
        return hs_fail(err, HSTU_EFORMAT, 1,
            "'%s' is no sequence file: found %zu columns that begin with '%.40s'; " KNOWN, dataset->path,
            csv->n_columns, csv->column[0]);
    }
    return count_rows(dataset, err);
}

/* Text, plain or gzip. What is no CSV file at all is told apart from a damaged one by its first bytes. */
static hstu_status open_csv(hstu_dataset *dataset, bool text, const hstu_progress *progress, hstu_error *err)
{
    hs_csv csv;
    if (!text)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' is no sequence file: found binary data; " KNOWN, dataset->path);
    HS_TRY(hs_csv_open(&csv, dataset->path, HS_ROWS_MAX_BYTES, err));
    const hstu_status status = read_csv(dataset, &csv, progress, err);
    hs_csv_close(&csv);
    return status;
}

/* Gzip, or no control characters but white space in the first bytes. */
static bool looks_like_text(const hs_mapfile *map)
{
    if (map->size >= 2 && map->data[0] == 0x1f && map->data[1] == 0x8b)
        return true;
    for (size_t i = 0; i < map->size && i < 256; i++) {
        if (map->data[i] < 0x20 && !memchr("\t\n\r", map->data[i], 3))
            return false;
    }
    return true;
}

static hstu_status read_file(hstu_dataset *dataset, const hstu_progress *progress, hstu_error *err)
{
    hs_mapfile map = {0};
    HS_TRY(hs_mapfile_open(&map, dataset->path, err));
    if (!hs_safetensors_recognise(&map)) {
        const bool text = looks_like_text(&map);
        hs_mapfile_close(&map);
        return open_csv(dataset, text, progress, err);
    }
    const hstu_status status = hs_sequences_read(&dataset->sequences, &map, dataset->path, progress, err);
    hs_mapfile_close(&map);
    HS_TRY(status);
    dataset->kind = HSTU_DATASET_EVENTS;
    dataset->n_users = dataset->sequences.view.n_users;
    dataset->n_events = dataset->sequences.view.n_events;
    dataset->max_item = dataset->sequences.max_item;
    if (dataset->sequences.dataset_name)
        dataset->name = dataset->sequences.dataset_name;
    return HSTU_OK;
}

hstu_status hstu_dataset_open(hstu_dataset **out, const char *path, const hstu_progress *progress, hstu_error *err)
{
    hstu_status status = HSTU_OK;
    if (!out || !path)
        return hs_fail(err, HSTU_EINVAL, 0, "hstu_dataset_open wants a place for the data set and a path");
    hstu_dataset *dataset = hs_calloc(1, sizeof *dataset);
    if (!dataset)
        return hs_fail_nomem(err, sizeof *dataset, path);
    dataset->path = hs_strndup(path, strlen(path));
    if (!dataset->path) {
        status = hs_fail_nomem(err, strlen(path), path);
        goto fail;
    }
    dataset->name = hs_path_base(dataset->path);
    HS_TRY_GOTO(read_file(dataset, progress, err));
    *out = dataset;
    return HSTU_OK;
fail:
    hstu_dataset_close(dataset);
    return status;
}

void hstu_dataset_close(hstu_dataset *dataset)
{
    if (!dataset)
        return;
    hs_sequences_close(&dataset->sequences);
    hs_rows_free(&dataset->rows);
    hs_free(dataset->path);
    hs_free(dataset);
}

static int64_t largest_user(const hstu_dataset *dataset)
{
    const bool events = dataset->kind == HSTU_DATASET_EVENTS;
    const int64_t *user = events ? dataset->sequences.view.user_id : dataset->rows.user_id.value;
    const size_t n = events ? (size_t)dataset->n_users : dataset->rows.user_id.n;
    int64_t largest = -1;
    for (size_t i = 0; i < n; i++)
        largest = user[i] > largest ? user[i] : largest;
    return largest;
}

void hstu_dataset_get_info(const hstu_dataset *dataset, hstu_dataset_info *info)
{
    *info = (hstu_dataset_info){.kind = dataset->kind,
        .name = dataset->name,
        .n_users = dataset->n_users,
        .n_events = dataset->n_events,
        .max_item = dataset->max_item,
        .max_user = largest_user(dataset),
        .has_time = dataset->kind != HSTU_DATASET_SESSIONS};
}
