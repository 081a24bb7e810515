/* Checksums as people write them. */
#include "fetch/checksum.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static size_t n_bytes(hs_checksum_kind kind)
{
    return kind == HS_CHECKSUM_MD5 ? 16 : kind == HS_CHECKSUM_SHA256 ? 32 : 0;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hs_checksum_parse(hs_checksum *out, const char *text, size_t n)
{
    hs_checksum sum = {HS_CHECKSUM_NONE, {0}};
    if (n > 4 && strncasecmp(text, "md5:", 4) == 0) {
        sum.kind = HS_CHECKSUM_MD5;
        text += 4;
        n -= 4;
    } else if (n > 7 && strncasecmp(text, "sha256:", 7) == 0) {
        sum.kind = HS_CHECKSUM_SHA256;
        text += 7;
        n -= 7;
    } else if (n == 32 || n == 64) {
        sum.kind = n == 32 ? HS_CHECKSUM_MD5 : HS_CHECKSUM_SHA256;
    }
    if (sum.kind == HS_CHECKSUM_NONE || n != 2 * n_bytes(sum.kind))
        return false;
    for (size_t i = 0; i < n; i += 2) {
        const int high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        sum.value[i / 2] = (uint8_t)(16 * high + low);
    }
    *out = sum;
    return true;
}

void hs_checksum_text(const hs_checksum *checksum, char out[HS_CHECKSUM_TEXT])
{
    const char *prefix = checksum->kind == HS_CHECKSUM_MD5 ? "md5:" : "sha256:";
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n_bytes(checksum->kind); i++)
        used += (size_t)snprintf(out + used, HS_CHECKSUM_TEXT - used, "%s%02x", i ? "" : prefix, checksum->value[i]);
}

bool hs_checksum_equal(const hs_checksum *a, const hs_checksum *b)
{
    return a->kind != HS_CHECKSUM_NONE && a->kind == b->kind && memcmp(a->value, b->value, n_bytes(a->kind)) == 0;
}
