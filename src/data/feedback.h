/* Reporting and cancelling through the caller's hstu_progress, any part of which may be absent. */
#ifndef HS_DATA_FEEDBACK_H
#define HS_DATA_FEEDBACK_H

#include "hstu/dataset.h"

#include <stdint.h>

void hs_progress_step(const hstu_progress *progress, const char *stage, uint64_t done, uint64_t total);
void hs_progress_warn(const hstu_progress *progress, const char *sentence);
/* HSTU_ECANCELLED when the caller has asked to stop. */
hstu_status hs_progress_check(const hstu_progress *progress, hstu_error *err);

#endif
