/* libFuzzer target: whole PyTorch files, zip and legacy. Every element of every tensor that comes out is read. Seeds
 * should be archives without CRCs (crc_off.pt): where a CRC is set, it keeps mutations out. */
#include "ckpt/pth.h"

#include <stdlib.h>

enum { MAX_ELEMENTS = 1 << 20 };

static void read_tensor(const hs_tensor *t)
{
    const int64_t n = hs_tensor_elements(t);
    if (n > MAX_ELEMENTS)
        return;
    float *values = malloc((size_t)n * sizeof *values + 1);
    if (values)
        hs_tensor_to_f32(t, values);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_mapfile map = {.data = size ? data : NULL, .size = size};
    hs_statedict dict = {0};
    hstu_error err;
    if (hs_pth_read(&dict, &map, "fuzz", &err) == HSTU_OK) {
        for (size_t i = 0; i < dict.n_entries && i < 64; i++)
            read_tensor(&dict.entry[i].tensor);
        dict.map = (hs_mapfile){0}; /* not a map: close must not unmap it */
        hs_statedict_close(&dict);
    }
    return 0;
}
