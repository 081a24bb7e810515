/* Reading custom logs. */
#include "data/custom.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/path.h"
#include "data/csv.h"
#include "data/feedback.h"
#include "data/number.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { CHECK_ROWS = 4096, ACTION_BITS = 8, MAX_ACTION = 255 };

/* One pass over the files. */
typedef struct pass {
    hs_custom *custom;
    hs_eventsink *sink;
    hs_warnings *warnings;
    bool again;
    uint64_t done_bytes, total_bytes, n_rows;
    size_t user, item, time, action[HS_CUSTOM_MAX_ACTIONS]; /* columns of the file at hand */
} pass;

/* ---- Options ---------------------------------------------------------------------------------------------------- */

static hstu_status read_delimiter(hs_custom *c, const char *text, hstu_error *err)
{
    const bool tab = strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0;
    c->delimiter = tab ? '\t' : text[0];
    if ((tab || strlen(text) == 1) && !memchr("\"\r\n", c->delimiter, 3))
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0, "delimiter must be one character or \"tab\", not '%.40s'", text);
}

/* The weight behind the last '=' of an entry, which ends in front of it from then on. */
static hstu_status read_weight(hs_custom_action *action, char *entry, size_t place, hstu_error *err)
{
    char *equals = strrchr(entry, '=');
    int64_t weight = 0;
    if (!equals) {
        if (place >= ACTION_BITS)
            return hs_fail(err, HSTU_EINVAL, 0,
                "action_columns: '%.40s' is number %zu and needs a weight: %.40s=WEIGHT", entry, place + 1, entry);
        action->weight = 1 << place;
        return HSTU_OK;
    }
    *equals = '\0';
    if (strcmp(equals + 1, "value") != 0 &&
        (!hs_number_int(equals + 1, strlen(equals + 1), &weight) || weight < 1 || weight > MAX_ACTION))
        return hs_fail(err, HSTU_EINVAL, 0,
            "action_columns: the weight of '%.40s' must be a number from 1 to %d, or 'value', not '%.40s'", entry,
            MAX_ACTION, equals + 1);
    action->weight = (int)weight;
    return HSTU_OK;
}

static hstu_status check_actions(const hs_custom *c, hstu_error *err)
{
    int sum = 0;
    for (size_t i = 0; i < c->n_actions; i++) {
        sum += c->action[i].weight;
        if (c->action[i].weight == 0 && c->n_actions > 1)
            return hs_fail(err, HSTU_EINVAL, 0,
                "action_columns: '%.40s=value' is the action itself, so no other column can be one",
                c->action[i].column);
    }
    if (sum > MAX_ACTION)
        return hs_fail(
            err, HSTU_EINVAL, 0, "action_columns: the weights must be at most %d together, not %d", MAX_ACTION, sum);
    return HSTU_OK;
}

/* "is_click=1,is_like=2" */
static hstu_status read_actions(hs_custom *c, const char *text, hstu_error *err)
{
    c->action_names = hs_strndup(text, strlen(text));
    if (!c->action_names)
        return hs_fail_nomem(err, strlen(text), "action_columns");
    for (char *entry = c->action_names, *next; *text && entry; entry = next) {
        next = strchr(entry, ',');
        if (next)
            *next++ = '\0';
        if (c->n_actions == HS_CUSTOM_MAX_ACTIONS)
            return hs_fail(err, HSTU_EINVAL, 0, "action_columns: there are more than %d", HS_CUSTOM_MAX_ACTIONS);
        hs_custom_action *action = &c->action[c->n_actions];
        HS_TRY(read_weight(action, entry, c->n_actions, err));
        if (!*entry)
            return hs_fail(err, HSTU_EINVAL, 0, "action_columns: the name of column %zu is empty", c->n_actions + 1);
        action->column = entry;
        c->n_actions++;
    }
    return check_actions(c, err);
}

static hstu_status read_options(hs_custom *c, hstu_error *err)
{
    const hstu_preprocess_options *o = c->options;
    if (o->n_inputs == 0 || !o->input)
        return hs_fail(err, HSTU_EINVAL, 0, "custom data want files: name them as input");
    const char *const column[] = {o->user_column, o->item_column, o->time_column};
    static const char *const name[] = {"user_column", "item_column", "time_column"};
    for (size_t i = 0; i < sizeof column / sizeof *column; i++) {
        if (!column[i] || !*column[i])
            return hs_fail(err, HSTU_EINVAL, 0, "%s must name a column", name[i]);
    }
    if (!o->time_unit || !hs_time_unit_of(o->time_unit, &c->unit))
        return hs_fail(err, HSTU_EINVAL, 0, "time_unit must be s, ms, us, ns or iso, not '%.40s'",
            o->time_unit ? o->time_unit : "");
    HS_TRY(read_delimiter(c, o->delimiter ? o->delimiter : ",", err));
    return read_actions(c, o->action_columns ? o->action_columns : "", err);
}

hstu_status hs_custom_open(
    hs_custom *out, const hstu_preprocess_options *options, size_t max_text_bytes, hstu_error *err)
{
    hs_custom c = {.options = options, .max_text_bytes = max_text_bytes};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(read_options(&c, err));
    c.users = (hs_custom_ids){.what = "users", .column = options->user_column, .are_texts = options->text_ids != 0};
    c.items = (hs_custom_ids){.what = "items", .column = options->item_column, .are_texts = options->text_ids != 0};
    c.input = hs_calloc(options->n_inputs, sizeof *c.input);
    if (!c.input) {
        status = hs_fail_nomem(err, options->n_inputs * sizeof *c.input, "the list of input files");
        goto fail;
    }
    *out = c;
    return HSTU_OK;
fail:
    hs_custom_close(&c);
    return status;
}

void hs_custom_close(hs_custom *custom)
{
    hs_free(custom->action_names);
    hs_free(custom->input);
    hs_idtexts_free(&custom->users.texts);
    hs_idtexts_free(&custom->items.texts);
    *custom = (hs_custom){0};
}

/* ---- Fields ----------------------------------------------------------------------------------------------------- */

/* A whole number from 0 that is written as every program writes it. */
static bool is_plain_id(const hs_csv_field *field, int64_t *id)
{
    return hs_number_int(field->text, field->len, id) && *id >= 0 && *id < INT64_MAX && field->text[0] != '-' &&
           (field->len == 1 || field->text[0] != '0');
}

/* From here on the column's ids are texts, those that were read too. */
static hstu_status take_texts(
    pass *p, hs_custom_ids *ids, const hs_csv *csv, const hs_csv_field *field, hstu_error *err)
{
    ids->are_texts = true;
    if (p->n_rows == 0)
        return HSTU_OK;
    p->again = true;
    return hs_warnings_add(p->warnings, err,
        "'%.*s' in %s, line %" PRIu64 ", is no whole number from 0, so all %s are numbered from 1 as texts",
        hs_number_shown(field->len), field->text, hs_path_base(csv->path), csv->line, ids->what);
}

static hstu_status read_id(pass *p, hs_custom_ids *ids, const hs_csv *csv, size_t index, int64_t *id, hstu_error *err)
{
    const hs_csv_field *field = &csv->field[index];
    if (field->len == 0)
        return hs_csv_fail(csv, index, err, "expected an id, found nothing");
    if (!ids->are_texts) {
        if (is_plain_id(field, id))
            return HSTU_OK;
        HS_TRY(take_texts(p, ids, csv, field, err));
    }
    return p->again
               ? HSTU_OK
               : hs_idtexts_add(&ids->texts, field->text, field->len, p->custom->max_text_bytes, ids->what, id, err);
}

static hstu_status read_time(pass *p, const hs_csv *csv, int64_t *time_ms, hstu_error *err)
{
    static const char *const expected[] = {
        "seconds", "milliseconds", "microseconds", "nanoseconds", "a date such as 2022-04-25T14:46:24Z"};
    const hs_csv_field *field = &csv->field[p->time];
    hs_custom *c = p->custom;
    if (!hs_time_parse(field->text, field->len, c->unit, time_ms))
        return hs_csv_fail(csv, p->time, err, "expected %s (time_unit %s), found '%.*s'%s", expected[c->unit],
            c->options->time_unit, hs_number_shown(field->len), field->text, field->len > HS_NUMBER_SHOWN ? "..." : "");
    c->min_time_ms = *time_ms < c->min_time_ms ? *time_ms : c->min_time_ms;
    c->max_time_ms = *time_ms > c->max_time_ms ? *time_ms : c->max_time_ms;
    return HSTU_OK;
}

static size_t skip_digits(const hs_csv_field *field, size_t i, bool *nonzero)
{
    for (; i < field->len && field->text[i] >= '0' && field->text[i] <= '9'; i++)
        *nonzero = *nonzero || field->text[i] != '0';
    return i;
}

/* Whether "", "0", "1", "-0.5", "2e-3", "true" or "False" says yes. False when it is none of these. */
static bool parse_flag(const hs_csv_field *field, bool *yes)
{
    const char *text = field->text;
    const size_t len = field->len;
    bool exponent_nonzero = false;
    *yes = len == 4 && strncasecmp(text, "true", 4) == 0;
    if (len == 0 || *yes || (len == 5 && strncasecmp(text, "false", 5) == 0))
        return true;
    const size_t first = text[0] == '-' || text[0] == '+';
    size_t i = skip_digits(field, first, yes);
    size_t n_digits = i - first;
    if (i < len && text[i] == '.') {
        const size_t point = i;
        i = skip_digits(field, point + 1, yes);
        n_digits += i - point - 1;
    }
    if (n_digits && i < len && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        i += i < len && (text[i] == '-' || text[i] == '+');
        const size_t exponent = i;
        i = skip_digits(field, exponent, &exponent_nonzero);
        n_digits = i - exponent;
    }
    return n_digits > 0 && i == len;
}

/* "7" or "7.0". */
static bool parse_value(const hs_csv_field *field, int64_t *value)
{
    const char *point = field->len ? memchr(field->text, '.', field->len) : NULL;
    const size_t whole = point ? (size_t)(point - field->text) : field->len;
    for (size_t i = whole + 1; i < field->len; i++) {
        if (field->text[i] != '0')
            return false;
    }
    return hs_number_int(field->text, whole, value) && *value >= 0 && *value <= MAX_ACTION &&
           (!point || whole + 1 < field->len);
}

static hstu_status read_action(const pass *p, const hs_csv *csv, uint8_t *out, hstu_error *err)
{
    int64_t action = 0;
    for (size_t i = 0; i < p->custom->n_actions; i++) {
        const hs_csv_field *field = &csv->field[p->action[i]];
        const int weight = p->custom->action[i].weight;
        bool yes = false;
        if (weight == 0 ? !parse_value(field, &action) : !parse_flag(field, &yes))
            return hs_csv_fail(csv, p->action[i], err, "expected %s, found '%.*s'%s",
                weight == 0 ? "a whole number from 0 to 255" : "a number, true, false or nothing",
                hs_number_shown(field->len), field->text, field->len > HS_NUMBER_SHOWN ? "..." : "");
        action += yes ? weight : 0;
    }
    *out = (uint8_t)action;
    return HSTU_OK;
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static hstu_status read_row(pass *p, const hs_csv *csv, hstu_error *err)
{
    hs_event event = {0};
    HS_TRY(read_id(p, &p->custom->users, csv, p->user, &event.user, err));
    HS_TRY(read_id(p, &p->custom->items, csv, p->item, &event.item, err));
    HS_TRY(read_time(p, csv, &event.time_ms, err));
    HS_TRY(read_action(p, csv, &event.action, err));
    event.hash = event.action; /* the other columns are compared by themselves */
    p->n_rows++;
    return p->again ? HSTU_OK : hs_eventsink_add(p->sink, &event, err);
}

/* The column, or the options that may be wrong. */
static hstu_status find_column(const hs_csv *csv, const char *name, const char *option, size_t *index, hstu_error *err)
{
    hstu_error why;
    const hstu_status status = hs_csv_column(csv, name, index, &why);
    if (status == HSTU_OK)
        return HSTU_OK;
    return hs_fail(err, status, why.pos, "%.400s; please check %s%s", why.msg, option,
        csv->n_columns == 1 ? " and delimiter" : "");
}

static hstu_status find_columns(pass *p, const hs_csv *csv, hstu_error *err)
{
    const hstu_preprocess_options *o = p->custom->options;
    HS_TRY(find_column(csv, o->user_column, "user_column", &p->user, err));
    HS_TRY(find_column(csv, o->item_column, "item_column", &p->item, err));
    HS_TRY(find_column(csv, o->time_column, "time_column", &p->time, err));
    for (size_t i = 0; i < p->custom->n_actions; i++)
        HS_TRY(find_column(csv, p->custom->action[i].column, "action_columns", &p->action[i], err));
    return HSTU_OK;
}

static hstu_status read_rows(pass *p, hs_csv *csv, hstu_error *err)
{
    const hstu_preprocess_options *o = p->custom->options;
    HS_TRY(find_columns(p, csv, err));
    for (uint64_t row = 0; !p->again; row++) {
        bool more = false;
        if (row % CHECK_ROWS == 0) {
            HS_TRY(hs_progress_check(&o->progress, err));
            hs_progress_step(
                &o->progress, "reading", p->done_bytes + hs_bytesource_done_bytes(csv->source), p->total_bytes);
        }
        HS_TRY(hs_csv_next(csv, &more, err));
        if (!more)
            return HSTU_OK;
        HS_TRY(read_row(p, csv, err));
    }
    return HSTU_OK;
}

static hstu_status read_file(pass *p, size_t i, hstu_error *err)
{
    hs_csv csv = {0};
    HS_TRY(hs_csv_open_with(&csv, p->custom->options->input[i], p->custom->delimiter, HS_CUSTOM_ROW_BYTES, err));
    if (p->custom->options->no_hash)
        hs_bytesource_no_hash(csv.source);
    const hstu_status status = read_rows(p, &csv, err);
    if (status == HSTU_OK && !p->again) {
        p->custom->input[i] = (hs_custom_input){hs_bytesource_file_bytes(csv.source), hs_bytesource_hash(csv.source)};
        p->done_bytes += p->custom->input[i].bytes;
    }
    hs_csv_close(&csv);
    return status;
}

static hstu_status total_bytes(const hs_custom *c, uint64_t *total, hstu_error *err)
{
    *total = 0;
    for (size_t i = 0; i < c->options->n_inputs; i++) {
        struct stat st;
        if (stat(c->options->input[i], &st) != 0)
            return hs_fail_errno(err, errno, "cannot examine '%s'", c->options->input[i]);
        *total += (uint64_t)st.st_size;
    }
    return HSTU_OK;
}

/* Times of the wrong unit are the commonest mistake, and no error can tell them. */
static hstu_status check_times(const hs_custom *c, hs_warnings *warnings, hstu_error *err)
{
    const int64_t year_ms = INT64_C(31556952000);
    const int64_t first = 1970 + c->min_time_ms / year_ms, last = 1970 + c->max_time_ms / year_ms;
    if (last <= 2200 && (last > 1980 || c->max_time_ms < 0))
        return HSTU_OK;
    return hs_warnings_add(warnings, err,
        "the events are from the years %" PRId64 " to %" PRId64 ": is '%s' in column %s the right time_unit?", first,
        last, c->options->time_unit, c->options->time_column);
}

hstu_status hs_custom_read(hs_custom *custom, hs_eventsink *sink, hs_warnings *warnings, bool *again, hstu_error *err)
{
    pass p = {.custom = custom, .sink = sink, .warnings = warnings};
    custom->min_time_ms = INT64_MAX;
    custom->max_time_ms = INT64_MIN;
    hs_idtexts_free(&custom->users.texts);
    hs_idtexts_free(&custom->items.texts);
    HS_TRY(total_bytes(custom, &p.total_bytes, err));
    for (size_t i = 0; i < custom->options->n_inputs && !p.again; i++)
        HS_TRY(read_file(&p, i, err));
    *again = p.again;
    if (p.again)
        return HSTU_OK;
    hs_progress_step(&custom->options->progress, "reading", p.total_bytes, p.total_bytes);
    if (p.n_rows == 0)
        return hs_fail(err, HSTU_EFORMAT, 0, "'%s' holds no rows%s", custom->options->input[0],
            custom->options->n_inputs > 1 ? ", nor do the other files" : "");
    return check_times(custom, warnings, err);
}
