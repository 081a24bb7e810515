/* When to try again: exponential waits with jitter, or what the server asks for, and an end. */
#ifndef HS_FETCH_RETRY_H
#define HS_FETCH_RETRY_H

#include "hstu/fetch.h"

typedef struct hs_retry {
    const hstu_fetch_options *options;
    int max_tries;
    int n_failed;      /* tries in a row that brought too little */
    uint64_t n_jitter; /* random numbers used */
} hs_retry;

/* After a failed try whose error is `why`: says so in a warning and waits, or fails with `why` and the number of tries.
 * retry_after_s: what the server asked for, or -1. enough: the try brought so much that the count begins anew. */
hstu_status hs_retry_wait(hs_retry *retry, const hstu_error *why, int64_t retry_after_s, int enough, hstu_error *err);

#endif
