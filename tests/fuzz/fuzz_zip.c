/* libFuzzer target: the zip directory, and every entry that it lists. */
#include "ckpt/zipfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_arena arena;
    hs_zip zip = {0};
    hs_arena_init(&arena, 4 * size + 4096);
    if (hs_zip_open(&zip, &arena, data, size, "fuzz", NULL) == HSTU_OK) {
        volatile unsigned char sink = 0;
        for (size_t i = 0; i < zip.n_entries; i++) {
            const unsigned char *bytes = NULL;
            if (hs_zip_read(&zip, &zip.entry[i], &bytes, NULL) != HSTU_OK)
                continue;
            for (uint64_t k = 0; k < zip.entry[i].size; k++)
                sink = (unsigned char)(sink ^ bytes[k]);
        }
    }
    hs_arena_free(&arena);
    return 0;
}
