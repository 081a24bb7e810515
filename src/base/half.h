/* IEEE half precision and bfloat16 to float32, bit-exact (NaN payloads and denormals kept). */
#ifndef HS_BASE_HALF_H
#define HS_BASE_HALF_H

#include <stdint.h>

float hs_f16_to_f32(uint16_t bits);
float hs_bf16_to_f32(uint16_t bits);

#endif
