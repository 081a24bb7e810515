/* MovieLens' .dat files: lines of fields with "::" between them, no header, no quotes, in any encoding (ISO-8859-1 as they
 * are published). A carriage return before the line feed and a missing final line feed are accepted. */
#ifndef HS_DATA_DATFILE_H
#define HS_DATA_DATFILE_H

#include "data/bytesource.h"
#include "data/csv.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_DATFILE_MAX_FIELDS = 8, HS_DATFILE_ROW_BYTES = 1 << 16 };

typedef struct hs_datfile {
    char *path;
    hs_bytesource *source;
    const char *const *name; /* [n_fields] what the fields are called in errors; borrowed */
    size_t n_fields;
    hs_csv_field field[HS_DATFILE_MAX_FIELDS]; /* of the current line, valid until the next one is read */
    uint64_t line;                             /* the current line, from 1 */
    size_t line_bytes;                         /* with its line end, still in the window */
} hs_datfile;

/* Plain or gzip. Lines past HS_DATFILE_ROW_BYTES are errors. Close on success only. */
hstu_status hs_datfile_open(
    hs_datfile *dat, const char *path, const char *const *name, size_t n_fields, hstu_error *err);
void hs_datfile_close(hs_datfile *dat); /* a zeroed one is fine */

/* Reads the next line; *more is false at the end. HSTU_EFORMAT where it has not n_fields fields. */
hstu_status hs_datfile_next(hs_datfile *dat, bool *more, hstu_error *err);
/* The field as a decimal integer from min to max, nothing else in it. */
hstu_status hs_datfile_int(
    const hs_datfile *dat, size_t index, int64_t min, int64_t max, int64_t *out, hstu_error *err);
/* HSTU_EFORMAT "'<file>', line <l>, field <i> (<name>): <text>"; pos is the line. */
__attribute__((format(printf, 4, 5))) hstu_status hs_datfile_fail(
    const hs_datfile *dat, size_t index, hstu_error *err, const char *fmt, ...);

#endif
