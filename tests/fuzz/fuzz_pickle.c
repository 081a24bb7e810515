/* libFuzzer target: the pickle machine. A pickle stands alone, so nothing (no CRC) keeps mutations out. */
#include "ckpt/pickle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_pickle pickle = {0};
    hstu_error err;
    if (hs_pickle_read(&pickle, data, size, "fuzz", &err) == HSTU_OK) {
        if (!pickle.root || pickle.bytes > size)
            abort();
        (void)hs_pkl_get(pickle.root, "little_endian");
        hs_pickle_close(&pickle);
    }
    return 0;
}
