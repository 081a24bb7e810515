/* When to try again. */
#include "fetch/retry.h"

#include "base/error.h"
#include "base/random.h"
#include "base/system.h"
#include "fetch/notice.h"

#include <inttypes.h>

/* base * 2^(n - 1), at most the limit; of that between a half and the whole, so that many programs that a server threw out at
 * one moment do not come back at one moment. */
static int64_t backoff_ms(hs_retry *retry)
{
    const hstu_fetch_options *o = retry->options;
    int64_t ms = o->retry_base_ms;
    for (int i = 1; i < retry->n_failed && ms < o->retry_max_ms; i++)
        ms *= 2;
    ms = ms < o->retry_max_ms ? ms : o->retry_max_ms;
    uint32_t random[4];
    hs_random_block(random, hs_system_seed(), 0, retry->n_jitter++);
    return ms / 2 + (int64_t)((uint64_t)(ms - ms / 2) * random[0] >> 32);
}

hstu_status hs_retry_wait(hs_retry *retry, const hstu_error *why, int64_t retry_after_s, int enough, hstu_error *err)
{
    const hstu_fetch_options *o = retry->options;
    if (enough)
        retry->n_failed = 0;
    retry->n_failed++;
    if (retry->n_failed >= retry->max_tries)
        return hs_fail(err, why->code, why->pos, "%.400s; gave up after %d %s", why->msg, retry->n_failed,
            retry->n_failed == 1 ? "try" : "tries");
    if (retry_after_s >= 0 && retry_after_s > o->retry_after_max_ms / 1000)
        return hs_fail(err, why->code, why->pos, "%.380s; it asks to come back in %" PRId64 " s: please try again then",
            why->msg, retry_after_s);
    int64_t ms = backoff_ms(retry);
    if (retry_after_s >= 0 && 1000 * retry_after_s > ms)
        ms = 1000 * retry_after_s;
    hs_notice_warn(&o->progress, "%s; trying again in %.1f s (try %d of %d)", why->msg, (double)ms / 1000,
        retry->n_failed + 1, retry->max_tries);
    return hs_notice_sleep(&o->progress, ms, err);
}
