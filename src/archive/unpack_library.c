/* Loading libarchive: it brings a dozen libraries of its own, which nobody needs who unpacks nothing. */
#include "archive/unpack_int.h"
#include "base/error.h"

#include <dlfcn.h>
#include <string.h>

static const char system_library[] = "libarchive.so.13";

hstu_status hs_la_load(hs_la *out, const char *file, hstu_error *err)
{
    const char *name = file ? file : system_library;
    hs_la la = {.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)};
    if (!la.handle) {
        const char *why = dlerror();
        return hs_fail(err, HSTU_EUNSUP, 0,
            "archives are unpacked with %s, which cannot be loaded: please install the Debian package libarchive13 "
            "(%.200s)",
            name, why ? why : "no reason is given");
    }
    const char *missing = NULL;
    void *symbol = NULL;
#define HS_LA_FILL(result, slot, arguments)                                                                            \
    symbol = dlsym(la.handle, "archive_" #slot);                                                                       \
    memcpy(&la.slot, &symbol, sizeof la.slot);                                                                         \
    missing = symbol ? missing : "archive_" #slot;
    HS_LA_MAP(HS_LA_FILL)
#undef HS_LA_FILL
    if (missing) {
        hs_la_close(&la);
        return hs_fail(
            err, HSTU_EUNSUP, 0, "%s cannot be used, it has no %s: libarchive 3.4 or later is needed", name, missing);
    }
    *out = la;
    return HSTU_OK;
}

void hs_la_close(hs_la *la)
{
    if (la->handle)
        (void)dlclose(la->handle);
    *la = (hs_la){0};
}
