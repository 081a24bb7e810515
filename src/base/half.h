/* IEEE half precision and bfloat16: to float32 bit-exact (NaN payloads and denormals kept), and both from float32. */
#ifndef HS_BASE_HALF_H
#define HS_BASE_HALF_H

#include <stdint.h>

float hs_f16_to_f32(uint16_t bits);
float hs_bf16_to_f32(uint16_t bits);
/* To nearest, ties to even, denormals too; what rounds past the largest finite value becomes infinite, NaN stays NaN. */
uint16_t hs_f32_to_f16(float value);
uint16_t hs_f32_to_bf16(float value);

#endif
