/* Scores of bfloat16 items with AMX: 16 rows of the table are a tile as they lie. Sums in tiles 0 .. 3, items in 4 and 5, queries
 * in 6 and 7. */
#include "device/cpu/cpu_score.h"
#include "device/cpu/x86/tiles_amx.h"

#include <stdalign.h>

enum { TILE_BYTES = 1024, ROW_BYTES = 64, STEP = 32 };

HS_INLINE void store(const hs_score_tile *t, int64_t j, const int V)
{
    float *const score = t->score + j * t->ld, *const below = score + TILE * t->ld;
    const size_t ld = (size_t)t->ld * sizeof(float);
    _tile_stored(0, score, ld);
    _tile_stored(1, below, ld);
    if (V == 2) {
        _tile_stored(2, score + HS_SCORE_BLOCK, ld);
        _tile_stored(3, below + HS_SCORE_BLOCK, ld);
    }
}

/* The last elements, fewer than a step, of `n` rows: with zeros behind, and zero rows up to whole tiles. */
static void copy_rows(uint16_t (*copy)[STEP], const char *item, int64_t stride, int64_t n, int64_t elements)
{
    const __mmask32 mask = elements >= STEP ? ~(__mmask32)0 : ((__mmask32)1 << elements) - 1;
    for (int64_t r = 0; r < 2 * TILE; r++)
        _mm512_store_si512(copy[r], r < n ? _mm512_maskz_loadu_epi16(mask, item + r * stride) : _mm512_setzero_si512());
    TILES_WRITTEN;
}

/* As many lines as a step of two tiles reads. */
HS_INLINE const char *ask(const char *ahead)
{
    HS_UNROLL
    for (int g = 0; g < 4; g++) {
        HS_UNROLL
        for (int r = 0; r < 8; r++)
            _mm_prefetch(ahead + (8 * g + r) * ROW_BYTES, _MM_HINT_T1);
    }
    return ahead + 2 * TILE_BYTES;
}

/* n items from j on, at most two tiles. */
HS_INLINE void items(const hs_score_tile *t, int64_t j, int64_t n, const int V)
{
    const char *item = (const char *)t->item + j * t->stride, *query = t->query;
    const int64_t block = hs_score_steps(t->d, true) * ROW_BYTES;
    const char *ahead = t->ahead ? (const char *)t->ahead + j * t->ahead_stride : NULL;
    int64_t left = t->d;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; left >= STEP && n == 2 * TILE; left -= STEP, item += ROW_BYTES, query += TILE_BYTES) {
        if (ahead)
            ahead = ask(ahead);
        hs_tiles_step(item, t->stride, query, ROW_BYTES, block, 2, V, false);
    }
    for (; left > 0; left -= STEP, item += ROW_BYTES, query += TILE_BYTES) {
        alignas(64) uint16_t copy[2 * TILE][STEP];
        copy_rows(copy, item, t->stride, n, left);
        hs_tiles_step((const char *)copy, ROW_BYTES, query, ROW_BYTES, block, 2, V, false);
    }
    store(t, j, V);
}

HS_INLINE void all_items(const hs_score_tile *t, const int V)
{
    int64_t j = 0;
    for (; j + 2 * TILE <= t->n_items; j += 2 * TILE)
        items(t, j, 2 * TILE, V);
    if (j < t->n_items)
        items(t, j, t->n_items - j, V);
}

static void many_bf16(const hs_score_tile *t)
{
    if (t->n == 2)
        all_items(t, 2);
    else
        all_items(t, 1);
}

const hs_score_kernels hs_scores_amx = {.pairs = true,
    .few_f32 = hs_few_f32_avx512,
    .many_bf16 = many_bf16,
    .filter = hs_score_filter_avx512,
    .enter = hs_tiles_enter,
    .leave = hs_tiles_leave};
