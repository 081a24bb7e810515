/* NVIDIA's processed_seqs.csv, byte for byte what recsys-examples' preprocessing writes with pandas: its inner merges
 * leave out users that a log or the features file lacks; a list is quoted only where it holds a comma. */
#include "data/ranking_csv.h"

#include "base/alloc.h"
#include "base/error.h"

#include <string.h>

enum { MIN_BUFFER_BYTES = 1 << 12, NUMBER_BYTES = 24, LIST_BYTES = 8 };

/* The steps of a user's row. */
typedef enum step { STEP_ID, STEP_ITEM, STEP_TIME, STEP_ACTION, STEP_PLAY_TIME, STEP_DURATION, STEP_FEATURES } step;

/* One worker's text, and how far into its block it has come. */
typedef struct formatter {
    char *text;
    size_t n;
    int64_t user; /* of the block */
    step step;
    int64_t done; /* events of the list, bytes of the features */
} formatter;

struct hs_ranking_csv {
    hs_outfile *file;
    const hs_event_users *users;
    const hs_features *features;
    uint64_t all_logs;
    size_t n_workers, buffer_bytes;
    formatter *formatter; /* [n_workers] */
};

static uint64_t all_logs(size_t n_logs)
{
    return n_logs >= 64 ? UINT64_MAX : ((uint64_t)1 << n_logs) - 1;
}

static bool has_row(const hs_event_users *users, const hs_features *features, uint64_t all, int64_t user)
{
    return features->code[0][user] && (users->logs[user] & all) == all;
}

uint64_t hs_ranking_csv_users(const hs_event_users *users, const hs_features *features, size_t n_logs)
{
    uint64_t n = 0;
    for (int64_t user = 0; user < users->n; user++)
        n += has_row(users, features, all_logs(n_logs), user);
    return n;
}

/* ---- Text ------------------------------------------------------------------------------------------------------- */

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                 "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                 "8081828384858687888990919293949596979899";

static unsigned count_digits(uint64_t value)
{
    unsigned n = 1;
    for (; value >= 10000; value /= 10000)
        n += 4;
    return n + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Returns what follows the number. */
static char *put_number(char *to, int64_t value)
{
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    if (value < 0)
        *to++ = '-';
    char *const end = to + count_digits(left);
    char *at = end;
    for (; left >= 100; left /= 100) {
        at -= 2;
        memcpy(at, two_digits + 2 * (left % 100), 2);
    }
    if (left >= 10)
        memcpy(at - 2, two_digits + 2 * left, 2);
    else
        at[-1] = (char)('0' + left);
    return end;
}

static int64_t list_value(const hs_event_view *view, step s, int64_t i)
{
    switch (s) {
    case STEP_ITEM:
        return view->item[i];
    case STEP_TIME:
        return view->time_ms[i];
    case STEP_ACTION:
        return view->action[i];
    case STEP_PLAY_TIME:
        return view->play_time_ms[i];
    default:
        return view->duration_ms[i];
    }
}

/* Goes on with a list; false: the buffer is full. */
static bool put_list(formatter *f, size_t room, const hs_event_view *view)
{
    const int64_t first = view->offset[f->user], n = view->offset[f->user + 1] - first;
    char *to = f->text + f->n;
    const char *const last = f->text + room - NUMBER_BYTES - LIST_BYTES;
    if (to + LIST_BYTES > last) /* where a list is begun there is room for its first number */
        return false;
    if (f->done == 0) {
        memcpy(to, ",\"[", 3);
        to += n > 1 ? 3 : 1;
        to[-1] = n > 1 ? '[' : ',';
        if (n == 1)
            *to++ = '[';
    }
    int64_t i = f->done;
    for (; i < n && to <= last; i++) {
        if (i) {
            *to++ = ',';
            *to++ = ' ';
        }
        to = put_number(to, list_value(view, f->step, first + i));
    }
    f->done = i;
    f->n = (size_t)(to - f->text);
    if (i < n || to > last)
        return false;
    f->text[f->n++] = ']';
    if (n > 1)
        f->text[f->n++] = '"';
    return true;
}

/* Goes on with the features and the line's end. */
static bool put_features(formatter *f, size_t room, const hs_features *features, int64_t user)
{
    const hs_feature_row *row = &features->row[user];
    const size_t left = row->len - (size_t)f->done, space = room - f->n, n = left < space ? left : space;
    if (n)
        memcpy(f->text + f->n, features->text.data + row->first + (size_t)f->done, n);
    f->n += n;
    f->done += (int64_t)n;
    if (f->n == room)
        return false;
    f->text[f->n++] = '\n';
    return true;
}

/* Goes on with a user's row; false: the buffer is full. */
static bool put_user(const hs_ranking_csv *csv, formatter *f, const hs_event_block *block)
{
    for (; f->step <= STEP_FEATURES; f->step++, f->done = 0) {
        if (f->step == STEP_ID) {
            if (csv->buffer_bytes - f->n < NUMBER_BYTES)
                return false;
            f->n = (size_t)(put_number(f->text + f->n, block->view.user_id[f->user]) - f->text);
        } else if (f->step == STEP_FEATURES) {
            if (!put_features(f, csv->buffer_bytes, csv->features, block->first_user + f->user))
                return false;
        } else if (!put_list(f, csv->buffer_bytes, &block->view)) {
            return false;
        }
    }
    return true;
}

/* Goes on with the block; false: the buffer is full. */
static bool put_block(const hs_ranking_csv *csv, formatter *f, const hs_event_block *block)
{
    for (; f->user < block->view.n_users; f->user++, f->step = STEP_ID, f->done = 0) {
        if (has_row(csv->users, csv->features, csv->all_logs, block->first_user + f->user) && !put_user(csv, f, block))
            return false;
    }
    return true;
}

/* ---- The file --------------------------------------------------------------------------------------------------- */

static hstu_status make_formatters(hs_ranking_csv *csv, hstu_error *err)
{
    csv->formatter = hs_calloc(csv->n_workers, sizeof *csv->formatter);
    if (!csv->formatter)
        return hs_fail_nomem(err, csv->n_workers * sizeof *csv->formatter, "processed_seqs.csv");
    for (size_t i = 0; i < csv->n_workers; i++) {
        csv->formatter[i].text = hs_alloc(csv->buffer_bytes, 1);
        if (!csv->formatter[i].text)
            return hs_fail_nomem(err, csv->buffer_bytes, "processed_seqs.csv");
    }
    return HSTU_OK;
}

static hstu_status write_header(hs_ranking_csv *csv, hstu_error *err)
{
    static const char events[] = "user_id,video_id,time_ms,action_weights,play_time_ms,duration_ms";
    HS_TRY(hs_outfile_write(csv->file, events, sizeof events - 1, err));
    HS_TRY(hs_outfile_write(csv->file, csv->features->header.data, csv->features->header.len, err));
    return hs_outfile_write(csv->file, "\n", 1, err);
}

hstu_status hs_ranking_csv_open(hs_ranking_csv **out, const char *path, const hs_event_users *users,
    const hs_features *features, size_t n_logs, size_t n_workers, size_t buffer_bytes, hstu_error *err)
{
    hs_ranking_csv *csv = hs_calloc(1, sizeof *csv);
    if (!csv)
        return hs_fail_nomem(err, sizeof *csv, path);
    *csv = (hs_ranking_csv){.users = users,
        .features = features,
        .all_logs = all_logs(n_logs),
        .n_workers = n_workers,
        .buffer_bytes = buffer_bytes > MIN_BUFFER_BYTES ? buffer_bytes : MIN_BUFFER_BYTES};
    hstu_status status = make_formatters(csv, err);
    if (status == HSTU_OK)
        status = hs_outfile_open(&csv->file, path, err);
    if (status == HSTU_OK)
        status = write_header(csv, err);
    if (status == HSTU_OK)
        *out = csv;
    else
        hs_ranking_csv_close(csv);
    return status;
}

void hs_ranking_csv_prepare(hs_ranking_csv *csv, const hs_event_block *block)
{
    formatter *f = &csv->formatter[block->worker];
    *f = (formatter){.text = f->text};
    (void)put_block(csv, f, block);
}

hstu_status hs_ranking_csv_write(hs_ranking_csv *csv, const hs_event_block *block, hstu_error *err)
{
    formatter *f = &csv->formatter[block->worker];
    for (bool done = false; !done;) {
        done = put_block(csv, f, block);
        HS_TRY(hs_outfile_write(csv->file, f->text, f->n, err));
        f->n = 0;
    }
    return HSTU_OK;
}

hs_outfile *hs_ranking_csv_take(hs_ranking_csv *csv)
{
    hs_outfile *file = csv->file;
    csv->file = NULL;
    return file;
}

void hs_ranking_csv_close(hs_ranking_csv *csv)
{
    if (!csv)
        return;
    hs_outfile_discard(csv->file);
    for (size_t i = 0; csv->formatter && i < csv->n_workers; i++)
        hs_free(csv->formatter[i].text);
    hs_free(csv->formatter);
    hs_free(csv);
}
