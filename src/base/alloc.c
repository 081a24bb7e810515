/* Heap allocation with overflow checks. */
#define _DEFAULT_SOURCE /* madvise */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, LARGE_PAGE = 2 << 20, LARGE = 4 * LARGE_PAGE };

bool hs_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool hs_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

void *hs_alloc(size_t n, size_t size)
{
    size_t bytes = 0;
    if (!hs_mul_size(n, size, &bytes))
        return NULL;
    return malloc(bytes ? bytes : 1);
}

void *hs_calloc(size_t n, size_t size)
{
    if (n == 0 || size == 0)
        return calloc(1, 1);
    return calloc(n, size);
}

void *hs_realloc(void *p, size_t n, size_t size)
{
    size_t bytes = 0;
    if (!hs_mul_size(n, size, &bytes))
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

/* Weights, caches and workspace are read again and again: with large pages their addresses fit what the processor remembers. */
static void ask_for_large_pages(void *p, size_t bytes)
{
#if defined(MADV_HUGEPAGE)
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a system without them serves as well, slower */
#else
    (void)p, (void)bytes;
#endif
}

void *hs_alloc_aligned(size_t n, size_t size)
{
    size_t bytes = 0;
    if (!hs_mul_size(n, size, &bytes) || bytes > SIZE_MAX - LARGE_PAGE)
        return NULL;
    const size_t unit = bytes < LARGE ? ALIGNMENT : LARGE_PAGE, rounded = (bytes + unit) / unit * unit;
    void *p = aligned_alloc(unit, rounded);
    if (!p)
        return NULL;
    if (unit == LARGE_PAGE)
        ask_for_large_pages(p, rounded);
    memset((char *)p + bytes, 0, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT - bytes);
    return p;
}

void hs_free(void *p)
{
    free(p);
}

char *hs_strndup(const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *copy = hs_alloc(n + 1, 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}
