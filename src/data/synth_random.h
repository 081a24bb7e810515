/* Fast random numbers of one block of rows, and decimal digits. */
#ifndef HS_DATA_SYNTH_RANDOM_H
#define HS_DATA_SYNTH_RANDOM_H

#include "base/random.h"

#include <stdint.h>
#include <string.h>

/* Streams of hs_random_block, so that no two uses share numbers. */
enum { HS_SYNTH_STREAM_USER = 1, HS_SYNTH_STREAM_FEATURES = 2, HS_SYNTH_STREAM_ROWS = 16 };

static inline uint64_t hs_synth_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* SplitMix64 (Steele et al., OOPSLA 2014): a counter and a mix. */
typedef struct hs_synth_random {
    uint64_t counter;
} hs_synth_random;

static inline hs_synth_random hs_synth_random_of(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t block[4];
    hs_random_block(block, seed, stream, index);
    return (hs_synth_random){(uint64_t)block[1] << 32 | block[0]};
}

static inline uint64_t hs_synth_next(hs_synth_random *random)
{
    random->counter += 0x9E3779B97F4A7C15u;
    return hs_synth_mix(random->counter);
}

/* 0 .. n - 1, n <= 2^32. */
static inline uint64_t hs_synth_below(hs_synth_random *random, uint64_t n)
{
    return (hs_synth_next(random) >> 32) * n >> 32;
}

/* A value of a table of 17 quantiles, straight lines between them; `bits`: 16 random ones. */
static inline int32_t hs_synth_quantile(const int32_t *knot, uint32_t bits)
{
    const uint32_t step = bits >> 12 & 15;
    const int64_t low = knot[step], high = knot[step + 1];
    return (int32_t)(low + (high - low) * (int64_t)(bits & 4095) / 4096);
}

/* Writes x without leading zeros; gives the place behind. Copies a fixed number of bytes, because that is faster: there must be
 * room for HS_SYNTH_PUT_BYTES. */
enum { HS_SYNTH_PUT_BYTES = 24 };
static inline char *hs_synth_put(char *at, uint64_t x)
{
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243"
        "4445464748495051525354555657585960616263646566676869707172737475767778798081828384858687"
        "888990919293949596979899";
    char digit[2 * HS_SYNTH_PUT_BYTES];
    char *const end = digit + HS_SYNTH_PUT_BYTES, *begin = end;
    memset(end, 0, HS_SYNTH_PUT_BYTES);
    while (x >= 100) {
        const uint64_t rest = x / 100;
        begin -= 2;
        memcpy(begin, pairs + 2 * (x - rest * 100), 2);
        x = rest;
    }
    if (x >= 10) {
        begin -= 2;
        memcpy(begin, pairs + 2 * x, 2);
    } else {
        *--begin = (char)('0' + x);
    }
    memcpy(at, begin, HS_SYNTH_PUT_BYTES);
    return at + (end - begin);
}

#endif
