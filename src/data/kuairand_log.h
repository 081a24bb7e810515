/* KuaiRand's standard logs become rows of the event sink, on all of its threads. */
#ifndef HS_DATA_KUAIRAND_LOG_H
#define HS_DATA_KUAIRAND_LOG_H

#include "base/path.h"
#include "data/eventsink.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HS_KUAIRAND_ROW_BYTES = 1 << 20 }; /* longest row of a log or of the user features */

typedef struct hs_log_file {
    uint64_t bytes, hash; /* XXH3, 64 bits; 0 where it is not wanted */
} hs_log_file;

/* Adds every row of n_logs (at most HS_EVENTS_MAX_LOGS) logs, in their order; file: [n_logs], filled. The sink's folder also
 * names the reader's errors: HSTU_EFORMAT tells the first row of all that is not right. */
hstu_status hs_logs_read(hs_eventsink *sink, const hs_path *log, size_t n_logs, bool hashed,
    const hstu_progress *progress, hs_log_file *file, hstu_error *err);

#endif
