/* Reporting and cancelling through the caller's hstu_progress. */
#ifndef HS_FETCH_NOTICE_H
#define HS_FETCH_NOTICE_H

#include "hstu/dataset.h"

void hs_notice_step(const hstu_progress *progress, const char *stage, uint64_t done, uint64_t total);
/* A sentence of at most 1000 bytes; control characters, which a server may have sent, become '?'. */
__attribute__((format(printf, 2, 3))) void hs_notice_warn(const hstu_progress *progress, const char *fmt, ...);
/* HSTU_ECANCELLED once the caller wants to stop. */
hstu_status hs_notice_check(const hstu_progress *progress, hstu_error *err);
/* Sleeps, and returns early with HSTU_ECANCELLED. */
hstu_status hs_notice_sleep(const hstu_progress *progress, int64_t ms, hstu_error *err);

#endif
