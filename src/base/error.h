/* Building hstu_error values. Owns no state. */
#ifndef HS_BASE_ERROR_H
#define HS_BASE_ERROR_H

#include "hstu/status.h"

#include <stddef.h>

/* Fill *err (if not NULL) and return `code`, so that a caller writes `return hs_fail(...)`. A sentence that is too long
 * is cut. Control characters that came from a hostile file are replaced by '?'. */
__attribute__((format(printf, 4, 5))) hstu_status hs_fail(
    hstu_error *err, hstu_status code, uint64_t pos, const char *fmt, ...);

/* The same with ": <text of errnum>" appended; HSTU_ENOENT for ENOENT, HSTU_ENOMEM for ENOMEM, else HSTU_EIO. */
__attribute__((format(printf, 3, 4))) hstu_status hs_fail_errno(hstu_error *err, int errnum, const char *fmt, ...);

/* "out of memory: cannot allocate <bytes> bytes for <what>". */
hstu_status hs_fail_nomem(hstu_error *err, size_t bytes, const char *what);

/* Return early on failure: HS_TRY(f(..., err)); */
#define HS_TRY(call)                                                                                                   \
    do {                                                                                                               \
        const hstu_status hs_try_status = (call);                                                                      \
        if (hs_try_status != HSTU_OK)                                                                                  \
            return hs_try_status;                                                                                      \
    } while (0)

/* Jump to the constructor's or function's `fail:` label on failure; `status` must be in scope. */
#define HS_TRY_GOTO(call)                                                                                              \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != HSTU_OK)                                                                                         \
            goto fail;                                                                                                 \
    } while (0)

#endif
