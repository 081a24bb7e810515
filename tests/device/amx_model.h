/* AMX tiles in C, for builds with HSTU_AMX_MODEL, whose AMX kernels include this first: what they compute can be tested on processors
 * without tiles, and AddressSanitizer sees what tiles are loaded from and stored to. The arithmetic is tdpbf16ps's to the bit: of an
 * element's 16 pairs the even ones and the odd ones are each a chain of fused multiply-adds from 0, whose sum is added to what is there;
 * denormals count as 0 (Intel's instruction set reference, TDPBF16PS). */
#ifndef HS_TESTS_DEVICE_AMX_MODEL_H
#define HS_TESTS_DEVICE_AMX_MODEL_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MODEL_TILES = 8, MODEL_ROWS = 16, MODEL_PAIRS = 16, MODEL_ROW_BYTES = 64, MODEL_FLUSH = 0x8040 };

/* By themselves: kernels that are unrolled stay as small as with instructions. */
#define MODEL_FN static __attribute__((noinline, unused))

typedef struct model_tiles {
    bool configured;
    uint32_t word[MODEL_TILES][MODEL_ROWS][MODEL_PAIRS];
} model_tiles;

/* One thread's; of all kernels, which are compiled one by one. */
__attribute__((weak)) _Thread_local model_tiles hs_model_tiles;

/* All kernels want tiles of 16 rows of 64 bytes. Without a configuration the processor faults. */
MODEL_FN void model_configure(const uint8_t *config)
{
    for (int t = 0; t < MODEL_TILES; t++) {
        if (config[0] != 1 || config[16 + 2 * t] != MODEL_ROW_BYTES || config[48 + t] != MODEL_ROWS)
            __builtin_trap();
    }
    memset(hs_model_tiles.word, 0, sizeof hs_model_tiles.word);
    hs_model_tiles.configured = true;
}

MODEL_FN void model_release(void)
{
    hs_model_tiles.configured = false;
}

MODEL_FN model_tiles *model_used(void)
{
    if (!hs_model_tiles.configured)
        __builtin_trap();
    return &hs_model_tiles;
}

MODEL_FN void model_load(int tile, const void *from, size_t stride)
{
    model_tiles *m = model_used();
    for (size_t r = 0; r < MODEL_ROWS; r++)
        memcpy(m->word[tile][r], (const char *)from + r * stride, MODEL_ROW_BYTES);
}

MODEL_FN void model_store(int tile, void *to, size_t stride)
{
    const model_tiles *m = model_used();
    for (size_t r = 0; r < MODEL_ROWS; r++)
        memcpy((char *)to + r * stride, m->word[tile][r], MODEL_ROW_BYTES);
}

MODEL_FN void model_zero(int tile)
{
    memset(model_used()->word[tile], 0, sizeof hs_model_tiles.word[tile]);
}

MODEL_FN void model_multiply(int sum, int left, int right)
{
    model_tiles *m = model_used();
    const unsigned mode = _mm_getcsr();
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    _mm_setcsr((mode & ~0x6000u) | MODEL_FLUSH); /* rounds to the nearest */
    for (int r = 0; r < MODEL_ROWS; r++) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        for (int p = 0; p < MODEL_PAIRS; p++) {
            const __m512i a = _mm512_set1_epi32((int)m->word[left][r][p]), b = _mm512_loadu_si512(m->word[right][p]);
            even = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), even);
            odd = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), odd);
        }
        const __m512 was = _mm512_loadu_ps(m->word[sum][r]);
        _mm512_storeu_ps(m->word[sum][r], _mm512_add_ps(was, _mm512_add_ps(even, odd)));
    }
    _mm_setcsr(mode);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) model_configure(config)
#define _tile_release() model_release()
#define _tile_loadd(tile, from, stride) model_load(tile, from, stride)
#define _tile_stream_loadd(tile, from, stride) model_load(tile, from, stride)
#define _tile_stored(tile, to, stride) model_store(tile, to, stride)
#define _tile_zero(tile) model_zero(tile)
#define _tile_dpbf16ps(sum, left, right) model_multiply(sum, left, right)

#endif
