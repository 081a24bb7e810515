/* Reporting and cancelling through the caller's hstu_progress. */
#include "data/feedback.h"

#include "base/error.h"

#include <stddef.h>

void hs_progress_step(const hstu_progress *progress, const char *stage, uint64_t done, uint64_t total)
{
    if (progress && progress->step)
        progress->step(progress->ctx, stage, done, total);
}

void hs_progress_warn(const hstu_progress *progress, const char *sentence)
{
    if (progress && progress->warn)
        progress->warn(progress->ctx, sentence);
}

hstu_status hs_progress_check(const hstu_progress *progress, hstu_error *err)
{
    if (progress && progress->cancel && *progress->cancel)
        return hs_fail(err, HSTU_ECANCELLED, 0, "interrupted");
    return HSTU_OK;
}
