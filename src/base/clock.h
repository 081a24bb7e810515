/* Monotonic time. */
#ifndef HS_BASE_CLOCK_H
#define HS_BASE_CLOCK_H

/* Seconds since an arbitrary fixed point; never goes backwards. */
double hs_clock_s(void);

#endif
