/* Half precision and bfloat16 to float32, and from it. */
#include "base/half.h"

#include <string.h>

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float hs_bf16_to_f32(uint16_t bits)
{
    return from_bits((uint32_t)bits << 16);
}

/* bits / 2^n, to nearest, ties to even. A mantissa that rounds up to the next power of two carries into the exponent above. */
static uint32_t drop(uint32_t bits, unsigned n)
{
    return (bits + ((1u << (n - 1)) - 1u) + (bits >> n & 1u)) >> n;
}

uint16_t hs_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x3ffu)); /* quiet, as below */
    if (size >= 143u << 23)                                        /* 2^16 */
        return (uint16_t)(sign | 0x7c00u);
    if (size >= 113u << 23) /* 2^-14: the exponent's bias goes from 127 to 15 */
        return (uint16_t)(sign | drop(size - (112u << 23), 13));
    if (size < 102u << 23) /* 2^-25: half of the smallest denormal */
        return sign;
    /* A denormal counts in units of 2^-24; the float's mantissa, with its leading one, in units of 2^(exponent - 150). */
    return (uint16_t)(sign | drop((size & 0x7fffffu) | 0x800000u, 126u - (size >> 23)));
}

uint16_t hs_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); /* quiet: a payload in the lower half alone would become infinity */
    return (uint16_t)drop(bits, 16);
}

float hs_f16_to_f32(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits >> 15) << 31;
    uint32_t exponent = (bits >> 10) & 0x1fu;
    uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 0x1fu)
        return from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        if (mantissa == 0)
            return from_bits(sign);
        /* A denormal half is a normal float: shift the leading one into the hidden place. */
        exponent = 1;
        while (!(mantissa & 0x400u)) {
            mantissa <<= 1;
            exponent--;
        }
        mantissa &= 0x3ffu;
    }
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}
