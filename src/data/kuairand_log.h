/* KuaiRand's standard logs become rows of the event table. */
#ifndef HS_DATA_KUAIRAND_LOG_H
#define HS_DATA_KUAIRAND_LOG_H

#include "data/csv.h"
#include "data/events.h"

#include <stdint.h>

enum { HS_KUAIRAND_ROW_BYTES = 1 << 20 }; /* longest row of a log or of the user features */

/* What stays the same over the logs of one set. */
typedef struct hs_log_reader {
    hs_events *events;
    const hstu_progress *progress;
    uint64_t done_bytes, total_bytes; /* of all logs, for the progress */
    char **column;                    /* [n_columns]: the first log's header, in whose order rows are compared */
    size_t n_columns;
    uint8_t log; /* number of the next log */
} hs_log_reader;

/* Adds every row of a log. *file_bytes and *file_hash (XXH3, 64 bits) describe the file. */
hstu_status hs_log_reader_read(
    hs_log_reader *reader, const char *path, uint64_t *file_bytes, uint64_t *file_hash, hstu_error *err);
void hs_log_reader_free(hs_log_reader *reader);

#endif
