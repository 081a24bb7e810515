/* Anonymous memory maps. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE, madvise */

#include "base/reserve.h"

#include <sys/mman.h>

void *hs_reserve(size_t bytes)
{
    if (bytes == 0)
        return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice: kernels without large pages refuse it */
#endif
    return p;
}

void hs_reserve_free(void *p, size_t bytes)
{
    if (p)
        (void)munmap(p, bytes);
}
