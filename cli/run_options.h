/* The options of `hstu run`, by their place in the table. */
#ifndef HS_CLI_RUN_OPTIONS_H
#define HS_CLI_RUN_OPTIONS_H

#include "cli/options.h"

enum {
    HS_RUN_CONFIG,
    HS_RUN_CHECKPOINT,
    HS_RUN_DATASET,
    HS_RUN_DATA_ROOT,
    HS_RUN_PROTOCOL,
    HS_RUN_STEPS,
    HS_RUN_BATCH_SIZE,
    HS_RUN_SEQUENCE_LENGTH,
    HS_RUN_TOP_K,
    HS_RUN_FILTER_SEEN,
    HS_RUN_CANDIDATES,
    HS_RUN_REQUESTS,
    HS_RUN_OUTPUT,
    HS_RUN_WARMUP,
    HS_RUN_THREADS,
    HS_RUN_DEVICE,
    HS_RUN_DTYPE,
    HS_RUN_SEED,
    HS_RUN_DUMP_LOGITS,
    HS_RUN_QUIET,
    HS_RUN_ITEM_ID_OFFSET,
    HS_RUN_DROP_DUPLICATES,
    HS_RUN_MIN_EVENTS,
    HS_RUN_TIME_INTERVAL_S,
    HS_RUN_MAX_SEQUENCES,
    HS_RUN_MAX_SEQUENCE_LENGTH,
    HS_RUN_MAX_HISTORY,
    HS_RUN_MAX_CANDIDATES,
    HS_RUN_TRUNCATION,
    HS_RUN_SPLIT,
    HS_RUN_PAD_ATTENTION,
    HS_RUN_N_OPTIONS
};

extern const hs_option hs_run_options[HS_RUN_N_OPTIONS];

/* Words of --protocol, --truncation and --split are numbered as they stand in the table. */
enum { HS_RUN_SESSIONS, HS_RUN_LEAVE_ONE_OUT, HS_RUN_RANKING };

#endif
