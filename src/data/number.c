/* Strict decimal numbers in text. */
#include "data/number.h"

enum { SAFE_DIGITS = 19 }; /* so many always fit into 64 bits */

size_t hs_number_scan(const char *text, size_t len, int64_t *out)
{
    size_t i = 0;
    const bool negative = len > 0 && text[0] == '-';
    i += negative;
    const size_t first = i;
    uint64_t value = 0;
    for (; i < len; i++) {
        const unsigned digit = (unsigned)((unsigned char)text[i] - '0');
        if (digit > 9)
            break;
        if (i - first >= SAFE_DIGITS && value > (UINT64_MAX - digit) / 10)
            return 0;
        value = value * 10 + digit;
    }
    const uint64_t limit = (uint64_t)INT64_MAX + negative;
    if (i == first || value > limit)
        return 0;
    /* -(value - 1) - 1 reaches INT64_MIN without overflow. */
    *out = !negative ? (int64_t)value : value == 0 ? 0 : -(int64_t)(value - 1) - 1;
    return i;
}

bool hs_number_int(const char *text, size_t len, int64_t *out)
{
    int64_t value = 0;
    if (len == 0 || hs_number_scan(text, len, &value) != len)
        return false;
    *out = value;
    return true;
}

int hs_number_shown(size_t len)
{
    return len < HS_NUMBER_SHOWN ? (int)len : HS_NUMBER_SHOWN;
}
