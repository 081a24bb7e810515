/* Reading a text file line by line, with a limit on a line's length. */
#ifndef HS_CLI_LINE_READER_H
#define HS_CLI_LINE_READER_H

#include "base/dynbuf.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { HS_LINE_CHUNK = 1 << 16 };

typedef struct hs_line_reader {
    FILE *stream;
    const char *path; /* as given; "-" is standard input */
    uint64_t line;    /* number of the line last read, from 1 */
    hs_dynbuf text;   /* that line, without its end (LF or CRLF) */
    size_t at, n;     /* what is left of chunk */
    char *chunk;
} hs_line_reader;

/* HSTU_ENOENT, HSTU_EIO, HSTU_ENOMEM. `path` must outlive the reader. */
hstu_status hs_line_reader_open(hs_line_reader *reader, const char *path, size_t max_line_bytes, hstu_error *err);
/* *got is false at the end of the file. HSTU_EFORMAT for a line past the limit. */
hstu_status hs_line_reader_next(hs_line_reader *reader, bool *got, hstu_error *err);
/* Accepts a zeroed reader. */
void hs_line_reader_close(hs_line_reader *reader);

#endif
