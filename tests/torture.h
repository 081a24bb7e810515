/* Allocation failure on demand, for programs named test_<area>_torture: the linker sends every malloc, calloc, realloc and
 * aligned_alloc of the code under test here. */
#ifndef TESTS_TORTURE_H
#define TESTS_TORTURE_H

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static long torture_left; /* allocations until the one that fails; 0: none fails */

static bool torture_fails(void)
{
    return torture_left > 0 && --torture_left == 0;
}

void *__wrap_malloc(size_t size)
{
    return torture_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return torture_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return torture_fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return torture_fails() ? NULL : __real_aligned_alloc(alignment, size);
}

#endif
