/* One counter of the whole process: addresses come again when memory is freed, stamps do not. */
#include "base/stamp.h"

#include <stdatomic.h>

uint64_t hs_stamp_next(void)
{
    static _Atomic uint64_t n_given;
    return atomic_fetch_add_explicit(&n_given, 1, memory_order_relaxed) + 1;
}
