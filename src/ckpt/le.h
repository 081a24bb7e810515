/* Little-endian numbers at any alignment. The caller has checked that the bytes are there. */
#ifndef HS_CKPT_LE_H
#define HS_CKPT_LE_H

#include <stdint.h>

static inline uint16_t hs_le16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t hs_le32(const unsigned char *p)
{
    return (uint32_t)hs_le16(p) | (uint32_t)hs_le16(p + 2) << 16;
}

static inline uint64_t hs_le64(const unsigned char *p)
{
    return (uint64_t)hs_le32(p) | (uint64_t)hs_le32(p + 4) << 32;
}

#endif
