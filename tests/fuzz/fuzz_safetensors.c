/* libFuzzer target: safetensors files. Every element of every tensor that comes out is read. */
#include "file/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_mapfile map = {.data = size ? data : NULL, .size = size};
    hs_statedict dict = {0};
    hstu_error err;
    (void)hs_safetensors_recognise(&map);
    if (hs_safetensors_read(&dict, &map, "fuzz", &err) == HSTU_OK) {
        for (size_t i = 0; i < dict.n_entries; i++) {
            /* Views do not overlap, so no tensor has more elements than the file has bytes. */
            const int64_t n = hs_tensor_elements(&dict.entry[i].tensor);
            if (n < 0 || (uint64_t)n > size)
                abort();
            float *values = malloc((size_t)n * sizeof *values + 1);
            if (values)
                hs_tensor_to_f32(&dict.entry[i].tensor, values);
            free(values);
        }
        dict.map = (hs_mapfile){0}; /* not a map: close must not unmap it */
        hs_statedict_close(&dict);
    }
    return 0;
}
