/* Large ranges of zeroed memory that cost nothing until they are used. */
#ifndef HS_BASE_RESERVE_H
#define HS_BASE_RESERVE_H

#include <stddef.h>

/* Address space of `bytes` zeroed bytes, aligned to the system's pages, in large pages where the system offers them.
 * Memory is taken when a part is first written, so a range may be larger than what is free now. NULL when there is
 * no such range, or for 0 bytes. */
void *hs_reserve(size_t bytes);
/* bytes: as reserved. NULL is fine. */
void hs_reserve_free(void *p, size_t bytes);

#endif
