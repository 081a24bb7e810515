/* Checksums as people write them. */
#ifndef HS_FETCH_CHECKSUM_H
#define HS_FETCH_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum hs_checksum_kind { HS_CHECKSUM_NONE, HS_CHECKSUM_MD5, HS_CHECKSUM_SHA256 } hs_checksum_kind;

typedef struct hs_checksum {
    hs_checksum_kind kind;
    uint8_t value[32]; /* the first 16 of an MD5 */
} hs_checksum;

enum { HS_CHECKSUM_TEXT = 80 };

/* "md5:HEX", "sha256:HEX", or the digits alone, whose number tells the kind; hexadecimal digits and prefix in any case. Nothing
 * else may stand in the n bytes. */
bool hs_checksum_parse(hs_checksum *out, const char *text, size_t n);
/* "md5:<lower case>"; "" of none. */
void hs_checksum_text(const hs_checksum *checksum, char out[HS_CHECKSUM_TEXT]);
/* Of the same kind, not none, and equal. */
bool hs_checksum_equal(const hs_checksum *a, const hs_checksum *b);

#endif
