/* A bump allocator: many small objects that die together. Bounded: hostile input cannot grow it past its limit. */
#ifndef HS_BASE_ARENA_H
#define HS_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct hs_arena {
    struct hs_arena_block *block; /* newest block first */
    size_t used_bytes;            /* bytes handed out since the last reset, each object rounded up to 64 */
    size_t max_bytes;             /* hs_arena_alloc fails past this many */
} hs_arena;

void hs_arena_init(hs_arena *arena, size_t max_bytes);
/* 64-byte aligned, uninitialised; lives until reset or free. NULL past the limit, on overflow, or without memory. */
void *hs_arena_alloc(hs_arena *arena, size_t n, size_t size);
/* A NUL-terminated copy of n bytes. */
char *hs_arena_strndup(hs_arena *arena, const char *s, size_t n);
/* Forgets every object and keeps one block as large as all that was used, so that a steady state allocates nothing. */
void hs_arena_reset(hs_arena *arena);
void hs_arena_free(hs_arena *arena);

#endif
