/* Views of events. */
#include "data/events.h"

/* A bit for each of the first n_logs logs. */
static uint64_t all_logs(size_t n_logs)
{
    return n_logs >= 64 ? UINT64_MAX : ((uint64_t)1 << n_logs) - 1;
}

bool hs_event_view_in_every_log(const hs_event_view *view, int64_t user, size_t n_logs)
{
    const uint64_t all = all_logs(n_logs);
    uint64_t logs = 0;
    for (int64_t i = view->offset[user]; (logs & all) != all && i < view->offset[user + 1]; i++)
        logs |= (uint64_t)1 << (view->flags[i] >> HS_EVENT_LOG_SHIFT) % HS_EVENTS_MAX_LOGS;
    return (logs & all) == all;
}
