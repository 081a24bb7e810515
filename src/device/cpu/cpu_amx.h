/* Whether this processor has AMX tiles with bfloat16 products, and the system lets this process use them. */
#ifndef HS_DEVICE_CPU_CPU_AMX_H
#define HS_DEVICE_CPU_CPU_AMX_H

#include <stdbool.h>

/* Linux gives tile registers, 8 KB a thread, only to processes that ask; the first call asks. Any thread may call. A build with
 * HSTU_AMX_MODEL, which carries tiles' instructions out in C, has them everywhere. */
bool hs_cpu_may_use_amx(void);

#endif
