/* Warnings that are told and kept. */
#include "data/warnings.h"

#include "base/error.h"
#include "data/feedback.h"

#include <stdarg.h>
#include <stdio.h>

hstu_status hs_warnings_add(hs_warnings *warnings, hstu_error *err, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++) {
        /* File names may hold any byte; what is kept must be valid JSON in UTF-8. */
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    }
    hs_progress_warn(warnings->progress, text);
    if (!warnings->list)
        warnings->list = cJSON_CreateArray();
    cJSON *item = cJSON_CreateString(text);
    if (!warnings->list || !item || !cJSON_AddItemToArray(warnings->list, item)) {
        cJSON_Delete(item);
        return hs_fail_nomem(err, sizeof text, "a warning");
    }
    return HSTU_OK;
}

void hs_warnings_free(hs_warnings *warnings)
{
    cJSON_Delete(warnings->list);
    warnings->list = NULL;
}
