/* Checksum files, and the description of a partial file: what is read is bounded, and no line's end is in it. */
#include "fetch/partinfo.h"
#include "fetch/published.h"

#include <stdlib.h>
#include <string.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void try_description(const char *text, size_t size)
{
    hs_partinfo info = {.bytes = -7};
    if (!hs_partinfo_parse(&info, text, size)) {
        check(info.bytes == -7);
        return;
    }
    check(info.bytes >= -1 && strlen(info.url) < sizeof info.url && strlen(info.etag) < sizeof info.etag);
    check(strlen(info.modified) < sizeof info.modified && strlen(info.validator) < sizeof info.validator);
    check(!strpbrk(info.etag, "\r\n") && !strpbrk(info.validator, "\r\n")); /* which go into a request */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_published found = {.bytes = -7};
    hstu_error err = {0};
    char *text = malloc(size ? size : 1);
    check(text != NULL);
    if (size)
        memcpy(text, data, size);
    const hstu_status status = hs_published_checksums(&found, text, size, "ml-20m.zip", "http://h/s", &err);
    if (status == HSTU_OK)
        check(found.checksum.kind != HS_CHECKSUM_NONE && found.bytes == -1);
    else
        check((status == HSTU_EFORMAT || status == HSTU_ENOENT) && err.msg[0] && found.bytes == -7);
    try_description(text, size);
    free(text);
    return 0;
}
