/* Memory whose end is followed by a page without access, for no sanitizer sees what a tile load reads. Who includes this defines
 * _DEFAULT_SOURCE first (MAP_ANONYMOUS). */
#ifndef HS_TESTS_DEVICE_GUARDED_TEST_H
#define HS_TESTS_DEVICE_GUARDED_TEST_H

#include "kernel_test.h"

#include <sys/mman.h>
#include <unistd.h>

typedef struct guarded {
    char *base;
    size_t bytes;
} guarded;

static inline void *guarded_new(guarded *g, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    g->bytes = room + page;
    g->base = mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g->base != MAP_FAILED);
    assert_int_equal(mprotect(g->base + room, page, PROT_NONE), 0);
    memset(g->base, 0xff, room); /* NaN */
    return g->base + room - bytes;
}

static inline void guarded_free(const guarded *g)
{
    assert_int_equal(munmap(g->base, g->bytes), 0);
}

#endif
