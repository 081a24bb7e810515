/* Reading MovieLens' .dat files. */
#include "data/datfile.h"

#include "base/alloc.h"
#include "base/error.h"
#include "data/number.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WINDOW_BYTES = 1 << 20 };

hstu_status hs_datfile_open(
    hs_datfile *dat, const char *path, const char *const *name, size_t n_fields, hstu_error *err)
{
    hs_datfile opened = {.name = name, .n_fields = n_fields};
    opened.path = hs_strndup(path, strlen(path));
    if (!opened.path)
        return hs_fail_nomem(err, strlen(path), path);
    const hstu_status status = hs_bytesource_open(&opened.source, path, WINDOW_BYTES, err);
    if (status != HSTU_OK)
        hs_free(opened.path);
    else
        *dat = opened;
    return status;
}

void hs_datfile_close(hs_datfile *dat)
{
    hs_free(dat->path);
    hs_bytesource_close(dat->source);
    *dat = (hs_datfile){0};
}

/* Finds the window's first line, lengthening the window as far as needed. *size is 0 at the end of the file. */
static hstu_status find_line(hs_datfile *dat, const char **text, size_t *size, hstu_error *err)
{
    for (;;) {
        size_t n = 0;
        *text = hs_bytesource_window(dat->source, &n);
        const size_t shown = n < HS_DATFILE_ROW_BYTES ? n : HS_DATFILE_ROW_BYTES;
        const char *feed = shown ? memchr(*text, '\n', shown) : NULL;
        if (feed || (hs_bytesource_at_end(dat->source) && n < HS_DATFILE_ROW_BYTES)) {
            *size = feed ? (size_t)(feed - *text) + 1 : n;
            return HSTU_OK;
        }
        if (n >= HS_DATFILE_ROW_BYTES)
            return hs_fail(err, HSTU_EFORMAT, dat->line, "'%s', line %" PRIu64 ": the line is longer than %d bytes",
                dat->path, dat->line, HS_DATFILE_ROW_BYTES);
        HS_TRY(hs_bytesource_more(dat->source, err));
    }
}

/* How many fields the line has; keeps the first n_fields. */
static size_t split(hs_datfile *dat, const char *text, size_t size)
{
    size_t n = 0, first = 0;
    for (size_t i = 0; i <= size; i++) {
        const bool end = i == size;
        if (!end && !(text[i] == ':' && i + 1 < size && text[i + 1] == ':'))
            continue;
        if (n < dat->n_fields)
            dat->field[n] = (hs_csv_field){text + first, i - first};
        n++;
        i += !end;
        first = i + 1;
    }
    return n;
}

hstu_status hs_datfile_next(hs_datfile *dat, bool *more, hstu_error *err)
{
    const char *text = NULL;
    size_t size = 0;
    hs_bytesource_consume(dat->source, dat->line_bytes);
    dat->line_bytes = 0;
    dat->line++;
    HS_TRY(find_line(dat, &text, &size, err));
    *more = size > 0;
    if (size == 0)
        return HSTU_OK;
    dat->line_bytes = size;
    size -= text[size - 1] == '\n';
    size -= size && text[size - 1] == '\r';
    if (size == 0)
        return hs_fail(err, HSTU_EFORMAT, dat->line, "'%s', line %" PRIu64 ": the line is empty", dat->path, dat->line);
    const size_t n = split(dat, text, size);
    if (n != dat->n_fields)
        return hs_fail(err, HSTU_EFORMAT, dat->line,
            "'%s', line %" PRIu64 ": expected %zu fields with '::' between them, found %zu", dat->path, dat->line,
            dat->n_fields, n);
    return HSTU_OK;
}

hstu_status hs_datfile_fail(const hs_datfile *dat, size_t index, hstu_error *err, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return hs_fail(err, HSTU_EFORMAT, dat->line, "'%s', line %" PRIu64 ", field %zu (%s): %s", dat->path, dat->line,
        index + 1, dat->name[index], text);
}

hstu_status hs_datfile_int(const hs_datfile *dat, size_t index, int64_t min, int64_t max, int64_t *out, hstu_error *err)
{
    const hs_csv_field *field = &dat->field[index];
    int64_t value = 0;
    const bool whole = hs_number_int(field->text, field->len, &value);
    if (whole && value >= min && value <= max) {
        *out = value;
        return HSTU_OK;
    }
    return hs_datfile_fail(dat, index, err, "expected an integer from %" PRId64 " to %" PRId64 ", found '%.*s'%s", min,
        max, hs_number_shown(field->len), field->text, field->len > HS_NUMBER_SHOWN ? "..." : "");
}
