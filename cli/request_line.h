/* One line of a requests file: {"user": .., "items": [..], "times": [..], "request_time": .., "candidates": [..]}. */
#ifndef HS_CLI_REQUEST_LINE_H
#define HS_CLI_REQUEST_LINE_H

#include "hstu/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hs_ids {
    int64_t *data;
    size_t n, cap;
} hs_ids;

/* Appends x; false, with ids unchanged, without memory. */
bool hs_ids_push(hs_ids *ids, int64_t x);
void hs_ids_free(hs_ids *ids);

typedef struct hs_request {
    const char *user; /* the value's own JSON text, inside the line; NULL when the key is absent */
    size_t user_len;
    hs_ids items; /* at least one */
    hs_ids times; /* as many as items, or none */
    hs_ids candidates;
    int64_t request_time;
    bool has_times, has_request_time, has_candidates;
} hs_request;

/* Parses the n bytes of `line` into *request, whose lists keep their memory from line to line. Strict JSON: known keys only,
 * each once; "user" a string, number, true, false or null; numbers of the lists whole and of 64 bits. HSTU_EFORMAT names the
 * file, the line (err->pos too) and the column. No recursion. */
hstu_status hs_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err);
void hs_request_free(hs_request *request);

#endif
