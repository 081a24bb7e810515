/* Heap allocation with overflow checks: the only place that calls malloc. */
#ifndef HS_BASE_ALLOC_H
#define HS_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* n elements of `size` bytes; NULL when n * size overflows or memory is exhausted. n = 0 gives a unique pointer. */
void *hs_alloc(size_t n, size_t size);
void *hs_calloc(size_t n, size_t size);
/* Grows or shrinks p (NULL allowed) to n elements; on failure NULL, and p is unchanged. */
void *hs_realloc(void *p, size_t n, size_t size);
/* As hs_alloc, aligned to 64 bytes and zeroed up to the next multiple of 64: vector loads may read the tail. */
void *hs_alloc_aligned(size_t n, size_t size);
/* Frees what any of the above gave; NULL is fine. */
void hs_free(void *p);
/* A copy of the first n bytes of s, with a NUL behind them; NULL when memory is exhausted. */
char *hs_strndup(const char *s, size_t n);

/* *out = a * b or a + b; false (and *out untouched) on overflow. */
bool hs_mul_size(size_t a, size_t b, size_t *out);
bool hs_add_size(size_t a, size_t b, size_t *out);

#endif
