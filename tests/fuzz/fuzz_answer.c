/* The head of a server's answer, cut into lines. */
#include "fetch/response.h"

#include <stdlib.h>
#include <string.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void check_answer(const hs_response *r)
{
    hstu_error err = {0};
    bool again = false;
    const char *validator = hs_response_validator(r);
    check(r->status == 0 || (r->status >= 100 && r->status <= 999));
    check(r->range_first <= r->range_last && (r->range_total < 0 || r->range_last < r->range_total));
    check(r->length >= -1 && r->retry_after_s >= -1);
    check(strlen(validator) < HS_TAG_MAX && !strpbrk(validator, "\r\n"));
    check(hs_response_refusal(r, "http://h/f", &again, &err) != HSTU_OK && err.msg[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hs_response response = {.length = -1, .range_first = -1, .range_last = -1, .range_total = -1, .retry_after_s = -1};
    while (size) {
        const uint8_t *newline = memchr(data, '\n', size);
        const size_t n = newline ? (size_t)(newline - data) + 1 : size;
        char *line = malloc(n);
        check(line != NULL);
        memcpy(line, data, n);
        hs_response_line(&response, line, n);
        check_answer(&response);
        free(line);
        data += n;
        size -= n;
    }
    return 0;
}
