/* Reading users.dat. References: Meta's preprocessor.py (pd.Categorical: codes by order of values), NVIDIA's
 * hstu_data_preprocessor.py (numbers by first appearance). */
#include "data/mlusers.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/datfile.h"
#include "data/feedback.h"
#include "data/idtexts.h"
#include "data/number.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_ROWS = 4096, N_FIELDS = HS_ML_COLUMNS + 1, FIRST_FEATURE = HS_FEATURES_KUAIRAND };
/* Texts of a column; the arena rounds each up. */
enum { TEXT_BYTES = 16 << 20, ARENA_BYTES = HS_ML_COLUMNS * (TEXT_BYTES + HS_ML_MAX_VALUES * 64) };

const char *const hs_ml_column[HS_ML_COLUMNS] = {"sex", "age_group", "occupation", "zip_code"};

static const char *const field_name[N_FIELDS] = {"user_id", "sex", "age_group", "occupation", "zip_code"};

/* A column while the file is read: first[] holds the numbers of its different texts. */
typedef struct reading {
    hs_mlusers *users;
    size_t capacity;
    hs_idtexts texts[HS_ML_COLUMNS];
    bool all_integers[HS_ML_COLUMNS];
} reading;

/* One of a column's different texts. */
typedef struct value {
    const char *text;
    size_t len;
    int64_t number;
    bool by_number;
    uint32_t place; /* among the texts, from 0 */
} value;

static bool grow(reading *r)
{
    hs_mlusers *users = r->users;
    if (users->n < r->capacity)
        return true;
    const size_t capacity = r->capacity ? r->capacity * 2 : 1024;
    hs_mluser *user = hs_realloc(users->user, capacity, sizeof *user);
    if (!user)
        return false;
    users->user = user;
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        int32_t *first = hs_realloc(users->first[c], capacity, sizeof *first);
        if (!first)
            return false;
        users->first[c] = first;
    }
    r->capacity = capacity;
    return true;
}

static hstu_status read_row(reading *r, const hs_datfile *dat, hstu_error *err)
{
    hs_mlusers *users = r->users;
    int64_t id = 0;
    HS_TRY(hs_datfile_int(dat, 0, 0, INT64_MAX, &id, err));
    if (users->n == HS_ML_MAX_ROWS)
        return hs_datfile_fail(dat, 0, err, "there are more than %d users", HS_ML_MAX_ROWS);
    if (!grow(r))
        return hs_fail_nomem(err, (r->capacity + 1) * sizeof *users->user, dat->path);
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        const hs_csv_field *field = &dat->field[c + 1];
        int64_t number = 0;
        if (field->len == 0)
            return hs_datfile_fail(dat, c + 1, err, "the field is empty");
        r->all_integers[c] = r->all_integers[c] && hs_number_int(field->text, field->len, &number);
        HS_TRY(hs_idtexts_add(&r->texts[c], field->text, field->len, TEXT_BYTES, hs_ml_column[c], &number, err));
        if (number > HS_ML_MAX_VALUES)
            return hs_datfile_fail(dat, c + 1, err, "there are more than %d different values", HS_ML_MAX_VALUES);
        users->first[c][users->n] = (int32_t)number;
    }
    users->user[users->n] = (hs_mluser){id, users->n};
    users->n++;
    return HSTU_OK;
}

static hstu_status read_rows(reading *r, hs_datfile *dat, const hstu_progress *progress, hstu_error *err)
{
    for (;;) {
        bool more = false;
        if (dat->line % CHECK_ROWS == 0)
            HS_TRY(hs_progress_check(progress, err));
        HS_TRY(hs_datfile_next(dat, &more, err));
        if (!more)
            return HSTU_OK;
        HS_TRY(read_row(r, dat, err));
    }
}

static int compare_users(const void *left, const void *right)
{
    const hs_mluser *x = left, *y = right;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static hstu_status sort_users(hs_mlusers *users, const char *path, hstu_error *err)
{
    if (users->n)
        qsort(users->user, users->n, sizeof *users->user, compare_users);
    for (size_t i = 1; i < users->n; i++) {
        const hs_mluser *previous = &users->user[i - 1], *user = &users->user[i];
        if (user->id == previous->id)
            return hs_fail(err, HSTU_EFORMAT, user->row + 1,
                "'%s', line %zu: the user %" PRId64 " stands there a second time, after line %zu", path, user->row + 1,
                user->id, previous->row + 1);
    }
    return HSTU_OK;
}

static int compare(const value *x, const value *y)
{
    if (x->by_number)
        return (x->number > y->number) - (x->number < y->number);
    const int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare_values(const void *left, const void *right)
{
    const value *x = left, *y = right;
    const int order = compare(x, y);
    return order ? order : (x->place > y->place) - (x->place < y->place);
}

static value *list_values(const hs_idtexts *texts, bool by_number)
{
    value *list = hs_alloc(texts->n, sizeof *list);
    for (size_t i = 0; list && i < texts->n; i++) {
        const size_t first = i ? texts->end[i - 1] : 0;
        list[i] = (value){texts->text + first, texts->end[i] - first, 0, by_number, (uint32_t)i};
        if (by_number)
            (void)hs_number_int(list[i].text, list[i].len, &list[i].number);
    }
    return list;
}

/* The codes of the n different texts: sorted [n] by order; first [n] by appearance, where equal numbers in other digits
 * ("7", "07") are one value. */
static void number_values(value *list, size_t n, int32_t *first, int32_t *sorted)
{
    int32_t code = -1, next = 0;
    qsort(list, n, sizeof *list, compare_values);
    for (size_t i = 0; i < n; i++) {
        const bool new_value = i == 0 || compare(&list[i - 1], &list[i]) != 0;
        code += new_value;
        sorted[list[i].place] = code;
        /* Equal values stand together, the first to appear in front. */
        first[list[i].place] = new_value ? -1 : (int32_t)list[i - 1].place;
        if (!new_value)
            list[i].place = list[i - 1].place;
    }
    for (size_t i = 0; i < n; i++)
        first[i] = first[i] < 0 ? ++next : first[first[i]];
}

/* Keeps the text of each of the values, those that are one with an earlier one left out. */
static bool keep_values(hs_mlusers *users, size_t c, const hs_idtexts *texts, const int32_t *first)
{
    users->value[c] = hs_calloc(texts->n, sizeof *users->value[c]);
    for (size_t i = 0; users->value[c] && i < texts->n; i++) {
        const size_t begin = i ? texts->end[i - 1] : 0;
        if ((size_t)first[i] <= users->n_values[c])
            continue;
        users->value[c][users->n_values[c]] =
            hs_arena_strndup(&users->arena, texts->text + begin, texts->end[i] - begin);
        if (!users->value[c][users->n_values[c]++])
            return false;
    }
    return users->value[c] != NULL;
}

static hstu_status code_column(reading *r, size_t c, hstu_error *err)
{
    hs_mlusers *users = r->users;
    const size_t n = r->texts[c].n, n_users = users->n;
    value *list = list_values(&r->texts[c], r->all_integers[c]);
    int32_t *first = hs_alloc(n, sizeof *first), *sorted = hs_alloc(n, sizeof *sorted);
    users->sorted[c] = hs_alloc(n_users, sizeof *users->sorted[c]);
    bool ok = list && first && sorted && users->sorted[c];
    if (ok) {
        number_values(list, n, first, sorted);
        ok = keep_values(users, c, &r->texts[c], first);
        for (size_t i = 0; i < n_users; i++) {
            const int32_t text = users->first[c][i] - 1;
            users->sorted[c][i] = sorted[text];
            users->first[c][i] = first[text];
        }
    }
    hs_free(list);
    hs_free(first);
    hs_free(sorted);
    return ok ? HSTU_OK : hs_fail_nomem(err, n * sizeof *list + n_users * sizeof *sorted, hs_ml_column[c]);
}

hstu_status hs_mlusers_read(hs_mlusers *out, const char *path, const hstu_progress *progress, hstu_error *err)
{
    hs_mlusers users = {0};
    hs_arena_init(&users.arena, ARENA_BYTES);
    hs_datfile dat = {0};
    reading r = {.users = &users, .all_integers = {true, true, true, true}};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(hs_datfile_open(&dat, path, field_name, N_FIELDS, err));
    HS_TRY_GOTO(read_rows(&r, &dat, progress, err));
    HS_TRY_GOTO(sort_users(&users, path, err));
    for (size_t c = 0; c < HS_ML_COLUMNS; c++)
        HS_TRY_GOTO(code_column(&r, c, err));
    users.file_bytes = hs_bytesource_file_bytes(dat.source);
    users.file_hash = hs_bytesource_hash(dat.source);
    *out = users;
    users = (hs_mlusers){0};
fail:
    hs_datfile_close(&dat);
    for (size_t c = 0; c < HS_ML_COLUMNS; c++)
        hs_idtexts_free(&r.texts[c]);
    hs_mlusers_free(&users);
    return status;
}

int64_t hs_mlusers_find(const hs_mlusers *users, int64_t id)
{
    size_t low = 0, high = users->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (users->user[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < users->n && users->user[low].id == id ? (int64_t)users->user[low].row : -1;
}

hstu_status hs_mlusers_features(
    hs_features *out, hs_mlusers *users, const int64_t *user_id, size_t n_users, hstu_error *err)
{
    hs_features features = {.file_bytes = users->file_bytes, .file_hash = users->file_hash};
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        int64_t *code = hs_calloc(n_users, sizeof *code);
        features.code[FIRST_FEATURE + c] = code;
        if (!code) {
            hs_features_free(&features);
            return hs_fail_nomem(err, n_users * sizeof *code, "contextual features");
        }
        for (size_t i = 0; i < n_users; i++) {
            const int64_t row = hs_mlusers_find(users, user_id[i]);
            code[i] = row < 0 ? 0 : users->first[c][row];
            features.n_users_without += c == 0 && row < 0;
        }
    }
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        features.value[FIRST_FEATURE + c] = users->value[c];
        features.n_values[FIRST_FEATURE + c] = users->n_values[c];
        users->value[c] = NULL;
        users->n_values[c] = 0;
    }
    features.arena = users->arena;
    hs_arena_init(&users->arena, ARENA_BYTES);
    *out = features;
    return HSTU_OK;
}

void hs_mlusers_free(hs_mlusers *users)
{
    hs_arena_free(&users->arena);
    hs_free(users->user);
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        hs_free(users->first[c]);
        hs_free(users->sorted[c]);
        hs_free(users->value[c]);
    }
    *users = (hs_mlusers){0};
}
