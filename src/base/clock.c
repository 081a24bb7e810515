/* Monotonic time. */
#include "base/clock.h"

#include <time.h>

double hs_clock_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}
