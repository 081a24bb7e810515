/* processed_seqs.csv: an input is the file behind its header. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset_behind("user_id,video_id,time_ms,action_weights,fans_user_num_range,other,register_days_range\n",
        "7,\"[1, 2, 3]\",\"[10, 20, 20]\",\"[0, 255, 64]\",1,\"a,b\",2\n8,[],[],[],1,,1\n", data, size);
    return 0;
}
