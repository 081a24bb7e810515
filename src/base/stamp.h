/* Numbers that name states of memory: equal stamps, equal contents. */
#ifndef HS_BASE_STAMP_H
#define HS_BASE_STAMP_H

#include <stdint.h>

/* A number never given before in this process, never 0. Any thread. */
uint64_t hs_stamp_next(void);

#endif
