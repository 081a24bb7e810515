/* Writing and reading sequences.safetensors. */
#include "data/sequences.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/feedback.h"
#include "data/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CHECK_USERS = 1024, NAME_BYTES = 64 };
static const char format_name[] = "hstu_sequences", format_version[] = "1";

/* A column of the file and where the view holds it. */
typedef struct column {
    const char *name;
    hs_dtype dtype;
    int64_t n;
    const void *data;
} column;

static void feature_tensor(char name[NAME_BYTES], size_t f)
{
    (void)snprintf(name, NAME_BYTES, "feature.%s", hs_feature_name[f]);
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

/* The columns of events, wide elements first, so that every column lies at a multiple of its element size. */
typedef enum event_column {
    EVENT_ITEM,
    EVENT_TIME,
    EVENT_PLAY_TIME,
    EVENT_DURATION,
    EVENT_ACTION,
    EVENT_FLAGS,
    N_EVENT_COLUMNS
} event_column;

static const column event_columns[N_EVENT_COLUMNS] = {{.name = "item", .dtype = HS_I64},
    {.name = "time_ms", .dtype = HS_I64}, {.name = "play_time_ms", .dtype = HS_I32},
    {.name = "duration_ms", .dtype = HS_I32}, {.name = "action", .dtype = HS_U8}, {.name = "flags", .dtype = HS_U8}};

struct hs_sequences_writer {
    hs_safetensors_writer *file;
    size_t first_event_column; /* number of its tensor */
};

typedef hstu_status (*metadata_fn)(hs_safetensors_writer *w, const char *key, const char *value, hstu_error *err);

static hstu_status give_metadata(hs_safetensors_writer *w, metadata_fn give, const cJSON *metadata, hstu_error *err)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, metadata)
    {
        if (cJSON_IsString(member)) {
            HS_TRY(give(w, member->string, member->valuestring, err));
            continue;
        }
        char *text = cJSON_PrintUnformatted(member);
        if (!text)
            return hs_fail_nomem(err, NAME_BYTES, "metadata");
        const hstu_status status = give(w, member->string, text, err);
        cJSON_free(text);
        HS_TRY(status);
    }
    return HSTU_OK;
}

/* The columns of users; returns their number. */
static size_t user_columns(
    column *columns, char names[HS_FEATURES_N][NAME_BYTES], const hs_event_users *users, const hs_features *features)
{
    size_t n = 0;
    columns[n++] = (column){"user_id", HS_I64, users->n, users->id};
    columns[n++] = (column){"offset", HS_I64, users->n + 1, users->offset};
    for (size_t f = 0; features && f < HS_FEATURES_N; f++) {
        if (!features->code[f])
            continue;
        feature_tensor(names[f], f);
        columns[n++] = (column){names[f], HS_I64, users->n, features->code[f]};
    }
    return n;
}

static hstu_status declare(hs_sequences_writer *w, const hs_event_users *users, const hs_features *features,
    const cJSON *metadata, hstu_error *err)
{
    column columns[HS_SEQUENCES_MAX_COLUMNS];
    char names[HS_FEATURES_N][NAME_BYTES];
    const size_t n = user_columns(columns, names, users, features);
    w->first_event_column = n;
    HS_TRY(hs_safetensors_add_metadata(w->file, "format", format_name, err));
    HS_TRY(hs_safetensors_add_metadata(w->file, "format_version", format_version, err));
    HS_TRY(give_metadata(w->file, hs_safetensors_add_metadata, metadata, err));
    for (size_t i = 0; i < n; i++)
        HS_TRY(hs_safetensors_add_tensor(w->file, columns[i].name, columns[i].dtype, 1, &columns[i].n, err));
    for (size_t i = 0; i < N_EVENT_COLUMNS; i++)
        HS_TRY(hs_safetensors_add_tensor(
            w->file, event_columns[i].name, event_columns[i].dtype, 1, &users->n_events, err));
    HS_TRY(hs_safetensors_begin(w->file, err));
    for (size_t i = 0; i < n; i++)
        HS_TRY(hs_safetensors_write_at(
            w->file, i, 0, columns[i].data, (size_t)columns[i].n * hs_dtype_bytes(columns[i].dtype), err));
    return HSTU_OK;
}

hstu_status hs_sequences_create(hs_sequences_writer **out, const char *path, const hs_event_users *users,
    const hs_features *features, const cJSON *metadata, hstu_error *err)
{
    hs_sequences_writer *w = hs_calloc(1, sizeof *w);
    if (!w)
        return hs_fail_nomem(err, sizeof *w, path);
    hstu_status status = hs_safetensors_create(&w->file, path, err);
    if (status == HSTU_OK)
        status = declare(w, users, features, metadata, err);
    if (status == HSTU_OK)
        *out = w;
    else
        hs_sequences_discard(w);
    return status;
}

hstu_status hs_sequences_put(hs_sequences_writer *writer, const hs_event_block *block, hstu_error *err)
{
    const hs_event_view *view = &block->view;
    const void *const data[N_EVENT_COLUMNS] = {
        view->item, view->time_ms, view->play_time_ms, view->duration_ms, view->action, view->flags};
    for (size_t i = 0; i < N_EVENT_COLUMNS; i++) {
        const size_t size = hs_dtype_bytes(event_columns[i].dtype);
        HS_TRY(hs_safetensors_write_at(writer->file, writer->first_event_column + i,
            (uint64_t)block->first_event * size, data[i], (size_t)view->n_events * size, err));
    }
    return HSTU_OK;
}

hstu_status hs_sequences_finish(hs_sequences_writer *writer, const cJSON *metadata, hstu_error *err)
{
    HS_TRY(give_metadata(writer->file, hs_safetensors_set_metadata, metadata, err));
    return hs_safetensors_finish(writer->file, err);
}

hstu_status hs_sequences_commit(hs_sequences_writer *writer, hstu_error *err)
{
    const hstu_status status = hs_safetensors_commit(writer->file, err);
    hs_free(writer);
    return status;
}

void hs_sequences_discard(hs_sequences_writer *writer)
{
    if (!writer)
        return;
    hs_safetensors_discard(writer->file);
    hs_free(writer);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

static hstu_status fail_file(const hs_sequences *s, hstu_error *err, const char *tensor, const char *text)
{
    return hs_fail(err, HSTU_EFORMAT, 0, "'%s': tensor '%s' %s", s->dict.path, tensor, text);
}

/* Finds a column of c->n elements (any number when n is negative, which is then set) and sets c->data. */
static hstu_status read_column(hs_sequences *s, column *c, hstu_error *err)
{
    const hs_entry *entry = hs_statedict_find(&s->dict, "", c->name);
    if (!entry)
        return fail_file(s, err, c->name, "is missing");
    const hs_tensor *t = &entry->tensor;
    char shape[128];
    if (t->dtype != c->dtype || t->rank != 1 || !hs_tensor_contiguous(t))
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s': tensor '%s' must be %s of one dimension, not %s %s", s->dict.path,
            c->name, hs_dtype_name(c->dtype), hs_dtype_name(t->dtype), hs_tensor_shape_text(t, shape, sizeof shape));
    if (c->n >= 0 && t->shape[0] != c->n)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s': tensor '%s' must hold %" PRId64 " elements, not %" PRId64,
            s->dict.path, c->name, c->n, t->shape[0]);
    c->n = t->shape[0];
    c->data = t->data;
    const size_t size = hs_dtype_bytes(c->dtype);
    if (c->n && (uintptr_t)t->data % size != 0) {
        void *copy = hs_alloc((size_t)c->n, size);
        if (!copy)
            return hs_fail_nomem(err, (size_t)c->n * size, c->name);
        memcpy(copy, t->data, (size_t)c->n * size);
        s->copy[s->n_copies++] = copy;
        c->data = copy;
    }
    return HSTU_OK;
}

static hstu_status read_columns(hs_sequences *s, hstu_error *err)
{
    hs_event_view *view = &s->view;
    column users = {"user_id", HS_I64, -1, NULL}, items = {"item", HS_I64, -1, NULL};
    HS_TRY(read_column(s, &users, err));
    HS_TRY(read_column(s, &items, err));
    column offset = {"offset", HS_I64, users.n + 1, NULL}, time_ms = {"time_ms", HS_I64, items.n, NULL},
           play = {"play_time_ms", HS_I32, items.n, NULL}, duration = {"duration_ms", HS_I32, items.n, NULL},
           action = {"action", HS_U8, items.n, NULL}, flags = {"flags", HS_U8, items.n, NULL};
    column *const rest[] = {&offset, &time_ms, &play, &duration, &action, &flags};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        HS_TRY(read_column(s, rest[i], err));
    *view = (hs_event_view){.n_users = users.n,
        .n_events = items.n,
        .user_id = users.data,
        .offset = offset.data,
        .item = items.data,
        .time_ms = time_ms.data,
        .play_time_ms = play.data,
        .duration_ms = duration.data,
        .action = action.data,
        .flags = flags.data};
    return HSTU_OK;
}

static hstu_status read_features(hs_sequences *s, hstu_error *err)
{
    for (size_t f = 0; f < HS_FEATURES_N; f++) {
        char name[NAME_BYTES];
        feature_tensor(name, f);
        column feature = {name, HS_I64, s->view.n_users, NULL};
        if (!hs_statedict_find(&s->dict, "", name))
            continue;
        HS_TRY(read_column(s, &feature, err));
        s->feature[f] = feature.data;
        for (int64_t user = 0; user < feature.n; user++) {
            if (s->feature[f][user] < 0)
                return hs_fail(err, HSTU_EFORMAT, 0,
                    "'%s': tensor '%s' must not be negative, but element %" PRId64 " is %" PRId64, s->dict.path, name,
                    user, s->feature[f][user]);
        }
    }
    return HSTU_OK;
}

static hstu_status read_n_logs(hs_sequences *s, hstu_error *err)
{
    const char *text = hs_statedict_metadata(&s->dict, "n_logs");
    if (!text)
        return HSTU_OK;
    if (!hs_number_int(text, strlen(text), &s->n_logs) || s->n_logs < 1 || s->n_logs > HS_EVENTS_MAX_LOGS)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s': the metadata's n_logs must be an integer from 1 to %d, not '%.*s'",
            s->dict.path, HS_EVENTS_MAX_LOGS, hs_number_shown(strlen(text)), text);
    for (int64_t i = 0; i < s->view.n_events; i++) {
        const int log = s->view.flags[i] >> HS_EVENT_LOG_SHIFT;
        if (log >= s->n_logs)
            return hs_fail(err, HSTU_EFORMAT, 0,
                "'%s': tensor 'flags' must name one of %" PRId64 " logs, but element %" PRId64 " names log %d",
                s->dict.path, s->n_logs, i, log);
    }
    return HSTU_OK;
}

static hstu_status check_user(const hs_sequences *s, int64_t user, hstu_error *err)
{
    const hs_event_view *view = &s->view;
    const int64_t first = view->offset[user], end = view->offset[user + 1];
    if (end < first || end > view->n_events)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "'%s': tensor 'offset' must not descend or pass %" PRId64 ", but element %" PRId64 " is %" PRId64
            " after %" PRId64,
            s->dict.path, view->n_events, user + 1, end, first);
    if (user && view->user_id[user] <= view->user_id[user - 1])
        return hs_fail(err, HSTU_EFORMAT, 0,
            "'%s': tensor 'user_id' must ascend, but element %" PRId64 " is %" PRId64 " after %" PRId64, s->dict.path,
            user, view->user_id[user], view->user_id[user - 1]);
    for (int64_t i = first + 1; i < end; i++) {
        if (view->time_ms[i] < view->time_ms[i - 1])
            return hs_fail(err, HSTU_EFORMAT, 0,
                "'%s': tensor 'time_ms' must not descend within user %" PRId64 ", but element %" PRId64 " does",
                s->dict.path, view->user_id[user], i);
    }
    return HSTU_OK;
}

static hstu_status check_view(hs_sequences *s, const hstu_progress *progress, hstu_error *err)
{
    const hs_event_view *view = &s->view;
    if (view->offset[0] != 0 || view->offset[view->n_users] != view->n_events)
        return fail_file(s, err, "offset", "must run from 0 to the number of events");
    for (int64_t user = 0; user < view->n_users; user++) {
        if (user % CHECK_USERS == 0)
            HS_TRY(hs_progress_check(progress, err));
        HS_TRY(check_user(s, user, err));
    }
    s->max_item = -1;
    for (int64_t i = 0; i < view->n_events; i++) {
        const int64_t item = view->item[i];
        if (item < 0 || item == INT64_MAX)
            return hs_fail(err, HSTU_EFORMAT, 0,
                "'%s': tensor 'item' must not be negative or 2^63 - 1, but element %" PRId64 " is %" PRId64,
                s->dict.path, i, item);
        s->max_item = item > s->max_item ? item : s->max_item;
    }
    return HSTU_OK;
}

static hstu_status check_format(const hs_sequences *s, hstu_error *err)
{
    const char *format = hs_statedict_metadata(&s->dict, "format");
    const char *version = hs_statedict_metadata(&s->dict, "format_version");
    if (!format || strcmp(format, format_name) != 0)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "'%s' is a safetensors file but holds no sequences: its metadata lack \"format\": \"%s\"", s->dict.path,
            format_name);
    if (!version || strcmp(version, format_version) != 0)
        return hs_fail(err, HSTU_EFORMAT, 0,
            "'%s' has format version '%.20s', but this program reads version %s: preprocess again", s->dict.path,
            version ? version : "", format_version);
    return HSTU_OK;
}

hstu_status hs_sequences_read(
    hs_sequences *out, hs_mapfile *map, const char *path, const hstu_progress *progress, hstu_error *err)
{
    hs_sequences s = {0};
    hstu_status status = HSTU_OK;
    HS_TRY(hs_safetensors_read(&s.dict, map, path, err));
    HS_TRY_GOTO(check_format(&s, err));
    HS_TRY_GOTO(read_columns(&s, err));
    HS_TRY_GOTO(check_view(&s, progress, err));
    HS_TRY_GOTO(read_features(&s, err));
    HS_TRY_GOTO(read_n_logs(&s, err));
    s.dataset_name = hs_statedict_metadata(&s.dict, "dataset_name");
    *out = s;
    return HSTU_OK;
fail:
    hs_sequences_close(&s);
    return status;
}

void hs_sequences_close(hs_sequences *sequences)
{
    for (size_t i = 0; i < sequences->n_copies; i++)
        hs_free(sequences->copy[i]);
    hs_statedict_close(&sequences->dict);
    *sequences = (hs_sequences){0};
}
