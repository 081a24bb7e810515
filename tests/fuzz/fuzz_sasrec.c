/* sasrec_format.csv: an input is the file behind its header. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset_behind("user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n",
        "7,\"1,2,3\",\"1,1,4.5\",\"10,20,30\"\n", data, size);
    return 0;
}
