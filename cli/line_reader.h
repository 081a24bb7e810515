/* Reading a text file line by line, with a limit on a line's length. */
#ifndef HS_CLI_LINE_READER_H
#define HS_CLI_LINE_READER_H

#include "base/dynbuf.h"
#include "hstu/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { HS_LINE_CHUNK = 1 << 16 };

typedef struct hs_line_reader {
    int fd;
    const char *path; /* as given, or "standard input" */
    uint64_t line;    /* number of the line last read, from 1 */
    hs_dynbuf text;   /* that line, without its end (LF or CRLF) */
    size_t at, n;     /* what is left of chunk */
    char *chunk;
} hs_line_reader;

/* path "-": standard input. HSTU_ENOENT, HSTU_EIO, HSTU_ENOMEM. `path` must outlive the reader. */
hstu_status hs_line_reader_open(hs_line_reader *reader, const char *path, size_t max_line_bytes, hstu_error *err);
/* *got is false at the end of the file. A UTF-8 byte order mark before the first line is skipped. HSTU_EFORMAT for a line past
 * the limit, HSTU_EIO, HSTU_ENOMEM, HSTU_ECANCELLED when a signal interrupts the wait for input. */
hstu_status hs_line_reader_next(hs_line_reader *reader, bool *got, hstu_error *err);
/* Accepts a zeroed reader. */
void hs_line_reader_close(hs_line_reader *reader);

#endif
