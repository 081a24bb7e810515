/* The version of the library that runs. */
#include "hstu/version.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *hstu_version(void)
{
    return TEXT(HSTU_VERSION_MAJOR) "." TEXT(HSTU_VERSION_MINOR) "." TEXT(HSTU_VERSION_PATCH);
}
