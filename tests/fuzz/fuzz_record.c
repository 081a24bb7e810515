/* The reader of a record's list of files: what it accepts is a checksum, what it refuses has a sentence. */
#include "fetch/published.h"

#include <stdlib.h>
#include <string.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_published found = {.bytes = -7};
    hstu_error err = {0};
    char *text = malloc(size ? size : 1); /* of its exact size: the sanitizer sees a byte behind it */
    check(text != NULL);
    if (size)
        memcpy(text, data, size);
    const hstu_status status = hs_published_record(&found, text, size, "KuaiRand-1K.tar.gz", "http://h/r", &err);
    if (status == HSTU_OK)
        check(found.checksum.kind != HS_CHECKSUM_NONE && found.bytes >= -1);
    else
        check((status == HSTU_EFORMAT || status == HSTU_ENOENT) && err.msg[0] && found.bytes == -7);
    free(text);
    return 0;
}
