/* Status codes and errors of every call that can fail. */
#ifndef HSTU_STATUS_H
#define HSTU_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HSTU_API __attribute__((visibility("default")))
#else
#define HSTU_API
#endif

/* X(symbol, value, text). The values are stable: new codes get new values. */
#define HSTU_STATUS_MAP(X)                                                                                             \
    X(HSTU_OK, 0, "ok")                                                                                                \
    X(HSTU_ENOMEM, -1, "out of memory")                                                                                \
    X(HSTU_EINVAL, -2, "invalid argument")                                                                             \
    X(HSTU_EIO, -3, "input/output error")                                                                              \
    X(HSTU_EFORMAT, -4, "malformed input file")                                                                        \
    X(HSTU_ESHAPE, -5, "tensor has the wrong shape or type")                                                           \
    X(HSTU_EUNSUP, -6, "not supported")                                                                                \
    X(HSTU_EDEVICE, -7, "device error")                                                                                \
    X(HSTU_ENOENT, -8, "no such file")                                                                                 \
    X(HSTU_ECANCELLED, -9, "interrupted")

typedef enum hstu_status {
#define HSTU_STATUS_ENUM(symbol, value, text) symbol = value,
    HSTU_STATUS_MAP(HSTU_STATUS_ENUM)
#undef HSTU_STATUS_ENUM
} hstu_status;

/* Filled by a call that fails, untouched by one that succeeds. Every call accepts NULL in its place. */
typedef struct hstu_error {
    hstu_status code;
    uint64_t pos;  /* byte offset or line in the named input, 0 where neither applies */
    char msg[488]; /* one sentence: the file, tensor, line or option, what was expected, what was found */
} hstu_error;

/* Both return static text, also for a value that is no status ("unknown status"). */
HSTU_API const char *hstu_status_name(hstu_status status);
HSTU_API const char *hstu_status_text(hstu_status status);

#ifdef __cplusplus
}
#endif
#endif
