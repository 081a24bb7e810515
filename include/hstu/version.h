/* The library's version. */
#ifndef HSTU_VERSION_H
#define HSTU_VERSION_H

#include "hstu/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HSTU_VERSION_MAJOR 0
#define HSTU_VERSION_MINOR 2
#define HSTU_VERSION_PATCH 2

/* "0.2.2": of the library that runs, which may differ from the header's. Static text. */
HSTU_API const char *hstu_version(void);

#ifdef __cplusplus
}
#endif
#endif
