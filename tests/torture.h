/* Allocation failure on demand, for programs named test_<area>_torture: the linker sends every malloc, calloc, realloc and
 * aligned_alloc of the code under test here. */
#ifndef TESTS_TORTURE_H
#define TESTS_TORTURE_H

#include "hstu/status.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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

/* Runs work with the n-th allocation failing, for n = 1, 2, 3 ... until none fails: each failure must be told as one, and
 * more than `at_least` allocations must have been there to fail. */
static inline void torture(hstu_status (*work)(void *ctx, hstu_error *err), void *ctx, long at_least)
{
    for (long n = 1;; n++) {
        hstu_error err = {0};
        torture_left = n;
        const hstu_status status = work(ctx, &err);
        const bool failed = torture_left == 0;
        torture_left = 0;
        if (!failed) {
            if (status != HSTU_OK)
                fail_msg("%s", err.msg);
            assert_true(n > at_least);
            return;
        }
        if (status != HSTU_ENOMEM || err.code != status || !strstr(err.msg, "out of memory"))
            fail_msg("allocation %ld failed, status %d: %s", n, (int)status, err.msg);
    }
}

/* The same, with standard output going nowhere. */
static inline void torture_silently(hstu_status (*work)(void *ctx, hstu_error *err), void *ctx, long at_least)
{
    const int kept = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    (void)fflush(stdout);
    assert_true(kept >= 0 && dup2(nowhere, STDOUT_FILENO) >= 0);
    torture(work, ctx, at_least);
    (void)fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    (void)close(kept);
    (void)close(nowhere);
}

#endif
