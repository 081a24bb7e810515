/* processed_inference_sequences.csv: an input is the file behind its header. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset_behind("user_id,sequence,actions,length\n", "7,\"[1, 2, 3]\",\"[0, 1, 65]\",3\n", data, size);
    return 0;
}
