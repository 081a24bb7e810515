/* sequences.safetensors. An input is the tensors' bytes of a small file behind a header of the right form, or a whole file. */
#include "fuzz_dataset.h"

#include <string.h>

static const char header[] =
    "{\"__metadata__\":{\"format\":\"hstu_sequences\",\"format_version\":\"1\",\"n_logs\":\"2\"},"
    "\"user_id\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
    "\"offset\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[16,40]},"
    "\"item\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[40,72]},"
    "\"time_ms\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[72,104]},"
    "\"play_time_ms\":{\"dtype\":\"I32\",\"shape\":[4],\"data_offsets\":[104,120]},"
    "\"duration_ms\":{\"dtype\":\"I32\",\"shape\":[4],\"data_offsets\":[120,136]},"
    "\"action\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[136,140]},"
    "\"flags\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[140,144]},"
    "\"feature.user_active_degree\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[144,160]}}";
enum { HEADER_BYTES = sizeof header - 1, BODY_BYTES = 160 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size != BODY_BYTES) {
        fuzz_dataset(data, size);
        return 0;
    }
    uint8_t file[8 + HEADER_BYTES + BODY_BYTES] = {HEADER_BYTES & 0xff, HEADER_BYTES >> 8};
    memcpy(file + 8, header, HEADER_BYTES);
    memcpy(file + 8 + HEADER_BYTES, data, BODY_BYTES);
    fuzz_dataset(file, sizeof file);
    return 0;
}
