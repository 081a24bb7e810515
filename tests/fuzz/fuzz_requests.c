/* Request lines of either kind: no input may crash, read past its end, or be accepted with lists that do not belong together. */
#include "cli/request_line.h"

#include <stddef.h>
#include <stdint.h>

typedef hstu_status (*parser)(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err);

static int is_inside(const char *text, size_t n, const uint8_t *data, size_t size)
{
    const uint8_t *from = (const uint8_t *)text;
    return from >= data && n <= size && (size_t)(from - data) <= size - n;
}

static int is_wrong(const hs_request *r, int ranking)
{
    if (ranking)
        return r->candidates.n == 0 || r->times.n || r->n_features > HS_MAX_REQUEST_FEATURES ||
               (r->actions.n != r->items.n && r->actions.n != r->items.n + r->candidates.n);
    return r->items.n == 0 || (r->has_times && r->times.n != r->items.n) || r->actions.n || r->n_features ||
           (r->has_candidates && r->candidates.n == 0);
}

static void parse(parser with, int ranking, const uint8_t *data, size_t size)
{
    hs_request request = {0};
    hstu_error err;
    if (with(&request, (const char *)data, size, "fuzz", 1, &err) == HSTU_OK) {
        int64_t number = 0;
        int wrong =
            is_wrong(&request, ranking) || (request.user && !is_inside(request.user, request.user_len, data, size));
        for (size_t i = 0; i < request.n_features; i++)
            wrong = wrong || !is_inside(request.feature[i].name, request.feature[i].name_len, data, size);
        (void)hs_request_user_number(&request, &number);
        (void)hs_request_find_feature(&request, "user_id");
        if (wrong)
            __builtin_trap();
    }
    hs_request_free(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse(hs_request_parse, 0, data, size);
    parse(hs_rank_request_parse, 1, data, size);
    return 0;
}
