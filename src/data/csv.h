/* Comma-separated values as RFC 4180 has them, plain or gzip, read row by row. Strict: what is not CSV is an error with
 * its line. Accepted beside the RFC: a line feed alone as line end, a UTF-8 byte order mark, a missing final line end. */
#ifndef HS_DATA_CSV_H
#define HS_DATA_CSV_H

#include "base/dynbuf.h"
#include "data/bytesource.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_CSV_MAX_COLUMNS = 1024 };

typedef struct hs_csv_field {
    const char *text; /* without the quotes around it, doubled quotes made one; not NUL-terminated */
    size_t len;
} hs_csv_field;

typedef struct hs_csv {
    char *path;
    char delimiter; /* between fields: ',', or what hs_csv_open_with was given */
    hs_bytesource *source;
    size_t max_row_bytes;
    size_t n_columns;
    char **column;       /* [n_columns] names in the header */
    hs_csv_field *field; /* [n_columns] of the current row, valid until the next one is read */
    uint64_t line;       /* where the current row begins; the header is line 1 */
    const char *row;     /* the current row's bytes without its line end */
    size_t row_bytes;
    bool row_quoted; /* a quote stands in the row: equal rows may then differ in their bytes */
    /* private */
    bool *escaped; /* [HS_CSV_MAX_COLUMNS] fields with doubled quotes, until they are rewritten into `scratch` */
    char *scratch;
    size_t scratch_bytes, row_end_bytes; /* row_end_bytes: the row with its line end, still in the window */
    uint64_t next_line;
} hs_csv;

/* Opens a file and reads its header. Rows (and so fields) past max_row_bytes are errors. Close on success only. */
hstu_status hs_csv_open(hs_csv *csv, const char *path, size_t max_row_bytes, hstu_error *err);
/* The same with another character between fields, which is no quote, carriage return or line feed. */
hstu_status hs_csv_open_with(hs_csv *csv, const char *path, char delimiter, size_t max_row_bytes, hstu_error *err);
/* Rows that lie in memory, borrowed until close: the first is line `line` of the file that `header` was opened on, whose
 * columns they have. */
hstu_status hs_csv_open_rows(
    hs_csv *csv, const hs_csv *header, const char *text, size_t bytes, uint64_t line, hstu_error *err);
/* Leaves the rows to the caller: csv->source stands behind the header. *line: where they begin. */
void hs_csv_leave_rows(hs_csv *csv, uint64_t *line);
void hs_csv_close(hs_csv *csv); /* a zeroed one is fine */

/* The place of the column called `name`: HSTU_EFORMAT when it is missing or stands there twice. */
hstu_status hs_csv_column(const hs_csv *csv, const char *name, size_t *index, hstu_error *err);
bool hs_csv_has_column(const hs_csv *csv, const char *name);

/* Reads the next row; *more is false at the end. Every row has as many fields as the header. */
hstu_status hs_csv_next(hs_csv *csv, bool *more, hstu_error *err);

/* The field as a decimal integer from min to max, nothing else in it. */
hstu_status hs_csv_int(const hs_csv *csv, size_t index, int64_t min, int64_t max, int64_t *out, hstu_error *err);
/* HSTU_EFORMAT "'<file>', line <l>, column <c> (<name>): <text>"; pos is the line. */
__attribute__((format(printf, 4, 5))) hstu_status hs_csv_fail(
    const hs_csv *csv, size_t index, hstu_error *err, const char *fmt, ...);

/* Appends text as a field: in quotes where it holds a comma, a quote or a line's end, else as it is. False past the
 * buffer's limit or without memory, with part of the field appended. */
bool hs_csv_append_field(hs_dynbuf *to, const char *text, size_t len);

#endif
