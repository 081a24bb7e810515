/* The KuaiRand data sets: their names, and where their files lie. */
#ifndef HS_DATA_KUAIRAND_H
#define HS_DATA_KUAIRAND_H

#include "base/path.h"
#include "data/events.h"
#include "data/warnings.h"

#include <stddef.h>

enum { HS_KUAIRAND_MAX_PUBLISHED = 4 };

typedef struct hs_kuairand_set {
    const char *name;   /* "KuaiRand-1K" */
    const char *suffix; /* "1k": how its files' names end */
    const char
        *log[HS_KUAIRAND_MAX_PUBLISHED + 1]; /* the published logs without ".csv", oldest first; NULL behind them */
} hs_kuairand_set;

typedef struct hs_kuairand_files {
    hs_path folder;                  /* <data_root>/<data set>: where output goes */
    hs_path log[HS_EVENTS_MAX_LOGS]; /* published ones in their order, then others by name */
    size_t n_logs;
    hs_path user_features; /* "" when there is none */
} hs_kuairand_files;

/* By name, in any case of letters. HSTU_EINVAL lists the known ones. */
hstu_status hs_kuairand_find(const hs_kuairand_set **out, const char *name, hstu_error *err);

/* Looks under <data_root>/<dataset_name> and its folder data; the folder may also have the set's own name, or differ from it
 * in the case of letters. HSTU_ENOENT names an absent log's path; nonzero allow_missing makes that a warning. */
hstu_status hs_kuairand_files_find(hs_kuairand_files *out, const hs_kuairand_set *set, const char *data_root,
    const char *dataset_name, int allow_missing, hs_warnings *warnings, hstu_error *err);

#endif
