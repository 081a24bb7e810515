/* Reporting and cancelling through the caller's hstu_progress. */
#include "fetch/notice.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void hs_notice_step(const hstu_progress *progress, const char *stage, uint64_t done, uint64_t total)
{
    if (progress->step)
        progress->step(progress->ctx, stage, done, total);
}

void hs_notice_warn(const hstu_progress *progress, const char *fmt, ...)
{
    if (!progress->warn)
        return;
    char text[1001];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)
        *c = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
    progress->warn(progress->ctx, text);
}

hstu_status hs_notice_check(const hstu_progress *progress, hstu_error *err)
{
    return progress->cancel && *progress->cancel ? hs_fail(err, HSTU_ECANCELLED, 0, "interrupted") : HSTU_OK;
}

hstu_status hs_notice_sleep(const hstu_progress *progress, int64_t ms, hstu_error *err)
{
    const double end = hs_clock_s() + (double)ms / 1000;
    for (;;) {
        HS_TRY(hs_notice_check(progress, err));
        const double left = end - hs_clock_s();
        if (left <= 0)
            return HSTU_OK;
        const double nap = left < 0.05 ? left : 0.05;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    }
}
