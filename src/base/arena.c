/* A bump allocator over a list of blocks. */
#include "base/arena.h"

#include "base/alloc.h"

#include <stdint.h>
#include <string.h>

enum { ALIGNMENT = 64, FIRST_BLOCK_BYTES = 4096 };

struct hs_arena_block {
    struct hs_arena_block *next;
    size_t size, used;
    char *data;
};

void hs_arena_init(hs_arena *arena, size_t max_bytes)
{
    *arena = (hs_arena){.max_bytes = max_bytes};
}

static bool add_block(hs_arena *arena, size_t bytes)
{
    struct hs_arena_block *block = hs_alloc(1, sizeof *block);
    if (!block)
        return false;
    *block = (struct hs_arena_block){.next = arena->block, .size = bytes, .data = hs_alloc_aligned(bytes, 1)};
    if (!block->data) {
        hs_free(block);
        return false;
    }
    arena->block = block;
    return true;
}

void *hs_arena_alloc(hs_arena *arena, size_t n, size_t size)
{
    size_t bytes = 0;
    if (!hs_mul_size(n, size, &bytes) || bytes > SIZE_MAX / 4)
        return NULL;
    const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded > arena->max_bytes - arena->used_bytes)
        return NULL;
    const struct hs_arena_block *block = arena->block;
    if (!block || block->size - block->used < rounded) {
        size_t want = block ? 2 * block->size : FIRST_BLOCK_BYTES;
        if (want > arena->max_bytes || want < rounded)
            want = rounded;
        if (!add_block(arena, want ? want : ALIGNMENT))
            return NULL;
    }
    void *p = arena->block->data + arena->block->used;
    arena->block->used += rounded;
    arena->used_bytes += rounded;
    return p;
}

char *hs_arena_strndup(hs_arena *arena, const char *s, size_t n)
{
    if (n == SIZE_MAX)
        return NULL;
    char *copy = hs_arena_alloc(arena, n + 1, 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

void hs_arena_reset(hs_arena *arena)
{
    struct hs_arena_block *block = arena->block;
    arena->used_bytes = 0;
    if (!block)
        return;
    if (!block->next) {
        block->used = 0;
        return;
    }
    size_t total = 0;
    for (; block; block = block->next)
        total += block->size;
    const size_t max_bytes = arena->max_bytes;
    hs_arena_free(arena);
    arena->max_bytes = max_bytes;
    (void)add_block(arena, total); /* without memory now, the next hs_arena_alloc tries again */
}

void hs_arena_free(hs_arena *arena)
{
    struct hs_arena_block *block = arena->block;
    while (block) {
        struct hs_arena_block *next = block->next;
        hs_free(block->data);
        hs_free(block);
        block = next;
    }
    *arena = (hs_arena){0};
}
