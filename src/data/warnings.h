/* Warnings that are told to the caller as they come up and kept to stand with the data. */
#ifndef HS_DATA_WARNINGS_H
#define HS_DATA_WARNINGS_H

#include "base/json.h"
#include "hstu/dataset.h"

typedef struct hs_warnings {
    const hstu_progress *progress;
    cJSON *list; /* array of strings; NULL before the first warning */
} hs_warnings;

/* HSTU_ENOMEM when the sentence cannot be kept. */
__attribute__((format(printf, 3, 4))) hstu_status hs_warnings_add(
    hs_warnings *warnings, hstu_error *err, const char *fmt, ...);
void hs_warnings_free(hs_warnings *warnings);

#endif
