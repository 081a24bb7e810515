/* Rows of a KuaiRand log in memory become columns. */
#ifndef HS_DATA_LOG_PARSE_H
#define HS_DATA_LOG_PARSE_H

#include "data/log_layout.h"
#include "data/pieces.h"

/* What must lie, readable, in front of the text and behind it; what the bytes are does not count. */
enum { HS_LOG_TEXT_PADDING = 64 };
/* No row is shorter: 13 columns of a digit and a separator. */
enum { HS_LOG_MIN_ROW_BYTES = 26 };

/* Whole rows without quotes and carriage returns, each with a line feed, of a layout that is in order. rows: emptied first, with
 * room for bytes / HS_LOG_MIN_ROW_BYTES rows. False when anything is not as it should be, or might not be: then rows hold
 * nothing of use, and hs_log_parse_strict tells. bytes < 2^32. */
bool hs_log_parse_fast(hs_eventrows *rows, const hs_log_layout *layout, const char *text, size_t bytes);
/* The same for any rows, the first of which is line `line` of the log with this header. */
hstu_status hs_log_parse_strict(hs_eventrows *rows, const hs_log_layout *layout, const hs_csv *header, const char *text,
    size_t bytes, uint64_t line, hs_dynbuf *room, hstu_error *err);

#endif
