/* One line of a requests file: {"user": .., "items": [..], "times": [..], "request_time": .., "candidates": [..]}, or,
 * for a ranking model, {"user": .., "items": [..], "actions": [..], "context": {"name": .., ..}, "candidates": [..]};
 * of either kind "user_id": .. too. */
#ifndef HS_CLI_REQUEST_LINE_H
#define HS_CLI_REQUEST_LINE_H

#include "cli/json_scan.h"

enum { HS_MAX_REQUEST_FEATURES = 64 };

typedef struct hs_request_feature {
    const char *name; /* the JSON text between the quotes, inside the line */
    size_t name_len;
    int64_t id;
} hs_request_feature;

typedef struct hs_request {
    const char *user; /* the value's own JSON text, inside the line; NULL when the key is absent */
    size_t user_len;
    hs_ids items; /* at least one; of a ranking request any number */
    hs_ids times; /* as many as items, or none */
    hs_ids candidates;
    hs_ids actions; /* ranking: as many as items, or as items and candidates together */
    hs_request_feature feature[HS_MAX_REQUEST_FEATURES];
    size_t n_features; /* names differ */
    int64_t request_time;
    int64_t user_id; /* whose rows a cache keeps: the key "user_id", else "user" where that is a whole number */
    bool has_times, has_request_time, has_candidates, has_user_id;
} hs_request;

/* Parses the n bytes of `line` into *request, whose lists keep their memory from line to line. Strict JSON: known keys
 * only, each once; "user" a string, number, true, false or null; "user_id" and the lists' numbers whole and of 64 bits.
 * HSTU_EFORMAT names the file, the line (err->pos too) and the column. No recursion. */
hstu_status hs_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err);
/* The same for a request to a ranking model, which has at least one candidate. */
hstu_status hs_rank_request_parse(
    hs_request *request, const char *line, size_t n, const char *path, uint64_t line_number, hstu_error *err);
/* The feature of this name, or NULL. */
const hs_request_feature *hs_request_find_feature(const hs_request *request, const char *name);
/* The user as a whole number of 64 bits; false when it is none. */
bool hs_request_user_number(const hs_request *request, int64_t *out);
void hs_request_free(hs_request *request);

#endif
