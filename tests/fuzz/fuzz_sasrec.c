/* sasrec_format.csv: an input is the file behind its header. */
#include "fuzz_dataset.h"

#include <stdlib.h>
#include <string.h>

static const char header[] = "user_id,sequence_item_ids,sequence_ratings,sequence_timestampsn";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *file = malloc(sizeof header - 1 + size);
    if (!file)
        return 0;
    memcpy(file, header, sizeof header - 1);
    if (size)
        memcpy(file + sizeof header - 1, data, size);
    fuzz_dataset(file, sizeof header - 1 + size);
    free(file);
    return 0;
}
