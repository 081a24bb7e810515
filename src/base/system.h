/* What this process may use of the machine. */
#ifndef HS_BASE_SYSTEM_H
#define HS_BASE_SYSTEM_H

#include <stdint.h>

/* Processors that the affinity mask and the control group's quota allow; at least 1. */
int hs_system_cpus(void);
/* Bytes that can still be allocated: the smaller of what the kernel calls available and the control group's headroom;
 * UINT64_MAX when neither can be read. */
uint64_t hs_system_memory_bytes(void);
/* A number that nobody outside can guess, for hash tables that are given hostile keys. */
uint64_t hs_system_seed(void);

#endif
