/* Request lines: no input may crash, read past its end, or be accepted with lists that do not belong together. */
#include "cli/request_line.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_request request = {0};
    hstu_error err;
    if (hs_request_parse(&request, (const char *)data, size, "fuzz", 1, &err) == HSTU_OK) {
        const int wrong = request.items.n == 0 || (request.has_times && request.times.n != request.items.n) ||
                          (request.has_candidates && request.candidates.n == 0) ||
                          (request.user && (request.user < (const char *)data || request.user_len > size));
        if (wrong)
            __builtin_trap();
    }
    hs_request_free(&request);
    return 0;
}
