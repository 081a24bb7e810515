/* Strict CSV reading: rows and fields as slices of the source's window. */
#include "data/csv.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/number.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef enum split_result { SPLIT_ROW, SPLIT_MORE, SPLIT_FAILED } split_result;

/* One attempt to cut a row out of [begin, end). */
typedef struct cursor {
    const char *begin, *p, *end;
    bool final; /* nothing follows `end` */
    size_t n_fields;
    uint64_t n_line_feeds; /* inside quotes */
    const char *problem;
} cursor;

static bool is_special(char c, char delimiter)
{
    return c == delimiter || c == '\n' || c == '\r' || c == '"';
}

static split_result problem(cursor *c, const char *text)
{
    c->problem = text;
    return SPLIT_FAILED;
}

/* From behind the opening quote to behind the closing one. */
static split_result split_quoted(cursor *c, hs_csv_field *field, bool *escaped)
{
    const char *text = ++c->p;
    for (;;) {
        const char *quote = c->p < c->end ? memchr(c->p, '"', (size_t)(c->end - c->p)) : NULL;
        const char *stop = quote ? quote : c->end;
        for (const char *feed = c->p; feed < stop && (feed = memchr(feed, '\n', (size_t)(stop - feed))); feed++)
            c->n_line_feeds++;
        if (!quote || (quote + 1 == c->end && !c->final))
            return c->final ? problem(c, "a quoted field is not closed") : SPLIT_MORE;
        c->p = quote + 1;
        if (c->p == c->end || *c->p != '"') {
            *field = (hs_csv_field){text, (size_t)(quote - text)};
            return SPLIT_ROW;
        }
        *escaped = true;
        c->p++;
    }
}

static split_result split_field(hs_csv *csv, cursor *c)
{
    hs_csv_field *field = &csv->field[c->n_fields];
    bool *escaped = &csv->escaped[c->n_fields];
    *escaped = false;
    c->n_fields++;
    if (c->p < c->end && *c->p == '"') {
        csv->row_quoted = true;
        const split_result result = split_quoted(c, field, escaped);
        if (result != SPLIT_ROW)
            return result;
        if (c->p < c->end && *c->p != csv->delimiter && *c->p != '\n' && *c->p != '\r')
            return problem(c, "text follows a field's closing quote");
        return SPLIT_ROW;
    }
    const char *p = c->p;
    while (p < c->end && !is_special(*p, csv->delimiter))
        p++;
    *field = (hs_csv_field){c->p, (size_t)(p - c->p)};
    c->p = p;
    if (p < c->end && *p == '"')
        return problem(c, "a quote stands inside a field that does not begin with one");
    return SPLIT_ROW;
}

/* Cuts the window's first row. limit: fields that fit into csv->field; the row's bytes end up in csv->row. */
static split_result split_row(hs_csv *csv, cursor *c, size_t limit)
{
    csv->row_quoted = false;
    for (;;) {
        if (c->n_fields == limit)
            return problem(c, csv->column ? "there are more fields than columns" : "there are too many columns");
        const split_result result = split_field(csv, c);
        if (result != SPLIT_ROW)
            return result;
        if (c->p == c->end) {
            csv->row_bytes = (size_t)(c->p - c->begin);
            return c->final ? SPLIT_ROW : SPLIT_MORE;
        }
        if (*c->p == csv->delimiter) {
            c->p++;
            continue;
        }
        csv->row_bytes = (size_t)(c->p - c->begin);
        if (*c->p == '\r') {
            c->p++;
            if (c->p == c->end && !c->final)
                return SPLIT_MORE;
            if (c->p == c->end || *c->p != '\n')
                return problem(c, "a carriage return stands without a line feed");
        }
        c->p++;
        return SPLIT_ROW;
    }
}

static hstu_status fail_line(const hs_csv *csv, hstu_error *err, const char *text)
{
    return hs_fail(err, HSTU_EFORMAT, csv->line, "'%s', line %" PRIu64 ": %s", csv->path, csv->line, text);
}

/* Turns doubled quotes into single ones, for the fields that hold any. */
static hstu_status unescape(hs_csv *csv, size_t n_fields, hstu_error *err)
{
    size_t used = 0;
    for (size_t i = 0; csv->row_quoted && i < n_fields; i++) {
        if (!csv->escaped[i])
            continue;
        if (csv->scratch_bytes < csv->row_bytes) {
            char *scratch = hs_realloc(csv->scratch, csv->row_bytes, 1);
            if (!scratch)
                return hs_fail_nomem(err, csv->row_bytes, csv->path);
            csv->scratch = scratch;
            csv->scratch_bytes = csv->row_bytes;
        }
        const hs_csv_field field = csv->field[i];
        char *to = csv->scratch + used;
        size_t len = 0;
        for (size_t k = 0; k < field.len; k++) {
            to[len++] = field.text[k];
            if (field.text[k] == '"')
                k++;
        }
        csv->field[i] = (hs_csv_field){to, len};
        used += len;
    }
    return HSTU_OK;
}

/* Reads one row of at most `limit` fields. */
static hstu_status read_row(hs_csv *csv, size_t limit, size_t *n_fields, bool *more, hstu_error *err)
{
    hs_bytesource_consume(csv->source, csv->row_end_bytes);
    csv->row_end_bytes = 0;
    csv->line = csv->next_line;
    cursor c;
    for (;;) {
        size_t size = 0;
        const char *window = hs_bytesource_window(csv->source, &size);
        const bool at_end = hs_bytesource_at_end(csv->source);
        if (size == 0 && at_end) {
            *more = false;
            return HSTU_OK;
        }
        const bool cut = size > csv->max_row_bytes;
        c = (cursor){
            .begin = window, .p = window, .end = window + (cut ? csv->max_row_bytes : size), .final = at_end && !cut};
        const split_result result = size ? split_row(csv, &c, limit) : SPLIT_MORE;
        if (result == SPLIT_ROW)
            break;
        if (result == SPLIT_FAILED)
            return fail_line(csv, err, c.problem);
        if (cut || size == csv->max_row_bytes)
            return hs_fail(err, HSTU_EFORMAT, csv->line, "'%s', line %" PRIu64 ": the row is longer than %zu bytes",
                csv->path, csv->line, csv->max_row_bytes);
        HS_TRY(hs_bytesource_more(csv->source, err));
    }
    csv->row = c.begin;
    csv->row_end_bytes = (size_t)(c.p - c.begin);
    csv->next_line = csv->line + 1 + c.n_line_feeds;
    if (csv->row_bytes == 0)
        return fail_line(csv, err, "the line is empty");
    *n_fields = c.n_fields;
    *more = true;
    return unescape(csv, c.n_fields, err);
}

static hstu_status skip_byte_order_mark(hs_csv *csv, hstu_error *err)
{
    static const unsigned char mark[3] = {0xef, 0xbb, 0xbf};
    size_t size = 0;
    const char *window = hs_bytesource_window(csv->source, &size);
    if (size < sizeof mark && !hs_bytesource_at_end(csv->source)) {
        HS_TRY(hs_bytesource_more(csv->source, err));
        window = hs_bytesource_window(csv->source, &size);
    }
    if (size >= sizeof mark && memcmp(window, mark, sizeof mark) == 0)
        hs_bytesource_consume(csv->source, sizeof mark);
    return HSTU_OK;
}

static hstu_status read_header(hs_csv *csv, hstu_error *err)
{
    bool more = false;
    size_t n = 0;
    HS_TRY(skip_byte_order_mark(csv, err));
    HS_TRY(read_row(csv, HS_CSV_MAX_COLUMNS, &n, &more, err));
    if (!more)
        return hs_fail(err, HSTU_EFORMAT, 1, "'%s' is empty: expected a line with column names", csv->path);
    csv->column = hs_calloc(n, sizeof *csv->column);
    if (!csv->column)
        return hs_fail_nomem(err, n * sizeof *csv->column, csv->path);
    csv->n_columns = n;
    for (size_t i = 0; i < n; i++) {
        csv->column[i] = hs_strndup(csv->field[i].text, csv->field[i].len);
        if (!csv->column[i])
            return hs_fail_nomem(err, csv->field[i].len, csv->path);
    }
    return HSTU_OK;
}

static hstu_status make_room(hs_csv *csv, const char *path, hstu_error *err)
{
    csv->path = hs_strndup(path, strlen(path));
    csv->field = hs_calloc(HS_CSV_MAX_COLUMNS, sizeof *csv->field);
    csv->escaped = hs_calloc(HS_CSV_MAX_COLUMNS, sizeof *csv->escaped);
    if (!csv->path || !csv->field || !csv->escaped)
        return hs_fail_nomem(err, HS_CSV_MAX_COLUMNS * sizeof *csv->field, path);
    return HSTU_OK;
}

static hstu_status keep_columns(hs_csv *csv, const hs_csv *header, hstu_error *err)
{
    csv->column = hs_calloc(header->n_columns, sizeof *csv->column);
    if (!csv->column)
        return hs_fail_nomem(err, header->n_columns * sizeof *csv->column, header->path);
    csv->n_columns = header->n_columns;
    for (size_t i = 0; i < csv->n_columns; i++) {
        csv->column[i] = hs_strndup(header->column[i], strlen(header->column[i]));
        if (!csv->column[i])
            return hs_fail_nomem(err, strlen(header->column[i]), header->path);
    }
    return HSTU_OK;
}

hstu_status hs_csv_open(hs_csv *csv, const char *path, size_t max_row_bytes, hstu_error *err)
{
    return hs_csv_open_with(csv, path, ',', max_row_bytes, err);
}

hstu_status hs_csv_open_with(hs_csv *csv, const char *path, char delimiter, size_t max_row_bytes, hstu_error *err)
{
    hs_csv opened = {.delimiter = delimiter, .max_row_bytes = max_row_bytes, .next_line = 1, .line = 1};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(make_room(&opened, path, err));
    HS_TRY_GOTO(hs_bytesource_open(&opened.source, path, max_row_bytes, err));
    HS_TRY_GOTO(read_header(&opened, err));
    *csv = opened;
    return HSTU_OK;
fail:
    hs_csv_close(&opened);
    return status;
}

hstu_status hs_csv_open_rows(
    hs_csv *csv, const hs_csv *header, const char *text, size_t bytes, uint64_t line, hstu_error *err)
{
    hs_csv opened = {
        .delimiter = header->delimiter, .max_row_bytes = header->max_row_bytes, .next_line = line, .line = line};
    hstu_status status = HSTU_OK;
    HS_TRY_GOTO(make_room(&opened, header->path, err));
    HS_TRY_GOTO(hs_bytesource_open_memory(&opened.source, text, bytes, err));
    HS_TRY_GOTO(keep_columns(&opened, header, err));
    *csv = opened;
    return HSTU_OK;
fail:
    hs_csv_close(&opened);
    return status;
}

void hs_csv_leave_rows(hs_csv *csv, uint64_t *line)
{
    hs_bytesource_consume(csv->source, csv->row_end_bytes);
    csv->row_end_bytes = 0;
    *line = csv->next_line;
}

void hs_csv_close(hs_csv *csv)
{
    for (size_t i = 0; i < csv->n_columns; i++)
        hs_free(csv->column[i]);
    hs_free(csv->column);
    hs_free(csv->field);
    hs_free(csv->escaped);
    hs_free(csv->scratch);
    hs_free(csv->path);
    hs_bytesource_close(csv->source);
    *csv = (hs_csv){0};
}

bool hs_csv_has_column(const hs_csv *csv, const char *name)
{
    for (size_t i = 0; i < csv->n_columns; i++) {
        if (strcmp(csv->column[i], name) == 0)
            return true;
    }
    return false;
}

/* The names that stand there tell a mistyped one, and a wrong delimiter. */
static hstu_status fail_missing(const hs_csv *csv, const char *name, hstu_error *err)
{
    char list[160] = "";
    size_t used = 0;
    for (size_t i = 0; i < csv->n_columns && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.60s", i ? ", " : "", csv->column[i]);
    return hs_fail(err, HSTU_EFORMAT, 1, "'%s', line 1: the column '%s' is missing among %zu column%s: %s%s", csv->path,
        name, csv->n_columns, csv->n_columns == 1 ? "" : "s", list, used < sizeof list ? "" : "...");
}

hstu_status hs_csv_column(const hs_csv *csv, const char *name, size_t *index, hstu_error *err)
{
    size_t found = csv->n_columns;
    for (size_t i = 0; i < csv->n_columns; i++) {
        if (strcmp(csv->column[i], name) != 0)
            continue;
        if (found < csv->n_columns)
            return hs_fail(err, HSTU_EFORMAT, 1,
                "'%s', line 1: the column '%s' stands there twice (columns %zu and %zu)", csv->path, name, found + 1,
                i + 1);
        found = i;
    }
    if (found == csv->n_columns)
        return fail_missing(csv, name, err);
    *index = found;
    return HSTU_OK;
}

hstu_status hs_csv_next(hs_csv *csv, bool *more, hstu_error *err)
{
    size_t n = 0;
    HS_TRY(read_row(csv, csv->n_columns, &n, more, err));
    if (*more && n < csv->n_columns)
        return hs_fail(err, HSTU_EFORMAT, csv->line, "'%s', line %" PRIu64 ": expected %zu fields, found %zu",
            csv->path, csv->line, csv->n_columns, n);
    return HSTU_OK;
}

hstu_status hs_csv_fail(const hs_csv *csv, size_t index, hstu_error *err, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return hs_fail(err, HSTU_EFORMAT, csv->line, "'%s', line %" PRIu64 ", column %zu (%s): %s", csv->path, csv->line,
        index + 1, csv->column[index], text);
}

hstu_status hs_csv_int(const hs_csv *csv, size_t index, int64_t min, int64_t max, int64_t *out, hstu_error *err)
{
    const hs_csv_field *field = &csv->field[index];
    int64_t value = 0;
    const bool whole = hs_number_int(field->text, field->len, &value);
    if (whole && value >= min && value <= max) {
        *out = value;
        return HSTU_OK;
    }
    if (whole)
        return hs_csv_fail(
            csv, index, err, "expected an integer from %" PRId64 " to %" PRId64 ", found %" PRId64, min, max, value);
    return hs_csv_fail(csv, index, err, "expected an integer, found '%.*s'%s", hs_number_shown(field->len), field->text,
        field->len > HS_NUMBER_SHOWN ? "..." : "");
}

bool hs_csv_append_field(hs_dynbuf *to, const char *text, size_t len)
{
    bool plain = true;
    for (size_t i = 0; plain && i < len; i++)
        plain = !is_special(text[i], ',');
    if (plain)
        return hs_dynbuf_append(to, text, len);
    bool ok = hs_dynbuf_append(to, "\"", 1);
    for (size_t i = 0; ok && i < len; i++)
        ok = hs_dynbuf_append(to, text + i, 1) && (text[i] != '"' || hs_dynbuf_append(to, "\"", 1));
    return ok && hs_dynbuf_append(to, "\"", 1);
}
