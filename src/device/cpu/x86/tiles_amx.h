/* Blocks of 2 x 2 AMX tiles: sums of 16 x 16 in registers 0 .. 3, the left side in 4 and 5, the right one in 6 and 7. */
#ifndef HS_DEVICE_CPU_X86_TILES_AMX_H
#define HS_DEVICE_CPU_X86_TILES_AMX_H

#include "device/cpu/cpu_ops.h"
#include "device/cpu/unroll.h"

#include <immintrin.h>

enum { TILE = 16, SIDE = 2 * TILE, PAIRS = HS_PAIR_STEP / 2, STEP_BYTES = HS_PAIR_STEP * 2 };

/* gcc 12 does not know that a tile is read from memory, nor how much of it. */
#define TILES_WRITTEN __asm__ volatile("" ::: "memory")

HS_INLINE void hs_tiles_right(const char *b, int64_t ldb, const bool again, const int tile)
{
    if (tile == 6 && again)
        _tile_stream_loadd(6, b, (size_t)ldb);
    else if (tile == 6)
        _tile_loadd(6, b, (size_t)ldb);
    else if (again)
        _tile_stream_loadd(7, b, (size_t)ldb);
    else
        _tile_loadd(7, b, (size_t)ldb);
}

/* One step of k: R x V tiles; these and `again` are literals at every call. Distances in bytes. The left side is read again for
 * every column and stays in L1. A right side that is read `again` lies in L2, and is loaded so that it does not drive the
 * left one out of L1; loaded so from farther away it would not come to lie in L2. `between` is run behind each product, of
 * R V in all.
 *   A tile is zeroed behind its last product, for a zero needs none of the processor's own registers: it has few to spare for loads and
 * products that are under way, and fewer yet for seconds at a time, as if a neighbour on the same core held tiles (bench/LOG.md).
 * Without it a step of 2 x 2 takes 1.1 times as long, and 1.9 times then; other orders and sizes gained nothing in place. */
#define HS_TILES_STEP(a, lda, b, ldb, panel, R, V, again, between)                                                     \
    do {                                                                                                               \
        _tile_loadd(4, a, (size_t)(lda));                                                                              \
        hs_tiles_right(b, ldb, again, 6);                                                                              \
        _tile_dpbf16ps(0, 4, 6);                                                                                       \
        between;                                                                                                       \
        if ((V) == 1)                                                                                                  \
            _tile_zero(4);                                                                                             \
        if ((R) == 2) {                                                                                                \
            _tile_loadd(5, (a) + TILE * (lda), (size_t)(lda));                                                         \
            _tile_dpbf16ps(1, 5, 6);                                                                                   \
            between;                                                                                                   \
        }                                                                                                              \
        _tile_zero(6);                                                                                                 \
        if ((V) == 2)                                                                                                  \
            hs_tiles_right((b) + (panel), ldb, again, 7);                                                              \
        if ((R) == 2 && (V) == 2) {                                                                                    \
            _tile_dpbf16ps(3, 5, 7);                                                                                   \
            between;                                                                                                   \
        }                                                                                                              \
        if ((R) == 2)                                                                                                  \
            _tile_zero(5);                                                                                             \
        if ((V) == 2) {                                                                                                \
            _tile_dpbf16ps(2, 4, 7);                                                                                   \
            between;                                                                                                   \
            _tile_zero(4);                                                                                             \
            _tile_zero(7);                                                                                             \
        }                                                                                                              \
    } while (0)

HS_INLINE void hs_tiles_step(
    const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, const int R, const int V, const bool again)
{
    HS_TILES_STEP(a, lda, b, ldb, panel, R, V, again, (void)0);
}

HS_INLINE void hs_tiles_zero(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

HS_INLINE void hs_tiles_store(char *c, int64_t ldc, const int R, const int V)
{
    const size_t right = TILE * sizeof(float), ld = (size_t)ldc;
    _tile_stored(0, c, ld);
    if (R == 2)
        _tile_stored(1, c + TILE * ldc, ld);
    if (V == 2)
        _tile_stored(2, c + right, ld);
    if (R == 2 && V == 2)
        _tile_stored(3, c + TILE * ldc + right, ld);
}

/* Gives the thread eight tiles of 16 rows of 64 bytes, and takes them away. */
void hs_tiles_enter(void);
void hs_tiles_leave(void);

/* hs_pair_kernels */
void hs_linear_pairs_amx(const hs_pair_linear *l);
void hs_weights_pairs_amx(const hs_pair_weights *w);

#endif
